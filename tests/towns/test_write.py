from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rasterio.warp import transform, transform_geom
from shapely.geometry import mapping, shape

from sat2map.data.images import has_one_band
from sat2map.data.masks import find_masks, read_mask, read_mask_card
from sat2map.data.pairs import find_pairs, read_dataset_card, read_pair
from sat2map.errors import OutputError, UsageError
from sat2map.legend import COVER, STREETS, Legend
from sat2map.towns import draw_pair, draw_town, write_pairs, write_scene
from sat2map.towns.write import VERSION

ORDER = ("other", "park", "water", "building", "road", "main_road", "highway")


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and ".sat2map" not in path.parts
    }


def test_pairs_are_a_data_set_with_a_card(tmp_path):
    steps = []
    write_pairs(tmp_path / "towns", 3, size=32, progress=lambda *step: steps.append(step))
    assert [pair.stem for pair in find_pairs(tmp_path / "towns", "train")] == [
        "0001",
        "0002",
        "0003",
    ]
    (held_out,) = find_pairs(tmp_path / "towns", "val")
    images = [read_pair(pair) for pair in find_pairs(tmp_path / "towns", "train")]
    images.append(read_pair(held_out))
    for photo, true in images:
        assert photo.shape == true.shape == (32, 32, 3)
    for k, (photo, _) in enumerate(images):
        assert all((photo != other).any() for other, _ in images[:k])
    card = read_dataset_card(tmp_path / "towns")
    assert card.resolution_m == 1.0
    assert card.legend == STREETS
    assert card.licence is not None
    assert "CC0" in card.licence
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_pairs_to_colourise_are_the_photos_without_and_with_their_colours(tmp_path):
    write_pairs(tmp_path / "maps", 2, size=32, seed=3)
    write_pairs(tmp_path / "grey", 2, size=32, seed=3, task="colourise")
    maps, grey = (find_pairs(tmp_path / folder, "train") for folder in ("maps", "grey"))
    for with_map, pair in zip(maps, grey, strict=True):
        photo, _ = read_pair(with_map)
        source, target = read_pair(pair)
        np.testing.assert_array_equal(target, photo)
        assert has_one_band(pair.source) and not has_one_band(pair.target)
        np.testing.assert_allclose(source[..., 0], photo @ [0.299, 0.587, 0.114], atol=1)
    assert not (tmp_path / "grey" / "shapes").exists()
    assert not (tmp_path / "grey" / "train" / "classes").exists()
    card = read_dataset_card(tmp_path / "grey")
    assert (card.legend, card.classes, card.resolution_m) == (None, None, 1.0)
    before = contents(tmp_path / "grey")
    write_pairs(tmp_path / "grey", 2, size=32, seed=3, task="colourise")
    assert contents(tmp_path / "grey") == before
    write_pairs(tmp_path / "grey", 2, size=32, seed=3)
    assert contents(tmp_path / "grey") == contents(tmp_path / "maps")
    write_pairs(tmp_path / "grey", 2, size=32, seed=3, task="colourise")
    assert contents(tmp_path / "grey") == before


def test_a_set_has_maps_in_one_legend_and_masks_in_another(tmp_path):
    write_pairs(tmp_path, 2, size=32, kinds=("desert",), resolution=0.5)
    card, of_masks = read_dataset_card(tmp_path), read_mask_card(tmp_path)
    assert (card.legend, of_masks.legend) == (STREETS, COVER)
    assert card.resolution_m == of_masks.resolution_m == 0.5
    assert of_masks.classes.may_be(COVER)[: len(COVER)].tolist() == np.eye(len(COVER)).tolist()
    for split, count in (("train", 2), ("val", 1)):
        files = find_masks(tmp_path, split)
        assert [file.name for file in files] == [p.stem for p in find_pairs(tmp_path, split)]
        assert len(files) == count
        for file in files:
            photo, values = read_mask(file)
            assert photo.shape == (32, 32, 3)
            of_masks.classes.check(values, file.classes)


