"""What a class map holds: areas, counts and shares per class and per zone, roads, buildings.

Counted are parts of one class that hang together, without islands below the minimum of their role:
what `vectorise` makes polygons of. A part belongs to the zone in which its first pixel lies, from
the top and then from the left; areas and roads are cut at the borders of zones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.errors import DataError, StoppedError
from sat2map.geo.grid import Bounds
from sat2map.legend import Legend
from sat2map.raster.sources import Source
from sat2map.vectors.class_map import NOTHING, ClassMap, open_class_map
from sat2map.vectors.coverage import SHEET, Sheet, lay_sheets
from sat2map.vectors.measures import Measures
from sat2map.vectors.roads import trace_roads
from sat2map.vectors.sieve import MINIMUM_M2
from sat2map.vectors.vectorise import sieved_sheet

logger = logging.getLogger(__name__)

BLOCK = 64
"""Pixels along a side within which the area of a pixel is taken as the same."""


@dataclass(frozen=True)
class ClassFigures:
    """What there is of a class.

    Attributes:
        name: The class.
        role: Its role.
        area_m2: Square metres on the ellipsoid.
        share: Of all that has a class, 0 to 1.
        count: Parts that hang together.
    """

    name: str
    role: str
    area_m2: float
    share: float
    count: int


@dataclass(frozen=True)
class ZoneFigures:
    """What there is in a zone, or in all of a class map.

    Attributes:
        name: The zone; empty for all of the map.
        area_m2: Square metres of all that has a class.
        classes: Each class.
        road_m: Metres of roads, along their centre lines.
        road_ha: Hectares of roads.
        buildings_per_ha: Buildings by all hectares that have a class.
    """

    name: str
    area_m2: float
    classes: tuple[ClassFigures, ...]
    road_m: float
    road_ha: float
    buildings_per_ha: float


@dataclass(frozen=True)
class ClassReport:
    """What a class map holds.

    Attributes:
        source: The class map.
        whole: All of it.
        zones: Each zone, in the order of their file.
    """

    source: str
    whole: ZoneFigures
    zones: tuple[ZoneFigures, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a page of it, which needs no other file."""
        from jinja2 import Environment, StrictUndefined

        template = files("sat2map.vectors").joinpath("report.html.jinja")
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        return environment.from_string(template.read_text(encoding="utf-8")).render(report=self)


@dataclass
class _Parts:
    """Parts of classes that are cut by sheets' edges, put together."""

    above: dict[int, int]
    first: dict[int, tuple[int, int, int]]  # row, column and class of the first pixel

    def root(self, part: int) -> int:
        while part in self.above:
            part = self.above[part]
        return part

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        if low != high:
            self.above[high] = low
            self.first[low] = min(self.first[low], self.first.pop(high))


