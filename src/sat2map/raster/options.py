"""How a scene is read, translated and written."""

from __future__ import annotations

import math
import warnings
from dataclasses import InitVar, dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, get_args

from sat2map.arguments import check_fields, fitting
from sat2map.errors import UsageError, expect
from sat2map.geo.grid import Bounds, check_bbox
from sat2map.geo.windows import WINDOW

Resolution = Literal["native", "model"] | float

Mode = Literal["deterministic", "published"]
"""How a model predicts: with fixed statistics and without dropout, or with dropout and the
statistics of the image itself, as Isola et al. 2017 publish it."""

STRETCH = (0.5, 99.5)
"""Percentiles that become 0 and 255, unless said otherwise."""


def mode_of(mode: Mode, published: bool | None = None, stacklevel: int = 4) -> Mode:
    """Return the mode of prediction, checked.

    Args:
        mode: What the caller asks for.
        published: What the version before had in its place, or None.
        stacklevel: Whose line a warning names, as for `warnings.warn`; by default that of the
            caller of a function that `checks_arguments`.

    Raises:
        UsageError: There is no such mode.
    """
    if published is not None:
        text = 'published=True is now mode="published"'
        warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
        mode = "published" if published else mode
    if not isinstance(mode, str) or mode not in get_args(Mode):
        raise UsageError(
            f"{mode!r} is not a mode of prediction",
            parameter="mode",
            remedy="Choose deterministic or published.",
        )
    return mode


@dataclass(frozen=True)
class Reading:
    """Settings of reading: how values become 8-bit pixels, and which part of the scene is meant.

    Attributes:
        bands: Numbers of the bands, from 1; None chooses by what the file calls them.
        stretch: Percentiles, taken once over the whole scene, that become 0 and 255. None
            takes `STRETCH` for other than 8-bit values; 8-bit ones it leaves as they are, unless
            the scene is dark or dull.
        value_range: Values that become 0 and 255, in place of percentiles.
        bbox: West, south, east, north in degrees (WGS 84); None means all of the scene.
        nodata: What stands where nothing is, in place of what the file calls so: one value for
            all bands that are read, or one for each. A pixel has no value where all of them
            have it. Not-a-number and what is beyond any reflectance never are values, so nan
            comes to no value of its own, ().
        crs: The scene's own coordinate reference system, such as EPSG:32633, in place of what it
            says; nothing is warped.
        pixel_size: Side of a pixel on the ground in metres, in place of what the georeference
            says or where there is none.
        warp: Whether a scene whose ground control points lie on no straight grid is warped to one.
            Otherwise its map keeps the points, unless it is to lie on a straight grid, as tiles do.
    """

    bands: tuple[int, ...] | None = None
    stretch: tuple[float, float] | None = None
    value_range: tuple[float, float] | None = None
    bbox: Bounds | None = None
    nodata: tuple[float, ...] | None = None
    crs: str | None = None
    pixel_size: float | None = None
    warp: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "warp")
        self._check_kinds()
        for name, limits, lowest, highest in (
            ("stretch", self.stretch, 0, 100),
            ("value_range", self.value_range, -math.inf, math.inf),
        ):
            if limits is not None and not (
                lowest <= limits[0] < limits[1] <= highest and all(map(math.isfinite, limits))
            ):
                within = f" of {lowest} to {highest}" if highest < math.inf else ""
                raise UsageError(
                    f"{limits[0]:g},{limits[1]:g} is not a range",
                    parameter=name,
                    remedy=f"Give a number{within} and a higher one.",
                )
        if self.nodata and all(map(math.isnan, self.nodata)):
            object.__setattr__(self, "nodata", ())
        if self.nodata is not None and not all(map(math.isfinite, self.nodata)):
            raise UsageError(
                f"{self.nodata} are not values",
                parameter="nodata",
                remedy="Give numbers, or nan alone; infinity is not a value anyway.",
            )
        if self.bbox is not None:
            check_bbox(self.bbox)
        self._check_pixel_size()

    def _check_kinds(self) -> None:
        """Take a number where it stands for a tuple of one, and refuse what is no number at all."""
        if isinstance(self.nodata, Real):
            object.__setattr__(self, "nodata", (float(self.nodata),))
        for name, count in (
            ("bands", 0),
            ("stretch", 2),
            ("value_range", 2),
            ("bbox", 4),
            ("nodata", 0),
        ):
            given = getattr(self, name)
            remedy = f"Give a tuple of {count or 'some'} numbers."
            expect(given, (tuple, list), name, remedy, none=True)
            if given is None:
                continue
            object.__setattr__(self, name, tuple(given))
            for value in given:
                expect(value, Integral if name == "bands" else Real, name, remedy)
            if name != "bands":  # whole numbers may be larger than numpy takes
                object.__setattr__(self, name, tuple(map(float, given)))
            if count and len(given) != count:
                raise UsageError(f"has {len(given)} numbers", parameter=name, remedy=remedy)
        expect(self.crs, str, "crs", "Give a text, such as EPSG:32633.", none=True)
        expect(self.pixel_size, Real, "pixel_size", "Give metres, such as 0.3.", none=True)

    def _check_pixel_size(self) -> None:
        if self.pixel_size is not None and not 0 < self.pixel_size < math.inf:
            raise UsageError(
                f"{self.pixel_size:g} is not the size of a pixel",
                parameter="pixel_size",
                remedy="Give metres above 0, such as 0.3.",
            )


