"""Expressions of the MapLibre style specification: the subset that maps without labels need.

`["match", ["get", "highway"], "motorway", "highway", ""]` and its like are compiled once and
evaluated for a feature's properties at a zoom. Source: maplibre.org/maplibre-style-spec,
version 8, chapter "Expressions". One operator is added: `["metres", x]`, the pixels that `x`
metres on the ground take.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from sat2map.style.colours import ExpressionError, parse_colour
from sat2map.style.operators import ARITHMETIC, COMPARISONS, SUPPORTED

Value = Any
"""What an expression gives: None, bool, float, str, or `Rgba`."""

Kind = Literal["any", "boolean", "number", "string", "colour", "numbers"]

MOST_NESTED = 64
"""Expressions within each other, which call each other when they are evaluated."""

EQUATOR_M = 78271.51696402048
"""Metres per pixel at zoom 0, where the world is 512 pixels wide, as in MapLibre."""


@dataclass(frozen=True)
class View:
    """For what an expression is evaluated.

    Attributes:
        properties: Of the feature; what it lacks, or has as None or "", is null.
        geometry: "Point", "LineString" or "Polygon".
        resolution_m: Metres on the ground per pixel.
    """

    properties: Mapping[str, Value]
    geometry: str
    resolution_m: float

    @property
    def zoom(self) -> float:
        """MapLibre's zoom at the equator of the same ground resolution."""
        return zoom_of(self.resolution_m)


def zoom_of(resolution_m: float) -> float:
    """Return MapLibre's zoom where a pixel is so many metres, taken at the equator."""
    return math.log2(EQUATOR_M / resolution_m)


