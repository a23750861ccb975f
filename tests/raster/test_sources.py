from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from fixtures.scenes import MakeScene, cut_tiles, noise
from sat2map.errors import DataError
from sat2map.raster import sources
from sat2map.raster.scene import Scene
from sat2map.raster.sources import open_source


def save(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise(9, 12)).save(path)
    return path


def test_what_names_stand_for(make_scene: MakeScene, tmp_path: Path) -> None:
    ortho = make_scene(noise(20, 30))
    photo, turned = save(tmp_path / "photo.png"), save(tmp_path / "turned.jpg")
    plain = save(tmp_path / "plain.tif")
    turned.with_suffix(".jgw").write_text("1\n0\n0\n-1\n500000.5\n4999999.5\n")
    photos = save(tmp_path / "photos" / "1.png").parent
    tiles = cut_tiles(tmp_path / "tiles", noise(64, 64), 9, 3, 4)
    cut_tiles(tiles, noise(32, 32), 8, 1, 2)
    zoom = f"{tiles}/8/{{x}}/{{y}}.png"
    for name, kind, is_georeferenced, size in (
        (ortho, "scene", True, (20, 30)),
        (f"vrt://{ortho}?bands=1,2,3", "address", True, (20, 30)),
        (f"/vsisubfile/0_,{ortho}", "address", True, (20, 30)),
        (photo, "image", False, (9, 12)),
        (turned, "scene", True, (9, 12)),
        (plain, "scene", False, (9, 12)),
        (tiles, "tile tree", True, (64, 64)),
        (zoom, "tile tree", True, (32, 32)),
    ):
        with open_source(name if isinstance(name, str) else str(name)) as source:
            assert source.kind == kind, name
            assert source.is_georeferenced == is_georeferenced
            assert source.grid is not None
            assert (source.grid.height, source.grid.width) == size
            assert open_source(source) is source
    folder = open_source(photos)
    assert (folder.kind, folder.files) == ("folder", (photos / "1.png",))


def test_a_folder_is_read_as_the_mosaic_of_its_files(make_scene: MakeScene, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for right in (0, 25):
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, right, 0, -1, 9)}
        make_scene(noise(30, 30), georeference=place).rename(scenes / f"{right}.tif")
    mosaic = open_source(scenes).as_scene()
    assert (mosaic.kind, mosaic.name) == ("mosaic", "scenes")
    assert mosaic.files == (scenes / "0.tif", scenes / "25.tif")
    assert mosaic.as_scene() is mosaic
    with Scene(scenes, 3) as one, Scene(mosaic, 3) as other:
        assert one.grid == other.grid == mosaic.grid
        assert np.array_equal(one.read(0, 0, 30, 55)[0], other.read(0, 0, 30, 55)[0])


def test_nobody_waits_for_more_than_the_file_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, read = threading.Event(), threading.Event(), []

    def slow(files: list[Path], _: object) -> str:
        read.extend(files)
        begun.set()
        go_on.wait(60)
        return ""

    monkeypatch.setattr(sources, "fingerprint_files", slow)
    files = (tmp_path / "0.tif", tmp_path / "1.tif")
    source = sources.Source("mosaic", tmp_path, "scenes", files=files)
    with source.read_ahead():
        assert begun.wait(60)
        threading.Timer(0.2, go_on.set).start()
    assert read == [files[0]]


def test_what_was_opened_is_handed_on_once(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    real = rasterio.open

    def noted(*arguments: Any, **options: Any) -> Any:
        opened.append(real(*arguments, **options))
        return opened[-1]

    path = make_scene(noise(20, 30))
    monkeypatch.setattr(rasterio, "open", noted)
    with open_source(path) as source:
        first, second = source.open(), source.open()
        assert [first, second] == opened
        first.close()
        second.close()
    with open_source(path):
        assert not opened[-1].closed
    assert opened[-1].closed
    assert len(opened) == 3


@pytest.mark.parametrize("name", ["scene.tif", "tiles"])
def test_another_process_can_open_it_too(make_scene: MakeScene, tmp_path: Path, name: str) -> None:
    pixels = noise(32, 64)
    make_scene(pixels)
    cut_tiles(tmp_path / "tiles", pixels, 9, 3, 4)
    source = pickle.loads(pickle.dumps(open_source(tmp_path / name)))
    with Scene(source, 3) as scene:
        assert np.array_equal(scene.read(0, 0, 32, 64)[0], pixels)


def test_a_broken_image_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("no image")
    (tmp_path / "ortho.tif").write_text("no raster")
    assert open_source(tmp_path / "photo.png").kind == "image"
    with pytest.raises(DataError, match=r"ortho\.tif: cannot be read"):
        open_source(tmp_path / "ortho.tif")


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, line in (
        (tmp_path / "no.tif", r"no\.tif: there is no such file"),
        (tmp_path / "empty", "empty: has no images"),
        (f"{tmp_path}/{{z}}/{{x}}/{{y}}.png", "there are no such tiles"),
        ("/vsicurl/file:///nowhere.tif", "cannot be read"),
    ):
        with pytest.raises(DataError, match=line):
            open_source(name)
