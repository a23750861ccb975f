from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sat2map.networks.normalisation import (
    in_published_mode,
    keep_statistics,
    norm_has_shift,
    norm_layer,
    recalibrate,
)
from sat2map.networks.unet import UNet

TRACKING = ["batch", "instance_calibrated"]


def state(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def images(count: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def unet(**named: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(size=16, base_channels=4, **named)


def test_each_kind_gives_its_layer() -> None:
    assert isinstance(norm_layer("batch", 3), nn.BatchNorm2d)
    assert isinstance(norm_layer("none", 3), nn.Identity)
    x = torch.rand(2, 3, 5, 5) * 9
    for kind in ("instance", "instance_calibrated"):
        layer = norm_layer(kind, 3).train()  # type: ignore[arg-type]
        y = layer(x)
        torch.testing.assert_close(y.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
        # Only the calibrated one has statistics to keep.
        assert (layer.running_mean is not None) == (kind == "instance_calibrated")
        assert not list(layer.parameters())
    assert [norm_has_shift(k) for k in ("batch", "instance", "none")] == [True, False, False]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", [*TRACKING, "instance", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_as_published_leaves_the_network_as_it_was(norm: Any, training: bool) -> None:
    network = unet(norm=norm).train(training)
    network.encoder[1].train(not training)  # a mixture of modes is kept too
    modes = [(type(m), m.training) for m in network.modules()]
    tracking = [getattr(m, "track_running_stats", None) for m in network.modules()]
    before = state(network)
    published = in_published_mode(network, generator())
    published(images(2))
    assert same(state(network), before)
    assert [(type(m), m.training) for m in network.modules()] == modes
    assert [getattr(m, "track_running_stats", None) for m in network.modules()] == tracking
    ours = {id(parameter) for parameter in network.parameters()}
    assert ours == {id(parameter) for parameter in published.parameters()}  # none is a copy


@pytest.mark.parametrize("norm", [*TRACKING, "instance", "none"])
def test_as_published_dropout_is_random_only_if_on(norm: Any) -> None:
    network, source = unet(norm=norm).eval(), images(1)
    random = torch.random.get_rng_state()
    with torch.no_grad():
        published = in_published_mode(network, generator())
        first = published(source)
        assert not torch.equal(published(source), first)  # it draws on
        assert torch.equal(in_published_mode(network, generator())(source), first)
        assert not torch.equal(in_published_mode(network, generator(1))(source), first)
        off = in_published_mode(network)
        assert torch.equal(off(source), off(source))
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_as_published_is_torchs_own_with_the_same_seed(p: float) -> None:
    """On a CPU; a GPU draws in another order."""
    layers, source = nn.Sequential(nn.Dropout(p)), images(2)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = layers.train()(source)
    assert torch.equal(in_published_mode(layers.eval(), generator(5))(source), expected)


@pytest.mark.parametrize("norm", TRACKING)
def test_as_published_normalises_by_the_image_itself(norm: Any) -> None:
    layer = norm_layer(norm, 2).eval()
    for buffer in (layer.running_mean, layer.running_var):
        buffer.fill_(7.0)  # type: ignore[operator, union-attr]
    x = torch.rand(1, 2, 8, 8) * 5 + 3
    with torch.no_grad():
        y = in_published_mode(layer)(x)
    expected = (x - x.mean((2, 3), keepdim=True)) / (
        x.var((2, 3), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("norm", TRACKING)
def test_recalibrate_against_a_calculation_layer_by_layer(norm: Any) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 2, 3),
        norm_layer(norm, 2),
        nn.ReLU(),
        nn.Dropout(0.9),
        nn.Conv2d(2, 4, 3),
        norm_layer(norm, 4),
    )
    if norm == "batch":
        nn.init.uniform_(network[1].weight, 0.5, 2)
        nn.init.uniform_(network[1].bias, -1, 1)
    sources = images(3)
    sources[1] *= 0.2
    means: list[list[Tensor]] = [[], []]
    variances: list[list[Tensor]] = [[], []]
    for source in sources:
        x = F.conv2d(source[None], network[0].weight, network[0].bias)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        means[0].append(mean)
        variances[0].append(variance)
        x = (x - mean[None, :, None, None]) / (variance[None, :, None, None] + 1e-5).sqrt()
        if norm == "batch":
            x = x * network[1].weight[:, None, None] + network[1].bias[:, None, None]
        x = F.conv2d(x.relu(), network[4].weight, network[4].bias)  # and no dropout
        means[1].append(x.mean((0, 2, 3)))
        variances[1].append(x.var((0, 2, 3), correction=0))
    assert recalibrate(network, [sources[:2], sources[2:]]) == 3
    for layer, mean, variance in zip((network[1], network[5]), means, variances, strict=True):
        torch.testing.assert_close(layer.running_mean, torch.stack(mean).mean(0))
        torch.testing.assert_close(layer.running_var, torch.stack(variance).mean(0))


@pytest.mark.parametrize("norm", TRACKING)
def test_recalibrate_does_not_depend_on_the_grouping(norm: Any) -> None:
    sources = images(6)
    results = []
    for size in (1, 4, 6):
        network = unet(norm=norm)
        assert recalibrate(network, torch.split(sources, size)) == 6
        results.append(state(network))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_recalibrate_changes_only_the_statistics() -> None:
    network = unet().eval()
    before = state(network)
    recalibrate(network, [images(2)])
    after = state(network)
    changed = {k.rpartition(".")[2] for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"running_mean", "running_var"}
    assert not any(m.training for m in network.modules())
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_recalibrate_without_statistics_does_nothing(norm: Any) -> None:
    def none() -> Any:
        pytest.fail("no image is needed")
        yield

    assert recalibrate(unet(norm=norm), none()) == 0


def test_recalibrate_without_images_keeps_the_statistics() -> None:
    network = unet()
    before = state(network)
    assert recalibrate(network, []) == 0
    assert same(state(network), before)


@pytest.mark.parametrize("norm", TRACKING)
def test_deterministic_prediction_is_near_the_published_one_after_recalibration(norm: Any) -> None:
    network, sources = unet(norm=norm).eval(), images(1).repeat(8, 1, 1, 1)
    # Brightened here and there: images of one kind, which differ a little.
    sources = (sources + torch.linspace(-0.1, 0.1, 8)[:, None, None, None]).clamp(-1, 1)

    def difference(predict: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            own = in_published_mode(network)
            published = torch.cat([own(source[None]) for source in sources])
            return float((predict(sources) - published).abs().mean() / published.std())

    poor = difference(network)
    recalibrate(network, [sources])
    assert difference(network) < 0.2
    assert poor > 3 * difference(network)


def test_kept_statistics_stay_and_normalise_in_training_too() -> None:
    network = unet().eval()
    recalibrate(network, [images(4)])
    begun, expected = state(network), network(images(2) * 0.1)
    keep_statistics(network)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(network(images(2) * 0.1), expected)
    assert recalibrate(network, [images(4) * 0.1]) == 0
    assert same(state(network), begun)