@dataclass(frozen=True)
class Expression:
    """A compiled expression.

    Attributes:
        evaluate: Gives its value; raises `ExpressionError` where a value is of no use.
        properties: The properties that it looks at.
        constant: Whether the value depends on nothing.
        source: The JSON that it was compiled from.
        kind: The kind of value that it was compiled for.
    """

    evaluate: Callable[[View], Value]
    properties: frozenset[str]
    constant: bool
    source: object
    kind: Kind

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be sent to other processes, which compile it again."""
        return compile_expression, (self.source, self.kind)


def compile_expression(value: object, kind: Kind) -> Expression:
    """Compile an expression or a plain value of a style.

    Args:
        value: As read from JSON.
        kind: What its results must be.

    Raises:
        ExpressionError: It is none, or none that is supported.
    """
    compiler = _Compiler()
    evaluate = compiler.compile(value, kind)
    return Expression(evaluate, frozenset(compiler.properties), compiler.constant, value, kind)


_Evaluate = Callable[[View], Value]


class _Compiler:
    """Compiles one expression and notes what it looks at."""

    def __init__(self) -> None:
        self.properties: set[str] = set()
        self.constant = True
        self._depth = 0

    def compile(self, value: object, kind: Kind) -> _Evaluate:
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise ExpressionError(f"it is nested more than {MOST_NESTED} deep")
        try:
            return self._compile(value, kind)
        finally:
            self._depth -= 1

    def _compile(self, value: object, kind: Kind) -> _Evaluate:
        if isinstance(value, list) and not (kind == "numbers" and _is_numbers(value)):
            return _checked(self._call(value, kind), kind)
        if isinstance(value, dict):
            raise ExpressionError(
                '{"stops": …} is a function of old styles; write ["interpolate", …] or ["step", …]'
            )
        literal = _convert(value, kind)
        return lambda view: literal

    def _call(self, call: list[Any], kind: Kind) -> _Evaluate:
        if not call or not isinstance(call[0], str):
            raise ExpressionError(f"{call!r} is not an expression")
        name, arguments = call[0], call[1:]
        if name in COMPARISONS:
            return self._compare(name, arguments)
        if name in ARITHMETIC:
            return self._calculate(name, arguments)
        special = {
            "literal": self._literal,
            "get": self._get,
            "has": self._has,
            "!": self._not,
            "all": self._all,
            "any": self._any,
            "in": self._in,
            "to-number": self._to_number,
            "to-string": self._to_string,
            "geometry-type": self._geometry,
            "zoom": self._zoom,
            "metres": self._metres,
        }
        if name in special:
            return special[name](arguments)
        passing = {
            "case": self._case,
            "match": self._match,
            "coalesce": self._coalesce,
            "step": self._step,
            "interpolate": self._interpolate,
        }
        if name in passing:
            return passing[name](arguments, kind)
        raise ExpressionError(
            f"the expression {name!r} is not supported; those are {sorted(SUPPORTED)}"
        )

    def _literal(self, arguments: list[Any]) -> _Evaluate:
        _count("literal", arguments, 1)
        return lambda view: arguments[0]

    def _get(self, arguments: list[Any]) -> _Evaluate:
        name = self._property("get", arguments)
        return lambda view: view.properties.get(name)

    def _has(self, arguments: list[Any]) -> _Evaluate:
        name = self._property("has", arguments)
        return lambda view: view.properties.get(name) is not None

    def _property(self, operator: str, arguments: list[Any]) -> str:
        _count(operator, arguments, 1)
        if not isinstance(arguments[0], str):
            raise ExpressionError(f'[{operator!r}, …] takes the name of a property, as "class"')
        self.properties.add(arguments[0])
        self.constant = False
        return arguments[0]

    def _not(self, arguments: list[Any]) -> _Evaluate:
        _count("!", arguments, 1)
        inner = self.compile(arguments[0], "boolean")
        return lambda view: not inner(view)

    def _all(self, arguments: list[Any]) -> _Evaluate:
        parts = [self.compile(part, "boolean") for part in arguments]
        return lambda view: all(part(view) for part in parts)

    def _any(self, arguments: list[Any]) -> _Evaluate:
        parts = [self.compile(part, "boolean") for part in arguments]
        return lambda view: any(part(view) for part in parts)

    def _in(self, arguments: list[Any]) -> _Evaluate:
        _count("in", arguments, 2)
        needle = self.compile(arguments[0], "any")
        stack = arguments[1]
        if not (isinstance(stack, list) and stack[:1] == ["literal"] and len(stack) == 2):
            raise ExpressionError('["in", x, list] takes the list as ["literal", [...]]')
        values = list(stack[1])
        return lambda view: needle(view) in values

    def _to_number(self, arguments: list[Any]) -> _Evaluate:
        _count("to-number", arguments, 1, None)
        parts = [self.compile(part, "any") for part in arguments]

        def evaluate(view: View) -> float:
            for part in parts:
                found = part(view)
                try:
                    number = float(0 if found is None and part is parts[-1] else found)
                except (TypeError, ValueError):
                    continue
                if math.isfinite(number):
                    return number
            raise ExpressionError(f"{parts[0](view)!r} is not a number")

        return evaluate

    def _to_string(self, arguments: list[Any]) -> _Evaluate:
        _count("to-string", arguments, 1)
        inner = self.compile(arguments[0], "any")
        return lambda view: "" if (found := inner(view)) is None else _text(found)

    def _geometry(self, arguments: list[Any]) -> _Evaluate:
        _count("geometry-type", arguments, 0)
        self.constant = False
        return lambda view: view.geometry

    def _zoom(self, arguments: list[Any]) -> _Evaluate:
        _count("zoom", arguments, 0)
        self.constant = False
        return lambda view: view.zoom

    def _metres(self, arguments: list[Any]) -> _Evaluate:
        _count("metres", arguments, 1)
        self.constant = False
        inner = self.compile(arguments[0], "number")
        return lambda view: inner(view) / view.resolution_m

    def _compare(self, name: str, arguments: list[Any]) -> _Evaluate:
        if len(arguments) == 2 and isinstance(arguments[0], str) and arguments[0]:
            raise ExpressionError(
                f"[{name!r}, {arguments[0]!r}, …] is a filter of old styles; write "
                f'[{name!r}, ["get", {arguments[0]!r}], …]'
            )
        _count(name, arguments, 2)
        left, right = (self.compile(part, "any") for part in arguments)
        compare = COMPARISONS[name]

        def evaluate(view: View) -> bool:
            one, other = left(view), right(view)
            if name not in {"==", "!="} and not _comparable(one, other):
                return False  # as MapLibre drops a feature whose filter fails
            return compare(one, other)

        return evaluate

    def _calculate(self, name: str, arguments: list[Any]) -> _Evaluate:
        _count(name, arguments, *ARITHMETIC[name][1:])
        parts = [self.compile(part, "number") for part in arguments]
        calculate = ARITHMETIC[name][0]

        def evaluate(view: View) -> float:
            try:
                return calculate([part(view) for part in parts])
            except (ZeroDivisionError, OverflowError, ValueError) as error:
                raise ExpressionError(f"[{name!r}, …] met {error}") from error

        return evaluate

    def _case(self, arguments: list[Any], kind: Kind) -> _Evaluate:
        if len(arguments) < 3 or len(arguments) % 2 == 0:
            raise ExpressionError('["case", …] takes condition, value, …, and a value for the rest')
        tests = [self.compile(part, "boolean") for part in arguments[:-1:2]]
        values = [self.compile(part, kind) for part in arguments[1::2]]
        rest = self.compile(arguments[-1], kind)

        def evaluate(view: View) -> Value:
            for test, value in zip(tests, values, strict=True):
                if test(view):
                    return value(view)
            return rest(view)

        return evaluate

    def _match(self, arguments: list[Any], kind: Kind) -> _Evaluate:
        if len(arguments) < 4 or len(arguments) % 2 == 1:
            raise ExpressionError('["match", …] takes an input, label, value, …, and the rest')
        given = self.compile(arguments[0], "any")
        table: dict[Value, _Evaluate] = {}
        for labels, value in zip(arguments[1:-1:2], arguments[2::2], strict=True):
            result = self.compile(value, kind)
            for label in labels if isinstance(labels, list) else [labels]:
                if not isinstance(label, str | int | float):
                    raise ExpressionError(f'{label!r} is not a label of ["match", …]')
                table.setdefault(label, result)
        rest = self.compile(arguments[-1], kind)
        return lambda view: table.get(given(view), rest)(view)

    def _coalesce(self, arguments: list[Any], kind: Kind) -> _Evaluate:
        _count("coalesce", arguments, 1, None)
        parts = [self.compile(part, "any") for part in arguments]
        return lambda view: next(
            (found for part in parts if (found := part(view)) is not None), None
        )

    def _step(self, arguments: list[Any], kind: Kind) -> _Evaluate:
        if len(arguments) < 2 or len(arguments) % 2 == 1:
            raise ExpressionError('["step", …] takes an input, a value, and stop, value, …')
        given = self.compile(arguments[0], "number")
        stops = _stops("step", arguments[2::2])
        values = [self.compile(part, kind) for part in arguments[1::2]]

        def evaluate(view: View) -> Value:
            at = given(view)
            return values[sum(stop <= at for stop in stops)](view)

        return evaluate

    def _interpolate(self, arguments: list[Any], kind: Kind) -> _Evaluate:
        if len(arguments) < 4 or len(arguments) % 2 == 1:
            raise ExpressionError(
                '["interpolate", …] takes ["linear"], an input, and stop, value, …'
            )
        base = _base(arguments[0])
        given = self.compile(arguments[1], "number")
        stops = _stops("interpolate", arguments[2::2])
        inner: Kind = kind if kind in {"number", "colour"} else "number"
        values = [self.compile(part, inner) for part in arguments[3::2]]

        def evaluate(view: View) -> Value:
            at = given(view)
            if at <= stops[0]:
                return values[0](view)
            for number, (low, high) in enumerate(pairwise(stops)):
                if at <= high:
                    share = _share(at - low, high - low, base)
                    return _mixed(values[number](view), values[number + 1](view), share)
            return values[-1](view)

        return evaluate


def _base(kind: object) -> float:
    if kind == ["linear"]:
        return 1.0
    if isinstance(kind, list) and kind[:1] == ["exponential"] and len(kind) == 2:
        base = kind[1]
        if _is_numbers([base]) and 0 < base < math.inf:
            return float(base)
    raise ExpressionError(
        f'["interpolate", {kind!r}, …] is not supported; take ["linear"] or '
        '["exponential", base] with a base above 0'
    )


def _share(gone: float, whole: float, base: float) -> float:
    rate = math.log(base)
    if rate == 0:
        return gone / whole
    try:
        return math.expm1(gone * rate) / math.expm1(whole * rate)
    except OverflowError:  # so large that the one does not count beside the power
        return math.exp((gone - whole) * rate)


def _mixed(low: Value, high: Value, share: float) -> Value:
    if isinstance(low, tuple):
        return tuple(a + (b - a) * share for a, b in zip(low, high, strict=True))
    return low + (high - low) * share


def _stops(name: str, stops: Sequence[Any]) -> list[float]:
    if not _is_numbers(stops) or any(low >= high for low, high in pairwise(stops)):
        raise ExpressionError(f"[{name!r}, …] takes its stops as rising numbers, not {stops!r}")
    return [float(stop) for stop in stops]


def _is_numbers(values: Sequence[Any]) -> bool:
    """Return whether all are numbers that a float can hold."""
    return all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max
        for v in values
    )


def _count(name: str, arguments: list[Any], least: int, most: int | None = -1) -> None:
    most = least if most == -1 else most
    if len(arguments) < least or (most is not None and len(arguments) > most):
        wanted = least if most == least else f"at least {least}"
        raise ExpressionError(f"[{name!r}, …] takes {wanted} arguments, not {len(arguments)}")


def _checked(evaluate: _Evaluate, kind: Kind) -> _Evaluate:
    if kind == "any":
        return evaluate
    return lambda view: _convert(evaluate(view), kind)


def _convert(value: Value, kind: Kind) -> Value:
    if kind == "any":
        return value
    if kind == "colour":
        return value if isinstance(value, tuple) else parse_colour(value)
    if kind == "number" and _is_numbers([value]):
        return float(value)
    if kind == "numbers" and isinstance(value, list) and _is_numbers(value):
        return tuple(float(part) for part in value)
    if (kind == "boolean" and isinstance(value, bool)) or (
        kind == "string" and (value is None or isinstance(value, str))
    ):
        return value
    wanted = {"boolean": "true or false", "string": "a text", "number": "a number"}
    raise ExpressionError(f"{value!r} is not {wanted.get(kind, 'a list of numbers')}")


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _comparable(one: Value, other: Value) -> bool:
    return (isinstance(one, str) and isinstance(other, str)) or _is_numbers([one, other])
