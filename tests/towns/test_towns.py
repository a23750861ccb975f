from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.features import rasterize
from scipy import ndimage
from shapely.geometry import LineString, Point

from sat2map.errors import UsageError
from sat2map.legend import COVER, STREETS
from sat2map.towns import KINDS, draw_pair, draw_town
from sat2map.towns.grounds import led_on, woods
from sat2map.towns.map import draw_map, features_in
from sat2map.towns.photo import REACH, draw_photo, margin
from sat2map.towns.plan import Planner, region
from sat2map.towns.shapes import Cover, Layer, Material, Piece
from sat2map.towns.world import World


class OnePiece(Planner):
    """A plan with nothing but one given piece."""

    def __init__(self, piece, seed=0):
        super().__init__(World(seed), region(64))
        self._only = piece

    def cells(self, bounds):
        return [(0, 0)]

    def piece(self, cell):
        return self._only


def assert_the_same(one, other):
    """Sums in another order may round a grey level otherwise, here and there."""
    away = np.abs(one.astype(int) - other)
    assert away.max() <= 1
    assert away.mean() < 0.01


def plan(size, seed):
    world = World(seed)
    return Planner(world, margin(world.look, region(size)))


def test_a_pair_is_two_square_images_that_only_the_seed_decides():
    photo, true = draw_pair(64, 5)
    assert photo.shape == true.shape == (64, 64, 3)
    assert photo.dtype == true.dtype == np.uint8
    again = draw_pair(64, 5)
    assert np.array_equal(photo, again[0])
    assert np.array_equal(true, again[1])
    other = draw_pair(64, 6)
    assert (photo != other[0]).mean() > 0.5
    assert not np.array_equal(true, other[1])


@pytest.mark.parametrize("seed", [2, 7])
def test_a_small_image_is_the_middle_of_a_larger_one(seed):
    small, large = draw_pair(64, seed), draw_pair(160, seed)
    for part, whole in zip(small, large, strict=True):
        assert_the_same(part, whole[48:112, 48:112])


def test_tiles_of_an_image_fit_together(monkeypatch):
    whole = draw_pair(120, 12)
    monkeypatch.setattr("sat2map.towns.write.TILE", 48)
    tiled = draw_pair(120, 12)
    for one, other in zip(whole, tiled, strict=True):
        assert_the_same(one, other)


@pytest.mark.parametrize(("size", "seed"), [(8, 0), (20_000, 0), (64, -1)])
def test_an_impossible_size_or_seed_is_a_usage_error(size, seed):
    with pytest.raises(UsageError, match="Choose a whole number from"):
        draw_pair(size, seed)


def test_the_maps_have_the_legends_colours_and_the_share_of_roads_of_towns():
    labels = []
    for seed in range(14):
        true = draw_map(plan(192, seed), region(192))
        exact = (true[:, :, None] == STREETS.colours).all(-1).any(-1)
        assert exact.mean() > 0.75  # the rest are the smooth edges
        labels.append(STREETS.label(true))
    shares = np.bincount(np.concatenate(labels).ravel(), minlength=len(STREETS)) / (14 * 192**2)
    assert (shares > 0.001).all()
    assert 0.12 < shares[STREETS.roads].sum() < 0.32


def test_photos_vary_in_light_and_colour():
    photos = [draw_pair(48, seed)[0] for seed in range(8)]
    means = np.array([photo.mean((0, 1)) for photo in photos])
    assert np.ptp(means.mean(1)) > 12
    suns = {World(seed).look.sun for seed in range(8)}
    assert len(suns) == 8


