"""Outlines of buildings: squared block by block, so that row houses keep their common walls.

A block is all pixels of buildings that touch, over corners too. Its houses are the parts of one
class in it, split at their necks (`houses.py`). The walls of a block are found along its main
direction (`walls.py`):

    the sides of its pixels, in order          ~ walls: lines across the block
                                                 |        |   |
      ######                                   --+--------+---+--
      ##########                                 | 1    1 | 2 |
      ##########     -> where a wall runs ->   --+--------+---+--
      ######                                     | 1    1 | 0 |
                                               --+--------+---+--

and each cell of the grid that they make goes to the house that most of it belongs to. So outlines
have right angles, on the ground, and houses that touch share their walls exactly. Where that
costs a house too much of its overlap with its pixels, as of round ones, the block's outlines are
traced instead. Blocks never overlap each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import Points, side_by_side, trace_arcs
from sat2map.vectors.houses import LEAST_M2, split_houses
from sat2map.vectors.walls import (
    KEPT_IOU,
    PLAINNESS,
    Floats,
    Lines,
    Matrix,
    Outline,
    notched_walls,
    outlines_of,
    rotated,
    snapped,
)

Method = Literal["squared", "traced"]

PRECISION = 1 / 1024
"""Outlines and all they meet lie on a grid of this step, in pixels."""

LARGEST = 1024
"""Pixels along a side: a block that is larger is no building, and stays as it is in the map."""

_BESIDE = 3
"""Pixels around a block in which another's outline may overlap its own."""

_TRACED = 1.5
_FEW = 3
_SEARCHED = 8
"""Up to so many lines it is faster to compare with each than to search among them."""


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
class _Block:
    labels: NDArray[np.int32]  # 0 outside, from 1 houses, -1 other blocks; two pixels around
    numbers: tuple[int, ...]  # the classes of the houses
    corner: tuple[int, int]  # row and column of the upper left pixel of `labels` in the scene
    first: tuple[int, int]


def outline_buildings(
    numbers: NDArray[np.uint8],
    is_building: NDArray[np.bool_],
    corner: tuple[int, int],
    core: tuple[int, int, int, int],
    matrix_at: Callable[[int, int], Matrix],
    extent: tuple[int, int],
    sure: NDArray[np.float32] | None = None,
    complete: bool = True,
) -> tuple[list[House], NDArray[np.integer[Any]]] | None:
    """Return the outlines of all buildings that touch a part of a scene.

    Args:
        numbers: Class numbers, uint8 [H,W], of the part and of what is around it.
        is_building: Which classes are buildings, bool [256].
        corner: Row and column in the scene of the first pixel.
        core: Row and column in the scene of the part, its height and its width.
        matrix_at: Returns metres of steps around a row and a column of the scene.
        extent: Height and width of the scene, beyond which no building reaches.
        sure: How sure each class is, float32 [H,W], nan where unknown; None where nothing tells.
        complete: Whether nothing that is needed goes on beyond `numbers`.

    Returns:
        The houses, and the number of the block that each pixel is of, [H,W]; 0 none. None if it
        is not complete and a building may go on.
    """
    from scipy import ndimage

    mask = is_building[numbers]
    whole, _ = ndimage.label(mask, np.ones((3, 3)))
    top, left = core[0] - corner[0], core[1] - corner[1]
    inner = whole[top : top + core[2], left : left + core[3]]
    boxes = ndimage.find_objects(whole)
    touching = [int(n) for n in np.unique(inner) if n and _fits(boxes[n - 1])]
    wanted = dict.fromkeys(touching, True) | dict.fromkeys(
        _beside(whole, boxes, touching, (top, left, core[2], core[3])), False
    )
    if not complete and any(_nears_edge(boxes[n - 1], numbers.shape) for n in wanted):
        return None
    fours = _connected(np.where(mask, numbers + np.uint16(1), 0))
    cut = {n: _cut_out(numbers, (whole, fours), boxes[n - 1], n, corner, sure) for n in wanted}
    del fours  # four bytes a pixel
    blocks = dict(zip(cut, _blocks(list(cut.values()), matrix_at), strict=True))
    shapes = dict(zip(blocks, _outlined(list(blocks.values()), matrix_at, extent), strict=True))
    for n in _overlapping(shapes):
        shapes[n] = _traced(blocks[n], matrix_at(*blocks[n].first), 0.0, extent)
    chosen = np.zeros(len(boxes) + 1, whole.dtype)
    chosen[touching] = touching
    return [house for n in touching for house in shapes[n]], chosen[whole]


