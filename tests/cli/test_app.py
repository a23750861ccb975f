"""The command line as a user meets it: what it prints, its exit codes, and bad input."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from sat2map import atomic as whole
from sat2map.legend import STREETS
from sat2map.model.folder import DataFacts, ModelCard, build_generator, save_model
from sat2map.networks.specs import UNetSpec
from sat2map.towns import write_pairs

Sat2map = Callable[..., Any]

TRAINING = [
    *("--set", "data.size=16"),
    *("--set", "data.resize=20"),
    *("--set", "generator.base_channels=4"),
    *("--set", "discriminator.base_channels=4"),
    *("--set", "discriminator.strided_layers=1"),
    *("--set", "training.epochs=2"),
]


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training and one validation town of 32 pixels."""
    directory = tmp_path_factory.mktemp("cli") / "towns"
    write_pairs(directory, 4, size=32, seed=5)
    return directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny untrained model."""
    torch.manual_seed(0)
    spec = UNetSpec(size=16, base_channels=4)
    card = ModelCard(generator=spec, normalisation="none", data=DataFacts(name="nothing"))
    save_model(tmp_path / "tiny", build_generator(spec), card)
    return tmp_path / "tiny"


def image(path: Path, height: int = 20, width: int = 30) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def tree(folder: Path) -> set[str]:
    """Return what a folder holds, without its journal."""
    found = {p.relative_to(folder) for p in folder.rglob("*")}
    return {path.as_posix() for path in found if ".sat2map" not in path.parts}


# The main path.


def test_from_towns_to_metrics(sat2map: Sat2map, tmp_path: Path) -> None:
    data, run = tmp_path / "towns", tmp_path / "run"
    drawn = sat2map("data", "synthetic", data, "--pairs", 4, "--size", 32, "--seed", 1)
    assert (drawn.code, drawn.out.strip()) == (0, str(data))
    trained = sat2map("train", "--recipe", "pix2pix", "--data", data, "--out", run, *TRAINING)
    assert (trained.code, trained.out.strip()) == (0, str(run / "model"))
    assert "training: 8/8" in trained.err
    again = sat2map(
        "train", "--recipe", "pix2pix", "--data", data, "--out", run, *TRAINING, "--resume"
    )
    assert (again.code, again.out.strip()) == (0, str(run / "model"))

    scored = sat2map("evaluate", run / "model", "--data", data, "--size", "native", "--json", "-q")
    assert (scored.code, scored.err) == (0, "")
    metrics = json.loads(scored.out)
    assert metrics["pictures"] == 1
    assert {"l1", "rmse", "psnr", "ssim", "acc_5", "acc_10", "mean_iou"} <= set(metrics["metrics"])
    published = sat2map(
        "evaluate", run / "model", "--data", data, "--size", 32, "--as-published", "--seed", 3
    )
    assert published.code == 0
    assert "psnr" in published.out
    first = published.out.splitlines()[0]
    assert first.startswith("l1 ") and first.endswith("] of 255, lower is better")
    report = sat2map("evaluate", run / "model", "--data", data, "--report", tmp_path / "page")
    assert report.code == 0
    assert (tmp_path / "page" / "index.html").stat().st_size > 10_000
    saved = sat2map("evaluate", run / "model", "--data", data, "--save", tmp_path / "all")
    assert saved.code == 0
    assert tree(tmp_path / "all") >= {"index.html", "result/0001.png"}
    assert f"all images: {tmp_path / 'all' / 'index.html'}" in saved.err

    shutil.copytree(run / "model", tmp_path / "copy")
    both = ("compare", run / "model", tmp_path / "copy", "--data", data, "--size", 32)
    compared = sat2map(*both, "--save", tmp_path / "both", "-q")
    assert compared.code == 0, compared.err
    line = next(line for line in compared.out.splitlines() if line.startswith("psnr"))
    assert line.count("[") == 3 and line.endswith("+0.0000  [+0.0000, +0.0000]   dB")
    assert "lower is better" not in line
    parts = re.search("^road_components_difference.*$", compared.out, re.MULTILINE)
    assert parts and parts[0].endswith("  lower is better")
    assert len(line) < 130  # however long the names of models are
    assert (tmp_path / "both" / "index.html").is_file()
    as_json = json.loads(sat2map(*both, "--json", "-q").out)
    assert as_json["differences"][str(tmp_path / "copy")]["psnr"]["high"] == 0
    whole = sat2map("compare", run, tmp_path / "copy", "--data", data)
    assert whole.code == 1
    whole.one_line_about(f"is the folder of a run, not of a model. Give {run / 'model'}.")
    twice = sat2map("compare", run / "model", run / "model", "--data", data)
    assert twice.code == 2
    twice.one_line_about("is named twice")

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("my own page")
    refused = sat2map("evaluate", run / "model", "--data", tmp_path, "--report", tmp_path / "mine")
    assert refused.code == 1
    refused.one_line_about("mine: is not empty and was not written by sat2map evaluate")
    assert (tmp_path / "mine" / "index.html").read_text() == "my own page"

    shown = sat2map("info", run / "model")
    assert shown.code == 0
    assert "unet" in shown.out
    assert "parameters" in shown.out
    facts = json.loads(sat2map("info", run / "model", "--json").out)
    assert facts["name"] == "run"
    assert facts["resolution_m"] == [1.6, 1.6]


def test_translate_an_image_and_a_folder(sat2map: Sat2map, tmp_path: Path, model: Path) -> None:
    photo = image(tmp_path / "photo.jpg")
    out = tmp_path / "out" / "map.png"
    done = sat2map("translate", photo, out, "--model", model, "--compare")
    assert (done.code, done.out.strip()) == (0, str(out))
    with Image.open(out) as result, Image.open(out.with_name("map.compare.png")) as both:
        assert (result.size, both.size) == ((30, 20), (60, 20))
    folder = tmp_path / "photos"
    folder.mkdir()
    image(folder / "a.png"), image(folder / "b.webp", 1, 1)
    many = sat2map("translate", folder, tmp_path / "maps", "--model", model)
    assert many.code == 0
    assert tree(tmp_path / "maps") == {"a.png", "b.png"}
    seeds = [
        sat2map(
            *("translate", photo, tmp_path / f"{name}.png", "--model", model),
            *("--as-published", "--seed", seed),
        ).code
        for name, seed in (("s1", 1), ("s1again", 1), ("s2", 2))
    ]
    assert seeds == [0, 0, 0]
    one, again, two = ((tmp_path / f"{name}.png").read_bytes() for name in ("s1", "s1again", "s2"))
    assert one == again
    assert one != two


def scene(path: Path, bands: int = 3, dtype: str = "uint8") -> Path:
    """Write a scene of 40 x 50 pixels of 1 m in Berlin."""
    pixels = np.random.default_rng(0).integers(0, 255, (bands, 40, 50)).astype(dtype)
    facts = {"height": 40, "width": 50, "count": bands, "dtype": dtype, "crs": "EPSG:32633"}
    where = rasterio.Affine(1, 0, 392_000, 0, -1, 5_820_000)
    with rasterio.open(path, "w", driver="GTiff", transform=where, **facts) as file:
        file.write(pixels)
    return path


def test_translate_a_scene(
    sat2map: Sat2map, tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ortho, out = scene(tmp_path / "ortho.tif", 4, "uint16"), tmp_path / "map.tif"
    done = sat2map(
        *("translate", ortho, out, "--model", model, "--bands", "3,2,1", "--stretch", "1,99"),
        *("--resolution", "2", "--seed", 3),
    )
    assert (done.code, done.out.strip()) == (0, str(out))
    assert "translating: 0.0/0.0 Mpx" in done.err
    assert "does not say which ground resolutions it knows" in caplog.text
    with rasterio.open(ortho) as before, rasterio.open(out) as after:
        assert after.crs == before.crs
        assert after.bounds == before.bounds
        assert after.shape == (20, 25)
    part = sat2map(
        *("translate", ortho, tmp_path / "part.png", "--model", model, "--range", "0,255"),
        *("--bbox", "13.4085,52.5191,13.4088,52.5193", "-q"),
    )
    assert part.code == 0, part.err
    with Image.open(tmp_path / "part.png") as part:
        assert 0 < part.width < 50
        assert 0 < part.height <= 40
    assert (tmp_path / "part.pgw").exists()
    folder = tmp_path / "many"
    folder.mkdir()
    scene(folder / "a.tif"), image(folder / "b.jpg")
    many = sat2map("translate", folder, tmp_path / "maps", "--model", model)
    assert many.code == 0
    assert tree(tmp_path / "maps") == {"a.tif", "b.png"}


def test_info_of_a_scene(sat2map: Sat2map, tmp_path: Path, model: Path) -> None:
    ortho = scene(tmp_path / "ortho.tif")
    told = sat2map("info", ortho, "--model", model)
    assert told.code == 0
    assert "50 x 40 pixels" in told.out
    assert "the model does not say" in told.out
    facts = json.loads(sat2map("info", ortho, "--json").out)
    assert facts["crs"] == "EPSG:32633"
    assert facts["ground_resolution_m"] == pytest.approx([1, 1], rel=0.001)
    (tmp_path / "scenes").mkdir()
    ortho.rename(tmp_path / "scenes" / "ortho.tif")
    assert "mosaic of 1 files" in sat2map("info", tmp_path / "scenes").out
    assert "tiny" in sat2map("info", model).out
    (tmp_path / "text.tif").write_text("text")
    wrong = sat2map("info", tmp_path / "text.tif")
    assert wrong.code == 1
    wrong.one_line_about("text.tif", "cannot be read")


def test_bad_scenes(sat2map: Sat2map, tmp_path: Path, model: Path) -> None:
    ortho, out = scene(tmp_path / "ortho.tif"), tmp_path / "map.tif"
    (tmp_path / "text.tif").write_text("text")
    for arguments, code, words in (
        (("text.tif",), 1, ("text.tif", "cannot be read")),
        (("ortho.tif", "--bands", "1,2,9"), 2, ("--bands", "no band 9")),
        (("ortho.tif", "--bands", "red"), 2, ("--bands", "red")),
        (("ortho.tif", "--bbox", "berlin"), 2, ("--bbox", "west,south,east,north")),
        (("ortho.tif", "--bbox", "0,0,1,1"), 2, ("--bbox", "ortho.tif", "13.4")),
        (("ortho.tif", "--resolution", "0"), 2, ("--resolution",)),
        (("ortho.tif", "--legend-colours"), 2, ("--legend-colours", "no legend")),
    ):
        name, *options = arguments
        done = sat2map("translate", tmp_path / name, out, "--model", model, *options)
        assert done.code == code, arguments
        done.one_line_about(*words)
        assert not out.exists()
    same = sat2map("translate", ortho, ortho, "--model", model)
    assert same.code == 2
    same.one_line_about("ortho.tif", "input itself")


def test_import_a_foreign_checkpoint(sat2map: Sat2map, tmp_path: Path) -> None:
    weights = foreign_resnet()
    torch.save(weights, tmp_path / "latest_net_G.pth")
    done = sat2map(
        *("import", tmp_path / "latest_net_G.pth", tmp_path / "mine"),
        *("--resolution", "0.9", "--direction", "reverse"),
    )
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "mine"))
    facts = json.loads(sat2map("info", tmp_path / "mine", "--json").out)
    assert facts["direction"] == "reverse"
    assert facts["resolution_m"] == [0.9, 0.9]
    photo = image(tmp_path / "photo.png", 37, 21)
    assert sat2map("translate", photo, tmp_path / "m.png", "--model", tmp_path / "mine").code == 0


def foreign_resnet() -> dict[str, torch.Tensor]:
    """Weights with the foreign names of a resnet_6blocks generator, 4 channels wide."""
    shapes = {"1": (4, 3, 7, 7), "4": (8, 4, 3, 3), "7": (16, 8, 3, 3)}
    shapes |= {f"{10 + b}.conv_block.{c}": (16, 16, 3, 3) for b in range(6) for c in (1, 5)}
    shapes |= {"16": (16, 8, 3, 3), "19": (8, 4, 3, 3), "23": (3, 4, 7, 7)}
    bias = {"16": 8, "19": 4}
    weights = {}
    for name, shape in shapes.items():
        weights[f"model.{name}.weight"] = torch.randn(shape) * 0.1
        weights[f"model.{name}.bias"] = torch.zeros(bias.get(name, shape[0]))
    return weights


def test_a_scene_has_georeference_and_truth(sat2map: Sat2map, tmp_path: Path) -> None:
    assert sat2map("data", "synthetic", tmp_path / "s", "--scene", 96, "--seed", 2).code == 0
    assert {"scene.tif", "scene_map.tif", "scene.geojson", "legend.json"} <= tree(tmp_path / "s")


def test_help_and_version(sat2map: Sat2map) -> None:
    helped = sat2map("--help")
    assert helped.code == 0
    for verb in ("data", "train", "evaluate", "translate", "import", "info", "demo"):
        assert verb in helped.out
    assert sat2map("--version").out.strip() == "0.1.0"
    assert sat2map("frobnicate").code == 2


# Bad input. Usage ends with 2, data with 1.


def test_a_truncated_jpeg_and_a_text_named_jpg_in_a_folder_leave_the_good_ones_done(
    sat2map: Sat2map, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    image(folder / "good.jpg", 64, 64)
    cut = image(folder / "cut.jpg", 64, 64)
    cut.write_bytes(cut.read_bytes()[:500])
    (folder / "text.jpg").write_text("not an image")
    done = sat2map("translate", folder, tmp_path / "maps", "--model", model)
    assert done.code == 1
    done.one_line_about("cut.jpg", "text.jpg", "1 done")
    assert tree(tmp_path / "maps") == {"good.png"}


@pytest.mark.parametrize("bad", ["cut", "text", "odd", "unequal"])
def test_bad_pairs_are_named_and_the_good_ones_scored(
    sat2map: Sat2map, tmp_path: Path, model: Path, towns: Path, bad: str
) -> None:
    data = tmp_path / "data"
    (data / "val").mkdir(parents=True)
    if bad == "unequal":
        for side, width in (("source", 32), ("target", 31)):
            (data / "val" / side).mkdir()
            image(data / "val" / side / "good.png", 32, 32)
            image(data / "val" / side / "bad.png", 32, width)
    else:
        image(data / "val" / "good.png", 32, 64)
        path = image(data / "val" / "bad.png", 32, 63 if bad == "odd" else 64)
        if bad == "cut":
            path.write_bytes(path.read_bytes()[:300])
        if bad == "text":
            path.write_text("not an image")
    done = sat2map("evaluate", model, "--data", data, "--size", "native", "--json", "-q")
    assert done.code == 1
    done.one_line_about("bad.png", "1 done")
    assert json.loads(done.out)["pictures"] == 1
    trained = sat2map("train", "--recipe", "pix2pix", "--data", data, "--out", tmp_path / "run")
    assert trained.code == 1
    trained.one_line_about("train")
    assert not (tmp_path / "run").exists()


def test_training_names_every_bad_pair(sat2map: Sat2map, tmp_path: Path, towns: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    image(data / "train" / "odd.png", 32, 63)
    (data / "train" / "text.jpg").write_text("not an image")
    done = sat2map("train", "--recipe", "pix2pix", "--data", data, "--out", tmp_path / "run")
    assert done.code == 1
    done.one_line_about("odd.png", "text.jpg")
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_and_one_without_train(
    sat2map: Sat2map, tmp_path: Path, model: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = sat2map("translate", tmp_path / "empty", tmp_path / "out", "--model", model)
    assert done.code == 1
    done.one_line_about("empty", "no images")
    done = sat2map("train", "--recipe", "pix2pix", "--data", tmp_path / "empty", "--out", "run")
    assert done.code == 1
    done.one_line_about("empty", "'train'", "DIR/train/")
    (tmp_path / "empty" / "train").mkdir()
    done = sat2map("train", "--recipe", "pix2pix", "--data", tmp_path / "empty", "--out", "run")
    assert done.code == 1
    done.one_line_about("no images")


def png(path: Path, depth: int, colour: int, width: int, height: int, data: bytes) -> Path:
    """Write a PNG chunk by chunk, so that its header may say what it likes."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    ):
        parts.append(struct.pack(">I", len(body)) + kind + body)
        parts.append(struct.pack(">I", zlib.crc32(kind + body)))
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize(("depth", "colour", "row"), [(16, 0, 8), (16, 2, 24)])
def test_images_that_would_be_nearly_black(
    sat2map: Sat2map, tmp_path: Path, model: Path, depth: int, colour: int, row: int
) -> None:
    path = png(tmp_path / "deep.png", depth, colour, 4, 4, (b"\0" + b"\1" * row) * 4)
    done = sat2map("translate", path, tmp_path / "map.png", "--model", model)
    assert done.code == 1
    done.one_line_about("deep.png", "nearly black", "gdal_translate")
    assert not (tmp_path / "map.png").exists()


