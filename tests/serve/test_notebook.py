"""Photo and map in a notebook: the widget's channel, and JupyterLab in a real browser."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sat2map
from fixtures.scenes import MakeScene, noise, smooth, with_classes
from sat2map.errors import Sat2mapError
from sat2map.raster.options import SceneOptions
from sat2map.serve import notebook
from sat2map.serve.page import FOLDER
from sat2map.translation.classes import translate_classes
from sat2map.translation.scene import translate_raster

from .test_tiles import blocks

is_built = pytest.mark.skipif(
    not (FOLDER / "notebook.js").is_file(), reason="the page is not built: make web"
)


class Cell:
    """What a notebook's page does: it sends messages to a widget and hears its answers."""

    def __init__(self, widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widget, self.answers, self._number = widget, {}, 0
        self._heard = threading.Condition()
        monkeypatch.setattr(widget, "send", self._hear)

    def _hear(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        with self._heard:
            self.answers[content["id"]] = (content, buffers[0])
            self._heard.notify_all()

    def ask(self, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        self._number += 1
        id = str(self._number)
        self.widget._handle_custom_msg({"id": id, "path": path} | more, [])
        with self._heard:
            assert self._heard.wait_for(lambda: id in self.answers, 60)
        content, body = self.answers[id]
        json.dumps(content)  # as it goes to the browser
        return content["status"], dict(content["headers"]), body


@pytest.fixture
def in_cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cell]]:
    pytest.importorskip("anywidget")
    pytest.importorskip("fastapi")
    widgets = []

    def begin(*args: Any, **options: Any) -> Cell:
        widget = sat2map.show(*args, **options)
        widgets.append(widget)
        return Cell(widget, monkeypatch)

    yield begin
    for widget in widgets:
        widget.close()


def pixels_of(body: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))


@is_built
def test_a_scene_is_translated_through_the_widgets_own_channel(
    make_scene: MakeScene, in_cell: Callable[..., Cell]
) -> None:
    cell = in_cell(make_scene(blocks(200, 200)), model=with_classes((0.5, 2.0)), height=300)
    assert (cell.widget.height, cell.widget.placed, cell.widget.view) == (300, True, "#scene=scene")
    status, headers, body = cell.ask("")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    for name in cell.widget.files:
        assert cell.ask(name)[0] == 200
    assert set(re.findall(r'(?:src|href)="\./(assets/[^"]+\.(?:js|css))"', body.decode())) < set(
        cell.widget.files
    )
    (scene,) = json.loads(cell.ask("scenes")[2])["scenes"]
    assert scene["layers"] == ["photo", "map", "classes", "confidence", "numbers"]
    west, south, east, north = scene["bounds"]
    place = f"lon={(west + east) / 2}&lat={(south + north) / 2}"
    assert json.loads(cell.ask(f"scenes/scene/point?{place}")[2])["class"] is not None
    told = json.loads(cell.ask("scenes/scene/map/tilejson.json")[2])
    from sat2map.geo.web_mercator import position

    x, y = map(int, position((west + east) / 2, (south + north) / 2, told["maxzoom"]))
    status, headers, body = cell.ask(f"scenes/scene/map/{told['maxzoom']}/{x}/{y}.png")
    assert status == 200
    assert pixels_of(body)[..., 3].any()
    assert cell.ask("scenes/..%2f..%2fetc/legend")[0] == 404
    assert cell.ask("scenes/scene/warm", method="DELETE")[0] == 405


@is_built
def test_a_photo_beside_a_map_that_was_written_needs_no_model(
    make_scene: MakeScene, in_cell: Callable[..., Cell], tmp_path: Path
) -> None:
    source, model = make_scene(smooth(120, 90)), with_classes((0.5, 2.0))
    options = SceneOptions(window=64)
    drawn = translate_raster(source, tmp_path / "map.tif", model, options)
    classes = translate_classes(source, tmp_path / "classes.tif", model, options)
    for written, layers in ((drawn, ["map"]), (classes, ["classes", "numbers"])):
        cell = in_cell(source, written, model=tmp_path / "there is none")
        photo, map = json.loads(cell.ask("scenes")[2])["scenes"]
        assert (photo["layers"], map["layers"]) == (["photo"], layers)
        assert cell.widget.placed
        assert cell.widget.view == f"#scene={map['id']}"
        assert np.allclose(photo["bounds"], map["bounds"], atol=1e-4)


@is_built
def test_images_without_a_place_lie_over_each_other(
    in_cell: Callable[..., Cell], make_scene: MakeScene, tmp_path: Path
) -> None:
    photo, map = noise(60, 80), noise(120, 160)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(map).save(tmp_path / "map.png")
    scene = make_scene(smooth(60, 80))
    for given, placed in (
        ((photo, map), False),
        ((tmp_path / "photo.png", tmp_path / "map.png"), False),
        ((photo, map[..., 0]), False),
        ((scene, map), True),
    ):
        cell = in_cell(*given)
        one, other = json.loads(cell.ask("scenes")[2])["scenes"]
        assert (one["layers"], other["layers"]) == (["photo"], ["map"])
        assert np.allclose(one["bounds"], other["bounds"])
        assert cell.widget.placed == placed


