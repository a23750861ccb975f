"""How an output is made of the finished strips.

It is made in the folder of the unfinished map and gets its name when it is whole.
"""

from __future__ import annotations

import errno
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from sat2map.atomic import check_file_name, check_folder_name, flush, write_text
from sat2map.errors import StoppedError, UsageError
from sat2map.geo.gdal import once_through
from sat2map.geo.grid import Grid
from sat2map.provenance import TAG, Provenance
from sat2map.raster.cog import write_cog
from sat2map.raster.named import Named
from sat2map.raster.partial import partial_work
from sat2map.raster.pyramid import tiles
from sat2map.raster.strips import TILE, Form, Layout, Strips, writing
from sat2map.raster.tile_archives import (
    About,
    Encoded,
    encode,
    pmtiles_order,
    write_mbtiles,
    write_pmtiles,
    write_tree,
)

JPEG_SIDE = 65_500


def check_room(output: Named, grid: Grid) -> None:
    """Refuse what cannot be written, before anything is translated.

    Raises:
        UsageError: The map is too large for its kind.
        OutputError: There is a folder of tiles already, or a folder where a file is to be.
    """
    if output.kind == "folder":
        check_folder_name(output.path)
    else:
        check_file_name(output.path)
        if output.kind in ("png", "jpeg") and grid.georeferenced:
            check_file_name(world_file_of(output.path))
    if output.kind == "jpeg" and max(grid.height, grid.width) > JPEG_SIDE:
        raise UsageError(
            f"{output.path.suffix} holds at most {JPEG_SIDE} pixels a side",
            where=output.path,
            remedy="Write a .tif.",
        )


def world_file_of(path: Path) -> Path:
    """Return the name of an image's world file: first and last letter of the suffix, and w."""
    suffix = path.suffix
    return path.with_suffix(f"{suffix[:2]}{suffix[-1]}w")


def world_file(grid: Grid) -> str:
    """Return a world file: the transform to the centres of the pixels, in six lines."""
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    centre = (c + (a + b) / 2, f + (d + e) / 2)
    return "".join(f"{value!r}\n" for value in map(float, (a, d, b, e, *centre)))


def write_raster(
    strips: Strips, folder: Path, output: Named, tags: Mapping[str, str], stop: threading.Event
) -> None:
    """Make a Cloud Optimized GeoTIFF, or an image with a world file, of all strips.

    Args:
        strips: The map; for a GeoTIFF with overviews.
        folder: Where it is made, on the same disk as `output`.
        output: What it becomes.
        tags: What it says of its making, a JPEG what it was made of alone.
        stop: Asks to stop once it is set.

    Raises:
        OSError: The disk is full.
        StoppedError: `stop` is set.
    """
    aside = folder / f"whole.{uuid.uuid4().hex[:8]}{output.path.suffix}"
    if output.kind == "tiff":
        with writing():
            write_cog(aside, strips, tags, lambda: _heed(stop, output.path))
            _check_opens(aside, strips)
        give_name(aside, output.path)
        return
    grid, links = strips.layout.grid, aside.with_suffix(".links")
    form: Form = "alpha" if output.kind == "png" else "colours"
    options: dict[str, object] = {"driver": "JPEG", "quality": 95}
    if output.kind == "png":
        options, told = {"driver": "PNG", "write_metadata_as_text": True}, tags
    else:
        made = Provenance.from_text(tags.get(TAG), output.path)
        told = {} if made is None else {"EXIF_ImageDescription": made.to_comment()}

    def make() -> None:
        with writing(), once_through():
            virtual = strips.whole(form, links, told)
            rasterio.shutil.copy(virtual, aside, **options)
            compare_written(aside, virtual if output.kind == "png" else None)

    def take_away() -> None:
        shutil.rmtree(links, ignore_errors=True)

    try:
        interruptible(make, take_away, output.path, stop)
    finally:
        take_away()
    if grid.georeferenced:
        write_text(world_file_of(output.path), world_file(grid))
    give_name(aside, output.path)


