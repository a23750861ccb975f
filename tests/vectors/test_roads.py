"""Roads of drawn masks: what is a road, where it meets another, and that windows do not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage import morphology
from skimage.filters import gaussian

from sat2map.geo.grid import Grid
from sat2map.legend import COVER
from sat2map.vectors.centre_lines import Reaches, fill_holes, thin
from sat2map.vectors.network import RoadLine, RoadNode
from sat2map.vectors.roads import trace_roads

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)


class ArrayScene:
    """A class map in memory, of which parts are read as of a `ClassMap`."""

    legend = COVER
    metres = (1.0, 1.0)

    def __init__(
        self,
        classes: NDArray[np.uint8],
        confidence: NDArray[np.float32] | None = None,
        roads: NDArray[np.float32] | None = None,
    ) -> None:
        self.grid = Grid(*classes.shape, Affine.identity(), None)
        self._classes, self._confidence, self._roads = classes, confidence, roads
        self.knows_confidence = confidence is not None
        self.knows_roads = roads is not None

    def _part(self, values: Any, row: int, column: int, height: int, width: int) -> Any:
        assert 0 <= row < row + height <= self.grid.height
        assert 0 <= column < column + width <= self.grid.width
        return values[row : row + height, column : column + width]

    def read(self, *part: int) -> NDArray[np.uint8]:
        return self._part(self._classes, *part)

    def read_confidence(self, *part: int) -> NDArray[np.float32] | None:
        return None if self._confidence is None else self._part(self._confidence, *part)

    def read_roads(self, *part: int) -> NDArray[np.float32]:
        return self._part(self._roads, *part)


def drawn(side: int, *lines: list[tuple[float, float]], width: int = 7) -> NDArray[np.uint8]:
    """Return a class map with roads along lines of (x, y), with round ends."""
    image = Image.new("L", (side, side), LAND)
    draw = ImageDraw.Draw(image)
    for line in lines:
        draw.line(line, fill=ROAD, width=width, joint="curve")
        for x, y in (line[0], line[-1]):
            r = width // 2
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ROAD)
    return np.array(image)


def found(
    classes: NDArray[np.uint8], window: int = 1024, **more: NDArray[np.float32]
) -> tuple[list[RoadNode], list[RoadLine]]:
    with trace_roads(ArrayScene(classes, **more), window=window) as network:
        roads, nodes = list(network.lines), list(network.nodes)
    check(nodes, roads)
    return nodes, roads


def check(nodes: list[RoadNode], roads: list[RoadLine]) -> None:
    """Assert what holds for every network."""
    degree = dict.fromkeys(range(len(nodes)), 0)
    assert [node.node for node in nodes] == list(degree)
    for road in roads:
        assert len(road.points) >= 2
        for number, point in ((road.u, road.points[0]), (road.v, road.points[-1])):
            assert (nodes[number].column, nodes[number].row) == tuple(point)
            degree[number] += 1
        assert shapely.LineString(road.points).length > 0
    assert [node.degree for node in nodes] == list(degree.values())
    assert all(node.degree for node in nodes)


def same(
    one: tuple[list[RoadNode], list[RoadLine]], two: tuple[list[RoadNode], list[RoadLine]]
) -> None:
    assert one[0] == two[0]
    assert len(one[1]) == len(two[1])
    for a, b in zip(one[1], two[1], strict=True):
        assert a.points.tobytes() == b.points.tobytes()
        assert (a.u, a.v, a.number, a.width_m, a.confidence) == (
            b.u,
            b.v,
            b.number,
            b.width_m,
            b.confidence,
        )


def spiral(side: int) -> NDArray[np.uint8]:
    turn = np.linspace(0, 8 * np.pi, 600)
    radius = turn / turn[-1] * (side / 2 - 8)
    points = np.column_stack([np.cos(turn), np.sin(turn)]) * radius[:, None] + side / 2
    return drawn(side, [tuple(point) for point in points.tolist()], width=5)


def random_town(side: int, seed: int) -> NDArray[np.uint8]:
    """Return crooked roads with specks, holes, wide areas and rough edges."""
    rng = np.random.default_rng(seed)
    lines = [[tuple(point) for point in rng.uniform(0, side, (4, 2)).tolist()] for _ in range(8)]
    classes = drawn(side, *lines, width=int(rng.integers(2, 10)))
    top, left = rng.integers(0, side - 90, 2)
    classes[top : top + 80, left : left + 90] = ROAD
    noise = rng.random(classes.shape)
    classes[noise < 0.02] = VEGETATION
    classes[noise > 0.99] = ROAD
    return classes


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_thinning_is_that_of_scikit_image(seed: int) -> None:
    mask = random_town(200, seed) == ROAD
    for passes in (1, 3, 20):
        np.testing.assert_array_equal(thin(mask, passes), morphology.thin(mask, passes))


def test_small_holes_are_filled_and_islands_stay() -> None:
    mask = np.ones((40, 60), np.bool_)
    mask[5:8, 5:8] = False  # 9 pixels
    mask[5:12, 20:27] = False  # 49 pixels
    mask[20, 5:30] = False  # 25 pixels, but long
    mask[0, 50] = False  # at the border: it goes on
    filled = fill_holes(mask, Reaches(hole_area=30, hole_side=12, passes=3))
    mask[5:8, 5:8] = True
    np.testing.assert_array_equal(filled, mask)


def test_a_cross_is_four_roads_and_a_node() -> None:
    nodes, roads = found(drawn(201, [(20, 100), (180, 100)], [(100, 20), (100, 180)]))
    assert sorted(node.degree for node in nodes) == [1, 1, 1, 1, 4]
    middle = max(nodes, key=lambda node: node.degree)
    assert np.hypot(middle.column - 100.5, middle.row - 100.5) < 1.5
    for road in roads:
        assert shapely.LineString(road.points).length == pytest.approx(80, abs=5)
        assert len(road.points) <= 4
        assert road.width_m == pytest.approx(7, abs=0.6)
        assert road.number == ROAD
        assert road.confidence is None


def test_a_slanted_crossing_is_one_node() -> None:
    nodes, _ = found(drawn(240, [(20, 80), (220, 160)], [(20, 160), (220, 80)], width=9))
    assert sorted(node.degree for node in nodes) == [1, 1, 1, 1, 4]


def test_parallel_roads_stay_two() -> None:
    """Roads of 5 m whose middles are 8 m apart."""
    nodes, roads = found(drawn(200, [(20, 100), (180, 100)], [(20, 108), (180, 108)], width=5))
    assert len(roads) == 2
    assert len(nodes) == 4
    assert sorted(round(float(road.points[:, 1].mean())) for road in roads) == [100, 108]


def test_a_roundabout_stays_a_ring() -> None:
    turn = np.linspace(0, 2 * np.pi, 60)
    ring = [(120 + 14 * np.cos(t), 120 + 14 * np.sin(t)) for t in turn.tolist()]
    arms = [[(120, 106), (120, 10)], [(120, 134), (120, 230)], [(134, 120), (230, 120)]]
    nodes, roads = found(drawn(240, ring, *arms, width=7))
    assert sorted(node.degree for node in nodes) == [1, 1, 1, 3, 3, 3]
    lengths = sorted(shapely.LineString(road.points).length for road in roads)
    assert sum(lengths[:3]) == pytest.approx(2 * np.pi * 14, rel=0.08)


def test_a_car_park_is_no_ladder() -> None:
    """Road, a lot of 60 x 50 with parked cars in rows beside it."""
    classes = drawn(240, [(0, 60), (239, 60)], width=8)
    classes[64:120, 90:160] = ROAD
    for row in range(70, 116, 8):
        for column in range(94, 156, 6):
            classes[row : row + 4, column : column + 2] = LAND
    nodes, roads = found(classes)
    assert len(roads) <= 3, [road.points for road in roads]
    assert sum(node.degree == 1 for node in nodes) <= 3


def test_a_closed_road_has_one_node() -> None:
    turn = np.linspace(0, 2 * np.pi, 90)
    rings = [[(100 + r * np.cos(t), 100 + r * np.sin(t)) for t in turn.tolist()] for r in (80, 40)]
    nodes, roads = found(drawn(200, *rings, width=6))
    assert [node.degree for node in nodes] == [2, 2]
    assert [road.u == road.v for road in roads] == [True, True]
    outer, inner = sorted((shapely.Polygon(road.points) for road in roads), key=lambda p: -p.area)
    assert outer.contains(inner)
    assert outer.area == pytest.approx(np.pi * 80**2, rel=0.03)


def test_a_spiral_is_one_road() -> None:
    nodes, roads = found(spiral(400), window=64)
    assert len(nodes) == 2
    assert len(roads) == 1


def test_a_diagonal_of_single_pixels_is_one_road() -> None:
    classes = np.zeros((80, 80), np.uint8)
    np.fill_diagonal(classes[10:70, 10:70], ROAD)
    _, (road,) = found(classes)
    assert len(road.points) == 2
    assert shapely.LineString(road.points).length == pytest.approx(59 * 2**0.5)


def test_a_checkerboard_is_no_network() -> None:
    """It is an area, whose holes are filled."""
    rows, columns = np.indices((96, 96))
    _, roads = found(((rows + columns) % 2 * ROAD).astype(np.uint8))
    assert len(roads) <= 4


def test_a_rough_edge_gives_no_spurs() -> None:
    classes = drawn(300, [(20, 150), (280, 150)], width=9)
    rng = np.random.default_rng(4)
    for column in range(30, 270, 7):
        edge = 146 if rng.random() < 0.5 else 154
        classes[edge - 2 : edge + 3, column : column + 3] = rng.choice([ROAD, LAND])
    _, roads = found(classes)
    assert len(roads) == 1


def test_roads_end_at_the_border_of_the_scene() -> None:
    _, (road,) = found(drawn(100, [(-20, 40), (120, 70)]))
    assert min(road.points[0][0], road.points[-1][0]) == 0.5
    assert max(road.points[0][0], road.points[-1][0]) == 99.5


@pytest.mark.parametrize("classes", [LAND, ROAD, 255])
def test_a_scene_of_one_class_has_no_roads(classes: int) -> None:
    for shape in ((1, 1), (1, 50), (300, 200)):
        nodes, roads = found(np.full(shape, classes, np.uint8), window=128)
        assert nodes == []
        assert roads == []


def test_confidence_is_the_mean_along_the_road() -> None:
    classes = drawn(100, [(10, 50), (90, 50)])
    sure = np.full((100, 100), 0.4, np.float32)
    _, (road,) = found(classes, confidence=sure)
    assert road.confidence == pytest.approx(0.4)
    likely = np.where(classes == ROAD, 0.8, 0.1).astype(np.float32)
    _, (road,) = found(classes, confidence=sure, roads=likely)
    assert road.confidence == pytest.approx(0.8, abs=0.002)


def test_what_is_likely_a_road_is_one() -> None:
    """The land wins by a little over 40 pixels of a road."""
    classes = drawn(160, [(0, 80), (159, 80)])
    likely = np.where(classes == ROAD, 0.9, 0.05).astype(np.float32)
    here = (slice(70, 90), slice(60, 100))
    likely[here] = np.minimum(likely[here], 0.45)
    classes[here] = LAND
    assert len(found(classes)[1]) == 2
    _, (road,) = found(classes, roads=likely)
    assert 0.7 < road.confidence < 0.9


@pytest.mark.parametrize("seed", range(3))
def test_windows_do_not_matter(seed: int) -> None:
    classes = random_town(330, seed)
    sure = np.random.default_rng(seed).random(classes.shape, np.float32)
    whole = found(classes, 1024, confidence=sure)
    assert len(whole[1]) > 5
    for window in (90, 256):
        same(whole, found(classes, window, confidence=sure))


def networks(nodes: list[RoadNode], roads: list[RoadLine]) -> int:
    """Return how many parts of a network hang together."""
    ends = np.array([(road.u, road.v) for road in roads]).reshape(-1, 2).T
    links = coo_array((np.ones(len(roads)), (ends[0], ends[1])), (len(nodes), len(nodes)))
    count, _ = connected_components(links, directed=False)
    return int(count)


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    window=st.integers(70, 200),
    shift=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
@example(seed=1803, window=70, shift=(0, 18))  # two points of a bend lie equally far off
@example(seed=4058289184, window=85, shift=(97, 7))  # a gap ends at the middle of two pixels
def test_neither_windows_nor_where_a_scene_begins_matter(
    seed: int, window: int, shift: tuple[int, int]
) -> None:
    classes = np.pad(random_town(180, seed), 60, constant_values=LAND)
    whole = found(classes)
    cut = found(classes, window)
    same(whole, cut)
    assert networks(*cut) == networks(*whole)
    moved = np.pad(classes, ((shift[0], 0), (shift[1], 0)), constant_values=LAND)
    nodes, roads = found(moved, window)
    assert networks(nodes, roads) == networks(*whole)
    assert [(n.row - shift[0], n.column - shift[1]) for n in nodes] == pytest.approx(
        np.array([(n.row, n.column) for n in whole[0]])
    )
    for road, before in zip(roads, whole[1], strict=True):
        assert (road.u, road.v) == (before.u, before.v)
        assert road.points - shift[::-1] == pytest.approx(before.points, abs=1e-6)


@pytest.mark.parametrize("window", [50, 256])
def test_windows_do_not_matter_to_rings_and_spirals(window: int) -> None:
    turn = np.linspace(0, 2 * np.pi, 90)
    ring = drawn(200, [(100 + 80 * np.cos(t), 100 + 80 * np.sin(t)) for t in turn.tolist()])
    for classes in (ring, spiral(300)):
        same(found(classes, 1024), found(classes, window))


def gap(width: int, filled: int) -> NDArray[np.uint8]:
    """Return a road of 7 m with a gap in its middle that is filled with a class."""
    classes = drawn(160, [(0, 80), (159, 80)])
    classes[70:90, 80 - width // 2 : 80 + width // 2] = filled
    return classes


def test_a_road_under_a_tree_is_closed() -> None:
    nodes, _ = found(gap(12, VEGETATION))
    assert [node.degree for node in nodes] == [1, 1]


@pytest.mark.parametrize("between", [LAND, BUILDING, WATER])
def test_what_cannot_hide_a_road_is_no_gap(between: int) -> None:
    nodes, _ = found(gap(12, between))
    assert [node.degree for node in nodes] == [1, 1, 1, 1]


def test_a_wood_is_no_gap() -> None:
    nodes, _ = found(gap(40, VEGETATION))
    assert len(nodes) == 4


@pytest.mark.parametrize(("likely", "roads"), [(0.3, 1), (0.02, 2)])
def test_the_probability_decides_over_a_gap(likely: float, roads: int) -> None:
    """Ends that face each other across a crown are joined, across a fence not."""
    classes = gap(12, LAND)
    probability = np.where(classes == ROAD, 0.95, 0.01).astype(np.float32)
    probability[76:85, 74:86] = likely
    _, lines = found(classes, roads=probability)
    assert len(lines) == roads
    if roads == 1:
        assert 0.8 < lines[0].confidence < 0.95


def test_a_fence_of_two_metres_keeps_dead_ends_apart() -> None:
    classes = gap(4, LAND)
    probability = np.where(classes == ROAD, 0.95, 0.02).astype(np.float32)
    _, lines = found(classes, roads=probability)
    assert len(lines) == 2


def test_heads_to_turn_round_on_are_ends() -> None:
    """Two dead ends with a lawn between their heads."""
    classes = drawn(200, [(0, 100), (80, 100)], [(120, 100), (199, 100)])
    image = Image.fromarray(classes)
    for x in (80, 120):
        ImageDraw.Draw(image).ellipse((x - 11, 89, x + 11, 111), fill=ROAD)
    classes = np.array(image)
    classes[(classes == LAND)] = VEGETATION
    _, lines = found(classes)
    assert len(lines) == 2


def test_an_end_runs_into_the_road_before_it() -> None:
    classes = drawn(200, [(100, 0), (100, 199)], [(0, 80), (100, 80)])
    classes[70:90, 92:97] = VEGETATION
    nodes, lines = found(classes)
    assert sorted(node.degree for node in nodes) == [1, 1, 1, 3]
    assert len(lines) == 3


def test_ends_that_are_beside_each_other_are_joined_once() -> None:
    """Behind a crown a track goes on 6 m aside, where each end meets the side of the other."""
    classes = drawn(200, [(100, 0), (100, 94)], [(106, 98), (106, 199)], width=4)
    classes[classes == LAND] = VEGETATION
    nodes, lines = found(classes)
    assert [node.degree for node in nodes] == [1, 1]
    assert len(lines) == 1


def test_a_road_goes_on_behind_a_median() -> None:
    """It passes below both carriageways, between which grass grows."""
    classes = drawn(200, [(0, 95), (199, 95)], [(0, 111), (199, 111)], width=9)
    classes[:92, 97:104] = ROAD
    classes[115:, 97:104] = ROAD
    classes[100:107] = VEGETATION
    nodes, _ = found(classes)
    assert sorted(node.degree for node in nodes) == [1] * 6 + [4, 4]


def test_a_slanting_road_goes_on_behind_a_median() -> None:
    classes = drawn(240, [(0, 105), (239, 105)], [(0, 121), (239, 121)], [(20, 20), (220, 206)])
    classes[110:117] = VEGETATION
    nodes, _ = found(classes)
    assert sorted(node.degree for node in nodes) == [1] * 6 + [4, 4]


def test_a_dead_end_before_a_highway_stays_one() -> None:
    """A hedge is between them that may hide a road."""
    classes = drawn(200, [(120, 0), (120, 199)], width=15)
    classes |= drawn(200, [(0, 80), (104, 80)])
    classes[classes == LAND] = VEGETATION
    nodes, _ = found(classes)
    assert sorted(node.degree for node in nodes) == [1, 1, 1, 1]


def test_where_ends_crowd_nothing_is_joined() -> None:
    """Dashes of 20 m with 8 m between them: one row is a road below crowns, many are none."""

    def rows(*of: int) -> NDArray[np.uint8]:
        classes = np.full((240, 240), VEGETATION, np.uint8)
        for row in of:
            for column in range(14, 220, 28):
                classes[row : row + 3, column : column + 20] = ROAD
        return classes

    assert len(found(rows(120))[1]) == 1
    _, dashes = found(rows(*range(20, 220, 10)))
    inner = [
        road for road in dashes if 70 < road.points[:, 0].min() < road.points[:, 0].max() < 170
    ]
    assert len(inner) > 40


@pytest.mark.parametrize("seed", range(2))
def test_windows_do_not_matter_to_gaps(seed: int) -> None:
    classes = random_town(330, seed)
    crowns = Image.fromarray(classes)
    for x, y in np.random.default_rng(seed).uniform(0, 330, (60, 2)).tolist():
        ImageDraw.Draw(crowns).ellipse((x - 6, y - 6, x + 6, y + 6), fill=VEGETATION)
    whole = found(np.array(crowns))
    same(whole, found(np.array(crowns), 100))


@pytest.mark.parametrize("seed", range(6))
def test_maps_without_sense_have_networks_too(seed: int) -> None:
    """As a model of random weights draws them: crossings by the dozen, loops of a few pixels."""
    random = np.random.default_rng(seed)
    fields = [gaussian(random.random((90, 120)), 1.2) for _ in range(3)]
    classes = np.argmax(fields, axis=0).astype(np.uint8)  # land, building and road
    sure = random.random((90, 120)).astype(np.float32)
    same(found(classes, confidence=sure), found(classes, 33, confidence=sure))
