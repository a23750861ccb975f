"""What each layer of a style draws, worked out once for one ground resolution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.errors import DataError
from sat2map.style.features import FeatureKind, Geometries
from sat2map.style.style import Layer, Style

MAX_ERROR = 0.04
"""Pixels that a round corner's polygon may stay away from the circle."""

MAX_PAINTS = 2**16 - 1
"""As many as the numbers of a fine pixel, uint16, can tell apart."""

_CAPS = {"butt": "flat", "round": "round", "square": "square"}
_JOINS = {"miter": "mitre", "round": "round", "bevel": "bevel"}


@dataclass(frozen=True)
class Stroke:
    """Width, caps and dashes of a line, lengths in pixels.

    Attributes:
        width: Of the line, or of each of two beside a gap.
        gap: Between two lines beside the course, 0 for one line on it.
        dashes: Lengths of dashes and gaps in turn, in widths; empty for none.
        cap: Shape of the ends of lines, as shapely names it.
        join: Shape of the corners of lines, as shapely names it.
        mitre_limit: Ratio from which on a mitre is cut.
    """

    width: float
    gap: float
    dashes: tuple[float, ...]
    cap: str
    join: str
    mitre_limit: float

    @property
    def reach(self) -> float:
        """How far from its course it draws at most."""
        corner = max(self.mitre_limit, 1.0) if self.join == "mitre" else 1.0
        return (self.gap / 2 + self.width if self.gap else self.width / 2) * max(corner, 1.5)

    def outline(self, courses: Geometries) -> Geometries:
        """Return the areas that the stroke covers along lines, or around polygons."""
        if shapely.get_dimensions(courses).max(initial=0) == 2:
            courses = shapely.boundary(courses)
        if any(self.dashes):
            courses = np.array([_dashed(course, self) for course in courses], object)
        if not self.gap:
            return self._buffer(courses, self.width / 2)
        inner = self._buffer(courses, self.gap / 2)
        outer = self._buffer(courses, self.gap / 2 + self.width)
        areas: Geometries = shapely.difference(outer, inner)
        return areas

    def _buffer(self, courses: Geometries, radius: float) -> Geometries:
        step = 2 * math.acos(max(1 - MAX_ERROR / radius, 0.0))
        areas: Geometries = shapely.buffer(
            courses,
            radius,
            quad_segs=max(2, math.ceil(math.pi / 2 / step)),
            cap_style=self.cap,
            join_style=self.join,
            mitre_limit=self.mitre_limit,
        )
        return areas


@dataclass(frozen=True)
class Brush:
    """One layer at one resolution, for each kind of features.

    Attributes:
        class_number: The class of the legend that it gives, or None.
        paints: The paint's number, 0 where nothing is drawn, uint16 [S].
        opacities: From 0 to 1, float64 [S].
        order: What is drawn later has more of it, float64 [S].
        strokes: How lines are drawn; None fills areas. List of S.
    """

    class_number: int | None
    paints: NDArray[np.uint16]
    opacities: NDArray[np.float64]
    order: NDArray[np.float64]
    strokes: Sequence[Stroke | None]

    @property
    def reach(self) -> float:
        """How far from a feature it draws at most, in pixels."""
        return max((stroke.reach for stroke in self.strokes if stroke is not None), default=0.0)

    @property
    def dashed(self) -> NDArray[np.bool_]:
        """Of which kinds it draws dashes, which begin where a line does, bool [S]."""
        return np.array(
            [stroke is not None and any(stroke.dashes) for stroke in self.strokes], bool
        )

    def areas(
        self, geometries: Geometries, kinds: NDArray[np.int32]
    ) -> tuple[Geometries, NDArray[np.int32]]:
        """Return what is covered, in drawing order.

        Args:
            geometries: Of features, in pixels, object [N].
            kinds: Theirs, int32 [N].

        Returns:
            Areas, object [M], and the kind of each, int32 [M].
        """
        chosen = np.flatnonzero(self.paints[kinds])
        order = self.order[kinds[chosen]]
        if len(chosen) and (order != order[0]).any():
            chosen = chosen[np.argsort(order, kind="stable")]
        shapes, own = geometries[chosen], kinds[chosen]
        for stroke in {self.strokes[kind] for kind in np.unique(own).tolist()}:
            if stroke is not None:
                mine = np.array([self.strokes[kind] == stroke for kind in own.tolist()], bool)
                shapes[mine] = stroke.outline(shapes[mine])
        return shapes, own


