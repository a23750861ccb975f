"""The files that vectors are written to."""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from fixtures.scenes import MakeScene
from sat2map.errors import DataError, OutputError, UsageError
from sat2map.legend import COVER
from sat2map.style.spec import PROPERTIES
from sat2map.vectors import vector_tiles
from sat2map.vectors.vectorise import VectorOptions, vectorise

pyogrio = pytest.importorskip("pyogrio")
pytest.importorskip("pyarrow")

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
LAYERS = ("coverage", "buildings", "roads", "road_nodes", "water", "vegetation")


def hamlet(side: int = 120) -> NDArray[np.uint8]:
    """Return a class map: a crossing, a lake in a wood with an island, houses."""
    numbers = np.full((side, side), LAND, np.uint8)
    rows, columns = np.mgrid[:side, :side]
    numbers[75:, :45] = VEGETATION
    away = np.hypot(rows - 98, columns - 22)
    numbers[away < 16] = WATER
    numbers[away < 7] = VEGETATION
    numbers[56:62] = ROAD
    numbers[:, 70:76] = ROAD
    for row, column in ((12, 12), (12, 44), (34, 90), (90, 90)):
        numbers[row : row + 12, column : column + 16] = BUILDING
    return numbers


@pytest.fixture
def classes(make_scene: MakeScene) -> Path:
    return make_scene(hamlet()[..., None], "classes.tif", nodata=255)


def made(classes: Path, name: str, **options: Any) -> Path:
    return vectorise(
        classes, classes.with_name(name), legend="cover", options=VectorOptions(**options)
    )


def read(path: Path, layer: str | None = None) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    meta, _, blobs, values = pyogrio.raw.read(path, layer=layer)
    return meta, shapely.from_wkb(blobs), dict(zip(meta["fields"], values, strict=True))


# GeoPackage.


def test_the_geopackage_is_one_by_the_standard(classes: Path) -> None:
    """Requirements of OGC 12-128r18, those that GDAL's validator checks of such a file."""
    path = made(classes, "town.gpkg")
    database = sqlite3.connect(path)

    def all_of(statement: str, *values: str) -> list[tuple[Any, ...]]:
        return database.execute(statement, values).fetchall()

    assert all_of("pragma application_id") == [(0x47504B47,)]
    assert all_of("pragma user_version")[0][0] >= 10200
    assert all_of("pragma integrity_check") == [("ok",)]
    assert all_of("pragma foreign_key_check") == []
    contents = dict(all_of("select table_name, data_type from gpkg_contents"))
    assert contents == dict.fromkeys(LAYERS, "features") | {"layer_styles": "attributes"}
    known = {row[0] for row in all_of("select srs_id from gpkg_spatial_ref_sys")}
    assert {-1, 0, 4326, 32633} <= known
    allowed = r"BOOLEAN|TINYINT|SMALLINT|MEDIUMINT|INT|INTEGER|FLOAT|DOUBLE|REAL|DATE|DATETIME|"
    allowed += r"(TEXT|BLOB)(\(\d+\))?|POINT|LINESTRING|POLYGON"
    for table in contents:
        columns = all_of(f"pragma table_info({table})")
        for _, name, kind, *_ in columns:
            assert re.fullmatch(allowed, kind), (table, name, kind)
        keys = [(name, kind) for _, name, kind, _, _, key in columns if key]
        assert keys == [("id" if table == "layer_styles" else "fid", "INTEGER")]
        assert "id" not in {name for _, name, *_ in columns} or table == "layer_styles"
    kinds = dict(all_of("select table_name, geometry_type_name from gpkg_geometry_columns"))
    polygons = dict.fromkeys(("coverage", "buildings", "water", "vegetation"), "POLYGON")
    assert kinds == polygons | {"roads": "LINESTRING", "road_nodes": "POINT"}
    triggers = {row[0] for row in all_of("select name from sqlite_master where type='trigger'")}
    for layer, kind in kinds.items():
        for name in ("insert", "delete", "update6", "update7", "update2", "update4", "update5"):
            assert f"rtree_{layer}_geom_{name}" in triggers
        blobs = [row[0] for row in all_of(f"select geom from {layer}")]
        for blob in blobs:
            assert blob[:3] == b"GP\0"
            assert int.from_bytes(blob[4:8], "little") == 32633
            size = 8 + (0, 32, 48, 48, 64)[blob[3] >> 1 & 7]
            assert shapely.from_wkb(blob[size:]).geom_type.upper() == kind
    styles = all_of("select f_table_name, useAsDefault, styleQML from layer_styles")
    assert {row[0] for row in styles} == set(LAYERS)
    assert all(row[1] == 1 and row[2].startswith("<!DOCTYPE qgis") for row in styles)
    database.close()


def test_gdals_validator_finds_nothing(classes: Path) -> None:
    validator = pytest.importorskip("osgeo_utils.samples.validate_gpkg")
    assert validator.check(str(made(classes, "town.gpkg")), extra_checks=True) in (0, None)


# The others.


