from __future__ import annotations

import pytest
import torch
from torch import nn

from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet


@pytest.mark.parametrize("build", [UNet, PatchGAN])
def test_weights_are_drawn_as_published(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = build(base_channels=16)
    gains, convolutions = [], []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            convolutions.append(module.weight.detach().flatten())
        elif isinstance(module, nn.BatchNorm2d):
            gains.append(module.weight.detach())
            assert not module.bias.any()
        bias = getattr(module, "bias", None)
        assert bias is None or not bias.any()
    for weights in convolutions:
        error = 5 * 0.02 / len(weights) ** 0.5
        assert abs(weights.mean()) < error
        assert abs(weights.std() - 0.02) < error
        # Normal, not uniform: as much beyond two deviations as a normal has.
        beyond = float((weights.abs() > 0.04).float().mean())
        assert abs(beyond - 0.0455) < 5 * (0.0455 / len(weights)) ** 0.5
    gain = torch.cat(gains)
    assert abs(gain.mean() - 1) < 5 * 0.02 / len(gain) ** 0.5
    assert abs(gain.std() - 0.02) < 5 * 0.02 / len(gain) ** 0.5


def test_a_seed_repeats_them() -> None:
    networks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        networks.append(UNet(size=16, base_channels=2).encoder[0][0].weight)
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])
