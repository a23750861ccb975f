"""Batches from several data sets at once, of photos with maps and of photos with class masks.

Each set has its share of a batch, and each of its images is shown at a ground resolution that is
drawn anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sat2map.legend import COVER, Legend
from sat2map.recipe import Recipe
from sat2map.training.augment import Ground, other_camera, photometric, random_views
from sat2map.training.batches import Batch, without_photometric
from sat2map.training.schedule import Plan
from sat2map.training.training_sets import TrainingSet

REACH = 2.0
"""How many times its side a view of a small image may take in; the rest is mirrored."""


class Mixture:
    """Makes the batch of any step out of several sets.

    Args:
        recipe: Says how crops are cut and varied, and the sets' shares of a batch.
        plan: Says with which random numbers.
        sets: The sets: first those with maps that tell of all classes, then others with maps.
        shares: How much of a batch is each set's, in any unit.
        legend: The legend of the maps.
        source_channels: How many bands the photos have.
        device: Where the batches go.
    """

    follows_windows = False

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        sets: Sequence[TrainingSet],
        shares: Sequence[float],
        legend: Legend,
        source_channels: int,
        device: torch.device,
    ) -> None:
        if recipe.training.channels_last:
            self._layout = torch.channels_last
        else:
            self._layout = torch.contiguous_format
        self._recipe = recipe
        self._plan = plan
        self._sets = sets
        self._shares = shares
        self._legends = (len(legend), len(COVER) if recipe.generator.tells_cover else 0)
        self._source_channels = source_channels
        self._device = device

    def at(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self._cut(step, self._plan.crops(step))

    def spread(
        self, images: int, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Tensor]:
        """Yield sources as training sees them, always the same, float32 [N,C,size,size].

        Args:
            images: How many, rounded up to whole batches.
            progress: Called with (done, all) images.
        """
        batch = self._recipe.training.batch
        for first in range(0, images, batch):
            # Steps far beyond the end of any run, so that the draws are others than training's.
            yield self._cut(2**31 + first, self._plan.samples(first)).source
            if progress is not None:
                progress(min(first + batch, images), images)

    def without_photometric(self) -> Mixture:
        """Return what cuts the same out, with the colours of the files."""
        other = copy.copy(self)
        other._recipe = without_photometric(self._recipe)
        return other

    def _cut(self, step: int, random: torch.Generator) -> Batch:
        data = self._recipe.data
        assert data.resolutions_m is not None
        finest, coarsest = data.resolutions_m
        grounds, known = [], []
        paired = complete = 0
        for part, number in self._plan.draw(step, [len(one) for one in self._sets], self._shares):
            chosen = self._sets[part]
            paired += chosen.paired
            complete += chosen.complete
            labels = chosen.labels(number)[: 2 if self._legends[1] else 1]
            known.append([one is not None for one in labels])
            grounds.append(
                Ground(
                    chosen.bands(number),
                    (finest / chosen.resolution_m, coarsest / chosen.resolution_m),
                    [(one.numbers, one.may_be) for one in labels if one is not None],
                    REACH,
                )
            )
        views = random_views(grounds, data.size, flip=data.flip, generator=random)
        source = torch.cat([view[:, : self._source_channels] for view, _ in views])
        if data.weather:
            source = photometric(source, data.weather, random)
        if data.camera:
            source = other_camera(source, data.camera, random)
        target = [view[:, self._source_channels :] for view, _ in views[:paired]]
        planes = self._planes([shares for _, shares in views], known)
        partial = any(of_map for of_map, *_ in known[complete:])
        return Batch(
            self._sent(source),
            self._sent(torch.cat(target)) if target else None,
            self._sent(planes[0][:complete]) if complete else None,
            self._sent(_unknown_before(complete, planes[0])) if partial else None,
            self._sent(planes[1]) if self._legends[1] else None,
        )

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self._device).contiguous(memory_format=self._layout)

    def _planes(
        self, shares: Sequence[Sequence[Tensor]], known: Sequence[Sequence[bool]]
    ) -> list[Tensor]:
        """Return for each legend what pixels may be, float32 [N,K,size,size]; 1 if unknown."""
        size = self._recipe.data.size
        planes: list[list[Tensor]] = [[], []]
        for own, told in zip(shares, known, strict=True):
            rest = list(own)
            for legend, is_told in enumerate(told):
                plane = rest.pop(0) if is_told else torch.ones(1, self._legends[legend], size, size)
                planes[legend].append(plane)
        return [torch.cat(one) if one else torch.zeros(0) for one in planes]


def _unknown_before(count: int, planes: Tensor) -> Tensor:
    """Return planes of which nothing is known in the first images."""
    planes = planes.clone()
    planes[:count] = 1
    return planes
