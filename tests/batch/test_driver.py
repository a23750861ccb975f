"""Whatever dies or fails, every scene that can be is made once, and the others are named."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import batch_workers
from fixtures.batch_kills import BEGIN, Round
from fixtures.batch_workers import (
    drive,
    eventually,
    fail_to_open,
    is_alive,
    many,
    maps,
    open_openvino,
    put_scenes,
)
from sat2map.batch import driver as driver_room
from sat2map.batch.item import aside_of
from sat2map.batch.lease import Holder
from sat2map.batch.manifest import WRITER, Row, read_manifest
from sat2map.batch.run import batch_status
from sat2map.errors import ModelError, OutputError, StoppedError, UsageError
from sat2map.journal import Journal, claim


def states(out: Path) -> dict[str, str]:
    return {row.scene: row.state for row in read_manifest(out).rows.values()}


def test_the_files_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    scenes = many(tmp_path / "scenes", 8)
    for count in (1, 3):
        counts = drive(scenes, tmp_path / f"{count}" / "out", count=count)
        assert counts["done"] == 8
    assert maps(tmp_path / "1" / "out") == maps(tmp_path / "3" / "out")
    rows = read_manifest(tmp_path / "3" / "out").finished()
    assert {name: told for row in rows for name, told in row.files.items()} == maps(
        tmp_path / "1" / "out"
    )
    assert not (tmp_path / "3" / "out" / ".sat2map" / "lease.json").exists()
    assert list((tmp_path / "3" / "scratch").iterdir()) == []


def test_a_scene_that_ends_its_process_is_set_aside_and_the_others_are_done(
    tmp_path: Path,
) -> None:
    scenes = put_scenes(
        tmp_path / "scenes", a="fine", deadly="die", b="fine", once="die-once", bad="corrupt"
    )
    said: list[str] = []
    counts = drive(scenes, tmp_path / "out", say=said.append)
    assert counts == {
        "waiting": 0, "running": 0, "done": 3, "failed": 1, "empty": 0, "set aside": 1
    }  # fmt: skip
    rows = read_manifest(tmp_path / "out").rows
    deadly, once, bad = rows["deadly.tif"], rows["once.tif"], rows["bad.tif"]
    assert len(set(deadly.deaths)) == 3
    assert deadly.error == "its process ended with the signal SIGKILL; 3 workers died of it"
    assert (once.state, once.tries, len(once.deaths)) == ("done", 2, 1)
    assert (bad.tries, bad.error) == (1, "is broken")  # what is broken stays so
    assert len(said) == 2
    assert set(maps(tmp_path / "out")) == {"a.tif", "b.tif", "once.tif"}
    # What was given up is left alone, unless it has changed or that is asked for.
    put_scenes(scenes, bad="fine", c="fine")
    assert drive(scenes, tmp_path / "out")["done"] == 5
    assert read_manifest(tmp_path / "out").rows["deadly.tif"].tries == 3
    put_scenes(scenes, deadly="die-once 4")
    assert drive(scenes, tmp_path / "out", retry_failed=True)["done"] == 6


def test_what_a_lost_worker_has_begun_is_removed(tmp_path: Path) -> None:
    scenes = put_scenes(tmp_path / "scenes", a="die-half", b="fine")
    assert drive(scenes, tmp_path / "out")["done"] == 2
    assert read_manifest(tmp_path / "out").rows["a.tif"].tries == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tif", "b.tif", ".sat2map"}


def test_what_cannot_be_read_for_a_while_is_tried_again(tmp_path: Path) -> None:
    scenes = put_scenes(tmp_path / "scenes", a="busy 3", b="busy 9", c="fine")
    counts = drive(scenes, tmp_path / "out")
    assert (counts["done"], counts["failed"]) == (2, 1)
    rows = read_manifest(tmp_path / "out").rows
    assert rows["a.tif"].tries == 4
    assert rows["b.tif"].error == "503 Service Unavailable (4 tries)"
    assert drive(scenes, tmp_path / "out")["failed"] == 1
    assert drive(scenes, tmp_path / "out", retry_failed=True)["failed"] == 1
    assert drive(scenes, tmp_path / "out", retry_failed=True)["done"] == 3


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither pauses nor the lease follow the time of day, which may be set while a batch works."""
    days, right = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: right() + 86_400 * days.uniform(-400, 400))
    scenes = put_scenes(tmp_path / "scenes", a="busy 2", b="wait 1", c="fine", d="die-once")
    counts = drive(scenes, tmp_path / "out", pauses=(0.2, 0.2, 0.2))
    assert counts["done"] == 4
    tries = {row.scene: row.tries for row in read_manifest(tmp_path / "out").rows.values()}
    assert tries == {"a.tif": 3, "b.tif": 1, "c.tif": 1, "d.tif": 2}
    assert drive(scenes, tmp_path / "out")["done"] == 4
    assert len(list((tmp_path / "met").iterdir())) == 7, "what is done is not begun again"


