"""Scores against class masks: of what a mask tells, and of nothing else.

A mask often labels some classes only. A class is scored over the pixels of which the mask says
whether they belong to it: those that cannot be another class, and those that cannot be it. A class
that no pixel is sure to be is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sat2map.data.mask_mapping import MaskMapping, mask_colours
from sat2map.data.masks import MaskFile, find_masks, read_mask, read_mask_card
from sat2map.errors import DataError, Sat2mapError, UsageError
from sat2map.evaluation.classes import Agreement, iou
from sat2map.evaluation.edges import harmonic_mean
from sat2map.evaluation.roads import skeleton
from sat2map.evaluation.score import RESAMPLES, ImageScore, OnImage, Pixels, Scores, named
from sat2map.legend import COVER, Legend, map_to_cover_may_be

FINEST_M = 0.75
"""Images are shown no finer than so many metres per pixel where nobody says otherwise."""

TOLERANCE_M = 3.0
"""How far a road may lie beside the true one."""

LEAST_TOLERANCE = 1.5
"""That is never less, in pixels."""

NEAR = 1.1
"""A ground resolution is as good as known within this factor."""

LEAST_SIDE = 32
"""No image is shown smaller than this, in pixels."""


@dataclass(frozen=True)
class MaskProtocol:
    """Settings of the scoring of masks.

    Attributes:
        legend: The classes.
        may_be: Which of them pixels of each value may be, bool [256,K]; none of them where
            that is unknown.
        resolution_m: Ground resolution of the files in metres per pixel.
        shown_m: That at which the model sees them.
        tolerance_m: How far a road may lie beside the true one.
    """

    legend: Legend
    may_be: NDArray[np.bool_]
    resolution_m: float
    shown_m: float
    tolerance_m: float = TOLERANCE_M

    @property
    def output(self) -> Literal["cover", "classes"]:
        """What a translator is asked for, to be compared with the masks."""
        return "cover" if self.legend.names == COVER.names else "classes"

    @property
    def tolerance(self) -> float:
        """The tolerance in pixels as shown."""
        return max(LEAST_TOLERANCE, self.tolerance_m / self.shown_m)

    def describe(self, not_asked: Sequence[str]) -> dict[str, Any]:
        """Return how metrics are taken, in JSON's own types, to stand beside them."""
        return {
            "resolution_m": self.resolution_m,
            "shown_m": self.shown_m,
            "resize": "Lanczos (Pillow), masks nearest",
            "tolerance_m": self.tolerance_m,
            "scored": "classes, over the pixels of which the mask says whether they belong",
            "averaged": "road metrics per image, then over the images with roads; IoU summed",
            "interval": f"95 %, bootstrap over images, {RESAMPLES} resamples",
            "not_asked": list(not_asked),
            "legend": self.legend.to_json(),
        }


@dataclass(frozen=True)
class MaskSplit:
    """A split of a data set of class masks, ready to be scored.

    Attributes:
        files: Photos and masks.
        mapping: What the values of the masks stand for.
        protocol: How they are scored.
    """

    files: Sequence[MaskFile]
    mapping: MaskMapping
    protocol: MaskProtocol

    @property
    def legend(self) -> Legend:
        """The classes that are scored."""
        return self.protocol.legend

    def score(
        self,
        predict: Callable[[Pixels], NDArray[np.uint8]],
        *,
        progress: Callable[[int, int], None] | None = None,
        on_image: OnImage | None = None,
    ) -> Scores:
        """Let a model label the photos and compare the answers with the masks.

        Args:
            predict: uint8 [H,W,C] to numbers of the protocol's legend, uint8 [H,W].
            progress: Called with (done, all) images.
            on_image: As for `score_masks`.
        """
        return score_masks(
            predict,
            self.files,
            self.protocol,
            check=lambda values, file: self.mapping.check(values, file.classes),
            progress=progress,
            on_image=on_image,
        )


def open_mask_split(
    data: Path,
    split: str,
    own: Legend | None,
    *,
    resolution_m: float | None = None,
    resolution: float | Literal["native"] | None = None,
    tolerance_m: float = TOLERANCE_M,
) -> MaskSplit:
    """Find the masks of a split, and say how a model is scored on them.

    Args:
        data: The data set.
        split: Which split.
        own: The legend of the model's map.
        resolution_m: Ground resolution of the files where `dataset.json` is silent.
        resolution: As for `shown_resolution`.
        tolerance_m: How far a road may lie beside the true one.

    Raises:
        DataError: There is no such split, or `dataset.json` does not say what the masks mean or
            how large a pixel is.
        UsageError: A number does not fit.
    """
    card, files = read_mask_card(data), find_masks(data, split)
    known_m = card.resolution_m or resolution_m
    if known_m is None:
        raise DataError(
            "does not say the ground resolution",
            where=data / "dataset.json",
            remedy='Give it "resolution_m", in metres per pixel.',
        )
    if not 0 < tolerance_m < math.inf:
        raise UsageError(
            f"{tolerance_m:g} m is not a tolerance",
            parameter="tolerance_m",
            remedy="Give metres above 0, such as 3.",
        )
    assert card.legend is not None and card.classes is not None
    legend, may_be = asked_legend(card.legend, card.classes, own)
    shown_m = shown_resolution(known_m, resolution)
    protocol = MaskProtocol(legend, may_be, known_m, shown_m, tolerance_m)
    return MaskSplit(files, card.classes, protocol)


