"""The engine of this machine: a process for each worker.

    driver                                           worker process
    wait <-- queue <-- thread that reads  <== stdout ==  main thread: opens the model, makes scenes
    send ================================== stdin ==>  thread that reads: scenes, stop, the end

The thread that reads in the worker ends the process at once when its pipe ends, which is when the
driver has ended in any way at all. As for `export/child_process.py`, it is not `multiprocessing`,
which runs the caller's script once more where nothing guards it.
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
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import Any

from sat2map.batch.engine import Event, Lost, Returned
from sat2map.batch.item import Item, Work
from sat2map.errors import ModelError, Sat2mapError

Opener = Callable[[str], Work]
"""Opens what a worker of a name does with scenes; it can be pickled."""

ENVIRONMENT = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/"}
"""Of workers, where nobody set it otherwise: GDAL does not remember that an address failed."""

START_TRIES = 3
"""Workers in turn that may die before they are ready."""

_BEGIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from sat2map.batch.local import serve; serve()"
)


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
    """

    def __init__(
        self, opener: Opener, count: int, *, memory: int | None = None, scratch: Path | None = None
    ) -> None:
        self._opener, self._count, self._memory = opener, count, memory
        self._scratch = scratch
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
        self._tell(one, ("item", item))

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
            self._tell(one, ("stop", None))

    def close(self) -> None:
        """End all workers at once, and remove what they left."""
        self._stops = True
        for one in self._workers:
            one.process.kill()
        for one in self._workers:
            _bury(one)
        self._workers = []
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> None:
        self._started += 1
        process = subprocess.Popen(
            [os.fsdecode(get_executable()), "-c", _BEGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT | os.environ,
        )
        one = _Worker(f"w{self._started}", process)
        self._workers.append(one)
        threading.Thread(
            target=self._read, args=(one,), name=f"sat2map-{one.name}", daemon=True
        ).start()
        self._tell(one, sys.path)
        self._tell(one, (self._opener, one.name))

    def _tell(self, one: _Worker, message: object) -> None:
        assert one.process.stdin is not None
        with suppress(OSError):  # it has died, as its thread tells
            one.process.stdin.write(pickle.dumps(message))
            one.process.stdin.flush()

    def _read(self, one: _Worker) -> None:
        """Pass on what a worker says, until it has ended."""
        assert one.process.stdout is not None
        with one.process.stdout as channel, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._events.put((one, pickle.load(channel)))
        self._events.put((one, None))

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
        code = _bury(one)
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


def _bury(one: _Worker) -> int:
    """Wait for a process that ends, and return with what."""
    code = one.process.wait()
    assert one.process.stdin is not None
    with suppress(OSError):
        one.process.stdin.close()
    return code


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
    # Ctrl-C is the driver's affair, and this process is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: TID251
    channel = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what packages print would be taken for answers
    os.close(nowhere)
    opener, name = pickle.load(sys.stdin.buffer)
    items: queue.Queue[Item] = queue.Queue()
    stop = threading.Event()

    def listen() -> None:
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                kind, content = pickle.load(sys.stdin.buffer)
                if kind == "stop":
                    stop.set()
                else:
                    items.put(content)
        os._exit(1)  # the driver is gone: nothing is published any more

    def tell(kind: str, content: object) -> None:
        channel.write(pickle.dumps((kind, content)))
        channel.flush()

    threading.Thread(target=listen, name="sat2map-listen", daemon=True).start()
    try:
        work = opener(name)
    except Exception as error:
        error.add_note(traceback.format_exc())
        tell("error", error)
        return
    tell("ready", None)
    while True:
        tell("outcome", work(items.get(), stop))
