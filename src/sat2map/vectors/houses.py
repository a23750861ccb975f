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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.vectors.arcs import side_by_side

NECK = 0.75
"""A pass that is lower than so much of the lower hill parts two houses."""

SURE = 0.8
"""Where it is known how sure the class of a pixel is, the hills are those of surer ones."""

LEAST_M2 = 20.0
"""No part is smaller than this."""

_SMOOTH = 0.5
"""Standard deviation in pixels by which distances are smoothed, or each stair were a hill."""

_BATCH = 1 << 20
"""Pixels whose distances are measured at once."""

Labels = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """Buildings of one class in a block that hang together.

    Attributes:
        block: The block's place.
        box: Where it lies in it, with one pixel around.
        own: Its pixels, bool [h,w].
        core: Those of which it is sure.
        least: Pixels that a house has at least.
    """

    block: int
    box: tuple[slice, slice]
    own: NDArray[np.bool_]
    core: NDArray[np.bool_]
    least: float


def split_houses(
    blocks: Sequence[Labels],
    sure: Sequence[NDArray[np.float32] | None],
    least: Sequence[float],
) -> list[Labels]:
    """Return the houses of blocks, split at their necks.

    Args:
        blocks: Of each block its parts, from 1; 0 outside and -1 where another block is; [H,W] with
            nothing of the block at the border.
        sure: How sure the class of each pixel is, 0 to 1, nan where unknown.
        least: Pixels that a house has at least.

    Returns:
        The same with another number for each house, in the order of their first pixels.
    """
    from scipy import ndimage

    parts: list[_Part] = []
    for n, labels in enumerate(blocks):
        for number, (rows, columns) in enumerate(ndimage.find_objects(np.maximum(labels, 0)), 1):
            box = (slice(rows.start - 1, rows.stop + 1), slice(columns.start - 1, columns.stop + 1))
            own = labels[box] == number
            known = sure[n]
            core = own if known is None else own & ~(known[box] <= SURE)
            parts.append(_Part(n, box, own, core, least[n]))
    found = [np.minimum(labels, 0) for labels in blocks]
    count = [0] * len(blocks)
    for part, pieces in zip(parts, _pieces_of(parts), strict=True):
        found[part.block][part.box][part.own] = pieces[part.own] + count[part.block]
        count[part.block] += int(pieces.max())
    return found


def _pieces_of(parts: list[_Part]) -> Iterator[Labels]:
    """Yield the houses of each part, [h,w] from 1."""
    start = 0
    while start < len(parts):
        stop, size = start, 0
        while stop < len(parts) and (stop == start or size + parts[stop].own.size <= _BATCH):
            size += parts[stop].own.size
            stop += 1
        batch = parts[start:stop]
        for part, height in zip(batch, _hilly([part.core for part in batch]), strict=True):
            big = height is not None and np.count_nonzero(part.own) >= 2 * part.least
            yield _pieces(part, height) if big and height is not None else part.own.astype(np.int32)
        start = stop


def _hilly(cores: list[NDArray[np.bool_]]) -> list[Floats | None]:
    """Return the distances to the edge, smoothed, of those of some masks that may have a neck.

    All are measured at once, side by side. A mask has no neck where all its hills hang together
    that are as high as a pass to the second highest of them has to be.
    """
    from scipy import ndimage

    if not any(core.any() for core in cores):
        return [None] * len(cores)
    canvas, corners = side_by_side([core.astype(np.int32) for core in cores])
    heights: Floats = ndimage.gaussian_filter(ndimage.distance_transform_edt(canvas > 0), _SMOOTH)
    tops = (canvas > 0) & (heights == ndimage.maximum_filter(heights, 3))
    peaks, _ = ndimage.label(tops)
    first = np.unique(peaks[tops], return_index=True)[1]
    owner, height = canvas[tops][first], heights[tops][first]
    count = int(canvas.max()) + 1
    second, lowest = np.zeros(count), np.full(count, np.inf)
    order = np.lexsort((-height, owner))
    again = np.r_[False, owner[order][1:] == owner[order][:-1]]
    one, place = np.unique(owner[order][again], return_index=True)
    second[one] = height[order][again][place]
    np.minimum.at(lowest, owner, height)
    high = (canvas > 0) & (heights >= NECK * second[canvas])
    islands, _ = ndimage.label(high)
    each = np.unique(islands[high], return_index=True)[1]
    number = np.bincount(canvas[high][each], minlength=count)
    may = (second > 0) & ((number > 1) | (lowest < NECK * second))
    found: list[Floats | None] = []
    label = 0
    for core, (row, column) in zip(cores, corners, strict=True):
        label += bool(core.any())
        box = np.s_[row : row + core.shape[0], column : column + core.shape[1]]
        found.append(heights[box] if core.any() and may[label] else None)
    return found


def _pieces(part: _Part, height: Floats) -> Labels:
    """Return the houses of one part, [h,w] from 1."""
    from scipy import ndimage

    own, core = part.own, part.core
    whole = own.astype(np.int32)
    if core is own and _has_courtyard(own):
        return whole
    peaks, _ = ndimage.label(core & (height == ndimage.maximum_filter(height, 3)))
    hills = _joined(_flooded(-height, peaks, core), height)
    sizes = np.bincount(hills.ravel())
    hills[(sizes < part.least / 2)[hills]] = 0  # what is not sure will be added
    while len(np.unique(hills)) > 2:
        grown = _flooded(_away(hills), hills, own)
        sizes = np.bincount(grown.ravel())
        sizes[0] = own.size
        small = np.flatnonzero((sizes > 0) & (sizes < part.least))
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
