"""How a step is taken: by the host, operation by operation, or whole, as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from sat2map.training.augment import sent
from sat2map.training.batches import Batches
from sat2map.training.mixture import Mixture

WARM_UP = 5
"""Steps before a graph is recorded: kernels are compiled and chosen, optimisers begun."""


def set_learning_rate(optimisers: Iterable[Optimizer], rate: float) -> None:
    """Set the learning rate of all groups, times their own `rate`, in place if it is a tensor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            own = rate * group.get("rate", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own


def can_record(fabric: Fabric, batches: Batches | Mixture) -> bool:
    """Whether whole steps can be recorded: on CUDA, by one process, with batches of windows."""
    alone = fabric.device.type == "cuda" and fabric.world_size == 1
    return alone and batches.follows_windows


class RecordedStep:
    """Steps that are recorded once as a CUDA graph and then replayed.

    A replay is one call for the host, in place of some two thousand kernels. What changes from
    step to step lies in tensors that stay where they are: which windows to cut, and the
    learning rate. Nothing here waits for the device. The first steps are taken as they are,
    on the stream that is recorded later ("CUDA semantics", section on CUDA graphs, of the
    PyTorch documentation). Recording executes nothing, so each step is taken once.

    Args:
        step: Takes a step on windows that are on the device; returns its losses, there too.
        optimisers: What `step` updates with; they become capturable, their rates tensors.
        device: The CUDA device.
        like: Windows as they will be, int64 [N,4].
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        optimisers: Iterable[Optimizer],
        device: torch.device,
        like: Tensor,
    ) -> None:
        self._step = step
        self._optimisers = list(optimisers)
        self._windows = torch.zeros_like(like, device=device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._losses = torch.zeros(0, device=device)
        self._taken = 0
        for group in self._groups():
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
            group["capturable"] = False  # it may come from a checkpoint

    def __call__(self, windows: Tensor, rate: float) -> Tensor:
        """Take a step.

        Args:
            windows: int64 [N,4] on the CPU.
            rate: The learning rate.

        Returns:
            The losses, on the device.
        """
        self._windows.copy_(sent(windows, self._windows.device))
        set_learning_rate(self._optimisers, rate)
        if self._taken < WARM_UP:
            self._taken += 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._losses = self._step(self._windows)
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            if self._graph is None:
                for group in self._groups():
                    group["capturable"] = True
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=self._stream):
                    self._losses = self._step(self._windows)
            self._graph.replay()
        return self._losses.clone()  # the next replay overwrites them

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimiser in self._optimisers:
            yield from optimiser.param_groups
