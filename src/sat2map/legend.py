"""The legend of a map: an ordered list of classes, each with its colour.

The index of a class is its number in label arrays. Labels come from colours by the nearest
legend colour in CIE Lab, where distances are about as the eye sees them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import DataError, parsed_json

Colour = tuple[int, int, int]

LEGEND_TAG = "SAT2MAP_LEGEND"
"""The tag of a class map that holds its legend, JSON as `Legend.to_json` gives it."""

TEMPERATURE_TAG = "SAT2MAP_TEMPERATURE"
"""The tag of a raster of probabilities that says at which temperature they are confidence."""

ROAD_WIDTH_TAG = "SAT2MAP_ROAD_WIDTH_ERROR_M"
"""The tag of a class map whose roads are as wide as roads are, not as a map draws them: by how many
metres the widths of its roads are off in the mean, where that was measured."""

SURENESS_TAG = "SAT2MAP_CONFIDENCE"
"""The tag of a raster of confidence that says whether it is one, or an agreement of passes."""

Role = Literal["land", "building", "road", "vegetation", "water", "casing", "other"]
"""What a class means, whatever it is called: every kind of road has the role "road". A casing
is the line along both edges of a drawn road."""

ROLES: tuple[Role, ...] = get_args(Role)

_NAMES: dict[Role, str] = {
    "land": "land ground bare bare_land soil sand",
    "building": "building buildings house houses",
    "road": "road roads street streets highway main_road motorway trunk primary secondary",
    "vegetation": "vegetation park forest woodland wood tree trees grass scrub",
    "water": "water river lake sea",
    "casing": "casing",
}
_ROLES_OF_NAMES = {name: role for role, names in _NAMES.items() for name in names.split()}
"""The role of a class in a legend that tells none, by the name of the class."""


@dataclass(frozen=True)
class LegendClass:
    """One class of a map.

    Attributes:
        name: Its name, for people and for tables.
        colour: RGB, 0 to 255.
        role: What the class means.
    """

    name: str
    colour: Colour
    role: Role = "other"

    @property
    def road(self) -> bool:
        """Whether it belongs to the road network."""
        return self.role == "road"


@dataclass(frozen=True)
class Legend:
    """The classes of a map in order; at least one, at most 255.

    Raises:
        DataError: No class, too many, a name or a colour twice, or a colour out of range.
    """

    classes: tuple[LegendClass, ...]

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.classes]
        colours = [entry.colour for entry in self.classes]
        if not 1 <= len(self.classes) <= 255:
            raise DataError(
                f"a legend has 1 to 255 classes, this one has {len(self.classes)}",
                remedy="Correct the legend.",
            )
        for value, values in [(n, names) for n in names] + [(c, colours) for c in colours]:
            if values.count(value) > 1:  # type: ignore[arg-type]
                raise DataError(
                    f"the legend names {value} twice", remedy="Give each class its own."
                )
        for entry in self.classes:
            if len(entry.colour) != 3 or not all(0 <= c <= 255 for c in entry.colour):
                raise DataError(
                    f"the legend's class {entry.name!r} has the colour {entry.colour}",
                    remedy="A colour is three numbers from 0 to 255.",
                )

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes in order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def colours(self) -> NDArray[np.uint8]:
        """The colours, uint8 [K,3]."""
        return np.array([entry.colour for entry in self.classes], np.uint8)

    @property
    def named_colours(self) -> dict[str, list[int]]:
        """The colours by the names of their classes, as `in_colours` takes them."""
        return {entry.name: list(entry.colour) for entry in self.classes}

    @property
    def roads(self) -> NDArray[np.bool_]:
        """Which classes are roads, bool [K]."""
        return np.array([entry.road for entry in self.classes], np.bool_)

    def of_role(self, role: Role) -> NDArray[np.bool_]:
        """Return which classes have a role, bool [K]."""
        return np.array([entry.role == role for entry in self.classes], np.bool_)

    def label(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the class numbers, uint8 [H,W], of an image, uint8 [H,W,3].

        Each pixel gets the class whose colour is nearest in CIE Lab.
        """
        # Each distinct colour is converted once. A table over all colours finds and spreads
        # them faster than sorting the pixels does.
        packed = image.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        seen = np.zeros(1 << 24, np.bool_)
        seen[packed] = True
        values = np.flatnonzero(seen)
        distinct = np.stack([values >> 16, values >> 8 & 255, values & 255], -1).astype(np.uint8)
        distances = ((lab(distinct)[:, None] - lab(self.colours)[None]) ** 2).sum(-1)
        table = np.empty(1 << 24, np.uint8)
        table[values] = distances.argmin(1)
        labels: NDArray[np.uint8] = table[packed]
        return labels

    def paint(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return the image, uint8 [H,W,3], of class numbers [H,W]."""
        painted: NDArray[np.uint8] = np.take(self.colours, labels, axis=0)  # faster than [labels]
        return painted

    def in_colours(self, colours: Mapping[str, object]) -> Legend:
        """Return the same classes in other colours; what is not named keeps its own.

        Args:
            colours: For the name of a class [red, green, blue], 0 to 255, or "#rrggbb".

        Raises:
            DataError: There is no such class, a colour is none, or two classes get the same.
        """
        unknown = [name for name in colours if name not in self.names]
        if unknown:
            raise DataError(
                f"names the class {unknown[0]!r}, which the legend has not",
                remedy=f"Its classes are {', '.join(self.names)}.",
            )
        return Legend(
            tuple(
                replace(entry, colour=_read_colour(colours[entry.name], entry.name))
                if entry.name in colours
                else entry
                for entry in self.classes
            )
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the list of {name, colour, road, role} that `from_json` reads.

        `road` is for readers that know of no roles.
        """
        return [
            {
                "name": entry.name,
                "colour": list(entry.colour),
                "road": entry.road,
                "role": entry.role,
            }
            for entry in self.classes
        ]

    @staticmethod
    def from_json(entries: Sequence[Mapping[str, Any]]) -> Legend:
        """Read a legend from a list of {name, colour, road, role}.

        `road` and `role` may be absent. A class without a role gets that of its name ("park" is
        vegetation), "road" where `road` is true, and otherwise "other".

        Raises:
            DataError: An entry lacks a key or has a value of the wrong kind.
        """
        if not isinstance(entries, list | tuple):
            raise DataError("the legend is not a list", remedy=_CLASS_REMEDY)
        return Legend(tuple(_read_class(entry) for entry in entries))


_CLASS_REMEDY = (
    'Each class is {"name": "main_road", "colour": [254, 223, 95], "role": "road"}; the roles are '
    f"{', '.join(ROLES)}."
)


def _read_class(entry: object) -> LegendClass:
    if isinstance(entry, Mapping):
        name, colour, road = entry.get("name"), entry.get("colour"), entry.get("road")
        if (
            isinstance(name, str)
            and isinstance(road, bool | None)
            and isinstance(colour, list | tuple)
            and all(type(value) is int for value in colour)
        ):
            role = entry.get("role", _role(name, road))
            if role in ROLES and road in (None, role == "road"):
                return LegendClass(name, tuple(colour), role)  # the legend checks the length
    raise DataError(f"the legend has the entry {entry!r}", remedy=_CLASS_REMEDY)


def _role(name: str, road: bool | None) -> Role:
    """Return the role of a class that has none; what `road` says counts more than its name."""
    if road:
        return "road"
    role = _ROLES_OF_NAMES.get(name, "other")
    return "other" if role == "road" and road is False else role


def role_of(name: str) -> Role:
    """Return the role of a class that has none, by its name; "other" if that says nothing."""
    return _role(name, None)


def read_colours(path: Path) -> dict[str, object]:
    """Read a style: a JSON file of class -> colour, for `Legend.in_colours`.

    Raises:
        DataError: It cannot be read, or is not such a file.
    """
    try:
        colours = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read ({getattr(error, 'strerror', None) or error})",
            where=path,
            remedy=_STYLE_REMEDY,
        ) from error
    if not isinstance(colours, dict):
        raise DataError("is not a list of classes with colours", where=path, remedy=_STYLE_REMEDY)
    return colours


