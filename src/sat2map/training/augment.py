"""Augmentation of whole batches on the training device."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sat2map.networks.value_range import to_network


def random_windows(
    images: Tensor, pixels: Tensor, size: int, flip: bool, generator: torch.Generator | None
) -> Tensor:
    """Draw where a random square is cut out of each image, on the CPU.

    The published jitter is images of 286 pixels, crops of 256, and mirroring of half of them.

    Args:
        images: Which images to cut from, int64 [N].
        pixels: Tells the height and width of an image, uint8 [any,H,W,C].
        size: Side of the squares.
        flip: Whether to mirror left to right with probability 1/2.
        generator: Random state on the CPU; drawing there keeps runs alike on all devices.

    Returns:
        int64 [N,4]: image, top, left, and 1 where it is mirrored.
    """
    count, (height, width) = len(images), pixels.shape[1:3]
    tops = torch.randint(0, height - size + 1, (count, 1), generator=generator)
    lefts = torch.randint(0, width - size + 1, (count, 1), generator=generator)
    mirrored = torch.zeros(count, 1, dtype=torch.int64)
    if flip:
        mirrored = (torch.rand(count, 1, generator=generator) < 0.5).long()
    return torch.cat([images[:, None], tops, lefts, mirrored], 1)


def cut_windows(pixels: Tensor, windows: Tensor, size: int) -> Tensor:
    """Cut windows out of images, as one tensor and without waiting for the device.

    Args:
        pixels: uint8 [any,H,W,C].
        windows: From `random_windows`, on the device of `pixels`.
        size: Side of the squares.

    Returns:
        float32 [N,C,size,size] in [-1,1], channels-last in memory.
    """
    images, tops, lefts, mirrored = torch.split(windows, 1, 1)
    steps = torch.arange(size, device=pixels.device)
    rows = tops + steps
    columns = lefts + torch.where(mirrored > 0, size - 1 - steps, steps)
    return to_network(pixels[images[:, :, None], rows[:, :, None], columns[:, None, :]])


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return values from the CPU on a device; to CUDA without waiting for it."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Ground:
    """The image that a view is cut out of.

    Attributes:
        bands: uint8 [H,W,C].
        scales: Least and most pixels, along a side, for one pixel of a view.
        labels: Numbers, uint8 [H,W], each with a table that says for each number its share of
            each class, float [numbers,K].
        reach: How many times the shorter side a view may take in. Beyond its edges the ground is
            mirrored; with 1 it ends there, and what is too small for the coarsest scale is
            taken whole.
    """

    bands: Tensor
    scales: tuple[float, float]
    labels: Sequence[tuple[Tensor, Tensor]] = ()
    reach: float = 1.0


def random_views(
    grounds: Sequence[Ground], size: int, *, flip: bool, generator: torch.Generator | None = None
) -> list[tuple[Tensor, list[Tensor]]]:
    """Cut a square of random scale out of each ground, and turn it by quarter turns.

    Args:
        grounds: Where to cut.
        size: Side of the squares that come out.
        flip: Whether to mirror with probability 1/2.
        generator: Random state on the CPU; drawing there keeps runs alike on all devices.

    Returns:
        Of each ground its bands, float32 [1,C,size,size] in [-1,1], resampled linearly with a
        filter as wide as a pixel that comes out, and for each of its labels the share of each
        class in the area of each pixel, float32 [1,K,size,size].
    """
    views = []
    draws = torch.rand(len(grounds), 5, generator=generator).tolist()
    for ground, (by_scale, by_row, by_column, by_turn, by_flip) in zip(grounds, draws, strict=True):
        height, width, _ = ground.bands.shape
        most = min(ground.scales[1], ground.reach * min(height, width) / size)
        least = min(ground.scales[0], most)
        side = round(size * least * (most / least) ** by_scale)
        rows, columns = _stretch(by_row, side, height), _stretch(by_column, side, width)

        def cut(pixels: Tensor) -> Tensor:
            view = pixels[rows][:, columns]  # noqa: B023 - used at once
            view = torch.rot90(view, int(by_turn * 4), (0, 1))  # noqa: B023
            return view.flip(1) if flip and by_flip < 0.5 else view  # noqa: B023

        view = to_network(cut(ground.bands)[None].contiguous())
        view = F.interpolate(view, (size, size), mode="bilinear", antialias=True).clamp_(-1, 1)
        shares = []
        for numbers, classes in ground.labels:
            share = classes[cut(numbers).long()].permute(2, 0, 1)[None]
            shares.append(F.interpolate(share, (size, size), mode="area"))
        views.append((view, shares))
    return views


def _stretch(draw: float, side: int, length: int) -> slice | Tensor:
    """Return which rows a view takes: a part of them, or all and what is mirrored beyond."""
    start = int(draw * (abs(length - side) + 1))
    if side <= length:
        return slice(start, start + side)
    places = torch.arange(-start, side - start) % (2 * length)
    return torch.minimum(places, 2 * length - 1 - places)


def photometric(
    sources: Tensor, strength: float, generator: torch.Generator | None = None
) -> Tensor:
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


def _blur(images: Tensor) -> Tensor:
    """Return images weighted 1-2-1 in both directions, twice over."""
    kernel = sent(torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16, images.device)
    bands = images.shape[1]
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    across = F.conv2d(padded, kernel.expand(bands, 1, 1, 5), groups=bands)
    return F.conv2d(across, kernel[:, None].expand(bands, 1, 5, 1), groups=bands)


def other_camera(
    sources: Tensor, strength: float, generator: torch.Generator | None = None
) -> Tensor:
    """Show each source as another camera, season, hour or file format would.

    Gain and gamma of each band, saturation (down to grey), hue, black point, haze, blur or
    sharpening, noise, and JPEG of quality 30 to 95. The first three bands are taken for red,
    green and blue.

    Args:
        sources: float [N,C,H,W] in [-1,1], on the CPU, as JPEG is made there.
        strength: 0 changes nothing, 1 as much as is seen between cameras.
        generator: Random state on the CPU.

    Returns:
        float [N,C,H,W] in [-1,1].
    """
    count, bands, height, width = sources.shape

    def draw(low: float, high: float, columns: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, columns, 1, 1, generator=generator)

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) < share * min(1.0, strength)

    light = ((sources + 1) / 2).clamp_(1e-3, 1)
    common, own = draw(-0.5, 0.5), draw(-0.1, 0.1, bands)
    gain = draw(-0.25, 0.25) + draw(-0.1, 0.1, bands)
    light = (light.log_().mul_(torch.exp((common + own) * strength)) + gain * strength).exp_()
    middle = light.mean((1, 2, 3), keepdim=True)
    light = middle + (light - middle) * (1 + draw(-0.35, 0.35) * strength)
    if bands >= 3:
        light[:, :3] = _coloured(light[:, :3], draw, some, strength)
    # Haze is a veil of light over everything; with another black point shadows are cut off.
    veil = draw(0, 0.45) * some(0.3) * strength
    brightness, black = draw(0.6, 0.95), draw(-0.1, 0.15) * some(0.5) * strength
    light = light * (1 - veil) * (1 - black) + (veil * brightness * (1 - black) + black)
    blurred, sharpened, noisy, compressed = (
        some(share).flatten().tolist() for share in (0.25, 0.2, 0.3, 0.35)
    )
    amounts = torch.rand(count, 3, generator=generator).tolist()
    for i, (sharpness, noise, quality) in enumerate(amounts):
        if blurred[i] or sharpened[i]:
            soft = _blur(light[i : i + 1])[0]
            light[i] = soft if blurred[i] else light[i].lerp(soft, -sharpness * strength)
        if noisy[i]:
            grain = torch.randn(bands, height, width, generator=generator)
            light[i] += grain * (0.035 * noise * strength)
        if compressed[i] and bands == 3:
            light[i] = _through_jpeg(light[i], round(30 + 65 * quality))
    return light.clamp_(0, 1).mul_(2).sub_(1)


def _coloured(
    light: Tensor,
    draw: Callable[[float, float], Tensor],
    some: Callable[[float], Tensor],
    strength: float,
) -> Tensor:
    """Return red, green and blue, 0 to 1, with another saturation and hue."""
    grey = (light * light.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    saturation = 1 + draw(-0.7, 0.5) * strength
    saturation = torch.where(some(0.1), torch.zeros_like(saturation), saturation)
    turned, angle = light - grey, draw(-0.25, 0.25) * strength
    # A turn about the axis of greys (Rodrigues), whose cross product mixes the other two bands.
    across = (turned.roll(1, 1) - turned.roll(-1, 1)) / 3**0.5
    turned = turned * angle.cos() + across * angle.sin()
    return grey + turned * saturation


def _through_jpeg(light: Tensor, quality: int) -> Tensor:
    """Return an image, float [3,H,W], 0 to 1, after it was a JPEG file."""
    pixels = (light.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    read = torch.from_numpy(np.array(Image.open(file)))
    return read.permute(2, 0, 1).float() / 255
