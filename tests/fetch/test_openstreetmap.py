"""OpenStreetMap from a server that answers as an Overpass API server does."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyogrio
import pytest

from sat2map.errors import DataError, OutputError, UsageError
from sat2map.fetch.http import Client, RetryPolicy
from sat2map.fetch.openstreetmap import CREDITS, fetch_osm, query_of

Serve = Callable[..., Any]

BOX = (13.40, 52.50, 13.44, 52.53)
GENERATOR = {
    "version": 0.6,
    "generator": "Overpass API 0.7.62.1 084b4234",
    "osm3s": {
        "timestamp_osm_base": "2026-11-20T10:00:00Z",
        "copyright": "The data included in this document is from www.openstreetmap.org. "
        "The data is made available under ODbL.",
    },
}
HOUSE = {
    "type": "way",
    "id": 11,
    "bounds": {"minlat": 52.51, "minlon": 13.41, "maxlat": 52.52, "maxlon": 13.42},
    "nodes": [1, 2, 3, 4, 1],
    "geometry": [
        {"lat": 52.51, "lon": 13.41},
        {"lat": 52.51, "lon": 13.42},
        {"lat": 52.52, "lon": 13.42},
        {"lat": 52.52, "lon": 13.41},
        {"lat": 52.51, "lon": 13.41},
    ],
    "tags": {"building": "yes", "addr:street": "Straße"},
}
ROAD = {
    "type": "way",
    "id": 12,
    "geometry": [{"lat": 52.5, "lon": 13.4}, {"lat": 52.53, "lon": 13.44}],
    "tags": {"highway": "primary", "bridge": "yes", "layer": "1"},
}
BROKEN = {
    "type": "relation",
    "id": 13,
    "members": [{"type": "way", "ref": 1, "role": "outer", "geometry": [None, None]}],
    "tags": {"type": "multipolygon", "landuse": "forest"},
}


def answer(*elements: dict[str, Any], **more: Any) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({**GENERATOR, "elements": list(elements), **more})
    return 200, {"Content-Type": "application/json"}, body.encode()


def page(error: str) -> bytes:
    """The page that the server writes in place of JSON, in its own form."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<html><head><title>OSM3S Response</title></head>'
        "<body><p>The data included in this document is from www.openstreetmap.org.</p>\n"
        f'<p><strong style="color:#FF0000">Error</strong>: {error} </p>\n</body></html>'
    ).encode()


def box_of(sent: bytes) -> tuple[float, ...]:
    query = urllib.parse.parse_qs(sent.decode())["data"][0]
    found = re.search(r"\(([-\d.,]+)\)", query)
    assert found is not None
    return tuple(map(float, found[1].split(",")))


def fetch(server: Any, target: Path, bbox: Any = BOX, **more: Any) -> dict[str, int]:
    client = Client(retries=RetryPolicy.of(3, 0))
    return fetch_osm(bbox, target, url=server.url + "/api/interpreter", client=client, **more)


def test_a_box_becomes_a_geopackage_of_areas_and_lines(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda path, body: answer(HOUSE, ROAD, BROKEN))
    target = tmp_path / "new" / "osm.gpkg"
    assert fetch(server, target) == {"areas": 1, "lines": 1}

    meta, _, _, fields = pyogrio.raw.read(target, layer="areas")
    row = dict(zip(meta["fields"], [column[0] for column in fields], strict=True))
    assert meta["crs"] == "EPSG:4326"
    assert (row["osm_type"], row["osm_id"], row["building"]) == ("way", 11, "yes")
    assert row["highway"] is None
    assert json.loads(row["tags"]) == {"addr:street": "Straße"}
    info = pyogrio.read_info(target, layer="lines")
    assert info["total_bounds"] == pytest.approx((13.4, 52.5, 13.44, 52.53))
    assert {"bridge", "layer", "tunnel"} <= set(info["fields"])
    for layer in ("areas", "lines"):
        metadata = pyogrio.read_info(target, layer=layer)["layer_metadata"]
        assert metadata["ATTRIBUTION"] == CREDITS["ATTRIBUTION"]
        assert "ODbL" in metadata["LICENCE"]
        assert metadata["DATE"] == "2026-11-20T10:00:00Z"
    assert "1 elements without a whole geometry" in caplog.text
    assert [path.name for path in target.parent.iterdir()] == ["osm.gpkg"]


