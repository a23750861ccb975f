r"""Houses that a class map shows as one: where a block of them has a neck, it is two.

    the distance to the block's edge        its hills are houses where the pass between
                                            them is low:
      . . . . . . . . . . . .
      . 1 1 1 1 . . 1 1 1 1 .                 2 ____            ____ 2
      . 1 2 2 1 1 1 1 2 2 1 .                       \__________/          a neck: two houses
      . 1 2 2 1 1 1 1 2 2 1 .                               1
      . 1 1 1 1 . . 1 1 1 1 .
      . . . . . . . . . . . .                 2 ____________________      none: one house

Houses that stand close, or in a row, are often one in a class map. Where it is known how sure the
class of a pixel is, it is least sure of what lies between them: the distance is the mean of those
to the edges of what is surer and surer. Where nothing tells, necks are all that shows, and a house
around a courtyard stays one: a wing may be narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.vectors.arcs import batches, side_by_side

NECK = 0.94
"""A pass that is lower than so much of the lower hill parts two houses."""

DROP, SURE_DROP = 0.5, 0.3
"""Pixels by which a pass is lower, at least: less is the stairs of one house's walls. Where it is
known how sure pixels are, the stairs of many edges even out."""

SURE = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Where it is known how sure pixels are: distances to the edges of those surer than each of these,
and of the whole block, make the hills."""

LEAST_M2 = 50.0
"""No block is split into houses that are smaller than this."""

_SMOOTH = 1.0
"""Standard deviation in pixels by which distances are smoothed, or each stair were a hill."""

_STRIP = 32
"""Rows whose distances are measured together."""

_THICK = 100
"""Pixels from an edge: of what has more inside scipy measures the distances."""

_REACH = 4
"""Pixels as far as which they are smoothed; parts that are measured at once lie further apart."""

Labels = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """Buildings of one class in a block that hang together.

    Attributes:
        block: The block's place.
        box: Where it lies in it, with two pixels around.
        own: Its pixels, bool [h,w].
        sure: How sure their class is, nan where unknown, or None.
        least: Pixels that a house has at least.
    """

    block: int
    box: tuple[slice, slice]
    own: NDArray[np.bool_]
    sure: NDArray[np.float32] | None
    least: float

    @cached_property
    def is_big(self) -> bool:
        """Whether it has room for two houses."""
        return bool(np.count_nonzero(self.own) >= 2 * self.least)

    @property
    def drop(self) -> float:
        """Pixels by which a pass between two houses is lower than them, at least."""
        return DROP if self.sure is None else SURE_DROP


def split_houses(
    blocks: Sequence[Labels],
    sure: Sequence[NDArray[np.float32] | None],
    least: Sequence[float],
) -> list[Labels]:
    """Return the houses of blocks, split at their necks.

    Args:
        blocks: Of each block its parts, from 1; 0 outside and -1 where another block is; [H,W] with
            two pixels around the block.
        sure: How sure the class of each pixel is, 0 to 1, nan where unknown.
        least: Pixels that a house has at least.

    Returns:
        The same with another number for each house, in the order of their first pixels.
    """
    from scipy import ndimage

    parts: list[_Part] = []
    for n, labels in enumerate(blocks):
        for number, (rows, columns) in enumerate(ndimage.find_objects(np.maximum(labels, 0)), 1):
            box = (slice(rows.start - 2, rows.stop + 2), slice(columns.start - 2, columns.stop + 2))
            own = labels[box] == number
            known = sure[n]
            parts.append(_Part(n, box, own, None if known is None else known[box], least[n]))
    found = [np.minimum(labels, 0) for labels in blocks]
    count = [0] * len(blocks)
    for part, pieces in zip(parts, _pieces_of(parts), strict=True):
        found[part.block][part.box][part.own] = pieces[part.own] + count[part.block]
        count[part.block] += int(pieces.max())
    return found


def _pieces_of(parts: list[_Part]) -> Iterator[Labels]:
    """Yield the houses of each part, [h,w] from 1."""
    for batch in batches([part.own.size for part in parts]):
        big = [part for part in parts[batch] if part.is_big]
        heights = iter(_hilly(big) if big else ())
        for part in parts[batch]:
            height = next(heights) if part.is_big else None
            yield part.own.astype(np.int32) if height is None else _pieces(part, height)


def _hilly(parts: list[_Part]) -> list[Floats | None]:
    """Return the distances to the edge, smoothed, of those parts that may have a neck.

    All are measured at once, side by side. A part has no neck where all its hills hang together
    that are as high as a pass to the second highest of them has to be.
    """
    from scipy import ndimage

    canvas, corners = side_by_side([part.own.astype(np.int32) for part in parts])
    heights = _distances(canvas > 0, parts, corners)
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
    passable = _passable(second, np.array([0.0, *(part.drop for part in parts)]))
    high = (canvas > 0) & (heights >= passable[canvas])
    islands, _ = ndimage.label(high)
    each = np.unique(islands[high], return_index=True)[1]
    number = np.bincount(canvas[high][each], minlength=count)
    may = (second > 0) & ((number > 1) | (lowest < passable))
    return [
        heights[row : row + part.own.shape[0], column : column + part.own.shape[1]]
        if hilly
        else None
        for part, (row, column), hilly in zip(parts, corners, may[1:].tolist(), strict=True)
    ]


