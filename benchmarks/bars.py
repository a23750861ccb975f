"""The bars of speed: what is aimed at and what is reached, side by side in one run.

    python benchmarks/bars.py [--threads 2] [--repeats 5] [--rows NAME ...] [--isa avx2]
        [--keep-memory] [--geoai-python PYTHON]

Every row is one thing that sat2map does beside what it is compared with, in turn and in one process
where nothing else is said. The ratio is taken turn by turn; printed are minimum, median and maximum
by the clock, beside the bar, and the same of the processor's time, which other work on the machine
disturbs less. The first turn warms up and does not count.

The rows:

- `scene`: a scene of 4,096 x 4,096 pixels from file to Cloud Optimized GeoTIFF with `streets`, and
  a plain loop of the published U-Net, eagerly in torch and on as many threads, over its 256 tiles
  side by side. The loop only runs the network, on pixels in memory; it is timed on some of the
  tiles, and scaled.
- `bare`: the same scene, and no more than reading it and writing the pixels of the map as the same
  kind of file. Here the ratio is the whole over that.
- `fine`: ground at 0.25 m whose overviews are means, to a map at the model's resolution; the same
  ground at 0.5 m plus no more than reading those overviews.
- `tile`: one image of 256 x 256 pixels from array to image with `streets`, and the eager U-Net.
- `unet`: the published U-Net, exported in int8, alone, and eagerly in torch.
- `memory`: the most that a process takes for a scene of 40,000 x 40,000 pixels, as the operating
  system counts it (`VmHWM`), and for one of 4,000. Of the large scene only four rows and columns
  of windows have values, so that it takes minutes and not an hour: the rest is nodata, which is not
  run. `--whole` fills all of it.
- `start`: `sat2map translate` of one small image, the whole process, when it is not the first, and
  `python -c "import numpy, rasterio, openvino"`.
- `peer`: a scene of 2,048 x 2,048 pixels from file to file with `streets`, and geoai-py's
  `predict_geotiff` with the same weights, in torch and in windows as large that overlap as much.
  geoai-py brings many packages along, so it has an environment of its own, whose Python
  `--geoai-python` names (`python -m venv DIR; DIR/bin/pip install geoai-py`); without, nothing is
  measured. Its start and its imports do not count. A second row has sat2map in torch as well, so
  that it tells nothing of int8.
- `training`: one step at batch 4, and in bf16 where the processor has that; see
  `training_step.py`.

The scene is a procedural town of 1,024 x 1,024 pixels, mirrored until it fills the side.

The eager U-Net takes up to 1.6 times as long while the C library gives memory back after each
layer, as it does in a script of its own, until the process has once freed a large block
(`sat2map.memory.keep_freed_memory`). With `--keep-memory` it has from the beginning.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.windows import Window

import sat2map
from all import TILE, machine, plain_loop, spread
from instructions import LIMITS
from sat2map.export.export import export_model
from sat2map.export.int8 import Calibration
from sat2map.memory import keep_freed_memory
from sat2map.model.card import model_folder
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.normalisation import recalibrate
from sat2map.networks.specs import UNetSpec
from sat2map.raster.options import SceneOptions
from sat2map.runtimes.openvino import has_bf16
from sat2map.towns.write import draw_town
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import load
from training_step import compare

SIDE = 4096
BLOCK = 1024
"""Side of the town that a scene is made of."""
LOOPED = 16
"""How many tiles of the scene the plain loop is timed on."""
LARGE = 40_000
SMALL = 4_000
FINE = 4096
"""Side of the scene at 0.25 m."""
SHARED = 2048
"""Side of the scene that the peer gets too."""

COG = {
    "driver": "COG",
    "compress": "deflate",
    "predictor": "yes",
    "overview_resampling": "average",
    "num_threads": "all_cpus",
}

MEASURE = """
import pathlib, re, sat2map
photo = pathlib.Path({0!r})
model = sat2map.load("streets", "cpu", threads={1})
sat2map.translate_raster(photo, photo.with_name("large_map.tif"), model)
photo.with_name("large_map.tif").unlink()
status = pathlib.Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024)
"""
"""Prints the peak memory of a process of its own, in MiB, which imports no torch."""

PEER = """
import sys, time, torch
from pathlib import Path
from geoai.inference import predict_geotiff
from sat2map.model.folder import load_model
model, photo, target, threads, window, overlap = sys.argv[1:]
torch.set_num_threads(int(threads))
network = load_model(Path(model)).network
begun, worked = time.perf_counter(), time.process_time()
predict_geotiff(
    network, photo, target, tile_size=int(window), overlap=int(overlap), batch_size=1,
    input_bands=[1, 2, 3], num_classes=3, preprocess_fn=lambda pixels: pixels / 127.5 - 1,
    device="cpu", verbose=False,
)
print(time.perf_counter() - begun, time.process_time() - worked)
"""
"""Prints what a scene takes geoai-py, by the clock and of the processor, run by its own Python."""

Row = dict[str, Any]
Taken = dict[str, list[tuple[float, float]]]
"""By competitor the seconds of each turn, by the clock and of the processor."""


class Bench:
    """What the rows have in common.

    Args:
        folder: Where files are made.
        threads: How many threads everything gets.
        repeats: How many turns count.
        whole: Whether all of the large scene has values.
        geoai: The Python that has geoai-py, or None.
    """

    def __init__(
        self, folder: Path, threads: int, repeats: int, *, whole: bool, geoai: Path | None
    ) -> None:
        self.folder, self.threads, self.repeats, self.whole = folder, threads, repeats, whole
        self.geoai = geoai
        self.town = draw_town(BLOCK, 2027).photo
        self.streets = load("streets", "cpu", threads=threads)
        torch.manual_seed(0)
        self.unet = build_generator(UNetSpec())
        noise = np.random.default_rng(0).integers(0, 256, (8, TILE, TILE, 3), dtype=np.uint8)
        values = torch.from_numpy(noise).permute(0, 3, 1, 2).float() / 127.5 - 1
        recalibrate(self.unet, [values[:4]])
        self.unet.eval()
        self.loop = plain_loop(self.unet)

    def scene(self) -> list[Row]:
        """Return the rows `scene` and `bare`."""
        photo, target, copied = (
            self.folder / name for name in ("scene.tif", "map.tif", "copied.tif")
        )
        write_scene(photo, self.town, SIDE, 1.0)
        count = (SIDE // TILE) ** 2
        tiles = self.town[: 4 * TILE, : 4 * TILE]
        assert tiles.size == LOOPED * TILE * TILE * 3
        taken = in_turn(
            {
                "ours": lambda: translate_raster(photo, target, self.streets),
                "plain": lambda: self.loop(tiles[None]),
                "bare": lambda: read_and_write(photo, target, copied),
            },
            self.repeats,
        )
        taken["plain"] = [(a * count / LOOPED, b * count / LOOPED) for a, b in taken["plain"]]
        return [
            row(
                f"scene {SIDE} to the file, times a plain loop (of {LOOPED} tiles, scaled)",
                ratios(taken, "plain", "ours"),
                12,
                taken=taken,
            ),
            row(
                "the same, over bare reading and writing",
                ratios(taken, "ours", "bare"),
                3,
                less=True,
            ),
        ]

    def fine(self) -> list[Row]:
        """Return the row `fine`."""
        fine, coarse = self.folder / "fine.tif", self.folder / "coarse.tif"
        target = self.folder / "map.tif"
        write_scene(fine, self.town, FINE, 0.25)
        with rasterio.open(fine, "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.average)
        with rasterio.open(fine) as file:
            pixels = file.read(out_shape=(3, FINE // 2, FINE // 2), resampling=Resampling.average)
        write_scene(coarse, pixels.transpose(1, 2, 0), FINE // 2, 0.5)
        options = SceneOptions(resolution="model")
        taken = in_turn(
            {
                "fine": lambda: translate_raster(fine, target, self.streets, options),
                "overviews": lambda: read_all(fine, overview_level=0),
                "coarse": lambda: translate_raster(coarse, target, self.streets, options),
            },
            self.repeats,
        )
        both = zip(taken["overviews"], taken["coarse"], strict=True)
        taken["both"] = [(a[0] + b[0], a[1] + b[1]) for a, b in both]
        return [
            row(
                f"{FINE} at 0.25 m, over the ground at 0.5 m and reading overviews",
                ratios(taken, "fine", "both"),
                1,
                less=True,
                taken=taken,
            )
        ]

    def tile(self) -> list[Row]:
        """Return the row `tile`."""
        tile = np.ascontiguousarray(self.town[:TILE, :TILE])
        taken = in_turn(
            {
                "ours": lambda: many(lambda: self.streets.translate(tile), 5),
                "plain": lambda: many(lambda: self.loop(tile[None]), 5),
            },
            self.repeats,
        )
        named = "translate of one tile of 256, times the U-Net"
        return [row(named, ratios(taken, "plain", "ours"), 20, taken=taken)]

    def published(self) -> list[Row]:
        """Return the row `unet`."""
        card = ModelCard(generator=UNetSpec(), normalisation="of noise", resolution_m=(1, 1))
        save_model(self.folder / "model", self.unet, card)
        (self.folder / "noise").mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (8, TILE, TILE, 3), dtype=np.uint8)
        for i, image in enumerate(noise):
            Image.fromarray(image).save(self.folder / "noise" / f"{i}.png")
        calibration = Calibration(self.folder / "noise")
        export_model(self.folder / "model", self.folder / "int8", "openvino", calibration)
        runtime = load(self.folder / "int8", "cpu", threads=self.threads)._runtime
        tile = self.town[None, :TILE, :TILE]
        taken = in_turn(
            {
                "ours": lambda: many(lambda: runtime.run(tile, ["colours"]), 5),
                "plain": lambda: many(lambda: self.loop(tile), 5),
            },
            self.repeats,
        )
        named = "the U-Net exported in int8, alone, times eager"
        return [row(named, ratios(taken, "plain", "ours"), 7, taken=taken)]

    def memory(self) -> list[Row]:
        """Return the rows `memory`."""
        peaks = {}
        for side in (SMALL, LARGE):
            photo = self.folder / f"{side}.tif"
            write_large(photo, self.town, side, whole=self.whole)
            peaks[side] = float(run_python("-c", MEASURE.format(str(photo), self.threads)))
            photo.unlink()
        named = f"peak memory, {LARGE:,} x {LARGE:,}"
        return [
            row(f"{named}, MiB", [(peaks[LARGE],)], 1000, less=True),
            row(f"{named} over {SMALL:,}", [(peaks[LARGE] / peaks[SMALL],)], 1.05, less=True),
        ]

    def start(self) -> list[Row]:
        """Return the row `start`."""
        photo, target = self.folder / "small.png", self.folder / "small_map.png"
        Image.fromarray(self.town[:TILE, :TILE]).save(photo)
        imports = "import numpy, rasterio, openvino"
        taken = in_turn(
            {
                "ours": lambda: run_python("-m", "sat2map", "translate", photo, target),
                "imports": lambda: run_python("-c", imports),
                "help": lambda: run_python("-m", "sat2map", "--help"),
            },
            self.repeats,
        )
        named = "translate of one image, over imports"
        return [
            row(named, ratios(taken, "ours", "imports"), 1.6, less=True, taken=taken),
            row("--help, seconds", taken["help"], 0.15, less=True),
        ]

    def peer(self) -> list[Row]:
        """Return the rows `peer`."""
        named = f"a scene of {SHARED} to the file, times geoai-py with the same weights in torch"
        if self.geoai is None:
            return [row(f"{named} (no --geoai-python)", [], 3)]
        photo, target, theirs = (self.folder / f"{name}.tif" for name in ("peer", "map", "theirs"))
        write_scene(photo, self.town, SHARED, 1.0)
        frame = self.streets.frame(SceneOptions().window)
        assert frame is not None
        command = [self.geoai, "-c", PEER, model_folder("streets"), photo, theirs, self.threads]
        command += [frame.size, 2 * frame.halo]
        source = Path(sat2map.__file__).parent.parent
        environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        in_torch = load("streets", "cpu", runtime="torch", threads=self.threads)
        ours: dict[str, Callable[[], object]] = {
            "ours": lambda: translate_raster(photo, target, self.streets),
            "in torch": lambda: translate_raster(photo, target, in_torch),
        }
        taken: Taken = {"ours": [], "in torch": [], "geoai": []}
        for _ in range(self.repeats):
            for name, turns in in_turn(ours, 1).items():
                taken[name] += turns
            done = subprocess.run(
                list(map(str, command)), check=True, capture_output=True, text=True, env=environment
            )
            clock, worked = map(float, done.stdout.split()[-2:])
            taken["geoai"].append((clock, worked))
        return [
            row(named, ratios(taken, "geoai", "ours"), 3, taken=taken),
            row("the same, ours in torch too", ratios(taken, "geoai", "in torch"), 3),
        ]

    def training(self) -> list[Row]:
        """Return the rows `training`."""
        rows = []
        for precision in ("f32", "bf16-mixed") if has_bf16() else ("f32",):
            found = compare(4, self.repeats, [f"training.precision={precision}"])
            both = (found[name] for name in ("speedup", "processor_speedup"))
            clock, worked = ([told[key] for key in ("min", "median", "max")] for told in both)
            named = f"a training step at batch 4 in {precision}, times a plain loop"
            rows.append(row(named, list(zip(clock, worked, strict=True)), 2))
        return rows


ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "scene": Bench.scene,
    "fine": Bench.fine,
    "tile": Bench.tile,
    "unet": Bench.published,
    "start": Bench.start,
    "peer": Bench.peer,
    "training": Bench.training,
    "memory": Bench.memory,
}


def row(
    name: str,
    values: Sequence[tuple[float, ...]],
    bar: float,
    *,
    less: bool = False,
    taken: Taken | None = None,
) -> Row:
    """Return one row: minimum, median and maximum, and whether the median reaches the bar.

    Args:
        name: What is measured.
        values: What is measured of each turn, by the clock, and then of the processor's time;
            empty where nothing was.
        bar: What is aimed at.
        less: Whether less is better.
        taken: What the ratio is of.
    """
    found = [spread(list(each)) for each in zip(*values, strict=True)]
    clock, worked = [*found, None, None][:2]
    reached = None
    if clock is not None:
        reached = clock["median"] <= bar if less else clock["median"] >= bar
    seconds = {
        who: [spread(list(each)) for each in zip(*turns, strict=True)]
        for who, turns in (taken or {}).items()
    }
    return {
        "name": name,
        "bar": bar,
        "less": less,
        "reached": reached,
        "clock": clock,
        "processor": worked,
        "seconds": seconds,
    }


def in_turn(competitors: dict[str, Callable[[], object]], repeats: int) -> Taken:
    """Run all in turn, once to warm up and then as often as told."""
    taken: Taken = {name: [] for name in competitors}
    for repeat in range(repeats + 1):
        for name, run in competitors.items():
            begun, worked = time.perf_counter(), processor_time()
            run()
            if repeat > 0:
                now = time.perf_counter() - begun, processor_time() - worked
                taken[name].append(now)
    return taken


def processor_time() -> float:
    """Return the seconds that processors worked for this process and those that it ran."""
    return sum(os.times()[:4])


def ratios(taken: Taken, one: str, other: str) -> list[tuple[float, float]]:
    """Return by turn how many times longer one took than the other, by the clock and processor."""
    turns = zip(taken[one], taken[other], strict=True)
    return [(a[0] / b[0], a[1] / max(b[1], 1e-2)) for a, b in turns]


def many(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def run_python(*arguments: object) -> str:
    """Run a Python of its own, and return what it printed.

    As after an installation, nothing is compiled to bytecode but in the first turn.
    """
    command = [sys.executable, *map(str, arguments)]
    compiled = str(Path(os.environ["SAT2MAP_CACHE"]).with_name("bytecode"))
    environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def mirrored(town: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return uint8 [side,side,3], filled by mirroring."""
    return np.pad(town, [(0, side - length) for length in town.shape[:2]] + [(0, 0)], "symmetric")


