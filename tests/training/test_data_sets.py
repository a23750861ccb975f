from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sat2map.data.pairs import DataSetCard, write_card
from sat2map.errors import UsageError
from sat2map.legend import Legend, LegendClass
from sat2map.recipe import Recipe
from sat2map.training.data_sets import load_data_sets

Small = Callable[..., Recipe]
LAND, HOUSE = LegendClass("ground", (200, 200, 200), "land"), LegendClass("house", (30, 60, 90))


def of_casing(data: Path, small: Small, asked: str, *classes: LegendClass) -> int | None:
    """Return the class of casings that a run's losses know."""
    write_card(data, DataSetCard(legend=Legend((LAND, HOUSE, *classes))))
    recipe = small(f"objective.casing={asked}", "data.resize=none", recipe="compact")
    facts = load_data_sets(recipe, [data], quiet=True).class_facts
    assert facts is not None
    return facts.casing


def test_casings_are_the_class_of_that_role_or_that_is_named(data: Path, small: Small) -> None:
    edge = LegendClass("kerb", (90, 90, 90), "casing")
    other = LegendClass("casing", (10, 10, 10), "other")
    assert of_casing(data, small, "none", edge) is None
    assert of_casing(data, small, "casing", edge) == 2
    assert of_casing(data, small, "kerb", edge) == 2
    assert of_casing(data, small, "house", edge) == 1
    assert of_casing(data, small, "casing", other, edge) == 3
    assert of_casing(data, small, "casing", other) == 2  # as recipes of the first versions mean


def test_a_casing_that_is_no_class_or_several_is_refused(data: Path, small: Small) -> None:
    two = [LegendClass(name, (90, 90, len(name)), "casing") for name in ("kerb", "fence")]
    with pytest.raises(
        UsageError, match=r"is 'edge', which is not a class .*classes are ground, ho"
    ):
        of_casing(data, small, "edge", *two)
    with pytest.raises(UsageError, match=r"is 'casing', which is the role of several classes"):
        of_casing(data, small, "casing", *two)
    assert of_casing(data, small, "fence", *two) == 3
