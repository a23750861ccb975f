"""Chips of a large region: time, memory, chips per second.

    python benchmarks/chips.py [SIDE] [--features N] [--workers N ...]

The region is made up: blocky noise of SIDE x SIDE pixels at 1 m as imagery, and N buildings and
streets in a GeoPackage of another projection. Each number of workers runs in a process of its
own, whose peak memory is printed with that of the largest of its workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyogrio
import shapely
from rasterio.warp import transform

from sat2map.chips.chips import ChipOptions, make_chips
from sat2map.style.features import VectorFile
from scene import Peak, peak_memory, write_scene

ORIGIN = (500_000.0, 5_000_000.0)


def write_vectors(path: Path, side: int, count: int) -> None:
    """Write nine buildings for each street, spread over the region."""
    random = np.random.default_rng(0)
    buildings, streets = count * 9 // 10, count - count * 9 // 10
    places = random.uniform(0, side, (buildings, 2))
    sizes = random.uniform(6, 20, (buildings, 2))
    shapes = list(shapely.box(*places.T, *(places + sizes).T))
    starts = random.uniform(0, side, (streets, 2))
    angles = random.uniform(0, 2 * np.pi, streets)
    steps = np.stack([np.cos(angles), np.sin(angles)], 1) * random.uniform(50, 400, (streets, 1))
    bends = random.normal(0, 10, (streets, 2))
    points = np.stack([starts, starts + steps / 2 + bends, starts + steps], 1)
    shapes += list(shapely.linestrings(points))

    def placed(points: np.ndarray) -> np.ndarray:
        xs, ys = ORIGIN[0] + points[:, 0], ORIGIN[1] - points[:, 1]
        return np.stack(transform("EPSG:32633", "EPSG:4326", xs, ys), 1)

    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(shapely.transform(np.array(shapes, object), placed)),
        fields=["class"],
        field_data=[np.array(["building"] * buildings + ["road"] * streets, object)],
        geometry_type="Unknown",
        crs="EPSG:4326",
    )


def memory_of_workers() -> float:
    """Return the most memory that a process of this group but this one and its parent had, MiB."""
    most = 0.0
    for place in Path("/proc").glob("[0-9]*"):
        number = int(place.name)
        try:
            if os.getpgid(number) == os.getpgrp() and number not in {os.getpid(), os.getppid()}:
                most = max(most, peak_memory(number))
        except OSError:  # gone in the meantime
            continue
    return most


def measure(folder: Path, workers: int) -> str:
    """Cut chips and return a line of figures."""
    began = time.perf_counter()
    first: list[float] = []

    def progress(done: int, total: int | None) -> None:
        if not first:
            first.append(time.perf_counter())

    with Peak(memory_of_workers, 1) as others:
        chips = make_chips(
            [str(folder / "scene.tif")],
            [VectorFile(folder / "shapes.gpkg")],
            folder / f"chips-{workers}",
            ChipOptions(workers=workers),
            progress=progress,
        )
    whole = time.perf_counter() - began
    prepared = first[0] - began
    places = len(chips.outcomes)
    counts = chips.counts()
    return (
        f"workers {workers}  train {counts['train']}  val {counts['val']}  "
        f"prepared {prepared:.1f} s  all {whole:.1f} s  {places / (whole - prepared):.1f} chips/s  "
        f"memory {peak_memory():.0f} MiB, a worker at most {others.peak:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("side", nargs="?", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=200_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(measure(arguments.folder, arguments.workers[0]), flush=True)
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder / "scene.tif", arguments.side)
        write_vectors(folder / "shapes.gpkg", arguments.side, arguments.features)
        for workers in arguments.workers:
            command = [sys.executable, __file__, "--folder", name, "--workers", str(workers)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
