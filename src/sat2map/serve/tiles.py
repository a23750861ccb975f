"""Web tiles: which pixels of a scene one needs, how they are warped to it, and how it is sent.

Tiles are warped from an overview that is no coarser than the tile, numbers of classes by nearest,
so that a tile of classes is what GDAL makes of a class map file. What comes after, such as colours
and formats, asks for nothing new.

GDAL warps whatever is turned, bent, thinned or full of holes. Most tiles that people look at lie
within a scene and as finely as it or finer, and there a tile's four corners say where each of its
pixels lies: Pillow does these in a quarter of the time, to a level of 255.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject

from sat2map.geo.gdal import settings
from sat2map.geo.grid import Bounds, Grid, Part, project
from sat2map.geo.web_mercator import position, tile_grid
from sat2map.legend import Legend
from sat2map.raster.pyramid import HIGHEST, SIDE
from sat2map.serve.open_scene import LayerName, OpenScene
from sat2map.serve.overviews import NOTHING, halved_size
from sat2map.serve.styles import MapStyle

Format = Literal["png", "webp"]

MERCATOR = CRS.from_epsg(3857)
LATTICE = 9
"""Points along each side of a tile by which its place in a scene is found."""

MARGIN = 3
"""Pixels that are read around what a tile covers, for interpolation."""

EVEN = 0.05
"""Pixels of a scene by which a tile's may lie elsewhere than between its corners."""

NATIVE = 1.02
"""A tile whose pixels are no larger than so many of the scene's is interpolated; in a coarser one
each pixel is a mean of several."""

SMALL = 512
"""A level whose sides are no longer is read as a whole."""

LEVELS = 31


@dataclass(frozen=True)
class Tile:
    """One square of the web's map.

    Attributes:
        zoom: 0 to `HIGHEST`.
        x: Its column from the west.
        y: Its row from the north.
        scale: 1, or 2 for twice as many pixels along each side.
    """

    zoom: int
    x: int
    y: int
    scale: int = 1

    @property
    def exists(self) -> bool:
        """Whether there is such a tile at all."""
        count = 2**self.zoom if 0 <= self.zoom <= HIGHEST else 0
        return 0 <= self.x < count and 0 <= self.y < count

    @cached_property
    def grid(self) -> Grid:
        """Its pixels on the ground."""
        columns, rows = range(self.x, self.x + 1), range(self.y, self.y + 1)
        return tile_grid(self.zoom, columns, rows, SIDE * self.scale)

    def touches(self, bounds: Bounds) -> bool:
        """Return whether it reaches into bounds in degrees."""
        west, south, east, north = bounds
        for left, right in [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]:
            first, top = position(left, north, self.zoom)
            last, bottom = position(right, south, self.zoom)
            if first < self.x + 1 and last > self.x and top < self.y + 1 and bottom > self.y:
                return True
        return False


@dataclass(frozen=True)
class Need:
    """What a tile is made of.

    Attributes:
        level: The overview, 0 for the finest.
        part: Which of its pixels; None where the tile lies beside the scene.
    """

    level: int
    part: Part | None


def need_of(tile: Tile, grid: Grid) -> Need:
    """Return which pixels of which overview a tile needs.

    Args:
        tile: The tile.
        grid: The scene's own grid, of level 0.
    """
    assert grid.crs is not None
    level = _level(tile, grid)
    height, width = halved_size(grid.height, level), halved_size(grid.width, level)
    if max(height, width) <= SMALL:
        return Need(level, Part(0, 0, height, width))
    across, down = _lattice(tile, grid)
    if not len(across):
        return Need(level, None)
    times = 2**level
    top, left = (max(math.floor(v.min() / times) - MARGIN, 0) for v in (down, across))
    bottom = min(math.ceil(down.max() / times) + MARGIN, height)
    right = min(math.ceil(across.max() / times) + MARGIN, width)
    if top >= bottom or left >= right:
        return Need(level, None)
    return Need(level, Part(top, left, bottom - top, right - left))


