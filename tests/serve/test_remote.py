"""A scene at an address, and that others come to no harm when its server stalls."""

from __future__ import annotations

import gc
import http.client
import io
import json
import math
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image

from fixtures.scenes import MakeScene, noise, with_classes
from sat2map.errors import DataError
from sat2map.geo.web_mercator import position
from sat2map.legend import STREETS
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import CompactSpec
from sat2map.serve import archive_files, scenes, service
from sat2map.serve.archive_files import FIRST

from .conftest import Served, Start
from .test_tiles import blocks

ZOOM, LEFT, TOP = 15, 17_750, 11_770
"""The first of nine tiles of an archive."""

_SERVER = """
import re, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder, stalled = Path(sys.argv[1]), False

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        global stalled
        if self.path == "/stall":
            stalled = True
        file = folder / self.path.lstrip("/").partition("?")[0]
        content = file.read_bytes() if file.is_file() else b""
        status, part = (200 if content or self.path == "/stall" else 404), content
        asked = re.fullmatch(r"bytes=(\\d+)-(\\d+)", self.headers.get("Range", ""))
        if "whole" in self.path:
            asked = None
        if asked and content:
            first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
            status, part = 206, content[first : last + 1]
        if stalled and self.path != "/stall":
            time.sleep(600)
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(content)}"')
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of another server, of the scenes of the test; /stall has it answer nothing more.

    It is a process of its own, since GDAL may wait for it without letting other threads run.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    command = [sys.executable, "-c", _SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def get(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def test_a_scene_at_an_address_is_shown_and_its_windows_are_found_again(
    make_scene: MakeScene, start: Start, elsewhere: str
) -> None:
    make_scene(blocks(150, 190))
    model = with_classes((0.5, 2.0))
    served = start(f"{elsewhere}/scene.tif", model=model)
    zoom = served.scene().highest("classes")
    x, y = served.tiles(zoom)[0]
    path = f"/scenes/scene/classes/{zoom}/{x}/{y}.png"
    first = served.pixels(path)
    assert first[..., 3].any()
    again = start(f"{elsewhere}/scene.tif", model=model)
    assert (again.pixels(path) == first).all()
    assert again.service.workshop.pool.computed == 0


@pytest.mark.slow
def test_ctrl_c_ends_a_server_at_once_whose_scene_stalls(
    make_scene: MakeScene, elsewhere: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    spec = CompactSpec(channels=[4, 4, 8], colours=STREETS.colours.tolist())
    card = ModelCard(generator=spec, normalisation="none", legend=STREETS, resolution_m=(0.5, 2))
    save_model(tmp_path / "model", build_generator(spec), card)
    make_scene(noise(3000, 3000), name="far.tif", tiled=True)
    command = [sys.executable, "-m", "sat2map", "serve", f"{elsewhere}/far.tif", "--port", "0"]
    with subprocess.Popen(
        [*command, "--model", str(tmp_path / "model")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        told = urllib.request.urlopen(f"{address}scenes/far/map/tilejson.json", timeout=60)
        facts = json.loads(told.read())
        assert get(f"{elsewhere}/stall") == 200
        west, south, east, north = facts["bounds"]
        x, y = map(int, position((west + east) / 2, (south + north) / 2, facts["maxzoom"]))
        place = f"{facts['maxzoom']}/{x}/{y}.png"
        paths = [f"{address}scenes/far/{layer}/{place}" for layer in ("map", "photo")]
        for path in paths:
            threading.Thread(target=answered, args=[path], daemon=True).start()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)  # that elsewhere would stall for ten minutes
    assert process.returncode == 0
    assert not any(word in said for word in ("Traceback", "Exception", "Cancel")), said


def answered(address: str) -> None:
    with suppress(OSError, http.client.HTTPException):
        get(address)


def test_a_server_that_stalls_holds_up_its_own_scene_alone(
    make_scene: MakeScene,
    start: Start,
    listen: Callable[[Served], str],
    elsewhere: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_scene(noise(3000, 3000), name="far.tif", tiled=True)  # more than GDAL keeps of it
    served = start(f"{elsewhere}/far.tif", make_scene(blocks(60, 60), name="near.tif"), window=256)
    address = listen(served)
    assert get(f"{elsewhere}/stall") == 200
    monkeypatch.setattr(service, "PATIENCE_S", 2.0)

    def tile(id: str, layer: str, number: int) -> str:
        zoom = served.scene(id).highest(layer)
        x, y = served.tiles(zoom, id)[number]
        return f"{address}/scenes/{id}/{layer}/{zoom}/{x}/{y}.png"

    statuses: list[int] = []
    asking = [
        threading.Thread(target=lambda a: statuses.append(get(a)), args=[tile("far", layer, place)])
        for place in range(-6, -1)
        for layer in ("photo", "classes")
    ]
    for thread in asking:
        thread.start()
    time.sleep(0.5)
    for layer in ("photo", "map", "classes"):
        assert get(tile("near", layer, 0)) == 200
    assert get(f"{address}/healthz") == 200
    for thread in asking:
        thread.join()
    assert set(statuses) <= {200, 504}
    assert 504 in statuses


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """An archive of PNG tiles, most of which lie beyond what is read at first."""
    pytest.importorskip("pmtiles")
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import write

    path = tmp_path / "map.pmtiles"
    with write(str(path)) as archive:
        for number, (x, y) in enumerate((x, y) for x in range(3) for y in range(3)):
            tile = io.BytesIO()
            Image.fromarray(noise(256, 256, seed=number)).save(tile, "PNG")
            archive.write_tile(zxy_to_tileid(ZOOM, LEFT + x, TOP + y), tile.getvalue())
        south, west = degrees(LEFT, TOP + 3)
        north, east = degrees(LEFT + 3, TOP)
        bounds = {"min_lon_e7": west, "min_lat_e7": south, "max_lon_e7": east, "max_lat_e7": north}
        facts = {name: round(value * 1e7) for name, value in bounds.items()}
        facts |= {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}
        facts |= {"center_zoom": ZOOM, "center_lon_e7": 0, "center_lat_e7": 0}
        archive.finalize(facts, {"attribution": "Us"})
    return path


def degrees(x: int, y: int) -> tuple[float, float]:
    """Return latitude and longitude of a tile's north-west corner."""
    lat = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / 2**ZOOM))))
    return lat, 360 * x / 2**ZOOM - 180


