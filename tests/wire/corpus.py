"""Bodies in OpenAI's shapes, written after the SDK's types and the hosts' documents, and ways of feeding them."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
import zstandard

from llmcap_addon.call import Call, Content
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Dialect, Meter, ResponseHead
from llmcap_addon.wire.encodings import decoder
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_embeddings import EMBEDDINGS
from llmcap_addon.wire.openai_responses import RESPONSES

FOLDER = Path(__file__).parent.parent / "data" / "openai"
OPENAI_DIALECTS: dict[str, Dialect] = {CHAT.name: CHAT, RESPONSES.name: RESPONSES, EMBEDDINGS.name: EMBEDDINGS}
ENCODERS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}


def one(_text: str) -> int:
    """Count every piece of output as one token."""
    return 1


def make_call(dialect: str = "openai.chat", provider: str = "openai", **fields: Any) -> Call:
    values: dict[str, Any] = {"host": "api.openai.com", "model": "gpt-4o", "streamed": True, "content": Content()}
    return Call(dialect=dialect, provider=provider, **(values | fields))


@dataclass(frozen=True)
class Body:
    name: str
    data: bytes
    expected: dict[str, Any]

    @property
    def dialect(self) -> Dialect:
        return OPENAI_DIALECTS[self.expected["dialect"]]

    def meter(self, request: bytes = b'{"stream_options":{"include_usage":true}}') -> Meter:
        call = make_call(
            self.expected["dialect"],
            self.expected["provider"],
            streamed=self.expected["streamed"],
            choices=self.expected.get("choices", 1),
        )
        content_type = "text/event-stream; charset=utf-8" if self.name.endswith(".sse") else "application/json"
        return self.dialect.meter(call, request, ResponseHead(200, content_type), one)

    def check(self, reading: Reading) -> None:
        usage = self.expected["usage"]
        assert reading.usage == (None if usage is None else Usage(**usage))
        assert reading.final is (usage is not None)
        assert reading.model == self.expected["model"]
        assert reading.terms.service_tier == self.expected.get("service_tier", "")
        assert reading.counted_output_tokens == self.expected["counted"]
        assert reading.failed is self.expected.get("failed", False)
        assert reading.unreadable == ""


BODIES = [
    Body(name, (FOLDER / name).read_bytes(), expected)
    for name, expected in json.loads((FOLDER / "expected.json").read_text()).items()
]


def feed_all(meter: Meter, chunks: Iterable[bytes]) -> bytes:
    """Feed a body in chunks and give all that the client sees."""
    return b"".join(meter.feed(chunk) for chunk in chunks) + meter.end()


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def split_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def encoded_in_pieces(data: bytes, encoding: str, size: int = 61) -> list[bytes]:
    """Encode a body, and decode it piece by piece as it would come from the network."""
    packed = ENCODERS[encoding](data)
    taken_off = decoder(encoding)
    pieces = [taken_off.feed(packed[place : place + size]) for place in range(0, len(packed), size)]
    return [*pieces, taken_off.end()]
