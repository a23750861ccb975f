"""Two or more models on the same images, with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.errors import BatchError, Sat2mapError, UsageError
from sat2map.evaluation.evaluate import (
    PairSplit,
    check_claimable,
    check_size,
    check_tells_classes,
    labelling,
    open_pair_split,
    prediction_in_words,
)
from sat2map.evaluation.gallery import goodness, opened_gallery
from sat2map.evaluation.masks import TOLERANCE_M, MaskSplit, open_mask_split
from sat2map.evaluation.report import (
    METRICS,
    Metric,
    in_rows,
    number,
    render,
    value_range,
)
from sat2map.evaluation.score import (
    IOU,
    ImageScore,
    Interval,
    Summary,
    Translate,
    interval,
    resampled,
    showing,
    summarise,
)
from sat2map.raster.options import Mode
from sat2map.translation.translator import Translator, translator_of


@dataclass(frozen=True)
class Comparison:
    """The metrics of several models over the same images.

    Attributes:
        models: What people call them, in the order they were given.
        summaries: The metrics of each.
        differences: For each model but the first, each metric less that of the first. Their
            intervals are paired: both models are taken over the same resampled images.
        failures: One error for each pair that a model could not be scored on; no model counts
            such a pair.
        saved: The page of all images, if they were to be saved.
    """

    models: tuple[str, ...]
    summaries: tuple[Summary, ...]
    differences: tuple[dict[str, Interval], ...]
    failures: list[Sat2mapError]
    saved: Path | None = None

    @property
    def metrics(self) -> list[str]:
        """The metrics that every model has."""
        first, *others = self.summaries
        return [name for name in first.metrics if all(name in one.metrics for one in others)]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types, by the models' names."""
        return {
            "models": {
                model: summary.to_json()
                for model, summary in zip(self.models, self.summaries, strict=True)
            },
            "differences": {
                model: {name: vars(value) for name, value in difference.items()}
                for model, difference in zip(self.models[1:], self.differences, strict=True)
            },
        }

    def raise_failures(self) -> None:
        """Raise what failed, if anything did.

        Raises:
            BatchError: At least one pair could not be scored.
        """
        if self.failures:
            raise BatchError(self.failures, self.summaries[0].images)