def asked_legend(
    set_legend: Legend, mapping: MaskMapping, own: Legend | None
) -> tuple[Legend, NDArray[np.bool_]]:
    """Return in which legend masks are scored, and what each value may be in it, bool [256,K].

    That is the legend of the masks where the model has the same; otherwise `COVER`, which
    every legend can be brought to by its roles.

    Args:
        set_legend: The legend of the masks.
        mapping: What their values stand for.
        own: The legend of the model's map.
    """
    may_be = mapping.may_be(set_legend)
    if set_legend.names == COVER.names or (own is not None and own.names == set_legend.names):
        return set_legend, may_be
    on_the_ground = map_to_cover_may_be(set_legend)
    covered: NDArray[np.bool_] = np.any(may_be[:, :, None] & on_the_ground, axis=1)
    # What may be a class that says nothing about the ground may be anything.
    covered[may_be[:, ~on_the_ground.any(axis=1)].any(axis=1)] = False
    covered[covered.all(axis=1)] = False
    return COVER, covered


def shown_resolution(resolution_m: float, chosen: float | Literal["native"] | None = None) -> float:
    """Return the ground resolution at which images are shown to a model.

    Args:
        resolution_m: That of the files, in metres per pixel.
        chosen: One in metres, "native" for that of the files, or None for the same but no
            finer than 0.75 m, so that models and data sets can be compared.

    Raises:
        UsageError: It is not above 0, or far finer than the files.
    """
    if chosen is None:
        return max(resolution_m, FINEST_M)
    if chosen == "native":
        return resolution_m
    if not resolution_m / 16 <= chosen < math.inf:
        raise UsageError(
            f"{chosen:g} m per pixel is not a resolution for images of {resolution_m:g} m",
            parameter="resolution",
            remedy="Give native, or metres per pixel such as 0.75.",
        )
    return chosen


def mask_notices(protocol: Mapping[str, Any], known: tuple[float, float] | None) -> tuple[str, ...]:
    """Return what the metrics do not say, as lines for people.

    Args:
        protocol: `Scores.protocol`.
        known: Finest and coarsest metres per pixel that the model has seen.
    """
    lines = []
    if protocol["not_asked"]:
        lines.append(f"The masks do not show, so nothing says: {', '.join(protocol['not_asked'])}.")
    shown = protocol["shown_m"]
    if known is not None and not known[0] / NEAR <= shown <= known[1] * NEAR:
        lines.append(
            f"The images were shown at {shown:g} m per pixel; the model knows {known[0]:g} to "
            f"{known[1]:g} m."
        )
    return tuple(lines)


