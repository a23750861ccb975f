"""What was used last, in memory under a bound of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class RecentMemory(Generic[V]):
    """Values that were used last; threads share it.

    Args:
        limit: Bytes that are kept; one value is kept even where it is larger.
        size_of: Returns the bytes of a value.
    """

    def __init__(self, limit: int, size_of: Callable[[V], int]) -> None:
        self._limit, self._size_of, self._size = limit, size_of, 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Return what is kept under a key, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: Hashable, value: V) -> None:
        """Keep a value, and forget what was not used for the longest time."""
        with self._lock:
            before = self._entries.pop(key, None)
            self._size += self._size_of(value) - (0 if before is None else self._size_of(before))
            self._entries[key] = value
            while self._size > self._limit and len(self._entries) > 1:
                self._size -= self._size_of(self._entries.popitem(last=False)[1])
