"""Fetching one large file over HTTP, so that an interrupted download goes on.

Beside the partial file PART lies PART.json {url, validator, total}. A download goes on with a
range request that is conditional on the validator (RFC 9110, 13.1.5 and 14.2), so that a file
that has changed on the server starts afresh and two halves never mix.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sat2map import __version__
from sat2map.errors import DataError, writing_to
from sat2map.whole import write_text

log = logging.getLogger(__name__)

USER_AGENT = f"sat2map/{__version__} (a program for making maps of images)"

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes in all, None where unknown."""


def fetch(url: str, part: Path, progress: Progress | None, pauses: Sequence[float]) -> None:
    """Bring the file at `url` to `part` in full, going on from what is there.

    Args:
        url: An http or https address.
        part: Where the file goes; kept when this fails.
        progress: Told about the bytes as they come.
        pauses: Seconds to wait before each new try after a lost connection; after new bytes
            the count starts again. A server that never answers is not tried again.

    Raises:
        DataError: The server refuses, or the connection fails for good.
        OutputError: The place is not writable or the disk is full.
    """
    failures = 0
    reached = False
    while True:
        before = _size(part)
        try:
            _fetch_once(url, part, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                forget(part)  # the file on the server is shorter than what came earlier
                continue
            raise DataError(
                f"the server answers {error.code} {error.reason}",
                where=url,
                remedy="Try again later, or give a mirror with --base-url.",
            ) from error
        except _ConnectionLostError as error:
            reached = reached or error.reached
            failures = 1 if _size(part) > before else failures + 1
            if not reached or failures > len(pauses):
                raise DataError(
                    f"the connection failed ({error})",
                    where=url,
                    remedy="Check the network and run the command again; what has come is kept.",
                ) from error
            pause = pauses[failures - 1]
            log.warning("%s: the connection was lost (%s); again in %g s", url, error, pause)
            time.sleep(pause)


class _ConnectionLostError(Exception):
    """The network failed; `reached` tells whether the server had answered."""

    def __init__(self, cause: object, *, reached: bool) -> None:
        super().__init__(str(cause))
        self.reached = reached


def _fetch_once(url: str, part: Path, progress: Progress | None) -> None:
    state = _read_state(part)
    start = _size(part) if state.get("url") == url and state.get("validator") else 0
    if start and start == state.get("total"):
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    if start:
        # If-Range: the server sends all of it where the file is no longer the same.
        headers |= {"Range": f"bytes={start}-", "If-Range": str(state["validator"])}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionLostError(getattr(error, "reason", error), reached=False) from error
    with response:
        total = _total(response)
        if response.status == http.client.PARTIAL_CONTENT:
            if _range_start(response) != start or total != state.get("total"):
                forget(part)
                raise _ConnectionLostError("the server sent another part", reached=True)
        else:
            start = 0
        with writing_to(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            if not start:
                part.unlink(missing_ok=True)
                state = {"url": url, "validator": _validator(response), "total": total}
                write_text(_state_path(part), json.dumps(state) + "\n")
        _receive(response, part, start, total, progress)


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    done: int,
    total: int | None,
    progress: Progress | None,
) -> None:
    with writing_to(part), part.open("ab", buffering=0) as file:
        while True:
            if progress is not None:
                progress(done, total)
            try:
                block = response.read1(1 << 20)
            except (OSError, http.client.HTTPException) as error:
                raise _ConnectionLostError(error, reached=True) from error
            if not block:
                break
            view = memoryview(block)
            while view:  # an unbuffered file may take less than it is given
                view = view[file.write(view) :]
            done += len(block)
    if total is not None and done != total:
        if done > total:
            forget(part)
        raise _ConnectionLostError(f"{done} of {total} bytes came", reached=True)


def _total(response: http.client.HTTPResponse) -> int | None:
    """Return the size of the whole file as the server tells it."""
    if response.status == http.client.PARTIAL_CONTENT:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _range_start(response: http.client.HTTPResponse) -> int | None:
    """Return the first byte of a partial answer: `Content-Range: bytes 100-199/200`."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return what `If-Range` may hold (RFC 9110, 13.1.5): a strong ETag or a date."""
    tag: str | None = response.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, Any]:
    """Return what was written down about the partial file; empty where nothing is usable."""
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def forget(part: Path) -> None:
    """Remove a partial file and what was written down about it."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)
