"""Roads that end at the border x = 100 of two scenes, in metres."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely

from sat2map.vectors.joined_roads import REACH_M, JoinedRoads

BORDER = shapely.LineString([(100, -100), (100, 100)])


def joined(*scenes: list[Any], kinds: tuple[str, ...] = ("road", "road")) -> tuple[Any, Any, Any]:
    """Return the roads within scenes, those joined at the border, and the nodes by number."""
    network = JoinedRoads(1.0)
    inner = []
    for number, (lines, kind) in enumerate(zip(scenes, kinds, strict=True)):
        columns = {"class": [kind] * len(lines), "length_m": [line.length for line in lines]}
        arrays = {key: np.array(values) for key, values in columns.items()}
        inner += list(network.add(number, np.array(lines, object), arrays, BORDER)[0])
    shapes, told = network.joined()
    rows = [dict(zip(told, values, strict=True)) for values in zip(*told.values(), strict=True)]
    nodes = {
        int(node): (point.x, point.y, int(degree))
        for points, columns in network.nodes()
        for point, node, degree in zip(points, columns["node"], columns["degree"], strict=True)
    }
    return inner, list(zip(shapes, rows, strict=True)), nodes


def line(*points: tuple[float, float]) -> Any:
    return shapely.LineString(points)


def test_two_roads_that_meet_at_a_border_are_one() -> None:
    inner, ((road, row),), nodes = joined([line((0, 0), (100, 0))], [line((200, 4), (100, 4))])
    assert inner == []
    assert list(road.coords) == [(0, 0), (100, 2), (200, 4)]
    assert row["length_m"] == pytest.approx(200)
    assert [nodes[row["u"]], nodes[row["v"]]] == [(0, 0, 1), (200, 4, 1)]
    assert len(nodes) == 2


def test_roads_farther_apart_than_that_stay_two() -> None:
    _, roads, nodes = joined(
        [line((0, 0), (100, 0))], [line((100, REACH_M + 1), (200, REACH_M + 1))]
    )
    assert len(roads) == 2 and len(nodes) == 4


def test_roads_of_two_classes_meet_in_a_node() -> None:
    _, roads, nodes = joined(
        [line((0, 0), (100, 0))], [line((100, 0), (200, 0))], kinds=("road", "track")
    )
    assert len(roads) == 2
    assert sorted(degree for *_, degree in nodes.values()) == [1, 1, 2]


def test_roads_within_a_scene_are_given_back_at_once() -> None:
    inner, roads, nodes = joined(
        [line((0, 0), (50, 0)), line((50, 0), (100, 0))], [line((100, 0), (200, 0))]
    )
    assert [list(road.coords) for road in inner] == [[(0, 0), (50, 0)]]
    assert [list(road.coords) for road, _ in roads] == [[(50, 0), (100, 0), (200, 0)]]
    assert sorted(nodes.values()) == [(0, 0, 1), (50, 0, 2), (200, 0, 1)]


def test_the_nearest_ends_meet() -> None:
    _, roads, _ = joined(
        [line((0, 0), (100, 0)), line((0, 6), (100, 6))], [line((100, 4), (200, 4))]
    )
    assert {tuple(road.coords) for road, _ in roads} == {
        ((0, 0), (100, 0)),
        ((0, 6), (100, 5), (200, 4)),
    }
