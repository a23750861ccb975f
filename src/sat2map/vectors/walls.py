"""Where the walls of a block of buildings are: lines across it, along its main direction.

A wall is a run of pixels' sides that follow each other and point nearly the same way. Walls that
are hardly apart become one line; where a house is so small that its walls have no direction, the
corners that a rectangle around it lacks are looked for instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import Points, ordered_sides, side_by_side

KEPT_IOU = 0.92
"""A squared house has at least this intersection over union with its pixels, less what their stairs
alone cost. A plain one may also cost it so much against its traced outline."""

PLAINNESS = ((2.5, 4.0, 0.95), (1.8, 2.5, 0.94), (1.2, 1.6, KEPT_IOU))
"""From plain outlines to such with corners: walls that are no further apart are one, shorter ones
are left out, both in pixels; and the overlap with which a plain outline is taken."""

_CHORD = 3

_CORNERS = 2
"""So many corners of a rectangle may lack, as of an L, a T or a Z; what lacks more is round."""

_NOTCH, _NOTCH_SHARE = 1.0, 0.03
"""A corner that goes is outside by this many pixels at least, and by this share of the house."""

_NEARLY = math.cos(math.radians(30))

_BATCH = 1 << 20
"""Pixels whose sides are put in order at once."""

Floats = NDArray[np.float64]

Matrix = NDArray[np.float64]
"""Metres (east, north) of a step along a row and along a column, float64 [2,2]."""

Lines = list[NDArray[np.float64]]
"""Where walls along the main direction are across it, and those across it along it."""


def outlines_of(
    blocks: list[NDArray[np.int32]], matrices: list[Matrix]
) -> Iterator[tuple[int, Outline]]:
    """Yield the outline of each block, with its place in the list.

    Args:
        blocks: Houses from 1, 0 elsewhere, int32 [H,W] each, with nothing at the border.
        matrices: Metres of steps in each.
    """
    start = 0
    while start < len(blocks):
        stop, size = start, 0
        while stop < len(blocks) and (stop == start or size + blocks[stop].size <= _BATCH):
            size += blocks[stop].size
            stop += 1
        canvas, corners = side_by_side(blocks[start:stop])
        begin, finish, tangent = ordered_sides(canvas, _CHORD)
        block_of = np.zeros(canvas.shape, np.int32)
        for number, (row, column) in enumerate(corners):
            height, width = blocks[start + number].shape
            block_of[row : row + height, column : column + width] = number
        column, row = np.floor((begin + finish) / 2).astype(np.int64).T
        owner = block_of[row, column]
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(stop - start + 1))
        for number, (row, column) in enumerate(corners):
            own = order[bounds[number] : bounds[number + 1]]
            corner = np.array([column, row], np.float64)
            yield (
                start + number,
                Outline(
                    begin[own] - corner,
                    finish[own] - corner,
                    tangent[own],
                    int(np.count_nonzero(blocks[start + number])),
                    matrices[start + number],
                ),
            )
        start = stop


class Outline:
    """The sides of a block's pixels that are its outline, on the ground.

    Args:
        begin: Where each side begins, (column, row), float64 [N,2], in the order of the outline.
        finish: Where it ends.
        tangent: The outline's direction there.
        pixels: How many pixels the block has.
        matrix: Metres of a step along a row and along a column.

    Attributes:
        step: The side of a pixel in metres.
    """

    def __init__(
        self, begin: Points, finish: Points, tangent: Points, pixels: int, matrix: Matrix
    ) -> None:
        self.tangent = tangent @ matrix
        self.angles = np.arctan2(self.tangent[:, 1], self.tangent[:, 0])
        self.middles = (begin + finish) / 2 @ matrix
        joined = np.zeros(len(begin), np.bool_)
        joined[1:] = (begin[1:] == finish[:-1]).all(1)
        self._joined = np.tile(joined, 2)  # for both kinds of walls
        self.step = math.sqrt(abs(float(np.linalg.det(matrix))))
        self._pixels = pixels

    def stairs(self, angle: float) -> float:
        """Return the overlap that straight walls lose for no other reason than pixels' stairs.

        Walls that slant against the pixels are off them by an eighth of a pixel, more or less,
        on both sides; upright ones are not.
        """
        slant = min(1.0, 6 * abs(math.sin(2 * angle)))
        return slant * len(self.middles) / self._pixels / 8

    def directions(self) -> Iterator[float]:
        """Yield directions that may be the main one, in radians, the likeliest first."""
        lengths = np.hypot(*self.tangent.T)
        found = math.atan2(
            float((lengths * np.sin(4 * self.angles)).sum()),
            float((lengths * np.cos(4 * self.angles)).sum()),
        )
        yield self._refined(found / 4)
        hull = shapely.oriented_envelope(shapely.multipoints(self.middles))
        (x1, y1), (x2, y2) = shapely.get_coordinates(hull)[:2]
        yield self._refined(math.atan2(y2 - y1, x2 - x1))

    def _refined(self, angle: float) -> float:
        """Return a direction as the walls have it that were found with nearly this one."""
        walls = [wall for kind in self.walls(angle) for wall in kind]
        weight = sum(wall.weight for wall in walls)
        if not weight:
            return angle
        return angle + math.atan(sum(wall.slope * wall.weight for wall in walls) / weight)

    def walls(self, angle: float) -> list[list[Wall]]:
        """Return the walls along a main direction, and those across it."""
        along, across = rotated(self.middles, angle)
        angles = self.angles - angle
        # Both kinds at once: the first side of an outline goes on from none.
        straight = np.abs(np.concatenate([np.cos(angles), np.sin(angles)])) > _NEARLY
        goes_on = straight & self._joined
        goes_on[1:] &= straight[:-1]
        offset, place = np.concatenate([across, along])[straight], np.concatenate([along, across])
        starts = (straight & ~goes_on)[straight]
        first = np.flatnonzero(starts)
        if not len(first):
            return [[], []]
        kinds = np.count_nonzero(first < np.count_nonzero(straight[: len(angles)]))
        found = self._runs(offset, place[straight], np.cumsum(starts) - 1, first, int(kinds))
        return [found[:kinds], found[kinds:]]

    def _runs(
        self,
        offset: Floats,
        place: Floats,
        number: NDArray[np.int64],
        first: NDArray[np.int64],
        along: int,
    ) -> list[Wall]:
        """Return the runs of sides that point nearly along a direction, and where they are.

        Args:
            offset: How far the sides are across their wall,
            place: and along it.
            number: The run of each.
            first: The first side of each run.
            along: So many runs are along the main direction, the others across it.
        """
        count = np.bincount(number)
        mean, middle = (np.bincount(number, v) / count for v in (offset, place))
        spread = place - middle[number]
        weight = np.bincount(number, spread**2)
        slope = np.bincount(number, spread * (offset - mean[number])) / np.maximum(weight, 1e-12)
        slope[along:] *= -1
        length = np.maximum.reduceat(place, first) - np.minimum.reduceat(place, first) + self.step
        return list(map(Wall, mean.tolist(), length.tolist(), slope.tolist(), weight.tolist()))


class Wall(NamedTuple):
    """A wall: where it is, its length in metres, how it slants, and how much that counts."""

    offset: float
    length: float
    slope: float
    weight: float


def rotated(points: Points, angle: float) -> tuple[Floats, Floats]:
    """Return how far points are along a direction, in radians, and across it."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = points[:, 0], points[:, 1]
    return x * cos + y * sin, y * cos - x * sin


