"""Asking over HTTP, politely: one question at a time, at a rate, and again where that may help.

When to ask again, how often and after how long is urllib3's `Retry`: a service that is busy
(429, 502, 503, 504) is asked again after as long as it says itself (`Retry-After`, RFC 9110,
10.2.3), or else after pauses that grow. What a server has refused otherwise, a certificate that
does not hold and a host that does not exist are not asked twice. One large file comes by
`fetch.py` instead.
"""

from __future__ import annotations

import gzip
import logging
import socket
import ssl
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    InvalidHeader,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    ProxyError,
    ResponseError,
    SSLError,
)
from urllib3.util import make_headers, parse_url

from sat2map import __version__
from sat2map.errors import DataError, UsageError

log = logging.getLogger(__name__)

USER_AGENT = f"sat2map/{__version__} (a program for making maps of images)"

BUSY = frozenset({429, 502, 503, 504})

LONGEST_WAIT = 300.0
"""Seconds; a server that asks for a longer wait than this ends the command instead."""

_REDIRECTS = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=10)
"""Follows redirects and nothing else: urllib3 itself would write addresses, keys and all, into
the log when it asks again."""


class RetryPolicy(Retry):
    """When to ask a server again: urllib3's rules, with a pause before the first new try too."""

    @classmethod
    def of(cls, tries: int = 5, pause_s: float = 2.0) -> RetryPolicy:
        """Return the policy of so many tries.

        Args:
            tries: How often a question is asked at most.
            pause_s: Seconds before the second try, where the server does not say how long;
                four times as many before each further one, up to a minute.
        """
        return cls(
            total=tries - 1,
            allowed_methods=None,  # what is posted here are questions, too
            status_forcelist=BUSY,
            backoff_factor=pause_s,
            backoff_max=60.0,
        )

    def get_backoff_time(self) -> float:
        """Return the seconds to wait before the next try, where the server does not say."""
        pause = self.backoff_factor * 4.0 ** (len(self.history) - 1)
        return min(self.backoff_max, pause) if self.history else 0.0

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Return the seconds that `Retry-After` asks for, None where it says nothing usable."""
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None

    def after(self, failed: BaseHTTPResponse | HTTPError, shown: str) -> RetryPolicy:
        """Wait before the next try, and return the policy for the tries that are left.

        Args:
            failed: The answer, or what went wrong before there was one.
            shown: What messages call the address.

        Raises:
            DataError: No try is left, trying again cannot help, or the wait is too long.
        """
        if isinstance(failed, HTTPError):
            reason, response, error = reason_of(failed), None, failed
            if not _may_pass(failed):
                raise DataError(
                    f"cannot be reached ({reason})",
                    where=shown,
                    remedy="Check the address and the network.",
                ) from failed
        else:
            reason, response, error = f"{failed.status} {phrase(failed.status)}", failed, None
        try:
            left = self.increment("GET", shown, response=response, error=error)
        except MaxRetryError as exhausted:
            raise DataError(
                f"no whole answer after {len(self.history) + 1} tries ({reason})",
                where=shown,
                remedy="Run the command again later; what has come is kept.",
            ) from exhausted
        asked = None if response is None else left.get_retry_after(response)
        wait = asked or left.get_backoff_time()
        if wait > LONGEST_WAIT:
            raise DataError(
                f"the server asks to wait {wait:.0f} seconds",
                where=shown,
                remedy="Run the command again then; what has come is kept.",
            )
        log.warning("%s: %s; again in %.3g s", shown, reason, wait)
        time.sleep(wait)
        return left


def _may_pass(error: HTTPError) -> bool:
    """Return whether the same question may succeed when it is asked again."""
    if isinstance(error, ProxyError) and isinstance(error.original_error, HTTPError):
        return _may_pass(error.original_error)
    if isinstance(error, NameResolutionError):
        return getattr(error.__cause__, "errno", None) == socket.EAI_AGAIN
    if isinstance(error, SSLError):
        return not any(isinstance(part, ssl.SSLCertVerificationError) for part in error.args)
    # A redirect that leads nowhere or in circles, or an address that is none.
    return not isinstance(error, LocationValueError | ResponseError)


def reason_of(error: HTTPError) -> str:
    """Return what went wrong in a few words, without the address."""
    parts = (error.__cause__, *reversed(error.args))
    system = next((part for part in parts if isinstance(part, OSError)), None)
    if system is not None:
        return system.strerror or str(system)
    return str(error.args[0] if error.args else error)


@dataclass(frozen=True)
class Answer:
    """The answer of a server.

    Attributes:
        content: The body, decompressed.
        kind: Its media type, such as "image/png", in lower case; empty where not told.
    """

    content: bytes
    kind: str


class Refusal(DataError):  # noqa: N818 - it is what the server says, and part of a DataError
    """A server's refusal that will not change by asking again.

    Attributes:
        status: The HTTP status.
        content: What the server wrote with it.
    """

    def __init__(self, url: str, status: int, content: bytes) -> None:
        self.status, self.content = status, content
        super().__init__(
            f"the server answers {status} {phrase(status)}",
            where=url,
            remedy="Check the address, and whether you need a key or a permission.",
        )


class Client:
    """Asks one service, one question at a time.

    Args:
        rate: Questions per second at most; None for no limit of ours.
        retries: When to ask again.
        timeout: Seconds without a byte after which the connection counts as lost.

    Raises:
        UsageError: The rate is not above 0.
    """

    def __init__(
        self,
        *,
        rate: float | None = None,
        retries: RetryPolicy | None = None,
        timeout: float = 60,
    ) -> None:
        if rate is not None and not rate > 0:
            raise UsageError(
                f"{rate:g} questions per second are not possible",
                parameter="rate",
                remedy="Give a number above 0.",
            )
        self._interval = 0.0 if rate is None else 1 / rate
        self._retries = RetryPolicy.of() if retries is None else retries
        self._timeout = timeout
        self._next = 0.0
        self._pools: dict[str | None, PoolManager] = {}

    def ask(self, url: str, body: bytes | None = None, *, shown: str | None = None) -> Answer:
        """Send a question, GET without a body and POST with one, and return the answer.

        Args:
            url: An http or https address.
            body: What is posted, form-encoded.
            shown: What messages call the address, where it holds a key.

        Raises:
            UsageError: The address is not one.
            Refusal: The server refuses for good.
            DataError: It stays busy, or the connection fails for good.
        """
        shown = url if shown is None else shown
        check_address(url, shown)
        proxy = proxy_for(url)
        pool = self._pools.setdefault(proxy, pool_through(proxy))
        headers = {"Accept-Encoding": "gzip"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        retries = self._retries
        while True:
            self._keep_pace()
            try:
                response = request(pool, url, headers, body, timeout=self._timeout)
                content = unpacked(response)
            except HTTPError as error:
                retries = retries.after(error, shown)
                continue
            status = response.status
            if retries.is_retry("GET", status, "Retry-After" in response.headers):
                retries = retries.after(response, shown)
                continue
            if not 200 <= status < 300:
                raise Refusal(shown, status, content)
            kind = response.headers.get("Content-Type", "").partition(";")[0]
            return Answer(content, kind.strip().lower())

    def _keep_pace(self) -> None:
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval


def check_address(url: str, shown: str) -> None:
    """Refuse what is not an address of the web.

    Raises:
        UsageError: It does not begin with http:// or https://, or names no host.
    """
    try:
        parts = parse_url(url)
    except LocationValueError:
        parts = parse_url("")
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise UsageError(
            "is not an address", where=shown, remedy="Give one with http:// or https://."
        )


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an address, as `http_proxy` does."""
    parts = parse_url(url)
    if parts.host is None or urllib.request.proxy_bypass(parts.host):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme or "")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def pool_through(proxy: str | None, at_once: int = 1) -> PoolManager:
    """Return what keeps connections open, through a proxy where there is one.

    Args:
        proxy: Its address.
        at_once: How many threads may ask one host at once.
    """
    if not proxy:
        return PoolManager(maxsize=at_once)
    login = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=urllib.parse.unquote(login)) if login else None
    return ProxyManager(proxy, maxsize=at_once, proxy_headers=headers)


