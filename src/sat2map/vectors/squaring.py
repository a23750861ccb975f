"""Outlines of buildings with right angles: cells between the lines of a block's walls.

    the sides of its pixels, in order          ~ walls: lines across the block
                                                 |        |   |
      ######                                   --+--------+---+--
      ##########                                 | 1    1 | 2 |
      ##########     -> where a wall runs ->   --+--------+---+--
      ######                                     | 1    1 | 0 |
                                               --+--------+---+--

and each cell of the grid that they make goes to the house that most of it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import Points, on_grid, side_by_side
from sat2map.vectors.blocks import Block, House, connected
from sat2map.vectors.tracing import faces_of, within_scene
from sat2map.vectors.walls import (
    KEPT_IOU,
    PLAINNESS,
    Floats,
    Lines,
    Matrix,
    Outline,
    notched_walls,
    rotated,
    snapped,
    step_of,
)

_FIRST = 0.02
"""The overlap that another direction than the first has to be better by."""

_HOPELESS = 0.8
"""What overlaps its pixels less than this does so by far less than a traced outline."""

_ASTRAY = 0.7
"""A block of several houses, one of which overlaps less than this, is not tried another way."""

_RAGGED = 2.5
"""Pixels by which a border is off a straight wall in its place, at most."""

_BESIDE = 1.6
"""Pixels beside such a wall within which there is no other."""

_MOVED = 0.5
"""Pixels by which walls are moved at most, for the sake of the area."""

_SAME = math.radians(0.5)
"""Main directions of a house that differ by less are tried once."""

_SEARCHED = 8
"""Up to so many lines it is faster to compare with each than to search among them."""


@dataclass(frozen=True)
class Ragged:
    """A house, as a model blurs it, that fits no outline with right angles well.

    Attributes:
        grids: Those that it fits best, each with where straight walls stand for borders in it.
        first: The main direction that was tried first, in radians.
    """

    grids: list[tuple[Grid, list[list[float]]]]
    first: float


def squared_grid(
    samples: Samples, outline: Outline, extent: tuple[int, int], shared: Sequence[Points] = ()
) -> Grid | Ragged | None:
    """Return the houses of a block with right angles; None where that costs too much of them.

    Args:
        samples: The block.
        outline: Its outline, whose directions are tried one by one.
        extent: Height and width of the scene.
        shared: The middles of the pixels' sides, on the ground, of each border with a house of
            another block that is to be a straight wall, float64 [N,2] each.

    Returns:
        Of a house that fits none well those it fits best, of which `ragged_grid` may take one.
    """
    tried: list[tuple[Grid, list[list[float]]]] = []
    for grid, least, parting in _grids(samples, outline, shared):
        if grid.holds(least, extent):
            return levelled(grid, samples, parting)
        tried.append((grid, parting))
    near = [(grid, parting) for grid, parting in tried if grid.iou >= _HOPELESS]
    if near and len(samples.block.numbers) == 1:  # houses of a row are tried one by one
        return Ragged(near, tried[0][0].angle)
    return None


def ragged_grid(ragged: Ragged, traced: list[House], extent: tuple[int, int]) -> Grid | None:
    """Return the best outline with right angles of a house that fits none well.

    It gets one where that costs it no more than a plain one may, against its traced outline.

    Args:
        ragged: The house.
        traced: The same, traced.
        extent: Height and width of the scene.
    """
    any_grid, _ = ragged.grids[0]
    # Not kept since `squared_grid`: of many houses at once they take much memory.
    samples = Samples(any_grid.block, any_grid.matrix)
    least = samples.iou(traced) - (1 - KEPT_IOU)
    # The first direction may be that of a whole row, which has common walls by it.
    order = sorted(
        ragged.grids, key=lambda one: -one[0].iou - _FIRST * (one[0].angle == ragged.first)
    )
    for grid, parting in order:
        if grid.holds(least, extent):
            return levelled(grid, samples, parting)
    return None


def _grids(
    samples: Samples, outline: Outline, shared: Sequence[Points]
) -> Iterator[tuple[Grid, float, list[list[float]]]]:
    """Yield grids of a block, from plain to such with corners, with the overlap that each needs.

    Last come the walls in it that stand for borders with other houses, by `_straight`.
    """
    straight: dict[float, list[list[float]]] = {}  # by direction
    for angle in outline.directions:
        if any(_between(angle, other) < _SAME for other in straight):
            continue  # it would give nearly the same walls
        straight[angle] = _straight(shared, angle, outline.step)
        walls = outline.walls(angle)
        before: Lines = []
        best = 0.0
        for apart, shortest, iou in PLAINNESS:
            lines = [
                snapped(
                    [w for w in kind if w.length >= shortest * outline.step], apart * outline.step
                )
                for kind in walls
            ]
            lines = _with(lines, straight[angle], outline.step)
            if min(map(len, lines)) < 2:
                continue
            if not (before and all(map(np.array_equal, lines, before))):
                grid, before = _grid(samples, angle, lines), lines
            if grid is not None:
                best = max(best, grid.iou)
                yield grid, iou - outline.stairs(angle), straight[angle]
        if best < _ASTRAY and len(samples.block.numbers) > 1:
            break  # another direction does not bring all of its houses so much farther
    if len(samples.block.numbers) == 1:
        for angle, parting in straight.items():
            inside = samples.labels == 1
            along, across = samples.rotated(angle)
            notched = notched_walls(along[inside], across[inside], samples.fine, outline.step)
            if notched is None:
                continue
            near = [
                [place for place in places if (np.abs(own - place) <= _BESIDE * outline.step).any()]
                for own, places in zip(notched, parting, strict=True)
            ]
            grid = _grid(samples, angle, _with(notched, near, outline.step))
            if grid is not None:
                yield grid, KEPT_IOU - outline.stairs(angle), parting


def _between(one: float, other: float) -> float:
    """Return the angle between two main directions: a quarter turn changes nothing."""
    turned = abs(one - other) % (math.pi / 2)
    return min(turned, math.pi / 2 - turned)


def levelled(grid: Grid, samples: Samples, stay: list[list[float]]) -> Grid:
    """Return houses with all outer walls moved alike, so that they have the area of their pixels.

    Where pixels' corners are round, walls alone would give more.

    Args:
        grid: The houses.
        samples: The same block.
        stay: Walls along the main direction, and across it, that are not moved.
    """
    inside = (grid.cells > 0).astype(np.float64)
    high, wide = (lines[1:] - lines[:-1] for lines in grid.lines)
    area = float(high @ inside[1:-1, 1:-1] @ wide)
    wanted = np.count_nonzero(samples.labels > 0) * samples.area
    # Of each line, the length of wall with a house behind it, less that with one before it.
    lengths = [
        (inside[1:, 1:-1] - inside[:-1, 1:-1]) @ wide,
        high @ (inside[1:-1, 1:] - inside[1:-1, :-1]),
    ]
    for length, lines, places in zip(lengths, grid.lines, stay, strict=True):
        for place in places:
            length[lines == place] = 0
    total = sum(float(np.abs(length).sum()) for length in lengths)
    if not total:
        return grid
    step = min(max((area - wanted) / total, -_MOVED * samples.step), _MOVED * samples.step)
    moved = [
        lines + step * np.sign(length) for lines, length in zip(grid.lines, lengths, strict=True)
    ]
    if any((lines[1:] <= lines[:-1]).any() for lines in moved):
        return grid
    return replace(grid, lines=moved)


def _straight(shared: Sequence[Points], angle: float, step: float) -> list[list[float]]:
    """Return where straight walls are along a direction, and across it, in place of borders."""
    places: list[list[float]] = [[], []]
    for middles in shared:
        along, across = rotated(middles, angle)
        kind = int(np.ptp(along) < np.ptp(across))
        offsets = (across, along)[kind]
        offset = float(offsets.mean())
        away = np.sort(np.abs(offsets - offset))
        if away[math.ceil(0.9 * (len(away) - 1))] <= _RAGGED * step:
            places[kind].append(offset)
    return places


def _with(lines: Lines, more: list[list[float]], step: float) -> Lines:
    """Return lines, in ascending order, with more of them in place of those that are near."""
    found = list(lines)
    for kind, places in enumerate(more):
        for place in places:
            far = found[kind][np.abs(found[kind] - place) > _BESIDE * step]
            found[kind] = np.sort(np.append(far, place))
    return found


class Samples:
    """Points all over a block, and what its pixels are there."""

    def __init__(self, block: Block, matrix: Matrix) -> None:
        height, width = block.labels.shape
        fine = 3 if block.labels.size < 20_000 else 1
        points = np.empty((height * fine, width * fine, 2))
        points[..., 0] = (np.arange(width * fine) + 0.5) / fine
        points[..., 1] = ((np.arange(height * fine) + 0.5) / fine)[:, None]
        points = points.reshape(-1, 2)
        self.block, self.matrix, self.fine = block, matrix, fine
        self.step = step_of(matrix)
        self.area = (self.step / fine) ** 2
        self.ground = np.asfortranarray(points @ matrix)  # each coordinate in one piece
        self.labels = np.repeat(np.repeat(block.labels, fine, 0), fine, 1).ravel()
        self.kinds = self.labels + np.intp(1)
        self._points = points
        self._rotated: dict[float, tuple[Floats, Floats]] = {}

    def rotated(self, angle: float) -> tuple[Floats, Floats]:
        """Return how far the points are along a direction, in radians, and across it."""
        if angle not in self._rotated:
            self._rotated = {angle: rotated(self.ground, angle)}
        return self._rotated[angle]

    def iou(self, houses: list[House]) -> float:
        """Return the lowest intersection over union of houses with their pixels."""
        found, corner = 1.0, np.array(self.block.corner[::-1])
        for number in range(1, len(self.block.numbers) + 1):
            outlines = np.array([h.outline for h in houses if h.first[2] == number], object)
            # Points may lie on an outline: beside the block's own corner they do wherever it lies.
            outlines = shapely.transform(outlines, lambda places: places - corner)
            shapely.prepare(outlines)
            inside = np.zeros(len(self.labels), np.bool_)
            for outline in outlines:
                inside |= shapely.contains_xy(outline, *self._points.T)
            own = self.labels == number
            found = min(found, (inside & own).sum() / max((inside | own).sum(), 1))
        return float(found)


@dataclass(frozen=True)
class Grid:
    """Houses of a block as cells between the lines of walls.

    Attributes:
        block: The block.
        matrix: Metres of steps in it.
        angle: The main direction in radians.
        lines: Where walls are across the main direction, and along it.
        cells: The house that each cell goes to, 0 none, [rows,columns]; one more than lines.
        iou: The lowest intersection over union of a house with its pixels.
    """

    block: Block
    matrix: Matrix
    angle: float
    lines: Lines
    cells: NDArray[np.int64]
    iou: float

    def holds(self, least: float, extent: tuple[int, int]) -> bool:
        """Return whether all houses have that overlap, and each is one polygon in the scene."""
        if self.iou < least:
            return False
        if not self._is_in_one_piece():
            return False
        return self._is_far_from(extent) or bool(houses_of([self], extent)[0])

    def _is_in_one_piece(self) -> bool:
        """Return whether each house is somewhere, and all of it hangs together."""
        from scipy import ndimage

        houses = len(self.block.numbers)
        if houses == 1:  # mostly it is a rectangle
            return bool((self.cells[1:-1, 1:-1] == 1).all()) or ndimage.label(self.cells)[1] == 1
        every = np.bincount(self.cells.ravel(), minlength=houses + 1).min() > 0
        return bool(every and connected(self.cells).max() == houses)

    def _is_far_from(self, extent: tuple[int, int]) -> bool:
        """Return whether no outline can reach out of the scene, however it is turned."""
        reach = max(self.block.labels.shape)
        return all(
            reach <= first <= length - 2 * reach
            for first, length in zip(self.block.corner, extent, strict=True)
        )

    def to_pixels(self, corners: Points) -> Points:
        """Return corners of cells, (column, row), in pixels of the scene."""
        offsets, places = self.lines
        columns, rows = corners.astype(int).T - 1
        u, v = places[columns], offsets[rows]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        ground = np.column_stack([u * cos - v * sin, u * sin + v * cos])
        pixels = ground @ np.linalg.inv(self.matrix)
        moved: Points = on_grid(pixels) + np.array(self.block.corner[::-1])
        return moved

    def bearing(self, face: Any) -> float:
        """Return where the long side of a house points, of a polygon of its cells."""
        offsets, places = self.lines
        left, top, right, bottom = (int(bound) - 1 for bound in face)
        long = places[right] - places[left] >= offsets[bottom] - offsets[top]
        return (90 - (math.degrees(self.angle) + (0 if long else 90))) % 180


def _grid(samples: Samples, angle: float, lines: Lines) -> Grid | None:
    """Return the cells between the lines of walls; None where they hold another block's pixels."""
    block = samples.block
    offsets, places = lines
    along, across = samples.rotated(angle)
    shape = (len(offsets) + 1, len(places) + 1)
    houses = len(block.numbers)
    kinds = houses + 2
    vote = _lines_before(offsets, across) * (shape[1] * kinds)
    vote += _lines_before(places, along) * kinds
    vote += samples.kinds
    votes = np.bincount(vote, minlength=shape[0] * shape[1] * kinds)
    votes = votes.reshape(-1, kinds)
    cells = votes[:, 1:].argmax(1).reshape(shape)
    cells[[0, -1]], cells[:, [0, -1]] = 0, 0
    shown = cells.ravel() > 0
    if votes[shown, 0].any():
        return None
    inside = np.bincount(
        cells.ravel(), votes[np.arange(len(votes)), cells.ravel() + 1], minlength=houses + 1
    )
    covered = np.bincount(cells.ravel(), votes.sum(1), minlength=houses + 1)
    pixels = votes.sum(0)[1:]
    iou = inside / np.maximum(pixels + covered - inside, 1)
    return Grid(block, samples.matrix, angle, lines, cells, float(iou[1:].min()))


