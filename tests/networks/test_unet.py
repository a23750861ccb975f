from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sat2map.networks.convolutions import DownConvolution, UpConvolution
from sat2map.networks.unet import UNet

# Isola et al. 2017: block, channels in, channels out, side of the output at 256.
ENCODER = [
    (3, 64, 128),
    (64, 128, 64),
    (128, 256, 32),
    (256, 512, 16),
    (512, 512, 8),
    (512, 512, 4),
    (512, 512, 2),
    (512, 512, 1),
]
DECODER = [
    (512, 512, 2),
    (1024, 512, 4),
    (1024, 512, 8),
    (1024, 512, 16),
    (1024, 256, 32),
    (512, 128, 64),
    (256, 64, 128),
    (128, 3, 256),
]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_meta(*arguments: Any, **named: Any) -> UNet:
    """A network without memory, whose shapes can be read at no cost."""
    with torch.device("meta"):
        return UNet(*arguments, **named)


def outputs(network: UNet, source: Tensor) -> tuple[list[torch.Size], torch.Size]:
    """The shapes of each block's output, encoder first, and of the answer."""
    shapes: list[torch.Size] = []
    for block in [*network.encoder, *network.decoder]:
        block.register_forward_hook(lambda _m, _i, output: shapes.append(output.shape))
    return shapes, network(source).shape


def test_it_has_the_published_size() -> None:
    assert round(parameters(on_meta()) / 1e6, 2) == 54.41


def test_each_block_has_the_published_channels_and_side() -> None:
    network = on_meta()
    shapes, answer = outputs(network, torch.empty(2, 3, 256, 256, device="meta"))
    table = [*ENCODER, *DECODER]
    assert [tuple(shape) for shape in shapes] == [(2, out, side, side) for _, out, side in table]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (channels, out) for channels, out, _ in table
    ]
    for c in convolutions:
        assert (c.kernel_size, c.stride, c.padding) == ((4, 4), (2, 2), (1, 1))
    assert answer == (2, 3, 256, 256)


def test_each_block_has_the_published_layers_in_order() -> None:
    network = on_meta()
    first, *middle, last = [[type(m) for m in block] for block in network.encoder]
    assert first == [DownConvolution]
    assert middle == [[nn.LeakyReLU, DownConvolution, nn.BatchNorm2d]] * 6
    assert last == [nn.LeakyReLU, DownConvolution]
    blocks = [[type(m) for m in block] for block in network.decoder]
    up = [nn.ReLU, UpConvolution, nn.BatchNorm2d]
    assert blocks == [[*up, nn.Dropout]] * 3 + [up] * 4 + [[nn.ReLU, UpConvolution]]
    slopes = {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)}
    rates = {m.p for m in network.modules() if isinstance(m, nn.Dropout)}
    assert (slopes, rates) == ({0.2}, {0.5})


def test_only_the_last_convolution_has_a_bias_beside_batch_norm() -> None:
    network = on_meta(size=64)
    convolutions = [
        (name, m.bias is not None)
        for name, m in network.named_modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert [name for name, bias in convolutions if bias] == ["decoder.5.1"]
    unnormed = on_meta(size=64, norm="none")
    assert all(
        m.bias is not None
        for m in unnormed.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    )


@pytest.mark.parametrize(("size", "depth"), [(16, 4), (128, 7), (256, 8), (512, 9)])
def test_the_depth_follows_the_size(size: int, depth: int) -> None:
    network = on_meta(size=size, base_channels=2)
    shapes, answer = outputs(network, torch.empty(1, 3, size, size, device="meta"))
    assert len(network.encoder) == len(network.decoder) == depth
    assert shapes[depth - 1][2:] == (1, 1)
    assert answer == (1, 3, size, size)
    assert network.multiple == size


@pytest.mark.parametrize("size", [0, -16, 8, 17, 96, 255, 300])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        UNet(size=size, base_channels=1)


@pytest.mark.parametrize("norm", ["batch", "instance", "instance_calibrated", "none"])
@pytest.mark.parametrize("skips", [True, False])
def test_channels_are_free_and_larger_multiples_work(norm: Any, skips: bool) -> None:
    network = UNet(5, 2, size=16, base_channels=2, norm=norm, skips=skips)
    for mode in (True, False):
        answer = network.train(mode)(torch.rand(2, 5, 16, 48) * 2 - 1)
        assert answer.shape == (2, 2, 16, 48)
        assert answer.abs().max() <= 1


def test_without_skips_all_passes_the_bottleneck() -> None:
    table = [(c.in_channels, c.out_channels) for c in on_meta(skips=False).modules()
             if isinstance(c, nn.ConvTranspose2d)]  # fmt: skip
    assert table == [
        (512, 512), (512, 512), (512, 512), (512, 512), (512, 256), (256, 128), (128, 64), (64, 3)
    ]  # fmt: skip
    one, other = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    for skips in (True, False):
        network = UNet(size=16, base_channels=4, skips=skips).eval()
        nn.init.zeros_(network.encoder[-1][-1].weight)
        same = torch.equal(network(one), network(other))
        assert same is not skips


def test_the_answer_is_the_tanh_of_the_last_convolution() -> None:
    network = UNet(size=16, base_channels=2).eval()
    logits: list[Tensor] = []
    network.decoder[-1].register_forward_hook(lambda _m, _i, output: logits.append(output))
    answer = network(torch.rand(1, 3, 16, 16))
    assert torch.equal(answer, torch.tanh(logits[0]))


def test_which_blocks_have_dropout_can_be_chosen() -> None:
    network = on_meta(size=64, dropout=0.2, dropout_blocks=(2, 4))
    rates = [[m.p for m in block if isinstance(m, nn.Dropout)] for block in network.decoder]
    assert rates == [[], [0.2], [], [0.2], [], []]


def test_the_skips_carry_the_encoder_unchanged() -> None:
    """Every activation in place must leave what a skip or a gradient needs as it was."""
    torch.manual_seed(0)
    network = UNet(size=16, base_channels=2, dropout=0.0).double()
    source = (torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1).requires_grad_()
    x, encoded = source, []
    for block in network.encoder:
        for layer in block:
            x = nn.functional.leaky_relu(x, 0.2) if isinstance(layer, nn.LeakyReLU) else layer(x)
        encoded.append(x)
    for i, block in enumerate(network.decoder):
        if i > 0:
            x = torch.cat([x, encoded[-1 - i]], 1)
        for layer in block:
            x = nn.functional.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
    expected = x.tanh()
    torch.testing.assert_close(network(source), expected)
    wanted = torch.autograd.grad(expected.square().sum(), source)[0]
    torch.testing.assert_close(
        torch.autograd.grad(network(source).square().sum(), source)[0], wanted
    )
