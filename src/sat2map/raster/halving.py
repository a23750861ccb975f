"""Half the size: of every four pixels one, for the coarser levels of maps.

At an odd end there are two pixels in place of four.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def halved_bands(
    bands: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Return values at half the size: means of those of four that are there.

    Args:
        bands: uint8 [B,h,w].
        valid: Which pixels are there, bool [h,w]; None for all.

    Returns:
        uint8 [B,ceil(h/2),ceil(w/2)], 0 where none of the four is there; and where one is.
    """
    bands = _even(bands)
    count = None if valid is None else _sums(_even(valid).view(np.uint8))
    if count is None or count.min() == 4:
        sums = _sums(bands)
        sums += 2
        sums >>= 2
        return sums.astype(np.uint8), None if count is None else count > 0
    assert valid is not None
    whole = np.maximum(count, 1)
    means = (_sums(bands * _even(valid)) + whole // 2) // whole
    return means.astype(np.uint8), count > 0


def halved_classes(classes: NDArray[np.uint8], empty: int) -> NDArray[np.uint8]:
    """Return class numbers at half the size: what most of the four are, the first in a tie.

    Args:
        classes: uint8 [h,w].
        empty: What stands for no class, which stays only where all four are it.

    Returns:
        uint8 [ceil(h/2),ceil(w/2)].
    """
    classes = _even(classes)
    four = np.stack([classes[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    best: NDArray[np.uint8] = np.full_like(four[0], empty)
    most = np.zeros(best.shape, np.uint8)
    for one in four:
        count = (four == one).sum(0, dtype=np.uint8) * (one != empty)
        more = count > most
        np.copyto(best, one, where=more)
        np.copyto(most, count, where=more)
    return best


def _even(values: NDArray[T]) -> NDArray[T]:
    """Return [...,h,w] with its last row or column twice where there is an odd number of them."""
    odd = [(0, length % 2) for length in values.shape[-2:]]
    if not any(end for _, end in odd):
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 2) + odd, "edge")


def _sums(values: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the sum of every four of [...,2h,2w]."""
    rows: NDArray[np.uint16] = np.add(values[..., 0::2, :], values[..., 1::2, :], dtype=np.uint16)
    sums: NDArray[np.uint16] = np.add(rows[..., 0::2], rows[..., 1::2])
    return sums
