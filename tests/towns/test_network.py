"""The road network of a plan: what meets, what crosses on a bridge, and that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely
from shapely.geometry import LineString, Point, Polygon, box

from sat2map.towns.map import features_in
from sat2map.towns.network import TownRoad, town_roads
from sat2map.towns.plan import Planner, region
from sat2map.towns.shapes import Feature
from sat2map.towns.world import World
from sat2map.towns.write import write_scene

BOUNDS = (0.0, 0.0, 200.0, 200.0)


def street(*points: tuple[float, float], kind: str = "street", width: float = 8.0) -> Feature:
    legend = "highway" if kind in ("highway", "ramp") else "road"
    return Feature(LineString(points), legend, kind, width)


def degrees(roads: list[TownRoad]) -> list[int]:
    ends = [node for road in roads for node in (road.u, road.v)]
    return sorted(ends.count(node) for node in set(ends))


def test_streets_meet_where_they_cross() -> None:
    roads = town_roads([street((10, 50), (190, 50)), street((90, 10), (90, 190))], BOUNDS)
    assert len(roads) == 4
    assert degrees(roads) == [1, 1, 1, 1, 4]
    assert {road.width for road in roads} == {8.0}


def test_an_end_joins_the_road_whose_asphalt_it_overlaps() -> None:
    across = street((10, 100), (190, 100), width=12.0)
    assert degrees(town_roads([across, street((50, 20), (50, 91))], BOUNDS)) == [1, 1, 1, 3]
    assert degrees(town_roads([across, street((50, 20), (50, 88))], BOUNDS)) == [1, 1, 1, 1]


def test_the_head_of_a_dead_end_joins_the_road_whose_asphalt_it_overlaps() -> None:
    end = street((50, 100), (50, 20))
    rim = LineString(Point(50, 20).buffer(11.5 - 4).exterior)
    head = Feature(rim, "road", "turning_circle", 8.0)
    across = street((10, 6), (190, 6))
    assert degrees(town_roads([across, end], BOUNDS)) == [1, 1, 1, 1]
    assert degrees(town_roads([across, end, head], BOUNDS)) == [1, 1, 1, 3]


def test_roads_that_pass_on_one_asphalt_are_joined_there() -> None:
    across = street((10, 100), (190, 100), width=12.0)
    bent = street((20, 190), (60, 120), (100, 107), (140, 120), (180, 190))
    roads = town_roads([across, bent], BOUNDS)
    assert degrees(roads) == [1, 1, 1, 1, 3, 3]
    assert min(road.geometry.length for road in roads) == pytest.approx(7.0, abs=0.1)
    beside = street((20, 190), (60, 130), (100, 117), (140, 130), (180, 190))
    assert degrees(town_roads([across, beside], BOUNDS)) == [1, 1, 1, 1]


def test_a_highway_meets_its_ramps_alone() -> None:
    highway = street((0, 100), (200, 100), kind="highway", width=12.0)
    road = street((100, 0), (100, 200))
    roads = town_roads([highway, road], BOUNDS)
    assert degrees(roads) == [1, 1, 1, 1]
    ramp = street((20, 103), (60, 120), (100, 150), kind="ramp", width=7.0)
    roads = town_roads([highway, road, ramp], BOUNDS)
    assert degrees(roads) == [1, 1, 1, 1, 3, 3]
    assert {road.kind for road in roads} == {"highway", "street", "ramp"}


def test_paths_and_rims_are_no_roads() -> None:
    features = [
        street((10, 10), (90, 10)),
        street((10, 50), (90, 50), kind="path"),
        street((10, 90), (20, 90), (20, 99), (10, 90), kind="turning_circle"),
        Feature(Polygon([(0, 0), (9, 0), (9, 9)]), "building", "house"),
    ]
    assert len(town_roads(features, BOUNDS)) == 1
    assert town_roads(features[1:], BOUNDS) == []


@pytest.mark.parametrize("kind", ["temperate", "informal"])
def test_the_network_of_a_town_has_the_length_of_its_streets(kind: str) -> None:
    bounds = region(600)
    features = features_in(Planner(World(1, kind), bounds), bounds)
    roads = town_roads(features, bounds)
    lines = [
        feature.geometry.intersection(box(*bounds))
        for feature in features
        if feature.width and feature.kind not in ("path", "turning_circle")
    ]
    # What is drawn twice counts once; links to the roads beside are short.
    assert sum(road.geometry.length for road in roads) == pytest.approx(
        shapely.union_all(lines, grid_size=0.01).length, rel=0.03
    )
    assert len({road.u for road in roads} | {road.v for road in roads}) > 20
    for road in roads:
        assert box(*bounds).buffer(0.02).contains(road.geometry)


def test_a_scene_has_its_roads_beside_it(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, 256, seed=3)
    told = json.loads(scene.roads.read_text())
    assert told["features"]
    ends: dict[int, tuple[float, ...]] = {}
    for feature in told["features"]:
        properties = feature["properties"]
        assert properties["class"] in ("road", "main_road", "highway")
        assert properties["width_m"] > 2
        points = feature["geometry"]["coordinates"]
        for node, point in ((properties["u"], points[0]), (properties["v"], points[-1])):
            assert ends.setdefault(node, tuple(point)) == pytest.approx(tuple(point), abs=2e-7)
