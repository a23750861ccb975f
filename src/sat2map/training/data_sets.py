"""What a run learns from: its data sets, decoded, and what follows from them for the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sat2map.data.cache import DecodedPairs, decode_pairs
from sat2map.data.images import has_one_band
from sat2map.data.labels import label_targets
from sat2map.data.mask_cache import DecodedMasks, decode_masks
from sat2map.data.masks import find_masks, has_no_maps, is_mask_set
from sat2map.data.pairs import find_pairs, read_dataset_card
from sat2map.errors import DataError, UsageError
from sat2map.evaluation.classes import find_legend
from sat2map.legend import COVER, Legend
from sat2map.model.card import ModelCard, model_folder, read_model_card
from sat2map.progress import Progress
from sat2map.recipe import Recipe
from sat2map.training.batches import Batches
from sat2map.training.class_weights import class_weights, partial_weights
from sat2map.training.draft_card import draft_card, resolution_seen
from sat2map.training.mixture import Mixture
from sat2map.training.schedule import Plan
from sat2map.training.training_sets import MaskSet, PairSet, TrainingSet
from sat2map.training.updates import ClassFacts

Side = Literal["source", "target"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The data of a run.

    Attributes:
        card: The card of the model before it is trained.
        count: How many images there are for training.
        batches: Makes the batches by a plan, on a device.
        class_facts: What the losses of classes must know, on the CPU, or None.
        paired: Whether there are maps to learn from, and not class masks alone.
    """

    card: ModelCard
    count: int
    batches: Callable[[Plan, torch.device], Batches | Mixture]
    class_facts: ClassFacts | None
    paired: bool = True


def load_data_sets(
    recipe: Recipe,
    data: Sequence[Path],
    *,
    quiet: bool = False,
    heed: Callable[[], None] = lambda: None,
) -> TrainingData:
    """Decode the data sets of a run, or map what was decoded before.

    Args:
        recipe: The recipe.
        data: The data sets; the first one tells the legend.
        quiet: Show no progress.
        heed: Called again and again while sets are decoded; what it raises ends that.

    Raises:
        DataError: A set cannot be used, or two do not fit together.
        UsageError: The recipe asks for what the sets do not tell.
        OutputError: The cache cannot be written.
    """
    bands = _bands(recipe, data)
    if recipe.data.resolutions_m is not None:
        return _load_mixture(recipe, data, bands, quiet, heed)
    with Progress("decoding", quiet=quiet, unit="images") as progress:
        sets = _decode(recipe, data, bands, _with(heed, progress))
    legend = _legend(recipe, read_dataset_card(data[0]).legend, sets[0])
    told = [read_dataset_card(one).resolution_m for one in data]
    count = sum(len(part) for part in sets)
    channels = (sets[0].source_channels, sets[0].target_channels)
    card = draft_card(recipe, data, count, channels, legend, resolution_seen(recipe, told, sets))
    labels, facts = None, None
    if recipe.generator.head == "legend" and legend is not None:
        casing = _casing(recipe, legend, data[0])
        with Progress("labelling", quiet=quiet, unit="images") as progress:
            labels = [label_targets(pairs, legend, _with(heed, progress)) for pairs in sets]
        weights = class_weights(labels, legend, recipe.objective.class_balance)
        facts = ClassFacts(
            torch.from_numpy(weights),
            torch.from_numpy(legend.roads),
            torch.from_numpy(legend.of_role("building")),
            casing,
        )
    classes = 0 if legend is None else len(legend)

    def batches(plan: Plan, device: torch.device) -> Batches:
        return Batches(recipe, plan, sets, labels, classes, device)

    return TrainingData(card, count, batches, facts)


def _with(heed: Callable[[], None], progress: Progress) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        heed()
        progress.show(done, total)

    return show


def _bands(recipe: Recipe, data: Sequence[Path]) -> tuple[int | None, int | None]:
    """Return in how many bands sources and targets are read, 1, 3, or None for what they have.

    It is what the recipe says, or what the model has that the run begins with. Otherwise it is 1
    where all images are stored as grey, which is said. The targets of a legend have colours.

    Raises:
        UsageError: Targets of a legend are to be grey.
    """
    asked: dict[Side, int | None] = {
        "source": recipe.data.source_bands,
        "target": recipe.data.target_bands,
    }
    init = recipe.training.init
    if init is not None:
        begun = read_model_card(model_folder(init)).generator
        has: dict[Side, int] = {"source": begun.in_channels, "target": begun.out_channels}
        asked = {
            side: told or (has[side] if has[side] in (1, 3) else None)
            for side, told in asked.items()
        }
    if recipe.generator.head == "legend":
        if recipe.data.target_bands == 1:
            raise UsageError(
                "data.target_bands is 1, but the colours of a legend have 3 bands",
                remedy="Leave it out, or choose `generator.head=colour`.",
            )
        asked["target"] = 3
    for side, told in asked.items():
        if told is None and init is None and _all_grey(recipe, data, side):
            asked[side] = 1
            log.warning(
                f"{data[0]}: all {side} images are grey, so the model "
                f"{'takes' if side == 'source' else 'gives'} one band; `data.{side}_bands=3` has "
                "them read as colours."
            )
    return asked["source"], asked["target"]


