"""The verb that trains a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli.options import Quiet, Settings
from sat2map.cli.signals import stop_on_signals


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
