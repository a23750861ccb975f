"""A class map of a scene, and how sure it is, from file to file."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil

import sat2map
from sat2map.atomic import check_disk, check_file_name, temporary_folder
from sat2map.errors import (
    DataError,
    EmptySceneError,
    StoppedError,
    UsageError,
    writing_to,
)
from sat2map.geo.gdal import settings
from sat2map.geo.grid import ground_resolution
from sat2map.legend import COVER, LEGEND_TAG, Legend
from sat2map.raster.options import SceneOptions
from sat2map.raster.output import COG_TILE, KINDS, compare_written, give_name, interruptible
from sat2map.raster.sources import Source, open_source
from sat2map.raster.strips import writing
from sat2map.translation.maps import Layer, check_layers
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator

logger = logging.getLogger(__name__)

ClassLegend = Literal["cover", "map"]

NODATA = 255
"""Stands in a class map where the scene has no values."""

_ROOM = 6
"""Bytes of the disk that a pixel of both rasters may take while they are made."""


def translate_classes(
    source: str | Path | Source,
    classes: str | Path,
    translator: Translator,
    options: SceneOptions | None = None,
    *,
    confidence: str | Path | None = None,
    legend: ClassLegend = "cover",
    placed: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], object] = logger.warning,
) -> Path:
    """Make a class map of a scene of any size, a row of windows at a time.

    It is a pass of its own over the scene, beside that of `translate_raster`, in the same
    canonical windows. The class map lies on the network's own grid: over the same ground as the
    scene, at the resolution at which the network sees it. A scene whose ground control points lie
    on no straight grid is warped to one.

    The class map is a Cloud Optimized GeoTIFF, uint8, with the colours of the legend, and
    `NODATA` where the scene has no values. Its tag `LEGEND_TAG` says what the numbers mean.

    Args:
        source: As for `translate_raster`.
        classes: The class map, NAME.tif.
        translator: The model, with classes; its network looks only so far.
        options: Of these `reading`, `window` and `attribution`; all of the scene is translated.
        confidence: Where to write by how much the most probable class leads, 0 to 1 as 0 to 255,
            uint8, on the same grid; masked where the scene has no values.
        legend: "cover" for what is on the ground, "map" for the classes that the model draws.
        placed: Whether a scene that does not say where on the ground it lies is refused.
        progress: Called with (done, all) pixels of the class map.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        say: Called with notices of the scene.

    Returns:
        `classes`.

    Raises:
        DataError: The scene cannot be read, or has no valid pixel.
        UsageError: The model has no classes, or the options or names do not fit.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
    """
    options, stop = options or SceneOptions(), stop or threading.Event()
    source = open_source(source)
    targets = [Path(path) for path in (classes, confidence) if path is not None]
    check_classes(source, targets, translator, options, legend=legend)
    known = COVER if legend == "cover" else translator.legend
    assert known is not None  # or it had been refused
    reading = replace(options.reading, warp=True)
    with ExitStack() as stack:
        stack.enter_context(settings())
        windows = SceneWindows(source, translator, reading, options.window, say=say)
        stack.enter_context(windows)
        if placed and ground_resolution(windows.grid) is None:
            raise DataError(
                "does not say where on the ground it lies, so nothing can be measured",
                where=source.where,
                remedy="Give it coordinates first, for example with: gdal_translate -a_srs "
                "EPSG:CODE -a_ullr WEST NORTH EAST SOUTH OLD.tif NEW.tif.",
            )
        strange = windows.strange()
        if strange is not None:
            say(f"{source.where}: {strange}")
        check_disk(targets[0], windows.grid.height * windows.grid.width * _ROOM)
        named = {} if options.attribution is None else {"TIFFTAG_COPYRIGHT": options.attribution}
        tags = named | {
            "TIFFTAG_SOFTWARE": f"sat2map {sat2map.__version__}",
            "SAT2MAP_VERSION": sat2map.__version__,
            "SAT2MAP_MODEL": translator.name,
            "SAT2MAP_PARAMETERS": json.dumps({"source": source.name, "classes": legend}),
        }
        asides: list[Path] = []
        for target in targets:
            stack.enter_context(writing_to(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            asides.append(stack.enter_context(temporary_folder(target)))
        flat = [aside / "flat.tif" for aside in asides]
        try:
            _write_flat(windows, flat, known, legend, tags, source.where, progress, stop)
            whole = [_finish(*pair, stop) for pair in zip(flat, targets, strict=True)]
        except StoppedError as error:
            raise StoppedError(
                "stopped as asked; there is nothing of it yet",
                where=targets[0],
                remedy="Begin anew.",
            ) from error
        for made, target in zip(whole, targets, strict=True):
            give_name(made, target)
    return targets[0]


def check_classes(
    source: Source,
    targets: list[Path],
    translator: Translator,
    options: SceneOptions,
    *,
    legend: ClassLegend = "cover",
) -> None:
    """Refuse, before the work, what `translate_classes` would refuse.

    Args:
        source: The scene.
        targets: The class map, and the confidence if it is wanted.
        translator: The model.
        options: Settings of the translation.
        legend: Which classes are meant.

    Raises:
        UsageError: The model has no classes or no canonical windows, or the options or names do
            not fit.
        OutputError: There is a folder where a file is to be.
    """
    check_layers(_layers(legend, len(targets)), translator.kind, translator.name)
    if translator.frame(options.window) is None:
        raise UsageError(
            "its network sees the whole image, so it makes no class maps of scenes",
            where=translator.name,
            remedy="Choose a model whose network is `compact` or `lite`, such as streets.",
        )
    for parameter, given in (
        ("bbox", options.reading.bbox is not None),
        ("mask", options.mask is not None),
        ("mode", options.mode == "published"),
    ):
        if given:
            raise UsageError(
                "class maps are of the whole scene, without dropout",
                parameter=parameter,
                remedy="Leave it out, or make no class map.",
            )
    for target in targets:
        if KINDS.get(target.suffix.lower()) != "tiff":
            raise UsageError(
                "is not a name for a class map or its confidence",
                where=target,
                remedy="End it in .tif.",
            )
        check_file_name(target)
        if any(_same(target, file) for file in source.files):
            raise UsageError("is the input itself", where=target, remedy="Choose another name.")
    if len(targets) > 1 and _same(*targets):
        raise UsageError(
            "is the name of two files", where=targets[0], remedy="Give each a name of its own."
        )


def _same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve() or (
        path.exists() and other.exists() and path.samefile(other)
    )


def _layers(legend: ClassLegend, count: int) -> tuple[Layer, ...]:
    layers: tuple[Layer, ...] = ("classes", "confidence")
    if legend == "cover":
        layers = ("cover", "cover_confidence")
    return layers[:count]


def _write_flat(
    windows: SceneWindows,
    paths: list[Path],
    known: Legend,
    legend: ClassLegend,
    tags: dict[str, str],
    where: str | Path,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event,
) -> None:
    """Write the classes, and the confidence if there are two paths, as plain GeoTIFFs."""
    grid, layers = windows.grid, _layers(legend, len(paths))
    facts: dict[str, Any] = {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": 1,
        "dtype": "uint8",
        "crs": grid.crs,
        "transform": grid.transform,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "bigtiff": "if_safer",
    }
    some = False
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True))
        stack.enter_context(writing())
        files = [stack.enter_context(rasterio.open(paths[0], "w", nodata=NODATA, **facts))]
        colours = {number: (*entry.colour, 255) for number, entry in enumerate(known.classes)}
        files[0].write_colormap(1, colours)
        files[0].update_tags(**tags, **{LEGEND_TAG: json.dumps(known.to_json())})
        if len(paths) > 1:
            files.append(stack.enter_context(rasterio.open(paths[1], "w", **facts)))
            files[1].update_tags(**tags)
        for row in range(windows.rows):
            top = windows.place(row, 0).top
            height = windows.place(row, 0).height
            found = np.zeros((len(paths), height, grid.width), np.uint8)
            inside = np.zeros((height, grid.width), np.bool_)
            for column in range(windows.columns):
                if stop.is_set():
                    raise StoppedError("stopped as asked", where=paths[0])
                place = windows.place(row, column)
                answer = windows.maps(row, column, layers)
                if answer is not None:
                    across = slice(place.left, place.right)
                    maps, inside[:, across] = answer
                    for number, layer in enumerate(layers):
                        found[number, :, across] = getattr(maps, layer)
                if progress is not None:
                    progress(top * grid.width + height * place.right, grid.height * grid.width)
            some = some or bool(inside.any())
            found[0, ~inside] = NODATA
            window = rasterio.windows.Window(0, top, grid.width, height)
            for file, values in zip(files, found, strict=True):
                file.write(values, 1, window=window)
            if len(files) > 1:
                files[1].write_mask(inside, window=window)
    if not some:
        raise EmptySceneError(
            "has no valid pixel, only nodata", where=where, remedy="Give another scene."
        )


def _finish(flat: Path, target: Path, stop: threading.Event) -> Path:
    """Make a Cloud Optimized GeoTIFF of a plain one, read it back, and return it."""
    aside = flat.with_name("whole.tif")

    def make() -> None:
        with writing():
            rasterio.shutil.copy(
                flat,
                aside,
                driver="COG",
                compress="deflate",
                blocksize=COG_TILE,
                overviews="auto",
                overview_resampling="mode",  # which makes no class of two others
                bigtiff="if_safer",
            )
            compare_written(aside, flat)

    interruptible(make, lambda: flat.unlink(missing_ok=True), target, stop)
    flat.unlink(missing_ok=True)
    return aside
