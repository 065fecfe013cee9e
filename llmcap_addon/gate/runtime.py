"""Runtime: the clock, the waiting and the threads that the gate is handed, so that it reaches for none of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Signal(Protocol):
    """Something one coroutine waits for and another gives; given once, it stays given until cleared."""

    def set(self) -> None:
        """Wake whoever waits."""
        ...

    def clear(self) -> None:
        """Forget that it was given."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Return when it is given, or after the time at the latest."""
        ...


class Runtime(Protocol):
    """Time, waiting and slow work, as the gate needs them."""

    def now_ms(self) -> int:
        """Wall clock, Unix time in milliseconds; may jump."""
        ...

    def monotonic_s(self) -> float:
        """A clock that never goes back, in seconds."""
        ...

    def signal(self) -> Signal:
        """Make a signal."""
        ...

    async def in_thread[T](self, work: Callable[[], T]) -> T:
        """Do slow work without holding up other calls."""
        ...


class AsyncioSignal:
    """A Signal of the running event loop."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake whoever waits."""
        self._event.set()

    def clear(self) -> None:
        """Forget that it was given."""
        self._event.clear()

    async def wait(self, timeout_s: float) -> None:
        """Return when it is given, or after the time at the latest."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass


class AsyncioRuntime:
    """The real clock and the running event loop."""

    def now_ms(self) -> int:
        """Wall clock, Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """A clock that never goes back, in seconds."""
        return time.monotonic()

    def signal(self) -> Signal:
        """Make a signal."""
        return AsyncioSignal()

    async def in_thread[T](self, work: Callable[[], T]) -> T:
        """Do slow work in a thread."""
        return await asyncio.to_thread(work)
