"""One step of training: an update of the discriminator, then one of the generator."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, fields, replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from sat2map.evaluation.classes import ROAD_SHARE
from sat2map.networks.value_range import SHARPNESS
from sat2map.recipe import Objective
from sat2map.training import losses as objectives
from sat2map.training.batches import Batch

BUILDING_SHARE = 0.5
"""What share of a pixel's area makes it building in the Dice loss."""

LOSSES = (
    "discriminator",
    "generator_adversarial",
    "l1",
    "classes",
    "road_dice",
    "road_cldice_loss",
    "cover",
    "cover_dice",
    "distillation",
    "building_dice",
    "road_recall",
)
"""The losses by which a step is logged. Where a metric of validation has the same name, the two
have the same scale; the loss of centre lines falls where `road_cldice` rises, so it has another."""


def losses_of(objective: Objective, *, paired: bool) -> tuple[str, ...]:
    """Return those of `LOSSES` that a run has, in their order.

    Args:
        objective: A loss without weight is left out, but for L1, which says how near maps are.
        paired: Whether there are maps to learn from.
    """
    adversarial = objective.adversarial_weight * paired
    weights = {
        "discriminator": adversarial,
        "generator_adversarial": adversarial,
        "l1": paired,
        "classes": objective.class_weight,
        "road_dice": objective.road_dice_weight,
        "road_cldice_loss": objective.road_cldice_weight * paired,
        "cover": objective.cover_weight,
        "cover_dice": objective.cover_dice_weight,
        "distillation": objective.distillation_weight,
        "building_dice": objective.building_dice_weight,
        "road_recall": objective.road_recall_weight,
    }
    return tuple(name for name in LOSSES if weights[name])


