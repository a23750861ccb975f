"""What a server says of the version of a file."""

from __future__ import annotations

import os

import pytest

from fixtures.remote import Server
from sat2map.fetch.version import version_at


@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_a_file_that_is_replaced_has_another_version(server: Server, prefix: str) -> None:
    file, address = server.folder / "scene.tif", f"{prefix}{server.address}/scene.tif?key=1"
    file.write_bytes(b"one")
    first = version_at(address)
    assert first is not None
    assert version_at(address) == first
    file.write_bytes(b"longer")
    os.utime(file, (0, 0))
    second = version_at(address)
    assert second not in (first, None)
    file.write_bytes(b"larger")
    os.utime(file, (60, 60))
    assert version_at(address) not in (first, second, None)


def test_it_is_not_known_where_no_server_tells_it(server: Server) -> None:
    assert version_at(f"{server.address}/missing.tif") is None
    (server.folder / "busy.tif").write_bytes(b"one")
    server.fail(then=503)
    assert version_at(f"{server.address}/busy.tif") is None
    assert version_at("http://127.0.0.1:1/nobody.tif") is None
    assert version_at("s3://bucket/scene.tif") is None
