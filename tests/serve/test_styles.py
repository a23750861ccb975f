"""Styles come after the windows: another one computes nothing, and its tiles equal its file."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from fixtures.scenes import MakeModel, MakeScene, smooth, with_classes
from sat2map.errors import DataError, UsageError
from sat2map.legend import COVER, STREETS, Legend
from sat2map.raster.options import SceneOptions
from sat2map.serve.styles import OWN, MapStyle, styles_of
from sat2map.serve.tiles import Tile
from sat2map.style.spec import style_colours
from sat2map.translation.maps import mixed
from sat2map.translation.scene import translate_raster

from .conftest import CORE, Start
from .test_tiles import EQUAL, blocks

NIGHT = {"land": "#101418", "road": "#ffd27f", "water": [10, 40, 90]}


@pytest.fixture
def night(tmp_path: Path) -> Path:
    path = tmp_path / "night.json"
    path.write_text(json.dumps(NIGHT))
    return path


def colours_of(legend: Legend) -> list[str]:
    return ["#{:02x}{:02x}{:02x}".format(*entry.colour) for entry in legend.classes]


def test_tiles_equal_the_file_in_every_style_and_another_style_computes_nothing(
    make_scene: MakeScene, start: Start, tmp_path: Path, night: Path
) -> None:
    source, model = make_scene(smooth(150, 190)), with_classes((0.5, 2.0))
    served = start(source, model=model, styles=(str(night),))
    assert served.client.get("/scenes/scene/styles").json() == {
        "styles": ["night.json", "streets", "houses"]
    }
    zoom = served.scene().highest("map")
    computed = None
    shown = {}
    for style, text in (("night.json", str(night)), ("houses", "houses"), ("streets", "streets")):
        painter = model.in_colours(style_colours(text, STREETS))
        options = SceneOptions(window=CORE, resolution="model")
        written = translate_raster(source, tmp_path / f"{style}.tif", painter, options)
        for x, y in served.tiles(zoom):
            for scale, named in ((1, ".png"), (2, "@2x.webp")):
                path = f"/scenes/scene/map/{zoom}/{x}/{y}{named}"
                found = served.pixels(f"{path}?style={style}")
                expected = warped(written, Tile(zoom, x, y, scale))
                inside = (found[..., 3] > 0) & (expected[..., 3] > 0)
                assert inside.any()
                assert (found[..., 3] == expected[..., 3]).mean() > EQUAL
                apart = np.abs(found[inside].astype(int) - expected[inside])[:, :3]
                assert (apart <= 2).mean() > EQUAL
                if scale == 1 and style == "night.json":  # the first is the usual one
                    assert np.array_equal(served.pixels(path), found)
                shown[style, x, y, scale] = found
        pool = served.service.workshop.pool
        computed = computed or pool.computed
        assert pool.computed == computed == served.scene().results.count  # type: ignore[union-attr]
    place = next(key[1:] for key in shown if key[0] == "houses")
    assert not np.array_equal(shown["houses", *place], shown["night.json", *place])
    # Nor does a server that is started with another one: windows are kept without colours.
    other = start(source, model=model, styles=("houses",))
    assert other.scene().key == served.scene().key
    x, y = served.tiles(zoom)[0]
    found = other.pixels(f"/scenes/scene/map/{zoom}/{x}/{y}.png")
    assert np.array_equal(found, shown["houses", x, y, 1])
    assert other.service.workshop.pool.computed == 0


def warped(path: Path, tile: Tile) -> NDArray[np.uint8]:
    grid = tile.grid
    place = {"transform": grid.transform, "width": grid.width, "height": grid.height}
    with (
        rasterio.open(path) as opened,
        WarpedVRT(
            opened, crs=grid.crs, resampling=Resampling.bilinear, add_alpha=True, **place
        ) as file,
    ):
        pixels: NDArray[np.uint8] = file.read([1, 2, 3, file.count]).transpose(1, 2, 0)
        return pixels


def test_what_is_painted_of_shares_is_what_translate_mixes() -> None:
    random = np.random.default_rng(0)
    pixels = random.dirichlet(np.full(len(STREETS), 0.2), (200, 300)).astype(np.float32)
    sharp = pixels**4 / (pixels**4).sum(2, keepdims=True)
    shares = np.rint(255 * sharp).astype(np.uint8)
    assert (shares.sum(2, dtype=int) > 255).any()  # rounded, they are more than one
    for colours in ({}, dict(zip(STREETS.names, extreme(), strict=True))):
        legend = STREETS.in_colours(colours)
        planes = [shares[..., number] for number in range(1, len(legend))]
        apart = np.abs(MapStyle("any", legend).paint(planes).astype(int) - mixed(pixels, legend))
        assert apart.max() <= 2
        assert (apart > 1).mean() < 1e-3
    alone = [np.zeros((3, 2), np.uint8)] * (len(STREETS) - 1)
    assert (MapStyle("any", STREETS).paint(alone) == STREETS.colours[0]).all()


def extreme() -> list[list[int]]:
    """Return the corners of the cube of colours."""
    return [[255 * (number >> bit & 1) for bit in range(3)] for number in range(7, -1, -1)]


def test_the_styles_are_what_is_asked_for_the_models_own_and_the_shipped_ones_that_fit(
    make_model: MakeModel, night: Path
) -> None:
    model = with_classes((0.5, 2.0))
    assert list(styles_of(model, [])) == ["streets", "houses"]  # the model's own are the streets
    assert list(styles_of(model, ["houses", str(night)])) == ["houses", "night.json", "streets"]
    own = model.in_colours({"land": "#123456"})
    assert list(styles_of(own, [])) == [OWN, "houses", "streets"]
    assert styles_of(own, [])[OWN].legend == own.legend
    # One that has not all classes is not offered, and may be asked for.
    partly = styles_of(model, ["landcover"])["landcover"].legend
    assert partly.classes[0] == STREETS.classes[0]
    assert partly.classes[4].colour == (46, 134, 193)
    in_colours = make_model(legend=STREETS)
    assert styles_of(in_colours, []) == {OWN: MapStyle(OWN, STREETS)}
    assert styles_of(make_model(), []) == {}


def test_styles_that_do_not_fit_are_one_line(
    make_model: MakeModel, night: Path, tmp_path: Path
) -> None:
    model = with_classes((0.5, 2.0))
    with pytest.raises(UsageError, match=r"night\.json is named twice"):
        styles_of(model, [str(night), str(night)])
    bad = tmp_path / "bad.json"
    with pytest.raises(DataError, match=r"bad\.json: cannot be read"):
        styles_of(model, [str(bad)])
    for text, words in (
        ('{"moon": "#ffffff"}', "bad\\.json: names the class 'moon'"),
        ('{"water": "blue"}', "bad\\.json: .*blue"),
        ('{"water": "#fffffd", "road": "#fffffd"}', "bad\\.json: the legend names .* twice"),
        ("[", "bad\\.json: cannot be read"),
    ):
        bad.write_text(text)
        with pytest.raises(DataError, match=words):
            styles_of(model, [str(bad)])
    with pytest.raises(UsageError, match="answers in colours"):
        styles_of(make_model(legend=STREETS), ["houses"])


def test_legends_addresses_and_etags_tell_the_style(
    make_scene: MakeScene, start: Start, night: Path
) -> None:
    served = start(make_scene(blocks(60, 60)), styles=("houses", str(night)))
    get = served.client.get
    for query, colours in (
        ("?layer=map", style_colours("houses", STREETS)),
        ("?layer=map&style=streets", {}),
        ("?layer=map&style=night.json", NIGHT),
    ):
        told = get(f"/scenes/scene/legend{query}").json()["classes"]
        assert [entry["colour"] for entry in told] == colours_of(STREETS.in_colours(colours))
    told = get("/scenes/scene/legend").json()["classes"]
    assert [entry["colour"] for entry in told] == colours_of(COVER)
    told = get("/scenes/scene/map/tilejson.json?style=night.json").json()
    assert told["tiles"][0].endswith("/map/{z}/{x}/{y}.png?style=night.json")
    root = ElementTree.fromstring(get("/scenes/scene/WMTSCapabilities.xml?token=t").text)
    one = {"": "http://www.opengis.net/wmts/1.0", "ows": "http://www.opengis.net/ows/1.1"}
    listed = {
        layer.findtext("ows:Identifier", namespaces=one): (
            [
                style.findtext("ows:Identifier", namespaces=one)
                for style in layer.iterfind("Style", one)
            ],
            layer.find("ResourceURL", one).get("template"),  # type: ignore[union-attr]
        )
        for layer in root.iterfind("Contents/Layer", one)
    }
    assert listed["map"][0] == ["houses", "night.json", "streets"]
    assert listed["map"][1].endswith(".png?style={Style}&token=t")  # type: ignore[union-attr]
    assert listed["classes"][0] == ["default"]
    assert "style" not in listed["classes"][1]  # type: ignore[operator]
    zoom = served.scene().highest("map")
    x, y = served.tiles(zoom)[0]
    tile = f"{zoom}/{x}/{y}.png"
    etags = {
        style: get(f"/scenes/scene/map/{tile}?style={style}").headers["etag"]
        for style in ("houses", "night.json", "streets")
    }
    assert len(set(etags.values())) == 3
    assert get(f"/scenes/scene/map/{tile}").headers["etag"] == etags["houses"]
    kept = {"If-None-Match": etags["houses"]}
    assert get(f"/scenes/scene/map/{tile}", headers=kept).status_code == 304
    again = get(f"/scenes/scene/map/{tile}?style=streets", headers=kept)
    assert again.status_code == 200
    # The same name, other colours, as after a file was edited and the server started again.
    night.write_text(json.dumps(NIGHT | {"water": "#000080"}))
    other = start(make_scene(blocks(60, 60)), styles=("houses", str(night)))
    changed = other.client.get(f"/scenes/scene/map/{tile}?style=night.json").headers["etag"]
    assert changed != etags["night.json"]


@pytest.mark.parametrize(
    "path",
    [
        "map/{tile}?style=nobody",
        "map/{tile}?style=../../etc/passwd",
        "photo/{tile}?style=streets",
        "classes/{tile}?style=streets",
        "map/tilejson.json?style=nobody",
        "legend?layer=map&style=nobody",
        "legend?layer=photo",
        "export?bbox=14,45,16,46&layer=map&style=nobody",
    ],
)
def test_a_style_that_is_not_there_is_404(make_scene: MakeScene, start: Start, path: str) -> None:
    served = start(make_scene(blocks(60, 60)))
    zoom = served.scene().highest("map")
    x, y = served.tiles(zoom)[0]
    answer = served.client.get(f"/scenes/scene/{path.format(tile=f'{zoom}/{x}/{y}.png')}")
    assert answer.status_code == 404
    assert "/" not in answer.json()["detail"]


def test_classes_of_the_map_are_in_the_colours_of_the_style(
    make_scene: MakeScene, start: Start
) -> None:
    served = start(make_scene(blocks(60, 60)), class_legend="map")
    zoom = served.scene().highest("classes")
    x, y = served.tiles(zoom)[0]
    path = f"/scenes/scene/{{}}/{zoom}/{x}/{y}.png"
    numbers = served.pixels(path.format("numbers"))
    houses = STREETS.in_colours(style_colours("houses", STREETS))
    for query, legend in (("", STREETS), ("?style=streets", STREETS), ("?style=houses", houses)):
        colours = np.zeros((256, 4), np.uint8)
        colours[: len(legend)] = [(*entry.colour, 255) for entry in legend.classes]
        assert np.array_equal(served.pixels(path.format("classes") + query), colours[numbers])
        told = served.client.get(f"/scenes/scene/legend{query}").json()["classes"]
        assert [entry["colour"] for entry in told] == colours_of(legend)


def test_an_export_has_the_colours_of_the_style(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    source, model = make_scene(smooth(90, 120)), with_classes((0.5, 2.0))
    served = start(source, model=model)
    west, south, east, north = served.scene().bounds
    box = f"bbox={west + 1e-6},{south + 1e-6},{east - 1e-6},{north - 1e-6}"
    for style in ("streets", "houses"):
        answer = served.client.get(f"/scenes/scene/export?{box}&layer=map&style={style}")
        assert answer.status_code == 200
        part = tmp_path / "part.tif"
        part.write_bytes(answer.content)
        painter = model.in_colours(style_colours(style, STREETS))
        written = translate_raster(
            source,
            tmp_path / f"{style}.tif",
            painter,
            SceneOptions(window=CORE, resolution="model"),
        )
        with rasterio.open(part) as found, rasterio.open(written) as expected:
            whole = expected.read(window=expected.window(*found.bounds))
            assert np.abs(found.read().astype(int) - whole).max() <= 2
