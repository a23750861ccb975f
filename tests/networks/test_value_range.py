from __future__ import annotations

import numpy as np
import torch

from sat2map.networks.value_range import from_image, to_network, to_pixels


def test_every_value_survives_the_way_in_and_out() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 8, 8, 4)
    values = to_network(pixels)
    assert values.shape == (1, 4, 8, 8)
    assert values.dtype == torch.float32
    assert (values.min(), values.max()) == (-1, 1)
    assert values.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_pixels(values), pixels)
    assert pixels.flatten().tolist() == list(range(256))  # the input is left as it is


def test_pixels_are_rounded_and_clipped() -> None:
    values = torch.tensor([-3.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.999, 7.0])
    kept = values.clone()
    assert to_pixels(values.reshape(1, 1, 1, 6)).flatten().tolist() == [0, 0, 0, 1, 255, 255]
    assert torch.equal(values, kept)


def test_half_precision_and_gradients_are_taken() -> None:
    values = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16).requires_grad_()
    assert to_pixels(values).flatten().tolist() == list(range(256))
    assert to_pixels(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.uint8


def test_a_read_only_or_mirrored_image_becomes_a_batch() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    image.setflags(write=False)
    values = from_image(image)
    assert values.shape == (1, 3, 2, 4)
    assert np.array_equal(to_pixels(values)[0].numpy(), image)
