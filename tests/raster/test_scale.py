from __future__ import annotations

from pathlib import Path

import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine

from sat2map.errors import UsageError
from sat2map.geo.grid import Grid
from sat2map.raster.options import Resolution
from sat2map.raster.scale import choose_scale, knows

WHERE = Path("scene.tif")


def scene(metres: float, crs: str | None = "EPSG:32633") -> Grid:
    reference = None if crs is None else CRS.from_string(crs)
    return Grid(1000, 2000, Affine(metres, 0, 500_000, 0, -metres, 5_000_000), reference)


@pytest.mark.parametrize(
    ("metres", "known", "seen"),
    [
        (1, (1, 1), (1000, 2000)),
        (1.05, (1, 1), (1000, 2000)),
        (0.5, (1, 1), (500, 1000)),
        (0.5, (0.3, 2), (1000, 2000)),
        (0.1, (0.5, 2), (200, 400)),
        (3, (1, 2), (1500, 3000)),
        (100, (1, 2), (4000, 8000)),  # no more than four times
        (7, None, (1000, 2000)),
    ],
)
def test_the_network_sees_what_it_knows(
    metres: float, known: tuple[float, float] | None, seen: tuple[int, int]
) -> None:
    scale = choose_scale(scene(metres), known, "native", WHERE)
    assert scale.seen == pytest.approx(seen, abs=1)
    assert scale.written == (1000, 2000)
    assert choose_scale(scene(metres), known, "model", WHERE).written == scale.seen


def test_a_whole_number_of_pixels_becomes_one_where_that_is_near() -> None:
    def seen(metres: float) -> tuple[int, int]:
        return choose_scale(scene(metres), (1, 1), "native", WHERE).seen

    # A projection enlarges a little: what is called 0.5 m is 0.5002 m here.
    assert [seen(metres) for metres in (0.5, 0.497, 0.334)] == [
        (500, 1000),
        (500, 1000),
        (333, 666),
    ]
    assert seen(0.48) == pytest.approx((480, 960), abs=1)  # too far from it


@pytest.mark.parametrize(("metres", "written"), [(0.5, (1000, 2000)), (2, (250, 500))])
def test_the_map_may_have_a_resolution_of_its_own(metres: float, written: tuple[int, int]) -> None:
    scale = choose_scale(scene(0.5), (1, 1), metres, WHERE)
    assert scale.written == pytest.approx(written, abs=1)
    assert scale.seen == pytest.approx((500, 1000), abs=1)


def test_degrees_become_square_on_the_ground() -> None:
    """At 60 degrees a pixel in degrees is half as wide as it is tall."""
    grid = Grid(500, 1000, Affine(1e-5, 0, 10, 0, -1e-5, 60), CRS.from_epsg(4326))
    scale = choose_scale(grid, (1, 1), "native", WHERE)
    assert scale.seen == pytest.approx((557, 558), abs=3)
    assert scale.written == (500, 1000)


def test_a_scene_far_too_coarse_gets_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    choose_scale(scene(1.05), (0.5, 1), "native", WHERE)
    assert not caplog.records
    choose_scale(scene(1.9), (0.5, 1), "native", WHERE)
    assert "scene.tif: has 1.9 m per pixel, a little coarser than the model knows" in caplog.text
    choose_scale(scene(2.5), (0.5, 1), "native", WHERE)
    assert "scene.tif: has 2.5 m per pixel, but the model knows 0.5 to 1 m" in caplog.text


def test_without_a_crs_a_scene_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    scale = choose_scale(scene(0.1, None), (1, 1), "native", WHERE)
    assert scale.seen == scale.written == (1000, 2000)
    assert "scene.tif: has no coordinate reference system" in caplog.text


def test_a_model_that_says_nothing_of_scale_gets_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    choose_scale(scene(1), None, "native", WHERE)
    assert "does not say which ground resolutions it knows" in caplog.text


@pytest.mark.parametrize(("resolution", "crs"), [(0.001, "EPSG:32633"), (0, "EPSG:32633")])
def test_a_resolution_that_makes_no_sense(resolution: Resolution, crs: str) -> None:
    with pytest.raises(
        UsageError, match=r"`resolution`: .* is not a resolution for a scene of 1 m"
    ):
        choose_scale(scene(1, crs), (1, 1), resolution, WHERE)


def test_metres_need_a_ground() -> None:
    with pytest.raises(UsageError, match=r"`resolution`: .* of scene\.tif is not known"):
        choose_scale(scene(1, None), (1, 1), 0.5, WHERE)


@pytest.mark.parametrize(
    ("ground", "known", "words"),
    [
        ((1, 1), (1, 1), "yes: the model knows 1 m"),
        ((0.3, 0.3), (0.5, 2), "yes, reduced: the model knows 0.5 to 2 m"),
        ((3, 3), (1, 2), "nearly"),
        ((5, 5), (1, 2), "no: the model knows 1 to 2 m"),
        ((5, 5), None, "unknown: the model"),
        (None, (1, 1), "unknown: the scene"),
    ],
)
def test_what_a_model_knows_in_words(
    ground: tuple[float, float] | None, known: tuple[float, float] | None, words: str
) -> None:
    assert knows(known, ground).startswith(words)
