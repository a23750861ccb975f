from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sat2map.legend import STREETS
from sat2map.networks.compact import Compact
from sat2map.networks.portable import Portable
from sat2map.networks.value_range import SHARPNESS

BEFORE, AFTER = 135, 123
"""How far to either side, in pixels, an answer looks at the most (see `Compact`)."""


def network() -> Compact:
    """Return the default network with a legend head whose blocks do not begin as identities."""
    torch.manual_seed(0)
    made = Compact(colours=STREETS.colours.tolist())
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return made.eval()


def test_it_is_as_small_as_it_says() -> None:
    made = network()
    assert sum(p.numel() for p in made.parameters()) == 3_450_528
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        made(torch.zeros(1, 3, 256, 256))
    assert 2.9e9 < counter.get_total_flops() < 3.1e9


def test_an_answer_depends_on_nothing_beyond_its_reach() -> None:
    made = network().double()
    side = 512
    before = after = 0
    for place in (256, 259, 268, 271):  # at the edges and within a block of 16
        source = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        made.logits(source)[0, :, place, place].sum().backward()
        assert source.grad is not None
        rows = source.grad.abs().sum((0, 1, 3)).nonzero()
        before = max(before, place - int(rows.min()))
        after = max(after, int(rows.max()) - place)
    assert (before, after) == (BEFORE, AFTER)


def test_tiled_equals_whole() -> None:
    made = network()
    source = torch.rand(1, 3, 320, 320) * 2 - 1
    with torch.inference_mode():
        whole = made(source)
        window = made(source[..., 0:288, 0:288])
    inner = 288 - BEFORE
    torch.testing.assert_close(window[..., :inner, :inner], whole[..., :inner, :inner])


@pytest.mark.parametrize("shape", [(16, 16), (48, 80)])
def test_a_legend_head_answers_in_colours_of_the_legend(shape: tuple[int, int]) -> None:
    made = network()
    source = torch.rand(2, 3, *shape) * 2 - 1
    with torch.inference_mode():
        image, shares = Portable(made)(source)
    assert image.shape == (2, 3, *shape)
    assert shares.shape == (2, 8, *shape)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, *shape))
    colours = torch.from_numpy(STREETS.colours).float() / 127.5 - 1
    sharp = shares**SHARPNESS / (shares**SHARPNESS).sum(1, keepdim=True)
    torch.testing.assert_close(image, torch.einsum("nkhw,kc->nchw", sharp, colours))


def test_without_colours_it_answers_in_bands() -> None:
    made = Compact(4, 2).eval()
    with torch.inference_mode():
        image = made(torch.rand(1, 4, 32, 32))
    assert image.shape == (1, 2, 32, 32)
    assert image.abs().max() <= 1
