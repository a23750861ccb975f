"""A map on its way, strip by strip from top to bottom, and all of it as one virtual raster.

Every strip is a file of its own, which is on the disk before the next begins: what is finished
survives whatever happens later.
"""

from __future__ import annotations

import errno
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from sat2map.atomic import flush
from sat2map.geo.grid import Grid
from sat2map.legend import Legend
from sat2map.raster.halving import halved_bands, halved_classes

TILE = 512
"""Side of the tiles of a map. Blocks that start at multiples of it are written once; others cost
room and time."""

LEVEL = 3
"""Of deflate: half the time of GDAL's own 6, for a twentieth more room."""

Form = Literal["alpha", "colours", "empty"]
"""How a virtual raster says where there is no map: by an alpha band, or in a map of class numbers
by the number after the last; or, of colours alone, not at all; or nowhere, since it has no map."""


@dataclass(frozen=True)
class Layout:
    """Grid, mask and legend of a map.

    Attributes:
        grid: Its pixels on the ground.
        masked: Whether some of them may hold no map.
        legend: Where its colours are these alone, so that class numbers are stored; else None.
        nodata: What class numbers are where there is no map; None takes the one after the last.
        values: How many bands of values it has, neither colours nor class numbers.
        drawn: Whether large parts of it have one colour, as drawings have and photos have not.
    """

    grid: Grid
    masked: bool
    legend: Legend | None = None
    nodata: int | None = None
    values: int = 0
    drawn: bool = False

    @property
    def is_smooth(self) -> bool:
        """Whether neighbours differ a little everywhere, so that differences take less room."""
        return self.legend is None and not self.drawn and self.values < 2

    @property
    def has_mask(self) -> bool:
        """Whether a mask says which pixels hold no map, and no value of their own."""
        return self.masked and self.nodata is None

    @property
    def compression(self) -> dict[str, object]:
        """What GDAL is told of the map's tiles."""
        blocks = {"tiled": True, "blockxsize": TILE, "blockysize": TILE}
        if self.values > 1:  # which are read band by band, and go again
            return {**blocks, "interleave": "band", "compress": "zstd", "zstd_level": 1}
        return {
            **blocks,
            "interleave": "pixel",
            "compress": "deflate",
            "zlevel": LEVEL,
            "predictor": 2 if self.is_smooth else 1,
        }

    @property
    def bands(self) -> int:
        """Number of bands without the mask."""
        if self.values:
            return self.values
        return 3 if self.legend is None else 1

    @property
    def hidden(self) -> int:
        """What stands where there is no map."""
        if self.nodata is not None:
            return self.nodata
        return 0 if self.legend is None else len(self.legend)


