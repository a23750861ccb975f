"""The verbs of `sat2map data` that get or make pairs, as a user meets them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from PIL import Image

from sat2map.data.pairs import read_dataset_card
from sat2map.legend import STREETS
from sat2map.towns import Scene, write_scene

Sat2map = Callable[..., Any]
Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return write_scene(tmp_path_factory.mktemp("cli") / "town", 256, seed=4)


def test_chips_say_what_they_are_and_where(sat2map: Sat2map, town: Scene, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    arguments = ("data", "chips", "--imagery", town.photo, "--vectors", town.shapes, out)
    more = ("--size", 48, "--val", 0.2, "--licence", "mine", "--preview", "--workers", 1)
    ended = sat2map(*arguments, *more)
    assert ended.code == 0, ended.err
    assert ended.out.split() == [str(out), str(out / "preview" / "index.html")]
    assert "chips for training" in ended.err and "the vectors lie" in ended.err
    assert read_dataset_card(out).licence == "mine"
    ended = sat2map(*arguments, "--size", 64)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {out}: holds chips of other settings (size, validation)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shift", "2"), "--shift: '2' is not a shift"),
        (("--shift=a,b",), "--shift: 'a,b' is not a shift"),
        (("--shift=nan,0",), "--shift: 'nan,0' is not a shift"),
        (("--shift=1,-inf",), "--shift: '1,-inf' is not a shift"),
        (("--shift=1,2,3",), "--shift: '1,2,3' is not a shift"),
        (("--shift=1e9,0",), "--shift: 1e+09 is not possible"),
        (("--min-mapped", "nan"), "--min-mapped: nan is not possible"),
        (("--buffer", "inf"), "--buffer: inf is not possible"),
        (("--range", "0,nan"), "--range: '0,nan' is not a range"),
        (("--bbox", "1,2,3"), "--bbox: '1,2,3' is not a bounding box"),
        (("--resolution", "0"), "--resolution: 0 is not possible"),
        (("--style", "baroque"), "baroque"),
    ],
)
def test_a_wrong_option_is_one_line(
    sat2map: Sat2map, town: Scene, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    files = ("--imagery", town.photo, "--vectors", town.shapes)
    ended = sat2map("data", "chips", *files, tmp_path / "out", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ") and words in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_openstreetmap_says_what_it_found_and_whose_it_is(
    sat2map: Sat2map, serve: Serve, tmp_path: Path
) -> None:
    street = [{"lat": 52.5, "lon": 13.4}, {"lat": 52.501, "lon": 13.402}]
    way = {"type": "way", "id": 1, "geometry": street, "tags": {"highway": "primary"}}
    server = serve(lambda path, body: (200, {}, json.dumps({"elements": [way]}).encode()))
    target = tmp_path / "osm.gpkg"
    ended = sat2map("data", "osm", target, "--bbox", "13.4,52.5,13.41,52.51", "--url", server.url)
    assert (ended.code, ended.out.strip()) == (0, str(target))
    assert "1 lines; © OpenStreetMap contributors, Open Database License" in ended.err
    assert pyogrio.read_info(target)["features"] == 1
    ended = sat2map("data", "osm", target, "--bbox", "52,13", "--url", server.url)
    assert ended.code == 2 and "--bbox" in ended.err


def test_imagery_comes_with_the_reminder_of_its_terms(
    sat2map: Sat2map, serve: Serve, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((256, 256, 3), 90, np.uint8)).save(file, "png")
    server = serve(lambda path, body: (200, {"Content-Type": "image/png"}, file.getvalue()))
    target = tmp_path / "ortho.tif"
    box = ("--bbox", "13.4,52.5,13.401,52.501", "--zoom", 15, "--rate", 1000)
    ended = sat2map("data", "imagery", target, "--url", server.url + "/{z}/{x}/{y}.png", *box)
    assert (ended.code, ended.out.strip()) == (0, str(target))
    wrong = sat2map(
        "data", "imagery", target, "--url", server.url + "/{z}/{x}/{y}", *box[:-1], "nan"
    )
    assert wrong.code == 2 and "Invalid value for '--rate'" in wrong.err
    assert "only as its terms permit" in ended.err and "--attribution" in ended.err
    with rasterio.open(target) as raster:
        assert raster.crs.to_epsg() == 3857


def labelled(folder: Path, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Write NAME.jpg beside NAME.png, numbers from 0 to 2; return those by name."""
    folder.mkdir()
    masks = {}
    for i in range(count):
        random = np.random.default_rng(i)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.jpg")
        masks[str(i)] = random.integers(0, 3, (8, 8), np.uint8)
        Image.fromarray(masks[str(i)]).save(folder / f"{i}.png")
    return masks


