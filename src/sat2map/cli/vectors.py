"""Verbs of class maps: `vectors`, which makes a GeoPackage, and `report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli import parse
from sat2map.cli.options import (
    AsJson,
    Bands,
    Crs,
    MinimumArea,
    Nodata,
    PixelSize,
    Quiet,
    Resume,
    Samples,
    Seed,
    Stretch,
    ValueRange,
)
from sat2map.cli.signals import stop_on_signals
from sat2map.errors import UsageError

Legend = Annotated[
    str | None,
    typer.Option(
        "--legend",
        metavar="cover|map|FILE",
        help="What the numbers of a class map mean, where it does not say it itself.",
    ),
]


def vectors(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A photo, or a class map (a raster of class numbers)."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="NAME.gpkg; .pmtiles of vector tiles; or one layer: .geojson, .fgb, .parquet.",
        ),
    ],
    legend: Legend = None,
    confidence: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a class map: a raster of how sure each pixel is."),
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Leave out what is less sure, 0 to 1."),
    ] = 0.0,
    model: Annotated[
        str | None,
        typer.Option(help="Of a photo: a shipped model, or a model folder.  [default: streets]"),
    ] = None,
    samples: Samples = None,
    seed: Seed = 0,
    bands: Bands = None,
    stretch: Stretch = None,
    value_range: ValueRange = None,
    nodata: Nodata = None,
    crs: Crs = None,
    pixel_size: PixelSize = None,
    minimum_m2: MinimumArea = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--simplify",
            metavar="PIXELS",
            help="How far borders are straightened; 0 keeps the pixels.  [default: 1.5]",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Which layer a .geojson, .fgb or .parquet has, such as buildings."
        ),
    ] = None,
    out_crs: Annotated[
        str | None,
        typer.Option(
            metavar="EPSG:CODE",
            help="Coordinate reference system of the file.  [default: the input's]",
        ),
    ] = None,
    attribution: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Who is to be named where they are shown."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Licence under which they may be used, CC-BY-4.0."),
    ] = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Make vectors of a photo or of a class map.

    Land cover without gaps, buildings, and a network of roads, each with its area or length.
    """
    from sat2map.progress import Progress
    from sat2map.raster.sources import open_source
    from sat2map.vectors.coverage import TOLERANCE
    from sat2map.vectors.formats import check_target
    from sat2map.vectors.photo import is_class_map, is_photo, vectorise_photo
    from sat2map.vectors.vectorise import VectorOptions, vectorise

    check_target(target, layer, out_crs)
    options = VectorOptions(
        minimum_m2=parse.minimum_areas(minimum_m2 or []),
        tolerance=TOLERANCE if tolerance is None else tolerance,
        min_confidence=min_confidence,
        layer=layer,  # type: ignore[arg-type]  # it was checked
        out_crs=out_crs,
        attribution=attribution,
        licence=licence,
        resume=resume,
    )
    reading = parse.scene_reading(bands, stretch, value_range, None, nodata, crs, pixel_size)
    opened = open_source(source)
    photo = model is not None or (legend is None and is_photo(opened))
    of_photos = {
        "model": model,
        "samples": samples,
        "bands": bands,
        "stretch": stretch,
        "value_range": value_range,
        "nodata": nodata,
        "crs": crs,
        "pixel_size": pixel_size,
    }
    given = next((name for name, value in of_photos.items() if value is not None), None)
    if given is not None and (not photo or legend is not None or is_class_map(opened)):
        raise UsageError(
            f"{opened.where} is a class map, for which it is of no use",
            parameter=given,
            remedy="Leave it out.",
        )
    if photo:
        from sat2map.translation.translator import load

        if confidence is not None:
            raise UsageError(
                f"{opened.where} is a photo, whose classes are made on the way",
                parameter="confidence",
                remedy="Leave it out, or make `classes` with `sat2map translate` first.",
            )
        translator = load("streets" if model is None else model)
        if samples is not None:
            translator = translator.sampled(samples, seed)
        with stop_on_signals() as stop, Progress("vectorising", quiet=quiet, unit="%") as progress:
            print(
                vectorise_photo(
                    opened,
                    target,
                    translator,
                    reading=reading,
                    options=options,
                    progress=progress.show,
                    stop=stop,
                )
            )
        return
    with stop_on_signals() as stop, Progress("vectorising", quiet=quiet, unit="%") as progress:
        done = vectorise(
            opened,
            target,
            legend=legend,
            confidence=confidence,
            options=options,
            progress=progress.show,
            stop=stop,
        )
    print(done)


def report(
    classes: Annotated[
        str, typer.Argument(metavar="CLASSES", help="A class map: a raster of class numbers.")
    ],
    legend: Legend = None,
    zones: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also measure each polygon of this file."),
    ] = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write it as a page.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure what a class map shows, whole and by zone.

    Hectares, shares and parts of each class, metres of roads, buildings per hectare.
    """
    from sat2map.atomic import check_file_name, write_text
    from sat2map.progress import Progress
    from sat2map.vectors.report import lines_of, report_classes

    if html is not None:
        check_file_name(html)
    with stop_on_signals() as stop, Progress("measuring", quiet=quiet, unit="%") as progress:
        found = report_classes(
            classes, legend=legend, zones=zones, progress=progress.show, stop=stop
        )
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        for line in lines_of(found):
            print(line)
    if html is not None:
        write_text(html, found.to_html())
        print(f"report: {html}", file=sys.stderr)
