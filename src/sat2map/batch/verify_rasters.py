"""Whether a raster has the pixels that its source and its model give, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from sat2map.geo.gdal import reading_from
from sat2map.geo.grid import Grid
from sat2map.provenance import Provenance
from sat2map.translation.maps import Layer
from sat2map.translation.pipeline import ScenePipeline
from sat2map.translation.translator import Translator

SHARE = 0.001
"""Share of the pixels that may have another class where a runtime rounds in another way."""

LEAD = 0.1
"""None of these where the most probable class led by more than this; of values that are not classes
none that is further off, of 0 to 1."""

OFF = 8
"""By how much of 255 a value that is not a class may be off before its pixel counts."""


@dataclass(frozen=True)
class Sampled:
    """What came out for the windows of one file."""

    windows: int
    of: int
    pixels: int
    differing: int
    largest: float
    is_equal: bool


def compare(
    file: Path,
    made: Provenance,
    held: Any,
    pipeline: ScenePipeline,
    translator: Translator,
    choose: Callable[[int], Sequence[int]],
    heed: Callable[[float], None],
) -> Sampled:
    """Make some windows again and compare them with what a file holds.

    Args:
        file: The file.
        made: What it says of its making.
        held: What rasterio opened.
        pipeline: Makes its windows.
        translator: The model.
        choose: Returns which of so many windows are made again.
        heed: Called between windows with the share that is done; raises to stop.
    """
    rows, columns = pipeline.windows
    shown = _shown_windows(held, rows, columns)
    chosen = [shown[number] for number in choose(len(shown))]
    pixels = differing = 0
    largest, is_equal = 0.0, True
    for done, (row, column) in enumerate(chosen):
        heed(done / len(chosen))
        place, layers, valid = pipeline.piece(row, column)
        window = Window(place.left, place.top, place.width, place.height)
        with reading_from(file):
            known = held.dataset_mask(window=window) != 0
            values = held.read(window=window).transpose(1, 2, 0)
        now = layers[layers_of(made)[0]]
        valid &= _sure(made, layers)
        if made.settings["mask"] is not None:  # which part of it was wanted nobody knows here
            valid &= known
        now = now if now.ndim == 3 else now[..., None]
        both = known & valid
        pixels += int((known | valid).sum())
        off = _off(made, translator, values, np.broadcast_to(now, values.shape))
        is_equal &= bool((known == valid).all() and (values == now)[both].all())
        wrong = both & (off > (OFF / 255 if _is_of_values(made, translator) else 0))
        differing += int(wrong.sum() + (known != valid).sum())
        if (known != valid).any() and "min_confidence" not in made.settings:
            largest = 1.0
        if wrong.any():
            far = off if _is_of_values(made, translator) else pipeline.leads(row, column)
            largest = max(largest, float(far[wrong].max()))
    return Sampled(len(chosen), rows * columns, pixels, differing, largest, is_equal)


def layers_of(made: Provenance) -> tuple[Layer, ...]:
    """Return what is asked of the model: what the file holds, and what hides some of it."""
    layer = cast(Layer, made.layer)
    if "min_confidence" not in made.settings:
        return (layer,)
    return layer, "cover_confidence" if layer == "cover" else "confidence"


def _sure(made: Provenance, layers: dict[Layer, NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Return where the model is as sure as was asked for, bool [h,w]."""
    first, *rest = layers.values()
    if not rest:
        return np.ones(first.shape[:2], np.bool_)
    sure: NDArray[np.bool_] = rest[0] >= math.ceil(made.settings["min_confidence"] * 255 - 1e-9)
    return sure


def _is_of_values(made: Provenance, translator: Translator) -> bool:
    """Return whether a file holds confidence, or colours that stand for no classes.

    Colours that a server mixed of rounded shares are compared as such, too.
    """
    return made.layer.endswith("confidence") or (
        made.layer == "image" and ("painted" in made.settings or not translator.answers_in_classes)
    )


def _off(
    made: Provenance, translator: Translator, held: NDArray[np.uint8], now: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return how far pixels are off, 0 to 1: of classes 1 where it is another one."""
    if _is_of_values(made, translator):
        far: NDArray[np.float64] = np.abs(held.astype(float) - now).max(axis=2) / 255
        return far
    if made.layer == "image":
        assert translator.legend is not None
        held, now = (translator.legend.label(image)[..., None] for image in (held, now))
    other: NDArray[np.float64] = (held != now).any(axis=2).astype(float)
    return other


def lies_on(held: Any, grid: Grid) -> bool:
    """Return whether a raster has the pixels of a grid."""
    if (held.height, held.width) != (grid.height, grid.width):
        return False
    if grid.points or not grid.georeferenced:
        return True
    own, ours = np.array(held.transform)[:6], np.array(grid.transform)[:6]
    step = math.hypot(*np.array(grid.transform)[[0, 3]])
    return bool(np.allclose(own, ours, rtol=1e-9, atol=1e-6 * step))


def _shown_windows(held: Any, rows: int, columns: int) -> list[tuple[int, int]]:
    """Return the windows in which a thinned look at a file shows something, or all."""
    size = (min(held.height, 4 * rows), min(held.width, 4 * columns))
    mask = held.dataset_mask(out_shape=size) != 0
    every = [(row, column) for row in range(rows) for column in range(columns)]
    found = []
    for row, column in every:
        top, left = row * size[0] // rows, column * size[1] // columns
        bottom, right = -(-(row + 1) * size[0] // rows), -(-(column + 1) * size[1] // columns)
        if mask[top:bottom, left:right].any():
            found.append((row, column))
    return found or every
