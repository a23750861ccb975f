from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sat2map.training import losses as objectives
from sat2map.training.losses import (
    certain_places,
    discriminator_loss,
    distillation_loss,
    generator_adversarial_loss,
    l1_loss,
    partial_loss,
)

REAL = torch.tensor([2.0, -1.0, 0.5])
GENERATED = torch.tensor([[0.25, -3.0]])  # of another shape: each is averaged by itself


def softplus(x: float) -> float:
    return log(1 + exp(x))


@pytest.mark.parametrize(
    ("kind", "real", "generated"),
    [
        (
            "vanilla",
            (softplus(-2) + softplus(1) + softplus(-0.5)) / 3,
            (softplus(0.25) + softplus(-3)) / 2,
        ),
        ("least_squares", (1 + 4 + 0.25) / 3, (0.0625 + 9) / 2),
        ("hinge", (0 + 2 + 0.5) / 3, (1.25 + 0) / 2),
    ],
)
def test_the_discriminators_loss_is_half_the_sum(kind: Any, real: float, generated: float) -> None:
    loss = discriminator_loss(REAL, GENERATED, kind)
    assert loss.shape == ()
    assert float(loss) == pytest.approx((real + generated) / 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("vanilla", (softplus(-0.25) + softplus(3)) / 2),
        ("least_squares", (0.5625 + 16) / 2),
        ("hinge", (-0.25 + 3) / 2),
    ],
)
def test_the_generators_loss(kind: Any, expected: float) -> None:
    loss = generator_adversarial_loss(GENERATED, kind)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected)


def test_vanilla_is_cross_entropy_with_logits() -> None:
    real, generated = torch.randn(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * 5
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    entropy = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        discriminator_loss(real, generated, "vanilla"),
        (entropy(real, ones) + entropy(generated, zeros)) / 2,
    )
    torch.testing.assert_close(
        generator_adversarial_loss(generated, "vanilla"), entropy(generated, ones)
    )
    extreme = torch.tensor([1000.0, -1000.0])
    assert float(discriminator_loss(extreme, extreme, "vanilla")) == pytest.approx(500)


@pytest.mark.parametrize("kind", ["vanilla", "least_squares", "hinge"])
def test_the_gradients_point_apart(kind: Any) -> None:
    real = torch.full((3,), 0.5, requires_grad=True)
    generated = torch.full((3,), 0.5, requires_grad=True)
    discriminator_loss(real, generated, kind).backward()
    assert real.grad is not None
    assert generated.grad is not None
    assert (real.grad < 0).all()  # higher decisions on real pairs lower the loss
    assert (generated.grad > 0).all()
    generated.grad = None
    generator_adversarial_loss(generated, kind).backward()
    assert (generated.grad < 0).all()  # type: ignore[operator]


def test_l1_is_the_mean_absolute_difference() -> None:
    generated = torch.tensor([[1.0, -1.0], [0.5, 0.0]])
    assert float(l1_loss(generated, torch.zeros(2, 2))) == pytest.approx(0.625)


def test_class_loss_is_cross_entropy_with_shares() -> None:
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]]]])  # two classes, two pixels
    shares = torch.tensor([[[[1.0, 0.25]], [[0.0, 0.75]]]])
    log = logits.log_softmax(1)
    first, second = -log[0, 0, 0, 0], -(0.25 * log[0, 0, 0, 1] + 0.75 * log[0, 1, 0, 1])
    even = objectives.class_loss(logits, shares, torch.ones(2))
    torch.testing.assert_close(even, (first + second) / 2)
    # With weights, a pixel counts by the weights of what is in it.
    weighted = objectives.class_loss(logits, shares, torch.tensor([1.0, 3.0]))
    second = -(0.25 * log[0, 0, 0, 1] + 3 * 0.75 * log[0, 1, 0, 1])
    torch.testing.assert_close(weighted, (first + second) / (1 + 0.25 + 3 * 0.75))


LAND, ROAD, CASING = range(3)


def street(at: int, cased: bool = True) -> Tensor:
    """Return shares of land, a vertical street and its casing, float [1,3,20,20]."""
    labels = torch.full((20, 20), LAND)
    if cased:
        labels[:, [at - 1, at + 3]] = CASING
    labels[:, at : at + 3] = ROAD
    return F.one_hot(labels, 3).movedim(-1, 0)[None].float()


def test_a_road_that_is_drawn_gets_its_casing_where_it_lies() -> None:
    shares, drawn = street(9), street(5)[:, ROAD]
    weights = torch.tensor([1.0, 2.0, 3.0])
    cased = objectives.with_casings(shares, drawn, shares[:, ROAD], weights, CASING)
    torch.testing.assert_close(cased.sum(1), torch.ones(1, 20, 20))
    row = cased[0, :, 10]
    weighed = row * weights[:, None]
    for beside in (3, 4):
        assert weighed[CASING, beside] == weighed[LAND, beside] == 0.75, (
            "as likely as what is there"
        )
    assert torch.equal(row[:, 9:12], shares[0, :, 10, 9:12]), "a road that is missed is a road"
    assert torch.equal(row[:, 13:], shares[0, :, 10, 13:])
    assert torch.equal(row[:, :3], shares[0, :, 10, :3])


def test_no_casing_where_the_map_has_none() -> None:
    shares, drawn = street(9, cased=False), street(5)[:, ROAD]
    cased = objectives.with_casings(shares, drawn, shares[:, ROAD], torch.ones(3), CASING)
    assert torch.equal(cased, shares)


