"""What a batch costs beside the work of its scenes.

    python benchmarks/batch.py [--scenes 2000] [--side 64] [--workers 1 2] [--model streets]
                               [--ray auto]
    python benchmarks/batch.py --rows 100000
    python benchmarks/batch.py --items 40

The first makes so many scenes of a procedural town, translates them as a batch with each number of
workers, and compares the bytes of the maps. Printed are the seconds by the clock; those that
workers were busy with scenes; the overhead, which is the clock's seconds times the workers, from
the first scene that is done to the last, without those; what the driver's processor spent on each
scene; and the most memory that the driver took. `--model nothing` makes a network that does next to
nothing, so that what is left is the rest. `--ray` does the same on a Ray cluster as well.

The second writes a manifest of so many rows and tells how long it takes to write, to read, and to
tell the status. The third makes so many scenes in this process, as a worker does, with a network
that does next to nothing, and tells the processor's time for each.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import numpy as np
import rasterio
from rasterio.transform import Affine

from sat2map.batch.item import Item, Making, make_scene, open_model
from sat2map.batch.lease import take_lease
from sat2map.batch.manifest import WRITER, Row
from sat2map.batch.options import BatchOptions
from sat2map.batch.run import batch_status, run_batch
from sat2map.journal import claim
from sat2map.legend import STREETS
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import CompactSpec
from sat2map.towns import draw_town


def write_scenes(folder: Path, count: int, side: int) -> None:
    """Write scenes that are parts of one town."""
    whole = max(side, 1024)
    photo = draw_town(whole, seed=1).photo
    dice = np.random.default_rng(0)
    for number in range(count):
        top, left = dice.integers(0, whole - side + 1, 2)
        place = folder / f"{number // 1000}" / f"{number:06}.tif"
        place.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            place,
            "w",
            driver="GTiff",
            height=side,
            width=side,
            count=3,
            dtype="uint8",
            photometric="rgb",
            crs="EPSG:32633",
            transform=Affine(1, 0, 400_000 + left, 0, -1, 5_000_000 - top),
        ) as file:
            file.write(photo[top : top + side, left : left + side].transpose(2, 0, 1))


def model_of_no_size(folder: Path) -> Path:
    """Write a model whose network does next to nothing."""
    spec = CompactSpec(channels=[4, 4, 8], colours=STREETS.colours.tolist())
    card = ModelCard(generator=spec, normalisation="none", legend=STREETS, resolution_m=(0.5, 2))
    save_model(folder, build_generator(spec), card)
    return folder


def contents(out: Path) -> str:
    """Return a fingerprint of the bytes of all maps."""
    whole = hashlib.sha256()
    for path in sorted(out.rglob("*.tif")):
        whole.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def run_scenes(count: int, side: int, workers: list[int], model: str, ray: str | None) -> None:
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_scenes(folder / "scenes", count, side)
        chosen = str(model_of_no_size(folder / "none")) if model == "nothing" else model
        engines = dict.fromkeys((None, ray))
        for cluster, each in itertools.product(engines, workers):
            out = folder / f"out{each}-{'local' if cluster is None else 'ray'}"
            began, spent_before = time.monotonic(), time.process_time()
            first: list[float] = []

            def note(done: int, total: int, first: list[float] = first) -> None:
                if done and not first:  # the workers have started, and one scene is done
                    first.append(time.monotonic())

            run_batch(
                folder / "scenes",
                out,
                chosen,
                BatchOptions(),
                workers=each,
                progress=note,
                ray=cluster,
            )
            ended, driver = time.monotonic(), time.process_time() - spent_before
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            told = batch_status(out)
            busy = told["seconds"] * (count - each) / count
            spent = (ended - (first[0] if first else began)) * each
            print(
                f"{each} workers{' on Ray' if cluster else ''}: {ended - began:.1f} s in all, the "
                f"first scene after {(first[0] if first else ended) - began:.1f}; "
                f"{told['pixels'] / 1e6:.1f} Mpx; "
                f"scenes {told['seconds']:.1f} s; overhead {(spent - busy) / busy:+.1%}, "
                f"{(spent - busy) / count * 1e3:.1f} ms a scene; maps {contents(out)}; "
                f"driver {driver / count * 1e3:.1f} ms of the processor a scene, {most:.0f} MiB",
                flush=True,
            )


def run_items(count: int, side: int) -> None:
    """Tell what a worker's processor spends for a scene, in this process."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_scenes(folder / "scenes", count, side)
        model = model_of_no_size(folder / "none")
        with take_lease(folder / "out") as lease:
            making = Making(
                folder / "out", lease.number, str(model), "", BatchOptions(), folder / "scratch"
            )
            began = time.process_time()
            translator = open_model(making.model, making.options)
            opened = time.process_time()
            for number, scene in enumerate(sorted((folder / "scenes").rglob("*.tif"))):
                item = Item(f"{number}.tif", str(scene))
                assert make_scene(making, translator, item, "w1", Event()).kind == "done"
            ended = time.process_time()
        print(
            f"{opened - began:.2f} s of the processor to open the model, "
            f"{(ended - opened) / count * 1e3:.1f} ms for a scene"
        )


def run_rows(count: int) -> None:
    with TemporaryDirectory() as place:
        out = Path(place) / "out"
        rows = [
            Row(
                f"{number // 1000}/{number:06}.tif",
                f"{number // 1000}/{number:06}.tif",
                "done",
                tries=1,
                seconds=12.5,
                pixels=100_000_000,
                files={f"{number // 1000}/{number:06}.tif": f"{number:064x}"},
                fingerprint={"files": [f"{number:06}.tif"], "of": {"bytes": 1}, "told": None},
                features=("x86_64", "avx2"),
            )
            for number in range(count)
        ]
        with claim(out, WRITER, {"model": "streets"}) as journal:
            journal.start()
            began = time.process_time()
            for start in range(0, count, 8):  # as a driver of eight workers does
                journal.note({row.name: row.to_json() for row in rows[start : start + 8]})
            written = time.process_time()
        size = (out / ".sat2map" / "done.jsonl").stat().st_size
        told = batch_status(out)
        read = time.process_time()
        assert told["states"]["done"] == count
        print(
            f"{count:,} rows, {size / 1e6:.0f} MB: {count / (written - began):,.0f} rows written a "
            f"second of the processor; status {read - written:.2f} s"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", default="nothing")
    parser.add_argument("--ray", metavar="auto|ADDRESS")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--items", type=int)
    chosen = parser.parse_args()
    if chosen.items:
        run_items(chosen.items, chosen.side)
    elif chosen.rows:
        run_rows(chosen.rows)
    else:
        run_scenes(chosen.scenes, chosen.side, chosen.workers, chosen.model, chosen.ray)