def request(
    pool: PoolManager,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    method: Literal["GET", "HEAD"] = "GET",
    timeout: float = 60,
    whole: bool = True,
) -> BaseHTTPResponse:
    """Ask once, and return the answer whatever its status.

    Args:
        pool: Connections.
        url: An http or https address.
        headers: What is said beside who asks.
        body: What is posted.
        method: What is asked where nothing is posted; HEAD asks for no contents.
        timeout: Seconds without a byte after which the connection counts as lost.
        whole: Read the body, for `unpacked`; otherwise it is left to be read, as it comes.

    Raises:
        HTTPError: The connection fails, or the answer is damaged.
    """
    try:
        return pool.request(
            method if body is None else "POST",
            url,
            body,
            headers={"User-Agent": USER_AGENT, **headers},
            retries=_REDIRECTS,
            timeout=Timeout(connect=min(timeout, 30), read=timeout),
            preload_content=whole,
            decode_content=False,
        )
    except MaxRetryError as error:
        if isinstance(error.reason, HTTPError):
            raise error.reason from error.reason.__cause__
        raise


def unpacked(response: BaseHTTPResponse) -> bytes:
    """Return the body of an answer, decompressed.

    urllib3 would take a compressed body that is cut short for a whole one.

    Raises:
        HTTPError: It is damaged, or not compressed with gzip, which alone is asked for.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return response.data
    if encoding not in ("gzip", "x-gzip"):
        raise DecodeError(f"the answer is compressed with {encoding}, which was not asked for")
    try:
        return gzip.decompress(response.data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DecodeError("the compressed answer is cut short or damaged") from error


def phrase(status: int) -> str:
    """Return the words that belong to an HTTP status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(an unknown status)"
