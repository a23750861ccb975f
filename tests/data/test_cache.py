from __future__ import annotations

import os
from contextlib import closing
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from sat2map.data import cache as module
from sat2map.data.cache import DecodedPairs, decode_pairs, in_order
from sat2map.errors import BatchError, DataError, OutputError
from sat2map.user_cache import cache_folder

Array = NDArray[np.uint8]


def image(height: int, width: int, seed: int = 0, bands: int = 3) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)


def save(path: Path, pixels: Array) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def save_tiff(path: Path, pixels: Array) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = pixels.shape
    facts = {"height": height, "width": width, "count": count, "dtype": "uint8"}
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", **facts) as file,
    ):
        file.write(pixels.transpose(2, 0, 1))
    return pixels


def decode(directory: Path, **options: Any) -> DecodedPairs:
    return decode_pairs(directory, "train", **{"resize": None, "crop": 4, **options})


@pytest.fixture
def pairs(tmp_path: Path) -> list[Array]:
    """Three side-by-side pairs of 8 x 12 pixels in tmp_path/train."""
    return [save(tmp_path / "train" / f"{n}.png", image(8, 24, n)) for n in (1, 2, 10)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stems of the pairs that are decoded, as they are."""
    stems: list[str] = []
    read = module.read_pair

    def counted(pair: Any, *rest: Any) -> tuple[Array, Array]:
        stems.append(pair.stem)
        return read(pair, *rest)

    monkeypatch.setattr(module, "read_pair", counted)
    return stems


def test_sources_and_targets_are_stacked_as_channels(tmp_path: Path, pairs: list[Array]) -> None:
    decoded = decode(tmp_path)
    assert len(decoded) == 3
    assert decoded.names == ("1", "2", "10")
    assert (decoded.source_channels, decoded.target_channels) == (3, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.native_sides == (8, 8)
    expected = [np.dstack([both[:, :12], both[:, 12:]]) for both in pairs]
    assert np.array_equal(decoded.pixels, expected)


def test_work_is_done_in_order_and_little_of_it_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return -item

    with closing(in_order(work, count())) as endless:
        for item in range(20):
            assert next(endless) == -item
            assert len(begun) <= item + 1 + 2 * 3
    assert list(in_order(work, range(5))) == [0, -1, -2, -3, -4]


def test_few_decoded_pairs_are_held_however_slow_the_disk(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for number in range(30):
        save(tmp_path / "train" / f"{number}.png", image(8, 24, number))
    ahead: list[int] = []
    decode(tmp_path, progress=lambda done, _: (sleep(0.01), ahead.append(len(reads) - done)))
    assert len(ahead) == 30 and max(ahead) <= 2 * 2


def test_a_split_is_decoded_once(tmp_path: Path, pairs: list[Array], reads: list[str]) -> None:
    calls: list[tuple[int, int]] = []
    first = decode(tmp_path, progress=lambda i, n: calls.append((i, n)))
    assert sorted(reads) == ["1", "10", "2"]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    again = decode(tmp_path)
    assert len(reads) == 3
    assert np.array_equal(first.pixels, again.pixels)


def test_writing_to_the_array_leaves_the_cache(tmp_path: Path, pairs: list[Array]) -> None:
    decode(tmp_path).pixels[:] = 0
    assert decode(tmp_path).pixels.any()


@pytest.mark.parametrize("change", ["content", "more", "fewer", "rename"])
def test_a_changed_file_is_decoded_anew(
    tmp_path: Path, pairs: list[Array], reads: list[str], change: str
) -> None:
    decode(tmp_path)
    file = tmp_path / "train" / "2.png"
    if change == "content":
        pairs[1] = 255 - pairs[1]
        save(file, pairs[1])
        os.utime(file, ns=(1, 1))
    elif change == "more":
        pairs.append(save(tmp_path / "train" / "11.png", image(8, 24, 11)))
    elif change == "fewer":
        file.unlink()
        del pairs[1]
    else:
        file.rename(tmp_path / "train" / "3.png")
    decoded = decode(tmp_path)
    assert len(reads) == 3 + len(pairs)
    assert np.array_equal(decoded.pixels[..., :3], [both[:, :12] for both in pairs])


def test_direction_resize_and_split_are_kept_apart(
    tmp_path: Path, pairs: list[Array], reads: list[str]
) -> None:
    save(tmp_path / "val" / "1.png", image(8, 24, 5))
    forward, reverse = decode(tmp_path), decode(tmp_path, direction="reverse")
    small = decode(tmp_path, resize=6)
    val = decode_pairs(tmp_path, "val", resize=None, crop=4)
    assert len(reads) == 3 + 3 + 3 + 1
    assert np.array_equal(reverse.pixels[..., :3], forward.pixels[..., 3:])
    assert np.array_equal(reverse.pixels[..., 3:], forward.pixels[..., :3])
    assert small.pixels.shape == (3, 6, 6, 6)
    assert val.pixels.shape == (1, 8, 12, 6)
    for options in ({}, {"direction": "reverse"}, {"resize": 6}):
        decode(tmp_path, **options)
    assert len(reads) == 10


def test_resizing_is_pillows_bicubic(tmp_path: Path, pairs: list[Array]) -> None:
    decoded = decode(tmp_path, resize=16)
    for both, pixels in zip(pairs, decoded.pixels, strict=True):
        for side in (0, 1):
            half = Image.fromarray(np.ascontiguousarray(both[:, 12 * side : 12 * side + 12]))
            expected = half.resize((16, 16), Image.Resampling.BICUBIC)
            assert np.array_equal(pixels[..., 3 * side : 3 * side + 3], expected)
    assert decoded.native_sides == (8, 8)


def test_images_of_several_sizes_are_resized_to_one(tmp_path: Path) -> None:
    for i, (height, width) in enumerate(((8, 12), (20, 16), (10, 10))):
        save(tmp_path / "train" / f"{i}.png", image(height, 2 * width))
    decoded = decode(tmp_path, resize=6)
    assert decoded.pixels.shape == (3, 6, 6, 6)
    assert decoded.native_sides == (8, 20)


def test_unequal_sizes_cannot_be_cropped_natively(tmp_path: Path, cache: Path) -> None:
    for i, height in enumerate((8, 8, 10, 12)):
        save(tmp_path / "train" / f"{i}.png", image(height, 24))
    with pytest.raises(BatchError, match="2 items could not be used, 2 done") as caught:
        decode(tmp_path)
    line = str(caught.value)
    assert f"{tmp_path / 'train' / '2.png'}: is 12 x 10 pixels with 6 channels in all, " in line
    assert "but 0.png is 12 x 8 with 6" in line
    assert "`data.resize=286`" in caught.value.failures[0].remedy
    assert not list((cache / "pairs").iterdir())


def test_broken_files_are_all_named_and_nothing_is_kept(tmp_path: Path, cache: Path) -> None:
    save(tmp_path / "train" / "2.png", image(8, 24))
    (tmp_path / "train" / "1.png").write_text("This is not an image.")
    save(tmp_path / "train" / "3.png", image(8, 25))
    (tmp_path / "train" / "4.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(BatchError) as caught:
        decode(tmp_path)
    assert [Path(str(f.where)).name for f in caught.value.failures] == ["1.png", "3.png", "4.png"]
    assert all(f"{n}.png" in str(caught.value) for n in (1, 3, 4))
    assert not list((cache / "pairs").iterdir())


def test_a_file_that_breaks_later_does_not_bring_back_what_was_decoded(
    tmp_path: Path, pairs: list[Array]
) -> None:
    decode(tmp_path)
    (tmp_path / "train" / "2.png").write_text("This is not an image.")
    for _ in range(2):
        with pytest.raises(BatchError, match=r"2\.png"):
            decode(tmp_path)


def test_sources_of_more_bands(tmp_path: Path) -> None:
    split = tmp_path / "train"
    sources = [save_tiff(split / "source" / f"{i}.tif", image(8, 8, i, 5)) for i in (1, 2)]
    targets = [save(split / "target" / f"{i}.png", image(8, 8, i + 2)) for i in (1, 2)]
    decoded = decode(tmp_path)
    assert (decoded.source_channels, decoded.target_channels) == (5, 3)
    assert np.array_equal(decoded.pixels[..., :5], sources)
    assert np.array_equal(decoded.pixels[..., 5:], targets)
    reverse = decode(tmp_path, direction="reverse", resize=6)
    assert (reverse.source_channels, reverse.target_channels) == (3, 5)
    assert reverse.pixels.shape == (2, 6, 6, 8)


def test_bands_that_differ_from_pair_to_pair(tmp_path: Path) -> None:
    split = tmp_path / "train"
    save_tiff(split / "source" / "1.tif", image(8, 8, 1, 5))
    save(split / "source" / "2.png", image(8, 8, 2))
    for i in (1, 2):
        save(split / "target" / f"{i}.png", image(8, 8))
    with pytest.raises(BatchError, match=r"2\.png: is 8 x 8 pixels with 6 channels .* with 8"):
        decode(tmp_path)


def test_images_smaller_than_the_crop(tmp_path: Path, pairs: list[Array]) -> None:
    assert len(decode(tmp_path, crop=8)) == 3
    with pytest.raises(DataError, match=r"train: has pairs of 12 x 8 .*data\.resize=9"):
        decode(tmp_path, crop=9)
    assert len(decode(tmp_path, crop=9, resize=9)) == 3


def test_the_cache_lies_where_the_environment_says(
    tmp_path: Path, pairs: list[Array], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == cache
    decode(tmp_path)
    assert len(list((cache / "pairs").glob("*/pixels.npy"))) == 1
    monkeypatch.delenv("SAT2MAP_CACHE")
    assert cache_folder().name == "sat2map"


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, pairs: list[Array], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAT2MAP_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be written .*SAT2MAP_CACHE"):
        decode(tmp_path)
    monkeypatch.setenv("SAT2MAP_CACHE", str(cache))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sat2map.atomic.os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        decode(tmp_path)
    assert not list((cache / "pairs").iterdir())


def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, pairs: list[Array], cache: Path, reads: list[str]
) -> None:
    for text in ("", "[]", "{}", '{"state": 3}'):
        decode(tmp_path)
        (entry,) = (cache / "pairs").iterdir()
        (entry / "pairs.json").write_text(text)
    decoded = decode(tmp_path)
    assert len(reads) == 15
    assert np.array_equal(decoded.pixels[0, :, :, :3], pairs[0][:, :12])


def test_the_shared_data_set_can_be_decoded(data_set: Path) -> None:
    decoded = decode(data_set, resize=36, crop=32)
    assert decoded.pixels.shape == (6, 36, 36, 6)