def score_masks(
    predict: Callable[[Pixels], NDArray[np.uint8]],
    files: Sequence[MaskFile],
    protocol: MaskProtocol,
    *,
    check: Callable[[NDArray[np.uint8], MaskFile], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_image: OnImage | None = None,
) -> Scores:
    """Let a model label photos and compare the answers with their masks.

    A file that cannot be used does not stop the others.

    Args:
        predict: uint8 [H,W,C] to class numbers, uint8 [H,W].
        files: Photos and masks.
        protocol: How they are scored.
        check: Called with the values of each mask; raises where they make no sense.
        progress: Called with (done, all) images.
        on_image: Called with the name, the photo as shown, the classes found and those of the mask
            in the colours of `mask_colours`, and their score over all classes.
    """
    scores: list[ImageScore] = []
    failures: list[Sat2mapError] = []
    colours = mask_colours(protocol.may_be, protocol.legend)
    told = np.zeros(len(protocol.legend), np.bool_)
    for done, file in enumerate(files, 1):
        try:
            source, values = read_mask(file)
            if check is not None:
                check(values, file)
            source, values = show(source, values, protocol)
            labels = predict(source)
            scores.append(score_mask(file.name, labels, values, protocol))
            if on_image is not None:
                found = protocol.legend.paint(labels)
                on_image(file.name, source, found, colours[values], scores[-1])
            told |= _sure(protocol.may_be)[np.unique(values)].any(axis=0)
        except Sat2mapError as error:
            failures.append(named(error, file.source))
        if progress is not None:
            progress(done, len(files))
    not_asked = [
        name for name, asked in zip(protocol.legend.names, told.tolist(), strict=True) if not asked
    ]
    # A class that no mask shows has only false alarms: a score of 0 would say nothing.
    scores = [_told(score, told) for score in scores]
    return Scores(scores, failures, protocol.describe(not_asked))


def show(
    source: Pixels, values: NDArray[np.uint8], protocol: MaskProtocol
) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return a photo and the values of its mask at the resolution that the model sees."""
    by = protocol.resolution_m / protocol.shown_m
    height, width = (max(LEAST_SIDE, round(side * by)) for side in values.shape)
    if by == 1 or (height, width) == values.shape:
        return source, values
    size = (width, height)

    def shrink(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = Image.fromarray(np.ascontiguousarray(band))
        return np.asarray(image.resize(size, Image.Resampling.LANCZOS))

    bands = [shrink(source[..., band]) for band in range(source.shape[2])]
    shown = Image.fromarray(values).resize(size, Image.Resampling.NEAREST)
    return np.stack(bands, axis=2), np.asarray(shown)


def score_mask(
    name: str, labels: NDArray[np.uint8], values: NDArray[np.uint8], protocol: MaskProtocol
) -> ImageScore:
    """Return every metric of one image.

    Args:
        name: What to call it.
        labels: The model's class numbers, uint8 [H,W].
        values: The values of the mask, uint8 [H,W].
        protocol: How they are scored.
    """
    sure = _sure(protocol.may_be)
    known = sure | (~protocol.may_be & protocol.may_be.any(axis=1, keepdims=True))
    intersections, unions = [], []
    for number in range(len(protocol.legend)):
        asked = known[values, number]
        generated, true = (labels == number) & asked, sure[values, number]
        intersections.append(np.count_nonzero(generated & true))
        unions.append(np.count_nonzero(generated | true))
    agreement = Agreement(np.array(intersections, np.int64), np.array(unions, np.int64))
    roads = protocol.legend.roads
    metrics: dict[str, float] = {}
    if roads.any():
        true, asked = _any_of(protocol.may_be, roads)
        metrics = road_metrics(roads[labels], true[values], asked[values], protocol.tolerance)
    return ImageScore(name, metrics, agreement)


def road_metrics(
    generated: NDArray[np.bool_],
    true: NDArray[np.bool_],
    known: NDArray[np.bool_],
    tolerance: float,
) -> dict[str, float]:
    """Return how well a road network is met; nothing where there is no true road.

    Centre lines count where it is known whether there is a road, and as right within a
    tolerance of the other network's roads.

    Args:
        generated: Road mask, bool [H,W].
        true: Road mask, bool [H,W].
        known: Where `true` says something, bool [H,W].
        tolerance: In pixels.
    """
    generated_line, true_line = skeleton(generated) & known, skeleton(true) & known
    if not true_line.any():
        return {}
    correctness = _share_near(generated_line, true, tolerance)
    completeness = _share_near(true_line, generated, tolerance)
    return {
        "road_cldice": harmonic_mean(correctness, completeness),
        "road_completeness": completeness,
        "road_correctness": correctness,
    }


def _share_near(line: NDArray[np.bool_], mask: NDArray[np.bool_], tolerance: float) -> float:
    """Return the share of a line within a tolerance of a mask; 0 where either is empty."""
    from scipy.ndimage import distance_transform_edt

    if not line.any() or not mask.any():
        return 0.0
    return float((distance_transform_edt(~mask) <= tolerance)[line].mean())


def _sure(may_be: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each value which class its pixels are sure to be, bool [256,K]."""
    sure: NDArray[np.bool_] = may_be & (may_be.sum(axis=1, keepdims=True) == 1)
    return sure


def _any_of(
    may_be: NDArray[np.bool_], classes: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each value whether it is one of some classes, and whether that is known."""
    within: NDArray[np.bool_] = np.any(may_be[:, classes], axis=1)
    beyond: NDArray[np.bool_] = np.any(may_be[:, ~classes], axis=1)
    return within & ~beyond, within ^ beyond


def _told(score: ImageScore, told: NDArray[np.bool_]) -> ImageScore:
    """Return a score of the classes that masks tell of, bool [K], with its mean IoU."""
    if score.agreement is None:
        return score
    agreement = score.agreement.of(told)
    values = iou(agreement)
    occurring = values[~np.isnan(values)]
    mean = {"mean_iou": float(occurring.mean())} if occurring.size else {}
    return replace(score, values=score.values | mean, agreement=agreement)
