from __future__ import annotations

import io
import sys

import pytest

from sat2map import progress as module
from sat2map.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal, within the test itself, since pytest changes it before."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_plain_lines_come_now_and_then_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("training") as progress:
        for done in range(0, 101, 10):
            progress.show(done, 100)
            clock.now += 5
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 0/100",
        "training: 30/100, 2/s, 0 min 35 s left",
        "training: 60/100, 2/s, 0 min 20 s left",
        "training: 90/100, 2/s, 0 min 5 s left",
        "training: 100/100, 2/s",
    ]


def test_the_rate_of_resumed_work_counts_what_was_done_now(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress("training")
    progress.show(5000, 5600)
    clock.now += 20
    progress.show(5100, 5600)
    assert capsys.readouterr().err.splitlines()[1] == "training: 5100/5600, 5/s, 1 min 40 s left"


def test_no_minute_has_sixty_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("training")
    progress.show(0, 1000)
    clock.now += 1000
    progress.show(893, 1000)  # 119.8 s are left
    assert capsys.readouterr().err.splitlines()[1].endswith(", 2 min 0 s left")


def test_notes_and_lines_of_their_own(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("reading") as progress:
        progress.note("l1 0.25")
        progress.show(3, None)
        progress.say("saved [/tmp]")
    output = capsys.readouterr()
    assert output.err.splitlines() == ["reading: 3 l1 0.25", "saved [/tmp]"]
    assert output.out == ""


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_quiet_says_nothing(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("training", quiet=True) as progress:
        progress.show(1, 1)
        progress.note("note")
        progress.say("line")
    assert stream.getvalue() == capsys.readouterr().out == ""


def test_a_terminal_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress("training") as progress:
        progress.show(0, 4)
        progress.note("l1 0.25 [/x] [red]")
        progress.say("saved [/tmp]")
        progress.show(3, 4)
    shown = terminal.getvalue()
    for text in ("training", "3/4", "l1 0.25 [/x] [red]", "saved [/tmp]"):
        assert text in shown
    assert capsys.readouterr().out == ""


def test_the_bar_goes_away_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), Progress("training") as progress:
        progress.show(1, 4)
        raise KeyboardInterrupt
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_pixels_are_megapixels(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress("translating", unit="pixels")
    progress.show(1_000_000, 40_000_000)
    clock.now += 20
    progress.show(9_000_000, 40_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "translating: 1.0/40.0 Mpx",
        "translating: 9.0/40.0 Mpx, 0.4 Mpx/s, 1 min 18 s left",
    ]
    terminal = on_terminal(monkeypatch)
    with Progress("translating", unit="pixels") as bar:
        bar.show(9_000_000, 40_000_000)
    assert "9.0/40.0 Mpx" in terminal.getvalue()


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        ("", "making: 100/20000, 5/s, 1 h 6 min left"),
        ("pairs", "making: 100/20000 pairs, 5 pairs/s, 1 h 6 min left"),
        ("bytes", "making: 0.0/0.0 MB, 5e-06 MB/s, 1 h 6 min left"),
        ("%", "making: 0%, 1 h 6 min left"),
    ],
)
def test_what_is_counted_is_named(
    unit: str, line: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress("making", unit=unit)
    progress.show(0, 20_000)
    clock.now += 20
    progress.show(100, 20_000)
    assert capsys.readouterr().err.splitlines()[1] == line


def test_a_share_is_shown_on_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress("making", unit="%") as bar:
        bar.show(500, 2000)
    assert "25%" in terminal.getvalue()
    assert "2000" not in terminal.getvalue()
