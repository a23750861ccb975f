"""Metrics that compare two images pixel by pixel.

All of them reward haze: a blurred image without a single road scores well. They are
guard-rails; the structure metrics (`classes`, `roads`, `edges`) are what counts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PSNR_LIMIT = 100.0
"""What equal images get, in dB, so that they can be averaged with others."""

SSIM_WINDOW = 7


def l1(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    """Return the mean absolute error, 0 to 255, of two images, uint8 [H,W,C]."""
    return float(_absolute_error(generated, true).mean())


def rmse(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    """Return the root of the mean squared error, 0 to 255, of two images, uint8 [H,W,C].

    The mean goes over channels too; some papers sum them, which is sqrt(3) times as much.
    """
    error = _absolute_error(generated, true).astype(np.int64)
    return math.sqrt(float((error * error).mean()))


def psnr(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB, at most 100, of two images, uint8 [H,W,C]."""
    error = rmse(generated, true)
    return PSNR_LIMIT if error == 0 else min(PSNR_LIMIT, 20 * math.log10(255 / error))


def ssim(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    """Return the structural similarity, -1 to 1, of two images, uint8 [H,W,C].

    As scikit-image computes it: 7x7 window, mean of the channels, data range 255 (Wang et
    al. 2004). It is nan where a side is shorter than the window.
    """
    from skimage.metrics import structural_similarity

    if min(true.shape[:2]) < SSIM_WINDOW:
        return math.nan
    similarity = structural_similarity(  # type: ignore[no-untyped-call]
        generated, true, win_size=SSIM_WINDOW, channel_axis=2, data_range=255
    )
    return float(similarity)


def accuracy(generated: NDArray[np.uint8], true: NDArray[np.uint8], below: int) -> float:
    """Return the share of pixels, 0 to 1, whose largest channel error is less than `below`.

    Args:
        generated: uint8 [H,W,C].
        true: uint8 [H,W,C].
        below: The bound, on the scale of 0 to 255; 5 and 10 are usual.
    """
    return float((_absolute_error(generated, true).max(axis=2) < below).mean())


def error_map(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean absolute error of each pixel, float32 [H,W], 0 to 255."""
    error: NDArray[np.float32] = _absolute_error(generated, true).mean(axis=2, dtype=np.float32)
    return error


def _absolute_error(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> NDArray[np.uint8]:
    error: NDArray[np.uint8] = np.maximum(generated, true) - np.minimum(generated, true)
    return error
