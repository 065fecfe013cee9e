"""Screen: the console on a real terminal, and what others print while it is there."""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from llmcap_addon.view.console import ConsoleState, render
from llmcap_addon.view.pick import glyphs
from llmcap_addon.view.text import CLEAN_CHARS, clean

KEPT_LOG_LINES = 200
"""Log lines kept for the screen's log section: more than the tallest terminal gives it."""
LEFT_LOG_LINES = 20
"""Log lines printed after the screen is gone, so that the reason of an end is not gone with it."""
LEFT_HEIGHT = 16
"""Lines of the last state that stay in the terminal after the end."""


class LogStream(io.TextIOBase):
    """A text file that keeps the last lines written to it; writing never waits for the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self._open = ""
        self._lock = threading.Lock()  # logging may come from any thread

    def write(self, text: str) -> int:
        """Keep complete lines, and the start of one that has not ended yet."""
        with self._lock:
            ended = (self._open + text[-KEPT_LOG_LINES * CLEAN_CHARS :]).split("\n")
            self._open = ended.pop()[:CLEAN_CHARS]
            self._lines.extend(line[:CLEAN_CHARS] for line in ended if line.strip())
        return len(text)

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """False, so that writers leave colours and cursor movements out."""
        return False

    def lines(self) -> tuple[str, ...]:
        """What was written last, oldest first."""
        with self._lock:
            return (*self._lines, self._open) if self._open.strip() else tuple(self._lines)


class LiveConsole:
    """The screen, on the terminal's alternate screen: it never scrolls, and the terminal is as before when it ends.

    While it is started, sys.stdout and sys.stderr (where they are the terminal) and `log_stream()` lead to its log
    section. `refresh` writes to the terminal and so may wait for it: it may be called from a thread, one at a time.
    `stop` is called at interpreter exit too, and leaves the last state and the last log lines in the terminal.
    """

    def __init__(self, out: IO[str], environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._glyphs = glyphs(out, environ)
        self._log = LogStream()
        # `choose` has decided that this is a terminal. COLUMNS and LINES are left out: they do not follow a resize.
        self._console = Console(
            file=out,
            force_terminal=True,
            force_interactive=True,
            highlight=False,
            markup=False,
            emoji=False,
            _environ={key: value for key, value in environ.items() if key not in ("COLUMNS", "LINES")},
        )
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._out = out
        self._state: ConsoleState | None = None
        self._started = False
        self._lock = threading.Lock()
        self._replaced: list[tuple[str, IO[str]]] = []

    def log_stream(self) -> IO[str]:
        """Give the file that log handlers shall write to while the screen is there."""
        return self._log  # type: ignore[return-value]

    def start(self) -> None:
        """Take the terminal over."""
        with self._lock:
            if self._started:
                return
            self._started = True
            atexit.register(self.stop)
            for name in ("stdout", "stderr"):
                stream: IO[str] | None = getattr(sys, name)
                if stream is not None and (stream is self._out or _is_terminal(stream)):
                    self._replaced.append((name, stream))
                    setattr(sys, name, self._log)
            self._live.start()

    def refresh(self, state: ConsoleState) -> None:
        """Draw a state at the terminal's size of this moment; nothing happens before start and after stop."""
        with self._lock:
            if not self._started:
                return
            self._state = replace(state, logs=(*state.logs, *self._log.lines()))
            width, height = self._console.size
            # A terminal that has hung up shows nothing any more, and that is no reason to stop counting.
            with suppress(OSError):
                self._live.update(render(self._state, width, height, self._glyphs), refresh=True)

    def stop(self) -> None:
        """Give the terminal back, whatever state it is in, and leave the last state in it."""
        with self._lock:
            if not self._started:
                return
            self._started = False
            atexit.unregister(self.stop)
            try:
                with suppress(OSError):
                    self._live.stop()
                    self._leave()
            finally:
                for name, stream in self._replaced:
                    if getattr(sys, name) is self._log:
                        setattr(sys, name, stream)
                self._replaced.clear()

    def _leave(self) -> None:
        self._print(Text(clean(line, self._glyphs)) for line in self._log.lines()[-LEFT_LOG_LINES:])
        if self._state is not None:
            width = self._console.size.width
            last = render(replace(self._state, logs=()), width, LEFT_HEIGHT, self._glyphs)
            self._print(line for line in last.split("\n") if line.plain.strip())

    def _print(self, lines: Iterable[Text]) -> None:
        for line in lines:
            self._console.print(line, no_wrap=True, overflow="crop")


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False
