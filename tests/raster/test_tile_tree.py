from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from fixtures.scenes import MakeModel, cut_tiles, noise, smooth
from sat2map.errors import DataError, UsageError
from sat2map.geo.grid import ground_resolution
from sat2map.geo.web_mercator import quadkey
from sat2map.raster.options import SceneOptions
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scene import Scene
from sat2map.raster.sources import open_source
from sat2map.raster.tile_tree import find_levels
from sat2map.translation.folder import translate_path
from sat2map.translation.scene import translate_raster

SMALL = SceneOptions(window=64, overlap=16)


def test_tiles_are_the_raster_they_were_cut_from(make_model: MakeModel, tmp_path: Path) -> None:
    pixels = noise(96, 128)
    root = cut_tiles(tmp_path / "tiles", pixels, 18, 140_800, 86_016)
    (root / "18/140801/86017.png").unlink()
    (root / "18/notes.txt").write_text("no tile")
    (root / "legend.png").write_text("no tile")
    translate_raster(root, tmp_path / "map.tif", make_model(None), SMALL)
    with rasterio.open(tmp_path / "map.tif") as file:
        found, mask = file.read().transpose(1, 2, 0), file.dataset_mask() > 0
        assert file.crs.to_epsg() == 3857
        west, north = file.transform @ (0, 0)
    there = np.ones((96, 128), bool)
    there[32:64, 32:64] = False
    assert np.array_equal(mask, there)
    assert np.array_equal(found[there], pixels[there])
    size = 2 * np.pi * 6_378_137 / 2**18
    assert (west, north) == pytest.approx(
        (140_800 * size - np.pi * 6_378_137, np.pi * 6_378_137 - 86_016 * size), abs=1e-6
    )


def test_the_place_on_earth_is_that_of_web_maps(tmp_path: Path) -> None:
    """At zoom 1 the tile 1/0 is the north-east quarter of the world."""
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 1, 1, 0)
    with Scene(root, 3) as scene:
        assert scene.grid.transform @ (0, 32) == pytest.approx((0, 0), abs=1e-6)
        assert scene.grid.transform @ (32, 0) == pytest.approx((20037508.34, 20037508.34))


def test_the_scale_is_that_of_the_ground(tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(256, 256), 18, 140_800, 86_016, side=256)
    with Scene(root, 3) as scene:
        ground = ground_resolution(scene.grid)
    assert ground is not None
    assert ground[0] == pytest.approx(0.597 * np.cos(np.radians(52.5)), rel=0.01)


def test_the_finest_zoom_is_read_unless_another_is_named(tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 5, 3, 4)
    cut_tiles(root, noise(64, 64), 6, 6, 8)
    assert [tree.zoom for tree in find_levels(root)] == [5, 6]
    for name, side in (
        (root, 64),
        (f"{root}/{{z}}/{{x}}/{{y}}.png", 64),
        (f"{root}/5/{{x}}/{{y}}.png", 32),
    ):
        with Scene(name, 3) as scene:
            assert scene.grid.height == side, name


def test_jpeg_and_transparent_tiles(tmp_path: Path) -> None:
    root, pixels = tmp_path / "tiles", smooth(32, 64)
    clear = np.full((32, 32, 1), 255, np.uint8)
    clear[:9] = 0
    cut_tiles(root, np.dstack([pixels[:, :32], clear]), 9, 100, 100)
    (root / "9/101").mkdir()
    Image.fromarray(pixels[:, 32:]).save(root / "9/101/100.jpg", quality=95)
    with Scene(root, 3) as scene:
        found, valid = scene.read(0, 0, 32, 64)
        view, _ = ResampledScene(scene, 8, 16).read(0, 0, 8, 16)
    assert np.array_equal(valid[:, :32], clear[..., 0] > 0)
    assert valid[:, 32:].all()
    assert np.abs(found[valid].astype(int) - pixels[valid]).mean() < 2
    assert np.abs(view[3:] - pixels.reshape(8, 4, 16, 4, 3).mean((1, 3))[3:]).mean() < 8


def test_any_window_is_the_same_piece(tmp_path: Path) -> None:
    root, pixels = tmp_path / "tiles", noise(96, 96)
    cut_tiles(root, pixels, 10, 7, 8)
    with Scene(root, 3) as scene:
        for row, column, height, width in ((0, 0, 1, 1), (31, 30, 3, 40), (95, 0, 1, 96)):
            found, _ = scene.read(row, column, height, width)
            assert np.array_equal(found, pixels[row:, column:][:height, :width])
        half, _ = scene.read(3, 5, 20, 11, factor=2)
    means = pixels[6:46, 10:32].reshape(20, 2, 11, 2, 3).mean((1, 3))
    assert np.abs(half - means).max() <= 0.5


