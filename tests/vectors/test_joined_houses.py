"""Houses at the border x = 100 of two scenes, in metres; scene 1 lies on top."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely

from sat2map.vectors.joined_houses import CLOSE_M, JoinedHouses

House = tuple[int, Any, bool, bool]


def joined(*houses: House) -> tuple[list[Any], list[float]]:
    """Return the shapes and areas of houses, each given as (scene, shape, is on, is cut)."""
    found = JoinedHouses()
    for scene, shape, on, cut in houses:
        columns = {"area_m2": [shape.area], "method": ["squared"]}
        found.add(scene, np.array([shape], object), columns, np.array([on]), np.array([cut]))
    shapes, told = found.joined(CLOSE_M)
    assert [*told] == ["area_m2", "method"]
    return list(shapes), list(told["area_m2"])


def test_pieces_that_a_border_cuts_are_one_house() -> None:
    east, west = shapely.box(100.2, 0, 108, 10), shapely.box(90, 0, 100, 10)
    (house,), (area,) = joined((1, east, True, True), (0, west, True, True))
    assert house.equals(shapely.box(90, 0, 108, 10))
    assert area == pytest.approx(180)


def test_neighbours_that_no_scene_ends_at_stay_two() -> None:
    pair = shapely.box(100.2, 0, 108, 10), shapely.box(90, 0, 100, 10)
    shapes, areas = joined((1, pair[0], True, False), (0, pair[1], True, True))
    assert len(shapes) == 2 and sum(areas) == pytest.approx(178)


def test_a_house_that_two_scenes_show_is_one() -> None:
    shapes, _ = joined(
        (1, shapely.box(95, 0, 105, 10), True, False),
        (0, shapely.box(96, 1, 106, 11), False, False),
    )
    assert len(shapes) == 1


def test_of_one_scene_houses_that_touch_stay_two() -> None:
    shapes, _ = joined(
        (1, shapely.box(90, 0, 100, 10), True, True), (1, shapely.box(100, 0, 108, 10), True, True)
    )
    assert len(shapes) == 2


def test_what_the_scene_on_top_does_not_show_is_left_out() -> None:
    shapes, _ = joined((0, shapely.box(101, 0, 109, 10), False, False))
    assert shapes == []
