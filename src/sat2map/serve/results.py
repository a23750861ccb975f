"""What a model makes of a photo, window by window: computed once, kept, and put together.

    tile -> part of a level -> windows -> memory -> disk (`WindowStore`) -> pool -> network

The windows are the canonical ones of the scene, those that `translate` runs. Each keeps its own
overviews: `core` can be halved several times, so the overviews of neighbours adjoin as the windows
do. The last of them make one small mosaic of the whole scene, `_Coarse`, of which all coarser
levels are made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from sat2map.errors import DataError, OutputError
from sat2map.geo.grid import Grid, Part
from sat2map.serve.memory import RecentMemory
from sat2map.serve.overviews import NOTHING, Layers, halve, halved_size, level_count
from sat2map.serve.pool import Ticket, WindowPool
from sat2map.serve.window_store import WindowStore
from sat2map.translation.maps import Layer
from sat2map.translation.scene_windows import SceneWindows

logger = logging.getLogger(__name__)

Window = tuple[int, int]
"""Row and column of a window."""

IN_MEMORY = 192 * 2**20
"""Bytes of windows that a server keeps in memory."""

LOOK_S = 2.0
"""Seconds after which a folder is looked into again, for what other processes have made."""

FORGET_S = 60.0
"""Seconds after which a window that could not be read is tried again."""


class Results:
    """The results of one scene.

    Args:
        windows: The scene's windows; closed with this.
        key: What the results are made of, 32 hexadecimal digits.
        layers: What is asked of the model, by the names of the layers that are kept:
            `numbers`, `confidence`, and `image` or `shares`, as far as the model has them. Of
            `shares` each class but the first is a layer of its own.
        store: Where windows are kept.
        memory: Where those used last are kept.
        pool: What computes them.
        where: What messages call the scene.
        depth: Bands of the images, or classes of the shares.
        is_same: Returns whether the scene's files are as they were when it was opened.

    Attributes:
        grid: The grid of the results.
        key: As given.
        names: The layers that are kept, `shown` among them.
        shares: Those of them that images are painted of, in the order of the classes; none where
            images are kept.
        own_levels: How many overviews of its own a window has.
    """

    def __init__(
        self,
        windows: SceneWindows,
        key: str,
        layers: dict[str, Layer],
        store: WindowStore,
        memory: RecentMemory[NDArray[np.uint8]],
        pool: WindowPool,
        *,
        where: str | Path,
        depth: int,
        is_same: Callable[[], bool],
    ) -> None:
        self.grid: Grid = windows.grid
        self.key = key
        painted = "shares" in layers
        self.shares = tuple(f"share{number}" for number in range(1, depth)) if painted else ()
        others = (name for name in layers if name != "shares")
        self.names = (*others, *self.shares, "shown")
        self.own_levels = level_count(windows.core)
        self._windows, self._layers = windows, layers
        self._where, self._depth_of_image, self._is_same = where, depth, is_same
        self._store, self._memory, self._pool = store, memory, pool
        self._handles: SimpleQueue[SceneWindows] = SimpleQueue()
        self._handles.put(windows)
        self._lock = threading.Lock()
        self._known: set[Window] = set()
        self._looked = -np.inf
        self._failed: dict[Window, tuple[float, DataError]] = {}
        self._coarse: _Coarse | None = None
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many windows the scene has."""
        return self._windows.rows * self._windows.columns

    def all_windows(self) -> list[Window]:
        """Return all windows, row by row."""
        columns = range(self._windows.columns)
        return [(row, column) for row in range(self._windows.rows) for column in columns]

    def level_grid(self, level: int) -> Grid:
        """Return the grid of an overview; its last pixels may reach beyond the scene."""
        grid, times = self.grid, 2**level
        scaled = grid.transform @ Affine.scale(times, times)
        height, width = halved_size(grid.height, level), halved_size(grid.width, level)
        return Grid(height, width, scaled, grid.crs)

    def touching(self, level: int, part: Part) -> list[Window]:
        """Return the windows that a part of a level needs."""
        times = 2**level
        top, left = part.top * times, part.left * times
        bottom = min(part.bottom * times, self.grid.height)
        right = min(part.right * times, self.grid.width)
        return self._windows.touching(Part(top, left, bottom - top, right - left))

    def missing(self, windows: Sequence[Window]) -> list[Window]:
        """Return those windows that are not there yet.

        Raises:
            DataError: One of them could not be read a moment ago.
        """
        now = time.monotonic()
        left = [window for window in windows if window not in self._known]
        if left and now - self._looked > LOOK_S:
            self._looked = now
            self._known |= self._store.known(self.key)
            left = [window for window in left if window not in self._known]
        for window in left:
            when, error = self._failed.get(window, (-np.inf, None))
            if error is not None and now - when < FORGET_S:
                raise error
        return left

    def known_count(self) -> int:
        """Return how many windows are there."""
        self._looked = time.monotonic()
        self._known |= self._store.known(self.key)
        return len(self._known)

    def ask(self, window: Window, client: Hashable, *, idle: bool = False) -> Ticket:
        """Ask the pool for a window; see `WindowPool.ask`."""
        work = partial(self._compute, window)
        return self._pool.ask((self.key, window), self.key, work, client, idle=idle)

    def read(self, level: int, part: Part, names: Sequence[str]) -> tuple[Layers, bool]:
        """Put a part of a level together of the windows that are there.

        Args:
            level: 0 for the results themselves, 1 for their first overview, and so on.
            part: Of the level's pixels.
            names: The layers.

        Returns:
            The layers, with `shown`; and whether all windows were there.
        """
        names = list(dict.fromkeys([*names, "shown"]))
        if level > self.own_levels:
            return self._coarser(level, part, names)
        core = self._windows.core // 2**level
        found: Layers = {}
        complete = True
        for row, column in self.touching(level, part):
            layers = self._window(row, column, level, names)
            if layers is None:
                complete = False
                continue
            top, left = row * core, column * core
            height, width = layers["shown"].shape
            ours = np.s_[
                max(part.top - top, 0) : part.bottom - top,
                max(part.left - left, 0) : part.right - left,
            ]
            height = min(part.bottom, top + height) - max(part.top, top)
            width = min(part.right, left + width) - max(part.left, left)
            down, along = max(top - part.top, 0), max(left - part.left, 0)
            for name, values in layers.items():
                if name not in found:
                    found[name] = _blank(name, part.height, part.width, values.shape[2:])
                found[name][down : down + height, along : along + width] = values[ours]
        for name in names:
            if name not in found:
                found[name] = _blank(name, part.height, part.width, self._depth(name))
        return found, complete

    def close(self) -> None:
        """Close the scene; what is still computed is not wanted any more."""
        self._is_closed = True
        while True:
            try:
                self._handles.get_nowait().close()
            except Empty:
                return

    def _depth(self, name: str) -> tuple[int, ...]:
        return (self._depth_of_image,) if name == "image" else ()

    def _coarser(self, level: int, part: Part, names: list[str]) -> tuple[Layers, bool]:
        """Put a part together of the mosaic of the whole scene."""
        coarse = self._mosaic()
        complete = coarse.fill(set(self._known), self._read_last)
        times = 2 ** (level - self.own_levels)
        rows = slice(part.top * times, part.bottom * times)
        columns = slice(part.left * times, part.right * times)
        found = {name: coarse.layers[name][rows, columns].copy() for name in names}
        for _ in range(level - self.own_levels):
            found = halve(found)
        return found, complete and not self.missing(self.touching(level, part))

    def _mosaic(self) -> _Coarse:
        with self._lock:
            if self._coarse is None:
                grid = self.level_grid(self.own_levels)
                layers = {
                    name: _blank(name, grid.height, grid.width, self._depth(name))
                    for name in self.names
                }
                self._coarse = _Coarse(layers, self._windows.core // 2**self.own_levels)
            return self._coarse

    def _read_last(self, window: Window) -> Layers | None:
        return self._window(*window, self.own_levels, self.names)

    def _window(self, row: int, column: int, level: int, names: Sequence[str]) -> Layers | None:
        """Return layers of a window at one of its own levels, or None where it is not there."""
        found: Layers = {}
        for name in names:
            values = self._memory.get((self.key, row, column, level, name))
            if values is not None:
                found[name] = values
        left = [name for name in names if name not in found]
        if left:
            read = self._store.read(self.key, row, column, level, left)
            if read is None:
                self._known.discard((row, column))  # it had to go meanwhile
                return None
            self._remember(row, column, level, read)
            found |= read
        return found

    def _remember(self, row: int, column: int, level: int, layers: Layers) -> None:
        for name, values in layers.items():
            self._memory.put((self.key, row, column, level, name), values)

    def _compute(self, window: Window) -> None:
        """Make a window, unless another process has done so; called by the pool."""
        row, column = window
        if self._window(row, column, 0, self.names) is not None:
            self._known.add(window)
            return
        try:
            levels = self._made(row, column)
            if not self._is_same():  # part of it may be of the one, part of the other
                raise DataError(
                    "has changed while it was read", where=self._where, remedy="Ask again."
                )
        except DataError as error:
            self._failed[window] = (time.monotonic(), error)
            raise
        self._failed.pop(window, None)
        for level, layers in enumerate(levels):
            self._remember(row, column, level, layers)
        try:
            self._store.write(self.key, row, column, levels)
        except OutputError as error:
            logger.warning(f"{error} Windows are kept in memory alone.")
        self._known.add(window)

    def _made(self, row: int, column: int) -> list[Layers]:
        """Return the layers of a window and of its overviews."""
        windows = self._take()
        try:
            place = windows.place(row, column)
            answer = windows.maps(row, column, tuple(self._layers.values()))
        finally:
            self._give_back(windows)
        layers: Layers = {}
        if answer is None:
            for name in self.names:
                layers[name] = _blank(name, place.height, place.width, self._depth(name))
        else:
            maps, shown = answer
            for name, layer in self._layers.items():
                values = getattr(maps, layer)
                # Copies, so that what is forgotten of a window is not held by what is not.
                if name != "shares":
                    layers[name] = np.array(values, order="C")
                    continue
                for number, share in enumerate(self.shares, 1):
                    layers[share] = np.array(values[..., number], order="C")
            layers["shown"] = shown.astype(np.uint8)
            if "numbers" in layers:
                layers["numbers"][~shown] = NOTHING
        levels = [layers]
        for _ in range(self.own_levels):
            levels.append(halve(levels[-1]))
        return levels

    def _take(self) -> SceneWindows:
        """Return a handle of the scene for this thread."""
        try:
            return self._handles.get_nowait()
        except Empty:
            return self._windows.another()

    def _give_back(self, windows: SceneWindows) -> None:
        self._handles.put(windows)
        if self._is_closed:
            self.close()


class _Coarse:
    """The mosaic of the last overviews of all windows, filled as they come."""

    def __init__(self, layers: Layers, side: int) -> None:
        self.layers = layers
        self._side = side
        self._there: set[Window] = set()
        self._lock = threading.Lock()

    def fill(self, known: set[Window], read: Callable[[Window], Layers | None]) -> bool:
        """Add the windows that are known and not there yet; return whether all could be read."""
        with self._lock:
            complete = True
            for window in sorted(known - self._there):
                layers = read(window)
                if layers is None:
                    complete = False
                    continue
                top, left = (number * self._side for number in window)
                for name, values in layers.items():
                    height, width = values.shape[:2]
                    self.layers[name][top : top + height, left : left + width] = values
                self._there.add(window)
            return complete


def _blank(name: str, height: int, width: int, depth: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.full((height, width, *depth), NOTHING if name == "numbers" else 0, np.uint8)
