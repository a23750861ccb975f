"""Figures of lines: edges, the highway's colour, and the seams of tiled pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EDGE_THRESHOLD = 16.0
EDGE_TOLERANCE = 2
HIGHWAY_COLOUR = (240, 160, 30)
HIGHWAY_REACH = 20


def widen(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Return a mask, bool [H,W], with every pixel within `radius` of it, as the crow flies."""
    height, width = mask.shape
    widened = mask.copy()
    reach = math.floor(radius)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx > radius * radius or abs(dy) >= height or abs(dx) >= width:
                continue
            to_y, from_y = _overlap(dy, height)
            to_x, from_x = _overlap(dx, width)
            widened[to_y, to_x] |= mask[from_y, from_x]
    return widened


def share_inside(mask: NDArray[np.bool_], region: NDArray[np.bool_]) -> float:
    """Return the share, 0 to 1, of a mask's pixels that lie in a region; 0 for an empty mask."""
    return float((mask & region).sum() / max(1, mask.sum()))


def edges(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a picture, uint8 [H,W,C], has an edge, bool [H,W].

    An edge is a pixel whose Sobel magnitude (3x3, as scipy.ndimage weighs it) of the mean
    of the channels exceeds 16.
    """
    from scipy.ndimage import sobel

    grey = picture.mean(axis=2, dtype=np.float32)
    magnitude: NDArray[np.float32] = np.hypot(sobel(grey, 0), sobel(grey, 1))
    return magnitude > EDGE_THRESHOLD


def edge_density(generated: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return how many edge pixels are generated for each true one.

    Haze gives near 0, and 1 is right. It is nan where the true picture has no edge.

    Args:
        generated: `edges` of the generated picture, bool [H,W].
        true: `edges` of the true picture, bool [H,W].
    """
    return float(generated.sum() / true.sum()) if true.any() else math.nan


def f1(
    generated: NDArray[np.bool_], true: NDArray[np.bool_], tolerance: float = EDGE_TOLERANCE
) -> float:
    """Return the F1 score, 0 to 1, of a mask, where a near miss counts as a hit.

    Precision is the share of generated pixels within `tolerance` of a true one, recall the
    share of true pixels within `tolerance` of a generated one. It is nan where both masks
    are empty.

    Args:
        generated: bool [H,W].
        true: bool [H,W].
        tolerance: How far a near miss may be, in pixels.
    """
    if not generated.any() and not true.any():
        return math.nan
    return harmonic_mean(
        share_inside(generated, widen(true, tolerance)),
        share_inside(true, widen(generated, tolerance)),
    )


def harmonic_mean(a: float, b: float) -> float:
    """Return 2ab/(a+b), and 0 where both are 0."""
    return 0.0 if a + b == 0 else 2 * a * b / (a + b)


def highway(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a picture, uint8 [H,W,3], is highway orange, bool [H,W].

    That is within 20 of (240,160,30) in every channel.
    """
    difference = np.abs(picture.astype(np.int16) - np.array(HIGHWAY_COLOUR, np.int16))
    largest: NDArray[np.int16] = difference.max(axis=2)
    return largest <= HIGHWAY_REACH


@dataclass(frozen=True)
class SeamRange:
    """How strong the seams of a picture are, beside what its own content would give.

    Attributes:
        ratio: The seam ratio of the grid that was used.
        low: The 2.5 % quantile of the ratio over all shifted grids.
        high: The 97.5 % quantile.
    """

    ratio: float
    low: float
    high: float

    @property
    def seamless(self) -> bool:
        """Whether the grid that was used is inside the 95 % range of all grids."""
        return self.low <= self.ratio <= self.high


def seam_ratio(picture: NDArray[np.uint8], tile: int, *, offset: tuple[int, int] = (0, 0)) -> float:
    """Return the mean gradient across tile borders divided by the mean gradient elsewhere.

    The gradient is the absolute difference of neighbouring pixels, the mean of channels.
    It is nan where no border crosses the picture, and where the picture is flat but for
    its borders the ratio is infinite.

    Args:
        picture: uint8 [H,W,C].
        tile: Side of the tiles, or their stride where they overlap, in pixels.
        offset: Where the first tile's corner lies, (y, x).

    Raises:
        ValueError: `tile` is less than 2, so that everything would be a border.
    """
    return float(_seam_ratios(picture, tile)[offset[0] % tile, offset[1] % tile])


def seam_range(
    picture: NDArray[np.uint8], tile: int, *, offset: tuple[int, int] = (0, 0)
) -> SeamRange:
    """Return the seam ratio of a picture, with its distribution over all shifted grids.

    A map's own lines make the ratio swing widely with the grid's offset, so the ratio says
    something only beside those of the tile x tile other grids of the same picture.

    Args:
        picture: uint8 [H,W,C], larger than a tile.
        tile: Side of the tiles, or their stride where they overlap, in pixels.
        offset: Where the first tile's corner lies, (y, x).

    Raises:
        ValueError: `tile` is less than 2, or the picture has no tile border.
    """
    ratios = _seam_ratios(picture, tile)
    ratio = float(ratios[offset[0] % tile, offset[1] % tile])
    if math.isnan(ratio):
        raise ValueError(f"a picture of shape {picture.shape} has no border of {tile}-pixel tiles")
    ordered = np.sort(ratios[~np.isnan(ratios)])
    low, high = (ordered[round(share * (ordered.size - 1))] for share in (0.025, 0.975))
    return SeamRange(ratio, float(low), float(high))


def _seam_ratios(picture: NDArray[np.uint8], tile: int) -> NDArray[np.float64]:
    """Return the seam ratio of every grid, float64 [tile,tile], by the offset (y, x)."""
    if tile < 2:
        raise ValueError(f"a tile has at least 2 pixels a side, not {tile}")
    values = picture.astype(np.int16)
    sums, counts = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(values, axis=axis))
        lines = steps.sum(axis=(1 - axis, 2), dtype=np.int64)
        # Line i lies between pixels i and i+1: it is a border of the grids from i+1 on.
        grid = np.arange(1, lines.size + 1) % tile
        sums.append(np.bincount(grid, weights=lines, minlength=tile))
        counts.append(np.bincount(grid, minlength=tile) * (values.size // values.shape[axis]))
    border_sum = sums[0][:, None] + sums[1][None]
    border_count = counts[0][:, None] + counts[1][None]
    rest_sum = sums[0].sum() + sums[1].sum() - border_sum
    rest_count = counts[0].sum() + counts[1].sum() - border_count
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: NDArray[np.float64] = (border_sum / border_count) / (rest_sum / rest_count)
    # A picture of one colour has no gradient anywhere, so nothing stands out either.
    flat = (border_sum == 0) & (rest_sum == 0) & (border_count > 0) & (rest_count > 0)
    ratios[flat] = 1.0
    return ratios


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """Return where to write and where to read so that content moves by `shift`."""
    if shift >= 0:
        return slice(shift, length), slice(0, length - shift)
    return slice(0, length + shift), slice(-shift, length)
