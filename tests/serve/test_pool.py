from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sat2map.serve.pool import QueueFullError, WindowPool

WAIT_S = 20


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What holds the first job up, so that others wait."""
    event = threading.Event()
    yield event
    event.set()


def held_up(pool: WindowPool, gate: threading.Event) -> None:
    """Have the only thread wait."""
    began = threading.Event()

    def wait() -> None:
        began.set()
        gate.wait(WAIT_S)

    pool.ask("gate", "gate", wait, "nobody")
    assert began.wait(WAIT_S)


def test_a_window_that_is_asked_for_twice_is_computed_once(gate: threading.Event) -> None:
    pool = WindowPool(threads=1)
    held_up(pool, gate)
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        return 7

    tickets = [pool.ask("window", "scene", work, client) for client in "abca"]
    gate.set()
    assert [ticket.future.result(WAIT_S) for ticket in tickets] == [7] * 4
    assert len(calls) == 1
    # Once it is done, whoever asks again has it computed again: what is kept is looked up before.
    assert pool.ask("window", "scene", work, "a").future.result(WAIT_S) == 7
    assert pool.close()


def test_clients_take_turns_and_idle_work_comes_last(gate: threading.Event) -> None:
    pool = WindowPool(threads=1)
    held_up(pool, gate)
    order: list[str] = []
    tickets = [
        pool.ask((client, number), "scene", lambda n=f"{client}{number}": order.append(n), client)
        for client, count in (("a", 4), ("b", 2))
        for number in range(count)
    ]
    tickets.insert(0, pool.ask("idle", "scene", lambda: order.append("idle"), "w", idle=True))
    gate.set()
    for ticket in tickets:
        ticket.future.result(WAIT_S)
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3", "idle"]
    assert pool.close()


def test_what_nobody_waits_for_any_more_is_not_computed(gate: threading.Event) -> None:
    pool = WindowPool(threads=1)
    held_up(pool, gate)
    done: list[str] = []
    dropped = pool.ask("dropped", "scene", lambda: done.append("dropped"), "a")
    shared = [pool.ask("shared", "scene", lambda: done.append("shared"), c) for c in "ab"]
    last = pool.ask("last", "scene", lambda: done.append("last"), "c")
    assert pool.waiting == 3
    dropped.give_up()
    shared[0].give_up()
    assert pool.waiting == 2
    gate.set()
    last.future.result(WAIT_S)
    shared[1].future.result(WAIT_S)
    assert sorted(done) == ["last", "shared"]
    assert dropped.future.cancelled()
    assert pool.close()


def test_a_full_queue_turns_away_and_recovers(gate: threading.Event) -> None:
    pool = WindowPool(longest=2, threads=1)
    held_up(pool, gate)
    kept = [pool.ask(number, "scene", lambda: None, "a") for number in range(2)]
    with pytest.raises(QueueFullError):
        pool.ask(2, "scene", lambda: None, "b")
    pool.ask(1, "scene", lambda: None, "b")  # waits already
    gate.set()
    for ticket in kept:
        ticket.future.result(WAIT_S)
    assert pool.ask(3, "scene", lambda: 3, "b").future.result(WAIT_S) == 3
    assert pool.close()


def test_an_error_goes_to_all_who_wait_and_to_nobody_else() -> None:
    pool = WindowPool(threads=1)

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        pool.ask(0, "scene", fail, "a").future.result(WAIT_S)
    assert pool.ask(0, "scene", lambda: 1, "a").future.result(WAIT_S) == 1
    assert pool.close()


def test_a_scene_that_stalls_holds_up_itself_alone(gate: threading.Event) -> None:
    pool = WindowPool(threads=3, at_once=2)
    stalled = [pool.ask(n, "slow", lambda: gate.wait(WAIT_S), "a") for n in range(4)]
    assert pool.ask("other", "fast", lambda: 1, "a").future.result(WAIT_S) == 1
    assert not any(ticket.future.done() for ticket in stalled)
    gate.set()
    for ticket in stalled:
        ticket.future.result(WAIT_S)
    assert pool.close()


def test_closing_does_not_wait_for_what_stalls(gate: threading.Event) -> None:
    pool = WindowPool(threads=1)
    held_up(pool, gate)
    waiting = pool.ask(1, "scene", lambda: None, "a")
    assert not pool.close(timeout_s=0.05)
    assert waiting.future.cancelled()