class Strips:
    """The strips of one map, and where they are wanted its overviews.

    An overview is half as large as the level below it, and lies in files of one row of tiles. Such
    a row is made as soon as the strips below it are finished, so that the memory does not depend
    on the map.

    Args:
        folder: Where they are.
        name: What their files are called.
        layout: What the map consists of.
        overviews: Whether there are overviews, down to one that is a single tile.

    Attributes:
        sizes: Height and width of the map, and of each overview.
    """

    def __init__(self, folder: Path, name: str, layout: Layout, *, overviews: bool = False) -> None:
        self.layout = layout
        self.sizes = [(layout.grid.height, layout.grid.width)]
        while overviews and max(self.sizes[-1]) > TILE:
            height, width = self.sizes[-1]
            self.sizes.append(((height + 1) // 2, (width + 1) // 2))
        self._folder = folder
        self._name = name
        self._strip: _TiledFile | None = None
        self._bounds = (0, 0)

    def begin(self, first: int, last: int) -> None:
        """Begin the strip of the map's rows from `first` to before `last`."""
        self._bounds = (first, last)
        self._strip = self._create(0, first, last - first)

    def write(
        self, row: int, column: int, pixels: NDArray[np.uint8], valid: NDArray[np.bool_]
    ) -> None:
        """Write a block of the map's pixels into the strip that was begun.

        Args:
            row: Its first row in the map.
            column: Its first column.
            pixels: Colours, uint8 [h,w,3], class numbers, uint8 [h,w,1], or `values` others.
            valid: Of which pixels there is a map, bool [h,w].
        """
        assert self._strip is not None
        bands = pixels.transpose(2, 0, 1)
        if self.layout.masked and not valid.all():
            bands = np.where(valid, bands, np.uint8(self.layout.hidden))
        self._strip.write(row - self._bounds[0], column, np.ascontiguousarray(bands), valid)

    def finish(self) -> None:
        """End the strip and see to it that it and the overviews so far are on the disk.

        Raises:
            OSError: They are not: GDAL does not always notice when a disk is full.
        """
        assert self._strip is not None
        with self._strip.finish():
            self._make_overviews(*self._bounds)
        self._strip = None

    def adopt(self) -> None:
        """Take what lies in the folder for all strips of the map, and make its overviews.

        Raises:
            OSError: A strip is missing.
        """
        until = 0
        for first, path in self.files(0):
            with rasterio.open(path) as file:
                height = file.height
            if first != until:
                break
            until = first + height
            self._make_overviews(first, until)
        if until != self.sizes[0][0]:
            raise OSError(errno.EIO, f"the strip of the map's row {until} is missing")

    def _make_overviews(self, first: int, last: int) -> None:
        """Make those rows of the overviews that the strip of some rows of the map completes."""
        for level in range(1, len(self.sizes)):
            side = TILE << level
            for row in range(first // side, -(-last // side)):
                # What an earlier, interrupted run made of it is made anew.
                if first < min((row + 1) * side, self.sizes[0][0]) <= last:
                    self._halve(level, row * TILE)

    def abandon(self) -> None:
        """Close whatever is open, whatever its state."""
        if self._strip is not None:
            self._strip.abandon()

    def files(self, level: int) -> list[tuple[int, Path]]:
        """Return the files of the map or of an overview, each with its first row, in order."""
        found = sorted(self._folder.glob(f"{self._stem(level)}-{'[0-9]' * 9}.tif"))
        return [(int(path.stem.rpartition("-")[2]), path) for path in found]

    def _stem(self, level: int) -> str:
        return f"{self._name}.{level}" if level else self._name

    def _create(self, level: int, first: int, height: int) -> _TiledFile:
        path = self._folder / f"{self._stem(level)}-{first:09d}.tif"
        return _TiledFile(path, height, self.sizes[level][1], self.layout)

    def _halve(self, level: int, first: int) -> None:
        """Make one row of tiles of an overview."""
        layout, (height, width) = self.layout, self.sizes[level]
        made = self._create(level, first, min(TILE, height - first))
        try:
            with ExitStack() as stack:
                below = [
                    (top, stack.enter_context(_open_shared(path)))
                    for top, path in self.files(level - 1)
                    if top < 2 * (first + TILE)
                ]
                below = [(top, file) for top, file in below if top + file.height > 2 * first]
                for left in range(0, width, TILE):
                    bands, valid = _read(below, 2 * first, 2 * left, layout.has_mask)
                    if layout.legend is not None:
                        bands = halved_classes(bands[0], layout.hidden)[None]
                        valid = bands[0] != layout.hidden
                    else:
                        bands, valid = halved_bands(bands, valid)
                    made.write(0, left, bands, valid)
            made.finish().close()
        except BaseException:
            made.abandon()
            raise

    def whole(
        self, form: Form, folder: Path | None = None, tags: Mapping[str, str] | None = None
    ) -> Path:
        """Return a virtual raster of all finished strips (GDAL's VRT).

        Args:
            form: How it says where there is no map.
            folder: A new folder for it, with links to the strips: once that is removed, whoever
                reads it fails at the next strip. By default it lies beside the strips.
            tags: What it says of its making.
        """
        path = (folder or self._folder) / f"{self._name}.{form}.vrt"
        path.write_bytes(self._described(form, self._names(folder), tags or {}, self.sizes[0]))
        return path

    def description(self, tags: Mapping[str, str]) -> Path:
        """Return a virtual raster of one empty tile that says all else of the map.

        Args:
            tags: What it says of its making.
        """
        path = self._folder / f"{self._name}.empty.vrt"
        path.write_bytes(self._described("empty", {}, tags, (TILE, TILE)))
        return path

    def _described(
        self,
        form: Form,
        names: Mapping[Path, str],
        tags: Mapping[str, str],
        height_width: tuple[int, int],
    ) -> bytes:
        layout, grid = self.layout, self.layout.grid
        height, width = height_width
        size = {"rasterXSize": str(width), "rasterYSize": str(height)}
        root = Element("VRTDataset", size)
        if grid.points:
            told = "" if grid.crs is None else grid.crs.to_wkt(version="WKT2_2019")
            listed = SubElement(root, "GCPList", Projection=told)
            for number, point in enumerate(grid.points, 1):
                named = zip(("Pixel", "Line", "X", "Y"), map(repr, map(float, point)), strict=True)
                SubElement(listed, "GCP", {"Id": str(number), **dict(named)})
        elif grid.crs is not None:
            SubElement(root, "SRS").text = grid.crs.to_wkt(version="WKT2_2019")
        if grid.georeferenced and not grid.points:
            a, b, c, d, e, f = tuple(grid.transform)[:6]
            numbers = ", ".join(repr(float(value)) for value in (c, a, b, f, d, e))
            SubElement(root, "GeoTransform").text = numbers
        metadata = SubElement(root, "Metadata")
        for key, text in tags.items():
            SubElement(metadata, "MDI", {"key": key}).text = text
        numbered = layout.legend is not None and form != "colours"
        kinds = ["Palette"] if numbered else ["Red", "Green", "Blue"]
        if layout.values:
            kinds = ["Gray", *["Undefined"] * (layout.values - 1)]
        if form == "alpha" and layout.masked and not numbered:
            kinds.append("Alpha")
        for number, kind in enumerate(kinds, 1):
            band = SubElement(root, "VRTRasterBand", {"dataType": "Byte", "band": str(number)})
            if numbered and (form == "alpha" or layout.nodata is not None):
                SubElement(band, "NoDataValue").text = str(layout.hidden)
            SubElement(band, "ColorInterp").text = kind
            if numbered and layout.legend is not None:
                _colour_table(band, layout.legend, layout.hidden)
            if layout.legend is not None and not numbered:
                painted = [*layout.legend.colours[:, number - 1].tolist(), 0]
                self._sources(band, names, "1", painted)
            else:
                self._sources(band, names, "mask,1" if kind == "Alpha" else str(number))
        written: bytes = tostring(root)
        return written

    def _names(self, folder: Path | None) -> dict[Path, str]:
        """Return what a virtual raster calls the strips, from top to bottom."""
        strips = [path for _, path in self.files(0)]
        if folder is not None:
            folder.mkdir()
            try:
                for path in strips:
                    (folder / path.name).hardlink_to(path)
            except OSError:  # some drives have no links
                return {path: str(path.absolute()) for path in strips}
        return {path: path.name for path in strips}

    def _sources(
        self,
        band: Element,
        names: Mapping[Path, str],
        number: str,
        painted: list[int] | None = None,
    ) -> None:
        width = self.layout.grid.width
        for path, name in names.items():
            first = int(path.stem.rpartition("-")[2])
            with rasterio.open(path) as file:
                height = file.height
            source = SubElement(band, "SimpleSource" if painted is None else "ComplexSource")
            SubElement(source, "SourceFilename", {"relativeToVRT": "1"}).text = name
            SubElement(source, "SourceBand").text = number
            extent = {"xOff": "0", "xSize": str(width), "ySize": str(height)}
            SubElement(source, "SrcRect", extent | {"yOff": "0"})
            SubElement(source, "DstRect", extent | {"yOff": str(first)})
            if painted is not None:
                table = ",".join(f"{value}:{shown}" for value, shown in enumerate(painted))
                SubElement(source, "LUT").text = table


def _colour_table(band: Element, legend: Legend, last: int) -> None:
    """Add the colours of a legend, and transparent ones after them up to a number."""
    table = SubElement(band, "ColorTable")
    opaque = [(*entry.colour, 255) for entry in legend.classes]
    for *colour, alpha in opaque + [(0, 0, 0, 0)] * (last + 1 - len(opaque)):
        names = dict(zip(("c1", "c2", "c3"), map(str, colour), strict=True))
        SubElement(table, "Entry", names | {"c4": str(alpha)})


class _TiledFile:
    """A file of some rows of a map or of an overview, in the tiles that the whole will have.

    Args:
        path: The file.
        height: Its rows.
        width: Its columns.
        layout: What it consists of.
    """

    def __init__(self, path: Path, height: int, width: int, layout: Layout) -> None:
        self._path = path
        self._has_mask = layout.has_mask
        self._written: list[tuple[Window, int]] = []
        path.unlink(missing_ok=True)  # GDAL looks into what it is to replace, whole or not
        self._dataset: Any = rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=layout.bands,
            dtype="uint8",
            # A place of no meaning, or rasterio would warn that there is none: the whole has it.
            transform=Affine(1, 0, 0, 0, -1, 1),
            bigtiff="if_safer",
            **layout.compression,
        )

    def write(
        self,
        row: int,
        column: int,
        bands: NDArray[np.uint8],
        valid: NDArray[np.bool_] | None,
    ) -> None:
        """Write a block, uint8 [B,h,w], and where it is valid, bool [h,w]."""
        window = Window(column, row, *bands.shape[:0:-1])
        self._dataset.write(bands, window=window)
        check = zlib.crc32(bands.data)
        if self._has_mask:
            assert valid is not None
            mask = valid.astype(np.uint8) * np.uint8(255)
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                self._dataset.write_mask(mask, window=window)
            check = zlib.crc32(mask.data, check)
        self._written.append((window, check))

    def finish(self) -> Any:
        """Close the file, see to it that it is on the disk, whole, and return it open for reading.

        What was read by then need not be decompressed again by the thread's `_open_shared`.
        """
        self._dataset.close()
        self._dataset = None
        with ExitStack() as stack:
            file = stack.enter_context(_open_shared(self._path))
            for window, expected in self._written:
                check = zlib.crc32(file.read(window=window).data)
                if self._has_mask:
                    check = zlib.crc32(file.read_masks(1, window=window).data, check)
                if check != expected:
                    raise OSError(errno.EIO, "what was written cannot be read back")
            flush(self._path)
            stack.pop_all()
            return file

    def abandon(self) -> None:
        """Close the file, whatever its state."""
        if self._dataset is not None:
            try:
                self._dataset.close()
            except (RasterioError, CPLE_BaseError):
                logging.getLogger(__name__).debug("an abandoned strip did not close")


def _open_shared(path: Path) -> Any:
    """Open a file, or share it with who has it open in this thread, with its tiles in memory."""
    return rasterio.open(path, sharing=True)


def _read(
    files: list[tuple[int, Any]], row: int, column: int, has_mask: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Read two tiles by two that are spread over files, as far as these go.

    Args:
        files: Each with its first row.
        row: First row.
        column: First column.
        has_mask: Whether they say which pixels are valid.

    Returns:
        uint8 [B,h,w], and bool [h,w] or None.
    """
    bands, masks = [], []
    for top, file in files:
        start, stop = max(row - top, 0), min(row + 2 * TILE - top, file.height)
        wide = min(2 * TILE, file.width - column)
        window = Window(column, start, wide, stop - start)
        bands.append(file.read(window=window))
        if has_mask:
            masks.append(file.read_masks(1, window=window) > 0)
    return np.concatenate(bands, 1), np.concatenate(masks) if has_mask else None


@contextmanager
def writing() -> Iterator[None]:
    """Turn what GDAL says of a file that it cannot write into an `OSError`."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        detail: BaseException = error
        while detail.__cause__ is not None:
            detail = detail.__cause__
        raise OSError(errno.EIO, str(detail).splitlines()[0]) from error
