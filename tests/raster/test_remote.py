"""Scenes at an address, against a local server that serves ranges, and fails when told to."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import WktVersion
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine

from fixtures.remote import Server
from fixtures.scenes import MakeModel, MakeScene, smooth
from sat2map.errors import DataError
from sat2map.geo import gdal
from sat2map.raster.options import SceneOptions
from sat2map.raster.scene import Scene
from sat2map.raster.sources import open_source
from sat2map.translation.info import scene_facts
from sat2map.translation.scene import translate_raster

SMALL = SceneOptions(window=64, overlap=16)


@pytest.fixture
def cog(make_scene: MakeScene, tmp_path: Path) -> Path:
    path = make_scene(smooth(700, 900))
    copy_raster(path, tmp_path / "cog.tif", driver="COG", blocksize=128, compress="deflate")
    return tmp_path / "cog.tif"


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        pixels: np.ndarray = file.read().transpose(1, 2, 0)
        return pixels


@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_an_address_is_read_in_ranges(
    server: Server, cog: Path, make_model: MakeModel, tmp_path: Path, prefix: str
) -> None:
    shutil.copy(cog, server.folder / "ortho.tif")
    address = f"{prefix}{server.address}/ortho.tif?token=secret"
    translate_raster(address, tmp_path / "map.tif", make_model(), SMALL)
    assert np.array_equal(read(tmp_path / "map.tif"), smooth(700, 900))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs.to_epsg() == 32633
        assert '"source": "ortho.tif"' in file.tags()["SAT2MAP_PARAMETERS"]
        assert "secret" not in str(file.tags())
    assert {path for path, _ in server.asked} == {"/ortho.tif"}, "nothing beside it is asked for"
    assert all(span for _, span in server.asked if span), "it is never fetched as a whole"


def test_an_address_can_be_asked_about(server: Server, cog: Path) -> None:
    shutil.copy(cog, server.folder / "look.tif")
    facts = scene_facts(f"{server.address}/look.tif")
    assert facts["name"] == "look.tif"
    assert (facts["width"], facts["height"]) == (900, 700)
    assert {path for path, _ in server.asked} == {"/look.tif"}


def test_errors_for_a_while_are_waited_for(
    server: Server, cog: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    """Every other request fails, later also several in a row."""
    shutil.copy(cog, server.folder / "busy.tif")
    server.fail(*[0, 503, 0, 503, 502, 429] * 50)
    translate_raster(f"{server.address}/busy.tif", tmp_path / "map.tif", make_model(), SMALL)
    assert np.array_equal(read(tmp_path / "map.tif"), smooth(700, 900))


def test_more_errors_than_gdal_waits_for(
    server: Server, cog: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    """GDAL gives up after five failures; what it then says is tried again too."""
    shutil.copy(cog, server.folder / "worse.tif")
    server.fail(*[0] * 6, *[503] * 7)
    translate_raster(f"{server.address}/worse.tif", tmp_path / "map.tif", make_model(), SMALL)
    assert np.array_equal(read(tmp_path / "map.tif"), smooth(700, 900))


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_cannot_be_fetched_is_said_in_a_line(
    server: Server, cog: Path, make_model: MakeModel, tmp_path: Path, status: int
) -> None:
    shutil.copy(cog, server.folder / f"{status}.tif")
    server.fail(then=status)
    address = f"{server.address}/{status}.tif"
    with pytest.raises(DataError, match=rf"{status}\.tif: cannot be read .*Check the address"):
        translate_raster(address, tmp_path / "map.tif", make_model(), SMALL)
    server.fail(*[0] * 6, then=status)
    address = f"{server.address}/later{status}.tif"
    shutil.copy(cog, server.folder / f"later{status}.tif")
    with pytest.raises(DataError, match=rf"later{status}\.tif: cannot be read"):
        translate_raster(address, tmp_path / "map.tif", make_model(), SMALL)
    assert not (tmp_path / "map.tif").exists()


def test_nobody_answers(make_model: MakeModel, tmp_path: Path, server: Server) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        translate_raster("http://127.0.0.1:9/no.tif", tmp_path / "map.tif", make_model(), SMALL)


def test_a_drive_that_fails_for_a_while(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is half gone while it is read, and back a moment later."""
    path = make_scene(smooth(300, 300), tiled=True, blockxsize=64, blockysize=64)
    content = path.read_bytes()
    monkeypatch.setattr(gdal, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setitem(gdal.SETTINGS, "GDAL_CACHEMAX", 10_000)  # nothing is kept of a first look
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        path.write_bytes(content)

    monkeypatch.setattr(gdal.time, "sleep", sleep)

    def progress(done: int, total: int) -> None:
        if not waits:
            path.write_bytes(content[: len(content) // 2])

    translate_raster(path, tmp_path / "map.tif", make_model(), SMALL, progress)
    assert waits, "nothing failed"
    assert np.array_equal(read(tmp_path / "map.tif"), smooth(300, 300))


def test_a_signature_is_not_told_and_may_be_renewed(
    make_scene: MakeScene, server: Server, tmp_path: Path, make_model: MakeModel
) -> None:
    with pytest.raises(DataError) as caught:
        scene_facts(f"{server.address}/none.tif?X-Amz-Signature=SECRET", None)
    assert "none.tif" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    tall = make_scene(smooth(1400, 300), "tall.tif")  # whose first 512 rows are kept
    copy_raster(tall, server.folder / "cog.tif", driver="COG", blocksize=128, compress="deflate")
    target, done = tmp_path / "map.tif", []

    def interrupt(pixels: int, _: int) -> None:
        done.append(pixels)
        if pixels > 300_000:
            raise KeyboardInterrupt

    address = f"{server.address}/cog.tif?X-Amz-Signature="
    assert "SECRET" not in repr(open_source(f"{address}SECRET"))
    with pytest.raises(KeyboardInterrupt):
        translate_raster(address + "1", target, make_model(), SMALL, interrupt)
    done.clear()
    resume = replace(SMALL, resume=True)
    translate_raster(address + "2", target, make_model(), resume, lambda n, _: done.append(n))
    assert done[0] > 0
    assert b"Signature" not in target.read_bytes()


@pytest.mark.parametrize("kind", ["prj", "tif.xml", "tif.aux.xml"])
def test_what_stands_beside_an_address_says_where_it_lies(server: Server, kind: str) -> None:
    Image.fromarray(smooth(40, 50)).save(server.folder / "scene.tif")
    (server.folder / "scene.tfw").write_text("1\n0\n0\n-1\n500000.5\n4999999.5\n")
    wkt = CRS.from_epsg(32633).to_wkt(version=WktVersion.WKT1_ESRI)
    text = {"prj": wkt, "tif.xml": f"<C><WKT>{wkt}</WKT></C>"}.get(
        kind, f"<PAMDataset><SRS>{CRS.from_epsg(32633).to_wkt()}</SRS></PAMDataset>"
    )
    (server.folder / f"scene.{kind}").write_text(text)
    said: list[str] = []
    with Scene(f"{server.address}/scene.tif", 3, say=said.append) as scene:
        again = scene.opened_again()
        for each in (scene, again):
            assert each.grid.crs is not None
            assert each.grid.crs.to_epsg() == 32633
            assert each.grid.transform.almost_equals(Affine(1, 0, 500_000, 0, -1, 5_000_000))
            assert np.array_equal(each.read(0, 0, 40, 50)[0], smooth(40, 50))
        again.dataset.close()
    asked = len(server.asked)
    with Scene(f"{server.address}/scene.tif?signature=1", 3, say=said.append) as scene:
        assert not scene.grid.georeferenced, "what is signed is signed for itself alone"
    assert {path for path, _ in server.asked[asked:]} == {"/scene.tif"}
