"""Imagery on the grid of its chips: which pixels there are, and where chips may lie."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import PurePath

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from sat2map.errors import DataError, UsageError
from sat2map.geo.grid import Bounds, Grid, bounds_wgs84, ground_resolution, project
from sat2map.journal import address_without_query
from sat2map.raster.options import Reading
from sat2map.raster.scale import ENLARGED, FAR, size_at
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source, open_source

log = logging.getLogger(__name__)

Place = tuple[int, int]
"""Row and column of a chip's upper left pixel, on its sheet's grid."""

ROUNDING = 1e-3
"""Pixels; what overlaps by less does so by rounding."""

NEAR_DEGREES = 0.01
"""Sheets that are nearer than this share their blocks."""


@dataclass(frozen=True)
class Sheet:
    """One file of imagery, seen at the ground resolution of the chips.

    Attributes:
        source: A file, an address, a mosaic, or a tree of tiles.
        shown: What messages and files call it.
        name: Its name in those of its chips; no other sheet has it.
        reading: Which bands and values, and which part.
        grid: The grid of its pixels at the chips' ground resolution.
        valid: A thinned look at where it has pixels, bool [h,w], or None where everywhere.
        credit: Whose it is, where the file says so.
    """

    source: Source
    shown: str
    name: str
    reading: Reading
    grid: Grid
    valid: NDArray[np.bool_] | None
    credit: str | None = None

    def holds(self, place: Place, size: int) -> bool:
        """Return whether a chip has pixels everywhere, as far as the thinned look tells."""
        if self.valid is None:
            return True
        height, width = self.valid.shape
        row, column = place
        rows = slice(
            row * height // self.grid.height, -(-(row + size) * height // self.grid.height)
        )
        columns = slice(
            column * width // self.grid.width, -(-(column + size) * width // self.grid.width)
        )
        return bool(self.valid[rows, columns].all())


def open_imagery(names: Sequence[str]) -> list[Source]:
    """Find out what names of imagery stand for: each is one scene.

    Raises:
        DataError: A file cannot be read.
        UsageError: One is named twice.
    """
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UsageError(
                "is given twice",
                where=address_without_query(name),
                remedy="Name each `imagery` once.",
            )
    sources: list[Source] = []
    for name in names:
        with open_source(name).as_scene() as source:  # closed: there may be thousands
            sources.append(source)
    return sources


def open_sheets(
    names: Sequence[str], sources: Sequence[Source], reading: Reading, resolution_m: float
) -> list[Sheet]:
    """Look at imagery.

    Args:
        names: What it was called.
        sources: What these names stand for.
        reading: Which bands and values, and which part.
        resolution_m: The chips', metres per pixel.

    Raises:
        DataError: A file cannot be read or has no georeference.
        UsageError: It is far coarser than the resolution.
    """
    sheets: list[Sheet] = []
    for number, (given, source) in enumerate(zip(names, sources, strict=True), 1):
        shown = address_without_query(given)
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in PurePath(shown).stem)
        taken = {sheet.name for sheet in sheets}
        if name in taken:
            name = next(n for n in (f"{name}-{i}" for i in count(number)) if n not in taken)
        sheets.append(_open(source, shown, name, reading, resolution_m))
    return sheets


def _open(source: Source, shown: str, name: str, reading: Reading, resolution_m: float) -> Sheet:
    reading = replace(reading, warp=True)  # vectors are laid over it
    with Scene(source, 3, reading) as scene:
        if scene.grid.crs is None:
            raise DataError(
                "has no coordinate reference system, so no vectors can be laid over it",
                where=shown,
                remedy="Assign one first, for example with: gdal_edit.py -a_srs EPSG:CODE.",
            )
        size = reading.pixel_size
        ground = ground_resolution(scene.grid) if size is None else (size, size)
        if ground is None:
            raise DataError(
                "has no ground resolution: its coordinates and its coordinate reference system "
                "do not fit together",
                where=shown,
                remedy="Georeference it first.",
            )
        coarser = math.sqrt(ground[0] * ground[1]) / resolution_m
        if coarser > ENLARGED:
            raise UsageError(
                f"has {ground[0]:.3g} m per pixel, which is far too coarse for {resolution_m:g} m",
                where=shown,
                remedy="Give a coarser `resolution_m`, or finer imagery.",
            )
        if coarser > FAR:
            log.warning(
                f"{shown}: has {ground[0]:.3g} m per pixel; at {resolution_m:g} m it is enlarged, "
                "and shows no more for it."
            )
        grid = scene.grid.resized(*size_at(scene.grid, ground, resolution_m))
        # The thinned look is at all of the file, of which only a part may be meant.
        looks = scene.masked and reading.bbox is None
        valid = scene.sample()[1] if looks else None
        tags = scene.dataset.tags()
        credit = tags.get("ATTRIBUTION") or tags.get("TIFFTAG_COPYRIGHT")
        return Sheet(source, shown, name, reading, grid, valid, credit)


@dataclass(frozen=True)
class Region:
    """Sheets of neighbouring ground, which is measured in pixels of the first one.

    Attributes:
        sheets: The sheets that lie on it.
        size: Side of a chip.
    """

    sheets: tuple[Sheet, ...]
    size: int

    @property
    def ground(self) -> BaseGeometry:
        """All ground that the sheets show."""
        return shapely.union_all([self.outline(sheet) for sheet in self.sheets])

    def outline(self, sheet: Sheet) -> BaseGeometry:
        """Return a sheet's ground."""
        return self.footprint(sheet, (0, 0), sheet.grid.height, sheet.grid.width)

    def footprint(
        self, sheet: Sheet, place: Place, height: int | None = None, width: int | None = None
    ) -> BaseGeometry:
        """Return the ground of a chip, or of other pixels."""
        height, width = height or self.size, width or self.size
        row, column = place
        steps = 1 if sheet.grid.crs == self.sheets[0].grid.crs else 16
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * (width, height) + (column, row)
        outline = shapely.segmentize(
            shapely.Polygon(corners), max(height, width) / steps if steps > 1 else math.inf
        )
        return shapely.transform(outline, lambda points: self._here(sheet, points))

    def places(self, sheet: Sheet, area: BaseGeometry, *, anchored: bool) -> list[Place]:
        """Return where chips of a sheet may lie within an area.

        Args:
            sheet: Whose chips.
            area: In pixels of the first sheet.
            anchored: Lay them on the grid of all blocks, side by side; otherwise spread them
                over the area, where they may overlap a little, so that less of it is lost.
        """
        own = self.outline(sheet)
        places: list[Place] = []
        for part in shapely.get_parts(shapely.get_parts(area.intersection(own))):
            if part.geom_type != "Polygon" or part.is_empty:
                continue
            there = shapely.transform(part, partial(self._there, sheet))
            left, top, right, bottom = there.bounds
            first = self._there(sheet, np.zeros((1, 2)))[0].tolist() if anchored else None
            columns = _steps(left, right, self.size, sheet.grid.width, first and first[0])
            rows = _steps(top, bottom, self.size, sheet.grid.height, first and first[1])
            found = [(row, column) for row in rows for column in columns]
            places += self._within(sheet, found, part)
        return places

    def within(self, sheet: Sheet, place: Place, area: BaseGeometry) -> bool:
        """Return whether a chip lies within an area."""
        return bool(self._within(sheet, [place], area))

    def _within(self, sheet: Sheet, places: list[Place], area: BaseGeometry) -> list[Place]:
        if not places:
            return []
        footprints = np.array([self.footprint(sheet, place) for place in places], object)
        inner = shapely.buffer(footprints, -ROUNDING, join_style="mitre")
        shapely.prepare(area)
        return [
            place for place, fits in zip(places, shapely.covers(area, inner), strict=True) if fits
        ]

    def _here(self, sheet: Sheet, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (column, row) of a sheet into those of the first one, float64 [N,2]."""
        return _between(sheet.grid, self.sheets[0].grid, points)

    def _there(self, sheet: Sheet, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return _between(self.sheets[0].grid, sheet.grid, points)


def _between(source: Grid, target: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    if source is target:
        return points
    placed = np.stack(source.transform @ (points[:, 0], points[:, 1]), 1)
    if source.crs != target.crs:
        placed = project(source.crs, target.crs, placed)
    return np.stack(~target.transform @ (placed[:, 0], placed[:, 1]), 1)


def _steps(low: float, high: float, size: int, end: int, anchor: float | None) -> list[int]:
    """Return where chips begin along an axis: side by side from an anchor, or spread evenly."""
    if anchor is not None:
        low = anchor + math.ceil((low - anchor - ROUNDING) / size) * size
    first = max(math.ceil(low - ROUNDING), 0)
    last = min(math.floor(high + ROUNDING), end)
    return (
        spread(first, last, size) if anchor is None else list(range(first, last - size + 1, size))
    )


def spread(low: int, high: int, size: int) -> list[int]:
    """Return where chips begin that cover an axis evenly, overlapping by a quarter at most."""
    count = -(-(high - low) // size)
    if count > 1 and (count * size - (high - low)) / (count - 1) > size / 4:
        count -= 1
    if high - low < size:
        return []
    if (high - low) / count >= size:  # there is room for all: side by side
        return [low + number * size for number in range(count)]
    return [round(at) for at in np.linspace(low, high - size, count).tolist()]


def regions_of(sheets: Sequence[Sheet], size: int) -> list[Region]:
    """Gather sheets of neighbouring ground."""
    regions: list[list[Sheet]] = []
    for sheet in sheets:
        near = [r for r in regions if any(_near(sheet, other) for other in r)]
        regions = [r for r in regions if r not in near]
        regions.append([*(s for r in near for s in r), sheet])
    return [Region(tuple(region), size) for region in regions]


def _near(sheet: Sheet, other: Sheet) -> bool:
    a, b = bounds_wgs84(sheet.grid), bounds_wgs84(other.grid)
    if a is None or b is None:
        return False
    return not _apart(a, b)


def _apart(a: Bounds, b: Bounds) -> bool:
    """Return whether bounds in degrees are not near; past the antimeridian west exceeds east."""
    (west, south, east, north), (b_west, b_south, b_east, b_north) = a, b
    east += 360 * (east < west)
    b_east += 360 * (b_east < b_west)
    turn = 360 * round((west + east - b_west - b_east) / 720)  # to the side where the first lies
    gaps = (b_west + turn - east, west - b_east - turn, b_south - north, south - b_north)
    return max(gaps) > NEAR_DEGREES