@checks_arguments
def compare(
    models: Mapping[str, str | Path | Translator],
    data: str | Path,
    *,
    split: str = "val",
    size: int | None = 256,
    mode: Mode = "deterministic",
    seed: int = 0,
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Score several models on all pairs of a split, and tell how they differ.

    All are judged by one legend: that of the first model that has one, or else the data's.

    Args:
        models: The models, at least two, by what people call them, each a translator or what
            `load` takes; the others are compared with the first.
        data: The data set.
        split: Which split.
        size: Resize both images to this side first, or None for the files as they are.
        mode: How the models predict; "published" is with dropout and the image's own statistics.
        seed: Seed of that dropout.
        save: A folder that gets every source, result and target, and an `index.html` that shows
            them side by side.
        progress: Called with (done, all) pairs, of all models together.

    Raises:
        DataError: There is no such split, or none of its pairs can be used.
        UsageError: There are fewer than two models, or they translate in different directions.
        OutputError: The folder is somebody else's, or it cannot be written.
    """
    check_size(size)
    loaded, data, save = _checked(models, data, save)
    cards = [translator.card for translator in loaded.values()]
    card = next((card for card in cards if card.legend is not None), cards[0])
    opened = open_pair_split(data, split, card, size=size)
    answers = {name: showing(translator, mode, seed) for name, translator in loaded.items()}
    about = {"split": split, "data": data.resolve().name}
    about["prediction"] = prediction_in_words(mode, seed)
    return _compared(loaded, data, opened, answers, about, save=save, progress=progress)


@checks_arguments
def compare_masks(
    models: Mapping[str, str | Path | Translator],
    data: str | Path,
    *,
    split: str = "val",
    resolution: float | Literal["native"] | None = None,
    tolerance_m: float = TOLERANCE_M,
    mode: Mode = "deterministic",
    seed: int = 0,
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Score several models on the class masks of a split, and tell how they differ.

    Compared is what is on the ground, or the classes of the map where the masks label just those
    and all models draw them.

    Args:
        models: As for `compare`.
        data: The data set.
        split: Which split.
        resolution: As for `evaluate_masks`, like the tolerance.
        tolerance_m: How far a road may lie beside the true one, in metres.
        mode: As for `compare`, like all that follow.
        seed: Seed of the dropout.
        save: A folder for all images and their page.
        progress: Called with (done, all) images, of all models together.

    Raises:
        DataError: As for `evaluate_masks`.
        UsageError: There are fewer than two models, one has no classes, or a number does not fit.
        OutputError: The folder is somebody else's, or it cannot be written.
    """
    loaded, data, save = _checked(models, data, save)
    for translator in loaded.values():
        check_tells_classes(translator)
    first, *others = (translator.legend for translator in loaded.values())
    assert first is not None
    alike = all(other is not None and other.names == first.names for other in others)
    opened = open_mask_split(
        data, split, first if alike else None, resolution=resolution, tolerance_m=tolerance_m
    )
    output = opened.protocol.output
    answers = {name: labelling(one, output, mode, seed) for name, one in loaded.items()}
    about = {"split": split, "data": data.resolve().name, "output": output}
    about["prediction"] = prediction_in_words(mode, seed)
    return _compared(loaded, data, opened, answers, about, save=save, progress=progress)


def _compared(
    models: Mapping[str, Translator],
    data: Path,
    opened: PairSplit | MaskSplit,
    answers: Mapping[str, Translate],
    about: dict[str, str],
    *,
    save: Path | None,
    progress: Callable[[int, int], None] | None,
) -> Comparison:
    """Score the answers of all models on the same images, and put the scores together.

    Args:
        models: The models by name.
        data: The data set.
        opened: Its split.
        answers: What shows an image to each model.
        about: What the protocol says besides.
        save: As for `compare`.
        progress: As for `compare`.
    """
    count, legend = len(opened.files), opened.legend
    scored: dict[str, list[ImageScore]] = {}
    failures: list[Sat2mapError] = []
    with ExitStack() as stack:
        gallery = None if save is None else stack.enter_context(opened_gallery(save, list(models)))
        for at, (name, answer) in enumerate(answers.items()):
            scores = opened.score(
                answer,
                progress=_part(progress, at * count, len(models) * count),
                on_image=None if gallery is None else gallery.add_from(name),
            )
            if not scores.scores:
                scores.raise_failures()
            scored[name] = scores.scores
            known = {str(failure) for failure in failures}
            failures += [failure for failure in scores.failures if str(failure) not in known]
        scored = _in_common(scored)
        summaries = [summarise(one, legend, scores.protocol | about) for one in scored.values()]
        before, *others = (resampled(one, legend) for one in scored.values())
        differences = [_difference(before, other) for other in others]
        result = Comparison(tuple(models), tuple(summaries), tuple(differences), failures)
        if gallery is None:
            return result
        page = _page(result, models, data, gallery.content(scored))
        return Comparison(**vars(result) | {"saved": gallery.finish(page)})


def _checked(
    given: Mapping[str, str | Path | Translator], data: str | Path, save: str | Path | None
) -> tuple[dict[str, Translator], Path, Path | None]:
    """Check what can be compared before all the work; return the models and both folders."""
    models = {name: translator_of(model, "models") for name, model in given.items()}
    if len(models) < 2:
        raise UsageError(
            "there is nothing to compare with", parameter="models", remedy="Name two models."
        )
    directions = {name: translator.card.direction for name, translator in models.items()}
    (first, direction), *others = directions.items()
    for name, other in others:
        if other != direction:
            raise UsageError(
                f"translates {other}, but {first} {direction}",
                where=name,
                remedy="Compare models of one direction.",
            )
    if save is not None:
        check_claimable(Path(save))
    return models, Path(data), None if save is None else Path(save)


def _part(
    progress: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int, int], None] | None:
    """Return what shows the progress of one model as a part of that of all."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _in_common(scored: Mapping[str, Sequence[ImageScore]]) -> dict[str, list[ImageScore]]:
    """Return the scores of the images that every model was scored on.

    Raises:
        UsageError: There is none.
    """
    names = [{score.name for score in scores} for scores in scored.values()]
    common = set.intersection(*names)
    if not common:
        raise UsageError(
            "there is no image that all models can be scored on",
            remedy="Compare models of the same kind of images.",
        )
    return {
        model: [score for score in scores if score.name in common]
        for model, scores in scored.items()
    }


def _difference(
    before: Mapping[str, NDArray[np.float64]], other: Mapping[str, NDArray[np.float64]]
) -> dict[str, Interval]:
    return {name: interval(other[name] - before[name]) for name in before if name in other}


def _page(
    result: Comparison,
    models: Mapping[str, Translator],
    data: Path,
    gallery: Mapping[str, Any],
) -> str:
    summary = result.summaries[0]
    return render(
        title=f"{' and '.join(result.models)} on {data.resolve().name}/{summary.protocol['split']}",
        images=summary.images,
        failures=result.failures,
        gallery=gallery,
        comparison={
            "models": result.models,
            "others": result.models[1:],
            "remark": "Below each mean stands its 95 % interval over images. Those of differences "
            "are paired: both models are taken over the same images. A difference in colour has an "
            "interval without 0; green is better.",
            "rows": [_row(result, metric) for metric in _shown(result)],
        },
        cards=[
            (name, in_rows(translator.card.model_dump(mode="json", exclude={"metrics"})))
            for name, translator in models.items()
        ],
        protocol=in_rows(summary.protocol),
    )


def _shown(result: Comparison) -> list[Metric]:
    """Return what the page tells of the metrics that all models have, in its order."""
    shared = result.metrics
    classes = [
        Metric(f"{kind}_{name}", f"IoU {name.replace('_', ' ')}{remark}", "")
        for kind, remark in zip(IOU, ("", ", 2 px"), strict=True)
        for name in result.summaries[0].class_iou
    ]
    return [metric for metric in [*METRICS.values(), *classes] if metric.name in shared]


def _row(result: Comparison, metric: Metric) -> dict[str, Any]:
    name = metric.name
    found = [summary.metrics[name] for summary in result.summaries]
    first = goodness(metric, found[0].mean)
    differences = []
    for after, difference in zip(found[1:], result.differences, strict=True):
        own, told = goodness(metric, after.mean), difference[name]
        verdict = ""
        if told.low * told.high > 0 and own is not None and first is not None:
            verdict = "better" if own > first else "worse"
        low, mean, high = (
            f"{value:+.{metric.digits}f}".replace("-", "\N{MINUS SIGN}")
            for value in (told.low, told.mean, told.high)
        )
        differences.append((mean, f"{low} to {high}", verdict))
    return {
        "label": metric.label,
        "aim": metric.aim,
        "models": [
            (number(one.mean, metric.digits), value_range(one, metric.digits)) for one in found
        ],
        "differences": differences,
    }
