"""A conversation over a websocket, as its frames go over the wire, and what it cost, worked out by hand beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.openai_responses import ResponsesDialect
from llmcap_addon.wire.openai_socket import ResponsesSocket
from llmcap_addon.wire.socket import Asks, Denied

FOLDER = Path(__file__).parent.parent / "data" / "openai_socket"
FRAMES = [json.loads(line) for line in (FOLDER / "conversation.jsonl").read_text().splitlines()]
EXPECTED = json.loads((FOLDER / "conversation.expected.json").read_text())
NO = Refusal("unreadable", "LLMCap: refused", "", 0, 0, 0, None)


class Heard:
    """What a talk understood of the frames up to a place, the last of them broken off after so many bytes."""

    def __init__(self, frames: list[dict[str, Any]], rest: bytes = b"", side: str = "server") -> None:
        request = Request("GET", "api.openai.com", "/v1/responses")
        self.talk = ResponsesSocket(ResponsesDialect()).open(
            request, Target("openai"), "codex", lambda _, text: len(text)
        )
        self.calls: dict[int, Call] = {}
        self.denied = 0
        self.readings: dict[int, Reading] = {}
        self.over: set[int] = set()
        for one in frames:
            self.hear(one["from"], json.dumps(one["frame"]).encode())
        if rest:
            self.hear(side, rest)

    def hear(self, side: str, data: bytes) -> None:
        if side == "client":
            asked = self.talk.from_client(self.talk.read(data, is_text=True))
            if isinstance(asked, Asks):
                assert self.talk.admit(asked.number, 1_000, None) == data
                self.calls[asked.number] = asked.call
            elif isinstance(asked, Denied):
                self.talk.refuse(asked.number, NO, 400)
                self.denied += 1
            return
        for told in self.talk.from_server(data, is_text=True):
            assert told.unasked is None
            self.readings[told.number] = told.reading
            self.over |= {told.number} if told.ended else set()


def test_each_response_costs_what_was_worked_out_by_hand() -> None:
    """Usage, tier and cost of each, within its bound; the request that can't be bounded does not go out."""
    heard = Heard(FRAMES)
    prices = Prices.load(now_ms=lambda: 1_763_900_000_000)
    assert heard.denied == EXPECTED["denied"]
    assert heard.over == set(heard.calls) == set(heard.readings)
    for number, expected in zip(sorted(heard.over), EXPECTED["responses"], strict=True):
        reading, call = heard.readings[number], heard.calls[number]
        assert reading.final
        assert reading.usage == Usage(**expected["usage"])
        assert reading.terms.service_tier == expected["service_tier"]
        cost = prices.cost(call, reading.usage, reading.terms, reading.model)
        assert (cost.amount, cost.assumed) == (expected["cost_nanousd"], False), expected["worked"]
        quote = prices.quote(call)
        assert not call.content.opaque
        assert quote.input_tokens >= reading.usage.input_tokens
        assert quote.amount(quote.output_tokens) >= cost.amount


@pytest.mark.parametrize("length", range(len(FRAMES)))
def test_a_conversation_that_breaks_off_anywhere_raises_nothing(length: int) -> None:
    """Between frames or within one: what has ended is exact, what has not is counted."""
    whole = Heard(FRAMES)
    broken = json.dumps(FRAMES[length]["frame"]).encode()
    for cut in {0, 1, len(broken) // 2, len(broken) - 1}:
        heard = Heard(FRAMES[:length], broken[:cut], FRAMES[length]["from"])
        for number in heard.over:
            assert heard.readings[number].usage == whole.readings[number].usage
        for number in set(heard.readings) - heard.over:
            assert not heard.readings[number].final