def _fits(box: tuple[slice, slice]) -> bool:
    return all(side.stop - side.start <= LARGEST for side in box)


def _nears_edge(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Return whether what lies beside a block, which counts as well, may lie out of reach."""
    return any(
        side.start <= _BESIDE or side.stop >= length - _BESIDE
        for side, length in zip(box, shape, strict=True)
    )


def _beside(
    whole: NDArray[Any],
    boxes: list[tuple[slice, slice]],
    touching: list[int],
    core: tuple[int, int, int, int],
) -> set[int]:
    """Return blocks near to those that reach out of the core, whose outlines may overlap theirs."""
    found: set[int] = set()
    top, left, height, width = core
    for n in touching:
        rows, columns = boxes[n - 1]
        if (
            rows.start - 2 < top
            or columns.start - 2 < left
            or rows.stop + 2 > top + height
            or columns.stop + 2 > left + width
        ):
            near = whole[
                max(rows.start - _BESIDE, 0) : rows.stop + _BESIDE,
                max(columns.start - _BESIDE, 0) : columns.stop + _BESIDE,
            ]
            found.update(int(m) for m in np.unique(near) if m and _fits(boxes[m - 1]))
    return found - set(touching)


@dataclass(frozen=True)
class _Cut:
    parts: NDArray[np.int32]  # as `_Block.labels`, but parts of one class in place of houses
    numbers: NDArray[np.int32]  # the classes of the same pixels
    sure: NDArray[np.float32] | None
    corner: tuple[int, int]
    first: tuple[int, int]


def _cut_out(
    numbers: NDArray[np.uint8],
    parts_of: tuple[NDArray[Any], NDArray[np.int32]],
    box: tuple[slice, slice],
    n: int,
    corner: tuple[int, int],
    sure: NDArray[np.float32] | None,
) -> _Cut:
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
    return _Cut(parts, near_numbers, near_sure, (corner[0] + top, corner[1] + left), first)


def _from_one(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return numbers as 1, 2, 3 in their own order."""
    if numbers.min() == numbers.max():
        return np.ones_like(numbers)
    return np.asarray(np.unique(numbers, return_inverse=True)[1] + 1, np.int32)


def _connected(labels: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Return which part of one label each pixel is of, int32 [H,W]; 0 where the label is 0."""
    values = labels[labels > 0]
    if len(values) and (values == values[0]).all():  # several times as fast
        from scipy import ndimage

        return np.asarray(ndimage.label(labels > 0)[0], np.int32)
    from skimage.measure import label

    return np.asarray(label(labels, background=0, connectivity=1), np.int32)  # type: ignore[no-untyped-call]


def _blocks(cut: list[_Cut], matrix_at: Callable[[int, int], Matrix]) -> list[_Block]:
    """Return blocks with their houses."""
    least = [LEAST_M2 / abs(float(np.linalg.det(matrix_at(*one.first)))) for one in cut]
    found = []
    for one, labels in zip(
        cut, split_houses([one.parts for one in cut], [one.sure for one in cut], least), strict=True
    ):
        houses, at = np.unique(labels, return_index=True)
        classes = tuple(int(v) for v in one.numbers.ravel()[at[houses > 0]])
        found.append(_Block(labels, classes, one.corner, one.first))
    return found


def _outlined(
    blocks: list[_Block], matrix_at: Callable[[int, int], Matrix], extent: tuple[int, int]
) -> list[list[House]]:
    """Return the houses of each block: with right angles, or traced where that costs too much."""
    matrices = [matrix_at(*block.first) for block in blocks]
    found: list[list[House]] = [[] for _ in blocks]
    squared: list[tuple[int, _Grid]] = []
    owns = [np.maximum(block.labels, 0) for block in blocks]
    for n, outline in outlines_of(owns, matrices):
        traced = partial(_traced, blocks[n], matrices[n], _TRACED, extent)
        grid = _squared(_Samples(blocks[n], matrices[n]), outline, extent, traced)
        if grid is None:
            found[n] = traced()
        else:
            squared.append((n, grid))
    for (n, _), houses in zip(
        squared, _houses_of([grid for _, grid in squared], extent), strict=True
    ):
        found[n] = houses
    return found


def _squared(
    samples: _Samples,
    outline: Outline,
    extent: tuple[int, int],
    traced: Callable[[], list[House]],
) -> _Grid | None:
    """Return the houses of a block with right angles; None where that costs too much of them."""
    angles: list[float] = []
    tried: list[_Grid] = []
    for angle in outline.directions():
        angles.append(angle)
        walls = outline.walls(angle)
        before: Lines = []
        for apart, shortest, iou in PLAINNESS:
            lines = [
                snapped(
                    [w for w in kind if w.length >= shortest * outline.step], apart * outline.step
                )
                for kind in walls
            ]
            if min(map(len, lines)) < 2:
                continue
            if not (before and all(map(np.array_equal, lines, before))):
                grid, before = _grid(samples, angle, lines), lines
            if grid is not None:
                if grid.holds(iou - outline.stairs(angle), extent):
                    return grid
                tried.append(grid)
    if len(samples.block.numbers) == 1:
        for angle in angles:
            own = samples.labels == 1
            along, across = samples.rotated(angle)
            notched = notched_walls(along[own], across[own], samples.fine, outline.step)
            grid = None if notched is None else _grid(samples, angle, notched)
            if grid is not None:
                if grid.holds(KEPT_IOU - outline.stairs(angle), extent):
                    return grid
                tried.append(grid)
    # A ragged house fits no outline well. It becomes a rectangle, or one with a corner, where that
    # costs it no more than that against its traced outline.
    plain = [grid for grid in tried if max(map(len, grid.lines)) <= _FEW]
    if plain:
        least = samples.iou(traced()) - (1 - KEPT_IOU)
        return next((grid for grid in plain if grid.holds(least, extent)), None)
    return None


class _Samples:
    """Points all over a block, and what its pixels are there."""

    def __init__(self, block: _Block, matrix: Matrix) -> None:
        height, width = block.labels.shape
        fine = 3 if block.labels.size < 20_000 else 1
        points = np.empty((height * fine, width * fine, 2))
        points[..., 0] = (np.arange(width * fine) + 0.5) / fine
        points[..., 1] = ((np.arange(height * fine) + 0.5) / fine)[:, None]
        points = points.reshape(-1, 2)
        self.block, self.matrix, self.fine = block, matrix, fine
        self.ground = points @ matrix
        self.labels = np.repeat(np.repeat(block.labels, fine, 0), fine, 1).ravel()
        self._places = points + np.array([block.corner[1], block.corner[0]])
        self._rotated: dict[float, tuple[Floats, Floats]] = {}

    def rotated(self, angle: float) -> tuple[Floats, Floats]:
        """Return how far the points are along a direction, in radians, and across it."""
        if angle not in self._rotated:
            self._rotated = {angle: rotated(self.ground, angle)}
        return self._rotated[angle]

    def iou(self, houses: list[House]) -> float:
        """Return the lowest intersection over union of houses with their pixels."""
        found = 1.0
        for number in range(1, len(self.block.numbers) + 1):
            outlines = np.array([h.outline for h in houses if h.first[2] == number], object)
            shapely.prepare(outlines)
            inside = np.zeros(len(self.labels), np.bool_)
            for outline in outlines:
                inside |= shapely.contains_xy(outline, *self._places.T)
            own = self.labels == number
            found = min(found, (inside & own).sum() / max((inside | own).sum(), 1))
        return float(found)


@dataclass(frozen=True)
class _Grid:
    """Houses of a block as cells between the lines of walls.

    Attributes:
        block: The block.
        matrix: Metres of steps in it.
        angle: The main direction in radians.
        lines: Where walls are across the main direction, and along it.
        cells: The house that each cell goes to, 0 none, [rows,columns]; one more than lines.
        iou: The lowest intersection over union of a house with its pixels.
    """

    block: _Block
    matrix: Matrix
    angle: float
    lines: Lines
    cells: NDArray[np.int64]
    iou: float

    def holds(self, least: float, extent: tuple[int, int]) -> bool:
        """Return whether all houses have that overlap, and each is one polygon in the scene."""
        if self.iou < least:
            return False
        houses = len(self.block.numbers)
        # Mostly it is a rectangle, which is one piece.
        if not (houses == 1 and (self.cells[1:-1, 1:-1] == 1).all()) and (
            _connected(self.cells).max() != houses
            or np.bincount(self.cells.ravel(), minlength=houses + 1).min() == 0
        ):
            return False  # a house is nowhere, or in two pieces
        return self._is_far_from(extent) or bool(_houses_of([self], extent)[0])

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
        rounded = np.round(pixels / PRECISION) * PRECISION
        moved: Points = rounded + np.array(self.block.corner[::-1])
        return moved

    def bearing(self, face: Any) -> float:
        """Return where the long side of a house points, of a polygon of its cells."""
        offsets, places = self.lines
        left, top, right, bottom = (int(bound) - 1 for bound in face)
        long = places[right] - places[left] >= offsets[bottom] - offsets[top]
        return (90 - (math.degrees(self.angle) + (0 if long else 90))) % 180


def _grid(samples: _Samples, angle: float, lines: Lines) -> _Grid | None:
    """Return the cells between the lines of walls; None where they hold another block's pixels."""
    block, labels = samples.block, samples.labels
    offsets, places = lines
    along, across = samples.rotated(angle)
    shape = (len(offsets) + 1, len(places) + 1)
    cell = _lines_before(offsets, across) * shape[1] + _lines_before(places, along)
    houses = len(block.numbers)
    kinds = houses + 2
    votes = np.bincount(cell * kinds + labels + 1, minlength=shape[0] * shape[1] * kinds)
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
    return _Grid(block, samples.matrix, angle, lines, cells, float(iou[1:].min()))


def _lines_before(lines: Floats, values: Floats) -> NDArray[np.integer[Any]]:
    """Return how many of some lines, in ascending order, lie before each value."""
    if len(lines) > _SEARCHED:
        return np.searchsorted(lines, values)
    before = np.zeros(len(values), np.int32)
    for line in lines.tolist():
        before += values > line
    return before


def _houses_of(grids: list[_Grid], extent: tuple[int, int]) -> list[list[House]]:
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
        cut = _within(outline, extent)
        if cut is None:
            wrong.add(n)
        first = (*block.first, number + 1)
        found[n].append(House(cut, block.numbers[number], "squared", grids[n].bearing(box), first))
    return [[] if n in wrong else houses for n, houses in enumerate(found)]


def faces_of(grid: NDArray[Any]) -> list[tuple[Any, int]]:
    """Return the polygons of a grid's labels other than 0, and their labels."""
    parts = shapely.get_parts(shapely.polygonize(trace_arcs(grid, smooth=False)))
    points = shapely.get_coordinates(shapely.point_on_surface(parts)).astype(int)
    numbers = grid[points[:, 1], points[:, 0]]
    return [(part, int(n)) for part, n in zip(parts, numbers, strict=True) if n > 0]


def _within(outline: Any, extent: tuple[int, int]) -> Any:
    """Return an outline cut to the scene; None where that leaves no polygon."""
    west, south, east, north = shapely.bounds(outline)
    if west >= 0 and south >= 0 and east <= extent[1] and north <= extent[0]:
        return outline
    cut = shapely.intersection(outline, shapely.box(0, 0, extent[1], extent[0]))
    if shapely.get_type_id(cut) != 3 or shapely.is_empty(cut):
        return None
    rounded = shapely.transform(cut, lambda points: np.round(points / PRECISION) * PRECISION)
    return rounded if shapely.is_valid(rounded) else None


def _traced(
    block: _Block, matrix: Matrix, tolerance: float, extent: tuple[int, int]
) -> list[House]:
    """Return the houses of a block as their pixels are, without stairs.

    Where it lies at the scene's edge, or beside another block, it keeps its pixels' outline.
    """
    labels = np.maximum(block.labels, 0)
    row, column = block.corner
    edge = (
        row + 2 <= 0
        or column + 2 <= 0
        or row + labels.shape[0] - 2 >= extent[0]
        or column + labels.shape[1] - 2 >= extent[1]
    )
    faces = faces_of(labels) if edge else _smooth_faces(labels)
    if tolerance and not edge and not (block.labels < 0).any():
        outlines = shapely.coverage_simplify([face for face, _ in faces], tolerance)
        outlines = shapely.transform(outlines, lambda p: np.round(p / PRECISION) * PRECISION)
        if shapely.is_valid(outlines).all() and (shapely.get_type_id(outlines) == 3).all():
            faces = [(shape, n) for shape, (_, n) in zip(outlines, faces, strict=True)]
    placed, corner = [], np.array([column, row])
    for face, number in sorted(faces, key=lambda item: item[1]):
        shape = shapely.transform(face, lambda points: points + corner)
        first = (*block.first, number)
        bearing = _bearing(face, matrix)
        placed.append(House(shape, block.numbers[number - 1], "traced", bearing, first))
    return placed


def _smooth_faces(labels: NDArray[Any]) -> list[tuple[Any, int]]:
    """Return the polygons of labels other than 0 along smooth arcs, and their labels."""
    parts = shapely.get_parts(shapely.polygonize(trace_arcs(labels)))
    numbers = labels_of(parts, labels)
    return [(part, int(n)) for part, n in zip(parts, numbers, strict=True) if n > 0]


def labels_of(
    polygons: NDArray[np.object_], labels: NDArray[np.integer[Any]]
) -> NDArray[np.integer[Any]]:
    """Return which label each polygon between smooth arcs is of.

    Beside the middle of a pixel's side that its outline goes through lie two pixels of different
    labels, of which one is inside. An outline without such a middle is that of its pixels.

    Args:
        polygons: In pixels from the upper left corner of `labels`, object [N].
        labels: [H,W].
    """
    surface = shapely.get_coordinates(shapely.point_on_surface(polygons))
    inside = surface.copy()
    points, number = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    half = points % 1 == 0.5
    middle = np.flatnonzero(half.any(1))
    # One of the first row or column has no pixel beyond; none of them is on the raster's edge.
    which, at = np.unique(number[middle], return_index=True)
    place = points[middle[at]]
    normal = np.where(half[middle[at]][:, :1], (0.0, 0.25), (0.25, 0.0))
    shapely.prepare(polygons)
    one = shapely.contains_xy(polygons[which], *(place + normal).T)
    inside[which] = np.where(one[:, None], place + normal, place - normal)
    columns, rows = np.floor(inside).astype(int).T
    rows = np.clip(rows, 0, labels.shape[0] - 1)
    columns = np.clip(columns, 0, labels.shape[1] - 1)
    found: NDArray[np.integer[Any]] = labels[rows, columns]
    return found


def _bearing(outline: Any, matrix: Matrix) -> float:
    """Return where the long side of the smallest rectangle around an outline points."""
    ground = shapely.transform(outline, lambda points: points @ matrix)
    corners = shapely.get_coordinates(shapely.oriented_envelope(ground))
    sides = np.diff(corners[:3], axis=0)
    if len(sides) < 2:
        return 0.0
    east, north = sides[np.hypot(*sides.T).argmax()]
    return math.degrees(math.atan2(east, north)) % 180


def _overlapping(shapes: dict[int, list[House]]) -> list[int]:
    """Return the blocks whose houses overlap those of another block."""
    numbers = np.array([n for n, houses in shapes.items() for _ in houses])
    outlines = np.array([h.outline for houses in shapes.values() for h in houses], object)
    if not len(outlines):
        return []
    tree = shapely.STRtree(outlines)
    one, other = tree.query(outlines, predicate="intersects")
    apart = numbers[one] != numbers[other]
    one, other = one[apart], other[apart]
    shared = ~shapely.touches(outlines[one], outlines[other])
    return sorted({int(n) for n in numbers[one[shared]]})
