"""What the numbers of a class mask mean in terms of a legend.

A label often says less than a class. "This is not a road" leaves the other classes, and a pixel
that nobody looked at may be anything. So a value stands for the classes that its pixels may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import DataError, parsed_json
from sat2map.legend import Legend

UNKNOWN = "unknown"
_NOT = "not "
_REMEDY = (
    'A mapping is a JSON object such as {"0": "unknown", "1": "building", "2": ["road", "land"], '
    '"3": "not road"}.'
)


@dataclass(frozen=True)
class MaskMapping:
    """The classes that the values of masks stand for.

    Attributes:
        classes: For each value, 0 to 255, the names of the classes that its pixels may be;
            none of them where that is unknown. A value that is not listed does not occur.
    """

    classes: Mapping[int, tuple[str, ...]]

    def may_be(self, legend: Legend) -> NDArray[np.bool_]:
        """Return which classes of a legend pixels of each value may be, bool [256,K].

        A row that is false throughout means unknown, and so does a value that is not listed.
        Pixels that may be every class are unknown too.

        Raises:
            DataError: The legend lacks a class of the mapping.
        """
        table = np.zeros((256, len(legend)), np.bool_)
        for value, names in self.classes.items():
            for name in names:
                if name not in legend.names:
                    raise DataError(
                        f"the value {value} stands for {name!r}, which the legend has not",
                        remedy=f"Its classes are {', '.join(legend.names)}.",
                    )
                table[value, legend.names.index(name)] = True
        table[table.all(axis=1)] = len(legend) == 1
        return table

    def listed(self) -> NDArray[np.bool_]:
        """Return which values are listed, bool [256]."""
        return np.isin(np.arange(256), list(self.classes))

    def check(self, values: NDArray[np.uint8], path: Path) -> None:
        """Refuse a mask, uint8 [H,W], with values that are not listed.

        Raises:
            DataError: It has one; `path` is named.
        """
        occurring = np.bincount(values.ravel(), minlength=256) > 0
        strange = np.flatnonzero(occurring & ~self.listed()).tolist()
        if strange:
            several = "the values" if len(strange) > 1 else "the value"
            some = ", ".join(map(str, strange[:8])) + (", ..." if len(strange) > 8 else "")
            raise DataError(
                f"has {several} {some}, which the mapping does not list",
                where=path,
                remedy=f"It lists {', '.join(map(str, sorted(self.classes)))}: say what the "
                'others stand for, if need be "unknown".',
            )

    def to_json(self) -> dict[str, str | list[str]]:
        """Return the object that `from_json` reads."""
        return {str(value): _write(names) for value, names in sorted(self.classes.items())}

    @staticmethod
    def from_json(entries: object, legend: Legend) -> MaskMapping:
        """Read a mapping.

        Args:
            entries: An object from values, as JSON writes them ("0" to "255"), to the name of
                a class, a list of names, "not " and a name, or "unknown".
            legend: The classes.

        Raises:
            DataError: It is something else, or names a class that the legend has not.
        """
        if not isinstance(entries, Mapping) or not entries:
            raise DataError("the mapping is not an object with values", remedy=_REMEDY)
        mapping = MaskMapping(
            {_value(key): _names(key, meant, legend) for key, meant in entries.items()}
        )
        mapping.may_be(legend)  # refuses classes that the legend has not
        return mapping


def mask_colours(may_be: NDArray[np.bool_], legend: Legend) -> NDArray[np.uint8]:
    """Return a colour for each value of masks, uint8 [256,3].

    That of its class, the mean of several where it may be several, and black where it is unknown.

    Args:
        may_be: Which classes pixels of each value may be, bool [256,K].
        legend: The classes.
    """
    mixed = may_be.astype(np.float64) @ legend.colours
    mixed /= np.maximum(may_be.sum(axis=1, keepdims=True), 1)
    colours: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return colours


def read_mapping(path: Path, legend: Legend) -> MaskMapping:
    """Read a mapping from a JSON file.

    Args:
        path: The file.
        legend: The classes.

    Raises:
        DataError: It cannot be read, is not a mapping, or names a class that the legend has
            not.
    """
    try:
        return MaskMapping.from_json(parsed_json(path.read_text(encoding="utf-8")), legend)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read ({getattr(error, 'strerror', None) or error})",
            where=path,
            remedy=_REMEDY,
        ) from error
    except DataError as error:
        raise DataError(error.what, where=path, remedy=error.remedy) from error


def _write(names: tuple[str, ...]) -> str | list[str]:
    if not names:
        return UNKNOWN
    return names[0] if len(names) == 1 else list(names)


def _value(key: Any) -> int:
    text = str(key)
    if not (text.isascii() and text.isdecimal()) or int(text) > 255 or str(int(text)) != text:
        raise DataError(f"the mapping has {key!r}, not a value from 0 to 255", remedy=_REMEDY)
    return int(text)


def _names(key: object, meant: object, legend: Legend) -> tuple[str, ...]:
    if isinstance(meant, str):
        if meant in legend.names:
            return (meant,)
        if meant == UNKNOWN:
            return ()
        barred = meant.removeprefix(_NOT)
        if barred in legend.names:
            return tuple(name for name in legend.names if name != barred)
        return (barred,)
    if isinstance(meant, list | tuple) and meant and all(isinstance(m, str) for m in meant):
        return tuple(dict.fromkeys(meant))
    raise DataError(f"the mapping has {meant!r} for the value {key}", remedy=_REMEDY)
