"""The verb `verify`: is a file what its source and its model give?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sat2map.cli.options import AsJson, Quiet
from sat2map.cli.signals import stop_on_signals


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|OUT", help="A map or vectors that sat2map wrote, or a folder of them."
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR",
            help="What it was made of, or the folder that holds it.  [default: looked for]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The folder of its model, where that is not a shipped one."),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            min=1, help="Windows of each file, or sheets of vectors, to make again, at most."
        ),
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed that chooses the windows.")] = 0,
    runtime: Annotated[
        Literal["torch", "openvino", "onnx"] | None,
        typer.Option("--runtime", help="What runs the network.  [default: what ran it]"),
    ] = None,
    precision: Annotated[
        Literal["f32", "bf16", "int8"] | None,
        typer.Option("--precision", help="Numbers it computes in.  [default: as it was made]"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Prove a map or vectors: make parts anew and compare.

    Where they differ it says what has changed: the source, the model, the settings, the runtime.
    """
    from sat2map.batch.verify import lines_of, to_json
    from sat2map.batch.verify import verify as run
    from sat2map.progress import Progress

    with stop_on_signals() as stop, Progress("verifying", quiet=quiet, unit="%") as progress:
        found = run(
            path,
            source,
            model,
            sample=sample,
            seed=seed,
            runtime=runtime,
            precision=precision,
            progress=progress.show,
            stop=stop,
        )
    if as_json:
        print(to_json(found))
    else:
        for line in lines_of(found):
            print(line)
    if any(one.answer in ("differs", "unverified") for one in found):
        raise typer.Exit(1)
