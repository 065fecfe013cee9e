"""A proxy on a terminal: what a person sees while it runs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from pathlib import Path
from typing import Any, Literal

from tests.e2e.harness import Proxy
from tests.fakes.server import StandIn

READ_BYTES = 65_536
_FRAME = "\x1b[H"
"""Each drawing of the screen begins with the cursor's way home (ECMA-48 8.3.21, CUP)."""
_RED = re.compile(r"\x1b\[1;31m(.*?)\x1b\[0m")
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Watched(Proxy):
    """A proxy process whose output is a pseudo-terminal, on which it draws its live console."""

    def __init__(self, folder: Path, stand_in: StandIn, caps: str, **options: Any) -> None:
        super().__init__(folder, stand_in, caps, **options)
        self._view: Literal["auto", "off"] = "auto"
        self._terminal = -1

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self._terminal, inside = pty.openpty()
        self.resize(80)
        plain = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "COLORTERM")}
        process = subprocess.Popen(
            self._command(),
            cwd=self.folder,
            env={**plain, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=inside,
            stderr=inside,
        )
        os.close(inside)
        return process

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = os.read(self._terminal, READ_BYTES)
            except OSError:  # how Linux tells that nobody has the other side open any more
                data = b""
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")  # whole lines only: a port's digits must not be torn
            if lines:
                self._take(b"".join(line + b"\n" for line in lines).decode(errors="replace"))
        self._take(rest.decode(errors="replace"))
        os.close(self._terminal)
        self._end_log()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def resize(self, columns: int, lines: int = 24) -> None:
        """Give the terminal a size; the console follows when it draws next."""
        termios.tcsetwinsize(self._terminal, (lines, columns))

    def screen(self) -> list[str]:
        """The lines that were drawn last as a whole, with their colours."""
        frames = self.log.rsplit(_FRAME, 2)
        return frames[-2].replace("\r", "").split("\n") if len(frames) == 3 else []

    def red(self) -> str:
        """What stands on top in red as an error, in one line; empty when all is well."""
        text = " ".join(found[1].rstrip() for line in self.screen() if (found := _RED.match(line)))
        return text if text.startswith("! ") else ""

    def columns(self) -> int:
        """How wide the screen was drawn."""
        return max((len(_CODES.sub("", line)) for line in self.screen()), default=0)
