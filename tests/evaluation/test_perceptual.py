from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from sat2map.errors import DataError, MissingExtraError, ModelError
from sat2map.evaluation import perceptual
from sat2map.evaluation.evaluate import evaluate
from sat2map.translation.translator import load


class MeanColour(nn.Module):
    """A stand-in for Inception: three features, the mean of each channel, 0 to 1."""

    runs = 0

    def forward(self, images):
        assert images.dtype == torch.uint8
        MeanColour.runs += 1
        return images.float().mean(dim=(2, 3)) / 255


class MeanDifference(nn.Module):
    """A stand-in for LPIPS."""

    def forward(self, generated, true):
        assert generated.abs().max() <= 1
        return (generated - true).abs().mean(dim=(1, 2, 3))


@pytest.fixture
def images():
    random = np.random.default_rng(0)

    def some(count: int, low: int, high: int) -> list[np.ndarray]:
        bases = random.integers(low, high, (count, 1, 1, 3))
        return list((bases + random.integers(0, 20, (count, 8, 8, 3))).astype(np.uint8))

    return list(zip(some(12, 0, 120), some(12, 60, 230), strict=True))


def features(images):
    return [np.array([side[i].mean(axis=(0, 1)) / 255 for side in images]) for i in (0, 1)]


def test_fid_is_the_frechet_distance_of_the_features(images):
    generated, true = features(images)
    a, b = np.cov(generated.T), np.cov(true.T)
    shift = generated.mean(axis=0) - true.mean(axis=0)
    expected = shift @ shift + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert perceptual.fid(images, features=MeanColour()) == pytest.approx(expected, rel=1e-4)


def test_kid_is_the_unbiased_kernel_distance_of_the_features(images):
    generated, true = features(images)

    def kernel(x, y):
        return (x @ y.T / 3 + 1) ** 3

    n = len(images)
    within = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (n * (n - 1))
                 for x in (generated, true))  # fmt: skip
    expected = within - 2 * kernel(generated, true).mean()
    found = perceptual.kid(images, features=MeanColour())
    assert found == pytest.approx(expected, rel=1e-3)


def test_lpips_is_the_mean_over_pairs(images):
    expected = np.mean([np.abs(a / 127.5 - b / 127.5).mean() for a, b in images])
    found = perceptual.lpips(images, distance=MeanDifference())
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_pass_gives_the_same_and_runs_the_features_once_an_image(images):
    MeanColour.runs = 0
    found = perceptual.measure(iter(images), features=MeanColour(), distance=MeanDifference())
    assert MeanColour.runs <= 2 * len(images) + 1  # and once to count the features
    assert found.fid == pytest.approx(perceptual.fid(images, features=MeanColour()))
    assert found.kid == pytest.approx(perceptual.kid(images, features=MeanColour()))
    assert found.lpips == pytest.approx(perceptual.lpips(images, distance=MeanDifference()))
    assert found.images == 12


def test_equal_sets_are_near_zero(images):
    same = [(true, true) for _, true in images]
    found = perceptual.measure(same, features=MeanColour(), distance=MeanDifference())
    assert found.fid == pytest.approx(0, abs=1e-6)
    assert found.lpips == 0


def test_the_callers_random_numbers_are_left_alone(images):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    perceptual.measure(images, features=MeanColour(), distance=MeanDifference())
    assert torch.rand(1) == expected


def test_too_few_images_and_other_bands(images):
    with pytest.raises(DataError, match="at least 2 images, not 1"):
        perceptual.fid(images[:1], features=MeanColour())
    with pytest.raises(DataError, match="at least 1 images"):
        perceptual.lpips([], distance=MeanDifference())
    with pytest.raises(DataError, match="three bands"):
        perceptual.lpips([(np.zeros((8, 8, 4), np.uint8),) * 2], distance=MeanDifference())


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="the extra is installed")
def test_without_the_extra_it_is_named(images):
    with pytest.raises(MissingExtraError, match=r"torchvision.*sat2map\[perceptual\]"):
        perceptual.lpips(images)


@pytest.mark.skipif(find_spec("torch_fidelity") is not None, reason="the extra is installed")
def test_without_the_inception_package_it_is_named(images):
    for metric in (perceptual.fid, perceptual.kid, perceptual.measure):
        with pytest.raises(MissingExtraError, match=r"torch-fidelity.*sat2map\[perceptual\]"):
            metric(images)


def test_what_is_missing_is_said_before_anything_is_scored(data_set, model_folder, monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    calls = []
    with pytest.raises(MissingExtraError, match=r"torchmetrics.*sat2map\[perceptual\]"):
        evaluate(
            load(model_folder), data_set, perceptual=True, progress=lambda *done: calls.append(done)
        )
    assert not calls


def test_without_torchmetrics_it_is_named(images, monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"torchmetrics.*sat2map\[perceptual\]"):
        perceptual.fid(images, features=MeanColour())


def test_weights_that_cannot_be_fetched_are_named():
    with (
        pytest.raises(ModelError, match=r"Inception.*no route.*internet"),
        perceptual._loading("Inception", "torch-fidelity"),
    ):
        raise OSError("no route to host")


def test_a_package_that_does_not_fit_its_neighbours_is_named():
    with (
        pytest.raises(MissingExtraError, match=r"'torchvision'.*sat2map\[perceptual\]"),
        perceptual._loading("LPIPS", "torchvision"),
    ):
        raise ImportError("cannot import name 'VGG'")
