from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import batches, moved_to_balance, side_by_side, trace_arcs


def test_arcs_run_from_junction_to_junction() -> None:
    labels = np.array([[0, 0, 1], [2, 1, 1]])
    arcs = trace_arcs(labels, smooth=False)
    found = {tuple(map(tuple, shapely.get_coordinates(arc).astype(int))) for arc in arcs}
    ends = {frozenset((line[0], line[-1])) for line in found}
    assert ends == {
        frozenset(((0, 1), (1, 1))),  # between 0 and 2
        frozenset(((1, 1), (2, 0))),  # between 0 and 1
        frozenset(((1, 1), (1, 2))),  # between 2 and 1
    }


def test_a_border_without_junction_is_closed_and_begins_at_its_uppermost_corner() -> None:
    labels = np.zeros((5, 6), int)
    labels[1:4, 2:5] = 1
    (arc,) = trace_arcs(labels, smooth=False)
    points = shapely.get_coordinates(arc)
    assert points[0].tolist() == points[-1].tolist() == [2, 1]
    assert shapely.Polygon(points).equals(shapely.box(2, 1, 5, 4))


def test_stairs_become_a_straight_line() -> None:
    labels = np.tri(12, dtype=int)
    (arc,) = trace_arcs(labels)
    points = shapely.get_coordinates(arc)[1:-1]  # without the ends, which lie at the edge
    assert len(points) <= 4
    assert np.ptp(points[:, 0] - points[:, 1]) <= 0.5


def test_borders_of_one_label_can_keep_its_area() -> None:
    labels = np.zeros((7, 7), int)
    labels[1, 1] = labels[4:6, 4:6] = 1
    labels[1, 4] = 2
    areas = [shapely.Polygon(arc.coords).area for arc in trace_arcs(labels, exact=1)]
    assert sorted(areas)[1:] == [1, 4]
    assert min(areas) < 1  # the other is smoothed


def test_pixels_that_touch_at_a_corner_do_not_belong_together() -> None:
    chess = np.indices((4, 4)).sum(0) % 2
    edge = shapely.box(0, 0, 4, 4).exterior
    lines = [*trace_arcs(chess, smooth=False), edge]
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all(lines)]))
    assert len(faces) == 16


@pytest.mark.parametrize("smooth", [False, True])
def test_a_raster_of_one_class_has_no_borders(smooth: bool) -> None:
    assert len(trace_arcs(np.ones((3, 4), np.uint8), smooth=smooth)) == 0
    assert len(trace_arcs(np.ones((1, 1), np.uint8), smooth=smooth)) == 0


def test_rasters_side_by_side_keep_their_labels_apart() -> None:
    rasters = [np.pad(np.full(size, 2, np.int32), 1) for size in ((3, 4), (1, 9), (2, 2))]
    rasters[0][1, 1] = 1
    canvas, corners = side_by_side(rasters)
    assert sorted(np.unique(canvas)) == [0, 1, 2, 4, 6]
    for raster, (row, column), above in zip(rasters, corners, (0, 2, 4), strict=True):
        part = canvas[row : row + raster.shape[0], column : column + raster.shape[1]]
        assert np.array_equal(part, np.where(raster > 0, raster + above, 0))


@pytest.mark.parametrize("seed", range(6))
def test_arcs_of_noise_are_all_borders_each_once(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 2 + seed % 3, (17, 23))
    arcs = trace_arcs(labels, smooth=False)
    length = np.count_nonzero(labels[1:] != labels[:-1])
    length += np.count_nonzero(labels[:, 1:] != labels[:, :-1])
    assert shapely.length(arcs).sum() == length
    assert shapely.length(shapely.union_all(arcs)) == length
    for points in map(shapely.get_coordinates, arcs):
        inner = {tuple(point) for point in points[1:-1].tolist()}
        assert len(inner) == len(points) - 2
        assert not inner & {tuple(points[0].tolist()), tuple(points[-1].tolist())}


def halves(lead: float, other: float) -> tuple[Any, NDArray[np.uint8], NDArray[np.float32]]:
    labels = np.zeros((6, 8), np.uint8)
    labels[:, 4:] = 1
    sure = np.where(labels == 0, np.float32(lead), np.float32(other))
    arcs = trace_arcs(labels, thin=False)
    edge = shapely.boundary(shapely.box(0, 0, 8, 6))
    lines = shapely.union_all([*arcs, edge])
    return shapely.get_parts(shapely.polygonize(shapely.get_parts(lines))), labels, sure


def test_an_arc_lies_where_both_labels_are_as_likely() -> None:
    polygons, labels, lead = halves(0.6, 0.2)
    moved = moved_to_balance(polygons, labels, lead)
    # From the middle of the one pixel, 3.5, it is 0.6 / (0.6 + 0.2) to the zero between both.
    x = np.unique(shapely.get_coordinates(moved)[:, 0].round(6))
    assert x.tolist() == [0.0, 4.0, 4.25, 8.0]  # junctions with the edge stay
    assert shapely.coverage_is_valid(moved)
    assert shapely.area(moved).sum() == pytest.approx(48)
    turned = moved_to_balance(*halves(0.2, 0.6))
    assert np.unique(shapely.get_coordinates(turned)[:, 0].round(6)).tolist() == [0, 3.75, 4, 8]
    same = moved_to_balance(*halves(0.4, 0.4))
    assert shapely.equals_exact(same, halves(0.4, 0.4)[0], 1e-6).all()


def test_where_nothing_tells_an_arc_stays() -> None:
    polygons, labels, lead = halves(0.6, 0.2)
    lead[2] = np.nan
    points = shapely.get_coordinates(moved_to_balance(polygons, labels, lead))
    assert set(points[points[:, 1] == 2.5][:, 0].tolist()) == {4.0}
    assert np.allclose(points[points[:, 1] == 3.5][:, 0], 4.25)


def test_arcs_of_noise_stay_a_coverage_with_the_same_polygons() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, (40, 40)).astype(np.uint8)
    lead = random.uniform(0.02, 1, labels.shape).astype(np.float32)
    arcs = trace_arcs(labels, thin=False)
    lines = shapely.union_all([*arcs, shapely.boundary(shapely.box(0, 0, 40, 40))])
    polygons = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    moved = moved_to_balance(polygons, labels, lead)
    assert len(moved) == len(polygons)
    assert shapely.is_valid(moved).all() and shapely.coverage_is_valid(moved)
    assert shapely.area(moved).sum() == pytest.approx(1600)
    assert not shapely.equals_exact(moved, polygons, 0.1).all()


def test_rasters_are_taken_in_batches_that_leave_none_out() -> None:
    sizes = [1 << 19, 1 << 19, 1, 1 << 22, 5, 6]
    assert [sizes[batch] for batch in batches(sizes)] == [
        [1 << 19, 1 << 19],
        [1],
        [1 << 22],
        [5, 6],
    ]
    assert list(batches([])) == []
