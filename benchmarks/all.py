"""All figures of speed: translation, training step, start-up, memory, export parity.

Translation on a CPU: every runtime and precision beside a plain eager PyTorch loop.

The network is the published U-Net of pix2pix, with fresh weights whose normalisation
statistics are those of noise. The plain loop is what the common implementations do: one tile
after the other, eagerly, on the same threads. Beside it stands `streets`, the model that comes
with the package, from array to image. All run in turn, in one process; the ratio is taken
repeat by repeat.

The training step is that of `training_step.py`.

    python benchmarks/all.py [--threads 2] [--repeats 5] [--scene FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sat2map.export.export import export_model
from sat2map.export.int8 import Calibration
from sat2map.model.folder import ModelCard, build_generator, load_model, save_model
from sat2map.networks.normalisation import recalibrate
from sat2map.networks.specs import UNetSpec
from sat2map.translation.translator import Translator, load
from training_step import compare

TILE = 256
SHAPES = ((1, 256), (4, 256), (16, 256), (1, 512), (1, 1024), (1, 2048))
"""Batch and side in pixels."""


def make_models(folder: Path) -> None:
    """Write the published U-Net, and its exports in float32 and int8."""
    torch.manual_seed(0)
    spec = UNetSpec()
    network = build_generator(spec)
    noise = np.random.default_rng(0).integers(0, 256, (8, TILE, TILE, 3), dtype=np.uint8)
    values = torch.from_numpy(noise).permute(0, 3, 1, 2).float() / 127.5 - 1
    recalibrate(network, [values[:4]])
    card = ModelCard(generator=spec, normalisation="of noise", resolution_m=(1, 1))
    save_model(folder / "model", network.eval(), card)
    (folder / "noise").mkdir()
    for i, image in enumerate(noise):
        Image.fromarray(image).save(folder / "noise" / f"{i}.png")
    export_model(folder / "model", folder / "float32", "openvino")
    export_model(folder / "model", folder / "int8", "openvino", Calibration(folder / "noise"))
    export_model(folder / "model", folder / "onnx", "onnx")
    export_model(folder / "model", folder / "onnx_int8", "onnx", Calibration(folder / "noise"))


def plain_loop(network: torch.nn.Module) -> Callable[[NDArray[np.uint8]], None]:
    """Return the plain eager loop over the tiles of uint8 [N,H,W,3]."""

    def run(source: NDArray[np.uint8]) -> None:
        values = torch.from_numpy(source).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            for top in range(0, source.shape[1], TILE):
                for left in range(0, source.shape[2], TILE):
                    for tile in values[:, :, top : top + TILE, left : left + TILE]:
                        answer = network(tile[None])
                        ((answer + 1) * 127.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    return run


def measure(
    competitors: dict[str, Callable[[], object]], repeats: int, plain: str = "plain loop"
) -> dict[str, dict[str, Any]]:
    """Run all in turn and return seconds, and how many times faster than the plain loop."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for repeat in range(repeats + 1):
        for name, run in competitors.items():
            begun = time.perf_counter()
            run()
            if repeat > 0:  # the first one warms up
                seconds[name].append(time.perf_counter() - begun)
    return {
        name: {
            "seconds": spread(taken),
            "ratio": spread([a / b for a, b in zip(seconds[plain], taken, strict=True)]),
        }
        for name, taken in seconds.items()
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def run_python(*arguments: str | Path, environment: dict[str, str]) -> bytes:
    """Run a Python of its own and return what it wrote to its error output."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stderr


def start_up(folder: Path, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return seconds of whole commands, each in a process of its own, and of their imports.

    Python's `-X importtime` tells those, in runs of their own since it slows them. As after an
    installation, nothing is compiled to bytecode but in the first run, which does not count.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    photo, target = folder / "noise" / "0.png", folder / "map.png"
    commands: dict[str, list[str | Path]] = {
        "sat2map --help": ["--help"],
        "translate, int8 files": ["translate", photo, target, "--model", folder / "int8"],
        "translate, torch": [
            *("translate", photo, target, "--model", folder / "model", "--runtime", "torch")
        ],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    imports: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, arguments in commands.items():
            begun = time.perf_counter()
            run_python("-m", "sat2map", *arguments, environment=environment)
            ended = time.perf_counter()
            told = run_python(
                *("-X", "importtime", "-m", "sat2map", *arguments), environment=environment
            )
            if repeat > 0:
                taken[name].append(ended - begun)
                own = re.findall(rb"import time: +(\d+) \|", told)
                imports[name].append(sum(map(int, own)) / 1e6)
    return {
        name: {"whole": spread(taken[name]), "imports": spread(imports[name])} for name in commands
    }


def peak_memory(folder: Path, model: str, runtime: str, side: int) -> float:
    """Return the peak memory in MiB of a process that translates one image."""
    code = (
        "import pathlib, re, numpy, sat2map\n"
        f"model = sat2map.load({str(folder / model)!r}, 'cpu', runtime={runtime!r})\n"
        f"model.translate(numpy.zeros(({side}, {side}, 3), numpy.uint8))\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"  # getrusage knows the parent's
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def translate_scene(translator: Translator, scene: Path, folder: Path) -> None:
    from sat2map.translation.scene import translate_raster

    translate_raster(scene, folder / "map.tif", translator)


def plain_scene(run: Callable[[NDArray[np.uint8]], None], scene: Path) -> None:
    """Cut a scene into tiles, as the plain loop has it, and run them."""
    import rasterio

    with rasterio.open(scene) as file:
        pixels = file.read([1, 2, 3]).transpose(1, 2, 0)
    wanted = [(0, -length % TILE) for length in pixels.shape[:2]]
    run(np.pad(pixels, [*wanted, (0, 0)], "symmetric")[None])


def benchmark(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    make_models(folder)
    model = load_model(folder / "model")
    run = plain_loop(model.network)
    where: dict[str, tuple[str, Any]] = {
        "torch": ("model", "torch"),
        "OpenVINO float32": ("float32", "openvino"),
        "OpenVINO int8": ("int8", "openvino"),
        "ONNX Runtime float32": ("onnx", "onnx"),
        "ONNX Runtime int8": ("onnx_int8", "onnx"),
    }
    translators = {
        name: load(folder / place, "cpu", runtime=runtime, threads=arguments.threads)
        for name, (place, runtime) in where.items()
    }
    shipped = load("streets", "cpu", threads=arguments.threads)
    rows: dict[str, Any] = {}
    for batch, side in SHAPES:
        if side > arguments.most:
            continue
        size = (batch, side, side, 3)
        source = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
        competitors: dict[str, Callable[[], object]] = {"plain loop": lambda s=source: run(s)}  # type: ignore[misc]
        for name, translator in translators.items():
            competitors[name] = lambda t=translator, s=source: t._runtime.run(s, ["colours"])  # type: ignore[misc]
        competitors["streets, to the image"] = lambda s=source: [*map(shipped.translate, s)]  # type: ignore[misc]
        rows[f"{batch} x {side}"] = measure(competitors, arguments.repeats)
    if arguments.scene is not None:
        scenes: dict[str, Callable[[], object]] = {
            "plain loop": lambda: plain_scene(run, arguments.scene)
        }
        for name, translator in translators.items():
            scenes[name] = lambda t=translator: translate_scene(t, arguments.scene, folder)  # type: ignore[misc]
        scenes["streets"] = lambda: translate_scene(shipped, arguments.scene, folder)
        rows["scene, to the file"] = measure(scenes, arguments.repeats)
    window = np.random.default_rng(2).integers(0, 256, (TILE, TILE, 3), dtype=np.uint8)
    exact = translators["torch"].predict(window)
    return {
        "machine": machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "translation": rows,
        "parity": {
            name: float(np.abs(translator.predict(window) - exact).max())
            for name, translator in translators.items()
        },
        "training": [compare(batch, arguments.repeats) for batch in (1, 4)],
        "start_up": start_up(folder, arguments.repeats),
        "memory_mib": {
            name: peak_memory(folder, place, runtime, 1024)
            for name, (place, runtime) in where.items()
        },
        "memory_of_this_process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def machine() -> str:
    """Return what the processor is called and which wide arithmetic it has."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = next(
        (line.partition(":")[2].strip() for line in facts.splitlines() if "model name" in line), "?"
    )
    flags = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return f"{name}, {os.cpu_count()} cores, {' '.join(f for f in flags if f in facts)}"


