"""A graph of OpenVINO that leaves out what only a halo would show.

A network that looks only so far is shown a window with a halo, and answers for its core. Its first
layers need all of the halo; the nearer to the answer, the less of it does anything depend on:

    source     |~~~~~~~~~|==================|~~~~~~~~~|     halo, core, halo
    encoder       |~~~~~~|==================|~~~~~~|
    decoder             ~|==================|~
    answer               |==================|

`cut_halo` cuts it off on the way, where that saves more than it costs. The core has the same
values, since none of its pixels depends on what is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

WORTH = 1.1
"""A cut is made before a convolution that has so many times fewer pixels behind it, at least,"""

ALONG = 1024
"""with a core of this side."""

POINTWISE = frozenset(
    {
        "Add",
        "BatchNormInference",
        "Clamp",
        "Convert",
        "Divide",
        "FakeQuantize",
        "HSwish",
        "Maximum",
        "Minimum",
        "Multiply",
        "Relu",
        "Sigmoid",
        "Subtract",
        "Swish",
        "Tanh",
    }
)
"""Layers whose pixels depend on the same pixel of what they are given."""

CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})


class _UnknownLayerError(Exception):
    """It is not known how far a layer looks."""


@dataclass
class _Layer:
    """A node whose output is an image, [N,channels,h,w].

    Attributes:
        node: The node.
        stride: The side of one of its pixels, in pixels of the source.
        inputs: Which of its inputs are images.
        needed: How far beyond the core its output is needed, in pixels of the source.
    """

    node: openvino.Node
    stride: int
    inputs: list[int]
    needed: int = 0


def cut_halo(
    source: openvino.Node, answers: Iterable[openvino.Output], halo: int, multiple: int
) -> list[int]:
    """Cut most of a halo off, on its way through a graph, which is changed in place.

    Args:
        source: The graph's parameter, an image [N,C,h,w].
        answers: What is made of it, images as large as the source.
        halo: How many pixels are around the core, on each side.
        multiple: What all sides of the source, the core and the halo are multiples of.

    Returns:
        How many pixels are left around the core of each answer: all of the halo, where there is a
        layer of which it is not known how far it looks.
    """
    answers = list(answers)
    if halo % multiple:
        return [halo] * len(answers)
    try:
        layers = _layers(source, answers)
    except _UnknownLayerError:
        return [halo] * len(answers)
    for layer in reversed(layers.values()):
        for name in _given(layer):
            layers[name].needed = max(layers[name].needed, _looks(layer, layers))
    left: dict[str, int] = {}
    cuts: dict[tuple[str, int], openvino.Output] = {}
    for name, layer in layers.items():
        there = [left[given] for given in _given(layer)]
        if not there:
            left[name] = halo
            continue
        kept = min(there)
        wanted = min(kept, -(-_looks(layer, layers) // multiple) * multiple)
        saved = ((ALONG + 2 * kept) / (ALONG + 2 * wanted)) ** 2
        if layer.node.get_type_name() == "Convolution" and saved >= WORTH:
            kept = wanted
        for number, given, around in zip(layer.inputs, _given(layer), there, strict=True):
            if around > kept:
                away = (around - kept) // layers[given].stride
                if (given, away) not in cuts:
                    cuts[given, away] = sliced(layer.node.input_value(number), away, (2, 3))
                layer.node.input(number).replace_source_output(cuts[given, away])
        left[name] = kept
    return [left[answer.node.get_name()] for answer in answers]


def sliced(image: openvino.Output, away: int, axes: tuple[int, int]) -> openvino.Output:
    """Return an image with so many pixels less on each side.

    Args:
        image: The image.
        away: How many pixels.
        axes: Which axes are its height and width.
    """
    from openvino import opset13 as op

    def both(value: int) -> openvino.Node:
        return op.constant(np.array([value, value], np.int64))

    return op.slice(image, both(away), both(-away), both(1), op.constant(np.array(axes))).output(0)


def _layers(source: openvino.Node, answers: list[openvino.Output]) -> dict[str, _Layer]:
    """Return the layers between the source and the answers, each after those it is made of."""
    found: dict[str, _Layer] = {source.get_name(): _Layer(source, 1, [])}
    waiting = [answer.node for answer in answers]
    behind: dict[str, bool] = {}  # whether a node depends on the source
    while waiting:
        node = waiting[-1]
        name = node.get_name()
        if name in found or name in behind:
            waiting.pop()
            continue
        before = [node.input_value(i).node for i in range(node.get_input_size())]
        unknown = [n for n in before if n.get_name() not in found and n.get_name() not in behind]
        if unknown:
            waiting += unknown
            continue
        waiting.pop()
        inputs = [i for i, n in enumerate(before) if n.get_name() in found]
        if inputs:
            strides = {found[before[i].get_name()].stride for i in inputs}
            found[name] = _Layer(node, _stride(node, strides, inputs), inputs)
        else:
            behind[name] = False
    return found


def _given(layer: _Layer) -> list[str]:
    """Return the names of the layers that one is made of."""
    return [layer.node.input_value(number).node.get_name() for number in layer.inputs]


def _stride(node: openvino.Node, before: set[int], inputs: list[int]) -> int:
    """Return the side of a layer's pixels, given that of what it is made of."""
    kind, told = node.get_type_name(), node.get_attributes()
    if len(before) != 1:
        raise _UnknownLayerError
    stride = before.pop()
    if kind in POINTWISE:
        others = [i for i in range(node.get_input_size()) if i not in inputs]
        if kind != "BatchNormInference" and not all(_is_flat(node.input_value(i)) for i in others):
            raise _UnknownLayerError
        return stride
    if kind in ("Softmax", "Concat") and told["axis"] in (1, -3):
        return stride
    if kind in CONVOLUTIONS and inputs == [0] and told["auto_pad"] == "explicit":
        steps = {int(step) for step in told["strides"]}
        if len(told["strides"]) == 2 and len(steps) == 1:
            return stride * steps.pop()
    if kind == "Pad" and told["pad_mode"] == "constant":
        begin, end = (_numbers(node, i) for i in (1, 2))
        if len(begin) == 4 and not any((*begin[:2], *end[:2])) and min(begin + end) >= 0:
            return stride
    if kind == "DepthToSpace" and stride % told["block_size"] == 0:
        return stride // int(told["block_size"])
    if kind == "SpaceToDepth":
        return stride * int(told["block_size"])
    if kind == "Interpolate" and stride % 2 == 0 and _doubles(node):
        return stride // 2
    raise _UnknownLayerError


