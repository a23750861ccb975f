"""Scores of vectors: buildings and road networks beside true ones, over tiles of the ground.

Both files are brought into one plane in metres. What is scored lies where both say something: in
the bounds of the true layer and in those of the found file, whose land cover fills its scene. The
ground is cut into tiles, about square; the intervals say how much a score would swing with other
tiles of the kind, or with other blocks where there is a single tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.errors import DataError, UsageError
from sat2map.evaluation.apls import SNAPS_M, apls, network_of
from sat2map.evaluation.score import RESAMPLES, Interval, bootstrap, interval
from sat2map.geo.grid import Bounds
from sat2map.geo.vector_file import read_layers
from sat2map.geo.vector_layer import RawLayer, require
from sat2map.legend import Role, role_of

VectorLayer = Literal["buildings", "roads"]

TILE_M = 1000.0
"""About how long the side of a tile is."""

BUFFER_M = 3.0
"""How far a road may lie beside the true one, unless said otherwise."""

MATCH = 0.5
"""The least intersection over union at which two buildings are one."""

_STEP_M = 0.05
"""Steps of walls of less are none where several buildings count as one."""

CORNER_DEG, STRAIGHT_DEG = 2.0, 15.0
"""A corner is right within the first; where an outline turns by less than the second is none."""

_WORLD = (-180.0, -90.0, 180.0, 90.0)
_ROLES: dict[VectorLayer, Role] = {"buildings": "building", "roads": "road"}
_KINDS: dict[VectorLayer, tuple[int, ...]] = {"buildings": (3, 6), "roads": (1, 2, 5)}
_WIDTHS = ("width_m", "drawn_width_m")


@dataclass(frozen=True)
class VectorScores:
    """How a layer of vectors compares with the true one.

    Attributes:
        layer: What was compared.
        tiles: Over how many tiles; with a single one the intervals are over its blocks, and APLS
            has none.
        found: How many buildings or roads were found.
        true: How many there are.
        metrics: Each metric by its name, with its 95 % interval.
        protocol: How they were taken, ready for JSON.
    """

    layer: VectorLayer
    tiles: int
    found: int
    true: int
    metrics: dict[str, Interval]
    protocol: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types; a metric is {"mean", "low", "high"}."""
        return asdict(self)


@dataclass(frozen=True)
class _Shapes:
    """Shapes in metres, and the widths of lines, nan where unknown."""

    geometries: NDArray[np.object_]
    widths: NDArray[np.float64]

    def touching(self, area: Any) -> _Shapes:
        near = shapely.STRtree(self.geometries).query(area, predicate="intersects")
        near.sort()
        return _Shapes(self.geometries[near], self.widths[near])


