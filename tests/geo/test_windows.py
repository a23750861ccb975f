from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat2map.geo.windows import mirrored, ramp, spans


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Length, window, overlap and multiple that fit together."""
    multiple = draw(st.integers(1, 8))
    window = multiple * draw(st.integers(1, 8))
    overlap = draw(st.integers(0, window // 2))
    return draw(st.integers(1, 300)), window, overlap, multiple


@given(axes())
def test_every_pixel_is_covered_and_the_weights_sum_to_one(axis: tuple[int, int, int, int]) -> None:
    length, window, overlap, multiple = axis
    windows = spans(length, window, overlap, multiple)
    end = windows[-1].start + windows[-1].size
    assert end >= length
    total = np.zeros(end)
    for span in windows:
        weights = span.weights()
        assert weights.dtype == np.float32
        assert len(weights) == span.size
        assert (weights > 0).all()
        total[span.start : span.start + span.size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes())
def test_the_windows_form_a_regular_grid(axis: tuple[int, int, int, int]) -> None:
    length, window, overlap, multiple = axis
    windows = spans(length, window, overlap, multiple)
    assert all(span.size % multiple == 0 for span in windows)
    assert [span.start for span in windows] == [i * (window - overlap) for i in range(len(windows))]
    if (window - overlap) % multiple == 0:
        assert all(span.start % multiple == 0 for span in windows)
    assert all(span.size == window for span in windows[:-1])
    assert 0 <= windows[-1].start + windows[-1].size - length < multiple
    if len(windows) > 1:  # the last one is needed: the one before ends within the image
        assert windows[-2].start + window < length
    assert (windows[0].rise, windows[-1].fall) == (0, 0)
    assert all(a.fall == b.rise == overlap for a, b in pairwise(windows))


@pytest.mark.parametrize(
    "axis", [(0, 4, 0, 1), (9, 4, 0, 3), (9, 4, 3, 1), (9, 4, -1, 1), (9, 4, 0, 0)]
)
def test_what_does_not_fit_together_is_refused(axis: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no windows of 4"):
        spans(*axis)


@given(st.integers(1, 64))
def test_a_ramp_and_its_mirror_image_sum_to_one(length: int) -> None:
    weights = ramp(length)
    np.testing.assert_allclose(weights + weights[::-1], 1, atol=1e-6)
    assert (np.diff(weights) > 0).all()
    assert 0 < weights[0] <= weights[-1] < 1


@given(st.integers(-500, 500), st.integers(1, 500), st.integers(1, 60))
def test_mirrored_indices_are_those_of_numpys_reflection(
    start: int, size: int, length: int
) -> None:
    indices = mirrored(start, size, length)
    assert len(indices) == size
    assert indices.min() >= 0
    assert indices.max() < length
    before, after = max(0, -start), max(0, start + size - length)
    reflected = np.pad(np.arange(length), (before, after), mode="reflect")
    first = start + before
    assert np.array_equal(indices, reflected[first : first + size])
