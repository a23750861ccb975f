"""The transposed convolution of the U-Net, in the form that is fastest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_PIXELS = 64
"""Up to so many pixels that come in, 8 x 8, a matrix product is faster on a CPU."""


class UpConvolution(nn.ConvTranspose2d):
    """A transposed 4x4 convolution with stride 2 and padding 1.

    In training on a CPU, the layers near the bottleneck, which have megabytes of weights for a
    few pixels, are computed as what they are: a product with the matrix of the weights, whose
    4x4 squares are added up where they overlap. oneDNN takes twice the time for them, most of
    it for their gradients. The numbers are the same but for the order of the sums.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that come out.
        bias: Whether there is one.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return float [N,out_channels,2H,2W] of float [N,in_channels,H,W]."""
        height, width = x.shape[2:]
        few = height * width <= FEW_PIXELS
        if not (self.training and few and x.device.type == "cpu"):
            return super().forward(x, None if output_size is None else list(output_size))
        squares = torch.matmul(self.weight.flatten(1).t(), x.flatten(2))
        summed = F.fold(squares, (2 * height, 2 * width), 4, padding=1, stride=2)
        return summed if self.bias is None else summed + self.bias[:, None, None]
