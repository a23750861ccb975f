from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sat2map.networks.transposed import UpConvolution


@pytest.mark.parametrize("side", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_images_and_gradients_are_those_of_a_transposed_convolution(
    side: int, bias: bool, memory: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = UpConvolution(6, 5, bias=bias).to(memory_format=memory)  # type: ignore[call-overload]
    x = torch.randn(3, 6, side, side + 1).to(memory_format=memory).requires_grad_()
    wanted = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1)
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


def test_its_weights_are_those_of_torchs_own_layer() -> None:
    plain = torch.nn.ConvTranspose2d(6, 5, 4, 2, 1)
    layer = UpConvolution(6, 5)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(1, 6, 4, 4)
    torch.testing.assert_close(layer(x), plain(x))
