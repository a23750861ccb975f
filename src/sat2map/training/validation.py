"""Judging a generator during and after training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sat2map.data.images import in_bands, resize_square
from sat2map.data.masks import has_no_maps, is_mask_set
from sat2map.data.pairs import PairFile, find_pairs, read_pair
from sat2map.data.pairs import read_dataset_card as read_data_card
from sat2map.errors import Sat2mapError, UsageError
from sat2map.evaluation.masks import MaskSplit, open_mask_split
from sat2map.evaluation.score import Summary, score_images, showing, summarise
from sat2map.model.folder import Model, ModelCard
from sat2map.networks.normalisation import in_published_mode, recalibrate
from sat2map.networks.value_range import from_image, to_pixels
from sat2map.recipe import Recipe
from sat2map.translation.translator import Translator

GRID_ROWS = 6
LOWER_IS_BETTER = frozenset({"l1", "rmse"})
SHOWN = ("l1", "psnr", "ssim", "mean_iou", "road_cldice", "edge_density")
OF_MASKS = ("mean_iou", "road_cldice")
"""The metrics that class masks tell."""

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")


def with_fresh_statistics(generator: nn.Module, sources: Iterable[Tensor]) -> nn.Module:
    """Return a copy whose normalisation statistics are those of training images.

    Args:
        generator: Is left as it is.
        sources: Batches as training sees them, float [N,C,H,W] in [-1,1], on its device.
    """
    network = copy.deepcopy(generator)
    recalibrate(network, sources, together=True)
    return network.eval()


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        summary: The metrics on the first data set, or None where it has no split `val`.
        away: Those on the class masks of further sets, by the name of the set.
        failures: What says why images were left out.
    """

    summary: Summary | None
    away: dict[str, Summary]
    failures: list[Sat2mapError]

    @property
    def scores(self) -> dict[str, float]:
        """The means of all metrics; those away are called SET_METRIC."""
        parts = [("", self.summary)] if self.summary is not None else []
        parts += [(f"{name}_", summary) for name, summary in self.away.items()]
        return {
            f"{before}{metric}": interval.mean
            for before, summary in parts
            for metric, interval in summary.metrics.items()
        }

    def __str__(self) -> str:
        """Return a few scores of the first data set, and one of each other, for people."""
        scores = self.scores
        shown = [name for name in SHOWN if name in scores]
        for name, summary in self.away.items():
            shown.append(
                f"{name}_{'road_cldice' if 'road_cldice' in summary.metrics else 'mean_iou'}"
            )
        return ", ".join(f"{name} {scores[name]:.3f}" for name in shown if name in scores)


