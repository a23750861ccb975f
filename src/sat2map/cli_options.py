"""Options that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Data set: DIR/{train,val}/ with pairs."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsPublished = Annotated[
    bool,
    typer.Option("--as-published", help="Predict with dropout and the picture's own statistics."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random numbers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
