"""How the server listens."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from sat2map.serve.run import bind


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
