"""What happens at which step, as functions of the step alone.

Nothing here has a state, so a run that is resumed at a step goes on just as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from sat2map.recipe import Recipe

_ORDER, _CROPS, _SAMPLES, _DRAWS = 0, 1, 2, 3


@dataclass(frozen=True)
class Plan:
    """The schedule of a run.

    Attributes:
        recipe: The recipe.
        pairs: How many training pairs there are.
        processes: How many processes train together, each on a batch of its own.
        rank: Which of them this is, from 0.
    """

    recipe: Recipe
    pairs: int
    processes: int = 1
    rank: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; a last step that not all batches are full of is left out."""
        return max(1, self.pairs // self._pairs_per_step)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        every = self.recipe.training.epochs * self.steps_per_epoch
        most = self.recipe.training.max_steps
        return every if most is None else min(every, most)

    def epoch(self, step: int) -> int:
        """Return the epoch, from 0, that a step belongs to."""
        return step // self.steps_per_epoch

    def ends_epoch(self, done: int, every: int = 1) -> bool:
        """Whether `done` steps end every so manyth epoch, or the run."""
        return done % (self.steps_per_epoch * every) == 0 or done == self.steps

    def saves(self, done: int) -> bool:
        """Whether there is a checkpoint after `done` steps: at ends of epochs, or more often."""
        every = self.recipe.training.checkpoint_steps
        return self.ends_epoch(done) or (every is not None and done % every == 0)

    def batch(self, step: int) -> torch.Tensor:
        """Return which pairs a step learns from, int64 [batch]; a new order each epoch.

        All processes have the same order, and each takes its own part of a step.
        """
        batch = self.recipe.training.batch
        order = _order(self.recipe.training.seed, self.epoch(step), self.pairs)
        first = step % self.steps_per_epoch * self._pairs_per_step
        return order[first : first + self._pairs_per_step][self.rank * batch :][:batch]

    def draw(
        self, step: int, lengths: Sequence[int], shares: Sequence[float]
    ) -> list[tuple[int, int]]:
        """Return from which set, and which of its images, each part of a batch comes.

        Each set gets its share of a batch, rounded up or down at random so that the mean is
        exact. Images are drawn with replacement.

        Args:
            step: The step.
            lengths: How many images each set has.
            shares: How much of a batch is each set's, in any unit.
        """
        random = np.random.default_rng([self.recipe.training.seed, _DRAWS, step, self.rank])
        batch = self.recipe.training.batch
        ends = np.cumsum(np.array(shares) / sum(shares)) * batch + random.uniform()
        counts = np.diff(np.append(np.floor(ends[:-1]), batch).astype(int), prepend=0)
        return [
            (part, int(random.integers(lengths[part])))
            for part, count in enumerate(counts)
            for _ in range(count)
        ]

    def crops(self, step: int) -> torch.Generator:
        """Return the random state that a step's crops are drawn from."""
        return _random(self.recipe.training.seed, _CROPS, step, *([self.rank] if self.rank else []))

    def samples(self, number: int) -> torch.Generator:
        """Return the random state of the images that statistics are taken of."""
        return _random(self.recipe.training.seed, _SAMPLES, number)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step.

        "linear" falls once an epoch over the last `decay_epochs` and would reach 0 one epoch
        after the end, as in the common PyTorch port; "cosine" falls with each step to 0 at the
        end of the run (Loshchilov and Hutter 2017, without restarts).
        """
        schedule = self.recipe.schedule
        warm = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
        full = self.recipe.optimiser.learning_rate * warm
        if schedule.name == "constant":
            return full
        if schedule.name == "cosine":
            return full * (1 + math.cos(math.pi * step / self.steps)) / 2
        constant = self.recipe.training.epochs - schedule.decay_epochs
        fallen = max(0, self.epoch(step) + 1 - constant)
        return full * (1 - fallen / (schedule.decay_epochs + 1))

    @property
    def _pairs_per_step(self) -> int:
        return self.recipe.training.batch * self.processes


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, pairs: int) -> torch.Tensor:
    return torch.randperm(pairs, generator=_random(seed, _ORDER, epoch))


def _random(seed: int, *key: int) -> torch.Generator:
    sequence = np.random.SeedSequence([seed, *key])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
