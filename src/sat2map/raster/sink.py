"""Writing a map block by block, and what the file's name asks for in the end.

The blocks go to a tiled GeoTIFF beside the output. From it GDAL makes the final file, which
appears under its name when it is whole.
"""

from __future__ import annotations

import errno
import logging
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from sat2map.errors import UsageError
from sat2map.raster.grid import Grid
from sat2map.whole import whole_file, write_text

TILE = 256
"""Blocks that start at multiples of this are written once; others cost room and time."""

COG_TILE = 512
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
SUFFIXES = TIFF_SUFFIXES | JPEG_SUFFIXES | {".png"}
JPEG_SIDE = 65_500


class Sink:
    """A map that is being written.

    Args:
        path: The file of the blocks.
        grid: The map's grid.
        mask: How it is said where there is no map: not at all, as a mask, or as an alpha band.
        flat: Whether the map has few colours.
    """

    def __init__(
        self, path: Path, grid: Grid, *, mask: Literal["none", "mask", "alpha"], flat: bool
    ) -> None:
        self._mask = mask
        self._written: list[tuple[Window, int]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._dataset: Any = rasterio.open(
                path,
                "w",
                driver="GTiff",
                width=grid.width,
                height=grid.height,
                count=4 if mask == "alpha" else 3,
                dtype="uint8",
                crs=grid.crs,
                transform=grid.transform if grid.georeferenced else None,
                photometric="rgb",
                alpha="yes" if mask == "alpha" else "no",
                tiled=True,
                blockxsize=TILE,
                blockysize=TILE,
                compress="deflate",
                predictor=1 if flat else 2,
                bigtiff="if_safer",
            )

    def write(
        self, row: int, column: int, pixels: NDArray[np.uint8], valid: NDArray[np.bool_]
    ) -> None:
        """Write a block, uint8 [h,w,3], and of which pixels there is a map, bool [h,w]."""
        height, width, _ = pixels.shape
        window = Window(column, row, width, height)
        opaque = valid.astype(np.uint8) * 255
        shown = np.where(valid[..., None], pixels, np.uint8(0))
        if self._mask == "alpha":
            shown = np.dstack([shown, opaque])
        self._dataset.write(shown.transpose(2, 0, 1), window=window)
        if self._mask == "mask":
            self._dataset.write_mask(opaque, window=window)
        self._written.append((window, _checksum(shown, opaque if self._mask == "mask" else None)))

    def close(self, tags: Mapping[str, str]) -> None:
        """Finish the file."""
        self._dataset.update_tags(**tags)
        self._dataset.close()

    def check(self, path: Path) -> None:
        """Compare what a file holds with what was written.

        GDAL does not always notice when a disk is full.

        Raises:
            OSError: It holds something else.
        """
        with _opened(path) as file:
            for window, expected in self._written:
                found = file.read(window=window).transpose(1, 2, 0)
                mask = file.dataset_mask(window=window) if self._mask == "mask" else None
                if _checksum(found, mask) != expected:
                    raise OSError(errno.EIO, "what was written cannot be read back")

    def abandon(self) -> None:
        """Close the file, whatever its state."""
        with _quiet():
            try:
                self._dataset.close()
            except (RasterioError, CPLE_BaseError):
                logging.getLogger(__name__).debug("an abandoned file did not close")


@contextmanager
def whole_map(
    path: Path, grid: Grid, *, masked: bool, flat: bool, tags: Mapping[str, str]
) -> Iterator[Sink]:
    """Yield where to write a map; on success it becomes `path`.

    Args:
        path: .tif or .tiff for a Cloud Optimized GeoTIFF with overviews, an internal mask and
            the grid's georeference; .png, .jpg or .jpeg for a picture with a world file.
        grid: The map's grid.
        masked: Whether some pixels may hold no map.
        flat: Whether the map has few colours, none of which may be mixed in the overviews.
        tags: What a GeoTIFF says of its making.

    Raises:
        UsageError: The name asks for something else, or the map is too large for it.
        OutputError: The place is not writable or the disk is full.
    """
    check_name(path, grid)
    # GDAL's PNG driver takes an alpha band but no mask, its JPEG driver neither.
    suffix = path.suffix.lower()
    mask: Literal["none", "mask", "alpha"] = "none"
    if masked and suffix not in JPEG_SUFFIXES:
        mask = "mask" if suffix in TIFF_SUFFIXES else "alpha"
    with whole_file(path) as aside:
        blocks = aside.with_name(f"{aside.stem}.blocks.tif")
        try:
            with _writing():
                sink = Sink(blocks, grid, mask=mask, flat=flat)
                try:
                    yield sink
                    sink.close(tags)
                except BaseException:
                    sink.abandon()
                    raise
                _finish(sink, blocks, aside, path, grid, flat=flat)
        finally:
            for file in path.parent.iterdir():  # GDAL's own files aside may be there too
                if file.name.startswith(aside.stem) and file != aside:
                    file.unlink()


def check_name(path: Path, grid: Grid | None = None) -> None:
    """Refuse a name that no map can be written under.

    Raises:
        UsageError: The suffix is not known, or the grid is too large for it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            "is not a name for the map of a scene",
            where=path,
            remedy="End it in .tif, or in .png or .jpg for a picture with a world file.",
        )
    if suffix in JPEG_SUFFIXES and grid is not None and max(grid.height, grid.width) > JPEG_SIDE:
        raise UsageError(
            f"{suffix} holds at most {JPEG_SIDE} pixels a side", where=path, remedy="Write a .tif."
        )


def world_file_of(path: Path) -> Path:
    """Return the name of a picture's world file: first and last letter of the suffix, and w."""
    suffix = path.suffix
    return path.with_suffix(f"{suffix[:2]}{suffix[-1]}w")


def _finish(sink: Sink, blocks: Path, aside: Path, path: Path, grid: Grid, *, flat: bool) -> None:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        rasterio.shutil.copy(
            blocks,
            aside,
            driver="COG",
            compress="deflate",
            predictor="no" if flat else "yes",
            blocksize=COG_TILE,
            overviews="auto",
            overview_resampling="nearest" if flat else "average",
            overview_compress="deflate",
            bigtiff="if_safer",
            num_threads="all_cpus",
        )
        sink.check(aside)
        with _opened(aside) as file:
            levels = range(len(file.overviews(1)))
        for level in levels:
            _decode(aside, overview_level=level)
        return
    options = {"quality": 95} if suffix in JPEG_SUFFIXES else {}
    driver = "JPEG" if suffix in JPEG_SUFFIXES else "PNG"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        sink.check(blocks)
        rasterio.shutil.copy(blocks, aside, driver=driver, **options)
        _decode(aside)
    if grid.georeferenced:
        write_text(world_file_of(path), world_file(grid))


def _opened(path: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **options)


def _decode(path: Path, **options: Any) -> None:
    """Read all of a file, which fails where it is not whole."""
    with _opened(path, **options) as file:
        for row in range(0, file.height, TILE):
            file.read(window=Window(0, row, file.width, min(TILE, file.height - row)))


def _checksum(pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> int:
    checksum = zlib.crc32(pixels.tobytes())
    return checksum if mask is None else zlib.crc32(mask.tobytes(), checksum)


def world_file(grid: Grid) -> str:
    """Return a world file: the transform to the centres of the pixels, in six lines."""
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    centre = (c + (a + b) / 2, f + (d + e) / 2)
    return "".join(f"{value!r}\n" for value in map(float, (a, d, b, e, *centre)))


@contextmanager
def _writing() -> Iterator[None]:
    """Turn what GDAL says of a file that it cannot write into an `OSError`."""
    try:
        with _quiet():
            yield
    except (RasterioError, CPLE_BaseError) as error:
        detail: BaseException = error
        while detail.__cause__ is not None:
            detail = detail.__cause__
        raise OSError(errno.EIO, str(detail).splitlines()[0]) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep GDAL's own lines out of the user's sight; what counts is raised."""
    speaker = logging.getLogger("rasterio")
    level = speaker.level
    speaker.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        speaker.setLevel(level)
