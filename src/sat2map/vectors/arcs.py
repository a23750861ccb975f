"""The borders between the classes of a raster, as arcs from junction to junction.

    +---+---+---+      A border runs along the sides of pixels. Where three or four sides meet is
    | a   a | b |      a junction (*), and so is where a border meets the raster's edge. In between
    +---*---*   +      arcs go through the middles of the sides, not through their ends, so that
    | c | b   b |      the stairs of a slanting border become a straight line.
    +---+---+---+

Two pixels that touch at a corner alone do not belong together: four sides meet there.

Where it is known how sure each pixel is of its label, arcs are moved from the middles of the sides
to where both labels are as likely (`moved_to_balance`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Points = NDArray[np.float64]
Integers = NDArray[np.int64]

PRECISION = 1 / 1024
"""Outlines of buildings and all they meet lie on a grid of this step, in pixels: where lines meet,
points are rounded to it, and a line that began beside it would no longer reach the next."""


def on_grid(places: Points) -> Points:
    """Return the nearest places of that grid."""
    return np.round(places / PRECISION) * PRECISION


def trace_arcs(
    labels: NDArray[np.integer[Any]],
    *,
    smooth: bool = True,
    exact: int | None = None,
    thin: bool = True,
) -> NDArray[np.object_]:
    """Return the borders within a raster, lines in pixels from its upper left corner.

    The raster's own edge is not among them. A border that meets no junction is a closed line
    that begins at its uppermost corner.

    Args:
        labels: Integers [H,W]; borders lie between different ones.
        smooth: Whether arcs go through the middles of the pixels' sides, or through their ends.
        exact: The label whose borders go through the ends in any case, so that its area stays.
        thin: Whether points in the middle of straight runs are left out.

    Returns:
        LineStrings, object [N].
    """
    start, end = _sides(labels)
    if not len(start):
        return np.empty(0, object)
    corners = (labels.shape[0] + 1) * (labels.shape[1] + 1)
    degree = np.bincount(np.concatenate([start, end]), minlength=corners)
    junction = degree != 2
    following = _following(start, end, junction)
    looped = _loops(following, start)
    if len(looped):
        junction[looped] = True
        following = _following(start, end, junction)
    order, chain = _ordered(following)
    smoothed = np.full(len(start), smooth)
    if exact is not None:
        smoothed &= ~_sides_of(labels, exact)
    points, numbers = _points(order, chain, start, end, labels.shape[1] + 1, smoothed[order // 2])
    if thin:
        points, numbers = _without_straight(points, numbers)
    return np.asarray(shapely.linestrings(points, indices=numbers), object)


def moved_to_balance(
    polygons: NDArray[np.object_],
    labels: NDArray[np.integer[Any]],
    lead: NDArray[np.float32],
) -> NDArray[np.object_]:
    """Return polygons whose arcs lie where neither of two labels is likelier than the other.

    Between the middles of two pixels, of which each is surer of its own label, that is where a
    straight line between both leads crosses zero. An arc passes each side of a pixel, there and
    nowhere else it is moved, across the side; junctions and the raster's edge stay. So whoever
    traces the same pixels gets the same, from both sides of an arc. Moved points lie on the grid of
    `PRECISION`. Where that would make a polygon invalid, its arcs stay.

    Args:
        polygons: Made of `trace_arcs` with `thin=False`; they are one valid coverage.
        labels: As given there, [H,W].
        lead: By how much the label of each pixel is likelier than any other, float32 [H,W], above
            0; nan where nothing tells.
    """
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    shifts = np.zeros_like(points)
    height, width = labels.shape
    for axis, first, second in ((1, lead[:-1], lead[1:]), (0, lead[:, :-1], lead[:, 1:])):
        share = first / (first + second)  # of the way from the one middle to the other
        across, along = points[:, axis], points[:, 1 - axis]
        inside = (across > 0) & (across < (width, height)[axis])
        middle = inside & (across % 1 == 0) & (along % 1 == 0.5)
        place = np.empty((int(middle.sum()), 2), np.int64)
        place[:, 1 - axis] = across[middle] - 1
        place[:, axis] = along[middle]
        found = np.clip(share[place[:, 0], place[:, 1]] - 0.5, -_FURTHEST, _FURTHEST)
        shifts[middle, axis] = on_grid(np.nan_to_num(found).astype(np.float64))
    ground = shapely.area(polygons).sum()
    for _ in range(_TRIES):
        moved = shapely.set_coordinates(polygons.copy(), points + shifts)
        wrong = ~shapely.is_valid(moved)
        if not wrong.any():
            # Both sides of an arc move alike, so valid polygons of the same area in all cover the
            # same ground, each place once; this is much faster than to look at every edge.
            if math.isclose(shapely.area(moved).sum(), ground, rel_tol=1e-12):
                return np.asarray(moved, object)
            wrong = ~shapely.is_empty(shapely.coverage_invalid_edges(moved))
            if not wrong.any():
                return np.asarray(moved, object)
        # The same point is one of several polygons, and stays in all of them.
        stays = np.unique(points[np.isin(owner, np.flatnonzero(wrong))], axis=0)
        known = {tuple(point) for point in stays.tolist()}
        shifts[[tuple(point) in known for point in points.tolist()]] = 0
    return polygons


_FURTHEST = 0.45
"""Pixels by which an arc is moved at most, so that two beside one pixel do not meet."""

_TRIES = 3


def ordered_sides(labels: NDArray[np.integer[Any]], chord: int) -> tuple[Points, Points, Points]:
    """Return the sides of pixels that are borders in the order of their arcs, with directions.

    Args:
        labels: Integers [H,W].
        chord: A side's direction is that from so many sides before it to so many behind it.

    Returns:
        Where the sides begin, where they end, and their directions, float64 [N,2] each.
    """
    start, end = _sides(labels)
    if not len(start):
        nothing = np.empty((0, 2))
        return nothing, nothing, nothing
    corners = (labels.shape[0] + 1) * (labels.shape[1] + 1)
    junction = np.bincount(np.concatenate([start, end]), minlength=corners) != 2
    following = _following(start, end, junction)
    looped = _loops(following, start)
    if len(looped):
        junction[looped] = True
        following = _following(start, end, junction)
    order, chain = _ordered(following)
    leaves = np.where(order % 2 == 0, start[order // 2], end[order // 2])
    arrives = np.where(order % 2 == 0, end[order // 2], start[order // 2])
    begin, finish = _at(leaves, labels.shape[1] + 1), _at(arrives, labels.shape[1] + 1)
    first = np.flatnonzero(np.r_[True, chain[1:] != chain[:-1]])
    size = np.diff(np.r_[first, len(chain)])
    place = np.arange(len(chain)) - np.repeat(first, size)
    closed = np.repeat(leaves[first] == arrives[first + size - 1], size)
    length, origin = np.repeat(size, size), np.repeat(first, size)
    before, behind = place - chord, place + chord
    before = np.where(closed, before % length, np.maximum(before, 0))
    behind = np.where(closed, behind % length, np.minimum(behind, length - 1))
    return begin, finish, finish[origin + behind] - begin[origin + before]


def _sides(labels: NDArray[np.integer[Any]]) -> tuple[Integers, Integers]:
    """Return the corners at which the sides of pixels that are borders start and end.

    A corner's number is its row times (W + 1) plus its column. Sides start above or on the left.
    """
    across = labels.shape[1] + 1
    rows, columns = np.nonzero(labels[1:] != labels[:-1])
    lying = (rows + 1) * across + columns
    rows, columns = np.nonzero(labels[:, 1:] != labels[:, :-1])
    standing = rows * across + columns + 1
    start = np.concatenate([lying, standing])
    return start, np.concatenate([lying + 1, standing + across])


def _sides_of(labels: NDArray[np.integer[Any]], label: int) -> NDArray[np.bool_]:
    """Return which of the sides that `_sides` returns are those of a label."""
    own = labels == label
    lying = (own[1:] | own[:-1])[labels[1:] != labels[:-1]]
    standing = (own[:, 1:] | own[:, :-1])[labels[:, 1:] != labels[:, :-1]]
    return np.concatenate([lying, standing])


def _following(start: Integers, end: Integers, junction: NDArray[np.bool_]) -> Integers:
    """Return which directed side follows each; itself where it ends at a junction.

    Directed side 2 i runs along side i from its start, 2 i + 1 from its end.
    """
    count = len(start)
    leaves = np.empty(2 * count, np.int64)
    leaves[0::2], leaves[1::2] = start, end
    arrives = leaves.reshape(-1, 2)[:, ::-1].ravel()
    # At a corner of degree two the directed sides that leave it come in pairs.
    passing = np.flatnonzero(~junction[leaves])
    pairs = passing[np.argsort(leaves[passing])].reshape(-1, 2)
    other = np.full(2 * count, -1, np.int64)
    other[pairs[:, 0]], other[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    every = np.arange(2 * count)
    return np.where(junction[arrives], every, other[every ^ 1])


def _loops(following: Integers, start: Integers) -> Integers:
    """Return one corner of each border that has no junction: the first in the raster's order.

    Where as many sides lead on as there are, hanging together, none of them is the last.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count = len(start)
    goes_on = following != np.arange(2 * count)
    ways = goes_on[0::2].astype(np.int32) + goes_on[1::2]  # in both directions
    rows = np.concatenate([[0], np.cumsum(ways)]).astype(np.int32)
    columns = (following[goes_on] // 2).astype(np.int32)
    links = csr_array((np.ones(len(columns), np.bool_), columns, rows), shape=(count, count))
    number, group = connected_components(links, directed=False)
    ends = np.bincount(group, 2 - ways, minlength=number)
    first = np.empty(number, np.int64)
    first[group[::-1]] = np.arange(count)[::-1]
    found: Integers = start[np.sort(first[ends == 0])]
    return found


def _ordered(following: Integers) -> tuple[Integers, Integers]:
    """Return the directed sides of all arcs in order, and the arc of each.

    By doubling each side learns where its arc ends and how far that is. Of the two directions of
    an arc the one that ends at the lower number is kept.
    """
    is_end = following == np.arange(len(following))
    ends, steps = following.copy(), (~is_end).astype(np.int64)
    going = np.flatnonzero(~is_end[ends])
    while len(going):
        further = ends[going]
        steps[going] += steps[further]
        ends[going] = ends[further]
        going = going[~is_end[ends[going]]]
    kept = np.flatnonzero(ends < ends[np.arange(len(ends)) ^ 1])
    order = kept[np.argsort(ends[kept] * len(following) - steps[kept])]
    return order, ends[order]


def _points(
    order: Integers,
    chain: Integers,
    start: Integers,
    end: Integers,
    across: int,
    smooth: NDArray[np.bool_],
) -> tuple[Points, Integers]:
    """Return the points of arcs, float64 [N,2], and the arc of each.

    An arc has the same two labels all along, so its sides are smooth together or not.
    """
    leaves = np.where(order % 2 == 0, start[order // 2], end[order // 2])
    arrives = np.where(order % 2 == 0, end[order // 2], start[order // 2])
    first = np.flatnonzero(np.r_[True, chain[1:] != chain[:-1]])
    last = np.r_[first[1:], len(chain)] - 1
    begin, finish = _at(leaves, across), _at(arrives, across)
    number = np.cumsum(np.r_[False, chain[1:] != chain[:-1]])
    within = ~smooth
    within[last] = False
    inner = np.concatenate([((begin + finish) / 2)[smooth], finish[within]])
    inner_number = np.concatenate([number[smooth], number[within]])
    count = len(first)
    points = np.concatenate([begin[first], inner, finish[last]])
    numbers = np.concatenate([np.arange(count), inner_number, np.arange(count)])
    place = np.concatenate([np.zeros(count), np.ones(len(inner)), np.full(count, 2)])
    sequence = np.lexsort((np.arange(len(points)), place, numbers))
    return points[sequence], numbers[sequence]


def _at(corners: Integers, across: int) -> Points:
    return np.column_stack([corners % across, corners // across]).astype(np.float64)


def _without_straight(points: Points, numbers: Integers) -> tuple[Points, Integers]:
    """Leave out points between two of the same line that lie straight before and behind."""
    before, behind = np.roll(points, 1, 0), np.roll(points, -1, 0)
    (x1, y1), (x2, y2) = (points - before).T, (behind - points).T
    inner = (np.roll(numbers, 1) == numbers) & (np.roll(numbers, -1) == numbers)
    straight = inner & (x1 * y2 == x2 * y1) & (x1 * x2 + y1 * y2 > 0)
    return points[~straight], numbers[~straight]


_BATCH = 1 << 20
"""Pixels that are side by side at most, unless one raster has more."""


def batches(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield which rasters, of so many pixels each, are put side by side, one after the other."""
    start = 0
    while start < len(sizes):
        stop, size = start + 1, sizes[start]
        while stop < len(sizes) and size + sizes[stop] <= _BATCH:
            size += sizes[stop]
            stop += 1
        yield slice(start, stop)
        start = stop


def side_by_side(
    rasters: Sequence[NDArray[np.integer[Any]]],
) -> tuple[NDArray[np.int32], list[tuple[int, int]]]:
    """Return one raster of labels out of several, so that they are traced at once.

    Args:
        rasters: Labels from 0, [H,W] each, with zeros at the border.

    Returns:
        The raster, int32, whose labels are each of one of them alone, but for 0; and the row and
        the column at which each begins. The labels of each are those of the one before it, and
        its own after them.
    """
    width = max(*(raster.shape[1] for raster in rasters), math.isqrt(sum(r.size for r in rasters)))
    corners, row, column, height = [], 0, 0, 0
    for raster in rasters:
        if column + raster.shape[1] > width:
            row, column, height = row + height, 0, 0
        corners.append((row, column))
        column += raster.shape[1]
        height = max(height, raster.shape[0])
    canvas = np.zeros((row + height, width), np.int32)
    count = 0
    for raster, (row, column) in zip(rasters, corners, strict=True):
        part = canvas[row : row + raster.shape[0], column : column + raster.shape[1]]
        np.copyto(part, raster + count, where=raster > 0)
        count += int(raster.max())
    return canvas, corners
