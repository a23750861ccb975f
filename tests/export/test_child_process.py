from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import apart
from sat2map.errors import DataError, ModelError
from sat2map.export.child_process import call_apart


def test_what_is_called_apart_answers(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    answer = call_apart(
        apart.answer, 21, progress=lambda *counts: seen.append(counts), environment={"APART": "yes"}
    )
    assert answer == (42, "yes")
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert "APART" not in os.environ
    assert capfd.readouterr() == ("", "")


def test_its_error_is_the_callers() -> None:
    with pytest.raises(DataError, match=r"a\.png: is broken\. Restore it\.") as caught:
        call_apart(apart.refuse)
    assert "in refuse" in caught.value.__notes__[0]  # where it was raised


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_was_killed_is_one_line() -> None:
    with pytest.raises(ModelError, match="was killed, probably for want of memory"):
        call_apart(apart.die)


def test_an_interrupt_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(KeyboardInterrupt):
        call_apart(apart.answer, 1, progress=interrupt)
    assert [process.poll() is not None for process in started] == [True]


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """With `multiprocessing` it would run once more, from the top."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from fixtures import apart\n"
        "from sat2map.export.child_process import call_apart\n"
        "print(call_apart(apart.answer, 1)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "2\n"
