"""Which version of a file lies at an address, as its server says."""

from __future__ import annotations

from urllib3.exceptions import HTTPError

from sat2map.fetch.http import pool_through, proxy_for, request

_PREFIX = "/vsicurl/"


def version_at(address: str) -> str | None:
    """Ask a server which version of a file it has; the file itself is not read.

    The time of its last change counts, or else its ETag: servers that share a name may have ETags
    of their own.

    Args:
        address: As GDAL opens it, with or without /vsicurl/.

    Returns:
        A text that is another one when the file is; None if the server does not say, or the
        address is of no web server (s3://...).
    """
    address = address.removeprefix(_PREFIX)
    if not address.startswith(("http://", "https://")):
        return None
    try:
        with pool_through(proxy_for(address)) as pool:
            answer = request(pool, address, {}, method="HEAD", timeout=10)
    except HTTPError:
        return None
    told = answer.headers.get("last-modified") or answer.headers.get("etag")
    if answer.status != 200 or told is None:
        return None
    return f"{told} {answer.headers.get('content-length', '')}".rstrip()
