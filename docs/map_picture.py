"""Draws docs/images/streets.png: a town's photo, the map that `streets` draws, and the true map.

    python docs/map_picture.py [FOLDER]

The town is procedural, of 1 m per pixel, and shown at half of its size.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from vector_picture import save_beside

from sat2map import translate_raster
from sat2map.towns.write import write_scene

SIDE = 1040
SEED = 13
SHOWN = 520
"""Pixels along a side of each of the three pictures."""

OUT = Path(__file__).parent / "images" / "streets.png"


def main(folder: Path) -> None:
    """Make a town and its map in a folder, and the picture of both."""
    town = folder / "town"
    if not (town / "scene.tif").exists():
        write_scene(town, SIDE, seed=SEED)
    translate_raster(town / "scene.tif", folder / "map.tif", "streets")
    images = []
    for path in (town / "scene.tif", folder / "map.tif", town / "scene_map.tif"):
        with rasterio.open(path) as file:
            images.append(Image.fromarray(np.moveaxis(file.read([1, 2, 3]), 0, -1)))
    save_beside(images, SHOWN, OUT)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
