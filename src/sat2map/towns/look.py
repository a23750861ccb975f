"""Light, season, sensor and the colours of the things in the photo of one world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sat2map.towns.kinds import RGB, Range, RoofForm, Style


@dataclass(frozen=True)
class Look:
    """Light, season and sensor of the photo of a world; colours are factors on RGB.

    Attributes:
        sun: Unit vector on the ground towards the sun.
        shadow: Length of a shadow per metre of height.
        vegetation: Tint of grass, crops and trees.
        shade: What is left of the light in a shadow.
        gain: Tint and brightness of the whole image.
        contrast: Contrast around the middle, 1 for none.
        haze: Share of white-blue haze.
        blur: Standard deviation of the optics' blur in pixels.
        noise: Standard deviation of the sensor's noise in grey levels.
        saturation: Strength of the colours, 1 for the full one.
        roofs: How the roof colours are mixed, as weights of the palette.
        dryness: 0 for lush and 1 for dried-out grass.
        trees: Density of trees, 1 is usual.
        lawn: RGB of lush grass.
        green: Share of gardens and yards under lawn; the rest is bare ground.
        soil: RGB of bare ground.
        scrub: Density of bushes on open ground.
        leaves: RGB of leaves, from dark to light.
        palms: Share of palms among the trees.
        bare: Share of the trees without leaves.
        asphalt: RGB of asphalt.
        dirt: RGB of earth roads.
        unpaved: Share of the minor streets without asphalt.
        walks: Share of the minor streets with walks.
        palette: RGB of the roofs that `roofs` are weights of; () for the temperate ones.
        forms: Form of each roof of the palette.
        pools: Share of gardens with a pool.
        traffic: Number of cars, 1 is usual.
        water: RGB of still and flowing water.
        snow: Depth of the snow, 0 for none and 1 for a closed cover.
        ploughed: Share of the snow that was cleared from the streets.
        grain: Strength of the texture of all grounds, 1 is usual.
        houses: Size of detached houses, 1 is usual.
    """

    sun: tuple[float, float]
    shadow: float
    vegetation: RGB
    shade: RGB
    gain: RGB
    contrast: float
    haze: float
    blur: float
    noise: float
    saturation: float
    roofs: tuple[float, ...]
    dryness: float
    trees: float
    lawn: RGB = (104.0, 122.0, 74.0)
    green: float = 1.0
    soil: RGB = (158.0, 146.0, 126.0)
    scrub: float = 1.0
    leaves: tuple[RGB, RGB, RGB] = ((44.0, 66.0, 38.0), (62.0, 82.0, 44.0), (92.0, 100.0, 54.0))
    palms: float = 0.0
    bare: float = 0.0
    asphalt: RGB = (112.0, 111.0, 111.0)
    dirt: RGB = (164.0, 148.0, 122.0)
    unpaved: float = 0.0
    walks: float = 1.0
    palette: tuple[RGB, ...] = ()
    forms: tuple[RoofForm, ...] = ()
    pools: float = 0.09
    traffic: float = 1.0
    water: RGB | None = None
    snow: float = 0.0
    ploughed: float = 1.0
    grain: float = 1.0
    houses: float = 1.0

    @property
    def temperate(self) -> bool:
        """Whether this is the plain town, without a style."""
        return not self.palette


def draw_look(style: Style | None, rng: np.random.Generator) -> Look:
    """Return a look of a style; None stands for the temperate one."""
    # Images of the northern half are taken around noon: the sun stands in the south.
    azimuth = float(rng.uniform(-1.15, 1.15)) - np.pi / 2
    dryness = float(np.clip(rng.beta(1.3, 2.6), 0, 1))
    vegetation = np.array([1.0 + 0.07 * dryness, 1.0, 0.98]) * rng.normal(1, 0.03, 3)
    vegetation *= rng.uniform(0.85, 1.12)
    warmth = rng.normal(0, 0.025)
    gain = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.88, 1.1)
    plain = Look(
        sun=(float(np.cos(azimuth)), float(np.sin(azimuth))),
        shadow=float(rng.uniform(0.55, 1.45)),
        vegetation=(float(vegetation[0]), float(vegetation[1]), float(vegetation[2])),
        shade=(0.40, 0.44, 0.53),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        contrast=float(rng.uniform(0.95, 1.2)),
        haze=float(rng.beta(1.2, 9) * 0.6),
        blur=float(rng.uniform(0.3, 0.65)),
        noise=float(rng.uniform(0.8, 3.0)),
        saturation=float(rng.uniform(0.62, 0.95)),
        roofs=tuple(float(share) for share in rng.dirichlet(np.full(8, 0.7))),
        dryness=dryness,
        trees=float(rng.uniform(0.55, 1.5)),
    )
    return plain if style is None else _in_style(plain, style, rng)


def _in_style(plain: Look, style: Style, rng: np.random.Generator) -> Look:
    def within(low_high: Range) -> float:
        return float(rng.uniform(*low_high))

    sun = plain.sun
    if style.sun_anywhere and rng.random() < 0.5:
        sun = (sun[0], -sun[1])
    bright = within(style.gain) / float(np.mean(plain.gain))
    soil, dirt = _between(style.soils, rng), _between(style.dirt, rng)
    weights = np.array([weight for _, _, weight in style.roofs])
    mixed = weights * rng.dirichlet(np.full(len(weights), 0.8))
    mixed = 0.85 * mixed / mixed.sum() + 0.15 * weights / weights.sum()
    shade = np.array(plain.shade) * rng.uniform(0.85, 1.1)
    return Look(
        sun=sun,
        shadow=within(style.shadow),
        vegetation=plain.vegetation,
        shade=_rgb(shade),
        gain=_rgb(np.array(plain.gain) * bright),
        contrast=plain.contrast,
        haze=float(rng.beta(1.2, 6) * style.haze),
        blur=plain.blur,
        noise=plain.noise,
        saturation=within(style.saturation),
        roofs=tuple(float(share) for share in mixed),
        dryness=plain.dryness,
        trees=within(style.trees),
        lawn=_between(style.lawn, rng),
        green=within(style.green),
        soil=soil,
        scrub=within(style.scrub),
        leaves=style.leaves,
        palms=within(style.palms),
        bare=within(style.bare),
        asphalt=_between(style.asphalt, rng),
        dirt=_apart(dirt, soil, rng),
        unpaved=within(style.unpaved),
        walks=within(style.walks),
        palette=tuple(colour for colour, _, _ in style.roofs),
        forms=tuple(form for _, form, _ in style.roofs),
        pools=within(style.pools),
        traffic=within(style.traffic),
        water=_between(style.waters, rng),
        snow=within(style.snow),
        ploughed=float(rng.uniform(0.1, 1.0)),
        grain=float(rng.uniform(0.35, 1.1)),
        houses=within(style.houses),
    )


def _apart(dirt: RGB, soil: RGB, rng: np.random.Generator) -> RGB:
    """Return the colour of earth roads, not quite as light as the ground beside them.

    Wheels polish them: most are lighter than yards, wet or muddy ones darker.
    """
    mixed = 0.5 * np.array(dirt) + 0.5 * np.array(soil)
    ratio = rng.uniform(1.09, 1.3) if rng.random() < 0.72 else rng.uniform(0.76, 0.9)
    tone = mixed * ratio * np.mean(soil) / mixed.mean()
    return _rgb(tone * min(1.0, 224 / tone.max()))


def _between(colours: tuple[RGB, ...], rng: np.random.Generator) -> RGB:
    """Return a colour between two of some, a little lighter or darker."""
    one, other = rng.integers(len(colours), size=2)
    share = rng.random()
    mixed = np.array(colours[one]) * share + np.array(colours[other]) * (1 - share)
    return _rgb(mixed * rng.uniform(0.93, 1.07) + rng.normal(0, 2.5, 3))


def _rgb(values: np.ndarray) -> RGB:
    return float(values[0]), float(values[1]), float(values[2])
