"""The land cover of a scene with the probabilities of its classes, for who goes on with both.

What `translate_classes` writes is for people. This is plain, without overviews, and goes again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from sat2map.atomic import check_disk
from sat2map.errors import DataError, EmptySceneError, StoppedError, writing_to
from sat2map.geo.gdal import settings
from sat2map.geo.grid import Grid, Part, ground_resolution
from sat2map.legend import COVER, LEGEND_TAG, TEMPERATURE_TAG
from sat2map.provenance import TAG
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.partial import Partial, partial_work
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.sources import Source
from sat2map.raster.strips import TILE, Layout, Strips
from sat2map.translation.blocks import Blocks
from sat2map.translation.class_files import NODATA, road_width_tags
from sat2map.translation.maps import Layer, check_layers
from sat2map.translation.pipeline import Product, ScenePipeline
from sat2map.translation.provenance import made_of, provenance_of
from sat2map.translation.scene_view import SceneView
from sat2map.translation.translator import Translator

logger = logging.getLogger(__name__)

_LAYERS: tuple[Layer, Layer] = ("cover", "cover_shares")
_ROOM = 3 + len(COVER)
"""Bytes of the disk that a pixel takes, with those that say where there is a map."""


@contextmanager
def land_cover_of(
    source: Source,
    place: Path,
    translator: Translator,
    reading: Reading | None = None,
    *,
    room: int = 0,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    blocks: Blocks | None = None,
    say: Callable[[str], object] = logger.warning,
) -> Iterator[tuple[Path, Path]]:
    """Make the land cover of a scene of any size on the network's own grid, and yield it.

    What is finished lies strip by strip in a hidden folder, and survives an error or a kill, in the
    block too. At the end of the block it is removed.

    Args:
        source: A scene that says where it lies. One whose ground control points lie on no straight
            grid is warped to one.
        place: Beside this, and called after it, is the folder `.NAME.partial`.
        translator: The model, with classes.
        reading: How the scene's values become pixels.
        room: Bytes of the disk that a pixel takes in the block.
        resume: Whether the work goes on where an earlier run stopped.
        progress: Called with (done, all) pixels.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        blocks: Join all blocks in place of making the land cover.
        say: Called with notices of the scene, and of what is unfinished.

    Yields:
        Two rasters: numbers of the legend `COVER`, uint8, with the legend as a tag, `NODATA` where
        the scene has no values; and probabilities, a band for each class, uint8, 0 to 1 as 0 to
        255.

    Raises:
        DataError: The scene cannot be read, has no valid pixel, or does not say where it lies.
        UsageError: The model has no classes, or what is to be resumed was made of something else.
        OutputError: The disk is full.
        StoppedError: `stop` is set.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        work = _opened(stack, source, place, translator, reading, room, resume=resume, say=say)
        if blocks is not None:
            blocks.run(work.pipeline, work.products, work.partial, place, stop)
        else:
            work.pipeline.run(work.products, work.partial, place, stop, progress)
        if not work.partial.some:
            work.partial.discard()
            raise EmptySceneError(
                "has no valid pixel, only nodata", where=source.where, remedy="Give another scene."
            )
        classes, probabilities = (product.strips for product in work.products)
        sure = {TEMPERATURE_TAG: str(translator.kind.cover_temperature)}
        yield (
            classes.whole("alpha", tags=_tags(source, work.reading, translator)),
            probabilities.whole("colours", tags=sure),
        )


def make_land_cover_block(
    source: Source,
    place: Path,
    translator: Translator,
    reading: Reading,
    blocks: Blocks,
    stop: threading.Event,
) -> None:
    """Make the strips of a block of rows, of those that `land_cover_of` makes or joins.

    Args:
        source: As for `land_cover_of`, like what follows.
        place: Beside this is a folder while it is made.
        translator: The model.
        reading: How the scene's values become pixels.
        blocks: Which block, and where its strips go.
        stop: Asks to stop once it is set.
    """
    with ExitStack() as stack:
        work = _opened(stack, source, place, translator, reading, say=logger.debug)
        blocks.run(work.pipeline, work.products, work.partial, place, stop)


@dataclass(frozen=True)
class _Work:
    """A scene that is open for its land cover, and what is made of it."""

    reading: Reading
    pipeline: ScenePipeline
    products: list[Product]
    partial: Partial


def _opened(
    stack: ExitStack,
    source: Source,
    place: Path,
    translator: Translator,
    reading: Reading | None,
    room: int = 0,
    *,
    resume: bool = False,
    say: Callable[[str], object],
) -> _Work:
    """Open a scene until the end of a stack."""
    reading = replace(reading or Reading(), warp=True)
    options = SceneOptions(reading, resolution="model", resume=resume)
    pipeline, grid = _pipeline(stack, source, translator, options, say)
    check_disk(place, grid.height * grid.width * (_ROOM + room))
    made = made_of(translator, source.fingerprint(), options)
    partial = stack.enter_context(partial_work(place, made, resume=resume, say=say))
    layouts = Layout(grid, True, COVER, NODATA), Layout(grid, True, nodata=0, values=len(COVER))
    products = [
        Product(layer, Strips(partial.strips, name, layout))
        for layer, name, layout in zip(_LAYERS, ("classes", "probabilities"), layouts, strict=True)
    ]
    return _Work(reading, pipeline, products, partial)


