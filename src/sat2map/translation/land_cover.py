"""The land cover of a scene with the probabilities of its classes, for who goes on with both.

What `translate_classes` writes is for people. This is plain, without overviews, and goes again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from sat2map.atomic import check_disk
from sat2map.errors import DataError, EmptySceneError, StoppedError
from sat2map.geo.gdal import settings
from sat2map.geo.grid import ground_resolution
from sat2map.legend import COVER, LEGEND_TAG, TEMPERATURE_TAG
from sat2map.provenance import TAG
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sources import Source
from sat2map.raster.strips import writing
from sat2map.translation.class_files import NODATA
from sat2map.translation.maps import Layer, check_layers
from sat2map.translation.scene import provenance_of
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator

logger = logging.getLogger(__name__)

_LAYERS: tuple[Layer, ...] = ("cover", "cover_shares")
_ROOM = 1 + len(COVER)
"""Bytes of the disk that a pixel takes."""


def write_land_cover(
    source: Source,
    classes: Path,
    probabilities: Path,
    translator: Translator,
    reading: Reading | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], object] = logger.warning,
) -> None:
    """Write the land cover of a scene of any size, window by window, on the network's own grid.

    Args:
        source: A scene that says where it lies. One whose ground control points lie on no straight
            grid is warped to one.
        classes: Where numbers of the legend `COVER` are written, uint8, with the legend as a tag;
            `NODATA` where the scene has no values.
        probabilities: Where they are written, a band for each class, uint8, 0 to 1 as 0 to 255.
        translator: The model, with classes; its network looks only so far.
        reading: How the scene's values become pixels; all of it is taken.
        progress: Called with (done, all) pixels.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        say: Called with notices of the scene.

    Raises:
        DataError: The scene cannot be read, has no valid pixel, or does not say where it lies.
        UsageError: The model has no classes, or its network sees the whole image.
        OutputError: The disk is full.
        StoppedError: `stop` is set.
    """
    stop = stop or threading.Event()
    check_layers(_LAYERS, translator.kind, translator.name)
    reading = replace(reading or Reading(), warp=True)
    with ExitStack() as stack:
        stack.enter_context(settings())
        windows = stack.enter_context(SceneWindows(source, translator, reading, say=say))
        if ground_resolution(windows.grid) is None:
            raise DataError(
                "does not say where on the ground it lies, so nothing can be measured",
                where=source.where,
                remedy="Give it coordinates first, for example with: gdal_translate -a_srs "
                "EPSG:CODE -a_ullr WEST NORTH EAST SOUTH OLD.tif NEW.tif.",
            )
        check_disk(classes, windows.grid.height * windows.grid.width * _ROOM)
        stack.enter_context(writing())
        files = [stack.enter_context(file) for file in _open(classes, probabilities, windows)]
        files[0].update_tags(**_tags(source, reading, translator))
        files[1].update_tags(**{TEMPERATURE_TAG: str(translator.kind.cover_temperature)})
        some = False
        for row in range(windows.rows):
            for column in range(windows.columns):
                if stop.is_set():
                    raise StoppedError("stopped as asked", where=classes)
                some |= _write(windows, row, column, files)
                if progress is not None:
                    place, width = windows.place(row, column), windows.grid.width
                    done = place.top * width + place.height * place.right
                    progress(done, windows.grid.height * width)
    if not some:
        raise EmptySceneError(
            "has no valid pixel, only nodata", where=source.where, remedy="Give another scene."
        )


def _tags(source: Source, reading: Reading, translator: Translator) -> dict[str, str]:
    """Return what the class numbers say of their making, for who makes something else of them."""
    options = SceneOptions(reading, resolution="model")
    with source.open() as dataset:
        made = provenance_of(translator, source, options, tagged=dataset)
    told = {} if made.attribution is None else {"TIFFTAG_COPYRIGHT": made.attribution}
    return told | {TAG: replace(made, layer="cover").to_text()}


def _open(classes: Path, probabilities: Path, windows: SceneWindows) -> list[Any]:
    """Open both files for writing."""
    facts: dict[str, Any] = {
        "driver": "GTiff",
        "height": windows.grid.height,
        "width": windows.grid.width,
        "dtype": "uint8",
        "crs": windows.grid.crs,
        "transform": windows.grid.transform,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    numbers = rasterio.open(classes, "w", count=1, nodata=NODATA, **facts)
    numbers.update_tags(**{LEGEND_TAG: json.dumps(COVER.to_json())})
    return [numbers, rasterio.open(probabilities, "w", count=len(COVER), **facts)]


def _write(windows: SceneWindows, row: int, column: int, files: list[Any]) -> bool:
    """Write one window into both files, and return whether anything of it has values."""
    place = windows.place(row, column)
    classes = np.full((place.height, place.width), NODATA, np.uint8)
    shares: NDArray[np.uint8] = np.zeros((place.height, place.width, len(COVER)), np.uint8)
    answer = windows.maps(row, column, _LAYERS)
    some = False
    if answer is not None:
        maps, inside = answer
        assert maps.cover is not None and maps.cover_shares is not None
        classes[inside], shares[inside] = maps.cover[inside], maps.cover_shares[inside]
        some = bool(inside.any())
    window = Window(place.left, place.top, place.width, place.height)
    files[0].write(classes, 1, window=window)
    files[1].write(np.moveaxis(shares, 2, 0), window=window)
    return some
