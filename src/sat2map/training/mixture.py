"""Batches from several data sets at once, of photos with maps and of photos with class masks.

Each set has its share of a batch, and each of its images is shown at a ground resolution that is
drawn anew. What a set does not tell is unknown, and no loss asks for it:

    set            photo   map   classes of the map        land cover
    pairs            x      x    the map's, by colour      what map and photo let it be
    pairs + masks    x      x    the map's, by colour      the mask's
    pairs that tell  x      x    the map's; where it       what map and photo let it be
    of some classes              shows land, also those
                                 it does not tell of
    masks            x           where they have that      where they have the legend `cover`
                                 legend
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sat2map.data.cache import DecodedPairs
from sat2map.data.mask_cache import DecodedMasks
from sat2map.legend import COVER, Legend, cover_of, map_to_cover_may_be
from sat2map.recipe import Recipe
from sat2map.training.augment import Ground, other_camera, random_views, weather
from sat2map.training.batches import Batch, class_weights_of
from sat2map.training.schedule import Plan

REACH = 2.0
"""How many times its side a view of a small image may take in; the rest is mirrored."""
LAND, VEGETATION = COVER.names.index("land"), COVER.names.index("vegetation")
DARK = 210
"""Sum of red, green and blue below which colours tell little."""
COUNTED = 64
"""In how many images of a set classes are counted."""


@dataclass(frozen=True)
class Labels:
    """What is known of one image in one legend.

    Attributes:
        numbers: uint8 [H,W].
        may_be: For each number 1 for the classes that its pixels may be, float32 [256,K]. All of
            them where nothing is known.
    """

    numbers: Tensor
    may_be: Tensor


class TrainingSet(Protocol):
    """A set that can be mixed with others."""

    paired: bool
    """Whether there is a map to each photo."""
    complete: bool
    """Whether the maps tell of all their classes."""
    resolution_m: float
    """Ground resolution of the images."""

    def __len__(self) -> int: ...

    def bands(self, number: int) -> Tensor:
        """Return the bands of an image and of its map, if any, uint8 [H,W,C]."""

    def labels(self, number: int) -> tuple[Labels | None, Labels | None]:
        """Return what is known of the map's classes and of the land cover."""


class PairSet:
    """Photos with maps, and with class masks of the land cover where there are any.

    Args:
        pairs: The photos and the maps.
        classes: The classes of the maps, uint8 [N,H,W].
        legend: The maps' legend.
        masks: Masks of the same images, or None.
        resolution_m: Ground resolution of the images.
        told: The classes that the maps tell of, or None for all.
    """

    paired = True

    def __init__(
        self,
        pairs: DecodedPairs,
        classes: NDArray[np.uint8],
        legend: Legend,
        masks: DecodedMasks | None,
        resolution_m: float,
        told: Sequence[str] | None = None,
    ) -> None:
        self.resolution_m = resolution_m
        self.complete = told is None or set(told) >= {
            entry.name for entry in legend.classes if entry.role not in ("land", "other", "casing")
        }
        self._pairs = torch.from_numpy(pairs.pixels)
        self.classes = classes
        self._classes = torch.from_numpy(classes)
        may_be = np.eye(len(legend), dtype=np.bool_)
        if told is not None and not self.complete:
            untold = np.array([name not in told for name in legend.names])
            may_be[np.ix_(untold & (cover_of(legend) == LAND), untold)] = True
        self._drawn = _table(may_be)
        self._masks = masks
        self._looks = masks is None and pairs.source_channels >= 3 and len(legend) <= 255 // 3
        if masks is not None:
            self._cover = _table(masks.mapping.may_be(COVER))
        else:
            cover = (may_be.astype(int) @ map_to_cover_may_be(legend)) > 0
            self._cover = _table(np.concatenate(_by_look(cover, legend)) if self._looks else cover)

    def __len__(self) -> int:
        return len(self._pairs)

    def bands(self, number: int) -> Tensor:
        """Return photo and map, uint8 [H,W,C]."""
        return self._pairs[number]

    def labels(self, number: int) -> tuple[Labels | None, Labels | None]:
        """Return what is known of the map's classes and of the land cover."""
        drawn = self._classes[number]
        if self._masks is not None:
            seen = torch.from_numpy(self._masks.values(number))
        elif self._looks:
            seen = drawn + len(self._drawn[0]) * _look(self._pairs[number, :, :, :3])
        else:
            seen = drawn
        return Labels(drawn, self._drawn), Labels(seen, self._cover)


