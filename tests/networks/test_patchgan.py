from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sat2map.networks.patchgan import PatchGAN

FIELDS = [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)]


def on_meta(**named: Any) -> PatchGAN:
    with torch.device("meta"):
        return PatchGAN(**named)


def decide(network: PatchGAN, side: int) -> Tensor:
    pair = torch.empty(2, 2, 3, side, side, device="meta")
    decisions: Tensor = network(*pair)
    return decisions


def test_the_published_one() -> None:
    network = on_meta()
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 2.77
    assert decide(network, 256).shape == (2, 1, 30, 30)
    first, *middle, last = [m for m in network.layers if isinstance(m, nn.Conv2d)]
    table = [(c.in_channels, c.out_channels, c.stride[0]) for c in (first, *middle, last)]
    assert table == [(6, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1), (512, 1, 1)]
    assert all((c.kernel_size, c.padding) == ((4, 4), (1, 1)) for c in (first, *middle, last))
    block = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert [type(m) for m in network.layers] == [
        nn.Conv2d, nn.LeakyReLU, *block, *block, *block, nn.Conv2d
    ]  # fmt: skip
    assert {m.negative_slope for m in network.layers if isinstance(m, nn.LeakyReLU)} == {0.2}
    # A batch norm has its own constant; the first and the last convolution have no norm.
    assert [c.bias is not None for c in (first, *middle, last)] == [True, False, False, False, True]


def test_each_block_has_the_published_side() -> None:
    network = on_meta()
    sides: list[tuple[int, int]] = []
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _i, out: sides.append(tuple(out.shape[1:3])))
    decide(network, 256)
    assert sides == [(64, 128), (128, 64), (256, 32), (512, 31), (1, 30)]


@pytest.mark.parametrize(
    ("strided", "channels"),
    [
        (0, [64, 128, 1]),
        (1, [64, 128, 1]),
        (2, [64, 128, 256, 1]),
        (3, [64, 128, 256, 512, 1]),
        (4, [64, 128, 256, 512, 512, 1]),
        (5, [64, 128, 256, 512, 512, 512, 1]),
    ],
)
def test_the_channels_of_each_field(strided: int, channels: list[int]) -> None:
    network = on_meta(strided_layers=strided)
    assert [m.out_channels for m in network.layers if isinstance(m, nn.Conv2d)] == channels


def test_the_pixel_discriminator_decides_each_pixel() -> None:
    network = on_meta(strided_layers=0)
    assert decide(network, 16).shape == (2, 1, 16, 16)
    assert {m.kernel_size for m in network.layers if isinstance(m, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize(("strided", "field"), FIELDS)
def test_the_receptive_field_is_computed_and_seen_by_the_gradient(strided: int, field: int) -> None:
    network = PatchGAN(1, 1, base_channels=1, strided_layers=strided, norm="none").double()
    for parameter in network.parameters():
        parameter.data.fill_(0.5)
    side = max(16, 384 * 2**strided // 32)
    pair = torch.ones(2, 1, 1, side, side, dtype=torch.float64, requires_grad=True)
    decisions = network(*pair)
    middle = decisions.shape[2] // 2
    decisions[0, 0, middle, middle].backward()
    assert pair.grad is not None
    for half in pair.grad:
        seen = half[0, 0] != 0
        rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        assert len(rows) == len(columns) == field
        assert rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1 == field
        assert int(seen.sum()) == field**2
        assert 0 < rows[0] < rows[-1] < side - 1 or field == 1
    assert network.receptive_field() == field


def test_unconditional_does_not_see_the_source() -> None:
    network = PatchGAN(3, 2, base_channels=2, strided_layers=1, conditional=False)
    source, target = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 2, 16, 16)
    decisions = network(source, target)
    assert decisions.shape == (1, 1, 6, 6)
    assert network.layers[0].in_channels == 2
    torch.testing.assert_close(network(torch.zeros_like(source), target), decisions)
    conditional = PatchGAN(3, 2, base_channels=2, strided_layers=1)
    assert conditional.layers[0].in_channels == 5
    assert not torch.equal(
        conditional(torch.zeros(1, 3, 16, 16), target), conditional(source, target)
    )


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_each_norm_learns(norm: Any) -> None:
    network = PatchGAN(base_channels=2, strided_layers=2, norm=norm)
    network(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)).mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more, not -1"):
        PatchGAN(strided_layers=-1)