def test_geojson_is_that_of_rfc_7946(classes: Path) -> None:
    path = made(classes, "coverage.geojson", layer="coverage")
    told = json.loads(path.read_text())
    assert told["type"] == "FeatureCollection"
    assert "crs" not in told
    for feature in told["features"]:
        rings = feature["geometry"]["coordinates"]
        assert feature["geometry"]["type"] == "Polygon"
        for number, ring in enumerate(rings):
            assert ring[0] == ring[-1]
            assert shapely.LinearRing(ring).is_ccw == (number == 0)
            assert all(round(value, 7) == value for point in ring for value in point)
            assert all(14.9 < x < 15.1 and 45 < y < 45.3 for x, y in ring)
    assert max(len(feature["geometry"]["coordinates"]) for feature in told["features"]) > 1
    area = sum(feature["properties"]["area_m2"] for feature in told["features"])
    assert area == pytest.approx(120 * 120, rel=2e-3)
    assert [p.name for p in classes.parent.iterdir() if p.name.startswith(".")] == []


def test_geojson_is_cut_at_the_antimeridian(make_scene: MakeScene) -> None:
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(-180, -17)
    georeference = {"crs": "EPSG:32601", "transform": Affine(1, 0, x - 30.5, 0, -1, y)}
    numbers = np.full((60, 60), LAND, np.uint8)
    numbers[26:34] = ROAD
    classes = make_scene(numbers[..., None], "classes.tif", georeference=georeference)
    _, shapes, facts = read(made(classes, "coverage.geojson", layer="coverage"))
    west, _, east, _ = shapely.bounds(shapely.get_parts(shapes)).T
    assert (east - west).max() < 1e-3
    assert {round(value) for value in (*west, *east)} == {-180, 180}
    assert facts["area_m2"].sum() == pytest.approx(3600, rel=2e-3)
    told = json.loads(made(classes, "roads.geojson", layer="roads").read_text())
    kinds = {feature["geometry"]["type"] for feature in told["features"]}
    assert kinds == {"MultiLineString"}
    _, shapes, _ = read(made(classes, "town.gpkg", out_crs="EPSG:4326"), "coverage")
    bounds = shapely.bounds(shapes)
    assert (bounds[:, 2] - bounds[:, 0]).max() < 1e-3  # longitudes go on beyond 180
    assert shapely.coverage_is_valid(shapes)