def test_each_town_of_a_mixed_set_is_of_one_of_its_kinds(tmp_path):
    write_pairs(tmp_path, 9, size=16, kinds=("snow", "tropics"))
    towns = [
        json.loads(path.read_text())["town"]
        for path in sorted((tmp_path / "shapes" / "train").glob("*.geojson"))
    ]
    assert {town["kind"] for town in towns} == {"snow", "tropics"}
    assert len({town["seed"] for town in towns}) == 9
    drawn = draw_town(16, towns[4]["seed"], kind=towns[4]["kind"])
    photo, values = read_mask(find_masks(tmp_path, "train")[4])
    assert np.array_equal(photo, drawn.photo)
    assert np.array_equal(values, drawn.cover)


def test_the_land_cover_of_a_scene_lies_on_its_grid(tmp_path):
    scene = write_scene(tmp_path, 96, seed=3, kind="informal", resolution=0.5)
    drawn = draw_town(96, 3, kind="informal", resolution=0.5)
    with rasterio.open(scene.cover) as cover, rasterio.open(scene.photo) as photo:
        assert np.array_equal(cover.read(1), drawn.cover)
        assert np.array_equal(photo.read().transpose(1, 2, 0), drawn.photo)
        assert (cover.count, cover.transform, cover.crs) == (1, photo.transform, photo.crs)
        assert cover.res == (0.5, 0.5)


