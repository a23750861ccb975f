"""What `sat2map info` says of an input before any time is spent, and what translating it says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from typer.testing import CliRunner

from fixtures.scenes import UTM, MakeModel, MakeScene, cut_tiles, noise, smooth, with_classes
from sat2map.cli.app import app
from sat2map.cli.messages import with_options
from sat2map.geo.grid import bounds_wgs84
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.scene import Scene
from sat2map.translation import translator as translators
from sat2map.translation.folder import translate_path
from sat2map.translation.info import scene_facts
from sat2map.vectors.photo import vectorise_photo

GREY = [ColorInterp.gray]
UNNAMED = [ColorInterp.gray, *[ColorInterp.undefined] * 2]
COARSE = {"crs": "EPSG:32633", "transform": Affine(9, 0, 500_000, 0, -9, 5_000_000)}
ONLY_TRANSFORM = {"transform": UTM["transform"]}

Odd = Callable[[MakeScene, Path], Path]


def edged(value: int) -> NDArray[np.uint8]:
    pixels = np.clip(noise(128, 128), 1, 254)
    pixels[:40] = value
    return pixels


def _bent(make: MakeScene, _: Path) -> Path:
    points = [
        GroundControlPoint(row, column, 500_000 + column + 20 * (row / 100) ** 2, 5_000_000 - row)
        for row in (0, 25, 50, 75, 100)
        for column in (0, 50, 100)
    ]
    return make(noise(100, 100), georeference={"crs": UTM["crs"], "gcps": points})


def _rpc(make: MakeScene, _: Path) -> Path:
    path = make(noise(100, 100), georeference={})
    ones = " ".join(["1"] * 20)
    with rasterio.open(path, "r+") as file:
        file.update_tags(
            ns="RPC",
            ERR_BIAS="-1", ERR_RAND="-1", LINE_OFF="50", SAMP_OFF="50", LAT_OFF="50", LONG_OFF="10",
            HEIGHT_OFF="0", LINE_SCALE="50", SAMP_SCALE="50", LAT_SCALE="1", LONG_SCALE="1",
            HEIGHT_SCALE="1", LINE_NUM_COEFF=ones, LINE_DEN_COEFF=ones, SAMP_NUM_COEFF=ones,
            SAMP_DEN_COEFF=ones,
        )  # fmt: skip
    return path


def _broken_world_file(make: MakeScene, _: Path) -> Path:
    path = make(noise(100, 100), georeference={})
    path.with_suffix(".tfw").write_text("1,0\n0,0\n")
    return path


def _pages(make: MakeScene, folder: Path) -> Path:
    images = [Image.fromarray(noise(70, 70, seed=n)) for n in (0, 1)]
    images[0].save(folder / "pages.tif", save_all=True, append_images=images[1:])
    return folder / "pages.tif"


def _infrared(make: MakeScene, _: Path) -> Path:
    colours = [*[ColorInterp.red, ColorInterp.green, ColorInterp.blue], ColorInterp.alpha]
    return make(noise(100, 100, 4), colours=colours)


def _mosaic(make: MakeScene, folder: Path) -> Path:
    (folder / "sheets").mkdir()
    for number in (0, 1):
        place = UTM | {"transform": UTM["transform"] @ Affine.translation(80 * number, 0)}
        make(noise(80, 80, seed=number), f"sheets/{number}.tif", georeference=place)
    (folder / "sheets" / "readme.txt").write_text("What others put there.")
    return folder / "sheets"


def _folder(make: MakeScene, folder: Path) -> Path:
    (folder / "photos").mkdir()
    Image.fromarray(noise(80, 80)).save(folder / "photos" / "a.png")
    make(edged(0), "photos/b.tif", georeference=COARSE)
    (folder / "photos" / "readme.txt").write_text("What others put there.")
    return folder / "photos"


def _laid(make: MakeScene, folder: Path) -> Path:
    (folder / "bands").mkdir()
    for band in ("B02", "B03", "B04"):
        make(noise(80, 80, 1), f"bands/T33UUU_{band}_10m.tif", colours=GREY)
    return folder / "bands"


def _tiles(make: MakeScene, folder: Path) -> Path:
    for zoom, column, row in ((9, 3, 4), (8, 1, 2), (9, 30, 4)):
        cut_tiles(folder / "tiles", noise(32, 32, seed=row), zoom, column, row)
    (folder / "tiles" / "metadata.json").write_text(json.dumps({"scheme": "tms"}))
    return folder / "tiles"


def _image(make: MakeScene, folder: Path) -> Path:
    Image.fromarray(noise(300, 280)).save(folder / "photo.png")
    return folder / "photo.png"


ODD: dict[str, Odd] = {
    "black edge": lambda make, _: make(edged(0)),
    "white edge": lambda make, _: make(edged(255)),
    "fill value": lambda make, _: make(np.where(edged(0) == 0, -9999.0, 0.5).astype(np.float32)),
    "dark": lambda make, _: make(noise(100, 100) // 8),
    "no place": lambda make, _: make(noise(100, 100), georeference={}),
    "no system": lambda make, _: make(noise(100, 100), georeference=ONLY_TRANSFORM),
    "coarse": lambda make, _: make(noise(100, 100), georeference=COARSE),
    "grey": lambda make, _: make(noise(100, 100, 1), colours=GREY),
    "a band alone": lambda make, _: make(noise(100, 100, 1), "S2_B04_10m.tif", colours=GREY),
    "two bands": lambda make, _: make(noise(100, 100, 2), colours=UNNAMED[:2]),
    "unnamed bands": lambda make, _: make(noise(100, 100, 3), colours=UNNAMED),
    "infrared": _infrared,
    "bent": _bent,
    "rational polynomials": _rpc,
    "broken world file": _broken_world_file,
    "pages": _pages,
    "mosaic": _mosaic,
    "folder": _folder,
    "bands in files": _laid,
    "tiles from the south": _tiles,
    "image": _image,
    "plain": lambda make, _: make(smooth(100, 100)),
}


@pytest.mark.parametrize("kind", ODD)
def test_info_says_what_translating_says(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    source, model = ODD[kind](make_scene, tmp_path), make_model((0.5, 2.0))
    facts = scene_facts(source, model)
    assert not caplog.messages, "they are returned"
    told = facts["notices"]
    raster = kind in ("mosaic", "bands in files") or source.suffix == ".tif"
    for target in ("maps.tif",) if raster else ("maps.png",) if kind == "image" else ("maps",):
        translate_path(model, source, tmp_path / target)
    assert set(told) == {r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING}
    assert bool(told) is (kind not in ("plain", "image"))
    assert len(told) == len(set(told))
    for notice in told:
        assert notice.startswith(str(source)), "it names the file"
        assert "`" not in with_options(notice), "what it names has an option"


def test_with_a_part_as_without(
    make_scene: MakeScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, model = make_scene(edged(0)), with_classes((0.5, 2.0))
    with Scene(source, 3, say=lambda _: None) as scene:
        bbox = bounds_wgs84(scene.grid.part(0, 0, 64, 64))
    reading = Reading(bbox=bbox)
    facts = scene_facts(source, model, reading)
    translate_path(model, source, tmp_path / "map.tif", SceneOptions(reading))
    assert facts["notices"] == caplog.messages
    assert facts["nodata_share"] == 0
    cured = scene_facts(source, model, Reading(bbox=bbox, nodata=(0.0,)))
    assert cured["nodata_share"] == pytest.approx(40 / 64, abs=0.05)
    assert cured["bounds"] == pytest.approx(bbox, abs=1e-4)


def test_vectors_of_a_photo_say_the_same(make_scene: MakeScene, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source, model = make_scene(smooth(60, 70), colours=UNNAMED), with_classes((1.5, 2.0))
    model_too_fine = with_classes((0.2, 0.6))
    assert len(scene_facts(source, model_too_fine)["notices"]) == 2
    said: list[str] = []
    vectorise_photo(source, tmp_path / "town.gpkg", model, say=said.append)
    assert said == scene_facts(source, model)["notices"]
    reading = Reading(bands=(1, 2, 3), pixel_size=1.5)
    vectorise_photo(source, tmp_path / "cured.gpkg", model, reading=reading, say=said.append)
    assert len(said) == 1


def test_a_folder_of_images_is_told_of_file_by_file(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(translators, "load", lambda *_, **__: make_model((0.5, 2.0)))
    folder = _folder(make_scene, tmp_path)
    (folder / "c.png").write_bytes(b"no image")
    told = CliRunner().invoke(app, ["info", str(folder), "--json"])
    assert told.exit_code == 1
    assert "c.png: is not a PNG, JPEG, WebP or AVIF image" in told.stderr
    facts = json.loads(told.stdout)
    assert [each["name"] for each in facts["each"]] == ["a.png", "b.tif"]
    assert facts["files"] == 3
    shown = CliRunner().invoke(app, ["info", str(folder)]).stdout
    assert all(f"# {name}" in shown for name in ("photos", "a.png", "b.tif"))
    assert "estimated time" in shown
