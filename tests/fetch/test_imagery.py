"""Imagery from a tile service, into a GeoTIFF that lies where it should."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform
from rio_cogeo import cog_validate

from sat2map.errors import DataError, OutputError, UsageError
from sat2map.fetch.http import Client, RetryPolicy
from sat2map.fetch.imagery import fetch_imagery, tiles_of
from sat2map.geo.grid import ground_resolution
from sat2map.geo.web_mercator import quadkey
from sat2map.raster import strips

Serve = Callable[..., Any]
BOX = (13.4, 52.5, 13.405, 52.503)
ZOOM = 16


def tile(path: str, side: int = 256, mode: str = "RGB", kind: str = "png") -> bytes:
    """A tile whose red is its column, whose green is its row, and whose blue is a ramp."""
    found = re.search(r"/(\d+)/(\d+)/(\d+)", path)
    assert found is not None
    _, column, row = map(int, found.groups())
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = column % 256, row % 256
    pixels[..., 2] = np.arange(side)[:, None] % 256
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image.putalpha(
            Image.fromarray(
                np.where(np.arange(side) < side // 2, 255, 0).astype(np.uint8)[None].repeat(side, 0)
            )
        )
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def png(path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
    return 200, {"Content-Type": "image/png"}, tile(path)


def fetch(server: Any, target: Path, template: str = "/t/{z}/{x}/{y}.png", **more: Any) -> Any:
    client = Client(retries=RetryPolicy.of(3, 0))
    return fetch_imagery(server.url + template, BOX, ZOOM, target, client=client, **more)


def test_the_tiles_become_a_geotiff_in_its_place(serve: Serve, tmp_path: Path) -> None:
    server = serve(png)
    steps: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "ortho.tif"
    grid = fetch(
        server,
        target,
        attribution="© City, CC BY 4.0",
        progress=lambda done, total: steps.append((done, total)),
    )
    tiles = tiles_of(BOX, ZOOM)
    assert steps[-1] == (tiles.columns * tiles.rows,) * 2
    with rasterio.open(target) as file:
        assert file.crs.to_epsg() == 3857
        assert file.transform == grid.transform
        assert file.shape == (tiles.rows * 256, tiles.columns * 256)
        tags = file.tags()
        assert tags["ATTRIBUTION"] == tags["TIFFTAG_COPYRIGHT"] == "© City, CC BY 4.0"
        assert tags["SOURCE"].endswith("/t/{z}/{x}/{y}.png") and re.match(r"\d{4}-", tags["DATE"])
        # The tile that holds a place by the definition of the scheme is found at the place.
        xs, ys = transform("EPSG:4326", file.crs, [13.4025], [52.5015])
        row, column = file.index(xs[0], ys[0])
        red, green, _ = file.read()[:, row, column]
        x = int((13.4025 + 180) / 360 * 2**ZOOM)
        y = int((1 - np.arcsinh(np.tan(np.radians(52.5015))) / np.pi) / 2 * 2**ZOOM)
        assert (red, green) == (x % 256, y % 256)
        assert (file.dataset_mask() == 255).all()
        # All of the box is there.
        west, south = transform("EPSG:4326", file.crs, [13.4, 13.405], [52.5, 52.503])
        assert file.bounds.left <= west[0] and file.bounds.right >= west[1]
        assert file.bounds.bottom <= south[0] and file.bounds.top >= south[1]
    assert cog_validate(target)[0]
    resolution = ground_resolution(grid)
    assert resolution is not None
    assert resolution[0] == pytest.approx(156_543.03 / 2**ZOOM * np.cos(np.radians(52.5)), rel=0.01)
    assert [path.name for path in target.parent.iterdir()] == ["ortho.tif"]


def test_rows_may_count_from_the_south(serve: Serve, tmp_path: Path) -> None:
    server = serve(png)
    fetch(server, tmp_path / "ortho.tif", "/t/{z}/{x}/{-y}.png")
    rows = {int(path.rsplit("/", 1)[1].removesuffix(".png")) for path, _, _ in server.asked}
    tiles = tiles_of(BOX, ZOOM)
    assert max(rows) == 2**ZOOM - 1 - tiles.top


def test_tiles_may_be_called_by_their_quadkeys(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _, body: png("/t/16/35201/21493.png", body))
    fetch(server, tmp_path / "ortho.tif", "/t/{q}.png")
    keys = {path.rsplit("/", 1)[1].removesuffix(".png") for path, _, _ in server.asked}
    tiles = tiles_of(BOX, ZOOM)
    assert quadkey(ZOOM, tiles.left, tiles.top) in keys
    assert {len(key) for key in keys} == {ZOOM}


def test_missing_and_transparent_tiles_are_nodata(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = tiles_of(BOX, ZOOM)

    def reply(path: str, body: bytes) -> Any:
        if f"/{tiles.left}/{tiles.top}.png" in path:
            return 404, {}, b"no such tile"
        if f"/{tiles.left}/{tiles.top + 1}.png" in path:
            return 200, {}, tile(path, mode="RGBA")
        return png(path, body)

    fetch(serve(reply), tmp_path / "ortho.tif")
    with rasterio.open(tmp_path / "ortho.tif") as file:
        mask = file.dataset_mask()
    assert not mask[:256, :256].any()
    assert mask[256:512, :128].all() and not mask[256:512, 128:256].any()
    assert mask[:256, 256:].all()
    assert f"no tile for 1 of {tiles.columns * tiles.rows}" in caplog.text


def test_large_tiles_are_as_fine_as_they_are(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda path, body: (200, {}, tile(path, side=512, kind="webp")))
    grid = fetch(server, tmp_path / "ortho.tif")
    tiles = tiles_of(BOX, ZOOM)
    assert grid.width == tiles.columns * 512
    assert grid.transform.a == pytest.approx(156_543.034 / 2 ** (ZOOM + 1), rel=1e-6)


def test_an_interrupted_command_goes_on_and_a_repeated_one_asks_nobody(
    serve: Serve, tmp_path: Path
) -> None:
    tiles = tiles_of(BOX, ZOOM)
    count = tiles.columns * tiles.rows
    answered = []

    def reply(path: str, body: bytes) -> Any:
        answered.append(path)
        if 2 < len(answered) <= 5:
            return 200, {}, (tile(path), 40)  # the connection breaks off
        return png(path, body)

    server = serve(reply)
    with pytest.raises(
        DataError, match=r"/t/16/\d+/\d+\.png: no whole answer after 3 tries.*is kept"
    ):
        fetch(server, tmp_path / "ortho.tif")
    assert list(tmp_path.iterdir()) == []
    fetch(server, tmp_path / "ortho.tif")
    assert len(answered) == 2 + 3 + count - 2
    fetch(server, tmp_path / "again.tif")
    assert len(answered) == 3 + count
    fetch(server, tmp_path / "anew.tif", refresh=True)
    assert len(answered) == 3 + 2 * count


def test_the_date_is_that_of_the_oldest_tile(serve: Serve, tmp_path: Path, cache: Path) -> None:
    server = serve(png)
    fetch(server, tmp_path / "ortho.tif")
    (_, kept, *_) = sorted(cache.rglob("*.tile"))
    os.utime(kept, (1_700_000_000, 1_700_000_000))
    fetch(server, tmp_path / "again.tif")
    with rasterio.open(tmp_path / "again.tif") as file:
        assert file.tags()["DATE"] == "2023-11-14"


def test_a_limit_of_the_service_is_kept(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("sat2map.fetch.http.time.sleep", slept.append)
    begun: list[str] = []

    def reply(path: str, body: bytes) -> Any:
        begun.append(path)
        return (429, {"Retry-After": "5"}, b"") if len(begun) == 1 else png(path, body)

    server = serve(reply)
    client = Client()
    fetch_imagery(server.url + "/{z}/{x}/{y}.png", BOX, ZOOM, tmp_path / "o.tif", client=client)
    assert slept == [5]


def test_a_key_goes_to_the_service_and_nowhere_else(serve: Serve, tmp_path: Path) -> None:
    server = serve(png)
    fetch(server, tmp_path / "ortho.tif", "/t/{z}/{x}/{y}.png?key=secret")
    assert all(path.endswith("?key=secret") for path, _, _ in server.asked)
    with rasterio.open(tmp_path / "ortho.tif") as file:
        assert "secret" not in str(file.tags())
    server.answer = lambda path, body: (403, {}, b"")
    with pytest.raises(DataError, match="403 Forbidden") as caught:
        fetch(server, tmp_path / "new.tif", "/u/{z}/{x}/{y}.png?key=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((401, {}, b"who are you"), "401 Unauthorized.*key or a permission"),
        ((404, {}, b""), "no tile there"),
        ((204, {}, b""), "no tile there"),
        ((200, {"Content-Type": "text/html"}, b"<html>"), r"\.png: answers with no image \(text"),
    ],
    ids=["401", "404", "204", "page"],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    serve: Serve, tmp_path: Path, reply: Any, words: str
) -> None:
    server = serve(lambda path, body: reply)
    for _ in range(2):  # nor is it taken for a tile the next time
        with pytest.raises(DataError, match=words):
            fetch(server, tmp_path / "ortho.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_told_before_the_first_question(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "ortho.tif").mkdir()
    server = serve(lambda path, body: pytest.fail("it was asked"))
    with pytest.raises(OutputError, match=r"ortho\.tif: is a folder, and a file is to be written"):
        fetch(server, tmp_path / "ortho.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["ortho.tif"]


def test_tiles_of_unequal_size_are_refused(serve: Serve, tmp_path: Path) -> None:
    tiles = tiles_of(BOX, ZOOM)
    odd = f"/{tiles.left + 1}/{tiles.top}.png"
    server = serve(lambda path, body: (200, {}, tile(path, 128 if path.endswith(odd) else 256)))
    with pytest.raises(DataError, match="is 128 x 128 pixels, but other tiles are 256 x 256"):
        fetch(server, tmp_path / "ortho.tif")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h/{z}/{x}.png", r"`url`: lacks \{y\}"),
        ("http://h/{z}/{x}/{y}/{s}.png", r"has \{s\}, which is not known"),
        ("https://tile.openstreetmap.org/{z}/{x}/{y}.png", "terms of tile.openstreetmap.org"),
        ("ftp://h/{z}/{x}/{y}.png", "is not an address"),
    ],
)
def test_addresses_that_are_of_no_use_are_refused(url: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        fetch_imagery(url, BOX, ZOOM, tmp_path / "ortho.tif")


@pytest.mark.parametrize(
    ("bbox", "zoom", "words"),
    [
        ((13, 52, 14, 53), 18, "tiles are more than 20,000"),
        ((179.9, 0, -179.9, 1), 10, "crosses the antimeridian"),
        (BOX, 25, "not a zoom level"),
    ],
)
def test_boxes_that_are_of_no_use_are_refused(bbox: Any, zoom: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiles_of(bbox, zoom)


def test_degrees_may_run_beyond_180() -> None:
    assert tiles_of((190, 10, 191, 11), 10) == tiles_of((-170, 10, -169, 11), 10)
    assert tiles_of((-190, 10, -189, 11), 10) == tiles_of((170, 10, 171, 11), 10)
    with pytest.raises(UsageError, match="crosses the antimeridian"):
        tiles_of((179, 10, 181, 11), 10)


def test_the_whole_world_is_one_tile_of_zoom_0() -> None:
    tiles = tiles_of((-180, -90, 180, 90), 0)
    assert (tiles.left, tiles.top, tiles.columns, tiles.rows) == (0, 0, 1, 1)
    assert tiles.grid(256).transform.c == pytest.approx(-20_037_508.342789)


def test_a_full_disk_is_one_line_and_leaves_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        if path.suffix == ".tif":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(strips, "flush", full)
    with pytest.raises(OutputError, match=r"ortho\.tif: cannot be written \(No space left"):
        fetch(serve(png), tmp_path / "ortho.tif")
    assert list(tmp_path.iterdir()) == []
