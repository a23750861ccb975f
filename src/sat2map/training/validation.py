"""Judging a generator during and after training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sat2map.data.images import resize_square
from sat2map.data.masks import is_mask_set
from sat2map.data.pairs import PairFile, find_pairs, read_pair
from sat2map.errors import Sat2mapError
from sat2map.evaluation.score import Summary, score_pictures, summarise
from sat2map.model.folder import Model, ModelCard
from sat2map.networks.normalisation import as_published, reestimate
from sat2map.networks.values import from_picture, to_pixels
from sat2map.recipe import Recipe
from sat2map.translation.translator import Translator

GRID_ROWS = 6
LOWER_IS_BETTER = frozenset({"l1", "rmse"})

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")


def with_fresh_statistics(generator: nn.Module, sources: Iterable[Tensor]) -> nn.Module:
    """Return a copy whose normalisation statistics are those of training pictures.

    Args:
        generator: Is left as it is.
        sources: Batches as training sees them, float [N,C,H,W] in [-1,1], on its device.
    """
    network = copy.deepcopy(generator)
    reestimate(network, sources, together=True)
    return network.eval()


class Validator:
    """Scores what a run makes on the split `val` of its first data set, and shows what it draws.

    Args:
        recipe: Says at what size, and on how many pairs.
        data: The data set. Without the split, or without maps in it, nothing is scored.
        card: That of the model.

    Raises:
        DataError: The split cannot be used.
    """

    def __init__(self, recipe: Recipe, data: Path, card: ModelCard) -> None:
        self._recipe = recipe
        self._card = card
        has_maps = not is_mask_set(data, "train") or (data / "train" / "target").is_dir()
        self._pairs: list[PairFile] = []
        if has_maps and (data / "val").is_dir():
            self._pairs = find_pairs(data, "val")
        self._shown = self._pairs
        if has_maps and not self._pairs:
            self._shown = find_pairs(data, "train")

    def __bool__(self) -> bool:
        """Whether there is anything to score."""
        return bool(self._pairs)

    def score(self, network: nn.Module, device: torch.device) -> tuple[Summary, list[Sat2mapError]]:
        """Score the deterministic prediction at the scale of training.

        That is whole images resized to the training size, or the files as they are where
        training crops native pixels, unless the recipe names a size.

        Returns:
            The figures, and what says why pairs were left out.
        """
        size = self._recipe.validation.size
        if size is None and self._recipe.data.resize is not None:
            size = self._recipe.data.size
        scores = score_pictures(
            Translator(Model(network, self._card, Path()), device).translate,
            spread(self._pairs, self._recipe.validation.pictures),
            size=size,
            direction=self._recipe.data.direction,
            legend=self._card.legend,
        )
        protocol = scores.protocol | {"split": "val", "prediction": "deterministic"}
        return summarise(scores.scores, self._card.legend, protocol), scores.failures

    def grid(self, network: nn.Module, device: torch.device) -> list[tuple[Pixels, ...]]:
        """Return source, generated and target of a few pairs, uint8 [size,size,3] each.

        Whole images resized, or their middle where training crops native pixels. Predicted
        with the images' own statistics but without dropout, which draws no random numbers and
        so leaves the run as it is. A set without maps has none.
        """
        rows: list[tuple[Pixels, ...]] = []
        published = as_published(network)
        with torch.inference_mode():
            for pair in spread(self._shown, GRID_ROWS):
                try:
                    source, target = (
                        _at_training_scale(side, self._recipe)
                        for side in read_pair(pair, self._recipe.data.direction)
                    )
                except Sat2mapError:
                    continue  # validation names it
                generated = to_pixels(published(from_picture(source, device)))[0].cpu().numpy()
                rows.append(tuple(_three_bands(view) for view in (source, generated, target)))
        return rows


def improves(metric: str, scores: Mapping[str, float], best: float | None) -> bool:
    """Return whether a score is better than the best one so far.

    Args:
        metric: Which of the scores counts.
        scores: Those of a validation; what no image defines is absent or nan, and not better.
        best: The best one so far, None or nan where there is none.
    """
    score = scores.get(metric, math.nan)
    if math.isnan(score):
        return False
    if best is None or math.isnan(best):
        return True
    return score < best if metric in LOWER_IS_BETTER else score > best


def spread(items: Sequence[Item], count: int) -> Sequence[Item]:
    """Return `count` of the items, evenly spread, or all where there are no more."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else items


def _at_training_scale(pixels: Pixels, recipe: Recipe) -> Pixels:
    size = recipe.data.size
    if recipe.data.resize is not None:
        return resize_square(pixels, size)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


def _three_bands(pixels: Pixels) -> Pixels:
    bands = [min(i, pixels.shape[2] - 1) for i in range(3)]
    return pixels[..., bands]
