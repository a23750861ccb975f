"""Vectors of scenes that adjoin or overlap are those of one scene, nearly."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from sat2map.batch.verify import verify
from sat2map.errors import DataError, UsageError
from sat2map.legend import COVER, ROAD_WIDTH_TAG
from sat2map.raster.provenance_reader import read_provenance
from sat2map.vectors.join import JOINED, join_vectors
from sat2map.vectors.vectorise import vectorise

geopandas = pytest.importorskip("geopandas")
pytest.importorskip("pyogrio")

LAND, HOUSE, ROAD, GREEN, WATER = range(5)
WIDTH, HEIGHT, MIDDLE = 300, 160, 150


def town() -> NDArray[np.uint8]:
    """Return class numbers: a street along all of it with a cross road, houses, a lake, a wood."""
    numbers = np.full((HEIGHT, WIDTH), LAND, np.uint8)
    numbers[76:84] = ROAD
    numbers[84:, 60:68] = ROAD
    for left in (20, 100, 142, 200, 260):  # the third lies across the middle
        numbers[20:34, left : left + 18] = HOUSE
    numbers[110:150, 130:175] = WATER
    numbers[:16, 220:] = GREEN
    return numbers


def vectors(folder: Path, name: str, first: int, last: int, **options: Any) -> Path:
    """Make vectors of some columns of the town, as a scene of its own."""
    numbers = options.get("numbers", town())[:, first:last]
    path = folder / f"{name}.tif"
    facts = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000 + first, 0, -1, 5_000_000)}
    with rasterio.open(path, "w", "GTiff", last - first, HEIGHT, 1, dtype="uint8", **facts) as file:
        file.write(numbers, 1)
        file.update_tags(
            SAT2MAP_LEGEND=json.dumps(COVER.to_json()),
            TIFFTAG_COPYRIGHT=f"Survey {name}",
            **options.get("tags", {}),
        )
    return vectorise(path, folder / f"{name}.gpkg")


def layer(path: Path, name: str) -> Any:
    return geopandas.read_file(path, layer=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vectors(tmp_path_factory.mktemp("whole"), "whole", 0, WIDTH)


@pytest.fixture(scope="module", params=[(MIDDLE, MIDDLE), (185, 115)], ids=["adjoin", "overlap"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    last, first = request.param
    return [vectors(folder, "west", 0, last), vectors(folder, "east", first, WIDTH)]


@pytest.fixture(scope="module")
def joined(parts: list[Path]) -> Path:
    return join_vectors(parts, parts[0].with_name("map.gpkg"))


def test_each_house_is_there_once(whole: Path, joined: Path) -> None:
    expected, found = layer(whole, "buildings"), layer(joined, "buildings")
    assert len(found) == len(expected) == 5
    far = shapely.distance(
        shapely.centroid(found.geometry.values)[:, None],
        shapely.centroid(expected.geometry.values)[None],
    )
    assert (far.min(axis=1) < 1.5).all()
    assert sorted(far.argmin(axis=1)) == list(range(5))
    assert found.area_m2.sum() == pytest.approx(expected.area_m2.sum(), rel=0.03)
    assert set(found.geom_type) == {"Polygon"}
    assert np.allclose(found.area_m2, found.area, rtol=0.01)


def test_the_ground_is_covered_once(whole: Path, joined: Path) -> None:
    found = layer(joined, "coverage")
    assert found.area.sum() == pytest.approx(WIDTH * HEIGHT, rel=1e-6)
    assert shapely.union_all(found.geometry.values).area == pytest.approx(WIDTH * HEIGHT, rel=1e-6)
    for name in ("water", "vegetation"):
        areas = [layer(path, name).area_m2.sum() for path in (whole, joined)]
        assert areas[1] == pytest.approx(areas[0], rel=0.02)


def test_roads_go_on_from_scene_to_scene(whole: Path, joined: Path) -> None:
    networkx = pytest.importorskip("networkx")
    from sat2map.vectors.routing import road_graph

    graphs = [road_graph(path) for path in (whole, joined)]
    assert [len(graph) for graph in graphs] == [4, 4], "none but the ends and the crossing"
    lengths = []
    for graph in graphs:
        assert networkx.number_connected_components(graph) == 1
        ends = sorted(graph.nodes, key=lambda node: graph.nodes[node]["x"])
        lengths.append(networkx.shortest_path_length(graph, ends[0], ends[-1], weight="length_m"))
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)


@pytest.mark.parametrize("true", ["west", "east"])
def test_true_and_drawn_widths_stay_apart(tmp_path: Path, true: str) -> None:
    """A road of both scenes is as wide as one of them draws it, which is the weaker word."""
    parts = [
        vectors(tmp_path, name, *where, tags={ROAD_WIDTH_TAG: "1.1"} if name == true else {})
        for name, where in (("west", (0, MIDDLE)), ("east", (MIDDLE, WIDTH)))
    ]
    roads = layer(join_vectors(parts, tmp_path / "both.gpkg"), "roads")
    assert len(roads) == 3
    assert (roads.width_m.isna() != roads.drawn_width_m.isna()).all()
    either = roads[["width_m", "drawn_width_m"]].sum(axis=1).tolist()
    assert either == pytest.approx([8] * 3, abs=0.5)
    across = roads.geometry.bounds.maxx > 500_000 + MIDDLE + 5
    assert roads.drawn_width_m[across].notna().all()
    assert roads.width_m[~across].notna().all() == (true == "west")


def test_lines_end_in_their_nodes(joined: Path) -> None:
    roads, nodes = layer(joined, "roads"), layer(joined, "road_nodes")
    places = {
        node: (point.x, point.y) for node, point in zip(nodes.node, nodes.geometry, strict=True)
    }
    ends: list[int] = []
    for _, road in roads.iterrows():
        assert places[road.u] == road.geometry.coords[0]
        assert places[road.v] == road.geometry.coords[-1]
        assert road.length_m == pytest.approx(road.geometry.length, rel=0.02)
        ends += [road.u, road.v]
    assert {node: ends.count(node) for node in places} == dict(
        zip(nodes.node, nodes.degree, strict=True)
    )


def test_the_file_says_what_it_is_made_of(parts: list[Path], joined: Path) -> None:
    told = read_provenance(joined)
    assert told is not None
    assert (told.layer, told.source.name) == (JOINED, "2 files of vectors")
    assert told.attribution == "Survey west; Survey east"
    (found,) = verify(joined)
    assert found.answer == "unchanged"
    with sqlite3.connect(joined) as database:
        styles = database.execute("select f_table_name from layer_styles").fetchall()
    database.close()
    assert ("buildings",) in styles
    before = joined.read_bytes()
    join_vectors(parts, joined)
    assert joined.read_bytes() == before


def test_the_scene_on_top_says_what_is_there(tmp_path: Path) -> None:
    other = town()
    other[20:34, 142:160] = LAND  # it shows no house there
    west = vectors(tmp_path, "west", 0, 185)
    east = vectors(tmp_path, "east", 115, WIDTH, numbers=other)
    top = join_vectors([west, east], tmp_path / "map.gpkg")
    assert len(layer(top, "buildings")) == 4
    below = join_vectors([east, west], tmp_path / "other.gpkg")
    assert len(layer(below, "buildings")) == 5


def test_scenes_in_other_coordinates_are_brought_together(tmp_path: Path) -> None:
    from sat2map.vectors.vectorise import VectorOptions

    west = vectors(tmp_path, "west", 0, MIDDLE)
    vectors(tmp_path, "east", MIDDLE, WIDTH)
    east = vectorise(
        tmp_path / "east.tif",
        tmp_path / "degrees.gpkg",
        options=VectorOptions(out_crs="EPSG:4326"),
    )
    joined = join_vectors([west, west.with_name("east.gpkg"), east], tmp_path / "map.gpkg")
    found = layer(joined, "buildings")
    assert found.crs.to_epsg() == 32633
    assert len(found) == 5


def test_bad_input_is_one_line(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="`files`: nothing is to be joined"):
        join_vectors([], tmp_path / "map.gpkg")
    with pytest.raises(UsageError, match=r"`target`: .* is not a name for them"):
        join_vectors([whole], tmp_path / "map.geojson")
    with pytest.raises(UsageError, match="is one of the inputs"):
        join_vectors([whole], whole)
    (tmp_path / "broken.gpkg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"broken\.gpkg: cannot be read"):
        join_vectors([whole, tmp_path / "broken.gpkg"], tmp_path / "map.gpkg")
    assert not (tmp_path / "map.gpkg").exists()
