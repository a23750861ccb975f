"""Augmentation of whole batches on the training device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

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
    windows = random_windows(torch.arange(len(pixels)), pixels, size, flip, generator)
    return cut_windows(pixels, sent(windows, pixels.device), size)


def random_windows(
    pictures: Tensor, pixels: Tensor, size: int, flip: bool, generator: torch.Generator | None
) -> Tensor:
    """Draw where `random_crops` cuts, on the CPU.

    Args:
        pictures: Which pictures to cut from, int64 [N].
        pixels: Tells the height and width of a picture, uint8 [any,H,W,C].
        size: Side of the squares.
        flip: Whether to mirror.
        generator: Random state.

    Returns:
        int64 [N,4]: picture, top, left, and 1 where it is mirrored.
    """
    count, (height, width) = len(pictures), pixels.shape[1:3]
    tops = torch.randint(0, height - size + 1, (count, 1), generator=generator)
    lefts = torch.randint(0, width - size + 1, (count, 1), generator=generator)
    mirrored = torch.zeros(count, 1, dtype=torch.int64)
    if flip:
        mirrored = (torch.rand(count, 1, generator=generator) < 0.5).long()
    return torch.cat([pictures[:, None], tops, lefts, mirrored], 1)


def cut_windows(pixels: Tensor, windows: Tensor, size: int) -> Tensor:
    """Cut windows out of pictures, as one tensor and without waiting for the device.

    Args:
        pixels: uint8 [any,H,W,C].
        windows: From `random_windows`, on the device of `pixels`.
        size: Side of the squares.

    Returns:
        float32 [N,C,size,size] in [-1,1], channels-last in memory.
    """
    pictures, tops, lefts, mirrored = torch.split(windows, 1, 1)
    steps = torch.arange(size, device=pixels.device)
    rows = tops + steps
    columns = lefts + torch.where(mirrored > 0, size - 1 - steps, steps)
    return to_network(pixels[pictures[:, :, None], rows[:, :, None], columns[:, None, :]])


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return values from the CPU on a device; to CUDA without waiting for it."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def random_views(
    pictures: Sequence[tuple[Tensor, Tensor | None]],
    size: int,
    scales: tuple[float, float],
    *,
    classes: int = 0,
    flip: bool,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Cut a square of random scale out of each picture, and turn it by quarter turns.

    Args:
        pictures: Of each its bands, uint8 [H,W,C], and its class numbers, uint8 [H,W], or
            None for all of them.
        size: Side of the squares that come out.
        scales: Least and most pixels of a picture, along a side, for one that comes out. A
            picture too small for the most is taken whole.
        classes: How many classes there are.
        flip: Whether to mirror with probability 1/2.
        generator: Random state on the CPU; drawing there keeps runs alike on all devices.

    Returns:
        The bands, float32 [N,C,size,size] in [-1,1], resampled linearly with a filter as wide
        as a pixel that comes out, and the share of each class in the area of each pixel,
        float32 [N,classes,size,size], or None.
    """
    views, shares = [], []
    draws = torch.rand(len(pictures), 5, generator=generator).tolist()
    for (bands, labels), (by_scale, by_row, by_column, by_turn, by_flip) in zip(
        pictures, draws, strict=True
    ):
        height, width, _ = bands.shape
        most = min(scales[1], min(height, width) / size)
        least = min(scales[0], most)
        side = round(size * least * (most / least) ** by_scale)
        top, left = int(by_row * (height - side + 1)), int(by_column * (width - side + 1))

        def turned(picture: Tensor) -> Tensor:
            view = picture[top : top + side, left : left + side]  # noqa: B023 - used at once
            view = torch.rot90(view, int(by_turn * 4), (0, 1))  # noqa: B023
            return view.flip(1) if flip and by_flip < 0.5 else view  # noqa: B023

        view = to_network(turned(bands)[None].contiguous())
        view = F.interpolate(view, (size, size), mode="bilinear", antialias=True)
        views.append(view.clamp_(-1, 1))
        if labels is not None:
            one_hot = F.one_hot(turned(labels).long(), classes).permute(2, 0, 1)[None].float()
            shares.append(F.interpolate(one_hot, (size, size), mode="area"))
    return torch.cat(views), torch.cat(shares) if shares else None


def weather(sources: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """Change the light, the colours, the haze, the focus and the noise of each source.

    Args:
        sources: float [N,C,H,W] in [-1,1].
        strength: 0 changes nothing, 1 as much as other cameras, seasons and hours would.
        generator: Random state on the CPU.

    Returns:
        float [N,C,H,W] in [-1,1].
    """
    count, bands, height, width = sources.shape

    def draw(low: float, high: float, columns: int = 1) -> Tensor:
        values = torch.rand(count, columns, 1, 1, generator=generator)
        return sent(low + (high - low) * values, sources.device)

    def some(share: float) -> Tensor:
        chosen = torch.rand(count, 1, 1, 1, generator=generator) < share
        return sent(chosen, sources.device)

    light = (sources + 1) / 2
    light = light.clamp(1e-3, 1).pow(torch.exp(draw(-0.4, 0.4) * strength))
    grey = light.mean(1, keepdim=True)
    light = grey + (light - grey) * (1 + draw(-0.5, 0.4) * strength)
    middle = light.mean((1, 2, 3), keepdim=True)
    light = middle + (light - middle) * (1 + draw(-0.3, 0.3) * strength)
    light = light * (1 + draw(-0.12, 0.12, bands) * strength) + draw(-0.1, 0.15) * strength
    haze = draw(0, 0.4) * strength * some(0.3)
    light = light * (1 - haze) + draw(0.6, 0.95) * haze
    soft = some(0.25) & (draw(0, 1) < strength)
    light = torch.where(soft, _blur(light), light)
    noise = torch.randn(count, bands, height, width, generator=generator)
    noise = sent(noise, sources.device)
    light = light + noise * draw(0, 0.04) * strength * some(0.4)
    return light.clamp(0, 1) * 2 - 1


def _blur(pictures: Tensor) -> Tensor:
    """Return pictures weighted 1-2-1 in both directions, twice over."""
    kernel = sent(torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16, pictures.device)
    bands = pictures.shape[1]
    padded = F.pad(pictures, (2, 2, 2, 2), mode="replicate")
    across = F.conv2d(padded, kernel.expand(bands, 1, 1, 5), groups=bands)
    return F.conv2d(across, kernel[:, None].expand(bands, 1, 5, 1), groups=bands)
