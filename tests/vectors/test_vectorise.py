from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from fixtures.scenes import UTM, MakeScene
from sat2map.errors import DataError, OutputError, StoppedError, UsageError
from sat2map.legend import COVER, ROAD_WIDTH_TAG
from sat2map.vectors import vectorise as room
from sat2map.vectors.vectorise import VectorOptions, vectorise

pyogrio = pytest.importorskip("pyogrio")
pytest.importorskip("pyarrow")

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)


def village(side: int = 160) -> NDArray[np.uint8]:
    """Return a class map: a crossing, a lake in a wood, houses."""
    numbers = np.full((side, side), LAND, np.uint8)
    rows, columns = np.mgrid[:side, :side]
    numbers[100:, :60] = VEGETATION
    numbers[np.hypot(rows - 130, columns - 30) < 14] = WATER
    numbers[76:84] = ROAD
    numbers[:, 96:104] = ROAD
    for row, column in ((20, 20), (20, 60), (50, 120), (120, 120), (58, 40)):
        numbers[row : row + 14, column : column + 18] = BUILDING
    return numbers


def read(path: Path, layer: str) -> tuple[dict[str, Any], NDArray[np.object_], dict[str, Any]]:
    meta, _, blobs, values = pyogrio.raw.read(path, layer=layer)
    return meta, shapely.from_wkb(blobs), dict(zip(meta["fields"], values, strict=True))


def made(make_scene: MakeScene, out: Path, numbers: NDArray[np.uint8], **options: Any) -> Path:
    georeference = options.pop("georeference", None)
    path = make_scene(numbers[..., None], "classes.tif", georeference=georeference, nodata=255)
    return vectorise(path, out, legend="cover", options=VectorOptions(**options))


@pytest.mark.parametrize("sheet", [2048, 64])
def test_layers_and_columns(make_scene: MakeScene, tmp_path: Path, sheet: int) -> None:
    out = made(make_scene, tmp_path / "town.gpkg", village(), sheet=sheet)
    columns = {name: None for name, _ in pyogrio.list_layers(out)}
    area = ["class", "role", "confidence", "area_m2", "part_of"]
    expected = {
        "coverage": area,
        "buildings": ["class", "confidence", "area_m2", "orientation_deg", "method", "building"],
        "roads": ["class", "confidence", "length_m", "drawn_width_m", "u", "v", "highway"],
        "road_nodes": ["node", "degree"],
        "water": [*area, "natural"],
        "vegetation": area,
    }
    assert list(columns) == [*expected, "layer_styles"]
    for layer, names in expected.items():
        meta, shapes, _ = read(out, layer)
        assert list(meta["fields"]) == names
        assert meta["crs"] == "EPSG:32633"
        assert len(shapes)
    _, coverage, facts = read(out, "coverage")
    assert shapely.coverage_is_valid(coverage)
    assert shapely.area(coverage).sum() == pytest.approx(160 * 160)
    assert facts["area_m2"].sum() == pytest.approx(160 * 160, rel=2e-3)  # UTM's scale is .9996
    _, houses, about = read(out, "buildings")
    assert len(houses) == 5
    assert set(about["method"]) == {"squared"}
    ours = {shape.wkb for shape in coverage[facts["class"] == "building"]}
    assert {house.wkb for house in houses} == ours
    _, lakes, about = read(out, "water")
    assert len(lakes) == 1
    assert about["area_m2"][0] == pytest.approx(np.pi * 14**2, rel=0.05)
    _, nodes, about = read(out, "road_nodes")
    places = dict(zip(about["node"], shapely.get_coordinates(nodes).tolist(), strict=True))
    _, roads, about = read(out, "roads")
    for road, u, v in zip(roads, about["u"], about["v"], strict=True):
        assert road.geom_type == "LineString"
        assert list(road.coords[0]) == places[u]
        assert list(road.coords[-1]) == places[v]


@pytest.mark.parametrize(("tagged", "column"), [(True, "width_m"), (False, "drawn_width_m")])
def test_a_width_is_called_so_where_the_class_map_says_that_it_was_learned(
    make_scene: MakeScene, tmp_path: Path, tagged: bool, column: str
) -> None:
    path = make_scene(village()[..., None], "classes.tif", nodata=255)
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{ROAD_WIDTH_TAG: "1.1"} if tagged else {})
    _, _, facts = read(vectorise(path, tmp_path / "town.gpkg", legend="cover"), "roads")
    assert list(facts) == ["class", "confidence", "length_m", column, "u", "v", "highway"]
    assert facts[column] == pytest.approx(8, abs=0.6)  # pixels, of a metre