def snapped(walls: list[Wall], within: float) -> Floats:
    """Return where walls are, with those as one that are hardly apart."""
    lines: list[list[float]] = []  # sum of offsets, of lengths, and the last offset
    for wall in sorted(walls, key=lambda wall: wall.offset):
        if lines and wall.offset - lines[-1][0] / lines[-1][1] <= within:
            lines[-1][0] += wall.offset * wall.length
            lines[-1][1] += wall.length
        else:
            lines.append([wall.offset * wall.length, wall.length])
    return np.array([total / length for total, length in lines])


def notched_walls(along: Floats, across: Floats, fine: int, step: float) -> Lines | None:
    """Return where the walls are of a rectangle around a house that lacks some corners.

    Of each corner goes the rectangle that has most more of outside than of inside in it. So short
    walls are found that are too few pixels to have a direction.

    Args:
        along: How far points all over the house are along its main direction, in metres.
        across: How far across it.
        fine: Points to each side of a pixel.
        step: The side of a pixel in metres.
    """
    bin_size = step / 2
    places = [np.floor(axis / bin_size).astype(int) for axis in (across, along)]
    first = [int(place.min()) - 1 for place in places]
    shape = tuple(int(p.max()) - f + 2 for p, f in zip(places, first, strict=True))
    row, column = (p - f for p, f in zip(places, first, strict=True))
    inside = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)
    full = fine**2 / 4  # samples of a cell that is all inside
    bounds = [_bounds(inside.sum(1 - axis) / full) for axis in (0, 1)]
    if any(high - low < 2 for low, high in bounds):
        return None
    cut = tuple(slice(math.floor(low), math.ceil(high)) for low, high in bounds)
    outside = full - 2 * inside[cut]
    least = _NOTCH * max(4 * full, _NOTCH_SHARE * inside.sum())
    notches: list[tuple[float, list[float]]] = []
    for turn in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        sums = outside[:: turn[0], :: turn[1]].cumsum(0).cumsum(1)
        place = np.unravel_index(sums.argmax(), sums.shape)
        edges = [
            float(side.start + size + 1 if way > 0 else side.stop - size - 1)
            for side, size, way in zip(cut, place, turn, strict=True)
        ]
        if sums[place] >= least:
            notches.append((float(sums[place]), edges))
    notches = sorted(notches, key=lambda notch: -notch[0])[:_CORNERS]
    return [
        np.unique(np.array([low, high, *(edges[axis] for _, edges in notches)]) + first[axis])
        * bin_size
        for axis, (low, high) in enumerate(bounds)
    ]


def _bounds(profile: Floats) -> tuple[float, float]:
    """Return where a profile, in cells of half a pixel, begins and ends: at half of its height.

    Its height is that which it has two pixels farther in; what is shorter than a wall is none.
    """
    wall = 2 * PLAINNESS[0][1] / 2
    high = np.flatnonzero(profile >= wall)
    if not len(high):
        return 0.0, 0.0

    def edge(values: Floats, start: int) -> float:
        top = float(values[start : start + 4].max())
        at = start + int(np.argmax(values[start : start + 4] >= top / 2))
        before = float(values[at - 1]) if at > 0 else 0.0
        share = (top / 2 - before) / max(float(values[at]) - before, 1e-9)
        return at - 0.5 + min(max(share, 0.0), 1.0)

    low = edge(profile, int(high[0]))
    back = edge(profile[::-1], len(profile) - 1 - int(high[-1]))
    return low, len(profile) - back
