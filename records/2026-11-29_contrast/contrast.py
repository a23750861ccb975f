"""What a model tells at each place of dull photos, and of photos that are stretched.

    python contrast.py DATA SETS MODEL

DATA, SETS and the metrics are those of ../2026-11-29_streets/places.py, without its intervals.
Photos are shown as they are, and dulled: values times .42 and 17 more, as the given orthophoto of
Las Vegas has them. Ways of showing them, by percentiles of each photo (of all photos of Zanzibar,
whose tiles are small):

- none;
- 2, of each band from percentile 2 to 98; 0.5, from 0.5 to 99.5;
- joint, from the lowest 2 to the highest 98 of the three bands, the same for all;
- twice, 0.5 but with at most twice the contrast, where a photo's pixels are nearly all (98 %)
  darker than 140 of 255: what sat2map does with scenes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "2026-11-29_streets"))
from places import Ground, places, score  # type: ignore[import-not-found]

from sat2map.translation.translator import load

Pixels = NDArray[np.uint8]
DULL, CONTRAST = 140, 2.0


def shown(photos: list[Pixels], way: str) -> Callable[[Pixels], Pixels]:
    """Return what shows photos in a way, by the percentiles of all that are given."""
    values = np.concatenate([photo.reshape(-1, 3)[::7] for photo in photos])
    if way == "none" or (way == "twice" and np.percentile(values.max(1), 98) > DULL):
        return lambda photo: photo
    rest = 2.0 if way in ("2", "joint") else 0.5
    low, high = np.percentile(values, (rest, 100 - rest), axis=0)
    if way == "joint":
        low, high = np.full(3, low.min()), np.full(3, high.max())
    if way == "twice":
        span = np.maximum(high - low, 255 / CONTRAST)
        low = np.maximum((low + high - span) / 2, 0)
        high = low + span
    factor = 255 / np.maximum(high - low, 1)
    return lambda photo: np.clip(np.rint((photo - low) * factor), 0, 255).astype(np.uint8)


def dulled(photo: Pixels) -> Pixels:
    """Return a photo with little light and contrast."""
    return np.rint(photo * 0.42 + 17).astype(np.uint8)


def main(data: str, sets: str, name: str) -> None:
    """Print a line for each place and way."""
    model = load(name)
    for place, ground in places(Path(data), Path(sets)):
        for light, change in (("as it is", lambda photo: photo), ("dulled", dulled)):
            photos = [change(photo) for photo, _ in ground.images]
            for way in ("none", "2", "joint", "0.5", "twice"):
                whole = shown(photos, way) if "Zanzibar" in place else None
                images = [
                    ((whole or shown([photo], way))(photo), values)
                    for photo, (_, values) in zip(photos, ground.images, strict=True)
                ]
                found: Ground = dataclasses.replace(ground, images=images)
                scores = {
                    metric: round(float(rows[:, 0].sum() / rows[:, 1].sum()), 3)
                    for metric, rows in score(model, found, 1.0).items()
                }
                print(place, light, way, scores, sep=" | ", flush=True)


main(*sys.argv[1:])
