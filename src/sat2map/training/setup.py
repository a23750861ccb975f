"""What a run begins with: its folder, the model's card, the networks and optimisers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sat2map.data.cache import DecodedPairs
from sat2map.data.pairs import read_card
from sat2map.errors import UsageError
from sat2map.evaluation.classes import find_legend
from sat2map.legend import Legend
from sat2map.model import DataFacts, GeneratorSpec, ModelCard, build_generator, load_model
from sat2map.networks.patchgan import PatchGAN
from sat2map.recipe import Recipe, load_recipe
from sat2map.training.updates import Adversaries


def check_run(run: Path, recipe: Recipe, resume: bool) -> None:
    """Check that the run folder is free, or is the one of this recipe where it is resumed."""
    kept = run / "recipe.toml"
    if run.exists() and not run.is_dir():
        raise UsageError("is a file", where=run, remedy="Name a folder with --out.")
    if not resume and run.is_dir() and any(run.iterdir()):
        raise UsageError(
            "is not empty",
            where=run,
            remedy="Go on with its run by --resume, or choose another folder with --out.",
        )
    if kept.is_file():
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
    """Remove what a kill left half-written: files and folders whose names begin with a dot."""
    for left in [*run.glob(".*"), *(run / "checkpoints").glob(".*")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def card(recipe: Recipe, data: Path, pairs: DecodedPairs) -> ModelCard:
    """Return what is known of the model before it is trained."""
    facts = read_card(data)
    resolution = recipe.data.resolution_m or facts.resolution_m
    scales = None
    if resolution is not None:
        shrunk = [1.0, 1.0]
        if recipe.data.resize is not None:
            shrunk = [side / recipe.data.resize for side in pairs.native_sides]
        scales = (resolution * shrunk[0], resolution * shrunk[1])
    if pairs.source_channels == 3:
        bands: tuple[str, ...] = ("red", "green", "blue")
    else:
        bands = tuple(f"band_{i + 1}" for i in range(pairs.source_channels))
    legend = _legend(recipe, facts.legend, pairs)
    if legend is None and recipe.validation.metric in {"mean_iou", "road_cldice"}:
        raise UsageError(
            f"validation.metric is {recipe.validation.metric}, but the targets have no legend",
            where=data,
            remedy="Name the classes in dataset.json, or choose --set validation.metric=l1.",
        )
    return ModelCard(
        generator=GeneratorSpec(
            name=recipe.generator.name,
            arguments={
                "in_channels": pairs.source_channels,
                "out_channels": pairs.target_channels,
                "size": recipe.data.size,
                **recipe.generator.model_dump(exclude={"name"}),
            },
        ),
        direction=recipe.data.direction,
        bands=bands,
        resolution_m=scales,
        normalisation=f"mean over {min(len(pairs), recipe.statistics.pictures)} training "
        "pictures after training",
        legend=legend,
        data=DataFacts(name=data.resolve().name, licence=facts.licence, pairs=len(pairs)),
    )


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


def discriminator(recipe: Recipe, pairs: DecodedPairs) -> nn.Module | None:
    """Return the discriminator, or None where the objective has no adversarial part."""
    if recipe.objective.adversarial_weight == 0:
        return None
    return PatchGAN(
        pairs.source_channels, pairs.target_channels, **recipe.discriminator.model_dump()
    )


def set_up(
    fabric: Fabric, recipe: Recipe, generator: nn.Module, discriminator: nn.Module | None
) -> Adversaries:
    """Bring the networks to the device and give each its optimiser."""

    def prepare_one(network: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
        if recipe.training.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.to(fabric.device)
        optimiser = torch.optim.Adam(
            [p for p in network.parameters() if p.requires_grad],
            lr=recipe.optimiser.learning_rate,
            betas=(recipe.optimiser.beta1, recipe.optimiser.beta2),
            fused=True,
        )
        compiled = torch.compile(network) if recipe.training.compile else network
        module, wrapped = fabric.setup(cast(nn.Module, compiled), optimiser)
        return module, wrapped

    players = prepare_one(generator)
    if discriminator is None:
        return Adversaries(*players)
    return Adversaries(*players, *prepare_one(discriminator))


def average(generator: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return an exponential moving average of the generator, or None without a decay."""
    if decay is None:
        return None
    return AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
