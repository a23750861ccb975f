"""Evaluating a model on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.data.images import in_bands
from sat2map.data.pairs import (
    Direction,
    PairFile,
    find_pairs,
    read_dataset_card,
    read_pair,
    refuse_class_numbers,
)
from sat2map.errors import BatchError, Sat2mapError, UsageError, expect
from sat2map.evaluation.classes import find_legend
from sat2map.evaluation.examples import Example, collect_examples
from sat2map.evaluation.gallery import opened_gallery
from sat2map.evaluation.masks import TOLERANCE_M, mask_notices, open_mask_split
from sat2map.evaluation.report import claimed_for_report, report_page, write_report
from sat2map.evaluation.score import (
    ImageScore,
    OnImage,
    Scores,
    Summary,
    Translate,
    read_compared,
    score_images,
    showing,
    summarise,
)
from sat2map.legend import Legend
from sat2map.model.card import ModelCard
from sat2map.raster.options import Mode, mode_of
from sat2map.translation.translator import Translator, translator_of

if TYPE_CHECKING:
    from sat2map.evaluation.perceptual import Perceptual

LEGEND_IMAGES = 20

LARGEST_SIZE = 8192
"""Pixels a side to which pairs are resized at most: above it, one takes gigabytes."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        summary: The metrics.
        failures: One error for each pair that could not be scored.
        report: The page, if one was asked for.
        perceptual: FID, KID and LPIPS, if they were asked for.
        notices: Lines that say what the metrics do not.
        saved: The page of all images, if they were to be saved.
    """

    summary: Summary
    failures: list[Sat2mapError]
    report: Path | None = None
    perceptual: Perceptual | None = None
    notices: tuple[str, ...] = ()
    saved: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as JSON's own types; those of `perceptual` have no interval."""
        metrics = self.summary.to_json()
        if self.perceptual is not None:
            metrics["perceptual"] = self.perceptual.to_json()
        return metrics

    def raise_failures(self) -> None:
        """Raise what failed, if anything did.

        Raises:
            BatchError: At least one pair could not be scored.
        """
        if self.failures:
            raise BatchError(self.failures, self.summary.images)


@checks_arguments
def evaluate(
    translator: str | Path | Translator,
    data: str | Path,
    *,
    split: str = "val",
    size: int | None = 256,
    mode: Mode = "deterministic",
    seed: int = 0,
    perceptual: bool = False,
    report: str | Path | None = None,
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    published: bool | None = None,
) -> Evaluation:
    """Score a model on all pairs of a split.

    Args:
        translator: The model: a translator, or what `load` takes.
        data: The data set.
        split: Which split.
        size: Resize both images to this side first, or None for the files as they are.
        mode: How the model predicts; "published" is with dropout and the image's own statistics.
        seed: Seed of that dropout.
        perceptual: Also FID, KID and LPIPS, whose weights are fetched on first use.
        report: A folder that gets `index.html`, one file with the metrics and a few images.
        save: Another one, which gets every source, result and target, and an `index.html` that
            shows and sorts them all.
        progress: Called with (done, all) pairs.
        published: In the version before, what `mode="published"` is.

    Returns:
        The metrics over the pairs that could be used, and the errors of the others.

    Raises:
        DataError: There is no such split, or none of its pairs can be used.
        MissingExtraError: The extra `perceptual` is asked for and not installed.
        OutputError: A folder to write into is somebody else's, or it cannot be written.
    """
    mode = mode_of(mode, published)
    translator = translator_of(translator, "translator")
    expect(data, (str, Path), "data", "Name the folder of a data set.")
    expect(size, Integral, "size", "Give pixels, or None for the files as they are.", none=True)
    expect(report, (str, Path), "report", "Name a folder.", none=True)
    expect(save, (str, Path), "save", "Name a folder.", none=True)
    data = Path(data)
    report, save = (None if folder is None else Path(folder) for folder in (report, save))
    if report is not None and save is not None and report.resolve() == save.resolve():
        raise UsageError(
            "is the folder of `report`, too, and each has a page of its own",
            where=save,
            parameter="save",
            remedy="Leave out `report`: the page of all images has its metrics, too.",
        )
    check_size(size)
    for folder in (report, save):
        if folder is not None:
            check_claimable(folder)
    if perceptual:
        from sat2map.evaluation.perceptual import measure, require_extra  # they need torch

        require_extra()
    opened = open_pair_split(data, split, translator.card, size=size)
    translate = showing(translator, mode, seed)
    with ExitStack() as stack:
        gallery = None
        if save is not None:
            gallery = stack.enter_context(opened_gallery(save, [translator.name]))
        on_image = None if gallery is None else gallery.add_from(translator.name)
        scores = opened.score(translate, progress=progress, on_image=on_image)
        if not scores.scores:
            scores.raise_failures()
        about: dict[str, Any] = {"split": split, "data": data.resolve().name}
        about["prediction"] = prediction_in_words(mode, seed)
        summary = summarise(scores.scores, opened.legend, scores.protocol | about)
        page = partial(
            report_page,
            title=f"{translator.name} on {data.resolve().name}/{split}",
            model_card=translator.card.model_dump(mode="json", exclude={"metrics"}),
            summary=summary,
            scores=scores.scores,
            failures=scores.failures,
        )
        saved = None
        if gallery is not None:
            saved = gallery.finish(page(gallery=gallery.content({translator.name: scores.scores})))
    written = None
    if report is not None:
        examples = opened.examples(translate, scores.scores)
        written = write_report(report, page(examples=examples))
    seen = None
    if perceptual:
        good = {score.name for score in scores.scores}
        again = [pair for pair in opened.files if pair.stem in good]
        seen = measure(_both(translate, again, size, opened.direction), device=translator.device)
    notices = () if opened.told is None else (_asked(data, opened.told),)
    return Evaluation(summary, scores.failures, written, seen, notices, saved)


