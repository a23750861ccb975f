"""The page in a real browser: Chromium, driven by Playwright."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fixtures.scenes import MakeScene, smooth
from sat2map.geo.web_mercator import position
from sat2map.legend import COVER, LegendClass
from sat2map.serve.app import AppOptions
from sat2map.serve.basemap import Basemap
from sat2map.serve.page import FOLDER

from .conftest import Served, Start
from .test_tiles import blocks

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "index.html").is_file(), reason="the page is not built: make web"
)

Open = Callable[..., Any]


@pytest.fixture
def browse(chromium: Any, listen: Callable[[Served], str]) -> Iterator[Open]:
    """Return an opener of pages, each of which may ask this machine alone and say no error."""
    faults: list[str] = []
    addresses: dict[int, str] = {}
    contexts: list[Any] = []

    def show(served: Served, link: str = "", also: str = "-", **options: Any) -> Any:
        address = addresses.setdefault(id(served), listen(served))
        context = chromium.new_context(**({"viewport": {"width": 760, "height": 460}} | options))
        context.set_default_timeout(120_000)  # on a machine that has much else to do
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda said: faults.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                faults.append(asked.url)
                if not re.match(rf"{re.escape(address)}/|blob:|{re.escape(also)}", asked.url)
                else None
            ),
        )
        page.goto(f"{address}/{link}")
        page.wait_for_selector("html[data-ready]", timeout=120_000)
        settle(page)
        return page

    yield show
    for context in contexts:
        context.close()
    assert [fault for fault in faults if "GPU stall" not in fault] == []


def settle(page: Any) -> None:
    """Wait until all tiles are there and drawn."""
    for _ in range(2):
        page.wait_for_timeout(250)
        page.wait_for_selector("html[data-drawn]", timeout=120_000)


def says(page: Any, place: str, words: str) -> None:
    sync_api.expect(page.locator(place)).to_have_text(re.compile(words), timeout=60_000)


def pixels(page: Any) -> NDArray[np.uint8]:
    shot = Image.open(io.BytesIO(page.locator("#maps").screenshot()))
    return np.asarray(shot.convert("RGB"))


def has(page: Any, colour: tuple[int, int, int]) -> int:
    """Return how many pixels right of the divider have a colour."""
    shot = pixels(page)
    right = shot[:, shot.shape[1] // 2 + 30 :]
    return int((right == colour).all(-1).sum())


def test_the_divider_moves_by_mouse_and_keyboard(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    page = browse(start(make_scene(smooth(300, 300)), window=256))
    divider = page.get_by_role("slider", name=re.compile("Divider"))
    assert divider.get_attribute("aria-valuenow") == "50"
    middle = pixels(page)
    divider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    assert divider.get_attribute("aria-valuenow") == "62"
    place = page.locator("#maps").bounding_box()
    box = divider.bounding_box()
    page.mouse.move(box["x"] + 22, box["y"] + 250)
    page.mouse.down()
    page.mouse.move(place["x"] + 0.2 * place["width"], box["y"] + 200, steps=5)
    page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "20"
    assert "swipe=0.20" in page.url
    moved = pixels(page)
    # What was photo left of the middle is map now.
    width = middle.shape[1]
    part = np.s_[100:350, int(0.35 * width) : int(0.45 * width)]
    assert np.abs(middle[part].astype(int) - moved[part]).mean() > 5
    page.keyboard.press("Home")
    assert divider.get_attribute("aria-valuenow") == "0"


def test_the_divider_moves_by_touch(make_scene: MakeScene, start: Start, browse: Open) -> None:
    size = {"width": 360, "height": 640}
    page = browse(start(make_scene(smooth(90, 90))), viewport=size, has_touch=True, is_mobile=True)
    divider = page.locator("#swipe")
    assert divider.get_attribute("aria-valuenow") == "50"
    view = page.url.partition("map=")[2].partition("&")[0]
    finger = page.context.new_cdp_session(page)
    for kind, x in (
        ("touchStart", 180),
        ("touchMove", 200),
        ("touchMove", 270),
        ("touchEnd", None),
    ):
        points = [] if x is None else [{"x": x, "y": 150}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    sync_api.expect(divider).to_have_attribute("aria-valuenow", "75")
    assert "swipe=0.75" in page.url
    assert page.url.partition("map=")[2].partition("&")[0] == view  # the map itself stays


def test_classes_are_shown_in_their_exact_colours_and_recoloured(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    page = browse(start(make_scene(blocks(300, 300)), window=256))
    says(page, "#shares", "^In view: .* percent")  # also where the map alone is shown
    page.get_by_label("Map", exact=True).uncheck()
    page.get_by_label("Classes", exact=True).check()
    settle(page)
    counts = {entry.name: has(page, entry.colour) for entry in COVER.classes}
    name = max(counts, key=lambda key: counts[key])
    assert counts[name] > 500
    assert sum(count > 0 for count in counts.values()) > 2
    told = page.locator("#shares").text_content()
    assert told.startswith("In view: ")
    assert name in told
    page.get_by_label(f"Colour of {name}").fill("#ff00fe")
    settle(page)
    assert has(page, (255, 0, 254)) == pytest.approx(counts[name], rel=0.02)
    page.get_by_label(name, exact=True).uncheck()
    settle(page)
    assert has(page, (255, 0, 254)) == 0
    for _ in range(3):  # at the scene's own zoom and at coarser ones
        shares = page.locator(".share").all_text_contents()
        total = sum(float(share.removesuffix(" %")) for share in shares)
        assert total == pytest.approx(100, abs=0.5)
        page.get_by_role("button", name="Zoom out").click()
        settle(page)


def test_a_click_tells_class_and_confidence(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    served = start(make_scene(blocks(300, 300)), window=256)
    page = browse(served)
    place = page.locator("#maps").bounding_box()
    page.mouse.click(place["x"] + place["width"] / 4 + 60, place["y"] + place["height"] / 2)
    says(page, "#place", "Pixels of")
    said = page.locator("#place").text_content()
    found = re.fullmatch(
        r"(-?[\d.]+), (-?[\d.]+): (\w+), sure to (\d+) percent\. Pixels of 1\.00 m\.", said
    )
    assert found is not None, said
    told = served.client.get(f"/scenes/scene/point?lat={found[1]}&lon={found[2]}").json()
    assert (told["class"], round(100 * told["confidence"])) == (found[3], int(found[4]))
    page.get_by_label("Go to latitude, longitude").fill("nonsense")
    page.get_by_role("button", name="Go", exact=True).click()
    assert "Give latitude and longitude" in page.locator("#place").text_content()
    west, south, _, north = served.scene().bounds
    page.get_by_label("Go to latitude, longitude").fill(f"{(south + north) / 2}, {west + 1e-4}")
    page.get_by_role("button", name="Go", exact=True).click()
    says(page, "#place", f"{(south + north) / 2:.7f}, .* percent")


def test_a_link_holds_place_layers_classes_and_divider(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    served = start(
        make_scene(blocks(300, 300)), make_scene(blocks(60, 60), name="other.tif"), window=256
    )
    page = browse(served)
    page.get_by_label("Classes", exact=True).check()
    page.get_by_label("Opacity of Classes").fill("40")
    page.get_by_label("water", exact=True).uncheck()
    page.get_by_label("Colour of road").fill("#123456")
    page.locator("#swipe").press("PageUp")
    page.get_by_role("button", name="Zoom in").click()
    settle(page)
    link = page.url.partition("#")[2]
    assert "scene=scene" in link
    assert "classes:0.4" in link
    again = browse(served, f"#{link}")
    assert again.url.partition("#")[2] == link
    assert again.get_by_label("Classes", exact=True).is_checked()
    assert again.get_by_label("Opacity of Classes").input_value() == "40"
    assert not again.get_by_label("water", exact=True).is_checked()
    assert again.get_by_label("Colour of road").input_value() == "#123456"
    assert again.locator("#swipe").get_attribute("aria-valuenow") == "60"
    again.get_by_label("Scene").select_option("other")
    again.wait_for_url(re.compile("scene=other"))
    layers = browse(served, "#layers=classes:0.5")  # of whichever scene is the first
    assert layers.get_by_label("Opacity of Classes").input_value() == "50"
    assert not layers.get_by_label("Map", exact=True).is_checked()
    # A link that makes no sense is the usual view.
    browse(served, "#map=x/1e999/&layers=nothing:7,map:nan&off=q&swipe=-5&scene=<script>")


def test_a_style_is_chosen_and_the_legend_of_the_map_follows(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    served = start(make_scene(blocks(300, 300)), window=256)
    page = browse(served)
    assert legend_of_the_map(page) == [(c.name, c.colour) for c in served_legend(served, None)]
    before, computed = pixels(page), served.service.workshop.pool.computed
    assert page.get_by_label("Style").input_value() == "streets"
    page.get_by_label("Style").select_option("houses")
    houses = [(c.name, c.colour) for c in served_legend(served, "houses")]
    sync_api.expect(page.locator("#map-legend .swatch").first).to_have_css(
        "background-color", "rgb({}, {}, {})".format(*houses[0][1])
    )
    settle(page)
    assert legend_of_the_map(page) == houses
    after = pixels(page)
    right = np.s_[100:350, before.shape[1] // 2 + 60 : -60]
    assert np.abs(after[right].astype(int) - before[right]).mean() > 5
    width = before.shape[1]
    assert np.array_equal(
        before[100:350, 60 : width // 2 - 60], after[100:350, 60 : width // 2 - 60]
    )
    assert served.service.workshop.pool.computed == computed
    assert "style=houses" in page.url
    again = browse(served, "#" + page.url.partition("#")[2])
    assert again.get_by_label("Style").input_value() == "houses"
    found, usual, chosen = (shot[right].mean((0, 1)) for shot in (pixels(again), before, after))
    assert np.abs(found - chosen).max() < np.abs(found - usual).max() / 4  # the place is rounded
    again.get_by_role("button", name="Copy the command for this view").click()
    says(again, "#copied", "--style houses --classes classes.tif$")
    again.get_by_label("Map", exact=True).uncheck()
    assert again.locator("#map-legend-section").is_hidden()
    # A style that the server has not is the usual one.
    other = browse(served, "#style=nobody")
    assert other.get_by_label("Style").input_value() == "streets"
    assert legend_of_the_map(other) == [(c.name, c.colour) for c in served_legend(served, None)]


def test_tiles_in_the_middle_come_first_and_then_those_under_the_pointer(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    served = start(make_scene(blocks(500, 500)), window=256)
    page = browse(served, viewport={"width": 1000, "height": 700})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.mouse.move(1, 1)
    page.locator("#panel").hover()  # beside the map
    box = page.locator("#maps").bounding_box()
    middle = np.array([box["width"] / 2, box["height"] / 2])
    for style, place in (
        ("houses", middle),
        ("streets", middle + np.array((130, 150))),
        ("houses", middle - np.array((140, 120))),
    ):
        if place is not middle:
            page.mouse.move(place[0] + box["x"], place[1] + box["y"])
        asked.clear()
        page.get_by_label("Style").select_option(style)
        settle(page)
        apart = [distance(page, url, place - middle) for url in asked if "/map/" in url]
        assert len(apart) >= 9
        assert apart[0] < min(apart) + 0.1
        assert np.mean(apart[:4]) < np.mean(apart[-4:])


def distance(page: Any, tile: str, offset: NDArray[np.float64]) -> float:
    """Return how far the middle of a tile is from a place of the view, in tiles.

    Args:
        page: Its address tells where the middle of the view is.
        tile: The tile's address.
        offset: From there to the place, in pixels.
    """
    zoom, lat, lon = map(float, re.findall(r"map=([^/]+)/([^/]+)/([^&]+)", page.url)[0])
    z, x, y = map(int, re.findall(r"/map/(\d+)/(\d+)/(\d+)", tile)[0])
    here = np.array(position(lon, lat, z)) + offset / (512 * 2 ** (zoom - z))
    return float(np.hypot(*(here - (x + 0.5, y + 0.5))))


def served_legend(served: Served, style: str | None) -> tuple[LegendClass, ...]:
    current = served.scene()
    legend = current.legend_of("map", None if style is None else current.styles[style])
    assert legend is not None
    return legend.classes


def legend_of_the_map(page: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Return what the legend of the map says, and the colours beside it."""
    items = page.locator("#map-legend li")
    found = []
    for number in range(items.count()):
        swatch = items.nth(number).locator(".swatch")
        colour = swatch.evaluate("element => getComputedStyle(element).backgroundColor")
        name = items.nth(number).text_content().replace(" ", "_")
        found.append((name, tuple(map(int, re.findall(r"\d+", colour)))))
    return found


