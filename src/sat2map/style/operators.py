"""The operators of expressions, and what the plain ones compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, other: bool(one == other),
    "!=": lambda one, other: bool(one != other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
}

ARITHMETIC: Mapping[str, tuple[Callable[[list[float]], float], int, int | None]] = {
    "+": (sum, 1, None),
    "*": (math.prod, 1, None),
    "-": (lambda v: -v[0] if len(v) == 1 else v[0] - v[1], 1, 2),
    "/": (lambda v: v[0] / v[1], 2, 2),
    "%": (lambda v: math.fmod(v[0], v[1]), 2, 2),
    "^": (lambda v: math.pow(v[0], v[1]), 2, 2),
    "min": (min, 1, None),
    "max": (max, 1, None),
}
"""Of each the function, and the least and the greatest number of its arguments."""

SUPPORTED = frozenset(
    {
        *("literal", "get", "has", "!", "all", "any", "in", "to-number", "to-string"),
        *("geometry-type", "zoom", "metres", "case", "match", "coalesce", "step", "interpolate"),
        *COMPARISONS,
        *ARITHMETIC,
    }
)
"""All operators."""
