"""The user's cache stays within its limit, and is cleared of nothing but our own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sat2map import user_cache
from sat2map.errors import UsageError
from sat2map.user_cache import (
    cache_entries,
    cache_limit,
    clear_cache,
    keep_within_limit,
    making,
    mark_used,
)

PutForeign = Callable[..., Callable[..., None]]
NAMES = (
    f"pairs/{'1' * 20}/pixels.npy",
    f"masks/{'2' * 20}/pixels.bin",
    f"labels/{'3' * 20}.npy",
    f"converted/{'4' * 16}-openvino/model.bin",
    "compiled/5555555555.blob",
    f"osm/{'6' * 32}.json",
    f"tiles/{'7' * 32}/18/1/2.tile",
    f"windows/{'8' * 32}/3-14.zip",
)


def fill(cache: Path, days: float = 1) -> None:
    """Write one entry of each kind, of 100 bytes, the first used the longest time ago."""
    for number, name in enumerate(NAMES):
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        used = time.time() - days * 86_400 + number
        os.utime(path, (used, used))


def left(cache: Path) -> list[str]:
    return [name for name in NAMES if (cache / name).exists()]


def test_what_is_in_the_cache_and_since_when(cache: Path) -> None:
    fill(cache)
    assert [entry.kind for entry in cache_entries()] == list(user_cache.KINDS)
    assert {entry.size for entry in cache_entries()} == {100}
    mark_used(cache / "pairs" / ("1" * 20))
    assert cache_entries()[-1].kind == "pairs"


def test_what_was_not_used_for_the_longest_time_is_evicted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache)
    keep_within_limit()
    assert left(cache) == list(NAMES)
    monkeypatch.setenv("SAT2MAP_CACHE_LIMIT", "450")
    mark_used(cache / "pairs" / ("1" * 20))
    with making(cache / "labels" / f"{'8' * 20}.npy"):
        (cache / "labels" / f"{'8' * 20}.npy").write_bytes(bytes(100))
    assert left(cache) == [NAMES[0], *NAMES[6:]]


def test_what_was_used_lately_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, days=0)
    monkeypatch.setenv("SAT2MAP_CACHE_LIMIT", "0")
    keep_within_limit()
    assert left(cache) == list(NAMES)


def test_only_ours_is_cleared(cache: Path, put_foreign: PutForeign) -> None:
    fill(cache)
    (cache / "pairs" / f".{'9' * 20}.sat2map-0123456789abcdef").mkdir()
    check = put_foreign(
        cache,
        f"pairs/{'1' * 20}/notes.txt",
        "pairs/mine/pixels.npy",
        "labels/mine.npy",
        f"osm/{'6' * 31}.json",
        f"tiles/{'7' * 32}/18/1/mine.png",
        "huggingface/model.bin",
    )
    assert clear_cache() == 800
    assert left(cache) == []
    check()
    assert {path.name for path in cache.iterdir()} >= {"pairs", "labels", "osm", "tiles"}
    assert not (cache / "masks").exists()
    assert not list((cache / "pairs").glob(".*"))


def test_a_folder_that_is_a_link_is_left_alone(cache: Path, tmp_path: Path) -> None:
    fill(tmp_path)
    (cache / "pairs").symlink_to(tmp_path / "pairs", target_is_directory=True)
    assert clear_cache() == 0
    assert left(tmp_path) == list(NAMES)


def test_what_is_in_the_making_is_not_cleared(cache: Path) -> None:
    fill(cache)
    entry = cache / "pairs" / ("1" * 20)
    aside = entry.with_name(f".{entry.name}.sat2map-0123456789abcdef")
    with making(entry):
        aside.mkdir()
        assert clear_cache() == 700
        assert aside.is_dir()
        assert left(cache) == [NAMES[0]]
    assert clear_cache() == 100
    assert not aside.exists()


@pytest.mark.parametrize(
    ("text", "limit"),
    [("", 50 << 30), ("123", 123), ("2K", 2048), ("1.5 MiB", 1_572_864), ("20gb", 20 << 30)],
)
def test_the_limit_is_a_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch, text: str, limit: int
) -> None:
    monkeypatch.setenv("SAT2MAP_CACHE_LIMIT", text)
    assert cache_limit() == limit


@pytest.mark.parametrize("text", ["much", "-1", "10X"])
def test_a_limit_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SAT2MAP_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match=re.escape(f"SAT2MAP_CACHE_LIMIT: {text!r} is not")):
        cache_limit()
