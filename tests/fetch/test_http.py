"""Politeness: pace, retries, and what is not asked twice."""

from __future__ import annotations

import gzip
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, NameResolutionError, SSLError

from sat2map import __version__
from sat2map.errors import DataError, UsageError
from sat2map.fetch.http import Client, Refusal, RetryPolicy

Serve = Callable[..., Any]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been slept; nobody sleeps."""
    seconds: list[float] = []
    monkeypatch.setattr("sat2map.fetch.http.time.sleep", seconds.append)
    return seconds


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
def test_a_busy_server_is_asked_again_after_growing_pauses(
    serve: Serve, status: int, slept: list[float]
) -> None:
    server = serve(one_after_the_other((status, {}, b""), (status, {}, b""), OK))
    assert Client().ask(server.url).content == b"here"
    assert slept == [2, 8]


def test_what_the_server_asks_to_wait_is_waited(serve: Serve, slept: list[float]) -> None:
    server = serve(
        one_after_the_other(
            (429, {"Retry-After": "17"}, b""),
            (503, {"Retry-After": "soon"}, b""),
            (503, {"Retry-After": "9" * 5000}, b""),
            OK,
        )
    )
    Client(retries=RetryPolicy.of(4, 1)).ask(server.url)
    assert slept == [17, 4, 16]


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is nine hours ahead of Greenwich."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize(
    "form",
    [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %d %H:%M:%S %Y",
        "%a, %d %b %Y %H:%M:%S",
        "%a, %d %b %Y %H:%M:%S -0000",
        "%a, %d %b %Y %H:%M:%S +0000",
    ],
)
def test_a_date_to_wait_for_is_one_of_greenwich_whatever_its_form(form: str) -> None:
    date = datetime.now(UTC) + timedelta(seconds=1000)
    response = HTTPResponse(headers={"Retry-After": date.strftime(form)})
    wait = RetryPolicy.of().get_retry_after(response)
    assert wait is not None and 900 < wait <= 1000


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", "soon", "\u00b2", "Sun, 99 Foo 2020", "Wed, 21 Oct 99999 07:28:00 GMT"],
)
def test_what_is_no_time_to_wait_for_is_passed_over(text: str) -> None:
    assert RetryPolicy.of().get_retry_after(HTTPResponse(headers={"Retry-After": text})) is None


def test_a_date_that_has_passed_is_no_wait() -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=40), usegmt=True)
    assert RetryPolicy.of().get_retry_after(HTTPResponse(headers={"Retry-After": date})) == 0


def test_too_long_a_wait_ends_with_a_line(serve: Serve, slept: list[float]) -> None:
    server = serve(one_after_the_other((429, {"Retry-After": "3600"}, b"")))
    with pytest.raises(DataError, match=r"wait 3600 seconds.*what has come is kept"):
        Client().ask(server.url)
    assert slept == []


def test_a_server_that_stays_busy_ends_with_a_line(serve: Serve) -> None:
    server = serve(lambda path, body: (503, {}, b""))
    with pytest.raises(DataError, match=r"after 3 tries \(503 Service Unavailable\)"):
        Client(retries=RetryPolicy.of(3, 0)).ask(server.url)
    assert len(server.asked) == 3


def test_a_refusal_is_not_asked_twice_and_keeps_what_was_said(serve: Serve) -> None:
    server = serve(lambda path, body: (403, {}, b"no key"))
    with pytest.raises(Refusal, match="403 Forbidden") as caught:
        Client(retries=RetryPolicy.of(3, 0)).ask(server.url)
    assert (caught.value.status, caught.value.content) == (403, b"no key")
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(serve: Serve) -> None:
    broken = gzip.compress(b"much" * 100)[:12] + b"nothing of the kind"
    server = serve(
        one_after_the_other(
            (200, {}, (b"half of it", 4)), (200, {"Content-Encoding": "gzip"}, broken), OK
        )
    )
    assert Client(retries=RetryPolicy.of(3, 0)).ask(server.url).content == b"here"
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("cause", "again"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
    ],
)
def test_a_host_that_does_not_exist_is_not_looked_up_twice(
    cause: socket.gaierror, again: bool, slept: list[float]
) -> None:
    error = NameResolutionError("tiles.example", None, cause)  # type: ignore[arg-type]
    error.__cause__ = cause
    outcome(error)
    assert slept == ([2] if again else [])


@pytest.mark.parametrize(
    ("cause", "again"),
    [(ssl.SSLCertVerificationError("expired"), False), (ssl.SSLEOFError("broke off"), True)],
)
def test_a_certificate_that_does_not_hold_is_not_looked_at_twice(
    cause: ssl.SSLError, again: bool, slept: list[float]
) -> None:
    outcome(SSLError(cause))
    assert slept == ([2] if again else [])


def outcome(error: HTTPError) -> None:
    try:
        RetryPolicy.of().after(error, "https://tiles.example")
    except DataError as said:
        assert "cannot be reached" in str(said)


def test_a_server_that_sends_in_circles_is_left(serve: Serve, slept: list[float]) -> None:
    server = serve(lambda path, body: (302, {"Location": path}, b""))
    with pytest.raises(DataError, match=r"cannot be reached.*too many redirects"):
        Client().ask(server.url + "/a")
    assert slept == []


def test_a_redirect_is_followed(serve: Serve) -> None:
    server = serve(one_after_the_other((302, {"Location": "/there"}, b""), OK))
    assert Client().ask(server.url + "/here").content == b"here"
    assert [path for path, _, _ in server.asked] == ["/here", "/there"]


def test_nobody_there_is_asked_again_and_then_said(serve: Serve, slept: list[float]) -> None:
    server = serve(lambda path, body: OK)
    server.server_close()
    with pytest.raises(DataError, match=r"after 3 tries \(Connection refused\)"):
        Client(retries=RetryPolicy.of(3)).ask(server.url)
    assert slept == [2, 8]


def test_the_proxy_of_the_environment_is_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(lambda path, body: OK)
    address = proxy.url.removeprefix("http://")
    monkeypatch.setenv("http_proxy", f"http://me:s%40cret@{address}")
    monkeypatch.setenv("no_proxy", "127.0.0.1,.local")
    assert Client().ask("http://tiles.example/1").content == b"here"
    path, headers, _ = proxy.asked[0]
    assert path == "http://tiles.example/1"
    assert headers["proxy-authorization"] == "Basic bWU6c0BjcmV0"
    monkeypatch.setenv("http_proxy", address)  # as some write it
    assert Client().ask("http://tiles.example/2").content == b"here"
    direct = serve(lambda path, body: OK)
    Client().ask(direct.url + "/3")
    assert direct.asked[0][0] == "/3" and len(proxy.asked) == 2


def test_questions_keep_their_pace(serve: Serve, slept: list[float]) -> None:
    server = serve(lambda path, body: OK)
    client = Client(rate=0.01)
    for _ in range(3):
        client.ask(server.url)
    first, second = slept
    assert 99 <= first <= 100 and 199 <= second <= 200  # nobody really slept in between


def test_a_key_is_not_shown(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(lambda path, body: (401, {}, b""))
    with pytest.raises(Refusal) as caught:
        Client().ask(f"{server.url}/t?key=secret", shown=f"{server.url}/t")
    assert "secret" not in str(caught.value)
    replies = [(503, {}, b""), (200, {}, (b"half of it", 4)), OK]
    server = serve(one_after_the_other(*replies))
    client = Client(retries=RetryPolicy.of(3, 0))
    with caplog.at_level(logging.WARNING):
        client.ask(f"{server.url}/t?key=secret", shown=f"{server.url}/t")
    assert "again in" in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/x", "tiles", "http://", "http://[", "http://h:x/"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        Client().ask(url)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match=r"`rate`: .* questions per second are not possible"):
        Client(rate=rate)
