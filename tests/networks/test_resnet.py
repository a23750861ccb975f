from __future__ import annotations

import pytest
import torch
from torch import nn

from sat2map.networks.resnet import ResNet


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    # The numbers that the published code prints for its resnet_9blocks and resnet_6blocks.
    [({}, 11_378_179), ({"blocks": 6}, 7_837_699)],
)
def test_it_has_the_published_size(arguments: dict[str, int], parameters: int) -> None:
    with torch.device("meta"):
        network = ResNet(**arguments)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("norm", ["batch", "instance", "instance_calibrated", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_an_image_of_any_multiple_keeps_its_size(norm: str, training: bool) -> None:
    network = ResNet(4, 2, base_channels=4, blocks=2, norm=norm).train(training)  # type: ignore[arg-type]
    side = network.multiple
    answer = network(torch.rand(2, 4, side, 3 * side) * 2 - 1)
    assert answer.shape == (2, 2, side, 3 * side)
    assert answer.abs().max() <= 1


def test_only_batch_norm_takes_the_biases() -> None:
    def biases(network: nn.Module) -> int:
        convolutions = [
            m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
        ]
        return sum(m.bias is not None for m in convolutions)

    assert biases(ResNet(base_channels=4, blocks=3, norm="batch")) == 1
    assert biases(ResNet(base_channels=4, blocks=3, norm="instance")) == 12


def test_blocks_add_to_what_comes_in() -> None:
    network = ResNet(base_channels=4, blocks=1, norm="none")
    x = torch.randn(1, 16, 8, 8)
    block = network.blocks[0]
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)


def test_borders_are_mirrored() -> None:
    # With zero padding, an image of one colour would answer otherwise along its border.
    network = ResNet(base_channels=4, blocks=1, norm="none")
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.normal_(parameter, 0, 0.2)
    encoded = network.encoder[:4](torch.full((1, 3, 16, 16), 0.5))
    assert torch.allclose(encoded, encoded[..., 8:9, 8:9].expand_as(encoded), atol=1e-6)
    x = torch.ones(1, 16, 8, 8)
    block = network.blocks[0](x)
    assert torch.allclose(block, block[..., 4:5, 4:5].expand_as(block), atol=1e-6)


def test_dropout_acts_in_training_alone() -> None:
    network = ResNet(base_channels=4, blocks=1, dropout=0.5)
    source = torch.rand(1, 3, 16, 16)
    assert not torch.equal(network(source), network(source))
    network.eval()
    assert torch.equal(network(source), network(source))
