"""Grids of pixels on the ground: their georeference, their scale, and parts of them."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from sat2map.errors import UsageError
from sat2map.geo.gdal import check_proj

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""


Point = tuple[float, float, float, float]
"""Column and row of a pixel's upper left corner, and its x and y."""


@dataclass(frozen=True)
class Grid:
    """Pixels on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        transform: From (column, row) of a pixel's upper left corner to coordinates.
        crs: What the coordinates mean, or None where nobody said.
        points: Ground control points, (column, row, x, y), of pixels that lie on no straight grid;
            the transform is the nearest one then.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None
    points: tuple[Point, ...] = ()

    def resized(self, height: int, width: int) -> Grid:
        """Return the grid of other pixels that covers just the same ground."""
        across, down = self.width / width, self.height / height
        points = tuple((column / across, row / down, x, y) for column, row, x, y in self.points)
        scaled = self.transform @ Affine.scale(across, down)
        return Grid(height, width, scaled, self.crs, points)

    def part(self, row: int, column: int, height: int, width: int) -> Grid:
        """Return the grid of some of the pixels."""
        shifted = self.transform @ Affine.translation(column, row)
        points = tuple((c - column, r - row, x, y) for c, r, x, y in self.points)
        return Grid(height, width, shifted, self.crs, points)

    @property
    def georeferenced(self) -> bool:
        """Whether the pixels have coordinates at all."""
        return bool(self.transform != Affine.identity())


@dataclass(frozen=True)
class Part:
    """Some of a grid's pixels.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """One past the last row."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """One past the last column."""
        return self.left + self.width

    def overlaps(self, other: Part) -> bool:
        """Return whether there are pixels that are in both."""
        return max(self.top, other.top) < min(self.bottom, other.bottom) and max(
            self.left, other.left
        ) < min(self.right, other.right)

    def on(self, grid: Grid, other: Grid) -> Part:
        """Return the pixels of another grid over the same ground that these touch."""
        top, bottom = _touched(self.top, self.bottom, grid.height, other.height)
        left, right = _touched(self.left, self.right, grid.width, other.width)
        return Part(top, left, bottom - top, right - left)


def _touched(start: int, stop: int, of: int, other: int) -> tuple[int, int]:
    return start * other // of, min(-(-stop * other // of), other)


def ground_resolution(grid: Grid) -> tuple[float, float] | None:
    """Return metres on the ground from pixel to pixel, (along a row, along a column).

    It is taken at the grid's centre and on the ellipsoid, so degrees, feet and the stretched
    metres of the web's Mercator projection all come out as what they are on the ground. None
    where the grid has no CRS or no coordinates, or where they do not fit together.
    """
    if grid.crs is None or not grid.georeferenced:
        return None
    try:
        metres = np.hypot(*pixel_steps(grid).T)
    except ProjectionError:
        return None
    if not (np.isfinite(metres) & (metres > 0)).all():
        return None
    return float(metres[0]), float(metres[1])


def pixel_steps(grid: Grid) -> NDArray[np.float64]:
    """Return metres east and north of a step along a row and along a column, float64 [2,2].

    Row 0 is (east, north) of a column further, row 1 that of a row further, at the centre.

    Raises:
        ProjectionError: The coordinates and the CRS do not fit together.
    """
    from pyproj import Geod

    row, column = grid.height / 2, grid.width / 2
    here, *there = to_wgs84(grid, np.array([(column, row), (column + 1, row), (column, row + 1)]))
    (west, south), (longitudes, latitudes) = np.stack([here, here], 1), np.array(there).T
    azimuths, _, metres = Geod(ellps="WGS84").inv(west, south, longitudes, latitudes)
    bearing = np.radians(azimuths)
    return np.stack([metres * np.sin(bearing), metres * np.cos(bearing)], 1)


class ProjectionError(Exception):
    """Coordinates that PROJ cannot turn into others."""


