"""A Ray cluster of three machines makes the same maps, whatever of it dies."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.batch_kills import Round
from fixtures.batch_workers import drive, eventually, many, maps, put_scenes
from fixtures.scenes import MakeScene, noise, smooth
from sat2map.batch.manifest import read_manifest
from sat2map.batch.run import BatchOptions, run_batch
from sat2map.errors import OutputError, StoppedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own
]

PATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",  # where others use the processors, too
    "RAY_agent_register_timeout_ms": "300000",
}


class Machines:
    """A cluster whose machines are processes of this one."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self.add(include_dashboard=False)
        self.others: list[Any] = []
        self.mend()

    @property
    def address(self) -> str:
        address = self._cluster.address
        assert isinstance(address, str)
        return address

    def add(self, **how: Any) -> Any:
        """Add a machine with one processor.

        Its agents get fixed ports: Ray gives them 15 seconds to tell others, come what may.
        """
        names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
        sockets = [socket.create_server(("", 0)) for _ in names]
        ports = {
            f"{name}_port": one.getsockname()[1] for name, one in zip(names, sockets, strict=True)
        }
        for one in sockets:
            one.close()
        return self._cluster.add_node(num_cpus=1, **how, **ports)

    def kill_one(self) -> str:
        """Kill a machine that is not the head."""
        self._cluster.remove_node(self.others.pop(0), allow_graceful=False)
        return "a machine"

    def mend(self) -> Machines:
        """Have three machines again; this is for the main thread, for Ray sets signal handlers."""
        while len(self.others) < 2:
            self.others.append(self.add())
        return self

    def kill_head(self) -> None:
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


def _machines() -> Iterator[Machines]:
    before = dict(os.environ)
    tests = Path(__file__).parents[1]
    paths = [str(tests), str(tests.parent / "src")]
    os.environ.update(PATIENT, PYTHONPATH=os.pathsep.join(paths))
    made = Machines()
    try:
        yield made
    finally:
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


machines = pytest.fixture(scope="module")(_machines)
mortal_cluster = pytest.fixture(_machines)


@pytest.fixture
def cluster(machines: Machines) -> Machines:
    return machines.mend()


def states(out: Path) -> dict[str, str]:
    return {row.scene: row.state for row in read_manifest(out).rows.values()}


def test_the_bytes_are_those_of_local_workers(
    tmp_path: Path, make_scene: MakeScene, cluster: Machines
) -> None:
    (tmp_path / "scenes" / "north").mkdir(parents=True)
    for number in range(4):
        values = noise(300, 300, seed=number) if number % 2 else smooth(280, 340)
        make_scene(values, f"scenes/{'north/' * (number > 1)}{number}.tif")
    options = BatchOptions(classes=True, confidence=True)
    found = []
    for name, how in (
        ("one", {"workers": 1}),
        ("two", {"workers": 2}),
        ("ray", {"ray": cluster.address}),
    ):
        out = tmp_path / name
        counts = run_batch(tmp_path / "scenes", out, options=options, **how)
        assert counts["done"] == 4
        rasters = {path: told for path, told in maps(out).items() if path.endswith(".tif")}
        settings = read_manifest(out).settings
        found.append((rasters, {k: v for k, v in settings.items() if k != "list of scenes"}))
    assert len(found[0][0]) == 12
    assert found[0] == found[1] == found[2]


def test_a_deadly_scene_is_set_aside_and_the_others_are_done(
    tmp_path: Path, cluster: Machines
) -> None:
    scenes = put_scenes(
        tmp_path / "scenes", a="fine", once="die-once", b="fine", deadly="die", bad="corrupt"
    )
    out = tmp_path / "out"
    counts = drive(scenes, out, address=cluster.address)
    assert counts["done"] == 3
    assert states(out) == {
        "a.tif": "done",
        "b.tif": "done",
        "bad.tif": "failed",
        "deadly.tif": "set aside",
        "once.tif": "done",
    }
    row = read_manifest(out).rows["deadly.tif"]
    assert len(set(row.deaths)) == 3
    assert row.error == "its process ended with the signal SIGKILL; 3 workers died of it"
    assert not list((tmp_path / "scratch").glob("*"))
    put_scenes(scenes, deadly="fine", bad="fine", greedy="eat")
    counts = drive(scenes, out, address=cluster.address, retry_failed=True)
    assert (counts["done"], counts["set aside"]) == (5, 1)
    error = read_manifest(out).rows["greedy.tif"].error
    assert error is not None and "took more than 0.3 GB of memory" in error


def test_when_asked_to_stop_what_is_done_is_done(tmp_path: Path, cluster: Machines) -> None:
    scenes = put_scenes(tmp_path / "scenes", a="fine", b="wait 60", c="wait 60")
    out, stop = tmp_path / "out", threading.Event()

    def ask() -> None:
        eventually((out / "a.tif").exists)
        stop.set()

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(StoppedError, match="1 of 3 scenes are done"):
        drive(scenes, out, address=cluster.address, stop=stop)
    assert states(out) == {"a.tif": "done", "b.tif": "waiting", "c.tif": "waiting"}


def test_a_machine_that_dies_blames_no_scene(tmp_path: Path, cluster: Machines) -> None:
    scenes, out, met = many(tmp_path / "scenes", 9, "wait 2"), tmp_path / "out", tmp_path / "met"

    def kill() -> None:
        if eventually(lambda: met.is_dir() and len(list(met.iterdir())) >= 3):
            cluster.kill_one()

    thread = threading.Thread(target=kill)
    thread.start()
    assert drive(scenes, out, address=cluster.address)["done"] == 9
    thread.join()
    rows = read_manifest(out).rows.values()
    assert all(row.deaths == () for row in rows)
    assert sum(row.tries for row in rows) == 10  # what was on that machine was sent again


@pytest.mark.parametrize("seed", range(10))
def test_workers_machines_and_drivers_are_killed(
    tmp_path: Path, cluster: Machines, seed: int
) -> None:
    batch = Round(tmp_path, seed, 3, cluster.address)
    try:
        batch.kill_in_turn(batch.kill_worker, cluster.kill_one, batch.kill_driver)
        batch.check(most_lost=1 + 1 + 3)
    finally:
        batch.end()


def test_after_the_death_of_the_head_the_next_batch_goes_on(
    tmp_path: Path, mortal_cluster: Machines
) -> None:
    scenes, out = many(tmp_path / "scenes", 150, "wait 2"), tmp_path / "out"

    def kill() -> None:
        if eventually(lambda: out.is_dir() and len(list(out.glob("*.tif"))) >= 3):
            mortal_cluster.kill_head()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(OutputError, match=r"the Ray cluster at .* is gone"):
        drive(scenes, out, address=mortal_cluster.address)
    thread.join()
    done = {name for name, state in states(out).items() if state == "done"}
    assert 3 <= len(done) < 150  # workers of other machines go on for a minute
    put_scenes(scenes, **{Path(name).stem: "fine" for name in states(out) if name not in done})
    before = {name: (out / name).stat().st_mtime_ns for name in done}
    drive(scenes, out)
    assert set(states(out).values()) == {"done"}
    assert {name: (out / name).stat().st_mtime_ns for name in done} == before
