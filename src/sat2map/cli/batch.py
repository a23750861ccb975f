"""The verb `batch`: many scenes into a folder of maps, and how far that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sat2map.cli import parse
from sat2map.cli.messages import say, with_options
from sat2map.cli.options import (
    AsJson,
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
    MinimumArea,
    ModelChoice,
    Nodata,
    PixelSize,
    PrecisionChoice,
    Qml,
    Quiet,
    RuntimeChoice,
    Samples,
    Seed,
    Stretch,
    Style,
    ValueRange,
    Warp,
)
from sat2map.cli.signals import stop_on_signals
from sat2map.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def batch(
    scenes: Annotated[
        str | None,
        typer.Argument(
            metavar="SCENES",
            help="A folder, a list in a text file or a table, a STAC catalogue, an index of tiles.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Folder of the maps, new or begun before.")
    ] = None,
    model: ModelChoice = "streets",
    classes: Annotated[
        bool, typer.Option("--classes", help="Also write class maps, STEM.classes.tif.")
    ] = False,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence",
            help="With --classes: also write how sure each pixel is, STEM.confidence.tif.",
        ),
    ] = False,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Also write vectors, STEM.gpkg.")
    ] = False,
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a table or an index: the column that names the scenes."
        ),
    ] = None,
    asset: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Of a STAC catalogue: which asset of an item.  [default: by its role]",
        ),
    ] = None,
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
    min_confidence: MinClassConfidence = 0.0,
    class_legend: ClassLegend = "cover",
    qml: Qml = False,
    legend_image: Annotated[
        bool,
        typer.Option("--legend-image", help="With --classes: a picture of their legend, too."),
    ] = False,
    samples: Samples = None,
    legend_colours: LegendColours = False,
    minimum_m2: MinimumArea = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write STEM.compare.tif, scene and map.")
    ] = False,
    published: AsPublished = False,
    seed: Seed = 0,
    attribution: Attribution = None,
    licence: Licence = None,
    runtime: RuntimeChoice = "auto",
    precision: PrecisionChoice = "auto",
    threads: Annotated[
        int,
        typer.Option("--threads", min=1, help="Threads that the network runs on, in each worker."),
    ] = 1,
    split_above: Annotated[
        str,
        typer.Option(
            "--split-above",
            metavar="PIXELS",
            help="Make larger scenes in blocks of rows; none: never.",
        ),
    ] = "2Gpx",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Processes at once.  [default: as many as fit the machine]"
        ),
    ] = None,
    worker_memory: Annotated[
        float | None,
        typer.Option(
            "--worker-memory",
            min=0.1,
            metavar="GB",
            help="End a worker that takes more memory than this.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS",
            help="Work on a Ray cluster, whose machines share SCENES and OUT.",
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where workers make files.  [default: the system's temporary folder]",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try scenes again that failed before.")
    ] = False,
    status: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Tell how far the batch in OUT is, and do nothing."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Map thousands of scenes; any process may die.

    Each becomes OUT/path/STEM.tif. Run the same command again to go on.
    """
    if status is not None:
        if scenes is not None or out is not None:
            raise UsageError(
                f"tells of {status} and translates nothing",
                parameter="status",
                remedy="Leave out SCENES and OUT, or `status`.",
            )
        _tell_status(status, as_json=as_json)
        return
    if scenes is None or out is None:
        raise UsageError(
            "SCENES and OUT are both needed",
            remedy="Give a list of scenes and a folder for their maps.",
        )
    from sat2map.batch.options import BatchOptions
    from sat2map.batch.run import batch_status, raise_unusable, run_batch
    from sat2map.progress import Progress
    from sat2map.raster.options import SceneOptions
    from sat2map.vectors.vectorise import VectorOptions

    if minimum_m2 and not vectors:
        raise UsageError(
            "goes with `vectors`, and there are none",
            parameter="minimum_m2",
            remedy="Give `vectors`, too.",
        )
    options = BatchOptions(
        scene=SceneOptions(
            reading=parse.scene_reading(
                bands, stretch, value_range, bbox, nodata, crs, pixel_size, warp=warp
            ),
            resolution=parse.map_resolution(resolution),
            legend_colours=legend_colours,
            mode="published" if published else "deterministic",
            seed=seed,
            compare=compare,
            mask=mask,
            attribution=attribution,
            licence=licence,
        ),
        classes=classes,
        confidence=confidence,
        class_legend=class_legend,
        qgis_style=qml,
        legend_image=legend_image,
        samples=samples,
        min_confidence=min_confidence,
        vectors=VectorOptions(minimum_m2=parse.minimum_areas(minimum_m2 or []))
        if vectors
        else None,
        colours=None if style is None else _colours(style, model),
        runtime=runtime,
        precision=precision,
        threads=threads,
        split_above=parse.number_of_pixels(split_above),
    )
    with stop_on_signals() as stop, Progress("translating", quiet=quiet, unit="scenes") as progress:
        counts = run_batch(
            scenes,
            out,
            model,
            options,
            column=column,
            asset=asset,
            workers=workers,
            worker_memory=None if worker_memory is None else worker_memory * 1e9,
            ray=ray,
            scratch=scratch,
            retry_failed=retry_failed,
            progress=progress.show,
            stop=stop,
        )
    print(json.dumps(counts, indent=2) if as_json else out)
    if not as_json:
        say(_line_of(counts))
        noticed = len(batch_status(out)["noticed"])
        if noticed:
            say(
                f"{noticed:,} of them with notices, such as that a photo looks unlike what the "
                f"model has learned from: see `sat2map batch --status {out}`"
            )
    raise_unusable(counts, out)


def _colours(style: str, model: str) -> Mapping[str, object]:
    """Return what colours a style has for the classes of a model."""
    from sat2map.model.card import model_folder, read_model_card
    from sat2map.style.spec import style_colours

    return style_colours(style, read_model_card(model_folder(model)).legend)


def _line_of(counts: Mapping[Any, int]) -> str:
    told = [f"{count:,} {state}" for state, count in counts.items() if count]
    return f"{sum(counts.values()):,} scenes: {', '.join(told)}"


def _tell_status(out: Path, *, as_json: bool) -> None:
    from sat2map.batch.run import batch_status

    found = batch_status(out)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(_line_of(found["states"]))
    pixels, seconds = found["pixels"], found["seconds"]
    if pixels:
        print(f"{pixels / 1e6:,.1f} Mpx, {seconds:,.0f} s of workers' time")
    driver = found["driver"]
    if driver is not None:
        told = {True: "works on it", False: "was killed; the same command goes on"}
        does = told.get(driver["alive"], "works on it, or was killed")
        print(f"process {driver['pid']} on {driver['host']} {does}")
    for scene in found["blocks"]:
        print(
            f"{scene['scene']}: {scene['made']:,} of {scene['blocks']:,} blocks made, "
            f"{scene['running']:,} running"
        )
    for scene in found["unusable"]:
        print(f"{scene['scene']}: {scene['state']}: {scene['error']}")
    for scene in found["noticed"]:
        for notice in scene["notices"]:
            print(with_options(notice))
