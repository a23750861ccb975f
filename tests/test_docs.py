"""What the documentation tells to do can be done.

Every line of a shell block in the README and in docs/ is run at reduced size, in a folder of
its own where what it names as input is put in its place first. A line that this file does not
know how to reduce is a failure, so none is left out silently. Lines of a `text` block that
begin with `sat2map` are synopses: they are run without and with what stands in brackets.
Python blocks are run too.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import itertools
import json
import re
import shlex
import shutil
import socket
import tarfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image
from rasterio.warp import transform
from torch import nn
from typer.testing import CliRunner

from sat2map import recipe as recipes
from sat2map.batch.engine import Event, Returned
from sat2map.batch.item import Item, Making, Work, open_worker
from sat2map.batch.ray_workers import Machine
from sat2map.cli.app import app
from sat2map.evaluation import perceptual
from sat2map.fetch.published import DATA_SETS
from sat2map.legend import COVER, STREETS
from sat2map.model.card import shipped_models
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import CompactSpec, UNetSpec
from sat2map.serve.guard import Guard

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IN_ONE_GO = {"README.md", "docs/tutorial.md", "docs/tutorial-own-region.md"}
"""Pages whose commands stand on each other; elsewhere each block is run by itself."""

CHIPS = {"chips", "pairs", "shifted", "elsewhere-pairs", "small-pairs", "OUT"}
"""Where the pages have chips of imagery and vectors."""

MASKS = {"inria-set", "MASKS"}
"""Where the pages have photos and class masks."""

SYNOPSIS = {
    "--imagery FILE": "--imagery ortho.tif",
    "--vectors FILE": "--vectors shapes.geojson",
    "--mapping FILE": "--mapping mapping.json",
    "--classes DIR": "--classes CLASSES",
    "--classes FILE.tif": "--classes classes.tif",
    "--confidence FILE.tif": "--confidence confidence.tif",
    "--legend-image FILE.png": "--legend-image legend.png",
    "EPSG:CODE": "EPSG:32633",
    "--report DIR": "--report REPORT",
    "CLASS": "building",
    "DX,DY": "1,0",
    "--set section.key=value ...": "--set training.log_steps=1 --set training.seed=2",
    "INPUT OUTPUT": "input.png output.png",
    "verify FILE": "verify map.tif",
    "--source FILE": "--source ortho.tif",
    "CLASSES OUT.gpkg": "classes.tif out.gpkg",
    "INPUT OUT.gpkg": "classes.tif out.gpkg",
    "INPUT OUT.pmtiles": "classes.tif out.pmtiles",
    "INPUT OUT.geojson": "classes.tif out.geojson",
    "PHOTO OUT.gpkg": "ortho.tif out.gpkg",
    "--confidence FILE": "--confidence confidence.tif",
    "report CLASSES": "report classes.tif",
    "FOUND TRUTH --layer buildings|roads": "found.geojson truth.geojson --layer roads",
    "SCENES OUT": "scenes maps",
    "compare MODEL...": "compare MODEL OTHER",
    "SCENE MAP": "input.tif output.tif",
    "SCENE...": "ortho.tif",
    "SCENE": "input.tif",
    "W,S,E,N": "13.4085,52.5191,13.4088,52.5193",
    "CHECKPOINT OUT": "checkpoint.pth OUT",
    "--resolution M": "--resolution 1.9",
    "--max-pixels N": "--max-pixels 5000",
    "--base-url URL": "--base-url http://mirror.example",
    "--url URL/{z}/{x}/{y}.png": "--url http://tiles.example/{z}/{x}/{y}.png",
    "--basemap URL": "--basemap https://tiles.example/{z}/{x}/{y}.png",
    "--url URL": "--url http://overpass.example/api/interpreter",
    "NAME": "osm",
    "TEXT": "Somebody",
    "--zoom Z": "--zoom 16",
    "SIDE": "64",
    "N": "3",
    "S": "4",
}
"""What the placeholders of a synopsis stand for; MODEL, DIR, RUN, OUT are names already."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its shell commands, those of a synopsis written out."""
        lines = [line.strip() for line in self.text.replace("\\\n", " ").splitlines()]
        if self.language == "text":
            synopses = [line for line in lines if line.startswith("sat2map ")]
            return [command for synopsis in synopses for command in written_out(synopsis)]
        if self.language == "sh":
            return [line for line in lines if line and not line.startswith("#")]
        return []

    @property
    def slow(self) -> bool:
        """Whether a command draws a large town, whatever is asked for."""
        return any(command.startswith("sat2map demo") for command in self.commands)


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    language, begun, lines = None, 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.fullmatch(r"```([\w{}-]*)( ipython3)?", line)
        if fence is None:
            lines.append(line)
        elif language is None:
            language, begun, lines = fence[1], number, []
        else:
            found.append(Block(page, begun, language, "\n".join(lines)))
            language = None
    assert language is None, f"{page}: a fence is not closed"
    return found