@dataclass(frozen=True)
class ClassFacts:
    """The legend as the losses of classes need it.

    Attributes:
        weights: The weight of each class, float [K].
        roads: Which classes are roads, bool [K].
        buildings: Which are buildings, bool [K].
        casing: The number of the class of roads' outlines that are asked for, or None.
        cover_weights: The weight of each class of land cover, float [5], or None.
        cover_roads: Which classes of land cover are roads, bool [5], or None.
        cover_buildings: Which are buildings, bool [5], or None.
    """

    weights: Tensor
    roads: Tensor
    buildings: Tensor
    casing: int | None = None
    cover_weights: Tensor | None = None
    cover_roads: Tensor | None = None
    cover_buildings: Tensor | None = None

    def on(self, device: torch.device) -> ClassFacts:
        """Return the same on a device."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)  # type: ignore[arg-type]


class ImageAndLogits(nn.Module):
    """A generator that answers training with its image and what that was made of."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the image, float [N,C,H,W] in [-1,1], and its logits, float [N,K,H,W].

        With a head for land cover its logits, float [N,5,H,W], are the third.
        """
        cover: Tensor | None = None
        if getattr(self.generator, "cover_exit", None) is None:
            logits = self.generator.logits(source)  # type: ignore[operator]
        else:
            logits, cover = self.generator.both_logits(source)  # type: ignore[operator]
        return self.generator.head(logits), logits, cover  # type: ignore[operator]


@dataclass(frozen=True)
class Adversaries:
    """The two networks with their optimisers.

    `generator` is wrapped in `ImageAndLogits`. `discriminator` and
    `discriminator_optimiser` are None where the objective has no adversarial part. `teacher`,
    wrapped like it, is what the generator began with, where it is to stay near that.
    """

    generator: nn.Module
    generator_optimiser: Optimizer
    discriminator: nn.Module | None = None
    discriminator_optimiser: Optimizer | None = None
    teacher: nn.Module | None = None


def update(
    fabric: Fabric,
    players: Adversaries,
    objective: Objective,
    batch: Batch,
    classes: ClassFacts | None = None,
    clip_norm: float | None = None,
) -> Tensor:
    """Update both networks on one batch (Isola et al. 2017, section 3.3).

    The image is generated once and judged twice: detached for the discriminator's update,
    and by the updated discriminator for the generator's.

    Args:
        fabric: Runs the backward passes.
        players: The networks, in training mode, and their optimisers.
        objective: The losses and their weights.
        batch: What to learn from.
        classes: What the losses of classes must know, where the objective has any.
        clip_norm: Longest gradient of the generator, or None.

    Returns:
        The unweighted losses in the order of `LOSSES`, float [11], detached, on the device;
        0 for those that have no weight, but for L1, which is told of 255 as the metric is.
    """
    several = fabric.world_size > 1
    source, target = batch.source, batch.target
    generated, logits, cover_logits = players.generator(source)
    if target is not None:  # only the first sources of a batch have maps
        source, generated = source[: len(target)], generated[: len(target)]
    adversarial = source.new_zeros(())
    discriminator_loss = source.new_zeros(())

    judges = players.discriminator is not None and target is not None
    if judges and players.discriminator is not None and players.discriminator_optimiser is not None:
        players.discriminator.requires_grad_(True)
        discriminator_loss = objectives.discriminator_loss(
            players.discriminator(source, target),
            players.discriminator(source, generated.detach()),
            objective.adversarial,
        )
        players.discriminator_optimiser.zero_grad()
        fabric.backward(discriminator_loss)
        players.discriminator_optimiser.step()

        # The generator's gradient passes through the discriminator but not into its weights.
        players.discriminator.requires_grad_(False)
        alone = fabric.no_backward_sync(players.discriminator) if several else nullcontext()  # type: ignore[arg-type]
        with alone:
            judged = players.discriminator(source, generated)
        adversarial = objectives.generator_adversarial_loss(judged, objective.adversarial)

    l1 = source.new_zeros(()) if target is None else objectives.l1_loss(generated, target)
    of_classes, of_cover = source.new_zeros(3), source.new_zeros(2)
    if classes is not None and batch.shares is not None:
        of_classes = class_losses(logits[: len(batch.shares)], batch.shares, classes, objective)
    if classes is not None and batch.drawn is not None:
        masked = mask_losses(logits, batch.drawn, classes.weights, classes.roads)
        of_classes = of_classes + torch.cat([masked, masked.new_zeros(1)])
    if classes is not None and batch.cover is not None and cover_logits is not None:
        assert classes.cover_weights is not None and classes.cover_roads is not None
        of_cover = mask_losses(
            cover_logits, batch.cover, classes.cover_weights, classes.cover_roads
        )
    buildings = source.new_zeros(())
    if classes is not None and objective.building_dice_weight:
        buildings = _building_dice(logits, cover_logits, batch, classes)
    lines = source.new_zeros(())
    if classes is not None and objective.road_recall_weight:
        lines = _road_recall(logits, cover_logits, batch, classes)
    distilled = source.new_zeros(())
    if players.teacher is not None:
        distilled = _distilled(players.teacher, batch, logits, cover_logits)
    players.generator_optimiser.zero_grad()
    fabric.backward(
        objective.adversarial_weight * adversarial
        + objective.l1_weight * l1
        + objective.class_weight * of_classes[0]
        + objective.road_dice_weight * of_classes[1]
        + objective.road_cldice_weight * of_classes[2]
        + objective.cover_weight * of_cover[0]
        + objective.cover_dice_weight * of_cover[1]
        + objective.distillation_weight * distilled
        + objective.building_dice_weight * buildings
        + objective.road_recall_weight * lines
    )
    if clip_norm is not None:
        # What is not finite shows in the losses; asking here would wait for the device.
        fabric.clip_gradients(
            players.generator,
            players.generator_optimiser,
            max_norm=clip_norm,
            error_if_nonfinite=False,
        )
    players.generator_optimiser.step()
    parts = [
        discriminator_loss,
        adversarial,
        l1 * 127.5,  # values in [-1,1] stand for 0 to 255
        *of_classes,
        *of_cover,
        distilled,
        buildings,
        lines,
    ]
    return torch.stack(parts).detach().float()


@torch.no_grad()
def follow(
    average: AveragedModel, generator: nn.Module, decay: float, warmup: bool = False
) -> None:
    """Move an exponential moving average towards the generator.

    As `average.update_parameters` does, which waits for a CUDA device at each step.

    Args:
        average: Begins as the generator of its first update.
        generator: What it follows.
        decay: What share of the average stays.
        warmup: Whether less stays in the first steps, so that the first weights are soon
            forgotten: of step t at most (1 + t) / (10 + t), as TensorFlow's averages do.
    """
    taken = int(average.n_averaged)
    kept = min(decay, (1 + taken) / (10 + taken)) if warmup else decay
    mine: list[Tensor] = list(average.module.parameters())
    others: list[Tensor] = list(generator.parameters())
    torch._foreach_lerp_(mine, others, 1.0 if average.n_averaged == 0 else 1 - kept)
    for buffer, other in zip(average.module.buffers(), generator.buffers(), strict=True):
        buffer.copy_(other)
    average.n_averaged += 1  # on the CPU


def class_losses(
    logits: Tensor, shares: Tensor, classes: ClassFacts, objective: Objective
) -> Tensor:
    """Return the losses of classes, roads and their centre lines, float [3].

    Args:
        logits: Of the classes, float [N,K,H,W].
        shares: The share of each class in each pixel, float [N,K,H,W].
        classes: Weights and roads.
        objective: A loss without weight is 0 and not computed.
    """
    logits = logits.float()  # sums of bfloat16 would lose small probabilities
    zero = logits.new_zeros(())
    cross_entropy = dice = cldice = zero
    of_roads = objective.road_dice_weight or objective.road_cldice_weight
    if of_roads or classes.casing is not None:
        roads = classes.roads[:, None, None]  # to index by it would wait for the device
        mask = ((shares * roads).sum(1) > ROAD_SHARE).to(logits.dtype)
    if objective.class_weight:
        wanted = shares
        if classes.casing is not None:
            drawn = ((SHARPNESS * logits.detach()).softmax(1) * roads).sum(1)
            wanted = objectives.with_casings(shares, drawn, mask, classes.weights, classes.casing)
        cross_entropy = objectives.class_loss(logits, wanted, classes.weights)
    if of_roads:
        probability = (logits.softmax(1) * roads).sum(1)
        if objective.road_dice_weight:
            dice = objectives.dice_loss(probability, mask)
        if objective.road_cldice_weight:
            cldice = objectives.cldice_loss(probability, mask)
    return torch.stack([cross_entropy, dice, cldice])


def mask_losses(logits: Tensor, may_be: Tensor, weights: Tensor, roads: Tensor) -> Tensor:
    """Return the losses of classes and of roads where class masks tell something, float [2].

    Args:
        logits: Of the classes, float [N,K,H,W].
        may_be: The share of each pixel that may be of each class, float [N,K,H,W].
        weights: Of each class, float [K].
        roads: Which classes are roads, bool [K].
    """
    logits = logits.float()
    partial = objectives.partial_loss(logits, may_be, weights)
    return torch.stack([partial, objectives.partial_dice_loss(logits, may_be, roads, ROAD_SHARE)])


def _building_dice(
    logits: Tensor, cover_logits: Tensor | None, batch: Batch, classes: ClassFacts
) -> Tensor:
    """Return the Dice losses of buildings in both legends, where they are certain, a scalar."""
    loss = logits.new_zeros((), dtype=torch.float32)
    told = _told(logits, cover_logits, batch, classes.buildings, classes.cover_buildings)
    for own, may_be, buildings in told:
        loss = loss + objectives.partial_dice_loss(own, may_be, buildings, BUILDING_SHARE)
    return loss


def _road_recall(
    logits: Tensor, cover_logits: Tensor | None, batch: Batch, classes: ClassFacts
) -> Tensor:
    """Return how much of the roads' centre lines both legends miss, where certain, a scalar."""
    loss = logits.new_zeros((), dtype=torch.float32)
    told = _told(logits, cover_logits, batch, classes.roads, classes.cover_roads)
    for own, may_be, roads in told:
        there, _ = objectives.certain_places(may_be, roads, ROAD_SHARE)
        probability = (own.softmax(1) * roads[:, None, None]).sum(1)
        loss = loss + objectives.line_recall_loss(probability, there)
    return loss