@dataclass(frozen=True)
class PairSplit:
    """The pairs of a split, and how models are scored on them.

    Attributes:
        files: The pairs.
        size: The side both images are resized to first, or None for the files as they are.
        direction: "reverse" swaps source and target.
        legend: The classes of the targets, or None.
        told: The classes that the targets tell of, or None for all.
    """

    files: list[PairFile]
    size: int | None
    direction: Direction
    legend: Legend | None
    told: tuple[str, ...] | None

    def score(
        self,
        translate: Translate,
        *,
        progress: Callable[[int, int], None] | None = None,
        on_image: OnImage | None = None,
    ) -> Scores:
        """Score a model as `score_images` does, whose arguments these are."""
        return score_images(
            translate,
            self.files,
            size=self.size,
            direction=self.direction,
            legend=self.legend,
            told=self.told,
            progress=progress,
            on_image=on_image,
        )

    def examples(self, translate: Translate, scores: Sequence[ImageScore]) -> list[Example]:
        """Return the images worth showing, translated once more."""
        return collect_examples(
            translate, self.files, scores, size=self.size, direction=self.direction
        )


def open_pair_split(data: Path, split: str, card: ModelCard, *, size: int | None) -> PairSplit:
    """Find the pairs of a split, and what they tell, for a model.

    Args:
        data: The data set.
        split: Which split.
        card: Says in which direction the model translates, and its legend.
        size: The side both images are resized to first, or None for the files as they are.

    Raises:
        DataError: There is no such split, or its targets hold class numbers.
    """
    pairs = find_pairs(data, split)
    about = read_dataset_card(data)
    refuse_class_numbers(pairs, card.direction, about.legend)
    told = about.told if card.direction == "forward" else None
    return PairSplit(pairs, size, card.direction, legend_of(card, data), told)


def check_size(size: int | None) -> None:
    """Refuse a side, to which pairs are to be resized, that is not possible.

    Raises:
        UsageError: It is not.
    """
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise UsageError(
            f"{size} pixels a side are not possible",
            parameter="size",
            remedy=f"Give 1 to {LARGEST_SIZE}, or None for the files as they are.",
        )


def _asked(data: Path, told: Sequence[str]) -> str:
    return (
        f"{data}: the maps tell of {', '.join(told)} only; other classes, colours and edges are "
        "not compared."
    )