def test_pieces_of_an_area_are_told_by_part_of(make_scene: MakeScene, tmp_path: Path) -> None:
    out = made(make_scene, tmp_path / "town.gpkg", village(), sheet=64)
    _, coverage, facts = read(out, "coverage")
    wood = facts["class"] == "vegetation"
    assert wood.sum() > 1
    assert len(set(facts["part_of"][wood])) == 1
    _, whole, _ = read(out, "vegetation")
    assert len(whole) == 1
    assert whole[0].equals(shapely.union_all(coverage[wood]))
    houses = facts["class"] == "building"
    assert houses.sum() == 5  # none is cut
    assert len(set(facts["part_of"])) < len(coverage)


GEOREFERENCES = {
    "degrees": ("EPSG:4326", Affine(1e-5, 0, 8.5, 0, -1e-5, 47.4)),
    "feet": ("EPSG:2263", Affine(3, 0, 985_000, 0, -3, 200_000)),
    "turned": ("EPSG:32633", Affine(500_000, 0, 0, 0, 0, 0)),
    "southern": ("EPSG:32733", Affine(1, 0, 400_000, 0, -1, 7_500_000)),
    "web": ("EPSG:3857", Affine(1.5, 0, 1_000_000, 0, -1.5, 6_000_000)),
}


@pytest.mark.parametrize("name", GEOREFERENCES)
def test_areas_and_lengths_are_those_on_the_ellipsoid(
    make_scene: MakeScene, tmp_path: Path, name: str
) -> None:
    from pyproj import Geod, Transformer

    crs, transform = GEOREFERENCES[name]
    if name == "turned":
        transform = (
            Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(1, -1)
        )
    out = made(
        make_scene,
        tmp_path / "town.gpkg",
        village(),
        georeference={"crs": crs, "transform": transform},
        minimum_m2={"water": 10, "vegetation": 10, "land": 1, "building": 1},
    )
    geod = Geod(ellps="WGS84")
    degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def to_degrees(shape: Any) -> Any:
        return shapely.transform(
            shape, lambda points: np.column_stack(degrees.transform(*points.T))
        )

    _, shapes, facts = read(out, "coverage")
    for shape, area in zip(shapes, facts["area_m2"], strict=True):
        truth = abs(geod.geometry_area_perimeter(to_degrees(shape))[0])
        assert area == pytest.approx(truth, rel=1e-3)
    _, shapes, facts = read(out, "roads")
    assert len(shapes)
    for shape, length in zip(shapes, facts["length_m"], strict=True):
        assert length == pytest.approx(geod.geometry_length(to_degrees(shape)), rel=1e-3)


def test_confidence_is_the_mean_over_the_pixels(make_scene: MakeScene, tmp_path: Path) -> None:
    numbers = village()
    sure = np.where(numbers == WATER, 0.25, 0.75).astype(np.float32)
    beside = make_scene(sure[..., None], "sure.tif")
    path = make_scene(numbers[..., None], "classes.tif")
    out = vectorise(path, tmp_path / "town.gpkg", legend=COVER, confidence=beside)
    _, _, facts = read(out, "water")
    assert facts["confidence"][0] == pytest.approx(0.25, abs=0.02)
    _, _, facts = read(out, "buildings")
    assert facts["confidence"] == pytest.approx(np.full(5, 0.75))


def test_qgis_opens_it_in_the_legends_colours(make_scene: MakeScene, tmp_path: Path) -> None:
    out = made(make_scene, tmp_path / "town.gpkg", village())
    database = sqlite3.connect(out)
    rows = database.execute(
        "select f_table_name, f_geometry_column, useAsDefault, styleQML from layer_styles"
    ).fetchall()
    geometry = dict(database.execute("select table_name, column_name from gpkg_geometry_columns"))
    database.close()
    assert {name for name, *_ in rows} == set(geometry)
    for name, column, default, style in rows:
        assert geometry[name] == column
        assert default == 1
        assert "<renderer-v2" in style
    water = ",".join(map(str, COVER.classes[WATER].colour))
    assert any(water in style for name, *_, style in rows if name == "water")