def _told(
    logits: Tensor,
    cover_logits: Tensor | None,
    batch: Batch,
    classes: Tensor,
    cover_classes: Tensor | None,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return logits, what their pixels may be, and the classes asked for, of each that is told."""
    found = []
    if batch.shares is not None:
        found.append((logits[: len(batch.shares)].float(), batch.shares, classes))
    if batch.drawn is not None:
        found.append((logits.float(), batch.drawn, classes))
    if batch.cover is not None and cover_logits is not None and cover_classes is not None:
        found.append((cover_logits.float(), batch.cover, cover_classes))
    return found


def _distilled(
    teacher: nn.Module, batch: Batch, logits: Tensor, cover_logits: Tensor | None
) -> Tensor:
    """Return how far both heads are from the teacher's where labels leave a choice, a scalar."""
    with torch.no_grad():
        _, drawn, cover = teacher(batch.source)
    loss = logits.new_zeros((), dtype=torch.float32)
    of_map = batch.drawn
    if of_map is None:  # nothing is known of what masks do not tell, all of what maps show
        of_map = torch.ones_like(logits, dtype=torch.float32)
        of_map[: 0 if batch.shares is None else len(batch.shares)] = 0
    elif batch.shares is not None:
        of_map = of_map.clone()
        of_map[: len(batch.shares)] = 0
    loss = loss + objectives.distillation_loss(logits.float(), drawn.float(), of_map)
    if cover_logits is not None and cover is not None and batch.cover is not None:
        loss = loss + objectives.distillation_loss(cover_logits.float(), cover.float(), batch.cover)
    return loss
