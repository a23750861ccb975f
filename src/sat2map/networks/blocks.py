"""What generators are built of, in words and numbers, and what follows: how far they look.

It needs no torch, since a translation without torch must know it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

Norm = Literal["batch", "instance", "instance_calibrated", "none"]
"""Kinds of normalisation; see `norm_layer`."""

STEM = 4
"""Side of the squares of pixels that `compact` turns into channels at its entrance."""

STEM_CHANNELS = 32
"""Channels of the first convolution of `lite`."""

BLOCKS = (
    # channels out, kernel, stride, expansion
    (16, 3, 1, 1),
    (24, 3, 2, 6),
    (24, 3, 1, 6),
    (40, 5, 2, 6),
    (40, 5, 1, 6),
    (80, 3, 2, 6),
    (80, 3, 1, 6),
    (80, 3, 1, 6),
    (112, 5, 1, 6),
    (112, 5, 1, 6),
    (112, 5, 1, 6),
)
"""The blocks of EfficientNet-Lite0 up to stride 16; five more follow there."""

TAPS = (0, 2, 4, 10)
"""After which blocks the decoder of `lite` looks: strides 2, 4, 8 and 16."""

Layer = tuple[int, int, int]
"""A layer: by how much it reduces the side, and how many of its input's pixels it looks at before
and after the first one that a pixel of its output covers. A layer that enlarges has a negative
reduction: -2 doubles the side."""


def reach(layers: Iterable[Layer], multiple: int) -> int:
    """Return how far a pixel of the answer may be from what it depends on, in source pixels.

    Args:
        layers: Those on the deepest way through the network, from its source to its answer.
        multiple: What positions repeat after.
    """
    backwards = list(layers)[::-1]
    farthest = 0
    for position in range(multiple):
        first = last = position
        for reduction, before, after in backwards:
            if reduction < 0:
                first, last = first // -reduction, last // -reduction
            else:
                first, last = first * reduction - before, last * reduction + after
        farthest = max(farthest, position - first, last - position)
    return farthest


def compact_layers(blocks: Sequence[int]) -> list[Layer]:
    """Return the layers on the deepest way through `compact`."""
    convolution, halving = (1, 1, 1), (2, 1, 1)
    first, second, third, fourth, fifth = ([convolution] * count for count in blocks)
    entrance, exit_ = (STEM, 0, STEM - 1), (-STEM, 0, 0)
    down = [entrance, convolution, *first, halving, *second, halving, *third]
    return [*down, (-2, 0, 0), *fourth, (-2, 0, 0), *fifth, exit_]


def lite_layers() -> list[Layer]:
    """Return the layers on the deepest way through `lite`."""
    layers = [_same(3, 2)]
    layers += [_same(kernel, stride) for _, kernel, stride, _ in BLOCKS]
    for _ in TAPS[1:]:
        layers += [(1, 1, 1), (-2, 0, 0)]  # a fusion at one scale, then twice the side
    return [*layers, (1, 1, 1), (1, 1, 1), (-2, 0, 0)]  # the last fusion and the exit


def _same(kernel: int, stride: int) -> Layer:
    """Return a convolution padded as TensorFlow pads: the odd pixel is right and below."""
    before = (kernel - stride) // 2 if stride > 1 else kernel // 2
    return stride, before, kernel - 1 - before
