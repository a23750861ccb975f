"""Values inside and outside: networks compute in [-1,1], pictures are uint8."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_network(pixels: Tensor) -> Tensor:
    """Return uint8 [N,H,W,C] as float32 [N,C,H,W] in [-1,1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)


def from_picture(pixels: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """Return a picture, uint8 [H,W,C], as a batch of one, float32 [1,C,H,W] in [-1,1]."""
    # A copy, since torch takes neither read-only arrays nor negative strides.
    return to_network(torch.from_numpy(np.array(pixels))[None].to(device))


def round_picture(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return float32 in [-1,1] of any shape as uint8, rounded and clipped."""
    pixels: NDArray[np.uint8] = np.clip(np.rint((values + 1) * 127.5), 0, 255).astype(np.uint8)
    return pixels


def to_pixels(values: Tensor) -> Tensor:
    """Return float [N,C,H,W] in [-1,1] as uint8 [N,H,W,C], rounded and clipped."""
    scaled = values.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
