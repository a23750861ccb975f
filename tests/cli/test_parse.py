from __future__ import annotations

from pathlib import Path

import pytest

from sat2map.cli import parse
from sat2map.errors import UsageError
from sat2map.raster.options import Reading
from sat2map.towns import KINDS


def test_words_become_a_reading() -> None:
    assert parse.scene_reading(None, None, None, None) == Reading()
    words = ("3,2,1", "0.5,99.5", "-10,3e3", "-71.2,42,-71.1,42.5")
    assert parse.scene_reading(*words) == Reading(
        (3, 2, 1), (0.5, 99.5), (-10, 3000), (-71.2, 42, -71.1, 42.5)
    )
    assert parse.scene_reading(None, None, None, None, "nan").nodata == ()
    assert parse.scene_reading(None, None, None, None, "0,-1.5").nodata == (0, -1.5)
    with pytest.raises(UsageError, match=r"`nodata`: 'none' is not a value"):
        parse.scene_reading(None, None, None, None, "none")
    assert parse.bounding_box("179.5,-20,-179.5,-19") == (179.5, -20, -179.5, -19)


def test_words_become_resolutions_and_sides() -> None:
    assert [parse.map_resolution(text) for text in ("native", "model", "0.5")] == [
        "native",
        "model",
        0.5,
    ]
    assert [parse.shown_resolution(text) for text in ("native", "0.75")] == ["native", 0.75]
    assert [parse.trained_resolution(text) for text in ("0.9", "0.5,2")] == [(0.9, 0.9), (0.5, 2)]
    assert [parse.image_side(text) for text in ("native", "256")] == [None, 256]


def test_words_become_what_chips_and_sets_are_made_of(tmp_path: Path) -> None:
    assert parse.shift("2.5,-1") == (2.5, -1)
    assert [parse.validation(text) for text in ("0.1", "austin*, 7?")] == [0.1, ["austin*", "7?"]]
    assert parse.town_kinds([""]) == ((), "map")
    assert parse.town_kinds([]) == (("temperate",), "map")
    assert parse.town_kinds(["snow,desert", "snow"]) == (("snow", "desert"), "map")
    assert parse.town_kinds(["snow", "mixed"]) == (KINDS, "map")
    assert parse.town_kinds(["colourise"]) == (("temperate",), "colourise")
    assert parse.town_kinds(["snow,colourise"]) == (("snow",), "colourise")
    name = tmp_path / "a=b.geojson"
    name.touch()
    for text, feature_class in ((str(name), None), (f"{name}=park", "park")):
        file = parse.vector_file(text)
        assert (file.path, file.feature_class) == (name, feature_class)


@pytest.mark.parametrize("text", ["", "1,a,3", "red", "1.5", "1 2 3"])
def test_what_names_no_bands(text: str) -> None:
    with pytest.raises(UsageError, match=r"`bands`: .* names no bands"):
        parse.scene_reading(text, None, None, None)


@pytest.mark.parametrize("text", ["2", "98,2", "-1,50", "0,101", "a,b", "1,2,3", "nan,5"])
def test_what_is_not_a_range_of_percentiles(text: str) -> None:
    with pytest.raises(UsageError, match=r"`stretch`: .* is not a range"):
        parse.scene_reading(None, text, None, None)


@pytest.mark.parametrize("text", ["5,5", "9,1", "inf,3", "x"])
def test_what_is_not_a_range_of_values(text: str) -> None:
    with pytest.raises(UsageError, match=r"`value_range`: .* is not a range"):
        parse.scene_reading(None, None, text, None)


@pytest.mark.parametrize(
    "text", ["13,52,14", "13,53,14,52", "13,52,13,53", "500000,52,500100,53", "13,52,14,91", "box"]
)
def test_what_is_not_a_bounding_box(text: str) -> None:
    with pytest.raises(UsageError, match=r"`bbox`: .* is not a bounding box"):
        parse.bounding_box(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "fine", "1,2", "nan"])
def test_what_is_not_a_resolution(text: str) -> None:
    for resolution in (parse.map_resolution, parse.shown_resolution):
        with pytest.raises(UsageError, match=r"`resolution`: .* is not a ground resolution"):
            resolution(text)


@pytest.mark.parametrize("text", ["fine", "1,2,3", "nan", ""])
def test_what_is_not_a_range_of_resolutions(text: str) -> None:
    with pytest.raises(UsageError, match=r"`resolution_m`: .* is not a ground resolution"):
        parse.trained_resolution(text)


@pytest.mark.parametrize("text", ["nan,0", "inf,1", "1", "1,2,3", "north"])
def test_what_is_not_a_shift(text: str) -> None:
    with pytest.raises(UsageError, match=r"`shift_m`: .* is not a shift"):
        parse.shift(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "large", ""])
def test_what_is_not_a_side(text: str) -> None:
    with pytest.raises(UsageError, match=r"`size`: .* is not a size"):
        parse.image_side(text)


@pytest.mark.parametrize(
    ("text", "pixels"),
    [("2Gpx", 2_000_000_000), ("0.5 Mpx", 500_000), ("4096", 4096), ("3k", 3000), ("none", None)],
)
def test_numbers_of_pixels(text: str, pixels: int | None) -> None:
    assert parse.number_of_pixels(text) == pixels


@pytest.mark.parametrize("text", ["", "2 Gb", "0", "1.2.3Gpx", "-2Gpx", "many"])
def test_what_is_not_a_number_of_pixels(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse.number_of_pixels(text)
    assert caught.value.parameter == "split_above"
