"""Figures of a map's classes: who labels a pixel, and how often both maps agree.

The truth is labelled where its colours are pure, at the native size, and then averaged over
the area of each compared pixel. Relabelling a true map after shrinking it would be wrong
wherever a mixed colour happens to be near a third class's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import Legend

BOUNDARY_TOLERANCE = 2
ROAD_SHARE = 0.4


@dataclass(frozen=True)
class TrueClasses:
    """What a true map shows at the compared size.

    Attributes:
        labels: uint8 [H,W], the class with the largest share of each pixel.
        road: bool [H,W], where the road classes have more than 0.4 of the pixel together.
    """

    labels: NDArray[np.uint8]
    road: NDArray[np.bool_]


def true_classes(
    native_map: NDArray[np.uint8], legend: Legend, height: int, width: int
) -> TrueClasses:
    """Label a true map and bring its classes to the compared size.

    Args:
        native_map: The map as it is in the data set, uint8 [H,W,3].
        legend: Its classes.
        height: The height compared, in pixels.
        width: The width compared, in pixels.
    """
    labels = legend.label(native_map)
    if labels.shape == (height, width):
        return TrueClasses(labels, legend.roads[labels])
    shares = area_shares(labels, len(legend), height, width)
    return TrueClasses(
        shares.argmax(axis=2).astype(np.uint8),
        shares[..., legend.roads].sum(axis=2) > ROAD_SHARE,
    )


def area_shares(
    labels: NDArray[np.uint8], classes: int, height: int, width: int
) -> NDArray[np.float32]:
    """Return the share of its area that each class has in each pixel of another size.

    Args:
        labels: Class numbers, uint8 [H,W].
        classes: How many classes there are.
        height: The new height, in pixels.
        width: The new width, in pixels.

    Returns:
        float32 [height,width,classes], 0 to 1, with a sum of 1 over the classes.
    """
    present = np.unique(labels)
    one_hot = (labels[..., None] == present).astype(np.float32)
    rows, columns, count = one_hot.shape
    down = _area_weights(rows, height) @ one_hot.reshape(rows, columns * count)
    turned = down.reshape(height, columns, count).transpose(1, 0, 2)
    across = _area_weights(columns, width) @ np.ascontiguousarray(turned).reshape(columns, -1)
    shares = np.zeros((height, width, classes), np.float32)
    shares[..., present] = across.reshape(width, height, count).transpose(1, 0, 2)
    return shares


@dataclass(frozen=True)
class Agreement:
    """Pixels of each class on which two maps agree, and that either of them has.

    Attributes:
        intersections: int64 [K].
        unions: int64 [K].
    """

    intersections: NDArray[np.int64]
    unions: NDArray[np.int64]


def agreement(
    generated: NDArray[np.uint8], true: NDArray[np.uint8], classes: int, tolerance: float = 0
) -> Agreement:
    """Count where two label pictures agree.

    With a tolerance, a generated pixel counts as right if the true map has its class within
    that distance: the true map is relaxed to say the same there, and both counts are taken
    against the relaxed map. So a boundary that is off by a pixel or two costs nothing, and
    what is missing or invented costs as much as ever.

    Args:
        generated: Class numbers, uint8 [H,W].
        true: Class numbers, uint8 [H,W].
        classes: How many classes there are.
        tolerance: How far a boundary may be off, in pixels, as the crow flies.
    """
    if tolerance:
        near = _near_same_class(generated, true, tolerance)
        true = np.where(near, generated, true)
    both = np.bincount(generated[generated == true], minlength=classes)
    either = (
        np.bincount(generated.ravel(), minlength=classes)
        + np.bincount(true.ravel(), minlength=classes)
        - both
    )
    return Agreement(both.astype(np.int64), either.astype(np.int64))


def iou(agreed: Agreement) -> NDArray[np.float64]:
    """Return intersection over union of each class, float64 [K]; nan where it never occurs."""
    values = np.full(agreed.unions.shape, np.nan)
    np.divide(agreed.intersections, agreed.unions, out=values, where=agreed.unions > 0)
    return values


def _near_same_class(
    generated: NDArray[np.uint8], true: NDArray[np.uint8], reach: float
) -> NDArray[np.bool_]:
    whole = int(reach)
    height, width = true.shape
    # 255 is no class (a legend has at most 255), so the frame never matches.
    framed = np.pad(true, whole, constant_values=255)
    near = np.zeros(true.shape, np.bool_)
    for dy in range(-whole, whole + 1):
        for dx in range(-whole, whole + 1):
            if dy * dy + dx * dx <= reach * reach:
                y, x = whole + dy, whole + dx
                near |= framed[y : y + height, x : x + width] == generated
    return near


def _area_weights(before: int, after: int) -> Any:
    """Return the sparse matrix [after,before] that averages a line over new pixels."""
    from scipy.sparse import csr_array

    edges_after = np.arange(after + 1) * (before / after)
    first = np.floor(edges_after[:-1] + 1e-9).astype(int)
    last = np.minimum(np.ceil(edges_after[1:] - 1e-9).astype(int), before)
    rows = np.repeat(np.arange(after), last - first)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    covered = np.minimum(columns + 1, edges_after[rows + 1]) - np.maximum(
        columns, edges_after[rows]
    )
    weights = (covered * (after / before)).astype(np.float32)
    return csr_array((weights, (rows, columns)), shape=(after, before))
