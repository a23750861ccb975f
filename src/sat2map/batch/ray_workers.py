"""The engine of a Ray cluster: an actor for each worker, on whichever machine Ray finds room.

    driver                       process of its own                  any machine of the cluster
    RayWorkers  <== pipes ==>    Crew (`ray_process.py`) <-- Ray -->  Host, an actor
                                                                        || pipes
                                                                      worker process (`local.py`)

Ray sets signal handlers and loggers in a process that joins a cluster, and ends it a minute after
the head of the cluster is gone. So the driver does not join: a process of its own does.
"""

from __future__ import annotations

import logging
import math
import queue
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from sat2map.batch.engine import Event, Lost, Returned
from sat2map.batch.item import Item
from sat2map.batch.local import Opener
from sat2map.batch.pipes import bury, hear, start_process, tell
from sat2map.batch.ray_process import Plan, serve
from sat2map.closing import Closing
from sat2map.errors import MissingExtraError, OutputError, Sat2mapError, UsageError

JOIN_S = 180.0
"""Seconds in which a cluster is joined; Ray needs one or two, or many on a crowded machine."""

CLOSE_S = 10.0
"""Seconds that workers have to remove what they left before they are ended."""

WAIT_S = 60.0
"""Seconds without any worker after which that is said."""

PER_GPU = 4
"""Workers that share a GPU where their number is not told: reading and writing takes longer."""

ENVIRONMENT = {"RAY_raylet_start_wait_time_s": str(int(JOIN_S)), "RAY_USAGE_STATS_ENABLED": "0"}
"""Of the process that joins, where nobody set it otherwise."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What Ray may give away of a machine.

    Attributes:
        cpus: Processors.
        memory: Bytes of memory.
        gpus: GPUs.
    """

    cpus: float
    memory: float
    gpus: float = 0.0


def share_out(
    machines: Sequence[Machine], asked: int | None, *, threads: int, memory: float, on_gpu: bool
) -> tuple[int, float]:
    """Return how many workers there are, and which part of a GPU each gets.

    Args:
        machines: Of the cluster.
        asked: How many were asked for; None is as many as fit.
        threads: Processors that a worker takes.
        memory: Bytes of memory that a worker takes.
        on_gpu: Whether they run on GPUs; then machines without one get none.

    Raises:
        UsageError: No worker fits on any machine.
    """
    fitting = [
        (min(math.floor(one.cpus / threads), math.floor(one.memory / memory)), math.floor(one.gpus))
        for one in machines
    ]
    gpus = sum(gpus for _, gpus in fitting)
    if on_gpu:
        each = PER_GPU if asked is None else max(math.ceil(asked / max(gpus, 1)), 1)
        fitting = [(min(fit, has * each), has) for fit, has in fitting]
    count = sum(fit for fit, _ in fitting)
    if asked is None and count < 1:
        needed = f"{threads} processors, {memory / 1e9:.1f} GB of memory{' and a GPU' * on_gpu}"
        raise UsageError(
            f"no machine of the cluster has {needed} for a worker",
            parameter="ray",
            remedy="Give `worker_memory` and `threads` that fit, or start larger machines.",
        )
    share = math.floor(1e4 / each) / 1e4 if on_gpu else 0.0  # Ray counts ten-thousandths
    return count if asked is None else asked, share


