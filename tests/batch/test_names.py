"""Maps have names that every file system takes, and none the name of another."""

from __future__ import annotations

import pytest

from sat2map.batch.names import LONGEST, Names, safe_place


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        (("north", "a b"), "north/a b"),
        (("..", ".hidden"), "_/hidden"),
        (("a:b", "c?d*"), "a_b/c_d_"),
        (("CON", "nul.x"), "_CON/_nul.x"),
        (("scenes.tif", "one"), "scenes_tif/one"),
        (("", "\udcff"), "_/\ufffd"),
        (("x" * 300,), "x" * LONGEST),
        (("{z}", "100%"), "_z_/100_"),
    ],
)
def test_places_are_safe(parts: tuple[str, ...], place: str) -> None:
    assert safe_place(*parts) == place


def test_none_has_the_name_of_another() -> None:
    names = Names(["taken.tif"])
    given = [
        names.give(place)
        for place in ("a", "A", "a", "taken", "b.classes", "b", "c", "c.confidence", "a-2")
    ]
    assert given == [
        "a.tif",
        "A-2.tif",
        "a-3.tif",
        "taken-2.tif",
        "b.classes.tif",
        "b-2.tif",
        "c.tif",
        "c.confidence-2.tif",
        "a-2-2.tif",
    ]
