"""Putting a Cloud Optimized GeoTIFF together of tiles that are compressed already.

GDAL's own driver makes overviews and compresses everything a second time once all of a map is
there. Here the tiles of the strips and of their overviews are copied as they are, in the same order
(https://gdal.org/en/stable/drivers/raster/cog.html):

    header, and what GDAL calls ghost area: in which order what follows is
    directories: map, its mask, overviews from large to small, their masks
    where the tiles of each of these lie, and how large they are
    tiles: overviews from small to large, the map last; behind each tile that of the mask

What a directory says of the map (place, colours, tags) GDAL has written into a small file, from
which it is taken (TIFF 6.0, section 2; BigTIFF where a file exceeds four gigabytes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil

from sat2map.raster.strips import TILE, Strips

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of a value, by TIFF's number of its type."""

SHORT, LONG, LONG8 = 3, 4, 16

KIND, WIDTH, HEIGHT, BITS, COMPRESSION, MEANING, SAMPLES = 254, 256, 257, 258, 259, 262, 277
PLANAR, PREDICTOR, COLOURS, TILE_WIDTH, TILE_HEIGHT, PLACES = 284, 317, 320, 322, 323, 324
BYTES, EXTRA, FORMAT, NODATA = 325, 338, 339, 42113

OF_TILES = frozenset(
    {BITS, COMPRESSION, MEANING, SAMPLES, PLANAR, PREDICTOR, COLOURS, TILE_WIDTH, TILE_HEIGHT}
    | {EXTRA, FORMAT, NODATA}
)
"""Tags that say how to read tiles, which overviews need as well."""

REDUCED, MASK = 1, 4

LARGEST = 2**32 - 2**16
"""Bytes of a file in which places are numbers of four bytes."""

LAYOUT = (
    "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
MASKED = "MASK_INTERLEAVED_WITH_IMAGERY=YES\n"

Tags = dict[int, tuple[int, bytes]]
"""By number the type and the bytes of a tag's values."""


@dataclass(frozen=True)
class _Tile:
    """A compressed tile in a file; one without bytes is empty."""

    path: Path
    place: int
    size: int


@dataclass
class _Directory:
    """An image in the file: the map, an overview, or the mask of one.

    Attributes:
        tags: What it says, without where its tiles are.
        tiles: Its tiles, row by row.
        places: Where these are in the new file; 0 for empty ones.
    """

    tags: Tags
    tiles: list[_Tile]
    places: list[int] = field(default_factory=list)


def write_cog(
    path: Path, strips: Strips, tags: Mapping[str, str], pause: Callable[[], object]
) -> None:
    """Write all strips of a map and their overviews as a Cloud Optimized GeoTIFF.

    Args:
        path: The new file, in a folder where others may be made.
        strips: The finished map, with overviews.
        tags: What it says of its making.
        pause: Called now and then; it may raise.
    """
    described = path.with_suffix(".empty.tif")
    how = {"driver": "GTiff", "endianness": "little"} | strips.layout.compression
    rasterio.shutil.copy(strips.description(tags), described, **how)
    told = _read_tags(described)
    described.unlink()
    images, masks = [], []
    for level in range(len(strips.sizes)):
        pause()
        images.append(_image(strips, level, told))
        if strips.layout.has_mask:
            masks.append(_mask(strips, level))
    directories = [images[0], *masks[:1], *images[1:], *masks[1:]]
    ghost = _ghost(bool(masks))
    stored = sum(tile.size + 8 for each in directories for tile in each.tiles if tile.size)
    big = stored + 16 * sum(len(each.tiles) + 64 for each in directories) > LARGEST
    start = 16 if big else 8
    place = start + len(ghost) + len(_directories(directories, start + len(ghost), big))
    order = _in_order(images, masks)
    for directory, tile in order:
        directory.places.append(place + 4 if tile.size else 0)
        place += tile.size + 8 if tile.size else 0
    first = start + len(ghost)
    head = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, first)
        if big
        else struct.pack("<2sHI", b"II", 42, first)
    )
    with path.open("wb") as file:
        file.write(head + ghost + _directories(directories, first, big))
        for source, tiles in groupby(order, lambda each: each[1].path):
            pause()
            with source.open("rb") as strip:
                for _, tile in tiles:
                    strip.seek(tile.place)
                    content = strip.read(tile.size)
                    if content:
                        file.write(struct.pack("<I", tile.size) + content + content[-4:])


def _in_order(images: list[_Directory], masks: list[_Directory]) -> list[tuple[_Directory, _Tile]]:
    """Return all tiles in the order in which they are in the file, with what they belong to."""
    order: list[tuple[_Directory, _Tile]] = []
    for level in reversed(range(len(images))):
        together = [images[level], *masks[level : level + 1]]
        for row in zip(*(each.tiles for each in together), strict=True):
            order += zip(together, row, strict=True)
    return order


