"""The published initial weights."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw the weights as published, from torch's global random state.

    Convolutions N(0, 0.02), gains of batch norm N(1, 0.02), everything else 0 (Isola et al.
    2017, appendix 6.2 and the authors' code).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
