"""Pyramids of tiles, read back by others' readers."""

from __future__ import annotations

import io
import json
import math
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform, transform_bounds

from fixtures.scenes import MakeModel, MakeScene, noise, smooth
from sat2map.errors import MissingExtraError, OutputError, UsageError
from sat2map.geo.grid import Grid
from sat2map.legend import STREETS
from sat2map.raster import tile_archives as archives
from sat2map.raster.options import SceneOptions
from sat2map.raster.pyramid import SIDE, halved, halved_classes, pyramid_of
from sat2map.translation.scene import translate_raster

OPTIONS = SceneOptions(window=128, overlap=32, attribution="© the surveyor & co")
Tiles = dict[tuple[int, int, int], Image.Image]


def mercator(zoom: int, x: int, y: int) -> dict[str, Any]:
    """The georeference of a scene that begins with a tile."""
    world = 2 * math.pi * 6_378_137
    metres = world / 2**zoom / SIDE
    left, top = x * SIDE * metres - world / 2, world / 2 - y * SIDE * metres
    return {"crs": "EPSG:3857", "transform": Affine(metres, 0, left, 0, -metres, top)}


def read_tiles(target: Path) -> tuple[Tiles, dict[str, Any]]:
    """Return all tiles and the metadata."""
    if target.suffix == ".pmtiles":
        with target.open("rb") as file:
            reader = Reader(MmapSource(file))
            found = {
                place: Image.open(io.BytesIO(png)) for place, png in all_tiles(reader.get_bytes)
            }
            return found, reader.metadata()
    if target.suffix == ".mbtiles":
        database = sqlite3.connect(target)
        rows = database.execute("select * from tiles").fetchall()
        found = {(z, x, 2**z - 1 - y): Image.open(io.BytesIO(png)) for z, x, y, png in rows}
        facts = dict(database.execute("select * from metadata").fetchall())
        database.close()
        return found, facts
    paths = list(target.glob("*/*/*.png"))
    found = {}
    for path in paths:
        with Image.open(path) as tile:
            tile.load()
            found[int(path.parts[-3]), int(path.parts[-2]), int(path.stem)] = tile
    return found, json.loads((target / "tiles.json").read_text(encoding="utf-8"))


