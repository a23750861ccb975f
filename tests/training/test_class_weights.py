from __future__ import annotations

import numpy as np
import pytest
import torch

from sat2map.legend import COVER, Legend, LegendClass
from sat2map.training.class_weights import class_weights, class_weights_of, partial_weights
from sat2map.training.training_sets import Labels, TrainingSet

THREE = Legend(tuple(LegendClass(name, (i, i, i)) for i, name in enumerate("abc")))


def test_weights_by_hand() -> None:
    counts = np.array([8.0, 4.0, 1.0])
    np.testing.assert_allclose(class_weights_of(counts, 0.0), [1, 1, 1])
    np.testing.assert_allclose(class_weights_of(counts, 0.5), [0.5**0.5, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(class_weights_of(counts, 1.0), [0.7, 1, 2.5], rtol=1e-6)
    assert class_weights_of(np.array([5.0, 5.0, 0.0]), 1.0)[2] == pytest.approx(1)
    np.testing.assert_allclose(class_weights_of(np.zeros(3), 0.5), [1, 1, 1])
    # Houses and other ground, and six classes that are not there.
    rare, usual = class_weights_of(np.array([1.0, 9, 0, 0, 0, 0, 0, 0]), 0.5)[:2]
    assert rare > 1 > usual


def test_all_sets_of_pairs_are_counted() -> None:
    labels, more = np.zeros((1, 16, 16), np.uint8), np.ones((2, 16, 16), np.uint8)
    np.testing.assert_allclose(class_weights([labels], THREE, 1.0), [1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(class_weights([labels, more], THREE, 1.0), [1.5, 0.75, 1])


class OfOneNumber:
    """A set whose pixels all have one number, of which it is known what that may be."""

    paired, complete, resolution_m = False, False, 1.0

    def __init__(self, *may_be: int) -> None:
        table = torch.ones(256, len(COVER))
        table[0] = torch.tensor([float(number in may_be) for number in range(len(COVER))])
        self._labels = Labels(torch.zeros(16, 16, dtype=torch.uint8), table)

    def __len__(self) -> int:
        return 3

    def bands(self, number: int) -> torch.Tensor:
        raise AssertionError("weights need no pixels")

    def labels(self, number: int) -> tuple[Labels | None, Labels | None]:
        return None, self._labels


def test_pixels_count_for_all_land_cover_that_they_may_be_by_the_shares_of_sets() -> None:
    sets: list[TrainingSet] = [OfOneNumber(0), OfOneNumber(1, 2), OfOneNumber(0, 1, 2, 3, 4)]
    weights = partial_weights(sets, [2.0, 1.0, 5.0], 1.0, len(COVER), head=1)
    # Of the third set nothing is known, so it says nothing.
    np.testing.assert_allclose(weights, class_weights_of(np.array([2, 0.5, 0.5, 0, 0]), 1.0))
