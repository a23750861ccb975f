from __future__ import annotations

import torch

from sat2map.networks.heads import ColourHead


def test_colours_lie_between_minus_one_and_one() -> None:
    head = ColourHead(4)
    logits = torch.tensor([-50.0, -0.5, 0.0, 2.0]).reshape(1, 4, 1, 1)
    assert head.channels == 4
    expected = torch.tensor([-1.0, -0.46211716, 0.0, 0.96402758]).reshape(1, 4, 1, 1)
    torch.testing.assert_close(head(logits), expected)
    assert not list(head.parameters())
