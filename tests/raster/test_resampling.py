from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sat2map.raster.resampling import resample, resampling

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


def test_what_is_taken_as_it_is_is_what_the_identity_gives() -> None:
    values = np.random.default_rng(0).normal(size=(9, 11, 3)).astype(np.float32)
    coarser = resampling(11, 5)
    for rows, columns, by_matrix in (
        (slice(2, 7), slice(0, 11), (resampling(9, 9, 2, 7), resampling(11, 11))),
        (slice(0, 9), coarser, (resampling(9, 9), coarser)),
        (resampling(9, 4), slice(3, 4), (resampling(9, 4), resampling(11, 11, 3, 4))),
    ):
        made = resample(rows, values, columns)
        assert np.array_equal(made, resample(by_matrix[0], values, by_matrix[1]))
        assert made.flags.c_contiguous
