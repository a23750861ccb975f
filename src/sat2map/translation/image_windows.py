"""The windows of an image in memory: cut out of it, answered, and put together again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sat2map.geo.windows import OVERLAP, WINDOW, Span, mirrored
from sat2map.translation.background import side_by_side
from sat2map.translation.blending import blend
from sat2map.translation.windows import AxisWindow, Frame, lay_windows

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None] | None


class Predict(Protocol):
    """What the network makes of one window, [h - 2 halo,w - 2 halo,channels]."""

    def __call__(self, window: Pixels, halo: int, at: tuple[int, int], /) -> NDArray[Any]:
        """Answer a window whose first pixel is at a row and column of the image."""


@dataclass(frozen=True)
class ImageWindows:
    """How images pass through a network.

    Attributes:
        multiple: What the sides of a window are multiples of.
        frame: The network's canonical windows, or None where windows are blended.
    """

    multiple: int
    frame: Frame | None

    def are_blended(self, source: Pixels) -> bool:
        """Return whether an image takes several windows that are blended."""
        return self.frame is None and any(len(axis) > 1 for axis in self._axes(source))

    def answer(
        self,
        source: Pixels,
        predict: Predict,
        finish: Callable[[NDArray[Any]], NDArray[Any]],
        at_once: int,
        progress: Progress,
    ) -> NDArray[Any]:
        """Return what the network makes of an image, [H,W,channels].

        Args:
            source: uint8 [H,W,C].
            predict: Answers one window.
            finish: Makes of answers, which may be blended, what is returned.
            at_once: How many canonical windows are predicted at once.
            progress: Called with (done, all) windows.
        """
        if self.frame is not None:
            return self._framed(source, self.frame, predict, at_once, progress)
        height, width, _ = source.shape
        rows, columns = self._axes(source)
        answers = _answers(source, rows, columns, predict, progress)
        first = next(answers)
        if len(rows) == len(columns) == 1:
            return finish(first)[:height, :width]
        result: NDArray[Any] | None = None
        for row, column, values in blend(rows, columns, chain((first,), answers), first.shape[2]):
            part = finish(values)
            if result is None:
                result = np.empty((height, width, part.shape[2]), part.dtype)
            result[row.out_start : row.out_stop, column.out_start : column.out_stop] = part
        assert result is not None
        return result

    def _axes(self, source: Pixels) -> tuple[list[AxisWindow], list[AxisWindow]]:
        window = -(-WINDOW // self.multiple) * self.multiple
        height, width, _ = source.shape
        return (
            lay_windows(height, height, window, OVERLAP, self.multiple),
            lay_windows(width, width, window, OVERLAP, self.multiple),
        )

    def _framed(
        self, source: Pixels, frame: Frame, predict: Predict, at_once: int, progress: Progress
    ) -> NDArray[Any]:
        """Return the same of canonical windows, or of one of its own size where that is enough."""
        height, width, _ = source.shape
        if max(height, width) <= frame.size:
            answer = predict(whole_window(source, self.multiple), 0, (0, 0))
            if progress is not None:
                progress(1, 1)
            return answer[:height, :width]
        result: NDArray[Any] | None = None
        halo, counts = frame.halo, (frame.count(height), frame.count(width))

        def answered(number: tuple[int, ...]) -> tuple[Span, Span, NDArray[Any]]:
            row, column = frame.span(number[0], height), frame.span(number[1], width)
            seen = [Span(core.start - halo, core.size + 2 * halo, 0, 0) for core in (row, column)]
            at = (seen[0].start, seen[1].start)
            return row, column, predict(_window(source, *seen), halo, at)

        windows = product(*map(range, counts))
        with closing(side_by_side(answered, windows, at_once)) as answers:
            for done, (row, column, answer) in enumerate(answers, 1):
                if result is None:
                    result = np.empty((height, width, answer.shape[2]), answer.dtype)
                part = result[row.start :, column.start :][: row.size, : column.size]
                part[:] = answer[: part.shape[0], : part.shape[1]]
                if progress is not None:
                    progress(done, math.prod(counts))
        assert result is not None
        return result


def whole_window(source: Pixels, multiple: int) -> Pixels:
    """Return an image as one window, mirrored beyond its end up to a multiple."""
    return _window(
        source, *(Span(0, -(-side // multiple) * multiple, 0, 0) for side in source.shape[:2])
    )


def _answers(
    source: Pixels,
    rows: list[AxisWindow],
    columns: list[AxisWindow],
    predict: Predict,
    progress: Progress,
) -> Iterator[NDArray[Any]]:
    """Yield what the network makes of each of the windows that are blended, [h,w,channels]."""
    for done, (row, column) in enumerate(product(rows, columns), 1):
        window = _window(source, row.span, column.span)
        answer = predict(window, 0, (row.span.start, column.span.start))
        if progress is not None:
            progress(done, len(rows) * len(columns))
        yield answer


def _window(source: Pixels, row: Span, column: Span) -> Pixels:
    """Return a window, mirrored where it reaches beyond the image."""
    height, width, _ = source.shape
    inside = source[max(row.start, 0) :, max(column.start, 0) :][: row.size, : column.size]
    if min(row.start, column.start) >= 0 and inside.shape[:2] == (row.size, column.size):
        return inside
    rows = mirrored(row.start, row.size, height)
    columns = mirrored(column.start, column.size, width)
    return source[rows[:, None], columns[None, :]]
