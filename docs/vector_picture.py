"""Draws docs/images/vectors.png: a town's photo, its vectors over it, and the vectors alone.

    python docs/vector_picture.py [FOLDER]

The town is procedural, the vectors are those that the shipped model's land cover becomes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sat2map import read_vectors, vectorise_photo
from sat2map.legend import COVER
from sat2map.towns.write import write_scene

SIDE = 400
SEED = 3
SHOWN = 500
"""Pixels along a side of each of the three pictures."""

FINER = 3
"""Drawn so many times finer, for smooth edges."""

OUT = Path(__file__).parent / "images" / "vectors.png"


def main(folder: Path) -> None:
    """Make a town and its vectors in a folder, and the picture of both."""
    photo = folder / "town" / "scene.tif"
    if not photo.exists():
        write_scene(folder / "town", SIDE, seed=SEED)
    town = vectorise_photo(photo, folder / "town.gpkg")
    with rasterio.open(photo) as file:
        pixels = np.moveaxis(file.read([1, 2, 3]), 0, -1)
        transform = file.transform
    side = SHOWN * FINER
    picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
    scale = side / pixels.shape[0]

    def placed(points: NDArray[np.float64]) -> list[tuple[float, float]]:
        x, y = ~transform @ (points[:, 0], points[:, 1])
        return [
            (float(column) * scale, float(row) * scale) for column, row in zip(x, y, strict=True)
        ]

    over, alone = picture.copy(), Image.new("RGB", (side, side), "white")
    draw(over, town, placed, filled=False)
    draw(alone, town, placed, filled=True)
    save_beside((picture, over, alone), SHOWN, OUT)


def save_beside(images: Sequence[Image.Image], side: int, path: Path) -> None:
    """Write images beside each other, each of so many pixels along a side, as a small PNG."""
    width = len(images) * (side + 10) - 10
    whole = Image.new("RGB", (width, side), "white")
    for place, each in enumerate(images):
        shown = each.resize((side, side), Image.Resampling.LANCZOS)
        whole.paste(shown, (place * (side + 10), 0))
    whole.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def draw(
    image: Image.Image,
    town: Path,
    placed: Callable[[NDArray[np.float64]], list[tuple[float, float]]],
    *,
    filled: bool,
) -> None:
    """Draw the layers of a GeoPackage as QGIS shows them, or outlines of some alone."""
    brush = ImageDraw.Draw(image)
    colours = {entry.name: entry.colour for entry in COVER.classes}
    if filled:
        frame = read_vectors(town, "coverage")
        around = shapely.area(shapely.polygons(frame.geometry.exterior.to_numpy()))
        frame = frame.iloc[np.argsort(-around)]  # what lies in a hole of another comes later
        for name, polygon in zip(frame["class"], frame.geometry, strict=True):
            brush.polygon(placed(np.asarray(polygon.exterior.coords)), colours[name])
    else:
        for layer, colour in (("water", (90, 190, 255)), ("buildings", (255, 80, 50))):
            for polygon in read_vectors(town, layer).geometry:
                for ring in (polygon.exterior, *polygon.interiors):
                    brush.line(placed(np.asarray(ring.coords)), colour, 2 * FINER, joint="curve")
    for line in read_vectors(town, "roads").geometry:
        brush.line(placed(np.asarray(line.coords)), (255, 215, 0), 2 * FINER, joint="curve")
    for point in read_vectors(town, "road_nodes").geometry:
        ((x, y),) = placed(np.array([[point.x, point.y]]))
        size = 2.5 * FINER
        brush.ellipse((x - size, y - size, x + size, y + size), "white", (60, 60, 60), FINER)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