def test_a_worker_whose_disk_is_full_leaves_its_scenes_to_others(tmp_path: Path) -> None:
    scenes = many(tmp_path / "scenes", 6, "full")
    counts = drive(scenes, tmp_path / "out", count=2)
    assert counts["done"] == 6


def test_a_worker_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is watched on Linux")
    scenes = put_scenes(tmp_path / "scenes", a="fine", greedy="eat", b="fine")
    counts = drive(scenes, tmp_path / "out", memory=350_000_000)
    assert (counts["done"], counts["set aside"]) == (2, 1)
    error = read_manifest(tmp_path / "out").rows["greedy.tif"].error
    assert error is not None and "took more than 0.3 GB of memory" in error


def test_workers_that_die_before_they_are_ready_end_the_batch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 workers in turn died before they were ready"):
        drive(many(tmp_path / "scenes", 2), tmp_path / "out", count=1, opener=fail_to_open)
    assert set(states(tmp_path / "out").values()) == {"waiting"}


def test_when_asked_to_stop_what_is_done_is_done(tmp_path: Path) -> None:
    scenes = put_scenes(tmp_path / "scenes", a="fine", b="wait 60", c="wait 60")
    stop = threading.Event()
    done = tmp_path / "out" / "a.tif"
    threading.Thread(target=lambda: eventually(done.exists) and stop.set(), daemon=True).start()
    with pytest.raises(StoppedError, match=r"1 of 3 scenes are done.* to go on"):
        drive(scenes, tmp_path / "out", stop=stop)
    assert states(tmp_path / "out") == {"a.tif": "done", "b.tif": "waiting", "c.tif": "waiting"}
    put_scenes(scenes, b="fine", c="fine")
    assert drive(scenes, tmp_path / "out")["done"] == 3


def test_files_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    scenes = many(tmp_path / "scenes", 2)
    drive(scenes, tmp_path / "out")
    put_scenes(scenes, new="fine")
    (tmp_path / "out" / "new.tif").write_text("mine")
    assert drive(scenes, tmp_path / "out")["failed"] == 1
    assert (tmp_path / "out" / "new.tif").read_text() == "mine"
    assert "is there already and was not written by sat2map batch" in str(
        read_manifest(tmp_path / "out").rows["new.tif"].error
    )
    with pytest.raises(OutputError, match="is not empty and was not written by"):
        drive(scenes, scenes)


def test_a_giant_scene_is_made_block_by_block(tmp_path: Path) -> None:
    scenes, out = put_scenes(tmp_path / "scenes", a="fine", big="giant 5"), tmp_path / "out"
    assert drive(scenes, out, count=2)["done"] == 2
    drive(put_scenes(tmp_path / "alone", a="fine", big="fine"), tmp_path / "2" / "out")
    assert maps(out) == maps(tmp_path / "2" / "out")
    assert read_manifest(out).blocks == {}
    assert not (out / ".sat2map" / "blocks").exists()
    assert len(list((tmp_path / "met").glob("big-*"))) == 1 + 5 + 1
    drive(scenes, out)  # nothing is left to be done
    assert len(list((tmp_path / "met").glob("big-*"))) == 7


