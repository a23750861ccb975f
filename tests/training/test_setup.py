from __future__ import annotations

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import nn

from sat2map.legend import STREETS
from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet
from sat2map.recipe import Recipe
from sat2map.training import setup
from sat2map.training.batches import Batch
from sat2map.training.cuda_graph import set_learning_rate
from sat2map.training.updates import ClassFacts, update

Small = Callable[..., Recipe]
LITE = (
    "data.resize=none",
    "data.size=32",
    "data.resolutions_m=[0.5, 2.0]",
    "generator.name=lite",
    "generator.encoder=none",
    "generator.widths=[4, 4, 4, 4]",
    "generator.head=legend",
    "objective.adversarial_weight=0.0",
    "objective.l1_weight=0.0",
    "objective.class_weight=1.0",
    "optimiser.name=adamw",
    "optimiser.weight_decay=0.0",
    "optimiser.learning_rate=1e-3",
)


def first_step(recipe: Recipe) -> tuple[float, float]:
    """Return the longest way that a weight of the encoder, and of the rest, goes in a step."""
    torch.manual_seed(0)
    spec = recipe.generator.for_data(
        in_channels=3, out_channels=3, size=32, colours=STREETS.colours.tolist()
    )
    network = spec.build()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    fabric = Fabric(accelerator="cpu", devices=1)
    players = setup.set_up(fabric, recipe, network, None)
    set_learning_rate([players.generator_optimiser], recipe.optimiser.learning_rate)
    source = torch.rand(2, 3, 32, 32) * 2 - 1
    shares = torch.rand(2, len(STREETS), 32, 32).softmax(1)
    facts = ClassFacts(
        torch.ones(len(STREETS)),
        torch.from_numpy(STREETS.roads),
        torch.from_numpy(STREETS.of_role("building")),
    )
    update(fabric, players, recipe.objective, Batch(source, source, shares), facts)
    longest = {True: 0.0, False: 0.0}
    for name, value in network.named_parameters():
        way = float((value.detach() - before[name]).abs().max())
        part = name.startswith("encoder.")
        longest[part] = max(longest[part], way)
    return longest[True], longest[False]


def test_the_encoder_learns_at_its_own_rate(small: Small) -> None:
    """The first step of Adam is as long as the learning rate, whatever the gradient."""
    encoder, rest = first_step(small(*LITE, "optimiser.encoder_rate=0.25"))
    torch.testing.assert_close(rest, 1e-3, rtol=0.01, atol=0)
    torch.testing.assert_close(encoder, 0.25e-3, rtol=0.01, atol=0)


def test_at_the_same_rate_encoder_and_decoder_are_one_group(small: Small) -> None:
    """As runs that earlier versions began have it, which are gone on with."""
    encoder, rest = first_step(small(*LITE))
    torch.testing.assert_close(encoder, rest, rtol=0.01, atol=0)
    recipe = small(*LITE)
    network = recipe.generator.for_data(
        in_channels=3, out_channels=3, size=32, colours=STREETS.colours.tolist()
    ).build()
    players = setup.set_up(Fabric(accelerator="cpu", devices=1), recipe, network, None)
    assert len(players.generator_optimiser.param_groups) == 2  # kernels, and what does not decay


def is_channels_last(network: nn.Module) -> set[bool]:
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    return {weight.stride(1) == 1 for weight in weights if weight.shape[1] > 1}


def test_the_discriminators_layout_changes_nothing_but_its_speed(small: Small) -> None:
    """In float32 on a CPU it is laid channels last; the generator is where it is asked for."""
    losses = {}
    for precision in ("f32", "bf16-mixed"):
        recipe = small(f"training.precision={precision}")
        torch.manual_seed(0)
        fabric = Fabric(accelerator="cpu", devices=1)  # in float32, so that both compare
        generator = UNet(size=32, base_channels=4, dropout=0.0)
        players = setup.set_up(fabric, recipe, generator, PatchGAN(base_channels=8))
        assert players.discriminator is not None
        assert is_channels_last(generator) == {False}
        assert is_channels_last(players.discriminator) == {precision == "f32"}
        batch = Batch(*torch.rand(2, 2, 3, 32, 32) * 2 - 1)
        losses[precision] = [update(fabric, players, recipe.objective, batch) for _ in range(3)]
    one, other = map(torch.stack, losses.values())
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
