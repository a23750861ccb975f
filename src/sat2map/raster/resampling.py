"""From one grid to another over the same ground, as sparse matrices along an axis each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def resampling(
    source: int,
    target: int,
    start: int = 0,
    stop: int | None = None,
    extent: float | None = None,
) -> csr_array:
    """Return how the pixels of one axis are made from those of another over the same ground.

    Each pixel is the mean of its neighbours under a triangle, which is as wide as the coarser
    of the two grids' pixels on either side: linear interpolation where the target is finer,
    and without aliasing where it is coarser (as Pillow's antialiased bilinear filter). At the
    ends the triangle is cut off. Rows sum to one; equal grids give the identity.

    Args:
        source: Pixels of the axis that there is.
        target: Pixels of the axis that is wanted.
        start: First wanted pixel to return.
        stop: One past the last, by default all.
        extent: What the target covers, in pixels of the source, by default all of them; where
            it is up to a pixel more, the source's last one stands for the rest.

    Returns:
        float32 [stop - start, source], sparse.
    """
    from scipy.sparse import csr_array  # a fifth of a second, which plain images need not wait

    stop = target if stop is None else stop
    ratio = (source if extent is None else extent) / target
    reach = max(ratio, 1.0)
    centres = (np.arange(start, stop, dtype=np.float64) + 0.5) * ratio - 0.5
    taps = math.ceil(2 * reach) + 1
    first = np.floor(centres - reach).astype(np.int64) + 1
    columns = first[:, None] + np.arange(taps)
    weights = np.maximum(1 - np.abs(columns - centres[:, None]) / reach, 0)
    weights[(columns < 0) | (columns >= source)] = 0
    weights[weights < 1e-9] = 0
    weights /= weights.sum(1, keepdims=True)
    rows = np.repeat(np.arange(stop - start), taps)
    kept = weights.ravel() > 0
    entries = weights.ravel()[kept].astype(np.float32)
    where = (rows[kept], columns.ravel()[kept])
    return csr_array((entries, where), shape=(stop - start, source))


def resample(
    vertical: csr_array | slice, values: NDArray[np.float32], horizontal: csr_array | slice
) -> NDArray[np.float32]:
    """Resample along both axes.

    Args:
        vertical: float32 [H,h]; or which rows are taken as they are.
        values: float32 [h,w,C].
        horizontal: float32 [W,w]; or which columns are taken as they are.

    Returns:
        float32 [H,W,C].
    """
    tall = values[vertical] if isinstance(vertical, slice) else _along_rows(vertical, values)
    if isinstance(horizontal, slice):
        return np.ascontiguousarray(tall[:, horizontal])
    return np.ascontiguousarray(_turned(_along_rows(horizontal, _turned(tall))))


def _along_rows(matrix: csr_array, values: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width, bands = values.shape
    made: NDArray[np.float32] = matrix @ values.reshape(height, width * bands)
    return made.reshape(-1, width, bands)


def _turned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values [h,w,C] as [w,h,C]."""
    return np.ascontiguousarray(values.transpose(1, 0, 2))
