"""Greyscale models are ordinary models: trained, evaluated, translated with, exported, tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from typer.testing import CliRunner

from fixtures.scenes import MakeScene, noise, smooth
from sat2map import evaluate, load, translate_raster
from sat2map.cli.app import app
from sat2map.data.images import read_image
from sat2map.errors import UsageError
from sat2map.export.export import export_model
from sat2map.export.int8 import Calibration
from sat2map.model.card import read_model_card
from sat2map.recipe import Recipe, load_recipe
from sat2map.training.data_sets import load_data_sets
from sat2map.training.loop import train

SMALL = [
    "data.size=16",
    "data.resize=20",
    "generator.base_channels=4",
    "discriminator.base_channels=4",
    "discriminator.strided_layers=1",
    "training.max_steps=2",
    "training.grid_epochs=1",
    "statistics.pictures=2",
]


def recipe(*settings: str, name: str = "pix2pix") -> Recipe:
    return load_recipe(name, [*SMALL, *settings])


def pairs(folder: Path, source: str, target: str) -> Path:
    """Write pairs whose sides have modes of Pillow."""
    for split, count in (("train", 3), ("val", 2)):
        for side, mode in (("source", source), ("target", target)):
            (folder / split / side).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(noise(24, 24, seed=number))
                if mode == "I;16":
                    wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
                    image = Image.fromarray(wide)
                else:
                    image = image.convert(mode)
                image.save(folder / split / side / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("source", "target", "settings", "bands"),
    [
        ("L", "L", (), (1, 1)),
        ("L", "RGB", (), (1, 3)),
        ("RGB", "1", (), (3, 1)),
        ("LA", "I;16", (), (1, 1)),
        ("RGB", "P", (), (3, 3)),
        ("L", "L", ("data.source_bands=3", "data.target_bands=3"), (3, 3)),
        ("RGB", "RGB", ("data.source_bands=1", "data.target_bands=1"), (1, 1)),
        ("L", "RGB", ("data.direction=reverse",), (3, 1)),
    ],
)
def test_how_many_bands_a_model_has(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    source: str,
    target: str,
    settings: tuple[str, ...],
    bands: tuple[int, int],
) -> None:
    data = load_data_sets(recipe(*settings), [pairs(tmp_path, source, target)], quiet=True)
    spec = data.card.generator
    assert (spec.in_channels, spec.out_channels) == bands
    told = [side for side in ("source", "target") if f"all {side} images are grey" in caplog.text]
    by_itself = not any("bands" in one for one in settings)
    assert len(told) == (bands.count(1) if by_itself else 0)


def test_the_targets_of_a_legend_have_colours(tmp_path: Path) -> None:
    legend = recipe("data.target_bands=1", "data.resize=none", name="compact")
    with pytest.raises(UsageError, match="the colours of a legend have 3 bands"):
        load_data_sets(legend, [pairs(tmp_path, "RGB", "RGB")], quiet=True)


@pytest.mark.parametrize(("source", "target"), [("L", "L"), ("L", "RGB"), ("RGB", "L")])
def test_from_training_to_use(
    make_scene: MakeScene, tmp_path: Path, source: str, target: str
) -> None:
    data = pairs(tmp_path / "data", source, target)
    model = load(train(recipe(), [data], tmp_path / "run", quiet=True), "cpu")
    assert len(model.card.bands) == (1 if source == "L" else 3)
    found = evaluate(model, data, size=16)
    assert found.summary.images == 2
    assert found.summary.metrics["psnr"].mean > 0
    for name in ("val/source/0.png", "val/target/0.png"):
        out = tmp_path / "out.png"
        done = CliRunner().invoke(
            app, ["translate", str(data / name), str(out), "--model", str(tmp_path / "run/model")]
        )
        assert done.exit_code == 0, done.output
        assert read_image(out).pixels.shape == (24, 24, 3)
    made = translate_raster(make_scene(smooth(40, 40)), tmp_path / "map.tif", model)
    with rasterio.open(made) as file:
        shown = file.read()
        assert shown.shape[1:] == (40, 40)
        if target == "L":
            assert (shown == shown[:1]).all()
    tuned = recipe(f"training.init={json.dumps(str(tmp_path / 'run/model'))}")
    again = load(train(tuned, [data], tmp_path / "tuned", quiet=True), "cpu")
    assert again.card.bands == model.card.bands


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_exports_answer_as_torch_does(tmp_path: Path, kind: Any) -> None:
    pytest.importorskip("onnx" if kind == "onnx" else "openvino")
    data = pairs(tmp_path / "data", "L", "L")
    folder = train(recipe(), [data], tmp_path / "run", quiet=True)
    run = CliRunner().invoke(app, ["export", str(folder), str(tmp_path / "out"), "--format", kind])
    assert run.exit_code == 0, run.output
    exported, plain = load(tmp_path / "out", runtime=kind), load(folder, "cpu", runtime="torch")
    source = noise(32, 32, 1)
    apart = exported.translate(source).astype(int) - plain.translate(source)
    assert np.abs(apart).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_in_int8_too(tmp_path: Path, kind: Any) -> None:
    pytest.importorskip("nncf")
    data = pairs(tmp_path / "data", "L", "L")
    folder = train(recipe(), [data], tmp_path / "run", quiet=True)
    calibration = Calibration(data, size=16, windows=3, drop=1e-9)
    told = export_model(folder, tmp_path / "out", kind, calibration).quantised
    assert told is not None
    assert "psnr" in told.metrics
    assert load(tmp_path / "out", runtime=kind).translate(noise(32, 32, 1)).shape == (32, 32, 1)


def _of_pytorch_cyclegan(inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    """Random weights under the names of that code's smallest U-Net, of 5 levels."""
    torch.manual_seed(0)
    channels = [4, 8, 16, 32, 32]
    weights = {
        "model.model.0.weight": torch.randn(4, inputs, 4, 4) * 0.02,
        "model.model.3.weight": torch.randn(8, outputs, 4, 4) * 0.02,
        "model.model.3.bias": torch.zeros(outputs),
    }
    block = "model.model.1.model"
    for level in range(1, 5):
        inner, outer, here = level == 4, channels[level - 1], channels[level]
        up, norms = (3, (4,)) if inner else (5, (2, 6))
        weights[f"{block}.1.weight"] = torch.randn(here, outer, 4, 4) * 0.02
        weights[f"{block}.{up}.weight"] = torch.randn(here * (2 - inner), outer, 4, 4) * 0.02
        for place in norms:
            size = here if place == 2 else outer
            for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
                weights[f"{block}.{place}.{name}"] = torch.full((size,), value)
            weights[f"{block}.{place}.running_var"] = torch.ones(size)
            weights[f"{block}.{place}.num_batches_tracked"] = torch.tensor(5)
        block += ".3.model"
    return weights


def test_an_imported_model_is_tuned_on_grey_and_on_coloured_pairs(tmp_path: Path) -> None:
    torch.save(_of_pytorch_cyclegan(1, 1), tmp_path / "net_G.pth")
    data = pairs(tmp_path / "data", "L", "L")
    arguments = ["import", str(tmp_path / "net_G.pth"), str(tmp_path / "model"), "--calibrate"]
    done = CliRunner().invoke(app, [*arguments, str(data)])
    assert done.exit_code == 0, done.output
    for number, folder in enumerate((data, pairs(tmp_path / "colours", "RGB", "RGB"))):
        tuned = load_recipe(
            "pix2pix",
            [
                "data.size=32",
                "data.resize=32",
                "generator.base_channels=4",
                "generator.dropout_blocks=[]",
                "training.max_steps=1",
                f"training.init={json.dumps(str(tmp_path / 'model'))}",
            ],
        )
        model = train(tuned, [folder], tmp_path / f"run{number}", quiet=True)
        spec = read_model_card(model).generator
        assert (spec.in_channels, spec.out_channels) == (1, 1)
