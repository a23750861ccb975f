"""Colour profiles (ICC): pixels of any of them as sRGB, which is how other programs show them."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NOTICED = 2
"""Levels by which colours may differ from those of sRGB, and yet be left as they are."""

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


class ColourProfile:
    """A conversion of pixels from a colour profile to sRGB.

    Threads may share one.

    Attributes:
        mode: What it is a profile of, as Pillow calls it: RGB, L or CMYK.
    """

    def __init__(self, mode: str, transform: Any) -> None:
        self.mode = mode
        self._transform = transform

    def image(self, image: Image.Image) -> Image.Image:
        """Return an image of `mode` as an RGB image of sRGB."""
        from PIL import ImageCms

        return ImageCms.applyTransform(image, self._transform)  # type: ignore[return-value]

    def pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels of `mode`, uint8 [H,W,C], as sRGB, uint8 [H,W,3]."""
        bands = pixels[..., 0] if self.mode == "L" else pixels
        return np.asarray(self.image(Image.fromarray(np.ascontiguousarray(bands))))


@functools.lru_cache(8)
def read_profile(profile: bytes | None) -> ColourProfile | None:
    """Return a profile, or None where there is none that changes anything.

    One that cannot be used is left out, as other programs do. So is one whose colours are those of
    sRGB but for rounding: pixels then stay exactly what they are.

    Args:
        profile: As it stands in the file.
    """
    if not profile:
        return None
    from PIL import ImageCms  # which few images need

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(given.profile.xcolor_space.strip())
        if mode is None:
            return None
        srgb = ImageCms.createProfile("sRGB")
        found = ColourProfile(mode, ImageCms.buildTransform(given, srgb, mode, "RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return found if mode == "CMYK" or _changes(found) else None


def _changes(profile: ColourProfile) -> bool:
    """Return whether any of many colours comes out as another one."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    if profile.mode == "L":
        colours = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    return bool(np.abs(profile.pixels(colours).astype(int) - colours).max() > NOTICED)
