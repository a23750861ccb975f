"""Putting the answers of windows together, in the order in which they are predicted.

Windows that overlap are blended; cores lie side by side, and only what the next piece of the map
still needs of them is kept.

Windows come row by row, each row from left to right. Each is weighted and added to what its
neighbours to the left and above have left over; what no later window adds to is given out:

        columns          needed_from        complete_until        stop
    needed_from               +---------------------+--------------+
                              |  given out now      |  to the      |
    complete_until            +---------------------+  window on   |
                              |  to the row below   |  the right   |
    stop                      +---------------------+--------------+

The strip on the right is one array in memory; it goes on without what the row above left over,
which the window on the right adds by itself. The strip below holds a whole row of windows: it
stays in memory up to a limit and goes to a file beyond it, so that memory does not depend on
the width of the scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.translation.windows import AxisWindow

IN_MEMORY = 16 * 2**20
"""Bytes of unfinished rows that are kept in memory; those of wider scenes go to a file."""


def blend(
    rows: list[AxisWindow],
    columns: list[AxisWindow],
    answers: Iterable[NDArray[Any] | None],
    bands: int,
    scratch: Path | None = None,
    kind: type[np.float32 | np.uint8] = np.float32,
) -> Iterator[tuple[AxisWindow, AxisWindow, NDArray[Any]]]:
    """Blend windows, row after row from left to right, and give out what is complete.

    Args:
        rows: The windows of the vertical axis.
        columns: Those of the horizontal axis.
        answers: For each window its values, [h,w,bands], or None where nobody will look at them.
        bands: Bands of the values.
        scratch: Folder for what does not fit into memory; None keeps all there.
        kind: The type of the values; uint8 only of cores, which nothing is blended with.

    Yields:
        The window's place on either axis, and complete values,
        [row.complete_until - row.needed_from, column.complete_until - column.needed_from, bands].
    """
    waiting = iter(answers)
    below_from = [row.needed_from for row in rows[1:]] + [rows[-1].stop]
    right_from = [column.needed_from for column in columns[1:]] + [columns[-1].stop]
    widest = max(column.complete_until - column.needed_from for column in columns)
    deepest = max(row.stop - after for row, after in zip(rows, below_from, strict=True))
    # Bytes of one window's part of the strip below.
    slot = widest * deepest * bands * np.dtype(kind).itemsize
    limit = 0 if scratch is None else IN_MEMORY  # 0 is none
    with SpooledTemporaryFile(max_size=limit, dir=None if limit == 0 else str(scratch)) as below:
        depth = 0  # rows of that strip
        for row, next_row in zip(rows, below_from, strict=True):
            beside: NDArray[Any] | None = None
            for number, (column, next_column) in enumerate(zip(columns, right_from, strict=True)):
                size = (row.stop - row.needed_from, column.stop - column.needed_from, bands)
                total: NDArray[Any] = np.zeros(size, kind)
                if beside is not None:
                    total[:, : beside.shape[1]] += beside
                answer = next(waiting)
                if answer is not None:
                    if row.weights is not None and column.weights is not None:
                        weights = row.weights[:, None, None] * column.weights[None, :, None]
                        answer = answer[: len(row.weights), : len(column.weights)] * weights
                    # A window may begin before what is wanted of it, and end after the scene.
                    (top, before), (left, aside) = (
                        (max(begins, 0), max(-begins, 0))
                        for begins in (a.span.start - a.needed_from for a in (row, column))
                    )
                    wanted = total[top:, left:]
                    wanted += answer[before:, aside:][: wanted.shape[0], : wanted.shape[1]]
                beside = total[:, next_column - column.needed_from :].copy()
                complete = total[:, : column.complete_until - column.needed_from]
                if depth:
                    below.seek(number * slot)
                    stored: NDArray[Any] = np.frombuffer(
                        below.read(depth * complete[0].nbytes), kind
                    )
                    complete[:depth] += stored.reshape(depth, *complete.shape[1:])
                if row is not rows[-1]:
                    below.seek(number * slot)
                    kept = np.ascontiguousarray(complete[next_row - row.needed_from :])
                    below.write(kept.tobytes())
                yield row, column, complete[: row.complete_until - row.needed_from]
            depth = row.stop - next_row