def test_photo_and_map_show_a_shape_at_the_same_place():
    corners = np.array([(-11.3, -6.2), (7.4, -6.2), (7.4, 9.7), (-11.3, 9.7)])
    piece = Piece()
    piece.paint_many(corners[None], Layer.SURFACE, Material.PLAIN, (170, 170, 170))
    ground = np.array([(-90.0, -90), (90, -90), (90, 90), (-90, 90)])
    piece.paint_many(ground[None], Layer.GROUND, Material.PLAIN, (60, 60, 60))
    piece.feature(shapely.Polygon(corners), "water", "lake")
    bounds = region(64)
    photo = draw_photo(OnePiece(piece), bounds)[0].mean(-1)
    true = draw_map(OnePiece(piece), bounds).astype(float)
    land, water = np.array(STREETS.colours[[0, 4]], float)
    cover = ((true - land) @ (water - land)) / ((water - land) @ (water - land))
    bright = (photo - photo[:8].mean()) / (photo[28:36, 28:36].mean() - photo[:8].mean())
    rows, columns = np.mgrid[0:64, 0:64] + 0.5
    middle = corners.mean(0)
    for shown in (cover, bright):
        shown = np.where(shown > 0.15, shown, 0)
        assert shown.sum() == pytest.approx(18.7 * 15.9, rel=0.06)
        assert (shown * columns).sum() / shown.sum() == pytest.approx(32 + middle[0], abs=0.15)
        assert (shown * rows).sum() / shown.sum() == pytest.approx(32 - middle[1], abs=0.15)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_tower_throws_its_shadow_away_from_the_sun(seed):
    def draw(height):
        piece = Piece()
        ground = np.array([(-90.0, -90), (90, -90), (90, 90), (-90, 90)])
        piece.paint_many(ground[None], Layer.GROUND, Material.PLAIN, (150, 150, 150))
        roof = np.array([(-4.0, -4), (4, -4), (4, 4), (-4, 4)])
        piece.paint_many(roof[None], Layer.ROOF, Material.PLAIN, (150, 150, 150), height=height)
        return draw_photo(OnePiece(piece, seed), region(96))[0].mean(-1)

    look = World(seed).look
    dark = draw(0.0) - draw(16.0) > 25
    rows, columns = np.nonzero(dark)
    along = (columns + 0.5 - 48) * look.sun[0] - (rows + 0.5 - 48) * look.sun[1]
    length = 16.0 * look.shadow
    assert along.max() < 5.8  # nothing on the sunny side
    assert -along.min() == pytest.approx(length + 4.0, abs=3.0)
    assert 16.0 * look.shadow < REACH


def test_trees_overhang_and_hide_what_is_below():
    def draw(trees):
        piece = Piece()
        ground = np.array([(-90.0, -90), (90, -90), (90, 90), (-90, 90)])
        piece.paint_many(ground[None], Layer.GROUND, Material.PLAIN, (220, 220, 220))
        piece.trees.append(np.array(trees).reshape(-1, 6))
        return draw_photo(OnePiece(piece), region(48))[0].astype(int)

    bare, planted = draw([]), draw([(3.0, -5.0, 5.0, 10.0, 0.5, 0.5)])
    crown = planted[27:32, 25:30]
    assert (crown.mean((0, 1)) < bare[27:32, 25:30].mean((0, 1)) - 60).all()
    assert crown[..., 1].mean() > crown[..., 2].mean()
    assert np.array_equal(bare[:8, 40:], planted[:8, 40:])


def test_buildings_stand_beside_the_streets_and_out_of_the_water():
    for seed in (1, 3, 29):
        features = features_in(plan(256, seed), region(256))
        buildings = shapely.union_all(
            [feature.geometry for feature in features if feature.legend == "building"]
        )
        streets = shapely.union_all(
            [
                feature.geometry.buffer(feature.width / 2)
                for feature in features
                if feature.width and feature.kind not in {"path", "track"}
            ]
        )
        waters = shapely.union_all(
            [feature.geometry for feature in features if feature.legend == "water"]
        )
        assert buildings.area > 500
        assert buildings.intersection(streets).area < 0.005 * buildings.area
        assert buildings.intersection(waters).area < 0.005 * buildings.area


def test_every_feature_names_a_class_and_has_what_its_kind_needs():
    features = features_in(plan(256, 4), region(256))
    assert {feature.legend for feature in features} <= set(STREETS.names)
    for feature in features:
        assert feature.geometry.is_valid
        if feature.geometry.geom_type == "LineString":
            assert feature.width > 2
        else:
            assert feature.width is None
            assert not feature.geometry.interiors
            assert (feature.height is not None) == (feature.legend == "building")


@lru_cache
def some_towns(kind):
    return [draw_town(96, seed, kind=kind, resolution=2.0) for seed in range(20, 26)]


