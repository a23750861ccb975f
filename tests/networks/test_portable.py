from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from sat2map.networks.compact import Compact
from sat2map.networks.lite import FrozenNorm, Lite
from sat2map.networks.normalisation import Norm, recalibrate
from sat2map.networks.portable import Portable, SubPixel, is_replaceable, outputs_of
from sat2map.networks.resnet import ResNet
from sat2map.networks.unet import UNet


@given(
    side=st.integers(2, 7),
    padding=st.integers(0, 2),
    longer=st.integers(0, 1),
    height=st.integers(2, 5),
    width=st.integers(2, 5),
    bias=st.booleans(),
)
def test_a_sub_pixel_convolution_computes_what_the_transposed_one_does(
    side: int, padding: int, longer: int, height: int, width: int, bias: bool
) -> None:
    assume(padding < side - 1)
    transposed = nn.ConvTranspose2d(3, 2, side, 2, padding, output_padding=longer, bias=bias)
    source = torch.randn(2, 3, height, width)
    expected = transposed(source)
    answer = SubPixel(transposed)(source)
    assert answer.shape == expected.shape
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)


def test_that_of_the_u_net_multiplies_nothing_by_zero() -> None:
    transposed = nn.ConvTranspose2d(8, 4, 4, 2, 1)
    weight = SubPixel(transposed).weight
    assert weight.numel() == transposed.weight.numel()
    assert (weight != 0).all()


def test_others_are_left_alone() -> None:
    assert is_replaceable(nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1))
    for other in (
        nn.ConvTranspose2d(4, 4, 3, 1, 1),
        nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2),
        nn.ConvTranspose2d(4, 4, (2, 4), 2),
        nn.ConvTranspose2d(4, 4, 3, 2, dilation=2),
        nn.Conv2d(4, 4, 4, 2, 1),
    ):
        assert not is_replaceable(other)


@pytest.mark.parametrize("norm", ["batch", "instance_calibrated", "instance", "none"])
@pytest.mark.parametrize("for_int8", [False, True])
@pytest.mark.parametrize("kind", ["unet", "resnet", "compact", "lite"])
def test_a_portable_network_computes_the_same(kind: str, norm: Norm, for_int8: bool) -> None:
    torch.manual_seed(0)
    network: nn.Module
    if kind == "lite":  # once with frozen and once with plain batch norm
        network = Lite(widths=[8, 8, 8, 8], freeze_norm=norm == "batch")
        for module in network.modules():
            if isinstance(module, FrozenNorm):
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
    elif kind == "compact":
        network = Compact(channels=(8, 8, 8))
    elif kind == "unet":
        network = UNet(size=16, base_channels=4, norm=norm)
    else:
        network = ResNet(base_channels=4, blocks=1, norm=norm)
    recalibrate(network, [torch.randn(4, 3, 32, 32)])
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    portable, source = Portable(network, for_int8=for_int8), torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        (answer,) = portable(source)
        torch.testing.assert_close(answer, network(source), atol=2e-4, rtol=1e-4)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kinds = {kind for module in portable.modules() for kind in type(module).__mro__}
    assert (nn.ConvTranspose2d in kinds) == (not for_int8 and kind in ("unet", "resnet"))
    assert not kinds & {nn.BatchNorm2d, FrozenNorm}  # or int8 rounds between the two


def test_a_legend_head_gives_its_probabilities_too() -> None:
    torch.manual_seed(0)
    network = Compact(colours=[(0, 0, 0), (255, 128, 0), (10, 200, 255)], channels=(8, 8, 8))
    recalibrate(network, [torch.randn(4, 3, 32, 32)])
    portable, source = Portable(network.eval()), torch.randn(2, 3, 32, 48)
    assert portable.outputs == outputs_of(network) == ("picture", "probabilities")
    with torch.no_grad():
        image, probabilities = portable(source)
        torch.testing.assert_close(image, network(source), atol=1e-5, rtol=1e-4)
        expected = network.logits(source).softmax(1)
    torch.testing.assert_close(probabilities, expected, atol=1e-5, rtol=1e-4)
