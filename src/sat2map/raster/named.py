"""What an output's name asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sat2map.errors import UsageError
from sat2map.raster.tile_tree import is_tile_pattern

Kind = Literal["tiff", "png", "jpeg", "pmtiles", "mbtiles", "folder"]

KINDS: dict[str, Kind] = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".pmtiles": "pmtiles",
    ".mbtiles": "mbtiles",
}
TREE = ("{z}", "{x}", "{y}.png")


@dataclass(frozen=True)
class Named:
    """An output, and the kind that its name asks for.

    Attributes:
        path: The file, or the folder of a tree of tiles.
        kind: What becomes of it.
    """

    path: Path
    kind: Kind

    @property
    def tiled(self) -> bool:
        """Whether it is a pyramid of tiles."""
        return self.kind in ("pmtiles", "mbtiles", "folder")


def named(output: Path) -> Named:
    """Return what an output is to be.

    Args:
        output: NAME.tif, .png, .jpg, .pmtiles or .mbtiles, or DIR/{z}/{x}/{y}.png.

    Raises:
        UsageError: The name says nothing that is known.
    """
    if output.parts[-3:] != TREE and is_tile_pattern(output):
        raise UsageError(
            "is not a pattern in which tiles are written",
            where=output,
            remedy="Write DIR/{z}/{x}/{y}.png; rows count from the north.",
        )
    if output.parts[-3:] == TREE:
        if len(output.parts) > 3:
            return Named(Path(*output.parts[:-3]), "folder")
    elif output.suffix.lower() in KINDS:
        return Named(output, KINDS[output.suffix.lower()])
    raise UsageError(
        "is not a name for the map of a scene",
        where=output,
        remedy="End it in .tif, in .pmtiles, .mbtiles or /{z}/{x}/{y}.png for tiles, or in .png "
        "or .jpg for an image with a world file. Vectors are made by `sat2map vectors`.",
    )
