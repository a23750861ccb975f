"""What every verb of the command line makes, as hashes: the same before and after a change?

    python benchmarks/outputs.py OUT.json [--keep FOLDER] [--compare OLD.json]
        [--only PATTERN ...] [--model FOLDER]

Runs `python -m sat2map` (and nothing else of sat2map) on a small town that is drawn here, and
takes the SHA-256 of the decoded pixels and values of each output: not of files, so that another
compressor or another order of keys is no difference. `--keep` keeps texts and small arrays, so
that `--compare` of a later run says by how much an output differs. `--only` runs some outputs,
such as "translate *"; the others are left out of the comparison. `--model` takes another model
than the shipped `streets`: give both runs the same folder where the shipped one has changed
between them, for example `OTHER/src/sat2map/models/streets`.

Compare runs of one machine and of the same versions of torch, OpenVINO and GDAL; another
processor rounds differently. `PYTHONPATH=OTHER/src` runs another checkout. Takes some three
minutes of one core's time. The exit status is 1 where an output differs or a command failed.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from outputs_inputs import Inputs, serving
from outputs_values import Values, decode, difference, hash_of, tidy_json, under

TRANSLATIONS: dict[str, tuple[str, str, str]] = {
    "scene": ("scene", "map.tif", ""),
    "scene, torch": ("scene", "map.tif", "--runtime torch"),
    "scene, legend colours": ("scene", "map.tif", "--legend-colours --attribution Somebody"),
    "PNG and side by side": ("small", "map.png", "--compare"),
    "JPEG of legend colours": ("small", "map.jpg", "--legend-colours"),
    "PMTiles": ("scene", "map.pmtiles", "--attribution Somebody"),
    "MBTiles of legend colours": ("small", "map.mbtiles", "--legend-colours"),
    "tile tree": ("nodata", "tiles/{z}/{x}/{y}.png", ""),
    "shipped style": ("small", "map.tif", "--style osm"),
    "colours of a file": ("small", "map.tif", "--style {inputs.colours} --legend-colours"),
    "mask": ("scene", "map.tif", "--mask {inputs.mask}"),
    "bbox": ("scene", "map.tif", "--bbox 13.397,52.519,13.405,52.523"),
    "at the model's resolution": ("fine", "map.tif", "--resolution model"),
    "at 2.5 m": ("small", "map.tif", "--resolution 2.5"),
    "finer than the model knows": ("fine", "map.tif", "--legend-colours"),
    "nodata": ("nodata", "map.tif", ""),
    "alpha": ("alpha", "map.tif", ""),
    "palette": ("palette", "map.tif", ""),
    "degrees": ("degrees", "map.tif", ""),
    "uint16, stretched": ("deep", "map.tif", "--bands 3,2,1 --stretch 1,99"),
    "uint16, a range": ("deep", "map.tif", "--bands 3,2,1 --range 300,2600"),
    "PNG with a world file": ("world", "map.tif", ""),
    "VRT": ("vrt", "map.tif", ""),
    "mosaic": ("scenes", "map.tif", ""),
    "mosaic to tiles": ("scenes", "map.pmtiles", "--legend-colours"),
    "tree to tree": ("tree", "maps", ""),
    "tree to a map": ("tree", "map.tif", "--legend-colours"),
    "picture": ("picture", "map.png", "--compare"),
    "picture, as published": ("picture", "map.png", "--model {bench.unet} --as-published --seed 3"),
    "picture, converted to OpenVINO": (
        "picture",
        "map.png",
        "--model {bench.unet} --runtime openvino",
    ),
    "picture, a residual network": ("picture", "map.png", "--model {bench.resnet} --runtime torch"),
    "picture, ONNX": ("picture", "map.png", "--model {bench.onnx} --runtime onnx"),
    "pictures": ("pictures", "maps", ""),
}
"""Input, output and options, in which {inputs.NAME} is an input and {bench.NAME} a model."""

U_NET = (
    "data.size=64 data.resize=72 generator.base_channels=8 discriminator.base_channels=8 "
    "discriminator.strided_layers=2"
)
SHORT = (
    "training.max_steps=3 training.log_steps=1 training.grid_epochs=1 validation.epochs=1 "
    "validation.pictures=2 statistics.pictures=4 statistics.validation_pictures=2"
)

BF16 = "training.precision=bf16-mixed training.channels_last=true"
OTHERS = (
    "data.resize=none data.direction=reverse generator.skips=false training.ema_decay=0.5 "
    "generator.norm=instance_calibrated discriminator.norm=instance "
    "schedule.name=linear schedule.decay_epochs=2 training.epochs=2"
)


class Bench:
    """Runs sat2map in the working directory, and makes what several outputs need, once.

    Attributes:
        inputs: What is given to sat2map.
        model: The model where none is named: a shipped one, or a folder.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.inputs = Inputs(Path("in"))
        self.environment = os.environ | {
            "SAT2MAP_CACHE": str(Path("cache").absolute()),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "COLUMNS": "120",
        }
        self.made = 0

    def command(self, *words: object) -> list[str]:
        """Return a command line: a text is split at its spaces, a path is one word."""
        command = [sys.executable, "-m", "sat2map"]
        for word in words:
            command += word.split() if isinstance(word, str) else [str(word)]
        return command

    def run(self, *words: object, status: int = 0) -> str:
        """Run sat2map, and return what it prints.

        Raises:
            RuntimeError: It ended with another status.
        """
        command = self.command(*words)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != status:
            said = done.stderr.strip().splitlines()[-3:]
            raise RuntimeError(f"{' '.join(command[2:])}: {done.returncode}: {' '.join(said)}")
        return done.stdout

    def new(self) -> Path:
        """Return a new folder."""
        self.made += 1
        folder = Path(f"out{self.made}")
        folder.mkdir()
        return folder

    @functools.cached_property
    def unet(self) -> Path:
        """A U-Net for 128 pixels, imported and calibrated."""
        path = self.new() / "unet"
        options = "--resolution 0.9,2 --calibrate"
        self.run("import -q", self.inputs.unet_checkpoint, path, options, self.inputs.pairs)
        return path

    @functools.cached_property
    def resnet(self) -> Path:
        """A residual network, imported as it is."""
        path = self.new() / "resnet"
        self.run("import -q", self.inputs.resnet_checkpoint, path, "--direction reverse")
        return path

    @functools.cached_property
    def onnx(self) -> Path:
        """The U-Net as ONNX."""
        path = self.new() / "onnx"
        self.run("export -q", self.unet, path, "--format onnx")
        return path

    @functools.cached_property
    def pix2pix(self) -> Path:
        """A run of `pix2pix`."""
        return self.train("pix2pix", U_NET)

    @functools.cached_property
    def compact(self) -> Path:
        """A run of a compact generator that answers in classes."""
        return self.train(self.inputs.recipe, "training.checkpoint_steps=1")

    def train(self, recipe: str | Path, settings: str, *more: object) -> Path:
        """Train three steps, and return the folder of the run."""
        run = self.new() / "run"
        chosen = [word for setting in f"{SHORT} {settings}".split() for word in ("--set", setting)]
        data = ("--data", self.inputs.pairs)
        self.run("train -q --recipe", recipe, *data, "--out", run, *more, *chosen)
        return run

    def translate(self, source: object, target: Path, *options: object, status: int = 0) -> Values:
        """Translate, and return all that is in the folder of `new` that the target lies in."""
        model = () if "--model" in str(options) else ("--model", self.model)
        self.run("translate -q --threads 1", source, target, *model, *options, status=status)
        return decode(Path(target.parts[0]))


