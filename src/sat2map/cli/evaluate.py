"""The verb that scores a model on a data set."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli import parse
from sat2map.cli.messages import say
from sat2map.cli.options import (
    AsJson,
    AsPublished,
    ImageSide,
    PrecisionChoice,
    Quiet,
    RuntimeChoice,
    Save,
    Seed,
    ShownResolution,
    Threads,
    ToleranceM,
    asks_for_masks,
)


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
