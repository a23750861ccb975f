from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sat2map.data.mask_mapping import MaskMapping
from sat2map.errors import DataError
from sat2map.legend import COVER, Legend, LegendClass

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)


def test_each_value_stands_for_the_classes_it_may_be() -> None:
    entries = {"0": "unknown", "1": "water", "2": ["land", "road"], "254": "not building"}
    mapping = MaskMapping.from_json(entries, COVER)
    table = mapping.may_be(COVER)
    assert (table.shape, table.dtype) == ((256, 5), np.bool_)
    assert not table[0].any()
    assert np.flatnonzero(table[1]).tolist() == [WATER]
    assert np.flatnonzero(table[2]).tolist() == [LAND, ROAD]
    assert np.flatnonzero(table[254]).tolist() == [LAND, ROAD, VEGETATION, WATER]
    assert table.any(axis=1).sum() == 3
    assert np.flatnonzero(mapping.listed()).tolist() == [0, 1, 2, 254]


def test_json_and_back() -> None:
    entries = {"0": "unknown", "1": "water", "2": ["land", "road"]}
    mapping = MaskMapping.from_json(entries, COVER)
    assert mapping.to_json() == entries
    barred = MaskMapping.from_json({"9": "not road"}, COVER)
    assert barred.to_json() == {"9": ["land", "building", "vegetation", "water"]}


def test_what_may_be_every_class_is_unknown() -> None:
    mapping = MaskMapping.from_json({"3": list(COVER.names), "4": "land"}, COVER)
    assert not mapping.may_be(COVER)[3].any()
    assert mapping.may_be(COVER)[4].any()


def test_a_class_may_be_called_unknown_or_not_something() -> None:
    legend = Legend((LegendClass("unknown", (0, 0, 0)), LegendClass("not sure", (1, 1, 1))))
    mapping = MaskMapping.from_json({"0": "unknown", "1": "not sure"}, legend)
    assert mapping.may_be(legend)[:2].tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        (None, "not an object with values"),
        ({}, "not an object with values"),
        ({"a": "road"}, "'a', not a value from 0 to 255"),
        ({"256": "road"}, "'256', not a value"),
        ({"-1": "road"}, "'-1', not a value"),
        ({"01": "road"}, "'01', not a value"),
        ({"1": 3}, "has 3 for the value 1"),
        ({"1": []}, r"has \[\] for the value 1"),
        ({"1": ["road", 2]}, "for the value 1"),
        ({"1": "lava"}, "value 1 stands for 'lava', which the legend has not"),
        ({"1": "not lava"}, "stands for 'lava', which the legend has not"),
        ({"1": ["road", "unknown"]}, "stands for 'unknown', which the legend has not"),
    ],
)
def test_what_is_no_mapping_is_refused(entries: Any, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        MaskMapping.from_json(entries, COVER)
    assert "\n" not in str(caught.value)


def test_values_outside_of_the_mapping_are_named() -> None:
    mapping = MaskMapping.from_json({"0": "unknown", "1": "road"}, COVER)
    mapping.check(np.array([[0, 1], [1, 1]], np.uint8), Path("a.png"))
    with pytest.raises(DataError, match=r"a\.png: has the value 7, which .* It lists 0, 1: "):
        mapping.check(np.array([[0, 7], [1, 1]], np.uint8), Path("a.png"))
    with pytest.raises(DataError, match=r"has the values 2, 3, 4, 5, 6, 7, 8, 9, \.\.\., which"):
        mapping.check(np.arange(20, dtype=np.uint8), Path("a.png"))
