"""The verb `compare`: two or more models side by side on the same data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sat2map.cli import parse
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
from sat2map.errors import UsageError

if TYPE_CHECKING:
    from sat2map.evaluation.comparison import Comparison


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Two or more: names of shipped models, or model folders."
        ),
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
    save: Save = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score several models on the same images.

    Differences from the first one have paired 95 % intervals.
    """
    side = None if size is None else parse.image_side(size)
    shown = None if resolution is None else parse.shown_resolution(resolution)
    twice = [model for model in models if models.count(model) > 1]
    if twice:
        raise UsageError(
            "is named twice", where=twice[0], remedy="Compare models with others than themselves."
        )
    from sat2map.evaluation.comparison import compare as score
    from sat2map.evaluation.comparison import compare_masks
    from sat2map.evaluation.masks import TOLERANCE_M
    from sat2map.progress import Progress
    from sat2map.translation.translator import load

    masks = asks_for_masks(
        data,
        split,
        for_masks={"resolution": resolution is not None, "tolerance_m": tolerance_m is not None},
        for_pairs={"size": size is not None},
    )
    loaded = {
        model: load(model, runtime=runtime, threads=threads, precision=precision)
        for model in models
    }
    with Progress("comparing", quiet=quiet, unit="images") as progress:
        if masks:
            result = compare_masks(
                loaded,
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
                loaded,
                data,
                split=split,
                size=256 if size is None else side,
                mode="published" if published else "deterministic",
                seed=seed,
                save=save,
                progress=progress.show,
            )
    if as_json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        _print_table(result)
    if result.saved is not None:
        print(f"all images: {result.saved}", file=sys.stderr)
    result.raise_failures()


def _print_table(result: Comparison) -> None:
    """Print a line for each metric: each model's, and how far the others are from the first."""
    from sat2map.evaluation.report import unit_and_aim

    rows = [["", *(_ending(model, 26) for model in result.models)]]
    rows[0] += [f"{_ending(model, 14)} less first" for model in result.models[1:]]
    for name in result.metrics:
        row = [name]
        for summary in result.summaries:
            one = summary.metrics[name]
            row.append(f"{one.mean:.4f}  [{one.low:.4f}, {one.high:.4f}]")
        for difference in result.differences:
            one = difference[name]
            sure = "*" if one.low * one.high > 0 else " "
            row.append(f"{one.mean:+.4f}{sure} [{one.low:+.4f}, {one.high:+.4f}]")
        rows.append([*row, unit_and_aim(name)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, [*widths, 0], strict=False)  # the first row has no unit
        print("   ".join(f"{cell:{width}}" for cell, width in cells).rstrip())
    print(f"images: {result.summaries[0].images}")
    print("* the paired interval is without 0", file=sys.stderr)


def _ending(name: str, length: int) -> str:
    """Return a name, or so much of its end, in which models of many runs differ."""
    return name if len(name) <= length else f"...{name[3 - length :]}"
