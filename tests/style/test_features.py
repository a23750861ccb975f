"""Vectors of any format and projection, near some imagery."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import osmium
import pyarrow.parquet
import pytest
import shapely
from rasterio.crs import CRS

import sat2map.geo.vector_layer as raw_layer
from sat2map.errors import DataError, MissingExtraError, UsageError
from sat2map.geo import vector_file as layers
from sat2map.style.features import VectorFile, Vectors, open_vectors
from sat2map.style.spec import read_style
from sat2map.style.style import Style

UTM = CRS.from_epsg(32631)
BOUNDS = (500_000.0, 5_400_000.0, 500_400.0, 5_400_400.0)
HOUSE = shapely.box(500_100, 5_400_100, 500_120, 5_400_110)
STREET = shapely.LineString([(499_900, 5_400_200), (500_500, 5_400_250)])
FAR = shapely.box(600_000, 5_500_000, 600_010, 5_500_010)


@pytest.fixture(scope="module")
def streets() -> Style:
    return read_style("streets")


def frame(**columns: Any) -> geopandas.GeoDataFrame:
    data = {"building": ["yes", None, "yes"], "highway": ["", "residential", ""]} | columns
    return geopandas.GeoDataFrame(data, geometry=[HOUSE, STREET, FAR], crs=UTM.to_wkt())


def opened(path: Path, style: Style, feature_class: str | None = None) -> Vectors:
    return open_vectors([VectorFile(path, feature_class)], style, UTM, BOUNDS)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".parquet"])
@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:4326", "EPSG:3857"])
def test_every_format_in_every_projection_comes_out_in_place(
    tmp_path: Path, streets: Style, suffix: str, crs: str
) -> None:
    path = tmp_path / f"town{suffix}"
    projected = frame().to_crs(crs)
    projected.to_parquet(path) if suffix == ".parquet" else projected.to_file(path)
    vectors = opened(path, streets)
    assert sorted(vectors.features.classes) == ["building", "road"]
    house = vectors.features.geometries[vectors.features.classes.index("building")]
    # A thousandth of a pixel; GeoJSON keeps seven decimals of a degree, a centimetre.
    assert shapely.hausdorff_distance(house, HOUSE) < (0.02 if suffix == ".geojson" else 0.001)


def test_shapefiles_and_several_layers_are_read(tmp_path: Path, streets: Style) -> None:
    areas, lines = frame().iloc[[0, 2]], frame().iloc[[1]]
    areas.to_file(tmp_path / "areas.shp")
    lines.to_file(tmp_path / "both.gpkg", layer="lines")
    areas.to_file(tmp_path / "both.gpkg", layer="areas")
    assert opened(tmp_path / "areas.shp", streets).features.classes == ["building"]
    both = opened(tmp_path / "both.gpkg", streets)
    assert sorted(both.features.classes) == ["building", "road"]
    assert {kind.source_layer for kind in both.features.table} == {"lines", "areas"}


def test_a_long_straight_line_is_curved_where_its_projection_says_so(
    tmp_path: Path, streets: Style
) -> None:
    west, east = 2.9, 3.1  # 15 km along a parallel
    line = shapely.LineString([(west, 48.7), (east, 48.7)])
    path = tmp_path / "parallel.gpkg"
    geopandas.GeoDataFrame({"highway": ["primary"]}, geometry=[line], crs=4326).to_file(path)
    points = geopandas.GeoSeries(shapely.points(np.linspace(west, east, 101), 48.7), crs=4326)
    true = points.to_crs(UTM.to_wkt())
    west_m, south, east_m, north = map(float, true.total_bounds)
    bounds = (west_m - 1, south - 1, east_m + 1, north + 1)
    (found,) = open_vectors([VectorFile(path)], streets, UTM, bounds).features.geometries
    assert max(found.distance(point) for point in true) < 0.01
    assert max(shapely.LineString([true[0], true[100]]).distance(p) for p in true) > 1


def test_a_window_has_what_touches_it_and_no_more(tmp_path: Path, streets: Style) -> None:
    frame().to_file(tmp_path / "town.gpkg")
    vectors = pickle.loads(pickle.dumps(opened(tmp_path / "town.gpkg", streets)))
    window = vectors.window((500_110.0, 5_400_050.0, 500_200.0, 5_400_150.0))
    assert window.classes == ["building"]
    assert window.geometries[0].bounds == (500_110, 5_400_100, 500_120, 5_400_110)
    assert len(vectors.window((500_300.0, 5_400_000.0, 500_310.0, 5_400_010.0))) == 0


def test_the_class_of_a_file_comes_before_everything(tmp_path: Path, streets: Style) -> None:
    frame().iloc[[0]].to_file(tmp_path / "a=b.geojson")
    plain = VectorFile(tmp_path / "a=b.geojson")
    classed = VectorFile(plain.path, "park")
    assert open_vectors([classed], streets, UTM, BOUNDS).features.classes == ["park"]
    with pytest.raises(UsageError, match=r"no class 'parc'.*building, highway"):
        opened(plain.path, streets, "parc")


def write_pbf(path: Path) -> None:
    """Write a block with a court (a relation), a street, a roundabout and a far house."""
    places = {
        1: (500_010, 5_400_010), 2: (500_110, 5_400_010), 3: (500_110, 5_400_110),
        4: (500_010, 5_400_110), 5: (500_040, 5_400_040), 6: (500_080, 5_400_040),
        7: (500_080, 5_400_080), 8: (500_040, 5_400_080), 11: (600_000, 5_500_000),
        12: (600_010, 5_500_000), 13: (600_010, 5_500_010),
    }  # fmt: skip
    degrees = geopandas.GeoSeries(shapely.points(list(places.values())), crs=UTM.to_wkt())
    with osmium.SimpleWriter(str(path)) as writer:
        for number, point in zip(places, degrees.to_crs(4326), strict=True):
            writer.add_node(osmium.osm.mutable.Node(id=number, location=(point.x, point.y)))
        ways: list[tuple[int, list[int], dict[str, str]]] = [
            (1, [1, 2, 3], {}),
            (2, [3, 4, 1], {}),
            (3, [5, 6, 7, 8, 5], {}),
            (4, [1, 3], {"highway": "residential", "layer": "1", "bridge": "yes"}),
            (5, [5, 6, 7, 5], {"highway": "tertiary", "junction": "roundabout"}),
            (6, [11, 12, 13, 11], {"building": "yes"}),
            (7, [2, 99], {"highway": "service"}),  # a node that the extract lacks
        ]
        for number, nodes, tags in ways:
            writer.add_way(osmium.osm.mutable.Way(id=number, nodes=nodes, tags=tags))
        members = [("w", 1, "outer"), ("w", 2, "outer"), ("w", 3, "inner")]
        tags = {"type": "multipolygon", "building": "yes"}
        writer.add_relation(osmium.osm.mutable.Relation(id=1, members=members, tags=tags))


def test_openstreetmap_extracts_have_ways_and_multipolygons(
    tmp_path: Path, streets: Style, caplog: pytest.LogCaptureFixture
) -> None:
    write_pbf(tmp_path / "town.osm.pbf")
    with caplog.at_level(logging.WARNING):
        vectors = opened(tmp_path / "town.osm.pbf", streets)
    assert sorted(vectors.features.classes) == ["building", "road", "road"]
    assert "1 way of the extract lack members or nodes" in caplog.text
    shapes = dict(zip(vectors.features.classes, vectors.features.geometries, strict=True))
    block = shapes["building"]
    assert block.area == pytest.approx(100 * 100 - 40 * 40, rel=1e-3)
    kinds = {kind.geometry for kind in vectors.features.table if kind.feature_class == "road"}
    assert kinds == {"LineString"}  # a roundabout is closed, and a line all the same
    bridge = next(s for s in vectors.features.table if "bridge" in s.properties)
    assert bridge.properties["layer"] == "1"


def test_what_an_extract_cuts_off_is_counted(
    tmp_path: Path, streets: Style, caplog: pytest.LogCaptureFixture
) -> None:
    """A lake without one of its shores, a house without a corner; a pond and a line are whole."""
    path = tmp_path / "cut.osm.pbf"
    corners = [(0, 0), (100, 0), (100, 100), (0, 100), (20, 20), (40, 20), (40, 40), (20, 40)]
    places = shapely.points([(500_010 + x, 5_400_010 + y) for x, y in corners])
    with osmium.SimpleWriter(str(path)) as writer:
        for number, point in enumerate(geopandas.GeoSeries(places, crs=UTM.to_wkt()).to_crs(4326)):
            node = osmium.osm.mutable.Node(id=number + 1, location=(point.x, point.y))
            writer.add_node(node)
        for number, nodes, tags in (
            (1, [1, 2, 3], {}),
            (3, [5, 6, 7, 99, 5], {"building": "yes"}),
            (4, [5, 6, 7, 8, 5], {"natural": "water"}),
            (5, [1, 4], {"highway": "residential"}),
        ):
            writer.add_way(osmium.osm.mutable.Way(id=number, nodes=nodes, tags=tags))
        for number, kind in ((1, "multipolygon"), (2, "route")):
            tags = {"type": kind, "natural": "water"}
            members = [("w", 1, "outer"), ("w", 2, "outer")]
            writer.add_relation(osmium.osm.mutable.Relation(id=number, members=members, tags=tags))
    with caplog.at_level(logging.WARNING):
        vectors = opened(path, streets)
    assert sorted(vectors.features.classes) == ["road", "water"]
    (line,) = [text for text in caplog.messages if "extract" in text]
    assert line.startswith(f"{path}: 1 multipolygon and 1 way of the extract lack members or nodes")


def test_a_damaged_extract_is_said(tmp_path: Path, streets: Style) -> None:
    write_pbf(tmp_path / "whole.osm.pbf")
    data = (tmp_path / "whole.osm.pbf").read_bytes()
    (tmp_path / "cut.osm.pbf").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.osm\.pbf: cannot be read"):
        opened(tmp_path / "cut.osm.pbf", streets)


def test_invalid_geometries_are_repaired_and_counted(
    tmp_path: Path, streets: Style, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = 500_100, 5_400_100
    bow = shapely.Polygon([(x, y), (x + 20, y + 20), (x + 20, y), (x, y + 20)])
    data = geopandas.GeoDataFrame({"building": ["yes"]}, geometry=[bow], crs=UTM.to_wkt())
    data.to_file(tmp_path / "bow.gpkg")
    with caplog.at_level(logging.WARNING):
        vectors = opened(tmp_path / "bow.gpkg", streets)
    assert vectors.repaired == 1
    assert "1 of 1 geometries were invalid and have been repaired" in caplog.text
    assert vectors.features.geometries[0].is_valid
    assert vectors.features.geometries[0].area == pytest.approx(200)


def test_features_of_no_class_are_counted_or_refused(
    tmp_path: Path, streets: Style, caplog: pytest.LogCaptureFixture
) -> None:
    frame(building=["yes", None, None], highway=[None, "proposed", None]).to_file(
        tmp_path / "a.gpkg"
    )
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path / "a.gpkg", streets).unclassed == 1
    assert "1 of 2 features belong to no class" in caplog.text
    geopandas.GeoDataFrame({"kind": ["house"]}, geometry=[HOUSE], crs=UTM.to_wkt()).to_file(
        tmp_path / "b.gpkg"
    )
    with pytest.raises(DataError, match=r"columns are kind.*FILE=CLASS"):
        opened(tmp_path / "b.gpkg", streets)


def test_vectors_of_another_place_are_refused(tmp_path: Path, streets: Style) -> None:
    frame().iloc[[2]].to_file(tmp_path / "far.gpkg")
    with pytest.raises(DataError, match=r"none of the vectors lies on the imagery.*lies at 4\.3"):
        opened(tmp_path / "far.gpkg", streets)
    near = geopandas.GeoDataFrame(
        {"building": ["yes"]}, geometry=[shapely.box(499_950, 5_400_000, 499_960, 5_400_010)],
        crs=UTM.to_wkt(),
    )  # fmt: skip
    near.to_file(tmp_path / "near.gpkg")  # within the margin that is read, not on the imagery
    with pytest.raises(DataError, match="none of the vectors lies on the imagery"):
        opened(tmp_path / "near.gpkg", streets)


def test_empty_layers_are_said(
    tmp_path: Path, streets: Style, caplog: pytest.LogCaptureFixture
) -> None:
    frame().iloc[:0].to_file(tmp_path / "empty.gpkg", geometry_type="Polygon")
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="is empty"):
        opened(tmp_path / "empty.gpkg", streets)
    assert "is empty" in caplog.text


def test_a_missing_crs_is_said(tmp_path: Path, streets: Style) -> None:
    frame().iloc[[0, 2]].to_file(tmp_path / "bare.shp")
    (tmp_path / "bare.prj").unlink()
    with pytest.raises(DataError, match=r"does not say its coordinate reference system.*ogr2ogr"):
        opened(tmp_path / "bare.shp", streets)
    with pytest.raises(UsageError, match="imagery has no coordinate reference system"):
        open_vectors([VectorFile(tmp_path / "bare.shp")], streets, None, BOUNDS)


def grid_of_houses(side: int) -> geopandas.GeoDataFrame:
    """Houses every 100 m, from that of `BOUNDS` to the north and the east."""
    west, south, _, _ = BOUNDS
    houses = [
        shapely.box(
            west + 100 * x + 10, south + 100 * y + 10, west + 100 * x + 20, south + 100 * y + 20
        )
        for y in range(side)
        for x in range(side)
    ]
    names = [f"house {number}" for number in range(len(houses))]
    return geopandas.GeoDataFrame(
        {"building": "yes", "name": names}, geometry=houses, crs=UTM.to_wkt()
    )


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
def test_of_geoparquet_a_piece_at_a_time_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boxes: bool, encoding: Any
) -> None:
    """Where it has boxes (GeoParquet 1.1), what lies elsewhere is not even read."""
    path = tmp_path / "town.parquet"
    houses = grid_of_houses(40)
    houses.rename_geometry("where").to_parquet(
        path,
        schema_version="1.1.0",
        geometry_encoding=encoding,
        write_covering_bbox=boxes,
        row_group_size=200,
    )
    monkeypatch.setattr(layers, "ROWS_AT_ONCE", 50)
    read: list[int] = []
    real = layers._arrow_shapes

    def counted(column: Any, encoding: str) -> Any:
        read.append(len(column))
        return real(column, encoding)

    monkeypatch.setattr(layers, "_arrow_shapes", counted)
    (layer,) = layers.read_layers(path, UTM, BOUNDS, frozenset({"name"}))
    expected = houses.cx[BOUNDS[0] : BOUNDS[2], BOUNDS[1] : BOUNDS[3]]
    assert list(layer.columns["name"]) == list(expected["name"]) != []
    assert list(layer.geometries) == list(expected.geometry)
    assert max(read) == 50
    assert sum(read) == (200 if boxes else 1600)
    assert "lies at" in layer.extent


def test_geoparquet_that_says_no_crs_has_degrees(tmp_path: Path, streets: Style) -> None:
    path = tmp_path / "town.parquet"
    frame().to_crs("OGC:CRS84").to_parquet(path)
    table = pyarrow.parquet.read_table(path)
    told = json.loads(table.schema.metadata[b"geo"])
    del told["columns"]["geometry"]["crs"]
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({b"geo": json.dumps(told).encode()}), path
    )
    assert sorted(opened(path, streets).features.classes) == ["building", "road"]
    told["columns"]["geometry"]["crs"] = None
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({b"geo": json.dumps(told).encode()}), path
    )
    with pytest.raises(DataError, match="does not say its coordinate reference system"):
        opened(path, streets)


def test_a_box_that_crosses_the_antimeridian_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "islands.parquet"
    halves = [shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179, -16)]
    islands = geopandas.GeoDataFrame(geometry=[shapely.MultiPolygon(halves)], crs="EPSG:4326")
    islands.to_parquet(path, schema_version="1.1.0", write_covering_bbox=True)
    table = pyarrow.parquet.read_table(path)
    box = {"xmin": 179.0, "ymin": -17.0, "xmax": -179.0, "ymax": -16.0}
    place = table.schema.get_field_index("bbox")
    table = table.set_column(place, "bbox", pyarrow.array([box]))
    pyarrow.parquet.write_table(table, path)
    for west in (179.4, -179.6):
        (layer,) = layers.read_layers(
            path, CRS.from_epsg(4326), (west, -16.6, west + 0.2, -16.4), frozenset()
        )
        assert len(layer.geometries) == 1


def test_files_that_cannot_be_read_are_said(tmp_path: Path, streets: Style) -> None:
    with pytest.raises(DataError, match="no such file"):
        opened(tmp_path / "none.gpkg", streets)
    for name in ("broken.gpkg", "broken.parquet"):
        (tmp_path / name).write_text(json.dumps({"what": "ever"}))
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            opened(tmp_path / name, streets)


def test_a_missing_package_names_the_extra(
    tmp_path: Path, streets: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame().to_file(tmp_path / "town.gpkg")
    monkeypatch.setattr(raw_layer, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'pyogrio'.*sat2map\[cartography\]"):
        opened(tmp_path / "town.gpkg", streets)
