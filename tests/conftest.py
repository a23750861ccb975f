"""What several rooms' tests share: a cache of their own, small data, a model, servers."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from sat2map.cli.app import run
from sat2map.data.pairs import DataSetCard, write_card
from sat2map.legend import STREETS
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import UNetSpec

pytest_plugins = ("fixtures.scenes", "fixtures.ground", "fixtures.remote")

# No test asserts a time, and the same source passes or fails everywhere. Whoever looks for what
# no example has shown yet runs `pytest --hypothesis-profile=search`.
settings.register_profile("search", deadline=None)
settings.register_profile("sat2map", deadline=None, derandomize=True)
settings.load_profile("sat2map")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of decoded pairs, so that no test sees the user's or another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SAT2MAP_CACHE", str(folder))
    return folder


@pytest.fixture
def put_foreign(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Callable[..., None]]:
    """Return a function that puts files into a folder that no command of ours has written.

    It takes the folder and, beside the usual ones, further names of files in it, and returns a
    check that all of them are there as they were: `alone`, and nothing else.
    """
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept.txt").write_text("elsewhere")

    def content(folder: Path) -> dict[str, bytes | str]:
        return {
            path.relative_to(folder).as_posix(): str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            for path in folder.rglob("*")
            if path.is_symlink() or path.is_file()
        }

    def put(folder: Path, *names: str) -> Callable[..., None]:
        before = {}
        for name in (".git/HEAD", ".env", "thesis.txt", "notes/1.txt", *names):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"foreign {name}")
            before[name] = path.read_bytes()
        for name in (".link", "link"):
            (folder / name).symlink_to(elsewhere, target_is_directory=True)
            before[name] = str(elsewhere)

        def check(*, alone: bool = False) -> None:
            after = content(folder)
            assert before == (after if alone else {name: after.get(name) for name in before})
            assert content(elsewhere) == {"kept.txt": b"elsewhere"}

        return check

    return put


@pytest.fixture
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 6 + 3 side-by-side pairs of 40 x 40 pixels: blocks, a road, a lake.

    The photo shows the classes of the map in darker colours with some noise, so that a
    network can learn it.
    """
    directory = tmp_path_factory.mktemp("towns")
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        (directory / split).mkdir()
        for i in range(count):
            labels = np.zeros((40, 40), np.uint8)
            top, left = random.integers(0, 30, 2)
            labels[top : top + 10, left : left + 10] = STREETS.names.index("building")
            labels[:, 5 + 4 * i : 8 + 4 * i] = STREETS.names.index("road")
            labels[30 - 3 * i : 34 - 3 * i, 20:] = STREETS.names.index("water")
            target = STREETS.paint(labels)
            noise = random.integers(0, 16, target.shape, dtype=np.uint8)
            source = (target // 2 + noise).astype(np.uint8)
            Image.fromarray(np.hstack([source, target])).save(directory / split / f"{i + 1}.png")
    write_card(directory, DataSetCard(resolution_m=1.0, legend=STREETS, licence="CC0-1.0"))
    return directory


@pytest.fixture
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a small U-Net for 16 pixels, untrained."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    spec = UNetSpec(size=16, base_channels=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec)
    save_model(folder, network, ModelCard(generator=spec, normalisation="never estimated"))
    return folder


class ScriptedServer(ThreadingHTTPServer):
    """A local server that answers as a test has it.

    `answer` is called with the path and the body of each request and returns the status, the
    headers, and the body; in place of the body may stand (body, n): the connection breaks off
    after n bytes. `asked` lists the requests: path, headers, body.
    """

    daemon_threads = True

    def __init__(self, answer: Callable[[str, bytes], tuple[int, dict[str, str], Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, dict(self.headers.items()), sent))
        status, headers, body = self.server.answer(self.path, sent)
        body, whole = body if isinstance(body, tuple) else (body, len(body))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:whole])

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScriptedServer]]:
    """Return a starter of servers that answer as they are told."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ExitStack() as stack:

        def start(answer: Callable[[str, bytes], tuple[int, dict[str, str], Any]]) -> Any:
            server = stack.enter_context(ScriptedServer(answer))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield start


@dataclass
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    def one_line_about(self, *words: str) -> None:
        """Assert that stderr is one line with these words, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in lines[0]


@pytest.fixture
def sat2map(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Return a caller of the command line."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["sat2map", *map(str, arguments)])
        code = 0
        try:
            run()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return call


GRAPHICS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
"""Chromium draws maps without a graphics card, also for root in a container."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser, one for all tests; they are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=GRAPHICS)
        yield browser
        browser.close()