def written_out(synopsis: str) -> list[str]:
    """Return the commands of a synopsis: without and with its brackets, each alternative."""
    for short, long in SYNOPSIS.items():
        synopsis = re.sub(rf"(?<!\w){re.escape(short)}(?!\w)", long, synopsis)
    shortest = re.sub(r" *\[[^]]*\]", "", synopsis)
    words = [word.split("|") for word in re.sub(r"[\[\]]", "", synopsis).split()]
    return list(dict.fromkeys([shortest, *map(" ".join, itertools.product(*words))]))


def groups() -> Iterator[list[Block]]:
    """Yield the blocks that are run one after the other in one folder."""
    for page in PAGES:
        found = [block for block in blocks(page) if block.commands or block.language == "python"]
        if page.relative_to(ROOT).as_posix() in IN_ONE_GO:
            yield found
        else:
            yield from ([block] for block in found)


# What the commands work on.


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, data_set: Path) -> Path:
    """A folder with a small thing of each kind that a command may name."""
    folder = tmp_path_factory.mktemp("store")
    data_set.rename(folder / "set")
    spec = UNetSpec(size=32, base_channels=2)
    save_model(
        folder / "model",
        build_generator(spec),
        ModelCard(generator=spec, normalisation="never estimated", legend=STREETS),
    )
    compact = CompactSpec(channels=[4, 4, 8], colours=STREETS.colours.tolist())
    save_model(
        folder / "class-model",
        build_generator(compact),
        ModelCard(generator=compact, normalisation="none", legend=STREETS, resolution_m=(0.5, 2)),
    )
    torch.save(foreign_unet(), folder / "checkpoint.pth")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for name in ("image.png", "images/a.jpg", "images/b.png"):
        pixels = random.integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    facts = {"height": 40, "width": 50, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    where = rasterio.Affine(1, 0, 392_000, 0, -1, 5_820_000)
    with rasterio.open(folder / "image.tif", "w", transform=where, **facts) as file:
        file.write(random.integers(0, 255, (3, 40, 50), np.uint8))
    provide_scenes(folder)
    provide_ground(folder)
    provide_masks(folder)
    provide_class_map(folder)
    return folder


def provide_class_map(folder: Path) -> None:
    """Write a class map with its legend, how sure it is, and the legend as a file."""
    numbers = np.zeros((60, 60), np.uint8)
    numbers[20:27], numbers[35:50, 10:25], numbers[30:, 40:] = 2, 1, 3
    facts = {"height": 60, "width": 60, "count": 1, "crs": "EPSG:32633"}
    facts["transform"] = rasterio.Affine(1, 0, 392_000, 0, -1, 5_820_000)
    with rasterio.open(folder / "classes.tif", "w", dtype="uint8", **facts) as file:
        file.write(numbers, 1)
        file.update_tags(SAT2MAP_LEGEND=json.dumps(COVER.to_json()))
    with rasterio.open(folder / "sure.tif", "w", dtype="float32", **facts) as file:
        file.write(np.full((60, 60), 0.8, np.float32), 1)
    (folder / "legend.json").write_text(json.dumps(COVER.to_json()), encoding="utf-8")


def provide_masks(folder: Path) -> None:
    """Write photos and masks of numbers, labelled as many people do, and a data set of them."""
    random = np.random.default_rng(3)
    for name in ("a", "b", "c"):
        photo = random.integers(0, 255, (40, 40, 3), np.uint8)
        mask = random.integers(0, 3, (40, 40), np.uint8)
        for place, pixels in (
            (f"photos/{name}.tif", photo),
            (f"numbers/{name}.tif", mask),
            (f"labelled/{name}.jpg", photo),
            (f"labelled/{name}.png", mask),
            *((f"masks/{split}/source/{name}.png", photo) for split in ("train", "val")),
            *((f"masks/{split}/classes/{name}.png", mask) for split in ("train", "val")),
        ):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / place)
    mapping = {"0": "unknown", "1": "road", "2": "not road"}
    card = {"resolution_m": 0.5, "legend": "cover", "classes": mapping}
    (folder / "masks" / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "mapping.json").write_text(json.dumps(mapping), encoding="utf-8")


