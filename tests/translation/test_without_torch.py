"""The shipped model translates where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from fixtures.scenes import MakeScene, noise
from sat2map.model.folder import load_model
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import load

WITHOUT_TORCH = """
import importlib.metadata, sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning_fabric", "tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def version(name, real=importlib.metadata.version):
    if name == "torch":
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

sys.meta_path.insert(0, Nowhere())
importlib.metadata.version = version
"""

COMMAND = WITHOUT_TORCH + "from sat2map.cli.app import main; main()"

VERBS = (
    WITHOUT_TORCH
    + """
import ast, importlib, json, pkgutil
from pathlib import Path
import sat2map.cli

tried, needing = 0, []
for module in pkgutil.iter_modules(sat2map.cli.__path__, "sat2map.cli."):
    text = Path(importlib.import_module(module.name).__file__).read_text("utf-8")
    for function in ast.parse(text).body:
        imports = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
        if not isinstance(function, ast.FunctionDef) or not imports:
            continue
        tried += 1
        try:
            for node in imports:
                for alias in node.names:
                    getattr(importlib.import_module(node.module), alias.name)
        except ModuleNotFoundError as error:
            needing.append([function.name, error.name])
print(json.dumps([tried, sorted(needing)]))
"""
)
"""Tries what each function of the command line imports when it is called."""


def sat2map(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_an_image_and_a_scene(make_scene: MakeScene, tmp_path: Path) -> None:
    photo, scene = noise(70, 90), noise(64, 80, seed=1)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    path = make_scene(scene, "ortho.tif")
    translator = load("streets", "cpu", runtime="openvino")
    translate_raster(path, tmp_path / "expected.tif", translator)
    with rasterio.open(tmp_path / "expected.tif") as file:
        of_scene = file.read((1, 2, 3)).transpose(1, 2, 0)
    for source, expected, target in (
        (tmp_path / "photo.png", translator.translate(photo), tmp_path / "photo_map.png"),
        (path, of_scene, tmp_path / "map.tif"),
    ):
        done = sat2map("translate", source, target)
        assert done.returncode == 0, done.stderr
        with rasterio.open(target) as file:
            found = file.read((1, 2, 3)).transpose(1, 2, 0)
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_what_needs_torch_says_so(model_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(20, 20)).save(tmp_path / "photo.png")
    for options in (
        ("--as-published",),
        ("--runtime", "torch"),
        ("--model", model_folder),  # must be converted first
    ):
        done = sat2map("translate", tmp_path / "photo.png", tmp_path / "map.png", *options)
        assert done.returncode == 2, done.stderr
        assert "needs the package 'torch', which is not installed" in done.stderr
        assert done.stderr.endswith("Install it with: pip install 'sat2map[train]'.\n")
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "map.png").exists()


def test_a_model_is_described(tmp_path: Path) -> None:
    done = sat2map("info", "streets")
    assert done.returncode == 0, done.stderr
    network = load_model("streets").network
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in done.stdout


def test_training_names_the_extra(tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--out", tmp_path / "run")
    done = sat2map("train", "--recipe", "demo", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith("Install it with: pip install 'sat2map[train]'.\n")
    assert not (tmp_path / "run").exists()
    code = WITHOUT_TORCH + "import sat2map; sat2map.train"
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert "MissingExtraError: this needs the package 'torch'" in asked.stderr


def test_the_verbs_that_need_torch_are_these_and_no_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", VERBS], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    tried, needing = json.loads(done.stdout)
    assert tried > 20
    assert needing == [["export", "torch"], ["import_", "torch"], ["train", "torch"]]
