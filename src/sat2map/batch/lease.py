"""Who drives a batch: a lease in its folder, which the driver renews for as long as it lives.

    OUT/.sat2map/lease.json     host, process and a random number; written anew every few seconds

The lock of the journal refuses a second driver on one machine, and goes with its process. Between
machines that share a disk locks may not hold, so the lease says who drives. Whoever wants to take
it over waits until it is not renewed any more: clocks may jump and differ, so its age is told by
the file system, which gave it its time, and then it is watched for a while by a clock that only
runs forward.

Every scene that is handed to a worker carries the number. A worker reads the lease before it gives
a file its final name, and a new driver, after it has taken the lease, removes the unfinished files
of the number before: so what a dead driver had begun gets no final name after that.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sat2map.atomic import write_text
from sat2map.errors import OutputError, UsageError, writing_to
from sat2map.journal import HIDDEN

LEASE = "lease.json"
RENEW_S = 5.0
"""Seconds after which a driver renews its lease."""

OLD_S = 30.0
"""Seconds after which a lease that is not renewed may be taken over by another machine."""

_NUMBER = re.compile(r"[0-9a-f]{16}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        number: A random number, which no other driver ever has.
        host: The machine's name.
        boot: What tells machines of one name, and times between two starts, apart.
        pid: The driver's process.
        renewed: How often it was renewed.
    """

    number: str
    host: str
    boot: str
    pid: int
    renewed: int = 0


def read_holder(out: Path) -> Holder | None:
    """Return who holds the lease of a folder; None where nobody does, or it cannot be read."""
    for _ in range(3):
        try:
            told = json.loads((out / HIDDEN / LEASE).read_text(encoding="utf-8"))
            holder = Holder(**told)
            return holder if _NUMBER.fullmatch(holder.number) else None
        except FileNotFoundError:
            return None
        except OSError:  # replaced under our hands, on a network file system
            time.sleep(0.05)
        except (ValueError, TypeError):
            return None
    return None


def is_alive(holder: Holder) -> bool | None:
    """Return whether a driver's process is there; None where it is on another machine."""
    if (holder.host, holder.boot) != (socket.gethostname(), _boot()):
        return None
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def is_held(out: Path, number: str) -> bool:
    """Return whether the driver of a number still holds the lease of a folder."""
    holder = read_holder(out)
    return holder is not None and holder.number == number


class Lease:
    """The lease of a folder that this process holds; `take_lease` makes it.

    Attributes:
        number: Its random number.
        before: The driver that held it before and did not give it back, or None.
    """

    def __init__(self, out: Path, holder: Holder, before: Holder | None) -> None:
        self.number = holder.number
        self.before = before
        self._out, self._holder = out, holder
        self._seen = time.monotonic()
        self._ended = threading.Event()

    def check(self) -> None:
        """Make sure that the lease is still held, before the manifest is written.

        Raises:
            UsageError: Another driver took it over, or it could not be renewed for too long.
        """
        holder = read_holder(self._out)
        if holder is not None and holder.number != self.number:
            raise UsageError(
                f"was taken over by process {holder.pid} on {holder.host}",
                where=self._out,
                remedy="Let that one go on, or end it and run this command again.",
            )
        if holder is None and time.monotonic() - self._seen > OLD_S:
            raise OutputError(
                "its lease cannot be read",
                where=self._out,
                remedy="Check the disk or the share, and run the same command again.",
            )

    def renew_until(self, ended: threading.Event, every_s: float) -> None:
        """Renew the lease until an event is set."""
        holder = self._holder
        while not ended.wait(every_s):
            if not is_held(self._out, self.number):
                continue  # `check` tells; what another holds is not written over
            holder = Holder(**{**asdict(holder), "renewed": holder.renewed + 1})
            try:
                _write(self._out, holder)
                self._seen = time.monotonic()
            except OutputError as error:
                logger.warning(str(error))


@contextmanager
def take_lease(out: Path, *, every_s: float = RENEW_S, old_s: float = OLD_S) -> Iterator[Lease]:
    """Take the lease of a folder whose journal this process has claimed, and renew it in the block.

    Args:
        out: The folder.
        every_s: Seconds after which it is renewed.
        old_s: Seconds after which one that another machine does not renew is taken over.

    Raises:
        UsageError: A driver on another machine holds it.
        OutputError: The place is not writable.
    """
    mine = Holder(uuid.uuid4().hex[:16], socket.gethostname(), _boot(), os.getpid())
    before = read_holder(out)
    if before is not None and (before.host, before.boot) != (mine.host, mine.boot):
        _check_dead(out, before, every_s, old_s)
    _write(out, mine)
    lease, ended = Lease(out, mine, before), threading.Event()
    thread = threading.Thread(
        target=lease.renew_until, args=(ended, every_s), name="sat2map-lease", daemon=True
    )
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        if is_held(out, mine.number):
            with suppress(OSError):
                (out / HIDDEN / LEASE).unlink()


def age_s(out: Path) -> float | None:
    """Return how many seconds ago a lease was renewed, by the file system's own time.

    It is negative where that time was set back. None: there is no lease.
    """
    probe = out / HIDDEN / f".probe.sat2map-{uuid.uuid4().hex[:16]}"
    with writing_to(out):
        try:
            probe.touch()
            return probe.stat().st_mtime - (out / HIDDEN / LEASE).stat().st_mtime
        except FileNotFoundError:
            return None
        finally:
            probe.unlink(missing_ok=True)


def _check_dead(out: Path, before: Holder, every_s: float, old_s: float) -> None:
    """Make sure that nobody renews a lease any more.

    Raises:
        UsageError: It is renewed, or was a short while ago.
    """
    age = age_s(out)
    alive = age is not None and 0 <= age < old_s
    until = time.monotonic() + 2.5 * every_s
    while not alive and time.monotonic() < until:  # its time may be wrong: is it renewed?
        time.sleep(min(every_s / 4, 1.0))
        now = read_holder(out)
        alive = now is not None and now != before
    if alive:
        raise UsageError(
            f"is being written by process {before.pid} on {before.host}",
            where=out,
            remedy=f"Wait until it has ended; if it was killed, for {old_s:.0f} seconds.",
        )


def _write(out: Path, holder: Holder) -> None:
    write_text(out / HIDDEN / LEASE, json.dumps(asdict(holder)) + "\n")


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{uuid.getnode():012x}"