def provide_ground(folder: Path) -> None:
    """Write imagery, the buildings on it, and where clouds are."""
    random = np.random.default_rng(2)
    facts = {"height": 96, "width": 96, "dtype": "uint8", "crs": "EPSG:32633"}
    facts["transform"] = rasterio.Affine(1, 0, 392_000, 0, -1, 5_820_000)
    with rasterio.open(folder / "ground.tif", "w", count=3, photometric="rgb", **facts) as file:
        file.write(random.integers(0, 255, (3, 96, 96), np.uint8))
    with rasterio.open(folder / "clouds.tif", "w", count=1, **facts) as file:
        file.write(np.zeros((1, 96, 96), np.uint8))
    features = []
    for x in range(392_000, 392_096, 8):
        for y in range(5_819_904, 5_820_000, 8):
            xs, ys = transform(
                "EPSG:32633", "EPSG:4326", [x, x + 5, x + 5, x, x], [y, y, y + 4, y + 4, y]
            )
            ring = [list(place) for place in zip(xs, ys, strict=True)]
            shape = {"type": "Polygon", "coordinates": [ring]}
            entry = {"type": "Feature", "properties": {"class": "building"}, "geometry": shape}
            features.append(entry)
    collection = {"type": "FeatureCollection", "features": features}
    (folder / "ground.geojson").write_text(json.dumps(collection), encoding="utf-8")


def provide_scenes(folder: Path) -> None:
    """Write adjoining scenes, tiles, and an area in the folder's scene."""
    random = np.random.default_rng(1)
    facts = {"height": 40, "width": 50, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    (folder / "scenes").mkdir()
    for i in range(2):
        where = rasterio.Affine(1, 0, 392_000 + 45 * i, 0, -1, 5_820_000)
        with rasterio.open(folder / f"scenes/{i}.tif", "w", transform=where, **facts) as file:
            file.write(random.integers(0, 255, (3, 40, 50), np.uint8))
        tile = folder / f"tiles/18/{140_800 + i}/86016.png"
        tile.parent.mkdir(parents=True)
        Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)).save(tile)
    ring = [[13.40, 52.51], [13.42, 52.51], [13.42, 52.53], [13.40, 52.53], [13.40, 52.51]]
    area = {"type": "Polygon", "coordinates": [ring]}
    (folder / "area.geojson").write_text(json.dumps(area))
    line = {"type": "LineString", "coordinates": [[13.4, 52.51915], [13.42, 52.51925]]}
    ways = {"type": "Feature", "geometry": line, "properties": {"class": "road"}}
    (folder / "ways.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [ways]})
    )


