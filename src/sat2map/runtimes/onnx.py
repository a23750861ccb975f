"""ONNX Runtime on the CPU, where OpenVINO cannot be had."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import MissingExtraError, ModelError
from sat2map.legend import Legend, cover_shares
from sat2map.networks.value_range import SHARPNESS
from sat2map.runtimes.interface import (
    VALUES,
    Answers,
    Asked,
    Precision,
    RuntimeName,
    threads_or_default,
    without_halo,
)

if TYPE_CHECKING:
    import onnx

PIXELS = "sat2map/pixels"
"""The input of a graph that takes uint8."""


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
            import onnx
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx") from error
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads_or_default(threads) or 0
        self._options.log_severity_level = 3  # errors
        self._lock = threading.Lock()
        self._sessions: dict[tuple[tuple[Asked, ...], Legend | None], Any] = {}
        try:
            self._graph = (
                onnx.load(model) if isinstance(model, Path) else onnx.load_from_string(model)
            )
            self._session(("colours",), None)
        except Exception as error:  # its errors have no class in common
            raise ModelError(
                f"cannot be read by ONNX Runtime ({str(error).strip().splitlines()[0]})",
                where=model if isinstance(model, Path) else None,
                remedy="Export the model again.",
            ) from error
        self.version: str = onnxruntime.__version__
        self.multiple = multiple
        self.at_once = 1
        quantised = any(node.op_type == "QuantizeLinear" for node in self._graph.graph.node)
        self.precision: Precision = "int8" if quantised else "f32"
        self._model = model
        self.outputs = tuple(output.name for output in self._graph.graph.output)

    def run(
        self,
        source: NDArray[np.uint8],
        asked: Sequence[Asked],
        legend: Legend | None = None,
        halo: int = 0,
    ) -> Answers:
        """Translate a batch; see `Runtime`."""
        session = self._session(tuple(asked), legend)
        answers = session.run(None, {PIXELS: np.ascontiguousarray(source)})
        return without_halo(dict(zip(asked, answers, strict=True)), halo)

    def _session(self, asked: tuple[Asked, ...], legend: Legend | None) -> Any:
        import onnxruntime

        with self._lock:
            if (asked, legend) not in self._sessions:
                model = with_pixels(self._graph, asked, legend).SerializeToString()
                self._sessions[asked, legend] = onnxruntime.InferenceSession(
                    model, self._options, providers=["CPUExecutionProvider"]
                )
            return self._sessions[asked, legend]

    def fingerprint(self) -> str:
        """Return a short text that other weights change."""
        held = self._model.read_bytes() if isinstance(self._model, Path) else self._model
        return hashlib.blake2b(held, digest_size=16).hexdigest()

    def instructions(self) -> str | None:
        """Return None: it is not told."""
        return None


def with_pixels(
    model: onnx.ModelProto, asked: Sequence[Asked], legend: Legend | None
) -> onnx.ModelProto:
    """Return a model that takes uint8 [N,H,W,C] and answers what is asked, in that order.

    Args:
        model: The model as `export` writes it.
        asked: What is wanted; see `Asked`.
        legend: The classes of a legend head.
    """
    import onnx
    from onnx import TensorProto, helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    bands = graph.input[0].type.tensor_type.shape.dim[1].dim_value or "bands"
    own, nodes = {output.name for output in graph.output}, list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    steps = _Steps(graph)
    source = steps.add("Cast", PIXELS, to=TensorProto.FLOAT)
    source = steps.add("Transpose", source, perm=[0, 3, 1, 2])
    source = steps.add("Div", source, np.float32(127.5))
    steps.add("Sub", source, np.float32(1), result="source")
    graph.node.extend(nodes)
    sides = ["batch", "height", "width", bands]
    graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, sides))
    for name in asked:
        answer = _answer(steps, name, own, legend)
        kind = TensorProto.FLOAT if name in VALUES else TensorProto.UINT8
        graph.output.append(helper.make_tensor_value_info(answer, kind, None))
    return made


class _Steps:
    """Adds nodes to a graph, whose results have names that nothing else has."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._count = 0

    def add(
        self, kind: str, *inputs: str | NDArray[Any] | np.generic, result: str = "", **how: Any
    ) -> str:
        """Add a node and return its result; arrays become constants."""
        from onnx import helper, numpy_helper

        names = []
        for given in inputs:
            name = given if isinstance(given, str) else self._name()
            if not isinstance(given, str):
                array = numpy_helper.from_array(np.asarray(given), name)
                self._graph.initializer.append(array)
            names.append(name)
        made = result or self._name()
        self._graph.node.append(helper.make_node(kind, names, [made], **how))
        return made

    def to_bytes(self, values: str) -> str:
        """Add what rounds and clips to uint8."""
        from onnx import TensorProto

        rounded = self.add("Round", values)  # halves to even, as numpy
        clipped = self.add("Clip", rounded, np.float32(0), np.float32(255))
        return self.add("Cast", clipped, to=TensorProto.UINT8)

    def _name(self) -> str:
        self._count += 1
        return f"sat2map/{self._count}"


def _answer(steps: _Steps, name: Asked, own: Collection[str], legend: Legend | None) -> str:
    """Add what makes one answer of the outputs that a network has by itself."""
    from onnx import TensorProto

    classes = "probabilities" if "probabilities" in own else None
    if name.startswith("cover"):
        classes = "cover" if "cover" in own else None
        if classes is None and legend is not None:
            weights = cover_shares(legend)[:, :, None, None]
            classes = steps.add("Conv", "probabilities", weights)
    if name in ("colours", "image") and (name == "colours" or classes is None or legend is None):
        colours = steps.add("Transpose", "picture", perm=[0, 2, 3, 1])
        if name == "colours":
            return colours
        raised = steps.add("Add", colours, np.float32(1))
        return steps.to_bytes(steps.add("Mul", raised, np.float32(127.5)))
    assert classes is not None
    match name:
        case "probabilities" | "cover_probabilities":
            return steps.add("Transpose", classes, perm=[0, 2, 3, 1])
        case "image":
            assert legend is not None
            sharp, total = _sharpened(steps, classes)
            weights = legend.colours.T.astype(np.float32)[:, :, None, None]
            mixed = steps.add("Div", steps.add("Conv", sharp, weights), total)
            return steps.add("Transpose", steps.to_bytes(mixed), perm=[0, 2, 3, 1])
        case "colour_shares":
            shares = steps.add("Div", *_sharpened(steps, classes))
            shares = steps.to_bytes(steps.add("Mul", shares, np.float32(255)))
            return steps.add("Transpose", shares, perm=[0, 2, 3, 1])
        case "classes" | "cover":
            best = steps.add("ArgMax", classes, axis=1, keepdims=0)
            return steps.add("Cast", best, to=TensorProto.UINT8)
        case "cover_shares":
            shares = steps.to_bytes(steps.add("Mul", classes, np.float32(255)))
            return steps.add("Transpose", shares, perm=[0, 2, 3, 1])
        case _:
            largest = steps.add("ReduceMax", classes, axes=[1], keepdims=0)
            return steps.to_bytes(steps.add("Mul", largest, np.float32(255)))


def _sharpened(steps: _Steps, classes: str) -> tuple[str, str]:
    """Add the probabilities to the power of `SHARPNESS`, and what they add up to."""
    sharp = steps.add("Pow", classes, np.float32(SHARPNESS))
    return sharp, steps.add("ReduceSum", sharp, np.array([1]), keepdims=1)
