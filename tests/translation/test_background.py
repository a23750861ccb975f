from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sat2map.translation import background as pipeline
from sat2map.translation.background import ahead, behind, side_by_side


def test_items_come_in_order_from_another_thread() -> None:
    threads: set[int] = set()

    def items() -> Iterator[int]:
        for i in range(20):
            threads.add(threading.get_ident())
            yield i

    assert list(ahead(items())) == list(range(20))
    assert threading.get_ident() not in threads


def test_no_more_than_a_few_are_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    for item in ahead(items(), 2):
        assert len(made) <= item + 4
        if item == 10:
            break
    assert len(made) <= 14


def test_what_making_an_item_raises_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("second")

    found = []
    with pytest.raises(KeyError, match="second"):
        for item in ahead(items()):
            found.append(item)  # noqa: PERF402
    assert found == [1]


def test_all_is_consumed_before_the_block_ends() -> None:
    got: list[int] = []
    with behind(lambda items: got.extend(items)) as hand_over:
        for i in range(50):
            hand_over(i)
    assert got == list(range(50))


def test_a_consumer_that_knows_when_it_is_done_needs_no_end() -> None:
    ended = threading.Event()

    def consume(items: Iterator[int]) -> None:
        assert next(items) == 1
        ended.set()

    with behind(consume) as hand_over:
        hand_over(1)
        ended.wait()
        time.sleep(0.05)


def test_what_the_consumer_raises_stops_the_producer() -> None:
    def consume(items: Iterator[int]) -> None:
        next(items)
        raise KeyError("full")

    with pytest.raises(KeyError, match="full"), behind(consume) as hand_over:
        for i in range(1000):
            hand_over(i)


def test_where_the_producer_fails_the_consumer_ends() -> None:
    ended = threading.Event()

    def consume(items: Iterator[int]) -> None:
        try:
            for _ in items:
                pass
        finally:
            ended.set()

    with pytest.raises(KeyError, match="broken"), behind(consume) as hand_over:
        hand_over(1)
        raise KeyError("broken")
    assert ended.is_set()


def test_an_interrupted_producer_hands_over_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items wait while the first is worked on; the user presses Ctrl-C, and again."""
    begun, released = threading.Event(), threading.Event()
    got: list[int] = []

    def consume(items: Iterator[int]) -> None:
        for item in items:
            begun.set()
            assert released.wait(10)
            got.append(item)

    waited = pipeline.wait

    def impatient(futures: Any) -> None:
        if not released.is_set():
            released.set()
            raise KeyboardInterrupt
        waited(futures)

    monkeypatch.setattr(pipeline, "wait", impatient)
    with pytest.raises(KeyboardInterrupt), behind(consume) as hand_over:
        for item in range(3):
            hand_over(item)
        assert begun.wait(10)
        raise KeyboardInterrupt
    assert got == [0]
    assert not [t for t in threading.enumerate() if t.name.startswith("sat2map-behind")]


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_made_side_by_side_comes_in_order(count: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(side_by_side(slow_first, range(10), count)) == [i * i for i in range(10)]


def test_side_by_side_work_is_at_once_but_not_far_ahead() -> None:
    both = threading.Barrier(2, timeout=10)
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item < 2:
            both.wait()  # passed only where two are at work
        return item

    made = side_by_side(work, iter(range(100)), 2)
    assert next(made) == 0
    made.close()
    assert max(begun) <= 3


def test_what_side_by_side_work_raises_comes_in_its_turn() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise KeyError("second")
        return item

    made = side_by_side(work, range(9), 2)
    assert next(made) == 0
    with pytest.raises(KeyError, match="second"):
        next(made)
