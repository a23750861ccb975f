from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sat2map.networks.convolutions import DownConvolution, UpConvolution

Plain = Callable[..., Tensor]
LAYERS = [(DownConvolution, F.conv2d), (UpConvolution, F.conv_transpose2d)]


@pytest.mark.parametrize("side", [2, 4, 6, 8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kind", "plain"), LAYERS, ids=["down", "up"])
def test_images_and_gradients_are_those_of_torchs_own_convolution(
    kind: type[DownConvolution | UpConvolution],
    plain: Plain,
    side: int,
    bias: bool,
    memory: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    layer = kind(6, 5, bias=bias).to(memory_format=memory)  # type: ignore[call-overload]
    for shape in ((3, 6, side, side), (3, 6, side, side + 2)):
        x = torch.randn(shape).to(memory_format=memory).requires_grad_()
        wanted = plain(x, layer.weight, layer.bias, stride=2, padding=1)
        direction = torch.randn_like(wanted)
        inputs = [x, *layer.parameters()]
        expected = torch.autograd.grad((wanted * direction).sum(), inputs)
        for training in (True, False):
            layer.train(training)
            answer = layer(x)
            torch.testing.assert_close(answer, wanted)
            gradients = torch.autograd.grad((answer * direction).sum(), inputs)
            for mine, other in zip(gradients, expected, strict=True):
                torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [1, 3])
def test_a_single_pixel_and_odd_sides_can_be_doubled(side: int) -> None:
    torch.manual_seed(0)
    layer, x = UpConvolution(6, 5), torch.randn(2, 6, side, side)
    wanted = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize(
    ("kind", "plain"),
    [(DownConvolution, nn.Conv2d), (UpConvolution, nn.ConvTranspose2d)],
    ids=["down", "up"],
)
def test_its_weights_are_those_of_torchs_own_layer(
    kind: type[nn.Module], plain: type[nn.Module]
) -> None:
    own = plain(6, 5, 4, 2, 1)
    layer = kind(6, 5)
    layer.load_state_dict(own.state_dict())
    x = torch.randn(1, 6, 4, 4)
    torch.testing.assert_close(layer(x), own(x))
