"""Drawing the maps of a large region: time and memory to open the vectors, chips per second.

    python benchmarks/map_drawing.py [--side 20000] [--features 200000] [--chips 200]

The region is a made-up town of houses and streets at 1 m per pixel, in a GeoPackage in degrees, so
that reading and projecting count. Chips are at random places; the time of each is its own.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS

from sat2map.geo.grid import Grid
from sat2map.style.features import VectorFile, open_vectors
from sat2map.style.render import Painter
from sat2map.style.spec import read_style

UTM = "EPSG:32631"
ORIGIN = np.array([500_000.0, 5_400_000.0])


def write_town(path: Path, side: int, count: int) -> None:
    """Write nine houses in ten features, and streets of some hundred metres."""
    rng = np.random.default_rng(0)
    houses = count * 9 // 10
    corner = rng.uniform(0, side, (houses, 2)) + ORIGIN
    size = rng.uniform(6, 20, (houses, 2))
    shapes = shapely.box(*corner.T, *(corner + size).T)
    start = rng.uniform(0, side, (count - houses, 1, 2)) + ORIGIN
    steps = rng.normal(0, 60, (count - houses, 6, 2)).cumsum(1)
    streets = shapely.linestrings(start + steps)
    columns = {
        "building": ["yes"] * houses + [None] * len(streets),
        "highway": [None] * houses + ["residential"] * len(streets),
    }
    frame = geopandas.GeoDataFrame(columns, geometry=np.concatenate([shapes, streets]), crs=UTM)
    frame.to_crs(4326).to_file(path, layer="town")


def memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=200_000)
    parser.add_argument("--chips", type=int, default=200)
    arguments = parser.parse_args()
    side = arguments.side
    west, south = ORIGIN.tolist()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "town.gpkg"
        write_town(path, side, arguments.features)
        before, began = memory_mib(), time.perf_counter()
        crs = CRS.from_user_input(UTM)
        bounds = (west, south, west + side, south + side)
        vectors = open_vectors([VectorFile(path)], read_style("streets"), crs, bounds)
        painter = Painter(vectors, 1.0)
        whole = Grid(side, side, Affine(1, 0, west, 0, -1, south + side), crs)
        painter.draw(whole.part(0, 0, 256, 256))
    print(f"{len(vectors)} features opened in {time.perf_counter() - began:.1f} s; peak memory "
          f"{memory_mib():.0f} MiB, {before:.0f} MiB before")  # fmt: skip
    rng = np.random.default_rng(1)
    for size in (256, 512):
        times = []
        for row, column in rng.integers(0, side - size, (arguments.chips, 2)).tolist():
            began = time.perf_counter()
            _ = painter.draw(whole.part(row, column, size, size)).image
            times.append(time.perf_counter() - began)
        low, middle, high = np.percentile(times, (5, 50, 95)) * 1e3
        print(f"{size} pixels: {1e3 / middle:.0f} chips per second and process; {middle:.1f} ms "
              f"each, 90 % within {low:.1f} to {high:.1f}")  # fmt: skip
    print(f"peak memory after all chips {memory_mib():.0f} MiB")


if __name__ == "__main__":
    main()
