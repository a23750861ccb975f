"""The graph of a GeoPackage's roads, and ways on it."""

from __future__ import annotations

from pathlib import Path

import geopandas
import networkx
import numpy as np
import pytest
import shapely

from fixtures.scenes import MakeScene
from sat2map.errors import DataError, UsageError
from sat2map.vectors.routing import read_vectors, road_graph
from sat2map.vectors.vectorise import VectorOptions, vectorise


def network(path: Path) -> Path:
    nodes = [(0, 0), (100, 0), (100, 100)]
    roads = [
        (0, 1, shapely.LineString([nodes[0], nodes[1]])),
        (1, 2, shapely.LineString([nodes[1], nodes[2]])),
        (0, 2, shapely.LineString([nodes[0], (0, 200), nodes[2]])),
        (1, 2, shapely.LineString([nodes[1], (120, 50), nodes[2]])),
    ]
    columns = {
        "u": [u for u, _, _ in roads],
        "v": [v for _, v, _ in roads],
        "length_m": [line.length for _, _, line in roads],
        "class": ["road"] * 4,
    }
    lines = geopandas.GeoDataFrame(columns, geometry=[line for *_, line in roads], crs=32631)
    lines.to_file(path, layer="roads")
    points = {"node": [0, 1, 2], "degree": [2, 3, 3]}
    places = geopandas.GeoDataFrame(points, geometry=shapely.points(nodes), crs=32631)
    places.to_file(path, layer="road_nodes")
    return path


def test_the_shortest_way_goes_by_length(tmp_path: Path) -> None:
    graph = road_graph(network(tmp_path / "town.gpkg"))
    assert networkx.shortest_path(graph, 0, 2, weight="length_m") == [0, 1, 2]
    assert networkx.shortest_path_length(graph, 0, 2, weight="length_m") == pytest.approx(200)
    assert graph.number_of_edges(1, 2) == 2
    assert graph.nodes[1] == {"x": 100.0, "y": 0.0, "degree": 3}
    (edge,) = graph.get_edge_data(0, 1).values()
    assert edge["class"] == "road"
    assert edge["geometry"].length == 100


def test_a_file_without_roads_is_refused(tmp_path: Path) -> None:
    house = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32631)
    house.to_file(tmp_path / "houses.gpkg", layer="buildings")
    with pytest.raises(DataError, match=r"houses\.gpkg: has no road network"):
        road_graph(tmp_path / "houses.gpkg")
    with pytest.raises(DataError, match="there is no such file"):
        road_graph(tmp_path / "none.gpkg")
    (tmp_path / "broken.gpkg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"broken\.gpkg: cannot be read"):
        road_graph(tmp_path / "broken.gpkg")


@pytest.mark.parametrize("name", ["town.gpkg", "buildings.parquet", "buildings.geojson"])
def test_layers_are_geodataframes(make_scene: MakeScene, tmp_path: Path, name: str) -> None:
    pytest.importorskip("geopandas")
    numbers = np.zeros((80, 80), np.uint8)
    numbers[20:40, 20:50] = 1
    layer = None if name == "town.gpkg" else "buildings"
    path = vectorise(
        make_scene(numbers[..., None]),
        tmp_path / name,
        legend="cover",
        options=VectorOptions(layer=layer),  # type: ignore[arg-type]
    )
    frame = read_vectors(path, "buildings" if layer is None else None)
    assert len(frame) == 1
    assert frame["area_m2"].sum() == pytest.approx(600, rel=0.01)
    assert frame.crs.to_epsg() == (4326 if name.endswith("geojson") else 32633)
    if layer is None:
        with pytest.raises(UsageError, match="has several layers"):
            read_vectors(path)
        with pytest.raises(DataError, match="has no layer 'houses'"):
            read_vectors(path, "houses")  # type: ignore[arg-type]


def test_files_that_hold_nothing_are_named(tmp_path: Path) -> None:
    pytest.importorskip("geopandas")
    with pytest.raises(DataError, match=r"none\.gpkg: there is no such file"):
        read_vectors(tmp_path / "none.gpkg")
    for name in ("empty.gpkg", "empty.parquet"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            read_vectors(tmp_path / name, "roads")
