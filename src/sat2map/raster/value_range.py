"""Which values of a raster become 0 and 255."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from sat2map.raster.georeference import stored
from sat2map.raster.options import STRETCH, Reading
from sat2map.raster.values import Found, Values

DARK = 48
"""An 8-bit scene whose pixels are hardly ever brighter than this in any band is stretched."""

DULL = 140
"""One that is hardly ever brighter than this gets more contrast."""

BRIGHT = 0.02
"""The share of brighter pixels up to which it is so."""

CONTRAST = 2.0
"""By how much contrast is raised at most: a forest or a sea is dark by nature."""

_NOTICES = {
    "dark": f" (up to about {DARK} of 255) and is stretched as scenes of more than 8 bits are",
    "dull": f" (up to about {DULL} of 255) and gets up to {CONTRAST:g} times the contrast",
}

LOOK = 64
"""Side of the windows that are looked at for that, four along each side."""


def find_value_range(
    dataset: Any,
    values: Values,
    reading: Reading,
    sample: Callable[[], Found],
    say: Callable[[str], object],
) -> NDArray[np.float64] | None:
    """Return per band what becomes 0 and 255, float64 [C,2]; None leaves values alone.

    Args:
        dataset: The raster.
        values: What reads its values.
        reading: What the user says of it.
        sample: Gives values of all of the raster, as `Values.sample` does.
        say: Called with a notice where a scene is stretched that need not be.
    """
    bands, look = values.bands, "bright"
    if bands.palette is not None:
        return None
    if reading.value_range is not None:
        return np.array([reading.value_range] * len(bands.numbers), np.float64)
    # Scans and faxes may count from white to black.
    inverted = stored(dataset).tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    if reading.stretch is None and {dataset.dtypes[b - 1] for b in bands.numbers} == {"uint8"}:
        bits = _bits(dataset, bands.numbers[0])
        if bits < 8 or inverted:
            ends = (2**bits - 1, 0) if inverted else (0, 2**bits - 1)
            return np.array([ends] * len(bands.numbers), np.float64)
        look = _look(dataset, values)
        if look == "bright":
            return None
        say(f"{values.where}: is {look}{_NOTICES[look]}; `value_range`=0,255 leaves it as it is.")
    seen, valid = sample()
    if not valid.any():
        return np.array([_limits(seen.dtype)] * len(bands.numbers), np.float64)
    percentiles = reading.stretch or STRETCH
    found = np.percentile(seen[:, valid].astype(np.float64), percentiles, axis=1).T
    if look == "dull":
        span = np.maximum(found[:, 1] - found[:, 0], 255 / CONTRAST)
        low = np.maximum(found.mean(1) - span / 2, 0)
        found = np.stack([low, low + span], 1)
    if inverted:
        found = found[:, ::-1]
    ranges = dict(zip(bands.distinct, found, strict=True))
    return np.array([ranges[band] for band in bands.numbers])


def _look(dataset: Any, values: Values) -> Literal["dark", "dull", "bright"]:
    """Return whether nearly all of an 8-bit file is darker than photos that models know.

    It looks at a few small windows of all of the file, so that a part of it looks like the
    whole, and a large one takes no longer. What has one value all over counts as bright.
    """
    height, width = dataset.height, dataset.width
    size = min(LOOK, height), min(LOOK, width)
    counts = np.zeros(256, np.int64)
    for row, column in product(_spread(height - size[0]), _spread(width - size[1])):
        try:
            seen, valid = values.read(dataset, Window(column, row, size[1], size[0]), size, 1)
        except (RasterioError, CPLE_BaseError):  # who needs what is damaged will say so
            continue
        counts += np.bincount(seen.max(0)[valid], minlength=256)
    most = BRIGHT * counts.sum()
    if np.count_nonzero(counts) < 2 or counts[DULL + 1 :].sum() > most:
        return "bright"
    return "dull" if counts[DARK + 1 :].sum() > most else "dark"


def _spread(free: int) -> list[int]:
    """Return up to four places from 0 to `free`."""
    return sorted({i * free // 3 for i in range(4)})


def _bits(dataset: Any, band: int) -> int:
    """Return how many bits of each value are used, as far as the file says."""
    raster = stored(dataset)
    # What is warped may have one band more, alpha.
    told = raster.tags(band, ns="IMAGE_STRUCTURE") if band <= raster.count else {}
    return int(told.get("NBITS", "8"))


def _limits(kind: np.dtype[Any]) -> tuple[float, float]:
    """Return what values of a type may be, or 0 and 1 where that may be anything."""
    return (0.0, 1.0) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
