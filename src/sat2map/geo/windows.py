"""Where windows lie and how much each weighs: pure geometry of integers.

Windows of one size start on a regular grid and overlap; the last one ends with the image, or
as soon after it as a network can. Within an overlap the weight of the
one falls linearly while that of the other rises, so the weights sum to one everywhere; at
the outer edges of the image there is no ramp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 1024
"""Side of the windows, unless said otherwise."""

OVERLAP = 256
"""What neighbouring windows share, unless said otherwise."""


@dataclass(frozen=True)
class Span:
    """One window along one axis, in pixels of the image.

    Attributes:
        start: First pixel.
        size: Length; the window may reach beyond the image's end.
        rise: Length of the overlap with the window before, 0 for the first one.
        fall: Length of the overlap with the window after, 0 for the last one.
    """

    start: int
    size: int
    rise: int
    fall: int

    def weights(self) -> NDArray[np.float32]:
        """Return the blending weight of each pixel, float32 [size], in (0,1]."""
        weights = np.ones(self.size, np.float32)
        if self.rise:
            weights[: self.rise] = ramp(self.rise)
        if self.fall:
            weights[self.size - self.fall :] = 1 - ramp(self.fall)
        return weights


def ramp(length: int) -> NDArray[np.float32]:
    """Return weights that rise linearly from just above 0 to just below 1."""
    return (np.arange(length, dtype=np.float32) + 0.5) / np.float32(length)


def spans(length: int, window: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cover an axis with windows.

    Args:
        length: Pixels to cover, at least 1.
        window: Size of the windows but for the last one, which is no larger than it need be.
        overlap: Pixels that neighbours share, at most half of the window.
        multiple: Every size is a multiple of this, and so is every start if it also divides
            `window - overlap`.

    Raises:
        ValueError: The sizes do not fit together.
    """
    if length < 1 or multiple < 1 or window % multiple or not 0 <= overlap <= window // 2:
        raise ValueError(
            f"no windows of {window} with overlap {overlap} and multiple {multiple} over {length}"
        )
    step = window - overlap
    count = max(-(-(length - window) // step), 0) + 1
    starts = [i * step for i in range(count)]
    last = -(-(length - starts[-1]) // multiple) * multiple
    sizes = [window] * (count - 1) + [last]
    return [
        Span(start, size, overlap if start else 0, overlap if start < starts[-1] else 0)
        for start, size in zip(starts, sizes, strict=True)
    ]


def mirrored(start: int, size: int, length: int) -> NDArray[np.intp]:
    """Return indices into an axis of `length` pixels, mirrored beyond both of its ends.

    The edge pixel is not repeated, except on an axis of one pixel.
    """
    positions = np.arange(start, start + size)
    if length == 1:
        return np.zeros(size, np.intp)
    period = 2 * (length - 1)
    folded = np.abs(positions) % period
    indices: NDArray[np.intp] = np.minimum(folded, period - folded)
    return indices
