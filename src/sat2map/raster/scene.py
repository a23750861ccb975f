"""Scenes: whatever GDAL opens as one raster, read in windows as 8-bit pixels and a mask."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from sat2map.data.colour_profile import ColourProfile
from sat2map.data.images import (
    READ_SUFFIXES,
    describe_left_out,
    in_bands,
    is_premultiplied,
    other_files,
    profile_of,
    read_palette,
    unmultiplied,
)
from sat2map.errors import DataError, UsageError
from sat2map.geo.gdal import believable_alpha, reading_from, sampled, sizes_of, with_retries
from sat2map.geo.grid import window_of
from sat2map.raster.band_files import band_file
from sat2map.raster.georeference import grid_of, named_crs, placed, stored, world_files
from sat2map.raster.nodata import (
    SMEAR,
    find_collar,
    fits,
    is_believable,
    is_nodata,
    smeared,
    thinned,
    words,
)
from sat2map.raster.options import STRETCH, Reading
from sat2map.raster.sources import SCENE_SUFFIXES, Source, open_source

logger = logging.getLogger(__name__)

COMPARED = 64
"""Side of the places, in pixels of an overview, where overviews are compared with the base."""

DARK = 48
"""An 8-bit scene whose pixels are hardly ever brighter than this in any band is stretched."""

BRIGHT = 0.02
"""The share of brighter pixels up to which it is."""

LOOK = 64
"""Side of the windows that are looked at for that, four along each side."""

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


class Scene:
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

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        self._palette = _palette(dataset) if reading.bands is None else None
        self._alpha = self._find_alpha(reading.bands or ())
        self.bands = self._choose(wanted, reading.bands)
        flags = dataset.mask_flag_enums[self.bands[0] - 1]
        first = next(iter(self.source.files), None)
        self._premultiplied = (
            self._alpha is not None and first is not None and is_premultiplied(first)
        )
        self._has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self._nodata = self._find_nodata(reading.nodata)
        # Nodata is what all bands of the file have, those too that nobody looks at.
        self._others = [
            number
            for number, value in self._nodata.items()
            if value is not None and number not in self.bands and number != self._alpha
        ]
        structure = stored(dataset).tags(ns="IMAGE_STRUCTURE")
        if structure.get("SOURCE_COLOR_SPACE", "").endswith("LAB"):
            self._say(
                f"{self._where}: holds colours of CIELAB, which are turned into RGB roughly. "
                "Convert it with a program that knows colour profiles, if its map looks wrong."
            )
        lossy = structure.get("COMPRESSION", "")
        self._smeared = (
            lossy.endswith(("JPEG", "WEBP"))
            and self._palette is None
            and all(dataset.dtypes[b - 1] == "uint8" for b in self.bands)
            and any(self._nodata[band] is not None for band in self.bands)
        )
        # GDAL's means leave out nodata that the file names, but no other.
        self._own_means = self._smeared or reading.nodata is not None
        self._are_means: dict[int, bool] = {}  # by factor, of overviews that were looked at
        kinds = [np.dtype(dataset.dtypes[band - 1]).kind for band in self.bands]
        self.masked = (
            self._alpha is not None
            or self._has_mask
            or all(self._nodata[band] is not None for band in self.bands)
            or "f" in kinds
            or (self._palette is not None and bool((self._palette[:, 3] < 255).any()))
        )
        self._top, self._left = 0, 0
        self.grid = whole
        if reading.bbox is not None:
            top, left, height, width = window_of(whole, reading.bbox, self._where)
            self._top, self._left = top, left
            self.grid = whole.part(top, left, height, width)
        self.value_range = self._find_range(reading)
        self._profile = self._find_profile(reading)
        if self._palette is None:
            self._notice_collar()

    def _find_nodata(self, given: tuple[float, ...] | None) -> dict[int, float | None]:
        """Return what each band calls nodata, or what was given in place of it."""
        if given is None:
            return dict(enumerate(self.dataset.nodatavals, 1))
        found: dict[int, float | None] = dict.fromkeys(range(1, self.dataset.count + 1))
        if len(given) not in {0, 1, len(self.bands)}:
            raise UsageError(
                f"{len(given)} values are named, but {len(self.bands)} bands are read",
                parameter="nodata",
                remedy="Give one value for all of them, or one for each.",
            )
        values = given * len(self.bands) if len(given) == 1 else given
        for band, value in zip(self.bands, values, strict=bool(given)):
            kind = np.dtype(self.dataset.dtypes[band - 1])
            if not fits(value, kind):
                raise UsageError(
                    f"{value:g} is not a value that {self._where} can hold, whose type is {kind}",
                    parameter="nodata",
                    remedy="Look with another program what stands where nothing is.",
                )
            found[band] = value
        return found

    def _notice_collar(self) -> None:
        """Say so where a value that nobody calls nodata fills the border."""
        distinct = sorted(set(self.bands))
        nodata = [self._nodata[band] for band in distinct]

        def shown(window: Window) -> bool:
            if self._alpha is not None:
                return bool(self.dataset.read([self._alpha], window=window).all())
            if self._has_mask:
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

    def _find_alpha(self, chosen: tuple[int, ...]) -> int | None:
        """Return the band that says what is transparent, if it is one."""
        kinds = self.dataset.colorinterp
        if ColorInterp.alpha not in kinds:
            return None
        band: int = kinds.index(ColorInterp.alpha) + 1
        if band in chosen:
            return None
        if self.source.kind != "tile tree" and not believable_alpha(self.dataset, band):
            self._say(
                f"{self._where}: band {band} is called alpha, but most of its values are between "
                "clear and opaque; it is taken for something else, such as infrared. If it is "
                "transparency, make it 0 and 255 first."
            )
            return None
        return band

    def _choose(self, wanted: int, chosen: tuple[int, ...] | None) -> list[int]:
        count, kinds = self.dataset.count, self.dataset.colorinterp
        if chosen is not None:
            missing = [band for band in chosen if not 1 <= band <= count]
            if missing or not chosen:
                raise UsageError(
                    f"{self._where} has no band {missing[0] if missing else 'of no name'}; it has "
                    f"{count}",
                    parameter="bands",
                    remedy="Give numbers from 1, such as 3,2,1.",
                )
            if len(chosen) not in {1, wanted}:
                raise UsageError(
                    f"{len(chosen)} bands are named, but the model takes {wanted}",
                    parameter="bands",
                    remedy=f"Name {wanted}, in the model's order.",
                )
            return list(chosen) * (wanted // len(chosen))
        if self._palette is not None and wanted in (1, 3):
            return [1]
        self._palette = None
        if wanted in (1, 3) and all(kind in kinds for kind in _COLOURS):
            return [kinds.index(kind) + 1 for kind in _COLOURS]  # of which grey is the luma
        usable = [band for band in range(1, count + 1) if band != self._alpha]
        if not usable:
            raise DataError("has only an alpha band", where=self._where, remedy="Give a photo.")
        if len(usable) >= wanted:
            if len(usable) > 1 and (len(usable) > wanted or wanted == 3):
                names = ", ".join(map(str, usable[:wanted]))
                self._say(
                    f"{self._where}: does not say which of its {len(usable)} bands are which "
                    f"colours; bands {names} are taken. Choose others by `bands`."
                )
            return usable[:wanted]
        if wanted == 3:
            band = band_file(Path(self._where)) if len(usable) == 1 else None
            if band is not None:
                names = " ".join(map(band.beside, band.colours))
                self._say(
                    f"{self._where}: seems to be one of several bands in files of their own. Lay "
                    f"them together first: gdalbuildvrt -separate rgb.vrt {names}."
                )
            self._say(
                f"{self._where}: has one band without colours, which is translated as grey; the "
                "model was trained on colours, so expect less. Give colours, or another `model`."
                if len(usable) == 1
                else f"{self._where}: has {len(usable)} bands, of which the first is translated as "
                "grey; the model was trained on colours, so expect less. Choose another one by "
                "`bands`, or another `model`."
            )
            return [usable[0]] * 3
        raise DataError(
            f"has {len(usable)} bands, but the model takes {wanted}",
            where=self._where,
            remedy="Choose another model, or add the bands.",
        )

    def _find_range(self, reading: Reading) -> NDArray[np.float64] | None:
        if self._palette is not None:
            return None
        if reading.value_range is not None:
            return np.array([reading.value_range] * len(self.bands), np.float64)
        # Scans and faxes may count from white to black.
        inverted = stored(self.dataset).tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        if reading.stretch is None and {self.dataset.dtypes[b - 1] for b in self.bands} == {
            "uint8"
        }:
            bits = _bits(self.dataset, self.bands[0])
            if bits >= 8 and not inverted and not self._is_dark():
                return None
            if bits < 8 or inverted:
                ends = (2**bits - 1, 0) if inverted else (0, 2**bits - 1)
                return np.array([ends] * len(self.bands), np.float64)
            self._say(
                f"{self._where}: is dark (values up to about {DARK} of 255), so it is stretched "
                "as scenes of more than 8 bits are. `value_range`=0,255 leaves it as it is."
            )
        values, valid = self.sample()
        if not valid.any():
            return np.array([_limits(values.dtype)] * len(self.bands), np.float64)
        found = np.percentile(
            values[:, valid].astype(np.float64), reading.stretch or STRETCH, axis=1
        ).T
        if inverted:
            found = found[:, ::-1]
        ranges = dict(zip(sorted(set(self.bands)), found, strict=True))
        return np.array([ranges[band] for band in self.bands])

    def _is_dark(self) -> bool:
        """Return whether nearly all of an 8-bit file is too dark to be a photo as models know it.

        It looks at a few small windows of all of the file, so that a part of it looks like the
        whole, and a large one takes no longer.
        """
        height, width = self.dataset.height, self.dataset.width
        size = min(LOOK, height), min(LOOK, width)
        bright = count = most = 0
        for row, column in product(_spread(height - size[0]), _spread(width - size[1])):
            try:
                values, valid = self._values(Window(column, row, size[1], size[0]), size, 1)
            except (RasterioError, CPLE_BaseError):  # who needs what is damaged will say so
                continue
            brightest = values.max(0)[valid]
            bright += int((brightest > DARK).sum())
            count += brightest.size
            most = max(most, int(brightest.max(initial=0)))
        return most > 0 and bright <= BRIGHT * count

    def _find_profile(self, reading: Reading) -> ColourProfile | None:
        """Return the colour profile of values that are shown as they are, if there is one."""
        shown = reading.bands is None and reading.stretch is None and reading.value_range is None
        if not shown or any(kind != "uint8" for kind in self.dataset.dtypes):
            return None
        profile = profile_of(stored(self.dataset))
        if profile is None:
            return None
        grey = len(set(self.bands)) == 1 and self._palette is None
        if profile.mode != ("L" if grey else "RGB") or (not grey and len(self.bands) != 3):
            self._say(
                f"{self._where}: has a colour profile ({profile.mode}) that is not one of its "
                "bands as they are read, so it is left out; colours may differ somewhat. Convert "
                "it to sRGB first, if its map looks wrong."
            )
            return None
        return profile

    def sample(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Look at a thousand pixels from a thousand rows of all of the file.

        Returns:
            The bands that are read, each once and in the file's order, [B,h,w] of its type; and
            whether there are values, bool [h,w].

        Raises:
            DataError: A block of the file is damaged.
        """
        with reading_from(self._where):
            return with_retries(self._sample, self._reopen, self._where, self._sizes)

    def _sample(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        distinct = sorted(set(self.bands))
        values = sampled(self.dataset, distinct)
        valid = self._has_values(values, distinct, lambda bands: sampled(self.dataset, bands))
        if self._alpha is not None:
            valid &= sampled(self.dataset, [self._alpha])[0] > 0
        if self._has_mask:
            mask = self.dataset.read_masks(self.bands[0], out_shape=valid.shape)
            valid &= mask > 0
        return values, valid

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
        if ratio < 2 or not levels or self._palette is not None or self._own_means:
            return plain
        fitting = [int(level) for level in levels if level <= ratio * (1 + 1e-6)]
        tried = max([plain, *fitting])
        if tried == 1:
            return plain
        if tried not in self._are_means:
            with reading_from(self._where):
                self._are_means[tried] = with_retries(
                    lambda: _overviews_are_means(self.dataset, self.bands[0], tried),
                    self._reopen,
                    self._where,
                    self._sizes,
                )
        self._own_means = not self._are_means[tried]
        return plain if self._own_means else tried

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
        with reading_from(self._where):
            values, valid = with_retries(
                partial(self._values, window, (height, width), factor),
                self._reopen,
                self._where,
                self._sizes,
            )
        pixels = self._in_colours(values, valid)
        if self._profile is not None:
            pixels = self._profile.pixels(pixels)
        return in_bands(pixels, self._wanted), valid

    def _in_colours(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return what was read, [B,h,w], each band once, as uint8 [h,w,C]."""
        if self._palette is None:
            distinct = sorted(set(self.bands))
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

    def _values(
        self, window: Window, shape: tuple[int, int], factor: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return what is in a window, [B,h,w], each band once, and where it has values.

        Colour numbers come as their colours, of which there are means.
        """
        if self._own_means or self._palette is not None:
            return self._exact_values(window, factor)
        mean = Resampling.average if factor > 1 else Resampling.nearest
        distinct = sorted(set(self.bands))

        def read(bands: list[int]) -> NDArray[Any]:
            values: NDArray[Any] = self.dataset.read(
                bands,
                window=window,
                out_shape=(len(bands), *shape),
                resampling=mean,
            )
            return values

        values = read(distinct)
        valid = self._has_values(values, distinct, read)
        if self._alpha is not None:
            alpha = self.dataset.read(self._alpha, window=window, out_shape=shape, resampling=mean)
            valid &= alpha > 0
            if self._premultiplied:  # means of the products are right, too
                values = unmultiplied(values, alpha)
        if self._has_mask:
            mask = self.dataset.read_masks(
                self.bands[0], window=window, out_shape=shape, resampling=mean
            )
            valid &= mask > 0
        return values, valid

    def _exact_values(self, window: Window, factor: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the same as `_values`, by rules that GDAL's own means do not know."""
        more = SMEAR if self._smeared else 0
        top, left = max(window.row_off - more, 0), max(window.col_off - more, 0)
        bottom = min(window.row_off + window.height + more, self.dataset.height)
        right = min(window.col_off + window.width + more, self.dataset.width)
        around = Window(left, top, right - left, bottom - top)
        distinct = sorted(set(self.bands))

        def read(bands: list[int]) -> NDArray[Any]:
            found: NDArray[Any] = self.dataset.read(bands, window=around)
            return found

        values = read(distinct)
        valid = self._has_values(values, distinct, read)
        if self._alpha is not None:
            alpha = read([self._alpha])[0]
            valid &= alpha > 0
            if self._premultiplied:
                values = unmultiplied(values, alpha)
        if self._has_mask:
            valid &= self.dataset.read_masks(self.bands[0], window=around) > 0
        rows = slice(window.row_off - top, window.row_off - top + window.height)
        columns = slice(window.col_off - left, window.col_off - left + window.width)
        values, valid = values[:, rows, columns], valid[rows, columns]
        if self._palette is not None:
            painted = self._palette[values[0]]
            values, valid = painted[..., :3].transpose(2, 0, 1), valid & (painted[..., 3] > 0)
        return (values, valid) if factor == 1 else thinned(values, valid, factor)

    def _has_values(
        self, values: NDArray[Any], bands: list[int], read: Callable[[list[int]], NDArray[Any]]
    ) -> NDArray[np.bool_]:
        """Return where not all bands of the file are nodata, and none of those read is NaN.

        Args:
            values: What was read, [B,h,w].
            bands: The numbers of these bands.
            read: Reads the same pixels of other bands.
        """
        find = smeared if self._smeared else is_nodata
        empty = find(values, [self._nodata[band] for band in bands])
        if self._others and empty.any():
            empty &= find(read(self._others), [self._nodata[b] for b in self._others])
        return ~empty & is_believable(values)


def _interleaved(bands: NDArray[Any]) -> NDArray[Any]:
    """Return [B,h,w] as [h,w,B], several times as fast as a transposed copy."""
    made = np.empty((*bands.shape[1:], len(bands)), bands.dtype)
    for number, band in enumerate(bands):
        made[..., number] = band
    return made


def _spread(free: int) -> list[int]:
    """Return up to four places from 0 to `free`."""
    return sorted({i * free // 3 for i in range(4)})


def _overviews_are_means(dataset: Any, band: int, factor: int) -> bool:
    """Return whether what GDAL reads thinned is nearer to means than to single pixels.

    In five places it is compared with the means of the base. Single pixels are off by as much as
    pixels deviate from their mean, and what other filters make by less than half of it.
    """
    side = min(COMPARED, *(length // factor for length in dataset.shape))
    off = deviation = 0.0
    count = 0
    for down, along in ((0, 0), (0, 2), (1, 1), (2, 0), (2, 2)):
        row, column = (
            (length // factor - side) * part // 2 * factor
            for length, part in zip(dataset.shape, (down, along), strict=True)
        )
        window = Window(column, row, side * factor, side * factor)
        thin = dataset.read(
            band, window=window, out_shape=(side, side), resampling=Resampling.average
        ).astype(np.float64)
        base = dataset.read(band, window=window).astype(np.float64)
        blocks = base.reshape(side, factor, side, factor)
        means = blocks.mean((1, 3), keepdims=True)
        known = dataset.read_masks(band, window=window).reshape(blocks.shape).all((1, 3))
        known &= np.isfinite(means[:, 0, :, 0])
        off += float(np.abs(means[:, 0, :, 0] - thin)[known].sum())
        deviation += float(np.abs(blocks - means).mean((1, 3))[known].sum())
        count += int(known.sum())
    rounding = 0.3 if np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.integer) else 0.0
    return off <= deviation / 2 + rounding * count


def _bits(dataset: Any, band: int) -> int:
    """Return how many bits of each value are used, as far as the file says."""
    raster = stored(dataset)
    # What is warped may have one band more, alpha.
    told = raster.tags(band, ns="IMAGE_STRUCTURE") if band <= raster.count else {}
    return int(told.get("NBITS", "8"))


def _limits(kind: np.dtype[Any]) -> tuple[float, float]:
    """Return what values of a type may be, or 0 and 1 where that may be anything."""
    return (0.0, 1.0) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colours of a raster of colour numbers, RGBA, uint8 [256,4]."""
    if dataset.colorinterp[0] != ColorInterp.palette or dataset.dtypes[0] != "uint8":
        return None
    return read_palette(dataset)
