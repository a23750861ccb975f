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
import copy
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image

from sat2map.evaluation.edges import seam_range
from sat2map.raster.options import SceneOptions
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

CORES = (1024, 512, 256)
WINDOWS = ((1024, 256), (512, 256), (512, 128), (512, 64))
NAIVE = 256

Pixels = NDArray[np.uint8]


def naive(translator: Translator, image: Pixels) -> Pixels:
    """Return what a plain loop over tiles makes: no overlap, statistics of each tile."""
    height, width, _ = image.shape
    rows, columns = (-(-side // NAIVE) * NAIVE for side in (height, width))
    padded = np.pad(image, ((0, rows - height), (0, columns - width), (0, 0)))
    result = np.zeros_like(padded)
    for top in range(0, rows, NAIVE):
        for left in range(0, columns, NAIVE):
            place = np.s_[top : top + NAIVE, left : left + NAIVE]
            result[place] = translator.translate(padded[place], mode="published", seed=0)
    return result[:height, :width]


def read(path: Path) -> Pixels:
    """Return a raster as an image."""
    with rasterio.open(path) as file:
        pixels: Pixels = np.ascontiguousarray(file.read((1, 2, 3)).transpose(1, 2, 0))
        return pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--pictures", type=Path, help="write the maps here, to be looked at")
    arguments = parser.parse_args()
    translator, maps = load(arguments.model), dict[str, Pixels]()
    windows: tuple[tuple[int, int], ...] = WINDOWS
    if translator.frame() is not None:  # those with a halo lie side by side
        windows = (*((core, 0) for core in CORES), *WINDOWS)
    blended = copy.copy(translator)
    blended.frame = lambda core=None: None  # type: ignore[method-assign]
    names = [f"{window}-{overlap}" for window, overlap in windows]
    with TemporaryDirectory() as folder:
        target = Path(folder) / "map.tif"
        for window, overlap in windows:
            options = SceneOptions(window=window, overlap=overlap, resolution="model")
            model = blended if overlap else translator
            translate_raster(arguments.scene, target, model, options)
            maps[f"{window}-{overlap}"] = read(target)
    print("gradient across borders / elsewhere, judged by the 95 % range of all shifts")
    for window, overlap in windows:
        step = window - overlap
        # Where the next window begins, and where the one before it ends.
        figure = seam_range(
            maps[f"{window}-{overlap}"], step, borders=(0, overlap) if overlap else (0,)
        )
        print(f"windows of {window}, overlap {overlap:4}: {figure}")
    network = translator.multiple
    print(f"the network's own grid of {network}: {seam_range(maps[names[0]], network)}")
    maps["naive"] = naive(translator, read(arguments.scene))
    print(f"plain loop over tiles of {NAIVE}:  {seam_range(maps['naive'], NAIVE)}")
    first = maps[names[0]].astype(float)
    print(f"mean difference from {names[0]}, of 255")
    for name, image in list(maps.items())[1:]:
        if image.shape == first.shape:
            difference = np.abs(first - image)
            most = np.percentile(difference, 99)
            print(f"{name:10} {difference.mean():6.3f}  (99th percentile {most:.0f})")
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for name, image in maps.items():
            Image.fromarray(image).save(arguments.pictures / f"{name}.png")


if __name__ == "__main__":
    main()
