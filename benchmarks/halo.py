"""How far a model looks in practice: pixels whose class changes when a window is cut closely.

    python benchmarks/halo.py MODEL IMAGES [IMAGES ...] [--windows 200] [--most 256]

Cores of 64 pixels, spread over the images of the folders, are predicted in windows with a halo of
so many pixels on every side, and compared with the prediction of the whole image. Printed is the
share of pixels that have another class, of the map or of the land cover, for each halo, and the
smallest halo with which at most one pixel in 100,000 differs. Folders with images of several
kinds of ground, each larger than 64 pixels and twice the largest halo, make the figure hold:

    for kind in temperate desert tropics informal snow; do
        sat2map data synthetic ground/$kind --kind $kind --pairs 10 --size 640
    done
    python benchmarks/halo.py streets ground/*/train/source
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sat2map
from sat2map.data.images import list_images, read_image
from sat2map.translation.maps import Layer
from sat2map.translation.translator import Translator

CORE = 64
WANTED = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--most", type=int, default=256)
    arguments = parser.parse_args()
    model = sat2map.load(arguments.model, "cpu")
    halos = range(0, arguments.most + 1, max(16, model.multiple))
    files = [file for folder in arguments.images for file in list_images(folder)]
    random = np.random.default_rng(0)
    differing = np.zeros(len(halos), np.int64)
    each = -(-arguments.windows // len(files))
    for file in files:
        image = read_image(file).pixels
        height, width = (side // model.multiple * model.multiple for side in image.shape[:2])
        image, most = image[:height, :width], arguments.most
        if min(height, width) < CORE + 2 * most:
            parser.error(f"{file} is smaller than {CORE + 2 * most} pixels")
        whole = numbers(model, image)
        for _ in range(each):
            places = [
                most + model.multiple * int(random.integers((side - CORE - 2 * most) // 16 + 1))
                for side in (height, width)
            ]
            top, left = places
            for number, halo in enumerate(halos):
                window = image[top - halo : top + CORE + halo, left - halo : left + CORE + halo]
                found = numbers(model, window)[halo : halo + CORE, halo : halo + CORE]
                wanted = whole[top : top + CORE, left : left + CORE]
                differing[number] += int((found != wanted).any(axis=2).sum())
    windows = each * len(files)
    shares = differing / (windows * CORE**2)
    print(f"{windows} windows of {len(files)} images, {model.name}, {model.runtime}")
    for halo, share in zip(halos, shares, strict=True):
        print(f"halo {halo:4d}: {share:.2e} of the pixels differ")
    enough = [halo for halo, share in zip(halos, shares, strict=True) if share <= WANTED]
    print(f"smallest halo: {enough[0]}" if enough else "no halo is large enough")


def numbers(model: Translator, window: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the classes of map and land cover, uint8 [H,W,2], as far as the model has them."""
    layers: tuple[Layer, ...] = ("classes", "cover") if model.answers_in_cover else ("classes",)
    answers: NDArray[np.uint8] = model.predict(window, layers)
    return answers


if __name__ == "__main__":
    main()
