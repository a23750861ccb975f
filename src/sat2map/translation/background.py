"""Doing two things at once with a bounded queue between them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


class _BrokenOffError(Exception):
    """The items end before their time."""


def ahead(items: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield items while another thread makes the next ones, at most `depth` of them.

    What making one raises is raised here, in its turn. Close it where it may not come to its
    end, so that the other thread has ended when its work is put away.
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


def side_by_side(
    work: Callable[[S], T], items: Iterable[S], count: int
) -> Generator[T, None, None]:
    """Yield what `work` makes of items, in their order, while `count` threads make the next ones.

    One more item waits, so that no thread has to. What making one raises is raised here, in its
    turn. Close it where it may not come to its end. One thread is the caller's own.
    """
    if count == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(count, "sat2map-work") as threads:
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def behind(consume: Callable[[Iterator[T]], None], depth: int = 2) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands items to `consume`, which runs in another thread.

    At most `depth` items wait. What `consume` raises is raised by the next call, or at the end
    of the block, which waits until everything is consumed. Where the block itself raises, be it
    by an interrupt, `consume` gets no further item, and has ended when the error is passed on.
    """
    waiting: queue.Queue[tuple[T, ...] | None] = queue.Queue(depth)
    broken = threading.Event()

    def items() -> Iterator[T]:
        while True:
            try:
                item = waiting.get(timeout=0.1)
            except queue.Empty:
                item = ()
            if broken.is_set():
                raise _BrokenOffError
            if item is None:
                return
            yield from item

    with ThreadPoolExecutor(1, "sat2map-behind") as thread:
        running = thread.submit(consume, items())

        def hand_over(item: tuple[T, ...] | None) -> None:
            while True:
                if running.done():
                    running.result()
                    if item is None:
                        return  # it did not need to be told
                    raise RuntimeError("the consumer ended before its items did")
                try:
                    waiting.put(item, timeout=0.1)
                    return
                except queue.Full:
                    continue

        try:
            yield lambda item: hand_over((item,))
            hand_over(None)
            running.result()
        except BaseException:
            broken.set()
            while not running.done():
                with suppress(KeyboardInterrupt):  # impatience does not make it safe to go on
                    wait([running])
            raise
