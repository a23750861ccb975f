"""At which ground resolution a scene is translated, and at which its map is written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sat2map.errors import UsageError
from sat2map.geo.grid import Grid, ground_resolution
from sat2map.raster.options import Resolution
from sat2map.raster.sources import open_file

logger = logging.getLogger(__name__)

NEAR = 1.1
"""A scene this close to what the model knows is translated pixel for pixel."""

WHOLE = 1.01
"""A scene this close to a whole number of its pixels for each that is seen is reduced by that: then
its overviews are what the network sees, and its last window is not a sliver."""

FAR = 2.0
"""A scene this much coarser than the model knows gets a graver warning."""

ENLARGED = 4.0
"""No scene is enlarged by more before it is translated: there is nothing more to see."""

_FINER = (
    "Give finer imagery or another `model`; or `pixel_size=METRES`, if its pixels measure less."
)

FINEST = 16.0
"""No map is written this much finer than its scene."""


@dataclass(frozen=True)
class Scale:
    """The grids on which a scene is seen and its map written.

    Attributes:
        ground: The scene's metres per pixel (along a row, along a column), None if unknown.
        seen_m: Metres per pixel that the network sees, None if unknown.
        seen: Height and width that the network sees.
        written: Height and width of the map.
    """

    ground: tuple[float, float] | None
    seen_m: float | None
    seen: tuple[int, int]
    written: tuple[int, int]


def choose_scale(
    grid: Grid,
    known: tuple[float, float] | None,
    resolution: Resolution,
    where: str | Path,
    say: Callable[[str], object] = logger.warning,
    *,
    pixel_size: float | None = None,
    part: Grid | None = None,
) -> Scale:
    """Choose the sizes of the grids that a scene is translated on and written on.

    Args:
        grid: The scene's own.
        known: Finest and coarsest metres per pixel that the model knows.
        resolution: The map's: the scene's own, the one that the network sees, or metres.
        where: The scene, for messages.
        say: Called with a notice, where there is one.
        pixel_size: Metres per pixel of the scene, in place of what its grid tells.
        part: What is wanted of the scene. Its own ground resolution counts where the whole
            scene's is another one, as where a map of the world is in Mercator's projection.

    Raises:
        UsageError: The resolution asks for what nobody knows, or for far too much.
    """
    own = (grid.height, grid.width)
    ground = ground_resolution(grid) if pixel_size is None else (pixel_size, pixel_size)
    there = None if part is None or pixel_size is not None else ground_resolution(part)
    if there is not None and (
        ground is None
        or any(max(a, b) > NEAR * min(a, b) for a, b in zip(ground, there, strict=True))
    ):
        ground = there
    notice = _notice(grid, ground, known)
    if notice is not None:
        say(f"{where}: {notice}")
    seen_m, seen = None, own
    if ground is not None:
        mean = math.sqrt(ground[0] * ground[1])
        seen_m = mean
        if known is not None:
            seen_m = max(min(max(mean, known[0]), known[1]), mean / ENLARGED)
        if max(*ground, seen_m) > NEAR * min(*ground, seen_m):
            seen = _reduced(grid, ground, seen_m) or size_at(grid, ground, seen_m)
        else:
            seen_m = mean
    if resolution == "native":
        return Scale(ground, seen_m, seen, own)
    if resolution == "model":
        return Scale(ground, seen_m, seen, seen)
    if ground is None:
        raise UsageError(
            f"the ground resolution of {where} is not known",
            parameter="resolution",
            remedy="Give native, or georeference the scene first.",
        )
    if not resolution > 0 or min(ground) > FINEST * resolution:
        raise UsageError(
            f"{resolution:g} m per pixel is not a resolution for a scene of {ground[0]:.3g} m",
            parameter="resolution",
            remedy=f"Give at least {min(ground) / FINEST:.2g}.",
        )
    return Scale(ground, seen_m, seen, size_at(grid, ground, resolution))


def file_resolution(path: Path) -> float | None:
    """Return the ground resolution of a file in metres per pixel; None where it does not say.

    Raises:
        DataError: It is not a raster that GDAL knows.
    """
    with open_file(path) as source:
        ground = None if source.grid is None else ground_resolution(source.grid)
    return None if ground is None else math.sqrt(ground[0] * ground[1])


def knows(known: tuple[float, float] | None, ground: tuple[float, float] | None) -> str:
    """Say in a few words what a model makes of a scene's ground resolution."""
    if ground is None:
        return "unknown: the scene does not say its ground resolution"
    if known is None:
        return "unknown: the model does not say which ground resolutions it knows"
    finest, coarsest = known
    mean = math.sqrt(ground[0] * ground[1])
    span = _span(known)
    if mean > FAR * coarsest:
        return f"no: the model knows {span}, the scene is too coarse"
    if mean > NEAR * coarsest:
        return f"nearly: the model knows {span}, the scene is enlarged"
    if mean < finest / NEAR:
        return f"yes, reduced: the model knows {span}"
    return f"yes: the model knows {span}"


