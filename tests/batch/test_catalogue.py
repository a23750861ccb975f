"""A folder of maps is a catalogue that STAC's own libraries read and find valid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from fixtures.scenes import noise, with_classes
from sat2map.batch import catalogue as module
from sat2map.batch.catalogue import UNKNOWN, Entry, footprint, write_catalogue
from sat2map.batch.names import Names, safe_place
from sat2map.errors import DataError, OutputError
from sat2map.model.folder import save_model
from sat2map.raster.georeference import grid_of
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

SIDE = 64


def make_map(
    out: Path,
    name: str,
    model: Translator,
    east: float = 500_000,
    *,
    crs: str = "EPSG:32633",
    tags: dict[str, str] | None = None,
    seed: int = 0,
    classes: bool = False,
) -> Entry:
    """Write a map of a scene that lies beside the folder, and return its entry."""
    source = out.parent / "photos" / f"{Path(name).stem}.tif"
    source.parent.mkdir(exist_ok=True)
    pixels = noise(SIDE, SIDE, seed=seed)
    pixels[: SIDE // 4] = 0
    facts = {"transform": Affine(1, 0, east, 0, -1, 5_000_000), "crs": crs, "nodata": 0}
    with rasterio.open(
        source, "w", "GTiff", SIDE, SIDE, 3, dtype="uint8", photometric="rgb", **facts
    ) as file:
        file.write(pixels.transpose(2, 0, 1))
        file.update_tags(**(tags or {}))
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    beside = (out / name).with_suffix(".classes.tif")
    translate_raster(source, out / name, model, classes=ClassFiles(beside) if classes else None)
    files = [out / name, *([beside] if classes else [])]
    sums = {
        file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    return Entry(name, sums, str(source))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    translator = with_classes((1.0, 1.0))
    held: Any = translator._model
    save_model(tmp_path / "small", held.network, translator.card)
    return tmp_path / "small"


@pytest.fixture
def entries(tmp_path: Path, model: Path) -> list[Entry]:
    """Return the entries of two maps in folders of their own."""
    out, run = tmp_path / "out", load(model, runtime="torch")
    tags = {"TIFFTAG_DATETIME": "2019:06:13 18:22:11", "TIFFTAG_COPYRIGHT": "Survey"}
    return [
        make_map(out, "north/town.tif", run, tags=tags, classes=True),
        make_map(out, "town.tif", run, 500_050, seed=1),
    ]


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_pystac_finds_every_map(tmp_path: Path, model: Path, entries: list[Entry]) -> None:
    pystac = pytest.importorskip("pystac")
    pytest.importorskip("jsonschema")
    from pystac.validation import JsonSchemaSTACValidator

    path = write_catalogue(tmp_path / "out", entries, model)
    catalogue = pystac.Catalog.from_file(str(path))
    items = {item.id: item for item in catalogue.get_items(recursive=True)}
    (described,) = (name for name in items if name.startswith("small-"))
    assert set(items) == {"north--town", "town", described}
    validator = JsonSchemaSTACValidator()
    for one in (*items.values(), *[root for root, _, _ in catalogue.walk()]):
        kind = pystac.STACObjectType.ITEM if one.id in items else pystac.STACObjectType.CATALOG
        assert validator.validate_core(one.to_dict(include_self_link=False), kind, "1.1.0")
    town = items["north--town"]
    assert town.datetime is not None
    assert town.properties["datetime"] == "2019-06-13T18:22:11Z"
    assert town.properties["attribution"] == "Survey"
    assert (town.properties["proj:code"], town.properties["proj:shape"]) == (
        "EPSG:32633",
        [SIDE, SIDE],
    )
    assert set(town.assets) == {"map", "classes"}
    classes = town.assets["classes"].extra_fields["classification:classes"]
    assert [entry["name"] for entry in classes][:2] == ["land", "building"]
    (source,) = town.get_links("derived_from")
    assert Path(source.get_absolute_href()).resolve().samefile(tmp_path / "photos" / "town.tif")
    (by,) = town.get_links("model")
    assert Path(by.get_absolute_href()).is_file()
    for asset in town.assets.values():
        file = Path(asset.get_absolute_href())
        assert asset.extra_fields["file:checksum"] == (
            "1220" + hashlib.sha256(file.read_bytes()).hexdigest()
        )


def test_no_scene_takes_the_name_of_a_file_of_the_catalogue(tmp_path: Path, model: Path) -> None:
    pystac = pytest.importorskip("pystac")
    out, run, names = tmp_path / "out", load(model, runtime="torch"), Names()
    places = [
        ("catalog",), ("collection",), ("catalog.json",), ("catalog.stac",), ("map",),
        ("index.gti",), ("small-x.model",), ("catalog.json", "a"), ("a", "b"), ("a--b",),
    ]  # fmt: skip
    first = make_map(out, names.give("first"), run)
    written = [first.name]
    for place in places:
        written.append(names.give(safe_place(*place)))
        (out / written[-1]).parent.mkdir(exist_ok=True)
        shutil.copy(out / first.name, out / written[-1])
    path = write_catalogue(out, [Entry(name) for name in written], model)
    items = list(pystac.Catalog.from_file(str(path)).get_items(recursive=True))
    found = [item.assets["map"].get_absolute_href() for item in items if "map" in item.assets]
    assert {Path(name).resolve() for name in found} >= {(out / name).resolve() for name in written}
    assert len({item.id for item in items}) == len(items) == len(written) + 1  # the model
    before = {file: file.read_bytes() for file in out.rglob("*.json")}
    write_catalogue(out, [Entry(name) for name in written], model)
    assert {file: file.read_bytes() for file in out.rglob("*.json")} == before


def test_the_model_is_described_in_the_words_of_mlm(
    tmp_path: Path, model: Path, entries: list[Entry]
) -> None:
    schema = pytest.importorskip("stac_model.schema")
    write_catalogue(tmp_path / "out", entries, model)
    (path,) = (tmp_path / "out").glob("small-*.model.json")
    properties = told(path)["properties"]
    found = schema.MLModelProperties(
        **{key.removeprefix("mlm:"): value for key, value in properties.items() if "mlm:" in key}
    )
    assert (found.name, found.architecture) == ("small", "compact")
    assert [one.name for one in found.output] == ["map"]
    assert properties["sat2map:fingerprint"].startswith(path.name.split("-")[1].split(".")[0])


def test_of_an_unknown_time_nothing_is_made_up(
    tmp_path: Path, model: Path, entries: list[Entry]
) -> None:
    write_catalogue(tmp_path / "out", entries, model)
    times = told(tmp_path / "out" / "town.stac.json")["properties"]
    assert times["datetime"] is None
    assert (times["start_datetime"], times["end_datetime"]) == UNKNOWN


def test_the_time_of_the_sources_item_comes_first(
    tmp_path: Path, model: Path, entries: list[Entry]
) -> None:
    item = {"href": "https://example.org/items/7.json", "datetime": "2020-01-02T03:04:05Z"}
    entry = Entry(entries[0].name, entries[0].files, None, item)
    write_catalogue(tmp_path / "out", [entry], model)
    found = told(tmp_path / "out" / "north" / "town.stac.json")
    assert found["properties"]["datetime"] == item["datetime"]
    (link,) = [link for link in found["links"] if link["rel"] == "derived_from"]
    assert link["href"] == item["href"]


def test_the_footprint_is_where_something_shows(
    tmp_path: Path, model: Path, entries: list[Entry]
) -> None:
    write_catalogue(tmp_path / "out", entries, model)
    item = told(tmp_path / "out" / "town.stac.json")
    with rasterio.open(tmp_path / "out" / "town.tif") as file:
        left, _, right, _ = file.bounds
        shown = (left, 5_000_000 - SIDE, right, 5_000_000 - SIDE / 4)
        expected = rasterio.warp.transform_bounds(file.crs, 4326, *shown)
    assert np.allclose(item["bbox"], expected, atol=2e-5)
    assert shapely.geometry.shape(item["geometry"]).is_valid


def test_across_the_antimeridian_it_is_cut(tmp_path: Path) -> None:
    facts = {"crs": "EPSG:3832", "transform": Affine(10_000, 0, 3_200_000, 0, -10_000, 500_000)}
    path = tmp_path / "pacific.tif"
    with rasterio.open(path, "w", "GTiff", 40, 40, 1, dtype="uint8", **facts) as file:
        file.write(np.ones((1, 40, 40), np.uint8))
    with rasterio.open(path) as file:
        found = footprint(file, grid_of(file))
    assert found is not None
    shape = shapely.geometry.shape(found)
    assert shape.geom_type == "MultiPolygon"
    assert shape.bounds[0] == -180
    assert shape.bounds[2] == 180
    west, _, east, _ = module._bbox(found)
    assert west > 178
    assert east < -177


def test_items_are_written_once(tmp_path: Path, model: Path, entries: list[Entry]) -> None:
    out = tmp_path / "out"
    write_catalogue(out, entries, model)
    files = sorted(out.rglob("*.json"))
    before = {path: path.stat().st_ino for path in files}
    write_catalogue(out, entries, model)
    assert {path: path.stat().st_ino for path in sorted(out.rglob("*.json"))} == before
    again = make_map(out, "town.tif", load(model, runtime="torch"), seed=5)
    write_catalogue(out, [entries[0], again], model)
    changed = {path.name for path in files if path.stat().st_ino != before[path]}
    assert changed == {"town.stac.json"}
    write_catalogue(out, [Entry(entry.name) for entry in entries], model)
    assert {path.name for path in files if path.stat().st_ino != before[path]} == changed
    os.utime(out / "town.tif", (2e9, 2e9))
    write_catalogue(out, [Entry("town.tif")], model)
    links = told(out / "catalog.json")["links"]
    assert "./north/catalog.json" not in [link["href"] for link in links]


def test_what_others_wrote_is_kept(tmp_path: Path, model: Path, entries: list[Entry]) -> None:
    for name in ("catalog.json", "town.stac.json"):
        foreign = tmp_path / "out" / name
        foreign.write_text('{"mine": true}')
        with pytest.raises(OutputError, match=rf"{name}: is there already and was not written"):
            write_catalogue(tmp_path / "out", entries[1:], model)
        assert foreign.read_text() == '{"mine": true}'
        foreign.unlink()


def test_a_map_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.tif"
    with rasterio.open(
        path, "w", "GTiff", 8, 8, 3, dtype="uint8", transform=Affine(1, 0, 5, 0, -1, 5)
    ) as file:
        file.write(np.ones((3, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"other\.tif: does not say what it was made of"):
        write_catalogue(tmp_path, [Entry("other.tif")])


def test_no_place_of_this_machine_is_named(
    tmp_path: Path, model: Path, entries: list[Entry]
) -> None:
    write_catalogue(tmp_path / "out", entries, model)
    for path in (tmp_path / "out").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")
