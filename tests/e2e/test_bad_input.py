"""Bad input, from either side: nothing crashes, nothing passes uncounted, the ledger says what happened."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import pytest

from llmcap_addon.budget.ledger import Row
from tests.e2e.calls import BROKEN_ANSWERS, CHAT, CHAT_STREAM, MESSAGES, SDK_ERRORS, Kind
from tests.e2e.harness import Proxy
from tests.fakes.prices import PRICES
from tests.fakes.script import Script
from tests.fakes.sdks import SDKs
from tests.fakes.server import ANTHROPIC_HOST, GOOGLE_HOST, OPENAI_HOST, StandIn

CHAT_URL = f"https://{OPENAI_HOST}/v1/chat/completions"
URLS = {
    "chat": CHAT_URL,
    "responses": f"https://{OPENAI_HOST}/v1/responses",
    "embeddings": f"https://{OPENAI_HOST}/v1/embeddings",
    "messages": f"https://{ANTHROPIC_HOST}/v1/messages",
    "generate": f"https://{GOOGLE_HOST}/v1beta/models/gemini-2.5-flash:generateContent",
    "stream": f"https://{GOOGLE_HOST}/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
}
UNROUTED_HOST = "api.together.xyz"
"""An LLM host that no stand-in answers for."""

GOOD: dict[str, Any] = {"model": "gpt-4o", "max_completion_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}

BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{'model': gpt",
    "cut off": json.dumps(GOOD).encode()[:-7],
    "not UTF-8": b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "\xff\xfe\xc3"}]}',
    "no object": b"[1, 2, 3]",
    "nothing": b"null",
    "deep": b'{"model": "gpt-4o", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "endless number": b'{"model": "gpt-4o", "max_tokens": ' + b"9" * 5_000 + b"}",
    "strange types": b'{"model": 7, "messages": {"a": 1}, "stream": "perhaps", "max_tokens": -5, "n": "many"}',
    "lone surrogate": b'{"model": "gpt-4o\\ud800", "messages": [{"role": "user", "content": "\\udfff"}]}',
    "binary": bytes(range(256)) * 40,
}


class Bad:
    """The shared proxy, and what one test sends through it."""

    def __init__(self, proxy: Proxy, stand_in: StandIn, clients: dict[bool, SDKs]) -> None:
        self.proxy = proxy
        self.stand_in = stand_in
        self.sdks = clients[False]
        self.seen = proxy.rows()

    def post(self, url: str, body: bytes, **headers: str) -> httpx2.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.sdks.http.post(url, content=body, headers={"content-type": "application/json", **names})

    def assert_counted(self) -> list[Row]:
        """Every request that was billed has its row, and the rows are not below the bill."""
        billed = self.stand_in.seen_billable()
        rows = self.proxy.settled(len(self.stand_in.records) or 1, self.seen)
        known = sum(record.cost_nanousd for record in billed if record.model in PRICES)
        assert sum(row.cost for row in rows) >= known
        assert all(row.cost > 0 or row.state == "voided" for row in rows if row.state != "refused")
        self.proxy.assert_sound()
        return rows


@pytest.fixture
def bad(audit_proxy: Proxy, stand_in: StandIn, audit_clients: dict[bool, SDKs]) -> Bad:
    return Bad(audit_proxy, stand_in, audit_clients)


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("body", BAD_BODIES)
def test_an_unreadable_request_is_refused(bad: Bad, name: str, body: str) -> None:
    """A body that can't be understood is refused with a message that says so, or forwarded and counted."""
    answer = bad.post(URLS[name], BAD_BODIES[body])
    assert 400 <= answer.status_code < 500 or bad.stand_in.billable()
    [row] = bad.proxy.settled(1, bad.seen)
    if bad.stand_in.records:
        assert row.state in {"posted", "voided"}
    else:
        assert "LLMCap:" in answer.text
        assert (row.state, row.cost) == ("refused", 0)
        assert row.note
    bad.assert_counted()


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "compress", "gzip, br", "nonsense"])
def test_a_lying_request_encoding_is_refused(bad: Bad, encoding: str) -> None:
    """A request that is not encoded as it says is not forwarded: its cost can't be known."""
    answer = bad.post(CHAT_URL, json.dumps(GOOD).encode(), content_encoding=encoding)
    assert answer.status_code >= 400
    assert "LLMCap:" in answer.text
    assert bad.stand_in.records == []
    [row] = bad.proxy.settled(1, bad.seen)
    assert row.state == "refused"


def test_a_bomb_is_refused(bad: Bad) -> None:
    """A small body that unpacks to gigabytes is refused before it is unpacked."""
    bomb = gzip.compress(bytes(1 << 20), 9)
    body = bomb * 600  # gzip members follow each other: 600 MB of zeros in 600 kB
    answer = bad.post(CHAT_URL, body, content_encoding="gzip")
    assert "LLMCap:" in answer.text
    assert bad.stand_in.records == []
    [row] = bad.proxy.settled(1, bad.seen)
    assert row.state == "refused"


