"""One valid coverage: polygons that neither overlap nor leave a gap, sheet by sheet.

A scene is cut along a fixed grid of sheets, anchored at its first pixel. Of each sheet:

    ground     the class map without islands that are too small (`sieve.py`), and without
               buildings: under each the nearest other class goes on
    borders    traced as arcs (`arcs.py`), moved within a pixel to where two classes are as likely
               where that is known, simplified together; the sheet's own edge is kept,
               with a point wherever a class changes on either side of it
    buildings  their outlines (`buildings.py`) are laid over the ground: where a border meets a
               wall, both get the same point
    faces      all lines together make the polygons

Both sides of a cut come to the same points on it, as each looks one pixel over it and cuts the
outlines of buildings in the same way. A building that is cut is put together again by whoever has
all of its pieces (`store.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.legend import Legend
from sat2map.vectors.arcs import (
    PRECISION,
    Integers,
    Points,
    moved_to_balance,
    on_grid,
    trace_arcs,
)
from sat2map.vectors.blocks import House
from sat2map.vectors.buildings import LARGEST, outline_buildings
from sat2map.vectors.class_map import NOTHING
from sat2map.vectors.tracing import faces_of, labels_of
from sat2map.vectors.walls import Matrix

SHEET = 2048
"""Side of a sheet in pixels."""

MARGINS = (256, LARGEST + 16)
"""Pixels around a sheet that are looked at: more where a building that is cut there goes on."""

TOLERANCE = 1.5
"""A bend in a border whose triangle is smaller than the square of this, in pixels, is left out."""

_LEAST_LEAD = 0.02
"""By how much a class leads at least, where three classes share a pixel."""

_SLIVER = 0.25
"""Square pixels: what is smaller between a wall and a border is no area of its own. A pixel whose
corners are cut has half a square pixel, of which a wall may take half."""

_NEAR = 8
"""Pixels by which the outline of a building may lie beside its pixels."""


Around = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.float32] | None]]
"""Returns class numbers without small islands, uint8, of a sheet and so many pixels around it, and
how sure each is, float32, or None; `NOTHING` outside of the scene."""


@dataclass(frozen=True)
class Sheet:
    """A part of a scene.

    Attributes:
        number: Its place, from 0, row by row.
        row: Its first row in the scene.
        column: Its first column.
        height: Rows.
        width: Columns.
    """

    number: int
    row: int
    column: int
    height: int
    width: int


@dataclass(frozen=True)
class Face:
    """A polygon of the coverage, or a piece of one.

    Attributes:
        shape: Polygon in pixels of the scene.
        number: Its class.
        house: The building that it is (a piece of).
    """

    shape: Any
    number: int
    house: House | None = None


def lay_sheets(height: int, width: int, side: int = SHEET) -> Iterator[Sheet]:
    """Yield the sheets of a scene row by row."""
    number = 0
    for row in range(0, height, side):
        for column in range(0, width, side):
            yield Sheet(number, row, column, min(side, height - row), min(side, width - column))
            number += 1


def cover_sheet(
    around: Around,
    sheet: Sheet,
    legend: Legend,
    matrix_at: Callable[[int, int], Matrix],
    extent: tuple[int, int],
    tolerance: float = TOLERANCE,
) -> list[Face]:
    """Return the polygons of a sheet; together they are all of it that has a class.

    Args:
        around: Returns what is there, and around it.
        sheet: The sheet.
        legend: What the numbers mean.
        matrix_at: Returns metres of steps around a row and a column of the scene.
        extent: Height and width of the scene.
        tolerance: How far borders are simplified, in pixels; 0 leaves them as they are.
    """
    houses, ground, lead = _houses_and_ground(around, sheet, legend, matrix_at, extent)
    houses, cuts = _cut_at_edges(houses, sheet)
    if tolerance == 0:  # which keeps the pixels' outline
        lead = None
    polygons, numbers = _ground_polygons(ground, sheet, cuts, tolerance, lead)
    if houses:
        return _overlaid(polygons, numbers, houses, sheet, extent)
    return [
        Face(shape, int(number))
        for shape, number in zip(polygons, numbers, strict=True)
        if number != NOTHING
    ]


def _houses_and_ground(
    around: Around,
    sheet: Sheet,
    legend: Legend,
    matrix_at: Callable[[int, int], Matrix],
    extent: tuple[int, int],
) -> tuple[list[House], NDArray[np.uint8], NDArray[np.float32] | None]:
    """Return the houses near a sheet, and what lies under them with one pixel more around.

    Last comes by how much each pixel's class leads, nan under houses, as far as that is known.
    """
    is_building = np.zeros(256, np.bool_)
    is_building[: len(legend)] = [entry.role == "building" for entry in legend.classes]
    core = (
        sheet.row - _NEAR,
        sheet.column - _NEAR,
        sheet.height + 2 * _NEAR,
        sheet.width + 2 * _NEAR,
    )
    for margin in MARGINS:
        window, sure = around(margin)
        # Beyond the scene there is nothing to look at.
        above, before = min(margin, sheet.row + _NEAR), min(margin, sheet.column + _NEAR)
        below = min(margin, extent[0] - sheet.row - sheet.height + _NEAR)
        behind = min(margin, extent[1] - sheet.column - sheet.width + _NEAR)
        near = (
            slice(margin - above, margin + sheet.height + below),
            slice(margin - before, margin + sheet.width + behind),
        )
        window, sure = window[near], None if sure is None else sure[near]
        corner = (sheet.row - above, sheet.column - before)
        complete = margin == MARGINS[-1]
        found = outline_buildings(
            window, is_building, corner, core, matrix_at, extent, sure, complete
        )
        if found is not None:
            break
    assert found is not None  # the last window is complete
    ring = (
        slice(above - 1, above + sheet.height + 1),
        slice(before - 1, before + sheet.width + 1),
    )
    houses, blocks = found
    ground = _ground(window, blocks)
    houses = _within_ground(houses, window, ground, corner)
    lead = None
    if sure is not None:
        lead = np.where(blocks > 0, np.nan, np.maximum(2 * sure - 1, _LEAST_LEAD))[ring]
    return houses, ground[ring], lead


def _ground(window: NDArray[np.uint8], blocks: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return class numbers with the nearest class beside each block in its place.

    Args:
        window: Class numbers, uint8 [H,W].
        blocks: The number of the block that each pixel is of, [H,W], 0 none.
    """
    from scipy import ndimage

    ground = window.copy()
    for number, box in enumerate(ndimage.find_objects(blocks), 1):
        if box is None:
            continue
        rows, columns = (slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        near = blocks[rows, columns]
        known = (near == 0) & (window[rows, columns] != NOTHING)
        own = near == number
        beside = window[rows, columns][known]
        if not len(beside):
            ground[rows, columns][own] = NOTHING
            continue
        if (beside == beside[0]).all():
            ground[rows, columns][own] = beside[0]
            continue
        nearest = ndimage.distance_transform_edt(
            ~known, return_distances=False, return_indices=True
        )
        ground[rows, columns][own] = window[rows, columns][tuple(nearest)][own]
    return ground


def _within_ground(
    houses: list[House],
    window: NDArray[np.uint8],
    ground: NDArray[np.uint8],
    corner: tuple[int, int],
) -> list[House]:
    """Return houses without what of them hangs over ground that has no class.

    One that has nothing else around it stays, such as in a map of buildings alone.

    Args:
        houses: The houses.
        window: Class numbers, uint8 [H,W], and
        ground: what lies under buildings.
        corner: Row and column in the scene of the first pixel.
    """
    if not (window == NOTHING).any():
        return houses
    kept: list[House] = []
    for house in houses:
        left, top, right, bottom = shapely.bounds(house.outline)
        row, column = math.floor(top) - corner[0], math.floor(left) - corner[1]
        near = window[row : math.ceil(bottom) - corner[0], column : math.ceil(right) - corner[1]]
        alone = ground[house.first[0] - corner[0], house.first[1] - corner[1]] == NOTHING
        if alone or not (near == NOTHING).any():
            kept.append(house)
            continue
        holes = [face for face, _ in faces_of(np.pad(near == NOTHING, 1).astype(np.uint8))]
        place = np.array([column + corner[1] - 1, row + corner[0] - 1])
        hollow = shapely.transform(shapely.union_all(holes), lambda points: points + place)  # noqa: B023
        left_over = shapely.get_parts(
            shapely.difference(house.outline, hollow, grid_size=PRECISION)
        )
        parts = left_over[shapely.area(left_over) >= _SLIVER]
        kept.extend(replace(house, outline=part) for part in parts if len(parts))
    return kept


def _cut_at_edges(
    houses: list[House], sheet: Sheet
) -> tuple[list[House], dict[tuple[int, int], list[float]]]:
    """Return houses with a point wherever they cross the lines of a sheet's edges, and where.

    Returns:
        The houses that reach into the sheet; and by axis (0 columns, 1 rows) and line the
        places along it.
    """
    cuts: dict[tuple[int, int], list[float]] = {}
    inside: list[House] = []
    left, right = sheet.column, sheet.column + sheet.width
    top, bottom = sheet.row, sheet.row + sheet.height
    for house in houses:
        low_x, low_y, high_x, high_y = shapely.bounds(house.outline)
        if low_x > right or high_x < left or low_y > bottom or high_y < top:
            continue
        lines = [
            (axis, line)
            for axis, line, low, high in (
                (0, left, low_x, high_x),
                (0, right, low_x, high_x),
                (1, top, low_y, high_y),
                (1, bottom, low_y, high_y),
            )
            if low <= line <= high
        ]
        outline = _cut(house.outline, lines, cuts) if lines else house.outline
        # One that lies against an edge from outside has points there, too.
        if low_x < right and high_x > left and low_y < bottom and high_y > top:
            inside.append(replace(house, outline=outline))
    return inside, cuts


def _cut(
    outline: Any, lines: list[tuple[int, int]], cuts: dict[tuple[int, int], list[float]]
) -> Any:
    """Return a polygon with points where it crosses lines; note the places along each line.

    Each place follows from a wall as it is without any cut, so that sheets on all sides of it,
    which cut it along different lines, come to the same.

    Args:
        outline: The polygon.
        lines: Axis (0 columns, 1 rows) and place of each line.
        cuts: Where the places are added, by line.
    """
    rings = []
    for ring in (outline.exterior, *outline.interiors):
        points = shapely.get_coordinates(ring)
        begin, finish = points[:-1], points[1:]
        walls, shares, new = [np.empty(0, np.int64)], [np.empty(0)], [np.empty((0, 2))]
        for axis, line in lines:
            places = cuts.setdefault((axis, line), [])
            places.extend(points[points[:, axis] == line, 1 - axis].tolist())
            crossing = np.flatnonzero((begin[:, axis] - line) * (finish[:, axis] - line) < 0)
            # From the lower end, so that two houses have the same point on a wall of both.
            turned = begin[crossing, axis] > finish[crossing, axis]
            low = np.where(turned[:, None], finish[crossing], begin[crossing])
            high = np.where(turned[:, None], begin[crossing], finish[crossing])
            share = (line - low[:, axis]) / (high[:, axis] - low[:, axis])
            along = low[:, 1 - axis] + share * (high[:, 1 - axis] - low[:, 1 - axis])
            cut = np.empty((len(crossing), 2))
            cut[:, axis], cut[:, 1 - axis] = line, on_grid(along)
            places.extend(cut[:, 1 - axis].tolist())
            walls.append(crossing)
            shares.append(np.where(turned, 1 - share, share))
            new.append(cut)
        wall, share, cut = np.concatenate(walls), np.concatenate(shares), np.concatenate(new)
        order = np.lexsort((share, wall))
        rings.append(np.insert(points, wall[order] + 1, cut[order], axis=0))
    return shapely.Polygon(rings[0], rings[1:])


def _ground_polygons(
    ground: NDArray[np.uint8],
    sheet: Sheet,
    cuts: dict[tuple[int, int], list[float]],
    tolerance: float,
    lead: NDArray[np.float32] | None,
) -> tuple[NDArray[np.object_], NDArray[np.uint8]]:
    """Return the polygons of a sheet's ground, simplified, and their classes.

    Args:
        ground: Class numbers of the sheet and one pixel around it.
        sheet: The sheet.
        cuts: Where buildings cross its edges.
        tolerance: How far borders are simplified.
        lead: By how much the class of each pixel is likelier than another, above 0, nan under
            buildings, of the same pixels as `ground`; None where nothing tells.
    """
    own = ground[1:-1, 1:-1]
    arcs = trace_arcs(own, exact=NOTHING, thin=lead is None)
    lines = np.concatenate([arcs, _edges(ground, sheet, cuts)])
    polygons = shapely.get_parts(shapely.polygonize(lines))
    numbers = labels_of(polygons, own).astype(np.uint8)
    if lead is not None:
        polygons = moved_to_balance(polygons, own, lead[1:-1, 1:-1])
    # Borders of ground without a class stay as they are, so that no area is made or lost.
    known = numbers != NOTHING
    if tolerance > 0 and known.sum() > 1:
        simple = shapely.coverage_simplify(polygons[known], tolerance, simplify_boundary=False)
        if is_valid_still(polygons[known], simple):
            # As `polygonize` returns them: holes run against their shell.
            polygons[known] = shapely.orient_polygons(simple, exterior_cw=True)
    corner = np.array([sheet.column, sheet.row])
    return shapely.transform(polygons, lambda points: points + corner), numbers


def is_valid_still(before: NDArray[np.object_], after: NDArray[np.object_]) -> bool:
    """Return whether a coverage that was simplified, but for its outer boundary, is valid still.

    Common borders are simplified once, so they are the same on both sides. Then the polygons cover
    the same ground, each place once, if each of them is valid and none is turned over; one that
    is adds to the sum of areas. This takes a fortieth of the time of `coverage_is_valid`.
    """
    if not (shapely.get_type_id(after) == 3).all() or not shapely.is_valid(after).all():
        return False
    return math.isclose(shapely.area(before).sum(), shapely.area(after).sum(), rel_tol=1e-12)


def _edges(
    ground: NDArray[np.uint8], sheet: Sheet, cuts: dict[tuple[int, int], list[float]]
) -> NDArray[np.object_]:
    """Return the edges of a sheet as lines from its corner, cut where anything changes there."""
    height, width = sheet.height, sheet.width
    segments = []
    for axis, line, pair, length, offset, other in (
        (1, 0, ground[:2, 1:-1], width, sheet.column, sheet.row),
        (1, height, ground[-2:, 1:-1], width, sheet.column, sheet.row + height),
        (0, 0, ground[1:-1, :2].T, height, sheet.row, sheet.column),
        (0, width, ground[1:-1, -2:].T, height, sheet.row, sheet.column + width),
    ):
        changes = np.flatnonzero((pair[:, 1:] != pair[:, :-1]).any(0)) + 1.0
        met = np.array(cuts.get((axis, other), []), float) - offset
        met = met[(met > 0) & (met < length)]
        places = np.unique(np.concatenate([[0.0, length], changes, met]))
        points = np.empty((len(places), 2))
        points[:, axis], points[:, 1 - axis] = line, places
        segments.append(np.stack([points[:-1], points[1:]], 1))
    return np.asarray(shapely.linestrings(np.concatenate(segments)), object)


def _overlaid(
    polygons: NDArray[np.object_],
    numbers: NDArray[np.uint8],
    houses: list[House],
    sheet: Sheet,
    extent: tuple[int, int],
) -> list[Face]:
    """Return the faces of the ground with houses laid over it."""
    outlines = np.array([house.outline for house in houses], object)
    tree = shapely.STRtree(outlines)
    shapely.prepare(polygons)
    built = np.zeros(len(polygons), np.bool_)
    built[np.unique(tree.query(polygons, predicate="intersects")[0])] = True
    found = [
        Face(shape, int(number))
        for shape, number in zip(polygons[~built], numbers[~built], strict=True)
        if number != NOTHING
    ]
    polygons, numbers = polygons[built], numbers[built]
    box = (sheet.column, sheet.row, sheet.column + sheet.width, sheet.row + sheet.height)
    free, met = _borders(polygons, tree, box)
    noded = shapely.get_parts(
        shapely.union_all(np.concatenate([met, _walls(outlines, box)]), grid_size=PRECISION)
    )
    noded = noded[~_hidden(noded, outlines, tree, box)]
    faces = shapely.get_parts(shapely.polygonize(np.concatenate([free, noded])))
    points = shapely.point_on_surface(faces)
    house_of = np.full(len(faces), -1)
    face, house = tree.query(points, predicate="intersects")
    house_of[face[::-1]] = house[::-1]
    ground_of = np.full(len(faces), -1)
    # Polygons are prepared, so that looking which points lie in them takes a tenth of the time.
    polygon, face = shapely.STRtree(points).query(polygons, predicate="intersects")
    ground_of[face] = polygon
    for shape, house, polygon in zip(faces, house_of, ground_of, strict=True):
        if house >= 0:
            found.append(Face(shape, houses[house].number, houses[house]))
        elif polygon >= 0 and numbers[polygon] != NOTHING:
            found.append(Face(shape, int(numbers[polygon])))
    return _without_slivers(found, box, extent)


def _without_slivers(
    faces: list[Face], box: tuple[int, int, int, int], extent: tuple[int, int]
) -> list[Face]:
    """Return faces of which those that are slivers belong to a neighbour.

    Between a wall and a border of the ground that runs beside it slivers are left. The neighbour is
    that with the longest common border; ground, if there is any beside it, or a house. What lies
    at the sheet's edge stays, as nobody knows how far it goes on, unless the scene ends there.

    Args:
        faces: The faces of a sheet.
        box: The sheet: left, top, right and bottom.
        extent: Height and width of the scene.
    """
    shapes = np.array([face.shape for face in faces], object)
    small = shapely.area(shapes) < _SLIVER
    bounds = shapely.bounds(shapes)
    inside = np.ones(len(faces), np.bool_)
    for side, ends in enumerate((0, 0, extent[1], extent[0])):
        if box[side] != ends:
            inside &= bounds[:, side] != box[side]
    is_house = np.array([face.house is not None for face in faces])
    slivers = np.flatnonzero(small & inside & ~is_house)
    if not len(slivers):
        return faces
    tree = shapely.STRtree(shapes)
    joined: dict[int, list[Any]] = {}
    for sliver in slivers.tolist():
        beside = tree.query(shapes[sliver], predicate="intersects")
        beside = np.sort(beside[~small[beside]])
        shared = shapely.length(shapely.intersection(shapes[sliver], shapes[beside]))
        beside, shared = beside[shared > 0], shared[shared > 0]
        if len(beside):
            taken = beside[np.lexsort((-shared, is_house[beside]))[0]]
            joined.setdefault(int(taken), []).append(shapes[sliver])
            shapes[sliver] = None
    for taken, pieces in joined.items():
        shapes[taken] = shapely.coverage_union_all([shapes[taken], *pieces])
    return [
        replace(face, shape=shape)
        for face, shape in zip(faces, shapes, strict=True)
        if shape is not None
    ]


def _borders(
    polygons: NDArray[np.object_], tree: Any, box: tuple[int, int, int, int]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Return the borders of polygons as lines: those that meet no house, and those that do.

    Args:
        polygons: Some polygons of a sheet's ground.
        tree: The houses, an STRtree.
        box: The sheet: left, top, right and bottom.
    """
    points, sides, degree = _sides(polygons)
    pairs = np.stack([points[sides], points[sides + 1]], 1)
    meets = np.zeros(len(sides), np.bool_)
    meets[tree.query(shapely.linestrings(pairs), predicate="intersects")[0]] = True
    # A line that is hidden is so all along: what runs along the sheet's edge is one of its own.
    ends = (degree != 2) | (points == box[:2]).any(1) | (points == box[2:]).any(1)
    return _lines(points, sides[~meets], ends), _lines(points, sides[meets], ends)


def _walls(outlines: NDArray[np.object_], box: tuple[int, int, int, int]) -> NDArray[np.object_]:
    """Return the outlines of houses within a sheet as lines, common walls once."""
    points, sides, _ = _sides(outlines)
    middles = (points[sides] + points[sides + 1]) / 2
    inside = ((middles >= box[:2]) & (middles <= box[2:])).all(1)
    return _lines(points, sides[inside], np.zeros(len(points), np.bool_))


def _sides(polygons: NDArray[np.object_]) -> tuple[Points, Integers, Integers]:
    """Return the sides of polygons, each once, in the order of their outlines.

    Returns:
        The points of all outlines, float64 [N,2]; at which of them each side begins, to end at the
        next, int64 [M]; and how many sides meet at each point, int64 [N].
    """
    points, ring = shapely.get_coordinates(shapely.get_rings(polygons), return_index=True)
    place = np.unique(points.view(np.complex128), return_inverse=True)[1].reshape(-1)
    sides = np.flatnonzero(ring[1:] == ring[:-1])
    one, other = place[sides], place[sides + 1]
    pair = np.minimum(one, other) * len(points) + np.maximum(one, other)
    sides = sides[np.sort(np.unique(pair, return_index=True)[1])]
    degree = np.bincount(np.concatenate([place[sides], place[sides + 1]]), minlength=len(points))
    return points, sides, degree[place]


def _lines(points: Points, sides: Integers, ends: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Return sides that follow each other as lines: to put a few together takes much less time.

    Args:
        points: Of all outlines.
        sides: Where sides begin, in ascending order.
        ends: At which points lines end, bool [N].
    """
    begins = np.ones(len(sides), np.bool_)
    begins[1:] = (sides[1:] != sides[:-1] + 1) | ends[sides[1:]]
    line = np.cumsum(begins) - 1
    place, line = np.concatenate([sides[begins], sides + 1]), np.concatenate([line[begins], line])
    order = np.lexsort((place, line))
    return np.asarray(shapely.linestrings(points[place[order]], indices=line[order]), object)


def _hidden(
    lines: NDArray[np.object_],
    outlines: NDArray[np.object_],
    tree: Any,
    box: tuple[int, int, int, int],
) -> NDArray[np.bool_]:
    """Return which lines lie under a house; the sheet's own edge never does."""
    places, line = shapely.get_coordinates(lines, return_index=True)
    side = np.flatnonzero(line[1:] == line[:-1])
    begin, finish = places[side], places[side + 1]
    at_edge = ((begin == finish) & ((begin == box[:2]) | (begin == box[2:]))).any(1)
    side, begin, finish = (values[~at_edge] for values in (side, begin, finish))
    points = shapely.points((begin + finish) / 2)
    one, house = tree.query(points, predicate="within")
    # A wall that got a point may lie a thousandth of a pixel beside itself.
    deep = shapely.distance(points[one], shapely.boundary(outlines[house])) > 4 * PRECISION
    hidden = np.zeros(len(lines), np.bool_)
    hidden[line[side[one[deep]]]] = True
    return hidden
