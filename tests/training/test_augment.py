from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sat2map.networks.value_range import to_pixels
from sat2map.training.augment import (
    Ground,
    cut_windows,
    other_camera,
    photometric,
    random_views,
    random_windows,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, height: int, width: int) -> Tensor:
    """Images whose first channels are their rows and columns, and again as the target."""
    rows = torch.arange(height)[:, None].expand(height, width)
    columns = torch.arange(width)[None].expand(height, width)
    one = torch.stack([rows, columns, rows, columns], -1).to(torch.uint8)
    return one.expand(count, -1, -1, -1).contiguous()


def random_crops(
    pixels: Tensor, size: int, *, flip: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Cut a square out of each image, as training does."""
    windows = random_windows(torch.arange(len(pixels)), pixels, size, flip, generator)
    return cut_windows(pixels, windows, size)


def test_crops_are_windows_of_source_and_target_alike() -> None:
    crops = to_pixels(random_crops(coordinates(200, 12, 15), 8, flip=True, generator=seeded()))
    assert crops.shape == (200, 8, 8, 4)
    assert torch.equal(crops[..., :2], crops[..., 2:])
    rows, columns = crops[..., 0].int(), crops[..., 1].int()
    assert (rows == rows[:, :1, :1] + torch.arange(8)[None, :, None]).all()
    step = columns[:, :, 1:] - columns[:, :, :-1]
    mirrored = step[:, 0, 0] < 0
    assert (step == torch.where(mirrored, -1, 1)[:, None, None]).all()
    assert (columns == columns[:, :1]).all()


def test_every_place_is_reached_and_half_are_mirrored() -> None:
    crops = to_pixels(random_crops(coordinates(2000, 12, 11), 8, flip=True, generator=seeded()))
    tops = set(crops[:, 0, 0, 0].tolist())
    lefts = set(crops[..., 1].amin((1, 2)).tolist())
    assert tops == set(range(5))
    assert lefts == set(range(4))
    mirrored = (crops[:, 0, 0, 1] > crops[:, 0, 1, 1]).float()
    assert abs(float(mirrored.mean()) - 0.5) < 5 * 0.5 / 2000**0.5


def test_without_flip_nothing_is_mirrored() -> None:
    crops = to_pixels(random_crops(coordinates(100, 12, 12), 8, flip=False, generator=seeded()))
    assert (crops[:, :, 1:, 1] > crops[:, :, :-1, 1]).all()


def test_each_image_of_a_batch_gets_its_own_crop_of_itself() -> None:
    pixels = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 20, 20, 2)
    crops = to_pixels(random_crops(pixels, 4, flip=True, generator=seeded()))
    assert torch.equal(crops[:, 0, 0, 0], torch.arange(50, dtype=torch.uint8))
    assert (crops == crops[:, :1, :1, :1]).all()
    places = to_pixels(random_crops(coordinates(50, 20, 20), 4, flip=False, generator=seeded()))
    assert len({(int(c[0, 0, 0]), int(c[0, 0, 1])) for c in places}) > 20


def test_a_generator_repeats_the_crops() -> None:
    pixels = coordinates(20, 12, 12)
    before = torch.random.get_rng_state()
    first = random_crops(pixels, 8, flip=True, generator=seeded(1))
    assert torch.equal(random_crops(pixels, 8, flip=True, generator=seeded(1)), first)
    assert not torch.equal(random_crops(pixels, 8, flip=True, generator=seeded(2)), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(random_crops(pixels, 8, flip=True), first)


def test_values_reach_from_minus_one_to_one() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    crops = random_crops(pixels, 16, flip=False)
    assert (crops.dtype, crops.shape) == (torch.float32, (1, 1, 16, 16))
    assert (crops.min(), crops.max()) == (-1, 1)
    assert torch.equal(to_pixels(crops), pixels)


def test_the_whole_image_is_the_only_crop_of_its_size() -> None:
    pixels = coordinates(3, 8, 8)
    crops = random_crops(pixels, 8, flip=False)
    assert torch.equal(to_pixels(crops), pixels)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError):
        random_crops(pixels, 9, flip=False)


def places(side: int) -> torch.Tensor:
    """Return an image whose first two bands say where each pixel is, uint8 [side,side,3]."""
    line = torch.arange(side, dtype=torch.uint8)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)], -1)


def test_views_cut_bands_and_classes_alike_at_every_scale() -> None:
    bands = places(120)
    labels = ((bands[..., 0] > 59).long() * 2 + (bands[..., 1] > 59).long()).byte()
    ground = Ground(bands, (0.5, 3.0), [(labels, torch.eye(4))])
    made = random_views([ground] * 40, 40, flip=True, generator=seeded())
    views, shares = torch.cat([view for view, _ in made]), torch.cat([of[0] for _, of in made])
    assert views.shape == (40, 3, 40, 40)
    torch.testing.assert_close(shares.sum(1), torch.ones(40, 40, 40))
    rows, columns = (to_pixels(views)[..., i].int() for i in (0, 1))
    told = (rows > 59).int() * 2 + (columns > 59).int()
    far = ((rows - 59.5).abs() > 4) & ((columns - 59.5).abs() > 4)
    assert torch.equal(shares.argmax(1)[far], told[far].long())
    extents = (rows.amax((1, 2)) - rows.amin((1, 2))).tolist()
    assert min(extents) < 40  # finer than the image
    assert max(extents) > 100  # nearly all of it


def test_views_are_turned_and_mirrored_in_all_eight_ways() -> None:
    made = random_views([Ground(places(16), (1.0, 1.0))] * 200, 16, flip=True, generator=seeded())
    corners = {
        tuple(v[0, :2, 0, 0].gt(-0.95).tolist() + v[0, :2, 0, -1].gt(-0.95).tolist())
        for v, _ in made
    }
    assert len(corners) == 8
    assert all(labels == [] for _, labels in made)


def test_an_image_too_small_for_the_coarsest_scale_is_taken_whole() -> None:
    made = random_views([Ground(places(20), (5.0, 9.0))] * 10, 16, flip=False, generator=seeded())
    rows = to_pixels(torch.cat([view for view, _ in made]))[..., :2].int().sum(-1)
    assert int(rows.amin()) <= 1
    assert int(rows.amax()) >= 37


def test_photometric_augmentation_changes_sources_each_in_its_way_and_repeats() -> None:
    sources = torch.rand(4, 3, 24, 24, generator=seeded()).repeat(2, 1, 1, 1) * 2 - 1
    varied = photometric(sources, 1.0, seeded(3))
    assert varied.abs().max() <= 1
    assert torch.equal(photometric(sources, 1.0, seeded(3)), varied)
    assert not torch.equal(varied[:4], varied[4:])
    assert (varied - sources).abs().mean((1, 2, 3)).min() > 0.01
    torch.testing.assert_close(photometric(sources, 0.0, seeded(3)), sources, atol=2e-3, rtol=0)


def test_ground_is_mirrored_beyond_its_edges_where_it_may_be() -> None:
    ground = Ground(places(20), (2.0, 2.0), [(places(20)[..., 0], torch.eye(20))], reach=2.0)
    for view, (shares,) in random_views([ground] * 10, 20, flip=False, generator=seeded()):
        # Twice the side: each line of the ground is seen twice, in bands and labels alike.
        rows = shares.mean((2, 3))[0]
        torch.testing.assert_close(rows, torch.full((20,), 0.05), atol=1e-5, rtol=0)
        places_seen = (view[0, 0] + 1) * 127.5
        numbers = (shares[0] * torch.arange(20.0)[:, None, None]).sum(0)
        torch.testing.assert_close(places_seen, numbers, atol=0.7, rtol=0)


def test_other_cameras_change_sources_each_in_its_way_and_repeat() -> None:
    sources = torch.rand(16, 3, 24, 24, generator=seeded()) * 2 - 1
    varied = other_camera(sources, 1.0, seeded(3))
    assert varied.abs().max() <= 1
    assert torch.equal(other_camera(sources, 1.0, seeded(3)), varied)
    assert (varied - sources).abs().mean((1, 2, 3)).min() > 0.01
    grey = (varied[:, 0] - varied[:, 1]).abs().mean((1, 2)) < 0.12
    assert 0 < int(grey.sum()) < 16
    torch.testing.assert_close(other_camera(sources, 0.0, seeded(3)), sources, atol=5e-3, rtol=0)
