"""Outlines of buildings: squared block by block, so that row houses keep their common walls.

A block is all pixels of buildings that touch, over corners too. Its houses are the parts of one
class in it, split at their necks (`houses.py`). The walls of a block are found along its main
direction:

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import Points, ordered_sides, trace_arcs
from sat2map.vectors.houses import LEAST_M2, split_houses

Method = Literal["squared", "traced"]

PRECISION = 1 / 1024
"""Outlines and all they meet lie on a grid of this step, in pixels."""

KEPT_IOU = 0.92
"""A squared house has at least this intersection over union with its pixels, less what their stairs
alone cost. A plain one may also cost it so much against its traced outline."""

LARGEST = 1024
"""Pixels along a side: a block that is larger is no building, and stays as it is in the map."""

_CHORD = 3
_PLAINNESS = ((2.5, 4.0, 0.95), (1.8, 2.5, 0.94), (1.2, 1.6, KEPT_IOU))
"""From plain outlines to such with corners: walls that are no further apart are one, shorter ones
are left out, both in pixels; and the overlap with which a plain outline is taken."""

_CORNERS = 2
"""So many corners of a rectangle may lack, as of an L, a T or a Z; what lacks more is round."""

_NOTCH, _NOTCH_SHARE = 1.0, 0.03
"""A corner that goes is outside by this many pixels at least, and by this share of the house."""

_TRACED = 1.5
_FEW = 3
_NEARLY = math.cos(math.radians(30))

Matrix = NDArray[np.float64]
"""Metres (east, north) of a step along a row and along a column, float64 [2,2]."""


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
) -> tuple[list[House], NDArray[np.integer[Any]]]:
    """Return the outlines of all buildings that touch a part of a scene.

    Args:
        numbers: Class numbers, uint8 [H,W], of the part and `LARGEST` pixels around it.
        is_building: Which classes are buildings, bool [256].
        corner: Row and column in the scene of the first pixel.
        core: Row and column in the scene of the part, its height and its width.
        matrix_at: Returns metres of steps around a row and a column of the scene.
        extent: Height and width of the scene, beyond which no building reaches.
        sure: How sure each class is, float32 [H,W], nan where unknown; None where nothing tells.

    Returns:
        The houses, and the number of the block that each pixel is of, [H,W]; 0 none.
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
    blocks = {n: _block(numbers, whole, boxes[n - 1], n, corner, matrix_at, sure) for n in wanted}
    shapes: dict[int, list[House]] = {}
    for n, block in blocks.items():
        matrix = matrix_at(*block.first)
        traced = _traced(block, matrix, _TRACED, extent)
        shapes[n] = _squared(block, matrix, extent, traced) or traced
    for n in _overlapping(shapes):
        shapes[n] = _traced(blocks[n], matrix_at(*blocks[n].first), 0.0, extent)
    chosen = np.zeros(len(boxes) + 1, whole.dtype)
    chosen[touching] = touching
    return [house for n in touching for house in shapes[n]], chosen[whole]


def _fits(box: tuple[slice, slice]) -> bool:
    return all(side.stop - side.start <= LARGEST for side in box)


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
                max(rows.start - 3, 0) : rows.stop + 3, max(columns.start - 3, 0) : columns.stop + 3
            ]
            found.update(int(m) for m in np.unique(near) if m and _fits(boxes[m - 1]))
    return found - set(touching)


def _block(
    numbers: NDArray[np.uint8],
    whole: NDArray[Any],
    box: tuple[slice, slice],
    n: int,
    corner: tuple[int, int],
    matrix_at: Callable[[int, int], Matrix],
    sure: NDArray[np.float32] | None,
) -> _Block:
    from skimage.measure import label

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
    parts = np.where(own, near_numbers + 1, 0)
    found = label(parts, background=0, connectivity=1)  # type: ignore[no-untyped-call]
    column = int(np.flatnonzero(own[2])[0])
    first = (corner[0] + rows.start, corner[1] + left + column)
    pixel_m2 = abs(float(np.linalg.det(matrix_at(*first))))
    labels = split_houses(np.asarray(found, np.int32), near_sure, LEAST_M2 / pixel_m2)
    houses, at = np.unique(labels, return_index=True)
    classes = tuple(int(v) for v in near_numbers.ravel()[at[houses > 0]])
    labels[(near > 0) & ~own] = -1
    return _Block(labels, classes, (corner[0] + top, corner[1] + left), first)


