"""Scores of vectors against shapes whose metrics are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from pyproj import Transformer
from typer.testing import CliRunner

from sat2map.cli.app import app
from sat2map.errors import DataError, UsageError
from sat2map.evaluation.score import bootstrap, interval
from sat2map.evaluation.vectors import VectorScores, evaluate_vectors
from sat2map.legend import role_of

TO_DEGREES = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)


def write(path: Path, shapes: list[Any], **columns: list[Any]) -> Path:
    """Write shapes, in metres from a place in France, as GeoJSON in degrees."""

    def place(points: Any) -> Any:
        return np.column_stack(TO_DEGREES.transform(points[:, 0] + 500_000, points[:, 1] + 5e6))

    features = [
        {
            "type": "Feature",
            "properties": {name: values[row] for name, values in columns.items()},
            "geometry": json.loads(shapely.to_geojson(shapely.transform(shape, place))),
        }
        for row, shape in enumerate(shapes)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def values(scores: VectorScores) -> dict[str, float]:
    return {name: metric.mean for name, metric in scores.metrics.items()}


def house(x: float, y: float, side: float = 10.0) -> shapely.Polygon:
    return shapely.box(x, y, x + side, y + side)


CORNERS = [house(0, 0, 1), house(499, 499, 1)]
"""They let the region of both files be the same."""


def test_buildings_are_matched_by_their_overlap(tmp_path: Path) -> None:
    true = write(tmp_path / "true.json", [*CORNERS, house(50, 50), house(80, 50), house(110, 50)])
    found = write(
        tmp_path / "found.json",
        # One as it is, one of IoU 2/3, one of IoU 1/3, one that is not there.
        [*CORNERS, house(50, 50), house(82, 50), house(115, 50), house(300, 300)],
    )
    scores = evaluate_vectors(found, true, "buildings")
    got = values(scores)
    assert (scores.found, scores.true, scores.tiles) == (6, 5, 1)
    assert got["precision"] == pytest.approx(4 / 6)
    assert got["recall"] == pytest.approx(4 / 5)
    assert got["f1"] == pytest.approx(2 * 4 / 11)
    assert got["matched_iou"] == pytest.approx((3 + 2 / 3) / 4, abs=1e-4)
    assert got["right_corners"] == 1.0


def test_rows_count_as_one_where_that_is_asked_for(tmp_path: Path) -> None:
    row = [shapely.box(50 + 6 * n, 50, 56 + 6 * n, 60) for n in range(4)]
    ell = shapely.box(110, 50, 120, 60), shapely.box(112, 60.04, 120, 70)  # 4 cm apart
    apart = house(200, 50), house(210.5, 50)
    true = write(tmp_path / "true.json", [*CORNERS, *row, *ell, *apart])
    found = write(tmp_path / "found.json", [*CORNERS, shapely.union_all(row), *ell, *apart])
    strict = evaluate_vectors(found, true, "buildings")
    assert (strict.found, strict.true) == (7, 10)
    assert values(strict)["f1"] == pytest.approx(2 * 6 / 17)
    rows = evaluate_vectors(found, true, "buildings", rows_within_m=0.1)
    assert (rows.found, rows.true) == (6, 6)
    assert rows.protocol["rows_within_m"] == 0.1
    got = values(rows)
    assert got["f1"] == got["right_corners"] == got["true_right_corners"] == 1.0
    told = CliRunner().invoke(
        app,
        [
            "evaluate-vectors",
            str(found),
            str(true),
            "--layer",
            "buildings",
            "--json",
            "--rows-within",
            "0.1",
        ],
    )
    assert json.loads(told.stdout)["metrics"]["f1"]["mean"] == 1.0


def test_corners_are_right_within_two_degrees(tmp_path: Path) -> None:
    askew = shapely.Polygon([(50, 50), (70, 50), (70, 70), (52, 70)])  # 5.7 degrees at two corners
    # A point in the middle of a side is no corner.
    side = shapely.Polygon([(100, 50), (110, 50), (120, 50), (120, 70), (100, 70)])
    path = write(tmp_path / "true.json", [askew, side])
    got = values(evaluate_vectors(path, path, "buildings"))
    assert got["true_right_corners"] == got["right_corners"] == pytest.approx(6 / 8)


def test_nothing_found_is_a_score_of_zero(tmp_path: Path) -> None:
    true = write(tmp_path / "true.json", [*CORNERS, house(50, 50), house(80, 50)])
    found = write(tmp_path / "found.json", [house(-5, -5, 2), house(503, 503, 2)])
    got = values(evaluate_vectors(found, true, "buildings", bbox=None))
    assert got["f1"] == 0.0


def test_a_layer_without_any_shape_is_passed_over(tmp_path: Path) -> None:
    true = write(tmp_path / "true.json", [*CORNERS, house(50, 50)])
    shapes, path = geopandas.read_file(true), tmp_path / "found.gpkg"
    shapes.to_file(path, layer="buildings", engine="pyogrio")
    shapes[:0].to_file(path, layer="water", engine="pyogrio")
    assert values(evaluate_vectors(path, true, "buildings"))["f1"] == 1.0


def test_classes_of_another_role_are_passed_over(tmp_path: Path) -> None:
    assert role_of("highway") == "road"
    assert role_of("anything") == "other"
    path = write(
        tmp_path / "all.json",
        [house(50, 50), house(80, 50), shapely.LineString([(0, 0), (300, 0)])],
        **{"class": ["building", "water", "main_road"]},
    )
    assert evaluate_vectors(path, path, "buildings").true == 1


ROADS = [
    shapely.LineString([(0, 0), (300, 0)]),
    shapely.LineString([(300, 0), (300, 300)]),
    shapely.LineString([(300, 300), (0, 300)]),
]


def test_roads_that_are_the_truth_score_one(tmp_path: Path) -> None:
    path = write(tmp_path / "roads.json", ROADS, **{"class": ["road", "highway", "road"]})
    got = values(evaluate_vectors(path, path, "roads"))
    assert set(got) == {
        "apls_4m", "apls_true_to_found_4m", "apls_found_to_true_4m",
        "apls_15m", "apls_true_to_found_15m", "apls_found_to_true_15m",
        "cldice", "completeness", "correctness",
    }  # fmt: skip
    assert all(value == pytest.approx(1, abs=1e-6) for value in got.values())


def test_roads_beside_the_true_ones(tmp_path: Path) -> None:
    """Shifted by 5 m: outside of the buffer of 3 m, inside of the road, and of the lenient snap."""
    ends = [shapely.LineString([(p, p), (p + 5, p + 5)]) for p in (-50, 350)]
    true = write(tmp_path / "true.json", [*ROADS, *ends], width_m=[14.0] * 5)
    moved = [shapely.affinity.translate(road, 5, 5) for road in ROADS]
    found = write(tmp_path / "found.json", [*moved, *ends], width_m=[14.0] * 5)
    got = values(evaluate_vectors(found, true, "roads", tile_m=2000))
    assert max(got["completeness"], got["correctness"]) < 0.1
    assert got["cldice"] > 0.9
    assert got["apls_4m"] < 0.1
    assert got["apls_15m"] > 0.9
    assert values(evaluate_vectors(found, true, "roads", buffer_m=6))["completeness"] > 0.9


def test_a_missing_road_costs_completeness_alone(tmp_path: Path) -> None:
    true = write(tmp_path / "true.json", ROADS)
    found = write(tmp_path / "found.json", [ROADS[0], ROADS[2]])
    got = values(evaluate_vectors(found, true, "roads"))
    assert got["completeness"] == pytest.approx(606 / 900, abs=0.01)
    assert got["correctness"] == 1.0
    assert got["apls_found_to_true_4m"] == 1.0
    assert got["apls_true_to_found_4m"] < 0.5


def test_lines_meet_where_they_share_a_point(tmp_path: Path) -> None:
    """As in OpenStreetMap, where a way goes on through its crossings."""
    through = shapely.LineString([(0, 0), (150, 0), (300, 0)])
    side = shapely.LineString([(150, 0), (150, 200)])
    whole = write(tmp_path / "whole.json", [through, side])
    halves = [shapely.LineString([(0, 0), (150, 0)]), shapely.LineString([(150, 0), (300, 0)])]
    parts = write(tmp_path / "parts.json", [*halves, side])
    got = values(evaluate_vectors(whole, parts, "roads"))
    assert got["apls_4m"] == pytest.approx(1, abs=1e-6)


def test_roads_on_a_bridge_meet_where_that_is_asked_for(tmp_path: Path) -> None:
    """A road that bends over two others, which the found network has as crossings."""
    over = shapely.LineString([(0, 0), (100, 40), (300, 40)])
    below = [shapely.LineString([(x, -100), (x, 200)]) for x in (50, 200)]
    true = write(tmp_path / "true.json", [over, *below])
    legs = [
        shapely.LineString([(0, 0), (50, 20)]),
        shapely.LineString([(50, 20), (100, 40), (200, 40)]),
        shapely.LineString([(200, 40), (300, 40)]),
    ]
    halves = [
        shapely.LineString(ends)
        for x, y in ((50, 20), (200, 40))
        for ends in ([(x, -100), (x, y)], [(x, y), (x, 200)])
    ]
    found = write(tmp_path / "found.json", [*legs, *halves])
    apart = values(evaluate_vectors(found, true, "roads"))
    assert apart["apls_true_to_found_4m"] == pytest.approx(1, abs=1e-6)
    assert apart["apls_found_to_true_4m"] < 0.6
    scores = evaluate_vectors(found, true, "roads", bridges_meet=True)
    assert values(scores)["apls_4m"] == pytest.approx(1, abs=1e-6)
    assert values(scores)["cldice"] == pytest.approx(1, abs=1e-6)
    assert (scores.found, scores.true) == (7, 7)
    assert scores.protocol["bridges_meet"] is True


@pytest.mark.parametrize("code", [32631, 2154, 3857])
def test_files_may_be_in_any_projection(tmp_path: Path, code: int) -> None:
    """All of a large file is read, wherever it lies in its projection."""
    lines = [
        shapely.LineString([(x, y), (x + 400, y)])
        for x in range(-4000, 0, 400)
        for y in range(0, 4000, 500)
    ]
    true = write(tmp_path / "true.json", lines)
    frame = geopandas.read_file(true).to_crs(code)
    frame.to_file(tmp_path / "found.gpkg", layer="roads")
    for one, two in ((tmp_path / "found.gpkg", true), (true, tmp_path / "found.gpkg")):
        scores = evaluate_vectors(one, two, "roads", tile_m=10_000)
        assert (scores.found, scores.true, scores.tiles) == (80, 80, 1)
        got = values(scores)
        assert min(got["completeness"], got["correctness"]) > 0.9999


def test_intervals_are_over_tiles(tmp_path: Path) -> None:
    true = write(tmp_path / "true.json", ROADS)
    found = write(tmp_path / "found.json", [*ROADS[:2], shapely.LineString([(0, 299), (1, 300)])])
    scores = evaluate_vectors(found, true, "roads", tile_m=100)
    assert scores.tiles == 9
    metric = scores.metrics["completeness"]
    assert metric.low < metric.mean < metric.high
    sums = np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]])
    assert interval(bootstrap(*sums)[:, 0]).mean == 1.0
    assert np.isnan(bootstrap(np.zeros((2, 1)), np.zeros((2, 1)))).all()


def test_a_single_tile_has_intervals_over_its_blocks(tmp_path: Path) -> None:
    """They add up to the tile; ways through it do not."""
    true = write(tmp_path / "true.json", [house(x, y) for x in range(0, 300, 40) for y in (0, 150)])
    some = [*(house(x, 0) for x in range(0, 300, 40)), house(0, 150)]
    found = write(tmp_path / "found.json", some)
    scores = evaluate_vectors(found, true, "buildings", tile_m=1000)
    assert scores.tiles == 1
    metric = scores.metrics["recall"]
    assert metric.mean == pytest.approx(scores.found / scores.true)
    assert metric.low < metric.mean < metric.high
    assert "16 blocks of the tile" in scores.protocol["interval"]
    lines = write(tmp_path / "lines.json", ROADS)
    crumb = shapely.LineString([(0, 310), (1, 311)])  # the ground reaches as far
    some = write(tmp_path / "some.json", [*ROADS[:2], crumb])
    one, many = (
        evaluate_vectors(some, lines, "roads", tile_m=side).metrics for side in (1000, 100)
    )
    for name in ("completeness", "correctness", "cldice"):
        assert one[name].mean == pytest.approx(many[name].mean, abs=1e-6)
    assert one["completeness"].low < one["completeness"].mean
    assert one["apls_4m"].low == pytest.approx(one["apls_4m"].high)


def test_widths_are_taken_of_either_column(tmp_path: Path) -> None:
    """Joined files have both, each for some of the roads."""
    import geopandas

    true = write(tmp_path / "true.json", ROADS)
    frame = geopandas.read_file(true)
    both = frame.assign(
        width_m=[9.0 if n % 2 else None for n in range(len(frame))],
        drawn_width_m=[None if n % 2 else 9.0 for n in range(len(frame))],
    )
    both.to_file(tmp_path / "both.gpkg", layer="roads")
    frame.assign(width_m=9.0).to_file(tmp_path / "one.gpkg", layer="roads")
    got = [
        evaluate_vectors(tmp_path / name, true, "roads").metrics["cldice"].mean
        for name in ("both.gpkg", "one.gpkg")
    ]
    assert got[0] == got[1]


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    here = write(tmp_path / "here.json", [house(0, 0)])
    away = write(tmp_path / "away.json", [house(5000, 5000)])
    with pytest.raises(DataError, match=r"away\.json: lies elsewhere"):
        evaluate_vectors(away, here, "buildings")
    with pytest.raises(DataError, match=r"here\.json: has no lines of roads"):
        evaluate_vectors(here, here, "roads")
    with pytest.raises(UsageError, match="`buffer_m`: is 0"):
        evaluate_vectors(here, here, "buildings", buffer_m=0)
    with pytest.raises(DataError, match="there is no such file"):
        evaluate_vectors(tmp_path / "none.gpkg", here, "buildings")


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    path = write(tmp_path / "roads.json", ROADS)
    call = ["evaluate-vectors", str(path), str(path), "--layer", "roads", "--quiet"]
    lines = CliRunner().invoke(app, call).stdout.splitlines()
    assert lines[0].split() == ["apls_4m", "1.0000"]
    told = json.loads(CliRunner().invoke(app, [*call, "--json", "--tile", "100"]).stdout)
    assert told["layer"] == "roads"
    assert told["tiles"] == 9
    assert set(told["metrics"]["apls_15m"]) == {"mean", "low", "high"}
    assert told["protocol"]["buffer_m"] == 3
