"""The same network over the same scene: `sat2map translate` beside geoai-py's `predict_geotiff`.

    python -m pip install geoai-py
    python benchmarks/peer.py [SIDE] [--model MODEL] [--repeats N] [--scene FILE]

Both take windows of the same size and overlap, and blend them. Each runs in a process of its
own, in turn; the time is that from the open model to the written map, the peak memory that of
the whole process. The map must hold what the network answers: pixels at the scene's edges that
were left without a value are counted, and so is how far the two maps are apart elsewhere.

Without a model it is the published U-Net of pix2pix, untrained, which costs the same.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from rasterio.windows import Window

from sat2map.raster.options import SceneOptions
from sat2map.translation.pipeline import blended
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import load
from scene import peak_memory, translator, write_scene

NODATA = -9999.0
CONTENDERS = ("sat2map", "geoai")


def run(contender: str, source: Path, target: Path, model: Path | None) -> None:
    """Translate a scene, and print seconds and peak memory in MiB."""
    options = SceneOptions(resolution="native")
    window, overlap = blended(options)
    open_model = translator("published") if model is None else load(model, "cpu", runtime="torch")
    if contender == "geoai":
        from geoai.inference import predict_geotiff

        began = time.perf_counter()
        predict_geotiff(
            open_model._model.network,  # type: ignore[union-attr]
            str(source),
            str(target),
            tile_size=window,
            overlap=overlap,
            batch_size=1,
            input_bands=[1, 2, 3],
            num_classes=3,
            output_nodata=NODATA,
            preprocess_fn=lambda pixels: pixels / 127.5 - 1,
            device="cpu",
            verbose=False,
        )
    else:
        began = time.perf_counter()
        translate_raster(source, target, open_model, options)
    print(time.perf_counter() - began, peak_memory())


def compare(ours: Path, theirs: Path) -> str:
    """Return what of the scene has no value, and how far the maps are apart."""
    without, total, apart = 0, 0, 0.0
    with rasterio.open(ours) as one, rasterio.open(theirs) as other:
        for top in range(0, one.height, 512):
            window = Window(0, top, one.width, min(512, one.height - top))
            values = other.read(window=window)
            known = (values != NODATA).all(0)
            image = np.clip(np.rint((values + 1) * 127.5), 0, 255)
            apart += np.abs(image - one.read(window=window))[:, known].sum() / 3
            without += int((~known).sum())
            total += known.size
    return f"{without:,} pixels without a value; apart {apart / (total - without):.2f} of 255"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("side", nargs="?", type=int, default=3000)
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--scene", type=Path, help="a GeoTIFF at a scale that the model knows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        contender, source, target = arguments.run
        run(contender, Path(source), Path(target), arguments.model)
        return
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    with TemporaryDirectory() as name:
        folder = Path(name)
        scene = arguments.scene or folder / "scene.tif"
        if arguments.scene is None:
            write_scene(scene, arguments.side)
        for _ in range(arguments.repeats):
            for contender in CONTENDERS:
                command = [sys.executable, __file__, "--run", contender, str(scene)]
                command.append(str(folder / f"{contender}.tif"))
                command += [] if arguments.model is None else ["--model", str(arguments.model)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds, memory = map(float, done.stdout.split())
                figures[contender].append((seconds, memory))
        for contender, values in figures.items():
            times, peaks = zip(*values, strict=True)
            size = (folder / f"{contender}.tif").stat().st_size / 2**20
            print(
                f"{contender:8} {statistics.median(times):7.1f} s [{min(times):.1f}, "
                f"{max(times):.1f}]  {max(peaks):6.0f} MiB peak  {size:6.1f} MiB of map"
            )
        ratios = [b[0] / a[0] for a, b in zip(*figures.values(), strict=True)]
        print(
            f"geoai / sat2map {statistics.median(ratios):.2f} [{min(ratios):.2f}, "
            f"{max(ratios):.2f}] in time"
        )
        print(f"geoai: {compare(*(folder / f'{contender}.tif' for contender in CONTENDERS))}")


if __name__ == "__main__":
    main()
