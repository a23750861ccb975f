from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sat2map.data.pairs import find_pairs, read_dataset_card, read_pair
from sat2map.errors import DataError, OutputError, UsageError
from sat2map.fetch import published as module
from sat2map.fetch.http import RetryPolicy
from sat2map.fetch.published import DATA_SETS, download
from sat2map.legend import STREETS

PART = "set/.sat2map/maps.tar.gz.part"
PutForeign = Callable[..., Callable[..., None]]


class Server(ThreadingHTTPServer):
    """Serves one file, with the whims that a test asks for."""

    daemon_threads = True
    content = b""
    tag: str | None = '"one"'
    ranges = True
    status: int | None = None
    wait: str | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.drops: list[int] = []  # after how many bytes the next answers break off
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/sets/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({"path": self.path, **dict(self.headers.items())})
        if server.status is not None:
            self.send_response(server.status)
            if server.wait is not None:
                self.send_header("Retry-After", server.wait)
            self.end_headers()
            return
        start = 0
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") in {None, server.tag}
        if wanted is not None and server.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            size = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        if server.tag is not None:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body[: server.drops.pop(0)] if server.drops else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def image(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def archive(name: str = "maps", *, seed: int = 0, more: dict[str, bytes] | None = None) -> bytes:
    members = {
        f"{name}/train/1.png": image(seed),
        f"{name}/train/2.png": image(seed + 1),
        f"{name}/val/1.png": image(seed + 2),
        **(more or {}),
    }
    return pack([(tarfile.TarInfo(path), content) for path, content in members.items()])


def pack(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def fetch(server: Server, directory: Path, name: str = "maps") -> None:
    download(name, directory, base_url=server.url, retries=RetryPolicy.of(3, 0))


def leftovers(directory: Path) -> set[str]:
    """Return what a folder holds but its journal."""
    return {path.name for path in directory.iterdir() if path.name != ".sat2map"}


def test_a_download_becomes_a_data_set(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    seen: list[tuple[int, int | None]] = []
    folder = tmp_path / "new" / "maps"
    download(
        "maps", folder, base_url=server.url, progress=lambda done, total: seen.append((done, total))
    )

    assert [pair.stem for pair in find_pairs(folder, "train")] == ["1", "2"]
    source, target = read_pair(find_pairs(folder, "val")[0])
    assert source.shape == target.shape == (32, 32, 3)
    card = read_dataset_card(folder)
    assert (card.resolution_m, card.legend) == (0.9, STREETS)
    assert card.licence is not None and "Google" in card.licence
    record = json.loads((folder / "download.json").read_text())
    assert record["url"] == server.url + "maps.tar.gz"
    assert record["bytes"] == len(server.content)
    assert record["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert record["pictures"] == {"train": 2, "val": 1}
    assert seen[0] == (0, len(server.content)) and seen[-1] == (len(server.content),) * 2
    assert leftovers(tmp_path / "new") == {"maps"}


def test_what_is_there_is_not_fetched_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.content = archive("facades")
    fetch(server, tmp_path / "set", "facades")
    with caplog.at_level("INFO"):
        fetch(server, tmp_path / "set", "facades")
    assert len(server.requests) == 1
    assert "already there" in caplog.text


def test_a_lost_connection_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    server.drops = [1000, 2000, 500, 500]  # more than there are pauses, but each brings more
    fetch(server, tmp_path / "set")
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=1000-",
        "bytes=3000-",
        "bytes=3500-",
        "bytes=4000-",
    ]
    assert server.requests[1]["If-Range"] == '"one"'
    record = json.loads((tmp_path / "set" / "download.json").read_text())
    assert record["sha256"] == hashlib.sha256(server.content).hexdigest()


def test_a_second_call_goes_on_with_the_partial_file(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    server.drops = [1000, 0, 0]
    with pytest.raises(
        DataError, match=r"maps\.tar\.gz: no whole answer after 3 tries.*Run the command again"
    ):
        fetch(server, tmp_path / "set")
    assert (tmp_path / PART).read_bytes() == server.content[:1000]
    assert leftovers(tmp_path / "set") == set()

    server.requests.clear()
    fetch(server, tmp_path / "set")
    assert [request["Range"] for request in server.requests] == ["bytes=1000-"]
    assert leftovers(tmp_path) == {"set"}


@pytest.mark.parametrize("whim", ["no ranges", "no validator", "weak validator"])
def test_a_server_that_cannot_go_on_is_asked_for_all(
    server: Server, tmp_path: Path, whim: str
) -> None:
    server.content = archive()
    server.ranges = whim != "no ranges"
    server.tag = {"no ranges": '"one"', "no validator": None, "weak validator": 'W/"one"'}[whim]
    server.drops = [1000]
    fetch(server, tmp_path / "set")
    assert len(server.requests) == 2
    # Where nothing tells whether the file is the same, no range is asked for at all.
    assert ("Range" in server.requests[1]) == (whim == "no ranges")
    assert len(find_pairs(tmp_path / "set", "train")) == 2


@pytest.mark.parametrize("more", [{}, {"maps/test/1.png": image(9)}])
def test_a_file_that_changed_on_the_server_starts_afresh(
    server: Server, tmp_path: Path, more: dict[str, bytes]
) -> None:
    server.content = archive()
    server.drops = [1000, 0, 0]
    with pytest.raises(DataError):
        fetch(server, tmp_path / "set")
    server.content, server.tag = archive(seed=7, more=more), '"two"'
    fetch(server, tmp_path / "set")
    expected = np.asarray(Image.open(io.BytesIO(image(7))))
    source, target = read_pair(find_pairs(tmp_path / "set", "train")[0])
    assert np.array_equal(np.hstack([source, target]), expected)


def test_a_part_longer_than_the_file_starts_afresh(server: Server, tmp_path: Path) -> None:
    server.content = archive(more={"maps/test/1.png": image(9)})
    server.drops = [len(server.content) - 10, 0, 0]
    with pytest.raises(DataError):
        fetch(server, tmp_path / "set")
    server.content = archive()  # shorter, though the server claims that it is the same
    fetch(server, tmp_path / "set")
    assert len(find_pairs(tmp_path / "set", "train")) == 2


@pytest.mark.parametrize("status", [404, 500])
def test_an_answer_that_is_no_file_names_the_address(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.status = status
    with pytest.raises(DataError, match=rf"{server.url}maps\.tar\.gz: .*{status}.*mirror"):
        fetch(server, tmp_path / "set")
    assert leftovers(tmp_path) == set()


def test_a_busy_server_is_asked_again_as_it_wishes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        server.status = None

    monkeypatch.setattr("sat2map.fetch.http.time.sleep", sleep)
    server.content, server.status, server.wait = archive(), 503, "7"
    fetch(server, tmp_path / "set")
    assert slept == [7]
    assert len(find_pairs(tmp_path / "set", "train")) == 2


def test_no_network_fails_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits for nothing"))
    address = server.url
    server.server_close()
    with pytest.raises(DataError, match=r"connection failed.*Check the network"):
        download("maps", tmp_path / "set", base_url=address)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


@pytest.mark.parametrize(
    "evil",
    [
        member("../evil.png"),
        member("maps/train/../../../evil.png"),
        member("/evil.png"),
        member("maps\\..\\..\\evil.png"),
        member("C:/evil.png"),
        member("maps/train/evil.png", tarfile.SYMTYPE, "/etc/passwd"),
        member("maps/train/evil.png", tarfile.LNKTYPE, "../../outside.png"),
        member("maps/train", tarfile.SYMTYPE, ".."),
        member("maps/train/evil.png", tarfile.FIFOTYPE),
        member("other/train/evil.png"),
    ],
    ids=lambda info: f"{info.name} {info.type.decode()}",
)
def test_a_member_that_leads_out_is_refused_by_name(
    server: Server, tmp_path: Path, evil: tarfile.TarInfo
) -> None:
    good = [(tarfile.TarInfo(f"maps/train/{i}.png"), image(i)) for i in (1, 2)]
    server.content = pack([good[0], (evil, b""), good[1]])
    inside = tmp_path / "a" / "b"
    with pytest.raises(DataError) as raised:
        fetch(server, inside / "set")
    assert repr(evil.name) in str(raised.value)
    assert not (inside / "set").exists()
    assert not list(tmp_path.rglob("*evil*"))
    assert leftovers(inside) == set()


def test_only_the_splits_are_unpacked(server: Server, tmp_path: Path) -> None:
    server.content = archive(
        more={
            "maps/run.sh": b"echo",
            "maps/train/._1.png": b"a note",
            "maps/download.json": b"{",
        }
    )
    fetch(server, tmp_path / "set")
    assert leftovers(tmp_path / "set") == {"train", "val", "dataset.json", "download.json"}
    assert leftovers(tmp_path / "set" / "train") == {"1.png", "2.png"}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no archive", "other content"])
def test_a_broken_archive_is_not_kept(server: Server, tmp_path: Path, damage: str) -> None:
    whole = archive()
    server.content = {
        "truncated": whole[: len(whole) // 2],
        "flipped": whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],  # in gzip's own checksum
        "no archive": b"<html>We have moved</html>",
        "other content": pack([(tarfile.TarInfo("maps/readme.txt"), b"nothing here")]),
    }[damage]
    with pytest.raises(DataError, match=r"maps\.tar\.gz: the archive (is broken|has no images)"):
        fetch(server, tmp_path / "set")
    assert leftovers(tmp_path) == set()
    server.content = whole
    fetch(server, tmp_path / "set")
    assert len(find_pairs(tmp_path / "set", "train")) == 2


def test_a_known_checksum_is_verified(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = archive()
    right = hashlib.sha256(server.content).hexdigest()
    wrong = right[::-1]
    monkeypatch.setitem(module.DATA_SETS, "maps", replace(DATA_SETS["maps"], sha256=wrong))
    with pytest.raises(DataError, match=f"{right}, not the expected {wrong}"):
        fetch(server, tmp_path / "set")
    assert leftovers(tmp_path) == set()
    monkeypatch.setitem(module.DATA_SETS, "maps", replace(DATA_SETS["maps"], sha256=right))
    fetch(server, tmp_path / "set")
    assert leftovers(tmp_path) == {"set"}


def test_a_download_again_is_held_to_the_recorded_checksum(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    fetch(server, tmp_path / "set")
    (tmp_path / "set" / "train" / "2.png").unlink()

    first, server.content = server.content, archive(seed=5)
    with pytest.raises(DataError, match="SHA-256"):
        fetch(server, tmp_path / "set")
    assert leftovers(tmp_path / "set" / "train") == {"1.png"}

    server.content = first
    fetch(server, tmp_path / "set")
    assert leftovers(tmp_path / "set" / "train") == {"1.png", "2.png"}


def test_a_full_disk_keeps_what_has_come(server: Server, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    server.content = archive()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OutputError, match=r"maps\.tar\.gz\.part.*Free some space"):
            fetch(server, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / PART).read_bytes() == server.content[:2000]

    fetch(server, tmp_path / "set")
    assert server.requests[-1]["Range"] == "bytes=2000-"
    assert len(find_pairs(tmp_path / "set", "train")) == 2


def test_a_disk_that_fills_while_unpacking_keeps_the_archive(
    server: Server, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    server.content = archive(more={"maps/train/3.png": bytes(200_000)})  # packs to almost nothing
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match="set: cannot be written"):
            fetch(server, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / PART).read_bytes() == server.content
    fetch(server, tmp_path / "set")
    assert len(server.requests) == 1
    assert leftovers(tmp_path) == {"set"}


def test_a_folder_that_others_filled_is_left_as_it_is(
    server: Server, tmp_path: Path, put_foreign: PutForeign
) -> None:
    server.content = archive()
    check = put_foreign(tmp_path / "set", "train/1.png")
    with pytest.raises(OutputError, match="set: is not empty and was not written by"):
        fetch(server, tmp_path / "set")
    check(alone=True)
    assert server.requests == []


def test_files_of_others_in_a_data_set_are_kept(
    server: Server, tmp_path: Path, put_foreign: PutForeign
) -> None:
    server.content = archive()
    folder = tmp_path / "set"
    folder.mkdir()  # an empty folder is welcome
    fetch(server, folder)
    check = put_foreign(folder, "train/mine.png", "train/notes.txt")
    (tmp_path / "maps.tar.gz.part").write_text("of another program")
    (folder / "train" / "1.png").unlink()
    fetch(server, folder)
    assert (folder / "train" / "1.png").is_file()
    assert len(server.requests) == 2
    with pytest.raises(OutputError, match="holds the data set maps"):
        fetch(server, folder, "facades")
    check()
    assert (tmp_path / "maps.tar.gz.part").read_text() == "of another program"


def test_a_file_that_others_put_in_place_of_one_of_ours_is_not_replaced(
    server: Server, tmp_path: Path
) -> None:
    server.content = archive()
    fetch(server, tmp_path / "set")
    journal = tmp_path / "set" / ".sat2map" / "done.jsonl"
    journal.write_text("")  # as a kill right before the end leaves it
    (tmp_path / "set" / "download.json").unlink()
    (tmp_path / "set" / "dataset.json").unlink()
    (tmp_path / "set" / "train" / "1.png").write_text("mine")
    with pytest.raises(OutputError, match=r"train/1\.png: is there already and was not written by"):
        fetch(server, tmp_path / "set")
    assert (tmp_path / "set" / "train" / "1.png").read_text() == "mine"
    (tmp_path / "set" / "train" / "1.png").unlink()
    fetch(server, tmp_path / "set")
    assert len(server.requests) == 2  # the archive was kept


def test_two_at_once_are_not_let_in(server: Server, tmp_path: Path) -> None:
    server.content, refused = archive(), []

    def another(done: int, total: int | None) -> None:
        with pytest.raises(UsageError, match="set: is being written by another process"):
            fetch(server, tmp_path / "set")
        refused.append(done)

    download("maps", tmp_path / "set", base_url=server.url, progress=another)
    assert refused
    assert len(server.requests) == 1


def test_what_an_older_version_downloaded_is_known(server: Server, tmp_path: Path) -> None:
    server.content = archive()
    fetch(server, tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / ".sat2map")
    fetch(server, tmp_path / "set")
    assert len(server.requests) == 1
    (tmp_path / "set" / "train" / "1.png").unlink()
    part = tmp_path / "maps.tar.gz.part"  # where that version kept what had come
    part.write_bytes(server.content[:1000])
    state = {"url": f"{server.url}maps.tar.gz", "validator": '"one"', "total": len(server.content)}
    part.with_name("maps.tar.gz.part.json").write_text(json.dumps(state))
    fetch(server, tmp_path / "set")
    assert server.requests[-1]["Range"] == "bytes=1000-"
    assert leftovers(tmp_path) == {"set"}
    assert leftovers(tmp_path / "set" / "train") == {"1.png", "2.png"}


def test_a_wrong_call_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"maps \(.*facades.*cityscapes.*night2day.*edges2shoes"):
        download("mapz", tmp_path / "set")
    with pytest.raises(UsageError, match="http"):
        download("maps", tmp_path / "set", base_url="file:///etc")


def test_the_official_addresses() -> None:
    names = {"maps", "facades", "cityscapes", "night2day", "edges2shoes", "edges2handbags"}
    assert set(DATA_SETS) == names
    for name, known in DATA_SETS.items():
        assert known.url == f"http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/{name}.tar.gz"


def test_an_archive_that_would_fill_the_disk_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALWAYS_UNPACKED", 1 << 20)
    server.content = archive(more={"maps/train/3.png": bytes(20 << 20)})
    assert len(server.content) < 100_000
    with pytest.raises(DataError, match=r"holds more than .* bytes, which no such data set does"):
        fetch(server, tmp_path / "maps")
    assert not list((tmp_path / "maps").rglob("*.png"))
    monkeypatch.setattr(module, "MOST_FILES", 2)
    server.content = archive()
    with pytest.raises(DataError, match="holds more than 2 files"):
        fetch(server, tmp_path / "maps")


def test_what_an_address_hides_is_neither_told_nor_written_down(
    server: Server, tmp_path: Path
) -> None:
    """A password before the host, and a signature, which a renewed one may take the place of."""
    server.content = archive()
    address = server.url.replace("//", "//user:secret@", 1) + "?signature=hidden"
    server.drops = [len(server.content) // 2]
    server.status = 403
    with pytest.raises(DataError) as caught:
        download("maps", tmp_path / "maps", base_url=address, retries=RetryPolicy.of(0, 0))
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    server.status = None
    renewed = address.replace("hidden", "renewed")
    download("maps", tmp_path / "maps", base_url=renewed, retries=RetryPolicy.of(3, 0))
    assert server.requests[-1]["path"] == "/sets/maps.tar.gz?signature=renewed"
    for path in (tmp_path / "maps").rglob("*"):
        if path.is_file() and path.suffix != ".png":
            assert b"secret" not in path.read_bytes(), path
            assert b"renewed" not in path.read_bytes(), path