def write_scene(path: Path, town: NDArray[np.uint8], side: int, metres: float) -> None:
    """Write a scene whose ground is a town, mirrored until it fills the side."""
    with rasterio.open(path, "w", **facts(side, metres)) as file:
        file.write(mirrored(town, side).transpose(2, 0, 1))


def write_large(path: Path, town: NDArray[np.uint8], side: int, *, whole: bool) -> None:
    """Write a scene block by block, as a sparse file where it has no values.

    Unless it is whole or small, the first two and the last two rows and columns of blocks have
    values.
    """
    count = -(-side // BLOCK)
    ends = {0, 1, count - 2, count - 1}
    turned = [[town[::up, ::along].transpose(2, 0, 1) for along in (1, -1)] for up in (1, -1)]
    sparse = {"nodata": 0, "sparse_ok": True}
    with rasterio.open(path, "w", **facts(side, 1.0), **sparse) as file:
        for i in range(count):
            for j in range(count):
                if whole or i in ends or j in ends:
                    height, width = (min(BLOCK, side - k * BLOCK) for k in (i, j))
                    window = Window(j * BLOCK, i * BLOCK, width, height)
                    file.write(turned[i % 2][j % 2][:, :height, :width], window=window)


def facts(side: int, metres: float) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "width": side,
        "height": side,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32631",
        "transform": Affine(metres, 0, 500_000, 0, -metres, 5_400_000),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "predictor": 2,
        "photometric": "rgb",
        "bigtiff": "if_safer",
    }


