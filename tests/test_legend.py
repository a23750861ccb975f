from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat2map.errors import DataError
from sat2map.legend import (
    COVER,
    STREETS,
    Legend,
    LegendClass,
    cover_of,
    lab,
    map_to_cover_may_be,
    read_colours,
)

COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


def test_the_house_legend() -> None:
    assert [(c.name, c.colour, c.road) for c in STREETS.classes] == [
        ("land", (233, 229, 221), False),
        ("building", (243, 241, 235), False),
        ("road", (255, 255, 253), True),
        ("park", (203, 223, 173), False),
        ("water", (178, 209, 254), False),
        ("highway", (247, 160, 33), True),
        ("main_road", (254, 223, 95), True),
        ("other", (221, 217, 211), False),
    ]
    assert len(STREETS) == 8
    assert STREETS.roads.tolist() == [c.road for c in STREETS.classes]
    assert STREETS.colours.dtype == np.uint8


@given(st.lists(COLOURS, min_size=1, max_size=20, unique=True), st.integers(0, 2**31))
def test_what_is_painted_is_labelled_alike(colours: list[Any], seed: int) -> None:
    legend = Legend(tuple(LegendClass(str(i), colour) for i, colour in enumerate(colours)))
    labels = np.random.default_rng(seed).integers(0, len(colours), (5, 7))
    image = legend.paint(labels)
    assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
    again = legend.label(image)
    assert (again.shape, again.dtype) == ((5, 7), np.uint8)
    assert np.array_equal(again, labels)


def test_each_pixel_gets_the_class_that_looks_nearest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    distances = ((lab(image)[:, :, None] - lab(STREETS.colours)) ** 2).sum(-1)
    assert np.array_equal(STREETS.label(image), distances.argmin(-1))
    in_rgb = ((image[:, :, None].astype(int) - STREETS.colours) ** 2).sum(-1).argmin(-1)
    assert not np.array_equal(STREETS.label(image), in_rgb)


def test_lab_against_known_values() -> None:
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2]]
    np.testing.assert_allclose(lab(colours), known, atol=0.02)


def test_json_and_back() -> None:
    assert Legend.from_json(STREETS.to_json()) == STREETS
    assert Legend.from_json(COVER.to_json()) == COVER
    assert STREETS.to_json()[5] == {
        "name": "highway",
        "colour": [247, 160, 33],
        "road": True,
        "role": "road",
    }


@pytest.mark.parametrize(
    ("entry", "role"),
    [
        ({"name": "lava"}, "other"),
        ({"name": "lava", "road": True}, "road"),
        ({"name": "park", "road": False}, "vegetation"),
        ({"name": "sea"}, "water"),
        ({"name": "road"}, "road"),
        ({"name": "road", "road": False}, "other"),
        ({"name": "water", "road": True}, "road"),
        ({"name": "water", "role": "casing"}, "casing"),
        ({"name": "way", "role": "road", "road": True}, "road"),
    ],
)
def test_roles_are_told_or_follow_from_what_old_legends_say(entry: Any, role: str) -> None:
    legend = Legend.from_json([{**entry, "colour": [1, 2, 3]}])
    assert legend.classes[0].role == role
    assert legend.roads.tolist() == [role == "road"]
    assert Legend.from_json(legend.to_json()) == legend


def test_an_old_card_gives_the_house_legend_its_roles() -> None:
    old = [{k: v for k, v in entry.items() if k != "role"} for entry in STREETS.to_json()]
    assert Legend.from_json(old) == STREETS


def test_cover_follows_from_roles() -> None:
    assert COVER.names == ("land", "building", "road", "vegetation", "water")
    assert cover_of(COVER).tolist() == [0, 1, 2, 3, 4]
    assert cover_of(STREETS).tolist() == [0, 1, 2, 3, 4, 2, 2, 0]
    assert cover_of(STREETS).dtype == np.uint8
    casing = Legend((LegendClass("edge", (0, 0, 0), "casing"),))
    assert cover_of(casing).tolist() == [0]


