"""A chat completion's stream, piece by piece, and an exchange that a test drives by hand."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

from llmcap_addon.budget.ledger import Row
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.proxy.exchange import Exchange
from llmcap_addon.wire.dialect import Dialect, ResponseHead
from llmcap_addon.wire.openai_chat import CHAT
from tests.gate.house import House

REQUEST = json.dumps(
    {
        "model": "gpt-4o",
        "stream": True,
        "max_completion_tokens": 1000,
        "messages": [{"role": "user", "content": "hello"}],
    }
).encode()


def _event(**members: Any) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "service_tier": "default"}
    return b"data: " + json.dumps(head | members).encode() + b"\n\n"


def tokens(count: int) -> bytes:
    """Give an event with so many tokens of text."""
    return _event(choices=[{"index": 0, "delta": {"content": " token" * count}, "finish_reason": None}])


def usage(inputs: int, outputs: int) -> bytes:
    """Give the event that a client sees only if it asked for it."""
    counts = {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}
    return _event(choices=[], usage=counts)


DONE = b"data: [DONE]\n\n"


def price(inputs: int, outputs: int) -> int:
    """What gpt-4o costs, in nano-dollars."""
    return inputs * 2_500 + outputs * 10_000


class Driven:
    """An exchange whose extensions run when the test says so."""

    def __init__(self, house: House, live: LiveCall, dialect: Dialect = CHAT) -> None:
        self.house = house
        self.live = live
        self.tasks: list[Coroutine[None, None, None]] = []
        self.nudges = 0
        self.troubles: list[str] = []
        self.exchange = Exchange(
            gate=house.gate,
            live=live,
            dialect=dialect,
            body=REQUEST,
            spawn=self.tasks.append,
            nudge=self._nudge,
            on_trouble=self.troubles.append,
        )
        assert self.exchange.may_leave()

    def _nudge(self) -> None:
        self.nudges += 1

    def begin(self, content_type: str = "text/event-stream", encoding: str = "", status: int = 200) -> bool:
        return self.exchange.begin(ResponseHead(status, content_type, {"content-encoding": encoding}))

    def feed(self, data: bytes) -> bytes:
        """Hand a chunk on as mitmproxy does; what comes out holds no empty chunk."""
        shown = self.exchange(data)
        assert all(shown)
        return b"".join(shown)

    async def extend(self) -> None:
        """Run the extensions that were asked for."""
        while self.tasks:
            await self.tasks.pop(0)

    def drop_tasks(self) -> None:
        for task in self.tasks:
            task.close()
        self.tasks.clear()

    async def row(self) -> Row:
        """Give the one row, which has ended; nothing is left pending."""
        [row] = await self.house.rows()
        assert row.state != "pending"
        assert (await self.house.standing())[1] == 0
        return row
