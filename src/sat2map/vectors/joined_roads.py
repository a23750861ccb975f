"""Roads of scenes that meet, as one network.

Ends of two scenes that lie at a border within `REACH_M` of each other become one node. Two roads
that meet in such a node alone become one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.geopackage import Columns

REACH_M = 5.0
"""Metres that the ends of two roads may lie apart at a border."""


class JoinedRoads:
    """The roads of all scenes with nodes of their own numbers.

    Args:
        unit: Metres of a unit of the coordinates.
    """

    def __init__(self, unit: float) -> None:
        self._reach = REACH_M / unit
        self._numbers: dict[tuple[int, float, float], int] = {}
        self._places: list[tuple[float, float]] = []
        self._degrees: list[int] = []
        self._waiting: list[tuple[int, Any, dict[str, Any]]] = []
        self._open: dict[int, int] = {}  # nodes at a border, with their scenes

    def add(
        self, scene: int, lines: NDArray[np.object_], columns: Columns, border: Any
    ) -> tuple[NDArray[np.object_], Columns]:
        """Take up the roads of a scene, and return those that do not end at its border."""
        self._numbers = {}  # nodes are of one scene
        ends = [(shapely.get_point(lines, 0), "u"), (shapely.get_point(lines, -1), "v")]
        numbers: dict[str, NDArray[np.int64]] = {}
        at_border = np.zeros(len(lines), np.bool_)
        shapely.prepare(border)
        for points, key in ends:
            numbers[key] = np.array(
                [self._node(scene, x, y) for x, y in shapely.get_coordinates(points)], np.int64
            )
            near = shapely.dwithin(border, points, self._reach / 10)
            at_border |= near
            self._open |= dict.fromkeys(numbers[key][near].tolist(), scene)
        found: Columns = {**columns, **numbers}
        for line in np.flatnonzero(at_border):
            self._waiting.append(
                (scene, lines[line], {key: values[line] for key, values in found.items()})
            )
        return lines[~at_border], {key: values[~at_border] for key, values in found.items()}

    def _node(self, scene: int, x: float, y: float) -> int:
        place = (scene, x, y)
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = len(self._places)
            self._places.append((x, y))
            self._degrees.append(0)
        self._degrees[number] += 1
        return number

    def joined(self) -> tuple[NDArray[np.object_], Columns]:
        """Return the roads that end at borders, joined where those of two scenes meet."""
        same = self._pairs()
        lines = [self._moved(line, row, same) for _, line, row in self._waiting]
        lines = _merged(lines, self._degrees, set(same.values()))
        if not lines:
            return np.empty(0, object), {}
        shapes = np.array([line for line, _ in lines], object)
        keys = dict.fromkeys(key for _, row in lines for key in row)
        return shapes, {key: [row.get(key) for _, row in lines] for key in keys}

    def _pairs(self) -> dict[int, int]:
        """Return open nodes that are nearest to each other across a border, as one of both."""
        numbers = np.array(sorted(self._open), np.int64)
        if len(numbers) < 2:
            return {}
        points = shapely.points([self._places[number] for number in numbers])
        pairs = shapely.STRtree(points).query(points, "dwithin", self._reach).T
        far = shapely.distance(points[pairs[:, 0]], points[pairs[:, 1]])
        same: dict[int, int] = {}
        for one, other in pairs[np.argsort(far, kind="stable")].tolist():
            first, second = int(numbers[one]), int(numbers[other])
            taken = first in same or second in same
            if first >= second or taken or self._open[first] == self._open[second]:
                continue
            same[second] = same[first] = first
            self._degrees[first] += self._degrees[second]
            self._degrees[second] = 0
            (x, y), (far_x, far_y) = self._places[first], self._places[second]
            self._places[first] = ((x + far_x) / 2, (y + far_y) / 2)
        return same

    def _moved(
        self, line: Any, row: dict[str, Any], same: dict[int, int]
    ) -> tuple[Any, dict[str, Any]]:
        """Return a road whose ends lie in the nodes that theirs became."""
        points = shapely.get_coordinates(line)
        row = dict(row)
        for key, place in (("u", 0), ("v", -1)):
            row[key] = same.get(row[key], row[key])
            points[place] = self._places[row[key]]
        return shapely.linestrings(points), row

    def nodes(self) -> Iterator[tuple[NDArray[np.object_], Columns]]:
        """Yield the nodes in which a road ends."""
        numbers = np.flatnonzero(np.array(self._degrees))
        if len(numbers):
            places = np.array(self._places)[numbers]
            degrees = np.array(self._degrees)[numbers]
            yield shapely.points(places), {"node": numbers, "degree": degrees}


def _merged(
    lines: list[tuple[Any, dict[str, Any]]], degrees: list[int], joints: set[int]
) -> list[tuple[Any, dict[str, Any]]]:
    """Return roads of which two of a class that meet in a joint alone are one."""
    kept: dict[int, tuple[Any, dict[str, Any]]] = dict(enumerate(lines))
    ends: dict[int, list[int]] = defaultdict(list)
    for number, (_, row) in kept.items():
        for key in ("u", "v"):
            if row[key] in joints:
                ends[row[key]].append(number)
    for joint in sorted(joints):
        meeting = [number for number in ends[joint] if number in kept]
        if degrees[joint] != 2 or len(meeting) != 2 or meeting[0] == meeting[1]:
            continue
        one, other = (kept[number] for number in meeting)
        if one[1].get("class") != other[1].get("class"):
            continue
        kept[meeting[0]] = _as_one(one, other, joint)
        del kept[meeting[1]]
        degrees[joint] = 0
        for key in ("u", "v"):  # its far end, which may be a joint, too
            far = other[1][key]
            if far != joint and far in joints:
                ends[far] = [meeting[0] if n == meeting[1] else n for n in ends[far]]
    return list(kept.values())


def _as_one(
    one: tuple[Any, dict[str, Any]], other: tuple[Any, dict[str, Any]], joint: int
) -> tuple[Any, dict[str, Any]]:
    """Return two roads that meet in a node as one."""
    (first, row), (second, more) = one, other
    points, follow = shapely.get_coordinates(first), shapely.get_coordinates(second)
    if row["u"] == joint:
        points = points[::-1]
    if more["v"] == joint:
        follow = follow[::-1]
    start = row["v"] if row["u"] == joint else row["u"]
    end = more["u"] if more["v"] == joint else more["v"]
    lengths = float(row["length_m"]), float(more["length_m"])
    told = dict(row) | {"u": start, "v": end, "length_m": sum(lengths)}
    if row.keys() != more.keys():  # one is as wide as it was found, one as it was drawn
        row, more = (
            {**road, "drawn_width_m": road.get("drawn_width_m", road.get("width_m"))}
            for road in (row, more)
        )
        told["width_m"] = None
    for key in ("confidence", "width_m", "drawn_width_m"):
        pair = row.get(key), more.get(key)
        if None not in pair:
            told[key] = float(np.average(np.array(pair, float), weights=lengths))
    return shapely.linestrings(np.vstack([points, follow[1:]])), told
