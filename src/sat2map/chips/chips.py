"""Training pairs of imagery and vectors: chips of one ground resolution, split by blocks.

`DIR/{train,val}/NAME.png` are the pairs, imagery left, map right; `DIR/dataset.json` says what
they are, `DIR/index.parquet` where each lies, and `DIR/split.png` shows it. `DIR/chips.json`
holds the settings for people; the journal in `DIR/.sat2map`, by which an interrupted command
goes on, holds fingerprints of what the chips are made of, and what became of each place.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from shapely.geometry.base import BaseGeometry

from sat2map.arguments import check_fields, checks_arguments
from sat2map.chips.cut import Chip, Outcome, Plan, cut_all
from sat2map.chips.ground import Place, Region, Sheet, open_imagery, open_sheets, regions_of
from sat2map.chips.record import (
    Record,
    credits_of,
    made_of,
    recorded,
    write_index,
    write_settings,
)
from sat2map.chips.split import Split, split_ground
from sat2map.chips.split_image import draw_split
from sat2map.data.images import write_image
from sat2map.data.pairs import DataSetCard, write_card
from sat2map.errors import DataError, StoppedError, UsageError
from sat2map.geo.grid import Bounds
from sat2map.raster.options import Reading
from sat2map.style.features import VectorFile, Vectors, open_vectors
from sat2map.style.render import Painter
from sat2map.style.spec import read_style
from sat2map.style.style import Style

LEAST_VALIDATION = 5
"""With fewer chips for validation a notice is given."""

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]

LEFT_OUT = {
    "nodata": "without imagery everywhere",
    "clouds": "with clouds",
    "unmapped": "with too little on the map",
}

TRIES = 200
"""For one chip at random, before there is found to be no room for more."""


@dataclass(frozen=True)
class ChipOptions:
    """Settings of the cutting of chips.

    Attributes:
        style: A shipped style's name, or a file.
        resolution_m: Metres on the ground per pixel.
        size: Side of a chip in pixels.
        validation: Share of the chips for validation, 0 to 1.
        buffer_m: Metres between training and validation; None takes an eighth of a chip.
        random: Training chips at so many random places, which may overlap; None lays them on a
            grid side by side.
        min_mapped: Least share of a chip on which the map shows anything, 0 to 1.
        clouds: Rasters that are above 0 where there are clouds; chips with any are left out.
        shift_m: How far the vectors are moved east and north, metres.
        reading: Which bands and values of the imagery, and which part.
        seed: Other seeds choose other blocks and places.
        licence: The terms of the data, in words; None puts together what the files say.
        workers: Processes; 1 stays in this one.
    """

    style: str | Path = "streets"
    resolution_m: float = 1.0
    size: int = 256
    validation: float = 0.1
    buffer_m: float | None = None
    random: int | None = None
    min_mapped: float = 0.01
    clouds: tuple[Path, ...] = ()
    shift_m: tuple[float, float] = (0.0, 0.0)
    reading: Reading = field(default_factory=Reading)
    seed: int = 0
    licence: str | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        check_fields(self, *(one.name for one in fields(self)))
        for name, value, low, high in (
            ("resolution_m", self.resolution_m, 1e-3, 1e4),
            ("size", self.size, 16, 8192),
            ("validation", self.validation, 0, 0.9),
            ("buffer_m", self.buffer_m or 0, 0, 1e6),
            ("random", self.random or 1, 1, 10_000_000),
            ("min_mapped", self.min_mapped, 0, 1),
            ("workers", self.workers, 1, 1024),
            ("shift_m", self.shift_m[0], -1e6, 1e6),
            ("shift_m", self.shift_m[1], -1e6, 1e6),
        ):
            if not low <= value <= high:
                raise UsageError(
                    f"{value:g} is not possible",
                    parameter=name,
                    remedy=f"Give {low:g} to {high:g}.",
                )

    @property
    def buffer(self) -> float:
        """The buffer in pixels."""
        return self.size / 8 if self.buffer_m is None else self.buffer_m / self.resolution_m


@dataclass(frozen=True)
class Chips:
    """Chips that `make_chips` wrote or left out.

    Attributes:
        directory: The data set.
        plan: How the chips were cut.
        outcomes: What became of each place, in order.
        splits: The regions of the imagery, each with its split.
        style: The style of the maps.
    """

    directory: Path
    plan: Plan
    outcomes: list[Outcome]
    splits: list[tuple[Region, Split]]
    style: Style

    @property
    def kept(self) -> list[Outcome]:
        """The chips that were written."""
        return [outcome for outcome in self.outcomes if not outcome.reason]

    def counts(self) -> dict[str, int]:
        """Return how many chips each split has, and how many were left out for what reason."""
        found: Counter[str] = Counter(o.reason or o.chip.split for o in self.outcomes)
        return {"train": 0, "val": 0, **found}

    def describe(self) -> str:
        """Return one line for people."""
        counts = self.counts()
        told = f"{counts['train']} chips for training, {counts['val']} for validation"
        left = [f"{counts[key]} {words}" for key, words in LEFT_OUT.items() if key in counts]
        return f"{told}; left out: {', '.join(left)}" if left else told


@checks_arguments
def make_chips(
    imagery: Sequence[str],
    vectors: Sequence[VectorFile],
    directory: Path,
    options: ChipOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Chips:
    """Cut training pairs of imagery and of a map that is drawn of vectors.

    An interrupted call goes on where it stopped; the same call again changes nothing.

    Args:
        imagery: Files, addresses, folders of adjoining files, or trees of tiles.
        vectors: Files of vectors; later ones are painted over earlier ones.
        directory: A new or empty folder, or one from an earlier call with the same settings.
        options: Settings of the cutting.
        progress: Called with the number of places done and of all.
        stop: Another thread or a signal's handler sets it to have the work stop soon.

    Raises:
        UsageError: An option is not possible, or the imagery is too small or too coarse.
        MissingExtraError: A package of the extra `cartography` is not installed.
        DataError: A file cannot be read, imagery or vectors have no coordinate reference
            system, do not lie on each other, or no chip is left.
        OutputError: The folder holds something else or chips of other settings, cannot be
            written, or the disk is full.
        StoppedError: `stop` is set.
    """
    options = options or ChipOptions()
    style = read_style(options.style)
    sources = open_imagery(imagery)
    made = made_of(sources, vectors, options.clouds, options.style, _settings(options))
    with recorded(directory, made) as record:
        sheets = open_sheets(imagery, sources, options.reading, options.resolution_m)
        _refuse_small(sheets, options)
        regions = regions_of(sheets, options.size)
        read = _read_vectors(regions, vectors, style)
        painters = {id(found): Painter(found, options.resolution_m) for found in read.values()}
        plan = Plan(
            directory,
            tuple(sheets),
            tuple(painters[id(read[sheet.name])] for sheet in sheets),
            options.size,
            options.shift_m,
            options.clouds,
            options.min_mapped,
        )
        splits, chips = _choose(regions, sheets, read, options)
        stop = stop or threading.Event()
        outcomes = _cut(plan, chips, record, options.workers, progress, stop)
        result = Chips(directory, plan, outcomes, splits, style)
        if not result.kept:
            raise _nothing_left(result, options)
        write_index(directory, result.kept, sheets, options.size)
        licence = options.licence or credits_of(sheets, vectors)
        write_settings(directory, imagery, vectors, options.style, _settings(options))
        told = _told(read.values(), style)
        write_card(directory, DataSetCard(options.resolution_m, style.legend, licence, told=told))
        _warn_of_little(directory, result, told)
        write_image(directory / "split.png", draw_split(plan, splits, result.kept))
    return result


def _cut(
    plan: Plan,
    chips: Sequence[Chip],
    record: Record,
    workers: int,
    progress: Progress | None,
    stop: threading.Event,
) -> list[Outcome]:
    """Cut what is not done yet, and return what became of each place."""
    done = record.begin(chips)
    waiting = [chip for chip in chips if chip.name not in done]
    if progress is not None:
        progress(len(chips) - len(waiting), len(chips))
    with closing(cut_all(plan, waiting, workers, stop)) as outcomes:
        for outcome in outcomes:
            record.add(outcome)
            done[outcome.chip.name] = outcome
            if progress is not None:
                progress(len(done), len(chips))
    if any(chip.name not in done for chip in chips):
        raise StoppedError(
            f"stopped as asked; {len(done):,} of {len(chips):,} places are done",
            where=plan.directory,
            remedy="Go on with the same command.",
        )
    return [done[chip.name] for chip in chips]


def _told(read: Iterable[Vectors], style: Style) -> tuple[str, ...]:
    """Return the classes of the legend that the vectors tell of."""
    found = set().union(*(vectors.classes for vectors in read))
    return tuple(name for name in style.legend.names if name in found)


def _warn_of_little(directory: Path, chips: Chips, told: tuple[str, ...]) -> None:
    """Say where chips are fewer, or tell less, than a training needs."""
    if len(told) == 1:
        log.warning(
            f"{directory}: the vectors tell of {told[0]} only. Training takes other ground as "
            "unknown; begin it with a model that knows the rest (recipe finetune)."
        )
    validation = chips.counts().get("val", 0)
    if 0 < validation < LEAST_VALIDATION:
        log.warning(
            f"{directory}: {validation} of the chips validate, too few for metrics that "
            "can be trusted. Give more imagery, or smaller chips."
        )


def _settings(options: ChipOptions) -> dict[str, Any]:
    """Return what of the options makes other chips."""
    settings = asdict(options)
    for key in ("style", "licence", "workers", "clouds"):
        del settings[key]
    return settings


def _nothing_left(result: Chips, options: ChipOptions) -> DataError:
    return DataError(
        f"no chip is left of {len(result.outcomes)} ({result.describe()}; least mapped: "
        f"{options.min_mapped:.1%})",
        where=result.directory,
        remedy="Check imagery and vectors, give a smaller `size` or a lower `min_mapped`.",
    )


def _refuse_small(sheets: Sequence[Sheet], options: ChipOptions) -> None:
    small = [s for s in sheets if min(s.grid.height, s.grid.width) < options.size]
    for sheet in small:
        told = (
            f"has {sheet.grid.width} x {sheet.grid.height} pixels at {options.resolution_m:g} m, "
            f"which is smaller than a chip of {options.size}"
        )
        if len(small) == len(sheets):
            raise UsageError(
                told, where=sheet.shown, remedy="Give a smaller `size` or a finer `resolution_m`."
            )
        log.warning(f"{sheet.shown}: {told}; it is left out.")


def _read_vectors(
    regions: Sequence[Region], files: Sequence[VectorFile], style: Style
) -> dict[str, Vectors]:
    """Read what lies on each sheet, once for sheets of a region in the same coordinates."""
    read: dict[str, Vectors] = {}
    for region in regions:
        left = list(region.sheets)
        while left:
            crs = left[0].grid.crs
            sheets = [sheet for sheet in left if sheet.grid.crs == crs]
            left = [sheet for sheet in left if sheet.grid.crs != crs]
            boxes = np.array(
                [_bounds(sheet, (0, 0), sheet.grid.height, sheet.grid.width) for sheet in sheets]
            )
            bounds = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
            found = open_vectors(files, style, crs, bounds)
            read |= {sheet.name: found for sheet in sheets}
    return read


def _choose(
    regions: Sequence[Region],
    sheets: Sequence[Sheet],
    read: dict[str, Vectors],
    options: ChipOptions,
) -> tuple[list[tuple[Region, Split]], list[Chip]]:
    """Choose blocks for validation, and the places of all chips."""
    known: dict[tuple[str, Place], bool] = {}

    def promises(sheet: Sheet, place: Place) -> bool:
        """Return whether a chip will probably be kept, without reading or drawing it."""
        if (sheet.name, place) not in known:
            window = _bounds(sheet, place, options.size)
            known[sheet.name, place] = (
                sheet.holds(place, options.size) and len(read[sheet.name].window(window)) > 0
            )
        return known[sheet.name, place]

    splits: list[tuple[Region, Split]] = []
    chips: list[Chip] = []
    grounds = [region.ground for region in regions]
    for region, ground in zip(regions, grounds, strict=True):
        training = partial(_laid, region, anchored=True)
        validation = partial(_laid, region, anchored=False)
        split = split_ground(
            ground,
            options.size,
            options.validation,
            options.buffer,
            options.seed,
            lambda area: sum(promises(*place) for place in training(area)),  # noqa: B023
            lambda area: sum(promises(*place) for place in validation(area)),  # noqa: B023
        )
        splits.append((region, split))
        if options.validation > 0 and split.validation.is_empty:
            log.warning(
                f"{region.sheets[0].shown}: is too small for validation beside training, so all "
                "chips are for training. Give more imagery, or a smaller `size`."
            )
        if options.random is None:
            places = training(split.training)
        else:
            share = ground.area / sum(other.area for other in grounds)
            wanted = round(options.random * share)
            places = _scattered(region, split.training, wanted, options.seed, promises)
        chips += _chips(sheets, places, "train")
        chips += _chips(sheets, validation(split.validation), "val")
    return splits, chips


def _chips(
    sheets: Sequence[Sheet], places: Sequence[tuple[Sheet, Place]], split: Literal["train", "val"]
) -> list[Chip]:
    numbers = {sheet.name: number for number, sheet in enumerate(sheets)}
    return [
        Chip(numbers[sheet.name], (row, column), split, f"{sheet.name}_r{row}_c{column}")
        for sheet, (row, column) in places
    ]


def _laid(region: Region, area: BaseGeometry, *, anchored: bool) -> list[tuple[Sheet, Place]]:
    return [
        (sheet, place)
        for sheet in region.sheets
        for place in region.places(sheet, area, anchored=anchored)
    ]


def _scattered(
    region: Region,
    area: BaseGeometry,
    wanted: int,
    seed: int,
    promises: Callable[[Sheet, Place], bool],
) -> list[tuple[Sheet, Place]]:
    """Return places at random within an area, as many as are wanted or found."""
    random = np.random.default_rng((seed, 1))
    sheets = [s for s in region.sheets if min(s.grid.height, s.grid.width) >= region.size]
    areas = np.array([float(s.grid.height * s.grid.width) for s in sheets])
    found: dict[tuple[str, Place], Sheet] = {}
    for _ in range(wanted * TRIES):
        if len(found) == wanted:
            break
        sheet = sheets[int(random.choice(len(sheets), p=areas / areas.sum()))]
        place = (
            int(random.integers(sheet.grid.height - region.size + 1)),
            int(random.integers(sheet.grid.width - region.size + 1)),
        )
        if region.within(sheet, place, area) and promises(sheet, place):
            found[sheet.name, place] = sheet
    return [(sheet, place) for (_, place), sheet in found.items()]


def _bounds(sheet: Sheet, place: Place, height: int, width: int | None = None) -> Bounds:
    """Return the bounds of a sheet's pixels in its coordinates."""
    part = sheet.grid.part(*place, height, width or height)
    xs, ys = part.transform @ (
        np.array([0.0, 0.0, part.width, part.width]),
        np.array([0.0, part.height, 0.0, part.height]),
    )
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
