"""What a name stands for: found out once, by `open_source`, and handed on as a `Source`.

scene      a raster in a file, translated in windows: TIFF, VRT, JPEG 2000, one in a zip or in a
           GeoPackage, an image with a world file
image      a PNG, JPEG or WebP without coordinates, translated as a whole
folder     files that are translated one by one, or together as one mosaic
mosaic     the adjoining scenes of a folder, read as one
tile tree  {z}/{x}/{y}.png, of which the finest zoom is read
address    a raster elsewhere that GDAL reads: https://, /vsicurl/, s3://
"""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from rasterio.crs import CRS

from sat2map.arguments import checks_arguments
from sat2map.closing import Closing
from sat2map.data.images import READ_SUFFIXES, TIFF_SUFFIXES, list_images, refuse_special
from sat2map.errors import DataError, UsageError, expect
from sat2map.geo.gdal import is_address, open_dataset
from sat2map.geo.grid import Grid
from sat2map.journal import Files, address_without_query
from sat2map.provenance import Digests, fingerprint_files, fingerprint_json
from sat2map.raster.band_files import colours_vrt, find_colours
from sat2map.raster.georeference import crs_beside, grid_of, points_file
from sat2map.raster.mosaic import mosaic_vrt
from sat2map.raster.tile_tree import TileLevel, find_levels, is_tile_pattern

SCENE_SUFFIXES = TIFF_SUFFIXES | {".vrt", ".jp2", ".j2k", ".img", ".bmp", ".gif", ".ecw", ".sid"}
"""What is a scene in a folder; a single file may be called anything."""

_SUBDATASET = re.compile(r"[A-Z][A-Z0-9_]+:(.+)")

Kind = Literal["scene", "image", "folder", "mosaic", "tile tree", "address"]