def _all_grey(recipe: Recipe, data: Sequence[Path], side: Side) -> bool:
    """Return whether all images of training on a side are stored in one band."""
    first = (side == "source") == (recipe.data.direction == "forward")
    for folder in data:
        if has_no_maps(folder, "train"):
            if side == "target":
                return False  # painted in the colours of the legend
            files = [file.source for file in find_masks(folder, "train")]
        else:
            if side == "target" and read_dataset_card(folder).legend is not None:
                return False
            pairs = find_pairs(folder, "train")
            files = [pair.source if first else pair.target for pair in pairs]
        if not all(map(has_one_band, files)):
            return False
    return True


def _load_mixture(
    recipe: Recipe,
    data: Sequence[Path],
    bands: tuple[int | None, int | None],
    quiet: bool,
    heed: Callable[[], None],
) -> TrainingData:
    assert recipe.data.resolutions_m is not None
    shares = recipe.data.shares or [1.0] * len(data)
    if len(shares) != len(data):
        raise UsageError(
            f"data.shares has {len(shares)} numbers, but there are {len(data)} data sets",
            remedy="Give each data set its share of a batch.",
        )
    decoded: list[tuple[DecodedPairs | None, DecodedMasks | None]] = []
    for folder in data:
        with Progress(f"decoding {folder.name}", quiet=quiet, unit="images") as progress:
            show = _with(heed, progress)
            pairs, masks = None, None
            if is_mask_set(folder, "train"):
                masks = decode_masks(folder, "train", bands=bands[0], progress=show)
            if masks is None or (folder / "train" / "target").is_dir():
                pairs = decode_pairs(
                    folder, "train", resize=None, crop=1, bands=bands, progress=show
                )
            decoded.append((pairs, masks))
    channels = [_channels(pairs, masks) for pairs, masks in decoded]
    for folder, own in zip(data, channels, strict=True):
        if own != channels[0]:
            raise DataError(
                f"has {own[0]} + {own[1]} bands, but {data[0]} has {channels[0][0]} + "
                f"{channels[0][1]}",
                where=folder,
                remedy="Train on data sets with the same bands.",
            )
    pairs, masks = decoded[0]
    known = read_dataset_card(data[0]).legend
    if pairs is not None:
        legend = _legend(recipe, known, pairs)
    else:
        legend = _legend_beside_cover(recipe, known)
    if legend is None:
        raise UsageError(
            "the maps of the first data set have no legend",
            where=data[0],
            remedy="Name the classes in its dataset.json.",
        )
    casing = _casing(recipe, legend, data[0])
    sets: list[TrainingSet] = []
    for folder, (pairs, masks) in zip(data, decoded, strict=True):
        sets.append(_training_set(recipe, folder, legend, pairs, masks, first=folder == data[0]))
    count = sum(len(one) for one in sets)
    finest, coarsest = recipe.data.resolutions_m
    card = draft_card(recipe, data, count, channels[0], legend, (finest, coarsest))
    order = sorted(range(len(sets)), key=lambda i: (not sets[i].paired, not sets[i].complete))
    sets, shares = [sets[i] for i in order], [shares[i] for i in order]
    labels = [one.classes for one in sets if isinstance(one, PairSet)]
    balance = recipe.objective.class_balance
    if labels and all(one.complete for one in sets if one.paired):
        weights = class_weights(labels, legend, balance)
    else:
        weights = partial_weights(sets, shares, balance, len(legend), head=0)
    of_cover: tuple[Tensor, ...] = ()
    if recipe.generator.tells_cover:
        cover = partial_weights(sets, shares, balance, len(COVER), head=1)
        of_cover = tuple(map(torch.from_numpy, (cover, COVER.roads, COVER.of_role("building"))))
    facts = ClassFacts(
        torch.from_numpy(weights),
        torch.from_numpy(legend.roads),
        torch.from_numpy(legend.of_role("building")),
        casing,
        *of_cover,
    )

    def batches(plan: Plan, device: torch.device) -> Mixture:
        return Mixture(recipe, plan, sets, shares, legend, channels[0][0], device)

    return TrainingData(card, count, batches, facts, any(one.paired for one in sets))


