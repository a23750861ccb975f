"""No ground is both for training and for validation, and small ground has both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from sat2map.chips.ground import spread
from sat2map.chips.split import Split, split_ground

SIZE = 16


def laid(area: BaseGeometry, spreading: bool = False) -> list[BaseGeometry]:
    """Chips on a grid from each part's upper left, or spread over it, that lie within it."""
    chips: list[BaseGeometry] = []
    for part in shapely.get_parts(area):
        if part.is_empty:
            continue
        west, south, east, north = part.bounds
        ys = np.arange(south, north - SIZE + 1e-6, SIZE)[:, None]
        xs = np.arange(west, east - SIZE + 1e-6, SIZE)
        if spreading:
            ys = np.array(spread(math.ceil(south), math.floor(north), SIZE))[:, None]
            xs = np.array(spread(math.ceil(west), math.floor(east), SIZE))
        small = 1e-6
        inner = shapely.box(xs + small, ys + small, xs + SIZE - small, ys + SIZE - small)
        shapely.prepare(part)
        fits = shapely.covers(part, inner)
        chips += shapely.box(xs, ys, xs + SIZE, ys + SIZE)[fits].tolist()
    return chips


def count(area: BaseGeometry) -> int:
    return len(laid(area))


def count_spread(area: BaseGeometry) -> int:
    return len(laid(area, spreading=True))


@given(
    st.floats(SIZE, 12 * SIZE),
    st.floats(SIZE, 12 * SIZE),
    st.floats(0, SIZE),
    st.floats(0.01, 0.5),
    st.integers(0, 5),
    st.floats(0, 90),
)
@settings(max_examples=60)
def test_validation_keeps_its_distance_and_both_are_within_the_ground(
    width: float, height: float, buffer: float, share: float, seed: int, turn: float
) -> None:
    ground = shapely.box(0, 0, width, height)
    if turn > 45:  # imagery that does not lie square
        ground = shapely.affinity.rotate(ground, turn)
    split = split_ground(ground, SIZE, share, buffer, seed, count, count)
    assert split.training.difference(ground).area < 1e-6
    training, validation = laid(split.training), laid(split.validation)
    if validation:
        assert training
        distance = shapely.union_all(training).distance(shapely.union_all(validation))
        assert distance >= buffer - 1e-5
        assert shapely.union_all(training).intersection(shapely.union_all(validation)).area < 1e-3
    else:
        assert split.training.equals(ground)


@given(
    st.floats(SIZE, 12 * SIZE), st.floats(SIZE, 12 * SIZE), st.floats(0, SIZE), st.integers(0, 3)
)
@settings(max_examples=60)
def test_there_is_validation_wherever_two_chips_and_the_buffer_fit_beside_each_other(
    width: float, height: float, buffer: float, seed: int
) -> None:
    split = split_ground(shapely.box(0, 0, width, height), SIZE, 0.1, buffer, seed, count, count)
    fits = max(width, height) >= 2 * SIZE + buffer + 1e-6
    assert bool(laid(split.validation)) or not fits
    assert laid(split.training)


@pytest.mark.parametrize(("width", "height"), [(4.6, 3.5), (4, 4), (6, 5), (8, 8)])
def test_of_few_chips_no_more_validate_than_asked_for(width: float, height: float) -> None:
    """One block more often made 7 of 12 where 3 or 4 were meant."""
    ground = shapely.box(0, 0, width * SIZE, height * SIZE)
    for seed in range(6):
        split = split_ground(ground, SIZE, 0.3, SIZE / 8, seed, count, count_spread)
        training, validation = count(split.training), count_spread(split.validation)
        assert 0.2 < validation / (training + validation) < 0.4


@pytest.mark.parametrize("chips", [12, 30, 50])
def test_about_the_share_that_was_asked_for_validates_in_several_blocks(chips: int) -> None:
    ground = shapely.box(0, 0, chips * SIZE, chips * SIZE)
    shares = []
    for seed in range(3):
        split = split_ground(ground, SIZE, 0.1, SIZE / 8, seed, count, count_spread)
        training, validation = count(split.training), count_spread(split.validation)
        shares.append(validation / (training + validation))
        assert len(split.blocks) >= 3
        assert training + validation > 0.9 * chips**2  # the buffer does not eat the ground
    assert 0.08 < np.mean(shares) < 0.2


def test_other_seeds_choose_other_blocks() -> None:
    ground = shapely.box(0, 0, 20 * SIZE, 20 * SIZE)
    splits = [split_ground(ground, SIZE, 0.1, 4, seed, count, count) for seed in (0, 0, 1)]
    assert splits[0].validation.equals(splits[1].validation)
    assert not splits[0].validation.equals(splits[2].validation)


def test_ground_of_no_use_is_not_chosen_for_validation() -> None:
    """Chips are of use in the lower left corner only."""
    ground = shapely.box(0, 0, 30 * SIZE, 30 * SIZE)
    corner = shapely.box(0, 0, 8 * SIZE, 8 * SIZE)

    def useful(area: BaseGeometry) -> int:
        return sum(corner.intersects(chip) for chip in laid(area))

    for seed in range(3):
        split = split_ground(ground, SIZE, 0.1, 4, seed, useful, useful)
        assert useful(split.validation) >= 1
        assert useful(split.training) >= 1


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_ground_of_one_chip_is_all_for_training(share: float) -> None:
    ground = shapely.box(0, 0, SIZE, 1.9 * SIZE)
    split = split_ground(ground, SIZE, share, 0, 0, count, count)
    assert isinstance(split, Split)
    assert split.training is ground and split.validation.is_empty


@given(st.integers(-50, 50), st.integers(1, 300), st.integers(16, 40))
def test_chips_are_spread_over_all_there_is(low: int, length: int, size: int) -> None:
    starts = spread(low, low + length, size)
    assert bool(starts) == (length >= size)
    assert all(low <= start <= low + length - size for start in starts)
    steps = np.diff(starts)
    assert (steps >= 0.75 * size - 1).all() and (steps <= size).all()
    assert not starts or low + length - (starts[-1] + size) < size
