"""What stands before every answer: who may ask, and what an answer says to browsers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sat2map.serve.basemap import Basemap

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
COOKIE = "sat2map_token"
LONGEST = 2048
"""Characters of a path and its query."""

LONGEST_HEAD = 16 * 1024
"""Bytes of a request's headers."""


def policy(elsewhere: str = "") -> str:
    """Return what a page of ours may load: what comes from here, and no script that stands in it.

    Args:
        elsewhere: A scheme and a host that images may come from as well.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "worker-src 'self'",
            "style-src 'self'",
            f"img-src 'self' data: blob: {elsewhere}".strip(),
            f"connect-src 'self' {elsewhere}".strip(),
            "font-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        hosts: Names by which the server may be called; a page elsewhere that has its own name lead
            here is not let in (DNS rebinding).
        token: What every request must bring, if anything.
        origins: Where pages may come from that read answers in a browser (CORS).
    """

    hosts: frozenset[str] = frozenset(LOOPBACK)
    token: str | None = None
    origins: frozenset[str] = frozenset()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str:
    """Return the host of HOST, HOST:PORT or [IPV6]:PORT, in small letters."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


class Guard:
    """Lets in who may ask, and adds to every answer what browsers are to do.

    Args:
        app: What answers.
        access: Who may ask.
        basemap: From where else the page loads tiles.
    """

    def __init__(
        self,
        app: Callable[[Message, Receive, Send], Awaitable[None]],
        access: Access,
        basemap: Basemap | None = None,
    ) -> None:
        self._app, self._access = app, access
        self._policy = policy("" if basemap is None else basemap.origin)
        # Servers of tiles ask to be told by whom they are used; no more is told than the host.
        self._referrer = "no-referrer" if basemap is None else "strict-origin"
        self._answering: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    def end(self) -> None:
        """Answer 503 to those who still wait; call it in the thread of the event loop."""
        self._is_ending = True
        for task in self._answering:
            task.cancel()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        added = self._added(headers)
        refused = self._refusal(scope, headers)
        started, is_head = False, scope["method"] == "HEAD"
        if is_head:  # what is answered to GET, without its body
            scope = {**scope, "method": "GET"}

        async def send_more(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *added]
            elif is_head:
                message["body"] = b""
            await send(message)

        if refused is None and self._brings_token_by_query(scope):
            cookie = f"{COOKIE}={self._access.token}; Path=/; HttpOnly; SameSite=Strict"
            added = [*added, (b"set-cookie", cookie.encode())]
        if refused is not None:
            await _say(send_more, *refused)
            return
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            await self._app(scope, receive, send_more)
        except asyncio.CancelledError:
            if not self._is_ending:
                raise
            if not started:
                await _say(send_more, 503, "The server ends.")
        except Exception:
            if not started:
                await _say(send_more, 500, "Something went wrong within the server.")
            raise
        finally:
            self._answering.discard(task)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return status and text for who is not let in."""
        if len(scope["path"]) + len(scope.get("query_string", b"")) > LONGEST:
            return 414, "The address is too long."
        if sum(len(name) + len(value) for name, value in headers.items()) > LONGEST_HEAD:
            return 431, "The headers are too long."
        host = host_of(headers.get("host", ""))
        if host not in self._access.hosts:
            return 421, "The server is not called so. Its owner may let this host in (allow_host)."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Only GET, HEAD and POST are answered."
        if scope["method"] == "POST" and not self._is_own_page(headers):
            return 403, "Another site's page may not ask for this."
        if self._access.token is None or scope["path"] == "/healthz":
            return None
        if not any(self._is_token(given) for given in _tokens(scope, headers)):
            return 401, "This server asks for a token: Authorization: Bearer TOKEN, or ?token=."
        return None

    def _is_own_page(self, headers: dict[str, str]) -> bool:
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return headers.get("origin") in self._access.origins
        origin = headers.get("origin")
        if origin is None or origin in self._access.origins:
            return True
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()

    def _is_token(self, given: str) -> bool:
        token = self._access.token
        return token is not None and hmac.compare_digest(given.encode(), token.encode())

    def _brings_token_by_query(self, scope: Message) -> bool:
        return any(self._is_token(given) for given in _query_tokens(scope))

    def _added(self, headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
        """Return the headers of every answer."""
        added = {
            "content-security-policy": self._policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": self._referrer,
        }
        origin = headers.get("origin")
        if origin is not None and origin in self._access.origins:
            added["access-control-allow-origin"] = origin
            added["access-control-expose-headers"] = "X-Sat2map-Complete, ETag, Retry-After"
            added["vary"] = "Origin"
        if not self._access.origins:
            added["cross-origin-resource-policy"] = "same-origin"
        return [(name.encode(), value.encode("latin-1")) for name, value in added.items()]


def _headers(scope: Message) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _query_tokens(scope: Message) -> list[str]:
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=64)
    return query.get("token", [])


def _tokens(scope: Message, headers: dict[str, str]) -> Iterable[str]:
    """Yield what a request brings as a token."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield given.strip()
    yield from _query_tokens(scope)
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return
    if cookie is not None:
        yield cookie.value


async def _say(send: Send, status: int, text: str) -> None:
    """Answer with a line."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text) + 1).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 405:
        headers.append((b"allow", b"GET, HEAD, POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode() + b"\n"})
