"""The windows of a scene on their way: read, translate, blend, write, all at once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial as applied
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import StoppedError, UsageError
from sat2map.legend import Legend
from sat2map.raster.mask import Mask
from sat2map.raster.options import SceneOptions
from sat2map.raster.partial import Partial
from sat2map.raster.resampled import View
from sat2map.raster.resampling import resample
from sat2map.raster.strips import TILE, Strips, writing
from sat2map.translation.background import ahead, behind
from sat2map.translation.blending import blend
from sat2map.translation.image import fill_nearest, three_bands
from sat2map.translation.translator import MAX_PUBLISHED_PIXELS, Translator
from sat2map.translation.windows import Placement, placements

PIECE = 4 * TILE
"""Side of what is resampled and written at once, in pixels of the map."""


class Work:
    """One scene on its way.

    Args:
        translator: The model.
        seen: What the network sees.
        shown: The scene on the map's grid.
        options: How.
        legend: Whose colours the map gets, if any.
        mask: Where a map is wanted, if not everywhere.
    """

    def __init__(
        self,
        translator: Translator,
        seen: View,
        shown: View,
        options: SceneOptions,
        legend: Legend | None,
        mask: Mask | None = None,
    ) -> None:
        self._translator = translator
        self._seen = seen
        self._shown = shown
        self._options = options
        self._legend = legend
        self._mask = mask
        self._some = False
        sizes = (seen.grid.height, seen.grid.width)
        written = (shown.grid.height, shown.grid.width)
        self._rows, self._columns = (
            self._placements(size, wanted) for size, wanted in zip(sizes, written, strict=True)
        )

    def _placements(self, seen: int, written: int) -> list[Placement]:
        multiple = self._translator.multiple
        window, overlap = self._options.window, self._options.overlap
        if self._options.published:
            grid = self._seen.grid
            if grid.height * grid.width > MAX_PUBLISHED_PIXELS:
                raise UsageError(
                    f"{grid.width} x {grid.height} pixels are too many to be predicted as "
                    "published, which takes the whole scene at once",
                    remedy="Predict deterministically, or give a --bbox.",
                )
            window, overlap = seen, 0
        window = math.ceil(window / multiple) * multiple
        return placements(seen, written, window, overlap, multiple, TILE)

    def run(
        self,
        strips: list[Strips],
        partial: Partial,
        target: Path,
        stop: threading.Event,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Translate the windows of all strips that are not finished.

        Args:
            strips: Those of the map, and of the comparison where there is one.
            partial: Where the finished ones are noted.
            target: The map, for messages.
            stop: Asks to stop once it is set.
            progress: Called with (done, all) pixels of the map.

        Raises:
            StoppedError: `stop` is set.
            OSError: The disk is full.
        """
        height, width = self._shown.grid.height, self._shown.grid.width
        finished = partial.rows  # `partial.rows` itself grows in the thread that writes
        done, self._some = finished * width, partial.some
        if finished == height:
            return
        if progress is not None and done:
            progress(done, height * width)
        rows = self._rows[self._first_needed(finished) :]
        with (
            behind(applied(self._write, rows, strips, partial)) as hand_over,
            closing(ahead(self._windows(rows))) as windows,
        ):
            for row, column, pixels in windows:
                hand_over(None if pixels is None else self._answer(pixels, target))
                if progress is not None and row.first >= finished:
                    done += (row.last - row.first) * (column.last - column.first)
                    progress(done, height * width)
                if stop.is_set():
                    raise StoppedError(
                        f"stopped as asked; {partial.rows:,} of {height:,} rows are finished",
                        where=target,
                    )

    def _first_needed(self, finished: int) -> int:
        """Return the first row of windows that has a part in what is not finished."""
        begin = next(row.begin for row in self._rows if row.last > finished)
        return next(number for number, row in enumerate(self._rows) if row.end > begin)

    def _windows(
        self, rows: list[Placement]
    ) -> Iterator[tuple[Placement, Placement, NDArray[np.uint8] | None]]:
        for row in rows:
            for column in self._columns:
                if not self._wanted(row, column):
                    yield row, column, None
                    continue
                pixels, valid = self._seen.read(
                    row.span.start, column.span.start, row.span.size, column.span.size
                )
                some = bool(valid.any())
                self._some = self._some or some
                yield row, column, fill_nearest(pixels, valid) if some else None

    def _wanted(self, row: Placement, column: Placement) -> bool:
        """Return whether anything of what a window contributes to may be looked at."""
        if self._mask is None:
            return True
        # A pixel of the map is interpolated from seen ones up to two away, or averaged over them.
        seen, shown = self._seen.grid, self._shown.grid
        down, along = (
            2 + math.ceil(ours / theirs)
            for ours, theirs in ((seen.height, shown.height), (seen.width, shown.width))
        )
        top, left = max(row.span.start - down, 0), max(column.span.start - along, 0)
        bottom = min(row.span.start + row.span.size + down, seen.height)
        right = min(column.span.start + column.span.size + along, seen.width)
        return self._mask.touches(seen.part(top, left, bottom - top, right - left))

    def _answer(self, pixels: NDArray[np.uint8], target: Path) -> NDArray[np.float32]:
        if self._options.published:
            values = self._translator.predict_published(pixels, self._options.seed)
        else:
            values = self._translator.predict(pixels)
        if values.shape[2] != 3 and not self._translator.answers_in_classes:
            raise UsageError(
                f"the result has {values.shape[2]} bands, but a map has 3",
                where=target,
                remedy="Use a model whose targets are RGB pictures.",
            )
        return values

    def _write(
        self,
        rows: list[Placement],
        strips: list[Strips],
        partial: Partial,
        answers: Iterator[NDArray[np.float32] | None],
    ) -> None:
        """Blend the answers and write the strips that are not finished yet."""
        try:
            with writing():
                depth = self._translator.depth
                for row, column, values in blend(
                    rows, self._columns, answers, depth, partial.folder
                ):
                    if row.first == row.last or row.last <= partial.rows:
                        continue
                    if column is self._columns[0]:
                        for each in strips:
                            each.begin(row.first, row.last)
                    self._write_block(strips, row, column, values)
                    if column is self._columns[-1]:
                        for each in strips:
                            each.finish()
                        partial.advance(row.last, self._some)
        finally:
            for each in strips:
                each.abandon()

    def _write_block(
        self,
        strips: list[Strips],
        row: Placement,
        column: Placement,
        values: NDArray[np.float32],
    ) -> None:
        for top in range(row.first, row.last, PIECE):
            for left in range(column.first, column.last, PIECE):
                bottom, right = min(top + PIECE, row.last), min(left + PIECE, column.last)
                vertical = row.matrix[top - row.first : bottom - row.first]
                horizontal = column.matrix[left - column.first : right - column.first]
                self._write_piece(strips, top, left, resample(vertical, values, horizontal))

    def _write_piece(
        self, strips: list[Strips], top: int, left: int, values: NDArray[np.float32]
    ) -> None:
        if self._legend is None:
            pixels = shown = self._translator.paint(values)
        else:
            labels = self._translator.classes(values)
            pixels, shown = labels[..., None], self._legend.paint(labels)
        height, width, _ = pixels.shape
        inside = np.ones((height, width), np.bool_)
        if self._mask is not None:
            inside = self._mask.inside(self._shown.grid.part(top, left, height, width))
        if len(strips) == 1:
            valid = inside & self._shown.valid(top, left, height, width)
            strips[0].write(top, left, pixels, valid)
            return
        photo, valid = self._shown.look(top, left, height, width)
        valid &= inside
        strips[0].write(top, left, pixels, valid)
        strips[1].write(top, left, three_bands(photo), valid)
        strips[1].write(top, left + self._shown.grid.width, shown, valid)
