"""Metrics of a map's classes: who labels a pixel, and how often both maps agree.

The truth is labelled where its colours are pure, at the native size, and then averaged over
the area of each compared pixel. Relabelling a true map after shrinking it would be wrong
wherever a mixed colour happens to be near a third class's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import STREETS, Colour, Legend, LegendClass, lab

BOUNDARY_TOLERANCE = 2
ROAD_SHARE = 0.4

# What counts as a map, in CIE Lab distances and shares of pixels. Of the `maps` set's maps,
# 98 % of the pixels lie within 6 of the house legend, of its photos 1 %; of the maps 55 % are
# flat, of aerial photos 10 to 25 %.
NEAR_HOUSE = 6.0
ENOUGH_NEAR = 0.9
FLAT_STEP = 3
ENOUGH_FLAT = 0.35
SAME_CLASS = 6.0
CORE = 3.0
ENOUGH_CORE = 0.8
LEAST_SHARE = 0.003
MOST_CLASSES = 32
MOST_MAPS = 200
SAMPLED_SIDE = 128


@dataclass(frozen=True)
class TrueClasses:
    """The classes of a true map at the compared size.

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

    def of(self, asked: NDArray[np.bool_]) -> Agreement:
        """Return the counts of some classes, bool [K]; those of the others are 0."""
        return Agreement(self.intersections * asked, self.unions * asked)


def agreement(
    generated: NDArray[np.uint8], true: NDArray[np.uint8], classes: int, tolerance: float = 0
) -> Agreement:
    """Count where two label images agree.

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
    # 255 is not a class (a legend has at most 255), so the frame never matches.
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


def find_legend(maps: Iterable[NDArray[np.uint8]]) -> Legend | None:
    """Return the legend of a set of map images, or None if they are not maps.

    If nine pixels of ten lie near colours of the house legend, it is that one. Otherwise
    the classes are the colours that flat areas have, the most frequent first, called
    class_1, class_2 and so on; one near the colour of a road of the house legend is a road,
    unless it fills more than half. Images that are hardly flat, or whose colours do not
    gather around a few, are not maps.

    Args:
        maps: Images of one set, uint8 [H,W,3]; the first 200 are looked at.
    """
    sampled, flat = [], []
    for image in islice(maps, MOST_MAPS):
        if image.shape[2] != 3:
            return None
        step = max(1, min(image.shape[:2]) // SAMPLED_SIDE)
        sampled.append(image[::step, ::step].reshape(-1, 3))
        flat.append(_flat(image)[::step, ::step].ravel())
    if not sampled:
        return None
    pixels, is_flat = np.concatenate(sampled), np.concatenate(flat)
    if _is_house(pixels):
        return STREETS
    if is_flat.mean() < ENOUGH_FLAT:
        return None
    found = _dominant(pixels[is_flat])
    return None if found is None else _name(found)


def _flat(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels that differ from none of their four neighbours by more than 3."""
    flat = np.ones(image.shape[:2], np.bool_)
    values = image.astype(np.int16)
    down = np.abs(np.diff(values, axis=0)).max(axis=2) <= FLAT_STEP
    across = np.abs(np.diff(values, axis=1)).max(axis=2) <= FLAT_STEP
    flat[1:] &= down
    flat[:-1] &= down
    flat[:, 1:] &= across
    flat[:, :-1] &= across
    return flat


def _distinct(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the colours of pixels, uint8 [N,3], and how often each occurs, int64 [N]."""
    red, green, blue = pixels.astype(np.int32).T
    packed, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    return colours.astype(np.uint8), counts.astype(np.int64)


def _is_house(pixels: NDArray[np.uint8]) -> bool:
    colours, counts = _distinct(pixels)
    distances = np.linalg.norm(lab(colours)[:, None] - lab(STREETS.colours)[None], axis=2)
    near = distances.min(axis=1) <= NEAR_HOUSE
    shares = np.bincount(distances.argmin(axis=1)[near], weights=counts[near]) / counts.sum()
    # Ink on white paper is near too, but in one or two of the colours only.
    return bool(shares.sum() >= ENOUGH_NEAR and (shares >= 0.01).sum() >= 3)


def _dominant(pixels: NDArray[np.uint8]) -> list[tuple[Colour, float]] | None:
    """Return the colours around which pixels gather with their shares, or None if none do."""
    colours, counts = _distinct(pixels)
    values = lab(colours)
    weights = counts / counts.sum()
    left, core = np.ones(len(colours), np.bool_), 0.0
    found: list[tuple[Colour, float]] = []
    while left.any() and len(found) <= MOST_CLASSES:
        mode = int(np.where(left, weights, 0).argmax())
        distances = np.linalg.norm(values - values[mode], axis=1)
        members = left & (distances <= SAME_CLASS)
        share = float(weights[members].sum())
        if share < LEAST_SHARE:
            break
        found.append((_as_colour(colours[mode]), share))
        core += float(weights[left & (distances <= CORE)].sum())
        left &= ~members
    return found if 2 <= len(found) <= MOST_CLASSES and core >= ENOUGH_CORE else None


def _as_colour(values: NDArray[np.uint8]) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _name(found: list[tuple[Colour, float]]) -> Legend:
    roads = lab(STREETS.colours[STREETS.roads])
    entries = []
    for number, (colour, share) in enumerate(found, 1):
        distances = np.linalg.norm(roads - lab(np.array(colour, np.uint8)), axis=1)
        road = bool(distances.min() <= NEAR_HOUSE and share <= 0.5)
        entries.append(LegendClass(f"class_{number}", colour, "road" if road else "other"))
    return Legend(tuple(entries))
