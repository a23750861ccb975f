"""Rasters as they are, level by level: photos, maps that were drawn, and class maps."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from sat2map.geo.gdal import reading_from, sizes_of, with_retries
from sat2map.geo.grid import Grid, Part
from sat2map.raster.resampled import HALF, ResampledScene
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source
from sat2map.serve.overviews import NOTHING, halved_size


class SceneImages:
    """The pixels of a scene as a model sees them, at its own resolution, at half of it and so on.

    Threads may share it: each reads with a handle of its own.

    Args:
        scene: The scene; closed with this.

    Attributes:
        grid: The scene's own grid.
    """

    def __init__(self, scene: Scene) -> None:
        self.grid = scene.grid
        self._scene = scene
        self._handles: SimpleQueue[_Handle] = SimpleQueue()
        self._handles.put(_Handle(scene))
        self._is_closed = False

    def level_grid(self, level: int) -> Grid:
        """Return the grid of a level, which covers the same ground."""
        return self.grid.resized(*_sides(self.grid, level))

    def read(self, level: int, part: Part) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return some pixels of a level, uint8 [h,w,C], and where there are any, [h,w] of 0 and 1.

        Raises:
            DataError: A block of the file is damaged.
        """
        try:
            handle = self._handles.get_nowait()
        except Empty:
            handle = _Handle(self._scene.opened_again())
        try:
            pixels, shown = handle.level(level).read(
                part.top, part.left, part.height, part.width, min_cover=HALF
            )
        finally:
            self._handles.put(handle)
            if self._is_closed:
                self.close()
        return pixels, shown.astype(np.uint8)

    def close(self) -> None:
        """Close the scene."""
        self._is_closed = True
        while True:
            try:
                self._handles.get_nowait().scene.close()
            except Empty:
                return


class _Handle:
    """A scene that is open for one thread, and its levels."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._levels: dict[int, ResampledScene] = {}

    def level(self, level: int) -> ResampledScene:
        if level not in self._levels:
            sides = _sides(self.scene.grid, level)
            self._levels[level] = ResampledScene(self.scene, *sides)
        return self._levels[level]


class ClassFile:
    """The numbers of a class map that was written earlier; threads may share it.

    Args:
        source: The file.
        grid: Its grid.
        count: How many classes its legend has.

    Attributes:
        grid: Its grid.
    """

    def __init__(self, source: Source, grid: Grid, count: int) -> None:
        self.grid = grid
        self._source, self._count = source, count
        self._sizes = sizes_of(source.files)
        self._handles: SimpleQueue[Any] = SimpleQueue()
        self._is_closed = False

    def level_grid(self, level: int) -> Grid:
        """Return the grid of a level, which covers the same ground."""
        return self.grid.resized(*_sides(self.grid, level))

    def read(self, level: int, part: Part) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return some numbers of a level, uint8 [h,w], and where there are any, [h,w] of 0 and 1.

        Raises:
            DataError: A block of the file is damaged.
        """
        try:
            held = [self._handles.get_nowait()]
        except Empty:
            held = [self._source.open()]
        height, width = _sides(self.grid, level)
        down, along = self.grid.height / height, self.grid.width / width
        window = Window(part.left * along, part.top * down, part.width * along, part.height * down)

        def again() -> None:
            held[0].close()
            held[0] = self._source.open()

        def read() -> tuple[NDArray[Any], NDArray[Any]]:
            kind = {
                "window": window,
                "out_shape": (part.height, part.width),
                "resampling": Resampling.mode if level else Resampling.nearest,
            }
            return held[0].read(1, **kind), held[0].read_masks(1, **kind)

        try:
            with reading_from(self._source.where):
                values, mask = with_retries(read, again, self._source.where, self._sizes)
        finally:
            self._handles.put(held[0])
            if self._is_closed:
                self.close()
        shown = (mask > 0) & (values >= 0) & (values < self._count)
        numbers = np.where(shown, values, NOTHING).astype(np.uint8)
        return numbers, shown.astype(np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        while True:
            try:
                self._handles.get_nowait().close()
            except Empty:
                return


def _sides(grid: Grid, level: int) -> tuple[int, int]:
    return halved_size(grid.height, level), halved_size(grid.width, level)
