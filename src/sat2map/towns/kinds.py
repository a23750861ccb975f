"""The kinds of towns: what the grounds, roofs, streets and lights of a part of the earth are.

A kind has one or several styles, of which each world draws one. The kind "temperate" has
none: it is the plain town that everything else departs from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RGB = tuple[float, float, float]
Range = tuple[float, float]
District = Literal[
    "downtown", "dense", "radial", "organic", "grid", "curvy", "village", "industrial",
    "campus", "park", "woods", "fields", "packed", "compounds", "scattered", "barren", "plots",
]  # fmt: skip
RoofForm = Literal["flat", "tiles", "tin", "thatch"]
Mix = tuple[tuple[float, dict[District, float]], ...]
"""How often each district occurs, by density: a row counts up to its bound."""

TEMPERATE: Mix = (
    (0.10, {"fields": 60, "woods": 28, "village": 12}),
    (0.26, {"village": 34, "fields": 27, "woods": 13, "curvy": 18, "industrial": 8}),
    (
        0.50,
        {"grid": 27, "curvy": 34, "organic": 8, "industrial": 16, "park": 6, "campus": 8,
         "woods": 5},
    ),
    (
        0.76,
        {"dense": 28, "grid": 22, "organic": 17, "radial": 8, "campus": 8, "park": 7,
         "industrial": 13},
    ),
    (9.00, {"downtown": 52, "dense": 24, "radial": 8, "park": 9, "organic": 7}),
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """Settings of a kind of towns; of a range, each world draws one value.

    Attributes:
        mix: Which districts there are.
        soils: Colours of bare ground; a world has one between two of them.
        green: Share of gardens and yards under lawn; the rest is bare ground.
        lawn: Colour of watered grass.
        scrub: Density of bushes on open ground.
        trees: Density of trees, 1 is usual in temperate towns.
        leaves: Colours of leaves, from dark to light.
        palms: Share of palms among the trees.
        asphalt: Colours that a world's asphalt lies between.
        dirt: Colours that a world's earth roads lie between.
        unpaved: Share of the minor streets without asphalt.
        walks: Share of the minor streets with paved walks.
        roofs: Colour, form and weight of the roofs.
        main: Width of main roads, metres.
        collector: Width of collectors, metres.
        pools: Share of gardens with a pool.
        traffic: Number of cars, 1 is usual.
        wet: Share of the rivers that hold water; the others are dry beds.
        waters: Colours of rivers and ponds.
        shadow: Length of a shadow per metre of height.
        haze: The greatest share of haze.
        gain: Brightness of the whole image.
        saturation: Strength of the colours.
        sun_anywhere: The sun may stand in the north, as it does south of the tropics.
        snow: Depth of the snow, 0 for none and 1 for a closed cover.
        bare: Share of the trees without leaves.
        houses: Size of detached houses, 1 is usual.
        highways: Share of the worlds with a highway near the middle.
    """

    mix: Mix
    soils: tuple[RGB, ...]
    green: Range
    lawn: tuple[RGB, ...]
    trees: Range
    leaves: tuple[RGB, RGB, RGB]
    asphalt: tuple[RGB, ...]
    dirt: tuple[RGB, ...]
    unpaved: Range
    roofs: tuple[tuple[RGB, RoofForm, float], ...]
    scrub: Range = (0.3, 1.0)
    palms: Range = (0.0, 0.0)
    walks: Range = (0.0, 0.2)
    main: Range = (12.0, 18.0)
    collector: Range = (8.0, 11.0)
    pools: Range = (0.0, 0.02)
    traffic: Range = (0.3, 0.8)
    wet: float = 0.8
    waters: tuple[RGB, ...] = ((62.0, 82.0, 84.0), (88.0, 104.0, 88.0))
    shadow: Range = (0.45, 1.2)
    haze: float = 0.4
    gain: Range = (0.9, 1.1)
    saturation: Range = (0.62, 0.95)
    sun_anywhere: bool = False
    snow: Range = (0.0, 0.0)
    bare: Range = (0.0, 0.0)
    houses: Range = (0.9, 1.1)
    highways: float = 0.3


_DARK_LEAVES = ((38, 52, 34), (58, 72, 46), (92, 98, 66))
_LUSH_LEAVES = ((36, 64, 28), (62, 94, 36), (108, 128, 58))
_GREY_ASPHALT = ((96, 96, 98), (132, 130, 127))
_DUSTY_ASPHALT = ((108, 106, 104), (156, 148, 138))
_TIN: tuple[tuple[RGB, RoofForm, float], ...] = (
    ((196, 202, 208), "tin", 1.0),  # new
    ((168, 174, 178), "tin", 1.0),
    ((150, 146, 142), "tin", 0.7),  # dull
    ((142, 108, 88), "tin", 0.6),  # rusty
    ((118, 84, 66), "tin", 0.4),  # old
)

_DESERT_SUBURB = Style(
    mix=(
        (0.10, {"barren": 74, "scattered": 16, "plots": 10}),
        (0.26, {"barren": 34, "scattered": 22, "grid": 22, "curvy": 14, "industrial": 8}),
        (0.50, {"grid": 28, "curvy": 36, "industrial": 14, "campus": 8, "park": 7, "barren": 7}),
        (0.76, {"grid": 34, "curvy": 22, "dense": 10, "industrial": 16, "campus": 9, "park": 5,
                "barren": 4}),
        (9.00, {"downtown": 46, "grid": 24, "dense": 16, "industrial": 8, "park": 6}),
    ),
    soils=((206, 190, 166), (186, 164, 136), (172, 150, 128), (192, 180, 162)),
    green=(0.05, 0.4),
    lawn=((76, 100, 56), (96, 112, 66)),
    scrub=(0.2, 1.1),
    trees=(0.3, 1.0),
    leaves=_DARK_LEAVES,
    palms=(0.05, 0.35),
    asphalt=_GREY_ASPHALT,
    dirt=((202, 186, 160), (184, 164, 138)),
    unpaved=(0.0, 0.15),
    walks=(0.5, 1.0),
    roofs=(
        ((226, 224, 218), "flat", 1.0),
        ((196, 186, 170), "flat", 0.8),
        ((178, 164, 146), "flat", 0.6),
        ((176, 120, 92), "tiles", 1.0),  # terracotta
        ((188, 150, 122), "tiles", 0.7),
        ((150, 128, 110), "tiles", 0.7),
        ((140, 138, 136), "tiles", 0.4),
        ((206, 202, 194), "tiles", 0.5),
    ),
    main=(15.0, 24.0),
    collector=(10.0, 13.0),
    pools=(0.1, 0.4),
    traffic=(0.4, 1.0),
    wet=0.35,
    waters=((46, 72, 74), (70, 92, 84)),
    haze=0.3,
    gain=(0.82, 1.06),
    saturation=(0.5, 0.9),
    houses=(1.0, 1.5),
)  # fmt: skip

_DESERT_WALLED = Style(
    mix=(
        (0.10, {"barren": 66, "scattered": 14, "plots": 20}),
        (0.26, {"barren": 30, "compounds": 34, "scattered": 16, "plots": 14, "industrial": 6}),
        (0.50, {"compounds": 56, "packed": 12, "industrial": 10, "campus": 6, "barren": 10,
                "grid": 6}),
        (0.76, {"compounds": 44, "packed": 30, "dense": 10, "campus": 6, "industrial": 6,
                "barren": 4}),
        (9.00, {"packed": 44, "compounds": 16, "downtown": 20, "dense": 16, "park": 4}),
    ),
    soils=((214, 192, 156), (196, 172, 138), (182, 160, 132), (204, 180, 150)),
    green=(0.0, 0.12),
    lawn=((88, 108, 60), (104, 116, 70)),
    scrub=(0.03, 0.5),
    trees=(0.12, 0.6),
    leaves=_DARK_LEAVES,
    palms=(0.2, 0.8),
    asphalt=_DUSTY_ASPHALT,
    dirt=((214, 194, 162), (196, 174, 142), (182, 164, 140)),
    unpaved=(0.3, 0.95),
    walks=(0.0, 0.3),
    roofs=(
        ((204, 190, 166), "flat", 1.0),
        ((186, 170, 146), "flat", 1.0),
        ((218, 212, 200), "flat", 0.7),
        ((160, 150, 138), "flat", 0.7),
        ((176, 180, 184), "tin", 0.12),
    ),
    main=(12.0, 22.0),
    pools=(0.0, 0.04),
    traffic=(0.3, 0.8),
    wet=0.4,
    waters=((58, 92, 88), (92, 108, 92)),
    haze=0.6,
    gain=(0.88, 1.08),
    saturation=(0.55, 0.95),
    sun_anywhere=False,
)  # fmt: skip

_TROPICS_VILLAGE = Style(
    mix=(
        (0.10, {"plots": 46, "woods": 22, "scattered": 32}),
        (0.26, {"scattered": 54, "plots": 30, "woods": 12, "grid": 4}),
        (0.50, {"scattered": 70, "plots": 14, "grid": 5, "campus": 5, "woods": 6}),
        (0.76, {"scattered": 64, "packed": 12, "grid": 8, "campus": 6, "industrial": 3,
                "plots": 7}),
        (9.00, {"scattered": 40, "packed": 32, "dense": 10, "grid": 12, "park": 6}),
    ),
    soils=((196, 172, 140), (176, 146, 116), (204, 186, 158), (160, 132, 104)),
    green=(0.35, 0.9),
    lawn=((106, 124, 66), (124, 132, 78), (92, 118, 56)),
    scrub=(0.6, 1.8),
    trees=(0.8, 2.6),
    leaves=_LUSH_LEAVES,
    palms=(0.15, 0.6),
    asphalt=_DUSTY_ASPHALT,
    dirt=((208, 188, 156), (190, 164, 132), (184, 150, 116)),
    unpaved=(0.7, 1.0),
    roofs=(*_TIN, ((150, 130, 96), "thatch", 0.5), ((170, 168, 164), "flat", 0.2)),
    main=(7.0, 12.0),
    collector=(4.5, 7.5),
    traffic=(0.05, 0.35),
    highways=0.03,
    waters=((88, 96, 70), (66, 92, 88), (130, 116, 86)),
    haze=0.7,
    saturation=(0.65, 1.0),
    sun_anywhere=True,
)  # fmt: skip

_TROPICS_TOWN = Style(
    mix=(
        (0.10, {"plots": 40, "woods": 36, "scattered": 24}),
        (0.26, {"scattered": 34, "plots": 24, "woods": 12, "curvy": 18, "grid": 12}),
        (0.50, {"grid": 38, "curvy": 20, "organic": 12, "scattered": 12, "industrial": 8,
                "campus": 6, "park": 4}),
        (0.76, {"grid": 32, "dense": 18, "organic": 20, "packed": 14, "industrial": 8,
                "campus": 4, "park": 4}),
        (9.00, {"downtown": 34, "dense": 28, "packed": 20, "organic": 10, "park": 8}),
    ),
    soils=((176, 152, 124), (166, 132, 102), (190, 170, 142)),
    green=(0.45, 0.9),
    lawn=((94, 120, 58), (108, 128, 68)),
    scrub=(0.5, 1.6),
    trees=(0.7, 1.9),
    leaves=_LUSH_LEAVES,
    palms=(0.1, 0.5),
    asphalt=_DUSTY_ASPHALT,
    dirt=((190, 164, 132), (176, 142, 110)),
    unpaved=(0.1, 0.6),
    walks=(0.1, 0.6),
    roofs=(
        ((178, 104, 76), "tiles", 1.0),
        ((160, 116, 92), "tiles", 0.8),
        ((190, 134, 104), "tiles", 0.5),
        *((colour, form, weight * 0.6) for colour, form, weight in _TIN),
        ((178, 174, 168), "flat", 0.7),
        ((146, 142, 136), "flat", 0.5),
        ((90, 120, 150), "tin", 0.2),
    ),
    main=(10.0, 17.0),
    collector=(7.0, 10.0),
    pools=(0.0, 0.1),
    traffic=(0.3, 0.9),
    waters=((88, 96, 70), (62, 88, 90), (126, 110, 82)),
    haze=0.6,
    saturation=(0.65, 1.0),
    sun_anywhere=True,
)  # fmt: skip

_INFORMAL_TIN = Style(
    mix=(
        (0.10, {"packed": 30, "plots": 30, "scattered": 30, "barren": 10}),
        (0.26, {"packed": 50, "scattered": 24, "plots": 16, "industrial": 10}),
        (0.50, {"packed": 72, "scattered": 10, "industrial": 6, "campus": 6, "compounds": 6}),
        (9.00, {"packed": 78, "dense": 8, "industrial": 8, "campus": 3, "park": 3}),
    ),
    soils=((178, 152, 124), (150, 124, 100), (168, 136, 106), (140, 124, 108)),
    green=(0.05, 0.3),
    lawn=((98, 116, 62), (112, 122, 74)),
    scrub=(0.3, 1.2),
    trees=(0.15, 0.9),
    leaves=_LUSH_LEAVES,
    palms=(0.0, 0.3),
    asphalt=_DUSTY_ASPHALT,
    dirt=((184, 156, 128), (160, 132, 106), (172, 138, 108)),
    unpaved=(0.75, 1.0),
    roofs=(
        *_TIN,
        ((92, 122, 158), "tin", 0.15),
        ((126, 92, 80), "tin", 0.5),
        ((160, 156, 150), "flat", 0.3),
    ),
    main=(9.0, 16.0),
    collector=(5.0, 8.5),
    traffic=(0.1, 0.4),
    highways=0.12,
    waters=((84, 86, 70), (104, 98, 78)),
    haze=0.6,
    sun_anywhere=True,
)  # fmt: skip

_INFORMAL_FLAT = Style(
    mix=(
        (0.10, {"packed": 26, "plots": 44, "scattered": 24, "barren": 6}),
        (0.26, {"packed": 46, "scattered": 18, "plots": 26, "industrial": 10}),
        (0.50, {"packed": 68, "dense": 12, "industrial": 8, "campus": 6, "plots": 6}),
        (9.00, {"packed": 74, "dense": 14, "campus": 4, "industrial": 4, "park": 4}),
    ),
    soils=((166, 146, 124), (148, 126, 106), (176, 154, 126)),
    green=(0.1, 0.5),
    lawn=((92, 114, 58), (104, 118, 68)),
    scrub=(0.4, 1.2),
    trees=(0.2, 1.0),
    leaves=_LUSH_LEAVES,
    palms=(0.0, 0.2),
    asphalt=_DUSTY_ASPHALT,
    dirt=((176, 152, 126), (152, 116, 90), (160, 138, 116)),
    unpaved=(0.3, 0.9),
    roofs=(
        ((164, 158, 150), "flat", 1.0),
        ((140, 136, 130), "flat", 1.0),
        ((190, 182, 170), "flat", 0.7),
        ((120, 112, 106), "flat", 0.5),
        ((170, 144, 124), "flat", 0.4),
        ((74, 120, 168), "tin", 0.45),  # blue sheets
        ((168, 78, 70), "tin", 0.3),  # red sheets
        ((176, 182, 188), "tin", 0.4),
    ),
    main=(10.0, 20.0),
    collector=(5.0, 9.0),
    traffic=(0.3, 0.9),
    waters=((84, 90, 74), (104, 104, 84)),
    haze=0.5,
    sun_anywhere=True,
)  # fmt: skip

_SNOW = Style(
    mix=TEMPERATE,
    soils=((150, 140, 126), (130, 122, 112)),
    green=(1.0, 1.0),
    lawn=((132, 126, 98), (112, 112, 82)),
    trees=(0.5, 1.5),
    leaves=((34, 44, 36), (48, 58, 48), (72, 76, 66)),
    asphalt=((78, 78, 82), (120, 120, 124)),
    dirt=((150, 142, 132), (176, 172, 168)),
    unpaved=(0.0, 0.0),
    walks=(0.6, 1.0),
    roofs=(
        ((134, 132, 130), "tiles", 1.0),
        ((84, 82, 82), "tiles", 0.8),
        ((150, 96, 78), "tiles", 0.8),
        ((116, 97, 84), "tiles", 0.8),
        ((97, 101, 110), "tiles", 0.8),
        ((160, 162, 166), "flat", 0.4),
    ),
    main=(13.0, 20.0),
    collector=(9.5, 12.5),
    traffic=(0.4, 1.0),
    wet=1.0,
    waters=((34, 46, 54), (60, 72, 80)),
    shadow=(0.9, 1.7),
    haze=0.3,
    gain=(0.86, 1.04),
    saturation=(0.5, 0.85),
    snow=(0.45, 1.0),
    bare=(0.2, 0.9),
)

_RED_VILLAGE = Style(
    mix=(
        (0.10, {"barren": 30, "plots": 44, "scattered": 26}),
        (0.26, {"scattered": 44, "plots": 30, "barren": 16, "compounds": 10}),
        (0.50, {"scattered": 34, "compounds": 34, "grid": 14, "plots": 12, "campus": 6}),
        (0.76, {"compounds": 36, "scattered": 18, "packed": 22, "grid": 14, "industrial": 6,
                "campus": 4}),
        (9.00, {"packed": 40, "compounds": 28, "dense": 18, "grid": 10, "park": 4}),
    ),
    soils=((178, 112, 78), (162, 98, 70), (192, 132, 96), (150, 96, 74)),
    green=(0.05, 0.4),
    lawn=((108, 118, 66), (126, 124, 76)),
    scrub=(0.4, 1.4),
    trees=(0.3, 1.2),
    leaves=((44, 62, 34), (68, 84, 44), (104, 108, 62)),
    palms=(0.0, 0.2),
    asphalt=_DUSTY_ASPHALT,
    dirt=((198, 126, 88), (180, 108, 76), (206, 146, 108)),
    unpaved=(0.65, 1.0),
    roofs=(*_TIN, ((146, 126, 94), "thatch", 0.6), ((176, 150, 130), "flat", 0.4)),
    main=(8.0, 14.0),
    collector=(5.0, 9.0),
    traffic=(0.05, 0.4),
    highways=0.05,
    wet=0.6,
    waters=((134, 104, 78), (96, 92, 74)),
    haze=0.5,
    saturation=(0.65, 1.0),
    sun_anywhere=True,
)  # fmt: skip

_RED_TOWN = Style(
    mix=(
        (0.10, {"plots": 54, "barren": 14, "woods": 20, "scattered": 12}),
        (0.26, {"plots": 30, "scattered": 24, "grid": 24, "curvy": 14, "industrial": 8}),
        (0.50, {"grid": 44, "curvy": 22, "industrial": 12, "campus": 8, "plots": 8, "park": 6}),
        (0.76, {"grid": 48, "dense": 20, "organic": 10, "industrial": 12, "campus": 6, "park": 4}),
        (9.00, {"downtown": 40, "dense": 34, "grid": 16, "park": 10}),
    ),
    soils=((172, 104, 74), (156, 92, 66), (184, 122, 90)),
    green=(0.3, 0.75),
    lawn=((98, 120, 60), (116, 126, 72)),
    scrub=(0.4, 1.2),
    trees=(0.4, 1.4),
    leaves=((40, 62, 32), (64, 86, 42), (100, 114, 60)),
    palms=(0.0, 0.25),
    asphalt=((104, 100, 98), (140, 124, 114)),
    dirt=((190, 118, 84), (174, 104, 74)),
    unpaved=(0.1, 0.6),
    walks=(0.2, 0.8),
    roofs=(
        ((180, 102, 72), "tiles", 1.0),
        ((164, 112, 86), "tiles", 0.9),
        ((146, 106, 84), "tiles", 0.6),
        *((colour, form, weight * 0.5) for colour, form, weight in _TIN),
        ((186, 180, 172), "flat", 0.5),
    ),
    pools=(0.0, 0.12),
    traffic=(0.3, 0.9),
    waters=((128, 100, 76), (70, 84, 76)),
    haze=0.4,
    saturation=(0.65, 1.0),
    sun_anywhere=True,
)  # fmt: skip

STYLES: dict[str, tuple[Style, ...]] = {
    "temperate": (),
    "desert": (_DESERT_SUBURB, _DESERT_WALLED),
    "tropics": (_TROPICS_VILLAGE, _TROPICS_TOWN),
    "informal": (_INFORMAL_TIN, _INFORMAL_FLAT),
    "snow": (_SNOW,),
    "red_soil": (_RED_VILLAGE, _RED_TOWN),
}
KINDS: tuple[str, ...] = tuple(STYLES)
