"""The card of a model before it is trained: what the recipe and the data sets say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sat2map.data.cache import DecodedPairs
from sat2map.data.pairs import read_dataset_card
from sat2map.errors import UsageError
from sat2map.legend import COVER, Legend
from sat2map.model.folder import DataFacts, ModelCard
from sat2map.networks.specs import NetworkSpec
from sat2map.recipe import Recipe


def draft_card(
    recipe: Recipe,
    data: Sequence[Path],
    count: int,
    channels: tuple[int, int],
    legend: Legend | None,
    resolution_m: tuple[float, float] | None,
) -> ModelCard:
    """Return what is known of the model before it is trained.

    Args:
        recipe: The recipe.
        data: The data sets.
        count: How many images they have for training.
        channels: How many bands sources and targets have.
        legend: The classes of the targets, or None.
        resolution_m: Finest and coarsest ground resolution that training sees, if known.
    """
    facts = [read_dataset_card(one) for one in data]
    if channels[0] == 3:
        bands: tuple[str, ...] = ("red", "green", "blue")
    else:
        bands = tuple(f"band_{i + 1}" for i in range(channels[0]))
    if legend is None and recipe.generator.head == "legend":
        raise UsageError(
            "generator.head is legend, but the targets have no legend",
            where=data[0],
            remedy="Name the classes in dataset.json, or choose `generator.head=colour`.",
        )
    if legend is None and recipe.validation.metric in {"mean_iou", "road_cldice"}:
        raise UsageError(
            f"validation.metric is {recipe.validation.metric}, but the targets have no legend",
            where=data[0],
            remedy="Name the classes in dataset.json, or choose `validation.metric=l1`.",
        )
    return ModelCard(
        generator=recipe.generator.for_data(
            in_channels=channels[0],
            out_channels=channels[1],
            size=recipe.data.size,
            colours=None if legend is None else legend.colours.tolist(),
        ),
        direction=recipe.data.direction,
        bands=bands,
        resolution_m=resolution_m,
        normalisation=_normalisation(recipe.generator, recipe, count),
        legend=legend,
        cover=COVER if recipe.generator.tells_cover else None,
        data=DataFacts(
            name=" + ".join(one.resolve().name for one in data),
            licence="; ".join(dict.fromkeys(f.licence for f in facts if f.licence)) or None,
            pairs=count,
        ),
    )


def _normalisation(spec: NetworkSpec, recipe: Recipe, count: int) -> str:
    match getattr(spec, "norm", "batch"):
        case "none":
            return "none"
        case "instance":
            return "each window's own (instance norm): windows of one scene will differ"
        case _ if recipe.training.keep_statistics:
            return "as in the model that training began with"
        case _:
            images = min(count, recipe.statistics.pictures)
            return f"mean over {images} training images after training"


def resolution_seen(
    recipe: Recipe, told: Sequence[float | None], sets: Sequence[DecodedPairs]
) -> tuple[float, float] | None:
    """Return the finest and coarsest ground resolution that training sees."""
    ends: list[float] = []
    for said, pairs in zip(told, sets, strict=True):
        resolution = said if len(told) > 1 and said else recipe.data.resolution_m or said
        if resolution is None:
            return None
        if recipe.data.resize is not None:
            shrunk = [side / recipe.data.resize for side in pairs.native_sides]
        elif recipe.data.scales is not None:
            most = min(pairs.pixels.shape[1:3]) / recipe.data.size
            shrunk = [min(scale, most) for scale in recipe.data.scales]
        else:
            shrunk = [1.0]
        ends += [resolution * by for by in shrunk]
    return min(ends), max(ends)
