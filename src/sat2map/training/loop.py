"""The training loop, from top to bottom."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sat2map.data.masks import is_mask_set
from sat2map.data.pairs import find_pairs
from sat2map.errors import DataError, StoppedError, TrainingError
from sat2map.journal import Journal
from sat2map.model.folder import save_model
from sat2map.progress import Progress
from sat2map.recipe import Recipe
from sat2map.training import setup
from sat2map.training.batches import Batch, Batches
from sat2map.training.checkpoint import TrainingState, checkpoints
from sat2map.training.cuda_graph import RecordedStep, can_record, set_learning_rate
from sat2map.training.distributed import agreed, launch, main_first, one_voice, random_states
from sat2map.training.material import gather
from sat2map.training.monitor import Monitor
from sat2map.training.run_folder import begin_run, claim_run
from sat2map.training.schedule import Plan
from sat2map.training.updates import LOSSES, follow, update
from sat2map.training.validation import grid, improves, validate, with_fresh_statistics

log = logging.getLogger(__name__)


class InterruptedRunError(StoppedError, TrainingError):
    """A run stopped because it was asked to; its state is saved."""


def train(
    recipe: Recipe,
    data: Path | Sequence[Path],
    run: Path,
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
        recipe: What to do.
        data: The data set, with the split `train` and, for validation, `val`; or several, of
            which the first tells the legend and is validated on.
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
    fabric = launch(setup.accelerated(recipe))
    folders = [data] if isinstance(data, Path) else list(data)
    leads = fabric.is_global_zero
    finished = run / "model"
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with one_voice(fabric), torch.random.fork_rng(devices), ExitStack() as stack:
        with main_first(fabric):
            if resume and (finished / "model.json").is_file():
                if leads:
                    log.warning("%s: this run is finished; its model is %s", run, finished)
                return finished
            journal = None
            if leads:
                journal = stack.enter_context(claim_run(run, recipe, folders, resume=resume))
        quiet, stop = quiet or not leads, stop or threading.Event()
        return _train(fabric, recipe, folders, run, resume, quiet, journal, stop)


def _train(
    fabric: Fabric,
    kept: Recipe,
    folders: Sequence[Path],
    run: Path,
    resume: bool,
    quiet: bool,
    journal: Journal | None,
    stop: threading.Event,
) -> Path:
    finished = run / "model"
    recipe = setup.accelerated(kept)
    leads = journal is not None  # only the main process writes, shows and validates
    torch.manual_seed(recipe.training.seed)

    def heed() -> None:
        if stop.is_set():
            raise InterruptedRunError(
                "stopped as asked, before its first step",
                where=run,
                remedy="Begin it again with the same command.",
            )

    with main_first(fabric):
        material = gather(recipe, folders, quiet=quiet, heed=heed)
    validated = folders[0]
    has_maps = not is_mask_set(validated, "train") or (validated / "train" / "target").is_dir()
    validates_pairs = has_maps and (validated / "val").is_dir()
    validation_pairs = find_pairs(validated, "val") if validates_pairs else []
    card = material.card
    plan = Plan(recipe, material.count, fabric.world_size, fabric.global_rank)
    if plan.processes > 1 and plan.pairs < plan.processes * recipe.training.batch:
        raise DataError(
            f"has {plan.pairs} pairs, too few for {plan.processes} processes with "
            f"{recipe.training.batch} each",
            where=validated,
            remedy="Start fewer processes, or set a smaller training.batch.",
        )
    batches = material.batches(plan, fabric.device)
    class_facts = None if material.class_facts is None else material.class_facts.on(fabric.device)

    generator = setup.generator(recipe, card)
    discriminator = setup.discriminator(recipe, card)
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
        fabric.world_size,
        fabric.global_rank,
    )
    if fabric.global_rank > 0:  # or all would have the same dropout
        torch.manual_seed(recipe.training.seed + (fabric.global_rank << 32))
    if resume and not state.restore(run / "checkpoints") and leads:
        log.warning("%s: there is no whole checkpoint, so the run begins afresh", run)
    fabric.barrier()

    if journal is not None:
        begin_run(run, kept, journal)

    judged = generator if average is None else average.module
    waiting: list[Tensor] = []
    undefined = False  # whether the metric was found to be so

    def learn(batch: Batch) -> Tensor:
        clip_norm = recipe.optimiser.clip_norm
        return update(fabric, players, recipe.objective, batch, class_facts, clip_norm)

    recorded = None
    if recipe.training.cuda_graphs and can_record(fabric, batches):
        assert isinstance(batches, Batches)
        from_windows, windows = batches.from_windows, batches.windows
        recorded = RecordedStep(
            lambda chosen: learn(from_windows(chosen)),
            state.optimisers.values(),
            fabric.device,
            windows(state.step),
        )

    with (
        Progress("training", quiet=quiet) as progress,
        Monitor(run, state.step, plan.steps, progress) if leads else nullcontext() as monitor,
    ):
        for step in range(state.step, plan.steps):
            # One step. Nothing in it waits for the device.
            rate = plan.learning_rate(step)
            if recorded is None:
                set_learning_rate(state.optimisers.values(), rate)
                losses = learn(batches.at(step))
            else:
                losses = recorded(windows(step), rate)
            waiting.append(losses)
            if average is not None and recipe.training.ema_decay is not None:
                follow(
                    average,
                    generator,
                    recipe.training.ema_decay,
                    recipe.training.ema_warmup,
                )
            state.step = done = step + 1
            if monitor is not None:
                monitor.step(done)

            # What is due now. Losses are read first: a checkpoint never holds a NaN.
            epoch = plan.epoch(step) + 1
            every = recipe.training.checkpoint_steps
            asked = agreed(fabric, stop.is_set(), done, recipe.training.log_steps)
            saves = plan.ends_epoch(done) or (every is not None and done % every == 0) or asked
            if saves or len(waiting) == recipe.training.log_steps:
                losses = fabric.all_reduce(torch.stack(waiting)).cpu()  # type: ignore[union-attr]
                _refuse_nan(losses, done, run)
                waiting.clear()
                if monitor is not None:
                    values = dict(zip(LOSSES, losses.mean(0).tolist(), strict=True))
                    monitor.losses(done, epoch, values | {"learning_rate": rate})
            draws_grid = has_maps and plan.ends_epoch(done, recipe.training.grid_epochs)
            if monitor is not None and draws_grid:
                shown = validation_pairs or find_pairs(validated, "train")
                monitor.grid(done, epoch, grid(judged, shown, recipe, fabric.device))
            validates = bool(validation_pairs) and plan.ends_epoch(done, recipe.validation.epochs)
            if monitor is not None and validates:
                pictures = recipe.statistics.validation_pictures
                network = with_fresh_statistics(judged, batches.spread(pictures))
                summary = validate(network, card, validation_pairs, recipe, fabric.device, progress)
                scores = {name: figure.mean for name, figure in summary.metrics.items()}
                monitor.validation(done, epoch, scores)
                metric = recipe.validation.metric
                progress.say(f"epoch {epoch}, step {done}: {_in_words(scores)}")
                if improves(metric, scores, state.best):
                    state.best = scores[metric]
                    best = card.model_copy(update={"metrics": {"validation": summary.to_json()}})
                    save_model(run / "best", network, best, replace=True)
                elif state.best is None and not undefined:
                    undefined = True
                    log.warning(
                        "%s: no validation image defines %s (validation.metric), so there is no "
                        "best/ yet; choose another metric, or images that show what it measures",
                        run,
                        metric,
                    )
            if saves:
                random = random_states(fabric)
                if leads:
                    state.save(run / "checkpoints", recipe.training.keep_checkpoints, random)
                fabric.barrier()
            if asked and done < plan.steps:
                raise InterruptedRunError(
                    f"stopped at step {done} of {plan.steps} as asked; the state is saved",
                    where=run,
                )

    if leads:
        with Progress("estimating normalisation statistics", quiet=quiet) as progress:
            samples = batches.spread(recipe.statistics.pictures, progress.show)
            network = with_fresh_statistics(judged, samples)
            if validation_pairs:
                summary = validate(network, card, validation_pairs, recipe, fabric.device, progress)
                card = card.model_copy(update={"metrics": {"validation": summary.to_json()}})
        save_model(finished, network, card)
    fabric.barrier()
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