@pytest.mark.parametrize("asked", [False, True])
def test_casings_are_drawn_although_their_place_is_uncertain(asked: bool) -> None:
    logits = torch.zeros(1, 3, 20, 20, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.05)
    for step in range(200):
        shares = wanted = street(7 + step % 4)
        if asked:
            drawn = (4 * logits).softmax(1)[:, ROAD].detach()
            wanted = objectives.with_casings(shares, drawn, shares[:, ROAD], torch.ones(3), CASING)
        optimiser.zero_grad()
        objectives.class_loss(logits, wanted, torch.ones(3)).backward()
        optimiser.step()
    likeliest = logits.softmax(1)[0, CASING].mean(0).max()
    assert likeliest > 0.4 if asked else likeliest < 0.3, likeliest


def test_dice_loss_by_hand() -> None:
    mask = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    found = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    torch.testing.assert_close(objectives.dice_loss(found, mask), torch.tensor(1 - 3 / 5))
    assert objectives.dice_loss(mask, mask) == 0


def test_a_gap_in_a_road_costs_more_centre_line_than_a_thinner_road_does() -> None:
    road = torch.zeros(1, 32, 32)
    road[:, 13:18] = 1
    skeleton = objectives.soft_skeleton(road, 5)
    assert torch.equal(skeleton[0, :, 16].nonzero()[:, 0], torch.tensor([15]))
    thinner, broken = road.clone(), road.clone()
    thinner[:, 13] = thinner[:, 17] = 0
    broken[:, :, 12:20] = 0
    assert objectives.cldice_loss(road, road) < 0.05
    assert objectives.cldice_loss(thinner, road) < 0.05
    assert objectives.cldice_loss(broken, road) > 0.1
    assert objectives.dice_loss(thinner, road) > objectives.dice_loss(broken, road)


def test_centre_lines_that_are_missed_cost_and_thin_roads_do_not() -> None:
    road = torch.zeros(1, 32, 32)
    road[:, 13:18] = 1
    thinner, broken = road.clone(), road.clone()
    thinner[:, 13] = thinner[:, 17] = 0
    broken[:, :, 8:24] = 0
    assert objectives.line_recall_loss(torch.ones_like(road), road) == 0
    assert objectives.line_recall_loss(thinner, road) == 0
    half = objectives.line_recall_loss(broken, road)
    assert 0.45 < float(half) < 0.6  # 16 of the 30 columns that a thinned line keeps, or so
    assert objectives.line_recall_loss(road * 0, road * 0) == 0  # no road is none missed


def test_partial_loss_asks_only_for_what_is_known() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    may_be = torch.ones(2, 3, 4, 4)
    weights = torch.tensor([1.0, 2.0, 3.0])
    assert float(partial_loss(logits, may_be, weights)) == 0
    may_be[0, :, 0, 0] = torch.tensor([0.0, 1.0, 0.0])  # certainly the second class
    may_be[0, :, 0, 1] = torch.tensor([1.0, 0.0, 1.0])  # not the second class
    p = logits.softmax(1)[0]
    by_hand = (2 * -p[1, 0, 0].log() + 2 * -(1 - p[1, 0, 1]).log()) / (2 + 2)
    torch.testing.assert_close(partial_loss(logits, may_be, weights), by_hand)


def test_partial_loss_counts_each_image_alike() -> None:
    logits = torch.zeros(2, 2, 8, 8)
    logits[0, 0], logits[1, 0] = 2.0, -1.0
    may_be = torch.ones(2, 2, 8, 8)
    may_be[0, 1, 0, 0] = 0  # one pixel is known of the first image,
    may_be[1, 1] = 0  # and all of the second
    p = logits.softmax(1)
    by_hand = (-p[0, 0, 0, 0].log() - p[1, 0, 0, 0].log()) / 2
    torch.testing.assert_close(partial_loss(logits, may_be, torch.ones(2)), by_hand)


def test_certain_places() -> None:
    roads = torch.tensor([False, True, False])
    columns = {
        (0.0, 1.0, 0.0): (1, 1),  # a road
        (1.0, 0.0, 1.0): (0, 1),  # no road
        (1.0, 1.0, 1.0): (0, 0),  # unknown
        (1.0, 1.0, 0.0): (0, 0),  # a road or land
        (0.5, 0.5, 0.0): (1, 1),  # half of the pixel is road
        (0.7, 0.3, 0.0): (0, 1),
    }
    may_be = torch.tensor(list(columns)).T[None, :, None]
    road, asked = certain_places(may_be, roads, 0.4)
    assert list(zip(road.flatten().tolist(), asked.flatten().tolist(), strict=True)) == list(
        columns.values()
    )


def test_distillation_stays_with_the_teacher_where_labels_leave_a_choice() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 2, 3, 2, 2, generator=generator)
    may_be = torch.zeros(2, 3, 2, 2)
    may_be[:, 1] = 1  # certain everywhere: nothing to distil
    assert float(distillation_loss(logits, teacher, may_be)) == 0
    may_be[0, :, 0, 0] = torch.tensor([1.0, 0.0, 1.0])  # not the second class
    q = teacher[0, :, 0, 0].softmax(0)[[0, 2]]
    q = q / q.sum()
    p = logits[0, :, 0, 0].softmax(0)[[0, 2]]
    by_hand = (q * (q.log() - p.log())).sum()
    torch.testing.assert_close(distillation_loss(logits, teacher, may_be), by_hand)
