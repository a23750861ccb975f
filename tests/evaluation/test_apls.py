"""Average path length similarity on networks made by hand."""

from __future__ import annotations

import math

import pytest
from shapely.affinity import translate
from shapely.geometry import LineString

from sat2map.evaluation.apls import Apls, apls, control_points, network_of


def grid(columns: int = 3, rows: int = 3, gap: float = 100.0) -> list[LineString]:
    """Return the streets of a grid, from crossing to crossing."""
    across = [
        LineString([(x * gap, y * gap), ((x + 1) * gap, y * gap)])
        for y in range(rows)
        for x in range(columns - 1)
    ]
    up = [
        LineString([(x * gap, y * gap), (x * gap, (y + 1) * gap)])
        for x in range(columns)
        for y in range(rows - 1)
    ]
    return across + up


def score(found: list[LineString], true: list[LineString], snap: float = 4.0) -> Apls:
    return apls(network_of(found), network_of(true), snap)


def test_a_network_is_itself() -> None:
    assert score(grid(), grid()) == Apls(1.0, 1.0, 1.0)


def test_control_points_are_nodes_and_every_fifty_metres() -> None:
    network = network_of([LineString([(0, 0), (120, 0)]), LineString([(120, 0), (120, 40)])])
    _, _, points = control_points(network)
    assert sorted(map(tuple, points.tolist())) == [
        (0, 0), (50, 0), (100, 0), (120, 0), (120, 40),
    ]  # fmt: skip


def test_one_road_of_two_missing() -> None:
    """Two roads of 40 m that meet: of three ways one is there, of the other two an end is not."""
    true = [LineString([(0, 0), (40, 0)]), LineString([(40, 0), (40, 40)])]
    result = score(true[:1], true)
    assert result.true_to_found == pytest.approx(1 / 3)
    assert result.found_to_true == 1.0
    assert result.apls == pytest.approx(0.5)


def test_a_detour_costs_what_it_is_longer() -> None:
    """A triangle whose longest side is missing: 50 m become 70 m, both other ways are right."""
    points = [(0.0, 0.0), (40.0, 0.0), (40.0, 30.0)]
    true = [LineString([points[a], points[b]]) for a, b in ((0, 1), (1, 2), (2, 0))]
    result = score(true[:2], [*true[:2], LineString([points[2], points[0]])])
    # The long side is 50 m: it has no control point between its ends.
    assert result.true_to_found == pytest.approx(1 - (0.4 + 0 + 0) / 3)
    assert result.found_to_true == pytest.approx(1 - (20 / 70) / 3)


def test_an_error_is_at_most_one() -> None:
    """A way of 40 m becomes one of 440 m."""
    round_about = [(0, 0), (0, 200), (40, 200), (40, 0)]
    result = score([LineString(round_about)], [LineString([(0, 0), (40, 0)])])
    assert result.true_to_found == 0.0


def test_a_missing_link_costs_in_one_direction_and_an_extra_one_in_the_other() -> None:
    bridge = LineString([(200, 100), (300, 100)])
    west, east = grid(), [translate(line, 300) for line in grid()]
    whole, broken = [*west, bridge, *east], [*west, *east]
    missing, extra = score(broken, whole), score(whole, broken)
    assert missing.found_to_true == 1.0
    assert missing.true_to_found < 0.6
    assert extra == Apls(missing.apls, missing.found_to_true, missing.true_to_found)


def test_shifted_by_less_than_the_snap_is_nearly_right_and_by_more_is_wrong() -> None:
    moved = [translate(line, 3, 3) for line in grid()]
    assert score(moved, grid()).apls > 0.85
    moved = [translate(line, 10, 10) for line in grid()]
    assert score(moved, grid(), 4.0).apls < 0.1
    assert score(moved, grid(), 15.0).apls > 0.8


def test_short_ways_are_left_out() -> None:
    true = [LineString([(0, 0), (100, 0)]), LineString([(100, 0), (100, 8)])]
    found = [true[0]]
    # Control points: 0, 50, 100 m and the end of the stub. Of six ways one is too short; two
    # lead from 0 and from 50 to the stub.
    assert score(found, true).true_to_found == pytest.approx(3 / 5)


def test_nothing_found_and_nothing_there() -> None:
    nothing = score([], [])
    assert math.isnan(nothing.apls)
    assert score([], grid()) == Apls(0.0, 0.0, 0.0)
    assert score(grid(), []) == Apls(0.0, 0.0, 0.0)


def test_closed_and_parallel_roads() -> None:
    ring = [LineString([(0, 0), (0, 30), (30, 30), (30, 0), (0, 0)])]
    assert score(ring, ring).apls == 1.0
    two = [LineString([(0, 0), (40, 0)]), LineString([(0, 0), (20, 10), (40, 0)])]
    assert score(two, two).apls == 1.0
    assert network_of(two).ends.tolist() == [[0, 1], [0, 1]]