class Validator:
    """Scores what a run makes on the split `val` of its data sets, and shows what it draws.

    On the first set that is how well maps are drawn, or, where it has class masks only, how well
    these are met; by one of its metrics the best model is chosen. On further sets that have class
    masks it is how well these are met, so that one sees how a model does away from home.

    Args:
        recipe: Says at what size, and on how many images of each set.
        data: The data sets. What has no split `val` is not scored.
        card: That of the model.

    Attributes:
        notices: Why the masks of further sets are not scored.

    Raises:
        DataError: The split of the first set cannot be used.
        UsageError: Its masks do not tell the metric that the best model is to be chosen by.
    """

    def __init__(self, recipe: Recipe, data: Sequence[Path], card: ModelCard) -> None:
        self._recipe = recipe
        self._card = card
        self._pairs: list[PairFile] = []
        self._masks: MaskSplit | None = None
        self._shown: list[PairFile] = []
        home = data[0]
        self._told = read_data_card(home).told if recipe.data.direction == "forward" else None
        validated = (home / "val").is_dir()
        if has_no_maps(home, "train"):
            if validated:
                self._masks = self._open(home, recipe.data.resolution_m)
                _check_metric(recipe.validation.metric, home)
        else:
            self._pairs = find_pairs(home, "val") if validated else []
            self._shown = self._pairs or find_pairs(home, "train")
        self._away: dict[str, MaskSplit] = {}
        self.notices: list[str] = []
        tells_classes = card.legend is not None and card.direction == "forward"
        for number, folder in enumerate(data[1:], 2):
            if not (tells_classes and is_mask_set(folder, "val")):
                continue
            name = folder.resolve().name
            try:
                masks = self._open(folder)
            except Sat2mapError as error:
                self.notices.append(f"{folder}: its class masks are not scored, since: {error}")
            else:
                self._away[f"{name}_{number}" if name in self._away else name] = masks

    def _open(self, data: Path, resolution_m: float | None = None) -> MaskSplit:
        """Return the masks of a set, shown at its own resolution as far as the model knows that."""
        masks = open_mask_split(data, "val", self._card.legend, resolution_m=resolution_m)
        if self._card.resolution_m is not None:
            finest, coarsest = self._card.resolution_m
            shown_m = min(max(masks.protocol.shown_m, finest), coarsest)
            masks = replace(masks, protocol=replace(masks.protocol, shown_m=shown_m))
        return replace(masks, files=spread(masks.files, self._recipe.validation.pictures))

    def __bool__(self) -> bool:
        """Whether there is anything to score."""
        return bool(self._pairs or self._masks or self._away)

    def score(self, network: nn.Module, device: torch.device) -> Validation:
        """Score the deterministic prediction.

        Maps are compared at the scale of training: whole images resized to the training size, or
        the files as they are where training crops native pixels, unless the recipe names a size.
        Class masks are compared at their own resolution, no finer than 0.75 m, as far as the
        model knows that.
        """
        translator = Translator(Model(network, self._card, Path()), device)
        summary: Summary | None = None
        failures: list[Sat2mapError] = []
        if self._masks is not None:
            summary, failures = _score_masks(translator, self._masks)
        elif self._pairs:
            summary, failures = self._score_pairs(translator)
        away = {}
        for name, masks in self._away.items():
            away[name], more = _score_masks(translator, masks)
            failures = [*failures, *more]
        return Validation(summary, away, failures)

    def _score_pairs(self, translator: Translator) -> tuple[Summary, list[Sat2mapError]]:
        size = self._recipe.validation.size
        if size is None and self._recipe.data.resize is not None:
            size = self._recipe.data.size
        scores = score_images(
            showing(translator),
            spread(self._pairs, self._recipe.validation.pictures),
            size=size,
            direction=self._recipe.data.direction,
            legend=self._card.legend,
            told=self._told,
        )
        protocol = scores.protocol | _PROTOCOL
        return summarise(scores.scores, self._card.legend, protocol), scores.failures

    def grid(self, network: nn.Module, device: torch.device) -> list[tuple[Pixels, ...]]:
        """Return source, generated and target of a few pairs, uint8 [size,size,3] each.

        Whole images resized, or their middle where training crops native pixels. Predicted
        with the images' own statistics but without dropout, which draws no random numbers and
        so leaves the run as it is. A set without maps has none.
        """
        rows: list[tuple[Pixels, ...]] = []
        published = in_published_mode(network)
        with torch.inference_mode():
            for pair in spread(self._shown, GRID_ROWS):
                try:
                    source, target = (
                        _at_training_scale(side, self._recipe)
                        for side in read_pair(pair, self._recipe.data.direction)
                    )
                except Sat2mapError:
                    continue  # validation names it
                seen = from_image(in_bands(source, len(self._card.bands)), device)
                generated = to_pixels(published(seen))[0].cpu().numpy()
                rows.append(tuple(_three_bands(view) for view in (source, generated, target)))
        return rows


_PROTOCOL = {"split": "val", "prediction": "deterministic"}


def _score_masks(translator: Translator, masks: MaskSplit) -> tuple[Summary, list[Sat2mapError]]:
    output = masks.protocol.output

    def predict(source: Pixels) -> Pixels:
        return translator.translate(in_bands(source, len(translator.card.bands)), output=output)

    scores = masks.score(predict)
    protocol = scores.protocol | _PROTOCOL | {"output": output}
    return summarise(scores.scores, masks.protocol.legend, protocol), scores.failures


def _check_metric(metric: str, data: Path) -> None:
    if metric not in OF_MASKS:
        raise UsageError(
            f"validation.metric is {metric}, which class masks do not tell",
            where=data,
            remedy=f"Choose `validation.metric` = {' or '.join(OF_MASKS)}.",
        )


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