def _doubles(node: openvino.Node) -> bool:
    """Return whether a node repeats each pixel, two by two."""
    told = node.get_attributes()
    way = (
        told["mode"],
        told["shape_calculation_mode"],
        told["coordinate_transformation_mode"],
        told["nearest_mode"],
    )
    return (
        way == ("nearest", "scales", "asymmetric", "floor")
        and not any((told["antialias"], *told["pads_begin"], *told["pads_end"]))
        and _numbers(node, 1) == [2, 2]
        and _numbers(node, 2) == [2, 3]
    )


def _is_flat(value: openvino.Output) -> bool:
    """Return whether a constant is the same for all pixels."""
    shape = value.get_partial_shape()
    return shape.is_static and all(length == 1 for length in list(shape.to_shape())[-2:])


def _numbers(node: openvino.Node, number: int) -> list[float]:
    """Return the constant that a node is given as an input."""
    constant = node.input_value(number).node
    if constant.get_type_name() != "Constant":
        raise _UnknownLayerError
    return [value.item() for value in constant.get_data().ravel()]


def _looks(layer: _Layer, layers: dict[str, _Layer]) -> int:
    """Return how far beyond the core a layer needs what it is made of, in pixels of the source."""
    kind, told = layer.node.get_type_name(), layer.node.get_attributes()
    before = layers[_given(layer)[0]].stride
    needed = layer.needed
    if kind in CONVOLUTIONS:
        spatial = layer.node.input_value(1).get_partial_shape().to_shape()
        for axis in (0, 1):
            wide = (spatial[axis - 2] - 1) * told["dilations"][axis] + 1
            begin, step = told["pads_begin"][axis], told["strides"][axis]
            far = max(begin, wide - step - begin, 0)  # to the left, and to the right
            needed = max(needed, layer.needed + far * before)
    elif kind == "Pad":
        needed += int(max(_numbers(layer.node, 1))) * before
    return -(-needed // before) * before
