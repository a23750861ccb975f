"""Folders are claimed, known again by what they are made of, and keep what is not ours."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sat2map import journal
from sat2map.errors import OutputError, UsageError
from sat2map.journal import (
    Files,
    address_without_query,
    as_json,
    claim,
    differing,
    remove_own,
    without_secrets,
)
from sat2map.provenance import Digests

PutForeign = Callable[..., Callable[..., None]]


def write(folder: Path, **contents: str) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return tuple(folder / name for name in contents)


def test_files_are_the_same_as_long_as_names_and_contents_are(tmp_path: Path) -> None:
    paths = write(tmp_path / "a", one="1", two="22")
    before = as_json({"data": Files(paths, tmp_path / "a")})
    moved = write(tmp_path / "b", one="1", two="22")
    assert differing(before, {"data": Files(moved, tmp_path / "b")}) == []
    for other in (
        write(tmp_path / "c", one="1", two="23"),
        write(tmp_path / "d", one="12", two="2"),
        write(tmp_path / "e", one="1", three="22"),
        write(tmp_path / "f", one="1"),
        (*moved, tmp_path / "b" / "missing"),
    ):
        assert differing(before, {"data": Files(other, other[0].parent)}) == ["data"]


def test_contents_are_read_only_where_a_time_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write(tmp_path, photo="12")
    before = as_json({"input": Files((path,))})
    read: list[Path] = []
    digest = Digests.of
    monkeypatch.setattr(Digests, "of", lambda self, path: read.append(path) or digest(self, path))
    assert differing(before, {"input": Files((path,))}) == []
    assert read == []
    os.utime(path, ns=(0, 0))
    assert differing(before, {"input": Files((path,))}) == []
    assert read == [path]


def test_of_more_than_the_limit_size_and_time_count(tmp_path: Path) -> None:
    (path,) = write(tmp_path, photo="12")
    before = as_json({"input": Files((path,), limit=1)})
    assert before["input"]["contents"] is None
    assert differing(before, {"input": Files((path,), limit=1)}) == []
    os.utime(path, ns=(0, 0))
    assert differing(before, {"input": Files((path,), limit=1)}) == ["input"]


def test_what_is_no_file_is_compared_as_json() -> None:
    before = as_json({"size": 3, "place": (1, 2.5), "gone": 1})
    assert differing(before, {"size": 3, "place": [1, 2.5], "gone": 1}) == []
    assert differing(before, {"size": 4, "place": (1, 2.5), "new": 1}) == ["size", "new", "gone"]


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("https://host/a.tif?X-Amz-Signature=1", "https://host/a.tif"),
        ("/vsicurl/https://host/a.tif?sig=1&se=2", "/vsicurl/https://host/a.tif"),
        (
            "/vsicurl?retry=3&url=https%3A%2F%2Fhost%2Fa.tif%3Fsig%3D1",
            "/vsicurl/https://host/a.tif",
        ),
        ("vrt://photo.tif?bands=3,2,1", "vrt://photo.tif?bands=3,2,1"),
        ("https://host/a.tif", "https://host/a.tif"),
        ("https://host/{z}/{x}/{y}.png?key=1", "https://host/{z}/{x}/{y}.png"),
    ],
)
def test_an_address_is_known_without_its_query(address: str, known: str) -> None:
    assert address_without_query(address) == known


def test_a_claimed_folder_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "set"
    with claim(folder, "maker", {"size": 3}) as book:
        assert book.is_new
        book.start()
        book.begin("1.png", "2.png", "3.png")
        write(folder, **{"1.png": "one", "2.png": "half"})
        book.finish("1.png", facts={"mapped": 0.5})
    with (folder / ".sat2map" / "done.jsonl").open("a") as file:
        file.write('["2.png", tr')  # killed while it wrote
    with claim(folder, "maker", {"size": 3}) as book:
        assert not book.is_new
        assert book.changed == []
        book.start()
        assert book.finished() == {"1.png": {"mapped": 0.5}}
        book.begin("2.png")  # it is ours, if only half
        book.finish("2.png")
        book.remove(["2.png", "other.png"])
        (folder / "2.png").write_text("mine")
    with claim(folder, "maker", {"size": 4}) as book:
        assert book.changed == ["size"]
        book.start(keep=False)
        assert book.finished() == {}
        assert book.names() == ["1.png"]
    assert sorted(path.name for path in folder.iterdir()) == [".sat2map", "1.png", "2.png"]


def test_what_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, put_foreign: PutForeign
) -> None:
    check = put_foreign(tmp_path / "mine")
    with (
        pytest.raises(OutputError, match="mine: is not empty and was not written by maker"),
        claim(tmp_path / "mine", "maker", {}),
    ):
        pytest.fail("it is refused before any work")
    check(alone=True)
    with claim(tmp_path / "ours", "another", {}) as book:
        book.start()
    with (
        pytest.raises(OutputError, match="ours: was written by another, not by maker"),
        claim(tmp_path / "ours", "maker", {}),
    ):
        pytest.fail("it is refused before any work")
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(OutputError, match="file: is a file"),
        claim(tmp_path / "file", "maker", {}),
    ):
        pytest.fail("it is refused before any work")


def test_a_journal_that_is_a_link_is_refused(tmp_path: Path) -> None:
    with claim(tmp_path / "other", "maker", {}) as book:
        book.start()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".sat2map").symlink_to(tmp_path / "other" / ".sat2map")
    with (
        pytest.raises(OutputError, match=r"\.sat2map: is a link"),
        claim(tmp_path / "mine", "maker", {}),
    ):
        pytest.fail("it is refused before any work")


def test_where_nothing_was_started_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError), claim(tmp_path / "new", "maker", {}):
        raise ValueError
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    with claim(tmp_path / "empty", "maker", {}):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", ".DS_Store"]


def test_a_file_of_somebody_else_under_our_name_is_refused(tmp_path: Path) -> None:
    with claim(tmp_path, "maker", {}) as book:
        book.start()
        (tmp_path / "1.png").write_text("mine")
        (tmp_path / "2.png").symlink_to(tmp_path / "nowhere")
        for name in ("1.png", "2.png"):
            with pytest.raises(OutputError, match=f"{name}: is there already and was not written"):
                book.begin("0.png", name)
        assert book.names() == []


def test_two_at_once_are_not_let_in(tmp_path: Path) -> None:
    with claim(tmp_path / "set", "maker", {}) as book:
        book.start()
        with (
            pytest.raises(UsageError, match="set: is being written by another process"),
            claim(tmp_path / "set", "maker", {}),
        ):
            pytest.fail("it is refused before any work")
    with claim(tmp_path / "set", "maker", {}) as book:
        assert not book.is_new


def test_only_names_that_are_ours_are_removed(tmp_path: Path, put_foreign: PutForeign) -> None:
    with claim(tmp_path, "maker", {}) as book:
        book.start()
    check = put_foreign(tmp_path, "strips/photo.tif")
    (tmp_path / "strips" / "1.tif").write_text("ours")
    (tmp_path / "tiles" / "1").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    own = re.compile(r"strips(/\d+\.tif)?|tiles(/\d+)?")
    assert not remove_own(tmp_path, own)
    check()
    left = {path.name for path in tmp_path.rglob("*")}
    assert "empty" in left
    assert not left & {"1.tif", "tiles"}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://user:pass@host/a.tif?key=1", "https://host/a.tif"),
        ("HTTPS://host/a.tif?key=1", "HTTPS://host/a.tif"),
        ("https://host/a.tif#token=1", "https://host/a.tif"),
        ("/vsicurl/https://user:pass@host/a.tif", "/vsicurl/https://host/a.tif"),
        ("/vsicurl?url=https%3A%2F%2Fu%3Ap%40host%2Fa.tif%3Fs%3D1", "/vsicurl/https://host/a.tif"),
        ("vrt:///vsicurl/https://host/a.tif?sig=1", "vrt:///vsicurl/https://host/a.tif"),
        ("https://host/{z}/{x}/{y}.png?key=1", "https://host/{z}/{x}/{y}.png"),
        ("vrt:///data/a.tif?bands=3,2,1", "vrt:///data/a.tif?bands=3,2,1"),
        ("s3://bucket/a@b.tif", "s3://bucket/a@b.tif"),
    ],
)
def test_addresses_are_told_without_their_secrets(address: str, told: str) -> None:
    assert address_without_query(address) == told


def test_what_others_say_is_told_without_secrets() -> None:
    said = "HTTP 403 of 'https://user:pass@host/a.tif?sig=1' (https://host/b.tif?sig=2)"
    assert without_secrets(said) == "HTTP 403 of 'https://host/a.tif' (https://host/b.tif"


def test_a_journal_that_is_cut_off_at_any_byte_holds_what_was_whole(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with claim(folder, "maker", {}) as book:
        book.start()
        book.note({"a": {"state": "done"}, "b": {"state": "waiting"}})
        book.note({"b": {"state": "dönè"}})
    lines = folder / ".sat2map" / "done.jsonl"
    whole = lines.read_bytes()
    ends = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
    known = [{}, {"a": "done"}, {"a": "done", "b": "waiting"}, {"a": "done", "b": "dönè"}]
    for cut in range(len(whole) + 1):
        lines.write_bytes(whole[:cut])
        rows = journal.read_rows(folder)
        states = {name: facts["state"] for name, facts in rows.facts.items()}
        # A line that lacks nothing but its end is whole, too.
        least = sum(cut >= end for end in ends) - 1
        assert states in known[least : least + 2], cut
        assert rows.is_torn == (cut not in ends)
    lines.write_bytes(whole[:-5])
    with claim(folder, "maker", {}) as book:
        book.note({"c": {"state": "done"}})  # the next line does not hang on the torn one
    assert set(journal.read_rows(folder).facts) == {"a", "b", "c"}


def test_a_line_whose_bytes_have_changed_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with claim(folder, "maker", {}) as book:
        book.start()
        book.note({"a": {"pixels": 1}, "b": {"pixels": 2}})
    lines = folder / ".sat2map" / "done.jsonl"
    lines.write_text(lines.read_text().replace('"pixels": 1', '"pixels": 7'))
    assert journal.read_rows(folder).facts == {"b": {"pixels": 2}}


def test_a_journal_without_checksums_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with claim(folder, "maker", {}) as book:
        book.start()
    place = folder / ".sat2map"
    (place / "journal.json").write_text(
        (place / "journal.json").read_text().replace('"format": 2', '"format": 1')
    )
    (place / "done.jsonl").write_text('["a.png", true]\n["b.png", null]\n["gone"]\n["c.pn')
    with claim(folder, "maker", {}) as book:
        assert book.finished() == {"a.png": True}
        book.start()
        book.finish("c.png")
    with claim(folder, "maker", {}) as book:
        assert book.finished() == {"a.png": True, "c.png": True}


def test_what_is_no_longer_so_is_left_out_while_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "GROWN", 10)
    folder = tmp_path / "set"
    with claim(folder, "maker", {}) as book:
        book.start()
        for tries in range(100):
            book.note({name: {"tries": tries} for name in "ab"})
            assert journal.read_rows(folder).facts == book.finished()
        assert journal.read_rows(folder).lines <= 16
