"""Answers with what was asked, what they used and what they cost, the last worked out by hand.

Each `NAME.expected.json` in a folder of tests/data stands beside the body it speaks of and says `follows`, the SDK type
or document it is written after, and `worked`, how the cost comes about.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmcap_addon.call import Call
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Dialect, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.dialects import DIALECTS
from tests.wire.corpus import byte_by_byte, encoded_in_pieces, feed_all

DATA = Path(__file__).parent.parent / "data"
NOW_MS = 1_795_392_000_000
"""2026-11-23, the day the shipped prices were taken."""

_CONTENT_TYPES = {
    "sse": "text/event-stream; charset=utf-8",
    "bin": "application/vnd.amazon.eventstream",
    "json": "application/json",
}


@cache
def prices() -> Prices:
    return Prices.load(now_ms=lambda: NOW_MS)


@dataclass(frozen=True)
class Case:
    """One recorded answer."""

    name: str
    data: bytes
    expected: dict[str, Any]

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.expected["dialect"]]

    @property
    def request(self) -> Request:
        asked = self.expected["request"]
        return Request(
            "POST",
            asked["host"],
            asked["path"],
            asked.get("query", {}),
            {"content-type": "application/json", **asked.get("headers", {})},
            json.dumps(asked["body"]).encode(),
        )

    @property
    def call(self) -> Call:
        asked = self.expected["request"]
        return self.dialect.parse(self.request, Target(asked["provider"], asked.get("model", "")), "test")

    def meter(self) -> Meter:
        kind = _CONTENT_TYPES[self.name.rpartition(".")[2]]
        head = ResponseHead(self.expected.get("status", 200), kind, self.expected.get("response_headers", {}))
        return self.dialect.meter(self.call, self.request.body, head, len)

    def cost(self, reading: Reading) -> Nanousd:
        assert reading.usage is not None
        priced = prices().cost(self.call, reading.usage, reading.terms, reading.model, shares=reading.shares)
        assert not priced.assumed
        return priced.amount if reading.billed is None else reading.billed

    def check(self, reading: Reading) -> None:
        assert reading.unreadable == ""
        assert reading.final
        assert reading.usage == Usage(**self.expected["usage"])
        if reading.shares:
            total = Usage()
            for share in reading.shares:
                total = total.plus(share.usage)
            assert total == reading.usage
        assert [share.model for share in reading.shares] == self.expected.get("shares", [])
        assert reading.model == self.expected["model"]
        assert self.cost(reading) == self.expected["cost_nanousd"]

    def check_every_way(self) -> None:
        """Whole, byte by byte and in every encoding an answer reads the same, and passes unchanged."""
        ways = [[self.data], byte_by_byte(self.data)]
        ways += [encoded_in_pieces(self.data, encoding) for encoding in ("gzip", "br", "zstd")]
        for pieces in ways:
            meter = self.meter()
            assert feed_all(meter, pieces) == self.data
            self.check(meter.reading)

    def check_truncated(self) -> None:
        """Truncated anywhere an answer raises nothing, and says its last word only when that is the right one."""
        for size in range(len(self.data)):
            meter = self.meter()
            assert feed_all(meter, [self.data[:size]]) == self.data[:size]
            if meter.reading.final and not meter.reading.unreadable:
                self.check(meter.reading)


def cases(folder: str) -> list[Case]:
    found = []
    for path in sorted((DATA / folder).glob("*.expected.json")):
        expected = json.loads(path.read_text())
        assert expected["follows"]
        assert expected["worked"]
        found.append(Case(expected["answer"], (DATA / folder / expected["answer"]).read_bytes(), expected))
    assert found
    return found
