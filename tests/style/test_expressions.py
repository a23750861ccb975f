"""Expressions of the MapLibre style specification."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from sat2map.style.colours import ExpressionError
from sat2map.style.expressions import Kind, View, compile_expression, zoom_of

FEATURE = {"class": "road", "lanes": 2.0, "layer": "1", "bridge": True, "width": "6 m"}


def value(expression: object, kind: Kind = "any", resolution_m: float = 1.0) -> Any:
    compiled = compile_expression(expression, kind)
    return compiled.evaluate(View(FEATURE, "LineString", resolution_m))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (["get", "class"], "road"),
        (["get", "nothing"], None),
        (["has", "lanes"], True),
        (["!", ["has", "lanes"]], False),
        (["==", ["get", "class"], "road"], True),
        (["!=", ["get", "nothing"], "road"], True),
        ([">", ["get", "lanes"], 1], True),
        ([">", ["get", "class"], 1], False),  # not comparable: not shown
        (["<", ["get", "nothing"], 1], False),
        (["in", ["get", "class"], ["literal", ["road", "path"]]], True),
        (["all", ["has", "class"], ["has", "nothing"]], False),
        (["any", ["has", "class"], ["has", "nothing"]], True),
        (["case", ["has", "nothing"], "a", ["has", "lanes"], "b", "c"], "b"),
        (["match", ["get", "class"], ["path", "road"], 1, "rail", 2, 3], 1),
        (["match", ["get", "nothing"], "path", 1, 3], 3),
        (["coalesce", ["get", "nothing"], ["get", "class"]], "road"),
        (["step", ["get", "lanes"], "few", 2, "two", 3, "many"], "two"),
        (["interpolate", ["linear"], ["get", "lanes"], 1, 10, 3, 30], 20.0),
        (["interpolate", ["exponential", 2], ["get", "lanes"], 1, 0, 3, 30], 10.0),
        (["interpolate", ["linear"], ["get", "lanes"], 5, 7, 6, 8], 7.0),
        (["to-number", ["get", "layer"]], 1.0),
        (["to-number", ["get", "width"], ["get", "lanes"], 9], 2.0),
        (["to-number", ["get", "nothing"], 9], 9.0),
        (["to-string", ["get", "lanes"]], "2"),
        (["geometry-type"], "LineString"),
        (["+", 1, ["*", 2, 3], ["-", 1], ["/", 1, 2], ["%", 7, 4], ["^", 2, 3]], 17.5),
        (["max", 1, ["min", 5, 9]], 5.0),
    ],
)
def test_an_expression_has_the_value_of_the_specification(
    expression: object, expected: object
) -> None:
    assert value(expression) == expected


def test_metres_become_pixels_and_resolution_becomes_zoom() -> None:
    assert value(["metres", 6], resolution_m=0.5) == 12.0
    assert zoom_of(78271.51696402048 / 2**15) == pytest.approx(15)
    assert value(["zoom"], resolution_m=78271.51696402048 / 2**15) == pytest.approx(15)


@pytest.mark.parametrize(
    ("text", "rgba"),
    [
        ("#ff8000", (255, 128, 0, 1)),
        ("#f80", (255, 136, 0, 1)),
        ("rgba(255, 0, 0, 0.5)", (255, 0, 0, 0.5)),
        ("hsl(120, 100%, 50%)", (0, 255, 0, 1)),
        ("white", (255, 255, 255, 1)),
        ("transparent", (0, 0, 0, 0)),
        ("#ff800080", (255, 128, 0, 128 / 255)),
        ("rgba(1,2,3,50%)", (1, 2, 3, 0.5)),
        ("rgba(1,2,3,.25)", (1, 2, 3, 0.25)),
        ("rgba(1,2,3,5e-1)", (1, 2, 3, 0.5)),
        ("RGBA( 1, 2, 3, 2 )", (1, 2, 3, 1)),
        ("rgba(1,2,3,-1)", (1, 2, 3, 0)),
        ("rgb(1, 2, 3, 0.5)", (1, 2, 3, 0.5)),
        ("rgb(1 2 3 / 50%)", (1, 2, 3, 0.5)),
        ("rgb(300, 1.6, -5)", (255, 2, 0, 1)),
        ("rgb(100%, 50%, 0%)", (255, 128, 0, 1)),
        ("hsla(240deg, 100%, 50%, 10%)", (0, 0, 255, 0.1)),
        ("hsl(-120, 100%, 25%)", (0, 0, 128, 1)),
    ],
)
def test_colours_are_those_of_css(text: str, rgba: tuple[float, ...]) -> None:
    assert value(text, "colour") == pytest.approx(rgba)


def test_colours_are_interpolated() -> None:
    mixed = value(
        ["interpolate", ["linear"], ["get", "lanes"], 1, "#000000", 3, "#6432c8"], "colour"
    )
    assert mixed == pytest.approx((50, 25, 100, 1))


@pytest.mark.parametrize(
    ("expression", "kind", "message"),
    [
        (["round", 1], "number", "'round' is not supported"),
        (["==", "class", "road"], "boolean", "filter of old styles"),
        ({"stops": [[1, 2]]}, "number", "old styles"),
        (["get"], "any", "takes 1 arguments"),
        ("blurple", "colour", "not a colour"),
        (["step", ["zoom"], 1, 5, 2, 3, 4], "number", "rising"),
        (["interpolate", ["cubic-bezier", 0, 0, 1, 1], ["zoom"], 1, 2], "number", "cubic-bezier"),
        ("wide", "number", "not a number"),
    ],
)
def test_what_is_not_supported_is_said(expression: object, kind: Kind, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        compile_expression(expression, kind)


@pytest.mark.parametrize(
    "text",
    [
        *("rgba(1,2,3,1.2.3)", "rgba(1,2,3,)", "rgba(1,2,3,4,5)", "rgb(1,2)", "rgb(1,2,3%)"),
        *("rgb(1 2 3 4)", "rgb(1,2,3/4)", "hsl(1,2,3)", "hsl(1%,2%,3%)", "rgba(1,2,3,5deg)"),
        *("rgba(1,2,3,nan)", "rgba()", "hsv(1,2%,3%)", "", "#12", "rgba(1,2,3"),
    ],
)
def test_what_is_no_colour_of_css_is_said(text: str) -> None:
    with pytest.raises(ExpressionError, match="not a colour"):
        value(text, "colour")


def test_an_exponential_is_one_however_steep() -> None:
    def at(base: float, x: float, end: float = 10) -> float:
        curve = ["interpolate", ["exponential", base], x, 0, 0, end, 100]
        return float(value(curve, "number"))  # type: ignore[arg-type]

    assert at(2, 1) == pytest.approx(100 / 1023)
    assert at(1, 3) == at(1 + 1e-16, 3) == 30
    assert at(1 + 1e-15, 3) == pytest.approx(30)
    assert at(0.5, 1) == pytest.approx(100 * 0.5 / (1 - 0.5**10))
    assert at(10, 999, 1000) == pytest.approx(10)
    for base in (0, -2, "2", True, float("inf")):
        with pytest.raises(ExpressionError, match="base above 0"):
            at(base, 1)  # type: ignore[arg-type]
    with pytest.raises(ExpressionError, match="base above 0"):
        compile_expression(["interpolate", ["exponential"], 1, 0, 0, 1, 1], "number")


@pytest.mark.parametrize("power", [["^", -8, 0.5], ["^", 10, 1000], ["/", 1, 0], ["^", 0, -1]])
def test_what_cannot_be_calculated_is_said(power: list[object]) -> None:
    with pytest.raises(ExpressionError, match="met"):
        value(power, "number")


def test_values_of_no_use_are_said() -> None:
    with pytest.raises(ExpressionError, match="'6 m' is not a number"):
        value(["get", "width"], "number")


def test_it_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(compile_expression(["get", "class"], "string")))
    assert sent.evaluate(View(FEATURE, "Polygon", 1.0)) == "road"
    assert sent.properties == {"class"}