def to_wgs84(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (longitude, latitude) in degrees of (column, row), float64 [N,2] both.

    Raises:
        ProjectionError: PROJ knows no place on the ground for one of them.
    """
    xs, ys = grid.transform @ (points[:, 0], points[:, 1])
    degrees = _transform(grid.crs, "EPSG:4326", xs, ys)
    if np.abs(degrees[:, 1]).max() > 90:  # metres that are called degrees
        raise ProjectionError
    return degrees


def project(source: CRS, target: CRS, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coordinates in another CRS, float64 [N,2] both; not finite where there are none."""
    try:
        return _transform(source, target, points[:, 0], points[:, 1])
    except ProjectionError:
        return np.full_like(points, np.inf)


def bounds_wgs84(grid: Grid) -> Bounds | None:
    """Return the bounds in degrees; where they cross the antimeridian, west exceeds east.

    Of a turned grid they are those of the upright rectangle around it. None where the grid has
    no CRS or PROJ knows no way.
    """
    if grid.crs is None:
        return None
    try:
        west, south, east, north = _bounds(grid.crs, "EPSG:4326", _upright(grid))
    except ProjectionError:
        return None
    if max(-south, north) > 90 + 1e-9:  # metres that are called degrees
        return None
    south, north = max(south, -90.0), min(north, 90.0)
    if east - west >= 360 - 1e-9:
        return -180.0, south, 180.0, north
    west, east = _turned(west, east)
    return west, south, east, north


def check_bbox(bounds: Bounds) -> None:
    """Refuse what is not a box in degrees (WGS 84); west above east crosses the antimeridian.

    Raises:
        UsageError: It is none; its parameter is called `bbox`.
    """
    west, south, east, north = bounds
    told = f"{west:g},{south:g},{east:g},{north:g}"
    finite = all(map(math.isfinite, bounds))
    if (
        not finite
        or max(abs(west), abs(east)) > 360
        or west == east
        or not (-90 <= south < north <= 90)
    ):
        raise UsageError(
            f"{told} is not a bounding box",
            parameter="bbox",
            remedy="Give west,south,east,north in degrees (WGS 84), such as 13.3,52.4,13.5,52.6.",
        )
    if 0 < west - east < 180:  # across the antimeridian it would be the far side
        raise UsageError(
            f"{told} has its west {west - east:g} degrees east of its east",
            parameter="bbox",
            remedy="Give west,south,east,north; across the antimeridian as 179,-17,-179,-16.",
        )


def window_of(grid: Grid, bounds: Bounds, where: str | Path) -> tuple[int, int, int, int]:
    """Return the pixels that bounds in degrees touch, as (row, column, height, width).

    Args:
        grid: The scene's.
        bounds: West, south, east, north in WGS 84; west above east crosses the antimeridian.
        where: The scene, for messages.

    Raises:
        UsageError: The scene has no CRS, or lies elsewhere.
    """
    if grid.crs is None:
        raise UsageError(
            "has no coordinate reference system, so no part of it can be found by `bbox`",
            where=where,
            remedy="Say which it is, such as `crs=EPSG:32633`.",
        )
    own = bounds_wgs84(grid)
    columns = rows = np.array([-1.0])
    shared = None if own is None else _overlap(bounds, own)
    if shared is not None:
        with suppress(ProjectionError):
            left, low, right, high = _bounds("EPSG:4326", grid.crs, shared)
            if grid.crs.is_geographic:  # the scene's own degrees may run beyond 180
                right += 360 * (right < left)
                centre = (grid.transform @ (grid.width / 2, grid.height / 2))[0]
                turn = 360 * round((centre - (left + right) / 2) / 360)
                left, right = left + turn, right + turn
            xs, ys = np.array([left, right, right, left]), np.array([low, low, high, high])
            columns, rows = ~grid.transform @ (xs, ys)
    # A pixel that is touched by less than its thousandth is none that was asked for.
    top, left = (max(math.floor(v.min() + 1e-3), 0) for v in (rows, columns))
    bottom = min(math.ceil(rows.max() - 1e-3), grid.height)
    right = min(math.ceil(columns.max() - 1e-3), grid.width)
    if top >= bottom or left >= right:
        lies = "" if own is None else " It lies at {:.6f},{:.6f},{:.6f},{:.6f}.".format(*own)
        raise UsageError(
            "the scene {} lies wholly outside of {:g},{:g},{:g},{:g}".format(where, *bounds),
            parameter="bbox",
            remedy=f"Give west,south,east,north in degrees (WGS 84).{lies}",
        )
    return top, left, bottom - top, right - left


def _upright(grid: Grid) -> Bounds:
    """Return the bounds of a grid in its own coordinates."""
    columns, rows = np.array([0, 1, 1, 0]) * grid.width, np.array([0, 0, 1, 1]) * grid.height
    xs, ys = grid.transform @ (columns, rows)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def _turned(west: float, east: float) -> tuple[float, float]:
    """Return two longitudes within -180 to 180."""
    if not -180 <= west < 180:
        west = (west + 180) % 360 - 180
    if not -180 < east <= 180:
        east = 180 - (180 - east) % 360
    return west, east


def _overlap(wanted: Bounds, own: Bounds) -> Bounds | None:
    """Return what two bounds in degrees share, with some more on each side, or None.

    Far away from a scene its projection may mean nothing.
    """
    (west, south, east, north), (own_west, own_south, own_east, own_north) = wanted, own
    east += 360 * (east <= west)
    own_east += 360 * (own_east < own_west)
    turn = 360 * round(((own_west + own_east) - (west + east)) / 720)
    west, east = west + turn, east + turn
    if east - west >= 360:
        west, east = own_west, own_east
    more = 0.05 * (own_east - own_west), 0.05 * (own_north - own_south)
    west, east = max(west, own_west - more[0]), min(east, own_east + more[0])
    south, north = max(south, own_south - more[1], -90), min(north, own_north + more[1], 90)
    if west >= east or south >= north:
        return None
    if east - west >= 360:
        return -180.0, south, 180.0, north
    west, east = _turned(west, east)
    return west, south, east, north


def _bounds(source: Any, target: Any, bounds: Bounds) -> Bounds:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    try:
        found: Bounds = transform_bounds(source, target, *bounds)
    except (RasterioError, CPLE_BaseError, ValueError) as error:
        check_proj()
        raise ProjectionError from error
    if not np.isfinite(found).all():
        raise ProjectionError
    return found


def _transform(source: Any, target: Any, xs: Any, ys: Any) -> NDArray[np.float64]:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    try:
        longitudes, latitudes = transform(source, target, list(xs), list(ys))
    except (RasterioError, CPLE_BaseError, ValueError) as error:
        check_proj()
        raise ProjectionError from error
    points = np.stack([longitudes, latitudes], 1)
    if not np.isfinite(points).all():
        raise ProjectionError
    return points
