"""How far the fast generators look, told by numbers alone, and by the networks themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sat2map.networks.specs import CompactSpec, LiteSpec, ResNetSpec, UNetSpec
from sat2map.runtimes.convert import to_openvino


def found_reach(network: nn.Module, side: int, position: int) -> int:
    """Return how far the gradient of one pixel's logits goes in the source."""
    network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # means, so that nothing is cut off or adds up to zero
            module.weight.data.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.data.zero_()
        elif hasattr(module, "running_mean"):  # some begin at 0
            module.weight.data.fill_(1)
    source = torch.full((1, 3, side, side), 0.01, dtype=torch.float64, requires_grad=True)
    centre = side // 2 // 16 * 16 + position
    network.logits(source)[0, 0, centre, centre].backward()  # type: ignore[operator, union-attr]
    assert source.grad is not None
    rows = torch.nonzero(source.grad[0].abs().sum((0, 2)))[:, 0]
    columns = torch.nonzero(source.grad[0].abs().sum((0, 1)))[:, 0]
    assert torch.equal(rows, columns)
    return int(max(centre - rows[0], rows[-1] - centre))


def test_the_reach_is_that_of_the_network() -> None:
    spec = CompactSpec(channels=[4, 4, 4], blocks=[0, 1, 0, 1, 0])
    assert max(found_reach(spec.build(), 160, position) for position in range(16)) == spec.reach


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (CompactSpec(channels=[4, 4, 4]), 320),
        (LiteSpec(encoder="none", widths=[4, 4, 4, 4]), 448),
    ],
)
def test_no_pixel_looks_farther(spec: CompactSpec | LiteSpec, side: int) -> None:
    for position in (0, 15):  # of squares of 16, whose pixels look differently far
        assert spec.reach - 15 <= found_reach(spec.build(), side, position) <= spec.reach


def test_the_reach_of_the_networks_as_they_are_by_default() -> None:
    assert CompactSpec().reach == 135
    assert LiteSpec().reach == 216
    assert UNetSpec().reach is None
    assert ResNetSpec().reach is None


@pytest.mark.parametrize("spec", [CompactSpec(), LiteSpec(encoder="none", cover=False)])
def test_the_largest_tensor_is_that_of_the_graph(spec: CompactSpec | LiteSpec) -> None:
    side = 64
    graph = to_openvino(spec.build(), 3)
    graph.reshape([1, 3, side, side])
    largest = max(
        math.prod(output.get_shape())
        for node in graph.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Pad")
        for output in node.outputs()
    )
    assert largest == spec.widest * side**2
