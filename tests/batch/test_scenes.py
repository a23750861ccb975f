"""Lists of scenes of every kind name the same scenes, each once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely

from sat2map.batch.scenes import list_scenes
from sat2map.errors import DataError, UsageError


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def item(name: str, assets: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": "2024-05-01T10:00:00Z", **facts},
        "links": [],
        "assets": assets,
    }


def test_a_folder_is_searched_with_all_folders_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "b.tif", "north/a.TIF", "north/deep/c.jp2", ".hidden/d.tif", ".e.tif", "f.txt")
    put(tmp_path, "preview.png", "placed.jpg", "placed.jgw", "north/a.tif.aux.xml")
    found = list_scenes(tmp_path)
    assert [(one.scene, one.place) for one in found] == [
        ("b.tif", "b"),
        ("placed.jpg", "placed"),
        ("north/a.TIF", "north/a"),
        ("north/deep/c.jp2", "north/deep/c"),
    ]
    assert found[0].source == str(tmp_path / "b.tif")
    assert "1 images without coordinates are left out" in caplog.text


def test_a_text_file_names_files_and_addresses(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    names = tmp_path / "lists" / "scenes.txt"
    outside = tmp_path / "a.tif"
    names.write_text(
        f"\ufeff# May\nnear/b.tif\n\n../lists/near/b.tif\n{outside}\n"
        "https://host/dir/c%20d.tif?key=SECRET\ns3://bucket/e.tif\n"
    )
    found = list_scenes(names)
    assert [(one.scene, one.place) for one in found] == [
        ("near/b.tif", "near/b"),  # named twice
        (str(outside), "a"),
        ("https://host/dir/c%20d.tif", "c d"),
        ("s3://bucket/e.tif", "e"),
    ]
    assert found[2].source.endswith("?key=SECRET")


def test_addresses_that_only_their_queries_tell_apart_are_refused(tmp_path: Path) -> None:
    names = tmp_path / "scenes.txt"
    names.write_text("https://host/get?id=SECRET1\nhttps://host/get?id=SECRET2\n")
    with pytest.raises(DataError, match=r"names https://host/get twice") as caught:
        list_scenes(names)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("id,path\n1,a.tif\n2,b.tif\n", None),
        ("id;Path;note\n1;a.tif;x, y\n2;b.tif;\n", None),
        ("id\timage\n1\ta.tif\n2\tb.tif\n", "image"),
        ("image\na.tif\nb.tif\n", None),
    ],
)
def test_a_table_has_a_column_of_scenes(tmp_path: Path, text: str, column: str | None) -> None:
    table = tmp_path / "scenes.csv"
    table.write_text(text)
    assert [one.scene for one in list_scenes(table, column=column)] == ["a.tif", "b.tif"]


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    table = tmp_path / "scenes.csv"
    table.write_text("id,image\n1,a.tif\n")
    for column in (None, "picture"):
        with pytest.raises(UsageError, match="has the columns id, image") as caught:
            list_scenes(table, column=column)
        assert caught.value.parameter == "column"


def test_an_entry_without_a_name_is_told(tmp_path: Path) -> None:
    table = tmp_path / "scenes.csv"
    table.write_text("path,id\na.tif,1\n,2\n")
    with pytest.raises(DataError, match="names no scene in entry 2"):
        list_scenes(table)


@pytest.mark.parametrize("name", ["index.gpkg", "index.geojson", "index.fgb"])
def test_an_index_of_tiles(tmp_path: Path, name: str) -> None:
    geopandas = pytest.importorskip("geopandas")
    shapes = [shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)]
    frame = geopandas.GeoDataFrame(
        {"location": ["tiles/a.tif", "tiles/b.tif"], "number": [1, 2]}, geometry=shapes, crs=4326
    )
    frame.to_file(tmp_path / name)
    assert {one.place for one in list_scenes(tmp_path / name)} == {"tiles/a", "tiles/b"}
    (tmp_path / "index.gti").write_text(
        f"<GDALTileIndexDataset><IndexDataset>{name}</IndexDataset>"
        "<LocationField>location</LocationField></GDALTileIndexDataset>"
    )
    assert {one.place for one in list_scenes(tmp_path / "index.gti")} == {"tiles/a", "tiles/b"}


def test_a_geoparquet_has_a_column_of_scenes(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.GeoDataFrame(
        {"number": [1], "url": ["https://host/a.tif"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326
    )
    frame.to_parquet(tmp_path / "scenes.parquet")
    (found,) = list_scenes(tmp_path / "scenes.parquet")
    assert found.source == "https://host/a.tif"


def test_items_of_stac_are_told_by_the_role_of_an_asset(tmp_path: Path) -> None:
    pytest.importorskip("pystac")
    bands = {
        "red": {"href": "./r.tif", "roles": ["data"]},
        "look": {"href": "./v.tif", "roles": ["visual"], "file:checksum": "1220ab"},
        "thumb": {"href": "./t.png", "roles": ["thumbnail"]},
    }
    place = tmp_path / "one.json"
    place.write_text(json.dumps(item("one", bands)))
    (found,) = list_scenes(place)
    assert (found.source, found.place) == (str(tmp_path / "v.tif"), "one")
    assert found.told == "1220ab"
    assert found.item is not None
    assert found.item["datetime"] == "2024-05-01T10:00:00Z"
    (found,) = list_scenes(place, asset="red")
    assert found.source == str(tmp_path / "r.tif")
    (found,) = list_scenes(place, asset="blue")
    assert found.problem is not None
    assert "has no asset 'blue', only red, look, thumb" in found.problem


def test_an_item_collection_and_a_catalogue(tmp_path: Path) -> None:
    pystac = pytest.importorskip("pystac")
    items = [
        item(name, {"data": {"href": f"https://host/{name}.tif", "roles": ["data"]}}, updated=name)
        for name in ("one", "two")
    ]
    collection = tmp_path / "items.geojson"
    collection.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    found = list_scenes(collection)
    assert [(one.source, one.told) for one in found] == [
        ("https://host/one.tif", "one"),
        ("https://host/two.tif", "two"),
    ]
    catalogue = pystac.Catalog("all", "All of them")
    inner = pystac.Catalog("inner", "Some of them")
    catalogue.add_child(inner)
    inner.add_items([pystac.Item.from_dict(one) for one in items])
    catalogue.normalize_and_save(str(tmp_path / "stac"), pystac.CatalogType.SELF_CONTAINED)
    found = list_scenes(tmp_path / "stac" / "catalog.json")
    assert [one.source for one in found] == ["https://host/one.tif", "https://host/two.tif"]


def test_several_assets_of_one_role_are_a_problem_of_their_item_alone(tmp_path: Path) -> None:
    pytest.importorskip("pystac")
    bands = {name: {"href": f"{name}.tif", "roles": ["data"]} for name in ("red", "green")}
    whole = {"all": {"href": "all.tif", "roles": ["data"]}}
    path = tmp_path / "items.json"
    features = [item("bands", bands), item("whole", whole)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    first, second = list_scenes(path)
    assert first.problem is not None and "several assets" in first.problem
    assert second.problem is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "# nothing\n", "names no scene"),
        ("broken.json", "{", "cannot be read"),
        ("other.geojson", "[1]", "cannot be read as an index of tiles"),
        ("item.json", '{"stac_version": "1.0.0"}', "cannot be read as STAC"),
        ("binary.xyz", b"\xff\xfe\x00", "neither a raster nor a list"),
        ("broken.gpkg", "x", "cannot be read as an index of tiles"),
        ("broken.parquet", "x", "cannot be read as Parquet"),
    ],
)
def test_a_list_that_cannot_be_used(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        list_scenes(path)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_not_there_or_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list_scenes(tmp_path / "missing.txt")
    put(tmp_path, "a.tif")
    for options in ({"column": "path"}, {"asset": "visual"}):
        with pytest.raises(UsageError) as caught:
            list_scenes(tmp_path, **options)
        assert caught.value.parameter in options
