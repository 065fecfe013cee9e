"""A scheduler of coroutines over virtual time: no event loop, no threads, the same order every time."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

START_MS = 1_793_491_200_000
"""2026-11-01 00:00 UTC. That night New York's clocks go back, and a month begins."""


class Deadlock(Exception):
    """Somebody waits, and nothing is left that could wake them."""


@dataclass(eq=False, slots=True)
class Task:
    """A coroutine on its way; `group` is the process it dies with."""

    work: Coroutine[Any, Any, Any]
    group: object
    name: str
    done: bool = False


class Park:
    """What a coroutine waits at; `wake` lets it go on, once."""

    __slots__ = ("_clockwork", "_task", "_woken")

    def __init__(self, clockwork: Clockwork) -> None:
        self._clockwork = clockwork
        self._task: Task | None = None
        self._woken = False

    def __await__(self) -> Generator[Park, None, None]:
        yield self

    def hold(self, task: Task) -> None:
        """Take a task that waits here now."""
        self._task = task
        if self._woken:
            self._clockwork.ready.append(task)

    def wake(self) -> None:
        """Let the task go on at its next turn."""
        if not self._woken:
            self._woken = True
            if self._task is not None:
                self._clockwork.ready.append(self._task)


@dataclass(eq=False, slots=True)
class Clockwork:
    """Virtual time in seconds, and what happens in it. `steps` counts turns of coroutines and timed events."""

    now_s: float = 0.0
    steps: int = 0
    ready: deque[Task] = field(default_factory=deque)
    tasks: set[Task] = field(default_factory=set)
    after_step: Callable[[], None] = lambda: None
    _timers: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def spawn(self, work: Coroutine[Any, Any, Any], group: object, name: str = "") -> Task:
        """Begin a coroutine at its next turn."""
        task = Task(work, group, name)
        self.tasks.add(task)
        self.ready.append(task)
        return task

    def at(self, due_s: float, event: Callable[[], None]) -> None:
        """Let something happen at a time; events of one time happen in the order they were asked for."""
        heapq.heappush(self._timers, (max(due_s, self.now_s), next(self._numbers), event))

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        park = Park(self)
        self.at(self.now_s + seconds, park.wake)
        await park

    def kill(self, group: object) -> None:
        """End all coroutines of a process where they stand."""
        for task in [task for task in self.tasks if task.group is group]:
            task.done = True
            self.tasks.discard(task)
            task.work.close()  # `finally` clauses run, and touch only the dead process's own memory

    def run(self, until_s: float) -> None:
        """Go on until a time, or until all is quiet; raises Deadlock when somebody waits for nothing."""
        while True:
            if self.ready:
                task = self.ready.popleft()
                if task.done:
                    continue
                self._turn(task)
            elif self._timers and self._timers[0][0] <= until_s:
                due_s, _, event = heapq.heappop(self._timers)
                self.now_s = max(self.now_s, due_s)
                event()
            elif self.tasks and not self._timers:
                raise Deadlock(", ".join(sorted(task.name for task in self.tasks)))
            else:
                self.now_s = max(self.now_s, until_s) if self._timers else self.now_s
                return
            self.steps += 1
            self.after_step()

    def _turn(self, task: Task) -> None:
        try:
            park = task.work.send(None)
        except StopIteration:
            task.done = True
            self.tasks.discard(task)
        else:
            park.hold(task)


class SimSignal:
    """The gate's Signal over virtual time."""

    __slots__ = ("_clockwork", "_given", "_parked")

    def __init__(self, clockwork: Clockwork) -> None:
        self._clockwork = clockwork
        self._given = False
        self._parked: list[Park] = []

    def set(self) -> None:
        """Wake whoever waits."""
        self._given = True
        parked, self._parked = self._parked, []
        for park in parked:
            park.wake()

    def clear(self) -> None:
        """Forget that it was given."""
        self._given = False

    async def wait(self, timeout_s: float) -> None:
        """Return when it is given, or after the time at the latest."""
        if self._given:
            return
        park = Park(self._clockwork)
        self._parked.append(park)
        self._clockwork.at(self._clockwork.now_s + timeout_s, park.wake)
        await park


@dataclass(eq=False, slots=True)
class SimRuntime:
    """The gate's Runtime over virtual time; each process has a wall clock of its own, which may jump."""

    clockwork: Clockwork
    jumped_ms: int = 0
    thread_s: Callable[[], float] = lambda: 0.0
    """How long the next piece of slow work takes."""

    def now_ms(self) -> int:
        """Wall clock."""
        return START_MS + self.jumped_ms + int(self.clockwork.now_s * 1000)

    def monotonic_s(self) -> float:
        """Virtual time."""
        return self.clockwork.now_s

    def signal(self) -> SimSignal:
        """Make a signal."""
        return SimSignal(self.clockwork)

    async def in_thread[T](self, work: Callable[[], T]) -> T:
        """Do the work at once, and give it back later."""
        result = work()
        await self.clockwork.sleep(self.thread_s())
        return result
