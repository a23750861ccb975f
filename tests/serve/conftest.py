"""A server of a small scene, asked without a network."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from fixtures.scenes import UTM, with_classes
from sat2map.geo.web_mercator import position
from sat2map.legend import COVER, LEGEND_TAG
from sat2map.translation.translator import Translator

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from sat2map.serve.app import AppOptions, make_app
from sat2map.serve.open_scene import OpenScene
from sat2map.serve.page import read_page
from sat2map.serve.run import bind, run_server
from sat2map.serve.scenes import open_scenes
from sat2map.serve.service import Service
from sat2map.serve.workshop import ServeOptions, Workshop

CORE = 64


@dataclass
class Served:
    """A server in this process."""

    service: Service
    client: TestClient
    said: list[str]
    app: AppOptions

    def scene(self, id: str = "scene") -> OpenScene:
        return self.service.scenes[id].current()

    def tiles(self, zoom: int, id: str = "scene") -> list[tuple[int, int]]:
        """Return columns and rows of the tiles that touch a scene."""
        west, south, east, north = self.scene(id).bounds
        left, top = position(west, north, zoom)
        right, bottom = position(east, south, zoom)
        count = 2**zoom
        columns = range(int(left), min(int(right), count - 1) + 1 + count * (east < west))
        rows = range(int(top), int(bottom) + 1)
        return [(x % count, y) for x in columns for y in rows]

    def pixels(self, path: str) -> NDArray[np.uint8]:
        """Return the pixels of a tile, RGBA or grey."""
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        image = Image.open(io.BytesIO(answer.content))
        return np.asarray(image if image.mode == "L" else image.convert("RGBA"))


Start = Callable[..., Served]


@pytest.fixture
def start(cache: Path) -> Iterator[Start]:
    """Return a starter of servers: paths, then options of scenes and of the application."""
    with ExitStack() as stack:

        def begin(
            *paths: Path | str,
            model: Translator | None = None,
            app: AppOptions | None = None,
            **options: Any,
        ) -> Served:
            said: list[str] = []
            translator = model or with_classes((0.5, 2.0))
            chosen = ServeOptions(**({"window": CORE} | options))
            workshop = Workshop(lambda: translator, chosen, said.append)
            service = Service(workshop, open_scenes([str(path) for path in paths], workshop))
            stack.callback(service.close)
            client = TestClient(
                make_app(service, app), base_url="http://localhost", raise_server_exceptions=False
            )
            return Served(service, client, said, app or AppOptions())

        yield begin


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """An archive of vector tiles with the style beside it: a pond, a house and a street."""
    pytest.importorskip("pyogrio")
    pytest.importorskip("pmtiles")
    from sat2map.vectors.vectorise import vectorise

    numbers = np.zeros((200, 200), np.uint8)
    numbers[20:90, 20:90] = COVER.names.index("water")
    numbers[110:130] = COVER.names.index("road")
    numbers[150:180, 100:150] = COVER.names.index("building")
    path = tmp_path / "classes.tif"
    facts: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", height=200, width=200, **facts, **UTM) as file:
        file.write(numbers, 1)
        file.update_tags(**{LEGEND_TAG: json.dumps(COVER.to_json())})
    return vectorise(path, tmp_path / "town.pmtiles")


@pytest.fixture
def listen() -> Iterator[Callable[[Served], str]]:
    """Return what has a server answer over HTTP, and returns its address."""
    with ExitStack() as stack:

        def begin(served: Served) -> str:
            listening, stop, ready = bind("127.0.0.1", 0), threading.Event(), threading.Event()
            port = listening.getsockname()[1]
            app = make_app(served.service, replace(served.app, page=read_page()))
            thread = threading.Thread(target=run_server, args=(app, listening, stop, ready.set))
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
            assert ready.wait(60)
            return f"http://127.0.0.1:{port}"

        yield begin
