from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sat2map.raster.resampling import resample, resampling
from sat2map.translation import blending as blend_module
from sat2map.translation.blending import blend
from sat2map.translation.windows import placements

SIDES = st.integers(1, 90)


@given(SIDES, SIDES)
def test_resampling_keeps_a_constant_and_a_slope(source: int, target: int) -> None:
    matrix = resampling(source, target)
    assert np.allclose(matrix.sum(1), 1, atol=1e-6)
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    inner = (centres > max(1, source / target)) & (centres < source - 1 - max(1, source / target))
    # Sampled triangles of fractional width balance within a fraction of a pixel only.
    slope = matrix @ np.arange(source, dtype=np.float32)
    assert np.abs(slope - centres)[inner].max(initial=0) < 0.15
    if source == target:
        assert np.array_equal(matrix.toarray(), np.eye(source, dtype=np.float32))


def test_resampling_in_parts_is_resampling_of_all() -> None:
    whole = resampling(97, 31).toarray()
    parts = [resampling(97, 31, start, start + 10 if start < 30 else 31) for start in (0, 10, 20)]
    parts.append(resampling(97, 31, 30, 31))
    assert np.array_equal(np.concatenate([part.toarray() for part in parts]), whole)


def test_a_coarser_grid_averages_what_it_covers() -> None:
    matrix = resampling(100, 10).toarray()
    assert (matrix[5] > 0).sum() == 20
    assert matrix[5].argmax() in (54, 55)


@settings(max_examples=150)
@given(
    seen=st.tuples(SIDES, SIDES),
    written=st.tuples(st.integers(1, 140), st.integers(1, 140)),
    window=st.sampled_from([8, 16]),
    overlap=st.integers(0, 8),
    multiple=st.sampled_from([1, 4, 8]),
    align=st.sampled_from([1, 4, 16]),
    in_memory=st.sampled_from([0, 1000, 10**6]),
)
def test_blended_windows_give_the_picture_that_they_were_cut_from(
    seen: tuple[int, int],
    written: tuple[int, int],
    window: int,
    overlap: int,
    multiple: int,
    align: int,
    in_memory: int,
) -> None:
    """Every pixel of the map is written once, and it is the resampled picture's."""
    overlap = min(overlap, window // 2)
    rows, columns = (
        placements(s, w, window, overlap, multiple, align)
        for s, w in zip(seen, written, strict=True)
    )
    picture = np.random.default_rng(sum(seen)).normal(size=(*seen, 2)).astype(np.float32)
    beyond = np.pad(picture, ((0, 16), (0, 16), (0, 0)), constant_values=1e6)
    answers = (
        beyond[r.span.start :, c.span.start :][: r.span.size, : c.span.size]
        for r in rows
        for c in columns
    )
    result = np.zeros((*written, 2), np.float32)
    times = np.zeros(written, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blend_module, "IN_MEMORY", in_memory)
        for row, column, values in blend(rows, columns, answers, 2, Path(gettempdir())):
            assert row.first % align == column.first % align == 0 or 0 in (
                row.last - row.first,
                column.last - column.first,
            )
            times[row.first : row.last, column.first : column.last] += 1
            if row.first < row.last and column.first < column.last:
                piece = resample(row.matrix, values, column.matrix)
                result[row.first : row.last, column.first : column.last] = piece
    assert (times == 1).all()
    expected = resample(resampling(seen[0], written[0]), picture, resampling(seen[1], written[1]))
    assert np.allclose(result, expected, atol=1e-5)


@given(SIDES, st.sampled_from([8, 16]), st.integers(0, 8))
def test_the_weights_sum_to_one(length: int, window: int, overlap: int) -> None:
    total = np.zeros(length)
    for placement in placements(length, length, window, min(overlap, window // 2), 4, 1):
        start = placement.span.start
        total[start : start + len(placement.weights)] += placement.weights
    assert np.allclose(total, 1)


def test_a_window_nobody_looks_at_needs_no_answer() -> None:
    rows = placements(8, 8, 8, 0, 1, 1)
    columns = placements(16, 16, 8, 0, 1, 1)
    answers = [None, np.ones((8, 8, 1), np.float32)]
    found = [values.mean() for *_, values in blend(rows, columns, answers, 1, Path(gettempdir()))]
    assert found == [0, 1]
