"""Doing two things at once with a bounded queue between them."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class _BrokenOffError(Exception):
    """The items end before their time."""


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yield items while another thread makes the next ones, at most `depth` of them.

    What making one raises is raised here, in its turn.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(1, "sat2map-ahead") as thread:
        try:
            for _ in range(depth):
                waiting.append(thread.submit(next, items))
            while True:
                try:
                    item = waiting.popleft().result()
                except StopIteration:
                    return
                waiting.append(thread.submit(next, items))
                yield item
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def behind(consume: Callable[[Iterator[T]], None], depth: int = 2) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands items to `consume`, which runs in another thread.

    At most `depth` items wait. What `consume` raises is raised by the next call, or at the end
    of the block, which waits until everything is consumed. Where the block itself raises,
    `consume` is stopped.
    """
    waiting: queue.Queue[tuple[str, T | None]] = queue.Queue(depth)

    def items() -> Iterator[T]:
        while True:
            kind, item = waiting.get()
            if kind == "broken":
                raise _BrokenOffError
            if kind == "end":
                return
            yield item  # type: ignore[misc]  # an item is one

    with ThreadPoolExecutor(1, "sat2map-behind") as thread:
        running = thread.submit(consume, items())

        def hand_over(kind: str, item: T | None = None) -> None:
            while True:
                if running.done():
                    running.result()
                    if kind == "end":
                        return  # it did not need to be told
                    raise RuntimeError("the consumer ended before its items did")
                try:
                    waiting.put((kind, item), timeout=0.1)
                    return
                except queue.Full:
                    continue

        try:
            yield lambda item: hand_over("item", item)
            hand_over("end")
        except BaseException:
            while not running.done():
                try:
                    waiting.put(("broken", None), timeout=0.1)
                    break
                except queue.Full:
                    continue
            raise
        running.result()
