"""A part of a scene as a file, and what a client may ask for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from fixtures.scenes import MakeScene, with_classes
from sat2map.batch.verify import verify
from sat2map.legend import COVER, LEGEND_TAG, ROAD_WIDTH_TAG, STREETS, Legend
from sat2map.model.card import ModelCard
from sat2map.model.folder import Model, build_generator, save_model
from sat2map.networks.specs import LiteSpec
from sat2map.raster.options import SceneOptions
from sat2map.raster.provenance_reader import read_provenance
from sat2map.serve import service
from sat2map.serve.app import AppOptions
from sat2map.serve.budget import Budget
from sat2map.translation.classes import translate_classes
from sat2map.translation.translator import Translator, load
from sat2map.vectors.class_map import open_class_map

from .conftest import CORE, Served, Start
from .test_tiles import blocks


def box_of(served: Served, share: float = 1.0) -> str:
    """Return the upper left part of a scene's bounds, as a query has it."""
    west, south, east, north = served.scene().bounds
    return f"{west},{north - share * (north - south)},{west + share * (east - west)},{north}"


def test_exported_classes_are_those_of_the_class_map(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    pixels = blocks(150, 190)
    pixels[:40, :40] = 0
    source, model = make_scene(pixels, nodata=0), with_classes((0.5, 2.0))
    written = translate_classes(
        source, tmp_path / "classes.tif", model, SceneOptions(window=CORE, resolution="model")
    )
    served = start(source, model=model)
    answer = served.client.get(f"/scenes/scene/export?bbox={box_of(served, 0.6)}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="scene-classes.tif"'
    part = tmp_path / "part.tif"
    part.write_bytes(answer.content)
    with rasterio.open(part) as ours, rasterio.open(written) as file:
        assert ours.transform == file.transform
        assert ours.crs == file.crs
        assert ours.height < file.height
        assert ours.width < file.width
        window = rasterio.windows.Window(0, 0, ours.width, ours.height)
        assert np.array_equal(ours.read(1), file.read(1, window=window))
        assert ours.colormap(1)[1] == (*COVER.classes[1].colour, 255)
        assert Legend.from_json(json.loads(ours.tags()[LEGEND_TAG])) == COVER
        assert (ours.nodata, ours.tags()["SAT2MAP_MODEL"]) == (255, "classes")
    with open_class_map(part) as found:
        assert found.legend == COVER
    answer = served.client.get(f"/scenes/scene/export?bbox={box_of(served)}&layer=map")
    part.write_bytes(answer.content)
    with rasterio.open(part) as ours:
        assert ours.count == 3
        assert (ours.read_masks(1)[:30, :30] == 0).all()
    assert served.service._writing == 0


def test_vectors_come_as_a_geopackage_and_as_json(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    served = start(make_scene(blocks(150, 190)))
    answer = served.client.get(f"/scenes/scene/export?bbox={box_of(served)}&format=gpkg")
    assert answer.status_code == 200, answer.text
    package = tmp_path / "part.gpkg"
    package.write_bytes(answer.content)
    layers = {name for name, _ in pyogrio.list_layers(package)}
    assert {"coverage", "buildings", "roads"} <= layers
    answer = served.client.get(f"/scenes/scene/vectors.geojson?bbox={box_of(served)}")
    assert answer.headers["content-type"] == "application/geo+json"
    features = answer.json()["features"]
    found = [feature for feature in features if feature["properties"]["layer"] == "coverage"]
    assert len(found) == pyogrio.read_info(package, layer="coverage")["features"] > 0
    assert found[0]["properties"]["class"] in COVER.names
    west, south, east, north = served.scene().bounds
    shapes = [shapely.from_geojson(json.dumps(f["geometry"])) for f in found]
    bounds = shapely.total_bounds(shapes)
    assert np.abs(bounds - [west, south, east, north]).max() < 1e-4


def exported(served: Served, path: Path, query: str = "") -> Path:
    """Ask for the upper left part of a scene, and keep it."""
    answer = served.client.get(f"/scenes/scene/export?bbox={box_of(served, 0.6)}{query}")
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    return path


@pytest.mark.parametrize("layer", ["classes", "numbers", "confidence", "map", "photo"])
def test_what_is_exported_says_what_it_was_made_of(
    make_scene: MakeScene, start: Start, tmp_path: Path, layer: str
) -> None:
    folder, torch_model = tmp_path / "small", with_classes((0.5, 2.0))._model
    save_model(folder, torch_model.network, torch_model.card)  # type: ignore[union-attr]
    model = load(folder, runtime="torch")
    source = make_scene(blocks(150, 190))
    served = start(source, model=model, app=AppOptions(attribution="© somebody"))
    part = exported(served, tmp_path / "part.tif", f"&layer={layer}")
    made = read_provenance(part)
    assert made is not None
    assert (made.source.name, made.attribution) == ("scene.tif", "© somebody")
    with rasterio.open(part) as file:
        assert file.tags()["TIFFTAG_COPYRIGHT"] == "© somebody"
    if layer == "photo":
        assert (made.layer, made.model) == ("photo", None)
        return
    assert made.model is not None
    assert (made.model.fingerprint, made.precision) == (model.identity, "f32")
    (found,) = verify(part, model=folder)
    assert found.changed == ()
    # Colours of the map are mixed of kept shares, which are rounded.
    assert found.answer in ("equal", *(["equal within the runtime"] if layer == "map" else []))
    with rasterio.open(part, "r+") as file:
        file.write(255 - file.read())
    assert verify(part, model=folder)[0].answer == "differs"


def test_exported_vectors_say_what_they_were_made_of(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    pytest.importorskip("pyogrio")
    served = start(make_scene(blocks(150, 190)), app=AppOptions(attribution="© somebody"))
    made = read_provenance(exported(served, tmp_path / "part.gpkg", "&format=gpkg"))
    answer = served.client.get(f"/scenes/scene/vectors.geojson?bbox={box_of(served, 0.6)}")
    path = tmp_path / "part.geojson"
    path.write_bytes(answer.content)
    assert made == read_provenance(path)
    assert made is not None
    assert made.made_from is not None
    assert made.made_from.model is not None
    assert (made.layer, made.made_from.layer) == ("vectors", "cover")
    assert (made.made_from.source.name, made.attribution) == ("scene.tif", "© somebody")


def test_a_part_of_an_earlier_map_says_what_that_said(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    source, model = make_scene(blocks(150, 190)), with_classes((0.5, 2.0))
    options = SceneOptions(licence="CC-BY-4.0")
    classes = translate_classes(source, tmp_path / "classes.tif", model, options)
    served = start(classes, model=None)
    west, south, east, north = served.scene("classes").bounds
    answer = served.client.get(f"/scenes/classes/export?bbox={west},{south},{east},{north}")
    (tmp_path / "part.tif").write_bytes(answer.content)
    made = read_provenance(tmp_path / "part.tif")
    assert made is not None
    assert made.made_from == read_provenance(classes)
    assert (made.source.name, made.model, made.licence) == ("classes.tif", None, "CC-BY-4.0")


def test_exported_classes_say_by_how_much_widths_of_roads_are_off(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    spec = LiteSpec(colours=STREETS.colours.tolist(), cover_classes=len(COVER), widths=[4, 4, 4, 4])
    card = ModelCard(
        generator=spec, normalisation="none", legend=STREETS, cover=COVER, road_width_error_m=1.1
    )
    model = Translator(Model(build_generator(spec), card, Path("lite")), "cpu")
    source = make_scene(blocks(60, 60))
    part = exported(start(source, model=model), tmp_path / "part.tif")
    again = start(part, model=None)  # as a class map that was written earlier
    west, south, east, north = again.scene("part").bounds
    answer = again.client.get(f"/scenes/part/export?bbox={west},{south},{east},{north}")
    (tmp_path / "again.tif").write_bytes(answer.content)
    for path in (part, tmp_path / "again.tif"):
        with rasterio.open(path) as file:
            assert file.tags()[ROAD_WIDTH_TAG] == "1.1"
    drawn = start(source, model=model, class_legend="map")
    with rasterio.open(exported(drawn, tmp_path / "drawn.tif")) as file:
        assert ROAD_WIDTH_TAG not in file.tags()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("bbox=1,2,3", 422),
        ("bbox=a,b,c,d", 422),
        ("bbox=nan,0,1,1", 422),
        ("bbox=5,5,4,4", 422),
        ("bbox=0,0,1,1", 404),
        ("bbox={box}&format=exe", 422),
        ("bbox={box}&layer=../../etc", 404),
        ("bbox={box}&layer=numbers", 200),
        ("bbox=" + "1" * 300, 422),
    ],
)
def test_bad_parts_are_told_so(
    make_scene: MakeScene, start: Start, query: str, status: int
) -> None:
    served = start(make_scene(blocks(60, 60)))
    answer = served.client.get(f"/scenes/scene/export?{query.format(box=box_of(served))}")
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text


def test_what_is_too_much_is_413_and_too_often_429(
    make_scene: MakeScene, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(make_scene(blocks(60, 60)))
    path = f"/scenes/scene/export?bbox={box_of(served)}"
    monkeypatch.setattr("sat2map.serve.app.MOST_EXPORTED", 100)
    answer = served.client.get(path)
    assert (answer.status_code, "3,600 pixels" in answer.text) == (413, True)
    monkeypatch.undo()
    served.service.budget = Budget(pixels=4000, seconds=1000)
    assert served.client.get(path).status_code == 200
    answer = served.client.get(path)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 1000
    monkeypatch.setattr(service, "EXPORTS", 0)
    served.service.budget = Budget()
    assert served.client.get(path).status_code == 503


def test_a_scene_is_warmed_when_a_page_of_ours_asks(make_scene: MakeScene, start: Start) -> None:
    served = start(make_scene(blocks(150, 190)))
    scene = served.scene()
    assert scene.results is not None
    told = served.client.post("/scenes/scene/warm")
    assert told.status_code == 202
    assert told.json()["all"] == scene.results.count
    while served.client.get("/scenes/scene/warm").json()["running"]:
        pass
    assert served.client.get("/scenes/scene/warm").json()["done"] == scene.results.count
    evil = {"Origin": "https://evil.example"}
    assert served.client.post("/scenes/scene/warm", headers=evil).status_code == 403
    served.service.budget = Budget(pixels=10, seconds=100)
    assert served.client.post("/scenes/scene/warm").status_code == 202
    assert served.client.post("/scenes/scene/warm").status_code == 429


def test_a_budget_comes_back_with_time() -> None:
    now = [0.0]
    budget = Budget(pixels=100, seconds=10, clock=lambda: now[0])
    assert budget.spend("a", 60) is None
    assert budget.spend("b", 100) is None
    assert budget.spend("a", 60) == pytest.approx(2)
    now[0] = 2
    assert budget.spend("a", 60) is None
    assert budget.spend("b", 1000) == pytest.approx(8)  # at most the whole is asked for
    now[0] = 20
    assert budget.spend("b", 1000) is None
    assert budget.spend("b", 1) == pytest.approx(90.1)
