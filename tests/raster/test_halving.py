from __future__ import annotations

import numpy as np

from sat2map.raster.halving import halved_bands, halved_classes


def test_means_of_four_or_of_those_that_are_there() -> None:
    bands = np.array([[[10, 20, 7], [31, 40, 8]]], np.uint8)
    found, valid = halved_bands(bands)
    assert found.tolist() == [[[25, 8]]]  # 101 / 4, and an odd end: 7.5
    assert valid is None
    inside = np.array([[True, False, False], [True, False, False]])
    found, valid = halved_bands(bands, inside)
    assert found.tolist() == [[[21, 0]]]
    assert valid is not None
    assert valid.tolist() == [[True, False]]
    found, valid = halved_bands(bands, np.ones_like(inside))
    assert found.tolist() == [[[25, 8]]]
    assert valid is not None
    assert valid.all()


def test_classes_are_those_of_most() -> None:
    classes = np.array([[1, 2, 3, 3, 5], [2, 2, 4, 1, 9], [1, 9, 9, 9, 9]], np.uint8)
    assert halved_classes(classes, 9).tolist() == [[2, 3, 5], [1, 9, 9]]
    random = np.random.default_rng(0).integers(0, 4, (64, 64), dtype=np.uint8)
    four = random.reshape(32, 2, 32, 2).transpose(0, 2, 1, 3).reshape(-1, 4)
    slow = [max([n for n in row if n != 3] or [3], key=row.tolist().count) for row in four]
    assert halved_classes(random, 3).ravel().tolist() == slow
