"""Class maps to vectors: time and peak memory at several sizes, beside polygonizing pixels.

    python benchmarks/vectors.py [SIDE ...] [--peer PYTHON]

The class map is the land cover of a procedural town at 1 m, mirrored until it is large enough. Each
command runs in a process of its own; processor time is that of all its threads, and peak memory is
that of the whole process, as the operating system counts it. A square kilometre is a million
pixels.

    sat2map    `sat2map vectors classes.tif town.gpkg`: coverage, buildings, roads
    pixels     rasterio.features.shapes, which is what gdal_polygonize does: all areas along their
               pixels, into a GeoPackage
    peer       buildingregulariser on the buildings of `pixels` alone, with `--peer`, the Python
               of an environment that has it
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from rasterio.windows import Window

from sat2map.towns.write import write_scene

TOWN = 2000
OURS = "from sat2map.cli.app import main; main()"
PIXELS = """
import sys
import numpy as np, rasterio, shapely
from rasterio.features import shapes
from pyogrio.raw import write
with rasterio.open(sys.argv[1]) as file:
    found = list(shapes(file.read(1), transform=file.transform))
    crs = file.crs.to_wkt()
polygons = np.array([shapely.geometry.shape(shape) for shape, _ in found], object)
numbers = np.array([number for _, number in found], np.int32)
write(sys.argv[2], shapely.to_wkb(polygons), [numbers], ["class"], crs=crs,
      geometry_type="Polygon", driver="GPKG")
"""
PEER = """
import sys
import geopandas
from buildingregulariser import regularize_geodataframe
frame = geopandas.read_file(sys.argv[1])
frame = frame[(frame["class"] == 1) & (frame.area >= 20)]
regularize_geodataframe(frame).to_file(sys.argv[2])
"""


def write_classes(path: Path, town: Path, side: int) -> None:
    """Write the class map of a town, mirrored until it has so many pixels a side.

    Row by row of towns: what is started from here counts this process's most memory as its own.
    """
    with rasterio.open(town / "scene_cover.tif") as file:
        numbers, profile = file.read(1), file.profile
    pair = np.concatenate([numbers, numbers[:, ::-1]], 1)
    row = np.tile(pair, -(-side // pair.shape[1]))[:, :side]
    facts = {"height": side, "width": side, "tiled": True, "blockxsize": 256, "blockysize": 256}
    small = rasterio.Env(GDAL_CACHEMAX=32 * 2**20)
    with small, rasterio.open(path, "w", **(profile | facts)) as file:
        for number, top in enumerate(range(0, side, TOWN)):
            part = (row[::-1] if number % 2 else row)[: side - top]
            file.write(part, 1, window=Window(0, top, side, len(part)))


def measured(python: str, program: str, *arguments: str) -> tuple[float, float]:
    """Run a program, and return its processor time in seconds and its peak memory in MB."""
    process = subprocess.Popen([python, "-c", program, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{python} failed on {arguments}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print a table of all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", nargs="*", type=int, default=[4000, 8000], metavar="SIDE")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has buildingregulariser")
    chosen = parser.parse_args()
    print(f"{'side':>6} {'what':10} {'seconds':>8} {'km2 per core-hour':>18} {'MB':>6}")
    with TemporaryDirectory() as folder:
        town = Path(folder) / "town"
        write_scene(town, TOWN, seed=4)
        for side in chosen.sides:
            classes, pixels = Path(folder) / "classes.tif", Path(folder) / "pixels.gpkg"
            write_classes(classes, town, side)
            ours = ["vectors", str(classes), f"{folder}/town.gpkg", "--legend", "cover", "-q"]
            runs = {"sat2map": (sys.executable, OURS, *ours)}
            runs["pixels"] = (sys.executable, PIXELS, str(classes), str(pixels))
            if chosen.peer is not None:
                runs["peer"] = (chosen.peer, PEER, str(pixels), f"{folder}/peer.gpkg")
            for name, run in runs.items():
                seconds, megabytes = measured(*run)
                speed = side**2 / 1e6 / (seconds / 3600)
                print(f"{side:6} {name:10} {seconds:8.1f} {speed:18,.0f} {megabytes:6.0f}")
            for made in Path(folder).glob("*.gpkg"):
                made.unlink()


if __name__ == "__main__":
    main()
