"""What training minimises: one function for each loss.

Isola et al. 2017, section 3.1. The discriminator's loss is halved, which slows it against
the generator (section 3.3); the generator maximises log D rather than minimising log(1 - D).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Adversarial = Literal["vanilla", "least_squares", "hinge"]


def discriminator_loss(real: Tensor, generated: Tensor, kind: Adversarial) -> Tensor:
    """Return half the sum of the losses on a real and a generated batch, a scalar.

    Args:
        real: Decisions on real pairs, logits of any shape.
        generated: Decisions on generated pairs, logits of any shape.
        kind: "vanilla" is cross-entropy, "least_squares" that of Mao et al. 2017 with labels
            1 and 0, "hinge" that of Lim and Ye 2017.
    """
    match kind:
        case "vanilla":
            loss = F.softplus(-real).mean() + F.softplus(generated).mean()
        case "least_squares":
            loss = (real - 1).square().mean() + generated.square().mean()
        case "hinge":
            loss = F.relu(1 - real).mean() + F.relu(1 + generated).mean()
    return loss / 2


def generator_adversarial_loss(generated: Tensor, kind: Adversarial) -> Tensor:
    """Return the generator's loss, a scalar: low where generated pairs are taken for real.

    Args:
        generated: Decisions on generated pairs, logits of any shape.
        kind: As for `discriminator_loss`.
    """
    match kind:
        case "vanilla":
            return F.softplus(-generated).mean()
        case "least_squares":
            return (generated - 1).square().mean()
        case "hinge":
            return -generated.mean()


def l1_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference, a scalar."""
    return F.l1_loss(generated, target)