def _legend_beside_cover(recipe: Recipe, of_masks: Legend | None) -> Legend | None:
    """Return the legend of the map where the first data set has masks alone.

    A run that begins with a model which draws maps, and learns land cover from the masks, goes on
    with that model's legend.
    """
    init = recipe.training.init
    if init is None or not recipe.generator.tells_cover or of_masks is None:
        return of_masks
    begun = read_model_card(model_folder(init))
    if begun.cover is None or of_masks.names != COVER.names:
        return of_masks
    return begun.legend


def _channels(pairs: DecodedPairs | None, masks: DecodedMasks | None) -> tuple[int, int]:
    if pairs is not None:
        return pairs.source_channels, pairs.target_channels
    assert masks is not None
    return masks.source_channels, 3  # painted in the colours of the legend


def _training_set(
    recipe: Recipe,
    folder: Path,
    legend: Legend,
    pairs: DecodedPairs | None,
    masks: DecodedMasks | None,
    *,
    first: bool,
) -> TrainingSet:
    resolution = read_dataset_card(folder).resolution_m
    if resolution is None and first:
        resolution = recipe.data.resolution_m
    if resolution is None:
        raise DataError(
            "does not say its ground resolution, which data.resolutions_m needs",
            where=folder,
            remedy="Write resolution_m, in metres per pixel, into its dataset.json.",
        )
    if pairs is not None:
        labels = label_targets(pairs, legend)
        told = read_dataset_card(folder).told
        return PairSet(pairs, labels, legend, masks, resolution, told)
    assert masks is not None
    if masks.legend.names != legend.names and not (
        recipe.generator.tells_cover and masks.legend.names == COVER.names
    ):
        raise DataError(
            f"has masks of the classes {', '.join(masks.legend.names)}, which the model does not "
            "tell",
            where=folder,
            remedy="Map the masks to the legend `cover` and set generator.cover=true, or train on "
            "this set first.",
        )
    return MaskSet(masks, legend, resolution)


def _casing(recipe: Recipe, legend: Legend, data: Path) -> int | None:
    """Return the number of the class of the roads' outlines, or None where none is asked for.

    Raises:
        UsageError: No class, or more than one, has the role or the name that is asked for.
    """
    asked = recipe.objective.casing
    if asked is None:
        return None
    by_role = [n for n, entry in enumerate(legend.classes) if entry.role == asked == "casing"]
    found = by_role or [n for n, name in enumerate(legend.names) if name == asked]
    if len(found) == 1:
        return found[0]
    what = "the role of several classes" if found else "not a class of the targets"
    raise UsageError(
        f"objective.casing is {asked!r}, which is {what}",
        where=data,
        remedy=f"Their classes are {', '.join(legend.names)}.",
    )


def _decode(
    recipe: Recipe,
    data: Sequence[Path],
    bands: tuple[int | None, int | None],
    progress: Callable[[int, int], None],
) -> list[DecodedPairs]:
    """Return the training pairs of each data set, decoded.

    Raises:
        DataError: A set cannot be used, or two have other bands than each other, or other
            sizes where crops are taken at the images' own scale.
    """
    sets = [
        decode_pairs(
            folder,
            "train",
            resize=recipe.data.resize,
            crop=1 if recipe.data.scales else recipe.data.size,
            direction=recipe.data.direction,
            bands=bands,
            progress=progress,
        )
        for folder in data
    ]
    for folder, pairs in zip(data, sets, strict=True):
        first = sets[0]
        alike = (pairs.source_channels, pairs.target_channels)
        if alike != (first.source_channels, first.target_channels):
            raise DataError(
                f"has {alike[0]} + {alike[1]} bands, but {data[0]} has "
                f"{first.source_channels} + {first.target_channels}",
                where=folder,
                remedy="Train on data sets with the same bands.",
            )
        if recipe.data.scales is None and pairs.pixels.shape[1:3] != first.pixels.shape[1:3]:
            raise DataError(
                f"has images of another size than {data[0]}",
                where=folder,
                remedy="Have them resized with data.resize, or scaled with data.scales.",
            )
    return sets


def _legend(recipe: Recipe, known: Legend | None, pairs: DecodedPairs) -> Legend | None:
    if recipe.data.direction == "forward" and known is not None:
        return known
    if pairs.target_channels != 3:
        return None
    some = range(0, len(pairs), max(1, len(pairs) // 20))
    return find_legend(pairs.pixels[i, :, :, pairs.source_channels :] for i in some)
