"""Asking a web service many small questions, politely: one at a time, at a rate, with back-off.

A service that is busy (429, 502, 503, 504) is asked again after as long as it says itself
(`Retry-After`, RFC 9110, 10.2.3), or else after pauses that grow. What a server has refused
otherwise is not asked twice. One large file comes by `fetch.py` instead.
"""

from __future__ import annotations

import gzip
import http.client
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from sat2map.data.fetch import USER_AGENT
from sat2map.errors import DataError, UsageError

log = logging.getLogger(__name__)

BUSY = frozenset({429, 502, 503, 504})
PAUSES = (2.0, 8.0, 30.0, 60.0)
"""Seconds to wait before each new try, where the server does not say how long."""

LONGEST_WAIT = 300.0
"""Seconds; a server that asks for more patience than this ends the command instead."""


@dataclass(frozen=True)
class Answer:
    """What a server answered.

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
            f"the server answers {status} {_phrase(status)}",
            where=url,
            remedy="Check the address, and whether you need a key or a permission.",
        )


class Client:
    """Asks one service, one question at a time.

    Args:
        rate: Questions per second at most; None for no limit of ours.
        pauses: Seconds to wait before each new try; their number is that of the tries.
        timeout: Seconds without a byte after which the connection counts as lost.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        *,
        rate: float | None = None,
        pauses: Sequence[float] = PAUSES,
        timeout: float = 60,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 0.0 if rate is None else 1 / rate
        self._pauses, self._timeout, self._sleep = pauses, timeout, sleep
        self._next = 0.0

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
        if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
            raise UsageError(
                "is not an address", where=shown, remedy="Give one with http:// or https://."
            )
        for attempt in range(len(self._pauses) + 1):
            self._keep_pace()
            try:
                return self._ask_once(url, body)
            except urllib.error.HTTPError as error:
                if error.code not in BUSY:
                    raise Refusal(shown, error.code, _content(error)) from error
                reason = f"{error.code} {_phrase(error.code)}"
                wait = _retry_after(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                reason, wait = f"{getattr(error, 'reason', None) or error!r}", None
            if attempt == len(self._pauses):
                break
            pause = self._pauses[attempt] if wait is None else wait
            if pause > LONGEST_WAIT:
                raise DataError(
                    f"the server asks to wait {pause:.0f} seconds",
                    where=shown,
                    remedy="Run the command again then; what has come is kept.",
                )
            log.warning("%s: %s; again in %g s", shown, reason, pause)
            self._sleep(pause)
        raise DataError(
            f"no answer after {len(self._pauses) + 1} tries ({reason})",
            where=shown,
            remedy="Run the command again later; what has come is kept.",
        )

    def _ask_once(self, url: str, body: bytes | None) -> Answer:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}
        request = urllib.request.Request(url, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            return Answer(_content(response), response.headers.get_content_type())

    def _keep_pace(self) -> None:
        now = time.monotonic()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._interval


def _content(response: http.client.HTTPResponse | urllib.error.HTTPError) -> bytes:
    """Return a body, decompressed.

    Raises:
        OSError: It is not what its header says; the next try may bring a whole one.
    """
    content = response.read()
    if response.headers.get("Content-Encoding", "").lower() != "gzip":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error) as error:
        raise OSError(f"a damaged answer ({error})") from error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(an unknown status)"


def _retry_after(text: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number of them or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
