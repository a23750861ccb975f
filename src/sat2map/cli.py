"""The command line: verbs to functions, nothing else.

What a verb needs is imported when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sat2map.cli_data import data_app
from sat2map.cli_options import (
    AsJson,
    AsPublished,
    DataDir,
    Quiet,
    RuntimeChoice,
    Seed,
    Settings,
    Threads,
    side_of,
)
from sat2map.errors import Sat2mapError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Satellite and aerial images into maps with Pix2Pix.",
)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; an error of the user's is one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except Sat2mapError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # the disk or a file under our hands; what a user did is caught
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("error: there is not enough memory for this. Use smaller pictures.", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from sat2map import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def train(
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe's name, such as pix2pix, or a TOML file.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="DIR",
            help="Data set: DIR/{train,val}/ with pairs. Repeatable; the first is validated on.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")],
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN.")] = False,
    init: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Start from this model folder.")
    ] = None,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="With --init: train the decoder only.")
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
    from sat2map.training.loop import train as run

    print(run(resolved, data, out, resume=resume, quiet=quiet))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    data: DataDir,
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "val",
    size: Annotated[
        str, typer.Option(metavar="PIXELS|native", help="Resize both pictures to this side.")
    ] = "256",
    as_published: AsPublished = False,
    seed: Seed = 0,
    runtime: RuntimeChoice = "auto",
    threads: Threads = None,
    perceptual: Annotated[
        bool, typer.Option("--perceptual", help="Also FID, KID, LPIPS (extra `perceptual`).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write DIR/index.html with examples.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on pairs, with intervals over the pictures."""
    side = side_of(size)
    from sat2map.evaluation.evaluate import evaluate as score
    from sat2map.progress import Progress
    from sat2map.translation.translator import load

    with Progress("evaluating", quiet=quiet) as progress:
        result = score(
            load(model, runtime=runtime, threads=threads),
            data,
            split=split,
            size=side,
            published=as_published,
            seed=seed,
            perceptual=perceptual,
            report=report,
            progress=progress.show,
        )
    if as_json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        for name, figure in result.summary.metrics.items():
            print(f"{name:32}{figure.mean:10.4f}   [{figure.low:.4f}, {figure.high:.4f}]")
        for name, value in result.to_json().get("perceptual", {}).items():
            print(f"{name:32}{value:10.4f}")
        print(f"{'pictures':32}{result.summary.pictures:10}")
    if result.report is not None:
        print(f"report: {result.report}", file=sys.stderr)
    result.raise_failures()


