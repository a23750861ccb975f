"""A run: what it is made of, and what is done in a step and after it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sat2map.errors import DataError, TrainingError
from sat2map.model.familiar import FEWEST, Familiar
from sat2map.model.folder import ModelCard, save_model
from sat2map.networks.value_range import to_pixels
from sat2map.progress import Progress
from sat2map.recipe import Recipe
from sat2map.training import setup
from sat2map.training.batches import Ahead, Batch, Batches
from sat2map.training.checkpoint import TrainingState, checkpoints
from sat2map.training.cuda_graph import RecordedStep, can_record, set_learning_rate
from sat2map.training.data_sets import load_data_sets
from sat2map.training.distributed import main_first, random_states
from sat2map.training.mixture import Mixture
from sat2map.training.monitor import Monitor
from sat2map.training.schedule import Plan
from sat2map.training.updates import LOSSES, Adversaries, ClassFacts, follow, losses_of, update
from sat2map.training.validation import Validator, improves, with_fresh_statistics

log = logging.getLogger(__name__)

DESCRIBED = 1500
"""How many photos tell, at the end, what photos the model has learned from."""

Learn = Callable[[int, float], Tensor]
"""Takes the step of a number at a learning rate; returns its losses, on the device."""


@dataclass
class Run:
    """The parts of a run. Of several processes the main one alone has a monitor.

    Attributes:
        folder: Where it writes.
        recipe: What to do, with what `training.accelerate` stands for here.
        fabric: The device and the processes.
        plan: What happens at which step.
        batches: Makes the batch of any step.
        learn: Updates the networks with a batch.
        generator: The network that is trained.
        average: Its moving average, or None.
        begun_with: The weights that it began with, of which some is to be kept, or None.
        card: That of the model, before it is trained.
        validator: Scores it.
        state: What a checkpoint holds; how far the run is.
        logged: Those of `LOSSES` that the run has.
        ahead: Makes batches in a thread of its own; None on a GPU, which waits for none.
        is_undefined: Whether it was said that nothing defines the metric of `best/`.
    """

    folder: Path
    recipe: Recipe
    fabric: Fabric
    plan: Plan
    batches: Batches | Mixture
    learn: Learn
    generator: nn.Module
    average: AveragedModel | None
    begun_with: dict[str, Tensor] | None
    card: ModelCard
    validator: Validator
    state: TrainingState
    logged: tuple[str, ...]
    ahead: Ahead | None = None
    is_undefined: bool = False

    @property
    def model(self) -> nn.Module:
        """The network that is judged and kept: the moving average, where there is one.

        Weights between those begun with and those learned know nearly as much of the new place,
        and forget far less of all others (Wortsman et al., "Robust fine-tuning of zero-shot
        models", CVPR 2022).
        """
        learned = self.generator if self.average is None else self.average.module
        if self.begun_with is None:
            return learned
        mixed = copy.deepcopy(learned)
        share = self.recipe.training.init_share
        for name, value in mixed.state_dict().items():
            if name in self.begun_with and value.is_floating_point():
                value.lerp_(self.begun_with[name].to(value), share)
        return mixed

    @property
    def epoch(self) -> int:
        """The epoch, from 1, of the last step that is done."""
        return self.plan.epoch(self.state.step - 1) + 1

    def take_step(self) -> Tensor:
        """Take the next step; return its losses, float [len(LOSSES)], on the device.

        Nothing in it waits for the device.
        """
        step, training = self.state.step, self.recipe.training
        losses = self.learn(step, self.plan.learning_rate(step))
        if self.average is not None and training.ema_decay is not None:
            follow(self.average, self.generator, training.ema_decay, training.ema_warmup)
        self.state.step = step + 1
        return losses

    def log_losses(self, waiting: Sequence[Tensor], monitor: Monitor | None) -> None:
        """Read the losses of the last steps from the device, and write down their means.

        Raises:
            TrainingError: One is not finite.
        """
        losses = self.fabric.all_reduce(torch.stack(list(waiting))).cpu()  # type: ignore[union-attr]
        self._refuse_nan(losses)
        if monitor is not None:
            values = dict(zip(LOSSES, losses.mean(0).tolist(), strict=True))
            values = {name: values[name] for name in self.logged}
            rate = self.plan.learning_rate(self.state.step - 1)
            monitor.losses(self.state.step, self.epoch, values | {"learning_rate": rate})

    def _refuse_nan(self, losses: Tensor) -> None:
        broken = (~losses.isfinite()).any(1).nonzero()
        if len(broken) == 0:
            return
        step = self.state.step - len(losses) + int(broken[0]) + 1
        name = LOSSES[int((~losses[broken[0, 0]].isfinite()).nonzero()[0])]
        kept = checkpoints(self.folder / "checkpoints")
        last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        raise TrainingError(
            f"the {name} loss is not a finite number at step {step}; {last}",
            where=self.folder,
            remedy="Try a smaller optimiser.learning_rate, training.precision=f32, or look for "
            "broken images, in a new run.",
        )

    def draw_grid(self, monitor: Monitor) -> None:
        """Show what the model draws."""
        rows = self.validator.grid(self.model, self.fabric.device)
        monitor.grid(self.state.step, self.epoch, rows)

    def validate(self, monitor: Monitor) -> None:
        """Score the model, and keep it as `best/` if it is better than all before."""
        if not self.validator:
            return
        samples = self.batches.spread(self.recipe.statistics.validation_pictures)
        network = with_fresh_statistics(self.model, samples)
        validation = self.validator.score(network, self.fabric.device)
        for failure in validation.failures:
            monitor.say(f"left out of the validation: {failure}")
        scores, summary = validation.scores, validation.summary
        monitor.validation(self.state.step, self.epoch, scores)
        monitor.say(f"epoch {self.epoch}, step {self.state.step}: {validation}")
        metric = self.recipe.validation.metric
        if summary is None:
            return
        if improves(metric, scores, self.state.best):
            self.state.best = scores[metric]
            best = self.card.model_copy(update={"metrics": {"validation": summary.to_json()}})
            save_model(self.folder / "best", network, best, replace=True)
        elif self.state.best is None and not self.is_undefined:
            self.is_undefined = True
            log.warning(
                "%s: no validation image defines %s (validation.metric), so there is no "
                "best/ yet; choose another metric, or images that show what it measures",
                self.folder,
                metric,
            )

    def save(self) -> None:
        """Write a checkpoint."""
        random = random_states(self.fabric)
        if self.fabric.is_global_zero:
            keep = self.recipe.training.keep_checkpoints
            self.state.save(self.folder / "checkpoints", keep, random)
        self.fabric.barrier()

    def finish(self, *, quiet: bool) -> Path:
        """Write the finished model, with statistics and metrics of its own; return its folder."""
        folder, card = self.folder / "model", self.card
        if self.fabric.is_global_zero:
            with Progress(
                "estimating normalisation statistics", quiet=quiet, unit="images"
            ) as progress:
                samples = self.batches.spread(self.recipe.statistics.pictures, progress.show)
                network = with_fresh_statistics(self.model, samples)
                if self.validator:
                    validation = self.validator.score(network, self.fabric.device)
                    for failure in validation.failures:
                        progress.say(f"left out of the validation: {failure}")
                    if validation.summary is not None:
                        metrics = {"validation": validation.summary.to_json()}
                        card = card.model_copy(update={"metrics": metrics})
            save_model(folder, network, card, familiar=self._familiar(quiet))
        self.fabric.barrier()
        return folder

    def _familiar(self, quiet: bool) -> Familiar | None:
        """Describe the photos that the model has learned from, where they are photos."""
        if self.card.direction == "reverse" or self.plan.pairs < FEWEST:
            return None
        with Progress("describing photos", quiet=quiet, unit="images") as progress:
            photos = self.batches.without_photometric().spread(DESCRIBED, progress.show)
            windows = [window for batch in photos for window in to_pixels(batch.cpu()).numpy()]
            return Familiar.learn(windows)


def prepare(
    recipe: Recipe,
    data: Sequence[Path],
    folder: Path,
    fabric: Fabric,
    *,
    resume: bool,
    quiet: bool,
    heed: Callable[[], None],
) -> Run:
    """Return a run that is about to take its first step, or the next one after its checkpoint.

    Args:
        recipe: What to do, with what `training.accelerate` stands for here.
        data: The data sets.
        folder: That of the run. Nothing is written there.
        fabric: The device and the processes.
        resume: Go on from the newest checkpoint, if there is one.
        quiet: Show no progress.
        heed: Called again and again while the data is decoded; what it raises ends that.

    Raises:
        DataError, UsageError, OutputError, TrainingError: As for `train`.
    """
    torch.manual_seed(recipe.training.seed)
    with main_first(fabric):
        learned = load_data_sets(recipe, data, quiet=quiet, heed=heed)
    validator = Validator(recipe, data, learned.card)
    if fabric.is_global_zero:
        for notice in validator.notices:
            log.warning(notice)
    plan = Plan(recipe, learned.count, fabric.world_size, fabric.global_rank)
    if plan.processes > 1 and plan.pairs < plan.processes * recipe.training.batch:
        raise DataError(
            f"has {plan.pairs} pairs, too few for {plan.processes} processes with "
            f"{recipe.training.batch} each",
            where=data[0],
            remedy="Start fewer processes, or set a smaller training.batch.",
        )
    batches = learned.batches(plan, fabric.device)
    classes = None if learned.class_facts is None else learned.class_facts.on(fabric.device)

    generator = setup.generator(recipe, learned.card)
    discriminator = setup.discriminator(recipe, learned.card)
    players = setup.set_up(fabric, recipe, generator, discriminator)
    average = setup.average(generator, recipe.training.ema_decay)
    begun_with = setup.kept_weights(recipe)
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
    if resume and not state.restore(folder / "checkpoints") and fabric.is_global_zero:
        log.warning("%s: there is no whole checkpoint, so the run begins afresh", folder)
    fabric.barrier()
    ahead = Ahead(batches.at, plan.steps) if fabric.device.type == "cpu" else None
    learn = _learn(recipe, fabric, batches, ahead, players, classes, state)
    card = learned.card
    return Run(
        folder,
        recipe,
        fabric,
        plan,
        batches,
        learn,
        generator,
        average,
        begun_with,
        card,
        validator,
        state,
        losses_of(recipe.objective, paired=learned.paired),
        ahead,
    )


def _learn(
    recipe: Recipe,
    fabric: Fabric,
    batches: Batches | Mixture,
    ahead: Ahead | None,
    players: Adversaries,
    classes: ClassFacts | None,
    state: TrainingState,
) -> Learn:
    """Return what takes steps: one operation after the other, or recorded as a CUDA graph."""
    optimisers = state.optimisers.values()

    def learn(batch: Batch) -> Tensor:
        clip_norm = recipe.optimiser.clip_norm
        return update(fabric, players, recipe.objective, batch, classes, clip_norm)

    def at_once(step: int, rate: float) -> Tensor:
        set_learning_rate(optimisers, rate)
        return learn(batches.at(step) if ahead is None else ahead.at(step))

    if not (recipe.training.cuda_graphs and can_record(fabric, batches)):
        return at_once
    assert isinstance(batches, Batches)
    from_windows, windows = batches.from_windows, batches.windows
    recorded = RecordedStep(
        lambda chosen: learn(from_windows(chosen)),
        optimisers,
        fabric.device,
        windows(state.step),
    )
    return lambda step, rate: recorded(windows(step), rate)