def test_what_was_stopped_goes_on_and_gives_the_same_file(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    path = make_scene(village()[..., None], "classes.tif")
    stop, seen = threading.Event(), []

    def halfway(done: int, total: int) -> None:
        seen.append(done)
        if done > total // 2:
            stop.set()

    out = tmp_path / "town.gpkg"
    options = VectorOptions(sheet=64)
    with pytest.raises(StoppedError):
        vectorise(path, out, legend=COVER, options=options, progress=halfway, stop=stop)
    assert not out.exists()
    resumed = VectorOptions(sheet=64, resume=True)
    with pytest.raises(UsageError, match="begun with another"):
        vectorise(path, out, legend=COVER, options=VectorOptions(sheet=80, resume=True))
    vectorise(path, out, legend=COVER, options=resumed)
    whole = vectorise(path, tmp_path / "other.gpkg", legend=COVER, options=options)
    for layer, _ in pyogrio.list_layers(whole)[:6]:
        one, other = read(out, layer), read(whole, layer)
        assert [shape.wkb for shape in one[1]] == [shape.wkb for shape in other[1]]
        for name, values in one[2].items():
            np.testing.assert_array_equal(values, other[2][name])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["classes.tif", "other.gpkg", "town.gpkg"]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.full((20, 20), 255, np.uint8), "has no valid pixel"),
        (np.full((20, 20), 9, np.uint8), "has the value 9"),
    ],
)
def test_a_map_of_nothing_leaves_nothing(
    make_scene: MakeScene, tmp_path: Path, numbers: NDArray[np.uint8], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        made(make_scene, tmp_path / "town.gpkg", numbers)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.tif"]


@pytest.mark.parametrize("number", [LAND, BUILDING, ROAD])
@pytest.mark.parametrize("side", [1, 30])
def test_a_map_of_one_class(make_scene: MakeScene, tmp_path: Path, number: int, side: int) -> None:
    out = made(make_scene, tmp_path / "town.gpkg", np.full((side, side), number, np.uint8))
    _, shapes, facts = read(out, "coverage")
    assert shapely.area(shapes).sum() == pytest.approx(side**2)
    assert facts["class"].tolist() == [COVER.names[number]]


def test_ground_control_points_place_it(make_scene: MakeScene, tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    path = make_scene(village()[..., None], "classes.tif", georeference={})
    with rasterio.open(path, "r+") as file:
        file.gcps = (
            [
                GroundControlPoint(row, column, 500_000 + column, 5_000_000 - row)
                for row in (0, 160)
                for column in (0, 160)
            ],
            rasterio.crs.CRS.from_epsg(32633),
        )
    out = vectorise(path, tmp_path / "town.gpkg", legend="cover")
    meta, shapes, _ = read(out, "coverage")
    assert meta["crs"] == "EPSG:32633"
    assert shapely.total_bounds(shapes).tolist() == [500_000, 4_999_840, 500_160, 5_000_000]


def test_no_room_on_the_disk_is_said_before_the_work(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(room.shutil, "disk_usage", lambda _path: Usage)
    with pytest.raises(OutputError, match=r"0\.0 MB are free"):
        made(make_scene, tmp_path / "town.gpkg", village())
    assert [path.name for path in tmp_path.iterdir()] == ["classes.tif"]


def test_names_that_are_not_for_vectors_are_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    path = make_scene(village()[..., None], "classes.tif")
    with pytest.raises(UsageError, match="not a name for vectors"):
        vectorise(path, tmp_path / "town.shp", legend=COVER)
    (tmp_path / "town.gpkg").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        vectorise(path, tmp_path / "town.gpkg", legend=COVER)


def test_a_foreign_folder_is_left_alone(make_scene: MakeScene, tmp_path: Path) -> None:
    folder = tmp_path / ".town.gpkg.partial"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        made(make_scene, tmp_path / "town.gpkg", village())
    assert (folder / "letter.txt").read_text() == "mine"


def test_the_legend_of_the_tag_is_taken(make_scene: MakeScene, tmp_path: Path) -> None:
    path = make_scene(village()[..., None], "classes.tif", georeference=UTM)
    with rasterio.open(path, "r+") as file:
        file.update_tags(SAT2MAP_LEGEND=json.dumps(COVER.to_json()))
    _, _, facts = read(vectorise(path, tmp_path / "town.gpkg"), "coverage")
    assert set(facts["class"]) == set(COVER.names)
