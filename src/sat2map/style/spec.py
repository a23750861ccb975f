"""Style files: read, laid over the style that they build on, checked and compiled.

A style is a JSON file of the MapLibre style specification, version 8, of which backgrounds,
fills and lines are supported. What MapLibre does not know stands in its `metadata`: the
legend, what gives a feature its class, and the style that this one builds on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sat2map.errors import Sat2mapError, UsageError
from sat2map.legend import Legend, read_colours
from sat2map.style.colours import ExpressionError
from sat2map.style.expressions import Expression, Kind, View, compile_expression
from sat2map.style.style import CLASSES, Layer, Style


def shipped_styles() -> list[str]:
    """Return the names of the styles that come with the package."""
    folder = files("sat2map.style") / "styles"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json"))


def read_style(name_or_path: str | Path) -> Style:
    """Read a style; this needs none of the libraries that draw.

    Args:
        name_or_path: A shipped name ("streets") first, otherwise the path of a JSON file.

    Raises:
        UsageError: The style is not valid; the message names the layer and the key.
    """
    where = str(name_or_path)
    entries = _read(where, ())
    problems: list[str] = []
    style = _build(where, entries, problems)
    if problems or style is None:
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise UsageError(f"{problems[0]}{more}", where=where, remedy=_REMEDY)
    return style


def style_colours(name_or_path: str, legend: Legend | None) -> Mapping[str, object]:
    """Return what colours a style has for the classes of a legend, for `Legend.in_colours`.

    Args:
        name_or_path: A shipped name first, of which no more than the legend's classes is taken;
            otherwise the path of a JSON file of class -> colour.
        legend: The classes; None knows none.

    Raises:
        DataError: The file cannot be read, or is not such a file.
    """
    if name_or_path not in shipped_styles():
        return read_colours(Path(name_or_path))
    known = () if legend is None else legend.names
    return {c.name: c.colour for c in read_style(name_or_path).legend.classes if c.name in known}


def style_entries(name_or_path: str | Path) -> dict[str, Any]:
    """Return what stands in a style and those that it builds on, as one style.

    Raises:
        UsageError: One of them cannot be read.
    """
    return _read(str(name_or_path), ())


_REMEDY = "docs/reference/style.md tells what is supported."
_BASE, _LEGEND = "sat2map:base", "sat2map:legend"
_LAYER_CLASS, _BELOW = "sat2map:class", "sat2map:below"
MOST_BASES = 16
_ROOT_KEYS = {
    *("version", "name", "metadata", "layers"),
    *("id", "sources", "sprite", "glyphs", "center", "zoom", "bearing", "pitch", "roll"),
    *("transition", "light", "sky", "terrain", "projection", "created", "modified", "owner"),
}
"""The first are read; the others say nothing about how a map without labels looks."""

_LAYER_KEYS = {
    *("id", "type", "source", "source-layer", "filter", "minzoom", "maxzoom"),
    *("layout", "paint", "metadata"),
}


@dataclass(frozen=True)
class _Property:
    kind: Kind
    default: Any
    choices: tuple[str, ...] = ()


_VISIBILITY = _Property("string", "visible", ("visible", "none"))
PROPERTIES: Mapping[str, Mapping[str, Mapping[str, _Property]]] = {
    "background": {
        "paint": {"background-color": _Property("colour", "#000000")},
        "layout": {"visibility": _VISIBILITY},
    },
    "fill": {
        "paint": {
            "fill-color": _Property("colour", "#000000"),
            "fill-opacity": _Property("number", 1.0),
            "fill-outline-color": _Property("colour", None),
        },
        "layout": {"fill-sort-key": _Property("number", 0.0), "visibility": _VISIBILITY},
    },
    "line": {
        "paint": {
            "line-color": _Property("colour", "#000000"),
            "line-width": _Property("number", 1.0),
            "line-gap-width": _Property("number", 0.0),
            "line-opacity": _Property("number", 1.0),
            "line-dasharray": _Property("numbers", None),
        },
        "layout": {
            "line-cap": _Property("string", "butt", ("butt", "round", "square")),
            "line-join": _Property("string", "miter", ("miter", "round", "bevel")),
            "line-miter-limit": _Property("number", 2.0),
            "line-sort-key": _Property("number", 0.0),
            "visibility": _VISIBILITY,
        },
    },
}
"""What is supported of each kind of layer; the defaults are MapLibre's."""


