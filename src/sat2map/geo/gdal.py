"""How GDAL is asked: its settings, its errors, and patience where a drive or a server fails."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from numpy.typing import NDArray
from rasterio import _env
from rasterio._env import GDALDataFinder, PROJDataFinder, set_gdal_config
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from sat2map.errors import DataError
from sat2map.journal import without_secrets

SAMPLE_SIDE = 1024

T = TypeVar("T")
logger = logging.getLogger(__name__)

SETTINGS = {
    # What GDAL may keep of decoded blocks; by itself it would take 5 % of the machine.
    "GDAL_CACHEMAX": 32 * 2**20,  # rasterio takes bytes, where GDAL alone takes megabytes
    # An address is asked again where it fails.
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 1,  # seconds, doubled each time
    "GDAL_HTTP_CONNECTTIMEOUT": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,  # bytes per second, for so many seconds:
    "GDAL_HTTP_LOW_SPEED_TIME": 60,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32_768,
}
"""What a user has set in the environment stands above it."""

PROJ_VARIABLES = ("PROJ_DATA", "PROJ_LIB")
"""Where PROJ looks for its data, unless it is told better."""

OPEN_FILES = 2
"""Files of a virtual raster that stay open while it is read once from top to bottom, at some
megabytes each; by itself it would be 100."""

LISTED = 6
"""Rasters in a file that a message names."""

PROBES = 16
"""Places all over a file that are looked at to see whether its drive fails."""

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds after which a failed read is tried again."""


def _use_own_data() -> None:
    """Have rasterio's PROJ and GDAL use the data that came with them.

    Where the environment names those of another program (conda, PostGIS, QGIS), PROJ knows no
    coordinate reference system at all, or the wrong ones. The environment stays as it is.

    A private function of rasterio is replaced, for want of a public way that holds. Tried with
    rasterio 1.4: PROJ_DATA as an option of `rasterio.Env` or of GDAL's configuration, and
    `pyproj.datadir`, do nothing here; `rasterio.env.set_proj_data_search_path` holds for an Env
    that is open, but in every new thread rasterio opens its own first one, in whatever is called,
    and that goes back to what the environment says.
    """
    proj, gdal = PROJDataFinder().search_wheel(), GDALDataFinder().search_wheel()
    if proj is not None and not os.environ.keys().isdisjoint(PROJ_VARIABLES):
        search = _env.set_proj_data_search_path

        def stay(_: str) -> None:  # each thread's first Env goes back to what the environment says
            search(proj)

        _env.set_proj_data_search_path = stay
        stay("")
    if gdal is not None and "GDAL_DATA" in os.environ:
        set_gdal_config("GDAL_DATA", gdal)


_use_own_data()  # before anything asks PROJ, which remembers what it did not find


def check_proj() -> None:
    """Make sure that PROJ has its data.

    Raises:
        DataError: It has not: the environment leads it astray, or the installation is broken.
    """
    from rasterio.warp import transform

    try:
        transform("EPSG:4326", "EPSG:3857", [0], [0])
    except (RasterioError, CPLE_BaseError, ValueError) as error:
        named = [name for name in PROJ_VARIABLES if name in os.environ]
        raise DataError(
            "the library PROJ, which tells where a scene lies, does not find its data",
            where=" and ".join(named) or None,
            remedy="It names the data of another program: unset it."
            if named
            else "Install rasterio and its PROJ again.",
        ) from error


def settings(*, remote: bool = False, beside: bool = False) -> Any:
    """Return the environment to read and write scenes in, for a `with` statement.

    It holds for the thread that enters it; reading itself enters it (`reading_from`).

    Args:
        remote: The scene is at an address: it is asked for the file alone, whereas beside a
            local one there may be its mask and its overviews.
        beside: Look beside it all the same, for one file after the other.
    """
    look = "TRUE" if beside else "EMPTY_DIR" if remote else "FALSE"
    chosen = SETTINGS | {"GDAL_DISABLE_READDIR_ON_OPEN": look}
    return rasterio.Env(**{name: v for name, v in chosen.items() if name not in os.environ})


def once_through() -> Any:
    """Return the environment to make one file of a virtual one in, for a `with` statement."""
    return rasterio.Env(GDAL_MAX_DATASET_POOL_SIZE=OPEN_FILES)