def foreign_unet() -> dict[str, torch.Tensor]:
    """Weights with the foreign names of a U-Net of five levels, 4 channels wide."""
    weights: dict[str, torch.Tensor] = {}

    def convolution(name: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(*shape, 4, 4) * 0.1

    def norm(name: str, channels: int) -> None:
        for leaf, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            weights[f"{name}.{leaf}"] = torch.full((channels,), float(value))

    channels = [4, 8, 16, 32, 32]
    convolution("model.model.0", 4, 3)
    convolution("model.model.3", 8, 3)
    weights["model.model.3.bias"] = torch.zeros(3)
    block = "model.model.1.model"
    for level in range(1, 5):
        before, inside = channels[level - 1 : level + 1]
        convolution(f"{block}.1", inside, before)
        if level < 4:
            norm(f"{block}.2", inside)
            convolution(f"{block}.5", 2 * inside, before)
            norm(f"{block}.6", before)
        else:
            convolution(f"{block}.3", inside, before)
            norm(f"{block}.4", before)
        block += ".3.model"
    return weights


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An HTTP server with an archive for each published data set."""
    folder = tmp_path_factory.mktemp("server")
    image = io.BytesIO()
    Image.fromarray(np.full((40, 80, 3), 128, np.uint8)).save(image, "png")
    for name in DATA_SETS:
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
            for split in ("train", "val"):
                for number in (1, 2):
                    member = tarfile.TarInfo(f"{name}/{split}/{number}.png")
                    member.size = len(image.getvalue())
                    archive.addfile(member, io.BytesIO(image.getvalue()))

    (folder / "tile.png").write_bytes(tile_of_noise())

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/tiles/"):
                self.path = "/tile.png"
            super().do_GET()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            street = [{"lat": 52.5191, "lon": 13.4085}, {"lat": 52.5193, "lon": 13.4088}]
            way = {"type": "way", "id": 1, "geometry": street, "tags": {"highway": "primary"}}
            body = json.dumps({"elements": [way]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def tile_of_noise() -> bytes:
    """A tile of a map service, PNG."""
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
    Image.fromarray(noise).save(file, "png")
    return file.getvalue()


class MeanColour(nn.Module):
    """Stands in for Inception, whose weights would be fetched."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(2, 3)) / 255


class MeanDifference(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, generated: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        return (generated - true).abs().mean(dim=(1, 2, 3))


def _answered_once(
    app: Guard, listening: socket.socket, _: object, ready: Callable[[], None]
) -> None:
    """Ask a server in place of running it until somebody ends it."""
    from fastapi.testclient import TestClient

    ready()
    listening.close()
    client = TestClient(app, base_url="http://localhost")
    token = {"Authorization": f"Bearer {app._access.token}"}
    scenes = client.get("/scenes", headers=token).json()["scenes"]
    assert scenes
    for scene in scenes:
        answer = client.get(f"/scenes/{scene['id']}/WMTSCapabilities.xml", headers=token)
        assert answer.status_code == 200


@pytest.fixture(autouse=True)
def servers_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers be asked once and end without this process, and browsers stay closed."""
    monkeypatch.setattr("sat2map.serve.run.run_server", _answered_once)
    monkeypatch.setattr("sat2map.cli.serve._leave_threads", lambda: None)
    monkeypatch.setattr("webbrowser.open", lambda _: True)


class WorkerHere:
    """The worker of a batch in this process, which saves its start."""

    def __init__(self, making: Making, scenes: int, **_: object) -> None:
        self._work = open_worker(making, "w1")
        self._events: list[Event] = []

    def free(self) -> list[str]:
        return ["w1"]

    def alive(self) -> int:
        return 1

    def send(self, worker: str, item: Item) -> None:
        self._events.append(Returned(worker, item, self._work(item, threading.Event())))

    def wait(self, timeout_s: float) -> list[Event]:
        found, self._events = self._events, []
        return found

    def stop(self) -> None: ...

    def close(self) -> None: ...


class ClusterHere(WorkerHere):
    """A Ray cluster of one worker in this process; tests/batch/test_ray.py has a real one."""

    machines = (Machine(1, 8e9),)

    def __init__(self, address: str) -> None:
        self._events = []

    def start(self, opener: Callable[[str], Work], count: int, plan: object) -> None:
        self._work = opener("w1")

    def __enter__(self) -> ClusterHere:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches be made in this process; tests/batch starts others."""
    monkeypatch.setattr("sat2map.batch.run._start_local", WorkerHere)
    monkeypatch.setattr("sat2map.batch.run.RayWorkers", ClusterHere)


@pytest.fixture
def perceptual_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = functools.partial(
        perceptual.measure, features=MeanColour(), distance=MeanDifference()
    )
    monkeypatch.setattr("sat2map.evaluation.perceptual.measure", measure)
    monkeypatch.setattr("sat2map.evaluation.perceptual.require_extra", lambda: None)


# Running them.


def option(arguments: list[str], name: str) -> str:
    """Return the value of an option."""
    assert name in arguments, f"{arguments} lacks {name}"
    return arguments[arguments.index(name) + 1]


def reduced(recipe: str, settings: list[str]) -> list[str]:
    """Return settings that make a run of a recipe small and leave it what it is."""
    full = recipes.load_recipe(recipe, settings)  # it is valid as it is written
    strided = full.discriminator.strided_layers
    size = {4: 64, 5: 128}.get(strided, 32)
    small = [
        f"data.size={size}",
        "generator.base_channels=2",
        "generator.channels=[4, 4, 8]",
        "discriminator.base_channels=2",
        "schedule.decay_epochs=1",
        "training.epochs=1",
        "training.max_steps=2",
        "validation.pictures=1",
        "statistics.pictures=2",
        "statistics.validation_pictures=1",
    ]
    return small if full.data.resize is None else [*small, f"data.resize={size + 4}"]


class Shell:
    """Runs the commands of a page in the current folder, each made small."""

    def __init__(self, store: Path, server: str) -> None:
        self._store, self._server = store, server

    def run(self, command: str) -> None:
        """Run one line, or fail where it is of no known kind."""
        match shlex.split(command):
            case ["sat2map", *arguments]:
                self._sat2map(arguments)
            case ["make", target]:
                targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
                assert target in targets, f"the Makefile has no target {target}"
            case ["pip", "install", what]:
                project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
                named = re.fullmatch(r"\.(?:\[([\w,]+)\])?", what)
                assert named, f"what is {what}?"
                extras = set() if named[1] is None else set(named[1].split(","))
                assert extras <= set(project["optional-dependencies"])
            case ["torchrun", "--nproc-per-node", _, "-m", *arguments]:
                self.run(shlex.join(arguments))  # tests/training/test_processes.py starts several
            case ["tensorboard", "--logdir", "runs"]:
                assert importlib.util.find_spec("tensorboard") is not None
            case _:
                pytest.fail(f"how is this run at reduced size? {command}")

    def _sat2map(self, arguments: list[str]) -> None:
        settings = [b for a, b in itertools.pairwise(arguments) if a == "--set"]
        more: list[str] = []
        produced: list[str] = []
        ends = 0 if arguments else 2  # 2 with the help, as click does
        match arguments:
            case ["data", "synthetic", directory, *_]:
                for name, value in (("--pairs", "2"), ("--size", "32"), ("--scene", "64")):
                    if name in arguments:
                        more += [name, value]  # the last one counts
                kinds = {"--pairs": "dataset.json", "--scene": "scene.tif"}
                produced = [f"{directory}/{f}" for name, f in kinds.items() if name in arguments]
            case ["data", "download", _, directory, *_]:
                more = ["--base-url", self._server]
                produced = [f"{directory}/dataset.json"]
            case ["data", "chips", *_]:
                out = next(word for word in arguments[2:] if word in CHIPS)
                for name, value in itertools.pairwise(arguments):
                    if name == "--imagery":
                        self._provide(value, "ground.tif")
                    elif name == "--vectors":
                        self._provide(value.partition("=")[0], "ground.geojson")
                    elif name == "--clouds":
                        self._provide(value, "clouds.tif")
                shutil.rmtree(out, ignore_errors=True)  # of an earlier line
                side = "16" if "--bbox" in arguments else "32"
                more = ["--size", side, "--min-mapped", "0", "--workers", "1"]
                produced = [f"{out}/dataset.json", f"{out}/index.parquet"]
            case ["data", "masks", images, out, *_]:
                for folder in (images, out):
                    shutil.rmtree(folder, ignore_errors=True)  # of an earlier line
                self._provide(images, "photos" if "--classes" in arguments else "labelled")
                if "--classes" in arguments:
                    self._provide(option(arguments, "--classes"), "numbers")
                if "--mapping" in arguments:
                    self._provide(option(arguments, "--mapping"), "mapping.json")
                    produced = [f"{out}/dataset.json"]
                else:
                    ends = 1  # it lists the values and asks what they mean; `main` ends with 2
                if "--val" in arguments:
                    more = ["--val", "0.5"]
            case ["data", "osm", *_]:
                more = ["--url", f"{self._server}/api/interpreter"]
                produced = [word for word in arguments if word.endswith(".gpkg")]
            case ["data", "imagery", *_]:
                more = ["--url", self._server + "/tiles/{z}/{x}/{y}.png", "--rate", "1000"]
                more += ["--zoom", "15"]
                produced = [word for word in arguments if word.endswith(".tif")]
            case ["train", *_]:
                run, name = option(arguments, "--out"), option(arguments, "--recipe")
                if "--resume" not in arguments:
                    shutil.rmtree(run, ignore_errors=True)  # of an earlier line
                for place, word in enumerate(arguments):
                    if word == "--data":
                        data = arguments[place + 1]
                        self._provide(data, "masks" if data in MASKS else "set")
                if "--init" in arguments:
                    self._provide(option(arguments, "--init"), "model")
                more = [word for s in reduced(name, settings) for word in ("--set", s)]
                produced = [f"{run}/model/model.json", f"{run}/recipe.toml"]
            case ["evaluate", model, *_]:
                self._provide(model, "model")
                data = option(arguments, "--data")
                self._provide(data, "masks" if data in MASKS else "set")
                for name in ("--report", "--save"):
                    if name in arguments:
                        produced.append(f"{option(arguments, name)}/index.html")
            case ["compare", one, other, *_]:
                for model in (one, other):
                    self._provide(model, "model")
                data = option(arguments, "--data")
                self._provide(data, "masks" if data in MASKS else "set")
                if "--save" in arguments:
                    produced = [f"{option(arguments, '--save')}/index.html"]
            case ["translate", source, target, *_]:
                suffix = Path(source).suffix
                if source.startswith("https://"):  # no test asks the world
                    arguments[1] = source = Path(source).name
                root = source.partition("/{z}")[0]
                kind = {"scenes": "scenes", "aerial_tiles": "tiles"}.get(root, "images")
                self._provide(root, f"image{suffix}" if root == source and suffix else kind)
                if "--mask" in arguments:
                    self._provide(option(arguments, "--mask"), "area.geojson")
                if "--model" in arguments:
                    model = "class-model" if "--classes" in arguments else "model"
                    self._provide(option(arguments, "--model"), model)
                produced = [target.partition("/{z}")[0]]
                for name in ("--classes", "--confidence"):
                    if name in arguments:
                        produced.append(option(arguments, name))
                if "--compare" in arguments:
                    produced += [f"{Path(target).with_suffix('')}.compare{Path(target).suffix}"]
            case ["batch", "--status", out, *_]:
                self._provide("scenes", "scenes")
                self.run(f"sat2map batch scenes {out} --runtime torch")
            case ["batch", scenes, out, *_]:
                shutil.rmtree(out, ignore_errors=True)  # of an earlier line
                self._provide(scenes, "scenes")
                model, kind = "model", "class-model"
                if "--samples" in arguments:
                    model, kind = "with-dropout", "model"
                self._provide(model, kind)
                more = ["--model", model, "--runtime", "torch"]
                produced = [f"{out}/0.tif", f"{out}/1.tif"]
            case ["evaluate-vectors", found, truth, *_]:
                for file in (found, truth):
                    self._provide(file, "ways.geojson")
            case ["report", classes, *_]:
                self._provide(classes, "classes.tif")
                self._provide("legend.json", "legend.json")
                if "--zones" in arguments:
                    self._provide(option(arguments, "--zones"), "area.geojson")
                if "--html" in arguments:
                    produced = [option(arguments, "--html")]
            case ["vectors", classes, out, *_]:
                photo = classes == "ortho.tif"
                self._provide(classes, "image.tif" if photo else "classes.tif")
                if "--model" in arguments:
                    kind = "model" if "--samples" in arguments else "class-model"
                    self._provide(option(arguments, "--model"), kind)
                if "--confidence" in arguments:
                    self._provide(option(arguments, "--confidence"), "sure.tif")
                if "--legend" in arguments and option(arguments, "--legend").endswith(".json"):
                    self._provide(option(arguments, "--legend"), "legend.json")
                produced = [out]
            case ["verify", what, *_]:
                if "--model" in arguments:
                    self._provide(option(arguments, "--model"), "model")
                if what == "country":  # which another model made than the page's
                    more = ["--model", "model"]
                if what == "map.tif" and ("--model" in arguments or not Path(what).exists()):
                    self._provide("ortho.tif", "image.tif")
                    model = option(arguments, "--model") if "--model" in arguments else "streets"
                    self.run(f"sat2map translate ortho.tif {what} --model {model}")
            case ["serve", *scenes]:
                for name in scenes[: next(i for i, s in enumerate([*scenes, "-"]) if s[0] == "-")]:
                    if name.endswith(".pmtiles"):
                        self.run(f"sat2map vectors classes.tif {name}")
                        continue
                    kind = {"flights": "scenes"}.get(name, "image.tif")
                    self._provide(name, "classes.tif" if name == "classes.tif" else kind)
                if "--model" in arguments:
                    self._provide(option(arguments, "--model"), "class-model")
                more = ["--port", "0"]
            case ["import", checkpoint, out, *_]:
                self._provide(checkpoint, "checkpoint.pth")
                if "--calibrate" in arguments:
                    folder = option(arguments, "--calibrate")
                    self._provide(folder, "images" if folder == "photos" else "set")
                shutil.rmtree(out, ignore_errors=True)  # of an earlier line
                produced = [f"{out}/model.json"]
            case ["export", model, out, *_]:
                self._provide(model, "model")
                if "--calibrate" in arguments:
                    self._provide(option(arguments, "--calibrate"), "set")
                shutil.rmtree(out, ignore_errors=True)  # of an earlier line
                deepness = option(arguments, "--format") == "deepness"
                produced = [f"{out}/deepness.onnx" if deepness else f"{out}/model.json"]
            case ["info", described, *_]:
                if described not in shipped_models():
                    self._provide(described, "image.tif" if ".tif" in described else "model")
                if "--model" in arguments:
                    self._provide(option(arguments, "--model"), "model")
            case ["demo", *rest]:
                if "--model" in arguments:
                    self._provide(option(arguments, "--model"), "model")
                directory = "demo" if not rest or rest[0].startswith("-") else rest[0]
                produced = [f"{directory}/index.html"]
            case ["--version"] | ["--help"] | ["cache", *_] | ["doctor", *_] | []:
                pass
            case _:
                pytest.fail(f"how is this run at reduced size? sat2map {shlex.join(arguments)}")
        result = CliRunner().invoke(app, [*arguments, *more])
        said = f"sat2map {shlex.join(arguments)}: {result.output} {result.exception!r}"
        assert result.exit_code == ends, said
        for path in produced:
            assert Path(path).exists(), f"{said} there is no {path}"

    def _provide(self, name: str, kind: str) -> None:
        """Put a thing of the store where a command expects it, unless one is there."""
        place = Path(name)
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if (self._store / kind).is_dir():
            shutil.copytree(self._store / kind, place)
        else:
            shutil.copy(self._store / kind, place)

    def python(self, block: Block) -> None:
        """Run a Python block; what its recipes train is made small."""
        for name, kind in (
            ("photo.png", "image.png"),
            ("ortho.tif", "image.tif"),
            ("classes.tif", "classes.tif"),
            ("towns", "set"),
            ("maps", "set"),
            ("runs/first/model", "model"),
            ("runs/maps/model", "model"),
        ):
            if name in block.text:
                self._provide(name, kind)
        if '"country"' in block.text:
            self.run("sat2map batch scenes country")
        for exported, kind in (("exported", "onnx"), ("for_openvino", "openvino")):
            if f'"{exported}/model.' in block.text:
                self._provide("runs/maps/model", "model")
                self.run(f"sat2map export runs/maps/model {exported} --format {kind}")
        exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})


