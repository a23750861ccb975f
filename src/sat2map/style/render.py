"""Vectors drawn by a style on the pixel grid of some imagery: an image, and its classes.

GDAL fills the shapes on a grid FINER times as fine in each direction, where a fine pixel
belongs to what covers its centre. The image is the mean of the fine pixels' colours, and a
pixel's class is that of most of them: edges are smooth, neighbours that share an edge leave no
gap between them, and image and classes agree.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import deprecated

from sat2map.errors import UsageError
from sat2map.geo.grid import Grid
from sat2map.geo.silencing import SILENCING
from sat2map.style.features import Features, Geometries, Vectors
from sat2map.style.symbols import Brush, Palette, brushes

FINER = 4
"""Fine pixels per pixel, in each direction."""


class Drawing:
    """A map that has been drawn; what is asked for is worked out then.

    Args:
        shape: Height and width of the grid.
        palette: Of the style at this resolution.
        strata: For each brush, from the lowest, the areas that it covers and their kinds.
        background: The background's class.
        class_count: Classes of the legend.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        palette: Palette,
        strata: list[Stratum],
        background: int,
        class_count: int,
    ) -> None:
        self._shape = shape
        self._palette = palette
        self._strata = strata
        self._background = background
        self._class_count = class_count

    @property
    @deprecated("picture is now called image")
    def picture(self) -> NDArray[np.uint8]:
        """The map, as `image`."""
        return self.image

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The map with smooth edges, uint8 [H,W,3]."""
        numbers, colours = self._paints
        # Whole pixels of four bytes are looked up several times as fast as three bands.
        table = np.zeros((len(colours), 4), np.uint8)
        table[:, :3] = colours
        fine = np.take(table.view(np.uint32)[:, 0], numbers)
        height, width = fine.shape
        image = Image.frombuffer("RGBX", (width, height), fine.view(np.uint8), "raw", "RGBX", 0, 1)
        return np.array(image.reduce(FINER).convert("RGB"), np.uint8)

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """How much of each pixel each class of the legend has, float32 [H,W,K], 0 to 1."""
        fine = np.full(self._fine_shape, self._background, np.uint16)
        burnt: list[tuple[dict[str, Any], int]] = []
        for brush, shapes, _ in self._strata:
            if brush.class_number is not None:
                burnt += [(shape, brush.class_number) for shape in shapes]
        _burn(burnt, fine)
        height, width = self._shape
        shares = np.empty((height, width, self._class_count), np.float32)
        for number in range(self._class_count):
            mask = Image.fromarray((fine == number).view(np.uint8) * np.uint8(255))
            shares[..., number] = np.asarray(mask.reduce(FINER), np.float32) / 255
        return shares

    @cached_property
    def classes(self) -> NDArray[np.uint8]:
        """The class of the legend that has most of each pixel, uint8 [H,W]."""
        classes: NDArray[np.uint8] = self.shares.argmax(2).astype(np.uint8)
        return classes

    @cached_property
    def mapped(self) -> float:
        """Share of the area on which anything is drawn above the background, 0 to 1."""
        numbers, _ = self._paints
        return float(np.count_nonzero(numbers) / numbers.size)

    @property
    def _fine_shape(self) -> tuple[int, int]:
        return self._shape[0] * FINER, self._shape[1] * FINER

    @cached_property
    def _paints(self) -> tuple[NDArray[np.uint16], list[tuple[int, int, int]]]:
        """The paint of each fine pixel, uint16, and the colours of the paints."""
        fine = np.zeros(self._fine_shape, np.uint16)
        palette = Palette(list(self._palette.colours))
        waiting: list[tuple[dict[str, Any], int]] = []
        for brush, shapes, kinds in self._strata:
            paints = brush.paints[kinds].tolist()
            if (brush.opacities[kinds] >= 1).all():
                waiting += zip(shapes, paints, strict=True)
                continue
            _burn(waiting, fine)
            waiting = []
            _glaze(shapes, paints, brush.opacities[kinds].tolist(), fine, palette)
        _burn(waiting, fine)
        return fine, palette.colours


class Painter:
    """Draws maps of vectors at one ground resolution.

    What depends on the style, the features' properties and the resolution is worked out once,
    so keep a painter for all windows of a scene. It can be sent to other processes.

    Args:
        vectors: What to draw.
        resolution_m: Metres on the ground per pixel, which widths and zoom follow.

    Raises:
        UsageError: The resolution is none.
        DataError: The style met a property's value that it cannot use.
    """

    def __init__(self, vectors: Vectors, resolution_m: float) -> None:
        if not (resolution_m > 0 and math.isfinite(resolution_m)):
            raise UsageError(
                f"{resolution_m} m is not a ground resolution", remedy="Give metres per pixel."
            )
        self.vectors = vectors
        self.resolution_m = resolution_m
        table = vectors.features.table
        self._palette, self._background, self._brushes = brushes(vectors.style, table, resolution_m)
        self._reach = max((brush.reach for brush in self._brushes), default=0.0) + 2
        dashed = [brush.dashed for brush in self._brushes]
        self._whole = np.logical_or.reduce([np.zeros(len(table), bool), *dashed])

    def draw(self, grid: Grid) -> Drawing:
        """Draw the map of a grid, exactly on its pixels.

        Memory and time grow with the grid: draw large scenes window by window, which gives the
        same map.

        Args:
            grid: In the vectors' coordinates; it may be turned and its pixels oblong, in which
                case widths are right on average.

        Raises:
            UsageError: The grid has other coordinates.
        """
        if grid.crs != self.vectors.crs:
            raise UsageError(
                f"the grid is in {grid.crs}, the vectors in {self.vectors.crs}",
                remedy="Open the vectors in the coordinates of the imagery.",
            )
        features = self._near(grid)
        inverse = ~grid.transform
        matrix = np.array([[inverse.a, inverse.b], [inverse.d, inverse.e]]).T
        offset = np.array([inverse.c, inverse.f])
        placed = shapely.transform(features.geometries, lambda points: points @ matrix + offset)
        strata: list[Stratum] = []
        for brush in self._brushes:
            areas, kinds = brush.areas(placed, features.kinds)
            if len(areas):
                shapes, owners = _as_shapes(areas)
                strata.append((brush, shapes, kinds[owners]))
        legend = self.vectors.style.legend
        return Drawing(
            (grid.height, grid.width), self._palette, strata, self._background, len(legend)
        )

    def _near(self, grid: Grid) -> Features:
        """Return what may be seen, cut so that nothing is drawn in vain."""
        low, high = -self._reach, self._reach
        corners = np.array(
            [(x, y) for x in (low, grid.width + high) for y in (low, grid.height + high)]
        )
        xs, ys = grid.transform @ (corners[:, 0], corners[:, 1])
        bounds = (float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
        # The dashes of a line begin where it does, so it is not cut.
        return self.vectors.window(bounds, whole=self._whole)


Stratum = tuple[Brush, list[dict[str, Any]], NDArray[np.int32]]
"""A brush, the polygons that it covers in fine pixels, and their kinds."""


def _as_shapes(areas: Geometries) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    """Return polygons in fine pixels as GDAL takes them, and of which area each is a part."""
    parts, owners = shapely.get_parts(areas, return_index=True)
    polygons = (shapely.get_type_id(parts) == 3) & ~shapely.is_empty(parts)
    parts, owners = parts[polygons], owners[polygons]
    if not len(parts):
        return [], owners
    _, points, (rings, outlines) = shapely.to_ragged_array(parts)
    places = (points * FINER).tolist()
    ends = rings.tolist()
    lines = [places[begin:end] for begin, end in pairwise(ends)]
    return [
        {"type": "Polygon", "coordinates": lines[begin:end]}
        for begin, end in pairwise(outlines.tolist())
    ], owners


def _burn(shapes: list[tuple[dict[str, Any], int]], fine: NDArray[np.uint16]) -> None:
    """Fill shapes with their numbers, one after the other."""
    from rasterio.features import rasterize

    if shapes:
        with SILENCING:
            rasterize(shapes, out=fine)


def _glaze(
    shapes: list[dict[str, Any]],
    paints: list[int],
    opacities: list[float],
    fine: NDArray[np.uint16],
    palette: Palette,
) -> None:
    """Paint shapes of one layer over what is there, which shines through.

    As in MapLibre, where shapes of the same paint overlap they do not darken each other.
    """
    for paint, opacity in dict.fromkeys(zip(paints, opacities, strict=True)):
        covered = np.zeros(fine.shape, np.uint16)
        pairs = zip(shapes, paints, opacities, strict=True)
        _burn([(shape, 1) for shape, p, o in pairs if (p, o) == (paint, opacity)], covered)
        there = covered > 0
        table = np.zeros(len(palette.colours), np.uint16)
        over = np.array(palette.colours[paint])
        for number in np.unique(fine[there]).tolist():
            mixed = np.array(palette.colours[number]) * (1 - opacity) + over * opacity
            table[number] = palette.number(tuple(mixed.tolist()))
        fine[there] = table[fine[there]]
