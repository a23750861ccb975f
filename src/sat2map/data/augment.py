"""Augmentation of whole batches on the training device."""

from __future__ import annotations

import torch
from torch import Tensor

from sat2map.networks.values import to_network


def random_crops(
    pixels: Tensor, size: int, *, flip: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Cut a random square out of each picture of a batch, and mirror half of them.

    The published jitter is pictures of 286 pixels, crops of 256, and mirroring.

    Args:
        pixels: uint8 [N,H,W,C], sources and targets stacked as channels.
        size: Side of the squares, at most H and W.
        flip: Whether to mirror left to right with probability 1/2.
        generator: Random state on the CPU; drawing there keeps runs alike on all devices.

    Returns:
        float32 [N,C,size,size] in [-1,1], channels-last in memory, on the device of `pixels`.
    """
    count, height, width, _ = pixels.shape
    tops = torch.randint(0, height - size + 1, (count, 1), generator=generator)
    lefts = torch.randint(0, width - size + 1, (count, 1), generator=generator)
    rows = tops + torch.arange(size)
    columns = lefts + torch.arange(size)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    device = pixels.device
    picture = torch.arange(count, device=device)[:, None, None]
    crops = pixels[picture, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return to_network(crops)