def translated(bench: Bench, source: str, target: str, options: str) -> Values:
    more = options.format(bench=bench, inputs=bench.inputs)
    return bench.translate(getattr(bench.inputs, source), bench.new() / target, more)


def interrupted(bench: Bench) -> Values:
    """Stop a translation once it has begun, and go on with it: no pixel tells when."""
    source, target = bench.inputs.scene, bench.new() / "map.tif"
    options = f"--runtime torch --model {bench.model}"
    began = subprocess.Popen(
        bench.command("translate --threads 1", source, target, options),
        env=bench.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert began.stderr is not None
    for line in began.stderr:
        if "px" in line:
            began.send_signal(signal.SIGINT)
            break
    began.communicate()
    return bench.translate(source, target, options, "--resume")


def resumed_folder(bench: Bench) -> Values:
    """Repair a picture that could not be used, and go on: the other maps are left alone."""
    pictures, maps = bench.new() / "pictures", bench.new() / "maps"
    shutil.copytree(bench.inputs.pictures, pictures)
    (pictures / "zebra.png").write_bytes(b"no picture yet")
    bench.translate(pictures, maps, status=1)
    before = {path: path.stat().st_mtime_ns for path in maps.glob("[!.]*")}
    shutil.copy(pictures / "plain.png", pictures / "zebra.png")
    bench.translate(pictures, maps, "--resume")
    kept = sorted(path.name for path, at in before.items() if path.stat().st_mtime_ns == at)
    return {"left alone": "\n".join(kept), **decode(maps)}


def resumed_training(bench: Bench) -> Values:
    """Train again from the last step but one, in a copy of a finished run."""
    run = bench.new() / "run"
    shutil.copytree(bench.compact, run)
    shutil.rmtree(run / "model")
    sorted((run / "checkpoints").iterdir())[-1].unlink()
    recipe = shutil.copy(run / "recipe.toml", run.parent / "resolved.toml")
    bench.run("train -q --resume --recipe", recipe, "--data", bench.inputs.pairs, "--out", run)
    return decode(run)


def synthetic(bench: Bench, options: str) -> Values:
    folder = bench.new() / "towns"
    bench.run("data synthetic -q", folder, options)
    return decode(folder)


def demo(bench: Bench) -> Values:
    folder = bench.new() / "demo"
    bench.run("demo -q", folder, "--model", bench.model)
    return {name: value for name, value in decode(folder).items() if not name.startswith("scene/")}


def exported(bench: Bench, model: Path, *options: object) -> Values:
    folder = bench.new() / "exported"
    said = bench.run("export -q --json", model, folder, *options)
    return {"stdout": tidy_json(said), **decode(folder)}


def evaluated(bench: Bench, model: object, options: str) -> Values:
    report = bench.new() / "report"
    words = ("--data", bench.inputs.pairs, "--report", report, "--threads 1 --json", options)
    said = bench.run("evaluate -q", model, *words)
    return {"stdout": tidy_json(said), **decode(report)}


def info(bench: Bench) -> Values:
    values: Values = {
        "model": bench.run("info", bench.model),
        "unet": tidy_json(bench.run("info --json", bench.unet)),
        "onnx": tidy_json(bench.run("info --json", bench.onnx)),
        "alpha": bench.run("info", bench.inputs.alpha),
    }
    for name in ("deep", "scenes", "tree"):
        told = bench.run("info --json", getattr(bench.inputs, name), "--model", bench.model)
        values[name] = tidy_json(told)
    return values


def imported(bench: Bench) -> Values:
    return under("unet", decode(bench.unet)) | under("resnet", decode(bench.resnet))


def from_server(bench: Bench, command: str, target: str) -> Values:
    """Fetch something of a server on this machine, whose address is left out of the values."""
    path = bench.new() / target
    with serving(bench.inputs.served) as address:
        bench.run(command.replace("ADDRESS", address), path)
        values = decode(path.parent)
    return {
        name: value.replace(address, "http://server") if isinstance(value, str) else value
        for name, value in values.items()
    }


def chips(bench: Bench, *words: object) -> Values:
    folder = bench.new() / "chips"
    bench.run("data chips -q --workers 1", *words, folder)
    return decode(folder)


def chips_of_the_scene(bench: Bench, style: str) -> Values:
    inputs = bench.inputs
    sources = ("--imagery", inputs.scene, "--vectors", inputs.vectors)
    return chips(bench, *sources, "--size 256 --style", style)


def chips_with_options(bench: Bench) -> Values:
    inputs = bench.inputs
    sources = ("--imagery", inputs.scene, "--vectors", inputs.vectors, "--clouds", inputs.clouds)
    places = "--size 128 --random 12 --seed 2 --val 0.2 --buffer 16 --min-mapped 0.05"
    more = "--resolution 0.8 --licence ours --shift=-1.5,2 --preview"
    return chips(bench, *sources, "--style", inputs.own_style, places, more)


def chips_of_many_sources(bench: Bench) -> Values:
    inputs = bench.inputs
    imagery = ("--imagery", inputs.deep, "--imagery", inputs.scenes, "--imagery", inputs.tree)
    vectors = f"--vectors {inputs.houses}=building --vectors {inputs.mask}=water"
    return chips(bench, *imagery, vectors, "--bands 3,2,1 --range 0,2600 --size 64")


OUTPUTS: dict[str, Callable[[Bench], Values]] = {
    **{
        f"translate {name}": functools.partial(
            translated, source=source, target=target, options=options
        )
        for name, (source, target, options) in TRANSLATIONS.items()
    },
    "translate an interrupted scene": interrupted,
    "translate a folder with --resume": resumed_folder,
    "translate a folder with a broken picture": lambda bench: bench.translate(
        bench.inputs.broken, bench.new() / "maps", status=1
    ),
    "translate a scene at an address": lambda bench: from_server(
        bench, f"translate -q --threads 1 ADDRESS/small.tif --model {bench.model}", "map.tif"
    ),
    "train pix2pix": lambda bench: decode(bench.pix2pix),
    "train compact": lambda bench: decode(bench.compact),
    "train with --resume": resumed_training,
    "train from a model": lambda bench: decode(
        bench.train("pix2pix", U_NET, "--init", bench.pix2pix / "model", "--freeze-encoder")
    ),
    "train fast": lambda bench: decode(bench.train("fast", f"{U_NET} training.batch=2")),
    "train bf16, channels last": lambda bench: decode(bench.train("pix2pix", f"{U_NET} {BF16}")),
    "train least squares and others": lambda bench: decode(
        bench.train("least_squares", f"{U_NET} {OTHERS}")
    ),
    "evaluate": lambda bench: evaluated(bench, bench.model, "--size native --split train"),
    "evaluate as published": lambda bench: evaluated(
        bench, bench.unet, "--size 128 --as-published --seed 2"
    ),
    "export to ONNX": lambda bench: exported(bench, bench.unet, "--format onnx"),
    "export to OpenVINO": lambda bench: exported(
        bench, bench.compact / "model", "--format openvino"
    ),
    "export to int8": lambda bench: exported(
        bench, bench.unet, "--format openvino --int8 --size 128 --calibrate", bench.inputs.pairs
    ),
    "export to Deepness": lambda bench: exported(
        bench, bench.compact / "model", "--format deepness --tile 256"
    ),
    "import": imported,
    "info": info,
    "demo": demo,
    "data synthetic pairs": lambda bench: synthetic(bench, "--pairs 3 --size 128 --seed 4"),
    "data synthetic scene": lambda bench: synthetic(bench, "--scene 400 --seed 4"),
    "data osm": lambda bench: from_server(
        bench, "data osm -q --url ADDRESS/interpreter --bbox 13.39,52.51,13.41,52.53", "osm.gpkg"
    ),
    "data imagery": lambda bench: from_server(
        bench,
        "data imagery -q --url ADDRESS/tree/{z}/{x}/{y}.png --zoom 17 --rate 1000 "
        "--attribution Somebody --bbox 13.396,52.515,13.402,52.518",
        "imagery.tif",
    ),
    "data download": lambda bench: from_server(
        bench, "data download -q --base-url ADDRESS/sets maps", "maps"
    ),
    "data chips, streets": lambda bench: chips_of_the_scene(bench, "streets"),
    "data chips, osm": lambda bench: chips_of_the_scene(bench, "osm"),
    "data chips, landcover": lambda bench: chips_of_the_scene(bench, "landcover"),
    "data chips, options": chips_with_options,
    "data chips, many sources": chips_of_many_sources,
}


def without_folders(values: Values) -> Values:
    """Leave out of texts which number a folder had: it depends on what else was run."""
    return {
        name: re.sub(r"\bout\d+\b", "out", value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def kept_parts(values: Values, most: int = 1 << 23) -> dict[str, np.ndarray[Any, Any]]:
    """Return what is kept of an output: texts, and arrays of up to so many bytes."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return {name: array for name, array in arrays.items() if array.nbytes <= most}


def compare(old: dict[str, Any], new: dict[str, Any], values: Values, kept: Path) -> str:
    """Say how an output differs from that of an earlier run; an empty text if it does not.

    Args:
        old: Its entry of the earlier run.
        new: Its entry now.
        values: What it is now.
        kept: The file of what was kept of it; need not be there.
    """
    if "error" in old or "error" in new:
        same = old.get("error") == new.get("error")
        return "" if same else f"was {old.get('error', 'made')}\nis {new.get('error', 'made')}"
    lines: list[str] = []
    before: Any = np.load(kept) if kept.is_file() else {}
    for part in sorted({*old["parts"], *new["parts"]}):
        if part not in new["parts"]:
            lines.append(f"{part}: is gone")
        elif part not in old["parts"]:
            lines.append(f"{part}: is new")
        elif old["parts"][part] != new["parts"][part]:
            how = "differs; it was not kept"
            if part in before:
                array = before[part]
                how = difference(str(array) if array.dtype.kind == "U" else array, values[part])
            lines.append(f"{part}: {how}")
    return "\n".join(lines)


def file_name(name: str) -> str:
    """Return an output's name as that of a file."""
    return re.sub(r"\W+", "-", name)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep texts and small arrays")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="an earlier run")
    parser.add_argument("--model", default="streets", help="streets unless said otherwise")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    folder = Path(arguments.model)
    model = str(folder.absolute()) if folder.is_dir() else arguments.model
    keep = arguments.keep.absolute() if arguments.keep else None
    chosen = [n for n in OUTPUTS if any(fnmatch.fnmatch(n, p) for p in arguments.only)]
    old: dict[str, Any] = {"kept": None, "outputs": {}}
    kept = Path()
    if arguments.compare:
        old = json.loads(arguments.compare.read_text())
        kept = arguments.compare.absolute().parent / (old["kept"] or "nothing")
    result: dict[str, Any] = {
        "versions": {n: version(n) for n in ("torch", "openvino", "rasterio", "numpy", "pillow")},
        "kept": os.path.relpath(keep, out.parent) if keep else None,
        "outputs": {},
    }
    if "PYTHONPATH" in os.environ:  # its folders may be relative
        entries = os.environ["PYTHONPATH"].split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    told: dict[str, str] = {}
    began = time.perf_counter()
    with TemporaryDirectory() as place, chdir(place):
        where = [sys.executable, "-c", "import sat2map; print(sat2map.__file__)"]
        print(subprocess.run(where, check=True, capture_output=True, text=True).stdout, end="")
        bench = Bench(model)
        for name in chosen:
            values: Values = {}
            start = time.perf_counter()
            try:
                values = without_folders(OUTPUTS[name](bench))
                parts = {part: hash_of(value) for part, value in sorted(values.items())}
                entry: dict[str, Any] = {"sha256": hash_of(json.dumps(parts)), "parts": parts}
            except Exception as error:  # the other outputs are made all the same
                entry = {"error": f"{type(error).__name__}: {error}"}
            seconds = time.perf_counter() - start
            print(
                f"{entry.get('sha256', entry.get('error'))}  {name}  ({seconds:.1f} s)", flush=True
            )
            result["outputs"][name] = entry
            if keep is not None and values:
                keep.mkdir(parents=True, exist_ok=True)
                arrays: Any = kept_parts(values)
                np.savez_compressed(keep / f"{file_name(name)}.npz", **arrays)
            if name in old["outputs"]:
                before = kept / f"{file_name(name)}.npz"
                told[name] = compare(old["outputs"][name], entry, values, before)
    out.write_text(json.dumps(result, indent=1) + "\n")
    failed = sum("error" in entry for entry in result["outputs"].values())
    print(f"{len(chosen)} outputs in {time.perf_counter() - began:.0f} s, {failed} failed")
    apart = {name: how for name, how in told.items() if how}
    if arguments.compare:
        if old["versions"] != result["versions"]:
            print(f"the versions differ: {old['versions']} became {result['versions']}")
        for name, how in apart.items():
            print(f"\n{name}\n" + "\n".join(f"    {line}" for line in how.splitlines()))
        new = ", ".join(name for name in chosen if name not in told) or "none"
        print(f"\n{len(told) - len(apart)} are the same, {len(apart)} differ; new: {new}")
    return 1 if failed or apart else 0


if __name__ == "__main__":
    sys.exit(main())