def read_all(path: Path, **options: object) -> None:
    """Read a raster strip by strip."""
    with rasterio.open(path, **options) as file:
        for top in range(0, file.height, 512):
            file.read(window=Window(0, top, file.width, min(512, file.height - top)))


def read_and_write(photo: Path, map_: Path, target: Path) -> None:
    """Read a photo, and write the pixels of its map as the same kind of file."""
    read_all(photo)
    rasterio.shutil.copy(map_, target, **COG)


def table(rows: list[Row], threads: int, repeats: int, isa: str | None = None) -> str:
    """Return the rows for people, as a table of Markdown."""
    limited = "" if isa is None else f"; no more than {isa} is used"
    lines = [
        f"{machine()}{limited}; {threads} threads; torch {torch.__version__}; {repeats} turns",
        "",
        "| minimum / median / maximum | by the clock | of the processor's time | bar | |",
        "|---|---|---|---|---|",
    ]
    for one in rows:
        clock, worked = figures(one["clock"]), figures(one["processor"])
        bar = f"at {'most' if one['less'] else 'least'} {one['bar']:g}"
        reached = {True: "reached", False: "missed", None: "not measured"}[one["reached"]]
        lines.append(f"| {one['name']} | {clock} | {worked} | {bar} | {reached} |")
    lines += ["", "seconds by the clock, and of the processor:"]
    for one in rows:
        for who, (clock, worked) in one["seconds"].items():
            lines.append(f"  {one['name']}, {who}: {figures(clock)}; {figures(worked)}")
    return "\n".join(lines)


