"""Heads: what a generator does with the channels of its last convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sat2map.networks.value_range import SHARPNESS


class ColourHead(nn.Module):
    """Colours in [-1,1] by tanh, as published.

    Attributes:
        channels: How many channels the last convolution must give.
    """

    def __init__(self, out_channels: int = 3) -> None:
        super().__init__()
        self.channels = out_channels

    def forward(self, logits: Tensor) -> Tensor:
        """Return float [N,C,H,W] in [-1,1]."""
        return logits.tanh()


class LegendHead(nn.Module):
    """Colours of a legend, mixed by the sharpened probabilities of its classes.

    The image is differentiable, so L1 and a discriminator judge it like any other, and
    beside it stand the probabilities, of which other colours make another map.
    `Translator.paint` mixes in the same way.

    Args:
        colours: RGB of each class, 0 to 255.

    Attributes:
        channels: How many channels the last convolution must give: one for each class.
        colours: float32 [K,3] in [-1,1].
    """

    colours: Tensor

    def __init__(self, colours: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.channels = len(colours)
        scaled = torch.tensor(colours, dtype=torch.float32).reshape(-1, 3) / 127.5 - 1
        self.register_buffer("colours", scaled, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Return float [N,3,H,W] in [-1,1], of logits [N,K,H,W]."""
        shares = (SHARPNESS * logits).softmax(1)  # as powers of probabilities, adding up to one
        # Not by `einsum`, of which other runtimes make several steps.
        mixed = self.colours.T.to(logits.dtype) @ shares.flatten(2)
        return mixed.view(-1, mixed.shape[1], *logits.shape[2:])


def head(out_channels: int, colours: Sequence[Sequence[int]] | None) -> ColourHead | LegendHead:
    """Return a legend head where there are colours of a legend, otherwise a colour head."""
    return ColourHead(out_channels) if colours is None else LegendHead(colours)
