"""Overviews of rasters: whether they are means, so that they may be read in place of the base."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import Window

COMPARED = 64
"""Side of the places, in pixels of an overview, where overviews are compared with the base."""


def are_means(dataset: Any, band: int, factor: int) -> bool:
    """Return whether what GDAL reads thinned is nearer to means than to single pixels.

    In five places it is compared with the means of the base. Single pixels are off by as much as
    pixels deviate from their mean, and what other filters make by less than half of it.
    """
    side = min(COMPARED, *(length // factor for length in dataset.shape))
    blocks_of = dataset.block_shapes[band - 1]
    off = deviation = 0.0
    count = 0
    for down, along in ((0, 0), (0, 2), (1, 1), (2, 0), (2, 2)):
        row, column = (
            _place(length, side * factor, block, part) // factor * factor
            for length, block, part in zip(dataset.shape, blocks_of, (down, along), strict=True)
        )
        window = Window(column, row, side * factor, side * factor)
        thin = dataset.read(
            band, window=window, out_shape=(side, side), resampling=Resampling.average
        ).astype(np.float64)
        base = dataset.read(band, window=window).astype(np.float64)
        blocks = base.reshape(side, factor, side, factor)
        means = blocks.mean((1, 3), keepdims=True)
        known = dataset.read_masks(band, window=window).reshape(blocks.shape).all((1, 3))
        known &= np.isfinite(means[:, 0, :, 0])
        off += float(np.abs(means[:, 0, :, 0] - thin)[known].sum())
        deviation += float(np.abs(blocks - means).mean((1, 3))[known].sum())
        count += int(known.sum())
    rounding = 0.3 if np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.integer) else 0.0
    return off <= deviation / 2 + rounding * count


def _place(length: int, side: int, block: int, part: int) -> int:
    """Return where a place begins along one axis: at its start, in the midst (1), or its end (2).

    In the midst it begins with a block of the file, so that fewer need to be read.
    """
    free = length - side
    middle = free // 2
    return (0, middle // block * block if block < length else middle, free)[part]
