"""The PatchGAN discriminator of Pix2Pix.

Isola et al. 2017, appendix 6.1.2. The text there says that all strides are 2; the authors'
code and the 70-pixel receptive field say that the last two convolutions have stride 1, and
so has this one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sat2map.networks.blocks import Norm
from sat2map.networks.initialise import initialise
from sat2map.networks.normalisation import norm_has_shift, norm_layer


class PatchGAN(nn.Module):
    """Decides for each patch whether it is real; the decisions are averaged by the loss.

    Without arguments it is the published 70x70 discriminator C64-C128-C256-C512, 2.77 M
    parameters, which gives 30x30 decisions at 256.

    Args:
        source_channels: Bands of the source.
        target_channels: Bands of the target.
        base_channels: Channels of the first layer; they double up to eightfold.
        strided_layers: Convolutions with stride 2. 0 to 5 give receptive fields of 1, 16,
            34, 70, 142 and 286 pixels; 0 is the PixelGAN of 1x1 convolutions.
        conditional: False leaves the source out, the "GAN" of the paper's ablation.
        norm: Kind of normalisation.

    Raises:
        ValueError: `strided_layers` is negative.
    """

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 3,
        *,
        base_channels: int = 64,
        strided_layers: int = 3,
        conditional: bool = True,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if strided_layers < 0:
            raise ValueError(f"strided_layers is 0 or more, not {strided_layers}")
        self.conditional = conditional
        kernel, padding = (4, 1) if strided_layers else (1, 0)
        strides = [2] * strided_layers + [1] if strided_layers else [1, 1]
        before = target_channels + (source_channels if conditional else 0)
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            channels = base_channels * min(2**i, 8)
            bias = i == 0 or not norm_has_shift(norm)
            layers.append(nn.Conv2d(before, channels, kernel, stride, padding, bias=bias))
            if i > 0:
                layers.append(norm_layer(norm, channels))
            # In place: convolution and norm need their inputs, not their outputs, to learn.
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = channels
        layers.append(nn.Conv2d(before, 1, kernel, 1, padding))
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the decisions as logits, float [N,1,h,w].

        Args:
            source: float [N,source_channels,H,W] in [-1,1]; ignored unless conditional.
            target: float [N,target_channels,H,W] in [-1,1], real or generated.
        """
        seen = torch.cat([source, target], 1) if self.conditional else target
        decisions: Tensor = self.layers(seen)
        return decisions

    def receptive_field(self) -> int:
        """Return the side in pixels of the patch that one decision sees."""
        field = 1
        for layer in reversed(self.layers):
            if isinstance(layer, nn.Conv2d):
                field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
        return field
