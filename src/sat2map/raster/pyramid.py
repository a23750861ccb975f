"""A map as a pyramid of square tiles in the web's Mercator projection (EPSG:3857).

The tiles of the highest zoom are warped from the map's strips; every tile below is made of its
four children, so each pixel is warped once and memory does not grow with the scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from sat2map.errors import UsageError
from sat2map.geo.grid import Bounds, Grid, bounds_wgs84, ground_resolution
from sat2map.geo.web_mercator import limits, position, tile_grid, world_m
from sat2map.raster.halving import halved_classes
from sat2map.raster.strips import Strips

SIDE = 256
HIGHEST = 24
AT_ONCE = 4
"""So many tiles by so many are warped at once."""

Tile = NDArray[np.uint8]
"""Colours with alpha, uint8 [256,256,4], or class numbers, uint8 [256,256]."""


Part = tuple[range, range]
"""Columns from the west and rows from the north of some tiles of one zoom."""


@dataclass(frozen=True)
class Pyramid:
    """The web tiles that a map touches, zoom by zoom.

    Attributes:
        bounds: The map's west, south, east and north in degrees; west above east crosses the
            antimeridian.
        highest: The zoom whose pixels are nearest in size to the map's.
        base: The tiles of that zoom, in two parts where the map crosses the antimeridian.
    """

    bounds: Bounds
    highest: int
    base: tuple[Part, ...]

    @property
    def lowest(self) -> int:
        """The highest zoom at which the map is one tile."""
        zooms = range(self.highest, 0, -1)
        return next((zoom for zoom in zooms if self._count(zoom) == 1), 0)

    def parts(self, zoom: int) -> list[Part]:
        """Return the tiles of a zoom, up to the highest one."""
        times = self.highest - zoom
        halved = [(_shifted(columns, times), _shifted(rows, times)) for columns, rows in self.base]
        return list(dict.fromkeys(halved))

    def touches(self, zoom: int, x: int, y: int) -> bool:
        """Return whether the map reaches into a tile."""
        return any(x in columns and y in rows for columns, rows in self.parts(zoom))

    def _count(self, zoom: int) -> int:
        return sum(len(columns) * len(rows) for columns, rows in self.parts(zoom))


def _shifted(numbers: range, times: int) -> range:
    return range(numbers[0] >> times, (numbers[-1] >> times) + 1)


def pyramid_of(grid: Grid, where: Path) -> Pyramid:
    """Return which tiles a map touches.

    Args:
        grid: The map's.
        where: The output, for messages.

    Raises:
        UsageError: Nobody knows where the map lies, or it lies where the projection ends.
    """
    bounds, ground = bounds_wgs84(grid), ground_resolution(grid)
    if bounds is None or ground is None:
        raise UsageError(
            "cannot be tiled, since the scene does not say where on the ground it lies",
            where=where,
            remedy="Georeference it first, or write a .tif.",
        )
    west, south, east, north = bounds
    _, southmost, _, northmost = limits()
    south, north = max(south, southmost), min(north, northmost)
    if south >= north:
        raise UsageError(
            f"cannot be tiled, since the web's map ends at {northmost:.2f} degrees",
            where=where,
            remedy="Write a .tif.",
        )
    across = world_m() / SIDE * math.cos(math.radians((south + north) / 2))
    zoom = round(math.log2(across / math.sqrt(ground[0] * ground[1])))
    highest = min(max(zoom, 0), HIGHEST)
    count = 2**highest
    base = []
    for left, right in [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]:
        (first, top), (last, bottom) = (
            position(left, north, highest),
            position(right, south, highest),
        )
        base.append((_touched(first, last, count), _touched(top, bottom, count)))
    return Pyramid((west, south, east, north), highest, tuple(base))


def _touched(start: float, stop: float, count: int) -> range:
    # Less than a hundredth of a pixel of a tile is rounding.
    first = min(max(math.floor(start + 0.01 / SIDE), 0), count - 1)
    return range(first, min(max(math.ceil(stop - 0.01 / SIDE), first + 1), count))


def tiles(
    strips: Strips, pyramid: Pyramid, order: Callable[[int, int, int], int] | None = None
) -> Iterator[tuple[int, int, int, Tile]]:
    """Yield the tiles in which there is some of the map, children before their parents.

    Args:
        strips: The finished map.
        pyramid: Which tiles it touches.
        order: Of (zoom, x, y), by which siblings are sorted.

    Yields:
        Zoom, column from the west, row from the north, and the tile.
    """
    with ExitStack() as stack:
        source = stack.enter_context(rasterio.open(strips.whole("alpha")))
        warped = [
            (columns, rows, stack.enter_context(_warped(source, strips, pyramid, columns, rows)))
            for columns, rows in pyramid.parts(pyramid.highest)
        ]
        renderer = _Renderer(strips, pyramid, warped, order)
        for columns, rows in pyramid.parts(pyramid.lowest):
            for y in rows:
                for x in columns:
                    yield from renderer.render(pyramid.lowest, x, y)


def _warped(source: Any, strips: Strips, pyramid: Pyramid, columns: range, rows: range) -> Any:
    grid, count = strips.layout.grid, 2**pyramid.highest
    on_web = tile_grid(pyramid.highest, columns, rows, SIDE)
    assert grid.crs is not None
    placed = grid.transform
    if grid.crs.is_geographic:  # the scene's own degrees may run beyond 180
        centre = (placed @ (grid.width / 2, grid.height / 2))[0]
        wanted = ((columns.start + columns.stop) / 2 / count - 0.5) * 360
        placed = Affine.translation(360 * round((wanted - centre) / 360), 0) @ placed
    legend = strips.layout.legend
    rules: dict[str, Any] = (
        {"add_alpha": not strips.layout.masked, "resampling": Resampling.bilinear}
        if legend is None
        else {"nodata": len(legend), "resampling": Resampling.nearest}
    )
    return WarpedVRT(
        source,
        src_crs=grid.crs,
        src_transform=placed,
        crs=on_web.crs,
        transform=on_web.transform,
        width=on_web.width,
        height=on_web.height,
        **rules,
    )


class _Renderer:
    """Makes tiles from the bottom up.

    Args:
        strips: The map.
        pyramid: Which tiles it touches.
        warped: The map on the grid of the highest zoom: columns and rows of tiles, and what
            rasterio opened.
        order: By which siblings are sorted.
    """

    def __init__(
        self,
        strips: Strips,
        pyramid: Pyramid,
        warped: list[tuple[range, range, Any]],
        order: Callable[[int, int, int], int] | None,
    ) -> None:
        legend = strips.layout.legend
        self._empty = None if legend is None else len(legend)
        self._pyramid = pyramid
        self._warped = warped
        self._order = order or (lambda zoom, x, y: 0)
        self._block: tuple[int, int, int] | None = None
        self._pixels = np.zeros(0, np.uint8)

    def render(
        self, zoom: int, x: int, y: int
    ) -> Generator[tuple[int, int, int, Tile], None, Tile | None]:
        """Yield a tile after all below it, and return it; None where it would be empty."""
        if not self._pyramid.touches(zoom, x, y):
            return None
        if zoom == self._pyramid.highest:
            tile = self._read(x, y)
        else:
            below = [(zoom + 1, 2 * x + right, 2 * y + down) for down in (0, 1) for right in (0, 1)]
            tile = self._nothing(2 * SIDE)
            for child in sorted(below, key=lambda place: self._order(*place)):
                part = yield from self.render(*child)
                if part is not None:
                    top, left = child[2] % 2 * SIDE, child[1] % 2 * SIDE
                    tile[top : top + SIDE, left : left + SIDE] = part
            tile = halved(tile) if self._empty is None else halved_classes(tile, self._empty)
        if not self._shows(tile):
            return None
        yield zoom, x, y, tile
        return tile

    def _nothing(self, side: int) -> Tile:
        if self._empty is None:
            return np.zeros((side, side, 4), np.uint8)
        return np.full((side, side), self._empty, np.uint8)

    def _shows(self, tile: Tile) -> bool:
        return bool(tile[..., 3].any() if self._empty is None else (tile != self._empty).any())

    def _read(self, x: int, y: int) -> Tile:
        number = next(i for i, (xs, ys, _) in enumerate(self._warped) if x in xs and y in ys)
        columns, rows, dataset = self._warped[number]
        block = (number, x // AT_ONCE, y // AT_ONCE)
        left, top = (max(at // AT_ONCE * AT_ONCE, s.start) for at, s in ((x, columns), (y, rows)))
        if block != self._block:
            right, bottom = (
                min((at // AT_ONCE + 1) * AT_ONCE, s.stop) for at, s in ((x, columns), (y, rows))
            )
            corner = ((left - columns.start) * SIDE, (top - rows.start) * SIDE)
            window = Window(*corner, (right - left) * SIDE, (bottom - top) * SIDE)
            read = dataset.read(window=window)
            self._pixels = read[0] if self._empty is not None else read.transpose(1, 2, 0)
            self._block = block
        across, down = (x - left) * SIDE, (y - top) * SIDE
        return np.ascontiguousarray(self._pixels[down : down + SIDE, across : across + SIDE])


def halved(tile: Tile) -> Tile:
    """Return colours with alpha at half the size: means of four, weighted by their alpha.

    What is there at all keeps some alpha, so that no scene is lost at the lowest zoom.

    Args:
        tile: uint8 [2h,2w,4].
    """
    parts = [tile[i::2, j::2].astype(np.uint32) for i in (0, 1) for j in (0, 1)]
    alpha = sum(part[..., 3:] for part in parts)
    colour = sum(part[..., :3] * part[..., 3:] for part in parts)
    whole = np.maximum(alpha, 1)
    return np.concatenate([(colour + whole // 2) // whole, (alpha + 3) // 4], -1).astype(np.uint8)
