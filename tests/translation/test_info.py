from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from fixtures.scenes import Identity, MakeModel, MakeScene, cut_tiles, noise, with_classes
from sat2map.errors import DataError, UsageError
from sat2map.raster.options import Reading, SceneOptions
from sat2map.translation import info as module
from sat2map.translation.folder import translate_path
from sat2map.translation.info import describe_scene, scene_facts
from sat2map.translation.scene import translate_raster


def test_what_a_scene_is(make_scene: MakeScene, make_model: MakeModel) -> None:
    pixels = noise(40, 60).astype(np.int16)
    pixels[:10] = -1
    facts = scene_facts(make_scene(pixels, nodata=-1), make_model((0.5, 2)))
    assert json.loads(json.dumps(facts)) == json.loads(json.dumps(facts))
    assert (facts["width"], facts["height"], facts["crs"]) == (60, 40, "EPSG:32633")
    assert facts["bands"][0] == {"type": "int16", "colour": "red", "nodata": -1}
    assert facts["ground_resolution_m"] == pytest.approx((1, 1), rel=0.001)
    assert facts["nodata_share"] == pytest.approx(0.25)
    assert facts["model_knows_scale"] == "yes: the model knows 0.5 to 2 m"
    said = describe_scene(facts)
    for words in ("60 x 40 pixels", "3 (red, green, blue)", "int16", "EPSG:32633", "1 x 1 m"):
        assert words in said
    assert "25.0% of the pixels" in said
    assert "less than 1 s" in said


def test_what_nobody_said_is_unknown(make_scene: MakeScene, make_model: MakeModel) -> None:
    path = make_scene(noise(9, 9, 1), colours=[ColorInterp.gray], georeference={})
    facts = scene_facts(path)
    assert facts["crs"] is facts["bounds"] is facts["ground_resolution_m"] is None
    assert facts["nodata_share"] == 0
    assert "model_knows_scale" not in facts
    assert "unknown" in describe_scene(facts)
    assert "unknown: the model" not in describe_scene(scene_facts(path, make_model(None)))


def test_nodata_that_is_not_a_number_is_json(make_scene: MakeScene) -> None:
    values = np.ones((9, 9, 3), np.float32)
    values[0] = np.nan
    facts = scene_facts(make_scene(values, nodata=float("nan")))
    assert facts["bands"][0]["nodata"] == "nan"
    assert json.loads(json.dumps(facts, allow_nan=False))["nodata_share"] == pytest.approx(1 / 9)


def test_no_raster(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("text")
    with pytest.raises(DataError, match=r"text\.tif: cannot be read"):
        scene_facts(tmp_path / "text.tif")


def test_a_folder_of_scenes_and_a_tree_of_tiles(make_scene: MakeScene, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for right in (0, 40):
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000 + right, 0, -1, 5e6)}
        make_scene(noise(30, 40), georeference=place).rename(folder / f"{right}.tif")
    facts = scene_facts(folder)
    assert (facts["width"], facts["height"], facts["files"]) == (80, 30, 2)
    assert "mosaic of 2 files" in describe_scene(facts)
    root = cut_tiles(tmp_path / "tiles", noise(64, 64), 18, 100, 200)
    cut_tiles(root, noise(32, 32), 17, 50, 100)
    (root / "18/101/201.png").unlink()
    facts = scene_facts(str(root))
    assert facts["tiles"] == {"17": 1, "18": 3}
    assert (facts["width"], facts["crs"], facts["nodata_share"]) == (64, "EPSG:3857", 0.25)
    assert "1 of zoom 17, 3 of zoom 18" in describe_scene(facts)


@pytest.mark.parametrize(("known", "windows"), [(1.0, 4), (2.0, 1)])
def test_the_time_is_that_of_the_windows_that_show_something(
    make_scene: MakeScene,
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    known: float,
    windows: int,
) -> None:
    """A clock that ticks once for each window says how many there are."""
    network = Identity(4)
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(len(network.seen)))
    pixels = noise(1500, 3200)
    pixels[:, 1400:] = 0
    facts = scene_facts(make_scene(pixels, nodata=0), make_model((known, known), network=network))
    assert facts["estimated_seconds"] == windows


