"""The engine of a Ray cluster, without a cluster; `test_ray.py` has one."""

from __future__ import annotations

import importlib.util
import os
import pickle
import queue
import re
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.batch_workers import (
    drive,
    fail_to_open,
    making_for,
    many,
    open_fake,
    put_scenes,
    start_on_ray,
)
from sat2map.batch import ray_workers
from sat2map.batch.engine import Lost, Returned
from sat2map.batch.item import Item, Outcome, scratch_of
from sat2map.batch.lease import take_lease
from sat2map.batch.manifest import read_manifest
from sat2map.batch.pipes import answer_by_stdout, listen
from sat2map.batch.ray_process import Crew, Host, Plan
from sat2map.batch.ray_workers import Machine, RayWorkers, share_out
from sat2map.errors import MissingExtraError, ModelError, OutputError, UsageError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)

PLAN = Plan(1, 350_000_000, 0.0, Path("scratch"))


@pytest.mark.parametrize(
    ("machines", "asked", "on_gpu", "expected"),
    [
        ([Machine(8, 64e9), Machine(8, 64e9)], None, False, (8, 0.0)),  # two processors each
        ([Machine(8, 64e9), Machine(8, 3e9)], None, False, (5, 0.0)),  # little memory
        ([Machine(1, 64e9), Machine(3, 64e9)], None, False, (1, 0.0)),  # not half on each
        ([Machine(8, 64e9)], 3, False, (3, 0.0)),
        ([Machine(1, 1e9)], 2, False, (2, 0.0)),  # they wait for machines that join
        ([Machine(64, 512e9, 2), Machine(64, 512e9)], None, True, (8, 0.25)),
        ([Machine(4, 512e9, 2)], None, True, (2, 0.25)),  # processors are fewer
        ([Machine(64, 512e9, 2)], 2, True, (2, 1.0)),
        ([Machine(64, 512e9, 2)], 6, True, (6, 0.3333)),
    ],
)
def test_workers_are_as_many_as_fit_on_the_machines(
    machines: list[Machine], asked: int | None, on_gpu: bool, expected: tuple[int, float]
) -> None:
    assert share_out(machines, asked, threads=2, memory=2e9, on_gpu=on_gpu) == expected


def test_a_cluster_without_room_for_a_worker_is_refused() -> None:
    small = [Machine(1, 64e9), Machine(8, 1e9)]
    with pytest.raises(UsageError, match=r"has 2 processors, 2.0 GB of memory for a worker"):
        share_out(small, None, threads=2, memory=2e9, on_gpu=False)
    with pytest.raises(UsageError, match="and a GPU for a worker"):
        share_out([Machine(8, 64e9)], None, threads=2, memory=2e9, on_gpu=True)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sat2map\[ray\]'"):
        RayWorkers("auto")


@needs_ray
def test_an_address_without_a_cluster_is_told() -> None:
    with pytest.raises(UsageError, match=r"cannot join a Ray cluster at 127.0.0.1:1 \(") as caught:
        RayWorkers("127.0.0.1:1")
    assert caught.value.parameter == "ray"


@needs_ray
def test_the_cluster_file_of_the_how_to_is_one() -> None:
    yaml = pytest.importorskip("yaml")
    from ray.autoscaler._private.util import prepare_config, validate_config

    page = Path(__file__).parents[2] / "docs" / "how-to" / "map-a-country.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    told = yaml.safe_load(block)
    whole = prepare_config(told)
    validate_config(whole)
    assert whole["max_workers"] == len(told["provider"]["worker_ips"]) == 2
    (_, head), (_, other) = told["head_start_ray_commands"], told["worker_start_ray_commands"]
    assert "--disable-usage-stats" in head and "--head" in head
    assert "--address=" in other


class DiedError(Exception):
    """Of an actor that Ray has given up."""


