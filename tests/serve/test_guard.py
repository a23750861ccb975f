"""Who may ask, and what every answer says to browsers."""

from __future__ import annotations

import pytest

from fixtures.scenes import MakeScene
from sat2map.serve.app import AppOptions
from sat2map.serve.guard import Access, host_of, is_loopback

from .conftest import Start
from .test_tiles import blocks


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("maps.example:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:8000@localhost", 421),
        ("<script>alert(1)</script>", 421),
        ("", 421),
    ],
)
def test_only_hosts_that_are_let_in_are_answered(
    make_scene: MakeScene, start: Start, host: str, status: int
) -> None:
    access = Access(frozenset({"localhost", "127.0.0.1", "::1", "maps.example"}))
    served = start(make_scene(blocks(30, 30)), app=AppOptions(access))
    for path in ("/", "/scenes", "/scenes/scene/map/tilejson.json"):
        answer = served.client.get(path, headers={"Host": host})
        assert answer.status_code == status
        if status == 421:
            assert "<" not in answer.text
            assert "evil" not in answer.text


def test_every_answer_has_a_policy_and_pages_have_no_script(
    make_scene: MakeScene, start: Start
) -> None:
    served = start(make_scene(blocks(30, 30)))
    for path in ("/", "/scenes", "/docs", "/healthz", "/nothing", "/scenes/scene/map/1/0/0.png"):
        answer = served.client.get(path, headers={"Accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "worker-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert "<script" not in answer.text
        assert "server" not in answer.headers


def test_other_sites_read_only_where_they_are_named(make_scene: MakeScene, start: Start) -> None:
    access = Access(origins=frozenset({"https://maps.example"}))
    served = start(make_scene(blocks(30, 30)), app=AppOptions(access))
    for origin, allowed in (("https://maps.example", True), ("https://evil.example", False)):
        answer = served.client.get("/scenes", headers={"Origin": origin})
        told = answer.headers.get("access-control-allow-origin")
        assert told == (origin if allowed else None)


def test_a_token_is_asked_for_everywhere_but_for_health(
    make_scene: MakeScene, start: Start
) -> None:
    served = start(make_scene(blocks(30, 30)), app=AppOptions(Access(token="abc-123")))
    client = served.client
    for path in ("/", "/scenes", "/docs", "/openapi.json", "/scenes/scene/legend", "/nothing"):
        assert client.get(path).status_code == 401
        assert client.get(path).headers["www-authenticate"] == "Bearer"
        assert client.get(f"{path}?token=abc-124").status_code == 401
        wrong = {"Authorization": "Bearer ABC-123", "Cookie": "sat2map_token=x"}
        assert client.get(path, headers=wrong).status_code == 401
    assert client.get("/healthz").status_code == 200
    bearer = {"Authorization": "Bearer abc-123"}
    told = client.get("/scenes/scene/map/tilejson.json", headers=bearer).json()
    assert "abc" not in told["tiles"][0]
    # Who has nothing but an address, such as QGIS, gets addresses with the token in them.
    told = client.get("/scenes/scene/map/tilejson.json?token=abc-123")
    assert told.json()["tiles"][0].endswith("{y}.png?token=abc-123")
    assert "HttpOnly" in told.headers["set-cookie"]
    assert "SameSite=Strict" in told.headers["set-cookie"]
    xml = client.get("/scenes/scene/WMTSCapabilities.xml?token=abc-123").text
    assert "{TileRow}.png?token=abc-123" in xml
    assert client.get("/scenes").status_code == 200  # the browser has kept the cookie


def test_methods_and_sizes_are_bounded(make_scene: MakeScene, start: Start) -> None:
    served = start(make_scene(blocks(30, 30)))
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert served.client.request(method, "/scenes").status_code == 405
    assert served.client.get("/scenes?" + "x" * 3000).status_code == 414
    assert served.client.get("/" + "x" * 3000).status_code == 414
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert served.client.post("/scenes", headers=evil).status_code == 403


def test_names_of_hosts_and_loopback() -> None:
    assert [host_of(text) for text in ("A.b:1", "[::1]:8000", "[::1]", "x")] == [
        "a.b",
        "::1",
        "::1",
        "x",
    ]
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "maps.example", "")))
