"""Where an archive of tiles lies: in a file, or at an address of which parts are asked for."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from urllib3.exceptions import HTTPError

from sat2map.errors import DataError
from sat2map.fetch.http import phrase, pool_through, proxy_for, reason_of, request
from sat2map.journal import address_without_query
from sat2map.serve.memory import RecentMemory

LARGEST = 64 * 2**20
"""Bytes of a tile, a directory or a style that are read at once."""

FIRST = 16_384
"""Bytes at the beginning of an archive, which hold its header and its first directory."""

KEPT = 16 * 2**20
"""Bytes of a file at an address that are kept."""

TIMEOUT_S = 10.0
"""Seconds that a server may say nothing."""

CONNECTIONS = 2
TRIES = 2


class ArchiveFile(Protocol):
    """What an archive is read from; threads may share it."""

    @property
    def where(self) -> str | Path:
        """What messages call it."""

    @property
    def version(self) -> str:
        """A text that another file under the same name changes."""

    @property
    def has_changed(self) -> bool:
        """Whether it was seen to be another one than it was at first."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer where the file ends before."""

    def beside(self, suffix: str) -> bytes | None:
        """Return what a file of the same name with another suffix holds, None where none is."""

    def close(self) -> None:
        """Close it."""


class LocalFile:
    """An `ArchiveFile` on a disk.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be opened.
    """

    has_changed = False  # whoever has opened it looks at the file itself

    def __init__(self, path: Path) -> None:
        self.where = path
        self._file = path.open("rb", buffering=0)
        told = os.fstat(self._file.fileno())
        self.version = f"{told.st_size} {told.st_mtime_ns} {told.st_ino}"

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; see `ArchiveFile`."""
        # By position, so that threads do not disturb each other; mapped memory would end the
        # process where the file is cut off under way.
        return os.pread(self._file.fileno(), length, offset)

    def beside(self, suffix: str) -> bytes | None:
        """Return what lies beside it; see `ArchiveFile`."""
        path = self.where.with_suffix(suffix)
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(LARGEST)

    def close(self) -> None:
        """Close it."""
        self._file.close()


class RemoteFile:
    """An `ArchiveFile` at an address, whose server gives parts of files (RFC 9110, 14).

    Args:
        address: It begins with http:// or https://.

    Raises:
        DataError: It cannot be reached, or its server does not give parts.
    """

    def __init__(self, address: str) -> None:
        self.where: str = address_without_query(address)
        self.has_changed = False
        self._address = address
        self._pool = pool_through(proxy_for(address), CONNECTIONS)
        self._kept: RecentMemory[bytes] = RecentMemory(KEPT, len)
        self._told: tuple[str | None, ...] | None = None
        self._first = self._fetched(0, FIRST)
        told = self._told or ()
        # Where a server says nothing of its version, nothing is known of it at the next start.
        known = str(told) if any(told[:2]) else uuid.uuid4().hex
        self.version = hashlib.blake2b(f"{self.where} {known}".encode()).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; see `ArchiveFile`.

        Raises:
            DataError: The server cannot be reached, or has another file now.
        """
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        found = self._kept.get((offset, length))
        if found is None:
            found = self._fetched(offset, length)
            self._kept.put((offset, length), found)
        return found

    def beside(self, suffix: str) -> bytes | None:
        """Return what lies beside it; see `ArchiveFile`.

        Raises:
            DataError: The server cannot be reached.
        """
        parts = urlsplit(self._address)
        address = urlunsplit(parts._replace(path=f"{parts.path.rpartition('.')[0]}{suffix}"))
        status, _, body = self._asked(address, {}, LARGEST)
        return body if status == 200 else None

    def close(self) -> None:
        """Close its connections."""
        self._pool.clear()

    def _fetched(self, offset: int, length: int) -> bytes:
        span = {"Range": f"bytes={offset}-{offset + length - 1}"}
        status, headers, body = self._asked(self._address, span, length)
        if status == 416:  # it ends before
            return b""
        if status != 206:
            if status == 200:
                raise DataError(
                    "its server gives whole files alone, and no parts of them",
                    where=self.where,
                    remedy="Download it, and serve the file; or put it on a server that answers "
                    "requests with Range.",
                )
            raise DataError(
                f"its server says {status} {phrase(status)}",
                where=self.where,
                remedy="Check the address.",
            )
        size = headers.get("content-range", "").rpartition("/")[2]
        told = (headers.get("etag"), headers.get("last-modified"), size)
        if self._told is None:
            self._told = told
        elif told != self._told:
            self.has_changed = True
            raise DataError("has changed while it was read", where=self.where, remedy="Ask again.")
        if re.match(rf"bytes {offset}-", headers.get("content-range", "")) is None:
            raise DataError(
                "its server gives other parts than it is asked for",
                where=self.where,
                remedy="Download it, and serve the file.",
            )
        return body

    def _asked(
        self, address: str, headers: dict[str, str], most: int
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and no more than so many bytes of an answer."""
        for left in reversed(range(TRIES)):
            try:
                answer = request(self._pool, address, headers, timeout=TIMEOUT_S, whole=False)
                try:
                    expected = 206 if headers else 200
                    body = answer.read(most) if answer.status == expected else b""
                    told = {name.lower(): value for name, value in answer.headers.items()}
                    return answer.status, told, body
                finally:
                    answer.close()  # which ends the connection unless all was read
            except HTTPError as error:  # a connection that the server has closed meanwhile
                if not left:
                    raise DataError(
                        f"its server cannot be reached ({reason_of(error)})",
                        where=self.where,
                        remedy="Check the address and the network.",
                    ) from error
        raise AssertionError("one of the tries ends it")
