"""Archives of tiles that were written earlier, and a basemap below everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.scenes import MakeScene, smooth, with_classes
from sat2map.errors import DataError, UsageError
from sat2map.geo.web_mercator import position
from sat2map.raster.options import SceneOptions
from sat2map.serve import scenes
from sat2map.serve.app import AppOptions
from sat2map.serve.archives import TileArchive
from sat2map.serve.basemap import Basemap
from sat2map.translation.scene import translate_raster

from .conftest import Served, Start
from .test_tiles import blocks

pytest.importorskip("pmtiles")


@pytest.fixture
def drawn(make_scene: MakeScene, tmp_path: Path) -> Path:
    """An archive of PNG tiles."""
    options = SceneOptions(window=64, attribution="© <b>Us</b>")
    source = make_scene(smooth(300, 280))
    return translate_raster(source, tmp_path / "map.pmtiles", with_classes((0.5, 2.0)), options)


def some_tile(served: Served, id: str, zoom: int) -> tuple[int, int]:
    west, south, east, north = served.scene(id).bounds
    x, y = position((west + east) / 2, (south + north) / 2, zoom)
    return int(x), int(y)


def test_an_archive_of_images_is_shown_as_it_is(drawn: Path, start: Start) -> None:
    served = start(drawn)
    (listed,) = served.client.get("/scenes").json()["scenes"]
    assert (listed["id"], listed["layers"]) == ("map", ["map"])
    told = served.client.get("/scenes/map/map/tilejson.json").json()
    assert told["attribution"] == "© &lt;b&gt;Us&lt;/b&gt;"
    zoom = told["maxzoom"]
    x, y = some_tile(served, "map", zoom)
    path = f"/scenes/map/map/{zoom}/{x}/{y}"
    archive = TileArchive(drawn)
    assert served.client.get(f"{path}.png").content == archive._tile(zoom, x, y)
    archive.close()
    png = served.pixels(f"{path}.png")
    webp = served.pixels(f"{path}.webp")
    assert png[..., 3].any()
    shown = png[..., 3] > 0
    assert np.array_equal(png[shown], webp[shown])
    twice = served.pixels(f"{path}@2x.png")
    assert np.array_equal(twice[::2, ::2], png)
    finer = served.pixels(f"/scenes/map/map/{zoom + 1}/{2 * x + 1}/{2 * y}.png")
    assert np.array_equal(finer[::2, ::2], png[:128, 128:])
    assert served.client.get(f"/scenes/map/map/{zoom}/{x + 99}/{y}.png").status_code == 404
    assert served.client.get(f"{path}.mvt").status_code == 404
    assert served.service.workshop.model_name is None


def test_what_an_archive_cannot_tell_is_said(drawn: Path, start: Start) -> None:
    served = start(drawn)
    west, south, east, north = served.scene("map").bounds
    place = f"lon={(west + east) / 2}&lat={(south + north) / 2}"
    for path in (f"point?{place}", f"export?bbox={west},{south},{east},{north}&layer=map"):
        answer = served.client.get(f"/scenes/map/{path}")
        assert answer.status_code == 404
        assert "map.pmtiles: " in answer.json()["detail"]
    assert served.client.get("/scenes/map/legend").json()["classes"] == []
    assert served.client.get("/scenes/map/style.json").status_code == 404
    assert "/map/{TileMatrix}/" in served.client.get("/scenes/map/WMTSCapabilities.xml").text


def test_vectors_come_with_their_style(town: Path, start: Start) -> None:
    served = start(town)
    (listed,) = served.client.get("/scenes").json()["scenes"]
    assert listed["layers"] == ["vectors"]
    style = served.client.get("/scenes/town/style.json").json()
    address = "http://localhost/scenes/town/vectors/{z}/{x}/{y}.mvt"
    (source,) = style["sources"].values()
    assert source["tiles"] == [address]
    assert "roads" in {layer["id"] for layer in style["layers"]}
    assert {layer.get("source", "map") for layer in style["layers"]} == {"map"}
    zoom = source["maxzoom"]
    x, y = some_tile(served, "town", zoom)
    path = f"/scenes/town/vectors/{zoom}/{x}/{y}.mvt"
    packed = served.client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = served.client.get(path, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"  # which the client has unpacked
    assert packed.content == plain.content
    assert b"ground" in plain.content
    assert plain.headers["content-type"] == "application/vnd.mapbox-vector-tile"
    assert served.client.get(path.replace(".mvt", ".png")).status_code == 404
    town.with_suffix(".style.json").unlink()
    plain_style = served.client.get("/scenes/town/style.json").json()
    assert {layer["type"] for layer in plain_style["layers"]} == {"line"}


def test_a_damaged_style_says_so(town: Path, start: Start) -> None:
    served = start(town)
    for text in ("{", '{"layers": 3}', "[" * 100_000):
        town.with_suffix(".style.json").write_text(text)
        answer = served.client.get("/scenes/town/style.json")
        assert answer.status_code == 500
        assert "its style town.style.json is damaged" in answer.json()["detail"]
        assert str(town.parent) not in answer.text


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "lengths", "metadata"])
def test_a_damaged_archive_is_one_line(drawn: Path, start: Start, damage: str) -> None:
    content = bytearray(drawn.read_bytes())
    if damage == "cut":
        del content[100:]
    elif damage == "empty":
        content.clear()
    elif damage == "text":
        content[:7] = b"PNTiles"
    elif damage == "lengths":
        content[32:40] = b"\xff" * 8
    else:
        offset = int.from_bytes(content[24:32], "little")
        content[offset : offset + 20] = b"x" * 20
    drawn.write_bytes(content)
    with pytest.raises(DataError, match="is damaged, or not a PMTiles archive") as caught:
        start(drawn)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(DataError, match="there is no such file"):
        start(drawn.with_name("missing.pmtiles"))


def test_an_archive_that_is_cut_off_or_changed_under_way_is_noticed(
    drawn: Path, town: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(drawn)
    zoom = served.scene("map").highest("map")
    x, y = some_tile(served, "map", zoom)
    path = f"/scenes/map/map/{zoom}/{x}/{y}.png"
    before = served.client.get(path)
    content = drawn.read_bytes()
    drawn.write_bytes(content[:400])  # the same file, shorter
    answer = served.client.get(path)
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("map.pmtiles: is damaged")
    monkeypatch.setattr(scenes, "LOOK_S", 0.0)
    drawn.write_bytes(town.read_bytes())
    assert served.client.get("/scenes").json()["scenes"][0]["layers"] == ["vectors"]
    assert served.client.get(path).status_code == 404
    drawn.write_bytes(content)
    assert served.client.get(path).content == before.content


@pytest.mark.parametrize(
    "address",
    [
        "tiles.example.org/{z}/{x}/{y}.png",
        "ftp://tiles.example.org/{z}/{x}/{y}.png",
        "https://tiles.example.org/{z}/{x}.png",
        "https://tiles.example.org/{z}/{x}/{y}/{s}.png",
        "https://{s}.example.org/{z}/{x}/{y}.png",
        "https://a.example; script-src */{z}/{x}/{y}.png",
        "https://me:secret@example.org/{z}/{x}/{y}.png",
        "https:///{z}/{x}/{y}.png",
        "https://example.org/{z}/{x}/{y}.png\nx",
    ],
)
def test_a_basemap_is_at_one_address(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        Basemap(address)
    assert caught.value.parameter == "basemap"
    assert len(str(caught.value).splitlines()) == 1


def test_the_policy_lets_in_the_basemap_and_no_other(make_scene: MakeScene, start: Start) -> None:
    basemap = Basemap("https://tiles.example.org/{z}/{x}/{y}.png?k=1", "© <i>OSM</i>")
    served = start(make_scene(blocks(30, 30)), app=AppOptions(basemap=basemap))
    told = served.client.get("/scenes")
    assert told.json()["basemap"] == {
        "tiles": "https://tiles.example.org/{z}/{x}/{y}.png?k=1",
        "attribution": "© &lt;i&gt;OSM&lt;/i&gt;",
    }
    policy = dict(
        part.split(" ", 1) for part in told.headers["content-security-policy"].split("; ")
    )
    assert policy["connect-src"] == "'self' https://tiles.example.org"
    assert policy["img-src"] == "'self' data: blob: https://tiles.example.org"
    assert [part for part in policy.values() if "http" in part] == [
        policy["img-src"],
        policy["connect-src"],
    ]
    assert told.headers["referrer-policy"] == "strict-origin"
    without = start(make_scene(blocks(30, 30)))
    assert "basemap" not in without.client.get("/scenes").json()
    assert "http" not in without.client.get("/scenes").headers["content-security-policy"]


def test_archives_in_a_folder_are_scenes(
    drawn: Path, town: Path, make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "flights"
    folder.mkdir()
    for path, name in ((drawn, "b.pmtiles"), (town, "a.PMTILES"), (drawn, "._b.pmtiles")):
        (folder / name).write_bytes(path.read_bytes())
    alone = start(folder)  # which has no image
    assert list(alone.service.scenes) == ["a", "b"]
    make_scene(blocks(60, 60)).rename(folder / "c.tif")
    (folder / "d.pmtiles").write_bytes(b"PMTiles")
    (folder / "notes.txt").write_text("x")
    served = start(folder)
    listed = served.client.get("/scenes").json()["scenes"]
    assert [(scene["id"], scene["layers"][0]) for scene in listed] == [
        ("a", "vectors"),
        ("b", "map"),
        ("c", "photo"),
    ]
    assert any("d.pmtiles: is damaged" in said and "left out" in said for said in served.said)
    for name in ("a.PMTILES", "b.pmtiles", "c.tif"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="holds nothing that can be shown"):
        start(folder)


def test_mbtiles_that_translate_wrote_are_a_map_and_no_photo(
    drawn: Path, make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    options, model = SceneOptions(window=64), with_classes((0.5, 2.0))
    source = make_scene(smooth(300, 280), name="photo.tif")
    written = translate_raster(source, folder / "same.mbtiles", model, options)
    for named in (written, folder):
        served = start(named, drawn)
        assert served.scene("same").layers == ("map",)
    zoom = served.scene("map").highest("map")
    assert served.scene("same").highest("map") == zoom
    x, y = some_tile(served, "same", zoom)
    found, expected = (
        served.pixels(f"/scenes/{id}/map/{zoom}/{x}/{y}.png") for id in ("same", "map")
    )
    assert np.array_equal(found[..., 3], expected[..., 3])
    inside = found[..., 3] > 0
    assert inside.mean() > 0.5
    # GDAL lays them by the bounds that they tell, up to a pixel beside where they are.
    assert np.abs(found[inside].mean(0) - expected[inside].mean(0)).max() < 2
    assert served.service.workshop.pool.computed == 0
