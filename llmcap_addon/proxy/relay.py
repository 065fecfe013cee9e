"""Relay: what a supervisor and its workers log, in one stream."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from mitmproxy.log import MitmFormatter

from llmcap_addon.view.text import CLEAN_CHARS

OWN = 0
"""The supervisor's number; workers count from 1."""
SAME_S = 60.0
"""All workers see a change of caps.yaml within a second and a ledger that fails within a few; what each says at its
start comes as late as the last of them starts."""
KEPT_TEXTS = 100

_TIME = re.compile(r"\[[\d:.]+\] ")
"""How mitmproxy begins a line of its log."""


@dataclass(slots=True)
class _Text:
    """When it was written, and who has said it since."""

    written_s: float
    by: set[int]


class Relay(logging.Handler):
    """Writes the lines of all; what several say within a few seconds, once."""

    def __init__(self, file: IO[str], monotonic_s: Callable[[], float], level: int) -> None:
        super().__init__(level)
        self.file = file
        self.setFormatter(MitmFormatter(colorize=False))
        self._monotonic_s = monotonic_s
        self._texts: dict[str, _Text] = {}
        self._taking = threading.Lock()  # the supervisor's own lines may come from any thread

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of the supervisor's own."""
        for line in self.format(record).splitlines():
            self.take(OWN, line)

    def take(self, number: int, line: str) -> None:
        """Write a line, unless another process has just said the same; one that can't be written is dropped."""
        line = line[:CLEAN_CHARS]
        with self._taking, suppress(OSError, ValueError):
            if self._is_news(number, _TIME.sub("", line, count=1)):
                print(line, file=self.file, flush=True)

    def _is_news(self, number: int, text: str) -> bool:
        now_s = self._monotonic_s()
        known = self._texts.get(text)
        if known is not None and now_s - known.written_s < SAME_S and number not in known.by:
            known.by.add(number)
            return False
        self._texts.pop(text, None)
        self._texts[text] = _Text(now_s, {number})
        if len(self._texts) > KEPT_TEXTS:
            del self._texts[next(iter(self._texts))]
        return True