def shares(kind):
    """The shares of the classes of cover over some towns of a kind."""
    counts = np.zeros(len(COVER))
    for town in some_towns(kind):
        counts += np.bincount(town.cover.ravel(), minlength=len(COVER))
    return dict(zip(COVER.names, counts / counts.sum(), strict=True))


def test_the_numbers_of_cover_are_those_of_the_legend():
    assert tuple(entry.name.lower() for entry in Cover) == COVER.names
    assert [int(entry) for entry in Cover] == list(range(len(COVER)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_town_of_a_kind_is_decided_by_its_seed(kind):
    one, again = (draw_town(64, 9, kind=kind) for _ in range(2))
    assert np.array_equal(one.photo, again.photo)
    assert np.array_equal(one.map, again.map)
    assert np.array_equal(one.cover, again.cover)
    assert one.cover.max() < len(COVER)
    if kind != "temperate":
        assert not np.array_equal(one.photo, draw_town(64, 9).photo)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_town_of_a_kind_is_the_middle_of_a_larger_one(kind):
    small, large = draw_town(64, 3, kind=kind), draw_town(160, 3, kind=kind)
    assert_the_same(small.photo, large.photo[48:112, 48:112])
    assert (small.cover == large.cover[48:112, 48:112]).mean() > 0.999


def test_temperate_towns_are_what_draw_pair_draws():
    photo, true = draw_pair(64, 5)
    town = draw_town(64, 5, kind="temperate", resolution=1.0)
    assert np.array_equal(photo, town.photo)
    assert np.array_equal(true, town.map)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_shows_the_buildings_of_the_shapes(kind):
    """Crowns may hide roofs; nothing else differs but the edges."""
    for seed in (1, 4):
        world = World(seed, kind)
        bounds = region(256)
        planner = Planner(world, margin(world.look, bounds))
        trees = [some[:, :3] for piece in planner.pieces(bounds) for some in piece.trees]
        cover = draw_photo(planner, bounds)[1]
        features = features_in(planner, bounds)
        outlines = [f.geometry for f in features if f.legend == "building"]
        placement = Affine(1, 0, bounds[0], 0, -1, bounds[3])
        drawn = rasterize(outlines or [Point(9e6, 9e6)], (256, 256), transform=placement) > 0
        crowns = [Point(x, y).buffer(r * 1.3 + 0.5) for x, y, r in np.concatenate(trees)]
        crowns = rasterize(crowns or [Point(9e6, 9e6)], (256, 256), transform=placement) > 0
        inner = ndimage.binary_erosion(drawn, np.ones((3, 3))) & ~crowns
        outside = ~ndimage.binary_dilation(drawn, np.ones((3, 3)))
        assert (cover[inner] == Cover.BUILDING).mean() > 0.995
        assert ((cover == Cover.BUILDING) & outside).mean() < 5e-4


def along(line, step=2.0):
    """Places along a line, float64 [N,2]."""
    count = max(2, int(line.length / step))
    return shapely.get_coordinates(
        shapely.line_interpolate_point(line, np.linspace(0, 1, count), normalized=True)
    )


def test_the_mask_shows_both_carriageways_of_a_highway():
    """Here the middle of a highway lies in one cell of the plan, a carriageway in the next."""
    world, bounds = World(305), (0.0, -128.0, 128.0, 0.0)
    planner = Planner(world, margin(world.look, bounds))
    cover = draw_photo(planner, bounds)[1]
    ways = [f.geometry for f in features_in(planner, bounds) if f.kind == "highway"]
    places = np.concatenate([along(way) for way in ways])
    column, row = np.floor(places - (bounds[0], bounds[1])).astype(int).T
    inside = (column >= 0) & (column < 128) & (row >= 0) & (row < 128)
    assert inside.sum() > 100
    assert (cover[127 - row[inside], column[inside]] == Cover.ROAD).all()


def test_a_track_of_the_woods_reaches_the_road_beside_it():
    way = LineString([(0, 0), (30, 10), (60, 0)])
    led = led_on(way)
    assert shapely.get_coordinates(led)[1:-1].tolist() == shapely.get_coordinates(way).tolist()
    assert led.length == pytest.approx(way.length + 10)
    piece = Piece()
    woods(piece, shapely.box(0, 0, 150, 120), World(0).look, np.random.default_rng(3))
    (track,) = [f.geometry for f in piece.features if f.kind == "track"]
    beyond = track.difference(shapely.box(0, 0, 150, 120))
    assert beyond.length == pytest.approx(10, abs=0.1)


def test_cars_are_the_road_they_stand_on_and_crowns_hide_it():
    piece = Piece()
    ground = np.array([(-90.0, -90), (90, -90), (90, 90), (-90, 90)])
    piece.paint_many(ground[None], Layer.GROUND, Material.SOIL, (150, 130, 110))
    road = np.array([(-90.0, -4), (90, -4), (90, 4), (-90, 4)])
    piece.paint_many(road[None], Layer.STREET, Material.ASPHALT, (110, 110, 110))
    car = np.array([(-8.0, -2), (-4, -2), (-4, 0), (-8, 0)])
    piece.paint_many(car[None], Layer.CAR, Material.PLAIN, (230, 230, 230), height=1.5)
    piece.trees.append(np.array([(12.0, 0.0, 3.0, 8.0, 0.5, 0.5)]))
    cover = draw_photo(OnePiece(piece), region(48))[1]
    assert (cover[20:28, :32] == Cover.ROAD).all()
    assert cover[24, 36] == Cover.VEGETATION
    assert (cover[:19] == Cover.LAND).all()


def test_a_finer_town_shows_the_same_ground():
    for kind in ("temperate", "informal"):
        coarse = draw_town(96, 8, kind=kind)
        fine = draw_town(192, 8, kind=kind, resolution=0.5)
        halves = fine.cover[::2, ::2]
        assert (halves == coarse.cover).mean() > 0.85
        means = fine.photo.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.corrcoef(means.ravel(), coarse.photo.ravel())[0, 1] > 0.75


def test_each_kind_has_the_grounds_that_it_is_called_after():
    found = {kind: shares(kind) for kind in KINDS}
    for kind, share in found.items():
        assert 0.05 < share["road"] < 0.35, kind
        assert 0.04 < share["building"] < 0.5, kind
        assert share["land"] > 0.08, kind
        assert share["vegetation"] > 0.02, kind
    assert found["desert"]["vegetation"] < 0.5 * found["temperate"]["vegetation"]
    assert found["desert"]["land"] > 0.4
    assert found["tropics"]["vegetation"] > 2 * found["desert"]["vegetation"]
    assert found["informal"]["building"] > found["tropics"]["building"]


def test_the_grounds_of_a_kind_have_its_colours():
    def ground(kind):
        """The mean colour of land outside of shadows."""
        towns = some_towns(kind)
        seen = np.concatenate([town.photo[town.cover == Cover.LAND] for town in towns])
        bright = seen[seen.mean(1) > np.median(seen.mean(1))]
        return bright.mean(0)

    red, snow, sand = ground("red_soil"), ground("snow"), ground("desert")
    assert red[0] > 1.35 * red[2]
    assert snow.min() > 150
    assert np.ptp(snow) < 30
    assert sand[0] > sand[2] + 15
    assert sand[0] < 1.35 * sand[2]


def test_sheds_are_in_the_shapes_and_the_land_cover_and_not_on_the_map():
    planner, bounds = plan(512, 301), region(512)
    found = [one for one in features_in(planner, bounds) if one.legend == "building"]
    to_pixels = Affine(1, 0, bounds[0], 0, -1, bounds[3])
    sheds, others = (
        rasterize(
            [one.geometry for one in found if (one.kind == "shed") == is_shed],
            (512, 512),
            transform=to_pixels,
        )
        > 0
        for is_shed in (True, False)
    )
    alone = sheds & ~ndimage.binary_dilation(others, iterations=3)
    assert alone.sum() > 100
    colour = next(entry.colour for entry in STREETS.classes if entry.role == "building")
    assert not (draw_map(planner, bounds) == colour).all(-1)[alone].any()
    seen = draw_photo(planner, bounds)[1][alone]  # crowns hide some
    assert set(np.unique(seen)) <= {Cover.BUILDING, Cover.VEGETATION, Cover.LAND}
    assert (seen == Cover.BUILDING).mean() > 0.5