def test_a_decompression_bomb_is_refused_by_its_header(
    sat2map: Sat2map, tmp_path: Path, model: Path
) -> None:
    path = png(tmp_path / "bomb.png", 8, 2, 100_000, 100_000, bytes(1000))
    done = sat2map("translate", path, tmp_path / "map.png", "--model", model)
    assert done.code == 1
    done.one_line_about("bomb.png", "500,000,000", "--max-pixels")
    small = image(tmp_path / "small.png")
    done = sat2map("translate", small, tmp_path / "m.png", "--model", model, "--max-pixels", 599)
    assert done.code == 1
    done.one_line_about("small.png", "599")


def test_an_output_folder_that_cannot_be_written(
    sat2map: Sat2map,
    tmp_path: Path,
    model: Path,
    towns: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = image(tmp_path / "photo.png")

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    # Whoever runs the tests may be root, whom no mode of a folder stops.
    monkeypatch.setattr(Path, "mkdir", refuse)
    done = sat2map("translate", photo, tmp_path / "no" / "map.png", "--model", model)
    assert done.code == 1
    done.one_line_about("map.png", "Permission denied", "may write to")
    done = sat2map("data", "synthetic", tmp_path / "no", "--pairs", 1, "--size", 16)
    assert done.code == 1
    done.one_line_about("no", "Permission denied")
    done = sat2map(
        "train", "--recipe", "pix2pix", "--data", towns, "--out", tmp_path / "no", *TRAINING
    )
    assert done.code == 1
    done.one_line_about("Permission denied")
    assert not (tmp_path / "no").exists()


def test_a_full_disk_leaves_nothing_half_written(
    sat2map: Sat2map, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, out = image(tmp_path / "photo.png"), tmp_path / "out"

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole, "flush", full)
    done = sat2map("translate", photo, out / "map.png", "--model", model)
    assert done.code == 1
    done.one_line_about("map.png", "No space left", "Free some space")
    assert tree(out) == set()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.epoch=3", "training.epoch"),
        ("trainig.epochs=3", "trainig"),
        ("optimiser.learning_rate=-0.1", "optimiser.learning_rate"),
        ("training.epochs=lots", "training.epochs"),
    ],
)
def test_bad_settings(
    sat2map: Sat2map, tmp_path: Path, towns: Path, setting: str, words: str
) -> None:
    run = tmp_path / "run"
    done = sat2map("train", "--recipe", "l1", "--data", towns, "--out", run, "--set", setting)
    assert done.code == 2
    done.one_line_about(words)
    assert not run.exists()


