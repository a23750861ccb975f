from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine

from sat2map.errors import UsageError
from sat2map.geo.grid import Grid, bounds_wgs84, ground_resolution, pixel_steps, window_of

WHERE = Path("scene.tif")


def grid(crs: str | None, transform: Affine, height: int = 100, width: int = 200) -> Grid:
    return Grid(height, width, transform, None if crs is None else CRS.from_string(crs))


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        ("EPSG:32633", Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), (0.5, 0.5)),
        ("EPSG:32633", Affine(0.5, 0, 500_000, 0, 0.25, 5_000_000), (0.5, 0.25)),  # south up
        ("EPSG:32633", Affine(0, 2, 500_000, 3, 0, 5_000_000), (3, 2)),  # turned
        ("EPSG:32633", Affine(0.6, 0.8, 500_000, 0.8, -0.6, 5_000_000), (1, 1)),
        # A degree of latitude is 111.2 km at 60 degrees, one of longitude 55.8 km.
        ("EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 60), (0.558, 1.114)),
        ("EPSG:4326", Affine(1e-5, 0, 179.9999, 0, -1e-5, 0), (1.113, 1.1057)),
        # The web's Mercator stretches by 1 / cos(latitude).
        ("EPSG:3857", Affine(1, 0, 0, 0, -1, 8_399_737.9), (0.501, 0.5)),
        # Feet of the United States.
        ("EPSG:2263", Affine(1, 0, 980_000, 0, -1, 200_000), (0.3048, 0.3048)),
    ],
)
def test_pixels_are_measured_on_the_ground(
    crs: str, transform: Affine, expected: tuple[float, float]
) -> None:
    assert ground_resolution(grid(crs, transform)) == pytest.approx(expected, rel=0.005)


def test_what_has_no_ground_has_no_resolution() -> None:
    assert ground_resolution(grid(None, Affine(1, 0, 5, 0, -1, 5))) is None
    assert ground_resolution(grid("EPSG:32633", Affine.identity())) is None
    assert ground_resolution(grid("EPSG:4326", Affine(1, 0, 500_000, 0, -1, 5e6))) is None


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_resized_grid_covers_the_same_ground(height: int, width: int) -> None:
    own = grid("EPSG:32633", Affine(0.5, 0.1, 500_000, 0.2, -0.5, 5_000_000))
    other = own.resized(height, width)
    for corner, same in (((0, 0), (0, 0)), ((200, 100), (width, height)), ((200, 0), (width, 0))):
        assert other.transform @ same == pytest.approx(own.transform @ corner, abs=1e-7)


def test_a_part_lies_where_it_lay() -> None:
    own = grid("EPSG:32633", Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000))
    part = own.part(10, 20, 5, 6)
    assert (part.height, part.width) == (5, 6)
    assert part.transform @ (0, 0) == own.transform @ (20, 10)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(1, 0, 500_000, 0, -1, 5_000_000),
        Affine(1, 0, 500_000, 0, 1, 4_999_900),
        Affine(0, 1, 500_000, 1, 0, 4_999_900),
    ],
)
def test_the_bounds_of_a_part_find_the_part(transform: Affine) -> None:
    own = grid("EPSG:32633", transform)
    bounds = bounds_wgs84(own.part(30, 40, 20, 50))
    assert bounds is not None
    row, column, height, width = window_of(own, bounds, WHERE)
    assert row in (29, 30) and column in (39, 40)
    assert 20 <= height <= 22 and 50 <= width <= 52


def test_bounds_that_reach_beyond_are_cut() -> None:
    own = grid("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 50))
    assert window_of(own, (9, 49.5, 11, 51), WHERE) == (0, 0, 50, 100)
    assert window_of(own, (-180, -90, 180, 90), WHERE) == (0, 0, 100, 200)


@pytest.mark.parametrize("west", [179.0, -181.0])
def test_across_the_antimeridian(west: float) -> None:
    own = grid("EPSG:4326", Affine(0.01, 0, west, 0, -0.01, 50))
    bounds = bounds_wgs84(own)
    assert bounds is not None
    assert bounds == pytest.approx((179, 49, -179, 50))
    assert window_of(own, bounds, WHERE) == (0, 0, 100, 200)
    assert window_of(own, (179.5, 49.5, -179.5, 49.8), WHERE) == (20, 50, 30, 100)
    assert window_of(own, (-179.5, 49.5, -179.25, 49.8), WHERE) == (20, 150, 30, 25)


def test_the_whole_world_has_the_bounds_of_the_world() -> None:
    degrees = grid("EPSG:4326", Affine(1, 0, -180, 0, -1, 90), 180, 360)
    assert bounds_wgs84(degrees) == (-180, -90, 180, 90)
    from_greenwich = grid("EPSG:4326", Affine(1, 0, 0, 0, -1, 90), 180, 360)
    assert bounds_wgs84(from_greenwich) == (-180, -90, 180, 90)
    half = math.pi * 6_378_137
    web = grid("EPSG:3857", Affine(half / 128, 0, -half, 0, -half / 128, half), 256, 256)
    assert bounds_wgs84(web) == pytest.approx((-180, -85.0511288, 180, 85.0511288))


def test_around_a_pole_there_is_every_longitude() -> None:
    arctic = grid("EPSG:3413", Affine(1e4, 0, -5e5, 0, -1e4, 5e5), 100, 100)
    bounds = bounds_wgs84(arctic)
    assert bounds is not None
    west, south, east, north = bounds
    assert (west, east, north) == (-180, 180, 90) and 83 < south < 84
    assert window_of(arctic, (-180, 80, 180, 90), WHERE) == (0, 0, 100, 100)


def test_the_whole_world_is_all_of_any_scene() -> None:
    for crs in ("EPSG:32633", "EPSG:2056", "EPSG:3035"):
        x, y = {"EPSG:32633": (5e5, 5e6), "EPSG:2056": (2.6e6, 1.2e6)}.get(crs, (4.3e6, 3.2e6))
        scene = grid(crs, Affine(10, 0, x, 0, -10, y))
        assert window_of(scene, (-180, -90, 180, 90), WHERE) == (0, 0, 100, 200)


def test_a_step_has_its_direction_across_the_antimeridian() -> None:
    east, south = pixel_steps(grid("EPSG:4326", Affine(1e-4, 0, 179.99, 0, -1e-4, 60.005)))
    assert east == pytest.approx((5.58, 0), abs=0.01)
    assert south == pytest.approx((0, -11.14), abs=0.01)


def test_bounds_that_miss_say_where_the_scene_is() -> None:
    own = grid("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 50))
    with pytest.raises(UsageError, match=r"`bbox`: .*outside of 0,0,1,1.*lies at 10\.0+,49\.0+,12"):
        window_of(own, (0, 0, 1, 1), WHERE)
    utm = grid("EPSG:32633", Affine(1, 0, 500_000, 0, -1, 5_000_000))
    with pytest.raises(UsageError, match="wholly outside"):
        window_of(utm, (-120, 30, -119, 31), WHERE)
    with pytest.raises(UsageError, match=r"scene\.tif: has no coordinate reference system"):
        window_of(grid(None, Affine(1, 0, 5, 0, -1, 5)), (0, 0, 1, 1), WHERE)


def test_degrees_agree_with_the_length_of_the_meridian() -> None:
    """From the equator to a pole the ellipsoid has 10,001.966 km."""
    step, total = 1.0, 0.0
    for south in range(90):
        found = ground_resolution(
            grid("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, south + 0.5), 1, 1)
        )
        assert found is not None
        total += found[1] / 0.001 * step
    assert math.isclose(total, 10_001_966, rel_tol=1e-4)
