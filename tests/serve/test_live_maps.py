"""Live maps within a server of somebody else's."""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sat2map
from fixtures.scenes import MakeScene, smooth, with_classes
from sat2map.errors import DataError, UsageError
from sat2map.geo.web_mercator import position
from sat2map.translation.translator import Translator

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient


def own_client(*scenes: Path, **options: Any) -> TestClient:
    """Return a client of a server that mounts live maps as the guide does it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with sat2map.live_maps(scenes, **options) as maps:
            app.mount("/maps", maps)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    return TestClient(app, base_url="http://localhost")


def middle_tile(client: TestClient) -> str:
    """Return the address of a tile in the middle of the scene, as the TileJSON tells it."""
    told = client.get("/maps/scenes/scene/map/tilejson.json").json()
    (address,) = told["tiles"]
    longitude, latitude, _ = told["center"]
    x, y = position(longitude, latitude, told["maxzoom"])
    return str(address).format(z=told["maxzoom"], x=int(x), y=int(y))


@pytest.fixture
def photo(make_scene: MakeScene, cache: Path) -> Path:
    return make_scene(smooth(200, 200))


@pytest.fixture
def model() -> Translator:
    return with_classes((0.5, 2.0))


def test_what_is_mounted_under_a_path_names_addresses_there(photo: Path, model: Translator) -> None:
    with own_client(photo, model=model, hosts=["maps.example.org:8000"]) as client:
        assert client.get("/hello").json() == "hello"
        address = middle_tile(client)
        assert address.startswith("http://localhost/maps/scenes/scene/map/")
        tile = client.get(address)
        assert tile.status_code == 200, tile.text
        with Image.open(io.BytesIO(tile.content)) as image:
            assert image.size == (256, 256)
        capabilities = client.get("/maps/scenes/scene/WMTSCapabilities.xml").text
        assert "http://localhost/maps/scenes/scene/" in capabilities
        assert "http://localhost/scenes" not in capabilities
        for host, status in (("maps.example.org", 200), ("elsewhere.example.org", 421)):
            assert client.get("/maps/scenes", headers={"host": host}).status_code == status


def test_behind_a_proxy_addresses_are_those_that_are_told(photo: Path, model: Translator) -> None:
    public = "https://example.org/atlas/maps/"
    with own_client(photo, model=model, public_url=public, attribution="me") as client:
        told = client.get("/maps/scenes/scene/photo/tilejson.json").json()
        assert told["tiles"][0].startswith("https://example.org/atlas/maps/scenes/scene/photo/")
        assert told["attribution"] == "me"


def test_the_event_loop_goes_on_while_a_tile_is_made(
    photo: Path, model: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    predict = model.predict

    def slow(*given: Any, **named: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return predict(*given, **named)

    monkeypatch.setattr(model, "predict", slow)
    with own_client(photo, model=model) as client, ThreadPoolExecutor(1) as thread:
        tile = thread.submit(client.get, middle_tile(client))
        assert begun.wait(60)
        assert client.get("/hello").json() == "hello"
        assert not tile.done()
        go_on.set()
        assert tile.result(60).status_code == 200


def test_at_the_end_its_threads_are_gone(photo: Path, model: Translator) -> None:
    before = set(threading.enumerate())  # other tests may leave some behind
    with own_client(photo, model=model) as client:
        assert client.get(middle_tile(client)).status_code == 200
    left = [one.name for one in set(threading.enumerate()) - before]
    assert [name for name in left if name.startswith("sat2map")] == []


def test_what_cannot_be_served_is_told_before_anything_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothere\.tif"), sat2map.live_maps(["nothere.tif"]):
        pass
    with pytest.raises(UsageError) as told, sat2map.live_maps("ortho.tif"):
        pass
    assert told.value.parameter == "scenes"
