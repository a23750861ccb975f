"""How the server listens."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sat2map.serve import run
from sat2map.serve.run import bind, run_server


def test_answers_are_sent_without_delay() -> None:
    """Else the second packet of an answer waits 40 ms until the first is acknowledged."""
    found: list[int] = []

    async def listen() -> None:
        ended = asyncio.Event()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken = writer.get_extra_info("socket")
            found.append(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            ended.set()

        async with await asyncio.start_server(accept, sock=bind("127.0.0.1", 0)) as server:
            where = server.sockets[0].getsockname()
            client = threading.Thread(target=lambda: socket.create_connection(where).close())
            client.start()
            await asyncio.wait_for(ended.wait(), 20)
            client.join()

    with ThreadPoolExecutor(1) as pool:  # the browser of other tests has a loop in this thread
        pool.submit(lambda: asyncio.run(listen())).result()
    assert found != [] and all(found)


def test_connections_that_are_open_at_the_end_are_no_news(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "GRACE_S", 0)  # as on a machine that has no time for it
    listening, stop, ready = bind("127.0.0.1", 0), threading.Event(), threading.Event()
    where = listening.getsockname()

    async def app(scope: object, receive: object, send: object) -> None:
        pytest.fail("nobody asks")

    app.end = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=run_server, args=(app, listening, stop, ready.set))
    thread.start()
    assert ready.wait(60)
    with socket.create_connection(where):
        stop.set()
        thread.join()
    assert not logging.getLogger("uvicorn.error").filters
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
