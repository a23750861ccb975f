"""What is known of each image of a data set: its bands, and which classes its pixels may be.

What a set does not tell is unknown, and no loss asks for it:

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sat2map.data.cache import DecodedPairs
from sat2map.data.mask_cache import DecodedMasks
from sat2map.legend import COVER, Legend, cover_of, map_to_cover_may_be

LAND, VEGETATION = COVER.names.index("land"), COVER.names.index("vegetation")
DARK = 210
"""Sum of red, green and blue below which colours tell little."""

ROUGH = 12.0
"""Standard deviation of grey, 0 to 255, from which a place is too rough for water: 10 % of the
water of `maps` is rougher, and three quarters of bare woods are."""

NEAR = 4
"""Pixels to each side that it is taken over."""


@dataclass(frozen=True)
class Labels:
    """The known classes of one image, in one legend.

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
        may_be = masks.mapping.may_be(masks.legend)
        smooth = _without_water(may_be, masks.legend)
        # A rough pixel of value v has the number 128 + v' where v' is the place of v.
        self._places: Tensor | None = None
        self._numbers: dict[int, Tensor] = {}
        values = np.flatnonzero(may_be.any(1) & ~may_be.all(1))
        if (smooth != may_be).any() and len(values) < 127:
            places = np.zeros(256, np.uint8)
            places[values] = np.arange(1, len(values) + 1)
            self._places = torch.from_numpy(places)
            rows = np.zeros((256, may_be.shape[1]), np.bool_)
            rows[1 : len(values) + 1] = may_be[values]
            rows[129 : 129 + len(values)] = smooth[values]
            may_be = rows
        self._table = _table(may_be)

    def __len__(self) -> int:
        return len(self._masks)

    def bands(self, number: int) -> Tensor:
        """Return a photo, uint8 [H,W,C]."""
        return torch.from_numpy(self._masks.source(number))

    def labels(self, number: int) -> tuple[Labels | None, Labels | None]:
        """Return what is known of the map's classes and of the land cover."""
        known = Labels(self._numbered(number), self._table)
        return (known, None) if self._of_map else (None, known)

    def _numbered(self, number: int) -> Tensor:
        values = torch.from_numpy(self._masks.values(number))
        if self._places is None:
            return values
        if number not in self._numbers:
            places = self._places[values.long()]
            rough = _is_rough(self.bands(number)) & (places > 0)
            self._numbers[number] = places + 128 * rough.to(torch.uint8)
        return self._numbers[number]


def _is_rough(photo: Tensor) -> Tensor:
    """Return where a photo, uint8 [H,W,C], varies more within a few pixels than water does."""
    grey = photo[..., :3].float().mean(-1)[None, None]
    around = 2 * NEAR + 1

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(values, (NEAR,) * 4, mode="replicate"), around, 1)

    variance = mean(grey.square()) - mean(grey).square()
    return (variance > ROUGH**2)[0, 0]


def _without_water(may_be: NDArray[np.bool_], legend: Legend) -> NDArray[np.bool_]:
    """Return what rough pixels may be: no water where labels leave a choice.

    Labels that tell of roads alone leave water open all over the woods. A network answered it
    there, and was right (records/2026-11-28_streets).
    """
    several = (may_be.sum(1) > 1) & ~may_be.all(1)
    told = may_be.copy()
    told[np.ix_(several, legend.of_role("water"))] = False
    return told


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
    in a park is not bare land.

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


def _table(may_be: NDArray[np.bool_]) -> Tensor:
    """Return a table of 256 rows, where a row that names no class names all of them."""
    table = np.ones((256, may_be.shape[1]), np.float32)
    table[: len(may_be)] = np.where(may_be.any(1, keepdims=True), may_be, True)
    return torch.from_numpy(table)
