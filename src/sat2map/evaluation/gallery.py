"""Every image of an evaluation on disk, beside the page that shows and sorts them all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import sweep, write_text
from sat2map.data.images import three_bands, write_image
from sat2map.evaluation.report import (
    LOWER,
    METRICS,
    ONE,
    PAGE,
    SHOWN,
    Metric,
    claimed_for_report,
    number,
)
from sat2map.evaluation.score import ImageScore, OnImage
from sat2map.journal import Journal

Pixels = NDArray[np.uint8]


class Gallery:
    """Writes source, results and target of each image into a folder, and its page at the end.

    `FOLDER/source/NAME.png`, `FOLDER/target/NAME.png` and `FOLDER/result/NAME.png`, or with
    several models `FOLDER/result/MODEL/NAME.png`, at the size they are compared at. The first three
    bands are written.

    Args:
        journal: That of the folder.
        models: What people call the models.
    """

    def __init__(self, journal: Journal, models: Sequence[str]) -> None:
        self.models = tuple(models)
        self._journal = journal
        self._results = dict(zip(models, _result_folders(models), strict=True))
        self._written: dict[str, None] = {}

    def add_from(self, model: str) -> OnImage:
        """Return what writes the images of a model as `score_images` scores them."""
        result = self._results[model]

        def add(
            name: str, source: Pixels, generated: Pixels, target: Pixels, _: ImageScore
        ) -> None:
            self._write(f"{result}/{name}.png", generated)
            self._write(f"source/{name}.png", source)
            self._write(f"target/{name}.png", target)

        return add

    def _write(self, file: str, pixels: Pixels) -> None:
        if file in self._written:  # source and target, by a model before
            return
        self._journal.begin(file)
        write_image(self._journal.folder / file, np.ascontiguousarray(three_bands(pixels)))
        self._written[file] = None

    def content(self, scores: Mapping[str, Sequence[ImageScore]]) -> dict[str, Any]:
        """Return what the page shows of the images: their names, metrics, and where they are.

        Args:
            scores: By models, those of the images that all of them were scored on, in one order.
        """
        first = scores[self.models[0]]
        metrics = [
            metric
            for name, metric in METRICS.items()
            if any(name in score.values for score in first)
        ]
        several = len(self.models) > 1
        images = []
        for at, score in enumerate(first):
            own = {model: scores[model][at] for model in self.models}
            results = [
                {
                    "caption": model if several else "result",
                    "address": quote(f"{self._results[model]}/{score.name}.png"),
                    "metrics": _told(own[model]) if several else [],
                }
                for model in self.models
            ]
            order = [
                goodness(metric, own[model].values.get(metric.name))
                for model in self.models
                for metric in metrics
            ]
            images.append(
                {
                    "name": score.name,
                    "metrics": [] if several else _told(score),
                    "views": [_side("source", score.name), *results, _side("target", score.name)],
                    "order": json.dumps(order),
                }
            )
        orders = [
            f"{metric.label}, {model}" if several else metric.label
            for model in self.models
            for metric in metrics
        ]
        return {"orders": orders, "images": images}

    def finish(self, page: str) -> Path:
        """Write the page, and remove what an evaluation before left here; return the page."""
        folder = self._journal.folder
        self._journal.begin(PAGE)
        write_text(folder / PAGE, page)
        self._journal.remove(set(self._journal.names()) - {*self._written, PAGE})
        return folder / PAGE


@contextmanager
def opened_gallery(folder: Path, models: Sequence[str]) -> Iterator[Gallery]:
    """Claim a folder, which is new, empty or an earlier evaluation's, and yield its gallery.

    A page that is there goes at the first image: it would show those of two evaluations.

    Raises:
        OutputError: It is somebody else's or not writable.
        UsageError: Another process works in it.
    """
    with claimed_for_report(folder) as journal:
        for part in ("", "source", "target", *_result_folders(models)):
            sweep(folder / part)
        journal.start()
        journal.remove([PAGE])
        yield Gallery(journal, models)


def goodness(metric: Metric, value: float | None) -> float | None:
    """Return a number that is the larger the better a metric is; None where it is not defined."""
    if value is None or not math.isfinite(value):
        return None
    if metric.aim == LOWER:
        return -value
    return -abs(value - 1) if metric.aim == ONE else value


def _side(part: str, name: str) -> dict[str, Any]:
    return {"caption": part, "address": quote(f"{part}/{name}.png"), "metrics": []}


def _told(score: ImageScore) -> list[tuple[str, str]]:
    return [
        (METRICS[name].label, number(score.values[name], METRICS[name].digits))
        for name in SHOWN
        if name in score.values
    ]


def _result_folders(models: Sequence[str]) -> list[str]:
    """Return the folder of each model's results; names that look alike get a number."""
    if len(models) == 1:
        return ["result"]
    names: list[str] = []
    for model in models:
        name = plain = re.sub(r"[^\w.-]+", "_", model).strip("._") or "model"
        more = 2
        while name.casefold() in map(str.casefold, names):
            name, more = f"{plain}-{more}", more + 1
        names.append(name)
    return [f"result/{name}" for name in names]
