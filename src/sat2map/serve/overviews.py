"""Overviews of results: each is half as large as the one before, and made of it.

Numbers of classes are halved by mode, images and confidence by mean. What has no value does not
count; a pixel has none where all four have none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sat2map.raster.halving import halved_bands, halved_classes

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
    shown = layers["shown"]
    valid = None if shown.all() else shown.view(np.bool_)
    found = {"shown": halved_bands(shown[None])[0][0] if valid is None else _any(valid)}
    for name, values in layers.items():
        if name == "numbers":
            found[name] = halved_classes(values, NOTHING)
        elif values.ndim == 3:
            halved = halved_bands(values.transpose(2, 0, 1), valid)[0]
            found[name] = np.ascontiguousarray(halved.transpose(1, 2, 0))
        elif name != "shown":
            found[name] = halved_bands(values[None], valid)[0][0]
    return found


def _any(valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return where one of four has a value, 1 or 0."""
    there = halved_bands(valid[None].view(np.uint8), valid)[1]
    assert there is not None
    return there.view(np.uint8)
