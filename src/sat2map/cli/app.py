"""The command line: verbs to functions, nothing else.

What a verb needs is imported when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli import model as cli_model
from sat2map.cli import parse
from sat2map.cli import vectors as cli_vectors
from sat2map.cli.batch import batch
from sat2map.cli.cache import cache_app
from sat2map.cli.compare import compare
from sat2map.cli.data import data_app
from sat2map.cli.evaluate_vectors import evaluate_vectors
from sat2map.cli.messages import OptionFormatter, say
from sat2map.cli.noise import allow_any_characters, silence_dependencies
from sat2map.cli.options import (
    AsJson,
    AsPublished,
    Attribution,
    Bands,
    Bbox,
    ClassLegend,
    Crs,
    ImageSide,
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
    Save,
    Seed,
    Settings,
    ShownResolution,
    Stretch,
    Style,
    Threads,
    ToleranceM,
    ValueRange,
    Warp,
    asks_for_masks,
)
from sat2map.cli.serve import serve
from sat2map.cli.signals import stop_on_signals
from sat2map.cli.start import keep_until_the_end, leave_out_converter, with_one_verb
from sat2map.cli.verify import verify
from sat2map.errors import DataError, Sat2mapError, UsageError, missing_extra

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn satellite and aerial images into maps and into vectors.\n\n"
    "Begin with: sat2map demo, or sat2map translate ortho.tif map.tif",
)


def main() -> None:
    """Run the command line as a process of its own."""
    notices = logging.StreamHandler()
    notices.setFormatter(OptionFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[notices])
    silence_dependencies()
    allow_any_characters()
    leave_out_converter()
    run()


def command() -> None:
    """Run the command line, and end the process.

    What libraries take down at a process's end is left to the system: taking it down is a sixth of
    what translating a small image takes.
    """
    try:
        main()
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
            with suppress(OSError):  # of which Python tells in its own way
                sys.stdout.flush()
                sys.stderr.flush()
                atexit._run_exitfuncs()
                os._exit(ended.code or 0)
        raise


def run() -> None:
    """Run the command line; an error of the user's is one line on stderr."""
    try:
        try:
            with_one_verb(app, sys.argv[1:])()
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from error
    except Sat2mapError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:  # the disk or a file under our hands; what a user did is caught
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("error: there is not enough memory for this. Use smaller images.", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from sat2map import __version__

        print(__version__)
        raise typer.Exit


def train(
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe's name, such as pix2pix, or a TOML file.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="DIR",
            help="Data set, with DIR/train and DIR/val; repeatable, the first one validates.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run, new or empty.")],
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    init: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Begin with the weights of this model folder."),
    ] = None,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="With --init: train the decoder alone.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a model; it ends up in RUN/model."""
    from sat2map.recipe import load_recipe

    chosen = list(settings or [])
    if init is not None:
        chosen.append(f"training.init={json.dumps(str(init))}")
    if freeze_encoder:
        chosen.append("training.freeze_encoder=true")
    resolved = load_recipe(recipe, chosen)
    import torch

    from sat2map.training.loop import train as run
    from sat2map.training.setup import accelerated

    if accelerated(resolved).training.cuda_graphs:
        # What is recorded has one size, so the fastest convolution is worth looking for. It is a
        # setting of the whole process, so it is made here and not in the library.
        torch.backends.cudnn.benchmark = True
    with stop_on_signals() as stop:
        print(run(resolved, data, out, resume=resume, quiet=quiet, stop=stop))


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of a shipped model, or a model folder.")
    ],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Data set: pairs, or photos and class masks."),
    ],
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "val",
    size: ImageSide = None,
    resolution: ShownResolution = None,
    tolerance_m: ToleranceM = None,
    published: AsPublished = False,
    seed: Seed = 0,
    runtime: RuntimeChoice = "auto",
    precision: PrecisionChoice = "auto",
    threads: Threads = None,
    perceptual: Annotated[
        bool,
        typer.Option(
            "--perceptual", help="Of pairs: also FID, KID and LPIPS (extra `perceptual`)."
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of pairs: write DIR/index.html, a page with examples."),
    ] = None,
    save: Save = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on pairs or class masks.

    Each metric has its 95 % interval over the images.
    """
    side = None if size is None else parse.image_side(size)
    shown = None if resolution is None else parse.shown_resolution(resolution)
    from sat2map.evaluation.evaluate import evaluate as score
    from sat2map.evaluation.evaluate import evaluate_masks
    from sat2map.evaluation.masks import TOLERANCE_M
    from sat2map.evaluation.report import unit_and_aim
    from sat2map.progress import Progress
    from sat2map.translation.translator import load

    masks = asks_for_masks(
        data,
        split,
        for_masks={"resolution": resolution is not None, "tolerance_m": tolerance_m is not None},
        for_pairs={
            "size": size is not None,
            "perceptual": perceptual,
            "report": report is not None,
        },
    )
    translator = load(model, runtime=runtime, threads=threads, precision=precision)
    with Progress("evaluating", quiet=quiet, unit="images") as progress:
        if masks:
            result = evaluate_masks(
                translator,
                data,
                split=split,
                resolution=shown,
                tolerance_m=TOLERANCE_M if tolerance_m is None else tolerance_m,
                mode="published" if published else "deterministic",
                seed=seed,
                save=save,
                progress=progress.show,
            )
        else:
            result = score(
                translator,
                data,
                split=split,
                size=256 if size is None else side,
                mode="published" if published else "deterministic",
                seed=seed,
                perceptual=perceptual,
                report=report,
                save=save,
                progress=progress.show,
            )
    if as_json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        for name, metric in result.summary.metrics.items():
            interval = f"[{metric.low:.4f}, {metric.high:.4f}]"
            print(f"{name:32}{metric.mean:10.4f}   {interval} {unit_and_aim(name)}".rstrip())
        for name, value in result.to_json().get("perceptual", {}).items():
            print(f"{name:32}{value:10.4f}")
        print(f"{'images':32}{result.summary.images:10}")
    for line in result.notices:
        say(line)
    for name, page in (("report", result.report), ("all images", result.saved)):
        if page is not None:
            print(f"{name}: {page}", file=sys.stderr)
    result.raise_failures()


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


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, and say what is wrong.

    It translates a drawn town; paste what it prints into an issue.
    """
    from sat2map.cli.doctor import diagnose

    found = diagnose()
    print(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
    if any(check.fault is not None for check in found.checks):
        raise typer.Exit(1)


def demo(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to write.")] = Path(
        "demo"
    ),
    model: ModelChoice = "streets",
    quiet: Quiet = False,
) -> None:
    """Draw a town, map it, and make a page to look at.

    All of it is in DIR; the page compares the map with the true one.
    """
    from sat2map.cli.demo import run_demo

    run_demo(directory, model=model, quiet=quiet)


# In this order `--help` lists them: maps first, then models, then the machine.
app.command()(demo)
app.command()(translate)
app.command()(cli_vectors.vectors)
app.command()(cli_vectors.report)
app.command()(cli_model.info)
# Settings may stand in the environment as well, such as SAT2MAP_SERVE_TOKEN.
app.command(context_settings={"auto_envvar_prefix": "SAT2MAP_SERVE"})(serve)
app.command()(batch)
app.command()(verify)
app.command()(train)
app.command()(evaluate)
app.command()(compare)
app.command("evaluate-vectors")(evaluate_vectors)
app.command()(cli_model.export)
app.command("import")(cli_model.import_)
app.command()(doctor)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
