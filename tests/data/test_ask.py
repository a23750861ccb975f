"""Politeness: pace, patience, and what is not asked twice."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sat2map import __version__
from sat2map.data.ask import Client, Refusal
from sat2map.errors import DataError, UsageError

Serve = Callable[..., Any]


class Clock:
    """Counts the seconds that are slept, and does not sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def one_after_the_other(*replies: tuple[int, dict[str, str], Any]) -> Any:
    waiting = list(replies)
    return lambda path, body: waiting.pop(0)


OK = (200, {"Content-Type": "text/plain; charset=utf-8"}, b"here")


def test_the_client_says_who_it_is_and_posts_what_it_is_given(serve: Serve) -> None:
    server = serve(one_after_the_other(OK, OK))
    client = Client()
    answer = client.ask(server.url + "/a")
    assert (answer.content, answer.kind) == (b"here", "text/plain")
    client.ask(server.url + "/b", b"data=1")
    assert [(path, body) for path, _, body in server.asked] == [("/a", b""), ("/b", b"data=1")]
    assert all(f"sat2map/{__version__}" in headers["User-Agent"] for _, headers, _ in server.asked)


def test_a_compressed_answer_is_opened(serve: Serve) -> None:
    server = serve(one_after_the_other((200, {"Content-Encoding": "gzip"}, gzip.compress(b"much"))))
    assert Client().ask(server.url).content == b"much"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_after_growing_pauses(serve: Serve, status: int) -> None:
    clock = Clock()
    server = serve(one_after_the_other((status, {}, b""), (status, {}, b""), OK))
    assert Client(pauses=(2, 8), sleep=clock).ask(server.url).content == b"here"
    assert clock.slept == [2, 8]


def test_what_the_server_asks_to_wait_is_waited(serve: Serve) -> None:
    clock = Clock()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server = serve(
        one_after_the_other(
            (429, {"Retry-After": "17"}, b""),
            (503, {"Retry-After": date}, b""),
            (503, {"Retry-After": "soon"}, b""),
            OK,
        )
    )
    Client(pauses=(1, 1, 1), sleep=clock).ask(server.url)
    assert clock.slept[0] == 17
    assert 35 <= clock.slept[1] <= 41
    assert clock.slept[2] == 1


def test_too_long_a_wait_ends_with_a_line(serve: Serve) -> None:
    clock = Clock()
    server = serve(one_after_the_other((429, {"Retry-After": "3600"}, b"")))
    with pytest.raises(DataError, match=r"wait 3600 seconds.*what has come is kept"):
        Client(sleep=clock).ask(server.url)
    assert clock.slept == []


def test_a_server_that_stays_busy_ends_with_a_line(serve: Serve) -> None:
    server = serve(lambda path, body: (503, {}, b""))
    with pytest.raises(DataError, match=r"after 3 tries \(503 Service Unavailable\)"):
        Client(pauses=(0, 0)).ask(server.url)
    assert len(server.asked) == 3


def test_a_refusal_is_not_asked_twice_and_keeps_what_was_said(serve: Serve) -> None:
    server = serve(lambda path, body: (403, {}, b"no key"))
    with pytest.raises(Refusal, match="403 Forbidden") as caught:
        Client(pauses=(0, 0)).ask(server.url)
    assert (caught.value.status, caught.value.content) == (403, b"no key")
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(serve: Serve) -> None:
    broken = gzip.compress(b"much" * 100)[:20]
    server = serve(
        one_after_the_other(
            (200, {}, (b"half of it", 4)), (200, {"Content-Encoding": "gzip"}, broken), OK
        )
    )
    assert Client(pauses=(0, 0)).ask(server.url).content == b"here"
    assert len(server.asked) == 3


def test_questions_keep_their_pace(serve: Serve) -> None:
    clock = Clock()
    server = serve(lambda path, body: OK)
    client = Client(rate=0.01, sleep=clock)
    for _ in range(3):
        client.ask(server.url)
    first, second = clock.slept
    assert 99 <= first <= 100 and 199 <= second <= 200  # nobody really slept in between


def test_a_key_is_not_shown(serve: Serve) -> None:
    server = serve(lambda path, body: (401, {}, b""))
    with pytest.raises(Refusal) as caught:
        Client().ask(f"{server.url}/t?key=secret", shown=f"{server.url}/t")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "tiles"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        Client().ask(url)