def test_the_query_states_its_limits() -> None:
    query = query_of(BOX)
    assert query.startswith("[out:json][timeout:180][maxsize:536870912];")
    assert "(52.5000000,13.4000000,52.5300000,13.4400000)" in query  # south, west, north, east
    assert query.endswith("out geom qt;")


def test_a_large_box_is_asked_for_in_parts_that_cover_it_and_nothing_comes_twice(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda path, body: answer(HOUSE, ROAD))
    steps: list[tuple[int, int | None]] = []
    counts = fetch(
        server,
        tmp_path / "osm.gpkg",
        (13.3, 52.4, 13.5, 52.5),
        progress=lambda done, total: steps.append((done, total)),
    )
    boxes = [box_of(body) for _, _, body in server.asked]
    assert len(boxes) == 6
    assert sum((n - s) * (e - w) for s, w, n, e in boxes) == pytest.approx(0.02, rel=1e-5)
    assert max(max(n - s, e - w) for s, w, n, e in boxes) <= 0.08
    assert counts == {"areas": 1, "lines": 1}
    assert steps[0] == (0, 6) and steps[-1] == (6, 6)


@pytest.mark.parametrize(
    "remark",
    [
        'runtime error: Query timed out in "query" at line 1 after 181 seconds.',
        "runtime error: Query run out of memory using about 512 MB of RAM.",
    ],
)
def test_a_part_that_is_too_much_is_quartered(serve: Serve, tmp_path: Path, remark: str) -> None:
    def reply(path: str, body: bytes) -> Any:
        _, west, _, east = box_of(body)
        return answer(HOUSE) if east - west < 0.03 else answer(remark=remark)

    server = serve(reply)
    assert fetch(server, tmp_path / "osm.gpkg") == {"areas": 1}
    assert len(server.asked) == 5
    south, west, north, east = zip(*[box_of(body) for _, _, body in server.asked[1:]], strict=True)
    assert (min(west), min(south), max(east), max(north)) == BOX


def test_a_server_that_can_not_even_answer_for_a_street_ends_with_a_line(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda path, body: answer(remark="runtime error: Query timed out"))
    with pytest.raises(DataError, match=r"cannot answer even for 13\..*another server as `url`"):
        fetch(server, tmp_path / "osm.gpkg", (13.4, 52.5, 13.41, 52.51))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_goes_on_and_a_repeated_one_asks_nobody(
    serve: Serve, tmp_path: Path
) -> None:
    replies = iter([answer(HOUSE), (503, {}, b""), (503, {}, b""), (503, {}, b"")])
    server = serve(lambda path, body: next(replies, answer(ROAD)))
    wide = (13.4, 52.5, 13.5, 52.53)
    with pytest.raises(DataError, match=r"interpreter: no whole answer after 3 tries.*kept"):
        fetch(server, tmp_path / "osm.gpkg", wide)
    assert list(tmp_path.iterdir()) == []

    assert fetch(server, tmp_path / "osm.gpkg", wide) == {"areas": 1, "lines": 1}
    assert len(server.asked) == 1 + 3 + 1
    fetch(server, tmp_path / "again.gpkg", wide)
    assert len(server.asked) == 5
    fetch(server, tmp_path / "anew.gpkg", wide, refresh=True)
    assert len(server.asked) == 7


def test_the_date_is_that_of_the_oldest_answer(serve: Serve, tmp_path: Path) -> None:
    """In whatever order they come, and also where one was in the cache."""
    dates = iter(["2026-11-20T10:00:00Z", "2026-11-18T10:00:00Z", None])

    def reply(path: str, body: bytes) -> Any:
        date = next(dates)
        return answer(HOUSE, ROAD, osm3s={"timestamp_osm_base": date} if date else "unknown")

    server = serve(reply)
    fetch(server, tmp_path / "osm.gpkg", (13.4, 52.5, 13.6, 52.53))
    assert len(server.asked) == 3
    for layer in ("areas", "lines"):
        metadata = pyogrio.read_info(tmp_path / "osm.gpkg", layer=layer)["layer_metadata"]
        assert metadata["DATE"] == "2026-11-18T10:00:00Z"


