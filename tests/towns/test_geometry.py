from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, Polygon, box

from sat2map.towns.geometry import (
    along_line,
    free,
    polygons,
    rectangles,
    scatter,
    split,
    without_holes,
)
from sat2map.towns.streets import lay_streets


@given(
    st.lists(
        st.tuples(st.floats(5, 95), st.floats(5, 95), st.floats(1, 12)), min_size=1, max_size=4
    )
)
def test_cutting_at_holes_keeps_the_ground(holes):
    whole = box(0, 0, 100, 100).difference(
        shapely.union_all([Point(x, y).buffer(r, quad_segs=3) for x, y, r in holes])
    )
    parts = [part for polygon in polygons(whole) for part in without_holes(polygon)]
    assert all(not part.interiors for part in parts)
    kept = sum(polygon.area for polygon in polygons(whole))
    assert sum(part.area for part in parts) == pytest.approx(kept, abs=2)
    assert shapely.union_all(parts).difference(whole).area < 1e-6


def test_of_overlapping_shapes_the_earlier_stays():
    shapes = np.array([box(0, 0, 4, 4), box(3, 0, 7, 4), box(6, 0, 9, 4), box(20, 0, 24, 4)])
    assert free(shapes).tolist() == [True, False, True, True]


def test_rectangles_have_their_size_and_direction():
    along = np.array([[0.6, 0.8], [1.0, 0.0]])
    corners = rectangles(np.array([[3.0, 4], [10, 10]]), along, np.array([8.0, 6.0]), 2.0)
    shapes = shapely.polygons(corners)
    assert shapely.area(shapes) == pytest.approx([16, 12])
    assert corners[0].mean(0) == pytest.approx([3, 4])
    assert corners[0, 1] - corners[0, 0] == pytest.approx(8 * along[0])


def test_places_along_a_line_lie_to_its_left():
    places, along = along_line(LineString([(0, 0), (10, 0)]), np.array([2.0, 9.5]), 3.0)
    assert places == pytest.approx(np.array([(2.0, 3.0), (9.5, 3.0)]))
    assert along == pytest.approx(np.array([(1.0, 0.0), (1.0, 0.0)]))


@given(st.integers(0, 1000))
def test_lots_share_out_the_whole_block(seed):
    block = Polygon([(0, 0), (140, 10), (150, 90), (40, 120)])
    lots = split(block, np.random.default_rng(seed), 900.0)
    assert sum(lot.area for lot in lots) == pytest.approx(block.area, rel=0.02)
    # Without a grid GEOS 3.14 loses a lot whose corners all but lie on its neighbours' sides.
    together = shapely.union_all(lots, grid_size=1e-6)
    assert together.area == pytest.approx(block.area, rel=0.02)
    assert max(lot.area for lot in lots) <= 1.5 * 900


def test_scattered_places_keep_a_distance_and_stay_inside():
    area = Point(0, 0).buffer(60)
    places = scatter(area, np.random.default_rng(1), 8.0)
    assert len(places) == pytest.approx(area.area / 64, rel=0.2)
    assert shapely.contains_xy(area, places[:, 0], places[:, 1]).all()
    assert len(scatter(Polygon(), np.random.default_rng(1), 8.0)) == 0


@pytest.mark.parametrize(
    "district",
    ["downtown", "dense", "grid", "radial", "organic", "curvy", "village", "industrial"],
)
def test_streets_stay_in_their_district_and_cut_it_into_blocks(district):
    area = Point(0, 0).buffer(260, quad_segs=3)
    streets, ends = lay_streets(district, area, 0.3, np.random.default_rng(4))
    assert streets
    for line in streets + ends:
        assert line.within(area.buffer(0.01))
    for line in streets:
        # None runs beside the road that the outline of the district is.
        inside = [line.interpolate(share, normalized=True) for share in (0.25, 0.5, 0.75)]
        assert any(place.distance(area.exterior) >= 30 for place in inside)
    for line in ends:
        assert min(line.distance(street) for street in streets) < 1
    blocks = polygons(area.difference(shapely.union_all(streets).buffer(4)), 60.0)
    assert len(blocks) >= 3
    assert max(block.area for block in blocks) < 0.6 * area.area


@pytest.mark.parametrize("district", ["park", "woods"])
def test_open_ground_has_no_streets(district):
    area = Point(0, 0).buffer(260, quad_segs=3)
    assert lay_streets(district, area, 0.0, np.random.default_rng(0)) == ([], [])
