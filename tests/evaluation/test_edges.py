from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from sat2map.evaluation import edges
from sat2map.legend import COVER, STREETS, Legend, LegendClass


def grey(values) -> np.ndarray:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def step(at: int, side: int = 20, height: int = 40) -> np.ndarray:
    values = np.full((side, side), 100)
    values[:, at:] += height
    return grey(values)


@given(st.integers(0, 2**20), st.sampled_from([0, 1, math.sqrt(2), 2, 3]))
def test_dilation_is_a_distance(seed, radius):
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 12, 2)) < 0.2
    expected = distance_transform_edt(~mask) <= radius + 1e-9 if mask.any() else mask
    np.testing.assert_array_equal(edges.dilate(mask, radius), expected)


def test_a_step_is_an_edge_of_two_pixels():
    # scipy's Sobel answers 4 times the difference on both sides of a step.
    found = edges.edges(step(10, height=5))
    assert found[:, 9:11].all()
    assert found.sum() == 40
    assert not edges.edges(step(10, height=4)).any()  # 16 does not exceed 16


def test_the_channels_are_averaged():
    image = step(10, height=0)
    image[:, 10:, 0] += 13  # a mean of 4.33, times 4 is 17.3
    assert edges.edges(image).any()
    image[:, 10:, 0] -= 1  # a mean of 4
    assert not edges.edges(image).any()


def test_edge_density_is_generated_over_true():
    sharp = edges.edges(step(10))
    two = edges.edges(np.minimum(step(5), 140) + step(15) - 100)
    assert edges.edge_density(two, sharp) == 2
    assert edges.edge_density(np.zeros_like(sharp), sharp) == 0
    assert math.isnan(edges.edge_density(sharp, np.zeros_like(sharp)))


def test_f1_forgives_two_pixels():
    true = np.zeros((20, 20), bool)
    true[:, 10] = True
    assert edges.f1(np.roll(true, 2, axis=1), true) == 1
    assert edges.f1(np.roll(true, 3, axis=1), true) == 0
    both = true | np.roll(true, 6, axis=1)
    assert edges.f1(both, true) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert edges.f1(np.zeros_like(true), true) == 0
    assert math.isnan(edges.f1(np.zeros_like(true), np.zeros_like(true)))


def test_a_colour_reaches_twenty_in_every_channel():
    image = np.array(
        [[(240, 160, 30), (255, 180, 50), (247, 160, 33), (240, 181, 30), (219, 160, 30)]],
        np.uint8,
    )
    assert edges.in_colour(image, (240, 160, 30)).tolist() == [[True, True, True, False, False]]


def test_the_most_colourful_road_stands_out_whatever_it_is_called():
    assert edges.outstanding_road(STREETS) == (247, 160, 33)
    assert edges.outstanding_road(COVER) is None  # its roads are grey
    lake = LegendClass("lake", (0, 0, 255), "water")
    grey, red = LegendClass("a", (90, 90, 90), "road"), LegendClass("b", (200, 140, 150), "road")
    assert edges.outstanding_road(Legend((lake, grey, red))) == (200, 140, 150)
    assert edges.outstanding_road(Legend((lake, grey))) is None
    assert edges.outstanding_road(Legend((lake,))) is None


def test_seam_ratio_by_hand():
    values = np.tile(np.arange(0, 24), (24, 1))  # a ramp: 1 between columns, 0 between rows
    values[:, 8:] += 10
    values[:, 16:] += 10
    # Borders: 2 x 24 column steps of 11 and 2 x 24 row steps of 0; elsewhere 21 lines each.
    assert edges.seam_range(grey(values), 8).ratio == pytest.approx((11 / 2) / (1 / 2))
    # The grid from 4 on has 3 lines per axis, none on a seam.
    rest = (18 * 1 + 2 * 11) / 20 / 2
    assert edges.seam_range(grey(values), 8, offset=(4, 4)).ratio == pytest.approx(0.5 / rest)


def test_seams_stand_out_of_their_own_range():
    random = np.random.default_rng(0)
    image = grey(random.integers(0, 60, (128, 128)))
    assert edges.seam_range(image, 32).seamless
    tiled = image.copy()
    tiled[:32, :32] += 30
    tiled[32:64, 32:64] += 40
    tiled[64:96, :32] += 50
    seams = edges.seam_range(tiled, 32)
    assert not seams.seamless
    assert seams.ratio > seams.high > seams.low
    assert seams.ratio == edges.seam_range(tiled, 32).ratio


def test_a_window_has_a_border_at_its_end_too():
    values = np.tile(np.arange(0, 40), (40, 1))
    for start in (10, 20, 30):  # windows begin here, and the ones before end 4 further
        values[:, start + 4 :] += 10
    found = edges.seam_range(grey(values), 10, borders=(0, 4))
    # 3 borders of 1 and 3 of 11 along the rows, 7 lines of 0 down: one in the first window,
    # where none ends, too; elsewhere 39 - 7 lines of 1 and as many of 0.
    assert found.ratio == pytest.approx((3 * 11 + 4 * 1) / 14 / (32 / 64))
    assert edges.seam_range(grey(values), 10, borders=(14, 0, 10)) == found
    assert not edges.seam_range(grey(values), 10).ratio > 1


def test_an_axis_that_one_tile_covers_is_left_out():
    values = np.tile(np.arange(0, 20), (8, 1))
    values[:, 10:] += 10
    values[4:] += 50  # no border is near
    rest = (18 * 8 * 1 + 20 * 50) / (18 * 8 + 7 * 20)
    assert edges.seam_range(grey(values), 10).ratio == pytest.approx(11 / rest)


def test_a_strong_line_of_the_map_is_no_seam():
    image = np.full((120, 120), 200)
    image[:, 61] = 0  # a street that lies 3 pixels beside a border
    assert edges.seam_range(grey(image), 32).seamless


@given(st.integers(0, 2**20), st.integers(2, 9))
def test_the_range_is_that_of_all_shifted_grids(seed, tile):
    image = np.random.default_rng(seed).integers(0, 256, (20, 25, 3), np.uint8)
    ratios = sorted(
        edges.seam_range(image, tile, offset=(y, x)).ratio for y in range(tile) for x in range(tile)
    )
    found = edges.seam_range(image, tile)
    assert found.low in ratios
    assert found.high in ratios
    inside = [found.low <= ratio <= found.high for ratio in ratios]
    assert np.mean(inside) >= 0.9


def test_seams_of_one_colour_and_of_impossible_tiles():
    flat = grey(np.full((32, 32), 7))
    assert edges.seam_range(flat, 8) == edges.SeamRange(1.0, 1.0, 1.0)
    flat[:16, :16] = 9
    assert edges.seam_range(flat, 16).ratio == math.inf
    assert not edges.seam_range(flat, 16).seamless or edges.seam_range(flat, 16).high == math.inf
    with pytest.raises(ValueError, match="no border"):
        edges.seam_range(flat, 32)
    with pytest.raises(ValueError, match="at least 2"):
        edges.seam_range(flat, 1)