def test_blocks_that_are_made_stay_so_while_a_scene_is_the_same(tmp_path: Path) -> None:
    scenes, out = put_scenes(tmp_path / "scenes", big="giant 6"), tmp_path / "out"
    rows = blocks_of_a_driver_that_died(scenes, out)
    lost = next(iter(rows[3].files))
    (out / lost).write_text("damaged")  # found when they are joined, and made anew
    drive(scenes, out, count=2)
    assert len(list((tmp_path / "met").glob("big-*"))) == (1 + 6 + 1) + (1 + 2 + 1) + (1 + 1 + 1)
    assert set(maps(out)) == {"big.tif"}

    blocks_of_a_driver_that_died(scenes, tmp_path / "2" / "out")
    (scenes / "big.tif").write_text("giant  6")  # other contents: all blocks are made anew
    drive(scenes, tmp_path / "2" / "out", count=2)
    assert len(list((tmp_path / "2" / "met").glob("big-*"))) == 8 + 8
    assert maps(tmp_path / "2" / "out") == maps(out)


def blocks_of_a_driver_that_died(scenes: Path, out: Path) -> list[Row]:
    """Make a scene of six blocks; then let only the first four be known as made, not the map."""
    kept: list[Row] = []

    def keep(journal: Journal, rows: list[Row]) -> None:
        kept.extend(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_room, "remove_blocks", keep)
        drive(scenes, out, count=1)
    assert len(kept) == 6
    with claim(out, WRITER, {"model": "none"}) as journal:
        journal.start()
        scene = read_manifest(out).rows["big.tif"]
        journal.note({"big.tif": replace(scene, state="running", files={"big.tif": ""}).to_json()})
        journal.note({row.name: replace(row, state="running").to_json() for row in kept[4:]})
    status = batch_status(out)["blocks"]
    assert [(one["scene"], one["blocks"], one["made"]) for one in status] == [("big.tif", 6, 4)]
    return kept


def test_a_block_that_kills_its_workers_sets_its_scene_aside(tmp_path: Path) -> None:
    scenes = put_scenes(tmp_path / "scenes", a="fine", big="giant-deadly 4")
    counts = drive(scenes, tmp_path / "out")
    assert (counts["done"], counts["set aside"]) == (1, 1)
    row = read_manifest(tmp_path / "out").rows["big.tif"]
    assert row.error == "its process ended with the signal SIGKILL; 3 workers died of it"
    put_scenes(scenes, big="giant 4")
    assert drive(scenes, tmp_path / "out")["done"] == 2


def test_a_map_that_was_removed_is_made_again(tmp_path: Path) -> None:
    scenes = many(tmp_path / "scenes", 3)
    drive(scenes, tmp_path / "out")
    before = maps(tmp_path / "out")
    assert read_manifest(tmp_path / "out").rows["s001.tif"].source == "../scenes/s001.tif"
    (tmp_path / "out" / "s001.tif").unlink()
    drive(scenes, tmp_path / "out")
    assert maps(tmp_path / "out") == before
    assert len(list((tmp_path / "met").iterdir())) == 4


