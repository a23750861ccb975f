from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from fixtures.scenes import UTM, Identity, MakeModel, MakeScene, noise, write_shapes
from sat2map.errors import DataError, MissingExtraError, UsageError
from sat2map.raster import mask as module
from sat2map.raster.options import SceneOptions
from sat2map.raster.scene import Scene
from sat2map.translation.scene import translate_raster

SMALL = SceneOptions(window=64, overlap=16)
AREA = shapely.Polygon([(500_020, 4_999_980), (500_090, 4_999_960), (500_050, 4_999_900)])
"""A triangle in the coordinates of a scene, 20 pixels from its corner."""


def masked(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        found: np.ndarray = file.dataset_mask() > 0
        return found


def within(height: int, width: int) -> np.ndarray:
    """Return which pixels of the scene lie in AREA, by asking for each centre."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    found: np.ndarray = shapely.contains_xy(AREA, 500_000 + columns, 5_000_000 - rows)
    return found


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("driver", ["GPKG", "GeoJSON", "ESRI Shapefile", "FlatGeobuf"])
def test_outside_of_the_polygons_is_transparent(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, crs: str, driver: str
) -> None:
    if driver == "GeoJSON" and crs != "EPSG:4326":
        pytest.skip("GeoJSON is in degrees")
    suffix = {"GPKG": "gpkg", "GeoJSON": "json", "ESRI Shapefile": "shp", "FlatGeobuf": "fgb"}
    shape = shapely.geometry.shape(transform_geom(UTM["crs"], crs, shapely.geometry.mapping(AREA)))
    far = shapely.geometry.box(10, 10, 11, 11)
    area = write_shapes(tmp_path / f"area.{suffix[driver]}", [shape, far], crs, driver)
    pixels = noise(120, 120)
    options = replace(SMALL, mask=area)
    translate_raster(make_scene(pixels), tmp_path / "map.tif", make_model(), options)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.bounds == (500_000, 4_999_880, 500_120, 5_000_000)
        assert '"mask": "area.' in file.tags()["SAT2MAP_PARAMETERS"]
        found = file.read().transpose(1, 2, 0)
    shown, expected = masked(tmp_path / "map.tif"), within(120, 120)
    assert (shown != expected).sum() <= 4, "only centres that lie on an edge may differ"
    assert np.array_equal(found[shown], pixels[shown])
    assert not found[~shown].any()


@pytest.mark.parametrize("known", [1.0, 3.0, 0.6])
def test_windows_outside_cost_nothing_and_those_inside_are_whole(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, known: float
) -> None:
    """The map is that of the whole scene, cut out, whatever the scale."""
    network = Identity(4)
    scene, area = make_scene(noise(400, 400)), write_shapes(tmp_path / "area.gpkg", [AREA])
    model = make_model((known, known), network=network)
    translate_raster(scene, tmp_path / "whole.tif", model, SMALL)
    windows = len(network.seen)
    translate_raster(scene, tmp_path / "part.tif", model, replace(SMALL, mask=area))
    assert len(network.seen) - windows < windows
    with rasterio.open(tmp_path / "whole.tif") as one, rasterio.open(tmp_path / "part.tif") as two:
        shown = two.dataset_mask() > 0
        assert np.array_equal(one.read()[:, shown], two.read()[:, shown])
    assert np.array_equal(shown, within(400, 400))


def test_holes_and_several_polygons(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    ring = shapely.box(500_000, 4_999_970, 500_030, 5_000_000)
    ring -= shapely.box(500_010, 4_999_980, 500_020, 4_999_990)
    both = shapely.MultiPolygon([ring, shapely.box(500_050, 4_999_950, 500_060, 4_999_960)])
    area = write_shapes(tmp_path / "area.gpkg", [both])
    translate_raster(
        make_scene(noise(80, 80)), tmp_path / "map.tif", make_model(), replace(SMALL, mask=area)
    )
    expected = np.zeros((80, 80), bool)
    expected[:30, :30] = True
    expected[10:20, 10:20] = False
    expected[40:50, 50:60] = True
    assert np.array_equal(masked(tmp_path / "map.tif"), expected)


def test_a_scene_across_the_antimeridian(make_scene: MakeScene, tmp_path: Path) -> None:
    place = {"crs": "EPSG:4326", "transform": Affine(0.01, 0, 179.5, 0, -0.01, 1)}
    area = write_shapes(tmp_path / "area.gpkg", [shapely.box(-180, 0.2, -179.8, 0.6)], "EPSG:4326")
    with Scene(make_scene(noise(100, 100), georeference=place), 3) as scene:
        inside = module.Mask(area, scene.grid, "scene").inside(scene.grid)
    expected = np.zeros((100, 100), bool)
    expected[40:80, 50:70] = True
    assert np.array_equal(inside, expected)


def test_files_that_are_no_mask(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.gpkg").write_text("text")
    (tmp_path / "broken.json").write_text(json.dumps({"type": "nothing"}))
    line = write_shapes(tmp_path / "line.gpkg", [shapely.LineString([(0, 0), (1, 1)])])
    far = write_shapes(tmp_path / "far.gpkg", [shapely.box(0, 0, 1, 1)])
    scene = make_scene(noise(20, 20))
    nowhere = make_scene(noise(20, 20), "nowhere.tif", georeference={})
    for source, area, kind, words in (
        (scene, tmp_path / "no.gpkg", DataError, r"no\.gpkg: there is no such file"),
        (scene, tmp_path / "text.gpkg", DataError, r"text\.gpkg: cannot be read"),
        (scene, tmp_path / "broken.json", DataError, r"broken\.json: "),
        (scene, line, DataError, r"line\.gpkg: holds no polygons"),
        (scene, far, UsageError, r"far\.gpkg: the scene .*scene\.tif lies wholly outside"),
        (nowhere, far, UsageError, "`mask`: .*nowhere.tif has no coordinate reference system"),
    ):
        with pytest.raises(kind, match=words):
            translate_raster(source, tmp_path / "map.tif", make_model(), replace(SMALL, mask=area))
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"sat2map\[cartography\]"):
        translate_raster(scene, tmp_path / "map.tif", make_model(), replace(SMALL, mask=far))
    assert not (tmp_path / "map.tif").exists()


def test_polygons_without_coordinates_are_taken_for_the_scenes(
    make_scene: MakeScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(UserWarning, match="crs"):  # pyogrio's own
        area = write_shapes(tmp_path / "area.shp", [AREA], None, "ESRI Shapefile")
    with Scene(make_scene(noise(120, 120)), 3) as scene:
        inside = module.Mask(area, scene.grid, "scene").inside(scene.grid)
    assert np.array_equal(inside, within(120, 120))
    assert "area.shp: has no coordinate reference system" in caplog.text
