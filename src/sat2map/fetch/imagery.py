"""Imagery of a bounding box from a tile service that the user may use, into one GeoTIFF.

The tiles are those of a web map ({z}/{x}/{y}, EPSG:3857). They are asked for one after the
other at a bounded rate and kept in the user's cache folder, so that an interrupted command
goes on, and written one after the other, so that memory does not depend on the area.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_file, check_file_name
from sat2map.data.images import TIFF_SUFFIXES, DecodedImage, read_image
from sat2map.errors import DataError, UsageError
from sat2map.fetch.http import Answer, Client, Refusal
from sat2map.geo.grid import Bounds, Grid
from sat2map.geo.web_mercator import position, quadkey, tile_grid
from sat2map.journal import address_without_query
from sat2map.raster.output import whole_map
from sat2map.user_cache import cache_folder, keep_within_limit

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]

TERMS = (
    "Use a service only as its terms permit: many forbid to keep its tiles, to derive maps from "
    "them or to train models on them. You answer for that; the attribution goes with the file."
)
"""What is printed before anything is fetched."""

REFUSED = ("tile.openstreetmap.org",)
"""Hosts whose terms forbid it in any case (https://operations.osmfoundation.org/policies/tiles)."""

MOST_TILES = 20_000
"""More than this is not a download for one command; it is 36,000 pixels a side."""

_MISSING = frozenset({404, 410})


@dataclass(frozen=True)
class Tiles:
    """A rectangle of tiles.

    Attributes:
        zoom: Zoom level.
        left: First column.
        top: First row, from the north.
        columns: How many columns.
        rows: How many rows.
    """

    zoom: int
    left: int
    top: int
    columns: int
    rows: int

    def grid(self, side: int) -> Grid:
        """Return the grid of their pixels, of which a tile has `side` along each side."""
        columns = range(self.left, self.left + self.columns)
        return tile_grid(self.zoom, columns, range(self.top, self.top + self.rows), side)


def tiles_of(bbox: Bounds, zoom: int) -> Tiles:
    """Return the tiles that a box in degrees touches.

    Raises:
        UsageError: The zoom is none, the box crosses the antimeridian or asks for too much.
    """
    west, south, east, north = bbox
    if not 0 <= zoom <= 24:
        raise UsageError(
            f"{zoom} is not a zoom level",
            parameter="zoom",
            remedy="Give 0 to 24; 18 is about 0.6 m.",
        )
    turn = 360 * math.floor((west + 180) / 360)  # 190 degrees east are 170 west
    west, east = west - turn, east - turn
    if west >= east or east > 180:
        raise UsageError(
            "crosses the antimeridian, which one file in EPSG:3857 cannot",
            parameter="bbox",
            remedy="Fetch the two parts by themselves.",
        )
    count = 1 << zoom

    # What touches a tile by less than a millionth of it does so by rounding.
    first, last = position(west, north, zoom), position(east, south, zoom)
    left, top = (min(math.floor(at + 1e-6), count - 1) for at in first)
    right, bottom = (math.ceil(at - 1e-6) for at in last)
    right, bottom = max(min(right, count), left + 1), max(min(bottom, count), top + 1)
    tiles = Tiles(zoom, left, top, right - left, bottom - top)
    if tiles.columns * tiles.rows > MOST_TILES:
        raise UsageError(
            f"{tiles.columns} x {tiles.rows} tiles are more than {MOST_TILES:,}",
            parameter="bbox",
            remedy="Choose a smaller box or a lower `zoom`, or ask the service for a file.",
        )
    return tiles


@checks_arguments
def fetch_imagery(
    url: str,
    bbox: Bounds,
    zoom: int,
    target: Path,
    *,
    attribution: str | None = None,
    refresh: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Grid:
    """Write the tiles that touch a box, whole, to a Cloud Optimized GeoTIFF in EPSG:3857.

    Where the service has no tile (404, 410, 204) or a tile is transparent, the file has nodata
    (an internal mask). Its tags say where it came from (SOURCE, without what stands behind a
    `?`), when the oldest of its tiles was fetched (DATE), and whose it is (ATTRIBUTION,
    TIFFTAG_COPYRIGHT).

    Args:
        url: An address with {z}, {x} and {y}, or {-y} where rows count from the south, or with
            the quadkey {q} in place of them.
        bbox: West, south, east, north in degrees.
        zoom: Zoom level, 0 to 24.
        target: A name that ends in .tif; an existing file is replaced.
        attribution: Whose imagery it is and under which licence.
        refresh: Ask anew for what is in the cache.
        client: Who asks; by default a patient one, four tiles a second.
        progress: Called with the number of tiles done and of all.

    Returns:
        The file's grid.

    Raises:
        UsageError: The address, the box, the zoom or the name is not usable.
        DataError: The service refuses or cannot be reached, has nothing there, or answers with
            something that is not a tile.
        OutputError: The place is not writable or the disk is full.
    """
    if target.suffix.lower() not in TIFF_SUFFIXES:
        raise UsageError("is not a GeoTIFF", where=target, remedy="End the name in .tif.")
    check_file_name(target)
    _check(url)
    tiles = tiles_of(bbox, zoom)
    service = _Service(url, refresh, Client(rate=4) if client is None else client)
    places = [
        (row, column)
        for row in range(tiles.top, tiles.top + tiles.rows)
        for column in range(tiles.left, tiles.left + tiles.columns)
    ]
    # One tile must be there before anything is known of their size.
    first = 0
    while (found := service.tile(zoom, places[first][1], places[first][0])) is None:
        first += 1
        if progress is not None:
            progress(first, len(places))
        if first == len(places):
            raise DataError(
                "the service has no tile there",
                where=service.shown,
                remedy="Check the box, and which zoom levels the service has.",
            )
    side = found.pixels.shape[0]
    grid = tiles.grid(side)
    tags = {"SOURCE": service.shown}
    if attribution is not None:
        tags |= {"ATTRIBUTION": attribution, "TIFFTAG_COPYRIGHT": attribution}
    missing = 0
    with whole_map(target, grid, masked=True, tags=tags) as sink:
        for done, (row, column) in enumerate(places, 1):
            tile = service.tile(zoom, column, row)
            missing += tile is None
            pixels, valid = _square(tile, side, service.address(zoom, column, row, shown=True))
            sink.write((row - tiles.top) * side, (column - tiles.left) * side, pixels, valid)
            if progress is not None:
                progress(done, len(places))
        # The tags are written last, when it is known which tile came first.
        tags["DATE"] = f"{datetime.fromtimestamp(service.oldest, UTC):%Y-%m-%d}"
    if missing:
        log.warning(
            f"{target}: the service has no tile for {missing} of {len(places)}; there the file "
            "has nodata."
        )
    keep_within_limit()
    return grid


def _check(url: str) -> None:
    lacking = [name for name in ("{z}", "{x}") if name not in url and "{q}" not in url]
    if not any(name in url for name in ("{y}", "{-y}", "{q}")):
        lacking.append("{y}")
    unknown = set(re.findall(r"\{[^}]*\}", url)) - {"{z}", "{x}", "{y}", "{-y}", "{q}"}
    if lacking or unknown:
        told = f"lacks {lacking[0]}" if lacking else f"has {min(unknown)}, which is not known"
        raise UsageError(
            told, parameter="url", remedy="Give an address such as https://.../{z}/{x}/{y}.png."
        )
    host = urllib.parse.urlsplit(url).hostname or ""
    if host.endswith(REFUSED):
        raise UsageError(
            f"the terms of {host} forbid to download its tiles in bulk, and they are a map",
            parameter="url",
            remedy="Use a service of imagery whose terms permit it.",
        )


class _Service:
    """A tile service with its cache.

    Attributes:
        shown: The address as it may be told.
        oldest: When the oldest of the tiles that were asked for came, seconds since 1970.
    """

    def __init__(self, url: str, refresh: bool, client: Client) -> None:
        self._url, self._refresh, self._client = url, refresh, client
        self.shown = address_without_query(url)
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        self._folder = cache_folder() / "tiles" / name
        self._asked: set[Path] = set()
        self.oldest = math.inf

    def address(self, zoom: int, column: int, row: int, *, shown: bool = False) -> str:
        """Return the address of a tile."""
        address = self.shown if shown else self._url
        values = {
            "{z}": zoom,
            "{x}": column,
            "{y}": row,
            "{-y}": (1 << zoom) - 1 - row,
            "{q}": quadkey(zoom, column, row),
        }
        for name, value in values.items():
            address = address.replace(name, str(value))
        return address

    def tile(self, zoom: int, column: int, row: int) -> DecodedImage | None:
        """Return a tile, or None where the service has none."""
        kept = self._folder / str(zoom) / str(column) / f"{row}.tile"
        if not kept.is_file() or (self._refresh and kept not in self._asked):
            shown = self.address(zoom, column, row, shown=True)
            try:
                answer = self._client.ask(self.address(zoom, column, row), shown=shown)
            except Refusal as refusal:
                if refusal.status not in _MISSING:
                    raise
                answer = Answer(b"", "")
            with atomic_file(kept) as aside:
                aside.write_bytes(answer.content)
                if answer.content:
                    self._decode(aside, shown, answer.kind)  # what is not an image is not kept
            self._asked.add(kept)
        status = kept.stat()
        self.oldest = min(self.oldest, status.st_mtime)
        if status.st_size == 0:
            return None
        return self._decode(kept, self.address(zoom, column, row, shown=True), "")

    def _decode(self, path: Path, shown: str, kind: str) -> DecodedImage:
        try:
            return read_image(path)
        except DataError as error:
            raise DataError(
                f"answers with no image ({kind or error.what})",
                where=shown,
                remedy="Check the address, and whether you need a key or a permission.",
            ) from error


def _square(
    tile: DecodedImage | None, side: int, shown: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a tile's pixels, uint8 [side,side,3], and where there is imagery."""
    if tile is None:
        return np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.bool_)
    if tile.pixels.shape[:2] != (side, side):
        raise DataError(
            "is {} x {} pixels, but other tiles are {side} x {side}".format(
                *tile.pixels.shape[:2], side=side
            ),
            where=shown,
            remedy="Choose another zoom level.",
        )
    valid = np.ones((side, side), np.bool_) if tile.alpha is None else tile.alpha > 127
    return tile.pixels, valid
