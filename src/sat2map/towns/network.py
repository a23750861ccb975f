"""The road network of a town as its plan has it: middle lines that meet at nodes.

Streets of the plan cross each other without sharing a point, and those of one cell end where
another cell begins. Here they are cut at their crossings, an end whose asphalt overlaps another
road's is joined to it, and so are two roads whose asphalt is one where they pass each other. A
highway meets nothing but its ramps: what crosses it does so on a bridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Point, Polygon, box

from sat2map.towns.geometry import lines
from sat2map.towns.shapes import Feature
from sat2map.towns.world import Bounds, Floats

NO_ROADS = ("turning_circle", "path")
"""Kinds of lines of the map that no car routes along: the rim of a dead end's head, and the paths
of parks, which the land cover counts as land."""

_GRID_M = 0.01
"""Points closer than this are one."""

_SHARED_M = 1.0
"""Roads that pass each other are joined where their asphalt overlaps by more than this."""


@dataclass(frozen=True)
class TownRoad(Feature):
    """A road between two nodes; its geometry is the middle line in metres.

    Attributes:
        u: The node at its first point, from 0.
        v: The node at its last point; `u` of a closed road.
    """

    u: int = 0
    v: int = 0


def town_roads(features: Sequence[Feature], bounds: Bounds) -> list[TownRoad]:
    """Return the road network within a region.

    Args:
        features: Of the plan; what is not the line of a road is passed over.
        bounds: The region in metres, at whose border roads are cut.
    """
    roads = [
        feature
        for feature in features
        if isinstance(feature.geometry, LineString) and feature.kind not in NO_ROADS
    ]
    if not roads:
        return []
    high = np.array([road.kind == "highway" for road in roads])
    ramp = np.array([road.kind == "ramp" for road in roads])
    heads = [feature for feature in features if feature.kind == "turning_circle"]
    middles = _joined(roads, high, ramp, heads)
    low = ~(high | ramp)
    parts = _cut_at_crossings([*middles[~high], *_links(middles[low], _widths(roads)[low])])
    if high.any():
        # The last step of a ramp cuts the highway where they meet, and is then left out.
        steps = [LineString(line.coords[at]) for line in middles[ramp] for at in _ENDS]
        steps = [step for step in steps if step.distance(shapely.union_all(middles[high])) < 0.1]
        cut = _cut_at_crossings([*middles[high], *steps])
        known = {_key_of(step) for step in _cut_at_crossings(steps)}
        parts += [part for part in cut if _key_of(part) not in known]
    inside = [part for cut in shapely.intersection(parts, box(*bounds)) for part in lines(cut, 0.1)]
    source = shapely.STRtree(middles).nearest(
        [part.interpolate(0.5, normalized=True) for part in inside]
    )
    nodes: dict[tuple[int, int], int] = {}
    found = []
    for part, number in zip(inside, source.tolist(), strict=True):
        ends = [
            nodes.setdefault((round(x / _GRID_M), round(y / _GRID_M)), len(nodes))
            for x, y in (part.coords[0], part.coords[-1])
        ]
        road = roads[number]
        found.append(TownRoad(part, road.legend, road.kind, road.width, None, *ends))
    return found


_ENDS = (slice(0, 2), slice(-2, None))


def _joined(
    roads: Sequence[Feature],
    high: NDArray[np.bool_],
    ramp: NDArray[np.bool_],
    heads: Sequence[Feature],
) -> NDArray[np.object_]:
    """Return the middle lines, longer where an end's asphalt overlaps another road's."""
    middles = np.array([road.geometry for road in roads], object)
    widths = _widths(roads)
    tree = shapely.STRtree(middles)
    around = [Polygon(head.geometry.coords).buffer((head.width or 0.0) / 2) for head in heads]
    turning = shapely.STRtree(around)
    longer = middles.copy()
    for number, line in enumerate(middles):
        points = shapely.get_coordinates(line)
        if (points[0] == points[-1]).all():
            continue
        before: list[Floats] = []
        after: list[Floats] = []
        for end, put in ((points[0], before), (points[-1], after)):
            place = Point(end)
            head = turning.query(place, predicate="within")
            half = widths[number] / 2
            if len(head):
                half = place.distance(around[int(head[0])].exterior)
            reach = half + widths.max() / 2
            near = tree.query(place, predicate="dwithin", distance=reach)
            near = near[near != number]
            # A highway and what crosses it lie one above the other.
            near = near[(high[near] == high[number]) | (ramp[near] | ramp[number])]
            away = shapely.distance(middles[near], place)
            close = away <= widths[near] / 2 + half
            near, away = near[close], away[close]
            if len(near):
                other = middles[near[int(away.argmin())]]
                put.append(shapely.get_coordinates(shapely.shortest_line(other, place))[:1])
        if before or after:
            longer[number] = LineString(np.concatenate([*before, points, *after]))
    return longer


def _widths(roads: Sequence[Feature]) -> Floats:
    return np.array([road.width or 0.0 for road in roads])


def _links(middles: NDArray[np.object_], widths: Floats) -> list[LineString]:
    """Return short lines between roads whose asphalt is one although they do not cross there."""
    if not len(middles):
        return []
    tree = shapely.STRtree(middles)
    one, two = tree.query(middles, predicate="dwithin", distance=widths.max())
    found = []
    for a, b in zip(one[one < two].tolist(), two[one < two].tolist(), strict=True):
        reach = (widths[a] + widths[b]) / 2 - _SHARED_M
        if reach <= 0 or middles[a].distance(middles[b]) > reach:
            continue
        beside = middles[a].intersection(middles[b].buffer(reach))
        found += [
            shapely.shortest_line(part, middles[b])
            for part in lines(beside, 0.0)
            if part.distance(middles[b]) > _GRID_M
        ]
    return found


def _cut_at_crossings(middles: Sequence[LineString] | NDArray[np.object_]) -> list[LineString]:
    """Return lines cut where they meet, those between two meetings as one."""
    if not len(middles):
        return []
    noded = shapely.union_all(np.array(middles, object), grid_size=_GRID_M)
    return lines(shapely.line_merge(noded), 0.0)


def _key_of(line: LineString) -> bytes:
    key: bytes = shapely.to_wkb(shapely.normalize(shapely.set_precision(line, _GRID_M)))
    return key
