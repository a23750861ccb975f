"""The canonical windows of one scene, for those who want one at a time: a server, a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.closing import Closing
from sat2map.errors import UsageError
from sat2map.geo.grid import Part
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.sources import Source
from sat2map.translation.image import fill_nearest
from sat2map.translation.maps import Layer, Maps, check_layers
from sat2map.translation.pipeline import answer_window, read_window
from sat2map.translation.scene_view import SceneView
from sat2map.translation.translator import Translator

logger = logging.getLogger(__name__)


class SceneWindows(Closing):
    """The canonical windows of a scene, as `translate_raster` runs them.

    They lie on the whole scene, at the resolution at which the network sees it, row by row from
    its first pixel on. On the same runtime and number of threads a window's map has the pixels
    that a map of the scene at `resolution="model"` has there. Use it in a `with` statement, and
    in one thread at a time; `another` gives the same with a handle of its own.

    Args:
        source: As for `translate_raster`.
        translator: The model; its network looks only so far.
        reading: How values become pixels; its `bbox` is left aside.
        core: Side of what a window yields; None chooses as `translate_raster` does.
        say: Called with notices of the scene.

    Attributes:
        grid: The grid of the map: the network's, of the whole scene.
        rows: How many windows there are from top to bottom.
        columns: How many from left to right.
        core: Side of what a window yields; those at the scene's end yield less.
        halo: How much more a window sees on each side.

    Raises:
        DataError: The scene cannot be read.
        UsageError: The network sees the whole image, so there are no such windows.
    """

    @checks_arguments
    def __init__(
        self,
        source: str | Path | Source,
        translator: Translator,
        reading: Reading | None = None,
        core: int | None = None,
        *,
        say: Callable[[str], object] = logger.warning,
    ) -> None:
        frame = translator.frame(core)
        if frame is None:
            raise UsageError(
                "its network sees the whole image, so no window of a scene stands alone",
                where=translator.name,
                remedy="Choose a model whose network is `compact` or `lite`, such as streets.",
            )
        reading = replace(reading or Reading(), bbox=None)
        self._frame, self._translator = frame, translator
        options = SceneOptions(reading, resolution="model", window=core)
        view = SceneView(source, translator, options, say=say)
        self._scene, self._seen = view.scene, view.seen
        self.grid = self._seen.grid
        self.core, self.halo = frame.core, frame.halo
        self.rows, self.columns = map(frame.count, (self.grid.height, self.grid.width))

    def another(self) -> SceneWindows:
        """Return the same with a handle of its own, for another thread; close that too."""
        other = object.__new__(SceneWindows)
        vars(other).update(vars(self))
        other._scene = self._scene.opened_again()
        other._seen = ResampledScene(other._scene, self.grid.height, self.grid.width)
        return other

    @checks_arguments
    def place(self, row: int, column: int) -> Part:
        """Return which pixels of `grid` a window yields."""
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise UsageError(
                f"there is no window {row}, {column}",
                parameter="row" if not 0 <= row < self.rows else "column",
                remedy=f"Give rows from 0 to {self.rows - 1} and columns to {self.columns - 1}.",
            )
        top, left = row * self.core, column * self.core
        height = min(self.core, self.grid.height - top)
        return Part(top, left, height, min(self.core, self.grid.width - left))

    def touching(self, part: Part) -> list[tuple[int, int]]:
        """Return the windows (row, column) that yield some of the pixels of a part of `grid`."""
        rows = range(part.top // self.core, -(-part.bottom // self.core))
        columns = range(part.left // self.core, -(-part.right // self.core))
        return [(row, column) for row in rows for column in columns]

    @checks_arguments
    def maps(
        self, row: int, column: int, layers: Sequence[Layer]
    ) -> tuple[Maps, NDArray[np.bool_]] | None:
        """Return the map of one window, and where the scene has values.

        Args:
            row: The window's row, from 0.
            column: The window's column, from 0.
            layers: What is wanted; see `Maps`.

        Returns:
            The layers of `place(row, column)`, and bool [h,w]; None where nothing of what the
            window sees has values.

        Raises:
            DataError: A block of the file is damaged.
            UsageError: The model has no such layer.
        """
        check_layers(layers, self._translator.kind, self._translator.name)
        place, frame, kind = self.place(row, column), self._frame, self._translator.kind
        down, along = frame.span(row, self.grid.height), frame.span(column, self.grid.width)
        pixels, valid = read_window(self._seen, frame, down, along)
        if not valid.any():
            return None
        pixels = fill_nearest(pixels, valid)
        answer = answer_window(self._translator, frame, pixels, kind.bytes(tuple(layers)))
        shown = self._seen.valid(place.top, place.left, place.height, place.width)
        return kind.unpack(answer[: place.height, : place.width], tuple(layers)), shown

    def close(self) -> None:
        """Close the scene."""
        self._scene.close()
