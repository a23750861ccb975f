from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from sat2map.evaluation import classes
from sat2map.evaluation.classes import agreement, area_shares, find_legend, iou, true_classes
from sat2map.legend import STREETS, Legend, LegendClass
from sat2map.towns import draw_pair

FACADES = [
    (0, 0, 255), (0, 0, 170), (0, 85, 255), (0, 170, 255), (0, 255, 255), (85, 255, 170),
    (170, 255, 85), (255, 255, 0), (255, 170, 0), (255, 85, 0), (170, 0, 0), (255, 0, 0),
]  # fmt: skip


def label_map(colours, seed: int, side: int = 128) -> np.ndarray:
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), colours[0])
    draw = ImageDraw.Draw(image)
    for colour in [*colours, *colours]:
        x, y, width, height = (int(v) for v in random.integers(10, side // 3, 4))
        x, y = x * 2, y * 2
        draw.rectangle((x, y, x + width, y + height), fill=colour)
    return np.asarray(image)


def as_jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return np.asarray(Image.open(buffer))


def test_shares_by_hand():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]], np.uint8)
    shares = area_shares(labels, 4, 2, 2)
    # Each new pixel covers 1.5 x 1.5 old ones, so 2.25 in area.
    np.testing.assert_allclose(shares[0, 0], [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shares[0, 1], np.array([0.75, 1.5, 0, 0]) / 2.25, atol=1e-6)
    np.testing.assert_allclose(shares[1, 0], np.array([0.75, 0, 1.5, 0]) / 2.25, atol=1e-6)
    np.testing.assert_allclose(shares[1, 1], np.array([0.25, 0.5, 1.5, 0]) / 2.25, atol=1e-6)


@given(st.integers(0, 2**20), st.integers(1, 17), st.integers(1, 17))
def test_shares_keep_the_area(seed, height, width):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, random.integers(1, 14, 2), np.uint8)
    shares = area_shares(labels, 6, height, width)
    np.testing.assert_allclose(shares.sum(axis=2), 1, atol=1e-5)
    expected = np.bincount(labels.ravel(), minlength=6) / labels.size
    np.testing.assert_allclose(shares.mean(axis=(0, 1)), expected, atol=1e-5)


def test_whole_factors_are_block_means():
    labels = np.random.default_rng(0).integers(0, 3, (12, 20), np.uint8)
    blocks = (labels.reshape(6, 2, 5, 4)[..., None] == np.arange(3)).mean(axis=(1, 3))
    np.testing.assert_allclose(area_shares(labels, 3, 6, 5), blocks, atol=1e-6)


def test_truth_is_the_largest_share_and_roads_add_up():
    land, road, main = (STREETS.names.index(name) for name in ("land", "road", "main_road"))
    labels = np.full((4, 8), land, np.uint8)
    labels[0, :4] = road  # a quarter of the first block of 4 x 4
    labels[1, :4] = main  # and another quarter: half of it is road
    labels[0, 4:] = road  # a quarter of the second block
    found = true_classes(STREETS.paint(labels), STREETS, 1, 2)
    assert found.labels.tolist() == [[land, land]]
    assert found.road.tolist() == [[True, False]]


def test_truth_at_its_own_size_is_the_labels():
    labels = np.random.default_rng(0).integers(0, 8, (9, 7), np.uint8)
    found = true_classes(STREETS.paint(labels), STREETS, 9, 7)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.road, STREETS.roads[labels])


def test_iou_by_hand():
    generated = np.array([[0, 0, 1], [0, 1, 1]], np.uint8)
    true = np.array([[0, 0, 0], [1, 1, 1]], np.uint8)
    counted = agreement(generated, true, 3)
    assert counted.intersections.tolist() == [2, 2, 0]
    assert counted.unions.tolist() == [4, 4, 0]
    np.testing.assert_array_equal(iou(counted), [0.5, 0.5, np.nan])


