"""A scene on another grid: windows of it, resampled on the fly, mirrored beyond its edges."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sat2map.geo.windows import mirrored
from sat2map.raster.resampling import resample, resampling
from sat2map.raster.scene import Scene

T = TypeVar("T", bound=np.generic)

CHUNK = 256
"""Rows that are read at once, so that a much finer scene does not fill the memory."""

ANY = 1e-3
"""Share of a pixel that must have values for the network to look at it: some."""

HALF = 0.5
"""Share of a pixel that must have values for a map to show it."""


class ResampledScene:
    """A scene on another grid over the same ground.

    Whatever window is read, a pixel is the same, to the last bit or to one in the rounding.

    Args:
        scene: The scene.
        height: Rows of the grid.
        width: Columns.

    Attributes:
        grid: The grid.
    """

    def __init__(self, scene: Scene, height: int, width: int) -> None:
        self.grid = scene.grid.resized(height, width)
        self._scene = scene
        own = scene.grid
        # GDAL thins first, which is fast and uses overviews; the rest is done here, exactly.
        factor = self._factor = scene.thinning(min(own.height / height, own.width / width))
        self._thinned = (own.height, own.width) == (height * factor, width * factor)

    def read(
        self, row: int, column: int, height: int, width: int, *, min_cover: float = ANY
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a window, which may reach beyond the grid: there it is mirrored.

        Args:
            row: First row.
            column: First column.
            height: Rows.
            width: Columns.
            min_cover: Share of a pixel, 0 to 1, that must have values for it to be valid.

        Returns:
            uint8 [height,width,C], and where it is valid, bool [height,width]; what the pixels
            hold elsewhere means nothing.

        Raises:
            DataError: A block of the file is damaged.
        """
        pixels, cover = self._mirrored(row, column, height, width)
        return pixels, cover >= min_cover

    def valid(self, row: int, column: int, height: int, width: int) -> NDArray[np.bool_]:
        """Return where at least half of a pixel has values, bool [height,width].

        Raises:
            DataError: A block of the file is damaged.
        """
        if not self._scene.masked:
            return np.ones((height, width), np.bool_)
        return self.read(row, column, height, width, min_cover=HALF)[1]

    def _mirrored(
        self, row: int, column: int, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32 | np.bool_]]:
        rows = mirrored(row, height, self.grid.height)
        columns = mirrored(column, width, self.grid.width)
        top, left = int(rows.min()), int(columns.min())
        bottom, right = int(rows.max()) + 1, int(columns.max()) + 1
        pixels: NDArray[np.uint8]
        cover: NDArray[np.float32 | np.bool_]
        if self._factor == 1 and self._thinned:
            pixels, cover = self._scene.read(top, left, bottom - top, right - left)
        else:
            parts = [
                self._resampled(start, left, min(CHUNK, bottom - start), right - left)
                for start in range(top, bottom, CHUNK)
            ]
            pixels = np.concatenate([part[0] for part in parts])
            cover = np.concatenate([part[1] for part in parts])
        rows, columns = rows - top, columns - left
        return _picked(pixels, rows, columns), _picked(cover, rows, columns)

    def _resampled(
        self, row: int, column: int, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32 | np.bool_]]:
        if self._thinned:
            return self._scene.read(row, column, height, width, self._factor)
        own, grid = self._scene.grid, self.grid
        vertical, top, deep = self._axis(own.height, grid.height, row, height)
        horizontal, left, wide = self._axis(own.width, grid.width, column, width)
        pixels, valid = self._scene.read(top, left, deep, wide, self._factor)
        values = pixels.astype(np.float32)
        if valid.all():
            values = resample(vertical, values, horizontal)
            cover = np.ones((height, width), np.float32)
        else:
            values *= valid[..., None]
            values = resample(vertical, values, horizontal)
            cover = resample(vertical, valid[..., None].astype(np.float32), horizontal)[..., 0]
            values /= np.maximum(cover, 1e-6)[..., None]
        return np.clip(np.rint(values), 0, 255).astype(np.uint8), cover

    def _axis(self, own: int, wanted: int, start: int, size: int) -> tuple[Any, int, int]:
        """Return the matrix of one axis, and first pixel and number of those it is made of."""
        thin = own // self._factor
        matrix = resampling(thin, wanted, start, start + size, own / self._factor)
        first, last = int(matrix.indices.min()), int(matrix.indices.max()) + 1
        return matrix[:, first:last], first, last - first


def _picked(values: NDArray[T], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[T]:
    """Return some rows and columns of [h,w] or [h,w,C]; those that follow each other are fast."""
    for axis, wanted in enumerate((rows, columns)):
        if len(wanted) == values.shape[axis] and bool((np.diff(wanted) == 1).all()):
            continue  # all of them, as they are
        values = np.take(values, wanted, axis)
    return values