def _distances(
    inside: NDArray[np.bool_], parts: list[_Part], corners: list[tuple[int, int]]
) -> Floats:
    """Return the distance to the edge of what is inside; where that is known, of what is sure."""
    from scipy import ndimage

    heights = to_edge(inside)
    if any(part.sure is not None for part in parts):
        sure = np.ones(inside.shape, np.float32)
        for part, (row, column) in zip(parts, corners, strict=True):
            if part.sure is not None:
                height, width = part.own.shape
                near = np.where(np.isnan(part.sure), 1, part.sure)
                sure[row : row + height, column : column + width] = near
        for least in SURE:
            heights += to_edge(inside & (sure > least))
        heights /= 1 + len(SURE)
    smooth: Floats = ndimage.gaussian_filter(heights, _SMOOTH, radius=_REACH)
    return smooth


def to_edge(inside: NDArray[np.bool_]) -> Floats:
    """Return the distance from each pixel to the nearest that is not inside, float64 [H,W].

    It is `scipy.ndimage.distance_transform_edt(inside)` of a raster with nothing inside at its
    border. Houses are a few pixels thick, so it is faster to look so far along rows: first comes
    the distance along columns alone.

    Args:
        inside: bool [H,W].
    """
    from scipy import ndimage

    height = len(inside)
    row = np.arange(height, dtype=np.int32)[:, None]
    before = np.maximum.accumulate(np.where(inside, 0, row), 0)
    behind = np.minimum.accumulate(np.where(inside, height, row)[::-1], 0)[::-1]
    reach = np.minimum(row - before, behind - row)
    if reach.max() > _THICK:
        thick: Floats = ndimage.distance_transform_edt(inside)
        return thick
    squares = np.square(reach.astype(np.int16))
    found = np.empty(inside.shape)
    for start in range(0, height, _STRIP):  # of so few rows that they stay in the cache
        own = squares[start : start + _STRIP]
        nearest, step = own.copy(), 1
        while step**2 < nearest.max():
            further = own + np.int16(step**2)
            np.minimum(nearest[:, step:], further[:, :-step], out=nearest[:, step:])
            np.minimum(nearest[:, :-step], further[:, step:], out=nearest[:, :-step])
            step += 1
        np.sqrt(nearest, out=found[start : start + _STRIP], dtype=np.float64)
    return found


def _pieces(part: _Part, height: Floats) -> Labels:
    """Return the houses of one part, [h,w] from 1."""
    from scipy import ndimage

    own, whole = part.own, part.own.astype(np.int32)
    if part.sure is None and _has_courtyard(own):
        return whole
    peaks, _ = ndimage.label(own & (height == ndimage.maximum_filter(height, 3)))
    hills = _joined(_flooded(-height, peaks, own), height, part.drop)
    while hills.any():
        sizes = np.bincount(hills.ravel())
        sizes[0] = own.size
        small = np.flatnonzero((sizes > 0) & (sizes < part.least))
        if not len(small):
            return _numbered(hills)
        hills[hills == small[np.argmin(sizes[small])]] = 0
        hills = _flooded(-height, hills, own)
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


def _joined(basins: NDArray[Any], height: Floats, drop: float) -> NDArray[Any]:
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
    above, passable = list(range(count)), _passable(peak, drop)

    def root(basin: int) -> int:
        while above[basin] != basin:
            basin = above[basin]
        return basin

    for (a, b), value in sorted(passes.items(), key=lambda item: (-item[1], item[0])):
        one_root, other_root = sorted((root(a), root(b)))
        if one_root != other_root and value >= passable[[one_root, other_root]].min():
            above[other_root] = one_root
            passable[one_root] = passable[[one_root, other_root]].max()
    joined: NDArray[Any] = np.array([root(basin) for basin in range(count)])[basins]
    return joined


def _passable(peaks: Floats, drop: Floats | float) -> Floats:
    """Return how high a pass has to be, at least, for hills of some height to be of one house."""
    return np.minimum(NECK * peaks, peaks - drop)


def _numbered(labels: NDArray[Any]) -> Labels:
    """Return labels as 1, 2, 3 in the order of their first pixels; 0 stays."""
    values, first = np.unique(labels, return_index=True)
    order = np.argsort(first[values > 0])
    numbers = np.zeros(int(values.max()) + 1, np.int32)
    numbers[values[values > 0][order]] = np.arange(1, len(order) + 1)
    numbered: Labels = numbers[labels]
    return numbered
