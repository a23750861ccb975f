from __future__ import annotations

from pathlib import Path

import pytest

from sat2map.atomic import atomic_file, atomic_folder, sweep, write_text
from sat2map.errors import OutputError


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    with atomic_file(path) as aside:
        assert aside.parent == path.parent  # a rename within one file system
        assert aside.suffix == ".png"
        assert aside.name.startswith(".")
        aside.write_text("half")
        assert not path.exists()
        aside.write_text("whole")
    assert contents(tmp_path) == {"new/a.png": "whole"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_stays_as_it_was_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(error), atomic_file(tmp_path / "a") as aside:
        aside.write_text("half")
        raise error
    assert contents(tmp_path) == {"a": "old"}
    with pytest.raises(error), atomic_file(tmp_path / "b") as aside:
        raise error
    assert contents(tmp_path) == {"a": "old"}


@pytest.mark.parametrize("call", ["os.fsync", "Path.replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(f"sat2map.atomic.{call}", no_space)
    with pytest.raises(OutputError, match=r"a: cannot be written \(No space left on device\)"):
        write_text(tmp_path / "a", "new")
    assert contents(tmp_path) == {"a": "old"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match="file/a: cannot be written"):
        write_text(tmp_path / "file" / "a", "new")
    with (
        pytest.raises(OutputError, match="file/a: cannot be written"),
        atomic_folder(tmp_path / "file" / "a"),
    ):
        pytest.fail("there is nothing to write to")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: is a folder, and a file is to be written"):
        write_text(tmp_path / "folder", "new")
    assert contents(tmp_path) == {"file": "old"}


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    for writer in (atomic_file, atomic_folder):
        with (
            pytest.raises(OutputError, match=r"a: .*Permission denied.*you may write to"),
            writer(tmp_path / "a"),
        ):
            pytest.fail("there is nothing to write to")
    assert contents(tmp_path) == {}


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "Straße")
    assert (tmp_path / "a").read_bytes() == b"Stra\xc3\x9fe"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    with atomic_folder(path) as aside:
        (aside / "1").write_text("one")
        (aside / "sub").mkdir()
        (aside / "sub" / "2").write_text("two")
        assert not path.exists()
    assert contents(tmp_path) == {"new/a/1": "one", "new/a/sub/2": "two"}


def test_a_folder_that_exists_gives_way_only_if_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    with atomic_folder(path) as aside:  # an empty one is no loss
        (aside / "1").write_text("one")
    with pytest.raises(OutputError, match="a: exists already"), atomic_folder(path):
        pytest.fail("it is refused before anything is written")
    (path / "notes").mkdir()
    (path / "notes" / "mine.txt").write_text("mine")
    with atomic_folder(path, replace=True) as aside:
        (aside / "1").write_text("two")
    assert contents(tmp_path) == {"a/1": "two", "a/notes/mine.txt": "mine"}


def test_a_link_is_not_taken_for_the_folder_that_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "elsewhere" / "1", "old")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(OutputError, match="a: is a link"),
        atomic_folder(tmp_path / "a", replace=True),
    ):
        pytest.fail("it is refused before anything is written")
    assert (tmp_path / "a").is_symlink()
    assert contents(tmp_path / "elsewhere") == {"1": "old"}


def test_what_a_kill_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    mark = "sat2map-0123456789abcdef"
    write_text(tmp_path / "a" / "1", "new")
    for left in (f".b.{mark}.png", f".c.{mark}/1", f".a.{mark}.old/1", f".a.{mark}.old/mine"):
        write_text(tmp_path / left, "left")
    write_text(tmp_path / f".d.{mark}.old" / "1", "killed between two renames")
    kept = {".env": "", ".git/HEAD": "", ".b.0123abcd.png": "", ".sat2map-x": "", f"b.{mark}": ""}
    for name in kept:
        write_text(tmp_path / name, "")
    sweep(tmp_path)
    mended = {"a/1": "new", "a/mine": "left", "d/1": "killed between two renames"}
    assert contents(tmp_path) == kept | mended


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_never_replaces_a_file(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "a").write_text("old")
    with (
        pytest.raises(OutputError, match="a: exists already"),
        atomic_folder(tmp_path / "a", replace=replace),
    ):
        pytest.fail("it is refused before anything is written")
    assert contents(tmp_path) == {"a": "old"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_stays_as_it_was_on_failure(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a" / "1", "old")
    with pytest.raises(error), atomic_folder(tmp_path / "a", replace=True) as aside:
        (aside / "1").write_text("new")
        raise error
    assert contents(tmp_path) == {"a/1": "old"}


@pytest.mark.parametrize("call", ["fsync", "first rename", "second rename"])
def test_a_full_disk_leaves_the_old_folder(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a" / "1", "old")
    rename, renames = Path.rename, 0

    def fails(path: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == (1 if call == "first rename" else 2):
            no_space()
        return rename(path, target)

    if call == "fsync":
        monkeypatch.setattr("sat2map.atomic.os.fsync", no_space)
    else:
        monkeypatch.setattr(Path, "rename", fails)
    with (
        pytest.raises(OutputError, match="No space left on device"),
        atomic_folder(tmp_path / "a", replace=True) as aside,
    ):
        (aside / "1").write_text("new")
    assert contents(tmp_path) == {"a/1": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
