"""The stand-ins alone: the real SDKs accept what they send, and their own count is what they sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google.genai import errors as google_errors

from tests.fakes.prices import Bill, cost_nanousd
from tests.fakes.script import Hold, Script
from tests.fakes.sdks import SDKs, make_sdks, straight_client
from tests.fakes.server import OPENAI_HOST, OTHER_HOST, StandIn

HELLO: Any = [{"role": "user", "content": "Say hello, please."}]


# An httpx client that closes one h2 stream early tells the server nothing (httpcore sends no RST_STREAM), so the tests
# below leave by closing the whole client.


@pytest.fixture(params=[False, True], ids=["h1", "h2"])
def sdks(request: pytest.FixtureRequest, stand_in: StandIn) -> Iterator[SDKs]:
    clients = make_sdks(straight_client(stand_in.port, stand_in.authority.ca_path, http2=request.param))
    yield clients
    clients.close()


def test_chat_is_valid_and_its_usage_is_the_bill(sdks: SDKs, stand_in: StandIn) -> None:
    """An unstreamed chat completion satisfies the SDK's types and reports what the stand-in bills."""
    stand_in.enqueue(Script(output_tokens=7, reasoning_tokens=5, cached_tokens=4))
    answer = sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, n=2)
    [record] = stand_in.seen()
    assert [choice.message.content for choice in answer.choices] == [" token" * 7] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (record.input_tokens, 24)
    assert record.bill == Bill("gpt-4o", record.input_tokens, 4, output_tokens=24, service_tier="default")
    assert record.complete