def test_what_is_in_view_can_be_taken_along(
    make_scene: MakeScene, start: Start, browse: Open, tmp_path: Path
) -> None:
    served = start(make_scene(blocks(300, 300), name="it's.tif"), window=256)
    page = browse(served)
    with page.expect_download() as download:
        page.get_by_text("Classes in view (GeoTIFF)").click()
    target = tmp_path / "part.tif"
    download.value.save_as(target)
    assert target.read_bytes()[:2] == b"II"
    page.get_by_role("button", name="Copy the command for this view").click()
    says(page, "#copied", "sat2map")
    said = page.locator("#copied").text_content()
    assert re.search(
        r"sat2map translate 'it'\\''s\.tif' map\.tif --bbox=[-\d.,]+ --style streets --classes",
        said,
    )
    page.get_by_role("button", name="Copy the address for QGIS").click()
    says(page, "#copied", "/scenes/it-s/WMTSCapabilities.xml$")


def test_what_is_not_translated_is_said_and_translated(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    page = browse(start(make_scene(blocks(320, 320)), window=32))
    notice = page.locator("#notice")
    if notice.is_hidden():  # the view needed few windows
        page.get_by_role("button", name="Zoom out").click()
    says(page, "#notice", "translate all")
    page.get_by_role("button", name="Translate all").click()
    notice.wait_for(state="hidden", timeout=120_000)
    settle(page)


def test_an_archive_of_vectors_lies_over_a_photo(
    make_scene: MakeScene, start: Start, browse: Open, town: Path
) -> None:
    served = start(make_scene(smooth(200, 200)), town, window=256)
    page = browse(served, "#scene=town")
    assert page.get_by_label("Scene").input_value() == "town"
    assert page.get_by_label("Vectors", exact=True).is_checked()
    water = next(entry.colour for entry in COVER.classes if entry.name == "water")
    page.locator("#swipe").press("Home")
    settle(page)
    assert (pixels(page) == water).all(-1).sum() > 2000
    left = pixels(page)[100:300, 250:500]
    page.locator("#swipe").press("End")
    settle(page)
    photo = pixels(page)  # of the other scene
    assert not (photo == water).all(-1).any()
    assert np.abs(photo[100:300, 250:500].astype(int) - left).mean() > 5
    west, south, east, north = served.scene("town").bounds
    for share, words in ((0.72, "water"), (0.4, "road")):
        lat, lon = south + share * (north - south), west + 0.25 * (east - west)
        page.get_by_label("Go to latitude, longitude").fill(f"{lat}, {lon}")
        page.get_by_role("button", name="Go", exact=True).click()
        settle(page)
        page.get_by_role("button", name="Go", exact=True).click()
        says(page, "#place", words)
    page.get_by_label("Vectors", exact=True).uncheck()
    page.locator("#swipe").press("Home")
    settle(page)
    assert not (pixels(page) == water).all(-1).any()


@pytest.fixture
def tiles_elsewhere() -> Iterator[str]:
    """The address of a server of magenta tiles."""
    body = io.BytesIO()
    Image.new("RGB", (256, 256), (255, 0, 255)).save(body, "PNG")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(body.getvalue())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_basemap_lies_below_and_is_named(
    make_scene: MakeScene, start: Start, browse: Open, tiles_elsewhere: str
) -> None:
    basemap = Basemap(f"{tiles_elsewhere}/{{z}}/{{x}}/{{y}}.png", "© <b>Them</b>")
    served = start(make_scene(smooth(200, 200)), window=256, app=AppOptions(basemap=basemap))
    page = browse(served, also=f"{tiles_elsewhere}/")
    shot = pixels(page)
    around = (shot == (255, 0, 255)).all(-1)
    assert around[20:-60, 8].all()  # beside the scene
    assert not around[shot.shape[0] // 2, shot.shape[1] // 2 - 60]
    assert "© <b>Them</b>" in page.locator(".maplibregl-ctrl-attrib").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_phones_and_has_no_serious_fault_of_access(
    make_scene: MakeScene, start: Start, browse: Open, scheme: str
) -> None:
    served = start(make_scene(blocks(300, 300)), window=256)
    page = browse(
        served,
        viewport={"width": 360, "height": 640},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 27, 34)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip the map"
    if not AXE.is_file():
        pytest.skip("axe-core is not there: npm ci in web/")
    page.evaluate(AXE.read_text("utf-8"))  # what is injected so needs no leave of the policy
    found = page.evaluate("axe.run()")
    serious = [
        (fault["id"], [node["html"] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


FOCUSED = """
() => {
  const held = document.activeElement;
  return held.getAttribute("aria-label") ?? held.labels?.[0]?.textContent ?? held.textContent;
}
"""


def test_the_keyboard_goes_from_the_map_to_the_panel_and_nothing_moves_by_itself(
    make_scene: MakeScene, start: Start, browse: Open
) -> None:
    served = start(make_scene(blocks(300, 300)), window=256)
    page = browse(served, reduced_motion="reduce")
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        told = page.evaluate(FOCUSED).strip()
        if reached and told == reached[0]:
            break  # round once
        reached.append(told)
    expected = ["Skip the map", "Map: move with", "Zoom in", "Zoom out", "Divider: photo", "Map"]
    expected += ["Opacity of Map", "Classes", "Opacity of Classes", "How sure", "Style", "land"]
    expected += ["Colour of land", "water", "Go to latitude", "Go", "Copy the address for QGIS"]
    expected += ["Copy the command", "Classes in view", "Vectors in view"]
    rest = iter(reached)
    for name in expected:  # each after the one before
        assert any(told.startswith(name) for told in rest), (name, reached)
    # What is asked for is there at once where people ask for no motion.
    before = page.evaluate("location.hash")
    zoom = page.get_by_role("button", name="Zoom in")
    assert zoom.evaluate("(button) => { button.click(); return location.hash; }") != before
    # The first stop leads past the map.
    page.evaluate("document.activeElement.blur()")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel"
    settle(page)
    scale = page.locator(".maplibregl-ctrl-scale").text_content()
    assert re.fullmatch(r"\d+\s(m|km)", scale), scale
    assert page.locator("#shares").get_attribute("role") == "status"
    says(page, "#shares", r"In view: .*\d+ percent")
