"""One driver at a time, whatever clocks say and wherever it runs."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from sat2map.batch import lease as room
from sat2map.batch.lease import LEASE, Holder, age_s, is_held, read_holder, take_lease
from sat2map.errors import UsageError
from sat2map.journal import HIDDEN

QUICK = {"every_s": 0.1, "old_s": 1.0}


def elsewhere(out: Path, renewed: int = 0) -> Holder:
    """Let a driver on another machine hold the lease."""
    holder = Holder("e" * 16, "elsewhere", "other boot", 7, renewed)
    (out / HIDDEN).mkdir(parents=True, exist_ok=True)
    (out / HIDDEN / LEASE).write_text(json.dumps(vars(holder)))
    return holder


def test_a_lease_is_renewed_and_given_back(tmp_path: Path) -> None:
    with take_lease(tmp_path, every_s=0.02) as lease:
        assert is_held(tmp_path, lease.number)
        until = time.monotonic() + 30
        while (read_holder(tmp_path) or lease).renewed < 3 and time.monotonic() < until:
            time.sleep(0.01)
        lease.check()
    assert read_holder(tmp_path) is None
    assert list((tmp_path / HIDDEN).iterdir()) == []


def test_of_this_machine_the_one_before_is_dead(tmp_path: Path) -> None:
    with take_lease(tmp_path) as first:
        held = read_holder(tmp_path)
        assert held is not None
    # The lock of the journal, which is held meanwhile, has gone with its process.
    (tmp_path / HIDDEN / LEASE).write_text(json.dumps(vars(held)))
    with take_lease(tmp_path) as second:
        assert second.before == held
        assert second.number != first.number


def test_one_of_another_machine_is_refused_as_long_as_it_is_young(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    with (
        pytest.raises(UsageError, match="is being written by process 7 on elsewhere"),
        take_lease(tmp_path),
    ):
        pass
    assert is_held(tmp_path, "e" * 16)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400], ids=["back", "ahead"])
def test_a_clock_that_jumps_does_not_take_a_lease_away(
    tmp_path: Path, jump_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its time the lease is of yesterday or of tomorrow, but it is renewed."""
    ended = threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(0.02):
            count += 1
            elsewhere(tmp_path, count)
            os.utime(tmp_path / HIDDEN / LEASE, (time.time() + jump_s,) * 2)

    elsewhere(tmp_path)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(UsageError, match="is being written by"), take_lease(tmp_path, **QUICK):
            pass
    finally:
        ended.set()
        thread.join()
    # Once nobody renews it, it is taken over all the same.
    os.utime(tmp_path / HIDDEN / LEASE, (time.time() + jump_s,) * 2)
    with take_lease(tmp_path, **QUICK) as lease:
        assert lease.before is not None and lease.before.host == "elsewhere"


def test_the_age_is_told_by_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert age_s(_empty(tmp_path)) is None
    elsewhere(tmp_path)
    monkeypatch.setattr(room.time, "time", lambda: 0.0)
    age = age_s(tmp_path)
    assert age is not None and 0 <= age < 600


def _empty(folder: Path) -> Path:
    (folder / HIDDEN).mkdir()
    return folder


def test_what_another_took_over_is_noticed_and_left_alone(tmp_path: Path) -> None:
    with take_lease(tmp_path, every_s=0.02) as lease:
        holder = elsewhere(tmp_path)
        time.sleep(0.2)  # it would have been renewed meanwhile
        with pytest.raises(UsageError, match="was taken over by process 7 on elsewhere"):
            lease.check()
    assert read_holder(tmp_path) == holder


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": "../../x"}', '{"a": 1}'])
def test_a_lease_that_is_none_is_nobodys(tmp_path: Path, text: str) -> None:
    (_empty(tmp_path) / HIDDEN / LEASE).write_text(text)
    assert read_holder(tmp_path) is None
    with take_lease(tmp_path) as lease:
        assert lease.before is None
