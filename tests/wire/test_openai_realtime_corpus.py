"""A Realtime conversation, as its frames go over the wire, and what it cost, worked out by hand beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.openai_realtime import REALTIME_SOCKET
from llmcap_addon.wire.socket import Asks, Denied

FOLDER = Path(__file__).parent.parent / "data" / "openai_realtime"
FRAMES = [json.loads(line) for line in (FOLDER / "conversation.jsonl").read_text().splitlines()]
EXPECTED = json.loads((FOLDER / "conversation.expected.json").read_text())
NO = Refusal("unreadable", "LLMCap: refused", "", 0, 0, 0, None)
PRICES = Prices.load(now_ms=lambda: 1_795_435_200_000)


class Heard:
    """What a talk understood of the frames up to a place, with everything admitted that stands or is asked for."""

    def __init__(self, frames: list[dict[str, Any]], rest: bytes = b"", side: str = "server") -> None:
        request = Request("GET", "api.openai.com", "/v1/realtime", {"model": "gpt-realtime"})
        self.talk = REALTIME_SOCKET.open(request, Target("openai"), "voice", lambda _, text: len(text))
        self.calls: dict[int, Call] = {}
        self.denied = self.unused = 0
        self.readings: dict[int, Reading] = {}
        self.over: list[int] = []
        for one in frames:
            self.hear(one["from"], json.dumps(one["frame"]).encode())
        if rest:
            self.hear(side, rest)

    def hear(self, side: str, data: bytes) -> None:
        if side == "client":
            asked = self.talk.from_client(self.talk.read(data, is_text=True))
            self.stand()
            if isinstance(asked, Asks):
                assert json.loads(self.talk.admit(asked.number, 1_000, None)) == json.loads(data)
                self.calls[asked.number] = asked.call
            elif isinstance(asked, Denied):
                self.talk.refuse(asked.number, NO, 400)
                self.denied += 1
            return
        for told in self.talk.from_server(data, is_text=True):
            assert told.unasked is None
            if told.unused:
                self.unused += 1
                continue
            self.readings[told.number] = told.reading
            self.over += [told.number] if told.ended else []
        self.stand()

    def stand(self) -> None:
        while stands := self.talk.stand():
            self.calls[stands.number] = stands.call
            assert self.talk.admit(stands.number, 4_096, None) == b""


def test_each_response_and_transcript_costs_what_was_worked_out_by_hand() -> None:
    """Usage and cost of each, within what was set aside for it; what is refused or not needed is released."""
    heard = Heard(FRAMES)
    assert (heard.denied, heard.unused) == (EXPECTED["denied"], EXPECTED["unused"])
    assert set(heard.over) == set(heard.readings)
    ends = {json.dumps(bill["usage"], sort_keys=True): bill for bill in EXPECTED["bills"]}
    assert len(heard.over) == len(ends)
    for number in heard.over:
        reading, call = heard.readings[number], heard.calls[number]
        assert reading.final
        assert reading.usage is not None
        [expected] = [bill for bill in EXPECTED["bills"] if Usage(**bill["usage"]) == reading.usage]
        assert call.model == expected["model"]
        cost = PRICES.cost(call, reading.usage, reading.terms, reading.model)
        assert (cost.amount, cost.assumed) == (expected["cost_nanousd"], False), expected["worked"]
        quote = PRICES.quote(call)
        assert not quote.assumed
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
        for number in set(heard.readings) - set(heard.over):
            assert not heard.readings[number].final