def test_tiles_that_touch_each_other_are_one_part(tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(64, 64), 8, 10, 10)
    cut_tiles(root, noise(32, 32), 8, 12, 12)  # touches the others at a corner
    cut_tiles(root, noise(32, 96), 8, 20, 3)
    (tree,) = find_levels(root)
    parts = [sorted(map(tuple, part.tiles.tolist())) for part in tree.parts()]
    assert sorted(parts) == [
        [(10, 10), (10, 11), (11, 10), (11, 11), (12, 12)],
        [(20, 3), (21, 3), (22, 3)],
    ]
    assert sum(1 for _ in tree.parts()) == 2


def test_tiles_that_cannot_be_used(tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 64), 8, 10, 10)
    Image.fromarray(noise(16, 16)).save(root / "8/11/10.png")
    line = r"11.10\.png: has 16 x 16 pixels, but other tiles 32"
    with pytest.raises(DataError, match=line), Scene(root, 3) as scene:
        scene.read(0, 0, 32, 64)
    (root / "8/11/10.png").write_text("no image")
    with pytest.raises(DataError, match=r"11.10\.png: is not a PNG"), Scene(root, 3) as scene:
        scene.read(0, 0, 32, 64)
    for pattern in (f"{tmp_path}/no/{{z}}/{{x}}/{{y}}.png", f"{root}/9/{{x}}/{{y}}.png"):
        with pytest.raises(DataError, match="there are no such tiles"):
            find_levels(pattern)
    with pytest.raises(DataError, match="is not a pattern of tiles"):
        find_levels(f"{root}/{{x}}.png")


TILE_MAP = (
    '<?xml version="1.0"?><TileMap version="1.0.0"><SRS>EPSG:3857</SRS>'
    '<TileSets profile="{}"><TileSet href="5" order="5"/></TileSets></TileMap>'
)


def from_the_south(root: Path, pixels: np.ndarray, zoom: int, column: int, row: int) -> Path:
    """Cut tiles as `cut_tiles` does, and name their rows as gdal2tiles does by default."""
    north = cut_tiles(root.with_name("north"), pixels, zoom, column, row)
    for path in north.glob("*/*/*.png"):
        place = root / path.parent.relative_to(north)
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / f"{2**zoom - 1 - int(path.stem)}.png")
    return root


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tilemapresource.xml", TILE_MAP.format("mercator")),
        ("tilemapresource.xml", TILE_MAP.format("global-mercator")),
        ("tiles.json", '{"tilejson": "2.2.0", "scheme": "tms"}'),
        ("metadata.json", '{"scheme": "tms", "name": "town"}'),
        ("tiles.json", '{"tiles": ["{z}/{x}/{-y}.png"]}'),
    ],
)
def test_rows_count_from_the_south_where_a_file_says_so(
    tmp_path: Path, name: str, text: str
) -> None:
    pixels = noise(96, 64)
    root = from_the_south(tmp_path / "tiles", pixels, 18, 140_800, 86_016)
    (root / name).write_text(text)
    (tree,) = find_levels(root)
    assert tree.from_south
    assert tree.first == (140_800, 86_016)
    with tree.open() as dataset:
        assert np.array_equal(dataset.read([1, 2, 3]).transpose(1, 2, 0), pixels)
    with pytest.raises(DataError, match=r"count from the south, but the pattern has \{y\}"):
        find_levels(f"{root}/{{z}}/{{x}}/{{y}}.png")


def test_rows_count_from_the_south_where_the_pattern_says_so(tmp_path: Path) -> None:
    pixels = noise(96, 64)
    root = from_the_south(tmp_path / "tiles", pixels, 18, 140_800, 86_016)
    assert find_levels(root)[0].first == (140_800, 2**18 - 1 - 86_018)
    for pattern in ("{z}/{x}/{-y}.png", "18/{x}/{-y}.png", "{z}/{x}/{-y}"):
        (tree,) = find_levels(f"{root}/{pattern}")
        assert tree.first == (140_800, 86_016)
        with tree.open() as dataset:
            assert np.array_equal(dataset.read([1, 2, 3]).transpose(1, 2, 0), pixels)
    (root / "tiles.json").write_text('{"scheme": "xyz"}')
    with pytest.raises(DataError, match=r"count from the north, but the pattern has \{-y\}"):
        find_levels(f"{root}/{{z}}/{{x}}/{{-y}}.png")


