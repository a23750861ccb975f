"""Where the walls of a block of buildings are: lines across it, along its main direction.

A wall is a run of pixels' sides that follow each other and point nearly the same way. Walls that
are hardly apart become one line; where a house is so small that its walls have no direction, the
corners that a rectangle around it lacks are looked for instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import Points, batches, ordered_sides, side_by_side

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

Floats = NDArray[np.float64]

Matrix = NDArray[np.float64]
"""Metres (east, north) of a step along a row and along a column, float64 [2,2]."""

Lines = list[NDArray[np.float64]]
"""Where walls along the main direction are across it, and those across it along it."""


def outlines_of(
    blocks: list[NDArray[np.int32]], matrices: list[Matrix], first: Sequence[float] | None = None
) -> Iterator[tuple[int, Outline]]:
    """Yield the outline of each block, with its place in the list.

    Args:
        blocks: Houses from 1, 0 elsewhere, int32 [H,W] each, with nothing at the border.
        matrices: Metres of steps in each.
        first: A main direction of each that is tried before its own, in radians.
    """
    for batch in batches([block.size for block in blocks]):
        outlines = _Outlines(blocks[batch], matrices[batch])
        one, other = outlines.directions()
        tried = [one, other] if first is None else [np.array(first[batch]), one, other]
        walls = [outlines.walls(angles) for angles in tried]
        pixels = [int(np.count_nonzero(block)) for block in blocks[batch]]
        for number, angles in enumerate(np.column_stack(tried).tolist()):
            found = [each.of_block(number) for each in walls]
            sides = int(outlines.sizes[number])
            step = float(outlines.steps[number])
            yield batch.start + number, Outline(sides, pixels[number], step, angles, found)


class Outline:
    """The outline of a block on the ground: the main directions it may have, and walls by them.

    Args:
        sides: How many sides of pixels it consists of.
        pixels: How many pixels the block has.
        step: The side of a pixel in metres.
        directions: What may be the main direction, in radians, the likeliest first.
        walls: Of each the walls along it, and those across it.

    Attributes:
        directions: As above.
        step: As above.
    """

    def __init__(
        self,
        sides: int,
        pixels: int,
        step: float,
        directions: list[float],
        walls: list[list[list[Wall]]],
    ) -> None:
        self.directions, self.step = directions, step
        self._walls = dict(zip(directions, walls, strict=True))
        self._sides, self._pixels = sides, pixels

    def walls(self, angle: float) -> list[list[Wall]]:
        """Return the walls along one of its directions, and those across it."""
        return self._walls[angle]

    def stairs(self, angle: float) -> float:
        """Return the overlap that straight walls lose for no other reason than pixels' stairs.

        Walls that slant against the pixels are off them by an eighth of a pixel, more or less,
        on both sides; upright ones are not.
        """
        slant = min(1.0, 6 * abs(math.sin(2 * angle)))
        return slant * self._sides / self._pixels / 8


class _Outlines:
    """The sides of pixels that are the outlines of blocks, on the ground, block by block.

    Args:
        blocks: As of `outlines_of`.
        matrices: As of `outlines_of`.

    Attributes:
        sizes: How many sides each block has, int64 [blocks].
        steps: The side of a pixel of each in metres, float64 [blocks].
    """

    def __init__(self, blocks: list[NDArray[np.int32]], matrices: list[Matrix]) -> None:
        canvas, corners = side_by_side(blocks)
        begin, finish, tangent = ordered_sides(canvas, _CHORD)
        block_of = np.zeros(canvas.shape, np.int32)
        for number, (row, column) in enumerate(corners):
            height, width = blocks[number].shape
            block_of[row : row + height, column : column + width] = number
        column, row = np.floor((begin + finish) / 2).astype(np.int64).T
        owner = block_of[row, column]
        order = np.argsort(owner, kind="stable")
        owner, begin, finish = owner[order], begin[order], finish[order]
        corner = np.array(corners, np.float64)[owner, ::-1]
        self.steps = np.array([step_of(matrix) for matrix in matrices])
        self.sizes = np.bincount(owner, minlength=len(blocks))
        self._owner = owner
        self._bounds = np.concatenate([[0], np.cumsum(self.sizes)]).tolist()
        self._tangent = self._on_ground(tangent[order], matrices)
        self._angles = np.arctan2(self._tangent[:, 1], self._tangent[:, 0])
        self._middles = self._on_ground((begin - corner + finish - corner) / 2, matrices)
        joined = np.zeros(len(begin), np.bool_)
        joined[1:] = (begin[1:] == finish[:-1]).all(1) & (owner[1:] == owner[:-1])
        self._joined = np.tile(joined, 2)  # for both kinds of walls

    def _on_ground(self, points: Points, matrices: list[Matrix]) -> Points:
        """Return a point of each side in metres, float64 [N,2]."""
        parts = zip(pairwise(self._bounds), matrices, strict=True)
        return np.concatenate([points[start:stop] @ matrix for (start, stop), matrix in parts])

    def directions(self) -> tuple[Floats, Floats]:
        """Return two directions that may be the main one of each block, in radians.

        The likelier is that of most of its sides, the other that of the smallest rectangle around.
        """
        lengths = np.hypot(*self._tangent.T)
        down, along = lengths * np.sin(4 * self._angles), lengths * np.cos(4 * self._angles)
        likely = [
            math.atan2(float(down[start:stop].sum()), float(along[start:stop].sum())) / 4
            for start, stop in pairwise(self._bounds)
        ]
        hulls = shapely.oriented_envelope(shapely.linestrings(self._middles, indices=self._owner))
        points, hull = shapely.get_coordinates(hulls, return_index=True)
        first = np.searchsorted(hull, np.arange(len(self.sizes)))
        sides = (points[first + 1] - points[first]).tolist()
        around = [math.atan2(y, x) for x, y in sides]
        return self._refined(np.array(likely)), self._refined(np.array(around))

    def _refined(self, angles: Floats) -> Floats:
        """Return directions as the walls have them that were found with nearly these."""
        walls = self.walls(angles)
        count = len(angles)
        weight = np.bincount(walls.block, walls.weight, minlength=count)
        slope = np.bincount(walls.block, walls.slope * walls.weight, minlength=count)
        slants = np.divide(slope, weight, out=np.zeros(count), where=weight > 0)
        return angles + [math.atan(slant) for slant in slants.tolist()]

    def walls(self, angles: Floats) -> _Walls:
        """Return the walls of all blocks along a main direction of each, and those across it."""
        cos = np.array([math.cos(angle) for angle in angles.tolist()])[self._owner]
        sin = np.array([math.sin(angle) for angle in angles.tolist()])[self._owner]
        x, y = self._middles.T
        along, across = x * cos + y * sin, y * cos - x * sin
        turned = self._angles - angles[self._owner]
        # Both kinds at once: the first side of an outline goes on from none.
        straight = np.abs(np.concatenate([np.cos(turned), np.sin(turned)])) > _NEARLY
        goes_on = straight & self._joined
        goes_on[1:] &= straight[:-1]
        starts = np.flatnonzero((straight & ~goes_on)[straight])
        owner = np.tile(self._owner, 2)[straight][starts]
        offset = np.concatenate([across, along])[straight]
        place = np.concatenate([along, across])[straight]
        kinds = int(np.searchsorted(starts, np.count_nonzero(straight[: len(x)])))
        return self._runs(offset, place, starts, owner, kinds)

    def _runs(
        self,
        offset: Floats,
        place: Floats,
        first: NDArray[np.int64],
        owner: NDArray[np.int32],
        along: int,
    ) -> _Walls:
        """Return the runs of sides that point nearly along a direction, and where they are.

        Args:
            offset: How far the sides are across their wall,
            place: and along it.
            first: The first side of each run.
            owner: The block of each run.
            along: So many runs are along the main direction, the others across it.
        """
        if not len(first):
            none = np.empty(0)
            return _Walls(owner, along, none, none, none, none)
        count = np.diff(first, append=len(place))
        number = np.repeat(np.arange(len(first)), count)
        mean, middle = (np.bincount(number, v) / count for v in (offset, place))
        spread = place - middle[number]
        weight = np.bincount(number, spread**2).astype(np.float64)
        slope = np.bincount(number, spread * (offset - mean[number])) / np.maximum(weight, 1e-12)
        slope[along:] *= -1
        length = np.maximum.reduceat(place, first) - np.minimum.reduceat(place, first)
        return _Walls(owner, along, mean, length + self.steps[owner], slope, weight)


class _Walls:
    """The walls of many blocks: first those along their main directions, then those across.

    Args:
        block: The block of each, ascending in both kinds, int32 [N].
        along: How many are along.
        offset: What `Wall` has of each, float64 [N], as what follows.
        length: As above.
        slope: As above.
        weight: As above.
    """

    def __init__(
        self,
        block: NDArray[np.int32],
        along: int,
        offset: Floats,
        length: Floats,
        slope: Floats,
        weight: Floats,
    ) -> None:
        self.block, self.slope, self.weight = block, slope, weight
        self._along = along
        self._walls = [values.tolist() for values in (offset, length, slope, weight)]

    def of_block(self, number: int) -> list[list[Wall]]:
        """Return the walls of a block along its main direction, and those across it."""
        found = []
        for first, kind in (
            (0, self.block[: self._along]),
            (self._along, self.block[self._along :]),
        ):
            start, stop = (first + np.searchsorted(kind, (number, number + 1))).tolist()
            found.append(list(map(Wall, *(values[start:stop] for values in self._walls))))
        return found


class Wall(NamedTuple):
    """A wall: where it is, its length in metres, how it slants, and how much that counts."""

    offset: float
    length: float
    slope: float
    weight: float


def step_of(matrix: Matrix) -> float:
    """Return the side of a pixel in metres, of one that is not square that of the same area."""
    return math.sqrt(abs(float(np.linalg.det(matrix))))


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
        place = divmod(int(sums.argmax()), sums.shape[1])
        edges = [
            float(side.start + size + 1 if way > 0 else side.stop - size - 1)
            for side, size, way in zip(cut, place, turn, strict=True)
        ]
        if sums[place] >= least:
            notches.append((float(sums[place]), edges))
    notches = sorted(notches, key=lambda notch: -notch[0])[:_CORNERS]
    edges_of = [[edges[axis] for _, edges in notches] for axis in (0, 1)]
    return [
        np.array(sorted({place + first[axis] for place in (low, high, *each)})) * bin_size
        for axis, ((low, high), each) in enumerate(zip(bounds, edges_of, strict=True))
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