def test_a_boundary_may_be_off_by_two_pixels():
    true = np.zeros((20, 20), np.uint8)
    true[:, 10:] = 1
    # Off by three, the relaxed truth has 12 columns of class 1 where 13 were generated.
    for off, expected in ((0, 1.0), (1, 1.0), (2, 1.0), (3, 12 / 13)):
        generated = np.zeros_like(true)
        generated[:, 10 - off :] = 1
        assert iou(agreement(generated, true, 2, tolerance=2))[1] == pytest.approx(expected)
    assert iou(agreement(generated, true, 2))[1] == pytest.approx(10 / 13)


def test_the_tolerance_forgives_nothing_that_is_missing_or_invented():
    true = np.zeros((20, 20), np.uint8)
    true[8:12, 8:12] = 1
    nothing = np.zeros_like(true)
    missing = agreement(nothing, true, 2, tolerance=2)
    # Every pixel of so small a block is near its surroundings, but its class got no pixel.
    assert missing.intersections[1] == 0
    invented = agreement(np.full_like(true, 2), true, 3, tolerance=2)
    assert invented.intersections.tolist() == [0, 0, 0]


@given(st.integers(0, 2**20))
def test_a_tolerance_never_lowers_the_agreement(seed):
    random = np.random.default_rng(seed)
    generated, true = random.integers(0, 3, (2, 9, 11), np.uint8)
    exact, tolerant = agreement(generated, true, 3), agreement(generated, true, 3, tolerance=2)
    assert (tolerant.intersections >= exact.intersections).all()
    assert (tolerant.unions >= tolerant.intersections).all()


def test_the_house_legend_is_recognised_also_after_jpeg():
    maps = [label_map([entry.colour for entry in STREETS.classes], 0)]
    assert find_legend(maps) == STREETS
    assert find_legend([as_jpeg(maps[0])]) == STREETS


def test_a_legend_of_other_colours_is_found():
    maps = [as_jpeg(label_map(FACADES, seed)) for seed in range(8)]
    legend = find_legend(maps)
    assert legend is not None
    assert legend.names == tuple(f"class_{i}" for i in range(1, 13))
    assert legend.classes[0].colour == pytest.approx(FACADES[0], abs=3)
    for colour in FACADES:
        assert np.abs(legend.colours.astype(int) - colour).max(axis=1).min() <= 4
    assert not legend.roads.any()


def test_white_lines_are_roads_and_a_white_ground_is_not():
    green, white, blue = (120, 200, 120), (255, 255, 255), (40, 80, 200)
    streets = find_legend([label_map([green, white, blue], 1)])
    assert streets is not None
    assert {entry.colour for entry in streets.classes if entry.road} == {white}
    paper = find_legend([label_map([white, green, blue], 1)])
    assert paper is not None
    assert not paper.roads.any()


def test_photos_are_no_maps():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (128, 128, 3), np.uint8)
    clouds = gaussian_filter(random.normal(128, 600, (128, 128, 3)), (9, 9, 0))
    grain = np.full((128, 128, 3), 120) + random.normal(0, 9, (128, 128, 1))
    assert find_legend([noise]) is None
    assert find_legend([np.clip(clouds, 0, 255).astype(np.uint8)]) is None
    assert find_legend([grain.astype(np.uint8)]) is None


def test_procedural_towns_are_maps_of_the_house_and_their_photos_are_none():
    photos, maps = zip(*(draw_pair(160, seed) for seed in range(2)), strict=True)
    assert find_legend(maps) == STREETS
    assert find_legend(photos) is None


def test_no_images_one_colour_and_more_bands_have_no_legend():
    assert find_legend([]) is None
    assert find_legend([np.full((64, 64, 3), 90, np.uint8)]) is None
    assert find_legend([np.zeros((64, 64, 4), np.uint8)]) is None


def test_a_found_legend_can_be_used():
    legend = find_legend(label_map(FACADES, seed) for seed in range(8))
    assert isinstance(legend, Legend)
    assert isinstance(legend.classes[0], LegendClass)
    true = label_map(FACADES, 5)
    labels = legend.label(true)
    np.testing.assert_array_equal(legend.paint(labels), true)
    assert classes.iou(agreement(labels, labels, len(legend)))[0] == 1
