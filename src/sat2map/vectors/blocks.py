"""Blocks of buildings: the pixels of buildings that touch, over corners too, and their houses.

A block is cut out of the class map with two pixels around it, so that nothing that is done to it
depends on what lies farther away. Its houses are the parts of one class in it, split at their necks
(`houses.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.vectors.houses import LEAST_M2, split_houses
from sat2map.vectors.walls import Matrix

Method = Literal["squared", "traced"]


@dataclass(frozen=True)
class House:
    """A building.

    Attributes:
        outline: In pixels of the scene.
        number: Its class.
        method: How its outline was made.
        orientation_deg: Where its long side points, clockwise from north, 0 to 180.
        first: (row, column) of the first pixel of its block, and its place in the block: what
            tells it from all others.
    """

    outline: Any
    number: int
    method: Method
    orientation_deg: float
    first: tuple[int, int, int]


@dataclass(frozen=True)
class Block:
    """Houses that touch.

    Attributes:
        labels: 0 outside, from 1 houses, -1 other blocks, int32 [H,W]; two pixels are around.
        numbers: The classes of the houses.
        corner: Row and column of the upper left pixel of `labels` in the scene.
        first: Row and column of its first pixel.
    """

    labels: NDArray[np.int32]
    numbers: tuple[int, ...]
    corner: tuple[int, int]
    first: tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """A block before its houses are told apart.

    Attributes:
        parts: As `Block.labels`, but parts of one class in place of houses.
        numbers: The classes of the same pixels, int32 [H,W].
        sure: How sure they are, float32 [H,W], or None.
        corner: As of `Block`.
        first: As of `Block`.
    """

    parts: NDArray[np.int32]
    numbers: NDArray[np.int32]
    sure: NDArray[np.float32] | None
    corner: tuple[int, int]
    first: tuple[int, int]


def cut_out(
    numbers: NDArray[np.uint8],
    parts_of: tuple[NDArray[Any], NDArray[np.int32]],
    box: tuple[slice, slice],
    n: int,
    corner: tuple[int, int],
    sure: NDArray[np.float32] | None,
) -> Cut:
    """Return a block with two pixels around it.

    Args:
        numbers: Class numbers, uint8 [H,W].
        parts_of: The block of each pixel, and the part of one class, both from 1 in the order of
            their first pixels.
        box: Where the block lies.
        n: Its number.
        corner: Row and column in the scene of the first pixel.
        sure: How sure each class is.
    """
    whole, fours = parts_of
    rows, columns = box
    top, left = rows.start - 2, columns.start - 2
    shape = (rows.stop + 2 - top, columns.stop + 2 - left)
    near = np.zeros(shape, np.int64)
    near_numbers = np.zeros(shape, np.int32)
    inside = (
        slice(max(top, 0), min(rows.stop + 2, whole.shape[0])),
        slice(max(left, 0), min(columns.stop + 2, whole.shape[1])),
    )
    part = (
        slice(inside[0].start - top, inside[0].stop - top),
        slice(inside[1].start - left, inside[1].stop - left),
    )
    near[part], near_numbers[part] = whole[inside], numbers[inside]
    near_sure = None
    if sure is not None:
        near_sure = np.full(shape, np.nan, np.float32)
        near_sure[part] = sure[inside]
    own = near == n
    parts = np.zeros(shape, np.int32)
    parts[part][own[part]] = _from_one(fours[inside][own[part]])
    parts[(near > 0) & ~own] = -1
    first = (corner[0] + rows.start, corner[1] + left + int(np.flatnonzero(own[2])[0]))
    return Cut(parts, near_numbers, near_sure, (corner[0] + top, corner[1] + left), first)


def _from_one(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return numbers as 1, 2, 3 in their own order."""
    if numbers.min() == numbers.max():
        return np.ones_like(numbers)
    return np.asarray(np.unique(numbers, return_inverse=True)[1] + 1, np.int32)


def connected(labels: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Return which part of one label each pixel is of, int32 [H,W]; 0 where the label is 0."""
    values = labels[labels > 0]
    if len(values) and (values == values[0]).all():  # several times as fast
        from scipy import ndimage

        return np.asarray(ndimage.label(labels > 0)[0], np.int32)
    from skimage.measure import label

    return np.asarray(label(labels, background=0, connectivity=1), np.int32)  # type: ignore[no-untyped-call]


def blocks_of(cut: list[Cut], matrix_at: Callable[[int, int], Matrix]) -> list[Block]:
    """Return blocks with their houses."""
    least = [LEAST_M2 / abs(float(np.linalg.det(matrix_at(*one.first)))) for one in cut]
    found = []
    for one, labels in zip(
        cut, split_houses([one.parts for one in cut], [one.sure for one in cut], least), strict=True
    ):
        houses, at = np.unique(labels, return_index=True)
        classes = tuple(int(v) for v in one.numbers.ravel()[at[houses > 0]])
        found.append(Block(labels, classes, one.corner, one.first))
    return found
