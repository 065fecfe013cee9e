"""A Runtime whose time stands still until the test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

START_MS = 1_763_900_000_000


class VirtualSignal:
    def __init__(self, clock: VirtualRuntime) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, timeout_s: float) -> None:
        due = self._clock.seconds + timeout_s
        timer = asyncio.Event()
        self._clock.timers.append((due, timer))
        waits = [asyncio.ensure_future(self._event.wait()), asyncio.ensure_future(timer.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            self._clock.timers = [entry for entry in self._clock.timers if entry[1] is not timer]


class VirtualRuntime:
    """Gives the time the test set; `advance` moves it and wakes whoever's time is over."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.timers: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        return START_MS + int(self.seconds * 1000)

    def monotonic_s(self) -> float:
        return self.seconds

    def signal(self) -> VirtualSignal:
        return VirtualSignal(self)

    async def in_thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        for due, timer in self.timers:
            if due <= self.seconds:
                timer.set()
