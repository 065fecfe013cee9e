"""Live sessions, as their messages go over the wire, and what each turn cost, worked out by hand beside them."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Request, Target
from llmcap_addon.wire.google_live import LIVE
from llmcap_addon.wire.socket import Asks, Denied

FOLDER = Path(__file__).parent.parent / "data" / "google_live"
SESSIONS = {
    path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in FOLDER.glob("*.jsonl")
}
EXPECTED = {name: json.loads((FOLDER / f"{name}.expected.json").read_text("utf-8")) for name in SESSIONS}
PRICES = Prices.load(now_ms=lambda: 1_795_435_200_000)
EACH = pytest.mark.parametrize("name", sorted(SESSIONS))


class Heard:
    """What was understood of the messages up to a place, the last of them broken off after so many bytes."""

    def __init__(self, name: str, frames: list[dict[str, Any]], rest: bytes = b"", side: str = "server") -> None:
        told = EXPECTED[name]
        request = Request("GET", told["host"], told["path"])
        self.talk = LIVE.open(request, Target(told["provider"]), "genai", lambda _, text: len(text))
        self.calls: dict[int, Call] = {}
        self.denied = 0
        self.readings: dict[int, Reading] = {}
        self.over: list[int] = []
        self.unused: set[int] = set()
        for one in frames:
            self.hear(one["from"], json.dumps(one["frame"]).encode())
        if rest:
            self.hear(side, rest)

    def hear(self, side: str, data: bytes) -> None:
        if side == "client":
            asked = self.talk.from_client(self.talk.read(data, is_text=True))
            self.set_aside()
            if isinstance(asked, Asks):
                self.calls[asked.number] = asked.call
                assert self.talk.admit(asked.number, 1_000, None) == data
            elif isinstance(asked, Denied):
                assert asked.close_code
                self.denied += 1
            return
        for told in self.talk.from_server(data, is_text=False):
            assert told.unasked is None
            self.readings[told.number] = told.reading
            self.over += [told.number] if told.ended and not told.unused else []
            self.unused |= {told.number} if told.unused else set()
        self.set_aside()

    def set_aside(self) -> None:
        while stands := self.talk.stand():
            self.calls[stands.number] = stands.call
            assert self.talk.admit(stands.number, 1_000, None) == b""


@EACH
def test_each_turn_costs_what_was_worked_out_by_hand(name: str) -> None:
    """Usage, tier and cost of each, within what stood set aside for it; nothing of the session is left unbilled."""
    heard = Heard(name, SESSIONS[name])
    expected = EXPECTED[name]
    assert heard.denied == expected["denied"]
    assert len(set(heard.over)) == len(heard.over)
    assert set(heard.readings) == set(heard.over) | heard.unused
    for number, turn in zip(heard.over, expected["turns"], strict=True):
        reading, call = heard.readings[number], heard.calls[number]
        assert reading.final
        assert reading.usage == Usage(**turn["usage"])
        assert reading.terms.service_tier == turn["service_tier"]
        cost = PRICES.cost(call, reading.usage, reading.terms, reading.model, shares=reading.shares)
        assert (cost.amount, cost.assumed) == (turn["cost_nanousd"], False), turn["worked"]
        quote = PRICES.quote(call)
        assert quote.input_tokens >= reading.usage.input_tokens
        assert quote.amount(quote.output_tokens) >= cost.amount
        if reading.shares:
            assert reduce(Usage.plus, (share.usage for share in reading.shares)) == reading.usage


@EACH
def test_a_session_that_breaks_off_anywhere_raises_nothing(name: str) -> None:
    """Between messages or within one: what has ended is exact, what has not is never taken for billed."""
    frames = SESSIONS[name]
    whole = Heard(name, frames)
    for length in range(len(frames)):
        broken = json.dumps(frames[length]["frame"]).encode()
        for cut in {0, 1, len(broken) // 2, len(broken) - 1}:
            heard = Heard(name, frames[:length], broken[:cut], frames[length]["from"])
            for number in heard.over:
                assert heard.readings[number].usage == whole.readings[number].usage
            for number in set(heard.readings) - set(heard.over) - heard.unused:
                assert not heard.readings[number].final