@checks_arguments
def report_classes(
    classes: str | Path | Source,
    *,
    legend: str | Path | Legend | None = None,
    zones: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    side: int = SHEET,
) -> ClassReport:
    """Measure and count what a class map of any size holds.

    Args:
        classes: The class map.
        legend: What its numbers mean, where it does not say so itself.
        zones: A file of polygons, in any coordinates, for each of which it is told, too; they may
            overlap. A column `name` names them.
        progress: Called with (done, all) steps.
        stop: Asks to stop once it is set.
        side: Of the sheets that it is read in, in pixels.

    Raises:
        DataError: The class map or the zones cannot be read.
        StoppedError: `stop` is set.
    """
    with open_class_map(classes, legend=legend) as scene:
        measures = Measures(scene.grid, scene.where)
        names, shapes = ([], np.empty(0, object)) if zones is None else _zones(zones, scene)
        sheets = list(lay_sheets(scene.grid.height, scene.grid.width, side))
        count = 1 + len(names)
        areas = np.zeros((count, len(scene.legend)))
        counts = np.zeros((count, len(scene.legend)), np.int64)
        parts = _Parts({}, {})
        edges = _Edges()
        for done, sheet in enumerate(sheets, 1):
            if stop is not None and stop.is_set():
                raise StoppedError(
                    "stopped as asked", where=Path(scene.where), remedy="Begin anew."
                )
            numbers = sieved_sheet(scene, sheet, MINIMUM_M2)
            _add_areas(areas, numbers, sheet, measures, shapes)
            firsts = _parts_of(numbers, sheet, parts, edges, scene.grid.width)
            _add_counts(counts, firsts, shapes)
            if progress is not None:
                progress(done, 2 * len(sheets))
        _add_counts(counts, np.array(list(parts.first.values()), np.int64).reshape(-1, 3), shapes)
        if areas[0].sum() == 0:
            raise DataError(
                "has no valid pixel, only nodata",
                where=scene.where,
                remedy="Give another class map.",
            )
        metres = np.zeros(count)

        def tracing(done: int, total: int) -> None:
            if progress is not None:
                progress(len(sheets) + done * len(sheets) // total, 2 * len(sheets))

        with trace_roads(scene, progress=tracing) as network:
            for line in network.lines:
                road = shapely.LineString(line.points)
                metres[0] += measures.lengths_m(np.array([road], object))[0]
                for zone in np.flatnonzero(shapely.intersects(shapes, road)):
                    inside = shapely.get_parts(shapely.intersection(shapes[zone], road))
                    lines = inside[shapely.get_type_id(inside) == 1]
                    metres[1 + zone] += measures.lengths_m(lines).sum()
        told = [
            _figures(name, scene.legend, areas[at], counts[at], metres[at])
            for at, name in enumerate(["", *names])
        ]
        return ClassReport(Path(str(scene.where)).name, told[0], tuple(told[1:]))


def _figures(
    name: str,
    legend: Legend,
    areas: NDArray[np.float64],
    counts: NDArray[np.int64],
    metres: float,
) -> ZoneFigures:
    total = float(areas.sum())
    classes = tuple(
        ClassFigures(
            entry.name, entry.role, float(area), float(area / total) if total else 0.0, int(count)
        )
        for entry, area, count in zip(legend.classes, areas, counts, strict=True)
    )
    roads = sum(entry.area_m2 for entry in classes if entry.role == "road")
    buildings = sum(entry.count for entry in classes if entry.role == "building")
    per_hectare = buildings / (total / 10_000) if total else 0.0
    return ZoneFigures(name, total, classes, float(metres), roads / 10_000, per_hectare)


def _zones(path: Path, scene: ClassMap) -> tuple[list[str], NDArray[np.object_]]:
    """Return the names of zones and their polygons in pixels of the scene."""
    from sat2map.geo.vector_file import count_shapes, read_layers

    grid = scene.grid
    corners = np.array([(0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height)])
    xs, ys = grid.transform @ (corners[:, 0], corners[:, 1])
    bounds: Bounds = (float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
    names: list[str] = []
    shapes: list[Any] = []
    for layer in read_layers(path, grid.crs, bounds, frozenset({"name"})):
        called = layer.columns.get("name", [None] * len(layer.geometries))
        for shape, name in zip(layer.geometries, called, strict=True):
            if shapely.get_type_id(shape) in (3, 6):
                names.append(str(name or len(names) + 1))
                shapes.append(shape)
    if not shapes:
        raise DataError(
            f"has no polygons on {scene.where}",
            where=path,
            remedy="Give polygons that lie on the class map; their coordinates may be wrong.",
        )
    every = count_shapes(path)
    if every is not None and every > len(shapes):
        logger.warning(
            f"{path}: {every - len(shapes)} of its {every} shapes are no zones on {scene.where} "
            "and are left out."
        )

    def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(~grid.transform @ (points[:, 0], points[:, 1]))

    return names, shapely.make_valid(shapely.transform(np.array(shapes, object), to_pixels))


def _add_areas(
    areas: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    sheet: Sheet,
    measures: Measures,
    shapes: NDArray[np.object_],
) -> None:
    """Add the areas of the classes in a sheet, of all of it and of each zone."""
    from rasterio.features import rasterize

    height, width = numbers.shape
    tops, lefts = np.arange(0, height, BLOCK), np.arange(0, width, BLOCK)
    down, along = np.minimum(BLOCK, height - tops), np.minimum(BLOCK, width - lefts)
    low_x, low_y = np.meshgrid(sheet.column + lefts, sheet.row + tops)
    wide, tall = np.meshgrid(along, down)
    boxes = shapely.box(low_x, low_y, low_x + wide, low_y + tall)
    blocks = measures.areas_m2(boxes.ravel()).reshape(boxes.shape) / (wide * tall)
    pixels = np.repeat(np.repeat(blocks, down, 0), along, 1)

    def total(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        sums = np.bincount(numbers[mask], pixels[mask], minlength=256)
        return sums[: areas.shape[1]].astype(np.float64)

    known = numbers != NOTHING
    areas[0] += total(known)
    corner = np.array([sheet.column, sheet.row])
    box = shapely.box(*corner, sheet.column + width, sheet.row + height)
    for zone in np.flatnonzero(shapely.intersects(shapes, box)):
        shape = shapely.transform(shapes[zone], lambda points: points - corner)
        inside = rasterize([(shape, 1)], (height, width), dtype="uint8").astype(np.bool_)
        areas[1 + zone] += total(known & inside)


class _Edges:
    """The parts along the lower and the right edge of the sheets before."""

    def __init__(self) -> None:
        self.below: dict[int, NDArray[np.int64]] = {}  # by the column of the sheet
        self.right: NDArray[np.int64] | None = None
        self.numbers_below: dict[int, NDArray[np.uint8]] = {}
        self.numbers_right: NDArray[np.uint8] | None = None


def _parts_of(
    numbers: NDArray[np.uint8], sheet: Sheet, parts: _Parts, edges: _Edges, across: int
) -> NDArray[np.int64]:
    """Return row, column and class of the first pixel of each part that lies within a sheet.

    What reaches a sheet's edge is put together with what lies behind it, in `parts`.
    """
    from skimage.measure import label

    whole = np.where(numbers == NOTHING, 0, numbers + 1).astype(np.int32)
    labels, count = label(  # type: ignore[no-untyped-call]
        whole, background=0, connectivity=1, return_num=True
    )
    first = np.zeros(count + 1, np.int64)
    first[labels.ravel()[::-1]] = np.arange(labels.size)[::-1]
    rows, columns = np.divmod(first, labels.shape[1])
    found = np.column_stack([rows + sheet.row, columns + sheet.column, numbers.ravel()[first]])
    cut = np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    cut = cut[cut > 0]
    # A part is known by its first pixel, of which no two are the same.
    known = found[:, 0] * across + found[:, 1]
    for part in cut:
        row, column, number = found[part].tolist()
        parts.first[int(known[part])] = (row, column, number)
    names = np.where(labels > 0, known[labels], -1)
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
    if sheet.column in edges.below and sheet.row:
        same = (edges.numbers_below[sheet.column] == numbers[0]) & (numbers[0] != NOTHING)
        pairs.append((edges.below[sheet.column], names[0], same))
    if edges.right is not None and edges.numbers_right is not None and sheet.column:
        same = (edges.numbers_right == numbers[:, 0]) & (numbers[:, 0] != NOTHING)
        pairs.append((edges.right, names[:, 0], same))
    for before, here, same in pairs:
        for one, other in np.unique(np.column_stack([before[same], here[same]]), axis=0):
            parts.join(int(one), int(other))
    edges.below[sheet.column], edges.right = names[-1].copy(), names[:, -1].copy()
    edges.numbers_below[sheet.column] = numbers[-1].copy()
    edges.numbers_right = numbers[:, -1].copy()
    inner = np.ones(count + 1, np.bool_)
    inner[0] = False
    inner[cut] = False
    return found[inner]


def _add_counts(
    counts: NDArray[np.int64], firsts: NDArray[np.int64], shapes: NDArray[np.object_]
) -> None:
    """Count parts by the places of their first pixels."""
    if not len(firsts):
        return
    np.add.at(counts[0], firsts[:, 2], 1)
    if len(shapes):
        points = shapely.points(firsts[:, 1] + 0.5, firsts[:, 0] + 0.5)
        part, zone = shapely.STRtree(shapes).query(points, predicate="intersects")
        np.add.at(counts, (1 + zone, firsts[part, 2]), 1)


def lines_of(report: ClassReport) -> Iterator[str]:
    """Yield a report as lines of text."""
    for zone in (report.whole, *report.zones):
        yield zone.name or report.source
        yield f"  {'class':20}{'hectares':>14}{'share':>9}{'parts':>9}"
        for entry in zone.classes:
            yield (
                f"  {entry.name:20}{entry.area_m2 / 10_000:14.4f}{entry.share:9.1%}{entry.count:9}"
            )
        yield f"  roads: {zone.road_m:,.0f} m, {zone.road_ha:.4f} ha"
        yield f"  buildings per hectare: {zone.buildings_per_ha:.2f}"
