"""What a name stands for: a file, an address, a folder of adjoining scenes, a tree of tiles."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from sat2map.data.images import PICTURE_SUFFIXES, TIFF_SUFFIXES, list_pictures
from sat2map.errors import DataError
from sat2map.geo.gdal import is_address, open_dataset
from sat2map.journal import Files, address_without_query
from sat2map.raster.mosaic import mosaic_of
from sat2map.raster.tile_tree import TileTree, find_trees, is_tile_pattern

SCENE_SUFFIXES = TIFF_SUFFIXES | {".vrt", ".jp2", ".j2k", ".img", ".bmp", ".gif", ".ecw", ".sid"}
"""What is a scene in a folder; a single file may be called anything."""

_SUBDATASET = re.compile(r"[A-Z][A-Z0-9_]+:(.+)")

Source = str | Path | TileTree
"""A file, a folder, an address that GDAL reads, or some of a tree's tiles."""


@dataclass(frozen=True)
class Opening:
    """How a scene is opened.

    Attributes:
        where: What messages call it; of an address no more than may be told.
        name: What it is called in the map's tags.
        open: Opens it with GDAL, as often as it is called.
        files: The files that it consists of, as far as they are known.
        folder: Where they are, if they are several.
        remote: Whether it is at an address.
    """

    where: str | Path
    name: str
    open: Callable[[], Any]
    files: tuple[Path, ...] = ()
    folder: Path | None = None
    remote: bool = False


def opening(source: Source) -> Opening:
    """Find out what a name stands for.

    Of a tree with several zooms the finest is taken.

    Raises:
        DataError: There is no such file, or a folder is no mosaic.
    """
    if isinstance(source, TileTree):
        return Opening(source.root, source.name, source.open, source.files(), source.root)
    if is_address(source):
        address = str(source)
        if is_tile_pattern(address) and address.startswith(("http://", "https://")):
            raise DataError(
                "is an address of many tiles, not of one raster",
                where=address_without_query(address),
                remedy="Fetch what you need of them first, with: sat2map data imagery --url.",
            )
        name = PurePosixPath(urlsplit(address).path).name or address
        shown = address_without_query(address)
        return Opening(shown, name, lambda: open_dataset(_for_gdal(address), shown), remote=True)
    path = Path(source)
    trees = find_trees(source)
    if trees:
        return opening(trees[-1])
    if path.is_dir():
        mosaic = mosaic_of(path, scenes_in(path))
        return Opening(path, path.name, mosaic.open, mosaic.files, path)
    held = _file_of_subdataset(source)
    if held is not None:
        return Opening(str(source), str(source), lambda: open_dataset(str(source), held), (held,))
    if not path.is_file():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    name = _in_zip(path) if path.suffix.lower() == ".zip" else str(path)
    return Opening(path, path.name, lambda: open_dataset(name, path), (path,))


def files_of(opening: Opening, dataset: Any) -> list[Path]:
    """Return what a scene consists of, as far as it is known.

    Args:
        opening: How it is opened.
        dataset: It, open.
    """
    known = list(opening.files)
    return known if opening.folder else [*known, *map(Path, dataset.files)]


def fingerprint(opening: Opening, dataset: Any) -> dict[str, Any]:
    """Return what must be the same for a scene to be the same.

    Args:
        opening: How it is opened.
        dataset: It, open.
    """
    files = sorted({file for file in files_of(opening, dataset) if file.is_file()})
    shape = [dataset.width, dataset.height, *map(float, tuple(dataset.transform)[:6])]
    crs = None if dataset.crs is None else dataset.crs.to_string()
    address = str(opening.where) if opening.remote else None
    return {
        "input": Files(tuple(files), opening.folder),
        "shape or place of the input": [*shape, crs, address],
    }


def names_scene(source: str) -> bool:
    """Return whether a name stands for a scene, and not for a model."""
    path = Path(source)
    if is_address(source) or is_tile_pattern(source) or path.is_file():
        return True
    if _file_of_subdataset(source) is not None:
        return True
    if not path.is_dir() or (path / "model.json").exists():
        return False
    return bool(find_trees(path) or list_pictures(path, SCENE_SUFFIXES | PICTURE_SUFFIXES))


def scenes_in(folder: Path) -> list[Path]:
    """Return the files of a folder that may be scenes, in natural order.

    Raises:
        DataError: There are none.
    """
    files = list_pictures(folder, SCENE_SUFFIXES | PICTURE_SUFFIXES)
    if not files:
        raise DataError(
            "has no pictures", where=folder, remedy="Put PNG, JPEG, WebP or TIFF files there."
        )
    return files


def _file_of_subdataset(source: str | Path) -> Path | None:
    """Return the local file that GDAL's name of a raster in it names, such as GPKG:a.gpkg:b."""
    found = _SUBDATASET.fullmatch(str(source))
    if found is None or Path(source).exists():
        return None
    parts = found[1].split(":")
    for start in range(len(parts)):  # GTIFF_DIR:1:a.tif has its number first
        for stop in range(len(parts), start, -1):
            path = Path(":".join(parts[start:stop]).strip('"'))
            if path.is_file():
                return path
    return None


def _in_zip(path: Path) -> str:
    """Return GDAL's name of the one scene in a zip.

    Raises:
        DataError: It holds none, or several.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                name
                for name in archive.namelist()
                if PurePosixPath(name).suffix.lower() in SCENE_SUFFIXES | PICTURE_SUFFIXES
                and not name.startswith("__MACOSX/")
            ]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"cannot be read ({error})", where=path, remedy="Restore it, or give what was in it."
        ) from error
    if len(names) != 1:
        raise DataError(
            f"holds {len(names)} scenes" if names else "holds no scene",
            where=path,
            remedy=f"Unpack it, or name one of them, such as /vsizip/{path.absolute()}/{names[0]}."
            if names
            else "Give a TIFF, or unpack it.",
        )
    return f"/vsizip/{{{path.absolute()}}}/{names[0]}"


def _for_gdal(address: str) -> str:
    return f"/vsicurl/{address}" if address.startswith(("http://", "https://")) else address
