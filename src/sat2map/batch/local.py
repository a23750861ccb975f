"""The engine of this machine: a process for each worker.

    driver                                           worker process
    wait <-- queue <-- thread that reads  <== stdout ==  main thread: opens the model, makes scenes
    send ================================== stdin ==>  thread that reads: scenes, stop, the end

The thread that reads in the worker ends the process at once when its pipe ends (`pipes.py`), which
is when the driver has ended in any way at all.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sat2map.batch.engine import Event, Lost, Returned
from sat2map.batch.item import Item, Work
from sat2map.batch.pipes import answer_by_stdout, bury, hear, listen, start_process, tell
from sat2map.errors import ModelError, Sat2mapError

Opener = Callable[[str], Work]
"""Opens what a worker of a name does with scenes; it can be pickled."""

ENVIRONMENT = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/"}
"""Of workers, where nobody set it otherwise: GDAL does not remember that an address failed."""

START_TRIES = 3
"""Workers in turn that may die before they are ready."""


@dataclass(eq=False)
class _Worker:
    name: str
    process: subprocess.Popen[bytes]
    is_ready: bool = False
    item: Item | None = None
    why: str | None = None  # it was killed


class LocalWorkers:
    """Workers on this machine, each a process.

    Args:
        opener: Opens what they do.
        count: How many there are.
        memory: Bytes that one may take before it is killed; None is as much as there is. It is
            watched on Linux.
        scratch: The folder in which all of them make files, which goes with them.
        prefix: What their names begin with.
        paths: Where they import from; None is as in this process.
    """

    def __init__(
        self,
        opener: Opener,
        count: int,
        *,
        memory: int | None = None,
        scratch: Path | None = None,
        prefix: str = "w",
        paths: Sequence[str] | None = None,
    ) -> None:
        self._opener, self._memory = opener, memory
        self._scratch, self._prefix, self._paths = scratch, prefix, paths
        self._events: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._started = 0
        self._failed_starts = 0
        self._fatal: Sat2mapError | None = None
        self._stops = False
        for _ in range(count):
            self._start()

    def free(self) -> Sequence[str]:
        """Return the workers that have opened the model and have nothing to do."""
        if self._fatal is not None:
            raise self._fatal
        return [one.name for one in self._workers if one.is_ready and one.item is None]

    def alive(self) -> int:
        """Return how many workers there are."""
        return len(self._workers)

    def send(self, worker: str, item: Item) -> None:
        """Hand a scene to a free worker."""
        one = next(one for one in self._workers if one.name == worker)
        one.item = item
        tell(one.process, ("item", item))

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what has happened, after some seconds at most."""
        self._watch_memory()
        found: list[Event] = []
        with suppress(queue.Empty):
            message = self._events.get(timeout=timeout_s)
            while True:
                found += self._understood(*message)
                message = self._events.get_nowait()
        return found

    def stop(self) -> None:
        """Ask all workers to stop."""
        self._stops = True
        for one in self._workers:
            tell(one.process, ("stop", None))

    def close(self) -> None:
        """End all workers at once, and remove what they left."""
        self._stops = True
        for one in self._workers:
            one.process.kill()
        for one in self._workers:
            bury(one.process)
        self._workers = []
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> None:
        self._started += 1
        process = start_process(serve, ENVIRONMENT, self._paths)
        one = _Worker(f"{self._prefix}{self._started}", process)
        self._workers.append(one)
        hear(process, lambda message: self._events.put((one, message)))
        tell(process, (self._opener, one.name))

    def _understood(self, one: _Worker, message: Any) -> list[Event]:
        """Return the events that a worker's message stands for."""
        if message is None:
            return self._lost(one)
        kind, content = message
        if kind == "ready":
            one.is_ready, self._failed_starts = True, 0
        elif kind == "error":
            self._fatal = content
        elif one.item is not None:
            item, one.item = one.item, None
            return [Returned(one.name, item, content)]
        return []

    def _lost(self, one: _Worker) -> list[Event]:
        """Return that a worker is lost, and start another one in its place."""
        if one not in self._workers:
            return []
        self._workers.remove(one)
        code = bury(one.process)
        if self._scratch is not None:
            shutil.rmtree(self._scratch / one.name, ignore_errors=True)
        why = one.why or f"its process ended with {_told(code)}"
        if not one.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= START_TRIES and self._fatal is None:
                self._fatal = ModelError(
                    f"{self._failed_starts} workers in turn died before they were ready ({why})",
                    remedy="Close other programs, or use fewer workers.",
                )
        if not self._stops and self._fatal is None:
            self._start()
        return [Lost(one.name, one.item, why)]

    def _watch_memory(self) -> None:
        """Kill workers that take more memory than they may."""
        if self._memory is None:
            return
        for one in self._workers:
            if one.why is None and memory_of(one.process.pid) > self._memory:
                one.why = f"its worker took more than {self._memory / 1e9:.1f} GB of memory"
                one.process.kill()


def _told(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"the signal {signal.Signals(-code).name}"
    return f"status {code}"


def memory_of(pid: int) -> int:
    """Return how many bytes of memory a process has of its own; 0 is not known."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def available_memory() -> int | None:
    """Return how many bytes of this machine's memory programs may take; None is not known."""
    with suppress(OSError), Path("/proc/meminfo").open(encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def serve() -> None:
    """Be a worker of `LocalWorkers`, in the process that it starts."""
    answer = answer_by_stdout()
    opener, name = pickle.load(sys.stdin.buffer)
    items: queue.Queue[Item] = queue.Queue()
    stop = threading.Event()

    def heed(message: Any) -> None:
        kind, content = message
        if kind == "stop":
            stop.set()
        else:
            items.put(content)

    listen(heed)  # once the driver is gone nothing is published any more
    try:
        work = opener(name)
    except Exception as error:
        error.add_note(traceback.format_exc())
        answer("error", error)
        os._exit(1)  # `listen` still reads
    answer("ready", None)
    while True:
        answer("outcome", work(items.get(), stop))
