"""Tiles equal the file: GDAL warps what `translate --classes` writes to the same."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from fixtures.scenes import MakeScene, noise, smooth, with_classes
from sat2map.geo.grid import Grid, project
from sat2map.geo.web_mercator import position
from sat2map.legend import COVER, STREETS
from sat2map.raster.options import SceneOptions
from sat2map.raster.pyramid import HIGHEST, pyramid_of
from sat2map.serve import tiles as web_tiles
from sat2map.serve.overviews import NOTHING
from sat2map.serve.tiles import Tile
from sat2map.translation.classes import translate_classes
from sat2map.translation.scene import translate_raster

from .conftest import CORE, Start

EQUAL = 0.995
"""The share of pixels that have to be equal; the rest is the rounding of warps."""

NORTH_UP = Affine(1, 0, 500_000, 0, -1, 5_000_000)
TURNED = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(1, -1)
PLACES = {
    "UTM": {"crs": "EPSG:32633", "transform": NORTH_UP},
    "turned": {"crs": "EPSG:32633", "transform": TURNED},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1.3e-5, 0, 13.4, 0, -9e-6, 45)},
    "antimeridian": {"crs": "EPSG:4326", "transform": Affine(1.3e-5, 0, 179.999, 0, -9e-6, 45)},
    "south": {"crs": "EPSG:32733", "transform": Affine(1, 0, 400_000, 0, -1, 6_200_000)},
    "Mercator": {"crs": "EPSG:3857", "transform": Affine(1.19, 0, 8_000, 0, -1.19, 4_000_000)},
}


def blocks(height: int, width: int) -> Any:
    """Return an image of blocks, in which classes change along straight lines."""
    return np.kron(noise(height // 10, width // 10), np.ones((10, 10, 1), np.uint8))


@pytest.mark.parametrize("place", PLACES)
def test_tiles_of_classes_are_what_gdal_makes_of_the_class_map(
    make_scene: MakeScene, start: Start, tmp_path: Path, place: str
) -> None:
    pixels = blocks(150, 190)
    pixels[:30, :50] = 0
    source = make_scene(pixels, georeference=PLACES[place], nodata=0)
    model = with_classes((0.5, 2.0))
    written = translate_classes(
        source, tmp_path / "classes.tif", model, SceneOptions(window=CORE, resolution="model")
    )
    served = start(source, model=model)
    scene = served.scene()
    assert scene.results is not None
    assert scene.results.count > 4
    colours = np.zeros((256, 4), np.uint8)
    colours[: len(COVER)] = [(*entry.colour, 255) for entry in COVER.classes]
    native = scene.highest("classes")
    seen = set()
    with rasterio.open(written) as file:
        for zoom in (native, native + 1, native + 3):
            places = served.tiles(zoom)
            # The corners and what is between, not all of the finest zoom.
            for x, y in [*places[:2], places[len(places) // 2], *places[-2:]]:
                for scale, named in ((1, ""), (2, "@2x")):
                    tile = Tile(zoom, x, y, scale)
                    if not tile.touches(scene.bounds):
                        continue
                    path = f"/scenes/scene/{{}}/{zoom}/{x}/{y}{named}.png"
                    numbers = served.pixels(path.format("numbers"))
                    grid = tile.grid
                    turned = 360 if place == "antimeridian" and x < 100 else 0
                    with WarpedVRT(
                        file,
                        src_transform=Affine.translation(-turned, 0) @ file.transform,
                        crs=grid.crs,
                        transform=grid.transform,
                        width=grid.width,
                        height=grid.height,
                        resampling=Resampling.nearest,
                        nodata=NOTHING,
                    ) as warped:
                        expected = warped.read(1)
                    assert (numbers == expected).mean() >= EQUAL, (zoom, x, y)
                    seen |= set(np.unique(numbers).tolist())
                    assert np.array_equal(served.pixels(path.format("classes")), colours[numbers])
    assert NOTHING in seen
    assert len(seen) > 3


@pytest.mark.parametrize("legend", ["cover", "map"])
def test_classes_are_of_the_legend_that_is_chosen(
    make_scene: MakeScene, start: Start, legend: str
) -> None:
    served = start(make_scene(blocks(60, 60)), class_legend=legend)
    known = COVER if legend == "cover" else STREETS
    assert served.scene().legend == known
    told = served.client.get("/scenes/scene/legend").json()
    assert [entry["name"] for entry in told["classes"]] == list(known.names)
    assert told["classes"][1]["colour"] == "#{:02x}{:02x}{:02x}".format(*known.colours[1])
    zoom = served.scene().highest("classes")
    x, y = served.tiles(zoom)[0]
    pixels = served.pixels(f"/scenes/scene/classes/{zoom}/{x}/{y}.png")
    shown = {tuple(colour) for colour in pixels[pixels[..., 3] > 0][:, :3].tolist()}
    assert shown <= {entry.colour for entry in known.classes}
    assert len(shown) > 1


def test_maps_and_photos_are_those_of_the_file(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    source, model = make_scene(smooth(150, 190)), with_classes((0.5, 2.0))
    written = translate_raster(
        source, tmp_path / "map.tif", model, SceneOptions(window=CORE, resolution="model")
    )
    served = start(source, model=model)
    zoom = served.scene().highest("map")
    tiles = served.tiles(zoom)
    for layer, file in (("map", written), ("photo", source)):
        for x, y in tiles:
            grid = Tile(zoom, x, y).grid
            with (
                rasterio.open(file) as opened,
                WarpedVRT(
                    opened,
                    crs=grid.crs,
                    transform=grid.transform,
                    width=grid.width,
                    height=grid.height,
                    resampling=Resampling.bilinear,
                    add_alpha=True,
                ) as warped,
            ):
                expected = warped.read([1, 2, 3, warped.count]).transpose(1, 2, 0)
            found = served.pixels(f"/scenes/scene/{layer}/{zoom}/{x}/{y}.png")
            inside = (found[..., 3] > 0) & (expected[..., 3] > 0)
            assert (found[..., 3] == expected[..., 3]).mean() > EQUAL
            assert np.abs(found[inside].astype(int) - expected[inside])[:, :3].mean() < 1


@pytest.mark.parametrize("place", ["UTM", "turned", "degrees", "south"])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_tile_within_a_scene_is_what_gdal_makes_of_it(place: str, scale: int) -> None:
    """Pillow lays what GDAL would: to a level of 255, and the same classes."""
    facts = PLACES[place]
    grid = Grid(400, 400, facts["transform"], CRS.from_user_input(facts["crs"]))
    values, shown = smooth(400, 400), np.ones((400, 400), np.uint8)
    lon, lat = project(grid.crs, CRS.from_epsg(4326), np.array([grid.transform @ (200, 200)]))[0]
    zoom = pyramid_of(grid, Path("scene.tif")).highest + 2
    tile = Tile(zoom, *(int(v) for v in position(lon, lat, zoom)), scale)
    assert web_tiles._corners(tile, grid, nearest=False) is not None
    for layer, nearest in ((values, False), (values[..., 0], False), (values[..., 0], True)):
        ours, inside = web_tiles.warp(layer, shown, grid, tile, nearest=nearest)
        theirs, whole = web_tiles._warped(layer, shown, grid, tile, nearest=nearest)
        assert ours.shape == theirs.shape
        assert inside.all()
        assert whole.all()
        apart = np.abs(ours.astype(int) - theirs)
        assert (apart == 0).mean() >= EQUAL if nearest else apart.max() <= 1


def test_what_a_tile_is_coarser_than_or_reaches_beyond_is_left_to_gdal() -> None:
    grid = Grid(400, 400, NORTH_UP, CRS.from_epsg(32633))
    lon, lat = project(grid.crs, CRS.from_epsg(4326), np.array([NORTH_UP @ (200, 200)]))[0]
    coarse = Tile(16, *map(int, position(lon, lat, 16)))
    assert web_tiles._corners(coarse, grid, nearest=False) is None
    lon, lat = project(grid.crs, CRS.from_epsg(4326), np.array([NORTH_UP @ (1, 1)]))[0]
    edge = Tile(19, *map(int, position(lon, lat, 19)))
    assert web_tiles._corners(edge, grid, nearest=True) is None


def test_a_photo_is_shown_as_the_model_sees_it(make_scene: MakeScene, start: Start) -> None:
    pixels = smooth(60, 60).astype(np.uint16) * 10
    source = make_scene(pixels)
    from sat2map.raster.options import Reading

    bright = start(source, reading=Reading(value_range=(0, 2550)))
    zoom = bright.scene().highest("photo")
    x, y = bright.tiles(zoom)[0]
    path = f"/scenes/scene/photo/{zoom}/{x}/{y}.png"
    shown = bright.pixels(path)
    inside = shown[..., 3] > 0
    assert abs(int(shown[inside][:, 0].mean()) - int(pixels[..., 0].mean() / 10)) < 8
    swapped = start(source, reading=Reading(value_range=(0, 2550), bands=(3, 2, 1)))
    assert np.array_equal(swapped.pixels(path)[..., :3], shown[..., 2::-1])


def test_lower_zooms_are_made_of_what_finer_ones_show(make_scene: MakeScene, start: Start) -> None:
    model = with_classes((0.5, 2.0))
    served = start(make_scene(blocks(500, 380)), model=model)
    scene = served.scene()
    assert scene.results is not None
    for window in scene.results.all_windows():
        scene.results.ask(window, "test").future.result(60)
    computed = served.service.workshop.pool.computed
    native = scene.highest("classes")
    whole = None
    for zoom in range(native, native - 8, -1):
        tiles = served.tiles(zoom)
        shares = np.zeros(256)
        for x, y in tiles:
            answer = served.client.get(f"/scenes/scene/numbers/{zoom}/{x}/{y}.png")
            assert answer.headers.get("X-Sat2map-Complete") is None
            image = np.asarray(Image.open(io.BytesIO(answer.content)))
            shares += np.bincount(image.ravel(), minlength=256)
        shares = shares[: len(COVER)] / 4.0 ** (zoom - native)
        if whole is None:
            whole = shares
        if zoom > native - 3:  # the same ground, and about the same classes on it
            assert abs(shares.sum() / whole.sum() - 1) < 0.1
            assert abs(shares / shares.sum() - whole / whole.sum()).max() < 0.15
        assert shares.sum() > 0
    assert served.service.workshop.pool.computed == computed


def test_tiles_of_a_class_map_and_of_a_map_need_no_model(
    make_scene: MakeScene, start: Start, tmp_path: Path
) -> None:
    source, model = make_scene(blocks(150, 190)), with_classes((0.5, 2.0))
    classes = translate_classes(
        source, tmp_path / "classes.tif", model, SceneOptions(window=CORE, resolution="model")
    )
    drawn = translate_raster(
        source, tmp_path / "drawn.tif", model, SceneOptions(window=CORE, resolution="model")
    )
    served = start(source, classes, drawn, model=model)
    assert [served.scene(id).layers for id in ("scene", "classes", "drawn")] == [
        ("photo", "map", "classes", "confidence", "numbers"),
        ("classes", "numbers"),
        ("map",),
    ]
    zoom = served.scene().highest("classes")
    for x, y in served.tiles(zoom):
        tile = f"{zoom}/{x}/{y}"
        ours = served.pixels(f"/scenes/scene/classes/{tile}.png")
        theirs = served.pixels(f"/scenes/classes/classes/{tile}.png")
        assert (ours == theirs).all(2).mean() > EQUAL
        ours = served.pixels(f"/scenes/scene/map/{tile}.png")
        theirs = served.pixels(f"/scenes/drawn/map/{tile}.png")
        assert np.abs(ours.astype(int) - theirs).mean() < 2
    alone = start(classes, drawn)
    assert alone.service.workshop.model_name is None


def test_webp_shows_the_same_and_numbers_are_grey(make_scene: MakeScene, start: Start) -> None:
    served = start(make_scene(blocks(60, 60)))
    zoom = served.scene().highest("classes")
    x, y = served.tiles(zoom)[0]
    for layer in ("map", "classes", "confidence"):
        path = f"/scenes/scene/{layer}/{zoom}/{x}/{y}"
        png, webp = served.pixels(f"{path}.png"), served.pixels(f"{path}.webp")
        shown = png[..., 3] > 0
        assert np.array_equal(png[..., 3], webp[..., 3])
        assert np.array_equal(png[shown], webp[shown])
    answer = served.client.get(f"/scenes/scene/numbers/{zoom}/{x}/{y}.png")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).mode == "L"
    answer = served.client.get(f"/scenes/scene/photo/{zoom}/{x}/{y}@2x.webp")
    assert Image.open(io.BytesIO(answer.content)).size == (512, 512)


def test_a_tile_beside_the_scene_is_404_and_one_on_its_edge_is_200(
    make_scene: MakeScene, start: Start
) -> None:
    served = start(make_scene(blocks(60, 60)))
    zoom = served.scene().highest("classes")
    tiles = served.tiles(zoom)
    for x, y in tiles:
        assert served.client.get(f"/scenes/scene/map/{zoom}/{x}/{y}.png").status_code == 200
    left, top = min(x for x, _ in tiles), min(y for _, y in tiles)
    for x, y in ((left - 1, top), (left, top - 1), (left + 40, top), (0, 0)):
        assert served.client.get(f"/scenes/scene/map/{zoom}/{x}/{y}.png").status_code == 404
    for zoom in (0, HIGHEST):
        x, y = served.tiles(zoom)[0]
        assert served.client.get(f"/scenes/scene/map/{zoom}/{x}/{y}.png").status_code == 200
