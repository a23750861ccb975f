"""Blending the answers of overlapping windows, in the order in which they are predicted.

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

import numpy as np
from numpy.typing import NDArray

from sat2map.translation.windows import AxisWindow

IN_MEMORY = 16 * 2**20
"""Bytes of unfinished rows that are kept in memory; those of wider scenes go to a file."""


def blend(
    rows: list[AxisWindow],
    columns: list[AxisWindow],
    answers: Iterable[NDArray[np.float32] | None],
    bands: int,
    scratch: Path | None = None,
) -> Iterator[tuple[AxisWindow, AxisWindow, NDArray[np.float32]]]:
    """Blend windows, row after row from left to right, and give out what is complete.

    Args:
        rows: The windows of the vertical axis.
        columns: Those of the horizontal axis.
        answers: For each window its values, float32 [h,w,bands], or None where nobody will
            look at them.
        bands: Bands of the values.
        scratch: Folder for what does not fit into memory; None keeps all there.

    Yields:
        The window's place on either axis, and complete values, float32
        [row.complete_until - row.needed_from, column.complete_until - column.needed_from, bands].
    """
    waiting = iter(answers)
    below_from = [row.needed_from for row in rows[1:]] + [rows[-1].stop]
    right_from = [column.needed_from for column in columns[1:]] + [columns[-1].stop]
    widest = max(column.complete_until - column.needed_from for column in columns)
    deepest = max(row.stop - after for row, after in zip(rows, below_from, strict=True))
    slot = widest * deepest * bands * 4  # bytes of one window's part of the strip below
    limit = 0 if scratch is None else IN_MEMORY  # 0 is none
    with SpooledTemporaryFile(max_size=limit, dir=None if limit == 0 else str(scratch)) as below:
        depth = 0  # rows of that strip
        for row, next_row in zip(rows, below_from, strict=True):
            beside: NDArray[np.float32] | None = None
            for number, (column, next_column) in enumerate(zip(columns, right_from, strict=True)):
                size = (row.stop - row.needed_from, column.stop - column.needed_from, bands)
                total = np.zeros(size, np.float32)
                if beside is not None:
                    total[:, : beside.shape[1]] += beside
                answer = next(waiting)
                if answer is not None:
                    weights = row.weights[:, None, None] * column.weights[None, :, None]
                    top, left = (axis.span.start - axis.needed_from for axis in (row, column))
                    part = answer[: len(row.weights), : len(column.weights)]
                    total[top:, left:][: part.shape[0], : part.shape[1]] += part * weights
                beside = total[:, next_column - column.needed_from :].copy()
                complete = total[:, : column.complete_until - column.needed_from]
                if depth:
                    below.seek(number * slot)
                    stored = np.frombuffer(below.read(depth * complete[0].nbytes), np.float32)
                    complete[:depth] += stored.reshape(depth, *complete.shape[1:])
                if row is not rows[-1]:
                    below.seek(number * slot)
                    kept = np.ascontiguousarray(complete[next_row - row.needed_from :])
                    below.write(kept.tobytes())
                yield row, column, complete[: row.complete_until - row.needed_from]
            depth = row.stop - next_row