def table(result: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [
        f"{result['machine']}; {result['threads']} threads; torch {result['torch']}",
        "",
        "times the plain loop's throughput, minimum / median / maximum",
    ]
    for shape, rows in result["translation"].items():
        plain = rows["plain loop"]["seconds"]["median"]
        lines.append(f"{shape} (plain loop: {plain * 1000:.0f} ms)")
        for name, figures in rows.items():
            r = figures["ratio"]
            if name != "plain loop":
                lines.append(f"  {name:24}{r['min']:7.2f} /{r['median']:6.2f} /{r['max']:6.2f}")
    lines += ["", "training step, times the plain loop's images per second at batch 1"]
    for row in result["training"]:
        r = row["speedup"]
        name = f"batch {row['batch']}"
        lines.append(f"  {name:24}{r['min']:7.2f} /{r['median']:6.2f} /{r['max']:6.2f}")
    lines += ["", "largest difference to torch, of [-1, 1]"]
    lines += [f"  {name:22}{value:.2g}" for name, value in result["parity"].items()]
    lines += ["", "seconds of a whole command and of its imports, minimum / median / maximum"]
    for name, kinds in result["start_up"].items():
        columns = (f"{s['min']:7.2f} /{s['median']:6.2f} /{s['max']:6.2f}" for s in kinds.values())
        lines.append(f"  {name:22}{'  '.join(columns)}")
    lines += ["", "peak memory of a process that translates 1024 x 1024 pixels, MiB"]
    lines += [f"  {name:22}{value:7.0f}" for name, value in result["memory_mib"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most", type=int, default=2048, help="largest side in pixels")
    parser.add_argument("--scene", type=Path, help="a GeoTIFF of three bands, 1 m per pixel")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with TemporaryDirectory() as folder:
        os.environ["SAT2MAP_CACHE"] = str(Path(folder) / "cache")
        result = benchmark(arguments, Path(folder))
    print(table(result))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
