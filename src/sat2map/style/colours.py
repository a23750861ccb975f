"""Colours as styles write them."""

from __future__ import annotations

import colorsys
import math
import re
from contextlib import suppress

Rgba = tuple[float, float, float, float]
"""Red, green and blue from 0 to 255, alpha from 0 to 1."""


class ExpressionError(Exception):
    """What is wrong with an expression, or with a value that it met."""


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_CALL = re.compile(r"(rgb|hsl)a?\(\s*(.*?)\s*\)", re.IGNORECASE)
_PART = re.compile(rf"({_NUMBER})(%|deg)?", re.IGNORECASE)


def parse_colour(text: object) -> Rgba:
    """Read a CSS colour: #rgb, #rrggbb, #rrggbbaa, rgb(), rgba(), hsl(), hsla(), or a name.

    Functions take three parts and perhaps alpha, a number or a percentage, in the old form with
    commas or in the new one: `rgb(10 20 30 / 50%)`. As in CSS, what is too small or too large is
    taken to the nearest possible value.

    Raises:
        ExpressionError: It is none.
    """
    from PIL import ImageColor

    colour: object = None
    if isinstance(text, str):
        plain = text.strip()
        call = _CALL.fullmatch(plain)
        if plain.lower() == "transparent":
            return 0.0, 0.0, 0.0, 0.0
        if call is not None:
            colour = _called(call[1].lower(), call[2])
        elif "(" not in plain:
            with suppress(ValueError):
                red, green, blue, alpha = ImageColor.getcolor(plain, "RGBA")  # type: ignore[misc]
                colour = float(red), float(green), float(blue), alpha / 255
    if colour is None:
        raise ExpressionError(f"{text!r} is not a colour; write it like #aabbcc")
    return colour  # type: ignore[return-value]


def _called(name: str, body: str) -> Rgba | None:
    """Return the colour of a function of CSS with what stands in its brackets, or None."""
    if "," in body:
        texts = [part.strip() for part in body.split(",")]
    else:
        mixed, slash, last = body.partition("/")
        texts = [*mixed.split(), *([last.strip()] if slash else [])]
        if len(texts) != (4 if slash else 3):
            return None
    found = [_PART.fullmatch(part) for part in texts]
    if len(found) not in {3, 4} or None in found:
        return None
    parts = [(float(part[1]), (part[2] or "").lower()) for part in found if part is not None]
    units = [unit for _, unit in parts]
    alpha = 1.0
    if len(parts) == 4:
        if units[3] == "deg":
            return None
        alpha = _share(parts[3][0] / (100 if units[3] == "%" else 1))
    first, second, third = (value for value, _ in parts[:3])
    if name == "hsl":
        if units[0] == "%" or units[1:3] != ["%", "%"]:
            return None
        shares = colorsys.hls_to_rgb(first / 360 % 1, _share(third / 100), _share(second / 100))
    else:
        if units[:3] == ["", "", ""]:
            shares = first / 255, second / 255, third / 255
        elif units[:3] == ["%", "%", "%"]:
            shares = first / 100, second / 100, third / 100
        else:
            return None
    red, green, blue = (float(math.floor(255 * _share(share) + 0.5)) for share in shares)
    return red, green, blue, alpha


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
