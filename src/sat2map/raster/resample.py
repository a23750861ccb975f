"""From one grid to another along an axis, and how windows add up on it: pure geometry.

Resampling and blending are both linear, so a window's answer can be weighted and resampled on
its own and then added to the others': the sum is the same as if the whole scene had been
blended first and resampled afterwards, but nobody ever has to hold it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sat2map.translation.tiling import Span, spans


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


def apply(
    vertical: csr_array, values: NDArray[np.float32], horizontal: csr_array
) -> NDArray[np.float32]:
    """Resample along both axes.

    Args:
        vertical: float32 [H,h].
        values: float32 [h,w,C].
        horizontal: float32 [W,w].

    Returns:
        float32 [H,W,C].
    """
    height, width, bands = values.shape
    tall = (vertical @ values.reshape(height, width * bands)).reshape(-1, width, bands)
    turned = np.ascontiguousarray(tall.transpose(1, 0, 2)).reshape(width, -1)
    done: NDArray[np.float32] = (horizontal @ turned).reshape(-1, len(tall), bands)
    return np.ascontiguousarray(done.transpose(1, 0, 2))


@dataclass(frozen=True)
class Placement:
    """What one window contributes along one axis of the output.

    Attributes:
        span: The window, in pixels of the grid that the network sees.
        first: First output pixel that it contributes to.
        matrix: Its weights, blending and resampling in one: float32 [pixels, window], sparse.
        begin: First output pixel that was not finished before this window.
        finish: One past the last output pixel that needs no later window.
        end: One past the last output pixel that this or an earlier window contributes to.
    """

    span: Span
    first: int
    matrix: csr_array
    begin: int
    finish: int
    end: int


def placements(
    seen: int, written: int, window: int, overlap: int, multiple: int, align: int
) -> list[Placement]:
    """Return what each window contributes to an axis.

    Over all windows the weights of every output pixel sum to one, and the ranges from `begin`
    to `finish` follow each other without gap or overlap.

    Args:
        seen: Pixels of the axis that the network sees.
        written: Pixels of the output's axis over the same ground.
        window: Size of a window, a multiple of `multiple`.
        overlap: What neighbours share, at most half of the window.
        multiple: What sizes are multiples of.
        align: Where pixels are finished, at multiples of this; the end excepted.
    """
    whole = resampling(seen, written).tocsc()
    found = []
    for span in spans(seen, window, overlap, multiple):
        inside = min(span.size, seen - span.start)
        part = whole[:, span.start : span.start + inside]
        touched = np.unique(part.indices)
        first, last = int(touched.min()), int(touched.max()) + 1
        weighted = (part.tocsr()[first:last] * span.weights()[None, :inside]).tocsr()
        # What lies beyond the scene is a mirror image that nobody gets to see.
        weighted.resize((last - first, span.size))
        found.append((span, first, last, weighted.astype(np.float32)))
    placed: list[Placement] = []
    begin = end = 0
    for i, (span, first, last, matrix) in enumerate(found):
        end = max(end, last)
        following = [later[1] for later in found[i + 1 :]]
        finish = max(min(following) // align * align, begin) if following else written
        placed.append(Placement(span, first, matrix, begin, finish, end))
        begin = finish
    return placed