def _read(name_or_path: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Return the entries of a style file, laid over those of the style that it builds on."""
    if len(seen) > MOST_BASES:
        raise UsageError(
            f"builds on more than {MOST_BASES} styles, each upon the next",
            where=seen[0],
            remedy="Lay some of them together.",
        )
    if name_or_path in seen:
        raise UsageError(
            f"is its own base ({' -> '.join([*seen, name_or_path])})",
            where=name_or_path,
            remedy=f"Remove one of these {_BASE!r}.",
        )
    shipped = name_or_path in shipped_styles()
    try:
        if shipped:
            folder = files("sat2map.style") / "styles"
            text = (folder / f"{name_or_path}.json").read_text("utf-8")
        else:
            text = Path(name_or_path).read_text("utf-8")
        entries = json.loads(text, parse_constant=_not_json)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "is neither a shipped style nor a file that can be read",
            where=name_or_path,
            remedy=f"Shipped are: {', '.join(shipped_styles())}.",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"is not valid JSON ({error})", where=name_or_path, remedy="Correct that line."
        ) from error
    except RecursionError as error:
        raise UsageError(
            "is nested too deeply to be read", where=name_or_path, remedy=_REMEDY
        ) from error
    if not isinstance(entries, dict):
        raise UsageError("is not a style, but a list", where=name_or_path, remedy=_REMEDY)
    base = _metadata(entries).get(_BASE)
    layers = entries.setdefault("layers", [] if seen or base is not None else None)
    if base is None and not seen:
        return entries
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise UsageError("its layers are not a list of objects", where=name_or_path, remedy=_REMEDY)
    if base is None:
        return entries
    if base not in shipped_styles():
        base = str((Path(name_or_path).parent / str(base)).resolve())
    return _laid_over(_read(str(base), (*seen, name_or_path)), entries)


def _not_json(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads though JSON has no such numbers."""
    raise ValueError(f"{name} is not a number")


def _laid_over(base: dict[str, Any], entries: dict[str, Any]) -> dict[str, Any]:
    """Return a style with what another one adds or changes.

    Layers of the same id are changed key by key; others come on top, or below the one that
    they name. The rules of classes come before those of the base.
    """
    over, under = _metadata(entries), _metadata(base)
    merged = {**base, **entries, "metadata": {**under, **over}}
    if isinstance(over.get(CLASSES), dict) and isinstance(under.get(CLASSES), dict):
        merged["metadata"][CLASSES] = over[CLASSES] | {
            name: rule if name not in over[CLASSES] else ["any", over[CLASSES][name], rule]
            for name, rule in under[CLASSES].items()
        }
    layers = [dict(layer) for layer in base["layers"]]
    for layer in entries["layers"]:
        names = [known.get("id") for known in layers]
        if layer.get("id") in names:
            known = layers[names.index(layer["id"])]
            for key, value in layer.items():
                both = isinstance(value, dict) and isinstance(known.get(key), dict)
                known[key] = {**known[key], **value} if both else value
        else:
            below = _metadata(layer).get(_BELOW)
            layers.insert(names.index(below) if below in names else len(layers), layer)
    merged["layers"] = layers
    return merged


def _metadata(entries: Mapping[str, Any]) -> dict[str, Any]:
    found = entries.get("metadata")
    return found if isinstance(found, dict) else {}


def _build(where: str, entries: dict[str, Any], problems: list[str]) -> Style | None:
    """Return the style, and say what is wrong with it."""
    if entries.get("version") != 8:
        problems.append(f"its version is {entries.get('version')!r}, not 8")
    problems.extend(f"unknown key {key!r}" for key in entries if key not in _ROOT_KEYS)
    metadata = _metadata(entries)
    problems.extend(
        f"unknown key {key!r} in metadata"
        for key in metadata
        if key.startswith("sat2map:") and key not in {_BASE, _LEGEND, CLASSES}
    )
    legend = _legend(metadata, problems)
    classes: dict[str, Expression] = {}
    rules = metadata.get(CLASSES)
    if not isinstance(rules, dict) or not rules:
        problems.append(f"its metadata has no {CLASSES!r}, the rules that give features classes")
        rules = {}
    for name, rule in rules.items():
        try:
            classes[name] = compile_expression(rule, "boolean")
        except ExpressionError as error:
            problems.append(f"class {name!r} in {CLASSES!r}: {error}")
    layers = [
        layer
        for layer in _layers(entries.get("layers"), legend, problems)
        if layer.properties["visibility"].evaluate(_NOTHING) == "visible"
    ]
    if not problems and (not layers or layers[0].kind != "background"):
        problems.append("its first layer is not a background")
    elif not problems and layers[0].class_number is None:
        problems.append(f"layer {layers[0].name!r}: its metadata has no {_LAYER_CLASS!r}")
    if problems or legend is None:
        return None
    return Style(str(entries.get("name") or Path(where).stem), legend, classes, tuple(layers))


_NOTHING = View({}, "Polygon", 1.0)


def _legend(metadata: Mapping[str, Any], problems: list[str]) -> Legend | None:
    if _LEGEND not in metadata:
        problems.append(f"its metadata has no {_LEGEND!r}")
        return None
    try:
        return Legend.from_json(metadata[_LEGEND])
    except Sat2mapError as error:
        problems.append(f"{_LEGEND!r}: {error.what}")
        return None


def _layers(entries: Any, legend: Legend | None, problems: list[str]) -> Iterator[Layer]:
    if not isinstance(entries, list):
        problems.append("it has no list of layers")
        return
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name in seen:
            problems.append(f"layer {number} has no id of its own")
            continue
        seen.add(name)
        mine: list[str] = []
        layer = _layer(name, entry, legend, mine)
        problems.extend(f"layer {name!r}: {problem}" for problem in mine)
        if layer is not None and not mine:
            yield layer


def _layer(
    name: str, entry: Mapping[str, Any], legend: Legend | None, problems: list[str]
) -> Layer | None:
    kind: Any = entry.get("type")
    if kind not in tuple(PROPERTIES):  # it may be anything, a list too
        problems.append(f"the type {kind!r} is not supported; those are {sorted(PROPERTIES)}")
        return None
    problems.extend(f"unknown key {key!r}" for key in entry if key not in _LAYER_KEYS)
    own = _metadata(entry).get(_LAYER_CLASS)
    if own is not None and legend is not None and own not in legend.names:
        problems.append(f"{_LAYER_CLASS!r} is {own!r}; the legend has {list(legend.names)}")
        own = None
    zooms = (entry.get("minzoom", -math.inf), entry.get("maxzoom", math.inf))
    if not all(isinstance(zoom, int | float) for zoom in zooms):
        problems.append(f"minzoom and maxzoom are numbers, not {zooms}")
        zooms = (-math.inf, math.inf)
    shown = compile_expression(True, "boolean")
    try:
        shown = compile_expression(entry.get("filter", True), "boolean")
    except ExpressionError as error:
        problems.append(f"filter: {error}")
    return Layer(
        name,
        kind,
        shown,
        entry.get("source-layer"),
        zooms,
        None if own is None or legend is None else legend.names.index(own),
        dict(_properties(kind, entry, problems)),
    )


def _properties(
    kind: str, entry: Mapping[str, Any], problems: list[str]
) -> Iterator[tuple[str, Expression]]:
    for section, known in PROPERTIES[kind].items():
        given = entry.get(section, {})
        if not isinstance(given, dict):
            problems.append(f"{section} is not an object")
            given = {}
        problems.extend(
            f"the property {key!r} is not supported; those are {list(known)}"
            for key in given
            if key not in known
        )
        for key, spec in known.items():
            value = given.get(key, spec.default)
            try:
                if value is None:
                    compiled = compile_expression(None, "any")
                else:
                    compiled = compile_expression(value, spec.kind)
                if spec.choices and compiled.constant:
                    chosen = compiled.evaluate(_NOTHING)
                    if chosen not in spec.choices:
                        problems.append(f"{key} is {chosen!r}; it is one of {spec.choices}")
                yield key, compiled
            except ExpressionError as error:
                problems.append(f"{key}: {error}")