@pytest.fixture
def small_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what `load_recipe` returns to a Python block small."""
    load = recipes.load_recipe

    def load_small(name: str, settings: list[str] | None = None) -> recipes.Recipe:
        return load(name, [*(settings or []), *reduced(name, settings or [])])

    monkeypatch.setattr("sat2map.load_recipe", load_small, raising=False)


@pytest.mark.usefixtures("perceptual_stand_ins", "small_recipes")
@pytest.mark.parametrize(
    "group",
    [
        pytest.param(
            group,
            id=group[0].name,
            marks=[pytest.mark.slow] if any(block.slow for block in group) else [],
        )
        for group in groups()
    ],
)
def test_what_the_pages_say_can_be_done(
    group: list[Block],
    store: Path,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(group[0].page):
        if block.language == "toml" and block.text.startswith("# "):
            first = block.text.partition("\n")[0]
            Path(first.removeprefix("# ")).write_text(block.text, encoding="utf-8")
    shell = Shell(store, server)
    for block in group:
        if block.language == "python":
            shell.python(block)
        for command in block.commands:
            shell.run(command)


def test_every_block_is_of_a_kind_that_is_checked(tmp_path: Path) -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("{eval-rst}", "{code-cell}"):
                continue  # tests/test_site.py builds it
            assert block.language in {"sh", "text", "python", "toml", "json", "yaml"}, block.name
            if block.language == "yaml":
                assert isinstance(yaml.safe_load(block.text), dict), block.name
            if block.language == "toml":
                path = tmp_path / "recipe.toml"
                path.write_text(block.text, encoding="utf-8")
                recipes.load_recipe(str(path))


def test_every_verb_is_shown() -> None:
    commands = [c for page in PAGES for block in blocks(page) for c in block.commands]
    for verb in (
        "train",
        "evaluate",
        "translate",
        "export",
        "import",
        "info",
        "demo",
        "data synthetic",
    ):
        assert any(command.startswith(f"sat2map {verb}") for command in commands), verb


def test_an_unknown_line_is_a_failure(store: Path, server: str) -> None:
    for line in ("sat2map frobnicate", "curl http://example.com", "pip install .[nothing]"):
        with pytest.raises((pytest.fail.Exception, AssertionError)):
            Shell(store, server).run(line)


def test_a_synopsis_is_written_out() -> None:
    assert written_out("sat2map evaluate MODEL --data DIR [--size 256|native] [--seed N]") == [
        "sat2map evaluate MODEL --data DIR",
        "sat2map evaluate MODEL --data DIR --size 256 --seed 3",
        "sat2map evaluate MODEL --data DIR --size native --seed 3",
    ]
