"""Windows of images from which a foreign generator gets its statistics.

How much ground an image shows decides its statistics, so the windows have the size that the
network was trained with, and where both ground resolutions are known, its resolution too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sat2map.data.images import in_bands, list_images, read_image
from sat2map.data.masks import has_no_maps
from sat2map.data.pairs import Direction, PairFile, find_pairs, read_dataset_card, read_pair
from sat2map.errors import DataError
from sat2map.networks.value_range import from_image


@dataclass(frozen=True)
class CalibrationSet:
    """Images to calibrate with, spread evenly over those of a folder.

    Attributes:
        images: The images; of a pair the source is meant.
        direction: Which half of a pair the source is.
        scale: By how much the images are resized.
        windows_each: At most so many windows are cut out of each.
    """

    images: Sequence[Path | PairFile]
    direction: Direction
    scale: float
    windows_each: int

    def windows(
        self, side: int, bands: int, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Tensor]:
        """Yield windows, float32 [1,bands,side,side] in [-1,1]; smaller images are mirrored.

        Args:
            side: In pixels, after resizing.
            bands: How many bands the network takes.
            progress: Called with (images done, all).

        Raises:
            DataError: An image cannot be read or has another number of bands.
        """
        for done, item in enumerate(self.images):
            if progress is not None:
                progress(done, len(self.images))
            for window in _cut(self._read(item, bands), side, self.windows_each):
                yield from_image(window)
        if progress is not None:
            progress(len(self.images), len(self.images))

    def _read(self, item: Path | PairFile, bands: int) -> NDArray[np.uint8]:
        if isinstance(item, PairFile):
            path, pixels = item.source, read_pair(item, self.direction)[0]
        else:
            path, pixels = item, read_image(item).pixels
        pixels = in_bands(pixels, bands)
        height, width, found = pixels.shape
        if found != bands:
            raise DataError(
                f"has {found} bands, but the model takes {bands}",
                where=path,
                remedy="Calibrate with images such as the model will get.",
            )
        if self.scale == 1:
            return pixels
        size = (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
        resized = [
            np.asarray(Image.fromarray(pixels[..., band]).resize(size, Image.Resampling.BICUBIC))
            for band in range(bands)
        ]
        return np.stack(resized, -1)


def find_calibration_set(
    folder: Path,
    *,
    direction: Direction = "forward",
    resolution_m: tuple[float, float] | None = None,
    limit: int = 100,
) -> CalibrationSet:
    """Choose the images of a folder that a generator is calibrated with.

    Args:
        folder: Images, or a data set (of maps or of class masks) whose photos in train/ are taken.
        direction: Which half of a pair the source is.
        resolution_m: The finest and coarsest resolution that the model knows. Where the
            folder's dataset.json says that its images lie outside, they are resized to the
            nearer of the two.
        limit: At most so many windows in all, for the sake of time.

    Raises:
        DataError: There is no image.
    """
    found: Sequence[Path | PairFile]
    if not (folder / "train").is_dir():
        found = list_images(folder)
    elif has_no_maps(folder, "train"):
        found = list_images(folder / "train" / "source")
    else:
        found = find_pairs(folder, "train")
    if not found:
        raise DataError(
            "has no images to calibrate with",
            where=folder,
            remedy="Give a folder of PNG, JPEG, WebP or TIFF images, or a data set.",
        )
    chosen = spread(len(found), limit)
    scale = 1.0
    theirs = read_dataset_card(folder).resolution_m
    if theirs is not None and resolution_m is not None:
        scale = theirs / min(max(theirs, resolution_m[0]), resolution_m[1])
    return CalibrationSet([found[i] for i in chosen], direction, scale, limit // len(chosen))


def _cut(pixels: NDArray[np.uint8], side: int, count: int) -> list[NDArray[np.uint8]]:
    """Return up to `count` windows that do not overlap, spread evenly over an image."""
    short = [max(0, side - length) for length in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, [(n // 2, n - n // 2) for n in short] + [(0, 0)], "symmetric")
    height, width = pixels.shape[:2]
    corners = [
        (top, left)
        for top in range(height % side // 2, height - side + 1, side)
        for left in range(width % side // 2, width - side + 1, side)
    ]
    places = [corners[i] for i in spread(len(corners), count)]
    return [pixels[y : y + side, x : x + side] for y, x in places]


def spread(available: int, wanted: int) -> list[int]:
    """Return up to `wanted` different indices, spread evenly."""
    taken = min(available, wanted)
    return [(2 * i + 1) * available // (2 * taken) for i in range(taken)]
