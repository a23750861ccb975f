"""The maps of a folder as one map: an index of tiles that GDAL and QGIS open as a raster (GTI).

    OUT/index.gti.gpkg      the maps
    OUT/classes.gti.gpkg    the class maps, with classes.gti.qml for QGIS

Where maps overlap, the one on top is that of the finer pixels, then of the later source, then of
the later name. Nothing is copied: the index names files and where they lie, and GDAL 3.9 or later
reads from them what it needs, warped where the coordinates of a map are others than those of most.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.transform import Affine

from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_file
from sat2map.batch.catalogue import Entry, item_of
from sat2map.errors import DataError, OutputError, parsed_json
from sat2map.geo.vector_layer import require
from sat2map.legend import LEGEND_TAG, Legend
from sat2map.raster.legend_files import write_style
from sat2map.translation.class_files import NODATA
from sat2map.vectors.geopackage import set_times

INDEX = "index.gti.gpkg"
CLASSES = "classes.gti.gpkg"
_OURS = "SAT2MAP_INDEX"

_ROUNDING = 1e-3
"""By so much of a pixel the bounds of maps may be beside whole ones."""


@dataclass(frozen=True)
class Tile:
    """A map as an index and what is joined across maps need it.

    Attributes:
        name: Its file, told from the folder.
        crs: Its coordinate reference system, a code or WKT.
        transform: Of its pixels.
        shape: Rows and columns.
        bands: How many there are.
        metres: Side of its pixels on the ground, the longer one.
        taken: When its source was taken, or "" where nobody knows.
        classes: Its class map, or None.
    """

    name: str
    crs: str
    transform: Affine
    shape: tuple[int, int]
    bands: int
    metres: float
    taken: str
    classes: str | None

    def box(self) -> Any:
        """Return its outline in its own coordinates."""
        height, width = self.shape
        corners = [(0, 0), (width, 0), (width, height), (0, height)]
        return shapely.Polygon([self.transform @ corner for corner in corners])


def tiles_in_order(out: Path, entries: Iterable[Entry]) -> list[Tile]:
    """Return the maps of a catalogue that lie on the ground, the lowest first.

    Args:
        out: The folder, whose items `write_catalogue` has written.
        entries: Its maps.

    Raises:
        DataError: An item is missing or damaged.
    """
    found = [tile for entry in entries for tile in _tile_of(out, entry)]
    return sorted(found, key=lambda tile: (-round(tile.metres, 3), tile.taken, tile.name))


def _tile_of(out: Path, entry: Entry) -> Iterator[Tile]:
    """Yield the map of an entry, nothing where it lies nowhere or on no straight grid."""
    path = out / item_of(PurePosixPath(entry.name))
    try:
        told = parsed_json(path.read_bytes())
        facts, assets = told["properties"], told["assets"]
        crs = facts["proj:code"] or facts.get("proj:wkt2")
        if crs is None or "proj:transform" not in facts or told["geometry"] is None:
            return
        folder = PurePosixPath(entry.name).parent
        classes = assets.get("classes")
        yield Tile(
            entry.name,
            crs,
            Affine(*facts["proj:transform"]),
            (int(facts["proj:shape"][0]), int(facts["proj:shape"][1])),
            len(assets["map"]["bands"]),
            float(facts.get("gsd", math.inf)),
            facts["datetime"] or "",
            None if classes is None else (folder / classes["href"]).as_posix(),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "is missing or damaged", where=path, remedy="Write the catalogue first."
        ) from error


@checks_arguments
def write_index(out: str | Path, entries: Iterable[Entry]) -> list[Path]:
    """Write the indexes by which the maps of a catalogue open as one.

    Args:
        out: The folder, whose items `write_catalogue` has written.
        entries: The maps.

    Returns:
        OUT/index.gti.gpkg, and OUT/classes.gti.gpkg where there are class maps; nothing where no
        map lies on the ground.

    Raises:
        DataError: An item is missing or damaged.
        OutputError: A file of that name is somebody else's, the place is not writable or the disk
            is full.
        MissingExtraError: pyogrio or pyarrow is not installed.
    """
    for package in ("pyogrio", "pyarrow"):
        require(package, "vectors")
    out = Path(out)
    tiles = tiles_in_order(out, entries)
    if not tiles:
        return []
    depth = Counter(tile.bands for tile in tiles).most_common(1)[0][0]
    alike = [tile for tile in tiles if tile.bands == depth]
    colours = {"COLOR_INTERPRETATION": "Red,Green,Blue"} if depth == 3 else {}
    image = {"BAND_COUNT": str(depth), "MASK_BAND": "YES", **colours}
    written = [_write(out / INDEX, alike, [tile.name for tile in alike], image)]
    with_classes = [(tile, tile.classes) for tile in tiles if tile.classes is not None]
    if with_classes:
        names = [name for _, name in with_classes]
        numbers = {"BAND_COUNT": "1", "NODATA": str(NODATA)}
        path = _write(out / CLASSES, [tile for tile, _ in with_classes], names, numbers)
        with rasterio.open(out / names[0]) as first:
            legend = first.tags().get(LEGEND_TAG)
        if legend is not None:
            write_style(path, Legend.from_json(parsed_json(legend)))
        written.append(path)
    return written


def main_crs(tiles: list[Tile]) -> str:
    """Return the coordinate reference system of most maps."""
    return Counter(tile.crs for tile in tiles).most_common(1)[0][0]


def in_crs(shapes: list[Any], tiles: list[Tile], crs: str) -> list[Any]:
    """Return shapes in the coordinates of their maps in others.

    Args:
        shapes: A shape for each of the maps.
        tiles: The maps.
        crs: The coordinates that are wanted.
    """
    from pyproj import Transformer

    ways: dict[str, Any] = {}
    found = []
    for shape, tile in zip(shapes, tiles, strict=True):
        if tile.crs == crs:
            found.append(shape)
            continue
        if tile.crs not in ways:
            ways[tile.crs] = Transformer.from_crs(tile.crs, crs, always_xy=True)
        dense = shapely.segmentize(shape, max(shape.length / 32, 1e-9))
        way = ways[tile.crs]
        found.append(
            shapely.transform(dense, lambda p, way=way: np.column_stack(way.transform(*p.T)))
        )
    return found


def _write(path: Path, tiles: list[Tile], names: list[str], facts: Mapping[str, str]) -> Path:
    """Write one index."""
    import pyarrow
    from pyogrio.raw import write_arrow

    _check_own(path)
    crs = main_crs(tiles)
    own = [tile for tile in tiles if tile.crs == crs]
    across = min(math.hypot(tile.transform.a, tile.transform.d) for tile in own)
    down = min(math.hypot(tile.transform.b, tile.transform.e) for tile in own)
    boxes = in_crs([tile.box() for tile in tiles], tiles, crs)
    west, south, east, north = shapely.total_bounds(np.array(boxes, object)).tolist()
    table = pyarrow.table(
        {
            "geom": pyarrow.array(shapely.to_wkb(boxes), pyarrow.binary()),
            "location": names,
            "rank": list(range(len(tiles))),
        }
    )
    metadata = {
        "SORT_FIELD": "rank",
        "SORT_FIELD_ASC": "YES",
        "DATA_TYPE": "Byte",
        "XSIZE": str(math.ceil((east - west) / across - _ROUNDING)),
        "YSIZE": str(math.ceil((north - south) / down - _ROUNDING)),
        "GEOTRANSFORM": f"{west!r},{across!r},0,{north!r},0,{-down!r}",
        **facts,
        _OURS: "1",
    }
    with atomic_file(path) as aside:
        write_arrow(
            table,
            aside,
            layer="index",
            driver="GPKG",
            geometry_name="geom",
            geometry_type="Polygon",
            crs=crs,
            layer_metadata=metadata,
        )
        set_times(aside)
    return path


def _check_own(path: Path) -> None:
    """Refuse to write over what is somebody else's.

    Raises:
        OutputError: It is.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            told = database.execute("select metadata from gpkg_metadata").fetchall()
    except sqlite3.Error:
        told = []
    if not any(_OURS in text for (text,) in told):
        raise OutputError(
            "is there already and was not written by sat2map",
            where=path,
            remedy="Move it away, or choose another folder.",
        )
