"""The residual generator: two strided convolutions down, residual blocks, and up again.

Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV
2016, in the form that Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks", ICCV 2017, appendix 7.2, and their code give it: reflection padding,
instance norm, and no padding artefacts of a bottleneck.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sat2map.networks.blocks import Norm
from sat2map.networks.heads import head
from sat2map.networks.initialise import initialise
from sat2map.networks.normalisation import norm_has_shift, norm_layer


class ResNet(nn.Module):
    """c7s1-64, d128, d256, `blocks` times R256, u128, u64, c7s1-3 in the paper's notation.

    Without arguments it is the published generator for 256 pixels: 11.38 M parameters.

    Args:
        in_channels: Bands of the source.
        out_channels: Bands of the target, where there are no `colours`.
        colours: RGB of each class of the legend, 0 to 255, for a legend head.
        base_channels: Channels of the first layer; they double twice.
        blocks: Residual blocks; published are 9, and 6 for 128 pixels.
        norm: Kind of normalisation.
        dropout: Probability within the residual blocks; 0 leaves the layer out.

    Attributes:
        multiple: What the height and width of the source are multiples of.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        colours: Sequence[Sequence[int]] | None = None,
        base_channels: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.multiple = 8  # 4 would do but for 4 pixels, of which too few reach the blocks to pad
        self.head = head(out_channels, colours)
        bias = not norm_has_shift(norm)
        one, two, four = base_channels, 2 * base_channels, 4 * base_channels
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, one, 7, bias=bias),
            norm_layer(norm, one),
            nn.ReLU(inplace=True),
            nn.Conv2d(one, two, 3, 2, 1, bias=bias),
            norm_layer(norm, two),
            nn.ReLU(inplace=True),
            nn.Conv2d(two, four, 3, 2, 1, bias=bias),
            norm_layer(norm, four),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(four, norm, dropout) for _ in range(blocks)))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(four, two, 3, 2, 1, output_padding=1, bias=bias),
            norm_layer(norm, two),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(two, one, 3, 2, 1, output_padding=1, bias=bias),
            norm_layer(norm, one),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(3),
            nn.Conv2d(one, self.head.channels, 7),
        )
        initialise(self)

    def logits(self, source: Tensor) -> Tensor:
        """Return what the head makes the image of, float [N,channels of the head,H,W]."""
        logits: Tensor = self.decoder(self.blocks(self.encoder(source)))
        return logits

    def forward(self, source: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            source: float [N,in_channels,H,W] in [-1,1]; H and W multiples of 8.

        Returns:
            float [N,out_channels,H,W] in [-1,1].
        """
        coloured: Tensor = self.head(self.logits(source))
        return coloured


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to what came in.

    Args:
        channels: In and out.
        norm: Kind of normalisation.
        dropout: Probability between the two; 0 leaves the layer out.
    """

    def __init__(self, channels: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = not norm_has_shift(norm)
        self.first = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(norm, channels),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.second = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float [N,channels,H,W]; H and W are at least 2."""
        residual: Tensor = self.second(self.dropout(self.first(x)))
        return x + residual
