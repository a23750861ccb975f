"""Scores of many images: each by itself, and all together with intervals.

The protocol for metrics at a size: each half of a pair is resized straight to that size with
Pillow's bicubic and rounded to 8 bits; every metric is taken per image and then averaged
over the images where it is defined, but for the class IoU, whose intersections and unions
are summed over all images. Without a size the files are compared as they are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import deprecated

from sat2map.data.images import in_bands, resize_square, three_bands
from sat2map.data.pairs import Direction, PairFile, read_pair
from sat2map.errors import BatchError, DataError, Sat2mapError
from sat2map.evaluation import classes, edges, roads
from sat2map.evaluation import images as image
from sat2map.evaluation.classes import Agreement
from sat2map.legend import Legend
from sat2map.raster.options import Mode
from sat2map.translation.translator import Translator

RESAMPLES = 1000
HIGHWAY_LEAST = 0.001
IOU = ("iou", "iou_2px")
"""The metrics of a class, without and with a tolerance of 2 pixels on boundaries."""

UNITS = {"l1": "of 255", "rmse": "of 255", "psnr": "dB"}
"""Of the metrics that are neither shares nor ratios nor counts."""

Pixels = NDArray[np.uint8]
Translate = Callable[[Pixels], Pixels]
OnImage = Callable[[str, Pixels, Pixels, Pixels, "ImageScore"], None]


@dataclass(frozen=True)
class ImageScore:
    """The metrics of one image.

    Attributes:
        name: The pair's stem.
        values: Each metric by its name; what is not defined for this image is absent.
        agreement: Pixels of each class that agree, or None without a legend.
        tolerant: The same with a 2-pixel tolerance on boundaries, or None.
    """

    name: str
    values: dict[str, float]
    agreement: Agreement | None = None
    tolerant: Agreement | None = None


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % interval over images."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """The metrics of all images together.

    Attributes:
        images: How many images there were.
        protocol: How the metrics were taken, ready for JSON.
        metrics: Each metric by its name; what is defined for no image is absent. Shares,
            IoU and F1 are 0 to 1, l1 and rmse on the 8-bit scale, psnr in dB.
        class_iou: For each class that occurs, its IoU as "iou", with a tolerance of 2
            pixels on boundaries as "iou_2px". Empty without a legend.
    """

    images: int
    protocol: dict[str, Any]
    metrics: dict[str, Interval]
    class_iou: dict[str, dict[str, Interval]] = field(default_factory=dict)

    @property
    @deprecated("pictures is now called images")
    def pictures(self) -> int:
        """How many images there were, as `images`."""
        return self.images

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types; a metric is {"mean", "low", "high"}.

        The number of images is called "pictures", as in the first versions.
        """
        entries = asdict(self)
        return {"pictures": entries.pop("images")} | entries


@dataclass(frozen=True)
class Scores:
    """The scores of a batch, and what could not be scored.

    Attributes:
        scores: One for each pair that could be read and translated, in their order.
        failures: One error for each pair that could not.
        protocol: How the metrics were taken, ready for JSON.
    """

    scores: list[ImageScore]
    failures: list[Sat2mapError]
    protocol: dict[str, Any]

    def raise_failures(self) -> None:
        """Raise what failed, if anything did.

        Raises:
            BatchError: At least one pair could not be scored.
        """
        if self.failures:
            raise BatchError(self.failures, len(self.scores))


def score_images(
    translate: Translate,
    pairs: Sequence[PairFile],
    *,
    size: int | None,
    direction: Direction = "forward",
    legend: Legend | None = None,
    told: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_image: OnImage | None = None,
) -> Scores:
    """Translate the source of each pair and compare the answer with its target.

    A pair that cannot be used does not stop the others. Scoring overlaps with the
    translation of the next image; the callbacks come in the caller's thread, in order.

    Args:
        translate: uint8 [H,W,C] to uint8 [H,W,C'].
        pairs: What to score.
        size: The side both are resized to, in pixels, or None to take them as they are.
        direction: "reverse" swaps source and target.
        legend: The classes of the targets; None leaves out class and road metrics, and so
            does a target that has not three bands.
        told: The classes that the targets tell of, where they do not tell of all: then these are
            scored, and nothing else.
        progress: Called with how many pairs are done and how many there are.
        on_image: Called with the stem, the source, the generated and the true image as
            compared, and their score.
    """
    scores: list[ImageScore] = []
    failures: list[Sat2mapError] = []
    waiting: deque[tuple[Pixels, Pixels, Pixels, Future[ImageScore]]] = deque()

    def finish() -> None:
        source, generated, target, future = waiting.popleft()
        score = future.result()
        scores.append(score)
        if on_image is not None:
            on_image(score.name, source, generated, target, score)
        if progress is not None:
            progress(len(scores) + len(failures), len(pairs))

    with ThreadPoolExecutor(max_workers=1) as pool:
        for pair in pairs:
            try:
                source, target, native = read_compared(pair, direction, size)
                generated = translate(source)
                _check_shape(pair, generated, target)
            except Sat2mapError as error:
                failures.append(named(error, pair.source))
                if progress is not None:
                    progress(len(scores) + len(failures), len(pairs))
                continue
            future = pool.submit(score_image, pair.stem, generated, target, native, legend, told)
            waiting.append((source, generated, target, future))
            if len(waiting) > 1:
                finish()
        while waiting:
            finish()
    protocol = describe_protocol(size, direction, legend)
    if told is not None:
        protocol["told"] = list(told)
    return Scores(scores, failures, protocol)