def _span(known: tuple[float, float]) -> str:
    finest, coarsest = known
    return f"{finest:g} m" if finest == coarsest else f"{finest:g} to {coarsest:g} m"


def size_at(grid: Grid, ground: tuple[float, float], metres: float) -> tuple[int, int]:
    """Return height and width of the grid over the same ground whose pixels are so large.

    Args:
        grid: The scene's own.
        ground: Its metres per pixel (along a row, along a column).
        metres: Those wanted.
    """
    height = max(1, round(grid.height * ground[1] / metres))
    return height, max(1, round(grid.width * ground[0] / metres))


def _reduced(grid: Grid, ground: tuple[float, float], metres: float) -> tuple[int, int] | None:
    """Return height and width where a whole number of pixels becomes one, or None."""
    factor = max(1, round(metres / math.sqrt(ground[0] * ground[1])))
    height, width = grid.height // factor, grid.width // factor
    if factor == 1 or min(height, width) == 0:
        return None
    made = (ground[0] * grid.width / width, ground[1] * grid.height / height)
    near = all(metres / WHOLE <= along <= metres * WHOLE for along in made)
    return (height, width) if near else None


def _named(grid: Grid) -> str:
    """Return what to call a grid's coordinate reference system."""
    code = None if grid.crs is None else grid.crs.to_epsg()
    return "its coordinate reference system" if code is None else f"EPSG:{code}"


def _notice(
    grid: Grid, ground: tuple[float, float] | None, known: tuple[float, float] | None
) -> str | None:
    """Return what a user should know of a scene's scale, or None."""
    if ground is None and grid.crs is None:
        return (
            "has no coordinate reference system; it is translated pixel for pixel, and the map has "
            "none either. "
            + (
                "If you know which it is, give `crs=EPSG:CODE`."
                if grid.georeferenced
                else "If you know how large a pixel is, give `pixel_size=METRES`."
            )
        )
    if ground is None:
        return (
            f"its coordinates do not lie where {_named(grid)} has any, so its ground resolution "
            "cannot be told; it is translated pixel for pixel. If it is another coordinate "
            "reference system, give `crs=EPSG:CODE`, or else `pixel_size=METRES`."
        )
    if known is None:
        return (
            "the model does not say which ground resolutions it knows; the scene is translated "
            "pixel for pixel. If you know them, write them into its model.json as resolution_m."
        )
    mean = math.sqrt(ground[0] * ground[1])
    if mean > FAR * known[1]:
        return (
            f"has {mean:.3g} m per pixel, but the model knows {_span(known)}; what it has not seen "
            f"it will make up. {_FINER}"
        )
    if mean > NEAR * known[1]:
        return (
            f"has {mean:.3g} m per pixel, a little coarser than the model knows "
            f"({_span(known)}); it is enlarged, and what is small will be missing. {_FINER}"
        )
    return None
