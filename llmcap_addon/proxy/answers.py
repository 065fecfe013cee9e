"""Answer: one admitted response on a websocket."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def runs(self) -> bool:
        """False for what only stands: no frame has asked for it, and the provider has not begun it."""
        return self.sent or self.begun
