"""What training minimises: one function for each loss.

Isola et al. 2017, section 3.1. The discriminator's loss is halved, which slows it against
the generator (section 3.3); the generator maximises log D rather than minimising log(1 - D).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversarial = Literal["vanilla", "least_squares", "hinge"]
CASING_WIDTH = 2
"""How many pixels a casing covers on each side of a road."""
CASING_USUAL = 0.25
"""Which share of the pixels beside roads is casing where a map draws them."""


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


def class_loss(logits: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted cross-entropy between classes and shares, a scalar.

    Args:
        logits: float [N,K,H,W].
        shares: The share of each class in each pixel, float [N,K,H,W] with sum 1 over K.
        weights: Of each class, float [K].
    """
    weighted = shares * weights[:, None, None]
    return -(weighted * logits.log_softmax(1)).sum(1).mean() / weighted.sum(1).mean()


def partial_loss(logits: Tensor, may_be: Tensor, weights: Tensor) -> Tensor:
    """Return minus the log of the summed probability of the classes that pixels may be, a scalar.

    It is averaged over the known part of each image, and then over the images of which something
    is known, so that a set counts by its share of the batch and not by how much it tells. The
    loss of labels that leave several classes open is that of Cour et al., "Learning from partial
    labels", JMLR 2011, in its form for probabilities.

    Args:
        logits: float [N,K,H,W].
        may_be: The share of a pixel's area that may be of each class, float [N,K,H,W], 0 to 1;
            1 for all classes where nothing is known.
        weights: Of each class, float [K].
    """
    known = 1 - may_be.amin(1)
    weight = known * (may_be * weights[:, None, None]).sum(1) / may_be.sum(1).clamp(min=1e-6)
    possible = (may_be * logits.softmax(1)).sum(1)
    loss = -possible.clamp(min=1e-6).log()
    of_image = (weight * loss).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
    asked = (weight.sum((1, 2)) > 0).sum().clamp(min=1)
    return of_image.sum() / asked


def distillation_loss(logits: Tensor, teacher: Tensor, may_be: Tensor) -> Tensor:
    """Return how far classes are from a teacher's where labels leave a choice, a scalar.

    It is the Kullback-Leibler divergence from the teacher's probabilities, of the classes that a
    pixel may be, averaged over the pixels that may be of several (after Li and Hoiem, "Learning
    without forgetting", ECCV 2016).

    Args:
        logits: float [N,K,H,W].
        teacher: Logits of the model that training began with, float [N,K,H,W].
        may_be: As for `partial_loss`.
    """
    open_ = (may_be.sum(1) - 1).clamp(0, 1)
    wanted = teacher.softmax(1) * may_be
    wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-6)
    divergence = F.kl_div(logits.log_softmax(1), wanted, reduction="none").sum(1)
    return (divergence * open_).sum() / open_.sum().clamp(min=1)


@torch.no_grad()
def with_casings(
    shares: Tensor, drawn: Tensor, true: Tensor, weights: Tensor, casing: int
) -> Tensor:
    """Return the shares of classes, with a casing along each road that the network draws.

    The outline of a road, its casing, is thinner than the place of the road is certain, so that
    it is likely in no single pixel and a network that weighs pixel by pixel never draws it. But
    beside the road that it draws itself the casing is due. There it is given as much weight as
    what the truth has there, unless that is road; less where few true roads of the same view
    have casings, and none where none has.

    Args:
        shares: The true share of each class in each pixel, float [N,K,H,W].
        drawn: The roads of the network's image, float [N,H,W], 0 to 1.
        true: The true roads, float [N,H,W], 0 or 1.
        weights: Of each class in the loss, float [K].
        casing: The number of the casing's class.
    """
    beside_true = _beside(true)
    cased = (beside_true * shares[:, casing]).sum((1, 2)) / beside_true.sum((1, 2)).clamp(min=1)
    usual = (cased / CASING_USUAL).clamp(max=1)[:, None, None]
    # Twice, so that the soft edge of a road is beside it and not between the two.
    beside = (2 * _beside(drawn)).clamp(max=1)
    weight = (shares * weights[:, None, None]).sum(1)
    part = (usual * beside * (1 - true) * weight / (weight + weights[casing]))[:, None]
    cased_only = torch.zeros_like(shares)
    cased_only[:, casing] = 1
    return shares.lerp(cased_only, part)