def showing(translator: Translator, mode: Mode = "deterministic", seed: int = 0) -> Translate:
    """Return what shows images to a model with its bands, and its maps as targets are read.

    To a model of one band images are shown as grey; grey maps get three equal bands.

    Args:
        translator: The model.
        mode: How it predicts.
        seed: Seed of the dropout as published.
    """

    def translate(source: Pixels) -> Pixels:
        source = in_bands(source, len(translator.card.bands))
        answer = translator.translate(source, mode=mode, seed=seed)
        return three_bands(answer) if answer.shape[2] == 1 else answer

    return translate


def read_compared(
    pair: PairFile, direction: Direction, size: int | None
) -> tuple[Pixels, Pixels, Pixels]:
    """Return source and target at the compared size, and the target as it is in the file.

    Args:
        pair: The files.
        direction: "reverse" swaps source and target.
        size: The side of both in pixels, or None to take them as they are.

    Raises:
        DataError: As for `read_pair`.
    """
    source, native = read_pair(pair, direction)
    if size is None:
        return source, native, native
    return resize_square(source, size), resize_square(native, size), native


def score_image(
    name: str,
    generated: Pixels,
    true: Pixels,
    native_true: Pixels,
    legend: Legend | None,
    told: Sequence[str] | None = None,
) -> ImageScore:
    """Return every metric of one image.

    Args:
        name: What to call it.
        generated: uint8 [H,W,C].
        true: The true image at the compared size, uint8 [H,W,C].
        native_true: The true image as it is in the data set, uint8 [H',W',C]: classes are
            labelled there, where the colours are pure.
        legend: The classes, or None to leave out the class and road metrics. It is not used
            where C is not 3.
        told: The classes that the target tells of, where it does not tell of all.
    """
    if told is not None and legend is not None and true.shape[2] == 3:
        # Where it shows another class anything may be, so images and edges are not compared.
        asked = np.isin(legend.names, list(told))
        return _score_classes(name, generated, true, native_true, legend, asked)
    generated_edges, true_edges = edges.edges(generated), edges.edges(true)
    values = {
        "l1": image.l1(generated, true),
        "rmse": image.rmse(generated, true),
        "psnr": image.psnr(generated, true),
        "ssim": image.ssim(generated, true),
        "acc_5": image.accuracy(generated, true, 5),
        "acc_10": image.accuracy(generated, true, 10),
        "edge_f1": edges.f1(generated_edges, true_edges),
        "edge_density": edges.edge_density(generated_edges, true_edges),
    }
    if legend is None or true.shape[2] != 3:
        return ImageScore(name, _defined(values))

    asked = np.ones(len(legend), np.bool_)
    of_classes = _score_classes(name, generated, true, native_true, legend, asked)
    values |= of_classes.values
    colour = edges.outstanding_road(legend)
    if colour is not None:
        drawn, there = edges.in_colour(generated, colour), edges.in_colour(true, colour)
        values["highway_f1"] = edges.f1(drawn, there)
        if there.mean() >= HIGHWAY_LEAST:  # a ratio to a few stray pixels says nothing
            values["highway_ratio"] = edges.edge_density(drawn, there)
    return replace(of_classes, values=_defined(values))


def _score_classes(
    name: str,
    generated: Pixels,
    true: Pixels,
    native_true: Pixels,
    legend: Legend,
    asked: NDArray[np.bool_],
) -> ImageScore:
    """Return the metrics of classes and roads, as `score_image` takes them.

    Args:
        name: What to call the image.
        generated: As for `score_image`, like the next two.
        true: The true image at the compared size.
        native_true: The true image as it is in the data set.
        legend: The classes.
        asked: Which of them are scored, bool [K].
    """
    truth = classes.true_classes(native_true, legend, *true.shape[:2])
    labels = legend.label(generated)
    exact = classes.agreement(labels, truth.labels, len(legend)).of(asked)
    tolerance = classes.BOUNDARY_TOLERANCE
    tolerant = classes.agreement(labels, truth.labels, len(legend), tolerance).of(asked)
    values = {}
    for metric, counts in (("mean_iou", exact), ("mean_iou_2px", tolerant)):
        occurring = _occurring(classes.iou(counts))
        values[metric] = float(np.mean(occurring)) if occurring.size else math.nan
    if asked[legend.roads].any():  # a kind of road that the ground lacks is not told either
        network = roads.compare_roads(legend.roads[labels], truth.road)
        values |= {f"road_{metric}": value for metric, value in asdict(network).items()}
    return ImageScore(name, _defined(values), exact, tolerant)