def _image(strips: Strips, level: int, told: Tags) -> _Directory:
    """Return the map, or an overview."""
    height, width = strips.sizes[level]
    tags = told if level == 0 else {tag: told[tag] for tag in OF_TILES if tag in told}
    tags = tags | {WIDTH: _long(width), HEIGHT: _long(height)}
    if level > 0:
        tags[KIND] = _long(REDUCED)
    return _Directory(tags, _tiles(strips, level, "{}"))


def _mask(strips: Strips, level: int) -> _Directory:
    """Return the mask of the map, or of an overview."""
    height, width = strips.sizes[level]
    tags = {
        KIND: _long(MASK | (REDUCED if level > 0 else 0)),
        WIDTH: _long(width),
        HEIGHT: _long(height),
        BITS: _short(1),
        COMPRESSION: _short(8),
        MEANING: _short(4),
        SAMPLES: _short(1),
        PLANAR: _short(1),
        TILE_WIDTH: _short(TILE),
        TILE_HEIGHT: _short(TILE),
        FORMAT: _short(1),
    }
    return _Directory(tags, _tiles(strips, level, "GTIFF_DIR:2:{}"))


def _tiles(strips: Strips, level: int, name: str) -> list[_Tile]:
    """Return the tiles of a level, row by row, of files that GDAL calls `name`."""
    tiles: list[_Tile] = []
    for _, path in strips.files(level):
        with rasterio.open(name.format(path)) as file:
            for row in range(-(-file.height // TILE)):
                for column in range(-(-file.width // TILE)):
                    place, size = (
                        int(_told(file, f"BLOCK_{what}_{column}_{row}"))
                        for what in ("OFFSET", "SIZE")
                    )
                    tiles.append(_Tile(path, place, size))
    return tiles


def _told(file: Any, item: str) -> str:
    return file.get_tag_item(item, "TIFF", bidx=1) or "0"


def _ghost(masked: bool) -> bytes:
    """Return what tells GDAL in which order tiles are."""
    told = LAYOUT + (MASKED if masked else "")
    whole = f"GDAL_STRUCTURAL_METADATA_SIZE={len(told):06d} bytes\n{told}".encode("ascii")
    return whole + b" " * (len(whole) % 2)


def _read_tags(path: Path) -> Tags:
    """Return the tags of the first directory of a little-endian TIFF."""
    content = path.read_bytes()
    mark, place = struct.unpack_from("<4sI", content)
    if mark != b"II*\0":
        raise OSError(f"{path.name} is not a little-endian TIFF")
    found: Tags = {}
    for number in range(*struct.unpack_from("<H", content, place)):
        tag, kind, count, where = struct.unpack_from("<HHII", content, place + 2 + 12 * number)
        size = count * SIZES[kind]
        at = where if size > 4 else place + 2 + 12 * number + 8
        found[tag] = (kind, content[at : at + size])
    for tag in (PLACES, BYTES):
        del found[tag]
    return found


def _directories(directories: list[_Directory], first: int, big: bool) -> bytes:
    """Return directories as they lie in the file from `first` on, and where their tiles lie."""
    inline, head, entry_size = (8, 8, 20) if big else (4, 2, 12)
    sizes = [
        head + entry_size * (len(each.tags) + 2) + inline
        + sum(_even(len(data)) for _, data in each.tags.values() if len(data) > inline)
        for each in directories
    ]  # fmt: skip
    starts = [first + sum(sizes[:number]) for number in range(len(sizes))]
    arrays = first + sum(sizes)
    made, behind = b"", b""
    for number, (each, start) in enumerate(zip(directories, starts, strict=True)):
        places = each.places or [0] * len(each.tiles)
        tags = dict(each.tags)
        tags[PLACES] = _numbers(LONG8 if big else LONG, places)
        tags[BYTES] = _numbers(LONG, [tile.size for tile in each.tiles])
        entries, values = b"", b""
        free = start + head + entry_size * len(tags) + inline
        for tag, (kind, data) in sorted(tags.items()):
            count, where = len(data) // SIZES[kind], data.ljust(inline, b"\0")
            if len(data) > inline:
                padded = data.ljust(_even(len(data)), b"\0")
                if tag in (PLACES, BYTES):
                    at = arrays + len(behind)
                    behind += padded
                else:
                    at = free + len(values)
                    values += padded
                where = at.to_bytes(inline, "little")
            entries += struct.pack("<HHQ" if big else "<HHI", tag, kind, count) + where
        follows = starts[number + 1] if number + 1 < len(starts) else 0
        made += struct.pack("<Q" if big else "<H", len(tags)) + entries
        made += follows.to_bytes(inline, "little") + values
    return made + behind


def _long(value: int) -> tuple[int, bytes]:
    return _numbers(LONG, [value])


def _short(value: int) -> tuple[int, bytes]:
    return _numbers(SHORT, [value])


def _numbers(kind: int, values: list[int]) -> tuple[int, bytes]:
    return kind, struct.pack(
        f"<{len(values)}{ {SHORT: 'H', LONG: 'I', LONG8: 'Q'}[kind] }", *values
    )


def _even(size: int) -> int:
    return size + size % 2
