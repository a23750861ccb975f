"""What each step learns from: cut out of one or several decoded sets, on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sat2map.data.augment import random_crops, random_views, weather
from sat2map.data.cache import DecodedPairs
from sat2map.legend import Legend
from sat2map.recipe import Recipe
from sat2map.training.plan import Plan

LABELS_LOOKED_AT = 64


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        source: float32 [N,C,size,size] in [-1,1].
        target: float32 [N,C',size,size] in [-1,1].
        shares: The share of each class in each pixel of the target, float32
            [N,K,size,size], or None where the generator has no legend head.
    """

    source: Tensor
    target: Tensor
    shares: Tensor | None = None


class Batches:
    """Makes the batch of any step.

    Args:
        recipe: Says how crops are cut and varied.
        plan: Says which pairs a step learns from and with which random numbers.
        sets: The decoded training sets, with equal channels.
        labels: The classes of their targets, uint8 [N,H,W] each, or None.
        classes: How many classes there are.
        device: Where the batches go. On CUDA the whole sets are kept there.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        sets: Sequence[DecodedPairs],
        labels: Sequence[NDArray[np.uint8]] | None,
        classes: int,
        device: torch.device,
    ) -> None:
        self._recipe = recipe
        self._plan = plan
        self._channels = [sets[0].source_channels, sets[0].target_channels]
        self._classes = classes
        self._device = device

        def kept(array: NDArray[np.uint8]) -> Tensor:
            tensor = torch.from_numpy(array)
            return tensor.to(device) if device.type == "cuda" else tensor

        self._pixels = [kept(part.pixels) for part in sets]
        self._labels = None if labels is None else [kept(part) for part in labels]
        self._ends = np.cumsum([len(part) for part in sets])

    def at(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self._cut(self._plan.batch(step).tolist(), self._plan.crops(step))

    def spread(
        self, pictures: int, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Tensor]:
        """Yield sources as training sees them, always the same, evenly spread over the pairs.

        They come in batches of the recipe's size, float32 [N,C,size,size] in [-1,1], and not
        a picture more often than once.

        Args:
            pictures: How many at the most.
            progress: Called with (done, all) pictures.
        """
        everything = int(self._ends[-1])
        count = min(pictures, everything)
        chosen = [i * everything // count for i in range(count)]
        batch = self._recipe.training.batch
        for first in range(0, count, batch):
            yield self._cut(chosen[first : first + batch], self._plan.samples(first)).source
            if progress is not None:
                progress(min(first + batch, count), count)

    def _cut(self, indices: Sequence[int], random: torch.Generator) -> Batch:
        data = self._recipe.data
        shares = None
        if data.scales is None:
            pixels = torch.stack([self._pixels[part][i] for part, i in self._places(indices)])
            both = random_crops(
                pixels.to(self._device), data.size, flip=data.flip, generator=random
            )
        else:
            both, shares = random_views(
                [
                    (
                        self._pixels[part][i].to(self._device),
                        None if self._labels is None else self._labels[part][i].to(self._device),
                    )
                    for part, i in self._places(indices)
                ],
                data.size,
                (data.scales[0], data.scales[1]),
                classes=self._classes,
                flip=data.flip,
                generator=random,
            )
        source, target = torch.split(both, self._channels, 1)
        if data.weather:
            source = weather(source, data.weather, random)
        return Batch(self._ordered(source), self._ordered(target), shares)

    def _places(self, indices: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield in which set, and where in it, each of the pairs is."""
        for index in indices:
            part = int(np.searchsorted(self._ends, index, side="right"))
            yield part, index - (int(self._ends[part - 1]) if part else 0)

    def _ordered(self, pictures: Tensor) -> Tensor:
        if self._recipe.training.channels_last:
            return pictures.contiguous(memory_format=torch.channels_last)
        return pictures.contiguous()


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
        step = max(1, len(part) // LABELS_LOOKED_AT)
        sample = part[::step, ::4, ::4]
        counts += np.bincount(sample.ravel(), minlength=len(legend)) * step
    shares = np.maximum(counts / counts.sum(), 1e-6)
    weights = np.clip((np.median(shares) / shares) ** balance, 0.7, 2.5)
    return np.asarray(weights, np.float32)