def _lines_before(lines: Floats, values: Floats) -> NDArray[np.intp]:
    """Return how many of some lines, in ascending order, lie before each value."""
    if len(lines) > _SEARCHED:
        return np.searchsorted(lines, values)
    before = np.zeros(len(values), np.uint8)
    for line in lines.tolist():
        before += (values > line).view(np.uint8)
    return before.astype(np.intp)


def houses_of(grids: list[Grid], extent: tuple[int, int]) -> list[list[House]]:
    """Return the houses of each grid; none where what lies within the scene is no polygon."""
    if not grids:
        return []
    canvas, corners = side_by_side([grid.cells for grid in grids])
    faces = faces_of(canvas)  # one for each house of each grid
    shapes = np.array([face for face, _ in sorted(faces, key=lambda face: face[1])], object)
    grid_of = np.repeat(np.arange(len(grids)), [len(grid.block.numbers) for grid in grids])
    points, shape = shapely.get_coordinates(shapes, return_index=True)
    points -= np.array(corners)[grid_of[shape], ::-1]
    bounds = np.searchsorted(grid_of[shape], np.arange(len(grids) + 1))
    for grid, start, stop in zip(grids, bounds[:-1], bounds[1:], strict=True):
        points[start:stop] = grid.to_pixels(points[start:stop])
    boxes = (shapely.bounds(shapes) - np.tile(np.array(corners)[grid_of, ::-1], 2)).tolist()
    found: list[list[House]] = [[] for _ in grids]
    wrong: set[int] = set()
    outlines = shapely.set_coordinates(shapes, points)
    for outline, box, n in zip(outlines, boxes, grid_of.tolist(), strict=True):
        block, number = grids[n].block, len(found[n])
        cut = within_scene(outline, extent)
        if cut is None:
            wrong.add(n)
        first = (*block.first, number + 1)
        found[n].append(House(cut, block.numbers[number], "squared", grids[n].bearing(box), first))
    return [[] if n in wrong else houses for n, houses in enumerate(found)]
