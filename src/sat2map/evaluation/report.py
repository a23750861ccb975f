"""The report of an evaluation: one HTML file that holds its metrics and its images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from sat2map.atomic import sweep, write_text
from sat2map.errors import Sat2mapError
from sat2map.evaluation.examples import (
    ERROR_LIMIT,
    Example,
    colour_map,
    data_url,
    paint_error,
    ranking_metric,
)
from sat2map.evaluation.score import UNITS, ImageScore, Interval, Summary
from sat2map.journal import HIDDEN, Journal, claim

PAGE = "index.html"
BINS = 24
UNIT = (0.0, 1.0)


HIGHER = "higher is better"
LOWER = "lower is better"
ONE = "1 is right"


@dataclass(frozen=True)
class Metric:
    """The entry of a metric on the page.

    Attributes:
        name: Its name in `Summary.metrics`.
        label: Its name for people.
        meaning: What it says, in a few words.
        aim: What is good.
        digits: Digits after the point.
        scale: The range that its distribution is drawn over; None for that of its values.
    """

    name: str
    label: str
    meaning: str
    aim: str = HIGHER
    digits: int = 3
    scale: tuple[float, float] | None = UNIT


STRUCTURE = (
    Metric("road_cldice", "Road clDice", "centre lines that lie on the other map's roads"),
    Metric("road_completeness", "Road completeness", "true roads that were found, within 3 px"),
    Metric("road_correctness", "Road correctness", "drawn roads that are true, within 3 px"),
    Metric(
        "road_components_difference", "Road parts", "difference in the number of connected parts",
        LOWER, 1, None,
    ),
    Metric(
        "road_loops_difference", "Road loops", "difference in the number of closed blocks",
        LOWER, 1, None,
    ),
    Metric("mean_iou", "Mean class IoU", "area that both maps give to the same class"),
    Metric("mean_iou_2px", "Mean class IoU, 2 px", "the same, where a boundary may be 2 px off"),
    Metric("edge_f1", "Edge F1", "lines of either map that the other has within 2 px"),
    Metric(
        "edge_density", "Edge density", "drawn edges for each true one; haze has none",
        ONE, 3, None,
    ),
    Metric("highway_f1", "Highway F1", "main roads' colour that the other map has within 2 px"),
    Metric(
        "highway_ratio", "Highway ratio", "pixels of that colour for each one that is true",
        ONE, 3, None,
    ),
)  # fmt: skip
PIXELS = (
    Metric("l1", "L1", "mean absolute error, of 255", LOWER, 2, None),
    Metric("rmse", "RMSE", "root of the mean squared error, of 255", LOWER, 2, None),
    Metric("psnr", "PSNR", "peak signal-to-noise ratio, dB", HIGHER, 2, None),
    Metric("ssim", "SSIM", "structural similarity, 7x7 window"),
    Metric("acc_5", "acc@5", "pixels with no channel off by 5 or more"),
    Metric("acc_10", "acc@10", "pixels with no channel off by 10 or more"),
)
SHOWN = ("road_cldice", "mean_iou", "edge_f1", "edge_density", "ssim", "l1")
METRICS = {metric.name: metric for metric in STRUCTURE + PIXELS}


def unit_and_aim(name: str) -> str:
    """Return the unit of a metric, and what is good where it is not more."""
    metric = METRICS.get(name)  # those of single classes are not in it: shares, more is better
    aim = metric.aim if metric is not None and metric.aim != HIGHER else ""
    return ", ".join(filter(None, (UNITS.get(name, ""), aim)))


def write_report(directory: Path, page: str) -> Path:
    """Write the page of an evaluation into a folder.

    Args:
        directory: The folder it is put in; made if need be.
        page: What `report_page` returned; it holds all it shows and needs no other file.

    Returns:
        The path of index.html.

    Raises:
        OutputError: The folder is somebody else's, or cannot be written to.
        UsageError: Another process works in it.
    """
    path = directory / PAGE
    with claimed_for_report(directory) as journal:
        sweep(directory)
        journal.start()
        journal.begin(PAGE)
        write_text(path, page)
    return path


def report_page(
    *,
    title: str,
    model_card: Mapping[str, Any],
    summary: Summary,
    scores: Sequence[ImageScore],
    examples: Sequence[Example] = (),
    gallery: Mapping[str, Any] | None = None,
    failures: Sequence[Sat2mapError] = (),
) -> str:
    """Return the page of an evaluation.

    Args:
        title: The page's heading, for example the model's and the data set's names.
        model_card: What to say about the model; values of JSON's types.
        summary: The metrics, from `summarise`.
        scores: Those of each image, for distributions and the table of all images.
        examples: The images to show, from `collect_examples`.
        gallery: All images, from `Gallery.content`, which lie beside the page.
        failures: What could not be scored.
    """
    ranking = ranking_metric(scores)
    columns = [METRICS[name] for name in SHOWN if name in summary.metrics]
    return render(
        title=title,
        images=summary.images,
        failures=failures,
        gallery=gallery,
        headline=_headline(summary),
        tables=[
            ("Structure", "what a map is for", _rows(STRUCTURE, summary, scores)),
            (
                "Pixels",
                "guard-rails: blurred images do well here",
                _rows(PIXELS, summary, scores),
            ),
        ],
        classes=_class_rows(summary),
        histograms=[_histogram(metric, scores) for metric in columns],
        ranking=METRICS[ranking].label,
        groups=_groups(examples, ranking),
        columns=columns,
        per_image=[
            (score.name, [number(score.values.get(f.name), f.digits) for f in columns])
            for score in scores
        ],
        cards=[("Model", in_rows(model_card))],
        protocol=in_rows(summary.protocol),
    )


_NOTHING: dict[str, Any] = {
    "comparison": None,
    "headline": [],
    "tables": [],
    "classes": [],
    "histograms": [],
    "ranking": "",
    "groups": [],
    "columns": [],
    "per_image": [],
    "cards": [],
}
"""The parts that a page may lack."""


def render(
    *,
    title: str,
    images: int,
    failures: Sequence[Sat2mapError],
    gallery: Mapping[str, Any] | None,
    **parts: Any,
) -> str:
    """Return the page of an evaluation or of a comparison; what is not given is left out.

    Args:
        title: Its heading.
        images: How many images were compared.
        failures: What could not be scored.
        gallery: All images, or None.
        parts: The other parts, as `report.html.jinja` takes them.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("sat2map.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        _NOTHING
        | {
            "title": title,
            "version": version("sat2map"),
            "images": images,
            "failures": [str(failure) for failure in failures],
            "gallery": gallery,
            "error_limit": ERROR_LIMIT,
            "error_stops": ", ".join(
                f"rgb({r} {g} {b})" for r, g, b in colour_map()[::15].tolist()
            ),
        }
        | parts
    )


