"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from sat2map.arguments import checks_arguments
from sat2map.errors import StoppedError, TrainingError, expect
from sat2map.progress import Progress
from sat2map.recipe import Recipe, load_recipe
from sat2map.training import setup
from sat2map.training.distributed import agreed, launch, main_first, one_voice
from sat2map.training.monitor import Monitor
from sat2map.training.run import Run, prepare
from sat2map.training.run_folder import begin_run, claim_run

log = logging.getLogger(__name__)


class InterruptedRunError(StoppedError, TrainingError):
    """A run stopped because it was asked to; its state is saved."""


@checks_arguments
def train(
    recipe: str | Path | Recipe,
    data: str | Path | Sequence[str | Path],
    run: str | Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    stop: threading.Event | None = None,
) -> Path:
    """Train a model.

    On a CPU, with the same number of threads, a run that is interrupted and resumed ends in
    the same bits as one that was not. Weights and dropout are drawn from torch's global random
    state, which is left as it was: for results that can be repeated, train once at a time in a
    process, and draw nothing beside it.

    Args:
        recipe: What `load_recipe` returns or takes: a shipped name, or a TOML file.
        data: The data set, with the split `train` and, for validation, `val`; or several, of
            which the first tells the legend, and what is best by its `val`.
        run: Gets `recipe.toml`, `losses.csv`, `validation.csv`, `tensorboard/`, `grids/`,
            `checkpoints/`, `best/` and, when the run is finished, `model/`.
        resume: Go on from the newest checkpoint, or begin where there is none.
        quiet: Show no progress.
        stop: Another thread or a signal's handler sets it to have the run stop after its step,
            with its state saved. Of several processes one that is asked stops all.

    Returns:
        The folder of the finished model, `run/model`.

    Raises:
        UsageError: `run` is not empty and `resume` is not asked for, another process trains
            there, or the recipe is another one than the run began with.
        DataError: The data cannot be used.
        TrainingError: The data is other data than the run began with, or a loss is no longer a
            finite number.
        InterruptedRunError: `stop` is set.
        OutputError: `run` is somebody else's folder, or something cannot be written.
    """
    if isinstance(recipe, (str, Path)):
        recipe = load_recipe(recipe)
    expect(recipe, Recipe, "recipe", "Give what `sat2map.load_recipe` returns.")
    expect(data, (str, Path, Sequence), "data", "Name the folder of a data set, or several.")
    expect(run, (str, Path), "run", "Name a folder.")
    run = Path(run)
    carried_out = setup.accelerated(recipe)
    fabric = launch(carried_out)
    folders = [Path(one) for one in ([data] if isinstance(data, str | Path) else data)]
    leads = fabric.is_global_zero  # the main process alone writes, shows and validates
    quiet, asked = quiet or not leads, stop or threading.Event()

    def heed() -> None:
        if asked.is_set():
            raise InterruptedRunError(
                "stopped as asked, before its first step",
                where=run,
                remedy="Begin it again with the same command.",
            )

    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with one_voice(fabric), torch.random.fork_rng(devices), ExitStack() as stack:
        with main_first(fabric):
            finished = run / "model"
            if resume and (finished / "model.json").is_file():
                if leads:
                    log.warning("%s: this run is finished; its model is %s", run, finished)
                return finished
            journal = None
            if leads:
                journal = stack.enter_context(claim_run(run, recipe, folders, resume=resume))
        prepared = prepare(carried_out, folders, run, fabric, resume=resume, quiet=quiet, heed=heed)
        if journal is not None:
            begin_run(run, recipe, journal)
        if prepared.ahead is not None:
            stack.callback(prepared.ahead.close)
        begun, steps = prepared.state.step, prepared.plan.steps
        with (
            Progress("training", quiet=quiet, unit="steps") as progress,
            Monitor(run, begun, steps, progress) if leads else nullcontext() as monitor,
        ):
            _take_steps(prepared, monitor, asked)
        return prepared.finish(quiet=quiet)


def _take_steps(run: Run, monitor: Monitor | None, stop: threading.Event) -> None:
    """Take the steps of a run that are left, and do after each what is due then."""
    recipe, plan, state = run.recipe, run.plan, run.state
    waiting: list[Tensor] = []  # the losses of steps, on the device
    while state.step < plan.steps:
        waiting.append(run.take_step())
        if monitor is not None:
            monitor.step(state.step)

        asked = agreed(run.fabric, stop.is_set(), state.step, recipe.training.log_steps)
        saves = plan.saves(state.step) or asked
        if saves or len(waiting) == recipe.training.log_steps:
            run.log_losses(waiting, monitor)  # first of all: no checkpoint ever holds a NaN
            waiting.clear()
        if monitor is not None and plan.ends_epoch(state.step, recipe.training.grid_epochs):
            run.draw_grid(monitor)
        if monitor is not None and plan.ends_epoch(state.step, recipe.validation.epochs):
            run.validate(monitor)
        if saves:
            run.save()
        if asked and state.step < plan.steps:
            raise InterruptedRunError(
                f"stopped at step {state.step} of {plan.steps} as asked; the state is saved",
                where=run.folder,
            )
