"""Values inside and outside: networks compute in [-1,1], pictures are uint8."""

from __future__ import annotations

import torch
from torch import Tensor


def to_network(pixels: Tensor) -> Tensor:
    """Return uint8 [N,H,W,C] as float32 [N,C,H,W] in [-1,1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)


def to_pixels(values: Tensor) -> Tensor:
    """Return float [N,C,H,W] in [-1,1] as uint8 [N,H,W,C], rounded and clipped."""
    scaled = values.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
