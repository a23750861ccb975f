"""Pyramids of tiles as PMTiles, as MBTiles and as a folder, with their TileJSON.

TileJSON 3.0.0, https://github.com/mapbox/tilejson-spec; MBTiles 1.3,
https://github.com/mapbox/mbtiles-spec; PMTiles 3, https://github.com/protomaps/PMTiles.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from sat2map.errors import MissingExtraError
from sat2map.legend import Legend
from sat2map.provenance import KEY, Provenance
from sat2map.raster.pyramid import Pyramid, Tile

Encoded = tuple[int, int, int, bytes]
"""Zoom, column from the west, row from the north, and a PNG or a compressed vector tile."""

SEGMENT = 64 * 2**20
"""Bytes of tiles that may be on the disk twice, when an archive is put in order."""


@dataclass(frozen=True)
class About:
    """The metadata of an archive of tiles.

    Attributes:
        name: What the map is called.
        description: How it was made.
        attribution: Whom viewers are to name, or None.
        pyramid: Where it lies.
        layers: Of vector tiles, TileJSON's description of each layer; None for images.
        provenance: What it was made of and how, if that is known.
    """

    name: str
    description: str
    attribution: str | None
    pyramid: Pyramid
    layers: tuple[Mapping[str, Any], ...] | None = None
    provenance: Provenance | None = None

    def tilejson(self) -> dict[str, Any]:
        """Return TileJSON, without the tiles' address."""
        west, south, east, north = self.pyramid.bounds
        middle = (west + east) / 2
        if west > east:  # TileJSON knows no bounds across the antimeridian
            middle += 180 if middle < 0 else -180
            west, east = -180.0, 180.0
        bounds = [round(value, 7) for value in (west, south, east, north)]
        centre = [round(middle, 7), round((south + north) / 2, 7), self.pyramid.lowest]
        named = {} if self.attribution is None else {"attribution": self.attribution}
        made = {} if self.provenance is None else {KEY: self.provenance.to_json()}
        vectors = {} if self.layers is None else {"vector_layers": list(self.layers)}
        return {
            "tilejson": "3.0.0",
            "name": self.name,
            "description": self.description,
            **named,
            **vectors,
            "version": "1.0.0",
            "scheme": "xyz",
            "format": "png" if self.layers is None else "pbf",
            "minzoom": self.pyramid.lowest,
            "maxzoom": self.pyramid.highest,
            "bounds": bounds,
            "center": centre,
            **made,
        }


DEFLATE = 4
"""Of a map's tiles the usual 6 takes two and a half times as long and saves nothing."""


def encode(tile: Tile, legend: Legend | None) -> bytes:
    """Return a tile as PNG: of class numbers with a palette, else RGB, or RGBA where needed."""
    stream = BytesIO()
    if legend is not None:
        image = Image.fromarray(tile)
        image.putpalette([*legend.colours.ravel().tolist(), 0, 0, 0])
        hidden = {"transparency": len(legend)} if (tile == len(legend)).any() else {}
        image.save(stream, "PNG", compress_level=DEFLATE, **hidden)
    else:
        opaque = bool((tile[..., 3] == 255).all())
        image = Image.fromarray(tile[..., :3] if opaque else tile)
        image.save(stream, "PNG", compress_level=DEFLATE)
    return stream.getvalue()


