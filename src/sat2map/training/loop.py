"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric

from sat2map.data.pairs import find_pairs
from sat2map.errors import TrainingError
from sat2map.model import save_model
from sat2map.progress import Progress
from sat2map.recipe import Recipe
from sat2map.signals import stop_on_signals
from sat2map.training import setup
from sat2map.training.batches import Batches
from sat2map.training.monitor import Monitor
from sat2map.training.plan import Plan
from sat2map.training.state import TrainingState, checkpoints
from sat2map.training.updates import LOSSES, update
from sat2map.training.validation import grid, improves, validate, with_fresh_statistics
from sat2map.whole import write_text

log = logging.getLogger(__name__)


class InterruptedRunError(TrainingError):
    """A signal asked the run to stop; its state is saved."""


def train(
    recipe: Recipe,
    data: Path | Sequence[Path],
    run: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
) -> Path:
    """Train a model.

    On a CPU, with the same number of threads, a run that is interrupted and resumed ends in
    the same bits as one that was not.

    Args:
        recipe: What to do.
        data: The data set, with the split `train` and, for validation, `val`; or several, of
            which the first tells the legend and is validated on.
        run: Gets `recipe.toml`, `losses.csv`, `validation.csv`, `tensorboard/`, `grids/`,
            `checkpoints/`, `best/` and, when the run is finished, `model/`.
        resume: Go on from the newest checkpoint, or begin where there is none.
        quiet: Show no progress.

    Returns:
        The folder of the finished model, `run/model`.

    Raises:
        UsageError: `run` is not empty and `resume` is not asked for, or the recipe is
            another one than the run began with.
        DataError: The data cannot be used.
        TrainingError: A loss is no longer a finite number.
        InterruptedRunError: SIGINT or SIGTERM asked to stop.
        OutputError: Something cannot be written.
    """
    finished = run / "model"
    if resume and finished.is_dir():
        log.warning("%s: this run is finished; its model is %s", run, finished)
        return finished
    setup.check_run(run, recipe, resume)

    fabric = Fabric(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if recipe.training.precision == "bf16-mixed" else "32-true",
    )
    torch.manual_seed(recipe.training.seed)
    folders = [data] if isinstance(data, Path) else list(data)
    with Progress("decoding", quiet=quiet) as progress:
        sets = setup.decode(recipe, folders, progress.show)
    validated = folders[0]
    validation_pairs = find_pairs(validated, "val") if (validated / "val").is_dir() else []
    card = setup.card(recipe, folders, sets)
    with Progress("labelling", quiet=quiet) as progress:
        labels = setup.labels(recipe, card.legend, sets, progress.show)
    plan = Plan(recipe, sum(len(pairs) for pairs in sets))
    classes = 0 if card.legend is None else len(card.legend)
    batches = Batches(recipe, plan, sets, labels, classes, fabric.device)
    class_facts = setup.class_facts(recipe, card.legend, labels, fabric.device)

    generator = setup.generator(recipe, card)
    discriminator = setup.discriminator(recipe, sets[0])
    players = setup.set_up(fabric, recipe, generator, discriminator)
    average = setup.average(generator, recipe.training.ema_decay)
    networks = {"generator": generator, "discriminator": discriminator, "average": average}
    optimisers = {
        "generator": players.generator_optimiser,
        "discriminator": players.discriminator_optimiser,
    }
    state = TrainingState(
        plan.pairs,
        {name: module for name, module in networks.items() if module is not None},
        {name: optimiser for name, optimiser in optimisers.items() if optimiser is not None},
    )
    if resume and not state.restore(run / "checkpoints"):
        log.warning("%s: there is no whole checkpoint, so the run begins afresh", run)

    setup.sweep(run)
    write_text(run / "recipe.toml", recipe.to_toml())

    judged = generator if average is None else average.module
    waiting: list[torch.Tensor] = []

    with (
        stop_on_signals() as stop,
        Progress("training", quiet=quiet) as progress,
        Monitor(run, state.step, plan.steps, progress) as monitor,
    ):
        for step in range(state.step, plan.steps):
            # One step.
            for optimiser in state.optimisers.values():
                for group in optimiser.param_groups:
                    group["lr"] = plan.learning_rate(step)
            losses = update(
                fabric,
                players,
                recipe.objective,
                batches.at(step),
                class_facts,
                recipe.optimiser.clip_norm,
            )
            waiting.append(losses)
            if average is not None:
                average.update_parameters(generator)
            state.step = done = step + 1
            monitor.step(done)

            # What is due now. Losses are read first: a checkpoint never holds a NaN.
            epoch = plan.epoch(step) + 1
            ends_epoch = plan.ends_epoch(done)
            every = recipe.training.checkpoint_steps
            asked = stop.number
            saves = ends_epoch or (every is not None and done % every == 0) or asked != 0
            if saves or len(waiting) == recipe.training.log_steps:
                losses = torch.stack(waiting).cpu()
                _refuse_nan(losses, done, run)
                waiting.clear()
                values = dict(zip(LOSSES, losses.mean(0).tolist(), strict=True))
                values["learning_rate"] = plan.learning_rate(step)
                monitor.losses(done, epoch, values)
            if plan.ends_epoch(done, recipe.training.grid_epochs):
                shown = validation_pairs or find_pairs(validated, "train")
                monitor.grid(done, epoch, grid(judged, shown, recipe, fabric.device))
            if validation_pairs and plan.ends_epoch(done, recipe.validation.epochs):
                pictures = recipe.statistics.validation_pictures
                network = with_fresh_statistics(judged, batches.spread(pictures))
                summary = validate(network, card, validation_pairs, recipe, fabric.device, progress)
                scores = {name: figure.mean for name, figure in summary.metrics.items()}
                monitor.validation(done, epoch, scores)
                metric = recipe.validation.metric
                progress.say(f"epoch {epoch}, step {done}: {_in_words(scores)}")
                if metric in scores and improves(metric, scores[metric], state.best):
                    state.best = scores[metric]
                    best = card.model_copy(update={"metrics": {"validation": summary.to_json()}})
                    save_model(run / "best", network, best, replace=True)
            if saves:
                state.save(run / "checkpoints", recipe.training.keep_checkpoints)
            if asked and done < plan.steps:
                interrupted = InterruptedRunError(
                    f"stopped at step {done} of {plan.steps} as asked; the state is saved",
                    where=run,
                    remedy="Go on with the same command and --resume.",
                )
                interrupted.exit_code = 128 + asked
                raise interrupted

    with Progress("estimating normalisation statistics", quiet=quiet) as progress:
        samples = batches.spread(recipe.statistics.pictures, progress.show)
        network = with_fresh_statistics(judged, samples)
        if validation_pairs:
            summary = validate(network, card, validation_pairs, recipe, fabric.device, progress)
            card = card.model_copy(update={"metrics": {"validation": summary.to_json()}})
    save_model(finished, network, card)
    return finished


def _refuse_nan(losses: torch.Tensor, done: int, run: Path) -> None:
    """Stop where a loss of the last steps is not finite."""
    broken = (~losses.isfinite()).any(1).nonzero()
    if len(broken) == 0:
        return
    step = done - len(losses) + int(broken[0]) + 1
    name = LOSSES[int((~losses[broken[0, 0]].isfinite()).nonzero()[0])]
    kept = checkpoints(run / "checkpoints")
    last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
    raise TrainingError(
        f"the {name} loss is no finite number at step {step}; {last}",
        where=run,
        remedy="Try a smaller optimiser.learning_rate, training.precision=f32, or look for "
        "broken pictures, in a new run.",
    )


def _in_words(scores: dict[str, float]) -> str:
    shown = ("l1", "psnr", "ssim", "mean_iou", "road_cldice", "edge_density")
    return ", ".join(f"{name} {scores[name]:.3f}" for name in shown if name in scores)
