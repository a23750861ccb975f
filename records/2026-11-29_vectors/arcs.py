"""How far the borders of land cover lie from true outlines, with arcs moved and without.

    python arcs.py MODEL FOLDER [SEED ...]

Each town is drawn at 1 m, for the model, and at 0.25 m, for the truth: its outlines are where the
classes of the fine one change. Of the borders between two classes of the coverage, buildings left
aside, points some half a metre apart are taken, those of the sheet's own edge excepted; of each the
distance to the nearest outline counts, if that is within 3 m: what is further off is another class
and not another outline. Prints the mean of each town with arcs along the pixels' middles and with
arcs that are moved.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import rasterio
import shapely
from pyogrio.raw import read
from scipy import ndimage

from sat2map.translation.translator import Translator, load
from sat2map.vectors import coverage
from sat2map.vectors.photo import vectorise_photo

SIDE, FINE, REACH_M = 512, 4, 3.0


def drawn(folder: Path, seed: str, resolution: float, side: int) -> Path:
    """Return the folder of a town, which is drawn if it is not there."""
    if not folder.is_dir():
        told = ["--kind", "temperate", "--resolution", str(resolution), "--scene", str(side)]
        command = [sys.executable, "-m", "sat2map", "data", "synthetic", str(folder), *told]
        subprocess.run([*command, "--seed", seed, "--quiet"], check=True)
    return folder


def outlines(town: Path) -> np.ndarray:
    """Return the distance in metres from the nearest change of class, float [H,W]."""
    with rasterio.open(town / "scene_cover.tif") as file:
        numbers = file.read(1)
    # On a grid twice as fine, so that a change lies on a pixel of its own.
    twice = numbers.repeat(2, 0).repeat(2, 1)
    changes = np.zeros(twice.shape, np.bool_)
    changes[1:] |= twice[1:] != twice[:-1]
    changes[:, 1:] |= twice[:, 1:] != twice[:, :-1]
    return ndimage.distance_transform_edt(~changes) / (2 * FINE)


def distance(vectors: Path, scene: Path, truth: np.ndarray) -> tuple[float, float]:
    """Return the mean distance of borders within reach, and the share of those that are."""
    with rasterio.open(scene) as file:
        to_pixels, (height, width) = ~file.transform, file.shape
    _, _, shapes, (classes,) = read(vectors, layer="coverage", columns=["class"])
    rings = shapely.boundary(shapely.from_wkb(shapes[classes != "building"]))
    houses = shapely.boundary(shapely.from_wkb(shapes[classes == "building"]))
    lines = shapely.difference(shapely.union_all(rings), shapely.union_all(houses))
    parts = shapely.get_parts(lines)
    points = shapely.get_coordinates(shapely.segmentize(parts, 0.5))
    x, y = to_pixels * points.T
    inside = (x > 2) & (y > 2) & (x < width - 2) & (y < height - 2)
    found = truth[(y[inside] * 2 * FINE).astype(int), (x[inside] * 2 * FINE).astype(int)]
    near = found < REACH_M
    return float(found[near].mean()), float(near.mean())


def main(model: str, folder: str, *seeds: str) -> None:
    """Print the table."""
    translator: Translator = load(model)
    print("| town | along pixels, m | moved, m | within 3 m |")
    print("|---|---|---|---|")
    every = []
    for seed in seeds or ("301", "302", "303", "304", "305", "306"):
        coarse = drawn(Path(folder) / f"c{seed}", seed, 1, SIDE)
        truth = outlines(drawn(Path(folder) / f"f{seed}", seed, 1 / FINE, SIDE * FINE))
        rows = []
        for name in ("plain", "moved"):
            made = coarse / f"{name}.gpkg"
            with mock.patch.object(coverage, "moved_to_balance", KINDS[name]):
                vectorise_photo(coarse / "scene.tif", made, translator)
            rows.append(distance(made, coarse / "scene.tif", truth))
        every.append([rows[0][0], rows[1][0]])
        shares = " and ".join(f"{share:.3f}" for _, share in rows)
        print(f"| {seed} | {rows[0][0]:.3f} | {rows[1][0]:.3f} | {shares} |", flush=True)
    print("| mean | {:.3f} | {:.3f} | |".format(*np.mean(every, 0)))


KINDS = {
    "plain": lambda polygons, _labels, _lead: polygons,
    "moved": coverage.moved_to_balance,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
