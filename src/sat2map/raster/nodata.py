"""What is not a value: nodata as files name it, smeared or not named at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

BEYOND = 1e10
"""No reflectance, radiance or count is as large; programs fill with 1e20, 3.4e38, 1.8e308."""

ROUNDED = 1e-5
"""By so much of it may a nodata tag differ from what floats hold."""

SMEAR = 16
"""Pixels: as far does a JPEG smear (two of its blocks of 8, as colours are halved)."""

LEVELS = 8
"""As much may a smeared value differ from nodata."""

PROBE = 16
"""Side of the squares at a scene's border that are looked at, in pixels."""

PROBES = 12
"""So many along each side; of a scene at an address a third."""

COLLAR = 0.1
"""Share of the border that must be one value to be worth a notice."""

Values = NDArray[Any]
Nodata = Sequence[float | None]


def fits(value: float, kind: np.dtype[Any]) -> bool:
    """Return whether a type can hold a value; files name -9999 as nodata of 8 bits."""
    if kind.kind == "f" or not np.isfinite(value):
        return kind.kind == "f"
    limits = np.iinfo(kind)
    return bool(limits.min <= value <= limits.max and value == round(value))


def is_nodata(values: Values, nodata: Nodata, levels: int = 0) -> NDArray[np.bool_]:
    """Return where all bands are nodata, bool [h,w].

    Args:
        values: [B,h,w] of any real type.
        nodata: What each band calls nodata; None where it calls nothing so.
        levels: By how much integers may differ from it. Floats may by `ROUNDED` of it.
    """
    empty = np.ones(values.shape[1:], np.bool_)
    for band, value in zip(values, nodata, strict=True):
        if value is None or not fits(value, values.dtype):
            return np.zeros(values.shape[1:], np.bool_)
        if values.dtype.kind == "f":
            with np.errstate(all="ignore"):
                far = np.abs(band - np.array(value).astype(band.dtype))
                near = np.isfinite(value) & (far <= ROUNDED * abs(value))
                same = near | (band == value) | (np.isnan(band) & np.isnan(value))
            empty &= same
        elif levels:
            limits = np.iinfo(values.dtype)
            low, high = max(value - levels, limits.min), min(value + levels, limits.max)
            empty &= (band >= int(low)) & (band <= int(high))
        else:
            empty &= band == int(value)
    return empty


def is_believable(values: Values) -> NDArray[np.bool_]:
    """Return where all bands are numbers that a sensor may have measured, bool [h,w]."""
    if values.dtype.kind != "f":
        return np.ones(values.shape[1:], np.bool_)
    with np.errstate(invalid="ignore"):
        believable: NDArray[np.bool_] = np.all(np.abs(values) < BEYOND, axis=0)
    return believable


def smeared(values: Values, nodata: Nodata) -> NDArray[np.bool_]:
    """Return where nodata is, also where lossy compression has smeared it, bool [h,w].

    Smeared is what differs by a few levels and lies near pixels that are nodata exactly, so
    shadows in the midst of a photo stay.

    Args:
        values: uint8 [B,h,w], with `SMEAR` more pixels on each side than are needed.
        nodata: What each band calls nodata.
    """
    empty = is_nodata(values, nodata)
    if empty.any():
        from scipy.ndimage import maximum_filter  # a fifth of a second, which few files need

        near = maximum_filter(empty, 2 * SMEAR + 1)
        empty |= near & is_nodata(values, nodata, LEVELS)
    return empty


def thinned(values: Values, valid: NDArray[np.bool_], factor: int) -> tuple[Values, Any]:
    """Return means of squares of pixels, of those that are valid alone.

    Args:
        values: [B,h,w].
        valid: bool [h,w].
        factor: Side of the squares; divides h and w.

    Returns:
        [B,h/factor,w/factor] of the same type, and where there are any, bool.
    """
    bands, height, width = values.shape
    squares = (height // factor, factor, width // factor, factor)
    count = valid.reshape(squares).sum((1, 3))
    total = np.where(valid, values, 0).reshape(bands, *squares).sum((2, 4), dtype=np.float64)
    means = total / np.maximum(count, 1)
    if values.dtype.kind != "f":
        means = np.rint(means)
    return means.astype(values.dtype), count > 0


def find_collar(
    dataset: Any,
    bands: list[int],
    nodata: Nodata,
    shown: Callable[[Window], bool],
    *,
    few: bool = False,
) -> tuple[float, tuple[float, ...]] | None:
    """Look for one value along a raster's border that is not called nodata but may be it.

    It is one where a good part of the border is wholly it, and nothing elsewhere lies beyond it
    in both directions, as with black, white and -9999.

    Args:
        dataset: The raster.
        bands: Those that are looked at.
        nodata: What each of them calls nodata.
        shown: Tells of a window whether all of it is there, by the raster's mask or alpha.
        few: Look at a third of the places, since each takes a request.

    Returns:
        Its share of the border, and its value in each band; or None.
    """
    height, width = dataset.shape
    if min(height, width) < 2 * PROBE:
        return None
    count = PROBES // 3 if few else PROBES
    down, across = (
        np.linspace(0, size - PROBE, count + 1).astype(int).tolist() for size in (height, width)
    )

    def border(step: int) -> set[tuple[int, int]]:
        ends = {(row, column) for row in (down[0], down[-1]) for column in across[::step]}
        return ends | {(row, column) for row in down[::step] for column in (across[0], across[-1])}

    plain: dict[tuple[float, ...], int] = {}
    others: list[Values] = []
    # A collar that is long enough has one of every four places: most scenes need no more.
    first, whole = border(max(count // 3, 1)), border(1)
    for places in (first, (whole - first) | {(down[count // 2], across[count // 2])}):
        for row, column in sorted(places):
            window = Window(column, row, PROBE, PROBE)
            if not shown(window):
                continue  # nothing is there, as the file says by itself
            values = dataset.read(bands, window=window)
            pixels = values.reshape(len(bands), -1)
            if not (is_believable(values).all() and (pixels == pixels[:, :1]).all()):
                believable = is_believable(values) & ~is_nodata(values, nodata)
                others.append(values[:, believable])
            elif not is_nodata(values, nodata).any():
                value = tuple(pixels[:, 0].tolist())
                plain[value] = plain.get(value, 0) + 1
        if not plain:
            return None
    value, times = max(plain.items(), key=lambda item: item[1])
    rest = np.concatenate(others, 1) if others else np.zeros((len(bands), 0))
    own = np.array(value)[:, None]
    extreme = rest.size > 0 and ((own <= rest).all() or (own >= rest).all())
    share = times / len(whole)
    return (share, value) if extreme and share >= COLLAR else None


def words(value: Sequence[float]) -> str:
    """Return values as one writes them in an option: one where all bands have the same."""
    texts = [f"{v:.9g}" for v in value]
    return texts[0] if len(set(texts)) == 1 else ",".join(texts)
