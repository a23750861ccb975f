"""Translating a georeferenced scene from file to file."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import rasterio
from rasterio.transform import Affine

import sat2map
from sat2map.errors import EmptySceneError, UsageError, expect
from sat2map.geo.gdal import settings
from sat2map.geo.grid import Grid, Part, window_of
from sat2map.journal import Files
from sat2map.raster.mask import Mask, vector_files
from sat2map.raster.options import SceneOptions
from sat2map.raster.output import Named, check_room, named, write_raster, write_tiles
from sat2map.raster.partial import partial_work
from sat2map.raster.pyramid import pyramid_of
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scale import Scale, choose_scale
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source
from sat2map.raster.strips import Layout, Strips
from sat2map.raster.tile_archives import About, pmtiles_order
from sat2map.translation.image import compare_name, legend_of
from sat2map.translation.pipeline import ScenePipeline, blended
from sat2map.translation.translator import Translator, load
from sat2map.translation.unfamiliar import strange_scene

logger = logging.getLogger(__name__)


def translate_raster(
    input: str | Path | Source,
    output: str | Path,
    model: str | Path | Translator | None = None,
    options: SceneOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    *,
    translator: Translator | None = None,
) -> Path:
    """Translate a scene of any size into a map with the same georeference, in flat memory.

    The scene is read at a ground resolution that the model knows, in windows: canonical ones,
    each with a halo around it, for a network that looks only so far, and overlapping ones, whose
    answers are blended, for one that sees everything. What has no values is filled from the
    nearest that has, and beyond the edges the scene is mirrored. The answers are resampled to the
    map's resolution and written strip by strip. Reading, translating and writing go on at the same
    time.

    Canonical windows lie on the whole scene, so what a `bbox` or a `mask` leaves of it is the
    same, to the last bit, on one runtime and number of threads.

    What is finished survives an interrupt in a hidden folder beside the map, and with
    `options.resume` the work goes on there. On a CPU, with the same number of threads, the map
    then has the same bytes as one that was never interrupted.

    Args:
        input: Any one raster that GDAL opens (GeoTIFF, COG, JPEG 2000, VRT), an address
            (https://, /vsicurl/), a folder of adjoining scenes, which is read as one mosaic, or
            a tree of tiles, FOLDER or FOLDER/{z}/{x}/{y}.png, of which the finest is read; or
            what `open_source` found one of these to be.
        output: .tif becomes a Cloud Optimized GeoTIFF with overviews and mask; .pmtiles,
            .mbtiles and DIR/{z}/{x}/{y}.png a pyramid of tiles in the web's Mercator
            projection; .png and .jpg an image with a world file.
        model: A translator, or what `load` takes: a shipped model's name or a folder; None takes
            "streets".
        options: Settings of the translation.
        progress: Called with (done, all) pixels of the map.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        translator: In the version before, what `model` is.

    Returns:
        What was written: `output`, or DIR.

    Raises:
        DataError: The scene cannot be read, or has no valid pixel.
        ModelError: The model's folder is missing or damaged.
        UsageError: The options do not fit the scene, the model or what is to be resumed, or
            another process writes the same map.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
    """
    if translator is not None:
        text = "translator is now called model"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        model = translator
    if not isinstance(model, Translator):
        model = load("streets" if model is None else model)
    expect(output, (str, Path), "output", "Give the name of the map.")
    expect(options, SceneOptions, "options", "Give SceneOptions.", none=True)
    return translate_scene(input, Path(output), model, options or SceneOptions(), progress, stop)


def translate_scene(
    input: str | Path | Source,
    output: Path,
    translator: Translator,
    options: SceneOptions,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event | None,
    *,
    part: Part | None = None,
    say: Callable[[str], object] = logger.warning,
    say_unfinished: Callable[[str], object] = logger.warning,
) -> Path:
    """Translate a scene as `translate_raster` does, with its notices going somewhere else.

    Args:
        input: As for `translate_raster`, like what follows.
        output: The map.
        translator: The model.
        options: Settings of the translation.
        progress: Called with (done, all) pixels of the map.
        stop: Asks to stop once it is set.
        part: Which of the scene's pixels are wanted, in place of a `bbox`; for models with
            canonical windows, which are those of the whole scene.
        say: Called with notices of the scene and the mask.
        say_unfinished: Called with notices of what an interrupted run leaves.
    """
    stop = stop or threading.Event()
    legend = legend_of(translator) if options.legend_colours else None
    target = named(output)
    with ExitStack() as stack:
        stack.enter_context(settings())
        bands = len(translator.card.bands)
        reading, bbox = options.reading, options.reading.bbox
        if target.tiled or target.kind in ("png", "jpeg") or options.mask is not None:
            reading = replace(reading, warp=True)  # which know places on a straight grid only
        canonical = options.mode != "published" and translator.frame(options.window) is not None
        if canonical:  # its windows are those of the whole scene, whatever is wanted of it
            reading = replace(reading, bbox=None, warp=reading.warp or bbox is not None)
        scene = stack.enter_context(Scene(input, bands, reading, say=say))
        source = scene.source.where
        _check_target(target.path, scene)
        if part is None:
            part = Part(0, 0, scene.grid.height, scene.grid.width)
            if canonical and bbox is not None:
                part = Part(*window_of(scene.grid, bbox, source))
        wanted = scene.grid.part(part.top, part.left, part.height, part.width)
        scale = choose_scale(
            scene.grid,
            translator.card.resolution_m,
            options.resolution,
            source,
            say,
            pixel_size=options.reading.pixel_size,
            part=wanted,
        )
        # A second handle: the first is read ahead by another thread, and GDAL's are for one.
        again = stack.enter_context(scene.opened_again())
        shown = ResampledScene(again, *scale.written)
        part = part.on(scene.grid, shown.grid)
        grid = shown.grid.part(part.top, part.left, part.height, part.width)
        mask = None if options.mask is None else Mask(options.mask, wanted, source, say)
        masked = scene.masked or mask is not None
        layouts = {target: Layout(grid, masked, legend)}
        if options.compare:
            pair = Grid(grid.height, 2 * grid.width, Affine.identity(), None)
            layouts[_compared(target)] = Layout(pair, masked)
        for file, layout in layouts.items():
            check_room(file, layout.grid)
        pyramid = None
        if target.tiled:
            pyramid = pyramid_of(grid, target.path)
        if target.kind == "pmtiles":
            pmtiles_order()  # what is not installed is said before the work
        seen = ResampledScene(scene, *scale.seen)
        strange = strange_scene(translator, seen, part.on(shown.grid, seen.grid))
        if strange is not None:
            say(f"{source}: {strange}")
        pipeline = ScenePipeline(translator, seen, shown, options, legend, part, mask)
        partial = stack.enter_context(
            partial_work(
                target.path,
                made_of(translator, scene.source.fingerprint(), options),
                resume=options.resume,
                say=say_unfinished,
            )
        )
        strips = [
            Strips(partial.strips, name, layout)
            for name, layout in zip(("map", "compare"), layouts.values(), strict=False)
        ]
        pipeline.run(strips, partial, target.path, stop, progress)
        if not partial.some:
            partial.discard()
            raise EmptySceneError(
                "has no valid pixel, only nodata",
                where=source,
                remedy="Give another scene, `bbox` or `mask`.",
            )
        tags = _tags(translator, scene, scale, options)
        for file, made in zip(layouts, strips, strict=True):
            if pyramid is None:
                write_raster(made, partial.folder, file, tags, stop)
            else:
                about = About(
                    name=Path(scene.source.name).stem,
                    description=f"{scene.source.name} translated with the model {translator.name} "
                    f"by sat2map {sat2map.__version__}",
                    attribution=options.attribution,
                    pyramid=pyramid,
                )
                write_tiles(made, partial.folder, file, about, stop)
    return target.path


def _check_target(target: Path, scene: Scene) -> None:
    """Refuse a map that would overwrite what it is made of."""
    meant = target.resolve()
    if meant.exists() and any(meant.samefile(file) for file in scene.source.files if file.exists()):
        raise UsageError("is the input itself", where=target, remedy="Choose another name.")
    folder = scene.source.folder
    if folder is not None and meant.is_relative_to(folder.resolve()):
        raise UsageError(
            f"lies in the input's folder {folder}, as if it were a part of it",
            where=target,
            remedy="Choose a place outside.",
        )


def _compared(target: Named) -> Named:
    if target.tiled:
        raise UsageError(
            "has no room for a second image",
            parameter="compare",
            remedy="Leave it out, or write a .tif, .png or .jpg.",
        )
    return Named(compare_name(target.path), target.kind)


def made_of(
    translator: Translator, input: Mapping[str, Any], options: SceneOptions
) -> dict[str, Any]:
    """Return all that a result is made of, so that it can be told from another.

    Args:
        translator: The model.
        input: The fingerprint of what is translated.
        options: Settings of the translation.
    """
    parameters = asdict(options) | {"mask": None if options.mask is None else options.mask.name}
    del parameters["resume"]
    masks = () if options.mask is None else vector_files(options.mask)
    return {
        **input,
        "mask": Files(masks),
        "model": translator.fingerprint(),
        "set of parameters": parameters,
        "version of sat2map or rasterio": f"{sat2map.__version__} {rasterio.__version__}",
        "runtime": f"{translator.runtime} {translator.runtime_version}",
    }


def _windows(translator: Translator, options: SceneOptions) -> dict[str, int]:
    """Return how the scene was cut."""
    frame = None if options.mode == "published" else translator.frame(options.window)
    if frame is None:
        return dict(zip(("window", "overlap"), blended(options), strict=True))
    return {"window": frame.core, "halo": frame.halo}


def _tags(
    translator: Translator, scene: Scene, scale: Scale, options: SceneOptions
) -> dict[str, str]:
    """Return what a map says of its making."""
    ranges = scene.value_range
    deterministic = options.mode == "deterministic"
    parameters: dict[str, Any] = {
        "source": scene.source.name,
        "bands": list(scene.bands),
        "value_range": None if ranges is None else [[float(f"{v:.6g}") for v in r] for r in ranges],
        "scene_m": None if scale.ground is None else [round(v, 6) for v in scale.ground],
        "seen_m": None if scale.seen_m is None else round(scale.seen_m, 6),
        "resolution": options.resolution,
        "bbox": options.reading.bbox,
        "mask": None if options.mask is None else options.mask.name,
        "mode": options.mode if deterministic else f"as published, seed {options.seed}",
        **_windows(translator, options),
        "legend_colours": options.legend_colours,
    }
    named = {} if options.attribution is None else {"TIFFTAG_COPYRIGHT": options.attribution}
    return named | {
        "TIFFTAG_SOFTWARE": f"sat2map {sat2map.__version__}",
        "SAT2MAP_VERSION": sat2map.__version__,
        "SAT2MAP_MODEL": translator.name,
        "SAT2MAP_PARAMETERS": json.dumps(parameters),
    }