def test_chat_stream_reports_usage_only_when_asked(sdks: SDKs, stand_in: StandIn) -> None:
    """A chat stream has a usage chunk with `include_usage` and no usage at all without it."""
    asked = list(
        sdks.openai.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    silent = list(sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    assert [chunk.usage.completion_tokens for chunk in asked if chunk.usage] == [16]
    assert asked[-1].choices == []
    assert all(chunk.usage is None and chunk.choices for chunk in silent)
    assert [record.generated_tokens for record in stand_in.seen()] == [16, 16]


@pytest.mark.parametrize("streamed", [False, True])
def test_responses_are_valid(sdks: SDKs, stand_in: StandIn, streamed: bool) -> None:
    """A response, streamed or not, satisfies the SDK's types and ends with its usage."""
    stand_in.enqueue(Script(output_tokens=9, reasoning_tokens=3))
    if streamed:
        events = list(sdks.openai.responses.create(model="gpt-4o", input="Hello?", stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = events[-1]
        assert last.type == "response.completed"
        answer = last.response
    else:
        answer = sdks.openai.responses.create(model="gpt-4o", input="Hello?")
    assert answer.output_text == " token" * 9
    assert answer.usage is not None
    assert (answer.usage.output_tokens, answer.usage.output_tokens_details.reasoning_tokens) == (12, 3)
    assert stand_in.seen()[0].generated_tokens == 12


def test_responses_honour_the_limit(sdks: SDKs, stand_in: StandIn) -> None:
    """A response that the request's own limit ends is incomplete, and billed up to the limit."""
    stand_in.enqueue(Script(output_tokens=900))
    answer = sdks.openai.responses.create(model="gpt-4o", input="Hello?", max_output_tokens=20)
    assert answer.status == "incomplete"
    assert stand_in.seen()[0].generated_tokens == 20


def test_embeddings_and_models_are_valid(sdks: SDKs, stand_in: StandIn) -> None:
    """Embeddings come as the SDK asks for them and bill input only; the list of models is free."""
    lenient = openai.OpenAI(api_key="key", http_client=sdks.http)  # the SDK's own strict types refuse its own base64
    answer = lenient.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[0.25, -0.5, 0.75]] * 2
    assert "gpt-4o" in [model.id for model in sdks.openai.models.list()]
    embedded, listed = stand_in.seen()
    assert (embedded.billable, embedded.generated_tokens) == (True, 0)
    assert not listed.billable


@pytest.mark.parametrize("streamed", [False, True])
def test_messages_are_valid(sdks: SDKs, stand_in: StandIn, streamed: bool) -> None:
    """A message, streamed or not, satisfies the SDK's types, with cache reads and both lifetimes of writes."""
    stand_in.enqueue(
        Script(output_tokens=5, input_tokens=100, cached_tokens=40, cache_write_tokens=30, cache_write_1h_tokens=10)
    )
    if streamed:
        with sdks.anthropic.messages.stream(model="claude-haiku-4-5", max_tokens=50, messages=HELLO) as stream:
            answer: anthropic.types.Message = stream.get_final_message()
    else:
        answer = sdks.anthropic.messages.create(model="claude-haiku-4-5", max_tokens=50, messages=HELLO)
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (30, 40, 30)
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_1h_input_tokens == 10
    assert usage.output_tokens == 5
    # 30 × $1 + 40 × $0.10 + 20 × $1.25 + 10 × $2 + 5 × $5, each per million tokens
    assert stand_in.seen()[0].cost_nanousd == 30_000 + 4_000 + 25_000 + 20_000 + 25_000


def test_a_message_starts_with_a_small_count(sdks: SDKs, stand_in: StandIn) -> None:
    """Anthropic's first event does not hold the final output count, and hidden thinking is billed."""
    stand_in.enqueue(Script(output_tokens=5, reasoning_tokens=20))
    events = list(sdks.anthropic.messages.create(model="claude-haiku-4-5", max_tokens=50, messages=HELLO, stream=True))
    first, last = events[0], events[-2]
    assert first.type == "message_start"
    assert first.message.usage.output_tokens == 1
    assert last.type == "message_delta"
    assert last.usage.output_tokens == 25 == stand_in.seen()[0].generated_tokens


def test_counting_tokens_is_free(sdks: SDKs, stand_in: StandIn) -> None:
    """Anthropic's and Google's count endpoints answer and bill nothing."""
    assert sdks.anthropic.messages.count_tokens(model="claude-haiku-4-5", messages=HELLO).input_tokens == 7
    assert sdks.google.models.count_tokens(model="gemini-2.5-flash", contents="Hello?").total_tokens == 7
    assert stand_in.billable() == []


@pytest.mark.parametrize("streamed", [False, True])
def test_gemini_is_valid(sdks: SDKs, stand_in: StandIn, streamed: bool) -> None:
    """Gemini's answers satisfy the SDK's types; thoughts stand beside the candidates, and counts are cumulative."""
    stand_in.enqueue(Script(output_tokens=6, reasoning_tokens=4))
    if streamed:
        chunks = list(sdks.google.models.generate_content_stream(model="gemini-2.5-flash", contents="Hello?"))
        counts = [chunk.usage_metadata.candidates_token_count for chunk in chunks if chunk.usage_metadata]
        assert counts == [1, 2, 3, 4, 5, 6]
        answer = chunks[-1]
    else:
        answer = sdks.google.models.generate_content(model="gemini-2.5-flash", contents="Hello?")
        assert answer.text == " token" * 6
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (6, 4)
    assert stand_in.seen()[0].generated_tokens == 10


def test_gemini_streams_an_array_without_sse(sdks: SDKs, stand_in: StandIn) -> None:
    """Without `alt=sse` the stream is one JSON array."""
    answer = sdks.http.post(
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        json={"contents": [{"parts": [{"text": "Hello?"}]}], "generationConfig": {"maxOutputTokens": 3}},
    )
    chunks = json.loads(answer.content)
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None, None, "MAX_TOKENS"]
    assert bytes(stand_in.seen()[0].sent_body) == answer.content


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_encoded_events_arrive_one_by_one(sdks: SDKs, stand_in: StandIn, encoding: Any) -> None:
    """Each event can be decoded before the next is sent, in every encoding."""
    hold = Hold()
    stand_in.enqueue(Script(encoding=encoding, output_tokens=3, hold_stream=hold, hold_after_tokens=2))
    seen = 0
    for chunk in sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True):
        seen += chunk.choices[0].delta.content == " token"
        if seen == 2:
            hold.release()
    assert seen == 3


def test_errors_raise_the_sdks_own(sdks: SDKs, stand_in: StandIn) -> None:
    """Each provider's error shape becomes the SDK's own exception."""
    stand_in.default = Script(status=400)
    with pytest.raises(openai.BadRequestError, match="told to fail"):
        sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="told to fail"):
        sdks.anthropic.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=HELLO)
    with pytest.raises(google_errors.ClientError, match="told to fail"):
        sdks.google.models.generate_content(model="gemini-2.5-flash", contents="Hello?")
    assert stand_in.billed_nanousd() == 0


def test_a_client_that_leaves_stops_the_count(sdks: SDKs, stand_in: StandIn) -> None:
    """A stream that is closed early is billed for what was given to the kernel, and the time of leaving is kept."""
    stand_in.enqueue(Script(output_tokens=1000, tokens_per_second=200))
    stream = sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    received = sum(chunk.choices[0].delta.content == " token" for chunk, _ in zip(stream, range(11), strict=False))
    sdks.close()
    [record] = stand_in.seen()
    assert record.aborted
    assert received <= record.generated_tokens < 100


