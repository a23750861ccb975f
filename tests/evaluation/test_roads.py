from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import label
from skimage.measure import euler_number

from sat2map.data.images import resize_square
from sat2map.evaluation import classes
from sat2map.evaluation.roads import compare_roads, skeleton, topology
from sat2map.legend import STREETS
from sat2map.towns import draw_pair


def blank(side: int = 64) -> np.ndarray:
    return np.zeros((side, side), bool)


def bar(row: int, *, width: int = 3, first: int = 0, last: int | None = None) -> np.ndarray:
    mask = blank()
    mask[row : row + width, first:last] = True
    return mask


def test_equal_networks():
    mask = bar(10) | bar(30) | bar(20).T
    found = compare_roads(mask, mask)
    assert (found.cldice, found.completeness, found.correctness) == (1, 1, 1)
    assert found.components_difference == found.loops_difference == 0


def test_half_a_road_by_hand():
    true, generated = bar(30), bar(30, last=32)
    found = compare_roads(generated, true)
    true_line = skeleton(true)
    reached = true_line & (np.arange(64) <= 32)  # the half, and one pixel more
    sensitivity = reached.sum() / true_line.sum()
    assert sensitivity == pytest.approx(0.5, abs=0.03)
    assert found.cldice == pytest.approx(2 * sensitivity / (1 + sensitivity))
    assert found.completeness == pytest.approx(0.55, abs=0.03)  # the buffer is 3 pixels
    assert found.correctness == 1


def test_twice_as_many_roads_are_half_correct():
    found = compare_roads(bar(10) | bar(40), bar(10))
    assert found.completeness == 1
    assert found.correctness == pytest.approx(0.5)
    assert found.cldice == pytest.approx(2 * 0.5 / 1.5)
    assert found.components_difference == 1


def test_the_margin_is_one_pixel_and_the_buffer_three():
    line = bar(30, width=1)
    assert compare_roads(bar(31, width=1), line).cldice == 1
    assert compare_roads(bar(32, width=1), line).cldice == 0
    assert compare_roads(bar(33, width=1), line).completeness == 1
    assert compare_roads(bar(33, width=1), line).correctness == 1
    assert compare_roads(bar(34, width=1), line).completeness == 0


def test_without_roads():
    nothing, road = blank(), bar(10)
    missed = compare_roads(nothing, road)
    assert (missed.cldice, missed.completeness, missed.correctness) == (0, 0, 0)
    assert missed.components_difference == 1
    invented = compare_roads(road, nothing)
    assert math.isnan(invented.cldice)
    assert math.isnan(invented.completeness)
    assert invented.correctness == 0
    neither = compare_roads(nothing, nothing)
    assert math.isnan(neither.correctness)
    assert neither.components_difference == 0


def test_topology_counts_blocks_between_streets():
    grid = bar(10) | bar(30) | bar(50) | bar(10).T | bar(30).T
    # Three streets cross two: two blocks are enclosed.
    assert topology(grid) == (1, 2)
    assert topology(grid[:, :25]) == (1, 0)
    assert topology(blank()) == (0, 0)
    gap = grid.copy()
    gap[30:33, 20] = False
    opened = compare_roads(gap, grid)
    assert opened.components_difference == 0
    assert opened.loops_difference == 1


def test_topology_agrees_with_the_euler_number():
    random = np.random.default_rng(0)
    for density in (0.2, 0.5, 0.8):
        mask = random.random((40, 50)) < density
        parts, loops = topology(mask)
        assert parts == label(mask, np.ones((3, 3)))[1]
        assert parts - loops == euler_number(mask, connectivity=2)


def town(side: int = 600) -> Image.Image:
    """A map at the scale of the `maps` set: streets 8 pixels wide, a highway, houses, a park."""
    random = np.random.default_rng(4)
    colours = {entry.name: entry.colour for entry in STREETS.classes}
    image = Image.new("RGB", (side, side), colours["land"])
    draw = ImageDraw.Draw(image)
    draw.rectangle((350, 60, 560, 200), fill=colours["park"])
    draw.ellipse((60, 380, 240, 560), fill=colours["water"])
    for x, y in random.integers(0, side, (150, 2)).tolist():
        draw.rectangle((x, y, x + 18, y + 14), fill=colours["building"])
    for at in range(30, side, 80):
        draw.line((at, 0, at + 30, side), fill=colours["road"], width=8)
        draw.line((0, at + 25, side, at), fill=colours["road"], width=8)
    draw.line((0, 300, side, 330), fill=colours["main_road"], width=11)
    draw.line((100, 0, 420, side), fill=colours["highway"], width=14)
    return image


def test_thin_streets_are_found_at_256_and_none_on_a_blurred_map():
    native = np.asarray(town())
    truth = classes.true_classes(native, STREETS, 256, 256)
    small = resize_square(native, 256)
    sharp = compare_roads(STREETS.roads[STREETS.label(small)], truth.road)
    assert sharp.cldice >= 0.9
    assert sharp.completeness >= 0.9
    assert sharp.correctness >= 0.9
    blurred = np.asarray(Image.fromarray(small).filter(ImageFilter.GaussianBlur(8)))
    haze = compare_roads(STREETS.roads[STREETS.label(blurred)], truth.road)
    assert haze.cldice < 0.1
    assert haze.completeness < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_thin_streets_of_procedural_towns_are_found(seed):
    _, native = draw_pair(600, seed)
    truth = classes.true_classes(native, STREETS, 256, 256)
    found = STREETS.roads[STREETS.label(resize_square(native, 256))]
    assert compare_roads(found, truth.road).cldice >= 0.9
