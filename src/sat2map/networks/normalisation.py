"""Normalisation layers, and the ways in which their statistics are used.

- *Training*: statistics of the batch, running averages updated (`network.train()`).
- *As published*: statistics of the image itself, dropout on, nothing updated
  (`in_published_mode`). The paper predicts like this, so a tile's result depends on the tile.
- *Deterministic*: fixed statistics, dropout off (`network.eval()`). The running averages of
  training with batch 1 are poor statistics; `recalibrate` replaces them.

`with_placed_dropout` is a fourth: as deterministic, but with dropout that depends on the place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import deprecated

from sat2map.networks.blocks import Norm


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


class KeptNorm(nn.Module):
    """Batch norm that keeps its statistics, in training too; only scale and shift may learn.

    Its parameters and buffers are those of the layer that it stands for, under the same names.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Return float [N,channels,H,W]."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def keep_statistics(network: nn.Module) -> None:
    """Let every batch norm within a network keep the statistics that it has."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, KeptNorm(child))


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


def with_placed_dropout(
    network: nn.Module, seed: int, number: int, at: tuple[int, int], height: int
) -> nn.Module:
    """Return a network whose dropout is a function of a seed and of the place in the scene.

    Statistics are the fixed ones. What is dropped of a feature follows from the seed, the pass, the
    layer, the channel and the feature's place: so windows that overlap drop the same where they
    do, if they start at multiples of what a feature stands for. `network` stays as it is, and its
    weights are shared, as by `in_published_mode`.

    Args:
        network: Any network whose dropout is `nn.Dropout`.
        seed: 0 to 2**63 - 1.
        number: Which pass it is for, from 0.
        at: Row and column of the window's first pixel in the scene.
        height: Rows of the window.
    """
    shared: dict[int, Any] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    placed = copy.deepcopy(network, shared).eval()
    key = _hashed(_hashed(np.array([seed], np.uint64)) + np.uint64(number))
    layers = 0
    for module in list(placed.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                layers += 1
                of_layer = _hashed(key + np.uint64(layers))
                setattr(module, name, _PlacedDropout(child.p, of_layer, at, height))
    return placed


class _PlacedDropout(nn.Module):
    """Dropout by the place of a feature; see `with_placed_dropout`."""

    def __init__(self, p: float, key: NDArray[np.uint64], at: tuple[int, int], height: int) -> None:
        super().__init__()
        self.p = p
        self._key, self._at, self._height = key, at, height

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        side = self._height // height  # pixels that a feature stands for
        numbers = np.arange(channels, dtype=np.uint64)
        hashed = _hashed(self._key + numbers)[:, None, None]
        for axis, start, count in ((1, self._at[0], height), (2, self._at[1], width)):
            numbers = np.arange(start // side, start // side + count).astype(np.uint64)
            hashed = _hashed(hashed ^ np.expand_dims(_hashed(numbers), (0, 3 - axis)))
        kept = hashed >= np.uint64(min(int(self.p * 2**64), 2**64 - 1))
        return x * (torch.from_numpy(kept).to(x) / (1 - self.p))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _hashed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers that look as if they were drawn.

    It is mix64 of Steele et al. 2014, "Fast splittable pseudorandom number generators".
    """
    values = values + _GOLDEN
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    hashed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return hashed


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