@dataclass(frozen=True)
class Source(Closing):
    """An input that was found by its name; `open_source` makes it.

    To find that out, GDAL opens a raster once. The first call of `open` takes what was opened;
    where none comes, leaving a `with` statement closes it. Other processes may be handed a
    source: they open it anew.

    Attributes:
        kind: What it is.
        where: What messages call it; of an address no more than may be told.
        name: What it is called in the map's tags.
        opened_as: What GDAL is told to open; empty for a folder and a tile tree.
        files: The files that it consists of, as far as they are known; of a tile tree those of
            the finest zoom.
        folder: Where they are, if they are several.
        grid: The grid of all of its pixels; None of a folder, and of an image that GDAL cannot
            open.
        levels: The zooms of a tile tree, from coarse to fine.
        beside: Whether what says where it lies stands beside an address.
        crs: The coordinate reference system that stands there, if one does.
        is_laid: Whether its files are red, green and blue, laid together.
    """

    kind: Kind
    where: str | Path
    name: str
    opened_as: str = field(default="", repr=False)  # a signed address holds a key
    files: tuple[Path, ...] = ()
    folder: Path | None = None
    grid: Grid | None = None
    levels: tuple[TileLevel, ...] = ()
    is_laid: bool = False
    beside: bool = False
    crs: CRS | None = None
    # Of its files, which are read once for all fingerprints.
    digests: Digests = field(default_factory=Digests, repr=False, compare=False)
    _opened: list[Any] = field(default_factory=list, repr=False, compare=False)

    def open(self) -> Any:
        """Open it with GDAL as one raster, once more with every call.

        Raises:
            DataError: It cannot be opened, or it is a folder of files that do not adjoin.
        """
        if self.levels:
            return self.levels[-1].open()
        if self.kind == "folder":
            return self.as_scene().open()
        with suppress(IndexError):
            return self._opened.pop()
        return open_dataset(self.opened_as, self.where, beside=self.beside)

    def as_scene(
        self,
        nodata: tuple[float, ...] | None = None,
        bands: tuple[int, ...] | None = None,
    ) -> Source:
        """Return what is read where one scene is meant: of a folder the mosaic of its files.

        Where the files are the bands of one scene, its red, green and blue are laid together.

        Args:
            nodata: What stands in the files where nothing is, in place of what they say. What lies
                below shows there.
            bands: The numbers of those that are read, or None.

        Raises:
            DataError: The files of a folder do not go together.
        """
        if self.kind != "folder" and (self.kind != "mosaic" or nodata is None or self.is_laid):
            return self
        self.close()
        colours = find_colours(self.files)
        vrt = mosaic_vrt(self.files, nodata, bands) if colours is None else colours_vrt(colours)
        files = self.files if colours is None else colours
        made = _looked_at("mosaic", self.where, self.name, vrt, files, self.folder)
        return replace(made, is_laid=colours is not None, digests=self.digests)

    @property
    def is_georeferenced(self) -> bool:
        """Whether its pixels have coordinates."""
        return self.grid is not None and self.grid.georeferenced

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be the same for a scene or an image to be the same."""
        there = tuple(sorted({file for file in self.files if file.is_file()}))
        known: list[Any] = []
        if self.grid is not None:
            crs = None if self.grid.crs is None else self.grid.crs.to_string()
            place = map(float, tuple(self.grid.transform)[:6])
            known = [self.grid.width, self.grid.height, *place, crs]
        known.append(str(self.where) if self.kind == "address" else None)
        return {
            "input": Files(there, self.folder, digests=self.digests),
            "shape or place of the input": known,
        }

    def content_fingerprint(self) -> str:
        """Return what changes with the contents of its files, not with their names or times.

        Of an address, whose contents only reading tells, it is of the address and its grid.
        """
        there = sorted({file for file in self.files if file.is_file()})
        if there:
            return fingerprint_files(there, self.digests)
        size = None if self.grid is None else [self.grid.width, self.grid.height]
        return fingerprint_json([str(self.where), size])

    @contextmanager
    def read_ahead(self) -> Iterator[None]:
        """Read what fingerprints are made of in another thread; at the end nothing more is read."""
        ended = threading.Event()

        def read() -> None:
            for file in self.files:
                if ended.is_set():
                    return
                fingerprint_files([file], self.digests)

        thread = threading.Thread(target=read, name="sat2map-fingerprint")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """Close what was opened to look at it, if nobody has taken it."""
        while self._opened:
            self._opened.pop().close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": []}


@checks_arguments
def open_source(text: str | Path | Source) -> Source:
    """Find out what a name stands for.

    Args:
        text: A file, a folder, an address, a tree of tiles, FOLDER or FOLDER/{z}/{x}/{y}.png,
            in which the zoom may be a number, GDAL's name of a raster in a file, such as
            GPKG:FILE:NAME; or what this function returned.

    Raises:
        DataError: There is no such file or no such tiles, a folder has no images, or what is
            there is not a raster.
        UsageError: The name is empty.
    """
    if isinstance(text, Source):
        return text
    expect(text, (str, Path), "source", "Name a file, a folder or an address.")
    if str(text) == "":
        raise UsageError(
            "has no name", parameter="source", remedy="Name a scene, an image or a folder."
        )
    if is_address(text):
        return _open_address(str(text))
    levels = find_levels(text)
    if levels:
        return tile_tree(levels)
    path = Path(text)
    held = _file_of_subdataset(text)
    if held is not None:
        return _looked_at("scene", str(text), str(text), str(text), (held,))
    if not path.is_dir():
        return open_file(path)
    files = list_images(path, SCENE_SUFFIXES | READ_SUFFIXES)
    if not files:
        raise DataError(
            "has no images", where=path, remedy="Put PNG, JPEG, WebP or TIFF files there."
        )
    return Source("folder", path, path.name, files=tuple(files), folder=path)


def open_file(path: Path) -> Source:
    """Find out what a single file is: a scene or an image.

    An image that GDAL cannot open is one all the same: what is wrong with it, its reader says
    better.

    Raises:
        DataError: There is no such file, or it is not a raster.
    """
    if not path.is_file():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    opened_as = _in_zip(path) if path.suffix.lower() == ".zip" else str(path)
    may_be_image = path.suffix.lower() in READ_SUFFIXES - TIFF_SUFFIXES
    try:
        source = _looked_at("scene", path, path.name, opened_as)
    except DataError:
        if not may_be_image:
            refuse_special(path)
            raise
        return Source("image", path, path.name, str(path), (path,))
    if may_be_image and not source.is_georeferenced:
        return replace(source, kind="image", files=(path,))
    return source


def tile_tree(levels: list[TileLevel]) -> Source:
    """Return a tile tree of some zooms, from coarse to fine, at least one."""
    finest = levels[-1]
    return Source(
        "tile tree",
        finest.root,
        finest.root.name,
        files=finest.files(),
        folder=finest.root,
        grid=finest.grid,
        levels=tuple(levels),
    )


def _open_address(address: str) -> Source:
    if is_tile_pattern(address) and address.startswith(("http://", "https://")):
        raise DataError(
            "is an address of many tiles, not of one raster",
            where=address_without_query(address),
            remedy="Fetch what you need of them first, with `sat2map data imagery`.",
        )
    name = PurePosixPath(urlsplit(address).path).name or address
    opened_as = f"/vsicurl/{address}" if address.startswith(("http://", "https://")) else address
    found = _looked_at("address", address_without_query(address), name, opened_as)
    if re.match(r"/vsicurl/https?://[^?]*$", opened_as) is None or found.grid is None:
        return found  # what is signed is signed for itself alone
    if not found.is_georeferenced:
        found.close()
        found = _looked_at("address", found.where, name, opened_as, beside=True)
    if found.is_georeferenced and found.grid is not None and found.grid.crs is None:
        crs = crs_beside(opened_as.removeprefix("/vsicurl/"))
        found = replace(found, crs=crs, grid=replace(found.grid, crs=crs))
    return found


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
                if PurePosixPath(name).suffix.lower() in SCENE_SUFFIXES | READ_SUFFIXES
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


def _looked_at(
    kind: Kind,
    where: str | Path,
    name: str,
    opened_as: str,
    files: tuple[Path, ...] = (),
    folder: Path | None = None,
    *,
    beside: bool = False,
) -> Source:
    """Open a raster to find out its grid and, unless they are known, its files."""
    dataset = open_dataset(opened_as, where, beside=beside)
    if dataset.driver == "VRT":
        _refuse_gaps(dataset, where)
    if not files:
        named = dict.fromkeys([*([where] if isinstance(where, Path) else []), *dataset.files])
        points = points_file(dataset)
        named |= {} if points is None else {str(points): None}
        files = tuple(file for file in map(Path, named) if file.is_file())
    grid = grid_of(dataset)
    return Source(
        kind, where, name, opened_as, files, folder, grid, beside=beside, _opened=[dataset]
    )


def _refuse_gaps(dataset: Any, where: str | Path) -> None:
    """Refuse a virtual raster of files that have gone; GDAL may read black in their place.

    Raises:
        DataError: One has gone.
    """
    for name in dataset.files:
        if name.startswith(("/vsi", "<")) or "://" in name:
            continue  # not a file, or a virtual raster in a virtual raster
        if not Path(name).exists():
            dataset.close()
            raise DataError(
                f"is made of {name}, which is not there",
                where=where,
                remedy="Restore that file, or make the virtual raster anew.",
            )
