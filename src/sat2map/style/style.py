"""Map styles: how features of each class are drawn, and the legend that comes of it.

They are read from files by `style_file.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from sat2map.errors import DataError
from sat2map.legend import Legend
from sat2map.style.colours import ExpressionError
from sat2map.style.expressions import Expression, Value, View

LayerKind = Literal["background", "fill", "line"]

CLASS = "class"
"""The property that holds a feature's class, for the filters of a style's layers."""

CLASSES = "sat2map:classes"
"""Where a style's metadata has the rules that give features their classes."""


@dataclass(frozen=True)
class Layer:
    """One layer of a style.

    Attributes:
        name: Its id.
        kind: What it draws.
        shown: Gives whether a feature is drawn.
        source_layer: The only layer of the vectors' files that it draws, if any.
        zooms: From which zoom on it is drawn, and below which.
        class_number: The class of the legend that it gives to what it covers; None leaves the
            class of what lies below, as casings do.
        properties: What gives the values of its paint and layout properties.
    """

    name: str
    kind: LayerKind
    shown: Expression
    source_layer: str | None
    zooms: tuple[float, float]
    class_number: int | None
    properties: Mapping[str, Expression]

    def draws(self, view: View, source_layer: str | None = None) -> bool:
        """Return whether a feature of these properties is drawn.

        Raises:
            DataError: The filter met a value that it cannot use.
        """
        with _naming(self.name, "filter"):
            return (
                self.zooms[0] <= view.zoom < self.zooms[1]
                and self.source_layer in {None, source_layer}
                and bool(self.shown.evaluate(view))
            )

    def value(self, key: str, view: View) -> Value:
        """Return the value of a property for a feature.

        Raises:
            DataError: The expression met a value that it cannot use.
        """
        with _naming(self.name, key):
            return self.properties[key].evaluate(view)


@dataclass(frozen=True)
class Style:
    """A map style.

    Attributes:
        name: Its name.
        legend: The classes of its maps.
        classes: What makes a feature one of a class, by the feature's class, the first that
            holds; a feature's own property `class` comes before.
        layers: From the lowest to the highest; the first is the background.
    """

    name: str
    legend: Legend
    classes: Mapping[str, Expression]
    layers: tuple[Layer, ...]
    columns: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        expressions = [*self.classes.values(), *(layer.shown for layer in self.layers)]
        expressions += [e for layer in self.layers for e in layer.properties.values()]
        used = frozenset().union(*(e.properties for e in expressions))
        object.__setattr__(self, "columns", used | {CLASS})

    def class_of(self, properties: Mapping[str, Value], geometry: str) -> str | None:
        """Return the class of a feature, None where it is of none.

        Raises:
            DataError: A rule met a value that it cannot use.
        """
        own = properties.get(CLASS)
        if own in self.classes:
            return str(own)
        view = View(properties, geometry, 1.0)
        for name, rule in self.classes.items():
            with _naming(CLASSES, name):
                if rule.evaluate(view):
                    return name
        return None


@contextmanager
def _naming(layer: str, key: str) -> Iterator[None]:
    """Say which layer and key an expression belongs to that met a value of no use."""
    place = f"{key} of the style's layer {layer!r}"
    if layer == CLASSES:
        place = f"the rule of the class {key!r} in the style's {layer}"
    try:
        yield
    except ExpressionError as error:
        raise DataError(
            f"{place}: {error}",
            remedy='Correct the data, or the expression, for example by ["to-number", …, 0].',
        ) from error
