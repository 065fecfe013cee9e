"""Answer: one admitted response on a websocket; Settling: how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from llmcap_addon.activity import CallLine
from llmcap_addon.gate.endings import Ending
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.proxy.valve import Valve
from llmcap_addon.usage import Reading


@dataclass(slots=True)
class Answer:
    """What is set aside for a response, and what has come of it."""

    live: LiveCall
    valve: Valve
    reading: Reading
    sent: bool = False
    """True once the frame that asks for it has gone out."""
    begun: bool = False
    """True once the provider has said something about it."""
    billed_at_once: bool = False
    """True when it is billed even if it never begins."""

    @property
    def runs(self) -> bool:
        """False for what only stands: no frame has asked for it, and the provider has not begun it."""
        return self.sent or self.begun


class Settling:
    """Settles each in a task of its own: what fails in one must not keep the others from it."""

    def __init__(self, on_line: Callable[[CallLine], None], on_trouble: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._on_trouble = on_trouble
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Tell whether some are being settled."""
        return bool(self._tasks)

    def begin(self, answer: Answer, ending: Ending, status: int, note: str) -> None:
        """Settle one."""
        task = asyncio.ensure_future(self._finish(answer, ending, status, note))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when all are settled that have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _finish(self, answer: Answer, ending: Ending, status: int, note: str) -> None:
        try:
            line = await answer.live.finish(answer.reading, ending, status, note)
            if line is not None:
                self._on_line(line)
        except Exception as error:
            self._on_trouble(f"internal error at the end of a websocket's response: {type(error).__name__}: {error}")
