"""Which files a scene may name, where whoever made it may not be whoever serves it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from sat2map.errors import DataError
from sat2map.raster.sources import Source

_NAMING = frozenset({"SourceFilename", "SourceDataset"})
"""Elements of a virtual raster that name what it is made of."""

_REMEDY = (
    "If you know who made it, give `trust_vrt=True`; or make a file of it first: gdal_translate "
    "-of COG OLD.vrt NEW.tif."
)

_FAR_DRIVERS = frozenset({"WMS", "WMTS", "WCS", "GTI", "STACTA", "STACIT", "OGCAPI", "PLMosaic"})
"""Drivers of GDAL for files that name others, or addresses."""

_DEEPEST = 8
"""Virtual rasters in virtual rasters."""


def refuse_foreign(source: Source, *, trusted: bool) -> None:
    """Refuse a virtual raster that names what lies outside of its own folder, or an address.

    Whoever can put one where a server looks could otherwise have any file that the server may
    read, or any address that it reaches, shown to everybody.

    Raises:
        DataError: It does, or it cannot be told.
    """
    if trusted or not isinstance(source.where, Path) or source.kind != "scene":
        return
    with source.open() as dataset:
        driver = dataset.driver
    if driver in _FAR_DRIVERS:
        raise DataError(
            f"names other files or addresses (GDAL's driver {driver})",
            where=source.where,
            remedy=_REMEDY,
        )
    if driver == "VRT":
        _check_virtual(source.where, source.where.resolve().parent, source.where, 0)


def _check_virtual(path: Path, folder: Path, where: Path, depth: int) -> None:
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text or depth > _DEEPEST:
            raise ElementTree.ParseError("it has a document type, or is too deep")
        root = ElementTree.fromstring(text)
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(
            f"cannot be looked through ({error})", where=where, remedy=_REMEDY
        ) from error
    for element in root.iter():
        if element.tag not in _NAMING:
            continue
        name = (element.text or "").strip()
        told = element.get("relativeToVRT", element.get("relativetoVRT", "0"))
        place = path.parent / name if told == "1" else Path(name)
        inside = (
            re.match(r"/vsi|[A-Za-z][A-Za-z0-9_+.-]+:|<", name) is None
            and place.is_file()
            and place.resolve().is_relative_to(folder)
        )
        if not inside:
            raise DataError(
                f"names {_shown(name)}, which is not a file of its own folder",
                where=where,
                remedy=_REMEDY,
            )
        with place.open("rb") as file:
            begins = file.read(1024).lstrip()
        if begins.startswith(b"<"):
            _check_virtual(place, folder, where, depth + 1)


def _shown(name: str) -> str:
    """Return a name for a message: short, and without the keys of an address."""
    bare = name.partition("?")[0]
    return repr(bare if len(bare) <= 100 else bare[:100] + "...")
