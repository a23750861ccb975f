"""One step of training: an update of the discriminator, then one of the generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from sat2map import objectives
from sat2map.recipe import Objective

LOSSES = ("discriminator", "generator_adversarial", "l1")


@dataclass(frozen=True)
class Adversaries:
    """The two networks with their optimisers.

    `discriminator` and `discriminator_optimiser` are None where the objective has no
    adversarial part.
    """

    generator: nn.Module
    generator_optimiser: Optimizer
    discriminator: nn.Module | None = None
    discriminator_optimiser: Optimizer | None = None


def update(
    fabric: Fabric, players: Adversaries, objective: Objective, source: Tensor, target: Tensor
) -> Tensor:
    """Update both networks on one batch (Isola et al. 2017, section 3.3).

    The picture is generated once and judged twice: detached for the discriminator's update,
    and by the updated discriminator for the generator's.

    Args:
        fabric: Runs the backward passes.
        players: The networks, in training mode, and their optimisers.
        objective: The losses and their weights.
        source: float [N,C,H,W] in [-1,1].
        target: float [N,C,H,W] in [-1,1].

    Returns:
        The unweighted losses in the order of `LOSSES`, float [3], detached, on the device.
    """
    generated = players.generator(source)
    adversarial = source.new_zeros(())
    discriminator_loss = source.new_zeros(())

    if players.discriminator is not None and players.discriminator_optimiser is not None:
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
        adversarial = objectives.generator_adversarial_loss(
            players.discriminator(source, generated), objective.adversarial
        )

    l1 = objectives.l1_loss(generated, target)
    players.generator_optimiser.zero_grad()
    fabric.backward(objective.adversarial_weight * adversarial + objective.l1_weight * l1)
    players.generator_optimiser.step()
    return torch.stack([discriminator_loss, adversarial, l1]).detach().float()