def test_a_slow_reader_holds_the_generation_back(sdks: SDKs, stand_in: StandIn) -> None:
    """With a reader that reads nothing, only what fits into the sockets' buffers is generated."""
    total = 100_000
    stand_in.enqueue(Script(output_tokens=total))
    with sdks.http.stream(
        "POST",
        f"https://{OPENAI_HOST}/v1/chat/completions",
        json={"model": "gpt-4o", "messages": HELLO, "stream": True},
    ) as answer:
        next(answer.iter_raw(1))
        sdks.close()
    [record] = stand_in.seen()
    assert record.aborted
    assert 0 < record.generated_tokens < total // 2


def test_generation_can_go_on_after_the_client_left(sdks: SDKs, stand_in: StandIn) -> None:
    """A provider that bills in full after a disconnect bills every token."""
    stand_in.enqueue(Script(output_tokens=60, tokens_per_second=400, generate_after_disconnect=True))
    stream = sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    next(iter(stream))
    sdks.close()
    assert stand_in.seen()[0].generated_tokens == 60


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_provider_that_dies_breaks_the_stream(sdks: SDKs, stand_in: StandIn, ending: Any) -> None:
    """A connection that ends within the body is seen as such, after exactly the scripted tokens."""
    stand_in.enqueue(Script(output_tokens=50, ending=ending, ending_after_tokens=10))
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        list(sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    [record] = stand_in.seen()
    assert (record.generated_tokens, record.complete, record.aborted) == (10, False, False)


def test_a_truncated_stream_ends_cleanly(sdks: SDKs, stand_in: StandIn) -> None:
    """A truncated stream ends well as HTTP, without the events that end it as a stream."""
    stand_in.enqueue(Script(output_tokens=50, ending="truncated", ending_after_tokens=10))
    chunks = list(sdks.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    assert sum(chunk.choices[0].delta.content == " token" for chunk in chunks) == 10
    assert b"[DONE]" not in stand_in.seen()[0].sent_body


def test_a_wrong_content_length_breaks_the_body(sdks: SDKs, stand_in: StandIn) -> None:
    """A content-length above the body's size is noticed by a client."""
    stand_in.enqueue(Script(content_length_error=10))
    with pytest.raises(httpx2.RemoteProtocolError):
        sdks.http.post(f"https://{OPENAI_HOST}/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})


def test_bodies_can_be_spoiled(sdks: SDKs, stand_in: StandIn) -> None:
    """A script can break the JSON, the UTF-8 and the announced encoding of an answer."""
    url = f"https://{OPENAI_HOST}/v1/chat/completions"
    stand_in.enqueue(Script(rewrite=lambda _, body: body[:-3] + b"\xff\xfe"), Script(claimed_encoding="gzip"))
    assert sdks.http.post(url, json={"model": "gpt-4o", "messages": HELLO}).content.endswith(b"\xff\xfe")
    with pytest.raises(httpx2.DecodingError):
        sdks.http.post(url, json={"model": "gpt-4o", "messages": HELLO})


def test_a_held_answer_waits_for_the_test(sdks: SDKs, stand_in: StandIn) -> None:
    """A silent provider says nothing until released, and a client that leaves meanwhile is billed no output."""
    stand_in.enqueue(Script(hold_head=Hold()))
    with pytest.raises(httpx2.ReadTimeout):
        sdks.http.post(
            f"https://{OPENAI_HOST}/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO}, timeout=0.2
        )
    sdks.close()
    [record] = stand_in.seen()
    assert (record.aborted, record.generated_tokens) == (True, 0)


def test_twenty_megabytes_are_read(sdks: SDKs, stand_in: StandIn) -> None:
    """A 20 MB request is read whole."""
    big = "x" * 20_000_000
    sdks.openai.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": big}])
    assert stand_in.seen()[0].input_tokens >= 5_000_000


def test_another_host_is_just_a_host(sdks: SDKs, stand_in: StandIn) -> None:
    """The host that has nothing to do with language models answers anything."""
    assert sdks.http.get(f"https://{OTHER_HOST}/v1/messages").json()["hello"] == "world"
    assert stand_in.billable() == []


def test_prices_round_up_once() -> None:
    """A bill is exact: the priority tier has its own prices, and the parts of the input are priced apart."""
    assert cost_nanousd(Bill("gpt-4o-mini", input_tokens=3, cache_read_tokens=1, output_tokens=2)) == 300 + 75 + 1200
    assert cost_nanousd(Bill("gpt-4o", input_tokens=1, output_tokens=1, service_tier="priority")) == 4250 + 17000