def write_tree(tiles: Iterable[Encoded], about: About, folder: Path) -> None:
    """Write FOLDER/{z}/{x}/{y}.png and FOLDER/tiles.json."""
    made: set[Path] = set()
    for zoom, x, y, png in tiles:
        place = folder / str(zoom) / str(x)
        if place not in made:
            place.mkdir(parents=True, exist_ok=True)
            made.add(place)
        (place / f"{y}.png").write_bytes(png)
    facts = about.tilejson() | {"tiles": ["{z}/{x}/{y}.png"]}
    (folder / "tiles.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_mbtiles(tiles: Iterable[Encoded], about: About, path: Path) -> None:
    """Write an MBTiles file."""
    import sqlite3  # which other outputs do not need

    facts = about.tilejson()
    listed = {key: facts[key] for key in facts if key not in ("tilejson", "scheme")}
    for key in ("bounds", "center"):
        listed[key] = ",".join(map(str, facts[key]))
    if about.provenance is not None:
        listed[KEY] = about.provenance.to_text()
    try:
        database = sqlite3.connect(path, isolation_level=None)
        try:
            # A file that is not whole is thrown away, so nothing needs a journal.
            for pragma in ("journal_mode=off", "synchronous=off", "application_id=0x4d504258"):
                database.execute(f"pragma {pragma}")
            database.execute("create table metadata (name text, value text)")
            database.execute(
                "create table tiles (zoom_level integer, tile_column integer, "
                "tile_row integer, tile_data blob)"
            )
            database.execute("begin")
            rows = [(key, str(value)) for key, value in listed.items()]
            database.executemany("insert into metadata values (?, ?)", [*rows, ("type", "overlay")])
            database.executemany(
                "insert into tiles values (?, ?, ?, ?)",
                ((zoom, x, 2**zoom - 1 - y, png) for zoom, x, y, png in tiles),  # from the south
            )
            for table, columns in (
                ("tiles", "zoom_level, tile_column, tile_row"),
                ("metadata", "name"),
            ):
                database.execute(f"create unique index {table}_index on {table} ({columns})")
            database.execute("commit")
        finally:
            database.close()
    except sqlite3.OperationalError as error:  # how SQLite says that a disk is full
        raise OSError(errno.ENOSPC, str(error)) from error


def pmtiles_order() -> Callable[[int, int, int], int]:
    """Return the function from (zoom, x, y) to a tile's number along the Hilbert curve.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        from pmtiles.tile import zxy_to_tileid
    except ModuleNotFoundError as error:
        raise MissingExtraError("pmtiles", "pmtiles") from error
    number: Callable[[int, int, int], int] = zxy_to_tileid
    return number


def write_pmtiles(tiles: Iterable[Encoded], about: About, path: Path) -> None:
    """Write a clustered PMTiles archive.

    The tiles of each zoom must come in the order of the Hilbert curve.
    """
    from pmtiles.tile import Compression, Entry, TileType
    from pmtiles.writer import finalize_header

    number = pmtiles_order()
    levels: dict[int, _Level] = {}
    for zoom, x, y, png in tiles:
        if zoom not in levels:
            levels[zoom] = _Level(path, zoom)
        levels[zoom].append(number(zoom, x, y), png)
    entries = []
    offset = contents = addressed = 0
    for _, level in sorted(levels.items()):
        for first, run, where, length in level.entries:
            entries.append(Entry(first, offset + where, length, run))
            addressed += run
        contents += level.contents
        offset += level.size
    facts = about.tilejson()
    west, south, east, north = (round(value * 1e7) for value in facts["bounds"])
    longitude, latitude, _ = facts["center"]
    header = {
        "tile_type": TileType.PNG if about.layers is None else TileType.MVT,
        "tile_compression": Compression.NONE if about.layers is None else Compression.GZIP,
        "min_lon_e7": west,
        "min_lat_e7": south,
        "max_lon_e7": east,
        "max_lat_e7": north,
        "center_zoom": about.pyramid.lowest,
        "center_lon_e7": round(longitude * 1e7),
        "center_lat_e7": round(latitude * 1e7),
    }
    finalize: Any = finalize_header  # it has no types
    start = finalize(header, addressed, entries, contents, facts, True, offset)
    with path.open("wb") as file:
        for part in start:
            file.write(part)
        for _, level in sorted(levels.items()):
            for segment in level.segments():
                with segment.open("rb") as source:
                    shutil.copyfileobj(source, file)
                segment.unlink()


class _Level:
    """The tiles of one zoom, in files of bounded size beside the archive.

    Args:
        path: The archive.
        zoom: Which zoom.

    Attributes:
        entries: First number, how many follow with the same content, offset, bytes.
        contents: How many different tiles there are.
        size: Bytes of them all.
    """

    def __init__(self, path: Path, zoom: int) -> None:
        self._path = path
        self._zoom = zoom
        self._number = 0
        self._known: dict[bytes, tuple[int, int]] = {}
        self.entries: list[tuple[int, int, int, int]] = []
        self.contents = 0
        self.size = 0

    def append(self, number: int, png: bytes) -> None:
        """Add a tile; what is there already is not written again."""
        digest = hashlib.blake2b(png, digest_size=16).digest()
        place = self._known.get(digest)
        if place is None:
            place = self._known[digest] = (self.size, len(png))
            if self.size // SEGMENT > self._number:
                self._number += 1
            with self._segment(self._number).open("ab") as file:
                file.write(png)
            self.size += len(png)
            self.contents += 1
        if self.entries:
            first, run, *last = self.entries[-1]
            if first + run == number and tuple(last) == place:
                self.entries[-1] = (first, run + 1, *place)
                return
        self.entries.append((number, 1, *place))

    def segments(self) -> Iterator[Path]:
        """Yield the files in order."""
        for number in range(self._number + 1):
            yield self._segment(number)

    def _segment(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{self._zoom:02}.{number:06}")
