"""A scene on its way to a map: windows are read, translated, blended and written, all at once.

    thread that reads           one thread, or two           thread that writes
    `_windows`                  `_answer`                    `_write`

    read window n + 3   --2-->  predict windows n + 1  --2-->  blend window n - 1,
    of the scene, on            and n + 2 (the                 resample what is complete to the
    the network's grid          network)                       map's grid, write strips

Each arrow is a queue of at most two windows, so memory does not depend on the scene. The network
answers as many windows at once as the runtime takes: one is in the caller's thread, more are in
threads of their own. The threads
that read and write have a handle of the scene each, since GDAL's are for one thread at a time:
`seen` is the scene on the network's grid, `shown` is it on the map's, where it says which pixels
have values. Windows come row by row. After each row of windows, the rows of the map that it
completes are on the disk and noted as finished (`Partial.advance`): there an interrupted
translation goes on.

A network that looks only so far sees canonical windows: where the map lies on the network's grid,
it answers in bytes, which are written as they are, and otherwise in values, which are resampled
first. Another network's windows overlap, and its values are blended.

Which pixels a window completes is drawn in `windows.py`, how they are put together in
`blending.py`.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial as applied
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sat2map.data.images import three_bands
from sat2map.errors import StoppedError, UsageError
from sat2map.geo.grid import Part
from sat2map.geo.windows import OVERLAP, WINDOW, Span
from sat2map.memory import give_back_memory
from sat2map.raster.options import SceneOptions
from sat2map.raster.partial import Partial
from sat2map.raster.resampled import HALF, ResampledScene
from sat2map.raster.resampling import resample
from sat2map.raster.strips import TILE, Strips, writing
from sat2map.runtimes.interface import Asked
from sat2map.translation.background import ahead, behind, side_by_side
from sat2map.translation.blending import blend
from sat2map.translation.image import fill_nearest
from sat2map.translation.maps import Layer, Maps
from sat2map.translation.translator import MAX_PUBLISHED_PIXELS, Translator
from sat2map.translation.windows import AxisWindow, Frame, lay_cores, lay_windows

if TYPE_CHECKING:
    from sat2map.raster.mask import Mask

Window = tuple[AxisWindow, AxisWindow, NDArray[np.uint8] | None]
"""A window's place, and what the network sees of it; None where nobody looks at its answer."""

PIECE = 2 * TILE
"""Side of what is resampled and written at once, in pixels of the map."""


