"""The live console on a real terminal."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.view.screen import KEPT_LOG_LINES, LiveConsole, LogStream
from llmcap_addon.view.text import CLEAN_CHARS
from tests.view.scenes import BUSY
from tests.view.test_pick import Terminal

DEADLINE_S = 20.0
"""A loaded machine may take seconds to start Python; nothing waits longer than it must."""
ROOT = Path(__file__).parents[2]


@given(st.lists(st.text("ab\n \x1b", max_size=8)))
def test_log_stream_keeps_whole_lines(pieces: list[str]) -> None:
    """However a line is written, it is kept as one; empty lines are left out."""
    log = LogStream()
    for piece in pieces:
        assert log.write(piece) == len(piece)
    assert list(log.lines()) == [line for line in "".join(pieces).split("\n") if line.strip()]


def test_log_stream_is_bounded() -> None:
    """Neither many lines nor an endless one fill memory."""
    log = LogStream()
    for number in range(1_000):
        print(f"line {number}", file=log)
    assert len(log.lines()) == KEPT_LOG_LINES
    assert log.lines()[-1] == "line 999"
    for _ in range(100):
        log.write("x" * 10_000)
    assert len(log.lines()[-1]) <= CLEAN_CHARS


def test_prints_go_to_the_log_while_the_screen_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """sys.stdout and sys.stderr are lent when they are the terminal, and given back."""
    terminal, pipe = Terminal(), sys.stderr
    monkeypatch.setattr(sys, "stdout", terminal)
    screen = LiveConsole(terminal, {"TERM": "xterm", "COLUMNS": "7"})
    screen.start()
    print("torn?")
    screen.refresh(BUSY)
    drawn = terminal.getvalue()
    screen.stop()
    assert sys.stdout is terminal
    assert sys.stderr is pipe
    assert drawn.startswith("\x1b[?1049h")
    assert drawn.index("torn?") > drawn.index("LLMCap")
    left = terminal.getvalue()[len(drawn) :]
    assert left.index("\x1b[?25h") < left.index("\x1b[?1049l") < left.index("torn?") < left.index("daily")


def test_stopped_screen_draws_nothing() -> None:
    """Late states, a second start and a second stop do no harm."""
    terminal = Terminal()
    screen = LiveConsole(terminal, {"TERM": "xterm"})
    screen.refresh(BUSY)
    screen.stop()
    assert terminal.getvalue() == ""
    screen.start()
    screen.start()
    screen.stop()
    screen.stop()
    end = terminal.getvalue()
    screen.refresh(BUSY)
    assert terminal.getvalue() == end


def test_no_color_has_no_colors() -> None:
    """NO_COLOR leaves bold and reverse, which are no colours."""
    terminal = Terminal()
    screen = LiveConsole(terminal, {"TERM": "xterm-256color", "NO_COLOR": "1"})
    screen.start()
    screen.refresh(BUSY)
    screen.stop()
    assert "\x1b[1;7m" in terminal.getvalue()
    assert not any(f"\x1b[{code}m" in terminal.getvalue() for code in (31, 32, 33, 34, "1;31", "1;32", "1;33"))


def test_hung_up_terminal_is_survived() -> None:
    """A terminal that is gone must not take the proxy with it."""

    class Gone(Terminal):
        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(errno.EIO, "Input/output error")
            return super().write(text)

        gone = False

    terminal = Gone()
    screen = LiveConsole(terminal, {"TERM": "xterm"})
    screen.start()
    terminal.gone = True
    screen.refresh(BUSY)
    screen.stop()


class Tmux:
    """A tmux server with one window that runs `scripted_screen`."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self._socket, self._fifo = folder / "s", folder / "f"
        os.mkfifo(self._fifo)
        program = f"env LC_ALL=C.UTF-8 {sys.executable} -m tests.view.scripted_screen {self._fifo}"
        shell = f"cd {ROOT}; {program}; echo left with $?; exec cat"
        self.run("-u", "-f", "/dev/null", "new-session", "-d", "-x", f"{width}", "-y", f"{height}", shell)
        self._commands = self.until(self._open, lambda opened: opened is not None)

    def _open(self) -> int | None:
        try:
            return os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet
                raise
            return None

    def run(self, *arguments: str) -> str:
        """Give a tmux command's output."""
        command = ["tmux", "-S", f"{self._socket}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_S).stdout

    def tell(self, *commands: str) -> None:
        """Give the program commands."""
        assert self._commands is not None
        os.write(self._commands, "".join(f"{command}\n" for command in commands).encode())

    def screen(self) -> list[str]:
        """What the terminal shows."""
        return self.run("capture-pane", "-p").rstrip("\n").split("\n")

    def flags(self) -> str:
        """Whether the alternate screen is on, and whether the cursor shows."""
        return self.run("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip()

    def resized(self, width: int, height: int) -> list[str]:
        """Resize the window and wait until the program has drawn itself into it; gives the whole screen.

        tmux tells the program a while after it has resized the window, so the program draws again and again, as the
        proxy does.
        """
        self.run("resize-window", "-x", f"{width}", "-y", f"{height}")

        def drawn() -> list[str]:
            self.tell("state 78")
            return self.screen()

        def fills(lines: list[str]) -> bool:
            clocks = lines[0].endswith("12:03:41") and len(lines[0]) == width
            return clocks and len(lines) == height and "78 calls" in lines[1]

        return self.until(drawn, fills)

    def seen(self, text: str) -> list[str]:
        """Wait until the terminal shows a text; gives the whole screen."""
        return self.until(self.screen, lambda lines: any(text in line for line in lines))

    def until[T](self, look: Callable[[], T], good: Callable[[T], bool]) -> T:
        """Look again until it is good."""
        deadline = time.monotonic() + DEADLINE_S
        while not good(value := look()):
            assert time.monotonic() < deadline, value
            time.sleep(0.02)
        return value

    def close(self) -> None:
        """End the server."""
        if self._commands is not None:
            os.close(self._commands)
        self.run("kill-server")


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    """A terminal of 80 columns and 24 rows."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is short
        server = Tmux(Path(folder), 80, 24)
        try:
            yield server
        finally:
            server.close()


def test_log_lines_do_not_tear_the_screen(tmux: Tmux) -> None:
    """Logs and prints between refreshes stand in the log section, everything else where it was; a resize is followed."""
    tmux.tell("state 1")
    tmux.seen("this run  1 call")
    assert tmux.flags() == "1 0"
    for number in range(30):
        tmux.tell(f"log 127.0.0.1:{number}: POST https://api.openai.com/v1/responses?{'x' * 100}", f"print p{number}")
    tmux.tell("state 77")
    lines = tmux.seen("77 calls")
    assert len(lines) == 24
    assert lines[0].startswith("LLMCap  127.0.0.1:8080")
    assert [line.split()[0] for line in lines if line.startswith(("daily", "fuse", "opus"))] == [
        "daily",
        "fuse",
        "opus",
    ]
    assert sum("POST" in line for line in lines) == 1
    assert lines[-1].strip() == "p29"
    lines = tmux.resized(200, 40)
    assert lines[0].startswith("LLMCap  127.0.0.1:8080")
    assert "claude-opus-4-1-20250805" in next(line for line in lines if line.startswith("daily"))
    lines = tmux.resized(60, 12)
    assert lines[0].startswith("LLMCap  127.0.0.1:8080")
    assert all(len(line) <= 60 for line in lines)


def test_terminal_is_given_back_at_the_end(tmux: Tmux) -> None:
    """The normal screen and the cursor are back; the last state and the last log lines stay."""
    tmux.tell("log the reason", "state 5", "end")
    lines = tmux.seen("left with 0")
    assert tmux.flags() == "0 1"
    assert any("the reason" in line for line in lines)
    assert any(line.startswith("daily") for line in lines)


def test_terminal_is_given_back_after_a_crash(tmux: Tmux) -> None:
    """What the interpreter says of an exception is not lost with the screen."""
    tmux.tell("state 5", "crash boom")
    lines = tmux.seen("left with 1")
    assert tmux.flags() == "0 1"
    assert any("RuntimeError: boom" in line for line in lines)