class MaskSet:
    """Photos with class masks, in the legend of the maps or in that of the land cover.

    Args:
        masks: The photos and the masks.
        legend: The legend of the maps.
        resolution_m: Ground resolution of the images.
    """

    paired = False
    complete = False

    def __init__(self, masks: DecodedMasks, legend: Legend, resolution_m: float) -> None:
        self.resolution_m = resolution_m
        self._masks = masks
        self._of_map = masks.legend.names == legend.names
        self._table = _table(masks.mapping.may_be(masks.legend))

    def __len__(self) -> int:
        return len(self._masks)

    def bands(self, number: int) -> Tensor:
        """Return a photo, uint8 [H,W,C]."""
        return torch.from_numpy(self._masks.source(number))

    def labels(self, number: int) -> tuple[Labels | None, Labels | None]:
        """Return what is known of the map's classes and of the land cover."""
        known = Labels(torch.from_numpy(self._masks.values(number)), self._table)
        return (known, None) if self._of_map else (None, known)


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
        self, pictures: int, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Tensor]:
        """Yield sources as training sees them, always the same, float32 [N,C,size,size].

        Args:
            pictures: How many, rounded up to whole batches.
            progress: Called with (done, all) images.
        """
        batch = self._recipe.training.batch
        for first in range(0, pictures, batch):
            # Steps far beyond the end of any run, so that the draws are others than training's.
            yield self._cut(2**31 + first, self._plan.samples(first)).source
            if progress is not None:
                progress(min(first + batch, pictures), pictures)

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
            source = weather(source, data.weather, random)
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


def cover_weights(
    sets: Sequence[TrainingSet], shares: Sequence[float], balance: float
) -> NDArray[np.float32]:
    """Return the weight of each class of land cover in its loss, float32 [5].

    Pixels are counted for all classes that they may be, those of each set by its share.

    Args:
        sets: The sets.
        shares: Their shares of a batch.
        balance: As for `class_weights_of`.
    """
    counts = np.zeros(len(COVER))
    for one, share in zip(sets, shares, strict=True):
        own = np.zeros(len(COVER))
        for number in range(0, len(one), max(1, len(one) // COUNTED)):
            labels = one.labels(number)[1]
            if labels is not None:
                table = labels.may_be.numpy()
                possible = np.where(table.all(1, keepdims=True), 0, table)
                possible /= np.maximum(possible.sum(1, keepdims=True), 1)
                numbers = labels.numbers[::4, ::4].numpy().ravel()
                own += np.bincount(numbers, minlength=len(table)) @ possible
        counts += share * own / max(own.sum(), 1)
    return class_weights_of(counts, balance)


def _look(photo: Tensor) -> Tensor:
    """Return how each pixel looks: 0 neither green nor dark, 1 green, 2 dark, uint8 [H,W].

    Args:
        photo: Red, green and blue, uint8 [H,W,3].
    """
    red, green, blue = photo.to(torch.int16).unbind(2)
    total = red + green + blue
    is_green = (2 * green - red - blue) * 16 > total
    return torch.where(is_green, 1, torch.where(total < DARK, 2, 0)).to(torch.uint8)


def _by_look(cover: NDArray[np.bool_], legend: Legend) -> list[NDArray[np.bool_]]:
    """Return which land cover a map's classes may be where the photo is plain, green or dark.

    A map alone would leave vegetation open nearly everywhere, and a network that answers it
    everywhere would be right: one did, and lost the roads (records/2026-11-28_streets). So what
    is not green is vegetation only in a park, or where it is too dark to tell, and what is green
    in a park is no bare land.

    Args:
        cover: What follows from the map alone, bool [K,5].
        legend: The map's classes.
    """
    role = np.array([entry.role for entry in legend.classes])
    plain, green, dark = cover.copy(), cover.copy(), cover.copy()
    plain[role != "vegetation", VEGETATION] = False
    dark[role == "road", VEGETATION] = False
    green[role == "vegetation", LAND] = False
    return [plain, green, dark]


def _unknown_before(count: int, planes: Tensor) -> Tensor:
    """Return planes of which nothing is known in the first images."""
    planes = planes.clone()
    planes[:count] = 1
    return planes


def _table(may_be: NDArray[np.bool_]) -> Tensor:
    """Return a table of 256 rows, where a row that names no class names all of them."""
    table = np.ones((256, may_be.shape[1]), np.float32)
    table[: len(may_be)] = np.where(may_be.any(1, keepdims=True), may_be, True)
    return torch.from_numpy(table)
