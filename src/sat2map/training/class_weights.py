"""How much each class counts in the losses, by how often it occurs in the training sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import Legend
from sat2map.training.training_sets import TrainingSet

COUNTED = 64
"""In how many images of a set classes are counted."""


def class_weights(
    labels: Sequence[NDArray[np.uint8]], legend: Legend, balance: float
) -> NDArray[np.float32]:
    """Return the weight of each class in the loss, float32 [K], from 0.7 to 2.5.

    It is (share of the median class / its own share) to the power of `balance`.

    Args:
        labels: Class numbers, uint8 [N,H,W] each; a sample of them is looked at.
        legend: The classes.
        balance: 0 weighs all pixels alike, 1 all classes.
    """
    counts = np.zeros(len(legend))
    for part in labels:
        step = max(1, len(part) // COUNTED)
        sample = part[::step, ::4, ::4]
        counts += np.bincount(sample.ravel(), minlength=len(legend)) * step
    return class_weights_of(counts, balance)


def class_weights_of(counts: NDArray[np.float64], balance: float) -> NDArray[np.float32]:
    """Return the weight of each class by how often it occurs, float32 [K], from 0.7 to 2.5.

    The median is that of the classes that occur: or where most of a legend is absent, all that
    occurs would be frequent. What does not occur has 1.

    Args:
        counts: How often, float [K].
        balance: As for `class_weights`.
    """
    shares = np.maximum(counts / max(counts.sum(), 1), 1e-6)
    median = np.median(shares[counts > 0]) if (counts > 0).any() else shares[0]
    weights = np.clip((median / shares) ** balance, 0.7, 2.5)
    weights[counts == 0] = 1
    return np.asarray(weights, np.float32)


def partial_weights(
    sets: Sequence[TrainingSet], shares: Sequence[float], balance: float, classes: int, *, head: int
) -> NDArray[np.float32]:
    """Return the weight of each class where pixels may be of several, float32 [K].

    Pixels are counted for all classes that they may be, those of each set by its share.

    Args:
        sets: The sets.
        shares: Their shares of a batch.
        balance: As for `class_weights_of`.
        classes: How many classes there are.
        head: 0 for those of the map, 1 for land cover.
    """
    counts = np.zeros(classes)
    for one, share in zip(sets, shares, strict=True):
        own = np.zeros(classes)
        for number in range(0, len(one), max(1, len(one) // COUNTED)):
            labels = one.labels(number)[head]
            if labels is not None:
                table = labels.may_be.numpy()
                possible = np.where(table.all(1, keepdims=True), 0, table)
                possible /= np.maximum(possible.sum(1, keepdims=True), 1)
                numbers = labels.numbers[::4, ::4].numpy().ravel()
                own += np.bincount(numbers, minlength=len(table)) @ possible
        counts += share * own / max(own.sum(), 1)
    return class_weights_of(counts, balance)