@checks_arguments
def evaluate_vectors(
    found: Path,
    truth: Path,
    layer: VectorLayer,
    *,
    buffer_m: float = BUFFER_M,
    tile_m: float = TILE_M,
    bbox: Bounds | None = None,
    bridges_meet: bool = False,
    rows_within_m: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VectorScores:
    """Compare a layer of vectors with the true one.

    A file with a layer of that name is asked for this layer, another for all of its polygons or
    lines; where these have a `class` that names a role (as "building" and "highway" do), for those
    of the role. Roads meet where they share a point.

    Args:
        found: What was found: a GeoPackage of `vectors`, or whatever else GDAL reads.
        truth: What is true.
        layer: "buildings" or "roads".
        buffer_m: Of roads: how far a road may lie beside the true one, in metres.
        tile_m: About how long the sides of the tiles are, in metres.
        bbox: Score this part alone: west, south, east, north in degrees.
        bridges_meet: Of roads: whether those that cross meet there, in both files, even where they
            share no point. An image does not tell a bridge from a crossing.
        rows_within_m: Of buildings: those that stand no further apart than so many metres count as
            one, in both files. One class of pixels does not tell the houses of a row apart.
        progress: Called with the number of tiles done and of all.

    Raises:
        UsageError: A number is out of range.
        DataError: A file cannot be read, has no such shapes, or both lie apart.
        MissingExtraError: The extra `cartography` is not installed.
    """
    metres = {"buffer_m": buffer_m, "tile_m": tile_m, "rows_within_m": rows_within_m}
    for name, value in metres.items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(
                f"is {value:g}, which is not possible",
                parameter=name,
                remedy="Choose metres above 0.",
            )
    layers = {
        path: list(read_layers(path, "EPSG:4326", bbox or _bounds_of(path), _COLUMNS))
        for path in (found, truth)
    }
    shapes = {path: _chosen(path, layers[path], layer) for path in layers}
    region = _region(shapes[truth].geometries, layers[found], bbox, found, truth)
    to_plane = _plane(region)
    placed = [
        _Shapes(shapely.transform(shapes[path].geometries, to_plane), shapes[path].widths)
        for path in (found, truth)
    ]
    if layer == "roads":
        placed = [_noded(side) for side in placed]
        if bridges_meet:
            placed = [_cut_at_crossings(side) for side in placed]
    elif rows_within_m is not None:
        placed = [_rows(side, rows_within_m) for side in placed]
    tiles = _tiles(shapely.transform(shapely.box(*region), to_plane).bounds, tile_m)
    score = score_buildings if layer == "buildings" else score_roads
    sums: list[Mapping[str, tuple[float, float]]] = []
    for done, tile in enumerate(tiles, 1):
        sums.append(score(placed[0], placed[1], tile, buffer_m))
        if progress is not None:
            progress(done, len(tiles))
    found_count, true_count = (sum(int(tile[name][0]) for tile in sums) for name in _COUNTS)
    if len(tiles) == 1:
        sums = _over_blocks(placed, tiles[0], layer, buffer_m, sums[0])
    return VectorScores(
        layer,
        len(tiles),
        found_count,
        true_count,
        _put_together(sums, layer),
        {
            "bounds": list(region),
            "tile_m": tile_m,
            "interval": f"95 %, bootstrap over "
            f"{'tiles' if len(tiles) > 1 else f'{len(sums)} blocks of the tile (APLS: none)'}, "
            f"{RESAMPLES} resamples",
            "match": f"IoU of at least {MATCH:g}" if layer == "buildings" else None,
            "buffer_m": buffer_m if layer == "roads" else None,
            "bridges_meet": bridges_meet if layer == "roads" else None,
            "rows_within_m": rows_within_m if layer == "buildings" else None,
        },
    )


_COUNTS = ("found", "true")

_BLOCKS = 4
"""A single tile has so many blocks along a side, over which its intervals are taken."""


def _over_blocks(
    placed: Sequence[_Shapes],
    tile: Any,
    layer: VectorLayer,
    buffer_m: float,
    whole: Mapping[str, tuple[float, float]],
) -> list[Mapping[str, tuple[float, float]]]:
    """Return what two layers have in each block of a tile; what does not add up is the tile's."""
    score = score_buildings if layer == "buildings" else _score_lines
    west, south, east, north = tile.bounds
    xs, ys = np.linspace(west, east, _BLOCKS + 1), np.linspace(south, north, _BLOCKS + 1)
    blocks = [
        shapely.box(xs[i], ys[j], xs[i + 1], ys[j + 1])
        for j in range(_BLOCKS)
        for i in range(_BLOCKS)
    ]
    return [dict(whole) | score(placed[0], placed[1], block, buffer_m) for block in blocks]


_COLUMNS = frozenset({"class", "role", *_WIDTHS})


def _bounds_of(path: Path) -> Bounds:
    """Return where all layers of a file lie, in degrees; the whole world where GDAL cannot tell.

    A bound a little beyond is needed: the whole world has no place in most projections.
    """
    require("pyogrio")
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    boxes = []
    try:
        for name in [name for name, kind in pyogrio.list_layers(path) if kind is not None]:
            info = pyogrio.read_info(path, layer=name, force_total_bounds=True)
            bounds = info["total_bounds"]  # None of an empty layer
            if info["crs"] is None or bounds is None or not np.isfinite(bounds).all():
                continue
            box = map(float, bounds)
            boxes.append(transform_bounds(info["crs"], "EPSG:4326", *box, densify_pts=41))
    except (DataSourceError, DataLayerError, RasterioError):
        return _WORLD
    if not boxes:
        return _WORLD
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    beyond = 0.01 + 0.1 * (high - low)
    west, south = np.maximum(low - beyond, _WORLD[:2]).tolist()
    east, north = np.minimum(high + beyond, _WORLD[2:]).tolist()
    return west, south, east, north


def _chosen(path: Path, layers: Sequence[RawLayer], layer: VectorLayer) -> _Shapes:
    """Return the shapes of the layer that is asked for, each of one part."""
    named = [raw for raw in layers if raw.name == layer] or layers
    geometries: list[Any] = []
    widths: list[float] = []
    for raw in named:
        right = np.isin(shapely.get_type_id(raw.geometries), _KINDS[layer])
        roles = [role_of(str(name)) for name in raw.columns.get("class", [])]
        if _ROLES[layer] in roles:
            right &= np.array([role == _ROLES[layer] for role in roles])
        parts, row = shapely.get_parts(raw.geometries[right], return_index=True)
        geometries += list(parts)
        known = np.full(len(raw.geometries), np.nan)
        for name in _WIDTHS:  # joined files may have both
            own = raw.columns.get(name, [None] * len(known))
            told = np.array([np.nan if value is None else value for value in own], np.float64)
            known = np.where(np.isnan(known), told, known)
        widths += known[right][row].tolist()
    if not geometries:
        kind = "polygons of buildings" if layer == "buildings" else "lines of roads"
        raise DataError(f"has no {kind}", where=path, remedy=f"Give a file with a layer {layer!r}.")
    found = np.empty(len(geometries), object)
    found[:] = geometries
    return _Shapes(found, np.array(widths))


def _region(
    true: NDArray[np.object_],
    found: Sequence[RawLayer],
    bbox: Bounds | None,
    found_path: Path,
    truth_path: Path,
) -> Bounds:
    """Return where both files say something, in degrees."""
    all_found = np.concatenate([raw.geometries for raw in found])
    boxes = [shapely.total_bounds(true), shapely.total_bounds(all_found)]
    if bbox is not None:
        boxes = [np.array(bbox)]
    low = np.max([box[:2] for box in boxes], axis=0)
    high = np.min([box[2:] for box in boxes], axis=0)
    if not (low < high).all():
        raise DataError(
            f"lies elsewhere than {truth_path}",
            where=found_path,
            remedy="Give two files of the same place.",
        )
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _plane(region: Bounds) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the projection from degrees to metres around the middle of a region."""
    from pyproj import Transformer

    west, south, east, north = region
    centre = f"+lon_0={(west + east) / 2:.9f} +lat_0={(south + north) / 2:.9f}"
    # Scale is 1 along the middle meridian, and within a ten-thousandth 90 km beside it.
    plane = f"+proj=tmerc {centre} +k=1 +ellps=WGS84 +units=m"
    transformer = Transformer.from_crs("EPSG:4326", plane, always_xy=True)

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    return project


def _tiles(bounds: Bounds, tile_m: float) -> list[Any]:
    """Cut bounds into tiles of one size, as nearly as they can have the sides that are wanted."""
    west, south, east, north = bounds
    columns, rows = (max(1, round(side / tile_m)) for side in (east - west, north - south))
    xs, ys = np.linspace(west, east, columns + 1), np.linspace(south, north, rows + 1)
    return [
        shapely.box(xs[i], ys[j], xs[i + 1], ys[j + 1]) for j in range(rows) for i in range(columns)
    ]


def _put_together(
    sums: Sequence[Mapping[str, tuple[float, float]]], layer: VectorLayer
) -> dict[str, Interval]:
    """Return metrics of all tiles, each a sum divided by a sum, and what follows from them."""
    names = [name for name in sums[0] if name not in ("found", "true")]
    above, below = (
        np.array([[tile[name][side] for name in names] for tile in sums]) for side in (0, 1)
    )
    values = bootstrap(above, below)
    columns = dict(zip(names, values.T, strict=True))
    pairs = {
        "buildings": (("f1", "precision", "recall"),),
        "roads": (("cldice", "precision_in_road", "recall_in_road"),),
    }[layer]
    for name, one, two in pairs:
        # Nothing found is a precision of 0 here, and nothing there has no score.
        first, second = np.nan_to_num(columns[one]), columns[two]
        both = first + second
        mean = np.divide(2 * first * second, both, out=np.zeros(len(both)), where=both > 0)
        columns[name] = np.where(np.isnan(second), np.nan, mean)
    for hidden in ("precision_in_road", "recall_in_road"):
        columns.pop(hidden, None)
    order = METRICS[layer]
    return {name: interval(columns[name]) for name in order if not np.isnan(columns[name][0])}


METRICS: dict[VectorLayer, tuple[str, ...]] = {
    "buildings": (
        "precision", "recall", "f1", "matched_iou", "right_corners", "true_right_corners",
    ),
    "roads": (
        *(f"{name}_{snap:g}m" for snap in SNAPS_M
          for name in ("apls", "apls_true_to_found", "apls_found_to_true")),
        "cldice", "completeness", "correctness",
    ),
}  # fmt: skip
"""The metrics of a layer, in the order in which they are shown."""


def score_buildings(
    found: _Shapes, true: _Shapes, tile: Any, buffer_m: float
) -> dict[str, tuple[float, float]]:
    """Return what two sets of buildings have in a tile, as numerators and denominators.

    A building belongs to the tile in which its inner point lies.

    Args:
        found: Polygons.
        true: Polygons.
        tile: The tile.
        buffer_m: Of no use here.
    """
    mine, theirs = (_within(side.geometries, tile) for side in (found, true))
    matched = _matches(mine, true.geometries)
    hit = _matches(theirs, found.geometries)
    corners, true_corners = _corner_turns(mine), _corner_turns(theirs)
    return {
        "found": (len(mine), 1),
        "true": (len(theirs), 1),
        "precision": (float(np.count_nonzero(matched)), len(mine)),
        "recall": (float(np.count_nonzero(hit)), len(theirs)),
        "matched_iou": (float(hit.sum()), float(np.count_nonzero(hit))),
        "right_corners": (_right(corners), len(corners)),
        "true_right_corners": (_right(true_corners), len(true_corners)),
    }


def _rows(buildings: _Shapes, within_m: float) -> _Shapes:
    """Return buildings of which those that stand no further apart are one."""
    near = within_m / 2
    wide = shapely.buffer(buildings.geometries, near, join_style="mitre")
    whole = shapely.buffer(shapely.union_all(wide), -near, join_style="mitre")
    # Walls that differ by centimetres leave steps, which are no corners.
    rows = shapely.get_parts(shapely.simplify(whole, _STEP_M))
    return _Shapes(rows, np.full(len(rows), np.nan))


def _within(polygons: NDArray[np.object_], tile: Any) -> NDArray[np.object_]:
    near = np.sort(shapely.STRtree(polygons).query(tile))
    inner = shapely.get_coordinates(shapely.point_on_surface(polygons[near]))
    west, south, east, north = tile.bounds
    inside = (inner[:, 0] >= west) & (inner[:, 0] < east)
    inside &= (inner[:, 1] >= south) & (inner[:, 1] < north)
    found: NDArray[np.object_] = polygons[near][inside]
    return found


def _matches(polygons: NDArray[np.object_], others: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the IoU of each polygon with the other that it matches, 0 where with none.

    Where one polygon has half of the union with another, no third has: above a half, a match is
    mutual and the only one.
    """
    best = np.zeros(len(polygons))
    if not len(polygons) or not len(others):
        return best
    polygons, others = shapely.make_valid(polygons), shapely.make_valid(others)
    one, two = shapely.STRtree(others).query(polygons, predicate="intersects")
    both = shapely.area(shapely.intersection(polygons[one], others[two]))
    either = shapely.area(polygons[one]) + shapely.area(others[two]) - both
    iou = np.divide(both, either, out=np.zeros(len(both)), where=either > 0)
    np.maximum.at(best, one, iou)
    return np.where(best >= MATCH, best, 0.0)


def _corner_turns(polygons: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return by how many degrees the outlines of polygons turn at their corners, 0 to 180."""
    turns = [np.empty(0)]
    for ring in shapely.get_rings(polygons):
        points = shapely.get_coordinates(ring)
        steps = np.diff(points, axis=0)
        steps = steps[(steps != 0).any(axis=1)]
        if len(steps) < 3:
            continue
        angles = np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))
        turn = np.abs((np.roll(angles, -1) - angles + 180) % 360 - 180)
        turns.append(turn[turn >= STRAIGHT_DEG])
    return np.concatenate(turns)


def _right(turns: NDArray[np.float64]) -> float:
    return float(np.count_nonzero(np.abs(turns - 90) <= CORNER_DEG))


def _noded(roads: _Shapes) -> _Shapes:
    """Cut lines wherever they share a point with another, as those of OpenStreetMap do."""
    points, line = shapely.get_coordinates(roads.geometries, return_index=True)
    whole = np.rint(points * 100).astype(np.int64)
    _, number, count = np.unique(whole, axis=0, return_inverse=True, return_counts=True)
    shared = count[number.reshape(-1)] > 1
    starts = np.append(True, np.diff(line) != 0)
    ends = np.append(starts[1:], True)
    inner = shared & ~starts & ~ends
    if not inner.any():
        return roads
    parts: list[Any] = []
    widths: list[float] = []
    cuts = np.flatnonzero(inner | starts | ends)
    for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        if line[first] == line[last]:
            parts.append(shapely.LineString(points[first : last + 1]))
            widths.append(float(roads.widths[line[first]]))
    found = np.empty(len(parts), object)
    found[:] = parts
    return _Shapes(found, np.array(widths))


def _cut_at_crossings(roads: _Shapes) -> _Shapes:
    """Cut lines where they cross each other, whether or not they share a point there."""
    lines = roads.geometries
    one, two = shapely.STRtree(lines).query(lines, predicate="crosses")
    points, pair = shapely.get_coordinates(
        shapely.intersection(lines[one], lines[two]), return_index=True
    )
    by_line = np.argsort(one[pair], kind="stable")
    bounds = np.searchsorted(one[pair][by_line], np.arange(1, len(lines)))
    parts: list[Any] = []
    widths: list[float] = []
    for number, (line, chosen) in enumerate(zip(lines, np.split(by_line, bounds), strict=True)):
        places = points[chosen]
        along = shapely.line_locate_point(line, shapely.points(places))
        inner = (along > 0.01) & (along < line.length - 0.01)
        own = shapely.get_coordinates(line)
        reached = np.append(0.0, np.cumsum(np.hypot(*np.diff(own, axis=0).T)))
        along = np.concatenate([[0.0], along[inner], [line.length]])
        cuts = np.concatenate([own[:1], places[inner], own[-1:]])
        order = np.argsort(along, kind="stable")
        for (first, start), (last, stop) in pairwise(zip(along[order], cuts[order], strict=True)):
            between = own[(reached > first) & (reached < last)]
            if last - first > 0.01:
                parts.append(shapely.LineString([start, *between, stop]))
                widths.append(float(roads.widths[number]))
    found = np.empty(len(parts), object)
    found[:] = parts
    return _Shapes(found, np.array(widths))


def score_roads(
    found: _Shapes, true: _Shapes, tile: Any, buffer_m: float
) -> dict[str, tuple[float, float]]:
    """Return what two road networks have in a tile, as numerators and denominators.

    Args:
        found: Lines.
        true: Lines.
        tile: The tile, at whose border roads are cut.
        buffer_m: How far a road may lie beside the true one.
    """
    scores = _score_lines(found, true, tile, buffer_m)
    networks = [network_of(list(_cut(side, tile))) for side in (found, true)]
    for snap in SNAPS_M:
        result = apls(networks[0], networks[1], snap)
        for name, value in (
            ("apls", result.apls),
            ("apls_true_to_found", result.true_to_found),
            ("apls_found_to_true", result.found_to_true),
        ):
            known = not math.isnan(value)
            scores[f"{name}_{snap:g}m"] = (value if known else 0.0, float(known))
    return scores


def _score_lines(
    found: _Shapes, true: _Shapes, tile: Any, buffer_m: float
) -> dict[str, tuple[float, float]]:
    """Return what `score_roads` does, without APLS: what adds up over tiles."""
    mine, theirs = (_cut(side, tile) for side in (found, true))
    around = tile.buffer(max(buffer_m, 30.0), join_style="mitre")
    beside = [side.touching(around) for side in (found, true)]
    roads = [_surface(side, buffer_m) for side in beside]
    near = [shapely.union_all(shapely.buffer(side.geometries, buffer_m)) for side in beside]
    long = [float(shapely.length(side).sum()) for side in (mine, theirs)]
    return {
        "found": (float(len(mine)), 1.0),
        "true": (float(len(theirs)), 1.0),
        "completeness": (_inside(theirs, near[0]), long[1]),
        "correctness": (_inside(mine, near[1]), long[0]),
        "precision_in_road": (_inside(mine, roads[1]), long[0]),
        "recall_in_road": (_inside(theirs, roads[0]), long[1]),
    }


def _cut(roads: _Shapes, tile: Any) -> NDArray[np.object_]:
    cut = shapely.intersection(roads.touching(tile).geometries, tile)
    parts = shapely.get_parts(cut)
    lines: NDArray[np.object_] = parts[
        (shapely.get_type_id(parts) == 1) & (shapely.length(parts) > 0)
    ]
    return lines


def _surface(roads: _Shapes, buffer_m: float) -> Any:
    """Return the ground of roads; those of unknown width reach as far as the buffer."""
    half = np.where(np.isnan(roads.widths), buffer_m, roads.widths / 2)
    return shapely.union_all(shapely.buffer(roads.geometries, half, cap_style="flat"))


def _inside(lines: NDArray[np.object_], area: Any) -> float:
    return float(shapely.length(shapely.intersection(lines, area)).sum())
