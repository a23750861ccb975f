"""What may be served, under which ids, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.scenes import MakeModel, MakeScene
from sat2map.errors import DataError, UsageError
from sat2map.legend import STREETS
from sat2map.serve.scenes import scene_id

from .conftest import Start
from .test_tiles import blocks


def test_ids_are_fit_for_addresses_and_unique() -> None:
    taken: list[str] = []
    for name in ("ortho", "ortho", "ortho-2", "a/b\\c", "Größe 1", "地図", "<b>&", "..", "x" * 99):
        taken.append(scene_id(name, taken))
    assert taken == [
        "ortho",
        "ortho-2",
        "ortho-2-2",
        "a-b-c",
        "Groe-1",
        "scene",
        "b",
        "scene-2",
        "x" * 64,
    ]
    assert all(part.isalnum() or part in "-_" for id in taken for part in id)
    assert len(set(taken)) == len(taken)


def test_a_folder_is_all_of_its_scenes_but_what_lies_nowhere(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "flights"
    folder.mkdir()
    for name in ("b.tif", "a.tif"):
        make_scene(blocks(40, 40), name=f"flights/{name}")
    make_scene(blocks(40, 40), name="flights/nowhere.tif", georeference={})
    (folder / "broken.tif").write_bytes(b"II*\x00nothing")
    served = start(folder)
    assert list(served.service.scenes) == ["a", "b"]
    for name in ("nowhere.tif", "broken.tif"):
        assert any(name in line and "left out" in line for line in served.said)
    (folder / "a.tif").unlink()
    (folder / "b.tif").unlink()
    with pytest.raises(DataError, match=r"flights: holds nothing that can be shown"):
        start(folder)


def test_what_cannot_be_shown_is_refused_by_one_line(
    make_scene: MakeScene, make_model: MakeModel, start: Start, tmp_path: Path
) -> None:
    nowhere = make_scene(blocks(40, 40), name="nowhere.tif", georeference={})
    with pytest.raises(DataError, match=r"nowhere\.tif: does not say where on the web's map"):
        start(nowhere)
    with pytest.raises(DataError, match=r"missing\.tif: there is no such file"):
        start(tmp_path / "missing.tif")
    # A network that sees the whole image has no window that stands alone; its maps may be shown.
    with pytest.raises(UsageError, match=r"no tile of a map stands alone.*sat2map translate"):
        start(make_scene(blocks(40, 40)), model=make_model(legend=STREETS))


def test_a_virtual_raster_may_name_files_of_its_own_folder_alone(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    mine = make_scene(blocks(40, 40), name="mine/photo.tif")
    theirs = make_scene(blocks(40, 40), name="theirs/photo.tif")
    virtual = tmp_path / "mine" / "virtual.vrt"
    for name, relative, allowed in (
        ("photo.tif", 1, True),
        (str(mine), 0, True),
        ("../theirs/photo.tif", 1, False),
        (str(theirs), 0, False),
        ("/vsicurl/http://127.0.0.1:1/photo.tif?key=secret", 0, False),
        ("/etc/passwd", 0, False),
    ):
        virtual.write_text(_virtual(name, relative))
        if allowed:
            assert start(virtual).scene("virtual").layers[0] == "photo"
            continue
        with pytest.raises(DataError) as error:
            start(virtual)
        assert "secret" not in str(error.value)
    virtual.write_text(_virtual("../theirs/photo.tif", 1))
    with pytest.raises(DataError, match=r"virtual\.vrt: names '\.\./theirs/photo\.tif'.*trust_vrt"):
        start(virtual)
    assert start(virtual, trust_vrt=True).scene("virtual").layers[0] == "photo"
    # One within another is looked through, and so is a link out of the folder.
    (tmp_path / "mine" / "inner.vrt").write_text(_virtual("../theirs/photo.tif", 1))
    virtual.write_text(_virtual("inner.vrt", 1))
    with pytest.raises(DataError, match="not a file of its own folder"):
        start(virtual)
    (tmp_path / "mine" / "link.tif").symlink_to(theirs)
    virtual.write_text(_virtual("link.tif", 1))
    with pytest.raises(DataError, match="not a file of its own folder"):
        start(virtual)


def _virtual(name: str, relative: int) -> str:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    return (
        '<VRTDataset rasterXSize="40" rasterYSize="40"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000,1,0,5000000,0,-1</GeoTransform>{bands}</VRTDataset>"
    )
