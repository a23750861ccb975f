"""Grids of pixels on the ground: their georeference, their scale, and parts of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from sat2map.errors import UsageError

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""

AXIS_M = 6_378_137.0
"""Equatorial radius of WGS 84, metres."""

ECCENTRICITY_SQUARED = 6.694379990141e-3


@dataclass(frozen=True)
class Grid:
    """Pixels on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        transform: From (column, row) of a pixel's upper left corner to coordinates.
        crs: What the coordinates mean, or None where nobody said.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None

    def resized(self, height: int, width: int) -> Grid:
        """Return the grid of other pixels that covers just the same ground."""
        scale = Affine.scale(self.width / width, self.height / height)
        return Grid(height, width, self.transform @ scale, self.crs)

    def part(self, row: int, column: int, height: int, width: int) -> Grid:
        """Return the grid of some of the pixels."""
        shifted = self.transform @ Affine.translation(column, row)
        return Grid(height, width, shifted, self.crs)

    @property
    def georeferenced(self) -> bool:
        """Whether the pixels have coordinates at all."""
        return bool(self.transform != Affine.identity())


def ground_resolution(grid: Grid) -> tuple[float, float] | None:
    """Return metres on the ground from pixel to pixel, (along a row, along a column).

    It is taken at the grid's centre and on the ellipsoid, so degrees, feet and the stretched
    metres of the web's Mercator projection all come out as what they are on the ground. None
    where the grid has no CRS or no coordinates, or where they do not fit together.
    """
    if grid.crs is None or not grid.georeferenced:
        return None
    row, column = grid.height / 2, grid.width / 2
    corners = np.array([(column, row), (column + 1, row), (column, row + 1)])
    try:
        longitudes, latitudes = np.radians(to_wgs84(grid, corners)).T
    except _ProjectionError:
        return None
    sine = 1 - ECCENTRICITY_SQUARED * math.sin(latitudes[0]) ** 2
    north = AXIS_M * (1 - ECCENTRICITY_SQUARED) / sine**1.5 * (latitudes - latitudes[0])
    turned = (longitudes - longitudes[0] + math.pi) % (2 * math.pi) - math.pi
    east = AXIS_M / math.sqrt(sine) * math.cos(latitudes[0]) * turned
    along_row, along_column = np.hypot(east, north)[1:]
    if not (math.isfinite(along_row) and math.isfinite(along_column)) or not (
        along_row > 0 and along_column > 0
    ):
        return None
    return float(along_row), float(along_column)


class _ProjectionError(Exception):
    """Coordinates that PROJ cannot turn into others."""


def to_wgs84(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (longitude, latitude) in degrees of (column, row), float64 [N,2] both."""
    xs, ys = grid.transform @ (points[:, 0], points[:, 1])
    degrees = _transform(grid.crs, "EPSG:4326", xs, ys)
    if np.abs(degrees[:, 1]).max() > 90:  # metres that are called degrees
        raise _ProjectionError
    return degrees


def project(source: CRS, target: CRS, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coordinates in another CRS, float64 [N,2] both; not finite where there are none."""
    try:
        return _transform(source, target, points[:, 0], points[:, 1])
    except _ProjectionError:
        return np.full_like(points, np.inf)


def bounds_wgs84(grid: Grid) -> Bounds | None:
    """Return the bounds in degrees; where they cross the antimeridian, west exceeds east.

    None where the grid has no CRS or PROJ knows no way.
    """
    if grid.crs is None:
        return None
    try:
        longitudes, latitudes = to_wgs84(grid, _outline(grid.width, grid.height)).T
    except _ProjectionError:
        return None
    centre = longitudes[0]
    turned = centre + (longitudes - centre + 180) % 360 - 180
    west, east = ((float(value) + 180) % 360 - 180 for value in (turned.min(), turned.max()))
    return west, float(latitudes.min()), east, float(latitudes.max())


def window_of(grid: Grid, bounds: Bounds, where: str | Path) -> tuple[int, int, int, int]:
    """Return the pixels that bounds in degrees touch, as (row, column, height, width).

    Args:
        grid: The scene's.
        bounds: West, south, east, north in WGS 84; west above east crosses the antimeridian.
        where: The scene, for messages.

    Raises:
        UsageError: The scene has no CRS, or lies elsewhere.
    """
    west, south, east, north = bounds
    if grid.crs is None:
        raise UsageError(
            "has no coordinate reference system, so no part of it can be found by --bbox",
            where=where,
            remedy="Assign one first, for example with: gdal_edit.py -a_srs EPSG:CODE.",
        )
    width = east - west if east > west else east - west + 360
    outline = _outline(1, 1) * (width, north - south) + (west, south)
    own = bounds_wgs84(grid)
    try:
        xs, ys = _transform("EPSG:4326", grid.crs, outline[:, 0], outline[:, 1]).T
        if grid.crs.is_geographic:  # the scene's own degrees may run beyond 180
            centre = (grid.transform @ (grid.width / 2, grid.height / 2))[0]
            xs = xs + 360 * np.round((centre - xs.mean()) / 360)
        columns, rows = ~grid.transform @ (xs, ys)
    except _ProjectionError:
        columns = rows = np.array([-1.0])
    # A pixel that is touched by less than its thousandth is none that was asked for.
    top, left = (max(math.floor(v.min() + 1e-3), 0) for v in (rows, columns))
    bottom = min(math.ceil(rows.max() - 1e-3), grid.height)
    right = min(math.ceil(columns.max() - 1e-3), grid.width)
    if top >= bottom or left >= right:
        lies = "" if own is None else " It lies at {:.6f},{:.6f},{:.6f},{:.6f}.".format(*own)
        raise UsageError(
            "the scene {} lies wholly outside of {:g},{:g},{:g},{:g}".format(where, *bounds),
            where="--bbox",
            remedy=f"Give west,south,east,north in degrees (WGS 84).{lies}",
        )
    return top, left, bottom - top, right - left


def _outline(width: float, height: float, steps: int = 32) -> NDArray[np.float64]:
    """Return points along a rectangle's outline, float64 [N,2], since edges may be curved."""
    along = np.linspace(0, 1, steps)
    still = np.zeros(steps)
    sides = [(along, still), (along, still + 1), (still, along), (still + 1, along)]
    return np.concatenate([np.stack(side, 1) for side in sides]) * (width, height)


def _transform(source: Any, target: Any, xs: Any, ys: Any) -> NDArray[np.float64]:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    try:
        longitudes, latitudes = transform(source, target, list(xs), list(ys))
    except (RasterioError, CPLE_BaseError, ValueError) as error:
        raise _ProjectionError from error
    points = np.stack([longitudes, latitudes], 1)
    if not np.isfinite(points).all():
        raise _ProjectionError
    return points
