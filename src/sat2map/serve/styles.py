"""The colours that maps are shown in: they come after the windows, so others compute nothing.

    window -> shares of the colours of the classes, kept -> `MapStyle.paint` -> image -> tile

A window keeps how much of each class's colour is in its image (`colour_shares`), in 255 steps, and
not the image. The first class has what the others leave, so it is not kept.

What `translate` paints is rounded once, of shares that are not; a painted value may differ from it
by two levels. Of four scenes no more than 8 of a million values differ by more than one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sat2map.errors import DataError, UsageError
from sat2map.legend import Legend
from sat2map.style.spec import shipped_styles, style_colours
from sat2map.translation.translator import Translator

OWN = "model"
"""What a model's own colours are called, where no shipped style has the same."""


@dataclass(frozen=True)
class MapStyle:
    """Colours of the classes of a map.

    Attributes:
        name: What people and addresses call it.
        legend: The classes in these colours.
    """

    name: str
    legend: Legend

    @cached_property
    def fingerprint(self) -> str:
        """A short text that other colours change."""
        text = json.dumps(self.legend.to_json())
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def paint(self, shares: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return an image, uint8 [h,w,3].

        Args:
            shares: How much of the colour of each class but the first is in a pixel, 0 to 1 as 0 to
                255, uint8 [h,w] each.
        """
        colours = self.legend.colours.astype(np.float32)
        used = [number for number, plane in enumerate(shares) if plane.any()]
        if not used:
            return np.broadcast_to(self.legend.colours[0], (*shares[0].shape, 3)).copy()
        planes = np.stack([shares[number].ravel() for number in used]).astype(np.float32)
        # Whole numbers below 2**24, so it is the same in whatever order they are added up.
        sums = (colours[[number + 1 for number in used]] - colours[0]).T @ planes
        sums += 255 * colours[0][:, None]
        sums *= np.float32(1 / 255)
        sums += np.float32(0.5)
        np.clip(sums, 0, 255.5, out=sums)  # rounded shares may add up to a little more than 1
        painted = sums.astype(np.uint8).reshape(3, *shares[0].shape)
        return np.ascontiguousarray(painted.transpose(1, 2, 0))


def styles_of(translator: Translator, asked: Sequence[str]) -> dict[str, MapStyle]:
    """Return the styles that maps of a model are shown in by name, the usual one first.

    These are what is asked for, the model's own colours, and the shipped styles that have a colour
    for each of its classes. A model that answers in colours has its own alone.

    Args:
        translator: The model.
        asked: Names of shipped styles, and JSON files of colours.

    Returns:
        Nothing for a model without a legend.

    Raises:
        DataError: A file cannot be read, or does not fit the model's legend.
        UsageError: The model answers in colours, or two files have one name.
    """
    if asked:
        translator.in_colours({})  # refused where there are no classes
    own, found = translator.legend, dict[str, MapStyle]()
    if own is None:
        return found
    if not translator.answers_in_classes:
        return {OWN: MapStyle(OWN, own)}
    for text in asked:
        style = _style(text, own, style_colours(text, own))
        if style.name in found:
            raise UsageError(
                f"{style.name} is named twice",
                parameter="style",
                remedy="Name each style once; files need names of their own.",
            )
        found[style.name] = style
    shipped = [_style(name, own, style_colours(name, own)) for name in _complete(own)]
    same = [style.name for style in shipped if style.legend == own]
    for style in (MapStyle(same[0] if same else OWN, own), *shipped):
        found.setdefault(style.name, style)
    return found


def _style(text: str, legend: Legend, colours: Mapping[str, object]) -> MapStyle:
    name = text.replace("\\", "/").rpartition("/")[2]
    try:
        return MapStyle(name, legend.in_colours(colours))
    except DataError as error:
        raise DataError(error.what, where=text, remedy=error.remedy) from error


def _complete(legend: Legend) -> list[str]:
    """Return the names of the shipped styles that have a colour for every class of a legend."""
    return [
        name
        for name in sorted(shipped_styles())
        if set(style_colours(name, legend)) == set(legend.names)
    ]