def summarise(
    scores: Sequence[ImageScore],
    legend: Legend | None,
    protocol: Mapping[str, Any] | None = None,
) -> Summary:
    """Put the scores of images together.

    The intervals are 95 % percentile intervals of a bootstrap over images, 1000 resamples
    with a fixed seed: they say how much the metrics would swing with other images of the
    same kind, not with another training run.

    Args:
        scores: What `score_images` gave.
        legend: The legend they were scored with.
        protocol: How the metrics were taken, `Scores.protocol`.
    """
    metrics = {name: interval(values) for name, values in resampled(scores, legend).items()}
    class_iou: dict[str, dict[str, Interval]] = {}
    for name in () if legend is None else legend.names:
        found = {kind: metrics[f"{kind}_{name}"] for kind in IOU if f"{kind}_{name}" in metrics}
        if found:
            class_iou[name] = found
    return Summary(len(scores), dict(protocol or {}), metrics, class_iou)


def resampled(
    scores: Sequence[ImageScore], legend: Legend | None
) -> dict[str, NDArray[np.float64]]:
    """Return each metric over the images, and over 1000 resamples of them.

    Equally many images are resampled alike, so that the metrics of two models over the same images
    can be subtracted resample by resample.

    Args:
        scores: What `score_images` gave.
        legend: The legend they were scored with.

    Returns:
        By the names of metrics float64 [1 + 1000]; the first value is that of the images
        themselves. nan where no image of a resample defines it.
    """
    if not scores:
        return {}
    drawn = _resamples(len(scores))
    metrics = {}
    for metric in dict.fromkeys(name for score in scores for name in score.values):
        values = np.array([score.values.get(metric, math.nan) for score in scores])
        known = ~np.isnan(values)
        sums = drawn @ np.where(known, values, 0.0)
        metrics[metric] = _divide(sums, drawn @ known)

    for suffix, told in (
        ("", [score.agreement for score in scores]),
        ("_2px", [score.tolerant for score in scores]),
    ):
        counts = [count for count in told if count is not None]
        if legend is None or len(counts) != len(scores):
            continue
        both = drawn @ np.array([count.intersections for count in counts])
        either = drawn @ np.array([count.unions for count in counts])
        values = _divide(both, either)
        occurring = ~np.isnan(values)
        if not occurring[0].any():
            continue
        means = _divide(np.where(occurring, values, 0.0).sum(axis=1), occurring.sum(axis=1))
        metrics[f"mean_iou{suffix}"] = means
        for number, name in enumerate(legend.names):
            if occurring[0, number]:
                metrics[f"iou{suffix}_{name}"] = values[:, number]
    return metrics


def bootstrap(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quotients of sums over a sample, and over resamples of it; nan for none of it.

    Args:
        above: float64 [N,K], what N images or tiles have of K numerators.
        below: float64 [N,K], and of the denominators.

    Returns:
        float64 [1 + 1000,K]; the first row is the sample itself. `interval` takes a column.
    """
    drawn = _resamples(len(above))
    return _divide(drawn @ above, drawn @ below)


def _resamples(count: int) -> NDArray[np.int64]:
    """Return how often each of a sample is drawn, int64 [1 + 1000,N]; in the first row once."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.vstack([np.ones(count, np.int64), drawn])


def describe_protocol(
    size: int | None, direction: Direction, legend: Legend | None
) -> dict[str, Any]:
    """Return how metrics are taken, in JSON's own types, to stand beside them."""
    return {
        "size": size,
        "resize": None if size is None else "bicubic (Pillow), straight to size x size, 8 bits",
        "direction": direction,
        "scored": "uint8 image, relabelled by nearest legend colour in CIE Lab",
        "averaged": "per image, then over the images where defined; class IoU summed",
        "interval": f"95 %, bootstrap over images, {RESAMPLES} resamples",
        "legend": None if legend is None else legend.to_json(),
    }


def _check_shape(pair: PairFile, generated: Pixels, target: Pixels) -> None:
    if generated.shape != target.shape:
        raise DataError(
            f"the model answers with {_shape(generated)}, but the target has {_shape(target)}",
            where=pair.target,
            remedy="Evaluate the model on data of the kind, and in the direction, that it was "
            "trained for.",
        )


def _shape(pixels: Pixels) -> str:
    height, width, bands = pixels.shape
    return f"{width} x {height} pixels in {bands} bands"


def named(error: Sat2mapError, path: Path) -> Sat2mapError:
    """Return the error with a file as its place where it names none."""
    if error.where is not None:
        return error
    return DataError(error.what, where=path, remedy=error.remedy, parameter=error.parameter)


def _defined(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}


def _occurring(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _divide(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    quotient = np.full(above.shape, math.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the first value, that of the sample, with the 95 % range of the resampled ones.

    A nan is not a value.
    """
    resampled = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(resampled, [0.025, 0.975]) if resampled.size else (values[0],) * 2
    return Interval(float(values[0]), float(low), float(high))
