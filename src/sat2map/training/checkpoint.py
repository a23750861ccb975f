"""The state of a run on disk: everything that the next step depends on.

The order of the images and their crops are functions of the seed and the step, so the step
is all that must be kept of them; dropout draws from torch's global random state, which is
kept whole. A checkpoint is written aside and renamed: it is whole or absent.
"""

from __future__ import annotations

import logging
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sat2map.atomic import atomic_file
from sat2map.errors import TrainingError

log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """The contents of a checkpoint.

    Attributes:
        pairs: How many pairs the training set has, since the order follows from it.
        modules: The networks by name, and the moving average where there is one.
        optimisers: The optimisers by name.
        processes: How many processes train together; the order follows from it too.
        rank: Which of them this is.
        step: How many steps are done.
        best: The best validation score so far.
    """

    pairs: int
    modules: dict[str, nn.Module]
    optimisers: dict[str, Optimizer]
    processes: int = 1
    rank: int = 0
    step: int = 0
    best: float | None = None

    def save(self, folder: Path, keep: int, random: list[dict[str, Any]]) -> None:
        """Write a checkpoint of this step and remove all but the newest `keep`.

        Args:
            folder: Where the checkpoints lie.
            keep: How many.
            random: The random state of each process.

        Raises:
            OutputError: It cannot be written; older ones are kept.
        """
        content = {
            "step": self.step,
            "pairs": self.pairs,
            "best": self.best,
            "modules": {name: m.state_dict() for name, m in self.modules.items()},
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "random": random,
        }
        with atomic_file(folder / f"step-{self.step:08d}.pt") as aside:
            try:
                torch.save(content, aside)
            except RuntimeError as error:  # what torch says of a full disk
                raise OSError(str(error).splitlines()[0]) from error
        for old in checkpoints(folder)[:-keep]:
            old.unlink()

    def restore(self, folder: Path) -> bool:
        """Take over the newest checkpoint that is sound; return whether there was one.

        Raises:
            TrainingError: It belongs to another training set or other networks.
        """
        for path in reversed(checkpoints(folder)):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
                log.warning("%s: is damaged and left out (%s)", path, str(error).splitlines()[0])
                continue
            self._take(content, path)
            return True
        return False

    def _take(self, content: dict[str, Any], path: Path) -> None:
        if content["pairs"] != self.pairs:
            raise TrainingError(
                f"was trained on {content['pairs']} pairs, but now there are {self.pairs}",
                where=path,
                remedy="Restore the data set, or start another run.",
            )
        # A checkpoint of the first versions holds the state of its one process.
        random = content["random"] if isinstance(content["random"], list) else [content["random"]]
        if len(random) != self.processes:
            raise TrainingError(
                f"was trained by {len(random)} processes, but now there are {self.processes}",
                where=path,
                remedy=f"Resume with torchrun --nproc-per-node {len(random)}.",
            )
        try:
            for name, module in self.modules.items():
                module.load_state_dict(content["modules"][name])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(content["optimisers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"does not fit the recipe ({str(error).splitlines()[0]})",
                where=path,
                remedy="Resume with the recipe that the run was started with.",
            ) from error
        self.step = content["step"]
        self.best = content["best"]
        mine = random[self.rank]
        torch.set_rng_state(mine["cpu"])
        if torch.cuda.is_available() and mine["cuda"]:
            torch.cuda.set_rng_state(mine["cuda"][0])


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; what has another name is not one."""
    name = re.compile(r"step-\d{8,}\.pt")
    return sorted(path for path in folder.glob("step-*.pt") if name.fullmatch(path.name))
