from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine
from typer.testing import CliRunner

from fixtures.scenes import MakeScene, write_shapes
from sat2map.cli.app import app
from sat2map.errors import DataError
from sat2map.vectors.report import report_classes
from sat2map.vectors.vectorise import vectorise

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)


def village() -> NDArray[np.uint8]:
    numbers = np.full((160, 160), LAND, np.uint8)
    numbers[100:, :60] = VEGETATION
    numbers[76:84] = ROAD
    for row, column in ((20, 20), (20, 60), (50, 120), (120, 120)):
        numbers[row : row + 14, column : column + 18] = BUILDING
    numbers[5, 5] = WATER  # too small
    return numbers


@pytest.mark.parametrize("side", [2048, 64, 33])
def test_areas_counts_and_roads(make_scene: MakeScene, side: int) -> None:
    path = make_scene(village()[..., None])
    whole = report_classes(path, legend="cover", side=side).whole
    classes = {entry.name: entry for entry in whole.classes}
    # On the ground a metre of UTM is 1.0004 m here.
    assert whole.area_m2 == pytest.approx(160 * 160, rel=2e-3)
    assert classes["building"].area_m2 == pytest.approx(4 * 14 * 18, rel=2e-3)
    assert classes["building"].count == 4
    assert classes["vegetation"].area_m2 == pytest.approx(60 * 60, rel=2e-3)
    assert classes["vegetation"].count == classes["road"].count == 1
    assert classes["land"].count == 2  # on both sides of the road
    assert classes["water"].count == 0
    assert classes["road"].share == pytest.approx(8 / 160)
    assert sum(entry.share for entry in whole.classes) == pytest.approx(1)
    assert whole.road_m == pytest.approx(160, rel=0.02)
    assert whole.road_ha == pytest.approx(0.128, rel=2e-3)
    assert whole.buildings_per_ha == pytest.approx(4 / 2.56, rel=2e-3)


def test_zones_have_their_parts_and_may_overlap(make_scene: MakeScene, tmp_path: Path) -> None:
    pytest.importorskip("pyogrio")
    path = make_scene(village()[..., None])
    west, north = 500_000, 5_000_000
    upper = shapely.box(west, north - 80, west + 160, north)
    left = shapely.box(west - 50, north - 200, west + 50, north)
    zones = write_shapes(tmp_path / "zones.gpkg", [upper, left])
    for side in (2048, 50):
        one, other = report_classes(path, legend="cover", zones=zones, side=side).zones
        counts = [{e.name: e.count for e in zone.classes} for zone in (one, other)]
        assert counts[0]["building"] == 3
        assert counts[1]["building"] == 1
        assert one.area_m2 == pytest.approx(80 * 160, rel=2e-3)
        assert other.area_m2 == pytest.approx(50 * 160, rel=2e-3)
        assert other.road_m == pytest.approx(50, abs=2)
        assert other.road_ha == pytest.approx(0.04, rel=2e-3)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2263"])
def test_degrees_and_feet_give_the_same_numbers(
    make_scene: MakeScene, tmp_path: Path, crs: str
) -> None:
    """The same ground and the same zone, in three kinds of coordinates."""
    from pyproj import Transformer

    pytest.importorskip("pyogrio")
    place = (-73.95, 40.7)
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*place)
    metres = {"EPSG:4326": (1 / 84_490, 1 / 111_041), "EPSG:2263": (1 / 0.3048006,) * 2}[crs]
    transform = Affine(metres[0], 0, x, 0, -metres[1], y)
    path = make_scene(village()[..., None], georeference={"crs": crs, "transform": transform})
    lower, right = y - 80 * metres[1], x + 50 * metres[0]
    zone = shapely.box(x - 90 * metres[0], lower - 300 * metres[1], right, y + 10 * metres[1])
    zones = write_shapes(tmp_path / "zones.gpkg", [zone], crs)
    report = report_classes(path, legend="cover", zones=zones)
    (told,) = report.zones
    assert report.whole.area_m2 == pytest.approx(160 * 160, rel=2e-3)
    assert report.whole.road_m == pytest.approx(160, rel=0.02)
    assert report.whole.road_ha == pytest.approx(0.128, rel=2e-3)
    assert report.whole.buildings_per_ha == pytest.approx(4 / 2.56, rel=2e-3)
    assert told.area_m2 == pytest.approx(50 * 160, rel=2e-3)
    assert told.road_m == pytest.approx(50, abs=1)
    assert {e.name: e.count for e in told.classes}["building"] == 1


def test_what_the_report_says_is_what_the_vectors_have(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    path = make_scene(village()[..., None])
    whole = report_classes(path, legend="cover").whole
    town = vectorise(path, tmp_path / "town.gpkg", legend="cover")
    meta, _, _, values = pyogrio.raw.read(town, layer="coverage")
    facts = dict(zip(meta["fields"], values, strict=True))
    for entry in whole.classes:
        own = facts["class"] == entry.name
        assert len(set(facts["part_of"][own])) == entry.count
        assert facts["area_m2"][own].sum() == pytest.approx(entry.area_m2, rel=0.01)
    meta, _, _, values = pyogrio.raw.read(town, layer="roads")
    metres = dict(zip(meta["fields"], values, strict=True))["length_m"].sum()
    assert whole.road_m == pytest.approx(metres)


def test_zones_that_lie_elsewhere_are_left_out_aloud(
    make_scene: MakeScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pyogrio")
    path = make_scene(village()[..., None])
    own, away = shapely.box(500_000, 4_999_900, 500_050, 5_000_000), shapely.box(0, 0, 10, 10)
    zones = write_shapes(tmp_path / "zones.gpkg", [own, away])
    assert len(report_classes(path, legend="cover", zones=zones).zones) == 1
    assert "zones.gpkg: 1 of its 2 shapes are no zones on" in caplog.text


def test_zones_elsewhere_are_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    pytest.importorskip("pyogrio")
    path = make_scene(village()[..., None])
    zones = write_shapes(tmp_path / "zones.gpkg", [shapely.box(0, 0, 10, 10)])
    with pytest.raises(DataError, match="has no polygons on"):
        report_classes(path, legend="cover", zones=zones)


def test_a_map_of_nothing_is_told(make_scene: MakeScene) -> None:
    path = make_scene(np.full((20, 20, 1), 255, np.uint8), nodata=255)
    with pytest.raises(DataError, match="has no valid pixel"):
        report_classes(path, legend="cover")


def test_the_command_prints_text_or_json_and_writes_a_page(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    path = make_scene(village()[..., None])
    page = tmp_path / "report.html"
    told = CliRunner().invoke(
        app, ["report", str(path), "--legend", "cover", "--html", str(page), "-q"]
    )
    assert told.exit_code == 0, told.output
    assert "building" in told.stdout
    assert "vegetation" in page.read_text()
    told = CliRunner().invoke(app, ["report", str(path), "--legend", "cover", "--json", "-q"])
    facts = json.loads(told.stdout)
    assert facts["whole"]["classes"][BUILDING]["count"] == 4