@is_built
def test_what_nobody_waits_for_is_not_answered(
    make_scene: MakeScene, in_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sat2map.translation.scene_windows import SceneWindows

    held, maps, computed = threading.Event(), SceneWindows.maps, []

    def hold(self: SceneWindows, *given: Any) -> Any:
        held.wait(60)
        computed.append(given[:2])
        return maps(self, *given)

    monkeypatch.setattr(SceneWindows, "maps", hold)
    cell = in_cell(make_scene(blocks(60, 60)), model=with_classes((0.5, 2.0)))
    (scene,) = json.loads(cell.ask("scenes")[2])["scenes"]
    west, south, east, north = scene["bounds"]
    path = f"scenes/scene/point?lon={(west + east) / 2}&lat={(south + north) / 2}"
    cell.widget._handle_custom_msg({"id": "gone", "path": path}, [])
    time.sleep(0.2)
    cell.widget._handle_custom_msg({"id": "gone", "stop": True}, [])
    held.set()
    assert cell.ask(path)[0] == 200
    assert "gone" not in cell.answers


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("missing.tif",), "missing.tif: there is no such file"),
        ((noise(8, 8),), "`photo`: is an array, which does not say where it lies"),
        ((noise(8, 8), noise(8, 8).astype(float)), "`map`: is an array of float64 [8, 8, 3]"),
        ((noise(8, 8), np.zeros((0, 3, 3), np.uint8)), "`map`: has no pixels"),
        ((3,), "`photo`"),
        ((noise(8, 8), "missing.png"), "missing.png"),
    ],
)
def test_what_cannot_be_shown_is_one_line(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(Sat2mapError) as caught:
        sat2map.show(*given)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_height_is_of_a_map() -> None:
    for height in (1, 10**6):
        with pytest.raises(Sat2mapError, match=f"`height`: {height} is not a height of a map"):
            sat2map.show("photo.tif", height=height)


def test_a_notebook_shows_an_error_as_one_line() -> None:
    pytest.importorskip("IPython")
    code = "import sat2map; sat2map.show('missing.tif')"
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    (line,) = said.strip().splitlines()
    assert line.startswith("missing.tif: there is no such file")


def test_a_photo_without_a_place_is_not_translated_live(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 40)).save(tmp_path / "picture.png")
    with pytest.raises(Sat2mapError, match="does not say where") as caught:
        sat2map.show(tmp_path / "picture.png", model=with_classes((0.5, 2.0)))
    assert len(str(caught.value).splitlines()) == 1


def test_without_widgets_photo_and_map_stand_side_by_side(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    source, model = make_scene(smooth(900, 700), name="a<b>.tif"), with_classes((0.5, 2.0))
    written = translate_classes(source, tmp_path / "classes.tif", model, SceneOptions(window=256))
    live = sat2map.show(source, model=model)
    pair = sat2map.show(source, written)
    for shown, name in ((live, "map"), (pair, "classes.tif")):
        assert [title for title, _ in shown.images] == ["a<b>.tif", name]
        photo, map = (pixels for _, pixels in shown.images)
        assert photo.shape == map.shape
        assert max(photo.shape) <= notebook.STILL_SIDE
        text = shown._repr_html_()
        assert text.count("<img ") == 2
        assert "sat2map[notebook]" in text
        assert "<b>" not in text
    assert np.array_equal(live.images[0][1].shape, (640, 640, 3))
    middle = smooth(900, 700)[130:770, 30:670]
    assert np.abs(live.images[0][1].astype(int) - middle).mean() < 2


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return a starter of JupyterLab: the code of a cell, and then the notebook's address."""
    pytest.importorskip("jupyterlab", reason="needs jupyterlab")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = []

    def begin(code: str) -> str:
        cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}}
        cell |= {"outputs": [], "source": code}
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
        book = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / "book.ipynb").write_text(json.dumps(book))
        home = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "RUNTIME")}
        options = [f"--port={port}", "--port-retries=0", "--no-browser", "--allow-root"]
        options += [
            f"--ServerApp.root_dir={tmp_path}",
            "--IdentityProvider.token=",
            "--LabApp.news_url=",
        ]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                env=os.environ | home,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        address = f"http://127.0.0.1:{port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(600):
            try:
                opener.open(f"{address}/api", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        return f"{address}/doc/tree/book.ipynb"

    yield begin
    for process in processes:
        process.terminate()
        process.wait(30)


@is_built
def test_jupyterlab_shows_it_without_a_port(
    make_scene: MakeScene, chromium: Any, lab: Callable[[str], str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    map = np.full((200, 200, 3), (0, 200, 100), np.uint8)
    Image.fromarray(map).save(tmp_path / "map.png")
    given = f"{str(make_scene(smooth(200, 200)))!r}, {str(tmp_path / 'map.png')!r}"
    address = lab(f"import sat2map\nsat2map.show({given}, height=400)")
    asked: list[str] = []
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    prompt = page.locator(".jp-Cell .jp-InputPrompt").first
    for _ in range(60):  # what is run before the kernel is there is lost
        page.locator(".jp-Cell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        with suppress(AssertionError):
            expect(prompt).not_to_have_text("[ ]:", timeout=2_000)
            break
    frame = page.frame_locator("iframe[title='Photo and map']")
    expect(frame.locator("html")).to_have_attribute("data-ready", "1", timeout=120_000)
    expect(frame.locator("html")).to_have_attribute("data-drawn", "1", timeout=120_000)
    assert frame.locator("#layers label").all_text_contents() == ["Map"]
    divider = frame.get_by_role("slider", name=re.compile("Divider"))
    divider.press("PageUp")
    assert divider.get_attribute("aria-valuenow") == "60"
    shot = Image.open(io.BytesIO(frame.locator("#maps").screenshot())).convert("RGB")
    green = (np.asarray(shot) == map[0, 0]).all(-1).sum(0) > 50  # columns that show the map
    assert green.any()
    assert not green[: int(0.58 * len(green))].any()
    context.close()
    host = address.partition("/doc")[0]
    assert [url for url in asked if not re.match(rf"{host}/|blob:{host}/|data:|ws", url)] == []
