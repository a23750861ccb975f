"""GDAL reads a server over HTTP and finds the file's pixels, as QGIS would."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from fixtures.scenes import MakeScene, with_classes
from sat2map.legend import COVER
from sat2map.raster.options import SceneOptions
from sat2map.serve import service
from sat2map.translation.classes import translate_classes
from sat2map.translation.scene_windows import SceneWindows

from .conftest import CORE, Served, Start
from .test_tiles import EQUAL, blocks

Listen = Callable[[Served], str]

XYZ = """<GDAL_WMS><Service name="TMS"><ServerUrl
>{address}/scenes/scene/classes/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service><DataWindow><UpperLeftX>-20037508.342789244</UpperLeftX>
<UpperLeftY>20037508.342789244</UpperLeftY><LowerRightX>20037508.342789244</LowerRightX>
<LowerRightY>-20037508.342789244</LowerRightY><TileLevel>{zoom}</TileLevel><TileCountX>1</TileCountX>
<TileCountY>1</TileCountY><YOrigin>top</YOrigin></DataWindow><Projection>EPSG:3857</Projection>
<BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><BandsCount>4</BandsCount>
<ZeroBlockHttpCodes>404</ZeroBlockHttpCodes></GDAL_WMS>"""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("driver", ["WMTS", "WMS"])
def test_gdal_reads_the_pixels_of_the_class_map(
    make_scene: MakeScene, start: Start, listen: Listen, tmp_path: Path, driver: str
) -> None:
    with rasterio.Env() as env:
        if driver not in env.drivers():
            pytest.skip(f"this GDAL has no driver {driver}")
    source, model = make_scene(blocks(150, 190)), with_classes((0.5, 2.0))
    written = translate_classes(
        source, tmp_path / "classes.tif", model, SceneOptions(window=CORE, resolution="model")
    )
    served = start(source, model=model)
    address = listen(served)
    zoom = served.scene().highest("classes")
    if driver == "WMTS":
        name = f"WMTS:{address}/scenes/scene/WMTSCapabilities.xml,layer=classes,tilematrix={zoom}"
    else:
        name = XYZ.format(address=address, zoom=zoom)
    with rasterio.Env(GDAL_ENABLE_WMS_CACHE="NO"), rasterio.open(name) as remote:
        with rasterio.open(written) as file:
            bounds = rasterio.warp.transform_bounds(file.crs, remote.crs, *file.bounds)
        window = rasterio.windows.from_bounds(*bounds, transform=remote.transform)
        window = window.round_offsets().round_lengths()
        found = remote.read(window=window)
        transform = remote.transform @ Affine.translation(window.col_off, window.row_off)
    with (
        rasterio.open(written) as file,
        WarpedVRT(
            file,
            crs="EPSG:3857",
            transform=transform,
            width=found.shape[2],
            height=found.shape[1],
            resampling=Resampling.nearest,
            nodata=255,
        ) as warped,
    ):
        numbers = warped.read(1)
    colours = np.zeros((256, 4), np.uint8)
    colours[: len(COVER)] = [(*entry.colour, 255) for entry in COVER.classes]
    expected = colours[numbers].transpose(2, 0, 1)
    assert (found == expected).all(0).mean() >= EQUAL
    assert len(np.unique(numbers)) > 3


def test_who_goes_is_not_computed_for(
    make_scene: MakeScene, start: Start, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, computed = threading.Event(), []
    maps = SceneWindows.maps

    def hold(self: SceneWindows, row: int, column: int, layers: object) -> object:
        held.wait(60)
        computed.append((row, column))
        return maps(self, row, column, layers)  # type: ignore[arg-type]

    monkeypatch.setattr(SceneWindows, "maps", hold)
    served = start(make_scene(blocks(250, 250)))
    host = listen(served).removeprefix("http://")
    pool = served.service.workshop.pool
    zoom = served.scene().highest("classes")
    connections = []
    for x, y in served.tiles(zoom)[:4]:
        connection = http.client.HTTPConnection(host)
        connection.request("GET", f"/scenes/scene/classes/{zoom}/{x}/{y}.png")
        connections.append(connection)
    wait_until(lambda: pool.waiting > 4)
    for connection in connections:
        connection.close()
    wait_until(lambda: pool.waiting == 0)
    held.set()
    wait_until(lambda: not pool._busy)
    assert len(computed) <= 2  # those that had begun


def test_many_at_once_get_a_tile_or_503(
    make_scene: MakeScene, start: Start, listen: Listen
) -> None:
    served = start(make_scene(blocks(250, 250)))
    host = listen(served).removeprefix("http://")
    zoom = served.scene().highest("classes")
    tiles = served.tiles(zoom)
    statuses: list[int] = []

    def ask(number: int) -> None:
        x, y = tiles[number % len(tiles)]
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", f"/scenes/scene/map/{zoom}/{x}/{y}.png")
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 200
    assert set(statuses) <= {200, 503}
    ask(0)
    assert statuses[-1] == 200


def test_a_long_head_is_turned_away(make_scene: MakeScene, start: Start, listen: Listen) -> None:
    host = listen(start(make_scene(blocks(40, 40)))).removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", "/scenes", headers={"X-Long": "x" * 100_000})
    with suppress(ConnectionError, http.client.HTTPException):  # or closed at once
        assert connection.getresponse().status in (400, 431)
    connection.close()
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", "/healthz")
    assert json.loads(connection.getresponse().read())["status"] == "ok"
    connection.close()


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_export_ends_when_who_asked_goes(
    make_scene: MakeScene, start: Start, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def write(*given: object) -> None:
        stop = given[-2]
        assert isinstance(stop, threading.Event)
        begun.set()
        if stop.wait(60):
            ended.set()

    monkeypatch.setattr("sat2map.serve.app.write_part", write)
    served = start(make_scene(blocks(60, 60)))
    host = listen(served).removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    box = ",".join(map(str, served.scene().bounds))
    connection.request("GET", f"/scenes/scene/export?bbox={box}")
    assert begun.wait(60)
    connection.close()
    assert ended.wait(60)
    wait_until(lambda: served.service._writing == 0)
    assert service.EXPORTS > 0