@dataclass(frozen=True)
class SceneOptions:
    """Settings of the translation of a scene.

    Attributes:
        reading: Which bands and values, and which part.
        resolution: The map's: "native" is the scene's own, "model" the one at which the network
            sees the scene, a number is metres per pixel.
        legend_colours: Give every pixel the nearest colour of the model's legend.
        mode: How the model predicts; "published" takes the scene as a whole.
        seed: Seed of the dropout as published.
        compare: Also write scene and map side by side, as NAME.compare.SUFFIX.
        window: Side of the windows, in pixels that the network sees; at least 2. Of a network
            that looks only so far it is what a window yields, and a halo is seen around it. None
            chooses.
        overlap: What neighbouring windows share that are blended, at most half of their side;
            None chooses.
        mask: A file of polygons; what lies outside of them comes out transparent.
        resume: Go on with what an interrupted run left.
        attribution: Whom those who show the map are to name; None takes what the scene's tags say.
        licence: Under which the map may be used, such as CC-BY-4.0.
    """

    reading: Reading = field(default_factory=Reading)
    resolution: Resolution = "native"
    legend_colours: bool = False
    mode: Mode = "deterministic"
    seed: int = 0
    compare: bool = False
    window: int | None = None
    overlap: int | None = None
    mask: Path | None = None
    resume: bool = False
    attribution: str | None = None
    licence: str | None = None
    published: InitVar[bool | None] = None  # of the version before: see `mode_of`

    def __post_init__(self, published: bool | None) -> None:
        check_fields(self, "legend_colours", "compare", "resume", "attribution", "licence")
        published = fitting(published, bool | None, "published")
        object.__setattr__(self, "mode", mode_of(self.mode, published, stacklevel=4))
        expect(self.reading, Reading, "reading", "Give a Reading.")
        expect(self.seed, Integral, "seed", "Give a whole number.")
        for name in ("window", "overlap"):
            expect(getattr(self, name), Integral, name, "Give a whole number.", none=True)
        expect(self.mask, (str, Path), "mask", "Give the name of a file.", none=True)
        if isinstance(self.mask, str):
            object.__setattr__(self, "mask", Path(self.mask))
        wanted = "Give native, model, or metres per pixel above 0."
        expect(self.resolution, (str, Real), "resolution", wanted)
        if isinstance(self.resolution, str) and self.resolution not in ("native", "model"):
            raise UsageError(
                f"{self.resolution!r} is not a resolution", parameter="resolution", remedy=wanted
            )
        window = WINDOW if self.window is None else self.window
        if window < 2:
            raise UsageError(
                f"{window} pixels are not a window",
                parameter="window",
                remedy="Give 2 or more.",
            )
        if self.overlap is not None and not 0 <= self.overlap <= window // 2:
            raise UsageError(
                f"windows of {window} pixels cannot share {self.overlap}",
                parameter="overlap",
                remedy=f"Give 0 to {window // 2}, half of the window.",
            )
        if not isinstance(self.resolution, str) and not 0 < self.resolution < math.inf:
            raise UsageError(
                f"{self.resolution} is not a resolution",
                parameter="resolution",
                remedy="Give native, model, or metres per pixel above 0.",
            )