def test_a_file_of_which_nobody_knows_the_date_does_not_say_one(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda path, body: answer(HOUSE, osm3s=None))
    fetch(server, tmp_path / "osm.gpkg")
    metadata = pyogrio.read_info(tmp_path / "osm.gpkg", layer="areas")["layer_metadata"]
    assert "DATE" not in metadata and metadata["SOURCE"] == server.url + "/api/interpreter"


def test_a_key_goes_to_the_server_and_nowhere_else(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda path, body: answer(HOUSE))
    url = server.url + "/api/interpreter?key=secret"
    fetch_osm(BOX, tmp_path / "osm.gpkg", url=url)
    assert server.asked[0][0].endswith("?key=secret")
    assert b"secret" not in (tmp_path / "osm.gpkg").read_bytes()
    server.answer = lambda path, body: (403, {}, b"")
    with pytest.raises(DataError, match="403") as caught:
        fetch_osm(BOX, tmp_path / "osm.gpkg", url=url, refresh=True)
    assert "secret" not in str(caught.value)


def test_a_limit_of_the_server_is_kept(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("sat2map.fetch.http.time.sleep", slept.append)
    replies = iter([(429, {"Retry-After": "9"}, page("rate_limited")), answer(HOUSE)])
    server = serve(lambda path, body: next(replies))
    client = Client()
    fetch_osm(BOX, tmp_path / "osm.gpkg", url=server.url, client=client)
    assert slept == [9]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((400, {}, page("line 1: parse error: ';' expected")), r"400 \(line 1: parse error"),
        ((404, {}, b"nothing here"), "404 Not Found"),
        ((200, {}, b"<html>Welcome</html>"), "does not answer as an Overpass API server"),
        ((200, {}, page("The server is probably too busy")), r"\(The server is probably too busy"),
        (answer(remark="runtime error: open64: 2 No such file"), "open64"),
        (answer(), "nothing there"),
        (answer({"type": "node", "id": 1, "lat": 0, "lon": 0}), "nothing there"),
    ],
    ids=["400", "404", "page", "busy page", "remark", "empty", "nodes only"],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    serve: Serve, tmp_path: Path, reply: Any, words: str
) -> None:
    server = serve(lambda path, body: reply)
    with pytest.raises(DataError, match=words):
        fetch(server, tmp_path / "osm.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_boxes_across_the_antimeridian_are_asked_for_in_two(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda path, body: answer(HOUSE))
    fetch(server, tmp_path / "osm.gpkg", (179.98, -17.0, -179.98, -16.97))
    assert sorted(box_of(body)[1] for _, _, body in server.asked) == [-180, 179.98]


@pytest.mark.parametrize("bbox", [(5, 45, 10, 50), (170, -20, -170, -10)])
def test_a_country_is_refused_before_anybody_is_asked(tmp_path: Path, bbox: Any) -> None:
    with pytest.raises(UsageError, match=r"`bbox`: a box of .* is too large.*extract"):
        fetch_osm(bbox, tmp_path / "osm.gpkg", url="http://127.0.0.1:9")


def test_a_folder_in_place_of_the_file_is_told_before_the_first_question(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "osm.gpkg").mkdir()
    server = serve(lambda path, body: pytest.fail("it was asked"))
    with pytest.raises(OutputError, match=r"osm\.gpkg: is a folder, and a file is to be written"):
        fetch(server, tmp_path / "osm.gpkg")
    assert [path.name for path in tmp_path.iterdir()] == ["osm.gpkg"]


def test_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"osm\.shp: is not a GeoPackage"):
        fetch_osm(BOX, tmp_path / "osm.shp")


def test_a_place_that_is_not_writable_is_one_line(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = serve(lambda path, body: answer(HOUSE))
    with pytest.raises(OutputError, match=r"osm\.gpkg: cannot be written"):
        fetch(server, tmp_path / "file" / "osm.gpkg")
