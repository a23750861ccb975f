"""Whether one can see where windows meet, and whether their size matters.

    python benchmarks/seams.py MODEL SCENE [--pictures DIR]

The scene is translated with several windows; beside them stands a plain loop over tiles of 256
without overlap, each normalised by its own statistics. For each the mean gradient across the
borders is divided by the mean gradient elsewhere. The lines of a map make that ratio swing, so
it is judged against its own distribution over all shifts of the same grid: seamless means inside
the range of 95 % of them. Borders are where a window begins and where the one before it ends.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image

from sat2map.raster.options import SceneOptions
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

WINDOWS = ((1024, 256), (512, 256), (512, 128), (512, 64))
NAIVE = 256

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Seam:
    """The figure of a grid, and that of 95 % of its shifts."""

    figure: float
    low: float
    high: float

    def __str__(self) -> str:
        inside = "inside" if self.low <= self.figure <= self.high else "OUTSIDE"
        return f"{self.figure:.3f} {inside} [{self.low:.3f}, {self.high:.3f}]"


def seam(picture: Picture, step: int, at: tuple[int, ...]) -> Seam:
    """Return how much stronger gradients are across borders than elsewhere.

    Args:
        picture: uint8 [H,W,3].
        step: Period of the grid.
        at: Where in each period a border lies: between this pixel and the one before.
    """
    values = picture.astype(np.float64)
    height, width, _ = picture.shape
    # Sums over each line of borders that there may be, and how many pixels it has.
    across = np.abs(np.diff(values, axis=1)).mean((0, 2)) * height, height
    down = np.abs(np.diff(values, axis=0)).mean((1, 2)) * width, width
    sums, counts = zip(*(_shifts(*axis, step, at) for axis in (across, down)), strict=True)
    inside = sums[0][:, None] + sums[1][None]
    pixels = counts[0][:, None] + counts[1][None]
    total, every = across[0].sum() + down[0].sum(), len(across[0]) * height + len(down[0]) * width
    with np.errstate(invalid="ignore"):
        figures = (inside / pixels) / ((total - inside) / (every - pixels))
    low, high = np.nanpercentile(figures, (2.5, 97.5))
    return Seam(float(figures[0, 0]), float(low), float(high))


def _shifts(
    lines: NDArray[np.float64], pixels: int, step: int, at: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sum and number of pixels on the borders of one axis, for each shift of the grid.

    An axis that has no border where the grid really lies is left out: one window covers it.
    """
    places = np.arange(1, len(lines) + 1)
    if len(lines) < step:
        return np.zeros(1), np.zeros(1)
    on = [np.isin((places - shift) % step, at) & (places - shift > 0) for shift in range(step)]
    on[0] &= places >= min(a or step for a in at)
    return np.array([lines[o].sum() for o in on]), np.array([o.sum() * pixels for o in on])


def naive(translator: Translator, picture: Picture) -> Picture:
    """Return what a plain loop over tiles makes: no overlap, statistics of each tile."""
    height, width, _ = picture.shape
    rows, columns = (-(-side // NAIVE) * NAIVE for side in (height, width))
    padded = np.pad(picture, ((0, rows - height), (0, columns - width), (0, 0)))
    result = np.zeros_like(padded)
    for top in range(0, rows, NAIVE):
        for left in range(0, columns, NAIVE):
            place = np.s_[top : top + NAIVE, left : left + NAIVE]
            result[place] = translator.translate(padded[place], published=True, seed=0)
    return result[:height, :width]


def read(path: Path) -> Picture:
    """Return a raster as a picture."""
    with rasterio.open(path) as file:
        pixels: Picture = np.ascontiguousarray(file.read((1, 2, 3)).transpose(1, 2, 0))
        return pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--pictures", type=Path, help="write the maps here, to be looked at")
    arguments = parser.parse_args()
    translator, maps = load(arguments.model), dict[str, Picture]()
    with TemporaryDirectory() as folder:
        target = Path(folder) / "map.tif"
        for window, overlap in WINDOWS:
            options = SceneOptions(window=window, overlap=overlap, resolution="model")
            translate_raster(arguments.scene, target, translator, options)
            maps[f"{window}-{overlap}"] = read(target)
    print("gradient across borders / elsewhere, judged by the 95 % range of all shifts")
    for window, overlap in WINDOWS:
        step = window - overlap
        # Where the next window begins, and where the one before it ends.
        where = tuple(sorted({0, overlap % step}))
        figure = seam(maps[f"{window}-{overlap}"], step, where)
        print(f"windows of {window}, overlap {overlap:4}: {figure}")
    network = translator.multiple
    print(f"the network's own grid of {network}: {seam(maps['1024-256'], network, (0,))}")
    maps["naive"] = naive(translator, read(arguments.scene))
    print(f"plain loop over tiles of {NAIVE}:  {seam(maps['naive'], NAIVE, (0,))}")
    first = maps["1024-256"].astype(float)
    print("mean difference from windows of 1024, overlap 256, of 255")
    for name, picture in list(maps.items())[1:]:
        if picture.shape == first.shape:
            difference = np.abs(first - picture)
            most = np.percentile(difference, 99)
            print(f"{name:10} {difference.mean():6.3f}  (99th percentile {most:.0f})")
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for name, picture in maps.items():
            Image.fromarray(picture).save(arguments.pictures / f"{name}.png")


if __name__ == "__main__":
    main()