def _lattice(tile: Tile, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at which columns and rows of a grid points of a tile lie, from its first corner on.

    Points that lie nowhere in the grid's coordinates are left out.
    """
    assert grid.crs is not None
    steps = np.linspace(0, tile.grid.width, LATTICE)
    columns, rows = (axis.ravel() for axis in np.meshgrid(steps, steps))
    points = np.stack(tile.grid.transform @ (columns, rows), 1)
    places = project(MERCATOR, grid.crs, points)
    places = places[np.isfinite(places).all(1)]
    if len(places):
        places[:, 0] += _turn(grid, places[:, 0])
    across, down = ~grid.transform @ (places[:, 0], places[:, 1])
    return across, down


def _corners(tile: Tile, grid: Grid, *, nearest: bool) -> list[float] | None:
    """Return where a tile's corners lie in a grid, as Pillow takes them, if they say all of it.

    They do where the tile lies within the grid, evenly, and is no coarser, unless each of its
    pixels is the nearest one.
    """
    found = _lattice(tile, grid)
    if len(found[0]) < LATTICE**2:
        return None
    places = np.stack(found, 1).reshape(LATTICE, LATTICE, 2)
    if places.min() < 0.5 or (places > (grid.width - 0.5, grid.height - 0.5)).any():
        return None
    down, along = np.meshgrid(*[np.linspace(0, 1, LATTICE)] * 2, indexing="ij")
    (a, b), (c, d) = places[0, [0, -1]], places[-1, [0, -1]]
    weights = np.stack(
        [(1 - down) * (1 - along), (1 - down) * along, down * (1 - along), down * along]
    )
    evenly = np.tensordot(weights, np.stack([a, b, c, d]), (0, 0))
    pixel = max(np.linalg.norm(b - a), np.linalg.norm(c - a)) / tile.grid.width
    if np.abs(places - evenly).max() > EVEN or not (nearest or pixel <= NATIVE):
        return None
    return [float(value) for corner in (a, c, d, b) for value in corner]


def _level(tile: Tile, grid: Grid) -> int:
    """Return the coarsest overview whose pixels are no larger than the tile's."""
    assert grid.crs is not None
    column, row = grid.width / 2, grid.height / 2
    columns, rows = np.array([column, column + 1, column]), np.array([row, row, row + 1])
    points = project(grid.crs, MERCATOR, np.stack(grid.transform @ (columns, rows), 1))
    (a, b), (c, d) = points[1] - points[0], points[2] - points[0]
    metres = math.sqrt(abs(a * d - b * c))
    if not (math.isfinite(metres) and metres > 0):
        return 0
    ratio = abs(tile.grid.transform.a) / metres
    # A hundredth more than twice as large is twice as large.
    return min(max(math.floor(math.log2(ratio) + 0.015), 0), LEVELS)


def _turn(grid: Grid, longitudes: NDArray[np.float64]) -> float:
    """Return by how many degrees longitudes are turned to where a grid of degrees has them."""
    assert grid.crs is not None
    if not grid.crs.is_geographic:
        return 0.0
    centre = float((grid.transform @ (grid.width / 2, grid.height / 2))[0])
    return 360.0 * round((centre - float(longitudes.mean())) / 360)


def read_tile(
    scene: OpenScene, layer: LayerName, tile: Tile, need: Need, style: MapStyle | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], bool]:
    """Return a tile of a layer.

    Args:
        scene: The scene.
        layer: The layer.
        tile: The tile.
        need: As `need_of` gives it.
        style: The colours of the layer `map`; None takes the usual ones.

    Returns:
        uint8 [side,side,3] of photo and map, [side,side] of the others, where numbers are
        `NOTHING` outside of the scene; where it shows something, bool [side,side]; and whether
        all of the scene that it needs was there.

    Raises:
        DataError: A block of the file is damaged.
    """
    side = SIDE * tile.scale
    numbers = layer in ("classes", "numbers")
    if need.part is None:
        depth = (3,) if layer in ("photo", "map") else ()
        blank = np.full((side, side, *depth), NOTHING if numbers else 0, np.uint8)
        return blank, np.zeros((side, side), np.bool_), True
    values, shown, complete = scene.read(layer, need.level, need.part, style)
    part = need.part
    grid = scene.level_grid(layer, need.level).part(part.top, part.left, part.height, part.width)
    found, inside = warp(values, shown, grid, tile, nearest=numbers)
    return found, inside, complete


