"""What is too small to be shown goes to the neighbour with which it shares the longest border."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.legend import Legend, Role
from sat2map.vectors.class_map import NOTHING

MINIMUM_M2: Mapping[Role, float] = {
    "building": 20.0,
    "water": 100.0,
    "vegetation": 50.0,
    "land": 50.0,
    "other": 50.0,
    "road": 50.0,
    "casing": 50.0,
}
"""Square metres that an area of a role has at least, unless told otherwise."""

Areas = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


def sieve(
    numbers: NDArray[np.uint8],
    legend: Legend,
    metres: tuple[float, float],
    minimum_m2: Mapping[Role, float] = MINIMUM_M2,
    confidence: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Return class numbers without islands that are smaller than the minimum of their role.

    The smallest go first, each to a larger neighbour: the one with the longest shared border, in
    metres; of equal ones to the surer, then to the first in the raster's order. What an island
    makes large enough stays. What reaches the edge of the raster counts as large, as nobody knows
    how far it goes on. Roads hang together over corners, too, so that a narrow one which
    connects is never dissolved.

    Args:
        numbers: uint8 [H,W]; `NOTHING` where there is no map, which never changes.
        legend: What they mean.
        metres: From pixel to pixel, (along a row, along a column).
        minimum_m2: Square metres by role; a role that is missing has none.
        confidence: Float [H,W], nan where unknown.
    """
    from skimage.measure import label

    shifted = np.where(numbers == NOTHING, 0, numbers + 1).astype(np.int32)
    labels, count = label(  # type: ignore[no-untyped-call]
        shifted, background=0, connectivity=1, return_num=True
    )
    labels = labels.astype(np.int32)
    if count < 2:
        return numbers
    pixel = float(metres[0] * metres[1])
    places = np.arange(labels.size, dtype=np.int32)
    first = np.zeros(count + 1, np.int64)
    first[labels.ravel()[::-1]] = places[::-1]  # of several values the last is kept
    kinds = numbers.ravel()[first]
    needed = np.zeros(256)
    needed[: len(legend)] = [minimum_m2.get(entry.role, 0.0) for entry in legend.classes]
    area = np.bincount(labels.ravel(), minlength=count + 1) * pixel
    area = np.maximum(area, _roads_over_corners(labels, kinds, legend, area))
    area[np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = np.inf
    area[0] = 0.0
    if not (area[1:] < needed[kinds[1:]]).any():
        return numbers
    sure = _means(labels, confidence, count)
    graph = _borders(labels, metres)
    # Equal areas go in an order that looks like chance, or a chessboard would go pixel by pixel.
    turn = (first * 2654435761 + 40503) % 4294967291
    found = _merged(graph, area, kinds, needed, sure, turn)
    return np.where(numbers == NOTHING, NOTHING, found[labels]).astype(np.uint8)


def _roads_over_corners(
    labels: NDArray[np.integer[Any]], kinds: NDArray[np.uint8], legend: Legend, area: Areas
) -> Areas:
    """Return for each part that is a road the area of all that hang together over corners."""
    from scipy import ndimage

    is_road = np.zeros(256, np.bool_)
    is_road[: len(legend)] = legend.roads
    roads = is_road[kinds]
    roads[0] = False
    if not roads.any():
        return area
    whole, count = ndimage.label(roads[labels], np.ones((3, 3)))
    part = np.zeros(len(kinds), np.int64)
    part[labels.ravel()] = whole.ravel()
    sums = np.bincount(part[roads], area[roads], minlength=count + 1)
    return np.where(roads, sums[part], area)


def _means(
    labels: NDArray[np.integer[Any]], confidence: NDArray[np.float32] | None, count: int
) -> Areas:
    if confidence is None:
        return np.zeros(count + 1)
    known = np.isfinite(confidence)
    sums = np.bincount(labels[known], confidence[known].astype(np.float64), minlength=count + 1)
    seen: Areas = np.bincount(labels[known], minlength=count + 1).astype(np.float64)
    return sums / np.maximum(seen, 1)


def _borders(
    labels: NDArray[np.integer[Any]], metres: tuple[float, float]
) -> tuple[Integers, Integers, Areas]:
    """Return (part, other part, length in metres) of all shared borders, both ways."""
    firsts, seconds, lengths = [], [], []
    for one, other, length in (
        (labels[:, :-1], labels[:, 1:], metres[1]),
        (labels[:-1], labels[1:], metres[0]),
    ):
        beside = (one != other) & (one > 0) & (other > 0)
        firsts.append(one[beside].astype(np.int64))
        seconds.append(other[beside].astype(np.int64))
        lengths.append(np.full(len(firsts[-1]), length, np.float64))
    return _summed(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(lengths), True)


def _summed(
    first: Integers, second: Integers, length: Areas, both: bool
) -> tuple[Integers, Integers, Areas]:
    """Return each pair once, with the sum of its lengths."""
    if both:
        first, second = np.r_[first, second], np.r_[second, first]
        length = np.r_[length, length]
    if not len(first):
        return first, second, length
    order = np.lexsort((second, first))
    first, second, length = first[order], second[order], length[order]
    new = np.flatnonzero(np.r_[True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])])
    return first[new], second[new], np.add.reduceat(length, new)


def _merged(
    graph: tuple[Integers, Integers, Areas],
    area: Areas,
    kinds: NDArray[np.uint8],
    needed: Areas,
    sure: Areas,
    turn: Integers,
) -> NDArray[np.uint8]:
    """Return the class of each part when all that can be dissolved is."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other, length = graph
    count = len(area)
    group = np.arange(count)
    kinds = kinds.copy()
    while True:
        small = area < needed[kinds]
        small[0] = False
        rank = np.empty(len(area), np.int64)
        rank[np.lexsort((turn, area))] = np.arange(len(area))
        lower = small[one] & small[other] & (rank[other] < rank[one])
        waits = np.zeros(len(area), np.bool_)
        waits[one[lower]] = True  # a smaller neighbour goes first
        may = small[one] & ~waits[one]
        if not may.any():
            return kinds[group]
        asks, to, shared = one[may], other[may], length[may]
        order = np.lexsort((to, -sure[to], -shared, asks))
        best = order[np.r_[True, asks[order][1:] != asks[order][:-1]]]
        asks, to = asks[best], to[best]
        kinds[asks] = kinds[to]
        # What is of one class now, side by side, is one part.
        same = kinds[one] == kinds[other]
        rows, columns = np.r_[one[same], asks], np.r_[other[same], to]
        links = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), (len(area),) * 2)
        number, part = connected_components(links, directed=False)
        group = part[group]
        total = np.bincount(part, area, minlength=number).astype(np.float64)
        kept = np.zeros(number, np.uint8)
        kept[part] = kinds
        surest = np.bincount(part, np.where(np.isinf(area), 0, area) * sure, minlength=number)
        weight = np.bincount(part, np.where(np.isinf(area), 0, area), minlength=number)
        sure = surest / np.maximum(weight, 1e-300)
        earliest = np.full(number, np.iinfo(np.int64).max)
        np.minimum.at(earliest, part, turn)
        area, kinds, turn = total, kept, earliest
        one, other = part[one], part[other]
        apart = one != other
        one, other, length = _summed(one[apart], other[apart], length[apart], False)
