"""ONNX Runtime on the CPU, where OpenVINO cannot be had."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import MissingExtraError, ModelError
from sat2map.networks.values import to_values
from sat2map.runtimes.interface import Output, RuntimeName, threads_or_default


class OnnxRuntime:
    """A `Runtime` of ONNX Runtime.

    Args:
        model: model.onnx, or what it holds.
        multiple: What the height and width of the source must be multiples of.
        threads: How many threads it uses; None leaves it to $OMP_NUM_THREADS, or to the runtime.

    Raises:
        MissingExtraError: The extra `onnx` is not installed.
        ModelError: The file is missing or damaged.
    """

    name: RuntimeName = "onnx"
    device = "cpu"

    def __init__(self, model: Path | bytes, multiple: int, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads_or_default(threads) or 0
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no class in common
            raise ModelError(
                f"cannot be read by ONNX Runtime ({str(error).strip().splitlines()[0]})",
                where=model if isinstance(model, Path) else None,
                remedy="Export the model again.",
            ) from error
        self.version: str = onnxruntime.__version__
        self.multiple = multiple
        self._model = model
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, source: NDArray[np.uint8], output: Output = "picture") -> NDArray[np.float32]:
        """Translate a batch; see `Runtime`."""
        answer = self._session.run([output], {"source": to_values(source)})[0]
        values: NDArray[np.float32] = np.ascontiguousarray(answer.transpose(0, 2, 3, 1))
        return values

    def digest(self) -> str:
        """Return a short text that other weights change."""
        held = self._model.read_bytes() if isinstance(self._model, Path) else self._model
        return hashlib.blake2b(held, digest_size=16).hexdigest()
