"""Int8 weights that are rounded for what their layers see, and ranges that are known.

NNCF rounds each weight to the nearest number. What a convolution answers is a sum of many weights
times what it sees, and neighbours in an image are nearly equal, so errors of one sign add up. Here
a weight makes up for the errors of those before it, in proportion to how what they see goes
together (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023). What is left of an error in the mean is taken off the bias (Nagel et
al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).

The range of what is clamped follows from the graph, and so does that of the source, whose bytes
then are what they were. Measured ranges are those of the calibration's light and colours.

Graphs here are OpenVINO's. Layers of another shape than is looked for stay as NNCF made them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino

POSITIONS = 4096
"""At so many places of a window it is seen what a layer is given, at most."""

MOST_SEEN = 2048
"""Of layers whose pixels are made of more values only the bias is mended: the matrix of how so many
go together takes too long."""

DAMPING = 0.01
"""Share of the mean second moment that is added to each, so that the matrix has an inverse."""

WIDE, NARROW = 127, 64
"""The largest int8 weight: of depthwise convolutions, and of others, whose sums overflow on a CPU
without VNNI where it is larger."""


@dataclass
class _Layer:
    """A convolution in both graphs.

    Attributes:
        plain: It in float32.
        quantised: It with int8 weights.
        weights: In float32, [groups, channels of a group, values that one is made of].
        mean: The mean of what it sees, [groups, values].
        moments: The mean products of what it sees, [groups, values, values]; None of large ones.
    """

    plain: openvino.Node
    quantised: openvino.Node
    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    moments: NDArray[np.float64] | None


def round_for_inputs(
    quantised: openvino.Model, plain: openvino.Model, windows: Iterable[NDArray[np.float32]]
) -> None:
    """Round the int8 weights of a graph anew, correct its biases and set the ranges that are known.

    Args:
        quantised: What NNCF made of `plain`, without a correction of biases; changed in place.
        plain: The graph in float32.
        windows: What to calibrate with, float32 [1,C,h,w] each.
    """
    layers = _layers(quantised, plain)
    _look(layers, plain, windows)
    for layer in layers:
        _round_layer(layer)
    for node in quantised.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            _set_known_range(node)


def _layers(quantised: openvino.Model, plain: openvino.Model) -> list[_Layer]:
    by_name = {node.get_friendly_name(): node for node in plain.get_ops()}
    found = []
    for node in quantised.get_ordered_ops():
        other = by_name.get(node.get_friendly_name())
        if _int8_weights(node) is None or other is None or not _is_seen_through(other):
            continue
        weights = other.input_value(1).get_node().get_data().astype(np.float64)
        if other.get_type_name() == "Convolution":
            weights = weights[None]
        rows = weights.reshape(*weights.shape[:2], -1)
        groups, _, values = rows.shape
        moments = np.zeros((groups, values, values)) if values <= MOST_SEEN else None
        found.append(_Layer(other, node, rows, np.zeros((groups, values)), moments))
    return found


def _int8_weights(node: openvino.Node) -> tuple[openvino.Node, openvino.Node] | None:
    """Return the nodes that convert a convolution's int8 weights and scale them, or None."""
    if node.get_type_name() not in ("Convolution", "GroupConvolution"):
        return None
    scaling = node.input_value(1).get_node()
    if scaling.get_type_name() != "Multiply":
        return None
    converting, scale = (scaling.input_value(i).get_node() for i in (0, 1))
    if (converting.get_type_name(), scale.get_type_name()) != ("Convert", "Constant"):
        return None
    constant = converting.input_value(0).get_node()
    is_int8 = constant.get_type_name() == "Constant" and constant.get_data().dtype == np.int8
    return (converting, scaling) if is_int8 else None


def _is_seen_through(node: openvino.Node) -> bool:
    """Return whether it is known of a convolution in float32 what its pixels are made of."""
    told = node.get_attributes()
    return (
        node.input_value(1).get_node().get_type_name() == "Constant"
        and told["auto_pad"] == "explicit"
        and list(told["dilations"]) == [1, 1]
    )


def _look(
    layers: list[_Layer], plain: openvino.Model, windows: Iterable[NDArray[np.float32]]
) -> None:
    """Fill in what the layers see."""
    import openvino
    from openvino import opset13 as op

    shown = [op.result(layer.plain.input_value(0)) for layer in layers]
    graph = openvino.Model(shown, plain.get_parameters())
    how = {"INFERENCE_PRECISION_HINT": "f32"}
    run = openvino.Core().compile_model(graph, "CPU", how)
    places = np.zeros(len(layers))
    for window in windows:
        answers = run(window)
        for number, layer in enumerate(layers):
            seen = _patches(layer, answers[number][0])
            places[number] += seen.shape[1]
            layer.mean += seen.sum(1)
            if layer.moments is not None:
                layer.moments += np.matmul(seen.transpose(0, 2, 1), seen)
    for layer, count in zip(layers, places, strict=True):
        layer.mean /= count
        if layer.moments is not None:
            layer.moments /= count