@dataclass
class Palette:
    """The colours of the paints, by their numbers; the first is the background's."""

    colours: list[tuple[int, int, int]]

    def number(self, colour: tuple[float, ...]) -> int:
        """Return the number of a colour that is drawn above the background."""
        rounded = (round(colour[0]), round(colour[1]), round(colour[2]))
        try:
            return self.colours.index(rounded, 1)
        except ValueError:
            if len(self.colours) > MAX_PAINTS:
                raise DataError(
                    f"the style has more than {MAX_PAINTS:,} colours on one map",
                    remedy="Let fewer colours depend on a feature's columns, or fewer shapes be "
                    "translucent.",
                ) from None
            self.colours.append(rounded)
            return len(self.colours) - 1


def brushes(
    style: Style, table: Sequence[FeatureKind], resolution_m: float
) -> tuple[Palette, int, list[Brush]]:
    """Work out what a style draws at a resolution.

    Args:
        style: The style.
        table: The kinds of the features.
        resolution_m: Metres per pixel.

    Returns:
        The palette, the background's class, and the brushes from the lowest to the highest.

    Raises:
        DataError: An expression met a property's value that it cannot use.
    """
    first = style.layers[0]
    view = FeatureKind("", "Polygon", "", {}).view(resolution_m)
    colour = first.value("background-color", view)
    palette = Palette([(round(colour[0]), round(colour[1]), round(colour[2]))])
    found: list[Brush] = []
    for layer in style.layers[1:]:
        found += _of_layer(layer, table, resolution_m, palette)
    return palette, first.class_number or 0, found


def _of_layer(
    layer: Layer, table: Sequence[FeatureKind], resolution_m: float, palette: Palette
) -> Iterator[Brush]:
    drawn = [
        k
        for k, kind in enumerate(table)
        if (layer.kind == "line" or kind.geometry == "Polygon")
        and layer.draws(kind.view(resolution_m), kind.source_layer)
    ]
    if not drawn:
        return
    empty = _Columns(len(table))
    outline = _Columns(len(table))
    for k in drawn:
        view = table[k].view(resolution_m)
        if layer.kind == "line":
            stroke = _stroke(layer, view)
            if stroke.width > 0:
                empty.put(k, palette, layer, view, "line-color", "line", stroke)
        else:
            empty.put(k, palette, layer, view, "fill-color", "fill", None)
            if layer.value("fill-outline-color", view) is not None:
                outline.put(k, palette, layer, view, "fill-outline-color", "fill", _OUTLINE)
    for columns, class_number in ((empty, layer.class_number), (outline, None)):
        if columns.paints.any():
            yield Brush(
                class_number, columns.paints, columns.opacities, columns.order, columns.strokes
            )


class _Columns:
    """Paint, stroke and order for each kind of feature."""

    def __init__(self, count: int) -> None:
        self.paints = np.zeros(count, np.uint16)
        self.opacities = np.ones(count)
        self.order = np.zeros(count)
        self.strokes: list[Stroke | None] = [None] * count

    def put(
        self,
        place: int,
        palette: Palette,
        layer: Layer,
        view: Any,
        colour_key: str,
        prefix: str,
        stroke: Stroke | None,
    ) -> None:
        colour = layer.value(colour_key, view)
        opacity = colour[3] * min(max(layer.value(f"{prefix}-opacity", view), 0.0), 1.0)
        if opacity > 0:
            self.paints[place] = palette.number(colour)
        self.opacities[place] = opacity
        self.order[place] = layer.value(f"{prefix}-sort-key", view)
        self.strokes[place] = stroke


def _stroke(layer: Layer, view: Any) -> Stroke:
    return Stroke(
        max(layer.value("line-width", view), 0.0),
        max(layer.value("line-gap-width", view), 0.0),
        layer.value("line-dasharray", view) or (),
        _CAPS[layer.value("line-cap", view)],
        _JOINS[layer.value("line-join", view)],
        layer.value("line-miter-limit", view),
    )


_OUTLINE = Stroke(1.0, 0.0, (), "flat", "mitre", 2.0)
"""MapLibre's outlines are one pixel wide."""


def _dashed(course: Any, stroke: Stroke) -> Any:
    """Return the dashes of a line, each a line."""
    from shapely.ops import substring

    lengths = [max(length, 0.0) * stroke.width for length in stroke.dashes]
    lengths = lengths if len(lengths) % 2 == 0 else lengths * 2
    if sum(lengths) < 0.1:
        return course
    dashes: list[Any] = []
    for part in shapely.get_parts(course):
        at = 0.0
        while at < part.length:
            for number, length in enumerate(lengths):
                if number % 2 == 0 and length > 0 and at < part.length:
                    dashes.append(substring(part, at, min(at + length, part.length)))
                at += length
    return shapely.multilinestrings([dash for dash in dashes if dash.geom_type == "LineString"])
