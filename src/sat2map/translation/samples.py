"""Passes with dropout that vote for the classes: how many, with which seed, of which models.

What is dropped of a feature is a function of the seed, of the pass, and of the feature's place in
the image or the scene (`with_placed_dropout` of `networks/normalisation.py`). So windows that
overlap, and a scene that is shown twice, drop the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from sat2map.errors import UsageError, expect
from sat2map.legend import Legend
from sat2map.model.card import ModelCard

MOST = 1000


@dataclass(frozen=True)
class Samples:
    """Passes with dropout.

    Attributes:
        count: How many, 2 to `MOST`.
        seed: Of the dropout, 0 to 2**63 - 1.

    Raises:
        UsageError: A number does not fit.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.count <= MOST:
            raise UsageError(f"is {self.count}", parameter="samples", remedy=f"Choose 2 to {MOST}.")
        check_seed(self.seed)


def check_seed(seed: int) -> None:
    """Refuse what is not a seed.

    Raises:
        UsageError: It is not a whole number from 0 to 2**63 - 1.
    """
    expect(seed, Integral, "seed", "Give a whole number.")
    if not 0 <= seed < 2**63:
        raise UsageError(
            f"is {seed}", parameter="seed", remedy="Give a whole number from 0 to 2**63 - 1."
        )


def check_can_vote(card: ModelCard, legend: Legend | None, name: str) -> None:
    """Refuse a model whose passes cannot vote.

    Raises:
        UsageError: Its network has no dropout, or it has no legend.
    """
    if not card.generator.has_dropout:
        raise UsageError(
            "its network has no dropout, so every pass says the same",
            where=name,
            remedy="Leave out `samples`, or choose a model whose network has dropout, such as one "
            "of the recipe pix2pix.",
        )
    if legend is None:
        raise UsageError(
            "the model has no legend, so there are no classes to vote for",
            where=name,
            remedy="Leave out `samples`, or choose a model with a legend.",
        )