def warp(
    values: NDArray[np.uint8],
    shown: NDArray[np.uint8],
    grid: Grid,
    tile: Tile,
    *,
    nearest: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Lay pixels of a scene on a tile.

    Args:
        values: uint8 [h,w] or [h,w,C].
        shown: Where they mean something, uint8 [h,w] of 0 and 1.
        grid: Where they lie.
        tile: The tile.
        nearest: Whether a pixel is the nearest one, or interpolated.

    Returns:
        uint8 [side,side] or [side,side,C], and where they mean something, bool [side,side].
    """
    corners = _corners(tile, grid, nearest=nearest) if shown.all() else None
    if corners is not None:
        side = tile.grid.width
        how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        image = Image.fromarray(np.ascontiguousarray(values))
        laid = image.transform((side, side), Image.Transform.QUAD, corners, how)
        return np.asarray(laid), np.ones((side, side), np.bool_)
    return _warped(values, shown, grid, tile, nearest=nearest)


def _warped(
    values: NDArray[np.uint8],
    shown: NDArray[np.uint8],
    grid: Grid,
    tile: Tile,
    *,
    nearest: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Lay pixels of a scene on a tile with GDAL, however they lie; see `warp`."""
    transform, centre = grid.transform, tile.grid.transform @ (SIDE / 2, SIDE / 2)
    assert grid.crs is not None
    if grid.crs.is_geographic:
        place = project(MERCATOR, grid.crs, np.array([centre]))
        if np.isfinite(place).all():
            transform = Affine.translation(-_turn(grid, place[:, 0]), 0) @ transform
    bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    alpha = shown * np.uint8(255)
    # GDAL weighs pixels by the last band, so that what means nothing mixes with nothing.
    source = np.concatenate([bands, alpha[None]])
    side = SIDE * tile.scale
    found = np.zeros((len(source), side, side), np.uint8)
    with settings():
        reproject(
            source,
            found,
            src_transform=transform,
            src_crs=grid.crs,
            src_alpha=len(source),
            dst_transform=tile.grid.transform,
            dst_crs=MERCATOR,
            dst_alpha=len(source),
            resampling=Resampling.nearest if nearest else Resampling.bilinear,
            num_threads=1,
            warp_mem_limit=64,
        )
    inside = found[-1] >= 128
    if values.ndim == 2:
        return np.where(inside, found[0], NOTHING if nearest else 0).astype(np.uint8), inside
    return np.ascontiguousarray(found[:-1].transpose(1, 2, 0)), inside


def encode(
    values: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    layer: LayerName,
    format: Format,
    legend: Legend | None,
) -> bytes:
    """Return a tile as it is sent.

    Args:
        values: As `read_tile` gives them.
        inside: Where they mean something.
        layer: The layer.
        format: "png" or "webp".
        legend: The classes of numbers.
    """
    if layer == "numbers":
        image = Image.fromarray(values)
        if format == "webp":
            image = image.convert("RGB")  # it has no grey
    elif layer == "classes":
        assert legend is not None
        image = _palette(values, legend)
        if format == "webp":
            image = image.convert("RGBA")
    else:
        colours = np.stack([values] * 3, -1) if values.ndim == 2 else values
        alpha = inside[..., None] * np.uint8(255)
        if inside.all():
            image = Image.fromarray(np.ascontiguousarray(colours))
        else:  # black where it is transparent, whatever was interpolated there
            image = Image.fromarray(np.concatenate([colours * inside[..., None], alpha], 2))
    written = io.BytesIO()
    if format == "webp":
        lossless = layer != "photo"
        image.save(written, "WEBP", lossless=lossless, quality=0 if lossless else 85, method=0)
    else:
        if layer in ("classes", "numbers"):  # a few numbers, which pack well at once
            image.save(written, "PNG", compress_level=6)
        else:  # by runs alone, which is faster than by what was there before, and no larger
            image.save(written, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return written.getvalue()


def _palette(numbers: NDArray[np.uint8], legend: Legend) -> Image.Image:
    """Return numbers of classes in the colours of their legend, clear where there is none."""
    image = Image.fromarray(numbers)
    image.putpalette(legend.colours.tobytes() + bytes(3 * (256 - len(legend))), "RGB")
    image.info["transparency"] = bytes([255] * len(legend) + [0] * (256 - len(legend)))
    return image
