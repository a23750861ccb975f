"""A map on its way, strip by strip from top to bottom, and all of it as one virtual raster.

Every strip is a file of its own, which is on the disk before the next begins: what is finished
survives whatever happens later.
"""

from __future__ import annotations

import errno
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

TILE = 256
"""Blocks that start at multiples of this are written once; others cost room and time."""

Form = Literal["mask", "alpha", "colours"]
"""How a virtual raster says where there is no map: by a mask; by an alpha band, or in a map of
class numbers by the number after the last; or, of colours alone, not at all."""


@dataclass(frozen=True)
class Layout:
    """Grid, mask and legend of a map.

    Attributes:
        grid: Its pixels on the ground.
        masked: Whether some of them may hold no map.
        legend: Where its colours are these alone, so that class numbers are stored; else None.
        nodata: What class numbers are where there is no map; None takes the one after the last.
        grey: Whether it has one band of values, neither colours nor class numbers.
        drawn: Whether large parts of it have one colour, as drawings have and photos have not.
    """

    grid: Grid
    masked: bool
    legend: Legend | None = None
    nodata: int | None = None
    grey: bool = False
    drawn: bool = False

    @property
    def is_smooth(self) -> bool:
        """Whether neighbours differ a little everywhere, so that differences take less room."""
        return self.legend is None and not self.drawn

    @property
    def bands(self) -> int:
        """Number of bands without the alpha band."""
        return 3 if self.legend is None and not self.grey else 1

    @property
    def hidden(self) -> int:
        """What stands where there is no map."""
        if self.nodata is not None:
            return self.nodata
        return 0 if self.legend is None else len(self.legend)


class Strips:
    """The strips of one map.

    Args:
        folder: Where they are.
        name: What their files are called.
        layout: What the map consists of.
    """

    def __init__(self, folder: Path, name: str, layout: Layout) -> None:
        self.layout = layout
        self._folder = folder
        self._name = name
        self._dataset: Any = None
        self._first = 0
        self._written: list[tuple[Window, int]] = []

    def begin(self, first: int, last: int) -> None:
        """Begin the strip of the map's rows from `first` to before `last`."""
        layout = self.layout
        self._first, self._written = first, []
        path = self._path(first)
        path.unlink(missing_ok=True)  # GDAL looks into what it is to replace, whole or not
        self._dataset = rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=layout.grid.width,
            height=last - first,
            count=layout.bands + layout.masked,
            dtype="uint8",
            # A place of no meaning, or rasterio would warn that there is none: the whole has it.
            transform=Affine(1, 0, 0, 0, -1, 1),
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            # Fast, and hardly larger than what takes four times as long.
            compress="zstd",
            zstd_level=1,
            predictor=2 if layout.is_smooth else 1,
            bigtiff="if_safer",
        )

    def write(
        self, row: int, column: int, pixels: NDArray[np.uint8], valid: NDArray[np.bool_]
    ) -> None:
        """Write a block of the map's pixels into the strip that was begun.

        Args:
            row: Its first row in the map.
            column: Its first column.
            pixels: Colours, uint8 [h,w,3], or class numbers or other values, uint8 [h,w,1].
            valid: Of which pixels there is a map, bool [h,w].
        """
        layout = self.layout
        height, width, _ = pixels.shape
        window = Window(column, row - self._first, width, height)
        bands = pixels.transpose(2, 0, 1)
        if layout.masked:
            hidden = np.uint8(layout.hidden)
            opaque = valid.astype(np.uint8) * np.uint8(255)
            bands = np.concatenate([np.where(valid, bands, hidden), opaque[None]])
        bands = np.ascontiguousarray(bands)
        self._dataset.write(bands, window=window)
        self._written.append((window, zlib.crc32(bands.data)))

    def finish(self) -> None:
        """End the strip and see to it that it is on the disk.

        Raises:
            OSError: It is not: GDAL does not always notice when a disk is full.
        """
        self._dataset.close()
        self._dataset = None
        path = self._path(self._first)
        with rasterio.open(path) as file:
            for window, expected in self._written:
                if zlib.crc32(np.ascontiguousarray(file.read(window=window)).data) != expected:
                    raise OSError(errno.EIO, "what was written cannot be read back")
        flush(path)

    def abandon(self) -> None:
        """Close whatever is open, whatever its state."""
        if self._dataset is not None:
            try:
                self._dataset.close()
            except (RasterioError, CPLE_BaseError):
                logging.getLogger(__name__).debug("an abandoned strip did not close")

    def whole(
        self, form: Form, tags: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Path:
        """Return a virtual raster of all finished strips (GDAL's VRT).

        Args:
            form: How it says where there is no map.
            tags: What it says of its making.
            folder: A new folder for it, with links to the strips: once that is removed, whoever
                reads it fails at the next strip. By default it lies beside the strips.
        """
        names = self._names(folder)
        layout, grid = self.layout, self.layout.grid
        size = {"rasterXSize": str(grid.width), "rasterYSize": str(grid.height)}
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
        for key, text in (tags or {}).items():
            SubElement(metadata, "MDI", {"key": key}).text = text
        numbered = layout.legend is not None and form != "colours"
        kinds = ["Palette"] if numbered else ["Red", "Green", "Blue"]
        if layout.grey:
            kinds = ["Gray"]
        if form == "alpha" and layout.masked and not numbered:
            kinds.append("Alpha")
        for number, kind in enumerate(kinds, 1):
            band = SubElement(root, "VRTRasterBand", {"dataType": "Byte", "band": str(number)})
            if numbered and form == "alpha":
                SubElement(band, "NoDataValue").text = str(layout.hidden)
            SubElement(band, "ColorInterp").text = kind
            if numbered and layout.legend is not None:
                _colour_table(band, layout.legend, layout.hidden)
            if layout.legend is not None and not numbered:
                painted = [*layout.legend.colours[:, number - 1].tolist(), 0]
                self._sources(band, names, 1, painted)
            else:
                self._sources(band, names, number)
        if form == "mask" and layout.masked:
            inside = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", {"dataType": "Byte"})
            self._sources(inside, names, layout.bands + 1)
        path = (folder or self._folder) / f"{self._name}.{form}.vrt"
        path.write_bytes(tostring(root))
        return path

    def _path(self, first: int) -> Path:
        return self._folder / f"{self._name}-{first:09d}.tif"

    def _names(self, folder: Path | None) -> dict[Path, str]:
        """Return what a virtual raster calls the strips, from top to bottom."""
        strips = sorted(self._folder.glob(f"{self._name}-{'[0-9]' * 9}.tif"))
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
        number: int,
        painted: list[int] | None = None,
    ) -> None:
        width = self.layout.grid.width
        for path, name in names.items():
            first = int(path.stem.rpartition("-")[2])
            with rasterio.open(path) as file:
                height = file.height
            source = SubElement(band, "SimpleSource" if painted is None else "ComplexSource")
            SubElement(source, "SourceFilename", {"relativeToVRT": "1"}).text = name
            SubElement(source, "SourceBand").text = str(number)
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
