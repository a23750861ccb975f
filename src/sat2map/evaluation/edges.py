"""Metrics of lines: edges, the roads that stand out, and the seams of tiled images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import Colour, Legend

EDGE_THRESHOLD = 16.0
EDGE_TOLERANCE = 2
STANDS_OUT = 60
"""By how much the channels of a road's colour differ, at least, if it stands out of a map."""
COLOUR_REACH = 20


def dilate(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Return a mask, bool [H,W], with every pixel within `radius` of it, as the crow flies."""
    from scipy.ndimage import binary_dilation

    steps = np.arange(-math.floor(radius), math.floor(radius) + 1)
    disc = steps[:, None] ** 2 + steps**2 <= radius * radius
    dilated: NDArray[np.bool_] = binary_dilation(mask, disc)
    return dilated


def share_inside(mask: NDArray[np.bool_], region: NDArray[np.bool_]) -> float:
    """Return the share, 0 to 1, of a mask's pixels that lie in a region; 0 for an empty mask."""
    return float((mask & region).sum() / max(1, mask.sum()))


def edges(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where an image, uint8 [H,W,C], has an edge, bool [H,W].

    An edge is a pixel whose Sobel magnitude (3x3, as scipy.ndimage weighs it) of the mean
    of the channels exceeds 16.
    """
    from scipy.ndimage import sobel

    grey = image.mean(axis=2, dtype=np.float32)
    magnitude: NDArray[np.float32] = np.hypot(sobel(grey, 0), sobel(grey, 1))
    return magnitude > EDGE_THRESHOLD


def edge_density(generated: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return how many edge pixels are generated for each true one.

    Haze gives near 0, and 1 is right. It is nan where the true image has no edge.

    Args:
        generated: `edges` of the generated image, bool [H,W].
        true: `edges` of the true image, bool [H,W].
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
        share_inside(generated, dilate(true, tolerance)),
        share_inside(true, dilate(generated, tolerance)),
    )


def harmonic_mean(a: float, b: float) -> float:
    """Return 2ab/(a+b), and 0 where both are 0."""
    return 0.0 if a + b == 0 else 2 * a * b / (a + b)


def outstanding_road(legend: Legend) -> Colour | None:
    """Return the most colourful colour of a legend's roads, or None where all are rather grey.

    Main roads are drawn so: they are thin and rare, and haze loses them first.
    """
    colours = [entry.colour for entry in legend.classes if entry.role == "road"]
    most = max(colours, key=_colourfulness, default=None)
    return most if most is not None and _colourfulness(most) >= STANDS_OUT else None


def _colourfulness(colour: Colour) -> int:
    return max(colour) - min(colour)


def in_colour(image: NDArray[np.uint8], colour: Colour) -> NDArray[np.bool_]:
    """Return where an image, uint8 [H,W,3], is within 20 of a colour in every channel."""
    difference = np.abs(image.astype(np.int16) - np.array(colour, np.int16))
    largest: NDArray[np.int16] = difference.max(axis=2)
    return largest <= COLOUR_REACH


@dataclass(frozen=True)
class SeamRange:
    """How strong the seams of an image are, beside what its own content would give.

    Attributes:
        ratio: Mean gradient across the borders over mean gradient elsewhere. The gradient is the
            absolute difference of neighbouring pixels, the mean of channels; infinite where the
            image is flat but for its borders.
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

    def __str__(self) -> str:
        inside = "inside" if self.seamless else "OUTSIDE"
        return f"{self.ratio:.3f} {inside} [{self.low:.3f}, {self.high:.3f}]"


def seam_range(
    image: NDArray[np.uint8],
    tile: int,
    *,
    offset: tuple[int, int] = (0, 0),
    borders: tuple[int, ...] = (0,),
) -> SeamRange:
    """Return the seam ratio of an image, with its distribution over all shifted grids.

    A map's own lines make the ratio swing widely with the grid's offset, so the ratio says
    something only beside those of the tile x tile other grids of the same image.

    Args:
        image: uint8 [H,W,C], larger than a tile along an axis at least; the other is left out.
        tile: Side of the tiles, or their stride where they overlap, in pixels.
        offset: Where the first tile's corner lies, (y, x).
        borders: How far from a tile's corner borders lie. Where windows overlap, the one before
            ends in a window as well as this one begins.

    Raises:
        ValueError: `tile` is less than 2, or the image has no tile border.
    """
    ratios = _seam_ratios(image, tile, offset, borders)
    ratio = float(ratios[offset[0] % tile, offset[1] % tile])
    if math.isnan(ratio):
        raise ValueError(f"an image of shape {image.shape} has no border of {tile}-pixel tiles")
    ordered = np.sort(ratios[~np.isnan(ratios)])
    low, high = (ordered[round(share * (ordered.size - 1))] for share in (0.025, 0.975))
    return SeamRange(ratio, float(low), float(high))


def _seam_ratios(
    image: NDArray[np.uint8], tile: int, offset: tuple[int, int], borders: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the seam ratio of every grid, float64 [tile,tile], by the offset (y, x)."""
    if tile < 2:
        raise ValueError(f"a tile has at least 2 pixels a side, not {tile}")
    values = image.astype(np.int16)
    sums, counts = [], []
    total = pixels = 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(values, axis=axis))
        lines = steps.sum(axis=(1 - axis, 2), dtype=np.int64)
        width = values.size // values.shape[axis]
        total, pixels = total + float(lines.sum()), pixels + float(lines.size * width)
        # Line i lies between pixels i and i+1: it is a border of the grids from i+1 on.
        grid = np.arange(1, lines.size + 1) % tile
        each = np.bincount(grid, weights=lines, minlength=tile)
        count = np.bincount(grid, minlength=tile) * float(width)
        shifts = {border % tile for border in borders}
        crossed = np.sum([np.roll(each, -shift) for shift in shifts], axis=0)
        of_pixels = np.sum([np.roll(count, -shift) for shift in shifts], axis=0)
        used = of_pixels[offset[axis] % tile] > 0  # else one tile covers the axis
        sums.append(crossed * used)
        counts.append(of_pixels * used)
    border_sum = sums[0][:, None] + sums[1][None]
    border_count = counts[0][:, None] + counts[1][None]
    rest_sum, rest_count = total - border_sum, pixels - border_count
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: NDArray[np.float64] = (border_sum / border_count) / (rest_sum / rest_count)
    # An image of one colour has no gradient anywhere, so nothing stands out either.
    flat = (border_sum == 0) & (rest_sum == 0) & (border_count > 0) & (rest_count > 0)
    ratios[flat] = 1.0
    return ratios