def open_dataset(name: str, where: str | Path, *, beside: bool = False) -> Any:
    """Open what GDAL calls `name`; messages call it `where`.

    Args:
        name: What GDAL calls it.
        where: What messages call it.
        beside: Of an address: look beside it for what says where it lies.

    Raises:
        DataError: It is not a raster that GDAL knows, or has no bands of its own.
    """
    try:
        with reading_from(where, beside=beside):
            dataset = rasterio.open(name)
    except UnicodeEncodeError as error:
        raise DataError(
            "has a name that is not UTF-8, by which it cannot be opened as a scene",
            where=where,
            remedy="Rename it.",
        ) from error
    if dataset.count == 0:
        inside = ", ".join(dataset.subdatasets[:LISTED])
        more = len(dataset.subdatasets) - LISTED
        dataset.close()
        raise DataError(
            "holds no raster bands of its own",
            where=where,
            remedy=f"Give one of the rasters in it: {inside}{f' and {more} more' * (more > 0)}."
            if inside
            else "Choose one of the rasters in it first, for example with gdal_translate.",
        )
    return dataset


def sampled(dataset: Any, bands: list[int]) -> NDArray[Any]:
    """Return some pixels from all over a raster, [B,h,w] of its type."""
    shape = [min(side, SAMPLE_SIDE) for side in dataset.shape]
    values: NDArray[Any] = dataset.read(bands, out_shape=(len(bands), *shape))
    return values


def believable_alpha(dataset: Any, band: int) -> bool:
    """Return whether a band that is called alpha looks like it: mostly clear or opaque."""
    sample = sampled(dataset, [band])[0]
    between = (sample != 0) & (sample != sample.max())
    return bool(between.mean() <= 0.5)


def with_retries(
    work: Callable[[], T],
    again: Callable[[], object],
    where: str | Path,
    sizes: Mapping[Path, int],
) -> T:
    """Return what `work` returns, tried again after pauses where GDAL cannot read.

    A server or a drive that fails may be back a moment later; a file that is broken stays so,
    and is not tried again.

    Args:
        work: What reads.
        again: What is done before another try, such as opening the file anew.
        where: What is read, for messages.
        sizes: The local files that are read, with their bytes when they were opened.
    """
    for pause in PAUSES:
        try:
            return work()
        except (RasterioError, CPLE_BaseError, OSError):
            if not (is_address(where) or any(map(_fails, sizes.items()))):
                raise
            logger.info(f"{where}: cannot be read; trying again in {pause:g} s")
            time.sleep(pause)
            try:
                again()
            except DataError:
                continue
    return work()


def sizes_of(files: Iterable[Path]) -> dict[Path, int]:
    """Return how many bytes files have, those that there are."""
    return {file: file.stat().st_size for file in files if file.is_file()}


def _fails(file: tuple[Path, int]) -> bool:
    """Return whether a file's drive seems to fail: it is gone, cut off or cannot be read."""
    path, size = file
    try:
        if path.stat().st_size != size:
            return True
        with path.open("rb", buffering=0) as opened:
            for place in range(0, size, max(size // PROBES, 1)):
                opened.seek(place)
                opened.read(1)
    except OSError:
        return True
    return False


@contextmanager
def reading_from(where: str | Path, *, beside: bool = False) -> Iterator[None]:
    """Read under our settings, and turn what GDAL says while reading into a `DataError`."""
    try:
        with settings(remote=is_address(where), beside=beside):
            yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        detail: BaseException = error
        while detail.__cause__ is not None:
            detail = detail.__cause__
        text = (str(detail).strip().splitlines() or [repr(detail)])[0]
        name = Path(where).name
        remedy = "It is broken, or not an image: restore it, or name another."
        if is_address(where):
            text = without_secrets(text)
            remedy = "Check the address and the connection, and try again."
        raise DataError(
            f"cannot be read ({text.replace(str(where), name)})", where=where, remedy=remedy
        ) from error


def is_address(where: object) -> bool:
    """Return whether a name is one of GDAL's virtual files or an address, and no file's."""
    return isinstance(where, str) and ("://" in where or where.startswith("/vsi"))
