"""Which arrays a model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import UsageError


def check_image(source: NDArray[np.uint8], bands: Sequence[str]) -> None:
    """Refuse what is not an image with a model's bands.

    Args:
        source: What was given.
        bands: Names of the bands.

    Raises:
        UsageError: It is not uint8 [H,W,bands], or has no pixels.
    """
    if not isinstance(source, np.ndarray):
        raise UsageError(
            f"is a {type(source).__name__}, not an array of numpy",
            parameter="source",
            remedy="Give numpy.asarray of an image, or tensor.numpy() as uint8 [H,W,C].",
        )
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != len(bands):
        raise UsageError(
            f"the model takes uint8 [H,W,{len(bands)}], not {source.dtype} {list(source.shape)}",
            parameter="source",
            remedy=f"Give it the bands {', '.join(bands)}, 0 to 255.",
        )
    if 0 in source.shape:
        raise UsageError(
            "has no pixels", parameter="source", remedy="Give an image of at least one."
        )


def check_window(window: NDArray[np.uint8], halo: int, bands: int, multiple: int) -> None:
    """Refuse what a network does not take as one window.

    Args:
        window: What was given.
        halo: How many pixels along each edge are no part of the answer.
        bands: How many bands it must have.
        multiple: What its sides and the halo must be multiples of.

    Raises:
        UsageError: It is not uint8 [h,w,bands] of such sides, or the halo leaves nothing of it.
    """
    if (
        not isinstance(window, np.ndarray)
        or window.dtype != np.uint8
        or window.ndim != 3
        or window.shape[2] != bands
        or 0 in window.shape
        or window.shape[0] % multiple
        or window.shape[1] % multiple
    ):
        given = getattr(window, "shape", None)
        raise UsageError(
            f"is not a window of uint8 [h,w,{bands}] whose sides are multiples of {multiple}"
            + (f", but {window.dtype} {list(given)}" if given is not None else ""),
            parameter="window",
            remedy="Cut or mirror it to such sides, or let Translator.translate do so.",
        )
    if halo < 0 or halo % multiple or 2 * halo >= min(window.shape[:2]):
        raise UsageError(
            f"{halo} is not a halo of a window of {window.shape[1]} x {window.shape[0]} pixels",
            parameter="halo",
            remedy=f"Give a multiple of {multiple}, less than half of its sides.",
        )
