"""How a scene is read, translated and written; and the same as words on a command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sat2map.errors import UsageError
from sat2map.geo.grid import Bounds
from sat2map.geo.windows import OVERLAP, WINDOW

Resolution = Literal["native", "model"] | float

STRETCH = (2.0, 98.0)
"""Percentiles that become 0 and 255, unless said otherwise."""


@dataclass(frozen=True)
class Reading:
    """How a scene's values become 8-bit pixels, and which part of it is meant.

    Attributes:
        bands: Numbers of the bands, from 1; None chooses by what the file calls them.
        stretch: Percentiles, taken once over the whole scene, that become 0 and 255. None
            leaves 8-bit values as they are and takes `STRETCH` for others.
        value_range: Values that become 0 and 255, in place of percentiles.
        bbox: West, south, east, north in degrees (WGS 84); None means all of the scene.
        nodata: What stands where nothing is, in place of what the file calls so: one value for
            all bands that are read, or one for each. A pixel has no value where all of them
            have it. Not-a-number and what is beyond any reflectance never are values, so nan
            comes to no value of its own, ().
        crs: The scene's own coordinate reference system, such as EPSG:32633, in place of what it
            says; nothing is warped.
    """

    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None
    value_range: tuple[float, float] | None = None
    bbox: Bounds | None = None
    nodata: tuple[float, ...] | None = None
    crs: str | None = None

    def __post_init__(self) -> None:
        for name, limits, lowest, highest in (
            ("stretch", self.stretch, 0, 100),
            ("value_range", self.value_range, -math.inf, math.inf),
        ):
            if limits is not None and not (
                lowest <= limits[0] < limits[1] <= highest and all(map(math.isfinite, limits))
            ):
                raise UsageError(
                    f"{limits} is not a range", where=name, remedy="Give a low and a high number."
                )
        if self.nodata and all(map(math.isnan, self.nodata)):
            object.__setattr__(self, "nodata", ())
        if self.nodata is not None and not all(map(math.isfinite, self.nodata)):
            raise UsageError(
                f"{self.nodata} are not values",
                where="nodata",
                remedy="Give numbers, or nan alone; infinity is no value anyway.",
            )
        if self.bbox is not None and not all(map(math.isfinite, self.bbox)):
            raise UsageError(
                f"{self.bbox} is not a bounding box",
                where="bbox",
                remedy="Give west, south, east and north in degrees (WGS 84).",
            )


@dataclass(frozen=True)
class SceneOptions:
    """How a scene is translated.

    Attributes:
        reading: Which bands and values, and which part.
        resolution: The map's: "native" is the scene's own, "model" the one at which the network
            sees the scene, a number is metres per pixel.
        legend_colours: Give every pixel the nearest colour of the model's legend.
        published: Predict as published; the scene then passes as a whole.
        seed: Seed of the dropout as published.
        compare: Also write scene and map side by side, as NAME.compare.SUFFIX.
        window: Side of the windows, in pixels that the network sees; at least 2.
        overlap: What neighbouring windows share, at most half of their side.
        mask: A file of polygons; what lies outside of them comes out transparent.
        resume: Go on with what an interrupted run left.
        attribution: Whom those who show the map are to name.
    """

    reading: Reading = field(default_factory=Reading)
    resolution: Resolution = "native"
    legend_colours: bool = False
    published: bool = False
    seed: int = 0
    compare: bool = False
    window: int = WINDOW
    overlap: int = OVERLAP
    mask: Path | None = None
    resume: bool = False
    attribution: str | None = None

    def __post_init__(self) -> None:
        if self.window < 2:
            raise UsageError(
                f"{self.window} pixels are not a window", where="window", remedy="Give 2 or more."
            )
        if not 0 <= self.overlap <= self.window // 2:
            raise UsageError(
                f"windows of {self.window} pixels cannot share {self.overlap}",
                where="overlap",
                remedy=f"Give 0 to {self.window // 2}, half of the window.",
            )
        if not isinstance(self.resolution, str) and not 0 < self.resolution < math.inf:
            raise UsageError(
                f"{self.resolution} is not a resolution",
                where="resolution",
                remedy="Give native, model, or metres per pixel above 0.",
            )


def scene_reading(
    bands: str | None,
    stretch: str | None,
    value_range: str | None,
    bbox: str | None,
    nodata: str | None = None,
    crs: str | None = None,
) -> Reading:
    """Return a `Reading` of the options that say how a scene is read.

    Raises:
        UsageError: One of them is not what it should be.
    """
    return Reading(
        None if bands is None else _bands(bands),
        None if stretch is None else _pair("--stretch", stretch, "2,98", 0, 100),
        None if value_range is None else _pair("--range", value_range, "0,3000"),
        None if bbox is None else _bbox(bbox),
        None if nodata is None else _nodata(nodata),
        crs,
    )


def scene_resolution(text: str) -> Resolution:
    """Return what `--resolution` says.

    Raises:
        UsageError: It is neither native, nor model, nor a number above 0.
    """
    if text in ("native", "model"):
        return "native" if text == "native" else "model"
    metres = _numbers(text, 1)
    if metres is None or metres[0] <= 0:
        raise UsageError(
            f"{text!r} is no resolution",
            where="--resolution",
            remedy="Give native, model, or metres per pixel, such as 0.5.",
        )
    return metres[0]


def _bands(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{text!r} names no bands",
            where="--bands",
            remedy="Give numbers from 1, such as 3,2,1.",
        ) from error


def _nodata(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a value",
            where="--nodata",
            remedy="Give a number for all bands, such as 0, one for each, such as 0,0,0, or nan.",
        ) from error


def _pair(
    where: str, text: str, example: str, lowest: float = -math.inf, highest: float = math.inf
) -> tuple[float, float]:
    pair = _numbers(text, 2)
    if pair is None or not lowest <= pair[0] < pair[1] <= highest:
        raise UsageError(
            f"{text!r} is no range", where=where, remedy=f"Give low and high, such as {example}."
        )
    return pair[0], pair[1]


def _bbox(text: str) -> Bounds:
    numbers = _numbers(text, 4)
    if numbers is not None:
        west, south, east, north = numbers
        in_degrees = max(abs(west), abs(east)) <= 360 and -90 <= south < north <= 90
        if in_degrees and 0 < west - east < 180:  # across the antimeridian it would be the far side
            raise UsageError(
                f"{text!r} has its west {west - east:g} degrees east of its east",
                where="--bbox",
                remedy="Give west,south,east,north; across the antimeridian as 179,-17,-179,-16.",
            )
        if in_degrees and west != east:
            return west, south, east, north
    raise UsageError(
        f"{text!r} is no bounding box",
        where="--bbox",
        remedy="Give west,south,east,north in degrees (WGS 84), such as 13.3,52.4,13.5,52.6.",
    )


def _numbers(text: str, count: int) -> list[float] | None:
    """Return so many finite numbers, or None where the text is something else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