def in_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of a model or a protocol as rows for people, without the legend."""
    return [
        (key, _in_words(value))
        for key, value in facts.items()
        if key != "legend" and (key, value) != ("cover", None)
    ]


def claimed_for_report(directory: Path) -> AbstractContextManager[Journal]:
    """Claim a folder for a report, which is new, empty or an earlier report's.

    Raises:
        OutputError: It is somebody else's or not writable.
        UsageError: Another process works in it.
    """
    return claim(directory, "sat2map evaluate", {}, earlier=_of_older_versions)


def _of_older_versions(directory: Path) -> dict[str, Any] | None:
    """Return the page, where a version without journals wrote it and nothing else is there."""
    try:
        page = (directory / PAGE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    others = {path.name for path in directory.iterdir()} - {PAGE, HIDDEN}
    return {PAGE: None} if "<footer>sat2map " in page and not others else None


def _headline(summary: Summary) -> list[dict[str, str]]:
    """Return the few metrics that stand large at the top."""
    chosen = [name for name in SHOWN if name in summary.metrics][:4]
    return [
        {
            "label": METRICS[name].label,
            "aim": METRICS[name].aim,
            "mean": number(summary.metrics[name].mean, METRICS[name].digits),
            "range": value_range(summary.metrics[name], METRICS[name].digits),
        }
        for name in chosen
    ]


def _rows(
    metrics: Sequence[Metric], summary: Summary, scores: Sequence[ImageScore]
) -> list[dict[str, Any]]:
    rows = []
    for metric in metrics:
        interval = summary.metrics.get(metric.name)
        if interval is None:
            continue
        rows.append(
            {
                "metric": metric,
                "mean": number(interval.mean, metric.digits),
                "range": value_range(interval, metric.digits),
                "images": sum(metric.name in score.values for score in scores),
                "whisker": interval if metric.scale == UNIT else None,
            }
        )
    return rows


def _class_rows(summary: Summary) -> list[dict[str, Any]]:
    rows = []
    for entry in summary.protocol.get("legend") or []:
        found = summary.class_iou.get(entry["name"])
        if found is None:
            continue
        red, green, blue = entry["colour"]
        rows.append(
            {
                "name": entry["name"].replace("_", " "),
                "colour": f"rgb({red} {green} {blue})",
                "road": entry["road"],
                "whisker": found["iou"],
                "metrics": [
                    (number(found[kind].mean, 3), value_range(found[kind], 3))
                    for kind in ("iou", "iou_2px")
                    if kind in found
                ],
            }
        )
    return rows


def _histogram(metric: Metric, scores: Sequence[ImageScore]) -> dict[str, Any]:
    """Return the distribution of a metric over images, ready to draw."""
    values = np.array([s.values[metric.name] for s in scores if metric.name in s.values])
    low, high = metric.scale or (min(0.0, float(values.min())), float(values.max()))
    low = min(low, float(values.min()))
    high = high if high > low else low + 1
    counts, borders = np.histogram(values, bins=BINS, range=(low, high))
    median = float(np.median(values))
    return {
        "metric": metric,
        "bars": [
            {
                "left": index / BINS,
                "height": float(count / counts.max()),
                "count": int(count),
                "from": number(float(borders[index]), metric.digits),
                "to": number(float(borders[index + 1]), metric.digits),
            }
            for index, count in enumerate(counts)
        ],
        "low": number(low, 0 if float(low).is_integer() else 2),
        "high": number(high, 0 if float(high).is_integer() else 2),
        "median": number(median, metric.digits),
        "median_at": (median - low) / (high - low),
    }


def _groups(examples: Sequence[Example], ranking: str) -> list[dict[str, Any]]:
    groups = []
    for place in ("best", "median", "worst"):
        shown = [
            {
                "name": example.score.name,
                "metrics": [
                    (METRICS[name].label, number(example.score.values[name], METRICS[name].digits))
                    for name in dict.fromkeys((ranking, *SHOWN))
                    if name in example.score.values
                ],
                "images": [
                    ("source", data_url(example.source)),
                    ("generated", data_url(example.generated)),
                    ("true", data_url(example.true)),
                    ("error", data_url(paint_error(example.generated, example.true))),
                ],
            }
            for example in examples
            if example.place == place
        ]
        if shown:
            groups.append({"place": place, "examples": shown})
    return groups


def number(value: float | None, digits: int) -> str:
    """Return a metric for people, a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def value_range(interval: Interval, digits: int) -> str:
    """Return an interval for people."""
    return f"{interval.low:.{digits}f} – {interval.high:.{digits}f}"


def _in_words(value: Any) -> str:
    """Return a value of JSON's types as a person would write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_in_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(inner) for inner in value)
    return json.dumps(value)
