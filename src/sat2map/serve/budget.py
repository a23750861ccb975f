"""How much of what costs much a client may have: pixels to be exported, vectorised or warmed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

PIXELS = 4_000_000_000
"""Pixels that each client has."""

SECONDS = 3600.0
"""Time in which as many come back."""

CLIENTS = 10_000
"""Clients that are remembered."""


class Budget:
    """Pixels that each client has left; what is spent comes back with time.

    Args:
        pixels: What each client has.
        seconds: Time in which as many come back.
        clock: Tells seconds.
    """

    def __init__(
        self,
        pixels: float = PIXELS,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pixels, self._seconds, self._clock = pixels, seconds, clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, client: str, pixels: int) -> float | None:
        """Take pixels from a client's budget, and return None; or seconds to wait, taking none.

        What is more than the whole budget may be had once nothing else is spent.
        """
        now = self._clock()
        spent, when = self._spent.pop(client, (0.0, now))
        spent = max(spent - (now - when) * self._pixels / self._seconds, 0.0)
        over = spent + min(pixels, self._pixels) - self._pixels
        if over <= 0:
            spent += pixels
        self._spent[client] = (spent, now)
        while len(self._spent) > CLIENTS:
            self._spent.popitem(last=False)
        return None if over <= 0 else over * self._seconds / self._pixels