def test_masks_without_a_mapping_are_listed(sat2map: Sat2map, tmp_path: Path) -> None:
    masks = labelled(tmp_path / "in", 3)
    ended = sat2map("data", "masks", tmp_path / "in", tmp_path / "out")
    assert ended.code == 2
    ended.one_line_about("--mapping", '{"0": "unknown"', "land, building, road, vegetation, water")
    lines = [line.split() for line in ended.out.splitlines()]
    share = np.mean([mask == 1 for mask in masks.values()])
    assert [line[0] for line in lines] == ["value", "0", "1", "2"]
    assert lines[2][1:] == [f"{share:.1%}", "3"]
    assert not (tmp_path / "out").exists()


def test_masks_become_a_data_set(sat2map: Sat2map, tmp_path: Path) -> None:
    labelled(tmp_path / "in", 20)
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"0": "unknown", "1": "park", "2": "not road"}')
    arguments = ("data", "masks", tmp_path / "in", tmp_path / "out", "--mapping", mapping)
    ended = sat2map(*arguments, "--resolution", 0.5)
    ended.one_line_about(str(mapping), "stands for 'park'", "Its classes are land, building")
    more = ("--legend", "map", "--licence", "mine", "--val", "1?,7")
    ended = sat2map(*arguments, "--resolution", 0.5, *more)
    assert ended.code == 0, ended.err
    assert ended.out.split() == [str(tmp_path / "out")]
    assert "9 training images, 11 validation images" in ended.err
    assert "--resolution" not in ended.err
    card = read_dataset_card(tmp_path / "out")
    assert (card.resolution_m, card.licence, card.legend) == (0.5, "mine", STREETS)
    assert (tmp_path / "out/val/classes/17.png").is_file()
    assert not (tmp_path / "out/train/classes/17.png").exists()
    ended = sat2map(*arguments, *more)
    ended.one_line_about("out: exists already")


def test_masks_of_few_images_and_unknown_scale_are_noticed(
    sat2map: Sat2map, tmp_path: Path
) -> None:
    labelled(tmp_path / "in", 20)
    (tmp_path / "mapping.json").write_text('{"0": "unknown", "1": "water", "2": "land"}')
    arguments = ("data", "masks", tmp_path / "in", tmp_path / "out")
    ended = sat2map(*arguments, "--mapping", tmp_path / "mapping.json", "-q")
    assert ended.code == 0, ended.err
    assert "18 training images, 2 validation images" in ended.err
    assert "A model must know how large a pixel is. Write `resolution_m`" in ended.err
    assert "fewer than 5 validation images" in ended.err


def test_georeferenced_photos_say_their_resolution(sat2map: Sat2map, tmp_path: Path) -> None:
    (tmp_path / "mapping.json").write_text('{"0": "land", "1": "water"}')

    def write(name: str, metres: float) -> None:
        facts = {"count": 3, "height": 8, "width": 8, "dtype": "uint8", "crs": "EPSG:32633"}
        where = rasterio.Affine(metres, 0, 500_000, 0, -metres, 5_000_000)
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        with rasterio.open(folder / f"{name}.tif", "w", transform=where, **facts) as file:
            file.write(np.zeros((3, 8, 8), np.uint8))
        Image.fromarray(np.ones((8, 8), np.uint8)).save(folder / f"{name}.png")

    arguments = ("data", "masks", tmp_path / "in", "--mapping", tmp_path / "mapping.json", "-q")
    write("a", 0.25)
    ended = sat2map(*arguments, tmp_path / "out")
    assert ended.code == 0, ended.err
    assert read_dataset_card(tmp_path / "out").resolution_m == pytest.approx(0.25, rel=0.01)
    assert "0.25 m per pixel" in ended.err
    write("b", 0.5)
    ended = sat2map(*arguments, tmp_path / "both")
    ended.one_line_about("a.tif has 0.25 m per pixel, but b.tif 0.5", "of each ground resolution")
    assert not (tmp_path / "both").exists()
    assert sat2map(*arguments, tmp_path / "both", "--resolution", 0.3).code == 0
    assert read_dataset_card(tmp_path / "both").resolution_m == 0.3


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--resolution", "0", "0 is not a ground resolution"),
        ("--val", "2", "2 is not a share"),
        ("--val", "austin*", "no image is called 'austin*'"),
        ("--mapping", "none.json", "none.json: cannot be read"),
        ("--mapping", "text.json", "text.json: cannot be read"),
        ("--mapping", "list.json", "list.json: the mapping is not an object"),
    ],
)
def test_masks_with_options_that_do_not_fit(
    sat2map: Sat2map,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    labelled(tmp_path / "in", 3)
    (tmp_path / "mapping.json").write_text('{"0": "unknown", "1": "water", "2": "land"}')
    (tmp_path / "text.json").write_text("water")
    (tmp_path / "list.json").write_text('["water"]')
    ended = sat2map("data", "masks", "in", "out", "--mapping", "mapping.json", option, value)
    assert ended.code > 0
    ended.one_line_about(words)
    assert not (tmp_path / "out").exists()
