"""A scene at an address, and that others come to no harm when its server stalls."""

from __future__ import annotations

import http.client
import json
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

from fixtures.scenes import MakeScene, noise, with_classes
from sat2map.geo.web_mercator import position
from sat2map.legend import STREETS
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import CompactSpec
from sat2map.serve import service

from .conftest import Served, Start
from .test_tiles import blocks

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
        file = folder / self.path.lstrip("/")
        content = file.read_bytes() if file.is_file() else b""
        status, part = (200 if content or self.path == "/stall" else 404), content
        asked = re.fullmatch(r"bytes=(\\d+)-(\\d+)", self.headers.get("Range", ""))
        if asked and content:
            first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
            status, part = 206, content[first : last + 1]
        if stalled and self.path != "/stall":
            time.sleep(600)
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
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
        [*command, "--model", str(tmp_path / "model")], stdout=subprocess.PIPE, text=True
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
        assert process.wait(timeout=60) == 0  # the server elsewhere would stall for ten minutes


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
