"""The widget of a notebook: the page in a cell, whose requests come as messages.

    page in a frame -> notebook.js -> message of the widget -> Channel -> application -> message

The application is the one that a server has, so addresses and answers are the same. There is no
port, which a notebook on another machine could not reach.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote

import anywidget
import traitlets

from sat2map.serve.guard import Guard, Message
from sat2map.serve.page import FOLDER, read_page

Answer = Callable[[int, list[tuple[str, str]], bytes], None]
"""Takes the status, the headers and the body of an answer."""


class Channel:
    """Has an application answer requests that did not come over HTTP.

    Args:
        app: The application.
    """

    def __init__(self, app: Guard) -> None:
        self._app = app
        self._waiting: dict[str, asyncio.Event] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sat2map-notebook", daemon=True
        )
        self._thread.start()

    def ask(self, id: str, path: str, method: str, answer: Answer) -> None:
        """Have a request answered, in another thread.

        Args:
            id: A name for it, by which it can be given up.
            path: The path and its query, without a slash at the beginning.
            method: Of HTTP.
            answer: Called with the answer, unless it is given up.
        """
        work = self._answer(id, path, method, answer)
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def give_up(self, id: str) -> None:
        """Have a request answered no more."""

        def leave() -> None:
            if id in self._waiting:
                self._waiting[id].set()

        self._loop.call_soon_threadsafe(leave)

    def close(self) -> None:
        """Answer nothing more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _answer(self, id: str, path: str, method: str, answer: Answer) -> None:
        gone = self._waiting[id] = asyncio.Event()
        place, _, query = path.partition("?")
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": f"/{unquote(place)}",
            "raw_path": f"/{place}".encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"accept", b"application/json")],
            "client": ("notebook", 0),
            "server": ("localhost", 80),
        }
        status, body, asked = 500, bytearray(), False
        headers: list[tuple[str, str]] = []

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.extend((n.decode(), v.decode("latin-1")) for n, v in message["headers"])
            else:
                body.extend(message.get("body", b""))

        try:
            await self._app(scope, receive, send)
        finally:
            del self._waiting[id]
            if not gone.is_set():
                answer(status, headers, bytes(body))


class LiveMap(anywidget.AnyWidget):
    """A photo and its map in a cell of a notebook.

    Args:
        app: What answers.
        resources: Closed with the widget.
        placed: Whether what is shown lies somewhere on the ground.
        view: What is shown first, as the address of a view has it behind its #.
        height: In pixels.
    """

    _esm = FOLDER / "notebook.js"
    files = traitlets.List(traitlets.Unicode()).tag(sync=True)
    height = traitlets.Int().tag(sync=True)
    placed = traitlets.Bool().tag(sync=True)
    view = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, app: Guard, resources: ExitStack, *, placed: bool, view: str, height: int
    ) -> None:
        files = [name for name in read_page() if name.endswith((".js", ".css"))]
        super().__init__(files=files, height=height, placed=placed, view=view)
        self._channel = Channel(app)
        self._resources = resources
        self.on_msg(self._heard)

    def close(self) -> None:
        """Take it out of the notebook, and end what it takes to make its tiles."""
        super().close()
        self._channel.close()
        self._resources.close()

    def _heard(self, _: Any, content: dict[str, Any], buffers: list[bytes]) -> None:
        id = str(content.get("id"))
        if content.get("stop"):
            self._channel.give_up(id)
            return

        def answer(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send({"id": id, "status": status, "headers": headers}, [body])

        path, method = str(content.get("path", "")), str(content.get("method", "GET"))
        self._channel.ask(id, path, method, answer)
