from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sat2map.raster.resampling import resample, resampling
from sat2map.translation import blending
from sat2map.translation.blending import blend
from sat2map.translation.windows import lay_windows

SIDES = st.integers(1, 90)


@settings(max_examples=150)
@given(
    seen=st.tuples(SIDES, SIDES),
    other=st.tuples(st.integers(1, 140), st.integers(1, 140)),
    same=st.tuples(st.booleans(), st.booleans()),
    window=st.sampled_from([8, 16]),
    overlap=st.integers(0, 8),
    multiple=st.sampled_from([1, 4, 8]),
    align=st.sampled_from([1, 4, 16]),
    in_memory=st.sampled_from([None, 0, 1000, 10**6]),
)
def test_blended_windows_give_the_image_that_they_were_cut_from(
    seen: tuple[int, int],
    other: tuple[int, int],
    same: tuple[bool, bool],
    window: int,
    overlap: int,
    multiple: int,
    align: int,
    in_memory: int | None,
) -> None:
    """Every pixel of the map is written once, and it is the resampled image's."""
    overlap = min(overlap, window // 2)
    written = tuple(s if alike else o for s, o, alike in zip(seen, other, same, strict=True))
    rows, columns = (
        lay_windows(s, w, window, overlap, multiple, align)
        for s, w in zip(seen, written, strict=True)
    )
    image = np.random.default_rng(sum(seen)).normal(size=(*seen, 2)).astype(np.float32)
    beyond = np.pad(image, ((0, 16), (0, 16), (0, 0)), constant_values=1e6)
    answers = (
        beyond[r.span.start :, c.span.start :][: r.span.size, : c.span.size]
        for r in rows
        for c in columns
    )
    result = np.zeros((*written, 2), np.float32)
    times = np.zeros(written, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blending, "IN_MEMORY", in_memory or 1)
        scratch = None if in_memory is None else Path(gettempdir())
        for row, column, values in blend(rows, columns, answers, 2, scratch):
            down, along = ((a.out_start, a.out_stop) for a in (row, column))
            assert down[0] % align == along[0] % align == 0 or 0 in (
                down[1] - down[0],
                along[1] - along[0],
            )
            times[slice(*down), slice(*along)] += 1
            if down[0] < down[1] and along[0] < along[1]:
                piece = resample(row.part(*down), values, column.part(*along))
                result[slice(*down), slice(*along)] = piece
    assert (times == 1).all()
    expected = resample(resampling(seen[0], written[0]), image, resampling(seen[1], written[1]))
    assert np.allclose(result, expected, atol=1e-5)


def test_an_overlap_is_blended_linearly() -> None:
    rows, columns = lay_windows(6, 6, 4, 2, 1), lay_windows(1, 1, 1, 0, 1)
    answers = [np.zeros((4, 1, 1), np.float32), np.ones((4, 1, 1), np.float32)]
    found = np.concatenate([values for *_, values in blend(rows, columns, answers, 1)])
    assert found.ravel().tolist() == [0, 0, 0.25, 0.75, 1, 1]


def test_what_is_complete_comes_out_before_the_next_window_is_asked_for() -> None:
    rows, columns = lay_windows(40, 40, 8, 3, 1), lay_windows(23, 23, 8, 3, 1)
    asked = 0

    def answers() -> Iterator[NDArray[np.float32]]:
        nonlocal asked
        for row in rows:
            for column in columns:
                asked += 1
                yield np.ones((row.span.size, column.span.size, 1), np.float32)

    for number, (row, column, values) in enumerate(blend(rows, columns, answers(), 1), 1):
        assert asked == number
        assert values.shape == (
            row.complete_until - row.needed_from,
            column.complete_until - column.needed_from,
            1,
        )
    assert asked == len(rows) * len(columns)


def test_a_window_nobody_looks_at_needs_no_answer() -> None:
    rows, columns = lay_windows(8, 8, 8, 0, 1), lay_windows(16, 16, 8, 0, 1)
    answers = [None, np.ones((8, 8, 1), np.float32)]
    found = [values.mean() for *_, values in blend(rows, columns, answers, 1)]
    assert found == [0, 1]