def write_tiles(
    strips: Strips, folder: Path, output: Named, about: About, stop: threading.Event
) -> None:
    """Make a pyramid of tiles of all strips.

    Args:
        strips: The map.
        folder: Where it is made, on the same disk as `output`.
        output: What it becomes.
        about: What the pyramid says of itself.
        stop: Asks to stop once it is set.

    Raises:
        OSError: The disk is full.
        StoppedError: `stop` is set.
    """
    aside = folder / f"whole.{uuid.uuid4().hex[:8]}{output.path.suffix}"
    order = pmtiles_order() if output.kind == "pmtiles" else None

    def encoded() -> Iterator[Encoded]:
        for zoom, x, y, tile in tiles(strips, about.pyramid, order):
            _heed(stop, output.path)
            yield zoom, x, y, encode(tile, strips.layout.legend)

    write = {"pmtiles": write_pmtiles, "mbtiles": write_mbtiles}.get(output.kind, write_tree)
    with writing():
        write(encoded(), about, aside)
    give_name(aside, output.path)


@contextmanager
def whole_map(path: Path, grid: Grid, *, masked: bool, tags: Mapping[str, str]) -> Iterator[Strips]:
    """Yield where to write all blocks of a raster; on success it becomes a GeoTIFF.

    Args:
        path: The Cloud Optimized GeoTIFF.
        grid: Its grid.
        masked: Whether some pixels may hold nothing.
        tags: What it says of its making.

    Raises:
        OutputError: There is a folder of that name, the place is not writable, or the disk is
            full.
    """
    check_file_name(path)
    with partial_work(path, {}, resume=False) as partial:
        strips = Strips(partial.strips, "map", Layout(grid, masked), overviews=True)
        try:
            with writing():
                strips.begin(0, grid.height)
                yield strips
                strips.finish()
        finally:
            strips.abandon()
        write_raster(strips, partial.folder, Named(path, "tiff"), tags, threading.Event())


def interruptible(
    work: Callable[[], None], take_away: Callable[[], None], where: Path, stop: threading.Event
) -> None:
    """Do what GDAL does in one go, and break it off where `stop` or an interrupt asks to.

    GDAL cannot be told to stop, so what it reads is taken away, at which it fails. Nothing goes
    on when this returns or raises.

    Args:
        work: What is done, in another thread.
        take_away: Makes `work` fail soon.
        where: The output, for messages.
        stop: Asks to stop once it is set.

    Raises:
        StoppedError: `stop` is set.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="sat2map-finish", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            _heed(stop, where)
    except BaseException:
        take_away()
        while thread.is_alive():
            with suppress(KeyboardInterrupt):  # impatience does not make it safe to go on
                thread.join()
        raise
    if failures:
        raise failures[0]


def _heed(stop: threading.Event, where: Path) -> None:
    if stop.is_set():
        raise StoppedError(
            "stopped as asked; all of it is translated, but not yet in one piece",
            where=where,
        )


def give_name(aside: Path, path: Path) -> None:
    """Give what is whole its name, once it is on the disk."""
    flush(aside)
    if aside.is_dir():
        check_folder_name(path)
        if path.is_dir():
            path.resolve().rmdir()  # an empty one gives way to a folder, a full one does not
            path = path.resolve()
    aside.replace(path)
    flush(path.parent)


def compare_written(path: Path, other: Path | None) -> None:
    """Read all of a file, which fails where it is not whole, and compare it with another.

    GDAL does not always notice when a disk is full.

    Raises:
        OSError: They differ.
    """
    with rasterio.open(path) as file:
        windows = list(_windows(file.height, file.width))
        if other is None:
            for window in windows:
                file.read(window=window)
            return
        with rasterio.open(other) as expected:
            for window in windows:
                same = np.array_equal(file.read(window=window), expected.read(window=window))
                masks = (f.dataset_mask(window=window) for f in (file, expected))
                if not same or not np.array_equal(*masks):
                    raise OSError(errno.EIO, "what was written cannot be read back")


def _check_opens(path: Path, strips: Strips) -> None:
    """Open a GeoTIFF and its overviews, and read the last tile of each, which is at its end.

    Raises:
        OSError: Something of it is not there.
    """
    for level, (height, width) in enumerate(strips.sizes):
        options = {"overview_level": level - 1} if level else {}
        with rasterio.open(path, **options) as file:
            if file.shape != (height, width):
                raise OSError(errno.EIO, "what was written cannot be read back")
            file.read(window=Window(width - 1, height - 1, 1, 1))


def _windows(height: int, width: int) -> Iterator[Window]:
    wide = 8 * TILE
    for row in range(0, height, TILE):
        for column in range(0, width, wide):
            yield Window(column, row, min(wide, width - column), min(TILE, height - row))
