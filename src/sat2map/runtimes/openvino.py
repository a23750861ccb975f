"""OpenVINO: the fastest on a CPU, in float32 or int8; it costs no torch."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import ModelError, UsageError
from sat2map.legend import Legend, cover_shares
from sat2map.networks.value_range import SHARPNESS
from sat2map.runtimes.halo import cut_halo, sliced
from sat2map.runtimes.interface import Answers, Asked, Precision, RuntimeName, threads_or_default

if TYPE_CHECKING:
    import openvino

MAX_CACHED_BYTES = 64_000_000
"""Weights up to this size are kept compiled. Of larger models the compiled file would fill the
disk, and reading it takes about as long as compiling again."""

STREAMS = 2
"""How many windows of a scene are answered at once. Each takes memory for what is in the network
meanwhile; with more of them little is gained."""

_PLANES: frozenset[Asked] = frozenset({"colour_shares", "cover_shares"})
"""Answers that leave the graph as [N,classes,h,w]: who asks for shares takes class by class."""

_WIDEST_FIRST = ("amx", "avx512", "avx2", "avx", "sse41", "sve", "asimd", "neon", "ref")
"""How kernels of OpenVINO call the instructions that they use."""

TILE = 256
"""A square whose side is a multiple of this is of a usual size."""

KEPT = 16
"""How many compiled graphs are kept, those that were used last."""


class _Graph(NamedTuple):
    """What a graph is compiled for.

    Attributes:
        asked: What it answers.
        legend: In whose colours.
        halo: How many pixels along each edge it leaves out.
        shape: The shape of its source, or None where it takes any.
    """

    asked: tuple[Asked, ...]
    legend: Legend | None
    halo: int
    shape: tuple[int, ...] | None


class _Compiled(NamedTuple):
    """A compiled graph, and its requests that nobody uses.

    A request is for one at a time: whoever needs one takes it out, and puts it back.
    """

    model: openvino.CompiledModel
    idle: SimpleQueue[openvino.InferRequest]


class OpenVINORuntime:
    """A `Runtime` of OpenVINO on the CPU.

    Args:
        model: A model with the input `source`, float32 [N,C,H,W] in [-1,1].
        multiple: What the height and width of the source must be multiples of.
        threads: How many threads it uses; None leaves it to $OMP_NUM_THREADS, or to OpenVINO.
        cache: Where compiled models are kept, or None.
        precision: What it computes in where the model is not quantised.

    Attributes:
        precision: What it computes in; int8 of a quantised model.

    Raises:
        UsageError: The processor has no bf16.
    """

    name: RuntimeName = "openvino"
    device = "cpu"

    def __init__(
        self,
        model: openvino.Model,
        multiple: int,
        threads: int | None = None,
        cache: Path | None = None,
        precision: Literal["f32", "bf16"] = "f32",
    ) -> None:
        import openvino

        quantised = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
        self.precision: Precision = "int8" if quantised else precision
        if self.precision == "bf16" and not has_bf16():
            raise UsageError(
                "this processor does not compute in bf16",
                parameter="precision",
                remedy="Choose f32, or int8 where the model carries files for it.",
            )
        self.version = openvino.get_version().partition("-")[0]  # the rest is of its build
        self.multiple = multiple
        self.outputs = tuple(output.get_any_name() for output in model.outputs)
        self._model = model
        self._lock = threading.Lock()
        self._compiled: dict[_Graph, _Compiled] = {}  # what was used last is the last
        hint = "bf16" if self.precision == "bf16" else "f32"
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
        wanted = threads_or_default(threads)
        self.at_once = STREAMS if (wanted or os.cpu_count() or 1) >= STREAMS else 1
        if wanted is not None:
            self._settings["INFERENCE_NUM_THREADS"] = wanted
        if cache is not None:
            self._settings["CACHE_DIR"] = str(cache)
        self._core = openvino.Core()
        # What computes is loaded meanwhile, which takes a twentieth of what a small image takes.
        load = threading.Thread(target=self._core.get_versions, args=("CPU",), name="sat2map-load")
        load.start()

    def run(
        self,
        source: NDArray[np.uint8],
        asked: Sequence[Asked],
        legend: Legend | None = None,
        halo: int = 0,
    ) -> Answers:
        """Translate a batch; see `Runtime`."""
        import openvino

        # A tensor of its own: what belongs to the request cannot grow with the source.
        pixels = np.require(source, requirements=["C", "W"])  # it takes no read-only ones
        tensor = openvino.Tensor(pixels, shared_memory=True)
        shape = source.shape if _is_usual(source.shape, halo) else None
        idle = self._idle_requests(_Graph(tuple(asked), legend, halo, shape))
        request = idle.get()
        try:
            request.set_input_tensor(tensor)
            request.infer()
            answers: Answers = {}
            for number, name in enumerate(asked):
                answer = np.array(request.get_output_tensor(number).data)
                answers[name] = answer.transpose(0, 2, 3, 1) if name in _PLANES else answer
            return answers
        finally:
            idle.put(request)

    def fingerprint(self) -> str:
        """Return a short text that other weights change."""
        found = hashlib.blake2b(digest_size=16)
        for node in self._model.get_ordered_ops():
            found.update(node.get_type_name().encode())
            if node.get_type_name() == "Constant":
                found.update(np.ascontiguousarray(node.get_data()).data)
        return found.hexdigest()

    def instructions(self) -> str | None:
        """Return the widest instructions that a convolution uses; None before anything was run."""
        with self._lock:
            compiled = [graph.model for graph in self._compiled.values()]
        used = set()
        for model in compiled:
            for node in model.get_runtime_model().get_ops():
                told = node.get_rt_info()
                if "Convolution" in told["layerType"].astype(str):
                    used |= set(told["primitiveType"].astype(str).split("_"))
        return next((name for name in _WIDEST_FIRST if name in used), None)

    def _idle_requests(self, graph: _Graph) -> SimpleQueue[openvino.InferRequest]:
        with self._lock:
            compiled = self._compiled.pop(graph, None)
            if compiled is None:
                # OpenVINO gives the thread that loads it a stack for signals which is so small
                # that Python's handler of Ctrl-C may overflow it. Handlers run in the main thread.
                with ThreadPoolExecutor(1, "sat2map-compile") as thread:
                    compiled = thread.submit(self._compile, graph).result()
                for oldest in list(self._compiled)[: len(self._compiled) + 1 - KEPT]:
                    del self._compiled[oldest]
            self._compiled[graph] = compiled
            return compiled.idle

    def _compile(self, graph: _Graph) -> _Compiled:
        """Return a graph with its requests: for full windows of a scene several that run at once.

        Each of these has its share of the threads, which wait for each other less, and memory for
        what is in the network. Windows at a scene's end have one request, with all threads.
        """
        asked, legend, halo, shape = graph
        model = with_pixels(self._model, asked, legend, halo, self.multiple, shape)
        count = self.at_once if halo and shape is not None else 1
        how = {"NUM_STREAMS": count} if count > 1 else {"PERFORMANCE_HINT": "LATENCY"}
        settings = self._settings | how
        compiled = _Compiled(self._core.compile_model(model, "CPU", settings), SimpleQueue())
        for _ in range(count):
            compiled.idle.put(compiled.model.create_infer_request())
        return compiled


def _is_usual(shape: tuple[int, ...], halo: int) -> bool:
    """Return whether sources of this shape [N,H,W,C] are likely to come again and again.

    So do full windows of scenes, and tiles. A graph of fixed size is faster, and most of all on
    several threads, since one that takes any size asks at each layer how large its answer is. But
    it must be compiled for each size, and has memory of its own. What is compiled follows from the
    shape alone, so that the same image gets the same answer at all times: of some networks the two
    differ in rounding.
    """
    count, height, width, _ = shape
    return count == 1 and height == width and (height - 2 * halo) % TILE == 0


def with_pixels(
    model: openvino.Model,
    asked: Sequence[Asked],
    legend: Legend | None,
    halo: int = 0,
    multiple: int = 1,
    shape: tuple[int, ...] | None = None,
) -> openvino.Model:
    """Return a model that takes uint8 [N,H,W,C] and answers what is asked, in that order.

    Scaling, transposing, choosing and cutting within the graph is faster than outside.

    Args:
        model: The model as `export` writes it.
        asked: What is wanted; see `Asked`.
        legend: The classes of a legend head.
        halo: How many pixels of the source on each side are no part of the answers.
        multiple: What sides of the source must be multiples of.
        shape: The only shape [N,H,W,C] that it takes, or None for any.
    """
    import openvino
    from openvino.preprocess import PrePostProcessor

    copied = model.clone()
    told = {output.get_any_name(): output.node.input_value(0) for output in copied.outputs}
    used = [_made_of(name, told) for name in asked]
    left = [0] * len(used)
    if halo:
        left = cut_halo(copied.get_parameters()[0], [told[n] for n in used], halo, multiple)
    answers = [
        _without(
            _answer(name, told, legend, alone=not halo),
            around,
            (2, 3) if name in _PLANES else (1, 2),
        )
        for name, around in zip(asked, left, strict=True)
    ]
    pre_post = PrePostProcessor(openvino.Model(answers, copied.get_parameters()))
    source = pre_post.input()
    source.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    if shape is not None:
        source.tensor().set_shape(list(shape))
    source.model().set_layout(openvino.Layout("NCHW"))
    source.preprocess().convert_element_type(openvino.Type.f32).mean(127.5).scale(127.5)
    return pre_post.build()


def _made_of(name: Asked, told: Mapping[str, openvino.Output]) -> str:
    """Return the output of a network that an answer is made of."""
    if name.startswith("cover") and "cover" in told:
        return "cover"
    return "picture" if name == "colours" or "probabilities" not in told else "probabilities"


def _without(answer: openvino.Output, around: int, axes: tuple[int, int]) -> openvino.Output:
    """Return an answer without the pixels around its core; axes are its height and width."""
    return sliced(answer, around, axes) if around else answer


def _answer(
    name: Asked, told: Mapping[str, openvino.Output], legend: Legend | None, *, alone: bool
) -> openvino.Output:
    """Return one answer, made of the outputs that a network has by itself.

    Of `_PLANES` it is [N,classes,h,w], otherwise as `Asked` says.
    """
    from openvino import opset13 as op

    def number(value: float) -> openvino.Node:
        return op.constant(np.float32(value))

    def integers(*values: int) -> openvino.Node:
        return op.constant(np.array(values, np.int64))

    def to_bytes(values: openvino.Node) -> openvino.Node:
        # No FakeQuantize, which is faster: of a reduced maximum OpenVINO 2026.4 makes it int8.
        return op.convert(op.clamp(op.round(values, "half_to_even"), 0, 255), "u8")

    def shares_to_bytes(shares: openvino.Node) -> openvino.Node:
        scaled = op.multiply(shares, number(255))  # of a softmax, so there is nothing to clamp
        return op.convert(op.round(scaled, "half_to_even"), "u8")

    def sharpened() -> tuple[openvino.Node, Callable[..., openvino.Node]]:
        logits, laid = _flat_logits(classes, SHARPNESS, alone=alone)
        return op.softmax(logits, 1), laid

    last = integers(0, 2, 3, 1)
    classes = told.get("probabilities")
    if name.startswith("cover"):
        classes = told.get("cover")
        if classes is None and legend is not None:
            weights = cover_shares(legend)[:, :, None, None]
            classes = op.convolution(
                told["probabilities"], op.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1]
            ).output(0)
    match name:
        case "colours":
            made = op.transpose(told["picture"], last)
        case "probabilities" | "cover_probabilities":
            made = op.transpose(classes, last)
        case "image" if classes is None or legend is None:
            scaled = op.multiply(op.add(told["picture"], number(1)), number(127.5))
            made = op.transpose(to_bytes(scaled), last)
        case "image":
            assert legend is not None
            shares, laid = sharpened()
            colours = op.constant(legend.colours.T.astype(np.float32))
            mixed = to_bytes(op.matmul(colours, shares, False, False))
            made = laid(mixed, 3)
        case "colour_shares":
            shares, laid = sharpened()
            count = shares.get_output_partial_shape(0)[1].get_length()
            made = laid(shares_to_bytes(shares), count, planes=True)
        case "classes" | "cover":
            logits, laid = _flat_logits(classes, alone=alone)
            best = op.topk(logits, op.constant(np.int64(1)), 1, "max", "none")
            made = op.squeeze(laid(op.convert(best.output(1), "u8"), 1), integers(3))
        case "cover_shares":
            made = to_bytes(op.multiply(classes, number(255)))
        case _:
            logits, laid = _flat_logits(classes, alone=alone)
            largest = op.reduce_max(op.softmax(logits, 1), integers(1), True)
            made = op.squeeze(laid(to_bytes(op.multiply(largest, number(255))), 1), integers(3))
    return made.output(0)


def _flat_logits(
    classes: openvino.Output, times: float = 1, *, alone: bool
) -> tuple[openvino.Node, Callable[..., openvino.Node]]:
    """Return what probabilities are made of, before it is laid out as an image.

    A legend head shuffles its channels to pixels at last. What is chosen for each pixel is chosen
    before that, so that bytes are shuffled and not values.

    Args:
        classes: Probabilities, [N,K,H,W].
        times: What the logits are multiplied by, while they lie as the convolution before leaves
            them, of which it then is a part.
        alone: Whether the source is one image by itself. Its side may be a power of two: without
            a column more, the planes that logits are laid out in would begin at places that a
            processor's cache takes for the same, and laying them out takes ten times as long.

    Returns:
        Logits [N,K,pixels], in some order of pixels; and what lays something of the same pixels,
        [N,channels,pixels], out as [N,H,W,channels], or as [N,channels,H,W] where `planes` are
        asked for.
    """
    from openvino import opset13 as op

    def integers(*values: int) -> openvino.Node:
        return op.constant(np.array(values, np.int64))

    logits = _before_softmax(classes)
    count, shuffle, block = logits.get_partial_shape()[1].get_length(), logits.node, 1
    told = shuffle.get_attributes()
    if shuffle.get_type_name() == "DepthToSpace" and told["mode"] == "depth_first":
        logits, block = shuffle.input_value(0), int(told["block_size"])
    if times != 1:
        logits = op.multiply(logits, op.constant(np.float32(times))).output(0)
    if alone:
        logits = op.pad(
            logits,
            integers(0, 0, 0, 0),
            integers(0, 0, 0, 1),
            "constant",
            op.constant(np.float32(0)),
        ).output(0)
    sides = op.slice(op.shape_of(logits), integers(2), integers(4), integers(1))

    def laid(made: openvino.Node, channels: int, *, planes: bool = False) -> openvino.Node:
        shape = op.concat([integers(0, channels, block, block), sides], 0)
        parts = op.reshape(made, shape, True)  # [N,channels,block,block,h,w]
        whole = op.multiply(sides, integers(block))
        if planes:
            order, axes, across = (0, 1, 4, 2, 5, 3), [integers(0, channels), whole], 3
        else:
            order, axes, across = (0, 4, 2, 5, 3, 1), [integers(0), whole, integers(channels)], 2
        image = op.reshape(op.transpose(parts, integers(*order)), op.concat(axes, 0), True)
        if not alone:
            return image
        return op.slice(image, integers(0), integers(-block), integers(1), integers(across))

    return op.reshape(logits, integers(0, count, -1), True), laid


def _before_softmax(shares: openvino.Output) -> openvino.Output:
    """Return what probabilities are made of, which is in the same order."""
    node = shares.node
    if node.get_type_name() == "Softmax" and node.get_attributes()["axis"] in (1, -3):
        return node.input_value(0)
    from openvino import opset13 as op

    return op.log(shares).output(0)


def has_bf16() -> bool:
    """Return whether the processor computes in bf16 by itself (AVX512-BF16, AMX)."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def read_openvino(
    path: Path,
    multiple: int,
    threads: int | None = None,
    cache: Path | None = None,
    precision: Literal["f32", "bf16"] = "f32",
) -> OpenVINORuntime:
    """Open a model that was exported.

    Args:
        path: model.xml with model.bin beside it, or model.onnx.
        multiple: What the height and width of the source must be multiples of.
        threads: As for `OpenVINORuntime`.
        cache: Where small compiled models are kept, or None.
        precision: As for `OpenVINORuntime`.

    Raises:
        ModelError: A file is missing or damaged.
        UsageError: The processor has no bf16.
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
    return OpenVINORuntime(model, multiple, threads, cache, precision)
