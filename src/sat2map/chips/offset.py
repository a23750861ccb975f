"""How far vectors lie beside imagery: where the edges of both coincide best.

Phase correlation (Kuglin and Hines, "The phase correlation image alignment method", 1975) of
the edges of imagery and of the drawn map. The cross-power spectra of many windows are added, so
that what they have in common stands out; how far the windows agree tells how sure it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 60
"""Of the windows, with replacement, to tell how sure the estimate is (bootstrap)."""

SURE = 0.9
"""Share of the resamples that agree, from which on an estimate is called sure."""

SIGMA = 0.7
"""Pixels of smoothing before edges are looked for; more moves them towards shadows."""

AGREE = 2.0
"""Pixels between two estimates that agree."""


@dataclass(frozen=True)
class Offset:
    """The estimated distance of the vectors from the imagery.

    Attributes:
        columns: Pixels to the right.
        rows: Pixels down.
        confidence: Share of resamples of the windows that agree within `AGREE` pixels, 0 to 1.
        spread: Median distance of the resamples from the estimate, pixels.
        windows: How many windows were looked at.
    """

    columns: float
    rows: float
    confidence: float
    spread: float
    windows: int

    @property
    def sure(self) -> bool:
        """Whether the estimate can be relied on."""
        return self.confidence >= SURE and self.windows >= 2


def estimate_offset(
    windows: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], reach: int
) -> Offset | None:
    """Estimate how far maps are shifted against imagery.

    Args:
        windows: Imagery and map of some windows of one size, uint8 [H,W,3] each; those without
            edges in both are passed over.
        reach: Pixels in each direction beyond which no shift is looked for.

    Returns:
        The shift, to a fraction of a pixel, or None where no window has edges in both.
    """
    surfaces: list[NDArray[np.float64]] = []
    for imagery, drawn in windows:
        first, second = _edges(imagery), _edges(drawn)
        if first.std() < 1e-3 or second.std() < 1e-3:
            continue
        surfaces.append(_correlation(first, second, reach))
    if not surfaces:
        return None
    stack = np.stack(surfaces)
    estimate = _peak(stack.mean(0))
    random = np.random.default_rng(0)
    picks = random.integers(len(stack), size=(RESAMPLES, len(stack)))
    others = np.array([_peak(stack[pick].mean(0)) for pick in picks])
    distances = np.hypot(*(others - estimate).T)
    return Offset(
        float(estimate[1]),
        float(estimate[0]),
        float((distances <= AGREE).mean()),
        float(np.median(distances)),
        len(stack),
    )


def _edges(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how strong the edges are, float64 [H,W], even for weak and strong contrast."""
    from scipy.ndimage import gaussian_gradient_magnitude

    strength: NDArray[np.float64] = np.zeros(image.shape[:2])
    for band in range(3):
        strength += gaussian_gradient_magnitude(image[..., band].astype(np.float64), SIGMA)
    # A square root, lest a few roofs outweigh all streets.
    evened: NDArray[np.float64] = np.sqrt(strength / 3)
    return evened


def _correlation(
    first: NDArray[np.float64], second: NDArray[np.float64], reach: int
) -> NDArray[np.float64]:
    """Return how well edges coincide for each shift of the second, float64 [2r+1,2r+1]."""
    height, width = first.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    spectra = [np.fft.rfft2((edges - edges.mean()) * window) for edges in (first, second)]
    cross = np.conj(spectra[0]) * spectra[1]
    # Half whitened: fully, noise would count as much as streets; not at all, all is blurred.
    cross /= np.sqrt(np.abs(cross)) + 1e-9
    surface = np.fft.irfft2(cross, s=first.shape)
    surface /= surface.std() + 1e-12  # a window with one clear peak counts more
    around = np.arange(-reach, reach + 1)
    found: NDArray[np.float64] = surface[around[:, None], around]
    return found


def _peak(surface: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (row, column) of a surface's peak, from its middle, to a fraction of a pixel."""
    reach = surface.shape[0] // 2
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    found: NDArray[np.float64] = np.array([row, column], np.float64) - reach
    for axis, (line, at) in enumerate(((surface[:, column], row), (surface[row], column))):
        if 0 < at < 2 * reach:  # the top of a parabola through three points
            low, top, high = line[at - 1 : at + 2]
            bend = low - 2 * top + high
            if bend < 0:
                found[axis] += 0.5 * float((low - high) / bend)
    return found
