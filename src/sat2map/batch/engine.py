"""What every engine offers: workers that take scenes, may be lost, and are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sat2map.batch.item import Item, Outcome


@dataclass(frozen=True)
class Returned:
    """A worker has done with a scene.

    Attributes:
        worker: Which one.
        item: The scene.
        outcome: What came of it.
    """

    worker: str
    item: Item
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """A worker has died, or is out of reach. Another one takes its place.

    Attributes:
        worker: Which one.
        item: The scene that it was busy with, or None.
        why: What is known of it, without a full stop at the end.
        blames: Whether the scene may be to blame. It is not where a whole machine was lost.
    """

    worker: str
    item: Item | None
    why: str
    blames: bool = True


Event = Returned | Lost


class Engine(Protocol):
    """Runs workers, each of which is busy with one scene at most."""

    def free(self) -> Sequence[str]:
        """Return the workers that have opened the model and have nothing to do.

        Raises:
            Sat2mapError: No worker can be started.
        """

    def alive(self) -> int:
        """Return how many workers there are, the busy ones and those that start among them."""

    def send(self, worker: str, item: Item) -> None:
        """Hand a scene to a free worker."""

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what has happened, after some seconds at most."""

    def stop(self) -> None:
        """Ask all workers to stop; scenes that they are busy with come back as "stopped"."""

    def close(self) -> None:
        """End all workers at once, and remove what they left on their disks."""
