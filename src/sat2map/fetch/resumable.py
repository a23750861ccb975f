"""Fetching one large file over HTTP, so that an interrupted download goes on.

Beside the partial file PART lies PART.json {url, validator, total}. A download goes on with a
range request that is conditional on the validator (RFC 9110, 13.1.5 and 14.2), so that a file
that has changed on the server starts afresh and two halves never mix.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

from sat2map.atomic import write_text
from sat2map.errors import DataError, parsed_json, writing_to
from sat2map.fetch.http import RetryPolicy, phrase, pool_through, proxy_for, reason_of, request
from sat2map.journal import address_without_query

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes in all, None where unknown."""


def fetch(
    url: str, part: Path, progress: Progress | None = None, retries: RetryPolicy | None = None
) -> None:
    """Bring the file at `url` to `part` in full, going on from what is there.

    Args:
        url: An http or https address.
        part: Where the file goes; kept when this fails.
        progress: Told about the bytes as they come.
        retries: When to try again after a lost connection or where the server is busy; after
            new bytes the count starts again. A server that never answers is not tried again.

    Raises:
        DataError: The server refuses, or the connection fails for good.
        OutputError: The place is not writable or the disk is full.
    """
    full = RetryPolicy.of(tries=4, pause_s=1.0) if retries is None else retries
    shown = address_without_query(url)
    pool = pool_through(proxy_for(url))
    left, reached = full, False
    while True:
        before = _size(part)
        try:
            refused = _fetch_once(pool, url, part, progress)
        except _UnreachableError as error:
            if not reached:
                raise DataError(
                    f"the connection failed ({reason_of(error.cause)})",
                    where=shown,
                    remedy="Check the network and run the command again; what has come is kept.",
                ) from error.cause
            left = left.after(error.cause, shown)
            continue
        except HTTPError as error:
            reached = True
            left = (full if _size(part) > before else left).after(error, shown)
            continue
        if refused is None:
            return
        reached = True
        if refused.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
            forget(part)  # the file on the server is shorter than what came earlier
        elif left.is_retry("GET", refused.status, "Retry-After" in refused.headers):
            left = left.after(refused, shown)
        else:
            raise DataError(
                f"the server answers {refused.status} {phrase(refused.status)}",
                where=shown,
                remedy="Try again later, or give a mirror as `base_url`.",
            )


class _UnreachableError(Exception):
    """The server did not answer at all."""

    def __init__(self, cause: HTTPError) -> None:
        super().__init__(cause)
        self.cause = cause


def _fetch_once(
    pool: PoolManager, url: str, part: Path, progress: Progress | None
) -> BaseHTTPResponse | None:
    """Receive what is missing, or return the answer of a server that refuses.

    Raises:
        _UnreachableError: The server did not answer.
        HTTPError: The connection broke off, or the server sent something else.
    """
    state = _read_state(part)
    start = (
        _size(part)
        if state.get("url") == address_without_query(url) and state.get("validator")
        else 0
    )
    if start and start == state.get("total"):
        return None
    headers = {"Accept-Encoding": "identity"}
    if start:
        # If-Range: the server sends all of it where the file is no longer the same.
        headers |= {"Range": f"bytes={start}-", "If-Range": str(state["validator"])}
    try:
        response = request(pool, url, headers, whole=False)
    except HTTPError as error:
        raise _UnreachableError(error) from error
    with response:
        if response.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return response
        total = _total(response)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if _range_start(response) != start or total != state.get("total"):
                forget(part)
                raise HTTPError("the server sent another part")
        else:
            start = 0
        with writing_to(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            if not start:
                part.unlink(missing_ok=True)
                state = {
                    "url": address_without_query(url),
                    "validator": _validator(response),
                    "total": total,
                }
                write_text(_state_path(part), json.dumps(state) + "\n")
        _receive(response, part, start, total, progress)
    return None


def _receive(
    response: BaseHTTPResponse,
    part: Path,
    done: int,
    total: int | None,
    progress: Progress | None,
) -> None:
    with writing_to(part), part.open("ab", buffering=0) as file:
        while True:
            if progress is not None:
                progress(done, total)
            block = response.read1(1 << 20, decode_content=False)
            if not block:
                break
            view = memoryview(block)
            while view:  # an unbuffered file may take less than it is given
                view = view[file.write(view) :]
            done += len(block)
    if total is not None and done != total:
        if done > total:
            forget(part)
        raise HTTPError(f"{done} of {total} bytes came")


def _total(response: BaseHTTPResponse) -> int | None:
    """Return the size of the whole file as the server tells it."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _range_start(response: BaseHTTPResponse) -> int | None:
    """Return the first byte of a partial answer: `Content-Range: bytes 100-199/200`."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else None


def _validator(response: BaseHTTPResponse) -> str | None:
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
        state = parsed_json(_state_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def is_begun(part: Path, url: str) -> bool:
    """Return whether a file was begun here from this address."""
    return (
        part.is_file()
        and not part.is_symlink()
        and _read_state(part).get("url") == address_without_query(url)
    )


def move_part(part: Path, place: Path) -> None:
    """Give a partial file another place, with what was written down about it."""
    _state_path(part).replace(_state_path(place))
    part.replace(place)


def forget(part: Path) -> None:
    """Remove a partial file and what was written down about it."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)