def _squared(
    block: _Block, matrix: Matrix, extent: tuple[int, int], traced: list[House]
) -> list[House] | None:
    """Return the houses of a block with right angles; None where that costs too much of them."""
    sides = _Sides(np.maximum(block.labels, 0), matrix)
    samples = _Samples(block, matrix)
    tried = []
    for angle in sides.directions():
        along, across = _rotated(sides.middles, angle)
        walls = [sides.walls(along, across, angle, kind) for kind in (0, 1)]
        for apart, shortest, iou in _PLAINNESS:
            lines = [
                _snapped([w for w in kind if w.length >= shortest * sides.step], apart * sides.step)
                for kind in walls
            ]
            if min(map(len, lines)) < 2:
                continue
            houses = _from_grid(samples, angle, lines, iou - sides.stairs(angle), extent)
            if houses is not None:
                return houses
            tried.append((angle, lines))
    if len(block.numbers) == 1:
        for angle in sides.directions():
            notched = _notched(samples, angle, sides.step)
            if notched is None:
                continue
            houses = _from_grid(samples, angle, notched, KEPT_IOU - sides.stairs(angle), extent)
            if houses is not None:
                return houses
            tried.append((angle, notched))
    # A ragged house fits no outline well. It becomes a rectangle, or one with a corner, where that
    # costs it no more than that against its traced outline.
    plain = [(angle, lines) for angle, lines in tried if max(map(len, lines)) <= _FEW]
    if plain:
        least = samples.iou(traced) - (1 - KEPT_IOU)
        for angle, lines in plain:
            houses = _from_grid(samples, angle, lines, least, extent)
            if houses is not None:
                return houses
    return None


class _Sides:
    """The sides of a block's pixels that are its outlines, on the ground."""

    def __init__(self, labels: NDArray[np.int32], matrix: Matrix) -> None:
        begin, finish, tangent = ordered_sides(labels, _CHORD)
        self.tangent = tangent @ matrix
        self.angles = np.arctan2(self.tangent[:, 1], self.tangent[:, 0])
        self.middles = (begin + finish) / 2 @ matrix
        self.joined = np.r_[False, (begin[1:] == finish[:-1]).all(1)]
        self.step = math.sqrt(abs(float(np.linalg.det(matrix))))
        self._pixels = int((labels > 0).sum())

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
        along, across = _rotated(self.middles, angle)
        walls = [wall for kind in (0, 1) for wall in self.walls(along, across, angle, kind)]
        weight = sum(wall.weight for wall in walls)
        if not weight:
            return angle
        return angle + math.atan(sum(wall.slope * wall.weight for wall in walls) / weight)

    def walls(self, along: Points, across: Points, angle: float, kind: int) -> list[_Wall]:
        """Return the walls along the main direction (kind 0), or across it (kind 1).

        A wall is a run of sides that follow each other and point nearly along it.
        """
        angles = self.angles - angle
        bearing = np.abs(np.cos(angles) if kind == 0 else np.sin(angles))
        straight = bearing > _NEARLY
        starts = straight & ~(np.r_[False, straight[:-1]] & self.joined)
        number = np.cumsum(starts)[straight] - 1
        if not len(number):
            return []
        offset, place = (across, along) if kind == 0 else (along, across)
        offset, place = offset[straight], place[straight]
        count = np.bincount(number)
        mean, middle = (np.bincount(number, v) / count for v in (offset, place))
        spread = place - middle[number]
        weight = np.bincount(number, spread**2)
        slope = np.bincount(number, spread * (offset - mean[number])) / np.maximum(weight, 1e-12)
        first = np.full(len(count), np.inf)
        last = np.full(len(count), -np.inf)
        np.minimum.at(first, number, place)
        np.maximum.at(last, number, place)
        sign = 1 if kind == 0 else -1
        length = last - first + self.step
        return list(map(_Wall, mean.tolist(), length.tolist(), (sign * slope).tolist(),
                        weight.tolist()))  # fmt: skip


@dataclass(frozen=True)
class _Wall:
    offset: float
    length: float
    slope: float
    weight: float


def _rotated(points: Points, angle: float) -> tuple[Points, Points]:
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = points[:, 0], points[:, 1]
    return x * cos + y * sin, y * cos - x * sin


def _snapped(walls: list[_Wall], within: float) -> NDArray[np.float64]:
    """Return where walls are, with those as one that are hardly apart."""
    lines: list[list[float]] = []  # sum of offsets, of lengths, and the last offset
    for wall in sorted(walls, key=lambda wall: wall.offset):
        if lines and wall.offset - lines[-1][0] / lines[-1][1] <= within:
            lines[-1][0] += wall.offset * wall.length
            lines[-1][1] += wall.length
        else:
            lines.append([wall.offset * wall.length, wall.length])
    return np.array([total / length for total, length in lines])


class _Samples:
    """Points all over a block, and what its pixels are there."""

    def __init__(self, block: _Block, matrix: Matrix) -> None:
        height, width = block.labels.shape
        fine = 3 if block.labels.size < 20_000 else 1
        rows, columns = np.mgrid[0 : height * fine, 0 : width * fine].reshape(2, -1)
        points = (np.column_stack([columns, rows]) + 0.5) / fine
        self.block, self.matrix, self.fine = block, matrix, fine
        self.ground = points @ matrix
        self.labels = np.repeat(np.repeat(block.labels, fine, 0), fine, 1).ravel()
        self._places = points + np.array([block.corner[1], block.corner[0]])

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


