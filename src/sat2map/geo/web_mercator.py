"""The square of the world that web maps show, in EPSG:3857, and its tiles {z}/{x}/{y}.

It is the tile matrix set WebMercatorQuad (OGC 17-083r4), which morecantile knows: columns count
from the antimeridian to the east, rows from the north to the south.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from rasterio.crs import CRS
from rasterio.transform import Affine

from sat2map.geo.grid import Bounds, Grid

if TYPE_CHECKING:
    from morecantile import TileMatrixSet


@cache
def _quad() -> TileMatrixSet:
    import morecantile  # a tenth of a second, which a plain .tif need not wait

    return morecantile.tms.get("WebMercatorQuad")


@cache
def _square() -> Bounds:
    west, south, east, north = _quad().xy_bbox  # asks PROJ each time
    return west, south, east, north


@cache
def mercator() -> CRS:
    """Return EPSG:3857."""
    return CRS.from_epsg(3857)


def world_m() -> float:
    """Return the square's side, metres of EPSG:3857."""
    west, _, east, _ = _square()
    return float(east - west)


@cache
def limits() -> Bounds:
    """Return the square's west, south, east and north, degrees."""
    west, south, east, north = _quad().bbox
    return west, south, east, north


def position(longitude: float, latitude: float, zoom: int) -> tuple[float, float]:
    """Return where a place lies among the tiles of a zoom, in columns and rows of them.

    Args:
        longitude: -180 to 180 degrees.
        latitude: Degrees; beyond the square it is taken to its edge.
        zoom: The zoom.
    """
    # In the square's own terms, on a sphere (EPSG guidance note 7-2, method 1024). Who serves tiles
    # asks several times for each, and PROJ takes a thousand times as long.
    _, southmost, _, northmost = limits()
    angle = math.radians(min(max(latitude, southmost), northmost))
    count = 2**zoom
    across = min(max(longitude, -180.0), 180.0) / 360 + 0.5
    down = 0.5 - math.asinh(math.tan(angle)) / (2 * math.pi)
    return across * count, down * count


def tile_grid(zoom: int, columns: range, rows: range, side: int) -> Grid:
    """Return the grid of the pixels of some tiles.

    Args:
        zoom: The zoom.
        columns: The tiles' columns.
        rows: The tiles' rows.
        side: Pixels along a tile's side.
    """
    west, _, _, north = _square()
    metres = world_m() / 2**zoom / side
    left, top = west + columns.start * side * metres, north - rows.start * side * metres
    return Grid(
        len(rows) * side,
        len(columns) * side,
        Affine(metres, 0, left, 0, -metres, top),
        mercator(),
    )


def quadkey(zoom: int, column: int, row: int) -> str:
    """Return the name of a tile as Bing's maps have it: a digit, 0 to 3, for each zoom.

    See https://learn.microsoft.com/en-us/bingmaps/articles/bing-maps-tile-system.
    """
    digits = ((row >> z & 1) * 2 + (column >> z & 1) for z in reversed(range(zoom)))
    return "".join(map(str, digits))
