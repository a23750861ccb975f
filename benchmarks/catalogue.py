"""Catalogue and index of many maps: time and peak memory, of all at once and of one more.

    python benchmarks/catalogue.py [MAPS ...]

The maps are links to one small map, in folders of 1,000. What is measured runs in a process of its
own; processor time is user and system, and peak memory is that of the whole process.

    first      no item is there
    again      all are there
    one more   all but one are there
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import time
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from rasterio.transform import Affine

from sat2map.batch.catalogue import Entry, item_of, write_catalogue
from sat2map.batch.index import write_index
from sat2map.translation.scene import translate_raster

SIDE = 64
A_FOLDER = 1000


def make_maps(out: Path, count: int) -> list[Entry]:
    """Write a map, and links to it under other names."""
    photo = out.parent / "photo.tif"
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000, 0, -1, 5_000_000)}
    with rasterio.open(
        photo, "w", "GTiff", SIDE, SIDE, 3, dtype="uint8", photometric="rgb", **place
    ) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), np.uint8))
    first = out.parent / "map.tif"
    translate_raster(photo, first)
    checksum = hashlib.sha256(first.read_bytes()).hexdigest()
    names = [f"{number // A_FOLDER}/{number:06d}.tif" for number in range(count)]
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).hardlink_to(first)
    return [Entry(name, {name: checksum}, str(photo)) for name in names]


def measured(out: Path, entries: list[Entry]) -> tuple[float, float, float]:
    """Return seconds by the clock and of the processor, and MiB, of a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (out, entries))


def _measure(out: Path, entries: list[Entry]) -> tuple[float, float, float]:
    began, ran = time.perf_counter(), time.process_time()
    write_catalogue(out, entries)
    write_index(out, entries)
    seconds = time.perf_counter() - began, time.process_time() - ran
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (*seconds, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("maps", nargs="*", type=int, default=[1000, 10_000])
    print(f"{'maps':>8}  {'':10}{'seconds':>9}{'processor':>11}{'MiB':>7}")
    for count in parser.parse_args().maps:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            out.mkdir()
            entries = make_maps(out, count)
            for case in ("first", "again", "one more"):
                if case == "one more":
                    (out / item_of(PurePosixPath(entries[-1].name))).unlink()
                seconds, ran, peak = measured(out, entries)
                print(f"{count:8,}  {case:10}{seconds:9.1f}{ran:11.1f}{peak:7.0f}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