def test_times_in_words() -> None:
    assert module._duration(0.4) == "less than 1 s"
    assert module._duration(59.6) == "about 1 min"
    assert module._duration(3725) == "about 1 h 2 min"


def test_the_same_notices_as_a_translation(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = np.clip(noise(128, 128), 1, 254)
    pixels[:40] = 0
    path = make_scene(pixels, colours=[ColorInterp.gray, *[ColorInterp.undefined] * 2])
    model = make_model((0.1, 0.2))
    told = scene_facts(path, model)["notices"]
    assert not caplog.messages
    translate_raster(path, tmp_path / "map.tif", model)
    assert told == caplog.messages
    assert [said for said in told if "`nodata=0`" in said]
    assert len(told) == 3
    cured = scene_facts(path, model, Reading(bands=(1, 2, 3), nodata=(0.0,)))
    assert cured["nodata_share"] == pytest.approx(40 / 128, abs=0.01)
    assert len(cured["notices"]) == 1


def test_where_nothing_says_the_scale_three_are_tried(make_scene: MakeScene) -> None:
    path = make_scene(noise(300, 280), georeference={})
    translator = with_classes((0.5, 2))
    facts = scene_facts(path, translator)
    assert list(facts["margin_by_pixel_size_m"]) == ["1", "0.25", "0.12"]
    said = " ".join(facts["notices"])
    assert "is surest of it with pixels of about" in said
    assert "`pixel_size=METRES`" in said
    told = scene_facts(path, translator, Reading(pixel_size=0.3))
    assert told["ground_resolution_m"] == (0.3, 0.3)
    assert "margin_by_pixel_size_m" not in told
    assert "surest" not in " ".join(told["notices"])


def test_a_model_without_classes_tries_none(make_scene: MakeScene, make_model: MakeModel) -> None:
    facts = scene_facts(make_scene(noise(100, 100), georeference={}), make_model((0.5, 2)))
    assert facts["margin_by_pixel_size_m"] == {}
    assert "surest" not in " ".join(facts["notices"])


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_nodata_without_end_is_json(make_scene: MakeScene, value: float) -> None:
    facts = scene_facts(make_scene(noise(20, 20).astype(np.float32), nodata=value))
    json.loads(json.dumps(facts, allow_nan=False))
    assert facts["bands"][0]["nodata"] == str(value)


def test_an_image_is_told_of_as_its_translation_sees_it(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clear = np.dstack([noise(60, 80), np.full((60, 80), 255, np.uint8)])
    clear[:30, :, 3] = 0
    Image.fromarray(clear).save(tmp_path / "photo.png")
    Image.fromarray(noise(60, 80)).save(tmp_path / "photo.avif")
    model = make_model((0.5, 2))
    facts = scene_facts(tmp_path / "photo.png", model)
    assert (facts["width"], facts["height"], facts["nodata_share"]) == (80, 60, 0.5)
    assert [band["colour"] for band in facts["bands"]] == ["red", "green", "blue", "alpha"]
    for name in ("photo.png", "photo.avif"):
        for size in (None, 9.0):
            reading = Reading(pixel_size=size)
            told = scene_facts(tmp_path / name, model, reading)["notices"]
            caplog.clear()
            translate_path(model, tmp_path / name, tmp_path / "map.png", SceneOptions(reading))
            assert told == caplog.messages
    assert told, "9 m is far too coarse"
    with pytest.raises(UsageError, match="no option of scenes applies"):
        scene_facts(tmp_path / "photo.png", model, Reading(nodata=(0.0,)))


def test_of_an_image_too(tmp_path: Path) -> None:
    Image.fromarray(noise(300, 280)).save(tmp_path / "photo.png")
    translator = with_classes((0.5, 2))
    facts = scene_facts(tmp_path / "photo.png", translator)
    assert list(facts["margin_by_pixel_size_m"]) == ["1", "0.25", "0.12"]
    assert "is surest of it" in " ".join(facts["notices"])
    told = scene_facts(tmp_path / "photo.png", translator, Reading(pixel_size=0.3))
    assert "surest" not in " ".join(told["notices"])
