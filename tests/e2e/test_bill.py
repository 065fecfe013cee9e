"""What a call cost: the ledger's row is the stand-in's own bill, to the nano-dollar."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from google.genai import types as google_types

from llmcap_addon.budget.ledger import Row
from tests.e2e.calls import ALL, CHAT, CHAT_STREAM, MESSAGES, PROMPT, STREAMS, WHOLE, Kind
from tests.e2e.harness import Proxy
from tests.fakes.prices import Bill, cost_nanousd
from tests.fakes.script import Record, Script
from tests.fakes.sdks import SDKs
from tests.fakes.server import ANTHROPIC_HOST, GOOGLE_HOST, OPENAI_HOST, StandIn

both_protocols = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])


class Audit:
    """The shared proxy, and the one call a test makes through it."""

    def __init__(self, proxy: Proxy, stand_in: StandIn, clients: dict[bool, SDKs]) -> None:
        self.proxy = proxy
        self.stand_in = stand_in
        self.clients = clients
        self._seen = proxy.rows()

    def result(self) -> tuple[Row, Record]:
        """Give the call's row and the stand-in's record, once both are final."""
        [row] = self.proxy.settled(1, self._seen)
        self.stand_in.wait_idle()
        [record] = self.stand_in.billable()
        return row, record

    def assert_exact(self) -> Row:
        """The row is no estimate and equals the truth."""
        row, record = self.result()
        assert row.cost == record.cost_nanousd > 0
        assert (row.usage.input_tokens, row.usage.output_tokens) == (record.input_tokens, record.generated_tokens)
        assert (row.state, row.status, row.marks, row.reserved) == ("posted", 200, frozenset(), 0)
        assert (row.entry.host, row.entry.model) == (record.host, record.model)
        return row


@pytest.fixture
def audit(audit_proxy: Proxy, stand_in: StandIn, audit_clients: dict[bool, SDKs]) -> Audit:
    return Audit(audit_proxy, stand_in, audit_clients)


@both_protocols
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_the_bill_is_exact(audit: Audit, kind: Kind, http2: bool) -> None:
    """Every dialect, streamed and not, over HTTP/1.1 and h2, is billed to the nano-dollar; the text arrives whole."""
    audit.stand_in.enqueue(Script(output_tokens=137))
    assert kind(audit.clients[http2]) == " token" * 137
    row = audit.assert_exact()
    assert row.entry.streamed == kind.streamed
    assert audit.stand_in.billable()[0].http_version == ("2" if http2 else "1.1")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_an_encoded_answer_is_billed_exactly(audit: Audit, kind: Kind, encoding: Literal["gzip", "br", "zstd"]) -> None:
    """A content-encoding, flushed event by event, changes neither the bill nor the text."""
    audit.stand_in.enqueue(Script(output_tokens=50, encoding=encoding))
    assert kind(audit.clients[False]) == " token" * 50
    audit.assert_exact()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_cached_input_is_billed_at_its_price(audit: Audit, kind: Kind) -> None:
    """Cache reads (and, at Anthropic, both lifetimes of writes) are priced apart from plain input."""
    writes: dict[str, Any] = (
        {"cache_write_tokens": 300, "cache_write_1h_tokens": 100} if "messages" in kind.name else {}
    )
    audit.stand_in.enqueue(Script(input_tokens=1_000, cached_tokens=600, **writes))
    kind(audit.clients[False])
    row = audit.assert_exact()
    assert row.usage.cache_read_tokens == 600
    assert row.usage.cache_write_tokens == writes.get("cache_write_tokens", 0)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_hidden_reasoning_is_billed(audit: Audit, kind: Kind) -> None:
    """Reasoning that no stream shows is billed as output."""
    audit.stand_in.enqueue(Script(output_tokens=20, reasoning_tokens=70))
    kind(audit.clients[False])
    assert audit.assert_exact().usage.output_tokens == 90


@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM], ids=lambda kind: kind.name)
def test_the_tier_that_the_response_names_is_billed(audit: Audit, kind: Kind) -> None:
    """A request that was served at the priority tier is billed at its prices."""
    audit.stand_in.enqueue(Script(service_tier="priority"))
    kind(audit.clients[False])
    row = audit.assert_exact()
    assert row.cost == cost_nanousd(Bill("gpt-4o", row.usage.input_tokens, output_tokens=16, service_tier="priority"))


def test_several_answers_are_billed(audit: Audit) -> None:
    """`n` answers are billed n times, streamed without `include_usage` too."""
    audit.stand_in.enqueue(Script(output_tokens=30))
    chunks = audit.clients[False].openai.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": PROMPT}], n=3, stream=True
    )
    assert sum(chunk.choices[0].delta.content == " token" for chunk in chunks) == 90
    assert audit.assert_exact().usage.output_tokens == 90


def test_embeddings_are_billed(audit: Audit) -> None:
    """Embeddings are billed for their input."""
    client = openai.OpenAI(api_key="key", http_client=audit.clients[False].http)
    answer = client.embeddings.create(model="text-embedding-3-small", input=["some text", "and more of it"])
    assert len(answer.data) == 2
    assert audit.assert_exact().usage.output_tokens == 0


def test_thinking_gemini_is_billed(audit: Audit) -> None:
    """Gemini's thoughts, which stand beside the candidates' count, are billed as output."""
    audit.stand_in.enqueue(Script(output_tokens=20, reasoning_tokens=70))
    chunks = audit.clients[False].google.models.generate_content_stream(
        model="gemini-2.5-flash",
        contents=PROMPT,
        config=google_types.GenerateContentConfig(thinking_config=google_types.ThinkingConfig(thinking_budget=-1)),
    )
    assert len(list(chunks)) == 20
    assert audit.assert_exact().usage.reasoning_tokens == 70


def test_a_json_array_stream_is_billed(audit: Audit) -> None:
    """Gemini's stream without `alt=sse`, one JSON array, is billed and passed on byte by byte."""
    audit.stand_in.enqueue(Script(output_tokens=40))
    answer = audit.clients[False].http.post(
        f"https://{GOOGLE_HOST}/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        json={
            "contents": [{"parts": [{"text": PROMPT}]}],
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}},
        },
    )
    audit.assert_exact()
    assert answer.content == bytes(audit.stand_in.billable()[0].sent_body)