def test_an_archive_at_an_address_is_shown_as_the_file_is(
    drawn: Path, town: Path, start: Start, elsewhere: str
) -> None:
    assert drawn.stat().st_size > 10 * FIRST
    served = start(f"{elsewhere}/map.pmtiles?key=secret", drawn, f"{elsewhere}/town.pmtiles")
    listed = served.client.get("/scenes")
    assert "secret" not in listed.text
    assert [(s["id"], s["name"], s["layers"]) for s in listed.json()["scenes"]] == [
        ("map", "map.pmtiles", ["map"]),
        ("map-2", "map.pmtiles", ["map"]),
        ("town", "town.pmtiles", ["vectors"]),
    ]
    zoom = served.scene("map").highest("map")
    for x, y in served.tiles(zoom, "map"):
        path = f"/scenes/{{}}/map/{zoom}/{x}/{y}.png"
        far, near = (served.client.get(path.format(id)) for id in ("map", "map-2"))
        assert (far.status_code, far.content) == (200, near.content)
    layers = served.client.get("/scenes/town/style.json").json()["layers"]
    assert {"fill", "line"} <= {layer["type"] for layer in layers}
    town.with_suffix(".style.json").unlink()
    layers = served.client.get("/scenes/town/style.json").json()["layers"]
    assert {layer["type"] for layer in layers} == {"line"}
    # Tiles are known again by browsers after a new start, since the server tells a version.
    again = start(f"{elsewhere}/map.pmtiles?key=other")
    assert again.scene("map").key == served.scene("map").key


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.pmtiles", "its server says 404 Not Found"),
        ("whole.pmtiles", "gives whole files alone, and no parts"),
        ("text.pmtiles", "is damaged, or not a PMTiles archive"),
        ("empty.pmtiles", "its server says 404 Not Found"),
    ],
)
def test_an_archive_at_an_address_that_cannot_be_read_is_one_line(
    drawn: Path, start: Start, elsewhere: str, name: str, words: str
) -> None:
    (drawn.parent / "whole.pmtiles").write_bytes(drawn.read_bytes())
    (drawn.parent / "text.pmtiles").write_text("text" * 10_000)
    with pytest.raises(DataError, match=words) as caught:
        start(f"{elsewhere}/{name}?key=secret")
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value)
    assert f"{elsewhere}/{name}" in str(caught.value)


def test_nobody_answers_at_the_address_of_an_archive(start: Start) -> None:
    with pytest.raises(DataError, match="its server cannot be reached"):
        start("http://127.0.0.1:9/map.pmtiles")


def test_an_archive_at_an_address_that_changes_or_stalls_is_noticed(
    drawn: Path,
    start: Start,
    elsewhere: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = start(f"{elsewhere}/map.pmtiles")
    middle, other = (f"/scenes/map/map/{ZOOM}/{LEFT + 1}/{TOP + row}.png" for row in (1, 2))
    before = served.scene("map").key
    drawn.write_bytes(drawn.read_bytes() + bytes(9))
    answer = served.client.get(middle)
    assert answer.status_code == 500
    assert answer.json()["detail"] == "map.pmtiles: has changed while it was read."
    monkeypatch.setattr(scenes, "LOOK_S", 0.0)
    assert served.client.get(middle).status_code == 200  # of the new one
    assert served.scene("map").key != before
    monkeypatch.setattr(archive_files, "TIMEOUT_S", 0.5)
    assert get(f"{elsewhere}/stall") == 200
    answer = served.client.get(other)
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("map.pmtiles: its server cannot be reached")
    assert served.client.get(middle).status_code == 200  # which is kept
    assert not caplog.records


def test_who_waits_too_long_is_told_and_nothing_is_left_in_the_log(
    make_scene: MakeScene,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = start(make_scene(blocks(60, 60)))
    scene, begun = served.scene(), threading.Event()
    assert scene.results is not None
    monkeypatch.setattr(scene.results, "_compute", lambda _: begun.wait(60))
    monkeypatch.setattr(service, "PATIENCE_S", 0.2)
    zoom = scene.highest("map")
    x, y = served.tiles(zoom)[0]
    answer = served.client.get(f"/scenes/scene/map/{zoom}/{x}/{y}.png")
    assert (answer.status_code, answer.headers["retry-after"]) == (504, "2")
    begun.set()
    gc.collect()
    assert not caplog.records
