"""Metrics of the road network: is it there, is it where it belongs, does it connect?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sat2map.evaluation.edges import dilate, harmonic_mean, share_inside

CLDICE_MARGIN = 1
BUFFER = 3


@dataclass(frozen=True)
class RoadMetrics:
    """How a generated road network compares with the true one; nan where undefined.

    Attributes:
        cldice: 0 to 1; nan where there is no true road.
        completeness: Share of the true network that was found; nan where there is none.
        correctness: Share of the generated network that is true; 0 where nothing was
            generated although there are roads, nan where there are none at all.
        components_difference: By how many connected parts the networks differ, at least 0.
        loops_difference: By how many closed loops the networks differ, at least 0.
    """

    cldice: float
    completeness: float
    correctness: float
    components_difference: float
    loops_difference: float


def compare_roads(generated: NDArray[np.bool_], true: NDArray[np.bool_]) -> RoadMetrics:
    """Compare two road masks, bool [H,W].

    The skeletons are taken once for all metrics (Zhang and Suen 1984, by scikit-image).
    """
    generated_line, true_line = skeleton(generated), skeleton(true)
    parts_generated, loops_generated = topology(generated_line)
    parts_true, loops_true = topology(true_line)
    return RoadMetrics(
        cldice(generated, true, generated_line, true_line),
        completeness(generated_line, true_line),
        correctness(generated_line, true_line),
        float(abs(parts_generated - parts_true)),
        float(abs(loops_generated - loops_true)),
    )


def skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the centre lines, one pixel wide, of a mask, bool [H,W]."""
    from skimage.morphology import skeletonize

    lines: NDArray[np.bool_] = skeletonize(mask)  # type: ignore[no-untyped-call]
    return lines


def cldice(
    generated: NDArray[np.bool_],
    true: NDArray[np.bool_],
    generated_line: NDArray[np.bool_],
    true_line: NDArray[np.bool_],
) -> float:
    """Return the centre-line Dice, 0 to 1; nan where there is no true road.

    It is 2PS/(P+S), with P the share of the generated skeleton inside the true mask and S
    the share of the true skeleton inside the generated mask (Shit et al., arXiv
    2003.07311), where both masks are dilated by one pixel.

    Args:
        generated: Road mask, bool [H,W].
        true: Road mask, bool [H,W].
        generated_line: `skeleton` of the generated mask.
        true_line: `skeleton` of the true mask.
    """
    if not true.any():
        return math.nan
    return harmonic_mean(
        share_inside(generated_line, dilate(true, CLDICE_MARGIN)),
        share_inside(true_line, dilate(generated, CLDICE_MARGIN)),
    )


def completeness(generated_line: NDArray[np.bool_], true_line: NDArray[np.bool_]) -> float:
    """Return the share of the true lines within 3 pixels of a generated one.

    After Heipke et al. 1997. It is nan where there is no true line.
    """
    return share_inside(true_line, dilate(generated_line, BUFFER)) if true_line.any() else math.nan


def correctness(generated_line: NDArray[np.bool_], true_line: NDArray[np.bool_]) -> float:
    """Return the share of the generated lines within 3 pixels of a true one.

    After Heipke et al. 1997. It is 0 where nothing was generated although there is a true
    line, and nan where there is neither.
    """
    if not generated_line.any() and not true_line.any():
        return math.nan
    return share_inside(generated_line, dilate(true_line, BUFFER))


def topology(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many connected parts and closed loops a mask, bool [H,W], has.

    Pixels that touch at a corner are connected. Parts minus loops is the Euler number.
    """
    from scipy.ndimage import label

    eight = np.ones((3, 3), np.bool_)
    parts = int(label(mask, eight)[1])
    # What is enclosed is the background that is not joined, side by side, to the outside.
    loops = int(label(np.pad(~mask, 1, constant_values=True))[1]) - 1
    return parts, loops
