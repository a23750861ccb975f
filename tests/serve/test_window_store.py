from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from sat2map.errors import OutputError
from sat2map.serve import window_store
from sat2map.serve.overviews import Layers
from sat2map.serve.window_store import WindowStore
from sat2map.user_cache import cache_entries, clear_cache

KEY, OTHER = "0" * 32, "1" * 32


def levels(seed: int = 0, side: int = 32) -> list[Layers]:
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 5, (side, side), dtype=np.uint8)
    image = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    first = {"numbers": numbers, "image": image, "shown": np.ones_like(numbers)}
    return [first, {name: values[::2, ::2] for name, values in first.items()}]


def test_what_is_written_is_read_level_by_level() -> None:
    store = WindowStore()
    made = levels()
    store.write(KEY, 3, 14, made)
    assert store.known(KEY) == {(3, 14)}
    assert store.known(OTHER) == set()
    for level, layers in enumerate(made):
        found = store.read(KEY, 3, 14, level, ["numbers", "image"])
        assert found is not None
        assert set(found) == {"numbers", "image"}
        assert all(np.array_equal(found[name], layers[name]) for name in found)
    assert store.read(KEY, 3, 15, 0, ["numbers"]) is None
    # Another server on the same machine finds it.
    assert WindowStore().known(KEY) == {(3, 14)}


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "another layer"])
def test_what_is_damaged_counts_as_absent_and_goes(damage: str) -> None:
    store = WindowStore()
    store.write(KEY, 0, 0, levels())
    path = store.path(KEY, 0, 0)
    content = bytearray(path.read_bytes())
    name = "numbers"
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[200] ^= 255
    elif damage == "emptied":
        content.clear()
    else:
        name = "confidence"
    path.write_bytes(content)
    assert store.read(KEY, 0, 0, 0, [name]) is None
    assert not path.exists()


def test_what_was_not_used_for_longest_goes_and_what_is_foreign_stays(
    put_foreign: Callable[..., Callable[..., None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_store, "LOOK_AGAIN", 10**9)
    store = WindowStore(limit=1)
    store._written = 0
    check = put_foreign(store.folder, f"{KEY}/0-0.npz.txt", f"{KEY}/thesis.npz", "x/0-0.npz")
    for number, key in enumerate((KEY, OTHER, KEY)):
        store.write(key, 0, number, levels(number))
        used = time.time() - 10_000 + number
        os.utime(store.path(key, 0, number), (used, used))
    size = store.path(KEY, 0, 0).stat().st_size
    assert store.read(KEY, 0, 0, 0, ["shown"]) is not None  # now it is the last one used
    store.limit = 2 * size + size // 2
    store.keep_within_limit()
    assert store.known(KEY) == {(0, 0), (0, 2)}
    assert store.known(OTHER) == set()
    check()
    store.limit = 0
    store.keep_within_limit()
    assert store.known(KEY) == set()
    check()


def test_a_store_looks_at_its_bound_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_store, "LOOK_AGAIN", 3)
    store = WindowStore(limit=1)
    for number in range(7):
        store.write(KEY, 0, number, levels(number))
    assert len(store.known(KEY)) < 3


def test_the_user_sees_and_clears_it() -> None:
    store = WindowStore()
    store.write(KEY, 0, 0, levels())
    entries = cache_entries()
    assert [(entry.kind, entry.path.name) for entry in entries] == [("windows", KEY)]
    assert clear_cache() == entries[0].size
    assert not store.folder.exists()


def test_a_disk_that_is_full_is_an_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = WindowStore()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OutputError, match="No space left"):
        store.write(KEY, 0, 0, levels())
    assert list(store.folder.rglob("*.zip")) == []


_WRITER = """
import sys
import numpy as np
from sat2map.serve.window_store import WindowStore
store = WindowStore()
values = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
for number in range(10**6):
    store.write("0" * 32, 0, number % 5, [{"image": values, "shown": values[..., 0]}])
    if number == 3:
        print("on the way", flush=True)
"""


def test_a_kill_leaves_windows_whole_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    store = WindowStore()
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "on the way\n"
            time.sleep(0.05)
            writer.kill()
        for row, column in store.known(KEY):
            assert store.read(KEY, row, column, 0, ["image", "shown"]) is not None
    monkeypatch.setattr(window_store, "ABANDONED_S", -1)
    store.keep_within_limit()
    assert all(not path.name.startswith(".") for path in store.folder.rglob("*"))
