from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sat2map.evaluation import images as image


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    true = random.integers(0, 256, (40, 30, 3), np.uint8)
    generated = np.clip(true + random.normal(0, 12, true.shape), 0, 255).astype(np.uint8)
    return generated, true


def test_by_hand():
    true = np.zeros((2, 2, 3), np.uint8)
    generated = true.copy()
    generated[0, 0] = (3, 0, 0)
    generated[0, 1] = (0, 9, 4)
    assert image.l1(generated, true) == pytest.approx(16 / 12)
    assert image.rmse(generated, true) == pytest.approx(math.sqrt((9 + 81 + 16) / 12))
    assert image.psnr(generated, true) == pytest.approx(10 * math.log10(255**2 * 12 / 106))
    assert image.accuracy(generated, true, 5) == 0.75
    assert image.accuracy(generated, true, 9) == 0.75  # below, not at
    assert image.accuracy(generated, true, 10) == 1
    np.testing.assert_allclose(image.error_map(generated, true), [[1, 13 / 3], [0, 0]], rtol=1e-6)


def test_a_difference_of_more_than_a_byte_half_does_not_wrap():
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert image.l1(black, white) == image.l1(white, black) == 255
    assert image.rmse(black, white) == 255
    assert image.psnr(black, white) == 0


def test_as_scikit_image_has_it(images):
    generated, true = images
    assert image.psnr(generated, true) == pytest.approx(
        peak_signal_noise_ratio(true, generated, data_range=255)
    )
    expected = structural_similarity(
        true, generated, win_size=7, channel_axis=2, data_range=255, gaussian_weights=False
    )
    assert image.ssim(generated, true) == pytest.approx(expected, abs=1e-9)
    assert expected < 0.999


def test_equal_images_can_be_averaged(images):
    _, true = images
    assert image.psnr(true, true) == 100
    assert image.ssim(true, true) == pytest.approx(1)


def test_too_small_for_the_window_is_undefined():
    assert math.isnan(image.ssim(np.zeros((6, 9, 3), np.uint8), np.zeros((6, 9, 3), np.uint8)))


def test_several_bands(images):
    generated, true = (np.concatenate([p, p[..., :1]], axis=2) for p in images)
    assert generated.shape[2] == 4
    assert image.l1(generated, true) > 0
    assert image.ssim(generated, true) < 1
