"""The 4x4 convolutions of the U-Net, in the form that is fastest.

In training on a CPU the layers near the bottleneck, which have megabytes of weights for a few
pixels, are computed as what they are: products with the matrix of the weights. oneDNN takes up to
seven times as long for them, most of it for their gradients. The numbers are the same but for the
order of the sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_PIXELS = 16
"""Up to so many pixels that come in, 4 x 4, a matrix product is faster on a CPU."""


class DownConvolution(nn.Conv2d):
    """A 4x4 convolution with stride 2 and padding 1, which halves an even height and width.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that come out.
        bias: Whether there is one.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return float [N,out_channels,H/2,W/2] of float [N,in_channels,H,W]."""
        if not _is_product(self, x):
            return super().forward(x)
        height, width = x.shape[2:]
        squares = F.unfold(x, 4, padding=1, stride=2)
        product = torch.matmul(self.weight.flatten(1), squares)
        made = product.view(len(x), -1, height // 2, width // 2)
        return made if self.bias is None else made + self.bias[:, None, None]


class UpConvolution(nn.ConvTranspose2d):
    """A transposed 4x4 convolution with stride 2 and padding 1, which doubles height and width.

    As a product it makes 4x4 squares, which are added up where they overlap.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that come out.
        bias: Whether there is one.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return float [N,out_channels,2H,2W] of float [N,in_channels,H,W]."""
        if not _is_product(self, x):
            return super().forward(x, None if output_size is None else list(output_size))
        height, width = x.shape[2:]
        squares = torch.matmul(self.weight.flatten(1).t(), x.flatten(2))
        summed = F.fold(squares, (2 * height, 2 * width), 4, padding=1, stride=2)
        return summed if self.bias is None else summed + self.bias[:, None, None]


def _is_product(layer: nn.Module, x: Tensor) -> bool:
    """Return whether a layer is computed as a matrix product, of an input [N,C,H,W]."""
    return layer.training and x.device.type == "cpu" and x.shape[2:].numel() <= FEW_PIXELS
