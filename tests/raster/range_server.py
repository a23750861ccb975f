"""A server of one folder that answers ranges and fails when told to.

It is a process of its own, since GDAL waits for it without letting other threads run. What it
is to answer and what it was asked goes through /told/STATUS,STATUS,... and /asked.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

asked: list[tuple[str, str]] = []
failing: Iterator[int] = itertools.repeat(0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        global failing
        path = self.path.partition("?")[0]
        if path.startswith("/told/"):
            words, _, last = path.removeprefix("/told/").partition(";")
            then = itertools.repeat(int(last or 0))
            failing = itertools.chain([int(word) for word in words.split(",") if word], then)
            self.answer(200, b"")
        elif path == "/asked":
            self.answer(200, json.dumps(asked).encode())
        else:
            span = self.headers.get("Range", "")
            asked.append((path, span))
            file = Path(sys.argv[1]) / path[1:]
            status = next(failing)
            if status or not file.is_file():
                self.answer(status or 404, b"")
                return
            content = file.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", span)
            first, last_byte = (0, len(content)) if found is None else map(int, found.groups())
            body = content[first : last_byte + 1]
            where = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
            self.answer(200 if found is None else 206, body, where if found else None)

    def answer(self, status: int, body: bytes, where: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if where is not None:
            self.send_header("Content-Range", where)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
