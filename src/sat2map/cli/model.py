"""The verbs about models: take in, write for other runtimes, describe.

As in `cli.py`, what a verb needs is imported when it is called.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sat2map.cli import parse
from sat2map.cli.messages import say, with_options
from sat2map.cli.options import (
    AsJson,
    Bands,
    Bbox,
    Crs,
    Nodata,
    PixelSize,
    Quiet,
    Stretch,
    ValueRange,
    Warp,
)
from sat2map.errors import UsageError

logger = logging.getLogger(__name__)


def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="Generator of pytorch-CycleGAN-and-pix2pix, a .pth file."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Model folder to write.")],
    resolution_m: Annotated[
        str | None,
        typer.Option(
            "--resolution",
            metavar="M[,M]",
            help="Ground resolution it was trained at, metres per pixel.",
        ),
    ] = None,
    direction: Annotated[
        Literal["forward", "reverse"],
        typer.Option(help="reverse: it was trained from the right half (B) to the left one (A)."),
    ] = "forward",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Images over which the normalisation statistics are fixed."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a model folder of a PyTorch checkpoint.

    It takes generators that junyanz/pytorch-CycleGAN-and-pix2pix has trained.
    """
    from sat2map.model.pix2pix_checkpoint import import_checkpoint
    from sat2map.progress import Progress

    with Progress("calibrating", quiet=quiet, unit="images") as progress:
        import_checkpoint(
            checkpoint,
            out,
            resolution_m=None if resolution_m is None else parse.trained_resolution(resolution_m),
            direction=direction,
            calibrate=calibrate,
            progress=progress.show,
        )
    print(out)


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of a shipped model, or a model folder.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    for_runtime: Annotated[
        Literal["onnx", "openvino", "deepness"],
        typer.Option("--format", help="For which runtime, or for Deepness, a plug-in of QGIS."),
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to int8, calibrated with --calibrate.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="With --int8: data set, or folder of images, to measure values on."
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="PIXELS|native", help="With --int8: compare pairs at this side.")
    ] = "256",
    tile: Annotated[
        int | None,
        typer.Option(
            min=1, help="With deepness: side of its tiles in pixels.  [default: about 512]"
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a model for another runtime.

    It is compared with torch, and the largest difference is printed.
    """
    if int8 != (calibrate is not None):
        raise UsageError(
            "--int8 and --calibrate go together",
            parameter="int8" if int8 else "calibrate",
            remedy="Give --int8 --calibrate DATA, with images such as the model will get.",
        )
    from sat2map.model.card import model_folder

    folder = model_folder(model)
    if for_runtime == "deepness":
        if int8:
            raise UsageError(
                "Deepness gets float32", parameter="int8", remedy="Leave it out, or export onnx."
            )
        from sat2map.export.deepness import export_for_deepness

        done = export_for_deepness(folder, out, tile)
    else:
        from sat2map.export.export import export_model
        from sat2map.export.int8 import Calibration
        from sat2map.progress import Progress

        calibration = (
            None if calibrate is None else Calibration(calibrate, size=parse.image_side(size))
        )
        with Progress("comparing", quiet=quiet, unit="images") as progress:
            done = export_model(folder, out, for_runtime, calibration, progress.show)
    if as_json:
        print(json.dumps(done.to_json(), indent=2))
        return
    print(f"largest difference to torch, of [-1, 1]: {done.difference:.2g}")
    if done.quantised is not None:
        for line in done.quantised.lines():
            print(line)
    print(done.folder)


def info(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A model, whatever translate takes, or what sat2map has written."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(help="Of a scene: the model that it is asked for, shipped or a folder."),
    ] = "streets",
    nodata: Nodata = None,
    crs: Crs = None,
    pixel_size: PixelSize = None,
    warp: Warp = False,
    bands: Bands = None,
    stretch: Stretch = None,
    value_range: ValueRange = None,
    bbox: Bbox = None,
    as_json: AsJson = False,
) -> None:
    """Describe a model, a scene, or what was written.

    Of a scene it tells whether the model knows its scale and how long it will take; of an output
    what it was made of and how.
    """
    from sat2map.model.card import (
        check_card,
        check_files,
        count_parameters,
        describe,
        is_model,
        model_folder,
        model_name,
        read_model_card,
    )

    if not is_model(path):
        from sat2map.geo.gdal import is_address
        from sat2map.raster.provenance_reader import read_provenance
        from sat2map.raster.sources import open_source
        from sat2map.translation.info import describe_scene, scene_facts
        from sat2map.translation.translator import load

        reading = parse.scene_reading(
            bands, stretch, value_range, bbox, nodata, crs, pixel_size, warp=warp
        )
        made = None if is_address(path) else read_provenance(Path(path))
        if made is not None and Path(path).suffix.lower() not in ("", ".tif", ".tiff"):
            print(
                json.dumps({"provenance": made.to_json()}, indent=2) if as_json else made.describe()
            )
            return
        source = open_source(path)
        told = scene_facts(source, None if made else load(model), reading)
        if made is not None:
            told["provenance"] = made.to_json()
        told["notices"] = [with_options(notice) for notice in told["notices"]]
        for notice in told["notices"]:
            logger.warning(notice)
        print(json.dumps(told, indent=2) if as_json else describe_scene(told))
        if made is not None and not as_json:
            print(f"\n{made.describe()}")
        for failure in told.get("failures", ()):
            say(f"error: {failure}")
        if told.get("failures"):
            raise typer.Exit(1)
        return
    from sat2map.runtimes.open import is_exported, told_precision

    folder = model_folder(path)
    card = read_model_card(folder)
    check_card(card, folder / "model.json")
    check_files(folder)
    parameters = None if is_exported(folder) else count_parameters(folder)
    precision, why = told_precision(folder)
    if as_json:
        own: dict[str, Any] = {"name": model_name(folder), "parameters": parameters}
        own["precision"] = {"used": precision, "why": why}
        print(json.dumps(own | card.model_dump(mode="json"), indent=2))
    else:
        print(with_options(describe(model_name(folder), card)))
        print("exported" if parameters is None else f"{parameters:,} parameters")
        print(f"runs in {precision}: {why}")
