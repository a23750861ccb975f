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

_AT_ONCE = 1 << 18
"""Pixels of which arrays are made that are larger than the raster's own."""

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
    connects is never dissolved. Pixels are counted and sums are exact, so that no rounding decides.

    Args:
        numbers: uint8 [H,W]; `NOTHING` where there is no map, which never changes.
        legend: What they mean.
        metres: From pixel to pixel, (along a row, along a column).
        minimum_m2: Square metres by role; a role that is missing has none.
        confidence: Float [H,W], nan where unknown.
    """
    runs = _Runs(numbers)
    if len(runs.first) < 2:
        return numbers
    kinds = np.append(np.uint8(NOTHING), numbers.ravel()[runs.first])
    needed = np.zeros(256)
    needed[: len(legend)] = [minimum_m2.get(entry.role, 0.0) for entry in legend.classes]
    needed /= metres[0] * metres[1]
    area = runs.sizes()
    area = np.maximum(area, _roads_over_corners(runs, numbers, legend, area))
    area[runs.at_edge()] = np.inf
    area[0] = 0.0
    if not (area[1:] < needed[kinds[1:]]).any():
        return numbers
    sure = _means(runs, confidence)
    # Equal areas go in an order that looks like chance, or a chessboard would go pixel by pixel.
    first = np.append(0, runs.first)
    turn = (first * 2654435761 + 40503) % 4294967291
    found = _merged(runs.borders(metres), area, kinds, needed, sure, turn)
    return np.repeat(found[runs.part], runs.lengths).reshape(numbers.shape)


class _Runs:
    """Class numbers as runs of equal pixels within rows, of which there are far fewer.

    Args:
        numbers: uint8 [H,W].

    Attributes:
        starts: The first pixel of each run, counted row by row, int64 [runs].
        lengths: Its pixels.
        part: The part that it is of: from 1 in the order of their first pixels, runs of one class
            that hang together side by side; 0 where there is no map.
        first: The first pixel of each part, int64 [parts].
    """

    def __init__(self, numbers: NDArray[np.uint8]) -> None:
        self._shape = numbers.shape
        height, width = numbers.shape
        begins = np.ones(numbers.shape, np.bool_)
        np.not_equal(numbers[:, 1:], numbers[:, :-1], out=begins[:, 1:])
        self.starts = np.flatnonzero(begins)
        self.lengths = np.diff(self.starts, append=numbers.size)
        # A contact: pixels side by side along which a run lies above one and the same other.
        above = np.flatnonzero(begins[:-1] | begins[1:])
        contacts = np.diff(above, append=(height - 1) * width)
        kinds = numbers.ravel()[self.starts]
        upper, lower = self._run_of(above), self._run_of(above + width)
        self.part, self.first = self._parts(kinds, upper, lower)
        one, other = self.part[upper], self.part[lower]
        apart = (one != other) & (one > 0) & (other > 0)
        self._below = one[apart], other[apart], contacts[apart]

    def _run_of(self, places: Integers) -> Integers:
        return np.searchsorted(self.starts, places, side="right") - 1

    def _parts(
        self, kinds: NDArray[np.uint8], upper: Integers, lower: Integers
    ) -> tuple[Integers, Integers]:
        """Return the part of each run and the first pixel of each part, as they are told above."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        same = kinds[upper] == kinds[lower]
        ends = upper[same], lower[same]
        links = coo_array((np.ones(len(ends[0]), np.bool_), ends), (len(kinds),) * 2)
        _, group = connected_components(links, directed=False)
        group = np.where(kinds == NOTHING, -1, group)
        found, at, number = np.unique(group, return_index=True, return_inverse=True)
        known = found >= 0
        order = np.argsort(np.where(known, at, -1), kind="stable")
        rank = np.empty(len(found), np.int64)
        rank[order] = np.arange(len(found)) + (1 if known.all() else 0)
        return rank[number], self.starts[np.sort(at[known])]

    def sizes(self) -> Areas:
        """Return how many pixels each part has; first what is no part."""
        sizes = np.bincount(self.part, self.lengths, minlength=len(self.first) + 1)
        return sizes.astype(np.float64)

    def at_edge(self) -> Integers:
        """Return the parts that reach the edge of the raster."""
        height, width = self._shape
        row, column = np.divmod(self.starts, width)
        edge = (row == 0) | (row == height - 1) | (column == 0) | (column + self.lengths == width)
        return np.unique(self.part[edge])

    def borders(self, metres: tuple[float, float]) -> tuple[Integers, Integers, Areas]:
        """Return (part, other part, length in metres) of all shared borders, both ways."""
        # Of 24 bits, so that sums are exact: equal borders are equal in whatever order.
        along, across = (float(np.float32(metre)) for metre in metres)
        follows = np.flatnonzero(self.starts[1:] % self._shape[1]) + 1
        one, other = self.part[follows - 1], self.part[follows]
        apart = (one > 0) & (other > 0)
        above, below, contacts = self._below
        return _summed(
            np.concatenate([one[apart], above]),
            np.concatenate([other[apart], below]),
            np.concatenate([np.full(apart.sum(), across), contacts * along]),
            True,
        )


def _roads_over_corners(
    runs: _Runs, numbers: NDArray[np.uint8], legend: Legend, area: Areas
) -> Areas:
    """Return for each part that is a road the area of all that hang together over corners."""
    from scipy import ndimage

    is_road = np.zeros(256, np.bool_)
    is_road[: len(legend)] = legend.roads
    if not is_road[numbers.ravel()[runs.first]].any():
        return area
    whole, count = ndimage.label(is_road[numbers], np.ones((3, 3)))
    part = np.zeros(len(area), np.int64)
    part[1:] = whole.ravel()[runs.first]
    sums = np.bincount(part, area, minlength=count + 1)
    return np.where(part > 0, sums[part], area)


def _means(runs: _Runs, confidence: NDArray[np.float32] | None) -> Areas:
    """Return the mean of what is known of each part's confidence."""
    count = len(runs.first) + 1
    if confidence is None:
        return np.zeros(count)
    sums, seen = np.zeros(count), np.zeros(count)
    part = np.repeat(runs.part.astype(np.int32), runs.lengths)
    values = confidence.ravel()
    for start in range(0, len(values), _AT_ONCE):
        known = np.isfinite(values[start : start + _AT_ONCE])
        of = part[start : start + _AT_ONCE][known]
        np.add.at(sums, of, values[start : start + _AT_ONCE][known].astype(np.float64))
        seen += np.bincount(of, minlength=count)
    return sums / np.maximum(seen, 1)


def _summed(
    first: Integers, second: Integers, length: Areas, both: bool
) -> tuple[Integers, Integers, Areas]:
    """Return each pair once, with the sum of its lengths."""
    if both:
        first, second = np.r_[first, second], np.r_[second, first]
        length = np.r_[length, length]
    if not len(first):
        return first, second, length
    # In whatever order equal pairs are, as sums are exact.
    order = np.argsort(first * (int(second.max()) + 1) + second)
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
