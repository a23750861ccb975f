"""Noticing photos that are unlike those that a model has learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sat2map.translation.translator import Translator

if TYPE_CHECKING:
    from sat2map.geo.grid import Part
    from sat2map.raster.resampled import ResampledScene

ALONG = 3
"""How many windows are looked at along each side, at most."""

KNOWN = 0.95
"""The share of a window that must have values."""


def strange_scene(translator: Translator, seen: ResampledScene, part: Part) -> str | None:
    """Return what to say of a scene that is unlike what the model has learned from, or None.

    Args:
        translator: The model.
        seen: The scene as the network sees it.
        part: Which of its pixels are looked at.

    Raises:
        DataError: A block of the file is damaged.
        ModelError: What the model says of familiar photos is damaged.
    """

    def window(row: int, column: int, side: int) -> NDArray[np.uint8] | None:
        pixels, valid = seen.read(part.top + row, part.left + column, side, side)
        return pixels if valid.mean() >= KNOWN else None

    return _strange(translator, part.height, part.width, window)


def strange_image(translator: Translator, pixels: NDArray[np.uint8]) -> str | None:
    """Return what to say of an image that is unlike what the model has learned from, or None.

    Args:
        translator: The model.
        pixels: uint8 [H,W,C].

    Raises:
        ModelError: What the model says of familiar photos is damaged.
    """

    def window(row: int, column: int, side: int) -> NDArray[np.uint8]:
        return pixels[row : row + side, column : column + side]

    return _strange(translator, pixels.shape[0], pixels.shape[1], window)


def _strange(
    translator: Translator,
    height: int,
    width: int,
    window: Callable[[int, int, int], NDArray[np.uint8] | None],
) -> str | None:
    familiar = translator.familiar
    if familiar is None or min(height, width) < familiar.side:
        return None
    side = familiar.side
    windows = [
        window(row, column, side)
        for row in _places(height, side)
        for column in _places(width, side)
    ]
    looked_at = [one for one in windows if one is not None]
    strange = int((familiar.distances(looked_at) > 1).sum())
    if 2 * strange <= len(looked_at):
        return None
    return (
        f"looks unlike the photos that the model {translator.name} has learned from, in "
        "most of the places that were looked at; the map may mean nothing. Look at it before you "
        "trust it; check `bands` and `pixel_size`, or choose another `model`."
    )


def _places(size: int, side: int) -> list[int]:
    """Return where windows begin that are spread along a side and do not overlap by much."""
    count = min(ALONG, max(1, size // side))
    free = size - side
    return [free // 2] if count == 1 else [i * free // (count - 1) for i in range(count)]