def _pipeline(
    stack: ExitStack,
    source: Source,
    translator: Translator,
    options: SceneOptions,
    say: Callable[[str], object],
    align: int = TILE,
) -> tuple[ScenePipeline, Grid]:
    """Return a scene on its way to its land cover, and the grid of that, until a stack ends."""
    check_layers(_LAYERS, translator.kind, translator.name)
    stack.enter_context(settings())
    view = stack.enter_context(SceneView(source, translator, options, straight=True, say=say))
    if ground_resolution(view.scene.grid) is None:
        raise DataError(
            "does not say where on the ground it lies, so nothing can be measured",
            where=source.where,
            remedy="Give it coordinates first, for example with: gdal_translate -a_srs "
            "EPSG:CODE -a_ullr WEST NORTH EAST SOUTH OLD.tif NEW.tif.",
        )
    again = stack.enter_context(view.scene.opened_again())
    shown = ResampledScene(again, *view.scale.written)
    part = view.part.on(view.scene.grid, shown.grid)
    grid = shown.grid.part(part.top, part.left, part.height, part.width)
    pipeline = ScenePipeline(translator, view.seen, shown, options, _LAYERS, part, align=align)
    return pipeline, grid


@contextmanager
def land_cover_within(
    source: Source,
    folder: Path,
    translator: Translator,
    reading: Reading,
    wanted: Callable[[Grid], Sequence[Part]],
    *,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event,
) -> Iterator[tuple[Path, Path]]:
    """Make the land cover of some parts of a scene, as `land_cover_of` makes that of all of it.

    Args:
        source: As for `land_cover_of`.
        folder: Where the two rasters are made; they stay there.
        translator: The model, with classes.
        reading: How the scene's values become pixels.
        wanted: Returns which pixels of the network's own grid are wanted; elsewhere the rasters
            may have nothing.
        progress: Called with (done, all) windows.
        stop: Asks to stop once it is set.

    Yields:
        The two rasters that `land_cover_of` yields.

    Raises:
        DataError: The scene cannot be read, or does not say where it lies.
        UsageError: The model has no classes.
        OutputError: The disk is full.
        StoppedError: `stop` is set.
    """
    reading = replace(reading, warp=True)
    options = SceneOptions(reading, resolution="model")
    with ExitStack() as stack:
        pipeline, grid = _pipeline(stack, source, translator, options, logger.debug, align=1)
        chosen = pipeline.touching(wanted(grid))
        room = sum(place.height * place.width for place in chosen.values()) * _ROOM
        check_disk(folder / "classes.tif", room)
        facts: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "tiled": True}
        facts |= {"height": grid.height, "width": grid.width, "sparse_ok": True}
        facts |= {"crs": grid.crs, "transform": grid.transform, "bigtiff": "if_safer"}
        told = _tags(source, reading, translator)
        sure = {TEMPERATURE_TAG: str(translator.kind.cover_temperature)}
        files = folder / "classes.tif", folder / "probabilities.tif"
        with (
            writing_to(folder),
            rasterio.open(files[0], "w", count=1, nodata=NODATA, **facts) as classes,
            rasterio.open(files[1], "w", count=len(COVER), nodata=0, **facts) as shares,
        ):
            classes.update_tags(**told)
            shares.update_tags(**sure)
            for done, window in enumerate(chosen, 1):
                if stop.is_set():
                    raise StoppedError("stopped as asked", where=files[0])
                place, layers, valid = pipeline.piece(*window)
                box = Window(place.left, place.top, place.width, place.height)
                classes.write(np.where(valid, layers["cover"], NODATA), 1, window=box)
                likely = layers["cover_shares"] * valid[..., None]
                shares.write(likely.transpose(2, 0, 1), window=box)
                if progress is not None:
                    progress(done, len(chosen))
        yield files


def _tags(source: Source, reading: Reading, translator: Translator) -> dict[str, str]:
    """Return what the class numbers say of their making, for who makes something else of them."""
    options = SceneOptions(reading, resolution="model")
    with source.open() as dataset:
        made = provenance_of(translator, source, options, tagged=dataset)
    told = {} if made.attribution is None else {"TIFFTAG_COPYRIGHT": made.attribution}
    legend = json.dumps(COVER.to_json())
    told |= road_width_tags(translator)
    return told | {LEGEND_TAG: legend, TAG: replace(made, layer="cover").to_text()}