def blended(options: SceneOptions) -> tuple[int, int]:
    """Return the side of windows that are blended, and how much neighbours share."""
    window = options.window or WINDOW
    return window, min(OVERLAP, window // 2) if options.overlap is None else options.overlap


def read_window(
    seen: ResampledScene, frame: Frame | None, row: Span, column: Span
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read what the network sees of a window, and where it is valid.

    Args:
        seen: The scene on the network's grid.
        frame: What canonical windows look like; None for windows without a halo.
        row: The window's rows; of a canonical one those of its core.
        column: Its columns.
    """
    halo = 0 if frame is None else frame.halo
    return seen.read(
        row.start - halo, column.start - halo, row.size + 2 * halo, column.size + 2 * halo
    )


def answer_window(
    translator: Translator,
    frame: Frame | None,
    pixels: NDArray[np.uint8],
    asked: Sequence[Asked],
    at: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """Return what the network makes of a window, of a canonical one for its core.

    Args:
        translator: The model.
        frame: What canonical windows look like; None for windows without a halo.
        pixels: What `read_window` gave, filled.
        asked: As for `Translator.predict`.
        at: As for `Translator.predict`.
    """
    return translator.predict(pixels, asked, 0 if frame is None else frame.halo, at)


@dataclass(frozen=True)
class Product:
    """One of the rasters that a pass over a scene writes.

    Attributes:
        layer: What of the answers it holds.
        strips: Where it is written.
        compares: Whether it shows the scene on the left, and the layer on the right of it.
        least: A layer, and the least value that it has where there is anything.
    """

    layer: Layer
    strips: Strips
    compares: bool = False
    least: tuple[Layer, int] | None = None


class ScenePipeline:
    """One scene on its way; the drawing above shows its threads.

    Args:
        translator: The model.
        seen: The scene on the network's grid.
        shown: The scene on the map's grid, through a handle of its own.
        options: Settings of the translation.
        layers: What is wanted of the model.
        part: Which pixels of `shown` are wanted.
        mask: Where a map is wanted, if not everywhere.
        align: What is written at once begins at multiples of this.
    """

    def __init__(
        self,
        translator: Translator,
        seen: ResampledScene,
        shown: ResampledScene,
        options: SceneOptions,
        layers: tuple[Layer, ...],
        part: Part,
        mask: Mask | None = None,
        align: int = TILE,
    ) -> None:
        self._translator = translator
        self._align = align
        self._seen = seen
        self._shown = shown
        self._options = options
        self._layers = layers
        self._mask = mask
        self._part = part
        self._some = False
        self._frame = None if options.mode == "published" else translator.frame(options.window)
        self._at_once = 1 if self._frame is None else translator.at_once
        sizes = (seen.grid.height, seen.grid.width)
        written = (shown.grid.height, shown.grid.width)
        kind = translator.kind
        in_bytes = self._frame is not None and sizes == written
        self._asked = kind.bytes(self._layers) if in_bytes else kind.values(self._layers)
        self._type = np.uint8 if in_bytes else np.float32
        wanted = ((part.top, part.bottom), (part.left, part.right))
        self._rows, self._columns = (
            self._axis(size, of, *within)
            for size, of, within in zip(sizes, written, wanted, strict=True)
        )

    def _axis(self, seen: int, written: int, start: int, stop: int) -> list[AxisWindow]:
        if self._frame is not None:
            return lay_cores(seen, written, self._frame, start, stop, self._align)
        multiple = self._translator.multiple
        window, overlap = blended(self._options)
        if self._options.mode == "published":
            grid = self._seen.grid
            if grid.height * grid.width > MAX_PUBLISHED_PIXELS:
                raise UsageError(
                    f"{grid.width} x {grid.height} pixels are too many to be predicted as "
                    "published, which takes the whole scene at once",
                    remedy="Predict deterministically, or give a `bbox`.",
                )
            window, overlap = seen, 0
        window = math.ceil(window / multiple) * multiple
        return lay_windows(seen, written, window, overlap, multiple, self._align)

    def run(
        self,
        products: list[Product],
        partial: Partial,
        target: Path,
        stop: threading.Event,
        progress: Callable[[int, int], None] | None,
        until: int | None = None,
    ) -> None:
        """Translate the windows of all strips that are not finished.

        Args:
            products: The rasters that are written.
            partial: Where the finished ones are noted.
            target: The map, for messages.
            stop: Asks to stop once it is set.
            progress: Called with (done, all) pixels of the map.
            until: One past the last row of the map that is wanted, where a piece of it ends; None
                takes all.

        Raises:
            StoppedError: `stop` is set.
            OSError: The disk is full.
        """
        height, width = self._part.height if until is None else until, self._part.width
        finished = partial.rows  # `partial.rows` itself grows in the thread that writes
        done, self._some = finished * width, partial.some
        if finished == height:
            return
        if progress is not None and done:
            progress(done, height * width)
        rows = self._rows[self._first_needed(finished) :]
        rows = [row for row in rows if row.out_start < height]

        def answered(window: Window) -> tuple[AxisWindow, AxisWindow, NDArray[Any] | None]:
            row, column, pixels = window
            at = (row.span.start, column.span.start)
            return row, column, None if pixels is None else self._answer(pixels, target, at)

        with (
            behind(applied(self._write, rows, products, partial)) as hand_over,
            closing(ahead(self._windows(rows, self._columns))) as windows,
            closing(side_by_side(answered, windows, self._at_once)) as answers,
        ):
            for row, column, values in answers:
                hand_over(values)
                if progress is not None and row.out_start >= finished:
                    done += (row.out_stop - row.out_start) * (column.out_stop - column.out_start)
                    progress(done, height * width)
                if stop.is_set():
                    raise StoppedError(
                        f"stopped as asked; {partial.rows:,} of {height:,} rows are finished",
                        where=target,
                    )

    def block(self, number: int, count: int) -> tuple[int, int]:
        """Return the first row of the map in a block of rows of windows, and one past the last.

        Args:
            number: Which block, from 0.
            count: How many blocks of about the same size there are; some may be empty.
        """
        stops = [0, *(row.out_stop for row in self._rows)]
        first, last = (len(self._rows) * edge // count for edge in (number, number + 1))
        return stops[first], stops[last]

    @property
    def height(self) -> int:
        """How many rows the map has."""
        return self._part.height

    @property
    def windows(self) -> tuple[int, int]:
        """How many rows and columns of windows there are."""
        return len(self._rows), len(self._columns)

    def touching(self, parts: Sequence[Part]) -> dict[tuple[int, int], Part]:
        """Return the windows (row, column) whose pieces have some of these pixels, and which.

        Args:
            parts: Some of the wanted pixels.
        """
        found = {}
        for r, row in enumerate(self._rows):
            for c, column in enumerate(self._columns):
                height = row.out_stop - row.out_start
                width = column.out_stop - column.out_start
                place = Part(row.out_start, column.out_start, height, width)
                if any(place.overlaps(part) for part in parts):
                    found[r, c] = place
        return found

    def piece(
        self, row: int, column: int
    ) -> tuple[Part, dict[Layer, NDArray[np.uint8]], NDArray[np.bool_]]:
        """Return what `run` writes of one window, for those who want a few.

        Of canonical windows that are resampled, the few pixels are left out that the windows before
        have a part in.

        Args:
            row: Number of the row of windows, from 0.
            column: Number of the column.

        Returns:
            Which of the wanted pixels they are; by layer uint8 [h,w] or [h,w,channels]; and where
            the scene has values, bool [h,w].
        """
        place, values = self._values(row, column)
        maps = self._maps(values)
        top, left = self._part.top + place.top, self._part.left + place.left
        valid = self._shown.valid(top, left, place.height, place.width)
        return place, {layer: getattr(maps, layer) for layer in self._layers}, valid

    def leads(self, row: int, column: int) -> NDArray[np.float32]:
        """Return by how much the most probable class leads in a piece, float32 [h,w], 0 to 1.

        Args:
            row: As for `piece`.
            column: As for `piece`.
        """
        other = copy.copy(self)
        other._asked, other._type = self._translator.kind.values(self._layers), np.float32
        return self._translator.kind.leads(other._values(row, column)[1], self._layers)

    def _values(self, row: int, column: int) -> tuple[Part, NDArray[Any]]:
        """Return which pixels a piece has, and their values or bytes."""
        rows, top = self._alone(self._rows, row)
        columns, left = self._alone(self._columns, column)
        windows = self._windows(rows, columns)
        answers = (
            None
            if pixels is None
            else self._answer(pixels, Path(), (down.span.start, across.span.start))
            for down, across, pixels in windows
        )
        depth = self._translator.depth(self._asked)
        *_, last = blend(rows, columns, answers, depth, kind=self._type)
        down, across, values = last
        vertical, horizontal = down.part(top, down.out_stop), across.part(left, across.out_stop)
        place = Part(top, left, down.out_stop - top, across.out_stop - left)
        return place, resample(vertical, values, horizontal)

    def _alone(self, axis: list[AxisWindow], number: int) -> tuple[list[AxisWindow], int]:
        """Return the windows that one's piece needs, it the last, and where the piece begins."""
        window = axis[number]
        if self._frame is None:
            first = next(n for n, one in enumerate(axis) if one.stop > window.needed_from)
            return axis[first : number + 1], window.out_start
        if window.matrix is None:
            return [window], max(window.out_start, window.span.start - window.shift)
        made_from = window.matrix.indices[window.matrix.indptr[:-1]] + window.needed_from
        before = int(np.searchsorted(made_from, window.span.start))
        return [window], window.out_start + (before if number else 0)

    def _maps(self, values: NDArray[Any]) -> Maps:
        """Return the layers of values or bytes on the map's grid."""
        kind = self._translator.kind
        if values.dtype != np.uint8:
            values = kind.to_bytes(values, self._layers)
        return kind.unpack(values, self._layers)

    def _first_needed(self, finished: int) -> int:
        """Return the first row of windows that has a part in what is not finished."""
        needed = next(row.needed_from for row in self._rows if row.out_stop > finished)
        return next(number for number, row in enumerate(self._rows) if row.stop > needed)

    def _windows(self, rows: list[AxisWindow], columns: list[AxisWindow]) -> Iterator[Window]:
        for row in rows:
            for column in columns:
                if not self._wanted(row, column):
                    yield row, column, None
                    continue
                pixels, valid = read_window(self._seen, self._frame, row.span, column.span)
                some = bool(valid.any())
                self._some = self._some or some
                yield row, column, fill_nearest(pixels, valid) if some else None

    def _wanted(self, row: AxisWindow, column: AxisWindow) -> bool:
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

    def _answer(self, pixels: NDArray[np.uint8], target: Path, at: tuple[int, int]) -> NDArray[Any]:
        if self._options.mode == "published":
            values = self._translator.predict_published(pixels, self._options.seed, self._asked)
        else:
            values = answer_window(self._translator, self._frame, pixels, self._asked, at)
        bands = self._translator.card.generator.out_channels
        if bands not in (1, 3) and not self._translator.answers_in_classes:
            raise UsageError(
                f"the result has {bands} bands, but a map has 1 or 3",
                where=target,
                remedy="Use a model whose targets are grey or RGB images.",
            )
        return values

    def _write(
        self,
        rows: list[AxisWindow],
        products: list[Product],
        partial: Partial,
        answers: Iterator[NDArray[Any] | None],
    ) -> None:
        """Blend the answers and write the strips that are not finished yet."""
        strips = [product.strips for product in products]
        try:
            with writing():
                depth = self._translator.depth(self._asked)
                for row, column, values in blend(
                    rows, self._columns, answers, depth, partial.folder, self._type
                ):
                    if row.out_start == row.out_stop or row.out_stop <= partial.rows:
                        continue
                    if column is self._columns[0]:
                        for each in strips:
                            each.begin(row.out_start, row.out_stop)
                    self._write_block(products, row, column, values)
                    if column is self._columns[-1]:
                        for each in strips:
                            each.finish()
                        give_back_memory()
                        partial.advance(row.out_stop, self._some)
        finally:
            for each in strips:
                each.abandon()

    def _write_block(
        self,
        products: list[Product],
        row: AxisWindow,
        column: AxisWindow,
        values: NDArray[Any],
    ) -> None:
        for top in range(row.out_start, row.out_stop, PIECE):
            vertical = row.part(top, min(top + PIECE, row.out_stop))
            for left in range(column.out_start, column.out_stop, PIECE):
                horizontal = column.part(left, min(left + PIECE, column.out_stop))
                piece = resample(vertical, values, horizontal)
                self._write_piece(products, top, left, piece)

    def _write_piece(
        self, products: list[Product], top: int, left: int, values: NDArray[Any]
    ) -> None:
        maps = self._maps(values)
        height, width = values.shape[:2]
        row, column = self._part.top + top, self._part.left + left  # on the map's whole grid
        place, photo = (row, column, height, width), None
        if any(product.compares for product in products):
            photo, valid = self._shown.read(*place, min_cover=HALF)
        else:
            valid = self._shown.valid(*place)
        if self._mask is not None:
            valid = valid & self._mask.inside(self._shown.grid.part(*place))
        for product in products:
            found = getattr(maps, product.layer)
            pixels = three_bands(found) if product.layer == "image" else np.atleast_3d(found)
            if not product.compares:
                here = valid
                if product.least is not None:
                    layer, value = product.least
                    here = valid & (getattr(maps, layer) >= value)
                product.strips.write(top, left, pixels, here)
                continue
            assert photo is not None
            if product.layer == "classes":
                legend = self._translator.legend
                assert legend is not None
                pixels = legend.paint(found)
            product.strips.write(top, left, three_bands(photo), valid)
            product.strips.write(top, left + self._part.width, pixels, valid)
