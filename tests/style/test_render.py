"""Maps drawn of vectors: exact on the pixel grid, in the right order, the same in any window."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from sat2map.errors import DataError, UsageError
from sat2map.geo.grid import Grid
from sat2map.legend import STREETS
from sat2map.style.features import FeatureKind, Features, Vectors
from sat2map.style.render import Drawing, Painter
from sat2map.style.spec import read_style
from sat2map.style.style import Style
from sat2map.style.symbols import Palette

UTM = CRS.from_epsg(32631)
STREET_STYLE = read_style("streets")
OTHER, ROAD, MAIN, HIGHWAY, WATER, PARK, BUILDING = (
    STREETS.names.index(name)
    for name in ("other", "road", "main_road", "highway", "water", "park", "building")
)


def grid(height: int = 32, width: int = 32, metres: float = 1.0) -> Grid:
    """A grid whose upper left corner is at (0, 0), y to the north."""
    return Grid(height, width, Affine(metres, 0, 0, 0, -metres, 0), UTM)


def vectors(*things: tuple[Any, dict[str, Any]], style: Style = STREET_STYLE) -> Vectors:
    """Make vectors of geometries, given in pixels of `grid` with y downwards."""
    shapes = shapely.transform(np.array([shape for shape, _ in things]), lambda p: p * (1, -1))
    table = []
    for shape, tags in things:
        kind = "Polygon" if "Polygon" in shape.geom_type else "LineString"
        name = style.class_of(tags, kind) or ""
        table.append(FeatureKind(name, kind, "", {**tags, "class": name}))
    features = Features(shapes, np.arange(len(things), dtype=np.int32), table)
    return Vectors(style, UTM, features, 0, 0)


def draw(*things: tuple[Any, dict[str, Any]], metres: float = 1.0, **size: int) -> Drawing:
    scaled = [(shapely.transform(shape, lambda p: p * metres), tags) for shape, tags in things]
    return Painter(vectors(*scaled), metres).draw(grid(metres=metres, **size))


def test_a_polygon_covers_just_its_pixels() -> None:
    drawing = draw((shapely.box(4, 6, 20, 9), {"natural": "water"}))
    expected = np.zeros((32, 32), np.uint8)
    expected[6:9, 4:20] = WATER
    np.testing.assert_array_equal(drawing.classes, expected)
    np.testing.assert_array_equal(drawing.image, STREETS.paint(expected))
    assert drawing.mapped == 3 * 16 / 32**2


@pytest.mark.parametrize("along", [True, False])
def test_half_a_pixel_is_half_the_colour(along: bool) -> None:
    shape = shapely.box(4.5, 6, 20, 9) if along else shapely.box(6, 4.5, 9, 20)
    drawing = draw((shape, {"natural": "water"}))
    place = (7, 4) if along else (4, 7)
    land, water = STREETS.colours[0].astype(int), STREETS.colours[WATER].astype(int)
    np.testing.assert_allclose(drawing.image[place], (land + water) / 2, atol=1)
    assert drawing.shares[place][WATER] == pytest.approx(0.5, abs=0.01)
    assert drawing.shares.sum(2) == pytest.approx(1, abs=0.01)


def test_a_line_lies_on_its_course_and_has_its_width_in_metres() -> None:
    course = shapely.LineString([(-50, 16), (50, 16)])
    drawing = draw((course, {"highway": "residential", "width_m": 8.0}), metres=0.5)
    rows = np.flatnonzero(drawing.classes[:, 10] == ROAD)
    assert (rows.min(), rows.max()) == (8, 23)  # 16 pixels of 0.5 m around row 16
    assert (drawing.classes[8:24] == ROAD).all()


@settings(max_examples=40, deadline=None)
@given(x=st.floats(8, 24), y=st.floats(8, 24), radius=st.floats(2, 7), turn=st.floats(0, np.pi))
def test_areas_and_centres_of_any_shape_are_kept(
    x: float, y: float, radius: float, turn: float
) -> None:
    corners = turn + np.arange(5) * 2 * np.pi / 5
    shape = shapely.Polygon(
        np.stack([x + radius * np.cos(corners), y + radius * np.sin(corners)], 1)
    )
    share = draw((shape, {"natural": "water"})).shares[..., WATER].astype(float)
    rows, columns = np.mgrid[:32, :32] + 0.5
    assert share.sum() == pytest.approx(shape.area, rel=0.1, abs=0.5)
    assert (share * columns).sum() / share.sum() == pytest.approx(shape.centroid.x, abs=0.12)
    assert (share * rows).sum() / share.sum() == pytest.approx(shape.centroid.y, abs=0.12)


def test_neighbours_leave_no_gap() -> None:
    edge = [(0, 0), (13.3, 0), (17.8, 32), (0, 32)]
    rest = [(13.3, 0), (32, 0), (32, 32), (17.8, 32)]
    drawing = draw(
        (shapely.Polygon(edge), {"leisure": "park"}),
        (shapely.Polygon(rest), {"natural": "water"}),
    )
    assert drawing.mapped == 1
    assert (drawing.shares[..., 0] == 0).all()


def test_holes_are_left_open() -> None:
    ring = shapely.box(4, 4, 28, 28).difference(shapely.box(12, 12, 20, 20))
    classes = draw((ring, {"natural": "water"})).classes
    assert classes[16, 16] == 0 and classes[6, 6] == WATER


def test_roads_lie_over_water_and_bridges_over_roads() -> None:
    across, along = (
        shapely.LineString([(-9, 16), (40, 16)]),
        shapely.LineString([(16, -9), (16, 40)]),
    )
    river = (shapely.box(8, 0, 24, 32), {"natural": "water"})
    highway = (across, {"highway": "motorway", "width_m": 6.0})
    below = (along, {"highway": "residential", "width_m": 6.0})
    above = (along, {**below[1], "bridge": "yes", "layer": "1"})
    assert draw(river, highway, below).classes[16, 16] == HIGHWAY
    assert draw(river, highway, above).classes[16, 16] == ROAD
    assert draw(above, river, highway).classes[4, 16] == ROAD  # whatever the order of the files
    higher = (across, {**highway[1], "bridge": "yes", "layer": "2"})
    assert draw(river, higher, above).classes[16, 16] == HIGHWAY
    hidden = (along, {**below[1], "tunnel": "yes"})
    assert draw(river, hidden).classes[4, 16] == WATER  # no photo shows it


def test_a_casing_shows_beside_the_road_and_has_no_class_of_its_own() -> None:
    road = (shapely.LineString([(-9, 16), (40, 16)]), {"highway": "residential", "width_m": 6.0})
    drawing = draw((shapely.box(0, 0, 32, 32), {"leisure": "park"}), road)
    assert set(np.unique(drawing.classes)) == {PARK, ROAD}
    assert (drawing.image[12, 10] != STREETS.colours[PARK]).any()
    assert (drawing.image[12, 10] != STREETS.colours[ROAD]).any()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(0, 24), column=st.integers(0, 24))
def test_a_window_is_the_part_of_the_whole(seed: int, row: int, column: int) -> None:
    rng = np.random.default_rng(seed)
    tags: list[dict[str, Any]] = [
        {"natural": "water"}, {"building": "yes"}, {"leisure": "park"},
        {"highway": "residential"}, {"highway": "footway"}, {"railway": "rail"},
        {"highway": "primary", "bridge": "yes"},
    ]  # fmt: skip
    things = []
    for number in range(9):
        own = tags[number % len(tags)]
        points = rng.uniform(-20, 84, (5, 2))
        line = "highway" in own or "railway" in own
        shape = shapely.LineString(points) if line else shapely.MultiPoint(points).convex_hull
        things.append((shape, own))
    for style in ("streets", "osm"):  # the latter has dashes and what shines through
        painter = Painter(vectors(*things, style=read_style(style)), 1.0)
        whole = painter.draw(grid(64, 64))
        part = painter.draw(grid(64, 64).part(row, column, 40, 40))
        seen = np.s_[row : row + 40, column : column + 40]
        assert (part.image != whole.image[seen]).any(2).mean() < 0.002
        assert (part.classes != whole.classes[seen]).mean() < 0.002


def test_it_draws_on_turned_grids() -> None:
    turned = Affine.rotation(30) @ Affine.scale(1, -1)
    place = Grid(32, 32, turned, UTM)
    corner = [turned @ point for point in [(4, 6), (20, 6), (20, 9), (4, 9)]]
    own = vectors((shapely.Polygon([(x, -y) for x, y in corner]), {"natural": "water"}))
    classes = Painter(own, 1.0).draw(place).classes
    expected = np.zeros((32, 32), np.uint8)
    expected[6:9, 4:20] = WATER
    np.testing.assert_array_equal(classes, expected)


def test_what_shines_through_is_mixed_once() -> None:
    style = read_style("osm")
    path = shapely.LineString([(-9, 16), (40, 16)])
    own = vectors((path, {"highway": "footway"}), style=style)
    row = Painter(own, 1.0).draw(grid()).image[:, 5:25].astype(int)
    land = np.array(style.legend.colours[0], int)
    # Two tenths of white over the land beside the path, never white itself.
    assert (row[14] > land).all() and (row[14] < 255).all()


def test_labels_of_the_image_agree_with_the_classes() -> None:
    drawing = draw(
        (shapely.box(0, 0, 32, 14), {"leisure": "park"}),
        (shapely.box(2, 2, 10, 12), {"natural": "water"}),
        (shapely.box(0, 18, 32, 32), {"landuse": "industrial"}),
    )
    np.testing.assert_array_equal(STREETS.label(drawing.image), drawing.classes)


def test_it_can_be_sent_to_other_processes() -> None:
    painter = Painter(vectors((shapely.box(4, 6, 20, 9), {"natural": "water"})), 1.0)
    sent = pickle.loads(pickle.dumps(painter))
    np.testing.assert_array_equal(sent.draw(grid()).image, painter.draw(grid()).image)


def test_what_does_not_fit_is_refused() -> None:
    own = vectors((shapely.box(4, 6, 20, 9), {"natural": "water"}))
    with pytest.raises(UsageError, match="not a ground resolution"):
        Painter(own, 0.0)
    with pytest.raises(UsageError, match="vectors in EPSG:32631"):
        Painter(own, 1.0).draw(Grid(8, 8, Affine.identity(), CRS.from_epsg(3857)))


def test_nothing_there_is_background() -> None:
    drawing = draw((shapely.box(400, 6, 420, 9), {"natural": "water"}))
    assert drawing.mapped == 0 and (drawing.classes == 0).all()
    assert (drawing.image == STREETS.colours[0]).all()


def test_more_colours_than_can_be_told_apart_are_refused() -> None:
    palette = Palette([(0, 0, 0)] + [(n % 256, n // 256, 0) for n in range(65_534)])
    assert palette.number((1.0, 2.0, 3.0)) == 65_535
    assert palette.number((1.0, 2.0, 3.0)) == 65_535
    with pytest.raises(DataError, match="more than 65,535 colours on one map"):
        palette.number((3.0, 2.0, 1.0))
