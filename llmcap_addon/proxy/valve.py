"""Valve: lets one call's answer through as far as it is paid for.

What outruns the reservation is held back while more is asked for, let go when it is granted, and the answer is cut when
it isn't. The same for a response's chunks and for a websocket's frames.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from llmcap_addon.gate import messages
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.live import LiveCall, Step
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Refusal

MAX_HELD_BYTES = 1 << 20
"""Held back while one extension is under way; a provider that sends more than this in that time is cut."""


class Valve:
    """Stands in the way of one answer."""

    def __init__(
        self,
        *,
        gate: Gate,
        live: LiveCall,
        spawn: Callable[[Coroutine[None, None, None]], None],
        nudge: Callable[[], None],
        on_cut: Callable[[Refusal], None],
    ) -> None:
        """`nudge` is told when what was held may go out or the answer has been cut, outside of `let_through`."""
        self.is_cut = False
        self.is_over = False
        """True once nothing more can come, so that nothing more need be asked for."""
        self._gate = gate
        self._live = live
        self._spawn = spawn
        self._nudge = nudge
        self._on_cut = on_cut
        self._holding = False
        self._held: list[bytes] = []
        self._held_bytes = 0

    @property
    def holds(self) -> bool:
        """True while something is held back, or is about to go out."""
        return self._holding or bool(self._held)

    def let_through(self, reading: Reading, piece: bytes) -> list[bytes]:
        """Take a piece that brought the reading to where it stands; gives all that may go out now, never empty."""
        step = self._live.observe(reading)
        if step is Step.CUT and self._live.refusal is not None:
            self.cut(self._live.refusal)
            return []
        if step is Step.HOLD or self._holding:
            self._holding = True
            self._hold(piece)
            if self._held_bytes > MAX_HELD_BYTES:
                self.cut(messages.failure("store", "stream cut, its reservation was not extended in time"))
                return []
            piece = b""
        if self._live.wants_extension:
            self._live.extending = True  # several pieces may come before the task has its first turn
            self._spawn(self._extend(reading))
        if self._holding:
            return []
        return [*self.take_held(), piece] if piece else self.take_held()

    def take_held(self) -> list[bytes]:
        """Give what was held once it may go out."""
        if self._holding or not self._held:
            return []
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def end(self) -> list[bytes]:
        """Say that the answer is whole and billed, so that nothing is saved by holding its end; gives what was held."""
        self.is_over = True
        if not self.is_cut:
            self._holding = False
        return self.take_held()

    def cut(self, refusal: Refusal) -> None:
        """Let nothing more through, once."""
        if self.is_cut:
            return
        self.is_cut = self._holding = True
        self._held, self._held_bytes = [], 0
        self._live.refuse(refusal)
        self._on_cut(refusal)

    def cut_now(self, refusal: Refusal) -> None:
        """Let nothing more through, outside of `let_through`, unless the answer has ended."""
        if not self._live.ended and not self.is_over:
            self.cut(refusal)
            self._nudge()

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self._held_bytes += len(piece)

    async def _extend(self, reading: Reading) -> None:
        while not self.is_cut and not self.is_over:
            step = await self._gate.extend(self._live, reading)
            if step is Step.CUT:
                self.cut_now(self._live.refusal or messages.failure("internal", "stream cut"))
                return
            if step is Step.PASS:
                self._holding = False
                self._nudge()
            if not self._live.wants_extension:
                return
