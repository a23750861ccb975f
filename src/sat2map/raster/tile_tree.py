"""Trees of web map tiles, {z}/{x}/{y}.png: found on disk, and read as one raster.

Tiles are decoded here and not by GDAL's WMS driver. Tried with GDAL 3.10 on the same tiles, the
driver gives the same pixels for PNG, palettes and alpha, and missing tiles are transparent. But
JPEG tiles come out otherwise, noise by up to 101 of 255; 16 bits and 1 bit per pixel are taken for
8 in silence; a photo's EXIF orientation and the transparent colour of a PNG are lost; a broken
tile, or one of another size, is not named; means of squares are rounded otherwise; and all tiles
must have one suffix.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.windows import Window

from sat2map.data.images import read_image
from sat2map.errors import DataError
from sat2map.geo.grid import Grid
from sat2map.geo.web_mercator import tile_grid

TILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST_ZOOM = 30
KEPT_TILES = 128
"""Decoded tiles that are kept in memory."""

TILE_MAP = "tilemapresource.xml"
"""What the Tile Map Service specification puts beside tiles; their rows count from the south."""

TILE_JSON = ("tiles.json", "tilejson.json", "metadata.json")
"""Files that may say in `scheme` from where rows count (https://github.com/mapbox/tilejson-spec)."""

_TEMPLATE = re.compile(r"(.*?)/?(\{z\}|\d+)/\{x\}/\{(-?)y\}(\.\w+)?")
_PLACEHOLDER = re.compile(r"\{-?[xyz]\}")


@dataclass(frozen=True, eq=False)
class TileLevel:
    """Tiles of one zoom.

    They are numbered from the north-west (XYZ, as web maps do), whatever their files are called.

    Attributes:
        root: The folder of the zooms.
        zoom: The zoom.
        tiles: Column and row of each tile that there is, int64 [N,2], sorted.
        suffixes: What the names of the tiles end in.
        side: Pixels of a tile's side.
        from_south: Whether the names of the files count rows from the south (TMS).
    """

    root: Path
    zoom: int
    tiles: NDArray[np.int64]
    suffixes: tuple[str, ...]
    side: int
    from_south: bool = False

    @property
    def first(self) -> tuple[int, int]:
        """The westernmost column and the northernmost row."""
        column, row = self.tiles.min(0)
        return int(column), int(row)

    @property
    def extent(self) -> tuple[int, int]:
        """How many columns and rows the tiles span."""
        columns, rows = np.ptp(self.tiles, 0) + 1
        return int(columns), int(rows)

    @property
    def grid(self) -> Grid:
        """The pixels of all tiles that the level spans."""
        (column, row), (columns, rows) = self.first, self.extent
        spans = range(column, column + columns), range(row, row + rows)
        return tile_grid(self.zoom, *spans, self.side)

    def path_of(self, column: int, row: int) -> Path | None:
        """Return the file of a tile, or None where there is none."""
        named = 2**self.zoom - 1 - row if self.from_south else row
        for suffix in self.suffixes:
            path = self.root / str(self.zoom) / str(column) / f"{named}{suffix}"
            if path.is_file():
                return path
        return None

    def files(self) -> tuple[Path, ...]:
        """Return the files of all tiles."""
        found = (self.path_of(column, row) for column, row in self.tiles.tolist())
        return tuple(path for path in found if path is not None)

    def parts(self) -> Iterator[TileLevel]:
        """Yield the tiles that touch each other, at a side or a corner, as levels of their own."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        keys = self.tiles[:, 0] << 32 | self.tiles[:, 1]  # sorted, as the tiles are
        ones, others = [], []
        for column, row in ((0, 1), (1, -1), (1, 0), (1, 1)):
            wanted = (self.tiles[:, 0] + column) << 32 | (self.tiles[:, 1] + row)
            places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found = keys[places] == wanted
            ones.append(np.flatnonzero(found))
            others.append(places[found])
        edges = np.concatenate(ones), np.concatenate(others)
        graph = coo_array((np.ones(len(edges[0]), np.bool_), edges), shape=(len(keys), len(keys)))
        count, labels = connected_components(graph, directed=False)
        order = np.argsort(labels, kind="stable")
        ends = np.cumsum(np.bincount(labels, minlength=count))[:-1]
        for members in np.split(order, ends):
            yield replace(self, tiles=self.tiles[members])

    def open(self) -> TileDataset:
        """Return the tiles as one raster."""
        return TileDataset(self)


def is_tile_pattern(source: str | Path) -> bool:
    """Return whether a name is a pattern of tiles, and not that of a file or folder."""
    return _PLACEHOLDER.search(str(source)) is not None and not Path(source).exists()


def find_levels(source: str | Path) -> list[TileLevel]:
    """Return the zooms of a tile tree from coarse to fine; none where `source` is something else.

    Rows count from the north, or from the south where a pattern has {-y}, or where a file beside
    the tiles says so: `tilemapresource.xml`, or "scheme": "tms" in `tiles.json` or `metadata.json`.

    Args:
        source: A folder that holds {z}/{x}/{y}.png, or such a pattern itself, in which the zoom
            may be a number.

    Raises:
        DataError: A pattern's folder is missing or holds no tiles, a tile is broken, the tiles
            are not of the web's Mercator projection, or a pattern contradicts what stands beside
            the tiles.
    """
    text = str(source)
    if not is_tile_pattern(source):
        root = Path(source)
        return _levels(root, None, TILE_SUFFIXES) if root.is_dir() else []
    pattern = _TEMPLATE.fullmatch(text)
    if pattern is None:
        raise DataError(
            "is not a pattern of tiles",
            where=text,
            remedy="Write FOLDER/{z}/{x}/{y}.png, or {-y} where rows count from the south.",
        )
    root = Path(pattern[1] or ("/" if text.startswith("/") else "."))
    zoom = None if pattern[2] == "{z}" else int(pattern[2])
    suffixes = TILE_SUFFIXES if pattern[4] is None else (pattern[4].lower(),)
    levels = _levels(root, zoom, suffixes, bool(pattern[3])) if root.is_dir() else []
    if not levels:
        raise DataError("there are no such tiles", where=text, remedy="Check the folder's name.")
    return levels


def _levels(
    root: Path, zoom: int | None, suffixes: tuple[str, ...], from_south: bool | None = None
) -> list[TileLevel]:
    zooms = sorted(z for z in _numbers(root) if z <= MOST_ZOOM and zoom in (None, z))
    found = []
    for z in zooms:
        tiles: list[tuple[int, int]] = []
        endings: set[str] = set()
        for x in _numbers(root / str(z)):
            with os.scandir(root / str(z) / str(x)) as entries:
                for entry in entries:
                    stem, ending = os.path.splitext(entry.name)  # noqa: PTH122 - of a name
                    if stem.isdecimal() and ending.lower() in suffixes:
                        tiles.append((x, int(stem)))
                        endings.add(ending)
        inside = [tile for tile in tiles if max(tile) < 2**z]
        if not inside:
            continue
        order = tuple(sorted(endings, key=lambda e: suffixes.index(e.lower())))
        level = TileLevel(root, z, np.array(inside, np.int64), order, 0)
        path = level.path_of(*level.tiles[0].tolist())
        assert path is not None
        found.append(replace(level, side=read_image(path).pixels.shape[0]))
    south = bool(found) and _counts_from_south(root, from_south)
    return [_numbered_from_north(level, south) for level in found]


def _numbered_from_north(level: TileLevel, from_south: bool) -> TileLevel:
    tiles = level.tiles.copy()
    if from_south:
        tiles[:, 1] = 2**level.zoom - 1 - tiles[:, 1]
    return replace(level, tiles=np.unique(tiles, axis=0), from_south=from_south)


def _counts_from_south(root: Path, asked: bool | None) -> bool:
    """Return whether the rows of a tree's files count from the south.

    Args:
        root: The folder of the zooms.
        asked: What a pattern says, or None where there is none.

    Raises:
        DataError: The tiles are not of the web's Mercator projection, or say otherwise than asked.
    """
    file, told = _said_beside(root)
    if asked is None or told is None:
        return bool(told if asked is None else asked)
    if asked != told:
        side = "south" if told else "north"
        raise DataError(
            f"{file.name} says that rows count from the {side}, but the pattern has "
            f"{'{-y}' if asked else '{y}'}",
            where=root,
            remedy=f"Write {'{-y}' if told else '{y}'}, or remove that file if it is wrong.",
        )
    return asked


def _said_beside(root: Path) -> tuple[Path, bool | None]:
    """Return the file beside tiles that tells from where rows count, and whether from the south."""
    file = root / TILE_MAP
    if file.is_file():
        try:
            sets = ElementTree.parse(file).find("TileSets")
        except (ElementTree.ParseError, OSError, UnicodeError, ValueError) as error:
            raise DataError(
                f"cannot be read ({error})", where=file, remedy="Restore or remove it."
            ) from error
        _check_profile(file, None if sets is None else sets.get("profile"))
        return file, True
    for name in TILE_JSON:
        file = root / name
        try:
            told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (OSError, ValueError, RecursionError):  # something else may have that name
            continue
        if not isinstance(told, dict):
            continue
        _check_profile(file, told.get("profile"))
        scheme = told.get("scheme")
        if scheme in ("tms", "xyz"):
            return file, scheme == "tms"
        tiles = told.get("tiles")
        if isinstance(tiles, list) and any("{-y}" in str(address) for address in tiles):
            return file, True
    return file, None


def _check_profile(file: Path, profile: object) -> None:
    # `global-` in the specification, without it as gdal2tiles writes it.
    if isinstance(profile, str) and profile.removeprefix("global-") in (
        *("geodetic", "raster", "local", "none"),
    ):
        raise DataError(
            f"says that the tiles have the profile {profile}, not mercator",
            where=file,
            remedy="Give the raster that they were cut from, or tiles in EPSG:3857.",
        )


def _numbers(folder: Path) -> list[int]:
    """Return the folders in a folder whose names are numbers, as numbers."""
    with os.scandir(folder) as entries:
        return sorted(
            int(entry.name)
            for entry in entries
            if entry.name.isdecimal() and str(int(entry.name)) == entry.name and entry.is_dir()
        )


class TileDataset:
    """Tiles that can be read as what rasterio opens: red, green, blue, alpha.

    Only what a scene asks for is here. Tiles that are missing are transparent.
    """

    driver = "XYZ tiles"
    count = 4
    dtypes = ("uint8",) * 4
    colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    nodatavals = (None,) * 4
    mask_flag_enums = ([MaskFlags.per_dataset, MaskFlags.alpha],) * 4

    def __init__(self, level: TileLevel) -> None:
        self.level = level
        self.files: list[str] = []
        grid = level.grid
        self.width, self.height = grid.width, grid.height
        self.shape = (self.height, self.width)
        self.crs, self.transform = grid.crs, grid.transform
        self._there = {(int(x), int(y)) for x, y in level.tiles}
        self._tile = functools.lru_cache(KEPT_TILES)(self._decode)

    def __enter__(self) -> TileDataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the decoded tiles."""
        self._tile.cache_clear()

    def tags(self, *_: Any, ns: str | None = None) -> dict[str, str]:
        """Return what the tiles say of themselves: how they are compressed, if with loss."""
        lossy = any(suffix.lower() in (".jpg", ".jpeg") for suffix in self.level.suffixes)
        return {"COMPRESSION": "JPEG"} if lossy and ns == "IMAGE_STRUCTURE" else {}

    def read(
        self,
        bands: int | list[int],
        window: Window | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> NDArray[np.uint8]:
        """Read bands, uint8 [B,h,w], or [h,w] for one number.

        Where fewer pixels are wanted than there are, they are picked, or the mean of the opaque
        ones among each square of them with `Resampling.average`.

        Raises:
            DataError: A tile is broken or of another size.
        """
        window = window or Window(0, 0, self.width, self.height)
        top, left, height, width = (
            round(v) for v in (window.row_off, window.col_off, window.height, window.width)
        )
        tall, wide = (height, width) if out_shape is None else out_shape[-2:]
        if resampling == Resampling.average and (tall, wide) != (height, width):
            pixels = self._pixels(top + np.arange(height), left + np.arange(width))
            pixels = _mean(pixels, height // tall, width // wide)
        else:
            rows = top + ((np.arange(tall) + 0.5) * height / tall).astype(np.intp)
            columns = left + ((np.arange(wide) + 0.5) * width / wide).astype(np.intp)
            pixels = self._pixels(rows, columns)
        chosen = pixels.transpose(2, 0, 1)[np.asarray(bands) - 1]
        return np.ascontiguousarray(chosen)

    def _pixels(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the pixels of some rows and columns, both rising, uint8 [h,w,4]."""
        side, (first_x, first_y) = self.level.side, self.level.first
        found = np.zeros((len(rows), len(columns), 4), np.uint8)
        for down in np.unique(rows // side):
            inside_rows = np.flatnonzero(rows // side == down)
            for along in np.unique(columns // side):
                place = first_x + int(along), first_y + int(down)
                if place not in self._there:
                    continue
                inside = np.flatnonzero(columns // side == along)
                tile = self._tile(*place)
                part = tile[(rows[inside_rows] % side)[:, None], (columns[inside] % side)[None]]
                found[inside_rows[:, None], inside[None]] = part
        return found

    def _decode(self, column: int, row: int) -> NDArray[np.uint8]:
        path = self.level.path_of(column, row)
        if path is None:
            raise OSError(f"the tile {self.level.zoom}/{column}/{row} has gone")
        image = read_image(path)
        height, width, _ = image.pixels.shape
        if (height, width) != (self.level.side, self.level.side):
            raise DataError(
                f"has {width} x {height} pixels, but other tiles {self.level.side}",
                where=path,
                remedy="Give all tiles one size.",
            )
        opaque = np.full((height, width), 255, np.uint8)
        return np.dstack([image.pixels, opaque if image.alpha is None else image.alpha])


def _mean(pixels: NDArray[np.uint8], down: int, along: int) -> NDArray[np.uint8]:
    """Return the mean of the pixels of each square that are not transparent."""
    height, width, _ = pixels.shape
    squares = pixels.reshape(height // down, down, width // along, along, 4).astype(np.float32)
    opaque = squares[..., 3:] > 0
    count = opaque.sum((1, 3))
    means: NDArray[np.float32] = (squares * opaque).sum((1, 3)) / np.maximum(count, 1)
    return np.rint(means).astype(np.uint8)
