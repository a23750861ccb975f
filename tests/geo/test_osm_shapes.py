"""Ways and multipolygons as the Overpass API gives them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sat2map.geo.osm_shapes import is_area, rings_of, shape_of


def points(*places: tuple[float, float]) -> list[dict[str, float]]:
    return [{"lat": latitude, "lon": longitude} for longitude, latitude in places]


def way(places: list[tuple[float, float]], **tags: str) -> dict[str, Any]:
    return {"type": "way", "id": 1, "geometry": points(*places), "tags": tags}


def relation(*members: tuple[str, list[tuple[float, float]]]) -> dict[str, Any]:
    return {
        "type": "relation",
        "id": 2,
        "tags": {"type": "multipolygon", "natural": "water"},
        "members": [
            {"type": "way", "ref": i, "role": role, "geometry": points(*places)}
            for i, (role, places) in enumerate(members)
        ],
    }


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high), (low, low)]


def area(element: dict[str, Any]) -> Any:
    shape = shape_of(element)
    assert shape is not None
    return shape.geometry


def test_an_open_way_is_a_line_longitude_first() -> None:
    shape = shape_of(way([(10, 50), (11, 51)], highway="primary"))
    assert shape is not None
    assert shape.geometry == shapely.LineString([(10, 50), (11, 51)])
    assert (shape.kind, shape.number, shape.tags) == ("way", 1, {"highway": "primary"})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"building": "yes"}, True),
        ({"building": "no"}, False),
        ({"highway": "residential"}, False),  # a roundabout
        ({"highway": "pedestrian", "area": "yes"}, True),
        ({"leisure": "park"}, True),
        ({"leisure": "track"}, False),
        ({"natural": "water"}, True),
        ({"natural": "coastline"}, False),
        ({"waterway": "river"}, False),
        ({"waterway": "riverbank"}, True),
        ({"landuse": "forest", "area": "no"}, False),
        ({"barrier": "fence"}, False),
        ({}, False),
    ],
)
def test_tags_tell_an_area_from_a_line(tags: dict[str, str], expected: bool) -> None:
    assert is_area(tags) == expected
    assert (area(way(square(0, 1), **tags)).geom_type == "Polygon") == expected


def test_a_multipolygon_has_its_holes_and_the_islands_in_them() -> None:
    lake = area(
        relation(("outer", square(0, 10)), ("inner", square(2, 8)), ("outer", square(4, 6)))
    )
    assert lake.area == pytest.approx(100 - 36 + 4)


def test_roles_do_not_matter() -> None:
    assert area(relation(("", square(0, 10)), ("outer", square(2, 8)))).area == pytest.approx(64)


def test_inner_rings_that_touch_are_both_holes() -> None:
    left = [(2, 2), (5, 2), (5, 8), (2, 8), (2, 2)]
    right = [(5, 2), (8, 2), (8, 8), (5, 8), (5, 2)]
    assert area(
        relation(("outer", square(0, 10)), ("inner", left), ("inner", right))
    ).area == pytest.approx(64)


@given(st.data())
def test_a_ring_may_come_in_pieces_of_any_order_and_direction(data: st.DataObject) -> None:
    ring = [*square(0, 10)[:-1], (-3.0, 5.0), (0.0, 0.0)]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ring) - 2), max_size=4)))
    ends = [0, *cuts, len(ring) - 1]
    pieces = [ring[a : b + 1] for a, b in itertools.pairwise(ends)]
    pieces = [p[::-1] if data.draw(st.booleans()) else p for p in pieces]
    pieces = data.draw(st.permutations(pieces))
    (found,) = rings_of(pieces)
    assert shapely.Polygon(found).equals(shapely.Polygon(ring))


def test_a_multipolygon_that_lacks_a_member_has_no_shape() -> None:
    assert shape_of(relation(("outer", square(0, 10)[:3]))) is None
    assert area(relation(("outer", square(0, 10)), ("inner", square(2, 8)[:3]))).area == 100


def test_a_crossing_ring_is_repaired() -> None:
    bow = area(way([(0, 0), (2, 2), (2, 0), (0, 2), (0, 0)], building="yes"))
    assert bow.is_valid and bow.area == pytest.approx(2)


def test_what_has_no_shape_is_none() -> None:
    assert shape_of({"type": "node", "id": 1, "lat": 0, "lon": 0}) is None
    assert shape_of(way([(0, 0)], highway="path")) is None
    assert shape_of({"type": "way", "id": 1, "geometry": [None, None]}) is None
    assert shape_of(way([(0, 0), (1, 0), (2, 0), (0, 0)], building="yes")) is None