def test_a_set_of_an_earlier_version_is_replaced(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0001.png").write_bytes(b"side by side")
    (tmp_path / "train" / "mine.png").write_bytes(b"mine")
    entries = {"version": 1, "pairs": {"pairs": 1, "size": 16, "seed": 0}}
    (tmp_path / "towns.json").write_text(json.dumps(entries))
    write_pairs(tmp_path, 1, size=16)
    assert sorted(entry.name for entry in (tmp_path / "train").iterdir()) == [
        "classes",
        "mine.png",
        "source",
        "target",
    ]


def test_val_has_a_fifth_of_the_pairs(tmp_path):
    write_pairs(tmp_path, 10, size=16)
    assert len(find_pairs(tmp_path, "val")) == 2


def test_the_same_call_gives_the_same_bytes_and_then_changes_nothing(tmp_path):
    for name in ("a", "b"):
        write_pairs(tmp_path / name, 2, size=32, seed=7)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    image = tmp_path / "a" / "train" / "source" / "0001.png"
    before = image.stat().st_mtime_ns
    write_pairs(tmp_path / "a", 2, size=32, seed=7)
    assert image.stat().st_mtime_ns == before
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_interrupted_call_is_taken_up_again(tmp_path):
    write_pairs(tmp_path / "whole", 3, size=32)

    class StopHereError(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise StopHereError

    with pytest.raises(StopHereError):
        write_pairs(tmp_path / "cut", 3, size=32, progress=stop)
    assert not (tmp_path / "cut" / "dataset.json").exists()
    (tmp_path / "cut" / "train" / "target" / "0002.png").write_bytes(b"half an image")
    write_pairs(tmp_path / "cut", 3, size=32)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_call_with_other_numbers_replaces_the_pairs_and_nothing_else(tmp_path):
    write_pairs(tmp_path / "a", 4, size=32, seed=1)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    write_pairs(tmp_path / "a", 2, size=32, seed=2)
    write_pairs(tmp_path / "b", 2, size=32, seed=2)
    replaced = contents(tmp_path / "a")
    assert replaced.pop("notes.txt") == b"mine"
    assert replaced == contents(tmp_path / "b")


def test_files_of_others_among_the_towns_are_kept(tmp_path, put_foreign):
    write_pairs(tmp_path / "a", 4, size=16, seed=1)
    check = put_foreign(
        tmp_path / "a",
        "train/source/0099.png",
        "train/target/0001b.png",
        "train/source/.0001.0123abcd.png",
        "shapes/train/notes.geojson",
        "scene.tif",
    )
    write_pairs(tmp_path / "a", 2, size=16, seed=2)
    assert not (tmp_path / "a" / "train" / "source" / "0003.png").exists()
    check()
    with pytest.raises(OutputError, match=r"scene\.tif: is there already and was not written"):
        write_scene(tmp_path / "a", 64)
    (tmp_path / "a" / "train" / "source" / "0003.png").write_text("mine")
    with pytest.raises(OutputError, match=r"source/0003\.png: is there already and was not"):
        write_pairs(tmp_path / "a", 3, size=16, seed=2)
    assert (tmp_path / "a" / "train" / "source" / "0003.png").read_text() == "mine"
    check()


@pytest.mark.parametrize("write", [write_pairs, write_scene])
def test_a_folder_that_others_filled_is_left_as_it_is(tmp_path, put_foreign, write):
    check = put_foreign(tmp_path / "mine", "towns.json")
    with pytest.raises(OutputError, match="mine: is not empty and was not written by"):
        write(tmp_path / "mine", 64)
    check(alone=True)


def test_two_at_once_are_not_let_in(tmp_path):
    refused = []

    def another(done, total):
        for write in (write_pairs, write_scene):
            with pytest.raises(UsageError, match="is being written by another process"):
                write(tmp_path / "a", 64)
        refused.append(done)

    write_pairs(tmp_path / "a", 1, size=16, progress=another)
    assert refused == [1, 2]


def test_pairs_of_an_older_version_are_gone_on_with(tmp_path):
    write_pairs(tmp_path / "a", 2, size=16)
    shutil.rmtree(tmp_path / "a" / ".sat2map")
    settings = {"pairs": 2, "size": 16, "seed": 0, "kinds": ["temperate"], "resolution_m": 1.0}
    (tmp_path / "a" / "towns.json").write_text(json.dumps({"version": VERSION, "pairs": settings}))
    first = tmp_path / "a" / "train" / "source" / "0001.png"
    before = first.stat().st_mtime_ns
    (tmp_path / "a" / "train" / "source" / "0002.png").unlink()
    write_pairs(tmp_path / "a", 2, size=16)
    assert first.stat().st_mtime_ns == before
    write_pairs(tmp_path / "b", 2, size=16)
    (tmp_path / "a" / "towns.json").unlink()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("write", [write_pairs, write_scene])
def test_a_folder_with_other_things_is_left_alone(tmp_path, write):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0001.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"not empty.*Choose a new or empty folder"):
        write(tmp_path, 64)
    assert contents(tmp_path) == {"train/0001.png": b"mine"}
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file"):
        write(tmp_path / "file", 64)


def test_impossible_numbers_are_usage_errors_before_anything_is_written(tmp_path):
    for call in (
        lambda: write_pairs(tmp_path / "x", 0),
        lambda: write_pairs(tmp_path / "x", 5, size=8),
        lambda: write_pairs(tmp_path / "x", 5, seed=-1),
        lambda: write_scene(tmp_path / "x", 63),
        lambda: write_pairs(tmp_path / "x", 5, kinds=("martian",)),
        lambda: write_pairs(tmp_path / "x", 5, kinds=()),
        lambda: write_pairs(tmp_path / "x", 5, resolution=0.6),
        lambda: write_scene(tmp_path / "x", 64, kind="mixed"),
        lambda: write_scene(tmp_path / "x", 64, resolution=0.0),
        lambda: write_scene(tmp_path / "x", 1_000_000),
    ):
        with pytest.raises(UsageError):
            call()
    assert not (tmp_path / "x").exists()


def test_a_scene_is_georeferenced_and_is_the_town_of_its_seed(tmp_path):
    scene = write_scene(tmp_path / "scene", 96, seed=3)
    photo, true = draw_pair(96, 3)
    for path, drawn in ((scene.photo, photo), (scene.map, true)):
        with rasterio.open(path) as raster:
            assert np.array_equal(raster.read().transpose(1, 2, 0), drawn)
            assert raster.crs.to_epsg() == 32631
            assert raster.res == (1.0, 1.0)
            assert raster.profile["tiled"]
            assert raster.profile["compress"] == "deflate"
    with rasterio.open(scene.photo) as one, rasterio.open(scene.map) as other:
        assert one.transform == other.transform
    legend = Legend.from_json(json.loads(scene.legend.read_text()))
    assert legend == STREETS


def test_a_scene_of_several_tiles_is_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr("sat2map.towns.write.TILE", 64)
    steps = []
    write_scene(tmp_path / "a", 100, seed=11, progress=lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    write_scene(tmp_path / "b", 100, seed=11)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    write_scene(tmp_path / "a", 100, seed=11)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_pairs_and_a_scene_may_share_a_folder(tmp_path):
    write_pairs(tmp_path, 1, size=16)
    write_scene(tmp_path, 64)
    before = contents(tmp_path)
    write_pairs(tmp_path, 1, size=16)
    assert contents(tmp_path) == before
    assert {"scene.tif", "train/source/0001.png"} <= set(before)


@pytest.mark.parametrize("seed", [20, 43])
def test_the_shapes_of_a_scene_paint_its_map(tmp_path, seed):
    scene = write_scene(tmp_path, 160, seed=seed)
    collection = json.loads(scene.shapes.read_text())
    with rasterio.open(scene.map) as raster:
        labels = STREETS.label(raster.read().transpose(1, 2, 0))
        placement, crs = raster.transform, raster.crs
    painted = []
    for feature in collection["features"]:
        properties = feature["properties"]
        geometry = shape(transform_geom("EPSG:4326", crs, feature["geometry"]))
        if geometry.geom_type == "LineString":
            geometry = geometry.buffer(properties["width_m"] / 2)
        rank = (ORDER.index(properties["class"]), properties["kind"] != "ramp")
        painted.append((rank, mapping(geometry), STREETS.names.index(properties["class"])))
    painted.sort(key=lambda entry: entry[0])
    again = rasterize(
        [(geometry, value) for _, geometry, value in painted], (160, 160), transform=placement
    )
    assert len(np.unique(labels)) >= 4
    assert (again == labels).mean() > 0.95


def test_shapes_come_back_to_their_metres_within_a_hundredth_of_a_pixel(tmp_path):
    from sat2map.towns.map import features_in
    from sat2map.towns.photo import margin
    from sat2map.towns.plan import Planner, region
    from sat2map.towns.world import World

    scene = write_scene(tmp_path, 64, seed=1)
    written = json.loads(scene.shapes.read_text())
    world, bounds = World(1), region(64)
    features = features_in(Planner(world, margin(world.look, bounds)), bounds)
    lines = [f for f in features if f.geometry.geom_type == "LineString"]
    read = [f for f in written["features"] if f["geometry"]["type"] == "LineString"]
    assert len(lines) == len(read) > 0
    with rasterio.open(scene.map) as raster:
        to_pixel = ~raster.transform
    wanted = sorted(
        (x - bounds[0], bounds[3] - y) for line in lines for x, y in line.geometry.coords
    )
    found = []
    for feature in read:
        degrees = np.array(feature["geometry"]["coordinates"])
        x, y = transform("EPSG:4326", "EPSG:32631", degrees[:, 0], degrees[:, 1])
        found += [to_pixel @ place for place in zip(x, y, strict=True)]
    assert np.abs(np.array(sorted(found)) - np.array(wanted)).max() < 0.01


def test_the_shapes_of_a_pair_say_where_it_lies(tmp_path):
    write_pairs(tmp_path, 2, size=64)
    places = []
    for path in sorted((tmp_path / "shapes").rglob("*.geojson")):
        collection = json.loads(path.read_text())
        where = collection["georeference"]
        west, south, east, north = where["bounds"]
        assert where["crs"] == "EPSG:32631"
        assert (east - west, north - south) == (64.0, 64.0)
        places.append((west, south))
        for feature in collection["features"]:
            assert feature["properties"]["class"] in STREETS.names
    assert len(set(places)) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_may_not_be_written_is_an_output_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        write_scene(tmp_path / "scene", 64)


def test_a_broken_off_scene_leaves_no_half_files(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scene(tmp_path / "scene", 64, progress=stop)
    assert [path.name for path in (tmp_path / "scene").iterdir()] == [".sat2map"]
    scene = write_scene(tmp_path / "scene", 64)
    assert scene.photo.is_file()


def test_a_raster_that_cannot_be_made_is_an_output_error(tmp_path):
    scene = write_scene(tmp_path, 64)
    scene.map.unlink()
    scene.map.mkdir()  # a folder stands where the file should go
    with pytest.raises(OutputError, match=r"scene_map\.tif: is a folder"):
        write_scene(tmp_path, 64)
