"""What each address answers, and what bad ones get."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

from fixtures.scenes import MakeScene, with_classes
from sat2map.errors import DataError
from sat2map.legend import COVER, LEGEND_TAG
from sat2map.serve import results, scenes, service, warming
from sat2map.serve.app import AppOptions
from sat2map.serve.guard import Access
from sat2map.serve.overviews import NOTHING
from sat2map.serve.page import read_page
from sat2map.translation.scene_windows import SceneWindows

from .conftest import Served, Start
from .test_tiles import blocks

FORBIDDEN = ("<script>", "Traceback", 'File "')


def any_tile(served: Served, layer: str = "classes", id: str = "scene", more: int = 0) -> str:
    zoom = served.scene(id).highest("classes") + more
    x, y = served.tiles(zoom, id)[0]
    return f"/scenes/{id}/{layer}/{zoom}/{x}/{y}.png"


def test_scenes_are_listed_as_json_and_as_a_page(make_scene: MakeScene, start: Start) -> None:
    served = start(make_scene(blocks(60, 60)), make_scene(blocks(60, 60), name="a b&<i>.tif"))
    listed = served.client.get("/scenes").json()
    assert [(s["id"], s["name"]) for s in listed["scenes"]] == [
        ("scene", "scene.tif"),
        ("a-b-i", "a b&<i>.tif"),
    ]
    west, south, east, north = listed["scenes"][0]["bounds"]
    assert (14.99 < west < east < 15.01) and (45.1 < south < north < 45.2)
    assert set(listed["scenes"][0]) == {"id", "name", "bounds", "layers"}
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/scenes", "/"):
        page = served.client.get(path, headers=browser)
        assert page.headers["content-type"].startswith("text/html")
        assert "http://localhost/scenes/a-b-i/WMTSCapabilities.xml" in page.text
        assert "<i>" not in page.text
        assert "a b&amp;&lt;i&gt;.tif" in page.text


def test_the_page_is_served_where_there_is_one(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    assert read_page(folder) == {}
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>the page")
    (folder / "assets" / "main-1.js").write_text("1")
    (folder / "assets" / ".env").write_text("secret")
    (folder / "secret.js").write_text("secret")
    served = start(make_scene(blocks(60, 60)), app=AppOptions(page=read_page(folder)))
    home = served.client.get("/")
    assert (home.text, home.headers["content-type"]) == ("<p>the page", "text/html; charset=utf-8")
    script = served.client.get("/assets/main-1.js")
    assert (script.text, script.headers["content-type"].partition(";")[0]) == (
        "1",
        "text/javascript",
    )
    assert "immutable" in script.headers["cache-control"]
    for path in ("/assets/.env", "/assets/../secret.js", "/assets/..%2fsecret.js", "/secret.js"):
        answer = served.client.get(path)
        assert answer.status_code == 404
        assert "secret" not in answer.text


def test_tilejson_tells_where_and_how_deep(make_scene: MakeScene, start: Start) -> None:
    options = AppOptions(
        attribution="© <b>Somebody</b>",
        public_url="https://maps.example/x/",
        access=Access(frozenset({"localhost"})),
    )
    served = start(make_scene(blocks(60, 60)), app=options)
    told = served.client.get("/scenes/scene/map/tilejson.json").json()
    assert told["tiles"] == ["https://maps.example/x/scenes/scene/map/{z}/{x}/{y}.png"]
    assert told["attribution"] == "© &lt;b&gt;Somebody&lt;/b&gt;"
    assert told["bounds"] == list(served.scene().bounds)
    assert told["minzoom"] < told["maxzoom"] == 17  # 1 m at 45 degrees
    assert served.client.get("/scenes/scene/nothing/tilejson.json").status_code == 404
    assert served.client.get("/scenes/nobody/map/tilejson.json").status_code == 404


def test_html_in_names_and_legends_and_attributions_stays_text(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    bad = "<img src=x onerror=alert(1)>&"
    legend = COVER.to_json()
    legend[1]["name"] = bad
    numbers = np.ones((40, 40, 1), np.uint8)
    path = make_scene(numbers, name=f"{bad}.tif", nodata=255)
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{LEGEND_TAG: json.dumps(legend)})
    served = start(path, app=AppOptions(attribution=bad))
    (id,) = served.service.scenes
    told = served.client.get(f"/scenes/{id}/legend")
    assert told.headers["content-type"] == "application/json"
    assert told.json()["classes"][1]["name"] == bad
    root = ElementTree.fromstring(served.client.get(f"/scenes/{id}/WMTSCapabilities.xml").text)
    texts = [element.text for element in root.iter()]
    assert bad in texts
    assert f"{bad}.tif" in texts
    assert not [element.tag for element in root.iter() if element.tag.endswith("img")]
    assert "<img" not in served.client.get("/scenes", headers={"Accept": "text/html"}).text
    assert "<img" not in served.client.get(f"/scenes/{id}/classes/tilejson.json").text


def test_a_point_tells_class_confidence_and_metres(make_scene: MakeScene, start: Start) -> None:
    pixels = blocks(60, 60)
    pixels[:20, :20] = 0
    served = start(make_scene(pixels, nodata=0))
    scene = served.scene()
    assert scene.results is not None
    scene.results.ask((0, 0), "test").future.result(60)
    layers, _ = scene.results.read(0, scene.results._windows.place(0, 0), ["numbers", "confidence"])
    grid = scene.results.grid
    for row, column in ((10, 10), (30, 40), (59, 59)):
        x, y = grid.transform @ (column + 0.5, row + 0.5)
        (lon,), (lat,) = rasterio.warp.transform(grid.crs, "EPSG:4326", [x], [y])
        told = served.client.get(f"/scenes/scene/point?lon={lon}&lat={lat}").json()
        number = int(layers["numbers"][row, column])
        assert told["metres"] == pytest.approx(1, abs=0.01)
        if number == NOTHING:
            assert told["class"] is told["number"] is told["confidence"] is None
        else:
            assert scene.legend is not None
            assert told["class"] == scene.legend.names[number]
            assert told["confidence"] == round(layers["confidence"][row, column] / 255, 3)
    assert served.client.get("/scenes/scene/point?lon=0&lat=0").status_code == 404
    for query in (
        "",
        "lon=15",
        "lon=x&lat=45",
        "lon=nan&lat=45",
        "lon=1e999&lat=0",
        "lon=0&lat=91",
    ):
        assert served.client.get(f"/scenes/scene/point?{query}").status_code == 422, query


def test_what_has_not_changed_is_not_sent_again(make_scene: MakeScene, start: Start) -> None:
    served = start(make_scene(blocks(60, 60)))
    path = any_tile(served)
    first = served.client.get(path)
    etag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"
    again = served.client.get(path, headers={"If-None-Match": f'W/"x", {etag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert served.client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    head = served.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    other = served.client.get(path.replace("classes", "map"))
    assert other.headers["ETag"] != etag


def test_a_window_is_computed_once_for_all_layers_and_tiles_and_servers(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    maps = SceneWindows.maps

    def counted(self: SceneWindows, row: int, column: int, layers: Any) -> Any:
        asked.append((row, column))
        return maps(self, row, column, layers)

    monkeypatch.setattr(SceneWindows, "maps", counted)
    source, model = make_scene(blocks(150, 190)), with_classes((0.5, 2.0))
    served = start(source, model=model)
    for layer in ("map", "classes", "confidence", "numbers"):
        for more in (-1, 0, 1, 2):
            for x, y in served.tiles(served.scene().highest("map") + more)[:6]:
                zoom = served.scene().highest("map") + more
                served.pixels(f"/scenes/scene/{layer}/{zoom}/{x}/{y}.png")
    assert len(asked) == len(set(asked)) > 4
    before = len(asked)
    again = start(source, model=model)  # another process would have the same folder
    assert again.client.get(any_tile(again)).content == served.client.get(any_tile(served)).content
    assert len(asked) == before
    # Other options are other results.
    start(source, model=model, class_legend="map").client.get(any_tile(again))
    assert len(asked) > before


def test_a_tile_of_too_many_windows_shows_what_is_there(
    make_scene: MakeScene, start: Start
) -> None:
    served = start(make_scene(blocks(400, 400)), window=32)
    scene = served.scene()
    assert scene.results is not None
    zoom = scene.pyramid.lowest
    x, y = served.tiles(zoom)[0]
    path = f"/scenes/scene/classes/{zoom}/{x}/{y}.png"
    answer = served.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["X-Sat2map-Complete"] == "0"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert served.service.workshop.pool.computed == 0
    assert not served.pixels(path).any()
    for window in scene.results.all_windows()[:50]:
        scene.results.ask(window, "test").future.result(60)
    half = (served.pixels(path)[..., 3] > 0).sum()
    told = served.client.get("/scenes/scene/warm").json()
    assert told == {"done": 50, "all": 169, "running": False}
    warming.warm_up(scene.results, threading.Event())
    assert served.client.get("/scenes/scene/warm").json()["done"] == 169
    answer = served.client.get(path)
    assert "X-Sat2map-Complete" not in answer.headers
    assert (served.pixels(path)[..., 3] > 0).sum() > half > 0


@pytest.mark.parametrize(
    "path",
    [
        "/scenes/scene/map/25/0/0.png",
        "/scenes/scene/map/3/8/0.png",
        "/scenes/scene/map/3/0/8.png",
        "/scenes/scene/map/-1/0/0.png",
        "/scenes/scene/map/a/0/0.png",
        "/scenes/scene/map/1/1.5/0.png",
        "/scenes/scene/map/1/٣/0.png",
        "/scenes/scene/map/1/0/0.tif",
        "/scenes/scene/map/1/0/0@3x.png",
        "/scenes/scene/map/99999999999999999999/0/0.png",
        "/scenes/scene/roads/1/0/0.png",
        "/scenes/nobody/map/1/0/0.png",
        "/scenes/scene/",
        "/scenes/scene/map/1/0",
        "/scenes/..%2f..%2fetc/legend",
        "/scenes/../../etc/passwd",
        "/scenes/%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "/scene.tif",
        "/index.html",
        "/redoc",
    ],
)
def test_bad_addresses_are_404_and_never_a_page(
    make_scene: MakeScene, start: Start, path: str
) -> None:
    served = start(make_scene(blocks(60, 60)))
    answer = served.client.get(path, follow_redirects=False)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert not any(word in answer.text for word in FORBIDDEN)
    assert "root" not in answer.text


def test_a_full_queue_is_503_and_says_when_to_ask_again(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(make_scene(blocks(150, 190)))
    monkeypatch.setattr(served.service.workshop.pool, "_longest", 0)
    answer = served.client.get(any_tile(served))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    monkeypatch.undo()
    assert served.client.get(any_tile(served)).status_code == 200


def test_a_scene_that_has_gone_or_changed_is_noticed(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "LOOK_S", 0.0)
    source = make_scene(blocks(60, 60))
    served = start(source)
    path = any_tile(served)
    before = served.client.get(path)
    make_scene(255 - blocks(60, 60))  # under the same name
    after = served.client.get(path)
    assert after.status_code == 200
    assert after.content != before.content
    assert after.headers["ETag"] != before.headers["ETag"]
    kept = source.rename(source.with_name("kept.tif"))
    gone = served.client.get(path)
    assert gone.status_code == 404
    assert gone.json()["detail"] == "scene.tif: there is no such file."
    assert str(source.parent) not in gone.text
    assert "there is no such file" in served.client.get("/scenes").json()["scenes"][0]["error"]
    assert served.client.get("/", headers={"Accept": "text/html"}).status_code == 200
    kept.rename(source)
    assert served.client.get(path).content == after.content


def test_a_scene_that_changes_while_it_is_read_leaves_nothing_behind(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_scene(blocks(60, 60))
    served = start(source)
    maps = SceneWindows.maps

    def meanwhile(self: SceneWindows, row: int, column: int, layers: Any) -> Any:
        found = maps(self, row, column, layers)
        os.utime(source, (1, 1))
        return found

    monkeypatch.setattr(SceneWindows, "maps", meanwhile)
    answer = served.client.get(any_tile(served))
    assert answer.status_code == 500
    assert "has changed while it was read" in answer.json()["detail"]
    assert not list(served.service.workshop.store.folder.rglob("*.zip"))


def test_a_damaged_block_spoils_its_own_tiles_alone(make_scene: MakeScene, start: Start) -> None:
    source = make_scene(
        blocks(600, 600), tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    content = bytearray(source.read_bytes())
    content[-200:-100] = bytes(100)  # within the last block, in the south-east
    source.write_bytes(content)
    served = start(source)
    zoom = served.scene().highest("classes") + 1
    statuses = {
        (x, y): served.client.get(f"/scenes/scene/classes/{zoom}/{x}/{y}.png")
        for x, y in served.tiles(zoom)
    }
    codes = {answer.status_code for answer in statuses.values()}
    assert codes == {200, 500}
    for answer in statuses.values():
        if answer.status_code == 500:
            assert "scene.tif: cannot be read" in answer.json()["detail"]
            assert str(source.parent) not in answer.text
    assert sum(a.status_code == 200 for a in statuses.values()) > len(statuses) / 2


def test_a_fault_of_ours_shows_no_trace(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(make_scene(blocks(60, 60)))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service, "read_tile", fail)
    answer = served.client.get(any_tile(served))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert not any(word in answer.text for word in FORBIDDEN)
    assert "content-security-policy" in answer.headers


def test_a_full_disk_costs_the_cache_and_nothing_else(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    served = start(make_scene(blocks(60, 60)))
    answer = served.client.get(any_tile(served))
    assert answer.status_code == 200
    assert "X-Sat2map-Complete" not in answer.headers


def test_who_waits_too_long_is_told_so(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(make_scene(blocks(60, 60)))
    release = threading.Event()

    def stall(*_: object) -> None:
        release.wait(30)
        raise DataError("came too late", where="scene.tif", remedy="")

    monkeypatch.setattr(SceneWindows, "maps", stall)
    monkeypatch.setattr(service, "PATIENCE_S", 0.2)
    answer = served.client.get(any_tile(served))
    assert (answer.status_code, answer.headers["Retry-After"]) == (504, "2")
    assert served.client.get(any_tile(served, "photo")).status_code == 200
    release.set()


def test_a_window_that_could_not_be_read_is_tried_again_later(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(make_scene(blocks(60, 60)))
    tried: list[float] = []
    maps = SceneWindows.maps

    def fail(*_: object) -> None:
        tried.append(time.monotonic())
        raise DataError("cannot be read", where="scene.tif", remedy="")

    monkeypatch.setattr(SceneWindows, "maps", fail)
    for _ in range(3):
        assert served.client.get(any_tile(served)).status_code == 500
    assert len(tried) == 1
    monkeypatch.setattr(SceneWindows, "maps", maps)
    monkeypatch.setattr(results, "FORGET_S", 0.0)
    assert served.client.get(any_tile(served)).status_code == 200


def test_the_addresses_are_documented_without_scripts(make_scene: MakeScene, start: Start) -> None:
    served = start(make_scene(blocks(60, 60)))
    paths = served.client.get("/openapi.json").json()["paths"]
    page = served.client.get("/docs").text
    assert "/scenes/{id}/{layer}/{z}/{x}/{tile}" in paths
    for path in paths:
        assert path in page
    assert "<script" not in page
    health = served.client.get("/healthz").json()
    assert health["status"] == "ok"
    assert health["instructions"] is None  # no tile was asked for, so nothing was run


def test_what_another_process_has_made_is_found(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "LOOK_S", 0.0)
    source, model = make_scene(blocks(150, 190)), with_classes((0.5, 2.0))
    one, two = start(source, model=model), start(source, model=model)
    scene = one.scene()
    assert scene.results is not None
    warming.warm_up(scene.results, threading.Event())
    zoom = scene.pyramid.lowest
    x, y = two.tiles(zoom)[0]
    path = f"/scenes/scene/classes/{zoom}/{x}/{y}.png"
    assert np.array_equal(two.pixels(path), one.pixels(path))
    assert two.service.workshop.pool.computed == 0