class RayWorkers(Closing):
    """Workers on a Ray cluster, each kept by an actor.

    It is an engine once `start` was called, and a context manager, which leaves the cluster.

    Args:
        address: The cluster's, HOST:PORT, or "auto" for the one that this machine belongs to.

    Attributes:
        machines: Of the cluster, as it is now.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: No cluster can be joined there.
    """

    def __init__(self, address: str) -> None:
        if find_spec("ray") is None:
            raise MissingExtraError("ray", "ray")
        self._address = address
        self._messages: queue.Queue[Any] = queue.Queue()
        self._free: set[str] = set()
        self._busy: dict[str, Item] = {}
        self._count = 0
        self._error: Sat2mapError | None = None
        self._said: set[str] = set()
        self._seen = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = start_process(serve, ENVIRONMENT)
        hear(self._process, self._messages.put)
        tell(self._process, address)
        try:
            self.machines = self._joined()
        except BaseException:
            self.close()
            raise

    def start(self, opener: Opener, count: int, plan: Plan) -> None:
        """Start workers, some of which may wait until machines join the cluster.

        Args:
            opener: Opens what they do.
            count: How many there are.
            plan: What each takes.
        """
        self._count, self._seen = count, time.monotonic()
        self._tell("start", (opener, count, plan))

    def free(self) -> Sequence[str]:
        """Return the workers that have opened the model and have nothing to do."""
        if self._error is not None and self._count < 1:
            raise self._error
        return sorted(self._free)

    def alive(self) -> int:
        """Return how many workers there are."""
        return self._count

    def send(self, worker: str, item: Item) -> None:
        """Hand a scene to a free worker."""
        self._free.remove(worker)
        self._busy[worker] = item
        self._tell("item", (worker, item))

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what has happened, after some seconds at most."""
        found: list[Event] = []
        with suppress(queue.Empty):
            message = self._messages.get(timeout=timeout_s)
            while True:
                found += self._understood(message)
                message = self._messages.get_nowait()
        if self._free or self._busy or self._count < 1:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > WAIT_S:
            self._seen = time.monotonic()
            logger.warning(
                "No worker on the Ray cluster has been ready for %.0f seconds: its machines have "
                "no room, or open the model slowly. It goes on as soon as there is one.",
                WAIT_S,
            )
        return found

    def stop(self) -> None:
        """Ask all workers to stop."""
        self._tell("stop", None)

    def close(self) -> None:
        """End all workers at once, remove what they left, and leave the cluster."""
        if self._process is None:
            return
        self._tell("close", None)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self._process.kill()
        bury(self._process)
        self._process, self._count = None, 0

    def _tell(self, kind: str, content: object) -> None:
        if self._process is not None:
            tell(self._process, (kind, content))

    def _joined(self) -> list[Machine]:
        """Return the machines of the cluster once it is joined."""
        why = f"it did not answer within {JOIN_S:.0f} seconds"
        with suppress(queue.Empty):
            kind, content = self._messages.get(timeout=JOIN_S) or ("lost", "Ray ended its process")
            if kind == "machines":
                return [Machine(*one) for one in content]
            why = str(content)
        raise UsageError(
            f"cannot join a Ray cluster at {self._address} ({why})",
            parameter="ray",
            remedy="Start one with `ray start --head`, and on further machines `ray start "
            "--address=HOST:PORT`; give that address on a machine of the cluster.",
        )

    def _understood(self, message: Any) -> list[Event]:
        """Return the events that a message of the other process stands for."""
        if message is None:
            return self._gone()
        kind, content = message
        if kind == "ready":
            self._free.add(content)
            return []
        worker, told = content
        self._free.discard(worker)
        item = self._busy.pop(worker, None)
        if kind == "returned":
            assert item is not None
            self._free.add(worker)
            return [Returned(worker, item, told)]
        if kind == "lost":
            return [Lost(worker, item, *told)]
        self._count -= 1
        self._error = told
        if self._count and str(told) not in self._said:
            self._said.add(str(told))
            logger.warning("A machine of the Ray cluster gets no scenes: %s", told)
        return [] if item is None else [Lost(worker, item, "its worker was given up", False)]

    def _gone(self) -> list[Event]:
        """Return that all workers are lost, as the cluster is."""
        self._error = OutputError(
            f"the Ray cluster at {self._address} is gone",
            remedy="What is done is kept; start it again, and run the same command to go on.",
        )
        lost: list[Event] = [
            Lost(worker, item, "the cluster is gone", False) for worker, item in self._busy.items()
        ]
        self._count, self._free, self._busy = 0, set(), {}
        return lost
