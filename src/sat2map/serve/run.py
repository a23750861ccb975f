"""A server as a process: its socket, its end, and what runs beside it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sat2map.errors import UsageError
from sat2map.serve.guard import LONGEST_HEAD, Guard

SILENT_S = 15
"""Seconds after which a connection on which nothing is said is closed."""

MOST_CONNECTIONS = 500
"""Connections at once, which leaves room for files where a process may open 1,024; who comes then
is turned away with 503."""

_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)

GRACE_S = 1
"""Seconds that answers on their way get when the server ends."""

LOOK_S = 0.1


class _Protocol(H11Protocol):
    """HTTP for some connections at once, each of which has to say what it wants before long."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_TURNED_AWAY)
            transport.close()
            return
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_asking = self.cycle is None or self.cycle.response_complete
        if is_asking and self.timeout_keep_alive_task is None:
            self._wait_for_request()  # some of its headers are still to come

    def _wait_for_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            SILENT_S, self.timeout_keep_alive_handler
        )


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone; `stop` ends it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_of_use(record: logging.LogRecord) -> bool:
    """Return whether a line of uvicorn's log is for whoever ends the server.

    That connections were still open is what is to be expected, and says nothing of what was lost.
    """
    return not str(record.msg).endswith("timeout graceful shutdown exceeded")


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: A name or an address of this machine.
        port: The port; 0 takes a free one.

    Raises:
        UsageError: The port is in use or may not be used, or the host is not this machine.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sends without delay only where the protocol is named: otherwise an answer's second
        # packet waits 40 ms for the first to be acknowledged.
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name != "nt":  # where it would let two listen on one port
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(1024)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"{port} of {host} is in use",
                parameter="port",
                remedy="Give another one, or 0 for any that is free, or end what uses it.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UsageError(
                f"{port} of {host} may not be used",
                parameter="port",
                remedy="Give one above 1023, such as 8000.",
            ) from error
        raise UsageError(
            f"{host} is not an address of this machine ({error.strerror or error})",
            parameter="host",
            remedy="Give 127.0.0.1, or 0.0.0.0 for all of its addresses.",
        ) from error
    return found


def run_server(
    app: Guard,
    listening: socket.socket,
    stop: threading.Event,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Answer until `stop` is set.

    Args:
        app: What answers.
        listening: What `bind` returned; closed at the end.
        stop: Another thread or a signal's handler sets it.
        ready: Called once the server answers.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody may send them
        backlog=1024,
        timeout_keep_alive=SILENT_S,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )
    server = _Server(config)

    async def watch() -> None:
        told = False
        while not stop.is_set():
            if server.started and not told:
                told = True
                ready()
            await asyncio.sleep(LOOK_S)
        server.should_exit = True
        await asyncio.sleep(GRACE_S / 2)
        app.end()  # what uvicorn has to cancel it writes into the log, with all that was called

    async def serve() -> None:
        watching = asyncio.ensure_future(watch())
        try:
            await server.serve(sockets=[listening])
        finally:
            watching.cancel()

    log = logging.getLogger("uvicorn.error")
    log.addFilter(_is_of_use)
    try:
        asyncio.run(serve())
    finally:
        log.removeFilter(_is_of_use)
        listening.close()
