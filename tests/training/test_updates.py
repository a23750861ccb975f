"""The update steps against a second, naive computation that shares no code with them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from sat2map.evaluation import images
from sat2map.evaluation.report import PIXELS, STRUCTURE
from sat2map.networks.lite import Lite
from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet
from sat2map.networks.value_range import from_image, to_pixels
from sat2map.recipe import Objective
from sat2map.training import losses as objectives
from sat2map.training.batches import Batch
from sat2map.training.updates import (
    LOSSES,
    Adversaries,
    ClassFacts,
    ImageAndLogits,
    losses_of,
    mask_losses,
    update,
)

ADVERSARIAL = {
    "vanilla": (
        lambda d: nn.BCEWithLogitsLoss()(d, torch.ones_like(d)),
        lambda d: nn.BCEWithLogitsLoss()(d, torch.zeros_like(d)),
        lambda d: nn.BCEWithLogitsLoss()(d, torch.ones_like(d)),
    ),
    "least_squares": (
        lambda d: nn.MSELoss()(d, torch.ones_like(d)),
        lambda d: nn.MSELoss()(d, torch.zeros_like(d)),
        lambda d: nn.MSELoss()(d, torch.ones_like(d)),
    ),
    "hinge": (
        lambda d: torch.clamp(1 - d, min=0).mean(),
        lambda d: torch.clamp(1 + d, min=0).mean(),
        lambda d: -d.mean(),
    ),
}


def batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        tuple(torch.rand(2, 2, 3, 16, 16, generator=generator) * 2 - 1)  # type: ignore[misc]
        for _ in range(steps)
    ]


@pytest.mark.parametrize("kind", ["vanilla", "least_squares", "hinge"])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize(("gan", "l1"), [(1.0, 100.0), (1.0, 0.0), (0.0, 100.0)])
def test_a_few_steps_end_in_the_weights_of_a_naive_computation(
    kind: str, conditional: bool, gan: float, l1: float
) -> None:
    torch.manual_seed(0)
    g = UNet(size=16, base_channels=4, dropout=0.0)
    d = PatchGAN(base_channels=4, strided_layers=1, conditional=conditional)
    naive_g, naive_d = copy.deepcopy(g), copy.deepcopy(d)

    # The package's updates.
    fabric = Fabric(accelerator="cpu", devices=1)
    objective = Objective(adversarial=kind, adversarial_weight=gan, l1_weight=l1)  # type: ignore[arg-type]
    g_optimiser = torch.optim.Adam(g.parameters(), 2e-3, (0.5, 0.999), fused=True)
    d_optimiser = torch.optim.Adam(d.parameters(), 2e-3, (0.5, 0.999), fused=True)
    ours = ImageAndLogits(g)
    players = Adversaries(ours, g_optimiser, *((d, d_optimiser) if gan else ()))
    for source, target in batches(3):
        update(fabric, players, objective, Batch(source, target))

    # The same from the paper's formulas: separate graphs, everything computed anew.
    real, false, fool = ADVERSARIAL[kind]
    g_adam = torch.optim.Adam(naive_g.parameters(), 2e-3, (0.5, 0.999), foreach=False)
    d_adam = torch.optim.Adam(naive_d.parameters(), 2e-3, (0.5, 0.999), foreach=False)
    for source, target in batches(3):
        if gan:
            with torch.no_grad():
                generated = copy.deepcopy(naive_g)(source)
            d_loss = 0.5 * real(naive_d(source, target)) + 0.5 * false(naive_d(source, generated))
            d_adam.zero_grad()
            d_loss.backward()
            d_adam.step()
        generated = naive_g(source)
        loss = l1 * (generated - target).abs().mean()
        if gan:
            loss = loss + gan * fool(naive_d(source, generated))
        g_adam.zero_grad()
        loss.backward()
        g_adam.step()

    for network, naive in ((g, naive_g), (d, naive_d)):
        for (name, value), other in zip(
            network.named_parameters(), naive.parameters(), strict=True
        ):
            torch.testing.assert_close(value, other, atol=2e-5, rtol=1e-3, msg=name)
    assert not torch.equal(next(g.parameters()), torch.zeros(1))


def test_losses_are_reported_unweighted() -> None:
    torch.manual_seed(0)
    g = UNet(size=16, base_channels=4, dropout=0.0)
    players = Adversaries(ImageAndLogits(g), torch.optim.SGD(g.parameters(), 0.0))
    source, target = batches(1)[0]
    losses = update(
        Fabric(accelerator="cpu", devices=1),
        players,
        Objective(adversarial_weight=0.0, l1_weight=7.0),
        Batch(source, target),
    )
    expected = torch.zeros(len(LOSSES))
    expected[2] = 127.5 * (g(source) - target).abs().mean()
    torch.testing.assert_close(losses, expected)


def test_a_loss_and_a_metric_of_one_name_have_one_scale() -> None:
    metrics = {metric.name for metric in STRUCTURE + PIXELS}
    assert set(LOSSES) & metrics == {"l1"}
    torch.manual_seed(0)
    g = UNet(size=16, base_channels=4, dropout=0.0)
    players = Adversaries(ImageAndLogits(g), torch.optim.SGD(g.parameters(), 0.0))
    source, target = batches(1)[0]
    true, drawn = to_pixels(target).numpy(), to_pixels(g(source)).numpy()
    batch = Batch(source, from_image(true[0]))
    losses = update(
        Fabric(accelerator="cpu", devices=1), players, Objective(adversarial_weight=0.0), batch
    )
    metric = images.l1(drawn[0], true[0])
    assert float(losses[LOSSES.index("l1")]) == pytest.approx(metric, abs=0.5)  # of rounding


def test_only_losses_that_a_run_has_are_logged() -> None:
    assert losses_of(Objective(), paired=True) == LOSSES[:3]
    assert losses_of(Objective(adversarial_weight=0.0), paired=True) == ("l1",)
    assert losses_of(Objective(l1_weight=0.0), paired=True) == LOSSES[:3]
    classes = Objective(adversarial_weight=0, l1_weight=0, class_weight=1, road_cldice_weight=1)
    assert losses_of(classes, paired=True) == ("l1", "classes", "road_cldice_loss")
    assert losses_of(classes, paired=False) == ("classes",)


def test_the_generators_step_leaves_the_discriminators_gradients_alone() -> None:
    torch.manual_seed(0)
    g, d = UNet(size=16, base_channels=4), PatchGAN(base_channels=4, strided_layers=1)
    players = Adversaries(
        ImageAndLogits(g),
        torch.optim.SGD(g.parameters(), 0.1),
        d,
        torch.optim.SGD(d.parameters(), 0.0),
    )
    source, target = batches(1)[0]
    before = [p.clone() for p in d.parameters()]
    update(Fabric(accelerator="cpu", devices=1), players, Objective(), Batch(source, target))
    gradients = [p.grad.clone() for p in d.parameters() if p.grad is not None]
    assert len(gradients) == len(before)
    d.requires_grad_(True)
    d.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(before, d.parameters(), strict=True))


def labelled(k: int = 3) -> tuple[UNet, Batch, ClassFacts]:
    torch.manual_seed(0)
    g = UNet(size=16, base_channels=4, dropout=0.0, colours=[(9 * i, 80 * i, 7) for i in range(k)])
    source, target = batches(1)[0]
    shares = torch.rand(2, k, 16, 16).softmax(1)
    return (
        g,
        Batch(source, target, shares),
        ClassFacts(torch.ones(k), torch.arange(k) == 1, torch.arange(k) == 2),
    )


def test_casings_are_asked_for_only_where_a_class_is_named() -> None:
    g, batch, facts = labelled()
    players = Adversaries(ImageAndLogits(g), torch.optim.SGD(g.parameters(), 0.0))
    objective = Objective(adversarial_weight=0.0, l1_weight=0.0, class_weight=1.0)
    fabric = Fabric(accelerator="cpu", devices=1)
    plain, cased = (
        update(fabric, players, objective, batch, replace(facts, casing=casing))[3]
        for casing in (None, 2)
    )
    with torch.no_grad():
        logits, shares = g.logits(batch.source), batch.shares
        roads = (shares[:, 1] > 0.4).float()
        drawn = (4 * logits).softmax(1)[:, 1]
        wanted = objectives.with_casings(shares, drawn, roads, facts.weights, 2)
        torch.testing.assert_close(plain, objectives.class_loss(logits, shares, facts.weights))
        torch.testing.assert_close(cased, objectives.class_loss(logits, wanted, facts.weights))
    assert plain != cased


def test_each_loss_of_classes_is_counted_with_its_weight_and_only_then() -> None:
    g, batch, facts = labelled()
    players = Adversaries(ImageAndLogits(g), torch.optim.SGD(g.parameters(), 0.0))
    fabric = Fabric(accelerator="cpu", devices=1)
    nothing = {"adversarial_weight": 0.0, "l1_weight": 0.0}
    gradients = []
    for weights in (
        {"class_weight": 2.0},
        {"road_dice_weight": 3.0},
        {"road_cldice_weight": 4.0},
        {"class_weight": 2.0, "road_dice_weight": 3.0, "road_cldice_weight": 4.0},
    ):
        losses = update(fabric, players, Objective(**nothing, **weights), batch, facts)
        assert int((losses[3:] > 0).sum()) == len(weights)
        gradients.append(g.decoder[-1][1].weight.grad.clone())
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)
    torch.testing.assert_close(sum(gradients[:3]), gradients[3])


def test_long_gradients_are_shortened() -> None:
    g, batch, facts = labelled()
    players = Adversaries(ImageAndLogits(g), torch.optim.SGD(g.parameters(), 0.0))
    fabric = Fabric(accelerator="cpu", devices=1)
    update(fabric, players, Objective(adversarial_weight=0.0), batch, facts, clip_norm=0.01)
    length = torch.cat([p.grad.flatten() for p in g.parameters()]).norm()
    torch.testing.assert_close(length, torch.tensor(0.01), rtol=1e-3, atol=0)


def both_legends() -> ClassFacts:
    """Return what is to know of a map of land and roads, and of land cover."""
    return ClassFacts(
        torch.ones(2),
        torch.tensor([False, True]),
        torch.zeros(2, dtype=torch.bool),
        None,
        torch.ones(5),
        torch.eye(5)[2].bool(),
        torch.eye(5)[1].bool(),
    )


def test_where_nothing_is_told_the_generator_stays_with_its_teacher() -> None:
    torch.manual_seed(0)
    colours = [[0, 0, 0], [255, 255, 255]]
    teacher, pupil = (
        ImageAndLogits(Lite(colours=colours, cover_classes=5, widths=(4, 4, 4, 4)).eval())
        for _ in range(2)
    )
    players = Adversaries(pupil, torch.optim.Adam(pupil.parameters(), 1e-2), teacher=teacher)
    objective = Objective(
        adversarial_weight=0.0, l1_weight=0.0, class_weight=1.0, distillation_weight=1.0
    )
    batch = Batch(torch.rand(2, 3, 32, 32) * 2 - 1, None, None, None, torch.ones(2, 5, 32, 32))
    facts = both_legends()
    fabric = Fabric(accelerator="cpu", devices=1)
    number = LOSSES.index("distillation")
    apart = [float(update(fabric, players, objective, batch, facts)[number]) for _ in range(30)]
    assert apart[-1] < 0.5 * apart[0]
    told = Batch(batch.source, None, None, None, torch.eye(5)[1].expand(2, 32, 32, 5).movedim(3, 1))
    losses = dict(zip(LOSSES, update(fabric, players, objective, told, facts), strict=True))
    assert float(losses["cover"]) > 0
    assert float(losses["building_dice"]) == 0
    asked = objective.model_copy(update={"building_dice_weight": 1.0})
    number = LOSSES.index("building_dice")
    dice = [float(update(fabric, players, asked, told, facts)[number]) for _ in range(20)]
    assert dice[0] > 0.3 and dice[-1] < dice[0] - 0.05


def test_missed_roads_are_asked_for_in_both_legends() -> None:
    network = Lite(colours=[[0, 0, 0], [255, 255, 255]], cover_classes=5, widths=(4, 4, 4, 4))
    pupil = ImageAndLogits(network.eval())
    players = Adversaries(pupil, torch.optim.Adam(pupil.parameters(), 1e-2))
    objective = Objective(adversarial_weight=0.0, l1_weight=0.0, road_recall_weight=1.0)
    facts = both_legends()
    road = torch.zeros(1, 32, 32)
    road[:, 14:18] = 1
    shares = torch.stack([1 - road, road], 1)
    cover = torch.zeros(1, 5, 32, 32)
    cover[:, 2], cover[:, 0] = road, 1 - road
    source = torch.rand(1, 3, 32, 32) * 2 - 1
    batch = Batch(source, torch.zeros(1, 3, 32, 32), shares, None, cover)
    fabric = Fabric(accelerator="cpu", devices=1)
    number = LOSSES.index("road_recall")
    missed = [float(update(fabric, players, objective, batch, facts)[number]) for _ in range(25)]
    assert missed[-1] < missed[0] - 0.5  # of 2, one of each legend
    with torch.no_grad():
        _, drawn, seen = pupil(source)
    assert drawn[0, 1, 15].mean() > drawn[0, 0, 15].mean()
    assert seen[0, 2, 15].mean() > seen[0, [0, 1, 3, 4], 15].mean()


def test_labels_that_know_no_road_do_not_push_roads_away() -> None:
    roads = torch.tensor([False, True, False])
    logits = torch.zeros(1, 3, 8, 8, requires_grad=True)
    may_be = torch.ones(1, 3, 8, 8)
    may_be[:, :2, :4] = 0  # houses above, below anything
    losses = mask_losses(logits, may_be, torch.ones(3), roads)
    assert losses[0] > 0 and losses[1] == 0
    may_be[:, :, 4:] = torch.tensor([0.0, 1, 0])[:, None, None]  # roads below
    assert mask_losses(logits, may_be, torch.ones(3), roads)[1] > 0
