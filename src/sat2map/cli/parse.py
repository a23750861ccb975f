"""What options say, as values: text that typer does not take apart itself.

Whether values make sense together, or at all, is checked by the library that takes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sat2map.errors import UsageError

if TYPE_CHECKING:
    from sat2map.geo.grid import Bounds
    from sat2map.legend import Role
    from sat2map.raster.options import Reading, Resolution
    from sat2map.style.features import VectorFile


def scene_reading(
    bands: str | None,
    stretch: str | None,
    value_range: str | None,
    bbox: str | None,
    nodata: str | None = None,
    crs: str | None = None,
    pixel_size: float | None = None,
    *,
    warp: bool = False,
) -> Reading:
    """Return a `Reading` of the options of these names.

    Raises:
        UsageError: One of them is not what it should be.
    """
    from sat2map.raster.options import Reading

    return Reading(
        bands=None if bands is None else _bands(bands),
        stretch=None if stretch is None else _range("stretch", stretch, "2,98"),
        value_range=None if value_range is None else _range("value_range", value_range, "0,3000"),
        bbox=None if bbox is None else bounding_box(bbox),
        nodata=None if nodata is None else _nodata(nodata),
        crs=crs,
        pixel_size=pixel_size,
        warp=warp,
    )


def bounding_box(text: str) -> Bounds:
    """Return west, south, east and north in degrees.

    Raises:
        UsageError: They are not four numbers, or not in order.
    """
    from sat2map.geo.grid import check_bbox

    numbers = _numbers(text, 4)
    if numbers is None:
        raise UsageError(
            f"{text!r} is not a bounding box",
            parameter="bbox",
            remedy="Give west,south,east,north in degrees (WGS 84), such as 13.3,52.4,13.5,52.6.",
        )
    west, south, east, north = numbers
    check_bbox((west, south, east, north))
    return west, south, east, north


def map_resolution(text: str) -> Resolution:
    """Return at which ground resolution a scene's map is made.

    Raises:
        UsageError: It is neither native, nor model, nor a number above 0.
    """
    if text in ("native", "model"):
        return "native" if text == "native" else "model"
    return _metres(text, "native, model, or metres per pixel, such as 0.5")


def number_of_pixels(text: str) -> int | None:
    """Return how many pixels a text such as 2Gpx, 500Mpx or 4096 says; None of none.

    Raises:
        UsageError: It says nothing of the kind.
    """
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmg]?)(px)?\s*", text, re.IGNORECASE)
    try:
        assert found is not None
        pixels = round(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2].lower()])
    except (AssertionError, ValueError):
        pixels = 0
    if pixels < 1:
        raise UsageError(
            f"{text!r} is not a number of pixels",
            parameter="split_above",
            remedy="Give one such as 2Gpx or 500Mpx, or none.",
        )
    return pixels


def shown_resolution(text: str) -> float | Literal["native"]:
    """Return at which ground resolution photos are shown.

    Raises:
        UsageError: It is neither native nor a number above 0.
    """
    return "native" if text == "native" else _metres(text, "native, or metres per pixel, such as 1")


def trained_resolution(text: str) -> tuple[float, float]:
    """Return the finest and the coarsest ground resolution that a model was trained at.

    Raises:
        UsageError: It is not one number, or two.
    """
    found = _numbers(text, 1) or _numbers(text, 2)
    if found is None:
        raise UsageError(
            f"{text!r} is not a ground resolution",
            parameter="resolution_m",
            remedy="Give metres per pixel, such as 0.9, or the finest and coarsest, 0.5,2.",
        )
    return found[0], found[-1]


def image_side(text: str) -> int | None:
    """Return the side in pixels, None for native.

    Raises:
        UsageError: It says something else.
    """
    if text == "native":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(
        f"{text!r} is not a size", parameter="size", remedy="Give pixels, such as 256, or native."
    )


def validation(text: str) -> float | list[str]:
    """Return a share, or patterns of names."""
    try:
        return float(text)
    except ValueError:
        return [part.strip() for part in text.split(",")]


def shift(text: str) -> tuple[float, float]:
    """Return metres east and north.

    Raises:
        UsageError: They are not two numbers.
    """
    found = _numbers(text, 2)
    if found is None:
        raise UsageError(
            f"{text!r} is not a shift",
            parameter="shift_m",
            remedy="Give metres east and north, such as `shift_m=2.5,-1`.",
        )
    return found[0], found[1]


def vector_file(text: str) -> VectorFile:
    """Return what FILE or FILE=CLASS names; a file whose own name has a = is taken as it is."""
    from sat2map.style.features import VectorFile

    path, equals, name = text.rpartition("=")
    if not equals or Path(text).exists():
        return VectorFile(Path(text))
    return VectorFile(Path(path), name)


def town_kinds(texts: Sequence[str]) -> tuple[tuple[str, ...], Literal["map", "colourise"]]:
    """Return the kinds of towns that are named, with commas or repeated, and what pairs show.

    That is temperate where none is named, and all for mixed; colourise is no kind of town.
    """
    from sat2map.towns import KINDS

    named = [word for text in texts for word in text.replace(",", " ").split()]
    kinds = tuple(dict.fromkeys(word for word in named if word != "colourise"))
    task: Literal["map", "colourise"] = "colourise" if "colourise" in named else "map"
    if not texts or named == ["colourise"]:
        kinds = ("temperate",)
    return KINDS if "mixed" in kinds else kinds, task


def _bands(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{text!r} names no bands",
            parameter="bands",
            remedy="Give numbers from 1, such as 3,2,1.",
        ) from error


def _nodata(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a value",
            parameter="nodata",
            remedy="Give a number for all bands, such as 0, one for each, such as 0,0,0, or nan.",
        ) from error


def _range(parameter: str, text: str, example: str) -> tuple[float, float]:
    found = _numbers(text, 2)
    if found is None:
        raise UsageError(
            f"{text!r} is not a range",
            parameter=parameter,
            remedy=f"Give low and high, such as {example}.",
        )
    return found[0], found[1]


def _metres(text: str, remedy: str) -> float:
    found = _numbers(text, 1)
    if found is None or found[0] <= 0:
        raise UsageError(
            f"{text!r} is not a ground resolution",
            parameter="resolution",
            remedy=f"Give {remedy}.",
        )
    return found[0]


def _numbers(text: str, count: int) -> list[float] | None:
    """Return so many finite numbers, or None where the text is something else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def minimum_areas(texts: Sequence[str]) -> dict[Role, float]:
    """Return square metres by role.

    Args:
        texts: Such as "water=100".

    Raises:
        UsageError: There is no such role, or the area is not a number.
    """
    from sat2map.legend import ROLES

    found: dict[Role, float] = {}
    for text in texts:
        name, _, area = text.partition("=")
        try:
            found[next(role for role in ROLES if role == name)] = float(area)
        except (StopIteration, ValueError) as error:
            raise UsageError(
                f"{text!r} is not a role and its square metres",
                parameter="minimum_m2",
                remedy=f"Give one such as water=100; the roles are {', '.join(ROLES)}.",
            ) from error
    return found
