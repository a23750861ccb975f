"""`sat2map batch` as a user meets it, with processes of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
import torch

from fixtures.scenes import MakeScene, noise, smooth, with_classes
from sat2map.cli.batch import batch
from sat2map.cli.translate import translate
from sat2map.legend import STREETS
from sat2map.model.folder import Model, ModelCard, build_generator, save_model
from sat2map.networks.specs import UNetSpec

Sat2map = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model of random weights with a legend head."""
    folder = tmp_path / "model"
    inner = with_classes((1.0, 1.0))._model
    assert isinstance(inner, Model)
    save_model(folder, inner.network, inner.card)
    return folder


def test_a_cluster_needs_its_extra(
    sat2map: Sat2map, make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sat2map.batch.ray_workers.find_spec", lambda _: None)
    (tmp_path / "scenes").mkdir()
    make_scene(smooth(40, 50), "scenes/a.tif")
    ended = sat2map("batch", tmp_path / "scenes", tmp_path / "out", "--ray", "auto")
    assert ended.code == 2
    ended.one_line_about("pip install 'sat2map[ray]'")
    assert not (tmp_path / "out").exists()


def test_scenes_of_a_folder_become_maps_and_the_rest_is_named(
    sat2map: Sat2map,
    make_scene: MakeScene,
    tmp_path: Path,
    model: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    (scenes / "north").mkdir(parents=True)
    make_scene(smooth(40, 50), "scenes/a.tif")
    make_scene(noise(40, 50), "scenes/north/b.tif")
    whole = (scenes / "a.tif").read_bytes()
    (scenes / "broken.tif").write_bytes(b"no raster")
    how = ("--model", model, "--runtime", "torch", "--workers", 2, "--classes", "-q")
    ended = sat2map("batch", scenes, out, *how)
    assert (ended.code, ended.out.strip()) == (1, str(out))
    ended.one_line_about("1 scene could not be used, 2 done", "--status", "--retry-failed")
    assert "broken.tif: failed: " in caplog.text
    assert "3 scenes: 2 done, 1 failed" in ended.err
    with rasterio.open(out / "north" / "b.tif") as file:
        assert (file.height, file.width, file.crs.to_epsg()) == (40, 50, 32633)
    assert (out / "a.classes.tif").is_file()

    told = sat2map("batch", "--status", out)
    assert told.code == 0
    assert told.out.splitlines()[0] == "3 scenes: 2 done, 1 failed"
    assert "broken.tif: failed" in told.out
    status = json.loads(sat2map("batch", "--status", out, "--json").out)
    assert status["states"]["done"] == 2
    assert status["pixels"] == 2 * 40 * 50
    assert status["settings"]["precision"] == "f32"
    assert [one["scene"] for one in status["unusable"]] == ["broken.tif"]

    assert status["noticed"] == []

    # Mended, it is made; nothing else is.
    (scenes / "broken.tif").write_bytes(whole)
    before = (out / "a.tif").stat().st_mtime_ns
    ended = sat2map("batch", scenes, out, *how)
    assert ended.code == 0
    assert "3 scenes: 3 done" in ended.err
    assert (out / "a.tif").stat().st_mtime_ns == before
    # And all of them are one catalogue and one raster.
    items = [path.name for path in out.rglob("*.stac.json")]
    assert sorted(items) == ["a.stac.json", "b.stac.json", "broken.stac.json"]
    assert (out / "catalog.json").is_file()
    with rasterio.open(out / "index.gti.gpkg") as file:
        assert (file.driver, file.shape) == ("GTI", (40, 50))
    # Maps of one folder are made alike.
    ended = sat2map("batch", scenes, out, *how, "--resolution", 2)
    assert ended.code == 2
    ended.one_line_about("was begun with another set of parameters")
    ended = sat2map("batch", scenes, out, *how[:-2], "-q")
    ended.one_line_about("was begun with another set of outputs")


def test_notices_of_scenes_are_told(
    sat2map: Sat2map, make_scene: MakeScene, tmp_path: Path, model: Path
) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    scenes.mkdir()
    make_scene(smooth(40, 50), "scenes/a.tif")
    unsaid = make_scene(smooth(40, 50), "scenes/b.tif", georeference={})
    ended = sat2map("batch", scenes, out, "--model", model, "--runtime", "torch", "-q")
    assert ended.code == 0
    assert "1 of them with notices" in ended.err
    assert str(unsaid) in sat2map("batch", "--status", out).out
    (noticed,) = json.loads(sat2map("batch", "--status", out, "--json").out)["noticed"]
    assert noticed["scene"] == "b.tif"


def test_it_has_all_options_of_translate() -> None:
    """But for what makes no sense: it always goes on, and images without a place are no scenes."""
    ours, theirs = (set(inspect.signature(verb).parameters) for verb in (batch, translate))
    assert theirs - ours - {"source", "target"} == {"resume", "max_pixels"}


def test_all_that_goes_with_a_map(sat2map: Sat2map, make_scene: MakeScene, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec := UNetSpec(size=16, base_channels=4))
    card = ModelCard(generator=spec, normalisation="batch", legend=STREETS, resolution_m=(1, 1))
    save_model(tmp_path / "unet", network, card)
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    scenes.mkdir()
    make_scene(smooth(40, 50), "scenes/a.tif")
    how = ["--model", tmp_path / "unet", "--runtime", "torch", "--samples", 3, "--seed", 4]
    beside = ["--legend-image", "--compare", "-q"]
    ended = sat2map("batch", scenes, out, *how, *beside, "--classes", "--confidence")
    assert ended.code == 0, ended.err
    classes = [tmp_path / f"{name}.tif" for name in ("c", "s")]
    names = ["--classes", classes[0], "--confidence", classes[1], "--compare", "-q"]
    names += ["--legend-image", tmp_path / "l.png"]
    alone = sat2map("translate", scenes / "a.tif", tmp_path / "m.tif", *how, *names, "--threads", 1)
    assert alone.code == 0, alone.err
    for name, other in (
        ("a.tif", "m.tif"),
        ("a.compare.tif", "m.compare.tif"),
        ("a.classes.tif", "c.tif"),
        ("a.confidence.tif", "s.tif"),
        ("a.legend.png", "l.png"),
    ):
        assert (out / name).read_bytes() == (tmp_path / other).read_bytes(), name
    found = json.loads(sat2map("verify", out, "--model", tmp_path / "unet", "--json", "-q").out)
    answers = {Path(one["file"]).name: one["answer"] for one in found}
    assert answers == dict.fromkeys(("a.tif", "a.classes.tif", "a.confidence.tif"), "equal")


def test_wrong_calls(sat2map: Sat2map, make_scene: MakeScene, tmp_path: Path, model: Path) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    scenes.mkdir()
    make_scene(noise(40, 50), "scenes/a.tif")
    for arguments, words in (
        ((), ("SCENES and OUT are both needed",)),
        ((scenes,), ("SCENES and OUT are both needed",)),
        ((scenes, "--status", out), ("--status", "translates nothing")),
        (("--status", scenes), (str(scenes), "is not the folder of a batch")),
        ((tmp_path / "none", out), ("there is no such file or folder",)),
        ((scenes, scenes / "maps"), ("lies in the folder of scenes",)),
        ((scenes, out, "--confidence"), ("--confidence", "Give --classes")),
        ((scenes, out, "--legend-image"), ("--legend-image", "Give --classes")),
        ((scenes, out, "--samples", 3), ("--samples", "Give --classes")),
        ((scenes, out, "--minimum-area", "water=3"), ("--minimum-area", "Give --vectors")),
        ((scenes, out, "--vectors", "--mask", "a.gpkg"), ("--mask", "is not for vectors")),
        ((scenes, out, "--column", "path"), ("--column", "Leave it out")),
        ((scenes, out, "--bands", "x"), ("--bands",)),
        ((scenes, out, "--model", tmp_path), (str(tmp_path),)),
    ):
        ended = sat2map("batch", *arguments)
        assert ended.code in (1, 2)
        ended.one_line_about(*words)
        assert not out.exists()
    assert sorted(path.name for path in scenes.iterdir()) == ["a.tif"]
