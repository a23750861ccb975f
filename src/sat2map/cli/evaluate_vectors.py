"""The verb `evaluate-vectors`: found buildings or roads beside true ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sat2map.cli import parse
from sat2map.cli.options import AsJson, Quiet


def evaluate_vectors(
    found: Annotated[Path, typer.Argument(metavar="FOUND", help="The vectors to score.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="The true vectors.")],
    layer: Annotated[Literal["buildings", "roads"], typer.Option(help="What to compare.")],
    buffer_m: Annotated[
        float,
        typer.Option(
            "--buffer", metavar="METRES", help="Of roads: how far one may lie beside the true one."
        ),
    ] = 3.0,
    tile_m: Annotated[
        float,
        typer.Option(
            "--tile", metavar="METRES", help="Side of the tiles that the intervals are taken over."
        ),
    ] = 1000.0,
    bbox: Annotated[
        str | None,
        typer.Option(
            metavar="W,S,E,N", help="Only this part: west,south,east,north in degrees (WGS 84)."
        ),
    ] = None,
    bridges_meet: Annotated[
        bool,
        typer.Option(
            "--bridges-meet",
            help="Of roads: take crossings for junctions, also where one is a bridge.",
        ),
    ] = False,
    rows_within_m: Annotated[
        float | None,
        typer.Option(
            "--rows-within", metavar="METRES", help="Buildings no further apart count as one."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score buildings or roads beside true ones.

    Buildings by how they overlap, roads by where they lie and by the ways along them.
    """
    part = None if bbox is None else parse.bounding_box(bbox)
    from sat2map.evaluation.vectors import evaluate_vectors as score
    from sat2map.progress import Progress

    with Progress("comparing", quiet=quiet, unit="tiles") as progress:
        scores = score(
            found,
            truth,
            layer,
            buffer_m=buffer_m,
            tile_m=tile_m,
            bbox=part,
            bridges_meet=bridges_meet,
            rows_within_m=rows_within_m,
            progress=progress.show,
        )
    if as_json:
        print(json.dumps(scores.to_json(), indent=2))
        return
    for name, metric in scores.metrics.items():
        known = scores.tiles > 1 or not name.startswith("apls")
        interval = f"   [{metric.low:.4f}, {metric.high:.4f}]" if known else ""
        print(f"{name:32}{metric.mean:10.4f}{interval}")
    for name, count in (("found", scores.found), ("true", scores.true), ("tiles", scores.tiles)):
        print(f"{name:32}{count:10}")