def test_what_a_map_shows_may_be_several_things_on_the_ground() -> None:
    may_be = map_to_cover_may_be(STREETS)
    assert (may_be.shape, may_be.dtype) == ((8, 5), np.bool_)
    told = {
        name: {COVER.names[k] for k in np.flatnonzero(row)}
        for name, row in zip(STREETS.names, may_be, strict=True)
    }
    assert told == {
        "land": {"land", "vegetation"},
        "building": {"building"},
        "road": {"road", "vegetation"},
        "park": {"vegetation", "land"},
        "water": {"water"},
        "highway": {"road", "vegetation"},
        "main_road": {"road", "vegetation"},
        "other": set(),
    }


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        (None, "not a list"),
        ({"name": "a"}, "not a list"),
        ([], "1 to 255 classes, this one has 0"),
        ([{"name": str(i), "colour": [i % 256, i // 256, 0]} for i in range(256)], "has 256"),
        ([{"name": "a"}], "has the entry {'name': 'a'}"),
        ([{"colour": [1, 2, 3]}], "has the entry"),
        (["a"], "has the entry 'a'"),
        ([{"name": 3, "colour": [1, 2, 3]}], "has the entry"),
        ([{"name": "a", "colour": 7}], "has the entry"),
        ([{"name": "a", "colour": "red"}], "has the entry"),
        ([{"name": "a", "colour": [1.5, 2, 3]}], "has the entry"),
        ([{"name": "a", "colour": [True, 2, 3]}], "has the entry"),
        ([{"name": "a", "colour": [1, 2, 3], "road": "no"}], "has the entry"),
        ([{"name": "a", "colour": [1, 2, 3], "role": "lava"}], "the roles are land, building"),
        ([{"name": "a", "colour": [1, 2, 3], "role": "water", "road": True}], "has the entry"),
        ([{"name": "a", "colour": [1, 2]}], "class 'a' has the colour"),
        ([{"name": "a", "colour": [1, 2, 256]}], "class 'a' has the colour"),
        ([{"name": "a", "colour": [-1, 2, 3]}], "class 'a' has the colour"),
        ([{"name": "a", "colour": [i, 0, 0]} for i in (1, 2)], "names a twice"),
        ([{"name": n, "colour": [1, 2, 3]} for n in "ab"], r"names \(1, 2, 3\) twice"),
    ],
)
def test_what_is_no_legend_is_refused(entries: Any, what: str) -> None:
    with pytest.raises(DataError, match=what):
        Legend.from_json(entries)


def test_other_colours_for_some_classes() -> None:
    made = STREETS.in_colours({"road": "#0A0b0c", "water": [1, 2, 3]})
    assert made.names == STREETS.names
    assert made.roads.tolist() == STREETS.roads.tolist()
    assert made.classes[2].colour == (10, 11, 12)
    assert made.classes[4].colour == (1, 2, 3)
    assert made.classes[0] == STREETS.classes[0]


@pytest.mark.parametrize(
    ("colours", "what"),
    [
        ({"lava": [1, 2, 3]}, "'lava'"),
        ({"road": "white"}, "'white'"),
        ({"road": [1, 2]}, "'road'"),
        ({"road": [1, 2, 256]}, "256"),
        ({"road": [1, 2, True]}, "True"),
        ({"road": [1, 2, 3], "water": [1, 2, 3]}, "twice"),
    ],
)
def test_a_style_that_does_not_fit_is_refused(colours: dict[str, object], what: str) -> None:
    with pytest.raises(DataError, match=what):
        STREETS.in_colours(colours)


def test_a_style_is_read_from_json(tmp_path: Path) -> None:
    (tmp_path / "night.json").write_text('{"road": "#ffffff"}')
    assert read_colours(tmp_path / "night.json") == {"road": "#ffffff"}
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    for name in ("list.json", "broken.json", "missing.json"):
        with pytest.raises(DataError, match=name):
            read_colours(tmp_path / name)