def pixels(tile: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(tile.convert("RGBA"))


@pytest.mark.parametrize("name", ["map.pmtiles", "map.mbtiles", "map/{z}/{x}/{y}.png"])
def test_a_scene_on_the_grid_of_the_tiles_comes_out_as_it_is(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, name: str
) -> None:
    """Two by three tiles around a corner of four tiles of zoom 15 that share one of zoom 14."""
    colours = noise(2 * SIDE, 3 * SIDE)
    source = make_scene(colours, georeference=mercator(17, 70_000, 45_000))
    target = translate_raster(source, tmp_path / name, make_model((0.1, 10)), OPTIONS)
    assert target == tmp_path / name.partition("/")[0]
    tiles, facts = read_tiles(target)
    highest = {place[1:]: pixels(tile) for place, tile in tiles.items() if place[0] == 17}
    assert len(highest) == 6
    for (x, y), tile in highest.items():
        top, left = (y - 45_000) * SIDE, (x - 70_000) * SIDE
        assert np.array_equal(tile[..., :3], colours[top : top + SIDE, left : left + SIDE])
        assert tiles[17, x, y].mode == "RGB"
    assert min(place[0] for place in tiles) == 15
    assert sorted(place for place in tiles if place[0] == 15) == [(15, 17_500, 11_250)]
    below = pixels(tiles[16, 35_000, 22_500])
    assert np.array_equal(below[..., :3], halved(four(highest, 70_000, 45_000))[..., :3])
    edge = pixels(tiles[16, 35_001, 22_500])
    assert edge[:, :128, 3].all() and not edge[:, 128:].any()
    assert facts["name"] == "scene"
    assert facts["attribution"] == OPTIONS.attribution
    assert "translated with the model identity by sat2map" in facts["description"]
    assert (int(facts["minzoom"]), int(facts["maxzoom"])) == (15, 17)
    with rasterio.open(source) as file:
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    told = facts["bounds"]
    given = [float(v) for v in told.split(",")] if isinstance(told, str) else told
    assert given == pytest.approx(bounds, abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "scene.tif"]


def four(tiles: dict[tuple[int, int], NDArray[np.uint8]], x: int, y: int) -> NDArray[np.uint8]:
    rows = [np.hstack([tiles[x, y + down], tiles[x + 1, y + down]]) for down in (0, 1)]
    return np.vstack(rows)


def test_all_three_hold_the_same_tiles(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    """In another projection, with some nodata, of a size that fits no tile."""
    shown = np.ones((700, 900), bool)
    shown[:200, :300] = False
    source = make_scene(smooth(700, 900), mask=shown)
    found = []
    for name in ("map.pmtiles", "map.mbtiles", "map/{z}/{x}/{y}.png"):
        target = translate_raster(source, tmp_path / name, make_model(), OPTIONS)
        tiles, _ = read_tiles(target)
        found.append({place: pixels(tile).tobytes() for place, tile in tiles.items()})
    assert found[0] == found[1] == found[2]
    with (tmp_path / "map.pmtiles").open("rb") as file:
        reader = Reader(MmapSource(file))
        header = reader.header()
        assert header["clustered"]
        assert header["addressed_tiles_count"] == len(found[0])
        for place, png in all_tiles(reader.get_bytes):
            assert reader.get(*place) == png
    with rasterio.open(tmp_path / "map.mbtiles") as file:  # GDAL's driver
        assert file.driver == "MBTiles"
        assert file.crs == CRS.from_epsg(3857)
        red, green, blue, alpha = file.read()
        rows, columns = np.mgrid[100:700:97, 20:900:101]
        hidden = ~shown[rows, columns]
        with rasterio.open(source) as scene:
            xs, ys = scene.transform @ (columns.ravel() + 0.5, rows.ravel() + 0.5)
            xs, ys = transform(scene.crs, file.crs, xs, ys)
            original = scene.read()[:, rows, columns]
        places = [file.index(x, y) for x, y in zip(xs, ys, strict=True)]
        at = tuple(np.array(places).T.reshape(2, *rows.shape))
        assert (alpha[at] == 0)[hidden].all() and (alpha[at] == 255)[~hidden].all()
        tile = np.stack([red[at], green[at], blue[at]]).astype(int)
        assert np.abs(tile - original)[:, ~hidden].max() < 20  # half a pixel aside at most
    edge = alpha[(alpha > 0) & (alpha < 255)]
    assert len(edge) < 8000  # only along the outline


def test_legend_colours_are_a_palette(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source, target = make_scene(smooth(700, 900)), tmp_path / "map.mbtiles"
    options = replace(OPTIONS, legend_colours=True)
    translate_raster(source, target, make_model(legend=STREETS), options)
    tiles, _ = read_tiles(target)
    colours = {tuple(colour) for colour in STREETS.colours.tolist()}
    for tile in tiles.values():
        assert tile.mode == "P"
        flat = pixels(tile).reshape(-1, 4)
        assert {tuple(c) for c in np.unique(flat[flat[:, 3] > 0, :3], axis=0).tolist()} <= colours
        assert set(np.unique(flat[:, 3]).tolist()) <= {0, 255}
    many = tmp_path / "many.mbtiles"
    translate_raster(source, many, make_model(), OPTIONS)
    assert target.stat().st_size < many.stat().st_size / 3
    with rasterio.open(target) as file:
        read = file.read()
    assert len(read) == 4
    assert (read[3] > 0).mean() > 0.6


def test_a_scene_across_the_antimeridian(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    colours = smooth(400, 1000)
    for number, georeference in enumerate(
        (
            {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 179.995, 0, -1e-5, 0.002)},
            {"crs": "EPSG:32660", "transform": Affine(1, 0, 833_428, 0, -1, 5_000)},
        )
    ):
        source = make_scene(colours, f"{number}.tif", georeference=georeference)
        target = tmp_path / f"{number}.mbtiles"
        translate_raster(source, target, make_model(), OPTIONS)
        tiles, facts = read_tiles(target)
        highest = max(place[0] for place in tiles)
        columns = {place[1] for place in tiles if place[0] == highest}
        assert {0, 2**highest - 1} <= columns
        assert min(place[0] for place in tiles) == 0
        assert facts["bounds"].startswith("-180.0,")
        with rasterio.open(source) as scene:
            middle = transform(scene.crs, "EPSG:4326", *([v] for v in scene.xy(200, 500)))[0][0]
        centre = float(facts["center"].split(",")[0])
        assert min(abs(centre - middle), 360 - abs(centre - middle)) < 1e-4
        archive = target.with_suffix(".pmtiles")
        translate_raster(source, archive, make_model(), OPTIONS)
        with archive.open("rb") as file:
            assert Reader(MmapSource(file)).header()["center_lon_e7"] == round(centre * 1e7)
        shown = sum((pixels(t)[..., 3] > 0).sum() for p, t in tiles.items() if p[0] == highest)
        assert shown == pytest.approx(colours.shape[0] * colours.shape[1] / 1.2**2, rel=0.3)


def test_where_no_tile_can_be(make_scene: MakeScene, make_model: MakeModel, tmp_path: Path) -> None:
    plain = make_scene(noise(20, 20), "plain.tif", georeference={})
    with pytest.raises(UsageError, match="does not say where on the ground it lies"):
        translate_raster(plain, tmp_path / "map.mbtiles", make_model(), OPTIONS)
    pole = {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 10, 0, -1e-5, 89)}
    with pytest.raises(UsageError, match=r"web's map ends at 85\.05 degrees"):
        translate_raster(
            make_scene(noise(20, 20), "pole.tif", georeference=pole),
            tmp_path / "map.mbtiles",
            make_model(),
            OPTIONS,
        )
    source = make_scene(noise(20, 20))
    with pytest.raises(UsageError, match="`compare`"):
        translate_raster(
            source, tmp_path / "map.pmtiles", make_model(), replace(OPTIONS, compare=True)
        )
    (tmp_path / "tiles").mkdir()
    translate_raster(source, tmp_path / "tiles/{z}/{x}/{y}.png", make_model(), OPTIONS)
    with pytest.raises(OutputError, match="tiles: exists already"):
        translate_raster(source, tmp_path / "tiles/{z}/{x}/{y}.png", make_model(), OPTIONS)
    with pytest.raises(UsageError, match="is not a pattern in which tiles are written"):
        translate_raster(source, tmp_path / "tiles/{x}/{y}.png.mbt", make_model(), OPTIONS)
    with pytest.raises(UsageError, match="is not a name for the map"):
        translate_raster(source, tmp_path / "map.mbt", make_model(), OPTIONS)


def test_without_pmtiles_the_extra_is_named(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pmtiles"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sat2map\[pmtiles\]'"):
        translate_raster(make_scene(noise(20, 20)), tmp_path / "map.pmtiles", make_model())
    translate_raster(make_scene(noise(20, 20)), tmp_path / "map.mbtiles", make_model())


def test_many_segments_make_one_archive(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = make_scene(noise(600, 900)), tmp_path / "map.pmtiles"
    translate_raster(source, target, make_model(), OPTIONS)
    expected = target.read_bytes()
    monkeypatch.setattr(archives, "SEGMENT", 100_000)
    translate_raster(source, target, make_model(), OPTIONS)
    assert target.read_bytes() == expected


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.floats(-179, 178),
    st.floats(-80, 80),
    st.floats(0.05, 5000),
)
def test_a_pyramid_goes_from_one_tile_to_the_scenes_own_resolution(
    height: int, width: int, west: float, north: float, metres: float
) -> None:
    degrees = metres / 111_320
    grid = Grid(height, width, Affine(degrees, 0, west, 0, -degrees, north), CRS.from_epsg(4326))
    assume(north - height * degrees > -85 and west + width * degrees < 180)
    pyramid = pyramid_of(grid, Path("map.mbtiles"))
    assert 0 <= pyramid.lowest <= pyramid.highest <= 24
    assert sum(len(xs) * len(ys) for xs, ys in pyramid.parts(pyramid.lowest)) == 1
    for zoom in range(pyramid.lowest, pyramid.highest):
        for columns, rows in pyramid.parts(zoom + 1):
            for x, y in ((columns[0], rows[0]), (columns[-1], rows[-1])):
                assert pyramid.touches(zoom + 1, x, y)
                assert pyramid.touches(zoom, x // 2, y // 2)


def test_halving() -> None:
    tile = np.zeros((2, 4, 4), np.uint8)
    tile[0, 0], tile[0, 1] = (200, 100, 0, 255), (100, 100, 0, 255)
    assert halved(tile).tolist() == [[[150, 100, 0, 128], [0, 0, 0, 0]]]
    classes = np.array([[1, 2, 3, 3], [2, 2, 4, 1], [1, 9, 9, 9], [9, 9, 9, 9]], np.uint8)
    assert halved_classes(classes, 9).tolist() == [[2, 3], [1, 9]]


def test_what_is_small_stays_to_be_seen() -> None:
    tile, classes = np.zeros((256, 256, 4), np.uint8), np.full((256, 256), 9, np.uint8)
    tile[5, 7], classes[5, 7] = (10, 20, 30, 255), 3
    for _ in range(8):
        tile, classes = halved(tile), halved_classes(classes, 9)
    assert tile.tolist() == [[[10, 20, 30, 1]]]
    assert classes.tolist() == [[3]]