_STYLE_REMEDY = 'A style is a JSON file such as {"road": "#ffffff", "water": [170, 211, 223]}.'


def _read_colour(value: object, name: str) -> Colour:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        red, green, blue = bytes.fromhex(value[1:])
        return red, green, blue
    if (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    ):
        return value[0], value[1], value[2]
    raise DataError(f"gives {name!r} the colour {value!r}", remedy=_STYLE_REMEDY)


def lab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return CIE Lab values (D65), float64 [...,3], of sRGB colours, uint8 [...,3]."""
    from skimage.color import rgb2lab

    values: NDArray[np.float64] = rgb2lab(colours.astype(np.float64) / 255)
    return values


STREETS = Legend(
    (
        LegendClass("land", (233, 229, 221), "land"),
        LegendClass("building", (243, 241, 235), "building"),
        LegendClass("road", (255, 255, 253), "road"),
        LegendClass("park", (203, 223, 173), "vegetation"),
        LegendClass("water", (178, 209, 254), "water"),
        LegendClass("highway", (247, 160, 33), "road"),
        LegendClass("main_road", (254, 223, 95), "road"),
        LegendClass("other", (221, 217, 211), "other"),
    )
)
"""The legend `map`: the colours of the `maps` set, of the procedural towns and of `streets`."""

COVER = Legend(
    (
        LegendClass("land", (244, 241, 234), "land"),
        LegendClass("building", (192, 57, 43), "building"),
        LegendClass("road", (93, 93, 93), "road"),
        LegendClass("vegetation", (124, 174, 92), "vegetation"),
        LegendClass("water", (46, 134, 193), "water"),
    )
)
"""The legend `cover`: what is on the ground, whatever a map draws of it."""

LEGENDS: dict[str, Legend] = {"map": STREETS, "cover": COVER}
"""Legends that have a name, by which data sets refer to them."""


def cover_of(legend: Legend) -> NDArray[np.uint8]:
    """Return the class of `COVER` that each class of a legend is drawn for, uint8 [K].

    It goes by roles. What a casing or "other" hides is not known: it counts as land.
    """
    numbers = {entry.role: number for number, entry in enumerate(COVER.classes)}
    return np.array(
        [numbers.get(entry.role, numbers["land"]) for entry in legend.classes], np.uint8
    )


def cover_shares(legend: Legend) -> NDArray[np.float32]:
    """Return `cover_of` as a matrix that adds up probabilities, float32 [5,K], of 0 and 1."""
    adds = np.arange(len(COVER))[:, None] == cover_of(legend)[None]
    return np.asarray(adds, np.float32)


_MAY_BE: dict[Role, tuple[Role, ...]] = {
    "land": ("land", "vegetation"),
    "building": ("building",),
    "road": ("road", "vegetation"),
    "vegetation": ("vegetation", "land"),
    "water": ("water",),
}


def map_to_cover_may_be(legend: Legend = STREETS) -> NDArray[np.bool_]:
    """Return which classes of `COVER` may be where a map shows a class, bool [K,5].

    A map draws the land and the streets, not the trees on them; of its parks much is bare. So
    land and vegetation may each be the other, and a road may be vegetation. A row that is
    false throughout means unknown: nothing follows from casings and from "other".
    """
    roles = [entry.role for entry in COVER.classes]
    table = [[role in _MAY_BE.get(entry.role, ()) for role in roles] for entry in legend.classes]
    return np.array(table, np.bool_)
