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
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.windows import Window

from sat2map.closing import Closing
from sat2map.data.images import read_image
from sat2map.errors import DataError
from sat2map.geo.grid import Grid
from sat2map.geo.web_mercator import quadkey, tile_grid

TILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST_ZOOM = 30
KEPT_TILES = 128
"""Decoded tiles that are kept in memory."""

TILE_MAP = "tilemapresource.xml"
"""What the Tile Map Service specification puts beside tiles; their rows count from the south."""

TILE_JSON = ("tiles.json", "tilejson.json", "metadata.json")
"""Files that may say in `scheme` from where rows count (https://github.com/mapbox/tilejson-spec)."""

PATTERN = "{z}/{x}/{y}"
"""How the tiles of a folder are called where nothing else is said."""

_PLACEHOLDER = re.compile(r"\{(z|-?x|-?y|q)\}")
_VALUES = {"z": r"\d+", "x": r"\d+", "y": r"\d+", "-y": r"\d+", "q": "[0-3]+"}


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
        pattern: What the files are called within `root`, without suffix.
    """

    root: Path
    zoom: int
    tiles: NDArray[np.int64]
    suffixes: tuple[str, ...]
    side: int
    from_south: bool = False
    pattern: str = PATTERN

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
        name = _name(self.pattern, self.zoom, column, named)
        for suffix in self.suffixes:
            path = self.root / f"{name}{suffix}"
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
        source: A folder that holds {z}/{x}/{y}.png, or a pattern, with {z}, or a number as the
            zoom, {x} and {y} or {-y} in any order, such as {z}/{y}/{x}.jpg, or with a quadkey, {q}.

    Raises:
        DataError: A pattern's folder is missing or holds no tiles, a tile is broken, the tiles
            are not of the web's Mercator projection, or a pattern contradicts what stands beside
            the tiles.
    """
    if not is_tile_pattern(source):
        root = Path(source)
        return _levels(root, PATTERN, None, TILE_SUFFIXES) if root.is_dir() else []
    text = str(source)
    root, pattern, zoom, suffix = _understood(text)
    suffixes = TILE_SUFFIXES if suffix is None else (suffix,)
    from_south = "{-y}" in pattern
    levels = _levels(root, pattern, zoom, suffixes, from_south) if root.is_dir() else []
    if not levels:
        raise DataError("there are no such tiles", where=text, remedy="Check the folder's name.")
    return levels


def _understood(text: str) -> tuple[Path, str, int | None, str | None]:
    """Return the folder of a pattern, the rest of it, its zoom if it is a number, and its suffix.

    Raises:
        DataError: It does not tell one tile from the others.
    """
    parts = list(Path(text).parts)
    first = next(
        i
        for i, part in enumerate(parts)
        if _PLACEHOLDER.search(part) and not Path(*parts[: i + 1]).exists()
    )
    suffix = Path(text).suffix.lower()
    if suffix:
        parts[-1] = parts[-1][: -len(suffix)]
    named = set(_PLACEHOLDER.findall("/".join(parts[first:])))
    zoom = None
    if "q" not in named and "z" not in named and first and parts[first - 1].isdecimal():
        first -= 1
        zoom = int(parts[first])
    whole = {"q"} <= named <= {"q", "z"} or (
        named <= {"z", "x", "y", "-y"} and "x" in named and len(named & {"y", "-y"}) == 1
    )
    if not whole or ("z" not in named and "q" not in named and zoom is None):
        raise DataError(
            "is not a pattern of tiles",
            where=text,
            remedy="Write FOLDER/{z}/{x}/{y}.png, {-y} where rows count from the south, or the "
            "quadkey {q} alone.",
        )
    return Path(*parts[:first]), "/".join(parts[first:]), zoom, suffix or None


def _name(pattern: str, zoom: int, column: int, row: int) -> str:
    """Return what a tile is called, its row counted as the files do."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "q":
            return quadkey(zoom, column, row)
        return str({"z": zoom, "x": column}.get(found[1], row))

    return _PLACEHOLDER.sub(value, pattern)


def _walk(
    folder: Path, parts: tuple[str, ...], suffixes: tuple[str, ...]
) -> Iterator[tuple[dict[str, str], str]]:
    """Yield what the names of the files of a pattern say for each placeholder, and their suffix."""
    told = re.compile(_PLACEHOLDER.sub(lambda m: f"({_VALUES[m[1]]})", _escaped(parts[0])))
    names = _PLACEHOLDER.findall(parts[0])
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = entry.name, ""
            if len(parts) == 1:
                stem, ending = os.path.splitext(entry.name)  # noqa: PTH122 - of a name
                if ending.lower() not in suffixes:
                    continue
            found = told.fullmatch(stem)
            if found is None:
                continue
            values = dict(zip(names, found.groups(), strict=True))
            if len(parts) == 1:
                yield values, ending
            elif entry.is_dir():
                for more, suffix in _walk(Path(entry.path), parts[1:], suffixes):
                    yield values | more, suffix


def _escaped(part: str) -> str:
    """Return a pattern of regular expressions that stands for a text, but for placeholders."""
    pieces = re.split(r"(\{(?:z|-?x|-?y|q)\})", part)
    return "".join(p if _PLACEHOLDER.fullmatch(p) else re.escape(p) for p in pieces)


def _levels(
    root: Path,
    pattern: str,
    zoom: int | None,
    suffixes: tuple[str, ...],
    from_south: bool | None = None,
) -> list[TileLevel]:
    tiles: dict[int, list[tuple[int, int]]] = {}
    endings: dict[int, set[str]] = {}
    for values, ending in _walk(root, tuple(pattern.split("/")), suffixes):
        z, x, y = _place(values, zoom)
        # Names such as 007 are others' than those of tiles.
        if z > MOST_ZOOM or max(x, y) >= 2**z or not _is_name(pattern, (z, x, y), values):
            continue
        tiles.setdefault(z, []).append((x, y))
        endings.setdefault(z, set()).add(ending)
    found = []
    for z in sorted(tiles):
        order = tuple(sorted(endings[z], key=lambda e: suffixes.index(e.lower())))
        level = TileLevel(root, z, np.array(sorted(tiles[z]), np.int64), order, 0, pattern=pattern)
        path = level.path_of(*level.tiles[0].tolist())
        assert path is not None
        found.append(replace(level, side=read_image(path).pixels.shape[0]))
    if not found or "{q}" in pattern:
        return [_numbered_from_north(level, from_south=False) for level in found]
    south = _counts_from_south(root, from_south)
    return [_numbered_from_north(level, south) for level in found]


def _place(values: dict[str, str], zoom: int | None) -> tuple[int, int, int]:
    """Return the zoom, column and row that the name of a tile says."""
    key = values.get("q")
    if key is not None:
        digits = [int(digit) for digit in key]
        column = sum((digit & 1) << z for z, digit in enumerate(reversed(digits)))
        row = sum((digit >> 1) << z for z, digit in enumerate(reversed(digits)))
        return len(digits), column, row
    z = int(values["z"]) if zoom is None else zoom
    return z, int(values["x"]), int(values["y"] if "y" in values else values["-y"])


def _is_name(pattern: str, place: tuple[int, int, int], values: dict[str, str]) -> bool:
    told = _PLACEHOLDER.sub(lambda found: values[found[1]], pattern)
    return told == _name(pattern, *place)


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


class TileDataset(Closing):
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
