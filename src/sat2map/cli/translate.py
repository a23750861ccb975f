"""The verb that turns scenes, images and folders into maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli import parse
from sat2map.cli.options import (
    AsPublished,
    Attribution,
    Bands,
    Bbox,
    ClassLegend,
    Crs,
    LegendColours,
    Licence,
    MapResolution,
    Mask,
    MinClassConfidence,
    ModelChoice,
    Nodata,
    PixelSize,
    PrecisionChoice,
    Qml,
    Quiet,
    Resume,
    RuntimeChoice,
    Samples,
    Seed,
    Stretch,
    Style,
    Threads,
    ValueRange,
    Warp,
)
from sat2map.cli.signals import stop_on_signals
from sat2map.cli.start import keep_until_the_end
from sat2map.errors import DataError, UsageError


def translate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A scene, its address, an image, a folder, or {z}/{x}/{y} tiles."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The map: .tif, .png, .jpg, .pmtiles, .mbtiles, DIR/{z}/{x}/{y}.png; or a folder.",
        ),
    ],
    model: ModelChoice = "streets",
    style: Style = None,
    bands: Bands = None,
    stretch: Stretch = None,
    value_range: ValueRange = None,
    nodata: Nodata = None,
    crs: Crs = None,
    pixel_size: PixelSize = None,
    warp: Warp = False,
    resolution: MapResolution = "native",
    bbox: Bbox = None,
    mask: Mask = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of a scene: also write its class map, a .tif of class numbers."
        ),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --classes: also write how sure each pixel is, a .tif of 0 to 255.",
        ),
    ] = None,
    min_confidence: MinClassConfidence = 0.0,
    class_legend: ClassLegend = "cover",
    samples: Samples = None,
    qml: Qml = False,
    legend_image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --classes: also write their legend as an image, .png."
        ),
    ] = None,
    legend_colours: LegendColours = False,
    published: AsPublished = False,
    seed: Seed = 0,
    runtime: RuntimeChoice = "auto",
    precision: PrecisionChoice = "auto",
    threads: Threads = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Also write source and result side by side, NAME.compare.png."
        ),
    ] = False,
    attribution: Attribution = None,
    licence: Licence = None,
    resume: Resume = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse images of more pixels; scenes may be of any size.")
    ] = 500_000_000,
    quiet: Quiet = False,
) -> None:
    """Turn a scene, an image or a folder into maps.

    A scene (TIFF, VRT, JPEG 2000) of any size becomes a map with its georeference. Of a
    folder, scenes become OUTPUT/STEM.tif and images OUTPUT/STEM.png.
    """
    from sat2map.progress import Progress
    from sat2map.raster.options import SceneOptions
    from sat2map.raster.sources import open_source
    from sat2map.translation.folder import task_of, translate_path
    from sat2map.translation.translator import load

    options = SceneOptions(
        reading=parse.scene_reading(
            bands, stretch, value_range, bbox, nodata, crs, pixel_size, warp=warp
        ),
        resolution=parse.map_resolution(resolution),
        legend_colours=legend_colours,
        mode="published" if published else "deterministic",
        seed=seed,
        compare=compare,
        mask=mask,
        resume=resume,
        attribution=attribution,
        licence=licence,
    )
    opened = open_source(source)
    task = task_of(opened, target)
    unit = {"image": "windows", "folder": "files"}.get(task, "pixels")
    if classes is None:
        for parameter, given in (
            ("confidence", confidence is not None),
            ("qml", qml),
            ("legend_image", legend_image is not None),
            ("min_confidence", min_confidence > 0),
            ("samples", samples is not None),
        ):
            if given:
                raise UsageError(
                    "goes with `classes`, and there are none",
                    parameter=parameter,
                    remedy="Give `classes`, too.",
                )
    translator = keep_until_the_end(
        load(model, runtime=runtime, threads=threads, precision=precision)
    )
    if style is not None:
        from sat2map.style.spec import style_colours

        colours = style_colours(style, translator.legend)
        try:
            translator = translator.in_colours(colours)
        except DataError as error:  # which does not know the file
            raise DataError(error.what, where=style, remedy=error.remedy) from error
    if samples is not None:
        translator = translator.sampled(samples, seed)
    files = None
    if classes is not None:
        from sat2map.translation.class_files import ClassFiles

        files = ClassFiles(classes, confidence, class_legend, qml, legend_image, min_confidence)
    with (
        stop_on_signals() as stop,
        Progress("translating", quiet=quiet, unit=unit) as progress,
    ):

        def show(done: int, total: int) -> None:
            if unit == "pixels" and done == total:  # which takes minutes where the map is large
                progress.note("making the final file")
            progress.show(done, total)

        for path in translate_path(
            translator,
            opened,
            target,
            options,
            classes=files,
            max_pixels=max_pixels,
            progress=show,
            stop=stop,
        ):
            print(path)