def _notched(samples: _Samples, angle: float, step: float) -> list[NDArray[np.float64]] | None:
    """Return where the walls are of a rectangle around a house that lacks some corners.

    Of each corner goes the rectangle that has most more of outside than of inside in it. So short
    walls are found that are too few pixels to have a direction.

    Args:
        samples: A block of one house.
        angle: Its main direction.
        step: The side of a pixel on the ground.
    """
    along, across = _rotated(samples.ground, angle)
    own = samples.labels == 1
    bin_size = step / 2
    places = [np.floor(axis / bin_size).astype(int) for axis in (across, along)]
    first = [int(place[own].min()) - 1 for place in places]
    shape = tuple(int(p[own].max()) - f + 2 for p, f in zip(places, first, strict=True))
    row, column = (p[own] - f for p, f in zip(places, first, strict=True))
    inside = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)
    full = samples.fine**2 / 4  # samples of a cell that is all inside
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


def _bounds(profile: NDArray[np.float64]) -> tuple[float, float]:
    """Return where a profile, in cells of half a pixel, begins and ends: at half of its height.

    Its height is that which it has two pixels farther in; what is shorter than a wall is none.
    """
    wall = 2 * _PLAINNESS[0][1] / 2
    high = np.flatnonzero(profile >= wall)
    if not len(high):
        return 0.0, 0.0

    def edge(values: NDArray[np.float64], start: int) -> float:
        top = float(values[start : start + 4].max())
        at = start + int(np.argmax(values[start : start + 4] >= top / 2))
        before = float(values[at - 1]) if at > 0 else 0.0
        share = (top / 2 - before) / max(float(values[at]) - before, 1e-9)
        return at - 0.5 + min(max(share, 0.0), 1.0)

    low = edge(profile, int(high[0]))
    back = edge(profile[::-1], len(profile) - 1 - int(high[-1]))
    return low, len(profile) - back


def _from_grid(
    samples: _Samples,
    angle: float,
    lines: list[NDArray[np.float64]],
    least: float,
    extent: tuple[int, int],
) -> list[House] | None:
    """Return houses made of the cells between the lines of walls; None where they fit badly."""
    block, matrix, labels = samples.block, samples.matrix, samples.labels
    offsets, places = lines  # across the main direction, and along it
    along, across = _rotated(samples.ground, angle)
    shape = (len(offsets) + 1, len(places) + 1)
    cell = np.searchsorted(offsets, across) * shape[1] + np.searchsorted(places, along)
    houses = len(block.numbers)
    kinds = houses + 2
    votes = np.bincount(cell * kinds + labels + 1, minlength=shape[0] * shape[1] * kinds)
    votes = votes.reshape(-1, kinds)
    grid = votes[:, 1:].argmax(1).reshape(shape)
    grid[[0, -1]], grid[:, [0, -1]] = 0, 0
    shown = grid.ravel() > 0
    if votes[shown, 0].any():
        return None  # another block's pixels
    inside = np.zeros(houses + 1)
    np.add.at(inside, grid.ravel(), votes[np.arange(len(votes)), grid.ravel() + 1])
    covered = np.bincount(grid.ravel(), votes.sum(1), minlength=houses + 1)
    pixels = votes.sum(0)[1:]
    iou = inside / np.maximum(pixels + covered - inside, 1)
    if (iou[1:] < least).any():
        return None
    faces = _faces(grid)
    if len(faces) != houses or {number for _, number in faces} != set(range(1, houses + 1)):
        return None
    inverse = np.linalg.inv(matrix)
    us, vs = np.r_[0, places, 0], np.r_[0, offsets, 0]
    cos, sin = math.cos(angle), math.sin(angle)

    def to_pixels(corners: Points) -> Points:
        u, v = us[corners[:, 0].astype(int)], vs[corners[:, 1].astype(int)]
        pixels = np.column_stack([u * cos - v * sin, u * sin + v * cos]) @ inverse
        pixels += (block.corner[1], block.corner[0])
        rounded: Points = np.round(pixels / PRECISION) * PRECISION
        return rounded

    found = []
    for face, number in sorted(faces, key=lambda item: item[1]):
        box = shapely.bounds(face).astype(int)
        long = us[box[2]] - us[box[0]] >= vs[box[3]] - vs[box[1]]
        bearing = math.degrees(angle) + (0 if long else 90)
        outline = _within(shapely.transform(face, to_pixels), extent)
        if outline is None:
            return None
        first = (*block.first, number)
        found.append(
            House(outline, block.numbers[number - 1], "squared", (90 - bearing) % 180, first)
        )
    return found


def _faces(grid: NDArray[Any]) -> list[tuple[Any, int]]:
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
    faces = _faces(labels) if edge else _smooth_faces(labels)
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
