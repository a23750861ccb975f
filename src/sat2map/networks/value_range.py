"""Values inside and outside: networks compute in [-1,1], images are uint8.

Torch is imported where a tensor is made, since runtimes without it come here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


SHARPNESS = 4
"""To which power probabilities are raised before they mix the colours of their classes: pure
ones where a network is fairly sure, and smooth edges between them. Mixed by the probabilities
themselves they would give haze, and by the most probable class alone jagged edges (numbers in
records/2026-11-25_streets)."""


def to_network(pixels: Tensor) -> Tensor:
    """Return uint8 [N,H,W,C] as float32 [N,C,H,W] in [-1,1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def from_image(pixels: NDArray[np.uint8], device: torch.device | str | None = None) -> Tensor:
    """Return an image, uint8 [H,W,C], as a batch of one, float32 [1,C,H,W] in [-1,1]."""
    import torch

    # A copy, since torch takes neither read-only arrays nor negative strides.
    return to_network(torch.from_numpy(np.array(pixels))[None].to(device))


def to_values(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return uint8 [N,H,W,C] as float32 [N,C,H,W] in [-1,1], without torch."""
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    values /= np.float32(127.5)
    values -= np.float32(1)
    return values


def round_image(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return float32 in [-1,1] of any shape as uint8, rounded and clipped."""
    scaled = values + np.float32(1)
    scaled *= np.float32(127.5)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)


def to_pixels(values: Tensor) -> Tensor:
    """Return float [N,C,H,W] in [-1,1] as uint8 [N,H,W,C], rounded and clipped."""
    scaled = values.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return scaled.byte().permute(0, 2, 3, 1).contiguous()
