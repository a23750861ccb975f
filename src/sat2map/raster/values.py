"""The values of a raster's bands as they stand in the file, and where there are any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.windows import Window

from sat2map.data.images import is_premultiplied, unmultiplied
from sat2map.errors import UsageError
from sat2map.geo.gdal import sampled
from sat2map.raster.bands import Bands
from sat2map.raster.georeference import stored
from sat2map.raster.nodata import SMEAR, fits, is_believable, is_nodata, smeared, thinned
from sat2map.raster.sources import Source

Found = tuple[NDArray[Any], NDArray[np.bool_]]
"""The bands that are read, each once and in the file's order, [B,h,w]; and where there are values,
bool [h,w]."""


class Values:
    """Reads the values of a raster, whose handle may be another one each time.

    Args:
        dataset: The raster.
        bands: Which of its bands are read.
        source: What it was opened as.
        nodata: What stands where nothing is, in place of what the file calls so.

    Attributes:
        where: What messages call the raster.
        bands: Which bands are read.
        nodata: By number of a band what it calls nodata, or None.
        has_mask: Whether the raster comes with a mask that is not a band.
        masked: Whether there may be pixels without values.
        exact: Whether means are always made of the pixels themselves, by rules that neither GDAL's
            means nor overviews follow.

    Raises:
        UsageError: `nodata` does not fit the raster.
    """

    def __init__(
        self, dataset: Any, bands: Bands, source: Source, nodata: tuple[float, ...] | None
    ) -> None:
        self.where, self.bands = source.where, bands
        flags = dataset.mask_flag_enums[bands.numbers[0] - 1]
        first = next(iter(source.files), None)
        self._premultiplied = (
            bands.alpha is not None and first is not None and is_premultiplied(first)
        )
        self.has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self.nodata = self._find_nodata(dataset, nodata)
        # Nodata is what all bands of the file have, those too that nobody looks at.
        self._others = [
            number
            for number, value in self.nodata.items()
            if value is not None and number not in bands.numbers and number != bands.alpha
        ]
        compression = stored(dataset).tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")
        self._smeared = (
            compression.endswith(("JPEG", "WEBP"))
            and bands.palette is None
            and all(dataset.dtypes[band - 1] == "uint8" for band in bands.numbers)
            and any(self.nodata[band] is not None for band in bands.numbers)
        )
        # GDAL's means leave out nodata that the file names, but no other. Of colour numbers there
        # are none.
        self.exact = self._smeared or nodata is not None or bands.palette is not None
        kinds = [np.dtype(dataset.dtypes[band - 1]).kind for band in bands.numbers]
        self.masked = (
            bands.alpha is not None
            or self.has_mask
            or all(self.nodata[band] is not None for band in bands.numbers)
            or "f" in kinds
            or (bands.palette is not None and bool((bands.palette[:, 3] < 255).any()))
        )

    def _find_nodata(
        self, dataset: Any, given: tuple[float, ...] | None
    ) -> dict[int, float | None]:
        """Return what each band calls nodata, or what was given in place of it."""
        if given is None:
            return dict(enumerate(dataset.nodatavals, 1))
        found: dict[int, float | None] = dict.fromkeys(range(1, dataset.count + 1))
        numbers = self.bands.numbers
        if len(given) not in {0, 1, len(numbers)}:
            raise UsageError(
                f"{len(given)} values are named, but {len(numbers)} bands are read",
                parameter="nodata",
                remedy="Give one value for all of them, or one for each.",
            )
        values = given * len(numbers) if len(given) == 1 else given
        for band, value in zip(numbers, values, strict=bool(given)):
            kind = np.dtype(dataset.dtypes[band - 1])
            if not fits(value, kind):
                raise UsageError(
                    f"{value:g} is not a value that {self.where} can hold, whose type is {kind}",
                    parameter="nodata",
                    remedy="Look with another program what stands where nothing is.",
                )
            found[band] = value
        return found

    def sample(self, dataset: Any) -> Found:
        """Look at a thousand pixels from a thousand rows of all of the raster."""
        distinct = self.bands.distinct
        values = sampled(dataset, distinct)
        valid = self._has_values(values, distinct, lambda bands: sampled(dataset, bands))
        if self.bands.alpha is not None:
            valid &= sampled(dataset, [self.bands.alpha])[0] > 0
        if self.has_mask:
            mask = dataset.read_masks(self.bands.numbers[0], out_shape=valid.shape)
            valid &= mask > 0
        return values, valid

    def read(
        self,
        dataset: Any,
        window: Window,
        shape: tuple[int, int],
        factor: int,
        *,
        exact: bool = False,
    ) -> Found:
        """Return what is in a window.

        Colour numbers come as their colours, of which there are means.

        Args:
            dataset: The raster.
            window: Which pixels of it.
            shape: Height and width of what is returned.
            factor: Side of the squares of pixels that are averaged into one.
            exact: Make means of the pixels themselves, whatever overviews there are.
        """
        if exact or self.exact:
            return self._read_exactly(dataset, window, factor)
        mean = Resampling.average if factor > 1 else Resampling.nearest
        distinct = self.bands.distinct

        def read(bands: list[int]) -> NDArray[Any]:
            values: NDArray[Any] = dataset.read(
                bands,
                window=window,
                out_shape=(len(bands), *shape),
                resampling=mean,
            )
            return values

        values = read(distinct)
        valid = self._has_values(values, distinct, read)
        if self.bands.alpha is not None:
            alpha = dataset.read(self.bands.alpha, window=window, out_shape=shape, resampling=mean)
            valid &= alpha > 0
            if self._premultiplied:  # means of the products are right, too
                values = unmultiplied(values, alpha)
        if self.has_mask:
            mask = dataset.read_masks(
                self.bands.numbers[0], window=window, out_shape=shape, resampling=mean
            )
            valid &= mask > 0
        return values, valid

    def _read_exactly(self, dataset: Any, window: Window, factor: int) -> Found:
        """Return the same as `read`, by rules that GDAL's own means do not know."""
        more = SMEAR if self._smeared else 0
        top, left = max(window.row_off - more, 0), max(window.col_off - more, 0)
        bottom = min(window.row_off + window.height + more, dataset.height)
        right = min(window.col_off + window.width + more, dataset.width)
        around = Window(left, top, right - left, bottom - top)
        distinct = self.bands.distinct

        def read(bands: list[int]) -> NDArray[Any]:
            found: NDArray[Any] = dataset.read(bands, window=around)
            return found

        values = read(distinct)
        valid = self._has_values(values, distinct, read)
        if self.bands.alpha is not None:
            alpha = read([self.bands.alpha])[0]
            valid &= alpha > 0
            if self._premultiplied:
                values = unmultiplied(values, alpha)
        if self.has_mask:
            valid &= dataset.read_masks(self.bands.numbers[0], window=around) > 0
        rows = slice(window.row_off - top, window.row_off - top + window.height)
        columns = slice(window.col_off - left, window.col_off - left + window.width)
        values, valid = values[:, rows, columns], valid[rows, columns]
        if self.bands.palette is not None:
            painted = self.bands.palette[values[0]]
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
        empty = find(values, [self.nodata[band] for band in bands])
        if self._others and empty.any():
            empty &= find(read(self._others), [self.nodata[b] for b in self._others])
        return ~empty & is_believable(values)
