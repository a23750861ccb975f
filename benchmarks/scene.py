"""Memory, temporary disk and time of a whole scene, at several sizes.

    python benchmarks/scene.py [SIDE ...] [--network trivial|published]

Each size is translated in a process of its own, whose peak memory is that of the whole command.
The trivial network answers what it is given, so what is measured is everything else; the
published one is the untrained U-Net of pix2pix.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from rasterio.windows import Window
from torch import Tensor, nn

from sat2map.model import GeneratorSpec, Model, ModelCard, build_generator
from sat2map.raster.translate import translate_raster
from sat2map.translation.translator import Translator

TILE = 512


class Trivial(nn.Module):
    """Answers what it is given."""

    multiple = 256

    def forward(self, source: Tensor) -> Tensor:
        """Return the source."""
        return source


def write_scene(path: Path, side: int) -> None:
    """Write a scene of blocky noise, tile by tile."""
    noise = np.random.default_rng(0).integers(0, 256, (3, TILE // 8, TILE // 8), dtype=np.uint8)
    tile = np.kron(noise, np.ones((1, 8, 8), np.uint8))
    facts = {"width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_000_000),
        tiled=True,
        blockxsize=TILE,
        blockysize=TILE,
        compress="deflate",
        photometric="rgb",
        **facts,
    ) as file:
        for row in range(0, side, TILE):
            for column in range(0, side, TILE):
                height, width = min(TILE, side - row), min(TILE, side - column)
                moved = np.roll(tile, (row + column) // 7, axis=1)[:, :height, :width]
                file.write(moved, window=Window(column, row, width, height))


def measure(source: Path, network: str) -> str:
    """Translate a scene and return a line of figures."""
    spec = GeneratorSpec(name="unet", arguments={})
    card = ModelCard(generator=spec, normalisation="none", resolution_m=(1, 1))
    module = Trivial() if network == "trivial" else build_generator(spec)
    translator = Translator(Model(module, card, Path(network)), "cpu")
    target = source.with_name("map.tif")
    disk, ended, last = [0], threading.Event(), [0.0]

    def watch() -> None:
        while not ended.wait(0.05):
            sizes = 0
            for file in target.parent.glob(".map*"):
                try:
                    sizes += file.stat().st_size
                except FileNotFoundError:  # it has its final name by now
                    continue
            disk[0] = max(disk[0], sizes)

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()

    def progress(done: int, total: int) -> None:
        last[0] = time.perf_counter()

    try:
        translate_raster(source, target, translator, progress=progress)
    finally:
        ended.set()
        watching.join()
    whole, windows = time.perf_counter() - began, last[0] - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    # The output itself grows under a name of its own until it is whole.
    beside = disk[0] / target.stat().st_size - 1
    with rasterio.open(target) as file:
        pixels = file.width * file.height / 1e6
    return (
        f"{pixels:9.1f} Mpx  {memory:6.0f} MiB  {beside:5.2f} x the output beside it  "
        f"{windows:6.1f} s windows  {whole - windows:6.1f} s overviews and check  "
        f"{pixels / windows:5.2f} Mpx/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sides", nargs="*", type=int, default=[4000, 12000])
    parser.add_argument("--network", choices=("trivial", "published"), default="trivial")
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scene is not None:
        print(measure(arguments.scene, arguments.network))
        return
    for side in arguments.sides or [4000, 12000]:
        with TemporaryDirectory() as folder:
            scene = Path(folder) / "scene.tif"
            write_scene(scene, side)
            command = [sys.executable, __file__, "--scene", str(scene)]
            subprocess.run([*command, "--network", arguments.network], check=True)


if __name__ == "__main__":
    main()
