"""Adding up the answers of overlapping windows, block by block, in flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
from numpy.typing import NDArray

from sat2map.raster.resample import Placement, apply

IN_MEMORY = 32 * 2**20
"""Bytes of unfinished rows that are kept in memory; those of wider scenes go to a file."""


def blend(
    rows: list[Placement],
    columns: list[Placement],
    answers: Iterable[NDArray[np.float32] | None],
    bands: int,
    scratch: Path,
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Blend windows, row after row from left to right, and give out what is finished.

    Args:
        rows: The windows of the vertical axis.
        columns: Those of the horizontal axis.
        answers: For each window its values, float32 [h,w,bands], or None where nobody will
            look at them.
        bands: Bands of the values.
        scratch: Folder for what does not fit into memory.

    Yields:
        First row, first column and finished values, float32 [h,w,bands], which may be empty;
        together every output pixel just once.
    """
    waiting = iter(answers)
    widest = max(column.finish - column.begin for column in columns)
    deepest = max(row.end - row.finish for row in rows)
    slot = widest * deepest * bands * 4
    with SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(scratch)) as below:
        depth = 0
        for row in rows:
            beside: NDArray[np.float32] | None = None
            for number, column in enumerate(columns):
                total = np.zeros((row.end - row.begin, column.end - column.begin, bands), "f4")
                if beside is not None:
                    total[:, : beside.shape[1]] += beside
                answer = next(waiting)
                if answer is not None:
                    added = apply(row.matrix, answer, column.matrix)
                    top, left = row.first - row.begin, column.first - column.begin
                    total[top : top + added.shape[0], left : left + added.shape[1]] += added
                width = column.finish - column.begin
                finished, beside = total[:, :width], total[:, width:]
                if depth and width:
                    below.seek(number * slot)
                    stored = np.frombuffer(below.read(depth * width * bands * 4), np.float32)
                    finished[:depth] += stored.reshape(depth, width, bands)
                height = row.finish - row.begin
                yield row.begin, column.begin, finished[:height]
                below.seek(number * slot)
                below.write(np.ascontiguousarray(finished[height:]).tobytes())
            depth = row.end - row.finish
