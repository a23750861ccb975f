"""Make the model of a run as it was after some step, though the run was ended early or went on.

    python finish.py RUN STEP OUT DATA [DATA ...]

RUN/checkpoints has the checkpoint of that STEP; DATA are the run's data sets, in their order. OUT
gets what training writes at the end, with the model in OUT/model: statistics of the normalisation
and a description of the photos are made anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sat2map.recipe import load_recipe
from sat2map.training import setup
from sat2map.training.distributed import launch
from sat2map.training.run import prepare


def main(run: str, step: str, out: str, *data: str) -> None:
    """Write OUT/model and print its name."""
    recipe = setup.accelerated(load_recipe(str(Path(run) / "recipe.toml")))
    name = f"step-{int(step):08d}.pt"
    kept = Path(out) / "checkpoints"
    kept.mkdir(parents=True)
    (kept / name).symlink_to((Path(run) / "checkpoints" / name).resolve())
    prepared = prepare(
        recipe,
        [Path(folder) for folder in data],
        Path(out),
        launch(recipe),
        resume=True,
        quiet=False,
        heed=lambda: None,
    )
    print(prepared.finish(quiet=False))


main(*sys.argv[1:])
