"""What joins a Ray cluster for a batch, in a process of its own, and the actors that it keeps.

Each actor keeps one worker process on its machine, as `LocalWorkers` does on this one: so the death
of a worker, which its scene may be to blame for, is told from that of an actor or a whole machine,
which blames no scene. Ray starts an actor again wherever there is room but repeats no scene by
itself: the driver is told of each loss and sends the scene to another worker.

Ray ends the actors when this process ends, and they their worker processes, within a moment.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import socket
import sys
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sat2map.batch.engine import Lost, Returned
from sat2map.batch.item import Item
from sat2map.batch.local import LocalWorkers, Opener
from sat2map.batch.pipes import Tell, answer_by_stdout, listen
from sat2map.errors import ModelError, Sat2mapError

REACHED_S = 10.0
"""Seconds in which a cluster's address answers, if it is there."""

AGAIN_S = 0.5
"""Seconds after which a lost actor is asked again whether it is ready."""

CLEAN_S = 5.0
"""Seconds that actors have to remove what they left."""


@dataclass(frozen=True)
class Plan:
    """What each worker takes, and where it makes files.

    Attributes:
        threads: How many processors.
        memory: Bytes of memory at most; it is ended beyond.
        gpu: Which part of a GPU.
        scratch: The folder on each machine in which workers make files, which goes with them.
        stale: Such a folder of a driver that was killed, which goes, too.
    """

    threads: int
    memory: int
    gpu: float
    scratch: Path
    stale: Path | None = None


@dataclass(eq=False)
class _Slot:
    """A worker's place; who takes it after a loss has another name.

    Attributes:
        number: Which place.
        actor: Ray's handle of it.
        times: How often it was lost.
        is_busy: Whether it makes a scene.
        due: When it is asked again whether it is ready; None while it need not be.
    """

    number: int
    actor: Any
    times: int = 0
    is_busy: bool = False
    due: float | None = None

    @property
    def name(self) -> str:
        return f"r{self.number}.{self.times}"


class Crew:
    """The actors of a batch on a Ray cluster.

    Args:
        ray: The package, which has joined the cluster.
        events: What the driver says, and answers of actors.
        tell: Tells the driver: ("ready", worker), ("returned", (worker, outcome)), ("lost",
            (worker, (why, blames))) and ("given up", (worker, error)).
    """

    def __init__(self, ray: Any, events: queue.Queue[tuple[Any, Any]], tell: Tell) -> None:
        self._ray, self._tell, self._events = ray, tell, events
        self._slots: list[_Slot] = []
        self._start: Any = None

    def run(self) -> None:
        """Do what the driver says, and tell it what actors answer, until it says "close"."""
        while True:
            with suppress(queue.Empty):
                event = self._events.get(timeout=AGAIN_S)
                if event[0] == "close":
                    self._close()
                    return
                self.turn(event)
            self.ask_again(time.monotonic())

    def turn(self, event: tuple[Any, Any]) -> None:
        """Do what the driver says, or tell it what an actor has answered."""
        who, what = event
        if isinstance(who, _Slot):
            self._heed(who, what)
        else:
            self._obey(who, what)

    def ask_again(self, now: float) -> None:
        """Ask actors whether they are ready that were lost, or have just been made."""
        for slot in self._slots:
            if slot.due is not None and slot.due <= now:
                slot.due = None
                self._ask(slot, slot.actor.ready.remote())

    def _obey(self, kind: str, content: Any) -> None:
        """Do what the driver says."""
        if kind == "start":
            opener, count, plan = content
            actor = self._ray.remote(
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=3,  # it is asked to stop while it works, or is thought lost
                num_cpus=plan.threads,
                num_gpus=plan.gpu,
                memory=plan.memory,
            )(Host)
            self._start = lambda number: actor.remote(opener, f"r{number}", plan)
            self._slots = [
                _Slot(number, self._start(number), due=0.0) for number in range(1, count + 1)
            ]
        elif kind == "stop":
            for slot in self._slots:
                slot.actor.stop.remote()
        else:
            worker, item = content
            for slot in self._slots:  # none, if the driver is about to hear that it is lost
                if slot.name == worker:
                    slot.is_busy = True
                    self._ask(slot, slot.actor.make.remote(item))

    def _ask(self, slot: _Slot, answer: Any) -> None:
        """Have an actor's answer come as an event."""
        future: Future[Any] = answer.future()
        future.add_done_callback(lambda done: self._events.put((slot, done)))

    def _heed(self, slot: _Slot, answer: Future[Any]) -> None:
        """Tell the driver what an actor has answered."""
        if slot not in self._slots:
            return
        error = answer.exception()
        content = error if error is not None else answer.result()
        is_busy, slot.is_busy = slot.is_busy, False
        if isinstance(content, Returned):
            self._tell("returned", (slot.name, content.outcome))
        elif isinstance(content, Lost):
            self._lose(slot, content.why, blames=content.blames)
        elif isinstance(content, Sat2mapError):
            self._give_up(slot, content)
        elif error is None:
            self._tell("ready", slot.name)
        elif getattr(error, "actor_init_failed", False):
            self._give_up(slot, _not_opened(error))
        else:
            if isinstance(error, self._ray.exceptions.ActorDiedError):  # Ray has given it up
                slot.actor = self._start(slot.number)
            if is_busy:
                self._lose(slot, f"its machine or actor was lost ({type(error).__name__})")
            slot.due = time.monotonic() + AGAIN_S

    def _lose(self, slot: _Slot, why: str, *, blames: bool = False) -> None:
        """Tell the driver that a worker is lost; another one takes its place."""
        self._tell("lost", (slot.name, (why, blames)))
        slot.times += 1
        slot.due = 0.0

    def _give_up(self, slot: _Slot, error: Sat2mapError) -> None:
        """Tell the driver that a worker cannot be had."""
        self._slots.remove(slot)
        self._ray.kill(slot.actor)
        self._tell("given up", (slot.name, error))

    def _close(self) -> None:
        """Have the actors remove what they left, and leave the cluster, which ends them."""
        cleaned = [slot.actor.clean.remote() for slot in self._slots]
        if cleaned:
            self._ray.wait(cleaned, num_returns=len(cleaned), timeout=CLEAN_S)
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._ray.shutdown()


