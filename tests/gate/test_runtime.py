"""The real clock and the running event loop."""

from __future__ import annotations

import asyncio
import threading
import time

from llmcap_addon.gate.runtime import AsyncioRuntime


async def test_a_signal_wakes_who_waits_and_stays_given() -> None:
    """Whoever comes later need not wait, until it is cleared."""
    signal = AsyncioRuntime().signal()
    waiting = asyncio.create_task(signal.wait(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    signal.set()
    await waiting
    await signal.wait(60)
    signal.clear()
    await signal.wait(0)


async def test_a_wait_that_is_over_raises_nothing() -> None:
    """Time that runs out is no failure; being cancelled is."""
    signal = AsyncioRuntime().signal()
    await signal.wait(0.001)
    waiting = asyncio.create_task(signal.wait(60))
    await asyncio.sleep(0)
    waiting.cancel()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)


async def test_slow_work_leaves_the_loop_free() -> None:
    """It runs in another thread, and gives its result or its exception."""
    runtime = AsyncioRuntime()
    assert await runtime.in_thread(threading.get_ident) != threading.get_ident()
    outcome = await asyncio.gather(runtime.in_thread(lambda: 1 // 0), return_exceptions=True)
    assert isinstance(outcome[0], ZeroDivisionError)


def test_the_clocks_are_the_machines() -> None:
    """Unix time in whole milliseconds, and one that never goes back."""
    runtime = AsyncioRuntime()
    assert abs(runtime.now_ms() - time.time() * 1_000) < 5_000
    assert runtime.monotonic_s() <= runtime.monotonic_s()
