"""The one place where windows are computed: a bounded queue, in fair order, each window once.

    client A waits for   3 2 1  --+
    client B waits for       2  --+-->  one window of each client in turn
    idle work (warming)    ...  ----->  one where nobody waits

A window that several ask for is one job, which the first of them whose turn comes brings to work.
A job that nobody waits for any more is not computed. What cannot be read for a while, such as an
address whose server stalls, holds up its own scene alone: no scene has more than `AT_ONCE` of the
threads, and there are more of these than that.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

AT_ONCE = 2
"""Windows of one scene that are read and computed at once: one is read while the network has the
other."""

LONGEST = 256
"""Windows that may wait."""

THREADS = 8


class QueueFullError(Exception):
    """More windows wait than may."""


@dataclass(eq=False)
class _Job:
    """One window on its way."""

    key: Hashable
    scene: Hashable
    work: Callable[[], Any]
    waiting: list[Ticket] = field(default_factory=list)
    is_running: bool = False


class Ticket:
    """What one who asks for a window holds.

    Attributes:
        future: Is done when the window is, with what it is or what went wrong.
    """

    def __init__(self, pool: WindowPool, job: _Job) -> None:
        self.future: Future[Any] = Future()
        self._pool, self._job = pool, job

    def give_up(self) -> None:
        """Wait no longer; if nobody else does, the window is not computed."""
        self._pool._give_up(self, self._job)


class WindowPool:
    """Computes windows in threads of its own; call it from any thread.

    Args:
        longest: Windows that may wait, those of idle work left aside.
        threads: How many threads read and wait for the network.
        at_once: Windows of one scene at once.
    """

    def __init__(
        self, longest: int = LONGEST, threads: int = THREADS, at_once: int = AT_ONCE
    ) -> None:
        self._longest, self._at_once = longest, at_once
        self._condition = threading.Condition()
        self._jobs: dict[Hashable, _Job] = {}
        # Of each client what it waits for; the client whose turn it is comes first.
        self._clients: tuple[OrderedDict[Hashable, deque[_Job]], ...] = (
            OrderedDict(),
            OrderedDict(),
        )
        self._busy: dict[Hashable, int] = {}
        self._waiting = 0  # jobs that somebody waits for and nobody works on
        self._is_closed = False
        self.computed = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"sat2map-window-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many windows wait for their turn."""
        return self._waiting

    def ask(
        self,
        key: Hashable,
        scene: Hashable,
        work: Callable[[], Any],
        client: Hashable,
        *,
        idle: bool = False,
    ) -> Ticket:
        """Ask for a window.

        Args:
            key: Which window it is, of which scene.
            scene: Whose it is.
            work: Computes it.
            client: Who asks; clients take turns.
            idle: Whether it waits until nobody else waits for anything.

        Raises:
            QueueFullError: Too many windows wait.
        """
        with self._condition:
            job = self._jobs.get(key)
            if self._is_closed:
                ticket = Ticket(self, job or _Job(key, scene, work))
                ticket.future.cancel()
                return ticket
            if job is None:
                if not idle and self._waiting >= self._longest:
                    raise QueueFullError
                job = self._jobs[key] = _Job(key, scene, work)
                self._waiting += 1
            ticket = Ticket(self, job)
            job.waiting.append(ticket)
            if not job.is_running:
                self._clients[idle].setdefault(client, deque()).append(job)
                self._condition.notify()
        return ticket

    def close(self, timeout_s: float = 2.0) -> bool:
        """Compute nothing more, and return whether all threads have ended within some seconds."""
        with self._condition:
            self._is_closed = True
            for clients in self._clients:
                clients.clear()
            for job in self._jobs.values():
                for ticket in job.waiting:
                    ticket.future.cancel()
            self._condition.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _give_up(self, ticket: Ticket, job: _Job) -> None:
        with self._condition:
            ticket.future.cancel()
            if ticket in job.waiting:
                job.waiting.remove(ticket)
            if not job.waiting and not job.is_running and self._jobs.get(job.key) is job:
                del self._jobs[job.key]  # it stays in the queues, where it is passed over
                self._waiting -= 1

    def _next(self) -> _Job | None:
        """Take the next job of the next client, or None where there is nothing to do."""
        for clients in self._clients:
            for client in list(clients):
                jobs = clients[client]
                kept: deque[_Job] = deque()
                found = None
                while jobs:
                    job = jobs.popleft()
                    if job.is_running or self._jobs.get(job.key) is not job:
                        continue  # given up, or brought to work by another client
                    if self._busy.get(job.scene, 0) >= self._at_once:
                        kept.append(job)
                        continue
                    found = job
                    break
                jobs.extendleft(reversed(kept))
                if not jobs:
                    del clients[client]
                elif found is not None:
                    clients.move_to_end(client)
                if found is not None:
                    return found
        return None

    def _run(self) -> None:
        while True:
            with self._condition:
                job = self._next()
                while job is None and not self._is_closed:
                    self._condition.wait()
                    job = self._next()
                if self._is_closed or job is None:
                    return
                job.is_running = True
                self._waiting -= 1
                self._busy[job.scene] = self._busy.get(job.scene, 0) + 1
            result, error = None, None
            try:
                result = job.work()
            except BaseException as raised:  # handed to those who wait
                error = raised
            with self._condition:
                self._busy[job.scene] -= 1
                if not self._busy[job.scene]:
                    del self._busy[job.scene]
                del self._jobs[job.key]
                self.computed += 1
                self._condition.notify_all()
            for ticket in list(job.waiting):
                with suppress(InvalidStateError):  # given up meanwhile
                    if error is None:
                        ticket.future.set_result(result)
                    else:
                        ticket.future.set_exception(error)
