"""Heads: what a generator does with the channels of its last convolution."""

from __future__ import annotations

from torch import Tensor, nn


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
