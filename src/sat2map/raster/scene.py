"""Scenes: whatever GDAL opens as one raster, read in windows as 8-bit pixels and a mask."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from sat2map.closing import Closing
from sat2map.data.colour_profile import ColourProfile
from sat2map.data.images import (
    READ_SUFFIXES,
    describe_left_out,
    in_bands,
    other_files,
    profile_of,
)
from sat2map.errors import DataError
from sat2map.geo.gdal import reading_from, sizes_of, with_retries
from sat2map.geo.grid import window_of
from sat2map.raster.bands import choose_bands
from sat2map.raster.georeference import grid_of, named_crs, placed, stored, world_files
from sat2map.raster.nodata import find_collar, words
from sat2map.raster.options import Reading
from sat2map.raster.overviews import are_means
from sat2map.raster.sources import SCENE_SUFFIXES, Source, open_source
from sat2map.raster.value_range import find_value_range
from sat2map.raster.values import Found, Values

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Scene(Closing):
    """An open raster, or the part of it that is meant, at its own resolution.

    Use it in a `with` statement, and in one thread at a time.

    Args:
        source: A file, an address, a folder of adjoining scenes, or a tree of tiles; or what
            `open_source` found it to be.
        wanted: How many bands the model takes.
        reading: How to read.
        say: Called with each notice.

    Attributes:
        source: What it is.
        dataset: What rasterio opened.
        bands: Numbers of the bands that are read, from 1.
        grid: The part's grid.
        masked: Whether there may be pixels without values.
        value_range: Per band what becomes 0 and 255, float64 [C,2], falling where white is the
            least; None leaves values alone.

    Raises:
        DataError: The file cannot be read, or has no such bands.
        UsageError: `reading` does not fit the scene.
    """

    def __init__(
        self,
        source: str | Path | Source,
        wanted: int,
        reading: Reading | None = None,
        *,
        say: Callable[[str], object] = logger.warning,
    ) -> None:
        reading = reading or Reading()
        self.source = open_source(source).as_scene(reading.nodata, reading.bands)
        self._where = self.source.where
        if self.source.is_laid:
            names = ", ".join(file.name for file in self.source.files)
            say(f"{self._where}: bands in files of their own; {names} are red, green and blue.")
        if self.source.kind == "mosaic" and self.source.folder is not None:
            others = other_files(self.source.folder, SCENE_SUFFIXES | READ_SUFFIXES)
            if others:
                say(describe_left_out(self.source.folder, others))
        self._sizes = sizes_of(self.source.files)
        self._say = say
        self._crs = self.source.crs if reading.crs is None else named_crs(reading.crs)
        self._warp = reading.warp or reading.bbox is not None
        self.dataset: Any = self._open(say)
        try:
            with reading_from(self._where):
                self._prepare(wanted, reading)
        except BaseException:
            self.dataset.close()
            raise

    def opened_again(self) -> Scene:
        """Return the same scene with a handle of its own, for another thread."""
        again = copy.copy(self)
        again.dataset = self._open()
        return again

    def _open(self, say: Callable[[str], object] = logger.debug) -> Any:
        dataset = self.source.open()
        with reading_from(self._where):
            return placed(dataset, self._crs, self._where, say, warp=self._warp)

    def close(self) -> None:
        """Close the raster."""
        self.dataset.close()

    def _prepare(self, wanted: int, reading: Reading) -> None:
        dataset = self.dataset
        if any("complex" in kind for kind in dataset.dtypes):
            raise DataError(
                "holds complex numbers", where=self._where, remedy="Give amplitudes instead."
            )
        pages = len(dataset.subdatasets) if dataset.driver == "GTiff" else 0
        if pages > 1:
            self._say(
                f"{self._where}: holds {pages} images, of which the first is read. Another one is "
                f"called GTIFF_DIR:2:{self._where}."
            )
        whole = grid_of(dataset, self._crs)
        if not whole.georeferenced:
            for file in world_files(self.source.files):
                self._say(
                    f"{self._where}: {file.name} does not say where it lies: a world file has six "
                    "numbers, with points and not commas, for pixels in rows and columns."
                )
        self._wanted = wanted
        self._bands = choose_bands(dataset, self.source, wanted, reading.bands, self._say)
        self.bands = self._bands.numbers
        self._values = Values(dataset, self._bands, self.source, reading.nodata)
        self.masked = self._values.masked
        structure = stored(dataset).tags(ns="IMAGE_STRUCTURE")
        if structure.get("SOURCE_COLOR_SPACE", "").endswith("LAB"):
            self._say(
                f"{self._where}: holds colours of CIELAB, which are turned into RGB roughly. "
                "Convert it with a program that knows colour profiles, if its map looks wrong."
            )
        self._own_means = False  # until overviews were looked at that are no means
        self._are_means: dict[int, bool] = {}  # by factor, of overviews that were looked at
        self._top, self._left = 0, 0
        self.grid = whole
        if reading.bbox is not None:
            top, left, height, width = window_of(whole, reading.bbox, self._where)
            self._top, self._left = top, left
            self.grid = whole.part(top, left, height, width)
        self.value_range = find_value_range(dataset, self._values, reading, self.sample, self._say)
        self._profile = self._find_profile(reading)
        if self._bands.palette is None:
            self._notice_collar()

    def _notice_collar(self) -> None:
        """Say so where a value that nobody calls nodata fills the border."""
        distinct = self._bands.distinct
        nodata = [self._values.nodata[band] for band in distinct]

        def shown(window: Window) -> bool:
            if self._bands.alpha is not None:
                return bool(self.dataset.read([self._bands.alpha], window=window).all())
            if self._values.has_mask:
                return bool(self.dataset.read_masks(self.bands[0], window=window).all())
            return True

        try:
            found = find_collar(
                self.dataset, distinct, nodata, shown, few=self.source.kind == "address"
            )
        except (RasterioError, CPLE_BaseError, OSError):
            return  # whoever reads on tries again, or says what is broken
        if found is None:
            return
        share, value = found
        by_band = dict(zip(distinct, value, strict=True))
        text = words([by_band[band] for band in self.bands])
        self._say(
            f"{self._where}: about {share:.0%} of its border is exactly {text}, which it does not "
            "call nodata, so it is translated as if it were ground. If nothing is there, give "
            f"`nodata={text}`."
        )

    def _find_profile(self, reading: Reading) -> ColourProfile | None:
        """Return the colour profile of values that are shown as they are, if there is one."""
        shown = reading.bands is None and reading.stretch is None and reading.value_range is None
        if not shown or any(kind != "uint8" for kind in self.dataset.dtypes):
            return None
        profile = profile_of(stored(self.dataset))
        if profile is None:
            return None
        grey = len(set(self.bands)) == 1 and self._bands.palette is None
        if profile.mode != ("L" if grey else "RGB") or (not grey and len(self.bands) != 3):
            self._say(
                f"{self._where}: has a colour profile ({profile.mode}) that is not one of its "
                "bands as they are read, so it is left out; colours may differ somewhat. Convert "
                "it to sRGB first, if its map looks wrong."
            )
            return None
        return profile

    def sample(self) -> Found:
        """Look at a thousand pixels from a thousand rows of all of the file.

        Returns:
            The bands that are read, each once and in the file's order, [B,h,w] of its type; and
            whether there are values, bool [h,w].

        Raises:
            DataError: A block of the file is damaged.
        """
        return self._with_retries(lambda: self._values.sample(self.dataset))

    def shown(self) -> NDArray[np.bool_]:
        """Return where the part has values, thinned to at most a thousand rows and columns.

        Raises:
            DataError: A block of the file is damaged.
        """
        valid = self.sample()[1]
        (height, width), (rows, columns) = self.dataset.shape, valid.shape
        bottom, right = self._top + self.grid.height, self._left + self.grid.width
        return valid[
            self._top * rows // height : -(-bottom * rows // height),
            self._left * columns // width : -(-right * columns // width),
        ]

    def thinning(self, ratio: float) -> int:
        """Return by how much the scene is to be thinned before it is reduced by a ratio.

        That is the finest overview that is no finer than need be, where overviews are means;
        others are never read, since they alias.

        Args:
            ratio: How many of its pixels become one, along a side.

        Raises:
            DataError: A block of the file is damaged.
        """
        plain = max(1, int(ratio / 2))
        levels: list[int] = getattr(self.dataset, "overviews", lambda _: [])(self.bands[0])
        if ratio < 2 or not levels or self._values.exact or self._own_means:
            return plain
        fitting = [int(level) for level in levels if level <= ratio * (1 + 1e-6)]
        tried = max([plain, *fitting])
        if tried == 1:
            return plain
        if tried not in self._are_means:
            self._are_means[tried] = self._with_retries(
                lambda: are_means(self.dataset, self.bands[0], tried)
            )
        self._own_means = not self._are_means[tried]
        return plain if self._own_means else tried

    def _with_retries(self, read: Callable[[], T]) -> T:
        """Return what is read of the dataset, which is opened again where that fails."""
        with reading_from(self._where):
            return with_retries(read, self._reopen, self._where, self._sizes)

    def _reopen(self) -> None:
        self.dataset.close()
        self.dataset = self._open()

    def read(
        self, row: int, column: int, height: int, width: int, factor: int = 1
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read some of the part's pixels; all of them must lie inside.

        Args:
            row: First row, of the part thinned by `factor`.
            column: First column, of the part thinned by `factor`.
            height: Rows.
            width: Columns.
            factor: Side of the squares of pixels that are averaged into one.

        Returns:
            uint8 [height,width,C], and whether there is a value, bool [height,width].

        Raises:
            DataError: A block of the file is damaged.
        """
        window = Window(
            self._left + column * factor,
            self._top + row * factor,
            width * factor,
            height * factor,
        )
        values, valid = self._with_retries(
            lambda: self._values.read(
                self.dataset, window, (height, width), factor, exact=self._own_means
            )
        )
        pixels = self._in_colours(values, valid)
        if self._profile is not None:
            pixels = self._profile.pixels(pixels)
        return in_bands(pixels, self._wanted), valid

    def _in_colours(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return what was read, [B,h,w], each band once, as uint8 [h,w,C]."""
        if self._bands.palette is None:
            distinct = self._bands.distinct
            if distinct != self.bands:
                values = values[[distinct.index(band) for band in self.bands]]
        if self.value_range is None:
            return _interleaved(values)
        values = values.transpose(1, 2, 0)
        low, high = self.value_range.T.astype(np.float32)
        scaled = np.where(valid[..., None], values, values.dtype.type(0)).astype(np.float32)
        span = high - low
        span[np.abs(span) < 1e-20] = 1e-20
        scaled = (scaled - low) * (np.float32(255) / span)
        pixels: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return pixels


def _interleaved(bands: NDArray[Any]) -> NDArray[Any]:
    """Return [B,h,w] as [h,w,B], several times as fast as a transposed copy."""
    made = np.empty((*bands.shape[1:], len(bands)), bands.dtype)
    for number, band in enumerate(bands):
        made[..., number] = band
    return made
