"""Overviews of results: each is half as large as the one before, and made of it.

Numbers of classes are halved by mode, images and confidence by mean. What has no value does not
count; a pixel has none where all four have none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Layers = dict[str, NDArray[np.uint8]]
"""The layers of one window or of a mosaic of them, uint8: `numbers` [h,w], the others [h,w] or
[h,w,C], and `shown` [h,w], 1 where there are values and 0 elsewhere."""

NOTHING = 255
"""Stands in `numbers` where there is no value."""

LAST_SIDE = 16
"""Side of the last overview of a whole window, in pixels."""


def level_count(core: int) -> int:
    """Return how often the side of a window can be halved so that neighbours still adjoin.

    The overviews of windows lie side by side, as the windows do, so long as `core` is a multiple
    of a power of two.
    """
    count = 0
    while core % 2 ** (count + 1) == 0 and core // 2 ** (count + 1) >= LAST_SIDE:
        count += 1
    return count


def halved_size(length: int, level: int) -> int:
    """Return the pixels of an overview along a side of so many pixels."""
    return -(-length // (1 << level))


def halve(layers: Layers) -> Layers:
    """Return the next overview; an odd row or column at the end counts alone."""
    shown = _quarters(layers["shown"])
    counts: NDArray[np.uint8] = shown.sum(0, dtype=np.uint8)
    found: Layers = {"shown": (counts > 0).astype(np.uint8)}
    for name, values in layers.items():
        if name == "numbers":
            found[name] = _modes(_quarters(values, NOTHING))
        elif name != "shown":
            found[name] = _means(_quarters(values), shown, counts)
    return found


def _quarters(values: NDArray[np.uint8], outside: int = 0) -> NDArray[np.uint8]:
    """Return the four pixels that become one, [4,h,w] or [4,h,w,C], in reading order."""
    odd = [(0, side % 2) for side in values.shape[:2]]
    if odd != [(0, 0), (0, 0)]:
        pad = odd + [(0, 0)] * (values.ndim - 2)
        values = np.pad(values, pad, constant_values=outside)
    return np.stack([values[i::2, j::2] for i in (0, 1) for j in (0, 1)])


def _modes(four: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the most frequent class; of those that are equally frequent the first."""
    best, most = four[0], np.zeros(four.shape[1:], np.uint8)
    for one in four:
        count = (four == one).sum(0, dtype=np.uint8)
        count[one == NOTHING] = 0
        more = count > most
        best, most = np.where(more, one, best), np.where(more, count, most)
    return np.where(most > 0, best, np.uint8(NOTHING))


def _means(
    four: NDArray[np.uint8], shown: NDArray[np.uint8], counts: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the mean of those that have values."""
    if four.ndim == 4:
        shown, counts = shown[..., None], counts[..., None]
    sums = np.sum(four * shown, 0, dtype=np.uint16)
    divisor = np.maximum(counts, 1).astype(np.uint16)
    mean: NDArray[np.uint8] = ((sums + divisor // 2) // divisor).astype(np.uint8)
    return mean