def test_an_unknown_recipe_names_the_shipped_ones(sat2map: Sat2map, towns: Path) -> None:
    done = sat2map("train", "--recipe", "pix3pix", "--data", towns, "--out", "run")
    assert done.code == 2
    done.one_line_about("pix3pix", "encoder_decoder")


def test_a_damaged_model_folder(sat2map: Sat2map, tmp_path: Path, model: Path) -> None:
    photo, out = image(tmp_path / "photo.png"), tmp_path / "map.png"
    weights = (model / "model.safetensors").read_bytes()
    for damage, words in (
        (lambda: (model / "model.safetensors").write_bytes(weights[:-100]), "safetensors"),
        (lambda: (model / "model.safetensors").unlink(), "is missing"),
        (lambda: (model / "model.json").write_text("{"), "model.json"),
        (lambda: (model / "model.json").unlink(), "model.json"),
    ):
        damage()
        done = sat2map("translate", photo, out, "--model", model)
        assert done.code == 1
        done.one_line_about(words)
    done = sat2map("info", tmp_path / "nowhere")
    assert done.code == 1
    done.one_line_about("nowhere")
    assert not out.exists()


def test_a_malicious_pickle_does_not_run(sat2map: Sat2map, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'harmed'}",)

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"model.model.0.weight": Evil()}))
    done = sat2map("import", path, tmp_path / "out")
    assert done.code == 1
    done.one_line_about("evil.pth", "not opened")
    torch.save({"model.model.0.weight": Evil()}, path)
    done = sat2map("import", path, tmp_path / "out")
    assert done.code == 1
    done.one_line_about("evil.pth", "not opened")
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Photos of noise whose masks label roads, water, and what is not a road."""
    for name in ("a", "b"):
        random = np.random.default_rng(ord(name))
        for folder, pixels in (
            ("source", random.integers(0, 256, (64, 64, 3), np.uint8)),
            ("classes", random.integers(0, 3, (64, 64), np.uint8)),
        ):
            path = tmp_path / "masks" / "val" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    classes = {"0": "not road", "1": "road", "2": "water"}
    card = {"legend": "cover", "resolution_m": 0.25, "classes": classes}
    (tmp_path / "masks" / "dataset.json").write_text(json.dumps(card))
    return tmp_path / "masks"


def test_class_masks_are_scored(sat2map: Sat2map, masks: Path) -> None:
    done = sat2map("evaluate", "streets", "--data", masks, "-q")
    assert done.code == 0, done.err
    assert "iou_road" in done.out and "road_cldice" in done.out and "iou_land" not in done.out
    assert "nothing says: land, building, vegetation." in done.err
    assert "the model knows" not in done.err
    more = ("--resolution", "native", "--tolerance", 2, "--json")
    done = sat2map("evaluate", "streets", "--data", masks, *more, "-q")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["protocol"]["shown_m"], told["protocol"]["tolerance_m"]) == (0.25, 2)
    assert set(told["class_iou"]) == {"road", "water"}
    assert "shown at 0.25 m per pixel; the model knows" in done.err
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(masks / "val" / "classes" / "b.png")
    done = sat2map("evaluate", "streets", "--data", masks, "-q")
    assert done.code == 1
    assert "iou_road" in done.out
    done.one_line_about("b.png: has the value 9", "1 done")


def test_class_masks_and_pairs_have_options_of_their_own(
    sat2map: Sat2map, masks: Path, towns: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs"
    for side in ("source", "target"):
        shutil.copytree(towns / "val" / side, pairs / "val" / side)
    for data, option, value, words in (
        (masks, "--size", 256, "class masks"),
        (masks, "--report", tmp_path / "page", "class masks"),
        (masks, "--tolerance", 0, "0 m is not a tolerance"),
        (masks, "--resolution", "fine", "'fine' is not a ground resolution"),
        (masks, "--resolution", -1, "'-1' is not a ground resolution"),
        (pairs, "--tolerance", 3, "pairs"),
        (pairs, "--resolution", 1, "pairs"),
    ):
        done = sat2map("evaluate", "streets", "--data", data, option, value)
        assert done.code == 2, option
        done.one_line_about(option, words)
    both = ("compare", "streets", "streets-2026-11", "--data")
    done = sat2map(*both, masks, "--size", 256)
    done.one_line_about("--size", "class masks")
    done = sat2map(*both, pairs, "--tolerance", 3)
    done.one_line_about("--tolerance", "pairs")


def test_models_are_compared_on_class_masks(sat2map: Sat2map, masks: Path, tmp_path: Path) -> None:
    both = ("compare", "streets", "streets-2026-11", "--data", masks, "--resolution", 0.5, "-q")
    done = sat2map(*both, "--save", tmp_path / "page")
    assert done.code == 0, done.err
    assert "iou_road" in done.out and "psnr" not in done.out
    assert (tmp_path / "page" / "result" / "streets" / "a.png").is_file()
    saved = sat2map("evaluate", "streets", "--data", masks, "-q", "--save", tmp_path / "one")
    assert saved.code == 0, saved.err
    assert f"all images: {tmp_path / 'one' / 'index.html'}" in saved.err


def test_a_set_with_maps_and_class_masks_is_scored_on_either(sat2map: Sat2map, masks: Path) -> None:
    shutil.copytree(masks / "val" / "source", masks / "val" / "target")
    done = sat2map("evaluate", "streets", "--data", masks, "--size", 64, "-q")
    assert done.code == 0, done.err
    assert "psnr" in done.out
    done = sat2map("evaluate", "streets", "--data", masks, "--tolerance", 3, "-q")
    assert done.code == 0, done.err
    assert "iou_water" in done.out and "psnr" not in done.out


def test_other_wrong_calls(sat2map: Sat2map, tmp_path: Path, model: Path, towns: Path) -> None:
    photo = image(tmp_path / "photo.png")
    for arguments, words in (
        (("evaluate", model, "--data", towns, "--size", "big"), "--size"),
        *(
            (("import", photo, tmp_path / "o", "--resolution", text), "--resolution")
            for text in ("fine", "1,2,3", "0", "2,1", "nan", "")
        ),
        (("data", "synthetic", tmp_path / "o"), "--pairs N"),
        *(
            (("data", "synthetic", tmp_path / "o", "--pairs", 1, *more), words)
            for more, words in (
                (("--kind", "lunar"), "'lunar' is not a kind of town"),
                (("--kind", "desert,lunar"), "'lunar' is not a kind of town"),
                (("--kind", ""), "--kind: names no kind"),
                (("--resolution", 0.6), "--resolution: is 0.6"),
            )
        ),
        (
            ("data", "synthetic", tmp_path / "o", "--scene", 64, "--kind", "colourise"),
            "a scene is one photo with its map",
        ),
        (
            ("data", "synthetic", tmp_path / "o", "--scene", 64, "--kind", "snow,desert"),
            "a scene is one town",
        ),
        (("data", "download", "mops", tmp_path / "o"), "mops"),
        (("translate", photo, photo, "--model", model), "input itself"),
        (("translate", photo, tmp_path / "map.gif", "--model", model), "map.gif"),
    ):
        done = sat2map(*arguments)
        assert done.code == 2, arguments
        done.one_line_about(words)
    done = sat2map("import", photo, tmp_path / "o", "--direction", "up")
    assert done.code == 2 and "Invalid value for '--direction'" in done.err


def test_the_shipped_model_is_the_one_by_default_and_paints_in_other_styles(
    sat2map: Sat2map, tmp_path: Path
) -> None:
    photo = image(tmp_path / "photo.png", 64)
    (tmp_path / "night.json").write_text('{"land": "#101010"}')
    pixels = {}
    for name, style in (
        ("plain", ()),
        ("osm", ("--style", "osm")),
        ("night", ("--style", tmp_path / "night.json")),
    ):
        out = tmp_path / f"{name}.png"
        done = sat2map("translate", photo, out, *style, "--legend-colours", "--quiet")
        assert done.code == 0, done.err
        pixels[name] = np.asarray(Image.open(out).convert("RGB"))
    colours = {tuple(colour) for colour in pixels["plain"].reshape(-1, 3)}
    assert colours <= {c.colour for c in STREETS.classes}
    assert not np.array_equal(pixels["plain"], pixels["osm"])
    land = (pixels["plain"] == STREETS.colours[0]).all(-1)
    assert np.array_equal((pixels["night"] == 16).all(-1), land)


def test_the_cache_is_told_and_cleared(sat2map: Sat2map, cache: Path) -> None:
    kept = cache / "osm" / f"{'0' * 32}.json"
    kept.parent.mkdir()
    kept.write_bytes(bytes(2048))
    (cache / "osm" / "mine.json").write_text("mine")
    told = sat2map("cache")
    assert told.code == 0
    assert told.out.splitlines()[0] == str(cache)
    assert "osm                1 entry          2 KiB" in told.out
    assert "2 KiB of at most 50 GiB" in told.out
    facts = json.loads(sat2map("cache", "--json").out)
    assert (facts["folder"], facts["bytes"]["osm"]) == (str(cache), 2048)
    cleared = sat2map("cache", "clear")
    assert cleared.out == f"2 KiB removed from {cache}\n"
    assert [path.name for path in (cache / "osm").iterdir()] == ["mine.json"]


def test_the_demo(
    sat2map: Sat2map,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    put_foreign: Callable[..., Callable[..., None]],
) -> None:
    monkeypatch.setattr("sat2map.cli.demo.SCENE_SIDE", 128)
    for _ in range(2):  # again without harm
        done = sat2map("demo", tmp_path / "demo", "--quiet")
        assert done.code == 0, done.err
        assert str(tmp_path / "demo" / "index.html") in done.out
        assert f"sat2map serve {tmp_path / 'demo/scene/scene.tif'}" in done.out
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (tmp_path / "demo" / name).is_file(), name
    assert "road_cldice" in page
    places = []
    for name in ("map.tif", "scene/scene.tif"):
        with rasterio.open(tmp_path / "demo" / name) as file:
            places.append((file.crs, file.bounds))
    assert places[0] == places[1]
    check = put_foreign(tmp_path / "taken", "index.html", "scene/scene.tif")
    refused = sat2map("demo", tmp_path / "taken")
    assert refused.code == 1
    refused.one_line_about("is not empty and was not written by sat2map demo")
    check(alone=True)
    check = put_foreign(tmp_path / "demo", "mine.png", "scene/mine.tif")
    shutil.rmtree(tmp_path / "demo" / ".sat2map")
    (tmp_path / "demo" / ".sat2map-demo").touch()  # as earlier versions left it
    assert sat2map("demo", tmp_path / "demo", "--quiet").code == 0
    check()


def test_help_lists_verbs_whole_and_maps_first(sat2map: Sat2map) -> None:
    lines = sat2map("--help").out.partition("Commands:")[2].splitlines()[1:]
    verbs = [line.split()[0] for line in lines if line.strip()]
    assert verbs[:3] == ["demo", "translate", "vectors"]
    assert not [line for line in lines if "..." in line]
