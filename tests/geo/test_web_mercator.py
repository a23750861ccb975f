"""Tiles by the definition of the scheme (OpenStreetMap's wiki, "Slippy map tilenames")."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat2map.geo.grid import bounds_wgs84
from sat2map.geo.web_mercator import limits, position, tile_grid


@given(st.floats(-180, 180), st.floats(-85, 85), st.integers(0, 30))
def test_a_place_lies_in_the_tile_of_the_scheme(
    longitude: float, latitude: float, zoom: int
) -> None:
    column, row = position(longitude, latitude, zoom)
    turned = math.asinh(math.tan(math.radians(latitude)))
    assert column / 2**zoom == pytest.approx((longitude + 180) / 360, abs=1e-12)
    assert row / 2**zoom == pytest.approx((1 - turned / math.pi) / 2, abs=1e-12)


def test_beyond_the_square_is_its_edge() -> None:
    assert position(-180, 90, 3) == pytest.approx((0, 0), abs=1e-6)
    assert position(180, -90, 3) == pytest.approx((8, 8), abs=1e-6)
    assert limits() == pytest.approx((-180, -85.0511288, 180, 85.0511288))


def test_a_tile_lies_between_its_neighbours() -> None:
    grid = tile_grid(18, range(140_829, 140_831), range(85_995, 85_996), 256)
    assert (grid.height, grid.width) == (256, 512)
    bounds = bounds_wgs84(grid)
    assert bounds is not None
    assert position(bounds[0], bounds[3], 18) == pytest.approx((140_829, 85_995), abs=1e-4)
    assert position(bounds[2], bounds[1], 18) == pytest.approx((140_831, 85_996), abs=1e-4)
