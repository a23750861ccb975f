from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sat2map.translation.windows import lay_windows

SIDES = st.integers(1, 90)
WINDOWS = st.sampled_from([8, 16])


@given(SIDES, WINDOWS, st.integers(0, 8))
def test_the_weights_sum_to_one(length: int, window: int, overlap: int) -> None:
    total = np.zeros(length)
    for placed in lay_windows(length, length, window, min(overlap, window // 2), 4):
        start = placed.span.start
        total[start : start + len(placed.weights)] += placed.weights
    assert np.allclose(total, 1)


@given(SIDES, SIDES, WINDOWS, st.integers(0, 8), st.sampled_from([1, 4, 16]))
def test_pieces_follow_each_other_and_need_only_what_is_complete(
    seen: int, written: int, window: int, overlap: int, align: int
) -> None:
    windows = lay_windows(seen, written, window, min(overlap, window // 2), 4, align)
    assert (windows[0].out_start, windows[-1].out_stop) == (0, written)
    assert (windows[0].needed_from, windows[-1].complete_until) == (0, seen)
    for one, other in pairwise(windows):
        assert one.out_stop == other.out_start
        assert one.complete_until == other.span.start
        assert other.needed_from <= one.complete_until <= one.stop
    for one in windows:
        if one.matrix is not None:
            sums = one.matrix.sum(1)  # none of their weight lies outside of what is complete
            assert np.allclose(sums, 1, atol=1e-6)


def test_on_one_grid_a_piece_is_what_a_window_completes() -> None:
    for one in lay_windows(50, 50, 16, 4, 4):
        assert one.matrix is None
        assert (one.out_start, one.out_stop) == (one.needed_from, one.complete_until)
        assert one.part(one.out_start, one.out_stop) == slice(0, one.out_stop - one.out_start)
