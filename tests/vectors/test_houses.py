from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from sat2map.vectors.houses import Labels, to_edge
from sat2map.vectors.houses import split_houses as split_many


def block(*boxes: tuple[int, int, int, int], side: int = 60) -> NDArray[np.int32]:
    """Return one part that consists of boxes (row, column, height, width)."""
    labels = np.zeros((side, side), np.int32)
    for row, column, height, width in boxes:
        labels[row : row + height, column : column + width] = 1
    return labels


def split_houses(labels: Labels, sure: NDArray[np.float32] | None, least: float) -> Labels:
    """Return the houses of one block."""
    return split_many([labels], [sure], [least])[0]


DUMBBELL = block((10, 5, 14, 14), (15, 19, 4, 6), (10, 25, 14, 14))
CORNER = block((10, 10, 30, 12), (30, 10, 10, 36))
COURTYARD = block((10, 10, 30, 40)) - block((18, 24, 14, 12))


def test_a_neck_parts_two_houses() -> None:
    found = split_houses(DUMBBELL, None, 20)
    assert np.unique(found).tolist() == [0, 1, 2]
    assert ((found > 0) == (DUMBBELL > 0)).all()
    assert (found[10:24, 5:19] == 1).mean() > 0.98
    assert (found[10:24, 25:39] == 2).mean() > 0.98
    for house in (1, 2):
        assert ndimage.label(found == house)[1] == 1


@pytest.mark.parametrize("shape", [CORNER, COURTYARD, block((5, 5, 40, 9)), block((5, 5, 3, 3))])
def test_a_house_of_any_shape_stays_one(shape: NDArray[np.int32]) -> None:
    for turn in range(4):
        turned = np.rot90(shape, turn)
        np.testing.assert_array_equal(split_houses(turned, None, 20), turned)


def test_a_slanted_house_stays_one() -> None:
    rows, columns = np.mgrid[:60, :60] - 30
    for degrees in range(0, 90, 7):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        along, across = columns * cos + rows * sin, rows * cos - columns * sin
        house = ((np.abs(along) < 20) & (np.abs(across) < 5)).astype(np.int32)
        assert split_houses(house, None, 20).max() == 1


def test_what_is_not_sure_parts_houses_that_touch() -> None:
    row = block((20, 5, 12, 40))
    sure = np.where(row > 0, 0.9, 0.2).astype(np.float32)
    sure[:, 24:27] = 0.3
    assert split_houses(row, None, 20).max() == 1
    found = split_houses(row, sure, 20)
    assert np.unique(found[20:32, 5:24]).tolist() == [1]
    assert np.unique(found[20:32, 27:45]).tolist() == [2]
    assert ((found > 0) == (row > 0)).all()
    np.testing.assert_array_equal(split_houses(row, np.full_like(sure, np.nan), 20), row)
    np.testing.assert_array_equal(split_houses(row, np.zeros_like(sure), 20), row)


def test_no_part_is_smaller_than_a_house() -> None:
    shed = block((10, 5, 14, 14), (16, 19, 2, 3), (15, 22, 4, 4))
    assert split_houses(shed, None, 40).max() == 1
    assert split_houses(shed, None, 10).max() == 2


def test_other_blocks_stay_and_parts_keep_their_order() -> None:
    labels = DUMBBELL.copy()
    labels[40:50, 40:50] = -1
    labels[30:38, 5:19] = 2
    found = split_houses(labels, None, 20)
    assert np.unique(found).tolist() == [-1, 0, 1, 2, 3]
    assert (found[30:38, 5:19] == 3).all()
    assert (found[labels == -1] == -1).all()


def test_a_block_is_split_alike_whatever_lies_beside_it() -> None:
    random = np.random.default_rng(3)
    blocks, sure = [], []
    for _ in range(120):
        sides = random.integers(3, 24, (4, 2))
        boxes = [
            (int(r), int(c), int(h), int(w))
            for (h, w), (r, c) in zip(sides, random.integers(2, 20, (4, 2)), strict=True)
        ]
        blocks.append(np.asarray(ndimage.label(block(*boxes))[0], np.int32))
        own = random.random((60, 60)).astype(np.float32)
        sure.append(None if len(blocks) % 2 else ndimage.gaussian_filter(own, 2) + 0.35)
    least = random.uniform(5, 60, len(blocks)).tolist()
    many = split_many(blocks, sure, least)
    assert any(found.max() > labels.max() for found, labels in zip(many, blocks, strict=True))
    for found, labels, known, pixels in zip(many, blocks, sure, least, strict=True):
        np.testing.assert_array_equal(found, split_houses(labels, known, pixels))
        assert ((found > 0) == (labels > 0)).all()


@pytest.mark.parametrize(("side", "smooth"), [(90, 2.0), (300, 9.0), (420, 60.0)])
def test_distances_to_the_edge_are_those_of_scipy(side: int, smooth: float) -> None:
    noise = ndimage.gaussian_filter(
        np.random.default_rng(side).standard_normal((side, side)), smooth
    )
    inside = np.pad(noise[:, : side // 2] > np.quantile(noise, 0.3), 2)
    hall = np.pad(np.ones((230, 210), np.bool_), 2)
    for shape in (inside, hall):
        assert np.array_equal(to_edge(shape), ndimage.distance_transform_edt(shape))
    assert not to_edge(np.zeros((5, 7), np.bool_)).any()