@app.command()
def translate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A scene, its address, a picture, a folder, or {z}/{x}/{y} tiles."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="The map: .tif, .png, .jpg, .pmtiles, .mbtiles, DIR/{z}/{x}/{y}.png; or a folder.",
        ),
    ],
    model: Annotated[Path, typer.Option(help="Model folder.")],
    bands: Annotated[
        str | None,
        typer.Option(metavar="N,N,N", help="Scene: its red, green and blue band, from 1."),
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Scene: percentiles that become 0 and 255."),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option("--range", metavar="LOW,HIGH", help="Scene: values that become 0 and 255."),
    ] = None,
    resolution: Annotated[
        str, typer.Option(metavar="native|model|METRES", help="Scene: resolution of the map.")
    ] = "native",
    bbox: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="Scene: translate this part, degrees (WGS 84)."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Scene: translate what lies in these polygons."),
    ] = None,
    legend_colours: Annotated[
        bool, typer.Option("--legend-colours", help="Use the legend's colours and no others.")
    ] = False,
    as_published: AsPublished = False,
    seed: Seed = 0,
    runtime: RuntimeChoice = "auto",
    threads: Threads = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write source and result side by side.")
    ] = False,
    attribution: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Scene: whom showing the map must name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Scene: go on with what an interrupted run left.")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse larger pictures; scenes may be of any size.")
    ] = 500_000_000,
    quiet: Quiet = False,
) -> None:
    """Translate a scene, a picture, or every one of a folder.

    A scene (TIFF, VRT, JPEG 2000) of any size becomes a map with its georeference. Of a
    folder, scenes become OUTPUT/STEM.tif and pictures OUTPUT/STEM.png.
    """
    from sat2map.progress import Progress
    from sat2map.raster.batch import kind_of, translate_path
    from sat2map.raster.options import SceneOptions, scene_reading, scene_resolution
    from sat2map.translation.translator import load

    options = SceneOptions(
        reading=scene_reading(bands, stretch, value_range, bbox),
        resolution=scene_resolution(resolution),
        legend_colours=legend_colours,
        published=as_published,
        seed=seed,
        compare=compare,
        mask=mask,
        resume=resume,
        attribution=attribution,
    )
    pixels = kind_of(source, target) in ("scene", "tiles")
    with Progress("translating", quiet=quiet, pixels=pixels) as progress:
        for path in translate_path(
            load(model, runtime=runtime, threads=threads),
            source,
            target,
            options,
            max_pixels=max_pixels,
            progress=progress.show,
        ):
            print(path)


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Generator of pytorch-CycleGAN-and-pix2pix.")],
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    resolution: Annotated[
        str | None,
        typer.Option(
            metavar="M[,M]", help="Ground resolution it was trained at, metres per pixel."
        ),
    ] = None,
    direction: Annotated[str, typer.Option(metavar="forward|reverse")] = "forward",
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures to fix the normalisation statistics with."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a model folder of somebody else's checkpoint."""
    if direction not in {"forward", "reverse"}:
        raise UsageError(
            f"{direction!r} is no direction",
            where="--direction",
            remedy="Give forward or reverse.",
        )
    from sat2map.foreign import import_checkpoint
    from sat2map.progress import Progress

    with Progress("calibrating", quiet=quiet) as progress:
        import_checkpoint(
            checkpoint,
            out,
            resolution_m=_resolution(resolution),
            direction="reverse" if direction == "reverse" else "forward",
            calibrate=calibrate,
            progress=progress.show,
        )
    print(out)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    kind: Annotated[
        Literal["onnx", "openvino", "deepness"],
        typer.Option("--format", help="For which runtime, or for QGIS's plug-in Deepness."),
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to int8, calibrated with --calibrate.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Data set, or folder of pictures, for --int8."),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="PIXELS|native", help="Compare pairs at this side.")
    ] = "256",
    tile: Annotated[
        int | None, typer.Option(min=1, help="Deepness: side of its tiles; 512 or near it.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a model for another runtime, checked against torch."""
    if int8 != (calibrate is not None):
        raise UsageError(
            "--int8 and --calibrate go together",
            where="--int8" if int8 else "--calibrate",
            remedy="Give --int8 --calibrate DATA, with pictures such as the model will get.",
        )
    if kind == "deepness":
        if int8:
            raise UsageError(
                "Deepness gets float32", where="--int8", remedy="Leave it out, or export onnx."
            )
        from sat2map.export.deepness import export_for_deepness

        done = export_for_deepness(model, out, tile)
    else:
        from sat2map.export.export import export_model
        from sat2map.export.int8 import Calibration
        from sat2map.progress import Progress

        calibration = None if calibrate is None else Calibration(calibrate, size=side_of(size))
        with Progress("comparing", quiet=quiet) as progress:
            done = export_model(model, out, kind, calibration, progress.show)
    if as_json:
        print(json.dumps(done.to_json(), indent=2))
        return
    print(f"largest difference to torch, of [-1, 1]: {done.difference:.2g}")
    if done.quantised is not None:
        for line in done.quantised.lines():
            print(line)
    print(done.folder)


@app.command()
def info(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="Model folder; or a scene: all that translate takes."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="Of a scene: does this model know its scale, how long will it take?"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model is: network, scale, legend, data, figures; or what a scene is."""
    from sat2map.raster.opening import names_scene

    if names_scene(path):
        from sat2map.raster.info import describe_scene, scene_facts
        from sat2map.translation.translator import load

        told = scene_facts(path, None if model is None else load(model))
        print(json.dumps(told, indent=2) if as_json else describe_scene(told))
        return
    from sat2map.card import describe, model_name, read_card
    from sat2map.translation.runtimes.open import is_exported

    folder = Path(path)
    if is_exported(folder):
        card, parameters = read_card(folder), None
    else:
        from sat2map.model import load_model

        loaded = load_model(folder)
        card, parameters = loaded.card, sum(p.numel() for p in loaded.network.parameters())
    if as_json:
        facts: dict[str, Any] = card.model_dump(mode="json")
        print(json.dumps({"name": model_name(folder), "parameters": parameters} | facts, indent=2))
    else:
        print(describe(model_name(folder), card))
        print("exported" if parameters is None else f"{parameters:,} parameters")


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path("demo"),
    pairs: Annotated[int, typer.Option(min=1, help="How many towns to train on.")] = 64,
    settings: Settings = None,
    quiet: Quiet = False,
) -> None:
    """Make towns, train a small Pix2Pix, evaluate it, translate a scene: all in DIR."""
    from sat2map.demo import run_demo

    run_demo(directory, pairs=pairs, settings=settings, quiet=quiet)


def _resolution(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in {1, 2} or not 0 < values[0] <= values[-1] < float("inf"):
        raise UsageError(
            f"{text!r} is no ground resolution",
            where="--resolution",
            remedy="Give metres per pixel, such as 0.9, or the finest and coarsest, 0.5,2.",
        )
    return values[0], values[-1]