@pytest.fixture
def start_driver(tmp_path: Path) -> Iterator[Any]:
    """Return a function that starts a driver as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(scenes: Path, out: Path, count: int = 2) -> subprocess.Popen[bytes]:
        paths = [str(Path(batch_workers.__file__).parents[1]), *sys.path]
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, scenes, out, str(count)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_driver_is_refused_and_the_workers_of_a_killed_one_end(
    tmp_path: Path, start_driver: Any
) -> None:
    scenes, out = many(tmp_path / "scenes", 2, "wait 60"), tmp_path / "out"
    first = start_driver(scenes, out)
    met = tmp_path / "met"
    assert eventually(lambda: met.is_dir() and len(list(met.iterdir())) == 2)
    assert set(states(out).values()) == {"running"}
    with pytest.raises(UsageError, match="is being written by another process"):
        drive(scenes, out)
    workers = [int(path.name.rpartition("-")[2]) for path in met.iterdir()]
    assert all(map(is_alive, workers))
    assert batch_status(out)["driver"]["alive"] is True
    first.send_signal(signal.SIGKILL)
    assert eventually(lambda: not any(map(is_alive, workers)))
    first.wait()
    assert batch_status(out)["driver"]["alive"] is False
    put_scenes(scenes, s000="fine", s001="fine")
    assert drive(scenes, out)["done"] == 2


def test_workers_tell_nobody_of_their_use(tmp_path: Path) -> None:
    scenes = many(tmp_path / "scenes", 1)
    assert drive(scenes, tmp_path / "out", count=1, opener=open_openvino)["done"] == 1


def test_what_a_dead_driver_had_begun_is_swept_away(tmp_path: Path) -> None:
    scenes, out = many(tmp_path / "scenes", 2), tmp_path / "out"
    drive(scenes, out)
    journal = out / ".sat2map" / "done.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    known = {name for name, row in read_manifest(out).rows.items() if row.state != "done"}
    assert known  # the driver died before it wrote down that this one was done
    holder = json.loads(json.dumps(vars(Holder("0123456789abcdef", *_here(), pid=1))))
    (out / ".sat2map" / "lease.json").write_text(json.dumps(holder))
    left = aside_of(out / next(iter(known)), "0123456789abcdef", 1)
    foreign = aside_of(out / next(iter(known)), "f" * 16, 1)
    left.write_text("half")
    foreign.write_text("of another program that uses these names")
    assert drive(scenes, out)["done"] == 2
    assert not left.exists()
    assert foreign.exists()


def _here() -> tuple[str, str]:
    from sat2map.batch import lease

    return lease.socket.gethostname(), lease._boot()


def test_a_driver_that_was_superseded_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, out = put_scenes(tmp_path / "scenes", a="fine", b="wait 2", c="fine"), tmp_path / "out"

    def take_over() -> None:
        if eventually((out / "a.tif").exists):
            other = vars(Holder("f" * 16, "elsewhere", "other", 7))
            (out / ".sat2map" / "lease.json").write_text(json.dumps(other))

    threading.Thread(target=take_over, daemon=True).start()
    with pytest.raises(UsageError, match="was taken over by process 7 on elsewhere"):
        drive(scenes, out, count=1)
    assert not (out / "b.tif").exists()  # its worker finished late, and did not publish
    assert list(out.glob(".b*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_workers_and_drivers_are_killed(tmp_path: Path, seed: int) -> None:
    batch = Round(tmp_path, seed, 2)
    try:
        batch.kill_in_turn(batch.kill_worker, batch.kill_driver)
        batch.check(most_lost=1 + 2)
    finally:
        batch.end()


@pytest.mark.parametrize("rounds", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_at_any_time_is_gone_on_with(
    tmp_path: Path, start_driver: Any, rounds: int
) -> None:
    scenes = many(tmp_path / "scenes", 12 * rounds, "wait 0.1")
    put_scenes(scenes, giant=f"giant {8 * rounds}", late=f"giant {4 * rounds}")
    dice = random.Random(rounds)
    for _ in range(rounds):
        process = start_driver(scenes, tmp_path / "out")
        time.sleep(dice.uniform(0.5, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = start_driver(scenes, tmp_path / "out")
    assert last.wait() == 0, last.stderr.read()
    assert set(states(tmp_path / "out").values()) == {"done"}
    rows = read_manifest(tmp_path / "out").rows
    found = maps(tmp_path / "out")
    assert {name: told for row in rows.values() for name, told in row.files.items()} == found
    assert len(rows) == len(found) == 12 * rounds + 2
    assert not (tmp_path / "out" / ".sat2map" / "blocks").exists()
    assert all(row.deaths == () for row in rows.values())
    drive(scenes, tmp_path / "alone" / "out", count=1)
    assert maps(tmp_path / "alone" / "out") == found
