from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage
from shapely import affinity

from sat2map.vectors.blocks import House
from sat2map.vectors.buildings import outline_buildings

NORTH_UP = np.array([[1.0, 0.0], [0.0, -1.0]])
IS_BUILDING = np.isin(np.arange(256), (1, 5))


def drawn(shapes: Sequence[tuple[Any, int]], side: int = 300) -> NDArray[np.uint8]:
    numbers: NDArray[np.uint8] = rasterize(shapes, (side, side), dtype="uint8")
    return numbers


def outlined(
    numbers: NDArray[np.uint8],
    matrix: NDArray[np.float64] = NORTH_UP,
    sure: NDArray[np.float32] | None = None,
) -> list[House]:
    core = (0, 0, *numbers.shape)
    found = outline_buildings(
        numbers, IS_BUILDING, (0, 0), core, lambda _row, _column: matrix, numbers.shape, sure
    )
    assert found is not None
    return found[0]


def corners(outline: Any, matrix: NDArray[np.float64] = NORTH_UP) -> NDArray[np.float64]:
    """Return by how many degrees the corners of an outline are off a right angle."""
    points = shapely.get_coordinates(outline.exterior) @ matrix
    steps = np.diff(points, axis=0)
    bearing = np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))
    turns = np.diff(np.r_[bearing, bearing[:1]])
    return (turns + 45) % 90 - 45


def rectangles(count: int, seed: int, longest: float) -> list[Any]:
    random = np.random.default_rng(seed)
    found = []
    for place in range(count):
        row, column = divmod(place, 6)
        width, height = random.uniform(8, longest, 2)
        x, y = column * 48 + 12 + random.uniform(), row * 48 + 12 + random.uniform()
        box = affinity.rotate(shapely.box(0, 0, width, height), random.uniform(0, 90))
        found.append(affinity.translate(box, x, y))
    return found


@pytest.mark.parametrize(("seed", "longest"), [(3, 22), (4, 9), (5, 12)])
def test_corners_of_rectangles_are_right_and_areas_are_kept(seed: int, longest: float) -> None:
    truths = rectangles(36, seed, longest)
    numbers = drawn([(truth, 1) for truth in truths])
    houses = outlined(numbers)
    assert len(houses) == 36
    off = np.concatenate([corners(house.outline) for house in houses])
    assert (np.abs(off) <= 2).mean() >= 0.95
    total = sum(house.outline.area for house in houses)
    assert total == pytest.approx((numbers == 1).sum(), rel=0.02)
    tree = shapely.STRtree(truths)
    for house in houses:
        truth = truths[tree.nearest(house.outline.centroid)]
        shared = house.outline.intersection(truth).area
        assert shared / house.outline.union(truth).area > 0.88


@pytest.mark.parametrize("degrees", [0, 17, 33, 45, 71])
def test_twelve_row_houses_have_eleven_common_walls(degrees: float) -> None:
    row = [
        (affinity.rotate(shapely.box(60 + k * 15, 140, 75 + k * 15, 160), degrees, (150, 150)), n)
        for k, n in enumerate((1, 5) * 6)
    ]
    houses = outlined(drawn(row))
    assert len(houses) == 12
    assert {house.method for house in houses} == {"squared"}
    outlines = [house.outline for house in houses]
    shared = [
        one.intersection(other).length
        for place, one in enumerate(outlines)
        for other in outlines[place + 1 :]
    ]
    assert sum(length > 1 for length in shared) == 11
    assert [length for length in shared if length > 1] == pytest.approx([20] * 11, abs=0.7)
    assert shapely.coverage_is_valid(outlines)


def test_orientation_is_that_of_the_long_side_clockwise_from_north() -> None:
    for degrees in (0, 30, 60, 120):
        # On the ground, with north up; rows run south, so the raster shows it mirrored.
        box = affinity.rotate(shapely.box(130, 145, 170, 155), degrees)
        (house,) = outlined(drawn([(box, 1)]))
        bearing = (90 + degrees) % 180  # of pixels, clockwise from up
        assert (house.orientation_deg - bearing + 90) % 180 - 90 == pytest.approx(0, abs=1)


def test_corners_are_right_on_the_ground_where_pixels_are_not_square() -> None:
    matrix = np.array([[0.6, 0.0], [0.0, -1.0]])
    on_the_ground = affinity.rotate(shapely.box(0, 0, 30, 14), 35)
    box = affinity.translate(affinity.scale(on_the_ground, 1 / 0.6, 1, origin=(0, 0)), 140, 140)
    (house,) = outlined(drawn([(box, 1)]), matrix)
    assert house.method == "squared"
    assert np.abs(corners(house.outline, matrix)).max() < 0.5


@pytest.mark.parametrize("degrees", [0, 12, 27, 45, 80])
def test_short_wings_have_right_corners(degrees: float) -> None:
    """Walls of four pixels are too short to have a direction of their own."""
    wing = shapely.box(140, 140, 154, 152).union(shapely.box(140, 136, 146, 140))
    for shape in (wing, wing.union(shapely.box(149, 152, 154, 156))):
        turned = affinity.rotate(shape, degrees)
        (house,) = outlined(drawn([(turned, 1)]))
        assert house.method == "squared"
        assert np.abs(corners(house.outline)).max() < 0.5
        assert house.outline.intersection(turned).area / house.outline.union(turned).area > 0.85
        assert house.outline.area == pytest.approx(turned.area, rel=0.06)


def test_a_round_house_is_traced() -> None:
    disc = shapely.Point(150, 150).buffer(15)
    (house,) = outlined(drawn([(disc, 1)]))
    assert house.method == "traced"
    assert house.outline.intersection(disc).area / house.outline.union(disc).area > 0.92


