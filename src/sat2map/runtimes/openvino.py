"""OpenVINO: the fastest on a CPU, in float32 or int8; it costs no torch."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import ModelError
from sat2map.runtimes.interface import Output, RuntimeName, threads_or_default

if TYPE_CHECKING:
    import openvino

MAX_CACHED_BYTES = 64_000_000
"""Weights up to this size are kept compiled. Of larger models the compiled file would fill the
disk, and reading it takes about as long as compiling again."""


class OpenVINORuntime:
    """A `Runtime` of OpenVINO on the CPU.

    Args:
        model: A model with the input `source`, float32 [N,C,H,W] in [-1,1].
        multiple: What the height and width of the source must be multiples of.
        threads: How many threads it uses; None leaves it to $OMP_NUM_THREADS, or to OpenVINO.
        cache: Where compiled models are kept, or None.
    """

    name: RuntimeName = "openvino"
    device = "cpu"

    def __init__(
        self,
        model: openvino.Model,
        multiple: int,
        threads: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self.version = version("openvino")
        self.multiple = multiple
        self.outputs = tuple(output.get_any_name() for output in model.outputs)
        self._model = model
        self._lock = threading.Lock()  # a request is for one at a time
        self._requests: dict[str, openvino.InferRequest] = {}
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        wanted = threads_or_default(threads)
        if wanted is not None:
            self._settings["INFERENCE_NUM_THREADS"] = wanted
        if cache is not None:
            self._settings["CACHE_DIR"] = str(cache)

    def run(self, source: NDArray[np.uint8], output: Output = "picture") -> NDArray[np.float32]:
        """Translate a batch; see `Runtime`."""
        import openvino

        with self._lock:
            request = self._request(output)
            # A tensor of its own: what belongs to the request cannot grow with the source.
            pixels = np.require(source, requirements=["C", "W"])  # it takes no read-only ones
            tensor = openvino.Tensor(pixels, shared_memory=True)
            request.set_input_tensor(tensor)
            request.infer()
            return np.array(request.get_output_tensor(0).data)

    def digest(self) -> str:
        """Return a short text that other weights change."""
        digest = hashlib.blake2b(digest_size=16)
        for node in self._model.get_ordered_ops():
            digest.update(node.get_type_name().encode())
            if node.get_type_name() == "Constant":
                digest.update(np.ascontiguousarray(node.get_data()).data)
        return digest.hexdigest()

    def _request(self, output: str) -> openvino.InferRequest:
        if output not in self._requests:
            # OpenVINO gives the thread that loads it a stack for signals which is so small that
            # Python's handler of Ctrl-C may overflow it. Handlers run in the main thread.
            with ThreadPoolExecutor(1, "sat2map-compile") as thread:
                self._requests[output] = thread.submit(self._compile, output).result()
        return self._requests[output]

    def _compile(self, output: str) -> openvino.InferRequest:
        import openvino

        model = with_images(self._model, self.outputs.index(output))
        compiled = openvino.Core().compile_model(model, "CPU", self._settings)
        return compiled.create_infer_request()


def with_images(model: openvino.Model, output: int) -> openvino.Model:
    """Return a model that takes uint8 [N,H,W,C] and answers one output, float32 [N,H,W,channels].

    Scaling and transposing within the graph is faster than outside.
    """
    import openvino
    from openvino.preprocess import PrePostProcessor

    copied = model.clone()
    single = openvino.Model([copied.outputs[output]], copied.get_parameters())
    pre_post = PrePostProcessor(single)
    source, answer = pre_post.input(), pre_post.output()
    source.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    source.model().set_layout(openvino.Layout("NCHW"))
    source.preprocess().convert_element_type(openvino.Type.f32).mean(127.5).scale(127.5)
    answer.model().set_layout(openvino.Layout("NCHW"))
    answer.tensor().set_layout(openvino.Layout("NHWC"))
    return pre_post.build()


def read_openvino(
    path: Path, multiple: int, threads: int | None = None, cache: Path | None = None
) -> OpenVINORuntime:
    """Open a model that was exported.

    Args:
        path: model.xml with model.bin beside it, or model.onnx.
        multiple: What the height and width of the source must be multiples of.
        threads: As for `OpenVINORuntime`.
        cache: Where small compiled models are kept, or None.

    Raises:
        ModelError: A file is missing or damaged.
    """
    import openvino

    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path
    try:
        if weights.stat().st_size > MAX_CACHED_BYTES:
            cache = None
        model = openvino.Core().read_model(path)
    except (RuntimeError, OSError) as error:
        raise ModelError(
            f"cannot be read by OpenVINO ({str(error).strip().splitlines()[-1]})",
            where=path,
            remedy="Export the model again.",
        ) from error
    return OpenVINORuntime(model, multiple, threads, cache)
