"""A compact generator for maps: most of its work is done at low resolution, on many channels.

Space-to-depth at the entrance and sub-pixel shuffles on the way out (Shi et al., "Real-Time
Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network", CVPR 2016); between them residual blocks (He et al., CVPR 2016) at a quarter, an
eighth and a sixteenth of the side, with additive skips. Only 3x3 and 1x1 convolutions, batch
norm and ReLU, which int8 arithmetic and matrix units like. Nothing in it depends on the rest
of the image beyond its receptive field.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sat2map.networks.blocks import STEM
from sat2map.networks.heads import head


class Compact(nn.Module):
    """Encoder, trunk and decoder at 1/4, 1/8 and 1/16 of the side.

    As it is by default it has 3.45 M parameters and takes 3.0 GFLOP for 256 x 256 pixels. A
    pixel of the answer depends on 252 x 252 pixels of the source, at most 135 away from it.

    Args:
        in_channels: Bands of the source.
        out_channels: Bands of the target, where there are no `colours`.
        colours: RGB of each class of the legend, 0 to 255, for a legend head.
        channels: Channels at 1/4, 1/8 and 1/16 of the side.
        blocks: Residual blocks at 1/4, 1/8, 1/16, and on the way back at 1/8 and 1/4.

    Attributes:
        multiple: What the height and width of the source are multiples of.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        colours: Sequence[Sequence[int]] | None = None,
        channels: Sequence[int] = (48, 96, 256),
        blocks: Sequence[int] = (1, 2, 4, 2, 1),
    ) -> None:
        super().__init__()
        self.multiple = 4 * STEM
        self.head = head(out_channels, colours)
        fine, middle, coarse = channels
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(convolution(in_channels * STEM**2, fine), *trunk(fine, blocks[0])),
                nn.Sequential(convolution(fine, middle, stride=2), *trunk(middle, blocks[1])),
                nn.Sequential(convolution(middle, coarse, stride=2), *trunk(coarse, blocks[2])),
            ]
        )
        self.upwards = nn.ModuleList([upwards(coarse, middle), upwards(middle, fine)])
        self.decoder = nn.ModuleList(
            [nn.Sequential(*trunk(middle, blocks[3])), nn.Sequential(*trunk(fine, blocks[4]))]
        )
        self.exit = nn.Conv2d(fine, self.head.channels * STEM**2, 1)
        _initialise(self)

    def logits(self, source: Tensor) -> Tensor:
        """Return what the head makes the image of, float [N,channels of the head,H,W]."""
        x = F.pixel_unshuffle(source, STEM)
        encoded = []
        for block in self.encoder:
            x = block(x)
            encoded.append(x)
        for up, block, skip in zip(self.upwards, self.decoder, encoded[-2::-1], strict=True):
            x = block(skip + up(x))
        return F.pixel_shuffle(self.exit(x), STEM)

    def forward(self, source: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            source: float [N,in_channels,H,W] in [-1,1]; H and W multiples of 16.

        Returns:
            float [N,out_channels,H,W] in [-1,1].
        """
        image: Tensor = self.head(self.logits(source))
        return image


class Residual(nn.Module):
    """A 3x3 and a 1x1 convolution whose result is added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float [N,channels,H,W], at least 0."""
        return F.relu(x + self.body(x))


def convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution that keeps the size but for its stride, with norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def trunk(channels: int, blocks: int) -> list[nn.Module]:
    """Return residual blocks that follow each other."""
    return [Residual(channels) for _ in range(blocks)]


def upwards(before: int, after: int) -> nn.Sequential:
    """Return a 1x1 convolution and a shuffle to twice the side."""
    return nn.Sequential(
        nn.Conv2d(before, after * 4, 1, bias=False), nn.BatchNorm2d(after * 4), nn.PixelShuffle(2)
    )


def _initialise(network: nn.Module) -> None:
    """Draw weights by He et al., ICCV 2015; blocks begin as identities (Goyal et al. 2017)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Residual):
            nn.init.zeros_(module.body[-1].weight)  # type: ignore[arg-type]
