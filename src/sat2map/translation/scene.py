"""Translating a georeferenced scene from file to file."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rasterio.transform import Affine

import sat2map
from sat2map.arguments import checks_arguments
from sat2map.atomic import check_disk
from sat2map.errors import DataError, EmptySceneError, UsageError, expect
from sat2map.geo.gdal import settings
from sat2map.geo.grid import Grid, Part, ground_resolution
from sat2map.legend import SURENESS_TAG, Legend
from sat2map.provenance import TAG, Provenance
from sat2map.raster.georeference import stored
from sat2map.raster.named import Named, named
from sat2map.raster.options import SceneOptions
from sat2map.raster.output import check_room, write_raster, write_tiles
from sat2map.raster.partial import partial_work
from sat2map.raster.pyramid import pyramid_of
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scale import Scale
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source, open_source
from sat2map.raster.strips import Layout, Strips
from sat2map.raster.tile_archives import About, pmtiles_order
from sat2map.translation.blocks import Blocks
from sat2map.translation.class_files import ROOM, ClassFiles
from sat2map.translation.image import compare_name, legend_of
from sat2map.translation.maps import Layer
from sat2map.translation.pipeline import Product, ScenePipeline
from sat2map.translation.provenance import made_of, provenance_of, windows_of
from sat2map.translation.scene_view import SceneView
from sat2map.translation.translator import Translator, translator_of

logger = logging.getLogger(__name__)


@checks_arguments
def translate_raster(
    input: str | Path | Source,
    output: str | Path,
    model: str | Path | Translator | None = None,
    options: SceneOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    *,
    classes: str | Path | ClassFiles | None = None,
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

    With `classes` the same pass of the network also writes class numbers and how sure they are, on
    the map's own grid.

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
        classes: Where a class map is written, too: NAME.tif, or `ClassFiles`. Its grid is straight:
            a scene whose ground control points lie on none is warped to one.
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
        warnings.warn(text, DeprecationWarning, stacklevel=3)
        model = translator
    model = translator_of(model)
    expect(output, (str, Path), "output", "Give the name of the map.")
    expect(options, SceneOptions, "options", "Give SceneOptions.", none=True)
    if isinstance(classes, (str, Path)):
        classes = ClassFiles(Path(classes))
    translate_scene(
        input, Path(output), model, options or SceneOptions(), progress, stop, classes=classes
    )
    return named(Path(output)).path


def translate_scene(
    input: str | Path | Source,
    output: Path | None,
    translator: Translator,
    options: SceneOptions,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event | None,
    *,
    classes: ClassFiles | None = None,
    placed: bool = False,
    part: Part | None = None,
    blocks: Blocks | None = None,
    say: Callable[[str], object] = logger.warning,
    say_unfinished: Callable[[str], object] = logger.warning,
) -> bool:
    """Translate a scene as `translate_raster` does, with its notices going somewhere else.

    Args:
        input: As for `translate_raster`, like what follows.
        output: The map; None where classes alone are wanted.
        translator: The model.
        options: Settings of the translation.
        progress: Called with (done, all) pixels of the map.
        stop: Asks to stop once it is set.
        classes: Where the classes are written.
        placed: Whether a scene that does not say where on the ground it lies is refused.
        part: Which of the scene's pixels are wanted, in place of a `bbox`; for models with
            canonical windows, which are those of the whole scene.
        blocks: Make the strips of a block of rows and no file of them, or join all blocks.
        say: Called with notices of the scene and the mask.
        say_unfinished: Called with notices of what an interrupted run leaves.

    Returns:
        Whether the scene has a valid pixel, of which only blocks of it may have none.
    """
    stop = stop or threading.Event()
    translator.check_mode(options.mode)
    target = None if output is None else named(output)
    legend = legend_of(translator) if options.legend_colours and target is not None else None
    if classes is not None:
        classes.check(translator)
    with ExitStack() as stack:
        stack.enter_context(settings())
        plain = target is not None and not target.tiled and target.kind not in ("png", "jpeg")
        source = open_source(input)
        stack.enter_context(source.read_ahead())
        view = SceneView(
            source,
            translator,
            options,
            part=part,
            straight=not plain or classes is not None,
            say=say,
        )
        stack.enter_context(view)
        scene, scale, mask = view.scene, view.scale, view.mask
        where = scene.source.where
        if placed and ground_resolution(scene.grid) is None:
            raise DataError(
                "does not say where on the ground it lies, so nothing can be measured",
                where=where,
                remedy="Give it coordinates first, for example with: gdal_translate -a_srs "
                "EPSG:CODE -a_ullr WEST NORTH EAST SOUTH OLD.tif NEW.tif.",
            )
        # A second handle: the first is read ahead by another thread, and GDAL's are for one.
        again = stack.enter_context(scene.opened_again())
        shown = ResampledScene(again, *scale.written)
        part = view.part.on(scene.grid, shown.grid)
        grid = shown.grid.part(part.top, part.left, part.height, part.width)
        masked = scene.masked or mask is not None
        drawn = translator.answers_in_classes
        outputs = _of_map(target, grid, masked, legend, drawn=drawn, compare=options.compare)
        outputs += _of_classes(classes, grid, masked, translator)
        _check_outputs(outputs, classes, scene)
        pyramid = None
        if target is not None and target.tiled:
            pyramid = pyramid_of(grid, target.path)
        if target is not None and target.kind == "pmtiles":
            pmtiles_order()  # what is not installed is said before the work
        wanted = [each.layer for each in outputs]
        wanted += [each.least[0] for each in outputs if each.least is not None]
        layers = tuple(dict.fromkeys(wanted))
        pipeline = ScenePipeline(translator, view.seen, shown, options, layers, part, mask)
        # The last to be entered is the first to say what cannot be written.
        beside = {
            each.target.path: stack.enter_context(
                partial_work(each.target.path, {}, resume=False, say=logger.debug)
            )
            for each in outputs[1:]
            if each.of_classes
        }
        first = outputs[0].target.path
        partial = stack.enter_context(
            partial_work(
                first,
                made_of(translator, scene.source.fingerprint(), options, classes),
                resume=options.resume,
                say=say_unfinished,
            )
        )
        halved = blocks is None or blocks.number is None
        strips = [
            Strips(
                partial.strips,
                each.name,
                each.layout,
                overviews=halved and each.target.kind == "tiff",
            )
            for each in outputs
        ]
        products = [
            Product(each.layer, made, each.name == "compare", each.least)
            for each, made in zip(outputs, strips, strict=True)
        ]
        if blocks is not None:
            blocks.run(pipeline, products, partial, first, stop)
            if blocks.number is not None:
                return partial.some
        else:
            pipeline.run(products, partial, first, stop, progress)
        if not partial.some:
            partial.discard()
            raise EmptySceneError(
                "has no valid pixel, only nodata",
                where=where,
                remedy="Give another scene, `bbox` or `mask`.",
            )
        own = stored(scene.dataset)
        made = provenance_of(
            translator,
            scene.source,
            options,
            is_warped=own is not scene.dataset,
            tagged=own,
        )
        tags = _tags(made, scene, scale, options, translator)
        about = None
        if pyramid is not None:
            about = About(
                name=Path(scene.source.name).stem,
                description=f"{scene.source.name} translated with the model {translator.name} "
                f"by sat2map {sat2map.__version__}",
                attribution=made.attribution,
                pyramid=pyramid,
                provenance=replace(made, layer=outputs[0].layer),
            )
        for each, strip in zip(outputs, strips, strict=True):
            folder = beside.get(each.target.path, partial).folder
            told = tags | {TAG: each.provenance(made, classes).to_text()}
            if classes is not None and each.of_classes:
                if each.name == "classes":
                    told |= classes.width_tags(translator)
                else:
                    told[SURENESS_TAG] = translator.sureness
                classes.write(each.target.path, strip, folder, told, stop)
            elif about is not None:
                write_tiles(strip, folder, each.target, about, stop)
            else:
                write_raster(strip, folder, each.target, told, stop)
    return True


@dataclass(frozen=True)
class _Output:
    """One of the files that are made of a scene.

    Attributes:
        name: What its strips are called.
        target: The file.
        layer: What of the model's answers it shows.
        layout: What its strips consist of.
        of_classes: Whether it is one of `ClassFiles.rasters`.
        least: As for `Product`.
    """

    name: str
    target: Named
    layer: Layer
    layout: Layout
    of_classes: bool = False
    least: tuple[Layer, int] | None = None

    def provenance(self, made: Provenance, classes: ClassFiles | None) -> Provenance:
        """Return that of this file, of what is common to all files of a pass."""
        layer = "compare" if self.name == "compare" else self.layer
        if self.least is None or classes is None:
            return replace(made, layer=layer)
        settings = {**made.settings, "min_confidence": classes.min_confidence}
        return replace(made, layer=layer, settings=settings)


def _of_map(
    target: Named | None,
    grid: Grid,
    masked: bool,
    legend: Legend | None,
    *,
    drawn: bool,
    compare: bool,
) -> list[_Output]:
    """Return the map, and the comparison where it is wanted."""
    if target is None:
        return []
    layer: Layer = "image" if legend is None else "classes"
    outputs = [_Output("map", target, layer, Layout(grid, masked, legend, drawn=drawn))]
    if compare:
        pair = Grid(grid.height, 2 * grid.width, Affine.identity(), None)
        outputs.append(_Output("compare", _compared(target), layer, Layout(pair, masked)))
    return outputs


def _of_classes(
    classes: ClassFiles | None, grid: Grid, masked: bool, translator: Translator
) -> list[_Output]:
    """Return the class map and what goes with it."""
    if classes is None:
        return []
    return [
        _Output(
            "classes" if file == classes.classes else "confidence",
            Named(file, "tiff"),
            layer,
            classes.layout_of(file, grid, masked, translator),
            of_classes=True,
            least=classes.least if file == classes.classes else None,
        )
        for file, layer in classes.rasters.items()
    ]


def _check_outputs(outputs: list[_Output], classes: ClassFiles | None, scene: Scene) -> None:
    """Refuse, before the work, files that cannot be written or would overwrite each other."""
    for each in outputs:
        _check_target(each.target.path, scene)
        check_room(each.target, each.layout.grid)
        if each.of_classes:
            grid, count = each.layout.grid, sum(other.of_classes for other in outputs)
            check_disk(each.target.path, grid.height * grid.width * ROOM * count)
    files = [each.target.path for each in outputs if not each.of_classes]
    if classes is not None:
        files += classes.files
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise UsageError(
                "is the name of two files", where=file, remedy="Give each a name of its own."
            )
        seen.add(file.resolve())


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


def _tags(
    made: Provenance, scene: Scene, scale: Scale, options: SceneOptions, translator: Translator
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
        "samples": None if translator.samples is None else asdict(translator.samples),
        **windows_of(translator, options),
        "legend_colours": options.legend_colours,
    }
    named = {} if made.attribution is None else {"TIFFTAG_COPYRIGHT": made.attribution}
    return named | {
        "TIFFTAG_SOFTWARE": f"sat2map {sat2map.__version__}",
        "SAT2MAP_VERSION": sat2map.__version__,
        "SAT2MAP_MODEL": translator.name,
        "SAT2MAP_PARAMETERS": json.dumps(parameters),
    }
