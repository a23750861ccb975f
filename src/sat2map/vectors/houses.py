r"""Houses that a class map shows as one: where a block of them has a neck, it is two.

    the distance to the block's edge        its hills are houses where the pass between
                                            them is low:
      . . . . . . . . . . . .
      . 1 1 1 1 . . 1 1 1 1 .                 2 ____            ____ 2
      . 1 2 2 1 1 1 1 2 2 1 .                       \__________/          a neck: two houses
      . 1 2 2 1 1 1 1 2 2 1 .                               1
      . 1 1 1 1 . . 1 1 1 1 .
      . . . . . . . . . . . .                 2 ____________________      none: one house

Houses that stand close are often one in the class map of a photo, but it is least sure of what
lies between them. So hills are those of what is sure, and what is not goes to the nearest of them.
Where nothing tells how sure it is, a house around a courtyard stays one: a wing may be narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NECK = 0.75
"""A pass that is lower than so much of the lower hill parts two houses."""

SURE = 0.8
"""Where it is known how sure the class of a pixel is, the hills are those of surer ones."""

LEAST_M2 = 20.0
"""No part is smaller than this."""

_SMOOTH = 0.5
"""Standard deviation in pixels by which distances are smoothed, or each stair were a hill."""

Labels = NDArray[np.int32]
Floats = NDArray[np.float64]


def split_houses(labels: Labels, sure: NDArray[np.float32] | None, least: float) -> Labels:
    """Return the houses of a block, split at their necks.

    Args:
        labels: Parts of buildings, from 1; 0 outside and -1 where another block is; [H,W] with
            nothing of the block at the border.
        sure: How sure the class of each pixel is, 0 to 1, nan where unknown.
        least: Pixels that a house has at least.

    Returns:
        The same with another number for each house, in the order of their first pixels.
    """
    from scipy import ndimage

    found = np.minimum(labels, 0)
    count = 0
    for part, box in enumerate(ndimage.find_objects(np.maximum(labels, 0)), 1):
        rows, columns = (slice(side.start - 1, side.stop + 1) for side in box)
        own = labels[rows, columns] == part
        pieces = _pieces(own, None if sure is None else sure[rows, columns], least)
        found[rows, columns][own] = pieces[own] + count
        count += int(pieces.max())
    return found


def _pieces(own: NDArray[np.bool_], sure: NDArray[np.float32] | None, least: float) -> Labels:
    """Return the houses of one part, bool [H,W] without a pixel at the border, from 1."""
    from scipy import ndimage

    whole = own.astype(np.int32)
    if np.count_nonzero(own) < 2 * least:
        return whole
    core = own if sure is None else own & ~(sure <= SURE)
    height: Floats = ndimage.gaussian_filter(ndimage.distance_transform_edt(core), _SMOOTH)
    peaks, many = ndimage.label(core & (height == ndimage.maximum_filter(height, 3)))
    if many < 2 or (sure is None and _has_courtyard(own)):
        return whole
    hills = _joined(_flooded(-height, peaks, core), height)
    sizes = np.bincount(hills.ravel())
    hills[(sizes < least / 2)[hills]] = 0  # what is not sure will be added
    while len(np.unique(hills)) > 2:
        grown = _flooded(_away(hills), hills, own)
        sizes = np.bincount(grown.ravel())
        sizes[0] = own.size
        small = np.flatnonzero((sizes > 0) & (sizes < least))
        if not len(small):
            return _numbered(grown)
        hills[hills == small[np.argmin(sizes[small])]] = 0
    return whole


def _has_courtyard(own: NDArray[np.bool_]) -> bool:
    from scipy import ndimage

    _, outside = ndimage.label(~own)  # its border is outside, all in one
    return bool(outside > 1)


def _flooded(depth: Floats, marks: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """Return which of some marks each pixel of a place is flooded from, [H,W]; 0 elsewhere."""
    from skimage.segmentation import watershed

    basins: NDArray[Any] = watershed(depth, marks, mask=where)  # type: ignore[no-untyped-call]
    return basins


def _away(hills: NDArray[Any]) -> Floats:
    """Return the distance to the nearest hill, [H,W]."""
    from scipy import ndimage

    away: Floats = ndimage.distance_transform_edt(hills == 0)
    return away


def _joined(basins: NDArray[Any], height: Floats) -> NDArray[Any]:
    """Return basins, [H,W] from 1, of which those without a low pass between them are one."""
    count = int(basins.max()) + 1
    peak = np.zeros(count)
    np.maximum.at(peak, basins.ravel(), height.ravel())
    passes: dict[tuple[int, int], float] = {}
    for one, other in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        first, second = basins[one], basins[other]
        beside = (first != second) & (first > 0) & (second > 0)
        low, high = np.minimum(first, second)[beside], np.maximum(first, second)[beside]
        lower = np.minimum(height[one], height[other])[beside]
        for a, b, value in zip(low.tolist(), high.tolist(), lower.tolist(), strict=True):
            passes[a, b] = max(passes.get((a, b), 0.0), value)
    above = list(range(count))

    def root(basin: int) -> int:
        while above[basin] != basin:
            basin = above[basin]
        return basin

    for (a, b), value in sorted(passes.items(), key=lambda item: (-item[1], item[0])):
        one_root, other_root = sorted((root(a), root(b)))
        if one_root != other_root and value >= NECK * min(peak[one_root], peak[other_root]):
            above[other_root] = one_root
            peak[one_root] = max(peak[one_root], peak[other_root])
    joined: NDArray[Any] = np.array([root(basin) for basin in range(count)])[basins]
    return joined


def _numbered(labels: NDArray[Any]) -> Labels:
    """Return labels as 1, 2, 3 in the order of their first pixels; 0 stays."""
    values, first = np.unique(labels, return_index=True)
    order = np.argsort(first[values > 0])
    numbers = np.zeros(int(values.max()) + 1, np.int32)
    numbers[values[values > 0][order]] = np.arange(1, len(order) + 1)
    numbered: Labels = numbers[labels]
    return numbered