@pytest.mark.parametrize(
    "pattern",
    [
        "{z}/{y}/{x}.jpg",
        "{z}/{y}/{x}",
        "{q}.png",
        "{z}/{q}.png",
        "{z}_{x}_{y}.png",
        "tile-{x}/{z}/{y}@2x.webp",
        "18/{y}/{x}.png",
        "{z}/{-y}/{x}.png",
    ],
)
def test_tiles_are_found_by_any_pattern(tmp_path: Path, pattern: str) -> None:
    pixels, (zoom, column, row) = noise(96, 64), (18, 140_800, 86_016)
    for path in cut_tiles(tmp_path / "north", pixels, zoom, column, row).glob("*/*/*.png"):
        x, y = int(path.parent.name), int(path.stem)
        name = pattern if "." in pattern else f"{pattern}.png"
        for placeholder, value in (
            ("{z}", zoom),
            ("{x}", x),
            ("{y}", y),
            ("{-y}", 2**zoom - 1 - y),
            ("{q}", quadkey(zoom, x, y)),
        ):
            name = name.replace(placeholder, str(value))
        there = tmp_path / "tiles" / name
        there.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(there, **({"lossless": True} if there.suffix == ".webp" else {}))
    (tree,) = find_levels(f"{tmp_path}/tiles/{pattern}")
    assert (tree.first, tree.extent) == ((column, row), (2, 3))
    with tree.open() as dataset:
        found = dataset.read([1, 2, 3]).transpose(1, 2, 0).astype(int)
    if not pattern.endswith(".jpg"):
        assert np.array_equal(found, pixels)


def test_a_quadkey_is_that_of_bings_maps() -> None:
    assert quadkey(3, 3, 5) == "213"  # the example of its documentation
    assert quadkey(0, 0, 0) == ""


@pytest.mark.parametrize("pattern", ["{x}/{y}.png", "{z}/{x}.png", "{q}/{x}.png", "{z}/{-x}/{y}"])
def test_a_pattern_tells_each_tile_from_all_others(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match="is not a pattern of tiles"):
        find_levels(f"{tmp_path}/{pattern}")


@pytest.mark.parametrize(
    "name", ["out/{z}/{y}/{x}.png", "out/{z}/{x}/{-y}.png", "{q}.png", "map{x}.tif", "out/{z}"]
)
def test_tiles_are_written_by_one_pattern(make_model: MakeModel, tmp_path: Path, name: str) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 5, 3, 4)
    for source in (root, next(root.glob("*/*/*.png"))):
        with pytest.raises(UsageError, match=r"Write DIR/\{z\}/\{x\}/\{y\}\.png"):
            translate_path(make_model(None), source, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["tiles"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tilemapresource.xml", TILE_MAP.format("global-geodetic")),
        ("tilemapresource.xml", TILE_MAP.format("raster")),
        ("metadata.json", '{"profile": "geodetic"}'),
    ],
)
def test_tiles_of_another_projection_are_refused(tmp_path: Path, name: str, text: str) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 5, 3, 4)
    (root / name).write_text(text)
    with pytest.raises(DataError, match="not mercator"):
        find_levels(root)


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"scheme": 7, "tiles": 3}'])
def test_other_files_beside_tiles_say_nothing(tmp_path: Path, text: str) -> None:
    root = cut_tiles(tmp_path / "tiles", noise(32, 32), 5, 3, 4)
    (root / "metadata.json").write_text(text)
    assert find_levels(root)[0].first == (3, 4)


def test_braces_in_a_name_do_not_make_it_a_pattern(tmp_path: Path) -> None:
    root = cut_tiles(tmp_path / "{town} {z}", noise(32, 32), 5, 3, 4)
    assert find_levels(root)[0].first == (3, 4)
    assert find_levels(f"{root}/{{z}}/{{x}}/{{y}}.png")[0].first == (3, 4)
    assert find_levels(tmp_path / "{nothing}.tif") == []


def test_an_address_of_tiles_is_not_one_raster() -> None:
    with pytest.raises(DataError, match="data imagery") as caught:
        open_source("https://example.com/{z}/{x}/{y}.png?key=SECRET")
    assert "SECRET" not in str(caught.value)