@pytest.mark.parametrize("kind", [*STREAMS, *WHOLE], ids=lambda kind: kind.name)
def test_a_second_model_has_its_own_price(audit: Audit, kind: Kind) -> None:
    """A cheaper model of the same host is billed at its own price."""
    model = {"gpt-4o": "gpt-4o-mini", "claude-sonnet-4-5": "claude-haiku-4-5"}.get(kind.model, kind.model)
    kind(audit.clients[False], model=model)
    assert audit.assert_exact().entry.model == model


BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": (OPENAI_HOST, "/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}),
    "responses": (OPENAI_HOST, "/v1/responses", {"model": "gpt-4o", "input": "Hi"}),
    "messages": (
        ANTHROPIC_HOST,
        "/v1/messages",
        {"model": "claude-haiku-4-5", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]},
    ),
    "generate": (
        GOOGLE_HOST,
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
    ),
}


@both_protocols
@pytest.mark.parametrize("name", BODIES)
def test_a_stream_passes_byte_by_byte(audit: Audit, name: str, http2: bool) -> None:
    """What the client sees of a stream that we ask nothing of are the provider's own bytes; so is the request."""
    host, path, body = BODIES[name]
    sent: dict[str, Any] = {**body}
    if name != "generate":
        sent["stream"] = True
    if name == "chat":
        sent["stream_options"] = {"include_usage": True}
    # Odd spacing and key order: a body that is parsed and written anew would not come out like this.
    raw = json.dumps(sent, indent=3).encode()
    audit.stand_in.enqueue(Script(output_tokens=60, sse_prelude=b": a comment\n\n"))
    answer = audit.clients[http2].http.post(
        f"https://{host}{path}", content=raw, headers={"content-type": "application/json"}
    )
    audit.assert_exact()
    [record] = audit.stand_in.billable()
    assert answer.content == bytes(record.sent_body)
    assert record.body == raw


def test_usage_that_nobody_asked_for_is_taken_out(audit: Audit) -> None:
    """A chat stream without `include_usage`: the provider is asked for usage, the client sees none of it."""
    url = f"https://{OPENAI_HOST}/v1/chat/completions"
    body = BODIES["chat"][2] | {"stream": True}
    answer = audit.clients[False].http.post(url, json=body)
    audit.assert_exact()
    [record] = audit.stand_in.billable()
    assert record.json()["stream_options"] == {"include_usage": True}
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert all(event["choices"] for event in events)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "total_tokens" not in answer.text


def test_an_unknown_model_is_never_free(audit: Audit) -> None:
    """A model without a price is charged as the dearest of its host, and the row says so."""
    CHAT(audit.clients[False], model="gpt-nobody-knows-1")
    row, record = audit.result()
    assert "assumed" in row.marks
    assert row.cost >= cost_nanousd(Bill("gpt-4o", record.input_tokens, output_tokens=record.generated_tokens))


def test_a_dated_answer_is_billed_as_its_model(audit: Audit) -> None:
    """A response that names the dated model behind an alias is billed at that model's price."""
    audit.stand_in.enqueue(Script(response_model="claude-sonnet-4-5-20250929"))
    MESSAGES(audit.clients[False])
    audit.assert_exact()


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.name)
def test_an_error_costs_nothing(audit: Audit, kind: Kind) -> None:
    """A provider's 4xx reaches the client as it is, and its row is void."""
    audit.stand_in.enqueue(Script(status=400))
    with pytest.raises(Exception, match="told to fail"):
        kind(audit.clients[False])
    [row] = audit.proxy.settled(1, audit._seen)
    assert (row.state, row.cost, row.status) == ("voided", 0, 400)


def test_retries_are_counted_one_by_one(audit: Audit) -> None:
    """A 500 that the SDK tries again gives a void row, and the second try its own."""
    audit.stand_in.enqueue(Script(status=500, headers={"retry-after-ms": "1"}))
    CHAT(audit.clients[False])
    failed, answered = audit.proxy.settled(2, audit._seen)
    assert (failed.state, failed.cost) == ("voided", 0)
    assert answered.cost == audit.stand_in.billed_nanousd() > 0


def test_a_compressed_request_is_understood(audit: Audit) -> None:
    """A request body under a content-encoding is decoded to be judged, and forwarded."""
    import gzip

    body = gzip.compress(json.dumps(BODIES["responses"][2]).encode())
    answer = audit.clients[False].http.post(
        f"https://{OPENAI_HOST}/v1/responses",
        content=body,
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert answer.status_code == 400  # the stand-in, like OpenAI, takes no compressed body
    [row] = audit.proxy.settled(1, audit._seen)
    assert (row.entry.model, row.state) == ("gpt-4o", "voided")
