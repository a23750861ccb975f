"""What photos a model has learned from, in numbers: to notice photos that are unlike them.

A photo is described by what needs no network: its colours in dark, middle and bright parts, how
much it varies, and how that changes as it is reduced. Of the photos that a model has learned from
the mean and the covariance of these numbers are kept (`familiar.json` in the model folder). A photo
whose Mahalanobis distance from them is larger than nearly all of theirs is unlike them: a room, a
cloud, ice, a night, a negative.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sat2map.errors import ModelError
from sat2map.model.card import check_files

FILE = "familiar.json"

SMALLEST = 64
"""Smallest side in pixels of a window that can be described."""

FEWEST = 200
"""From fewer windows nothing is learned: everything else would look strange."""

FALSE_ALARMS = 0.035
"""The share of the windows learned from that count as strange, where others are compared."""

_SHRINKAGE = 0.02
"""Added to the variances, so that numbers that hardly vary do not decide alone."""

_FARTHEST = 10.0
"""In standard deviations. What lies farther away counts as this far."""

_LEVELS = 5
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Window = NDArray[np.uint8]


class Familiar(BaseModel):
    """Statistics of the photos that a model has learned from.

    Attributes:
        side: Side in pixels of the windows that were described, and are to be compared.
        mean: Mean of each number of `describe_photo`.
        deviation: Standard deviation of each.
        precision: The inverse of their covariance, once they are standardised: [n][n].
        limit: The largest squared Mahalanobis distance of a familiar photo.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    side: int = Field(ge=SMALLEST, le=4096)
    mean: list[float]
    deviation: list[float]
    precision: list[list[float]]
    limit: float

    @model_validator(mode="after")
    def _check_sizes(self) -> Familiar:
        sizes = {len(self.mean), len(self.deviation), len(self.precision)}
        if sizes | {len(row) for row in self.precision} != {NUMBERS}:
            raise ValueError(f"does not describe photos by {NUMBERS} numbers")
        if min(self.deviation) <= 0 or self.limit <= 0:
            raise ValueError("has a deviation or a limit that is not above 0")
        return self

    def distances(self, windows: Sequence[Window]) -> NDArray[np.float64]:
        """Return how far photos are from the familiar ones: above 1 they are unlike them.

        Args:
            windows: uint8 [side,side,C] each, at a ground resolution that the model knows.

        Returns:
            float64 [N].
        """
        if not windows:
            return np.zeros(0)
        with ThreadPoolExecutor(2) as threads:
            described = np.stack(list(threads.map(describe_photo, windows)))
        own = _standardised(described, np.array(self.mean), np.array(self.deviation))
        return _squared_distances(own, np.array(self.precision)) / self.limit

    @classmethod
    def learn(cls, windows: Sequence[Window]) -> Familiar | None:
        """Describe the photos that a model has learned from.

        The limit is found by cross-validation, on windows that the covariance does not know.

        Args:
            windows: uint8 [side,side,C] each, as a model sees them, but without photometric
                augmentation.

        Returns:
            The description, or None where they are too few or too small.
        """
        if len(windows) < FEWEST or min(windows[0].shape[:2]) < SMALLEST:
            return None
        described = np.stack([describe_photo(window) for window in windows])
        folds = 5
        held_out = []
        for fold in range(folds):
            others = np.delete(described, np.s_[fold::folds], 0)
            mean, deviation, precision = _statistics(others)
            own = _standardised(described[fold::folds], mean, deviation)
            held_out.append(_squared_distances(own, precision))
        limit = float(np.quantile(np.concatenate(held_out), 1 - FALSE_ALARMS))
        mean, deviation, precision = _statistics(described)
        return cls(
            side=len(windows[0]),
            mean=_rounded(mean),
            deviation=_rounded(deviation),
            precision=[_rounded(row) for row in precision],
            limit=_rounded(np.array([limit]))[0],
        )

    def save(self, folder: Path) -> None:
        """Write it into a model folder."""
        text = json.dumps(self.model_dump(), separators=(",", ":"))
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_familiar(folder: Path) -> Familiar | None:
    """Read what a model folder says of the photos that the model has learned from.

    Returns:
        None where it says nothing.

    Raises:
        ModelError: What it says is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    check_files(folder, FILE)
    try:
        return Familiar.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ModelError(
            f"is damaged ({what})",
            where=path,
            remedy="Restore it, or remove it: then nothing is said of strange photos.",
        ) from error


def describe_photo(window: Window) -> NDArray[np.float64]:
    """Describe a photo by numbers that do not depend on where in it things are.

    Args:
        window: uint8 [H,W,C] of at least 64 pixels a side; of other than three bands the first
            counts as grey.

    Returns:
        float64 [NUMBERS].
    """
    if window.shape[2] != 3:
        window = np.repeat(window[..., :1], 3, axis=2)
    rgb = np.moveaxis(window, 2, 0).astype(np.float32, order="C") / np.float32(255)
    luma = np.tensordot(_LUMA, rgb, 1).astype(np.float32)
    return np.nan_to_num(np.array([*_colours(rgb, luma), *_textures(luma)], np.float64))


def _colours(rgb: NDArray[np.float32], luma: NDArray[np.float32]) -> list[float]:
    levels = np.percentile(luma, [2, 10, 25, 50, 75, 90, 98])
    red, green, blue = rgb
    saturation = rgb.max(0) - rgb.min(0)
    red_green, green_blue = red - green, green - blue
    spreads = float(red_green.std()), float(green_blue.std())
    together = ((red_green - red_green.mean()) * (green_blue - green_blue.mean())).mean()
    numbers = [
        *np.log(rgb.mean((1, 2)) + 0.02),
        *np.log(rgb.std((1, 2)) + 0.01),
        *levels,
        saturation.mean(),
        saturation.std(),
        *spreads,
        together / (spreads[0] * spreads[1] + 1e-4),
    ]
    # A negative has the colours of shadows where it is bright.
    for part in (luma <= levels[1], (luma > levels[1]) & (luma < levels[5]), luma >= levels[5]):
        some = bool(part.any())
        numbers += [red_green[part].mean(), green_blue[part].mean()] if some else [0.0, 0.0]
    greenish, magenta = green - np.maximum(red, blue), np.minimum(red, blue) - green
    warm = red - blue
    for share in (greenish > 0.02, magenta > 0.02, warm < -0.04, warm > 0.08):
        numbers.append(math.log(share.mean() + 0.01))
    return [float(number) for number in numbers]


def _textures(luma: NDArray[np.float32]) -> list[float]:
    """Describe edges, and how much of them is left as the photo is reduced by 2, 4, 8 and 16."""
    numbers: list[float] = []
    edges: list[float] = []
    level = luma
    for _ in range(_LEVELS):
        across, down = np.diff(level, axis=1)[:-1], np.diff(level, axis=0)[:, :-1]
        edge = np.hypot(across, down)
        edges.append(math.log(edge.mean() + 1e-3))
        numbers.append((np.abs(across).mean() - np.abs(down).mean()) / (edge.mean() + 1e-4))
        numbers.append(math.log(math.sqrt(np.square(edge).mean()) + 1e-3) - edges[-1])
        inner = level[1:-1, 1:-1]
        around = level[:-2, 1:-1] + level[2:, 1:-1] + level[1:-1, :-2] + level[1:-1, 2:]
        curvature = 4 * inner - around
        numbers.append(_limited(_cubed(curvature).mean() / (curvature.std() ** 3 + 1e-6)))
        level = _halved(level)
    standard = (luma - luma.mean()) / (luma.std() + 1e-3)
    numbers += [edges[0], *np.diff(edges)]
    numbers += [_limited(_cubed(standard).mean())]
    numbers.append(math.log(np.square(np.square(standard)).mean() + 1))
    return [float(number) for number in numbers]


NUMBERS = 50
"""How many numbers describe a photo."""


def _halved(level: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = level.shape[0] // 2, level.shape[1] // 2
    halved: NDArray[np.float32] = (
        level[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean((1, 3))
    )
    return halved


def _cubed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the third powers, twenty times as fast as by `**`."""
    cubed: NDArray[np.float32] = values * values * values
    return cubed


def _limited(number: float) -> float:
    return float(np.clip(number, -5, 5))


def _statistics(
    described: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, deviation and the inverse covariance of the standardised numbers."""
    mean, deviation = described.mean(0), described.std(0) + 1e-3
    own = _standardised(described, mean, deviation)
    covariance = np.cov(own.T) + _SHRINKAGE * np.eye(own.shape[1])
    return mean, deviation, np.asarray(np.linalg.inv(covariance), np.float64)


def _standardised(
    described: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    own: NDArray[np.float64] = ((described - mean) / deviation).clip(-_FARTHEST, _FARTHEST)
    return own


def _squared_distances(
    own: NDArray[np.float64], precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = np.einsum("ij,jk,ik->i", own, precision, own)
    return squared


def _rounded(numbers: NDArray[np.float64]) -> list[float]:
    return [float(f"{number:.6g}") for number in numbers]