@pytest.mark.parametrize("suffix", ["fgb", "parquet"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_in_a_file_of_its_own_is_that_of_the_geopackage(
    classes: Path, suffix: str, layer: str
) -> None:
    _, expected, facts = read(made(classes, "town.gpkg"), layer)
    path = made(classes, f"{layer}.{suffix}", layer=layer)
    if suffix == "parquet":
        geopandas = pytest.importorskip("geopandas")
        frame = geopandas.read_parquet(path)
        assert frame.crs.to_epsg() == 32633
        shapes = np.array(frame.geometry)
        columns = {name: frame[name].to_numpy() for name in frame.columns if name != "geometry"}
    else:
        meta, shapes, columns = read(path)
        assert meta["crs"] == "EPSG:32633"
    assert list(columns) == list(facts)

    def in_order(found: Any) -> list[str]:
        return sorted(shapely.to_wkt(shapely.normalize(found)).tolist())

    assert in_order(shapes) == in_order(expected)
    for name in ("area_m2", "length_m", "node"):
        if name in facts:
            assert sorted(columns[name].tolist()) == sorted(facts[name].tolist())


def test_geoparquet_has_its_metadata(classes: Path) -> None:
    from pyarrow import parquet

    path = made(classes, "buildings.parquet", layer="buildings", out_crs="EPSG:4326")
    told = json.loads(parquet.read_metadata(path).metadata[b"geo"])
    column = told["columns"]["geometry"]
    assert (told["version"], told["primary_column"]) == ("1.1.0", "geometry")
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Polygon"])
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 4326}
    west, south, east, north = column["bbox"]
    assert 14.9 < west < east < 15.1
    assert 45 < south < north < 45.3


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:4326", "EPSG:2263"])
def test_other_coordinates_change_no_measure(classes: Path, crs: str) -> None:
    path, other = made(classes, "town.gpkg"), made(classes, "other.gpkg", out_crs=crs)
    for layer in LAYERS:
        (_, _, facts), (meta, shapes, moved) = read(path, layer), read(other, layer)
        assert meta["crs"] == crs
        assert len(shapes)
        for name in {"area_m2", "length_m"} & set(facts):
            assert moved[name].tolist() == facts[name].tolist()
        if layer == "coverage":
            assert shapely.coverage_is_valid(shapes)


def test_vector_tiles_hold_all_layers_at_all_zooms(
    classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pmtiles = pytest.importorskip("pmtiles.reader")
    monkeypatch.setattr(vector_tiles, "FINER", 0)  # or so small a scene were one tile
    with rasterio.open(classes, "r+") as file:
        file.update_tags(TIFFTAG_COPYRIGHT="Somebody")
    path = made(classes, "town.pmtiles")
    with path.open("rb") as file:
        reader = pmtiles.Reader(pmtiles.MmapSource(file))
        header, told = reader.header(), reader.metadata()
        assert header["tile_type"].name == "MVT"
        assert header["tile_compression"].name == "GZIP"
        assert told["attribution"] == "Somebody"
        assert [layer["id"] for layer in told["vector_layers"]] == [
            "ground",
            "buildings",
            "roads",
            "water",
            "vegetation",
        ]
        tiles = {place: gzip.decompress(t) for place, t in pmtiles.all_tiles(reader.get_bytes)}
        assert header["min_zoom"] < header["max_zoom"] == 17
    assert {zoom for zoom, _, _ in tiles} == set(range(header["min_zoom"], 18))
    named = {place: names_of(tile) for place, tile in tiles.items()}
    assert all(len(set(names)) == len(names) for names in named.values())
    finest = {name for place, names in named.items() if place[0] == 17 for name in names}
    assert finest == {"ground", "buildings", "roads", "water", "vegetation"}
    for layer in told["vector_layers"]:
        _, shapes, columns = read(path, layer["id"])
        assert len(shapes) and "class" in columns
        assert "confidence" in layer["fields"]
    names = {"classes.tif", "town.pmtiles", "town.style.json"}
    assert {file.name for file in classes.parent.iterdir()} == names


def names_of(tile: bytes) -> list[str]:
    """Return the names of the layers of a vector tile, which is a list of whole ones."""
    names, at = [], 0
    while at < len(tile):
        assert tile[at] == 0x1A  # field 3, a layer
        length, first = number(tile, at + 1)
        layer = tile[first : first + length]
        assert len(layer) == length
        found = layer if layer[0] == 0x0A else layer[2:]  # its name is field 1
        names.append(found[2 : 2 + found[1]].decode())
        at = first + length
    return names


def number(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint of protocol buffers, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def test_the_style_shows_every_layer_in_the_legends_colours(classes: Path) -> None:
    pytest.importorskip("pmtiles")
    path = made(classes, "town.pmtiles", attribution="© Somebody")
    style = json.loads(path.with_name("town.style.json").read_text())
    assert style["version"] == 8
    source = {"type": "vector", "url": "pmtiles://town.pmtiles", "attribution": "© Somebody"}
    assert style["sources"] == {"map": source}
    names = [layer["id"] for layer in style["layers"]]
    assert names.index("road casings") < names.index("roads") < names.index("buildings")
    for layer in style["layers"]:
        assert set(layer["paint"]) <= set(PROPERTIES[layer["type"]]["paint"])
    water = next(layer for layer in style["layers"] if layer["id"] == "water")
    colour = "#{:02x}{:02x}{:02x}".format(*COVER.classes[WATER].colour)
    assert water["paint"]["fill-color"][-2] == colour
    roads = next(layer for layer in style["layers"] if layer["id"] == "roads")
    assert "drawn_width_m" in json.dumps(roads["paint"]["line-width"])


# What does not fit.


@pytest.mark.parametrize(
    ("name", "options", "about"),
    [
        ("town.shp", {}, "is not a name for vectors"),
        ("town", {}, "is not a name for vectors"),
        ("town.geojson", {}, "`layer`: a .geojson has one layer"),
        ("town.gpkg", {"layer": "roads"}, "`layer`: a .gpkg has all layers"),
        ("town.pmtiles", {"layer": "roads"}, "`layer`: a .pmtiles has all layers"),
        ("town.fgb", {"layer": "houses"}, "`layer`: is 'houses', which is not taken"),
        ("town.geojson", {"layer": "roads", "out_crs": "EPSG:3035"}, "`out_crs`: a .geojson has"),
        ("town.pmtiles", {"out_crs": "EPSG:3035"}, "`out_crs`: a .pmtiles has"),
        ("town.gpkg", {"out_crs": "EPSG:99999"}, "`out_crs`: 'EPSG:99999' is not a coordinate"),
        ("town.gpkg", {"out_crs": "EPSG:5773"}, "not .* of a plane or of degrees"),
        ("town.gpkg", {"out_crs": "EPSG:4979"}, "not .* of a plane or of degrees"),
    ],
)
def test_what_does_not_fit_is_refused(
    classes: Path, name: str, options: dict[str, Any], about: str
) -> None:
    with pytest.raises(UsageError, match=about):
        made(classes, name, **options)
    assert [path.name for path in classes.parent.iterdir()] == ["classes.tif"]


def test_a_folder_of_the_styles_name_is_refused(classes: Path) -> None:
    pytest.importorskip("pmtiles")
    classes.with_name("town.style.json").mkdir()
    with pytest.raises(OutputError, match=r"town\.style\.json: is a folder"):
        made(classes, "town.pmtiles")


def test_no_tiles_beyond_where_the_webs_map_ends(make_scene: MakeScene) -> None:
    pytest.importorskip("pmtiles")
    georeference = {"crs": "EPSG:3413", "transform": Affine(1, 0, 1000, 0, -1, 1000)}
    classes = make_scene(hamlet()[..., None], "classes.tif", georeference=georeference)
    with pytest.raises((UsageError, DataError), match="cannot be tiled"):
        made(classes, "town.pmtiles")
    assert [path.name for path in classes.parent.iterdir()] == ["classes.tif"]
