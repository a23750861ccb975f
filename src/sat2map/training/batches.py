"""What each step learns from: cut out of one or several decoded sets, on the training device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sat2map.data.cache import DecodedPairs
from sat2map.recipe import Recipe
from sat2map.training.augment import (
    Ground,
    cut_windows,
    photometric,
    random_views,
    random_windows,
    sent,
)
from sat2map.training.schedule import Plan


def without_photometric(recipe: Recipe) -> Recipe:
    """Return a recipe that leaves the colours of photos as they are."""
    data = recipe.data.model_copy(update={"weather": 0.0, "camera": 0.0})
    return recipe.model_copy(update={"data": data})


@dataclass(frozen=True)
class Batch:
    """The batch of one step.

    Attributes:
        source: float32 [N,C,size,size] in [-1,1].
        target: The maps of the first P sources, float32 [P,C',size,size] in [-1,1]; None where
            none of them has one.
        shares: The share of each class in each pixel of the target, float32
            [P,K,size,size], or None where the generator has no legend head.
        drawn: Which classes of the map each pixel may be, where class masks tell it, float32
            [N,K,size,size]: the share of its area, and 1 for all where nothing is known.
        cover: The same of the classes of land cover.
    """

    source: Tensor
    target: Tensor | None
    shares: Tensor | None = None
    drawn: Tensor | None = None
    cover: Tensor | None = None


class Ahead:
    """Makes the batch of the next step in a thread of its own, while a step is taken.

    Every batch is made in that thread, also the first, and follows from its step alone, so a run
    that was interrupted learns from the same bits.

    Args:
        at: Makes the batch of a step.
        steps: How many steps the run has.
    """

    def __init__(self, at: Callable[[int], Batch], steps: int) -> None:
        self._make = at
        self._steps = steps
        self._thread = ThreadPoolExecutor(1, "sat2map-batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def at(self, step: int) -> Batch:
        """Return the batch of a step, and begin to make that of the next one."""
        if self._next is None or self._next[0] != step:
            self._next = (step, self._thread.submit(self._make, step))
        batch = self._next[1].result()
        self._next = None
        if step + 1 < self._steps:
            self._next = (step + 1, self._thread.submit(self._make, step + 1))
        return batch

    def close(self) -> None:
        """End the thread; what it makes is thrown away."""
        self._thread.shutdown(cancel_futures=True)


class Batches:
    """Makes the batch of any step.

    Args:
        recipe: Says how crops are cut and varied.
        plan: Says which pairs a step learns from and with which random numbers.
        sets: The decoded training sets, with equal channels.
        labels: The classes of their targets, uint8 [N,H,W] each, or None.
        classes: How many classes there are.
        device: Where the batches go. On CUDA the whole sets are kept there, as uint8.
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

        self._ends = np.cumsum([len(part) for part in sets])
        self._pixels = [torch.from_numpy(part.pixels) for part in sets]
        self._labels = None if labels is None else [torch.from_numpy(part) for part in labels]
        if device.type == "cuda":
            self._pixels = [part.to(device) for part in self._pixels]
            if self._labels is not None:
                self._labels = [part.to(device) for part in self._labels]
            if recipe.data.scales is None and len(sets) > 1:
                self._pixels = [torch.cat(self._pixels)]

    @property
    def follows_windows(self) -> bool:
        """Whether a batch is a function of its `windows` alone, as in the published protocol."""
        data = self._recipe.data
        return data.scales is None and data.weather == 0 and len(self._pixels) == 1

    def at(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self._cut(self._plan.batch(step), self._plan.crops(step))

    def windows(self, step: int) -> Tensor:
        """Return what a step cuts out, int64 [N,4] on the CPU (`random_windows`)."""
        data = self._recipe.data
        images, random = self._plan.batch(step), self._plan.crops(step)
        return random_windows(images, self._pixels[0], data.size, data.flip, random)

    def from_windows(self, windows: Tensor) -> Batch:
        """Return the batch of `windows` that are on the device; nothing waits for it."""
        return self._batch(cut_windows(self._pixels[0], windows, self._recipe.data.size))

    def spread(
        self, images: int, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Tensor]:
        """Yield sources as training sees them, always the same, evenly spread over the pairs.

        They come in batches of the recipe's size, float32 [N,C,size,size] in [-1,1], and not
        an image more often than once.

        Args:
            images: How many at the most.
            progress: Called with (done, all) images.
        """
        everything = int(self._ends[-1])
        count = min(images, everything)
        chosen = torch.tensor([i * everything // count for i in range(count)])
        batch = self._recipe.training.batch
        for first in range(0, count, batch):
            yield self._cut(chosen[first : first + batch], self._plan.samples(first)).source
            if progress is not None:
                progress(min(first + batch, count), count)

    def without_photometric(self) -> Batches:
        """Return what cuts the same out, with the colours of the files."""
        other = copy.copy(self)
        other._recipe = without_photometric(self._recipe)
        return other

    def _cut(self, images: Tensor, random: torch.Generator) -> Batch:
        data = self._recipe.data
        if data.scales is None:
            pixels = self._pixels[0]
            if len(self._pixels) > 1:  # several sets that are not on the device
                pixels = torch.stack([self._pixels[part][i] for part, i in self._places(images)])
                images = torch.arange(len(images))
            windows = random_windows(images, pixels, data.size, data.flip, random)
            both = cut_windows(pixels, sent(windows, pixels.device), data.size).to(self._device)
            return self._batch(both, None, random)
        table = torch.eye(self._classes, device=self._device)
        grounds = []
        for part, i in self._places(images):
            bands = self._pixels[part][i].to(self._device)
            labels = []
            if self._labels is not None:
                labels = [(self._labels[part][i].to(self._device), table)]
            grounds.append(Ground(bands, (data.scales[0], data.scales[1]), labels))
        views = random_views(grounds, data.size, flip=data.flip, generator=random)
        both = torch.cat([view for view, _ in views])
        shares = None if self._labels is None else torch.cat([of[0] for _, of in views])
        return self._batch(both, shares, random)

    def _batch(
        self, both: Tensor, shares: Tensor | None = None, random: torch.Generator | None = None
    ) -> Batch:
        source, target = torch.split(both, self._channels, 1)
        if self._recipe.data.weather:
            source = photometric(source, self._recipe.data.weather, random)
        return Batch(self._ordered(source), self._ordered(target), shares)

    def _places(self, images: Tensor) -> Iterator[tuple[int, int]]:
        """Yield in which set, and where in it, each of the pairs is."""
        for index in images.tolist():
            part = int(np.searchsorted(self._ends, index, side="right"))
            yield part, index - (int(self._ends[part - 1]) if part else 0)

    def _ordered(self, images: Tensor) -> Tensor:
        if self._recipe.training.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images.contiguous()
