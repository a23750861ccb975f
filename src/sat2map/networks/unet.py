"""The U-Net generator of Pix2Pix.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017,
appendix 6.1.1, with the details of the authors' code: no norm at the bottleneck, where at
batch 1 it would zero the activation, and dropout as the only noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sat2map.networks.blocks import Norm
from sat2map.networks.convolutions import DownConvolution, UpConvolution
from sat2map.networks.heads import head
from sat2map.networks.initialise import initialise
from sat2map.networks.normalisation import norm_has_shift, norm_layer


class UNet(nn.Module):
    """An encoder-decoder of 4x4 convolutions with stride 2 and skip connections.

    Without arguments it is the published "U-Net 256": 54.41 M parameters. The encoder halves
    the side until it is 1 at the training size; the network then also takes any height and
    width that are multiples of that size.

    Args:
        in_channels: Bands of the source.
        out_channels: Bands of the target, where there are no `colours`.
        colours: RGB of each class of the legend, 0 to 255, for a legend head.
        size: Training size in pixels, a power of two from 16 up; the depth is its logarithm.
        base_channels: Channels of the first layer; they double up to eightfold.
        skips: False gives the encoder-decoder of the paper's ablation.
        norm: Kind of normalisation.
        dropout: Probability in the decoder blocks that have dropout.
        dropout_blocks: Which decoder blocks those are, counted from 1 at the bottleneck.

    Raises:
        ValueError: `size` is not a power of two or below 16.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        colours: Sequence[Sequence[int]] | None = None,
        size: int = 256,
        base_channels: int = 64,
        skips: bool = True,
        norm: Norm = "batch",
        dropout: float = 0.5,
        dropout_blocks: Sequence[int] = (1, 2, 3),
    ) -> None:
        super().__init__()
        depth = size.bit_length() - 1
        if size < 16 or size != 1 << depth:
            raise ValueError(f"size is a power of two from 16 up, not {size}")
        self.size = size
        self.skips = skips
        self.multiple = size
        self.head = head(out_channels, colours)
        bias = not norm_has_shift(norm)
        encoded = [base_channels * min(2**i, 8) for i in range(depth)]
        decoded = [*reversed(encoded[:-1]), self.head.channels]

        self.encoder = nn.ModuleList()
        for i, channels in enumerate(encoded):
            first, innermost = i == 0, i == depth - 1
            before = in_channels if first else encoded[i - 1]
            block: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2)]
            block.append(DownConvolution(before, channels, bias=bias))
            if not first and not innermost:
                block.append(norm_layer(norm, channels))
            self.encoder.append(nn.Sequential(*block))

        self.decoder = nn.ModuleList()
        for i, channels in enumerate(decoded):
            innermost, last = i == 0, i == depth - 1
            before = encoded[-1] if innermost else decoded[i - 1] * (2 if skips else 1)
            # In place: its input, a fresh concatenation, is used nowhere else.
            block = [nn.ReLU(inplace=skips and not innermost)]
            block.append(UpConvolution(before, channels, bias=bias or last))
            if not last:
                block.append(norm_layer(norm, channels))
                if i + 1 in dropout_blocks:
                    block.append(nn.Dropout(dropout))
            self.decoder.append(nn.Sequential(*block))
        initialise(self)

    def logits(self, source: Tensor) -> Tensor:
        """Return what the head makes the image of, float [N,channels of the head,H,W]."""
        encoded = []
        x = source
        for block in self.encoder:
            x = block(x)
            encoded.append(x)
        for block, skip in zip(self.decoder, [None, *reversed(encoded[:-1])], strict=True):
            if skip is not None and self.skips:
                x = torch.cat([x, skip], 1)
            x = block(x)
        return x

    def forward(self, source: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            source: float [N,in_channels,H,W] in [-1,1]; H and W multiples of `size`.

        Returns:
            float [N,out_channels,H,W] in [-1,1].
        """
        coloured: Tensor = self.head(self.logits(source))
        return coloured