@checks_arguments
def evaluate_masks(
    translator: str | Path | Translator,
    data: str | Path,
    *,
    split: str = "val",
    resolution: float | Literal["native"] | None = None,
    tolerance_m: float = TOLERANCE_M,
    mode: Mode = "deterministic",
    seed: int = 0,
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    published: bool | None = None,
) -> Evaluation:
    """Score a model on the class masks of a split.

    Scored is what is on the ground (`translate(output="cover")`), or the classes of the map
    where the masks label just those.

    Args:
        translator: The model: a translator, or what `load` takes.
        data: The data set.
        split: Which split.
        resolution: Ground resolution at which the photos are shown to the model, metres per
            pixel; "native" is their own, and None their own but no finer than 0.75 m.
        tolerance_m: How far a road may lie beside the true one, in metres.
        mode: How the model predicts; "published" is with dropout and the image's own statistics.
        seed: Seed of that dropout.
        save: A folder that gets every photo as shown, the classes found and those of the mask, and
            an `index.html` that shows and sorts them all. Where the mask says nothing it is black;
            where it leaves several classes, their colours are mixed.
        progress: Called with (done, all) images.
        published: In the version before, what `mode="published"` is.

    Returns:
        The metrics over the images that could be used, and the errors of the others. Which
        classes no mask shows stands in the summary's protocol as "not_asked".

    Raises:
        DataError: There is no such split, `dataset.json` does not say what the masks mean or
            how large a pixel is, or no image can be used.
        UsageError: The model has no legend or translates maps into photos, or a number does
            not fit.
        OutputError: The folder to write into is somebody else's, or it cannot be written.
    """
    mode = mode_of(mode, published)
    translator = translator_of(translator, "translator")
    data, save = Path(data), None if save is None else Path(save)
    masks = open_mask_split(
        data, split, translator.legend, resolution=resolution, tolerance_m=tolerance_m
    )
    check_tells_classes(translator)
    if save is not None:
        check_claimable(save)
    protocol = masks.protocol
    with ExitStack() as stack:
        gallery = None
        if save is not None:
            gallery = stack.enter_context(opened_gallery(save, [translator.name]))
        scores = masks.score(
            labelling(translator, protocol.output, mode, seed),
            progress=progress,
            on_image=None if gallery is None else gallery.add_from(translator.name),
        )
        if not scores.scores:
            scores.raise_failures()
        about: dict[str, Any] = {"split": split, "data": data.resolve().name}
        about |= {"output": protocol.output, "prediction": prediction_in_words(mode, seed)}
        summary = summarise(scores.scores, protocol.legend, scores.protocol | about)
        saved = None
        if gallery is not None:
            page = report_page(
                title=f"{translator.name} on {data.resolve().name}/{split}",
                model_card=translator.card.model_dump(mode="json", exclude={"metrics"}),
                summary=summary,
                scores=scores.scores,
                failures=scores.failures,
                gallery=gallery.content({translator.name: scores.scores}),
            )
            saved = gallery.finish(page)
    notices = mask_notices(scores.protocol, translator.card.resolution_m)
    return Evaluation(summary, scores.failures, notices=notices, saved=saved)


def check_tells_classes(translator: Translator) -> None:
    """Refuse a model whose answers cannot be compared with masks.

    Raises:
        UsageError: It has no legend or translates maps into photos.
    """
    if translator.card.direction == "reverse" or translator.legend is None:
        raise UsageError(
            "the model has no classes to compare with masks",
            where=translator.name,
            remedy="Use a model with a legend that translates photos into maps.",
        )


def labelling(
    translator: Translator, output: Literal["cover", "classes"], mode: Mode, seed: int
) -> Translate:
    """Return what shows photos to a model, with its bands, and gives class numbers, uint8 [H,W]."""

    def predict(source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        source = in_bands(source, len(translator.card.bands))
        return translator.translate(source, mode=mode, seed=seed, output=output)

    return predict


def check_claimable(folder: Path) -> None:
    """Refuse a folder to write into now, and not after all the work.

    Raises:
        OutputError: It is somebody else's or not writable.
        UsageError: Another process works in it.
    """
    with claimed_for_report(folder):
        pass


def prediction_in_words(mode: Mode, seed: int) -> str:
    """Return how a model predicts, to stand in the protocol."""
    return f"as published, seed {seed}" if mode == "published" else "deterministic"


def _both(
    translate: Translate, pairs: list[PairFile], size: int | None, direction: Direction
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield the generated and the true image of each pair."""
    for pair in pairs:
        source, target, _ = read_compared(pair, direction, size)
        yield translate(source), target


def legend_of(card: ModelCard, data: Path) -> Legend | None:
    """Return the legend of a model, or else of a data set's maps: told, or found on them."""
    if card.legend is not None:
        return card.legend
    direction = card.direction
    told = read_dataset_card(data).legend
    if told is not None and direction == "forward":
        return told
    pairs = find_pairs(data, "train" if (data / "train").is_dir() else "val")
    some = pairs[:: max(1, len(pairs) // LEGEND_IMAGES)]
    targets = []
    for pair in some:
        try:
            target = read_pair(pair, direction)[1]
        except Sat2mapError:
            continue  # the others tell as much
        if target.shape[2] == 3:
            targets.append(target)
    return find_legend(targets)
