"""Archives of tiles that were written earlier (PMTiles), as they are: of images, or of vectors."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image

from sat2map.errors import DataError, MissingExtraError
from sat2map.geo.gdal import is_address
from sat2map.geo.web_mercator import limits, position
from sat2map.raster.pyramid import HIGHEST, SIDE, Pyramid
from sat2map.serve.archive_files import LARGEST, ArchiveFile, LocalFile, RemoteFile
from sat2map.vectors.formats import STYLE

T = TypeVar("T")

SUFFIX = ".pmtiles"

_ENCODED = {"PNG": "png", "WEBP": "webp", "JPEG": "jpg", "MVT": "mvt"}
"""What tiles may be, by the names of PMTiles."""

_DAMAGED: tuple[type[Exception], ...] = (
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)


class TileArchive:
    """A PMTiles archive (version 3); threads may share it.

    Args:
        text: The file, or its address, http:// or https://.

    Attributes:
        key: What another file under the same name changes, 32 hexadecimal digits.
        is_vector: Whether its tiles are of vectors (MVT).
        pyramid: Where it lies, and its highest zoom.
        attribution: Whom it asks to be named, or None.
        layers: Of vector tiles, the names of their layers.

    Raises:
        DataError: It is damaged, or its tiles are of a kind that is not shown.
        MissingExtraError: pmtiles is not installed.
    """

    def __init__(self, text: Path | str) -> None:
        try:
            from pmtiles import reader
        except ModuleNotFoundError as error:
            raise MissingExtraError("pmtiles", "pmtiles") from error
        self._where: Path | str = str(text)
        self._file: ArchiveFile = self._whole(lambda: _opened(text))
        self._where = self._file.where
        opened: Any = reader  # it has no types
        self._reader = opened.Reader(self._read)
        try:
            self._header = self._whole(self._reader.header)
            facts = self._whole(self._reader.metadata)
            facts = facts if isinstance(facts, dict) else {}
            self._format = _ENCODED.get(self._header["tile_type"].name, "")
            if not self._format or self._header["tile_compression"].name not in ("NONE", "GZIP"):
                raise DataError(
                    "has tiles of a kind that is not shown",
                    where=self._where,
                    remedy="Give PNG, JPEG, WebP or MVT tiles, packed with gzip or not.",
                )
            self.is_vector = self._format == "mvt"
            self.pyramid = self._whole(self._placed)
        except BaseException:
            self.close()
            raise
        self.attribution = _text(facts.get("attribution"))
        listed = facts.get("vector_layers")
        self.layers = [
            str(layer["id"])
            for layer in (listed if isinstance(listed, list) else [])
            if isinstance(layer, dict) and "id" in layer
        ]
        made_of = f"{self._header} {self._file.version}"
        self.key = hashlib.blake2b(made_of.encode(), digest_size=16).hexdigest()

    @property
    def has_changed(self) -> bool:
        """Whether another archive was seen under its address."""
        return self._file.has_changed

    def vector_tile(self, zoom: int, x: int, y: int) -> bytes:
        """Return a vector tile, gzipped; one without features where there is none.

        Raises:
            DataError: The archive is damaged.
        """
        found = self._tile(zoom, x, y) or b""
        if self._header["tile_compression"].name == "GZIP" and found:
            return found
        return gzip.compress(found, mtime=0)

    def image(self, zoom: int, x: int, y: int, scale: int, format: Literal["png", "webp"]) -> bytes:
        """Return a tile as an image; clear where there is none.

        Finer than the archive's highest zoom it is a part of a coarser tile.

        Args:
            zoom: 0 to `HIGHEST`.
            x: Its column from the west.
            y: Its row from the north.
            scale: How many times 256 pixels it has along each side.
            format: How it is encoded.

        Raises:
            DataError: The archive is damaged.
        """
        finer = max(zoom - self.pyramid.highest, 0)
        found = self._tile(zoom - finer, x >> finer, y >> finer)
        side = SIDE * scale
        if found is not None and not finer and scale == 1 and format == self._format:
            return found
        if found is None:
            image = Image.new("RGBA", (side, side))
        else:
            image = self._whole(lambda: _decoded(found))
            part = SIDE / 2**finer
            left, top = (x % 2**finer) * part, (y % 2**finer) * part
            box = (left, top, left + part, top + part)
            image = image.resize((side, side), Image.Resampling.NEAREST, box)
        written = io.BytesIO()
        if format == "png":
            image.save(written, "PNG", compress_level=1)
        else:
            image.save(written, "WEBP", lossless=True, quality=0, method=0)
        return written.getvalue()

    def style(self, address: str) -> dict[str, Any]:
        """Return the MapLibre style beside the archive, or a plain one, with its tiles' address.

        Raises:
            DataError: The style beside it is damaged.
        """
        layers = _plain_layers(self.layers)
        text = self._file.beside(STYLE)
        if text is not None:
            try:
                told = json.loads(text)
                layers = [layer for layer in told["layers"] if isinstance(layer["id"], str)]
            except _DAMAGED as error:
                raise DataError(
                    f"its style {Path(self._where).stem}{STYLE} is damaged",
                    where=self._where,
                    remedy="Write it again with: sat2map vectors CLASSES.tif NAME.pmtiles.",
                ) from error
        west, south, east, north = self.pyramid.bounds
        source: dict[str, Any] = {"type": "vector", "tiles": [address]}
        source |= {"minzoom": self._header["min_zoom"], "maxzoom": self._header["max_zoom"]}
        source["bounds"] = [west, south, east, north]
        for layer in layers:
            if layer.get("type") != "background":
                layer["source"] = "map"
        return {"version": 8, "sources": {"map": source}, "layers": layers}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _tile(self, zoom: int, x: int, y: int) -> bytes | None:
        if not self._header["min_zoom"] <= zoom <= self._header["max_zoom"]:
            return None
        found: bytes | None = self._whole(lambda: self._reader.get(zoom, x, y))
        if found is not None and not self.is_vector:
            compressed = self._header["tile_compression"].name == "GZIP"
            return self._whole(lambda: gzip.decompress(found)) if compressed else found
        return found

    def _read(self, offset: int, length: int) -> bytes:
        if length > LARGEST:
            raise ValueError(f"{length} bytes at once")
        found = self._file.read(offset, length)
        if len(found) < length and offset:  # the header may reach beyond a tiny file
            raise EOFError
        return found

    def _placed(self) -> Pyramid:
        names = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7")
        west, south, east, north = (self._header[name] / 1e7 for name in names)
        _, southmost, _, northmost = limits()
        south, north = max(south, southmost), min(north, northmost)
        highest = self._header["max_zoom"]
        if not (-180 <= west < east <= 180 and south < north and highest <= HIGHEST):
            raise ValueError("its bounds make no sense")
        last = 2**highest - 1
        left, top = (math.floor(v) for v in position(west, north, highest))
        right, bottom = (math.floor(v) for v in position(east, south, highest))
        columns = range(max(left, 0), min(right, last) + 1)
        rows = range(max(top, 0), min(bottom, last) + 1)
        return Pyramid((west, south, east, north), highest, ((columns, rows),))

    def _whole(self, read: Callable[[], T]) -> T:
        """Return what is read, or say that the archive is damaged."""
        try:
            return read()
        except FileNotFoundError as error:
            raise DataError(
                "there is no such file", where=self._where, remedy="Check the name."
            ) from error
        except _DAMAGED as error:
            raise _damaged(self._where) from error
        except Exception as error:
            if type(error).__module__.startswith("pmtiles."):
                raise _damaged(self._where) from error
            raise


def _opened(text: Path | str) -> ArchiveFile:
    return RemoteFile(str(text)) if is_address(text) else LocalFile(Path(text))


def _damaged(where: Path | str) -> DataError:
    return DataError(
        "is damaged, or not a PMTiles archive of version 3",
        where=where,
        remedy="Write it again, for example with `sat2map translate` or `sat2map vectors`.",
    )


def _decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=("PNG", "WEBP", "JPEG")) as image:
        if max(image.size) > 16 * SIDE:
            raise ValueError("a tile is too large")
        return Image.fromarray(np.asarray(image.convert("RGBA"))).resize((SIDE, SIDE))


def _text(told: object) -> str | None:
    return told if isinstance(told, str) and told.strip() else None


def _plain_layers(names: list[str]) -> list[dict[str, Any]]:
    """Return lines for all that an archive of unknown style has."""
    paint = {"line-color": "#c0392b", "line-width": 1.5}
    return [
        {"id": name, "type": "line", "source": "map", "source-layer": name, "paint": paint}
        for name in names
    ]