def _patches(layer: _Layer, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a layer's pixels are made of, [groups, places, values], at some of its places."""
    told = layer.plain.get_attributes()
    spatial = list(layer.plain.input_value(1).get_shape())[-2:]
    pads = [(0, 0), *zip(told["pads_begin"], told["pads_end"], strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(np.pad(image, pads), spatial, (1, 2))
    down, along = told["strides"]
    views = views[:, ::down, ::along]
    step = int(np.ceil(np.sqrt(views.shape[1] * views.shape[2] / POSITIONS)))
    views = views[:, ::step, ::step]
    groups, _, values = layer.weights.shape
    split = views.reshape(groups, -1, *views.shape[1:])  # the channels of each group
    return split.transpose(0, 2, 3, 1, 4, 5).reshape(groups, -1, values)


def _round_layer(layer: _Layer) -> None:
    """Give a layer's int8 weights and its bias other values."""
    from openvino import opset13 as op

    found = _int8_weights(layer.quantised)
    assert found is not None
    converting, scaling = found
    constant, scale = converting.input_value(0).get_node(), scaling.input_value(1).get_node()
    values = constant.get_data()
    answered = (values * scale.get_data()).reshape(layer.weights.shape).astype(np.float64)
    if layer.moments is not None:
        largest = NARROW if np.abs(values.astype(int)).max() <= NARROW else WIDE
        steps = np.abs(layer.weights).max(2, keepdims=True) / largest
        steps[steps == 0] = 1
        rounded = np.stack(
            [
                rounded_weights(*group, largest)
                for group in zip(layer.weights, steps, layer.moments, strict=True)
            ]
        )
        answered = rounded * steps
        numbers = op.constant(rounded.reshape(values.shape).astype(np.int8))
        sizes = op.constant(steps.reshape(scale.get_data().shape).astype(np.float32))
        converting.input(0).replace_source_output(numbers.output(0))
        scaling.input(1).replace_source_output(sizes.output(0))
    wrong = np.einsum("gcv,gv->gc", answered - layer.weights, layer.mean)
    _take_off_bias(layer.quantised, wrong.reshape(-1))


def rounded_weights(
    weights: NDArray[np.float64],
    steps: NDArray[np.float64],
    moments: NDArray[np.float64],
    largest: int,
) -> NDArray[np.float64]:
    """Return weights as whole multiples of a step, of which later ones make up for earlier ones.

    Args:
        weights: [channels, values].
        steps: [channels, 1], the step of each channel.
        moments: [values, values], the mean products of what the weights are multiplied by.
        largest: No multiple is larger.

    Returns:
        Whole numbers, [channels, values].
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    left = weights[:, order].copy()
    ordered = moments[np.ix_(order, order)]
    damping = DAMPING * np.diag(ordered).mean() + 1e-12
    ordered = ordered + damping * np.eye(len(order))
    upper = np.linalg.cholesky(np.linalg.inv(ordered)).T
    rounded = np.empty_like(left)
    for number, row in enumerate(upper):
        rounded[:, number] = np.clip(np.round(left[:, number] / steps[:, 0]), -largest, largest)
        error = (left[:, number] - rounded[:, number] * steps[:, 0]) / row[number]
        left[:, number:] -= np.outer(error, row[number:])
    return rounded[:, np.argsort(order)]


def _take_off_bias(convolution: openvino.Node, wrong: NDArray[np.float64]) -> None:
    """Take something off the bias of each channel, where there is one."""
    from openvino import opset13 as op

    followers = [taken.get_node() for taken in convolution.output(0).get_target_inputs()]
    if len(followers) != 1 or followers[0].get_type_name() != "Add":
        return
    for number in (0, 1):
        bias = followers[0].input_value(number).get_node()
        if bias.get_type_name() == "Constant":
            less = op.constant(bias.get_data() - wrong.reshape(1, -1, 1, 1).astype(np.float32))
            followers[0].input(number).replace_source_output(less.output(0))
            return


def _set_known_range(node: openvino.Node) -> None:
    """Give the quantiser of clamped values, or of the source, the range that they have."""
    from openvino import opset13 as op

    given = node.input_value(0).get_node()
    if given.get_type_name() == "Clamp":
        told = given.get_attributes()
        low, high = float(told["min"]), float(told["max"])
    elif (bounds := _bounds_of_source(given)) is not None:
        low, high = bounds
    else:
        return
    zero = low * (node.get_attributes()["levels"] - 1) / (low - high)
    if low > 0 or high < 0 or abs(zero - round(zero)) > 1e-3:
        return  # what convolutions pad with must be one of the numbers
    for number, bound in ((1, low), (2, high), (3, low), (4, high)):
        told = op.constant(np.full((1, 1, 1, 1), bound, np.float32))
        node.input(number).replace_source_output(told.output(0))


def _bounds_of_source(node: openvino.Node) -> tuple[float, float] | None:
    """Return the range of what is made of the source by products and sums with single numbers."""
    way = []
    while node.get_type_name() in ("Multiply", "Add"):
        values = [node.input_value(i).get_node() for i in (0, 1)]
        numbers = [n.get_data().item() for n in values if _is_number(n)]
        if len(numbers) != 1:
            return None
        way.append((node.get_type_name(), numbers[0]))
        node = next(n for n in values if not _is_number(n))
    if node.get_type_name() != "Parameter":
        return None
    low, high = -1.0, 1.0
    for kind, number in reversed(way):
        low, high = (x * number if kind == "Multiply" else x + number for x in (low, high))
    return (low, high) if low < high else None


def _is_number(node: openvino.Node) -> bool:
    return node.get_type_name() == "Constant" and bool(node.get_data().size == 1)
