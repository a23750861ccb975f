"""A trained network as other runtimes like it best; it computes the same.

Fixed normalisation is folded into the convolution before it. For int8, a transposed convolution
of stride 2 becomes an ordinary one with a sub-pixel shuffle behind it (Shi et al., "Is the
deconvolution layer the same as a convolutional layer?", 2016, arXiv 1609.07009). It does the
same multiplications, but for ordinary ones there are int8 kernels where for transposed ones
there are none.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from sat2map.networks.heads import LegendHead
from sat2map.networks.normalisation import KeptNorm


class Portable(nn.Module):
    """What another runtime is given of a generator: every output that it has, side by side.

    Args:
        network: A generator; a copy of it is made.
        for_int8: Whether transposed convolutions become ordinary ones.

    Attributes:
        outputs: Names of what `forward` returns.
    """

    def __init__(self, network: nn.Module, *, for_int8: bool = False) -> None:
        super().__init__()
        self.outputs = outputs_of(network)
        self.network = copy.deepcopy(network).cpu().float().eval()
        _fold_norms(self.network)
        if for_int8:
            _replace_transposed(self.network)
        self.eval()

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        """Translate float [N,C,H,W] in [-1,1] into the outputs, float [N,channels,H,W]."""
        if len(self.outputs) == 1:
            return (self.network(source),)
        if "cover" not in self.outputs:
            logits = self.network.logits(source)  # type: ignore[operator]
            return self.network.head(logits), logits.softmax(1)  # type: ignore[operator]
        logits, cover = self.network.both_logits(source)  # type: ignore[operator]
        return self.network.head(logits), logits.softmax(1), cover.softmax(1)  # type: ignore[operator]


def outputs_of(network: nn.Module) -> tuple[str, ...]:
    """Return what a generator can answer.

    These are the names that exported files have for it: "picture" is the image, "probabilities"
    those of the classes of a legend head, and "cover" those of what is on the ground.
    """
    outputs = ["picture"]
    if isinstance(getattr(network, "head", None), LegendHead):
        outputs.append("probabilities")
        if getattr(network, "cover_exit", None) is not None:
            outputs.append("cover")
    return tuple(outputs)


class SubPixel(nn.Module):
    """A transposed convolution of stride 2 as an ordinary one and a shuffle.

    With `out[2i+a-p] = sum over d of w[2d+a] x[i-d]`, every output pixel of a phase a is a
    convolution of the input with every second weight. All four phases of 2x2 output pixels are
    channels of one convolution; the shuffle lays them out.

    Args:
        transposed: Its stride is 2 and its kernel square; see `is_replaceable`.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        super().__init__()
        side, padding = transposed.kernel_size[0], int(transposed.padding[0])
        # What comes out first may lie before the first pixel wanted, where that needs fewer taps.
        self.before = min((0, 1), key=lambda shift: len(_taps(side, padding - shift)))
        taps = _taps(side, padding - self.before)
        last = max(taps)
        weight = transposed.weight.detach()
        before, after = weight.shape[:2]
        phases = weight.new_zeros(after, 2, 2, before, len(taps), len(taps))
        for a in (0, 1):
            for b in (0, 1):
                for i, d in enumerate(reversed(taps)):
                    for j, e in enumerate(reversed(taps)):
                        y, x = (
                            2 * d + a + padding - self.before,
                            2 * e + b + padding - self.before,
                        )
                        if 0 <= y < side and 0 <= x < side:
                            phases[:, a, b, :, i, j] = weight[:, :, y, x].T
        bias = None if transposed.bias is None else transposed.bias.detach().repeat_interleave(4)
        self.weight = nn.Parameter(phases.flatten(0, 2), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        # Of H input pixels come 2H + `longer`; the convolution has H + `positions` places.
        self.longer = side - 2 - 2 * padding + int(transposed.output_padding[0])
        positions = -(-(self.longer + self.before) // 2)
        self.padding = (last, positions - last + len(taps) - 1)
        self.after = 2 * positions - self.longer - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Return float [N,channels,2H + longer,2W + longer]."""
        left, right = self.padding
        if left != right or left < 0:
            x = F.pad(x, (left, right, left, right))
        padding = left if left == right and left >= 0 else 0
        shuffled = F.pixel_shuffle(F.conv2d(x, self.weight, self.bias, padding=padding), 2)
        stop = -self.after if self.after else None
        return shuffled[..., self.before : stop, self.before : stop]


def _taps(side: int, padding: int) -> list[int]:
    """Return by how many input pixels an output pixel looks back, of both phases together."""
    return [
        d for d in range(-side, side + 1) if any(0 <= 2 * d + a + padding < side for a in (0, 1))
    ]


def is_replaceable(module: nn.Module) -> bool:
    """Whether a module is a transposed convolution that `SubPixel` can replace."""
    return (
        isinstance(module, nn.ConvTranspose2d)
        and module.stride == (2, 2)
        and module.dilation == (1, 1)
        and module.groups == 1
        and len({*module.kernel_size})
        == len({*module.padding})
        == len({*module.output_padding})
        == 1
    )


@torch.no_grad()
def _replace_transposed(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if is_replaceable(child):
                setattr(module, name, SubPixel(child))  # type: ignore[arg-type]


@torch.no_grad()
def _fold_norms(network: nn.Module) -> None:
    """Fold a norm into the convolution that its module was given just before it."""
    for module in list(network.modules()):
        for (name, convolution), (next_name, follower) in pairwise(module.named_children()):
            norm = _as_batch_norm(follower)
            if norm is None or not isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d):
                continue
            transposed = isinstance(convolution, nn.ConvTranspose2d)
            setattr(module, name, fuse_conv_bn_eval(convolution, norm, transposed))  # type: ignore[arg-type]
            setattr(module, next_name, nn.Identity())


def _as_batch_norm(norm: nn.Module) -> nn.BatchNorm2d | KeptNorm | None:
    """Return a norm with fixed statistics as batch norm, or None if it is none."""
    if isinstance(norm, nn.BatchNorm2d | KeptNorm):
        return norm if norm.running_mean is not None else None
    if isinstance(norm, nn.InstanceNorm2d) and norm.running_mean is not None:
        same = nn.BatchNorm2d(norm.num_features, norm.eps, affine=False).eval()
        same.running_mean, same.running_var = norm.running_mean, norm.running_var
        return same
    return None
