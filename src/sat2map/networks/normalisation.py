"""Normalisation layers, and the three ways in which their statistics are used.

- *Training*: statistics of the batch, running averages updated (`network.train()`).
- *As published*: statistics of the image itself, dropout on, nothing updated
  (`in_published_mode`). The paper predicts like this, so a tile's result depends on the tile.
- *Deterministic*: fixed statistics, dropout off (`network.eval()`). The running averages of
  training with batch 1 are poor statistics; `recalibrate` replaces them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import deprecated

from sat2map.networks.specs import Norm


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer.

    "instance" normalises each image by itself, always; "instance_calibrated" does so in
    training and takes fixed statistics, filled in by `recalibrate`, in evaluation.
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


def in_published_mode(network: nn.Module, dropout: torch.Generator | None = None) -> nn.Module:
    """Return a network that normalises by the image's own statistics and keeps none of them.

    It has the parameters and buffers of `network` themselves, not copies of them, and modes of
    its own; `network` stays as it is. So threads may predict with one network at once, each with
    what it got from here and a generator of its own: nothing is drawn from torch's global state.

    Args:
        network: Any network whose dropout, if it has any, is `nn.Dropout`.
        dropout: What dropout draws from, on the network's device; None switches dropout off.
    """
    shared: dict[int, Any] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    published = copy.deepcopy(network, shared).train()
    for norm in _norms(published):
        # Statistics of the batch; without buffers none can be updated (in training mode
        # InstanceNorm2d would update them even where it does not track).
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = None
    for module in list(published.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                drawn = nn.Identity() if dropout is None else _DrawnDropout(child.p, dropout)
                setattr(module, name, drawn)
    return published


@deprecated("as_published is now called in_published_mode")
def as_published(network: nn.Module, dropout: torch.Generator | None = None) -> nn.Module:
    """Return a network as `in_published_mode` does."""
    return in_published_mode(network, dropout)


class _DrawnDropout(nn.Module):
    """Dropout from a generator of its own; on a CPU it is what `nn.Dropout` does with the same.

    Args:
        p: Probability that a value becomes 0.
        generator: Draws; on the device of what comes in.
    """

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self._generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0:
            return x
        if self.p == 1:
            return torch.zeros_like(x)
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self._generator)
        return x * kept.div_(1 - self.p)


@torch.no_grad()
def recalibrate(network: nn.Module, sources: Iterable[Tensor], *, together: bool = False) -> int:
    """Replace the running statistics of all normalisation layers; return how many images.

    Each layer gets the mean over the images of their own means and (biased) variances,
    that is of exactly what normalises an image in training at batch 1. The images pass
    as in deterministic prediction otherwise, with dropout off. (The idea of estimating anew
    after training: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.)

    Args:
        network: Has BatchNorm2d or tracking InstanceNorm2d layers; without any, nothing is
            done.
        sources: float [N,C,H,W] in [-1,1] each, on the network's device.
        together: Whether batch norm takes each batch as a whole, as in training with such
            batches, instead of each image by itself.
    """
    published = in_published_mode(network)
    pairs = zip(_norms(published), _norms(network), strict=True)
    norms = {theirs: ours for theirs, ours in pairs if ours.running_mean is not None}
    totals: dict[nn.Module, list[Tensor]] = {}
    images = 0

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()
        count = len(x)
        if together and isinstance(norm, nn.BatchNorm2d):
            x = x.transpose(0, 1).flatten(1)[None, ..., None]  # all images as one
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)
        new = [part.double().mean(0) * count for part in (mean, variance)]
        old = totals.get(norm)
        totals[norm] = new if old is None else [a + b for a, b in zip(old, new, strict=True)]

    for norm in norms:
        norm.register_forward_pre_hook(collect)
    for batch in sources if norms else ():
        for source in torch.split(batch, len(batch) if together else 1):
            published(source)
            images += len(source)
    for norm, ours in norms.items() if images else ():
        assert ours.running_mean is not None and ours.running_var is not None
        mean, variance = totals[norm]
        ours.running_mean.copy_(mean / images)
        ours.running_var.copy_(variance / images)
    return images


def _norms(network: nn.Module) -> list[nn.BatchNorm2d | nn.InstanceNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]
