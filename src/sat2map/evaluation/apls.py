"""Average path length similarity of two road networks (Van Etten et al., arXiv 1807.01232).

Does routing on one network give the same lengths as on the other?

1. Control points: every node of the first network, and a point every 50 m along its roads.
2. Each is snapped to the nearest place on the second network within a few metres.
3. For each pair of control points with a way between them of 10 m or more, the lengths of the
   shortest ways are compared: |a - b| / a, at most 1, and 1 where an end was not snapped or
   the second network has no way. The score is 1 minus the mean.
4. The same from the second network to the first; APLS is the harmonic mean of both.

The first direction finds missing roads and broken connections, the second roads that do not
exist. A network that is shifted by less than the snapping distance loses little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString

from sat2map.evaluation.edges import harmonic_mean

SPACING_M = 50.0
"""Distance of control points along a road."""

SHORTEST_M = 10.0
"""Shorter ways say nothing: their ends may be off by as much."""

SNAPS_M = (4.0, 15.0)
"""How far from a road a control point may lie: the strict and the lenient one of the paper."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """Roads between nodes, in metres.

    Attributes:
        lines: Object [N] of LineString.
        ends: int64 [N,2], the nodes at the first and the last point of each line.
        nodes: float64 [K,2].
    """

    lines: NDArray[np.object_]
    ends: NDArray[np.int64]
    nodes: Floats


def network_of(lines: Sequence[LineString], grid_m: float = 0.01) -> Network:
    """Return the network of lines that meet where their ends are the same point.

    Args:
        lines: In metres.
        grid_m: Ends closer than this are the same.
    """
    kept = np.array([line for line in lines if line.length > 0], object)
    if not len(kept):
        return Network(kept, np.empty((0, 2), np.int64), np.empty((0, 2)))
    ends = np.array([(line.coords[0], line.coords[-1]) for line in kept], np.float64)[..., :2]
    whole = np.rint(ends.reshape(-1, 2) / grid_m).astype(np.int64)
    _, first, node = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    return Network(kept, node.reshape(-1, 2), ends.reshape(-1, 2)[first])


@dataclass(frozen=True)
class Apls:
    """How alike the ways on two networks are, each 0 to 1; nan where neither has a way.

    Attributes:
        apls: The harmonic mean of both directions.
        true_to_found: Whether the ways of the true network are there.
        found_to_true: Whether the ways of the found network exist.
    """

    apls: float
    true_to_found: float
    found_to_true: float


def apls(found: Network, true: Network, snap_m: float) -> Apls:
    """Compare two networks.

    Args:
        found: The found network.
        true: The true network.
        snap_m: How far from a road a control point may lie, in metres.
    """
    forth, back = one_way(true, found, snap_m), one_way(found, true, snap_m)
    if math.isnan(forth) and math.isnan(back):
        return Apls(math.nan, math.nan, math.nan)
    forth, back = (0.0 if math.isnan(value) else value for value in (forth, back))
    return Apls(harmonic_mean(forth, back), forth, back)


def one_way(first: Network, second: Network, snap_m: float) -> float:
    """Return how well the ways of one network are met on another; nan where it has none."""
    numbers, places, points = control_points(first)
    if not len(points):
        return math.nan
    own = _distances(first, numbers, places)
    other = np.full(own.shape, np.inf)
    snapped, on, at = _snap(points, second, snap_m)
    if len(snapped):
        other[np.ix_(snapped, snapped)] = _distances(second, on, at)
    upper = np.triu(np.ones(own.shape, np.bool_), 1)
    asked = upper & np.isfinite(own) & (own >= SHORTEST_M)
    if not asked.any():
        return math.nan
    errors = np.minimum(1.0, np.abs(own[asked] - other[asked]) / own[asked])
    return float(1 - errors.mean())


def control_points(network: Network) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the control points of a network: their lines [N], metres along them [N], places [N,2].

    They are the nodes, each once, and the points every 50 m between.
    """
    numbers: list[int] = []
    places: list[float] = []
    seen: set[int] = set()
    for number, (line, (u, v)) in enumerate(zip(network.lines, network.ends.tolist(), strict=True)):
        length = line.length
        for node, place in ((u, 0.0), (v, length)):
            if node not in seen:
                seen.add(node)
                numbers.append(number)
                places.append(place)
        between = np.arange(SPACING_M, length, SPACING_M).tolist()
        numbers += [number] * len(between)
        places += between
    on, at = np.array(numbers, np.int64), np.array(places, np.float64)
    points = shapely.get_coordinates(shapely.line_interpolate_point(network.lines[on], at))
    return on, at, points


def _snap(
    points: Floats, network: Network, snap_m: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return which points lie near a network, the nearest line of each, and metres along it."""
    if not len(network.lines):
        none = np.empty(0, np.int64)
        return none, none, np.empty(0)
    places = shapely.points(points)
    pairs = shapely.STRtree(network.lines).query_nearest(
        places, max_distance=snap_m, all_matches=False
    )
    which, line = pairs[0].astype(np.int64), pairs[1].astype(np.int64)
    return which, line, shapely.line_locate_point(network.lines[line], places[which])


def _distances(network: Network, on: NDArray[np.int64], at: Floats) -> Floats:
    """Return the lengths of the shortest ways between places on a network, float64 [N,N].

    Args:
        network: The network.
        on: The line of each place.
        at: Metres from its first point.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    count = len(network.nodes)
    number = np.arange(len(on)) + count
    order = np.lexsort((at, on))
    bounds = np.searchsorted(on[order], np.arange(len(network.lines) + 1))
    steps: dict[tuple[int, int], float] = {}
    for line, (start, stop) in enumerate(pairwise(bounds.tolist())):
        here = order[start:stop]
        u, v = network.ends[line].tolist()
        stations = [u, *number[here].tolist(), v]
        along = [0.0, *at[here].tolist(), float(network.lines[line].length)]
        for (a, b), (x, y) in zip(pairwise(stations), pairwise(along), strict=True):
            key = (min(a, b), max(a, b))
            if a != b:
                steps[key] = min(steps.get(key, math.inf), max(y - x, 0.0))
    pairs = np.array(list(steps), np.int64).reshape(-1, 2)
    # A matrix that is mostly empty takes a length of 0 for no way at all.
    lengths = np.maximum(np.array(list(steps.values()), np.float64), 1e-9)
    size = count + len(on)
    matrix = csr_array((lengths, (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    away: Floats = dijkstra(matrix, directed=False, indices=number)[:, number]
    return np.round(away, 6)  # without that 1e-9