class FakeActor:
    """Notes what it is asked; the test answers."""

    def __init__(self, *made_with: Any) -> None:
        self.made_with = made_with
        self.asked: list[tuple[str, tuple[Any, ...], Future[Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*content: Any) -> Any:
            future: Future[Any] = Future()
            self.asked.append((name, content, future))
            return SimpleNamespace(future=lambda: future)

        return SimpleNamespace(remote=remote)


class FakeRay:
    """What `Crew` calls of Ray."""

    exceptions = SimpleNamespace(ActorDiedError=DiedError)

    def __init__(self) -> None:
        self.actors: list[FakeActor] = []
        self.options: dict[str, Any] = {}
        self.killed: list[FakeActor] = []

    def remote(self, **options: Any) -> Any:
        self.options = options

        def made(*content: Any) -> FakeActor:
            self.actors.append(FakeActor(*content))
            return self.actors[-1]

        return lambda _: SimpleNamespace(remote=made)

    def wait(self, answers: Any, **_: Any) -> None: ...

    def kill(self, actor: FakeActor) -> None:
        self.killed.append(actor)

    def shutdown(self) -> None:
        self.killed.append(FakeActor("all"))


class Director:
    """Runs a crew, and answers for its actors."""

    def __init__(self) -> None:
        self.ray, self.told = FakeRay(), queue.SimpleQueue[Any]()
        self.events: queue.Queue[Any] = queue.Queue()
        self.crew = Crew(self.ray, self.events, lambda *message: self.told.put(message))

    def run(self, *events: Any) -> list[Any]:
        """Have the crew take events, and return what it tells."""
        for event in events:
            self.events.put(event)
        while not self.events.empty():
            self.crew.turn(self.events.get())
        self.crew.ask_again(time.monotonic() + 10)
        found = []
        while not self.told.empty():
            found.append(self.told.get())
        return found


def test_a_lost_actor_is_told_once_and_asked_again_under_another_name() -> None:
    here = Director()
    assert here.run(("start", (print, 2, PLAN))) == []
    assert here.ray.options["max_restarts"] == -1
    assert here.ray.options["max_task_retries"] == 0
    assert here.ray.options["memory"] == PLAN.memory
    one, two = here.ray.actors
    assert [name for name, _, _ in one.asked] == ["ready"]
    for actor in (one, two):
        actor.asked[0][2].set_result("host")
    assert here.run() == [("ready", "r1.0"), ("ready", "r2.0")]
    item = Item("a.tif", "a.tif")
    assert here.run(("item", ("r1.0", item))) == []
    assert one.asked[-1][:2] == ("make", (item,))
    one.asked[-1][2].set_exception(RuntimeError("unavailable"))
    lost = "its machine or actor was lost (RuntimeError)"
    assert here.run() == [("lost", ("r1.0", (lost, False)))]
    assert one.asked[-1][0] == "ready"
    one.asked[-1][2].set_exception(RuntimeError("restarting"))  # nobody is told: it has nothing
    assert here.run() == []
    one.asked[-1][2].set_result("host")
    assert here.run() == [("ready", "r1.1")]
    assert here.run(("item", ("r1.0", item))) == []  # of a driver that has not heard of the loss
    assert [name for name, _, _ in one.asked].count("make") == 1


def test_what_comes_of_a_scene_is_told_and_a_death_of_it_blames_it() -> None:
    here = Director()
    here.run(("start", (print, 1, PLAN)))
    (actor,) = here.ray.actors
    actor.asked[0][2].set_result("host")
    here.run()
    item = Item("a.tif", "a.tif")
    here.run(("item", ("r1.0", item)))
    actor.asked[-1][2].set_result(Returned("w1", item, Outcome("done")))
    assert here.run() == [("returned", ("r1.0", Outcome("done")))]
    here.run(("item", ("r1.0", item)))
    actor.asked[-1][2].set_result(Lost("w1", item, "killed"))
    assert here.run() == [("lost", ("r1.0", ("killed", True)))]
    actor.asked[-1][2].set_exception(DiedError())  # Ray does not start it again
    assert here.run() == []
    assert len(here.ray.actors) == 2
    here.ray.actors[1].asked[-1][2].set_result(ModelError("cannot be opened", remedy="Look."))
    ((kind, (name, error)),) = here.run()
    assert (kind, name, str(error)) == ("given up", "r1.1", "cannot be opened. Look.")
    assert here.ray.killed == [here.ray.actors[1]]


@needs_ray
def test_an_actor_tells_what_came_of_its_worker(tmp_path: Path) -> None:
    scenes = put_scenes(tmp_path / "scenes", a="fine", deadly="die")
    out = tmp_path / "out"
    with take_lease(out) as lease:
        making = making_for(out, tmp_path / "scratch", lease.number)
        stale = scratch_of(making.scratch, "0" * 16)
        (stale / "w1").mkdir(parents=True)
        plan = Plan(1, 350_000_000, 0.0, scratch_of(making.scratch, making.number), stale)
        host = Host(Opened(making), "r1", plan)
        try:
            assert not stale.exists()
            assert isinstance(host.ready(), str)
            lost = host.make(Item("deadly.tif", str(scenes / "deadly.tif")))
            assert isinstance(lost, Lost) and lost.blames
            assert lost.why == "its process ended with the signal SIGKILL"
            done = host.make(Item("a.tif", str(scenes / "a.tif")))
            assert isinstance(done, Returned) and done.outcome.kind == "done"
            assert (out / "a.tif").is_file()
        finally:
            host.clean()
        assert not plan.scratch.exists()
        broken = Host(Opened(making, fail_to_open), "r2", plan)
        assert isinstance(broken.ready(), ModelError)
        broken.clean()


class Opened:
    """What a worker opens."""

    def __init__(self, making: Any, opener: Any = open_fake) -> None:
        self.making, self.opener = making, opener

    def __call__(self, worker: str) -> Any:
        return self.opener(self.making, worker)


def vanish() -> None:
    """Be a cluster of one worker that is gone when it gets its second scene."""
    answer = answer_by_stdout()
    pickle.load(sys.stdin.buffer)
    items: queue.Queue[Any] = queue.Queue()
    listen(items.put)
    answer("machines", [(1.0, 4e9, 0.0)])
    answer("ready", "r1.0")
    done = 0
    while True:
        kind, content = items.get()
        if kind == "item":
            if done:
                os._exit(1)
            done += 1
            answer("returned", (content[0], Outcome("failed", {"error": "is broken"})))


def test_a_cluster_that_is_gone_ends_the_batch_and_what_is_known_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda _: True)
    monkeypatch.setattr(ray_workers, "serve", vanish)
    scenes, out = many(tmp_path / "scenes", 3), tmp_path / "out"
    with pytest.raises(OutputError, match="the Ray cluster at here:1 is gone"):
        drive(scenes, out, address="here:1")
    rows = read_manifest(out).rows.values()
    assert [row.state for row in rows] == ["failed", "waiting", "waiting"]
    assert all(row.deaths == () for row in rows)
    assert drive(scenes, out)["done"] == 2  # here, with what is left


def refuse() -> None:
    """Be a cluster of three workers, of which two cannot open the model, and then no one."""
    answer = answer_by_stdout()
    pickle.load(sys.stdin.buffer)
    items: queue.Queue[Any] = queue.Queue()
    listen(items.put)
    answer("machines", [(3.0, 8e9, 0.0)])
    error = ModelError("has other versions", remedy="Install the same.")
    answer("given up", ("r1.0", error))
    answer("given up", ("r2.0", error))
    answer("ready", "r3.0")
    while True:
        kind, content = items.get()
        if kind == "item":
            answer("given up", (content[0], error))


def test_a_machine_with_other_versions_is_told_once_and_without_any_other_the_batch_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda _: True)
    monkeypatch.setattr(ray_workers, "serve", refuse)
    scenes, out = many(tmp_path / "scenes", 3), tmp_path / "out"
    with pytest.raises(ModelError, match="has other versions"):
        drive(scenes, out, address="here:1")
    assert [row.state for row in read_manifest(out).rows.values()] == ["waiting"] * 3
    told = [line for line in caplog.messages if "gets no scenes: has other versions" in line]
    assert len(told) == 1


def test_a_cluster_without_room_is_waited_for_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda _: True)
    monkeypatch.setattr(ray_workers, "serve", have_no_room)
    monkeypatch.setattr(ray_workers, "WAIT_S", 0.0)
    engine = start_on_ray(making_for(tmp_path / "out", tmp_path), 3, address="here:1")
    assert engine.wait(0.01) == []
    assert "No worker on the Ray cluster has been ready" in caplog.text
    engine.close()


def have_no_room() -> None:
    """Be a cluster on which no worker is ever ready."""
    answer = answer_by_stdout()
    pickle.load(sys.stdin.buffer)
    said: queue.Queue[Any] = queue.Queue()
    listen(said.put)
    answer("machines", [(1.0, 1e9, 0.0)])
    while said.get()[0] != "close":
        pass
    os._exit(0)


def test_workers_of_ray_start_where_a_batch_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "find_spec", lambda _: True)
    monkeypatch.setattr(ray_workers, "serve", vanish)
    engine = start_on_ray(making_for(tmp_path / "out", tmp_path), 3, address="here:1")
    assert engine.alive() == 3
    engine.close()
    engine.close()
    assert engine.alive() == 0
