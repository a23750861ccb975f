from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sat2map.networks.compact import Compact
from sat2map.networks.heads import ColourHead, LegendHead
from sat2map.networks.portable import Portable
from sat2map.networks.resnet import ResNet
from sat2map.networks.unet import UNet


def test_an_image_is_of_the_fourth_powers_of_the_probabilities() -> None:
    colours = torch.tensor([(255, 0, 0), (0, 255, 0), (9, 9, 9)]).float()
    logits = torch.tensor([0.3, 0.1, -0.5])
    powers = logits.softmax(0) ** 4
    expected = (powers[:, None] * colours).sum(0) / powers.sum() / 127.5 - 1
    image = LegendHead(colours.int().tolist())(logits.reshape(1, 3, 1, 1))
    torch.testing.assert_close(image.flatten(), expected)


def test_colours_lie_between_minus_one_and_one() -> None:
    head = ColourHead(4)
    logits = torch.tensor([-50.0, -0.5, 0.0, 2.0]).reshape(1, 4, 1, 1)
    assert head.channels == 4
    expected = torch.tensor([-1.0, -0.46211716, 0.0, 0.96402758]).reshape(1, 4, 1, 1)
    torch.testing.assert_close(head(logits), expected)
    assert not list(head.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda colours: UNet(size=16, base_channels=4, colours=colours),
        lambda colours: ResNet(base_channels=4, blocks=1, colours=colours),
        lambda colours: Compact(colours=colours, channels=(8, 8, 8)),
    ],
)
def test_every_generator_can_answer_in_classes(make: Callable[[Any], nn.Module]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    generator = make(colours).eval()
    source = torch.rand(1, 3, 16, 32)
    with torch.inference_mode():
        image, shares = Portable(generator)(source)
    assert shares.shape == (1, 4, 16, 32)
    sure = shares.argmax(1)
    head = LegendHead(colours)
    certain = head(nn.functional.one_hot(sure, 4).permute(0, 3, 1, 2) * 100.0)
    mixed = ((certain + 1) * 127.5).round().int()
    assert torch.equal(mixed[0].permute(1, 2, 0), torch.tensor(colours).int()[sure[0]])
    assert image.shape == (1, 3, 16, 32)
