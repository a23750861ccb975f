"""OpenStreetMap elements, as the Overpass API answers them, to shapes.

A way is a line, or an area where it is closed and its tags say so; a multipolygon relation is
an area of rings that its member ways make together
(https://wiki.openstreetmap.org/wiki/Relation:multipolygon).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

Point = tuple[float, float]

ALWAYS_AREAS = frozenset(
    {
        *("amenity", "area:highway", "building", "building:part", "craft", "historic"),
        *("landuse", "military", "office", "place", "public_transport", "shop", "tourism"),
        "water",
    }
)
"""Keys that make a closed way an area, whatever their value."""

AREAS_BUT_FOR: Mapping[str, frozenset[str]] = {
    "aeroway": frozenset({"taxiway"}),
    "leisure": frozenset({"track", "slipway"}),
    "man_made": frozenset({"cutline", "embankment", "pipeline"}),
    "natural": frozenset({"coastline", "cliff", "ridge", "arete", "tree_row"}),
}
"""Keys that do so but for these values."""

AREAS_ONLY_FOR: Mapping[str, frozenset[str]] = {
    "highway": frozenset({"services", "rest_area", "platform"}),
    "power": frozenset({"plant", "substation", "generator", "transformer"}),
    "railway": frozenset({"station", "turntable", "roundhouse", "platform"}),
    "waterway": frozenset({"riverbank", "dock", "boatyard", "dam"}),
}
"""Keys that do so only for these values."""


@dataclass(frozen=True)
class OsmShape:
    """One element with its shape in degrees.

    Attributes:
        kind: "way" or "relation".
        number: Its number.
        tags: Its tags.
        geometry: A line string, or a valid polygon or multipolygon; longitude first.
    """

    kind: str
    number: int
    tags: Mapping[str, str]
    geometry: BaseGeometry


def is_area(tags: Mapping[str, str]) -> bool:
    """Return whether a closed way with these tags is an area rather than a line.

    After the list of https://wiki.openstreetmap.org/wiki/Overpass_turbo/Polygon_Features.
    """
    stated = tags.get("area")
    if stated in {"yes", "no"}:
        return stated == "yes"
    values = {key: value for key, value in tags.items() if value != "no"}
    return (
        not ALWAYS_AREAS.isdisjoint(values)
        or any(key in values and values[key] not in AREAS_BUT_FOR[key] for key in AREAS_BUT_FOR)
        or any(key in values and values[key] in AREAS_ONLY_FOR[key] for key in AREAS_ONLY_FOR)
    )


def shape_of(element: Mapping[str, Any]) -> OsmShape | None:
    """Return the shape of an element of an answer to `out geom`.

    None where it has none: a multipolygon whose rings are not closed (a member is missing), a
    way of one point, or another kind of element.
    """
    tags = element.get("tags", {})
    geometry: BaseGeometry | None = None
    if element.get("type") == "way":
        points = _points(element)
        if len(points) >= 4 and points[0] == points[-1] and is_area(tags):
            geometry = area_of([points])
        elif len(points) >= 2:
            geometry = shapely.LineString(points)
    elif element.get("type") == "relation":
        members = [m for m in element.get("members", []) if m.get("type") == "way"]
        geometry = area_of(rings_of(_points(member) for member in members))
    if geometry is None or geometry.is_empty:
        return None
    return OsmShape(str(element["type"]), int(element["id"]), tags, geometry)


def rings_of(ways: Iterable[list[Point]]) -> list[list[Point]]:
    """Join ways end to end into closed rings; what does not close is left out."""
    rings: list[list[Point]] = []
    ends: defaultdict[Point, list[list[Point]]] = defaultdict(list)
    for way in ways:
        if len(way) >= 4 and way[0] == way[-1]:
            rings.append(way)
        elif len(way) >= 2:
            ends[way[0]].append(way)
            ends[way[-1]].append(way)
    used: set[int] = set()
    for start in list(ends):
        for first in ends[start]:
            if id(first) in used:
                continue
            used.add(id(first))
            ring = list(first) if first[0] == start else first[::-1]
            while ring[-1] != start:
                follower = next((w for w in ends[ring[-1]] if id(w) not in used), None)
                if follower is None:
                    break
                used.add(id(follower))
                ring += follower[1:] if follower[0] == ring[-1] else follower[-2::-1]
            if len(ring) >= 4 and ring[-1] == start:
                rings.append(ring)
    return rings


def area_of(rings: list[list[Point]]) -> BaseGeometry | None:
    """Return the area of rings: what an odd number of them enclose; None where there is none.

    So holes, islands in them and rings that touch come out right whatever the roles say.
    """
    polygons = [shapely.make_valid(shapely.Polygon(ring)) for ring in rings]
    if not polygons:
        return None
    together = reduce(shapely.symmetric_difference, polygons)
    parts = [
        part
        for part in shapely.get_parts(shapely.get_parts(together))
        if part.geom_type == "Polygon" and part.area > 0
    ]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _points(element: Mapping[str, Any]) -> list[Point]:
    """Return the points of a way; those that the server left out (null) are skipped."""
    return [(p["lon"], p["lat"]) for p in element.get("geometry") or () if p is not None]