def figures(found: dict[str, float] | None) -> str:
    """Return minimum, median and maximum, or the one number that all of them are."""
    if found is None:
        return ""
    told = [f"{found[name]:#.3g}".rstrip(".") for name in ("min", "median", "max")]
    return told[0] if found["min"] == found["max"] else " / ".join(told)


def limit_instructions(isa: str) -> None:
    """Begin anew in an environment where nothing wider is used, unless this one is it."""
    limits = LIMITS[isa]
    if not limits.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | limits)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--whole", action="store_true", help="fill all of the large scene")
    parser.add_argument(
        "--isa", choices=sorted(LIMITS), help="as on a processor that has no more than it"
    )
    parser.add_argument(
        "--keep-memory", action="store_true", help="the loops keep memory between layers"
    )
    parser.add_argument("--geoai-python", type=Path, help="the Python that has geoai-py")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if arguments.isa is not None:
        limit_instructions(arguments.isa)
    if arguments.keep_memory:
        keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        os.environ["SAT2MAP_CACHE"] = str(Path(folder) / "cache")
        bench = Bench(
            Path(folder),
            arguments.threads,
            arguments.repeats,
            whole=arguments.whole,
            geoai=arguments.geoai_python,
        )
        for name in arguments.rows:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += ROWS[name](bench)
    print(table(rows, arguments.threads, arguments.repeats, arguments.isa))
    if arguments.json is not None:
        facts = {
            "machine": machine(),
            "isa": arguments.isa,
            "threads": arguments.threads,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
