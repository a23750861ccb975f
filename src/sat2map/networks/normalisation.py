"""Normalisation layers, and the three ways in which their statistics are used.

- *Training*: statistics of the batch, running averages updated (`network.train()`).
- *As published*: statistics of the picture itself, dropout on, nothing updated
  (`as_published`). The paper predicts like this, so a tile's result depends on the tile.
- *Deterministic*: fixed statistics, dropout off (`network.eval()`). The running averages of
  training with batch 1 are poor statistics; `reestimate` replaces them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "instance", "instance_calibrated", "none"]


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer.

    "instance" normalises each picture by itself, always; "instance_calibrated" does so in
    training and takes fixed statistics, filled in by `reestimate`, in evaluation.
    """
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance" | "instance_calibrated":
            return nn.InstanceNorm2d(channels, track_running_stats=kind == "instance_calibrated")
        case "none":
            return nn.Identity()
        case _:
            raise ValueError(f"norm is batch, instance, instance_calibrated or none, not {kind!r}")


def norm_has_shift(kind: Norm) -> bool:
    """Whether the layer adds a learned constant, so that a bias before it would be idle."""
    return kind == "batch"


@contextmanager
def as_published(network: nn.Module, *, dropout: bool = True) -> Iterator[None]:
    """Within, `network` normalises by the picture's own statistics and keeps none of them.

    Args:
        network: Any network; its modes are restored afterwards.
        dropout: Whether dropout is on, as in the paper's prediction.
    """
    modes = {module: module.training for module in network.modules()}
    stored = {norm: (norm.running_mean, norm.running_var) for norm in _norms(network)}
    tracking = {norm: norm.track_running_stats for norm in stored}
    network.train()
    for norm in stored:
        # Statistics of the batch; without buffers none can be updated (in training mode
        # InstanceNorm2d would update them even where it does not track).
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = None
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train(dropout)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, (mean, variance) in stored.items():
            norm.running_mean, norm.running_var = mean, variance
            norm.track_running_stats = tracking[norm]


@torch.no_grad()
def reestimate(network: nn.Module, sources: Iterable[Tensor], *, together: bool = False) -> int:
    """Replace the running statistics of all normalisation layers; return how many pictures.

    Each layer gets the mean over the pictures of their own means and (biased) variances,
    that is of exactly what normalises a picture in training at batch 1. The pictures pass
    as in deterministic prediction otherwise, with dropout off. (The idea of estimating anew
    after training: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.)

    Args:
        network: Has BatchNorm2d or tracking InstanceNorm2d layers; without any, nothing is
            done.
        sources: float [N,C,H,W] in [-1,1] each, on the network's device.
        together: Whether batch norm takes each batch as a whole, as in training with such
            batches, instead of each picture by itself.
    """
    norms = [m for m in _norms(network) if m.running_mean is not None]
    totals: dict[nn.Module, list[Tensor]] = {}
    pictures = 0

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()
        count = len(x)
        if together and isinstance(norm, nn.BatchNorm2d):
            x = x.transpose(0, 1).flatten(1)[None, ..., None]  # all pictures as one
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)
        new = [part.double().mean(0) * count for part in (mean, variance)]
        old = totals.get(norm)
        totals[norm] = new if old is None else [a + b for a, b in zip(old, new, strict=True)]

    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    try:
        with as_published(network, dropout=False):
            for batch in sources if norms else ():
                for source in torch.split(batch, len(batch) if together else 1):
                    network(source)
                    pictures += len(source)
    finally:
        for hook in hooks:
            hook.remove()
    for norm, (mean, variance) in totals.items():
        assert isinstance(norm, nn.BatchNorm2d | nn.InstanceNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean / pictures)
        norm.running_var.copy_(variance / pictures)
    return pictures


def _norms(network: nn.Module) -> list[nn.BatchNorm2d | nn.InstanceNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]
