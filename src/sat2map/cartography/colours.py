"""Colours as styles write them."""

from __future__ import annotations

import re

Rgba = tuple[float, float, float, float]
"""Red, green and blue from 0 to 255, alpha from 0 to 1."""


class ExpressionError(Exception):
    """What is wrong with an expression, or with a value that it met."""


def parse_colour(text: object) -> Rgba:
    """Read a CSS colour: #rgb, #rrggbb, #rrggbbaa, rgb(), rgba(), hsl(), hsla(), or a name.

    Raises:
        ExpressionError: It is none.
    """
    from PIL import ImageColor

    if isinstance(text, str):
        plain, alpha = text.strip(), 1.0
        found = re.fullmatch(r"(rgb|hsl)a\((.*),\s*([\d.]+)\s*\)", plain)
        if found:
            plain, alpha = f"{found[1]}({found[2]})", float(found[3])
        try:
            colour = ImageColor.getcolor(plain, "RGBA")
        except ValueError:
            colour = 0
        if isinstance(colour, tuple) and 0 <= alpha <= 1:
            return (*map(float, colour[:3]), alpha * colour[3] / 255)  # type: ignore[return-value]
    raise ExpressionError(f"{text!r} is no colour; write it like #aabbcc")