def _beside(roads: Tensor) -> Tensor:
    return F.max_pool2d(roads, 2 * CASING_WIDTH + 1, 1, CASING_WIDTH) - roads


def certain_places(may_be: Tensor, classes: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return where some classes, such as roads, are certain, and where it is certain either way.

    Args:
        may_be: As for `partial_loss`.
        classes: The classes, bool [K].
        share: What share of a pixel's area makes it one of theirs.

    Returns:
        Two masks, float [N,H,W], 0 or 1.
    """
    chosen = classes[:, None, None]
    may = (may_be * chosen).amax(1)
    others = (may_be * ~chosen).amax(1)
    there = (may > share) & (others <= 1 - share)
    return there.to(may_be.dtype), (there | (may <= share)).to(may_be.dtype)


def partial_dice_loss(logits: Tensor, may_be: Tensor, classes: Tensor, share: float) -> Tensor:
    """Return the Dice loss of some classes where labels are certain of them, a scalar.

    It is 0 where no pixel certainly has them: labels that only know what is none would push the
    classes away from everywhere.

    Args:
        logits: float [N,K,H,W].
        may_be: As for `partial_loss`.
        classes: The classes, bool [K].
        share: What share of a pixel's area makes it one of theirs.
    """
    there, asked = certain_places(may_be, classes, share)
    probability = (logits.softmax(1) * classes[:, None, None]).sum(1)
    return dice_loss(probability * asked, there) * (there.sum() > 0)


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """Return 1 minus the Dice coefficient of a whole batch, a scalar (Milletari et al. 2016).

    Args:
        probability: float [N,H,W], 0 to 1.
        mask: What is true, float [N,H,W], 0 to 1.
    """
    both = (probability * mask).sum()
    return 1 - (2 * both + 1) / (probability.sum() + mask.sum() + 1)


def soft_skeleton(mask: Tensor, thinnings: int) -> Tensor:
    """Return the centre lines of soft masks, float [N,H,W] (Shit et al. 2021, algorithm 1).

    Args:
        mask: float [N,H,W], 0 to 1.
        thinnings: At least half the width of the widest line, in pixels.
    """
    mask = mask[:, None]
    skeleton = F.relu(mask - _open(mask))
    for _ in range(thinnings):
        mask = _erode(mask)
        ridge = F.relu(mask - _open(mask))
        skeleton = skeleton + F.relu(ridge - skeleton * ridge)
    return skeleton[:, 0]


def cldice_loss(probability: Tensor, mask: Tensor, thinnings: int = 5) -> Tensor:
    """Return 1 minus the soft centre-line Dice of a batch, a scalar (Shit et al. 2021).

    Args:
        probability: float [N,H,W], 0 to 1.
        mask: What is true, float [N,H,W], 0 to 1.
        thinnings: As for `soft_skeleton`.
    """
    generated_line, true_line = (
        soft_skeleton(probability, thinnings),
        soft_skeleton(mask, thinnings),
    )
    precision = ((generated_line * mask).sum() + 1) / (generated_line.sum() + 1)
    sensitivity = ((true_line * probability).sum() + 1) / (true_line.sum() + 1)
    return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def line_recall_loss(probability: Tensor, mask: Tensor, thinnings: int = 5) -> Tensor:
    """Return 1 minus the share of the true centre lines that is found, a scalar.

    Only the truth is thinned, and its lines are three pixels wide, so it costs little beside
    `cldice_loss` (Kirchhoff et al., "Skeleton Recall Loss", ECCV 2024).

    Args:
        probability: float [N,H,W], 0 to 1.
        mask: What is true, float [N,H,W], 0 to 1.
        thinnings: As for `soft_skeleton`.
    """
    with torch.no_grad():
        lines = F.max_pool2d(soft_skeleton(mask, thinnings), 3, 1, 1) * mask
    return 1 - ((lines * probability).sum() + 1) / (lines.sum() + 1)


def _erode(mask: Tensor) -> Tensor:
    down = -F.max_pool2d(-mask, (3, 1), 1, (1, 0))
    return torch.minimum(down, -F.max_pool2d(-mask, (1, 3), 1, (0, 1)))


def _open(mask: Tensor) -> Tensor:
    return F.max_pool2d(_erode(mask), 3, 1, 1)
