"""`sat2map serve` as a process, and what it refuses to do."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from fixtures.scenes import UTM
from sat2map.legend import COVER, LEGEND_TAG

pytest.importorskip("fastapi")

WAIT_S = 60


@pytest.fixture
def class_map(tmp_path: Path) -> Path:
    """A class map, for which no model is needed."""
    path = tmp_path / "classes.tif"
    facts: dict[str, Any] = {"driver": "GTiff", "height": 90, "width": 80, "count": 1}
    with rasterio.open(path, "w", dtype="uint8", nodata=255, **facts, **UTM) as file:
        numbers = np.random.default_rng(0).integers(0, 5, (90, 80), dtype=np.uint8)
        file.write(numbers, 1)
        file.update_tags(**{LEGEND_TAG: json.dumps(COVER.to_json())})
    return path


@contextmanager
def running(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server, and yield its process and its address."""
    command = [sys.executable, "-m", "sat2map", "serve", *map(str, arguments)]
    with subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://"), process.communicate(timeout=WAIT_S)
            yield process, address
        finally:
            process.kill()


def get(address: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=WAIT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_basemap_and_the_size_of_the_cache_are_options(class_map: Path) -> None:
    basemap = "https://tiles.example.org/{z}/{x}/{y}.png"
    options = ("--basemap", basemap, "--basemap-attribution", "Them", "--cache-size", "1G")
    with running(class_map, "--port", 0, *options) as (_, address):
        told = json.loads(get(f"{address}scenes")[1])
    assert told["basemap"] == {"tiles": basemap, "attribution": "Them"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_ctrl_c(class_map: Path, number: signal.Signals) -> None:
    with running(class_map, "--port", 0) as (process, address):
        status, body = get(f"{address}scenes")
        assert status == 200
        assert json.loads(body)["scenes"][0]["id"] == "classes"
        # A connection that stays open holds nothing up.
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port))):
            process.send_signal(number)
            out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out) == (0, "")
        assert re.fullmatch(r"Open it in a browser.*Ctrl-C ends it\.\n", err)


@pytest.fixture
def strip(tmp_path: Path) -> Path:
    """A photo of many windows that are quickly made: long, and low."""
    path = tmp_path / "strip.tif"
    facts: dict[str, Any] = {"driver": "GTiff", "height": 32, "width": 8000, "count": 3}
    with rasterio.open(path, "w", dtype="uint8", **facts, **UTM) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, 32, 8000), dtype=np.uint8))
    return path


def warmed(address: str, least: int) -> dict[str, int]:
    """Return how many windows are there once it is so many."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        told: dict[str, int] = json.loads(get(f"{address}scenes/strip/warm")[1])
        if told["done"] >= least:
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_warming_translates_all_ahead_and_says_how_far_it_is(strip: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with running(strip, "--warm", "--port", 0, SAT2MAP_CACHE=cache) as (process, address):
        told = warmed(address, 8)
        assert (told["done"], told["all"]) == (8, 8)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (0, "")
    assert "translating strip.tif ahead" in err
    assert "8/8" in err
    # Another server finds it all, and says nothing of progress where it is asked not to.
    options = ("--warm", "--quiet", "--port", 0)
    with running(strip, *options, SAT2MAP_CACHE=cache) as (process, address):
        assert warmed(address, 8)["done"] == 8
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT_S) == ("", "")
    assert process.returncode == 0


def test_ctrl_c_ends_warming_and_it_goes_on_later(strip: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = ("--warm", "--quiet", "--port", 0)
    with running(strip, *options, SAT2MAP_CACHE=str(cache)) as (process, address):
        warmed(address, 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "", "")
    made = {path: path.stat().st_mtime_ns for path in (cache / "windows").rglob("*.*")}
    assert made
    assert all(zipfile.ZipFile(path).testzip() is None for path in made)
    with running(strip, *options, SAT2MAP_CACHE=str(cache)) as (process, address):
        warmed(address, 8)
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())


def test_settings_may_stand_in_the_environment(class_map: Path) -> None:
    settings = {"SAT2MAP_SERVE_PORT": "0", "SAT2MAP_SERVE_TOKEN": "abc"}
    with running(class_map, **settings) as (_, address):
        assert get(f"{address}scenes")[0] == 401
        assert get(f"{address}scenes", Authorization="Bearer abc")[0] == 200
        assert get(f"{address}healthz", Host="evil.example")[0] == 421


def test_a_port_in_use_is_one_line(class_map: Path, sat2map: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = sat2map("serve", class_map, "--port", port)
    ended.one_line_about(f"--port: {port} of 127.0.0.1 is in use", "Give another one")
    assert ended.code == 2


def test_other_machines_are_let_in_only_aloud(class_map: Path, sat2map: Callable[..., Any]) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        ended = sat2map("serve", class_map, "--host", host, "--port", 0)
        ended.one_line_about(
            f"--host: {host} is reached by other machines", "--token=T", "--no-auth"
        )
        assert ended.code == 2
    ended = sat2map("serve", class_map, "--host", "192.0.2.1", "--no-auth", "--port", 0)
    ended.one_line_about("--host: 192.0.2.1 is not an address of this machine")
    with running(class_map, "--host", "0.0.0.0", "--no-auth", "--port", 0) as (_, address):
        port = address.rstrip("/").rpartition(":")[2]
        assert get(f"http://127.0.0.1:{port}/scenes")[0] == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token", "a;b"], ["--token: is not a token"]),
        (["--public-url", "maps.example"], ["--public-url: 'maps.example' is not an address"]),
        (["--allow-origin", "*"], ["--allow-origin: '*' is not an address"]),
        (["--bands", "x"], ["--bands"]),
        (["--basemap", "x"], ["--basemap: 'x' is not the address of web tiles"]),
        (["--cache-size", "much"], ["--cache-size: 'much' is not a number of bytes"]),
    ],
)
def test_values_that_make_no_sense_are_one_line(
    class_map: Path, sat2map: Callable[..., Any], options: list[str], words: list[str]
) -> None:
    ended = sat2map("serve", class_map, "--port", 0, *options)
    ended.one_line_about(*words)
    assert ended.code == 2


def test_what_is_not_there_is_one_line(tmp_path: Path, sat2map: Callable[..., Any]) -> None:
    ended = sat2map("serve", tmp_path / "missing.tif", "--port", 0)
    ended.one_line_about("missing.tif: there is no such file")
    assert ended.code == 1


@pytest.mark.slow
def test_ten_thousand_sockets_leave_it_alive(class_map: Path) -> None:
    """Who is too many is turned away, and it is well again when they have gone."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip("this process may not open so many sockets")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12_000), hard))
    try:
        with running(class_map, "--port", 0, "--quiet") as (process, address):
            port = int(address.rstrip("/").rpartition(":")[2])
            sockets: list[socket.socket] = []
            for _ in range(min(10_000, hard - 1000)):
                with suppress(OSError):
                    sockets.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            turned_away = 0
            for one in sockets[-50:]:
                one.settimeout(20)
                with suppress(OSError):
                    turned_away += one.recv(100).startswith(b"HTTP/1.1 503")
            assert turned_away > 0
            for one in sockets:
                one.close()
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                with suppress(OSError):
                    if get(f"{address}healthz")[0] == 200:
                        break
            assert get(f"{address}scenes")[0] == 200
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
            assert (process.returncode, out, err) == (0, "", "")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
