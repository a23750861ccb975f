from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sat2map.legend import STREETS
from sat2map.networks import lite
from sat2map.networks.lite import STRIDE, FrozenNorm, Lite, PretrainedWeightsError
from sat2map.networks.normalisation import recalibrate
from sat2map.networks.portable import Portable
from sat2map.networks.specs import LiteSpec

REACH = 216
"""How far to either side, in pixels, an answer looks at the most."""


def network(**arguments: object) -> Lite:
    """Return the default network with both heads, with statistics and weights of its own."""
    torch.manual_seed(0)
    made = Lite(colours=STREETS.colours.tolist(), cover_classes=5, **arguments)  # type: ignore[arg-type]
    for module in made.modules():
        if isinstance(module, FrozenNorm | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made.eval()


def test_it_is_as_small_as_it_says() -> None:
    made = Lite(colours=STREETS.colours.tolist())
    assert sum(p.numel() for p in made.parameters()) == 1_045_616
    assert sum(p.numel() for p in made.encoder.parameters()) == 700_768
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        made(torch.zeros(1, 3, 256, 256))
    assert 2.3e9 < counter.get_total_flops() < 2.5e9


def test_both_heads_answer_in_the_size_of_the_source() -> None:
    made = network()
    source = torch.rand(2, 3, 48, 80) * 2 - 1
    with torch.inference_mode():
        drawn, cover = made.both_logits(source)
        image = made(source)
    assert drawn.shape == (2, 8, 48, 80)
    assert cover.shape == (2, 5, 48, 80)
    torch.testing.assert_close(image, made.head(drawn))
    torch.testing.assert_close(drawn, made.logits(source))


def test_an_answer_depends_on_nothing_beyond_its_reach() -> None:
    made = network().double()
    farthest = 0
    for place in (224, 239):  # at both edges of a block of 16
        source = torch.randn(1, 3, 464, 464, dtype=torch.float64, requires_grad=True)
        made.logits(source)[0, :, place, place].sum().backward()
        assert source.grad is not None
        rows = source.grad.abs().sum((0, 1, 3)).nonzero()
        farthest = max(farthest, place - int(rows.min()), int(rows.max()) - place)
    assert 200 < farthest <= REACH


def test_stride_2_pads_as_tensorflow_does() -> None:
    convolution = lite._Same(1, 1, 5, 2)
    source = torch.arange(64.0).reshape(1, 1, 8, 8)
    kernel = torch.arange(25.0).reshape(1, 1, 5, 5)
    with torch.no_grad():
        convolution.weight.copy_(kernel)
        # TensorFlow's "same" for 8 pixels, kernel 5, stride 2: 3 in all, of them 1 before.
        expected = F.conv2d(F.pad(source, (1, 2, 1, 2)), kernel, stride=2)
        torch.testing.assert_close(convolution(source), expected)


def test_frozen_statistics_stay_as_they_are() -> None:
    made = network().train()
    before = {k: v.clone() for k, v in made.encoder.state_dict().items() if "running" in k}
    assert len(before) == 2 * (1 + 11 * 3 - 1)
    made(torch.rand(2, 3, 32, 32) * 2 - 1).sum().backward()
    recalibrate(made, [torch.rand(2, 3, 32, 32) * 2 - 1])
    after = made.encoder.state_dict()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0)
    assert made.encoder._bn0.weight.grad is not None  # scale and shift learn


def test_with_and_without_freezing_it_predicts_alike() -> None:
    frozen = network()
    free = Lite(colours=STREETS.colours.tolist(), cover_classes=5, freeze_norm=False).eval()
    free.load_state_dict(frozen.state_dict())
    source = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(free(source), frozen(source))


def test_portable_answers_the_same() -> None:
    made = network()
    source = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        image, probabilities, *_ = Portable(made)(source)
        torch.testing.assert_close(image, made(source), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            probabilities, made.logits(source).softmax(1), rtol=1e-4, atol=1e-4
        )


def test_the_sides_are_multiples_of_its_stride() -> None:
    assert network().multiple == STRIDE == 16


def test_the_encoder_takes_the_published_weights() -> None:
    pytest.importorskip(lite.WEIGHTS_PACKAGE)
    made = network()
    decoder = made.exit.weight.clone()
    made.load_pretrained()
    weights = lite.pretrained_weights(made.encoder)
    assert set(weights) == set(made.encoder.state_dict())
    torch.testing.assert_close(made.encoder._conv_stem.weight, weights["_conv_stem.weight"])
    torch.testing.assert_close(made.exit.weight, decoder)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of weights in a package that stands in for the real one."""
    file = tmp_path / "stand_in" / "models" / "weights.pth"
    file.parent.mkdir(parents=True)
    (tmp_path / "stand_in" / "__init__.py").touch()
    file.write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lite, "WEIGHTS_PACKAGE", "stand_in")
    monkeypatch.setattr(lite, "WEIGHTS_FILE", "models/weights.pth")
    return file


def test_damaged_weights_are_refused(package: Path) -> None:
    with pytest.raises(PretrainedWeightsError, match="damaged") as refused:
        network().load_pretrained()
    assert refused.value.path == package


def test_weights_of_another_network_are_refused(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    torch.save({"_conv_stem.weight": torch.zeros(40, 3, 3, 3)}, package)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    monkeypatch.setattr(lite, "WEIGHTS_SHA256", digest)
    with pytest.raises(PretrainedWeightsError, match="_conv_stem"):
        network().load_pretrained()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite, "WEIGHTS_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(PretrainedWeightsError, match="not installed") as refused:
        network().load_pretrained()
    assert refused.value.path is None


def test_another_number_of_bands_does_not_fit_the_published_weights() -> None:
    pytest.importorskip(lite.WEIGHTS_PACKAGE)
    with pytest.raises(PretrainedWeightsError, match="_conv_stem"):
        Lite(4, colours=STREETS.colours.tolist()).load_pretrained()


def test_mixed_statistics_change_training_alone() -> None:
    colours = STREETS.colours.tolist()
    mixing = LiteSpec(head="legend", cover=True, mix_norm=0.5, colours=colours).build()
    plain = Lite(colours=colours, cover_classes=5)
    plain.load_state_dict(mixing.state_dict())
    # Two images of unlike light: a half of each image's own statistics brings them nearer.
    source = torch.rand(1, 3, 64, 64) * 0.3 - torch.tensor([0.9, 0.2])[:, None, None, None]
    with torch.inference_mode():
        torch.testing.assert_close(mixing.eval()(source), plain.eval()(source), rtol=0, atol=0)
        apart = _apart(plain.encoder.train()(source))
        mixed = [_apart(mixing.encoder.train()(source)) for _ in range(5)]
    assert max(mixed) < apart
    assert len(set(mixed)) > 1  # at random


def _apart(features: list[torch.Tensor]) -> float:
    first, second = features[0]
    return float((first.mean((1, 2)) - second.mean((1, 2))).abs().mean())


def test_all_of_an_images_statistics_are_those_of_instance_norm() -> None:
    norm = FrozenNorm(4, lite.EPSILON)
    norm.mix = 1.0
    torch.manual_seed(0)
    share = torch.rand(2, 1)
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8) * 3 + 5
    torch.manual_seed(0)
    found = norm(x)
    mean, variance = share * x.mean((2, 3)), (1 - share) + share * x.var((2, 3), correction=0)
    wanted = (x - mean[..., None, None]) / (variance + lite.EPSILON).sqrt()[..., None, None]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
