"""Int8: post-training quantisation, and what it costs in every metric of an evaluation.

Weights and activations become 8-bit numbers, with ranges measured on training images (Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018), by NNCF. Where pairs are there to tell, layers that lose most are put
back to float32 while the loss of PSNR passes the bound.

NNCF changes the process that imports it (class and handlers of loggers, stdout) and reports its use
to its makers unless the environment says otherwise, so it works in a process of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.data.images import in_bands
from sat2map.data.masks import has_no_maps
from sat2map.data.pairs import PairFile, find_pairs
from sat2map.errors import MissingExtraError
from sat2map.evaluation import images as image
from sat2map.evaluation.evaluate import legend_of
from sat2map.evaluation.score import Summary, read_compared, score_images, showing, summarise
from sat2map.export.child_process import call_apart
from sat2map.export.rounding import round_for_inputs
from sat2map.geo.windows import mirrored
from sat2map.model.calibration_set import find_calibration_set, spread
from sat2map.model.card import ModelCard
from sat2map.networks.value_range import round_image, to_values
from sat2map.runtimes.convert import write_onnx, write_openvino
from sat2map.runtimes.interface import Runtime
from sat2map.runtimes.onnx import OnnxRuntime
from sat2map.runtimes.open import OpenModel
from sat2map.runtimes.openvino import OpenVINORuntime
from sat2map.translation.translator import Translator

Compared = tuple[NDArray[np.uint8], NDArray[np.uint8]]

DROP_DB = 0.15
"""How much PSNR int8 may cost before layers are put back to float32."""

DECIDING = 32
"""Of how many training pairs the loss decides whether layers are put back."""

LOOKED_AT = 64
"""On how many windows it is seen what layers are given, to round their weights for that."""

SIDE = 256
"""Side of the calibration windows of networks that name no size."""


@dataclass(frozen=True)
class Calibration:
    """With what a model is quantised.

    Attributes:
        data: A data set, or a folder of images such as the model will get.
        size: The side at which pairs are compared, or None for the files as they are.
        windows: At most so many windows are calibrated with.
        pairs: At most so many pairs of `val` are scored, evenly spread over them.
        drop: How much PSNR int8 may cost, in dB.
    """

    data: Path
    size: int | None = 256
    windows: int = 200
    pairs: int = 100
    drop: float = DROP_DB


@dataclass(frozen=True)
class Quantised:
    """The result of a quantisation: metrics before and after.

    Attributes:
        windows: With how many windows it was calibrated.
        pairs: On how many pairs the metrics were taken; 0 where there were none.
        metrics: Each metric of an evaluation as (float32, int8); empty without pairs.
        layers: How many layers with weights there are.
        kept: How many of them stayed in float32.
    """

    windows: int
    pairs: int
    metrics: dict[str, tuple[float, float]]
    layers: int
    kept: int

    def lines(self) -> list[str]:
        """Return it for people, a table of every metric."""
        lines = [f"calibrated with {self.windows} windows"]
        if self.metrics:
            lines.append(f"{f'metrics of {self.pairs} pairs':32}{'float32':>10}{'int8':>10}")
        for name, (plain, small) in self.metrics.items():
            lines.append(f"{name:32}{plain:10.4f}{small:10.4f}{small - plain:+10.4f}")
        lines.append(f"convolutions left in float32: {self.kept} of {self.layers}")
        return lines


def quantise(
    source: Path,
    target: Path,
    kind: Literal["openvino", "onnx"],
    card: ModelCard,
    calibration: Calibration,
    progress: Callable[[int, int], None] | None = None,
) -> Quantised:
    """Quantise a model, in a process of its own.

    Layers are chosen by pairs of `train`, the metrics are taken on those of `val`.

    Args:
        source: The folder of an exported model with ordinary convolutions (`for_int8`).
        target: Gets the quantised one.
        kind: For which runtime.
        card: The card of the exported model.
        calibration: With what.
        progress: Called with (done, all) images that were translated for the metrics.

    Returns:
        What it cost.

    Raises:
        MissingExtraError: The extra `int8` is not installed.
        DataError: There is nothing to calibrate with.
        ModelError: The process was killed.
    """
    if find_spec("nncf") is None:
        raise MissingExtraError("nncf", "int8")
    cost: Quantised = call_apart(
        _quantise_here,
        *(source, target, kind, card, calibration),
        progress=progress,
        environment={"NNCF_CI": "1"},  # it reports nothing
    )
    return cost


def _quantise_here(
    source: Path,
    target: Path,
    kind: Literal["openvino", "onnx"],
    card: ModelCard,
    calibration: Calibration,
    progress: Callable[[int, int], None],
) -> Quantised:
    if kind == "onnx":
        import onnx

        graph: Any = onnx.load(source / "model.onnx")
    else:
        import openvino

        graph = openvino.Core().read_model(source / "model.xml")
    smaller, cost = _quantised(graph, card, calibration, progress)
    (write_onnx if kind == "onnx" else write_openvino)(smaller, card, target)
    return cost


def _quantised(
    graph: Any,
    card: ModelCard,
    calibration: Calibration,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Any, Quantised]:
    """Return a model of OpenVINO or ONNX quantised, and what it cost."""
    import nncf

    # Not by `nncf.set_log_level`, which also changes handlers.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    windows = _windows(card, calibration)
    as_onnx = _is_onnx(graph)
    kept = card.generator.full_precision if as_onnx else ()
    settings = {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(windows),
        # What makes colours of probabilities is cheap, and must add up to one.
        "ignored_scope": nncf.IgnoredScope(
            types=["Softmax", "Einsum", "MatMul"],
            patterns=[_nodes_within(module) for module in kept],
            validate=False,
        ),
    }
    advanced = nncf.AdvancedQuantizationParameters(
        # Without it sums overflow on a CPU without VNNI, and the answer depends on the machine.
        overflow_fix=nncf.OverflowFix.ENABLE,
        disable_bias_correction=not as_onnx,  # `round_for_inputs` does it
    )
    calibrating = nncf.Dataset(windows, partial(_feed, graph))

    def rounded(model: Any) -> Any:
        if not as_onnx:
            round_for_inputs(model, graph, [windows[i] for i in spread(len(windows), LOOKED_AT)])
        return model

    quantised = rounded(nncf.quantize(graph, calibrating, advanced_parameters=advanced, **settings))
    bands, gives = len(card.bands), card.generator.out_channels
    compared = (
        read_compared(pair, card.direction, calibration.size)[:2]
        for pair in _pairs(calibration, "train", DECIDING)
    )
    deciding = [(in_bands(one, bands), in_bands(other, gives)) for one, other in compared]
    if deciding:
        before, after = (_psnr(card, model, deciding)[0] for model in (graph, quantised))
        if before - after > calibration.drop:
            controlled = nncf.quantize_with_accuracy_control(
                graph,
                calibrating,
                nncf.Dataset(deciding),
                partial(_psnr, card),
                max_drop=calibration.drop,
                advanced_quantization_parameters=advanced,
                **settings,
            )
            quantised = rounded(controlled)
    pairs = _pairs(calibration, "val", calibration.pairs)
    metrics: dict[str, tuple[float, float]] = {}
    if pairs:
        plain, small = (
            _score(model, card, calibration, pairs, progress) for model in (graph, quantised)
        )
        metrics = {
            name: (metric.mean, small.metrics[name].mean)
            for name, metric in plain.metrics.items()
            if name in small.metrics
        }
    layers, in_int8 = count_layers(quantised)
    return quantised, Quantised(len(windows), len(pairs), metrics, layers, layers - in_int8)


def _nodes_within(module: str) -> str:
    """Return a regular expression for the names that the nodes of a module have in a graph."""
    return f".*[./]{module.replace('.', '[./]')}[./].*"


def count_layers(graph: Any) -> tuple[int, int]:
    """Return how many convolutions a model has, and how many of them have int8 weights."""
    if _is_onnx(graph):
        made_by = {name: node.op_type for node in graph.graph.node for name in node.output}
        weights = [node.input[1] for node in graph.graph.node if node.op_type == "Conv"]
        return len(weights), sum(made_by.get(name) == "DequantizeLinear" for name in weights)
    layers = [op for op in graph.get_ops() if "Convolution" in op.get_type_name()]
    return len(layers), sum(_has_int8_weights(layer) for layer in layers)


def _has_int8_weights(layer: Any) -> bool:
    node = layer.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node.get_element_type().to_string() in {"i8", "u8"}


def _windows(card: ModelCard, calibration: Calibration) -> list[NDArray[np.float32]]:
    """Return windows to calibrate with, float32 [1,C,side,side], at a scale the model knows."""
    chosen = find_calibration_set(
        calibration.data,
        direction=card.direction,
        resolution_m=card.resolution_m,
        limit=calibration.windows,
    )
    side = int(getattr(card.generator, "size", SIDE))
    return [window.numpy() for window in chosen.windows(side, len(card.bands))]


def _pairs(calibration: Calibration, split: str, most: int) -> list[PairFile]:
    if not (calibration.data / split).is_dir() or has_no_maps(calibration.data, split):
        return []
    pairs = find_pairs(calibration.data, split)
    return [pairs[i] for i in spread(len(pairs), most)]


def _feed(graph: Any, window: NDArray[np.float32]) -> Any:
    return {"source": window} if _is_onnx(graph) else window


def _is_onnx(graph: Any) -> bool:
    return hasattr(graph, "SerializeToString")


def _psnr(card: ModelCard, model: Any, items: Iterable[Compared]) -> tuple[float, list[float]]:
    """Return the mean PSNR, and that of each pair, of a model as NNCF hands it out."""
    values, multiple = [], card.multiple or 1
    run = _compiled(model) if hasattr(model, "create_infer_request") else _colours(model, card)
    for source, target in items:
        height, width, _ = source.shape
        rows = mirrored(0, -(-height // multiple) * multiple, height)
        columns = mirrored(0, -(-width // multiple) * multiple, width)
        answer = run(source[rows[:, None], columns[None, :]][None])[0]
        values.append(image.psnr(round_image(answer[:height, :width]), target))
    return float(np.mean(values)), values


def _compiled(model: Any) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return what runs a compiled model of OpenVINO, uint8 [N,H,W,C] to float32 [N,H,W,3]."""

    def run(source: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = model({"source": to_values(source)})["picture"]
        return answer.transpose(0, 2, 3, 1)

    return run


def _colours(model: Any, card: ModelCard) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    runtime = _runtime(model, card)
    return lambda source: runtime.run(source, ["colours"])["colours"]


def _runtime(model: Any, card: ModelCard) -> Runtime:
    multiple = card.multiple or 1
    if _is_onnx(model):
        return OnnxRuntime(model.SerializeToString(), multiple)
    return OpenVINORuntime(model, multiple)


def _score(
    graph: Any,
    card: ModelCard,
    calibration: Calibration,
    pairs: list[PairFile],
    progress: Callable[[int, int], None] | None,
) -> Summary:
    translator = Translator(OpenModel(card, "int8", _runtime(graph, card), calibration.data))
    legend = legend_of(card, calibration.data)
    scores = score_images(
        showing(translator),
        pairs,
        size=calibration.size,
        direction=card.direction,
        legend=legend,
        progress=progress,
    )
    scores.raise_failures()
    return summarise(scores.scores, legend, scores.protocol)
