"""A whole scene: memory, temporary disk and time at several sizes, and what the network costs.

    python benchmarks/scene.py size [SIDE ...] [--network trivial|published|tenth] [--sink tif]
    python benchmarks/scene.py overhead [SIDE] [--network published|tenth] [--repeats N]

Of `size`, each scene is translated in a process of its own, whose peak memory is that of the
whole command, as the operating system counts it (`VmHWM`). Temporary
disk is the most that lay in the hidden folder beside the map at once, open files without a name
and the unfinished map included, less the size of the map: the room that is needed beyond it.

Of `overhead`, the network alone answers as many windows as the scene has, then the scene is
translated, in turn and in one process; the ratio is of the time from the first window read to
the last strip written. Start-up, and what makes the final file of the strips, stand apart.
Processor time is that of all threads: on a machine with other work it says more than the clock.

The trivial network answers what it is given, so what is measured is everything else. The
published one is the U-Net of pix2pix, "tenth" the same with a tenth of its operations; both
are untrained, which costs the same.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from torch import Tensor, nn

import sat2map.translation.scene as command
from sat2map.model.folder import Model, ModelCard, build_generator
from sat2map.networks.specs import UNetSpec
from sat2map.raster.options import SceneOptions
from sat2map.translation.pipeline import blended
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator
from sat2map.translation.windows import lay_windows

TILE = 512
NETWORKS = ("trivial", "published", "tenth")
SINKS = {"tif": "map.tif", "mbtiles": "map.mbtiles", "pmtiles": "map.pmtiles", "png": "map.png"}


class Trivial(nn.Module):
    """Answers what it is given."""

    multiple = 256

    def forward(self, source: Tensor) -> Tensor:
        """Return the source."""
        return source


def write_scene(path: Path, side: int) -> None:
    """Write a scene of blocks with some noise, tile by tile."""
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
        zlevel=1,
        photometric="rgb",
        **facts,
    ) as file:
        for row in range(0, side, TILE):
            for column in range(0, side, TILE):
                random = np.random.default_rng((row, column))
                blocks = random.integers(0, 252, (3, TILE // 16, TILE // 16), np.uint8)
                tile = np.kron(blocks, np.ones((1, 16, 16), np.uint8))
                tile += random.integers(0, 4, tile.shape, np.uint8)
                height, width = min(TILE, side - row), min(TILE, side - column)
                window = Window(column, row, width, height)
                file.write(tile[:, :height, :width], window=window)


def translator(network: str) -> Translator:
    """Return a translator at 1 m per pixel."""
    spec = UNetSpec(base_channels=20 if network == "tenth" else 64)
    card = ModelCard(generator=spec, normalisation="none", resolution_m=(1, 1))
    module = Trivial() if network == "trivial" else build_generator(spec)
    return Translator(Model(module, card, Path(network)), "cpu")


class Stages:
    """Notes when the strips of a map are done and the final file begins."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        names = vars(command)

        def noted(finish: Any) -> Any:
            def run(*arguments: Any) -> None:
                self.wall, self.processor = time.perf_counter(), time.process_time()
                finish(*arguments)

            return run

        names |= {name: noted(names[name]) for name in ("write_raster", "write_tiles")}


class Peak:
    """The highest of what `measure` returns while a `with` block runs.

    Args:
        measure: What is asked.
        every: How often, seconds.
    """

    def __init__(self, measure: Callable[[], float], every: float) -> None:
        self.peak = 0.0
        self._measure = measure
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            self.peak = max(self.peak, self._measure())


def on_disk(folder: Path) -> int:
    """Return the bytes in a folder, and in this process's open files without a name."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_blocks * 512
            except FileNotFoundError:  # gone in the meantime
                continue
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if " (deleted)" in str(entry.readlink()):
                total += entry.stat().st_blocks * 512
        except (FileNotFoundError, OSError):
            continue
    return total


def peak_memory(process: int | str = "self") -> float:
    """Return the peak memory of a process in MiB.

    `getrusage` is of no use for one that another has started: it counts from the other's.
    """
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return 0.0 if found is None else int(found[1]) / 2**10


def size(source: Path, network: str, sink: str) -> str:
    """Translate a scene and return a line of figures."""
    began = time.perf_counter()
    model, stages, target = translator(network), Stages(), source.with_name(SINKS[sink])
    with Peak(lambda: on_disk(target.with_name(f".{target.name}.partial")), 0.1) as disk:
        loaded = time.perf_counter()
        translate_raster(source, target, model)
    windows, finish = stages.wall - loaded, time.perf_counter() - stages.wall
    memory = peak_memory()
    output = target.stat().st_size
    beyond = disk.peak - output
    with rasterio.open(source) as file:
        pixels = file.width * file.height / 1e6
    return (
        f"{network:9} {pixels:7.1f} Mpx {memory:6.0f} MiB peak  "
        f"{beyond / 2**20:7.1f} MiB beyond {output / 2**20:7.1f} MiB of map "
        f"({beyond / output:.2f} x)  {loaded - began:4.1f} s loading {windows:7.1f} s windows "
        f"{finish:6.1f} s final file  {pixels / windows:5.2f} Mpx/s"
    )


def overhead(source: Path, network: str, repeats: int) -> str:
    """Return the ratio of the whole to the network alone, as median and range."""
    model, stages, options = translator(network), Stages(), SceneOptions()
    with rasterio.open(source) as file:
        axes = [
            lay_windows(side, side, *blended(options), model.multiple, 256)
            for side in (file.height, file.width)
        ]
    windows = [(row.span.size, column.span.size) for row in axes[0] for column in axes[1]]
    image = np.random.default_rng(0).integers(0, 256, (*windows[0], 3), dtype=np.uint8)
    model.predict(image)
    ratios: list[tuple[float, float]] = []
    alone: list[float] = []
    final: list[float] = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        for height, width in windows:
            model.predict(np.resize(image, (height, width, 3)))
        alone.append(time.perf_counter() - wall)
        network_cost = time.process_time() - processor
        wall, processor = time.perf_counter(), time.process_time()
        translate_raster(source, source.with_name("map.tif"), model, options)
        final.append(time.perf_counter() - stages.wall)
        ratios.append(
            (
                (stages.wall - wall) / alone[-1],
                (stages.processor - processor) / network_cost,
            )
        )
    clock, cost = zip(*ratios, strict=True)
    return (
        f"{network:9} {len(windows)} windows, network alone {statistics.median(alone):.1f} s; "
        f"whole / network {spread(clock)} by the clock, {spread(cost)} in processor time; "
        f"final file {statistics.median(final):.1f} s"
    )


def spread(values: tuple[float, ...]) -> str:
    """Return the median with the range."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("size", "overhead"))
    parser.add_argument("sides", nargs="*", type=int)
    parser.add_argument("--network", choices=NETWORKS, default="published")
    parser.add_argument("--sink", choices=SINKS, default="tif")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scene is not None:
        print(size(arguments.scene, arguments.network, arguments.sink))
        return
    for side in arguments.sides or ([4000, 12000] if arguments.what == "size" else [3000]):
        with TemporaryDirectory() as folder:
            scene = Path(folder) / "scene.tif"
            write_scene(scene, side)
            if arguments.what == "overhead":
                print(overhead(scene, arguments.network, arguments.repeats))
                continue
            command_line = [sys.executable, __file__, "size", "--scene", str(scene)]
            command_line += ["--network", arguments.network, "--sink", arguments.sink]
            subprocess.run(command_line, check=True)


if __name__ == "__main__":
    main()