class Host:
    """The actor of one worker, which keeps its process.

    Args:
        opener: Opens what the worker does.
        name: What the worker's place is called.
        plan: What it takes.
    """

    def __init__(self, opener: Opener, name: str, plan: Plan) -> None:
        if plan.stale is not None:
            shutil.rmtree(plan.stale, ignore_errors=True)
        self._alone = threading.Lock()
        prefix = f"{name}-{uuid.uuid4().hex[:8]}-"  # Ray may start it twice at one place
        self._workers = LocalWorkers(
            opener,
            1,
            memory=plan.memory,
            scratch=plan.scratch,
            prefix=prefix,
            paths=_paths_without_ray(),
        )

    def ready(self) -> str | Sat2mapError:
        """Return the machine's name once the model is open, or why it cannot be."""
        with self._alone:
            try:
                self._free()
            except Sat2mapError as error:
                return error
            return socket.gethostname()

    def make(self, item: Item) -> Returned | Lost | Sat2mapError:
        """Make the files of one scene, and return what came of it or of its worker."""
        with self._alone:
            try:
                worker = self._free()
            except Sat2mapError as error:
                return error
            self._workers.send(worker, item)
            while True:
                for event in self._workers.wait(AGAIN_S):
                    if event.item == item:
                        return event

    def stop(self) -> None:
        """Have the scene that is being made come back as "stopped"."""
        self._workers.stop()

    def clean(self) -> None:
        """End the worker, and remove what all workers of this machine left."""
        self._workers.close()

    def _free(self) -> str:
        """Return the worker, once it has opened the model."""
        while not (free := self._workers.free()):
            self._workers.wait(AGAIN_S)
        return free[0]


def serve() -> None:
    """Keep the actors of `RayWorkers`, in the process that it starts."""
    tell = answer_by_stdout()
    address = pickle.load(sys.stdin.buffer)
    events: queue.Queue[tuple[Any, Any]] = queue.Queue()
    listen(events.put)
    try:
        ray = _joined(address)
    except Exception as error:
        tell("refused", " ".join(str(error).split())[:300])
        os._exit(1)  # `listen` still reads
    tell("machines", [_machine(node["Resources"]) for node in ray.nodes() if node["Alive"]])
    Crew(ray, events, tell).run()
    os._exit(0)


def _joined(address: str) -> Any:
    """Join a cluster, and return the package."""
    import ray

    host, _, port = address.rpartition(":")
    if host and port.isdecimal():  # Ray itself would wait for minutes
        socket.create_connection((host, int(port)), timeout=REACHED_S).close()
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    return ray


def _machine(resources: dict[str, float]) -> tuple[float, float, float]:
    return resources.get("CPU", 0.0), resources.get("memory", 0.0), resources.get("GPU", 0.0)


def _paths_without_ray() -> list[str]:
    """Return where this process imports from, without the insides of Ray.

    In an actor they come first, and there a module `types` hides the standard library's.
    """
    import ray

    inside = Path(ray.__file__).parent
    return [path for path in sys.path if not Path(path).is_relative_to(inside)]


def _not_opened(error: BaseException) -> Sat2mapError:
    """Return what to say of a machine on which no actor can be made."""
    last = str(error).strip().splitlines()[-1].strip()
    return ModelError(
        f"a machine of the Ray cluster cannot start a worker ({last[:200]})",
        remedy="Install the same version of sat2map on all of them.",
    )