def test_twenty_megabytes_are_counted(bad: Bad) -> None:
    """A 20 MB prompt is forwarded whole and billed exactly."""
    big = GOOD | {"messages": [{"role": "user", "content": "word " * 4_000_000}]}
    answer = bad.post(CHAT_URL, json.dumps(big).encode())
    assert answer.status_code == 200
    [record] = bad.stand_in.seen_billable()
    assert len(record.body) > 20_000_000
    [row] = bad.proxy.settled(1, bad.seen)
    assert row.cost == record.cost_nanousd


def test_twenty_megabytes_on_a_small_cap_are_refused(start_proxy: Any, stand_in: StandIn) -> None:
    """A 20 MB prompt that no small cap can pay for is refused, and none of it is forwarded."""
    proxy = start_proxy("{wait: 0s, caps: [{name: small, limit: 0.05, per: day}]}")
    big = GOOD | {"messages": [{"role": "user", "content": "word " * 4_000_000}]}
    with proxy.client() as http:
        answer = http.post(CHAT_URL, json=big)
    assert answer.status_code == 429
    assert answer.json()["error"]["message"].startswith("LLMCap:")
    assert stand_in.billable() == []


def spoil_json(number: int, data: bytes) -> bytes:
    """Break the JSON of every third piece."""
    return data.replace(b'{"', b"{", 1) if number % 3 == 2 else data


def spoil_utf8(number: int, data: bytes) -> bytes:
    """Put bytes into every third piece that are no UTF-8."""
    return data.replace(b" token", b" t\xff\xfe\xc3n", 1) if number % 3 == 2 else data


def spoil_all(number: int, data: bytes) -> bytes:
    """Send noise of the same length."""
    return bytes((number * 31 + index * 7) % 256 for index in range(len(data)))


@pytest.mark.parametrize("spoil", [spoil_json, spoil_utf8, spoil_all], ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("kind", BROKEN_ANSWERS, ids=lambda kind: kind.name)
def test_a_spoilt_answer_is_counted(bad: Bad, kind: Kind, spoil: Any) -> None:
    """An answer with broken JSON, broken UTF-8 or mere noise is charged at least what it cost."""
    bad.stand_in.enqueue(Script(output_tokens=60, rewrite=spoil))
    try:
        kind(bad.proxy.sdks(max_retries=0))
    except Exception:  # the SDK may stumble; we must not
        pass
    bad.assert_counted()


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "nonsense"])
@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM, MESSAGES], ids=lambda kind: kind.name)
def test_a_lying_answer_encoding_is_counted(bad: Bad, kind: Kind, encoding: str) -> None:
    """An answer that is not encoded as it says is charged at its bound, and never crashes the proxy."""
    bad.stand_in.enqueue(Script(output_tokens=60, claimed_encoding=encoding))
    try:
        kind(bad.proxy.sdks(max_retries=0), 100)
    except Exception:
        pass
    [row] = bad.assert_counted()
    assert "estimated" in row.marks
    assert row.note


@pytest.mark.parametrize("error", [-20, 20], ids=["too short", "too long"])
def test_a_wrong_content_length_is_counted(bad: Bad, error: int) -> None:
    """A content-length that does not fit the body ends in an error for the client, and in the ledger."""
    bad.stand_in.enqueue(Script(output_tokens=60, content_length_error=error))
    with bad.proxy.client() as http:
        try:
            http.post(CHAT_URL, json=GOOD)
        except httpx2.HTTPError:
            pass
    bad.assert_counted()


@pytest.mark.parametrize("status", [301, 401, 404, 429, 500, 529])
def test_other_statuses_pass(bad: Bad, status: int) -> None:
    """A provider's own answers of other kinds reach the client as they are, and cost nothing."""
    bad.stand_in.enqueue(Script(status=status, error_body=b'{"error": {"message": "no", "type": "x"}}'))
    answer = bad.post(CHAT_URL, json.dumps(GOOD).encode())
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, "no")
    [row] = bad.proxy.settled(1, bad.seen)
    assert (row.state, row.cost, row.status) == ("voided", 0, status)


def test_an_error_that_is_no_json_passes(bad: Bad) -> None:
    """An error page from something in between passes, and costs nothing."""
    bad.stand_in.enqueue(Script(status=502, error_body=b"<html>\xff bad gateway</html>"))
    answer = bad.post(CHAT_URL, json.dumps(GOOD).encode())
    assert answer.content == b"<html>\xff bad gateway</html>"
    [row] = bad.proxy.settled(1, bad.seen)
    assert (row.state, row.status) == ("voided", 502)


def test_an_empty_answer_is_charged(bad: Bad) -> None:
    """A 200 without a body tells no usage: it is charged at its bound."""
    bad.stand_in.enqueue(Script(output_tokens=30, rewrite=lambda _, __: b""))
    with pytest.raises((*SDK_ERRORS, httpx2.HTTPError, ValueError, AttributeError, TypeError)):
        CHAT(bad.sdks)
    bad.assert_counted()


def test_an_unreachable_provider_costs_nothing(bad: Bad) -> None:
    """A provider that can't be connected to bills nothing: the client gets mitmproxy's 502, and no row costs money."""
    with pytest.raises(httpx2.ProxyError, match="502"):
        bad.post(f"https://{UNROUTED_HOST}/v1/chat/completions", json.dumps(GOOD).encode())
    assert bad.proxy.rows() == bad.seen
