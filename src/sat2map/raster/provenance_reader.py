"""Reading from any output what it was made of and how; see `provenance.py`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError, fromstring

from sat2map.data.images import DESCRIPTION
from sat2map.data.pillow import opened_image
from sat2map.errors import parsed_json
from sat2map.geo.vector_layer import require
from sat2map.provenance import KEY, TAG, Provenance
from sat2map.raster.tile_archives import pmtiles_order

_HEAD = 1 << 20
"""Bytes at the beginning of a GeoJSON in which its provenance stands."""


def read_provenance(path: Path) -> Provenance | None:
    """Return what a file, or a folder of tiles, says of its making; None where it says nothing.

    Raises:
        DataError: What it says is damaged.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return _of_document(_json_of(path / "tiles.json"), path)
    if not path.is_file():
        return None
    match suffix:
        case ".tif" | ".tiff":
            return Provenance.from_text(_tag_of(path), path)
        case ".png":
            return Provenance.from_text(_text_of(path), path)
        case ".jpg" | ".jpeg" | ".webp":
            return Provenance.from_text(_description_of(path), path)
        case ".gpkg":
            return Provenance.from_text(_metadata_of(path), path)
        case ".fgb":
            return Provenance.from_text(_header_of(path), path)
        case ".mbtiles":
            return Provenance.from_text(_row_of(path), path)
        case ".pmtiles":
            return _of_document(_archive_metadata(path), path)
        case ".geojson":
            return _of_document(_head_of(path), path)
        case ".parquet":
            return Provenance.from_text(_file_metadata(path), path)
    return None


def _of_document(told: object, where: Path) -> Provenance | None:
    if not isinstance(told, dict) or KEY not in told:
        return None
    return Provenance.from_json(told[KEY], where)


def _json_of(path: Path) -> object:
    try:
        return parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tag_of(path: Path) -> str | None:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as file:
            text: str | None = file.tags().get(TAG)
    except RasterioError:
        return None
    return text


def _text_of(path: Path) -> str | None:
    """Return what stands before the pixels of a PNG."""
    try:
        with opened_image(path, ["PNG"]) as image:
            text = image.info.get(TAG)
    except (OSError, ValueError):  # ValueError: texts of many megabytes
        return None
    return None if text is None else str(text)


def _description_of(path: Path) -> str | None:
    """Return what EXIF's description of a JPEG or a WebP says."""
    try:
        with opened_image(path, ["JPEG", "WEBP"]) as image:
            text = str(image.getexif().get(DESCRIPTION))
    except (OSError, ValueError, SyntaxError):
        return None
    return text.removeprefix(f"{TAG}=") if text.startswith(f"{TAG}=") else None


def _metadata_of(path: Path) -> str | None:
    """Return what GDAL calls metadata of a layer of a GeoPackage."""
    for (text,) in _rows(path, "select metadata from gpkg_metadata where mime_type = 'text/xml'"):
        try:
            items = fromstring(text).iter("MDI")
        except ParseError:
            continue
        for item in items:
            if item.get("key") == TAG:
                return item.text
    return None


def _header_of(path: Path) -> str | None:
    """Return the same of a FlatGeobuf."""
    require("pyogrio", "vectors")
    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        told = pyogrio.read_info(path)["layer_metadata"] or {}
    except DataSourceError:
        return None
    text: str | None = told.get(TAG)
    return text


def _row_of(path: Path) -> str | None:
    rows = _rows(path, f"select value from metadata where name = '{KEY}'")
    return str(rows[0][0]) if rows else None


def _rows(path: Path, query: str) -> list[tuple[str, ...]]:
    """Return what a file of SQLite answers, nothing where it is none or has no such table."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()
    except sqlite3.DatabaseError:
        return []


def _archive_metadata(path: Path) -> object:
    pmtiles_order()  # says what is not installed
    from pmtiles import reader

    untyped: Any = reader
    try:
        with path.open("rb") as file:
            return untyped.Reader(untyped.MmapSource(file)).metadata()
    except Exception:  # the package has no error of its own for what is no archive
        return None


def _head_of(path: Path) -> object:
    """Return the document of a GeoJSON's provenance, which stands before its features."""
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", errors="replace")
    place = head.partition('"features"')[0].find(f'"{KEY}": ')
    if place < 0:
        return None
    try:
        told, _ = json.JSONDecoder().raw_decode(head, place + len(f'"{KEY}": '))
    except (ValueError, RecursionError):
        told = None
    return {KEY: told}


def _file_metadata(path: Path) -> bytes | None:
    require("pyarrow", "vectors")
    from pyarrow import ArrowException, parquet

    try:
        told = parquet.read_metadata(path).metadata or {}
    except (ArrowException, OSError):
        return None
    text: bytes | None = told.get(KEY.encode())
    return text
