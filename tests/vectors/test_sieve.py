from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sat2map.legend import COVER
from sat2map.vectors.class_map import NOTHING
from sat2map.vectors.sieve import sieve

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
METRE = (1.0, 1.0)


def inside(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Surround with nothing, so that no part reaches the raster's edge."""
    return np.pad(numbers, 1, constant_values=NOTHING)


def test_an_island_goes_to_the_neighbour_with_the_longest_shared_border() -> None:
    numbers = np.full((20, 40), LAND, np.uint8)
    numbers[:, 20:] = VEGETATION
    numbers[5:8, 18:21] = WATER  # two columns in the land, one in the vegetation
    found = sieve(inside(numbers), COVER, METRE)[1:-1, 1:-1]
    assert (found[5:8, 18:21] == LAND).all()
    assert (found[numbers != WATER] == numbers[numbers != WATER]).all()


def test_borders_are_measured_in_metres() -> None:
    numbers = np.full((30, 40), LAND, np.uint8)
    numbers[:, 20:] = VEGETATION
    numbers[10:14, 18:20] = WATER  # 4 rows beside the vegetation; land left, above and below
    tall = sieve(inside(numbers), COVER, (0.1, 3.0))[1:-1, 1:-1]
    assert (tall[10:14, 18:20] == LAND).all()
    alone = {"water": 100.0}
    numbers[10:14, 10:18] = BUILDING
    numbers[9, 10:20] = BUILDING
    wide = sieve(inside(numbers), COVER, (1.0, 0.1), alone)[1:-1, 1:-1]
    assert (wide[10:14, 18:20] == BUILDING).all()  # 2 m and 0.4 m of building, 2 m of land


def test_minimum_areas_are_those_of_the_role() -> None:
    numbers = np.full((40, 40), LAND, np.uint8)
    numbers[5:10, 5:10] = BUILDING  # 25 square metres, 20 are enough
    numbers[5:10, 20:25] = WATER  # 100 are needed
    found = sieve(inside(numbers), COVER, METRE)[1:-1, 1:-1]
    assert (found == BUILDING).sum() == 25
    assert (found == WATER).sum() == 0


def test_what_an_island_makes_large_enough_stays() -> None:
    numbers = np.full((40, 40), LAND, np.uint8)
    numbers[10:17, 10:17] = VEGETATION  # 49 square metres, 50 are needed
    numbers[12:14, 12:14] = WATER
    numbers[10, 17] = VEGETATION
    found = sieve(inside(numbers), COVER, METRE)[1:-1, 1:-1]
    assert (found == VEGETATION).sum() == 50


def test_a_narrow_slanting_road_stays() -> None:
    numbers = np.full((60, 60), LAND, np.uint8)
    numbers[np.arange(60), np.arange(60)] = ROAD
    found = sieve(inside(numbers), COVER, METRE)[1:-1, 1:-1]
    np.testing.assert_array_equal(found, numbers)


def test_a_chessboard_of_single_pixels_becomes_areas() -> None:
    chess = (np.indices((64, 64)).sum(0) % 2).astype(np.uint8)
    found = sieve(inside(chess), COVER, METRE)[1:-1, 1:-1]
    assert set(np.unique(found)) <= {LAND, BUILDING}
    again = sieve(inside(found), COVER, METRE)[1:-1, 1:-1]
    np.testing.assert_array_equal(again, found)  # nothing is left that is too small


def test_of_equal_borders_the_surer_neighbour_gets_the_island() -> None:
    numbers = np.full((20, 40), LAND, np.uint8)
    numbers[:, 20:] = VEGETATION
    numbers[8:12, 19:21] = WATER
    sure = np.where(numbers == VEGETATION, 0.9, 0.6).astype(np.float32)
    found = sieve(inside(numbers), COVER, METRE, confidence=np.pad(sure, 1))[1:-1, 1:-1]
    assert (found[8:12, 19:21] == VEGETATION).all()


def test_what_reaches_the_edge_and_where_nothing_is_stay() -> None:
    numbers = np.full((20, 20), LAND, np.uint8)
    numbers[0, :3] = WATER
    numbers[10:15, 10:15] = NOTHING
    np.testing.assert_array_equal(sieve(numbers, COVER, METRE), numbers)


@pytest.mark.parametrize("metres", [METRE, (1.0, 1 + 1e-9), (1 + 1e-9, 1.0)])
def test_no_rounding_decides_between_borders_of_the_same_length(
    metres: tuple[float, float],
) -> None:
    numbers = np.full((20, 20), LAND, np.uint8)
    numbers[:10] = VEGETATION
    numbers[10:12, 8:12] = WATER  # four sides along rows in the vegetation, four across in the land
    numbers[12:18, 8:10] = BUILDING
    numbers[12:18, 10:12] = ROAD
    found = sieve(inside(numbers), COVER, metres)[1:-1, 1:-1]
    assert (found[10:12, 8:12] == VEGETATION).all()  # the first in the raster's order


def test_confidence_is_taken_over_all_of_a_large_part() -> None:
    numbers = np.full((1200, 400), LAND, np.uint8)
    numbers[:, 200:] = VEGETATION
    numbers[598:602, 198:202] = WATER
    sure = np.where(numbers == LAND, 0.6, 0.6001).astype(np.float32)
    sure[:500, :200] = 0.9  # the land's mean is above that of the vegetation
    found = sieve(inside(numbers), COVER, METRE, confidence=np.pad(sure, 1))[1:-1, 1:-1]
    assert (found[598:602, 198:202] == LAND).all()
