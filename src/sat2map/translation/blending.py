"""Adding up the answers of overlapping windows, block by block, in flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
from numpy.typing import NDArray

from sat2map.translation.windows import Placement

IN_MEMORY = 16 * 2**20
"""Bytes of unfinished rows that are kept in memory; those of wider scenes go to a file."""


def blend(
    rows: list[Placement],
    columns: list[Placement],
    answers: Iterable[NDArray[np.float32] | None],
    bands: int,
    scratch: Path,
) -> Iterator[tuple[Placement, Placement, NDArray[np.float32]]]:
    """Blend windows, row after row from left to right, and give out what is finished.

    Args:
        rows: The windows of the vertical axis.
        columns: Those of the horizontal axis.
        answers: For each window its values, float32 [h,w,bands], or None where nobody will
            look at them.
        bands: Bands of the values.
        scratch: Folder for what does not fit into memory.

    Yields:
        The window's two placements, and finished values, float32
        [row.finish - row.begin, column.finish - column.begin, bands].
    """
    waiting = iter(answers)
    begins = [row.begin for row in rows[1:]] + [rows[-1].end]
    lefts = [column.begin for column in columns[1:]] + [columns[-1].end]
    widest = max(column.finish - column.begin for column in columns)
    deepest = max(row.end - after for row, after in zip(rows, begins, strict=True))
    slot = widest * deepest * bands * 4
    with SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(scratch)) as below:
        depth = 0
        for row, next_begin in zip(rows, begins, strict=True):
            beside: NDArray[np.float32] | None = None
            for number, (column, next_left) in enumerate(zip(columns, lefts, strict=True)):
                total = np.zeros((row.end - row.begin, column.end - column.begin, bands), "f4")
                if beside is not None:
                    total[:, : beside.shape[1]] += beside
                answer = next(waiting)
                if answer is not None:
                    weights = row.weights[:, None, None] * column.weights[None, :, None]
                    top, left = row.span.start - row.begin, column.span.start - column.begin
                    part = answer[: len(row.weights), : len(column.weights)]
                    total[top:, left:][: part.shape[0], : part.shape[1]] += part * weights
                # Before the rows above are added: the next window adds them by itself.
                beside = total[:, next_left - column.begin :].copy()
                finished = total[:, : column.finish - column.begin]
                if depth:
                    below.seek(number * slot)
                    stored = np.frombuffer(below.read(depth * finished[0].nbytes), np.float32)
                    finished[:depth] += stored.reshape(depth, *finished.shape[1:])
                if row is not rows[-1]:
                    below.seek(number * slot)
                    kept = np.ascontiguousarray(finished[next_begin - row.begin :])
                    below.write(kept.tobytes())
                yield row, column, finished[: row.finish - row.begin]
            depth = row.end - next_begin