def test_a_courtyard_is_kept() -> None:
    ring = shapely.box(100, 100, 150, 140).difference(shapely.box(115, 112, 135, 128))
    (house,) = outlined(drawn([(affinity.rotate(ring, 20), 1)]))
    assert house.method == "squared"
    assert len(house.outline.interiors) == 1
    assert house.outline.area == pytest.approx(ring.area, rel=0.02)


def test_houses_side_by_side_never_overlap() -> None:
    random = np.random.default_rng(8)
    for gap in (1, 2):
        numbers = np.zeros((200, 200), np.uint8)
        for row in range(10, 180, 12 + gap):
            for column in range(10, 180, 12 + gap):
                part = numbers[row : row + 12, column : column + 12]
                part[:] = random.random((12, 12)) < 0.97
                part[random.integers(0, 9) :, random.integers(0, 9) :] = 0
        outlines = [house.outline for house in outlined(numbers)]
        assert sum(o.area for o in outlines) == pytest.approx(
            shapely.union_all(outlines).area, abs=1e-6
        )


def shared(houses: list[House]) -> list[float]:
    """Return the lengths of common walls, of pairs of houses that have one."""
    outlines = [house.outline for house in houses]
    assert shapely.coverage_is_valid(outlines)
    lengths = [
        one.intersection(other).length
        for place, one in enumerate(outlines)
        for other in outlines[place + 1 :]
    ]
    return [length for length in lengths if length > 1]


@pytest.mark.parametrize("degrees", [0, 14, 38, 63])
def test_houses_that_a_neck_parts_have_a_straight_common_wall(degrees: float) -> None:
    """Each stands a little back from the one before, as no lines across all of them could show."""
    places = ((60, 140), (84, 144.5), (108, 139), (132, 144), (156, 139.5))
    row = [shapely.box(x, y, x + 24, y + 18) for x, y in places]
    turned = [(affinity.rotate(box, degrees, (150, 150)), 1) for box in row]
    ragged = drawn(turned)
    houses = outlined(ragged)
    assert len(houses) == len(row)
    assert {house.method for house in houses} == {"squared"}
    for house in houses:
        truth = max(turned, key=lambda one: house.outline.intersection(one[0]).area)[0]
        assert house.outline.intersection(truth).area / house.outline.union(truth).area > 0.85
    off = np.concatenate([corners(house.outline) for house in houses])
    assert (np.abs(off) <= 2).mean() >= 0.95
    assert len(shared(houses)) == len(row) - 1
    total = sum(house.outline.area for house in houses)
    assert total == pytest.approx((ragged == 1).sum(), rel=0.02)


def test_houses_of_two_directions_that_touch_neither_overlap_nor_leave_a_gap() -> None:
    one = shapely.box(100, 100, 130, 118)
    other = affinity.rotate(shapely.box(129, 100, 155, 116), 24, (129, 100))
    houses = outlined(drawn([(one, 1), (other, 5)]))
    assert len(houses) == 2
    assert len(shared(houses)) == 1
    areas = sorted(house.outline.area for house in houses)
    truths = sorted((other.area, one.difference(other).area))
    assert areas == pytest.approx(truths, rel=0.05)


def blurred(shape: Any, pixels: float) -> list[House]:
    """Return the houses of a shape as a model is sure of it that blurs by so many pixels."""
    fine = rasterize([(shape, 1)], (300, 300), dtype="uint8").astype(np.float64)
    likely = ndimage.gaussian_filter(fine, pixels)
    numbers = (likely > 0.5).astype(np.uint8)
    return outlined(numbers, sure=np.maximum(likely, 1 - likely).astype(np.float32))


@pytest.mark.parametrize("degrees", [0, 20, 45])
@pytest.mark.parametrize("pixels", [1.5, 2.0])
def test_blurred_houses_are_squared_and_round_ones_are_not(degrees: float, pixels: float) -> None:
    box = affinity.rotate(shapely.box(140, 140, 158, 152), degrees)
    (house,) = blurred(box, pixels)
    assert house.method == "squared"
    assert np.abs(corners(house.outline)).max() < 0.5
    assert house.outline.intersection(box).area / house.outline.union(box).area > 0.82
    (disc,) = blurred(shapely.Point(150, 150).buffer(13), pixels)
    assert disc.method == "traced"


@pytest.mark.parametrize("seed", range(3))
def test_houses_of_a_row_neither_overlap_nor_depend_on_where_they_lie(seed: int) -> None:
    """Crooked rows, of any width and directions, some of two classes."""
    random = np.random.default_rng(seed)
    shapes = []
    for row in range(4):
        x, angle = 20.0, float(random.uniform(-20, 20))
        while x < 230:
            wide, deep, back = random.uniform((10, 10, -5), (28, 20, 5))
            angle += float(random.normal(0, 3))
            box = shapely.box(x, 45 + 55 * row + back, x + wide, 45 + 55 * row + back + deep)
            shapes.append((affinity.rotate(box, angle), 5 if random.random() < 0.2 else 1))
            x += wide + float(random.choice([-1.0, 0.0, 0.8]))
    numbers = drawn(shapes)
    houses = outlined(numbers)
    assert len(houses) > 30
    assert len(shared(houses)) > 10
    total = sum(house.outline.area for house in houses)
    assert total == pytest.approx((numbers > 0).sum(), rel=0.02)
    moved = outlined(np.pad(numbers, ((17, 0), (41, 0))))
    assert len(moved) == len(houses)
    for one, other in zip(houses, moved, strict=True):
        back = affinity.translate(other.outline, -41, -17)
        assert one.outline.equals_exact(back, 1e-9), (one, other)
