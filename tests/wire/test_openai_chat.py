from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.openai_chat import CHAT, ChatStreamMeter
from tests.wire.corpus import FOLDER, byte_by_byte, feed_all, make_call, one
from tests.wire.sdk import Answered, streamed

SPENT = Refusal("spent", 'LLMCap: refused, cap "day ⚡" of $10 is spent.', cap="day ⚡", resets_at_ms=1_763_942_400_000)
REQUEST = Request("POST", "api.openai.com", "/v1/chat/completions")
SSE = "text/event-stream"


def parse(body: dict[str, Any], provider: str = "openai", host: str = "api.openai.com") -> Any:
    data = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], **body}
    return CHAT.parse(
        Request("POST", host, "/v1/chat/completions", body=json.dumps(data).encode()), Target(provider), "curl"
    )


def ask(client: openai.OpenAI, *, stream: bool = False) -> object:
    answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], stream=stream)
    return list(answer) if isinstance(answer, openai.Stream) else answer


# ── requests ──


def test_a_request_is_understood() -> None:
    """Model, stream, choices, limit, tier and texts come from the body, host and client from outside."""
    call = parse(
        {"stream": True, "n": 2, "max_tokens": 50, "max_completion_tokens": 70, "service_tier": "Flex"},
        host="eu.api.openai.com",
    )
    assert (call.dialect, call.provider, call.host, call.client) == (
        "openai.chat",
        "openai",
        "eu.api.openai.com",
        "curl",
    )
    assert (call.model, call.streamed, call.choices, call.max_output_tokens) == ("gpt-4o", True, 2, 70)
    assert call.terms.service_tier == "flex"
    assert call.content.texts == ("user", "Hi")
    assert (call.content.messages, call.content.blocks, call.content.opaque) == (1, 1, False)


def test_of_two_limits_the_larger_bounds() -> None:
    """Hosts differ on which of the two names they obey, and some ignore the new one."""
    assert parse({"max_tokens": 8_000, "max_completion_tokens": 10}, "deepseek").max_output_tokens == 8_000


@pytest.mark.parametrize(
    "body",
    [
        {"model": ""},
        {"model": None},
        {"model": 4},
        {"messages": "Hi"},
        {"n": "2"},
        {"n": 0},
        {"max_tokens": True},
        {"max_completion_tokens": 1.5},
        {"stream": "true"},
        {"tools": {}},
        {"service_tier": 1},
        {"models": ["gpt-4o", "openai/o3-pro"]},
    ],
)
def test_a_request_whose_cost_cannot_be_bounded_is_unreadable(body: dict[str, Any]) -> None:
    """A missing model, a wrong type, or a list of models at other prices is refused, not guessed at."""
    with pytest.raises(UnreadableRequest):
        parse(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "messages", "tools", "functions", "n", "audio", "modalities", "prediction", "plugins", "web_search_options",
    "search_parameters", "reasoning", "reasoning_effort", "response_format", "stream", "stream_options", "model",
]  # fmt: skip
PARTS = st.fixed_dictionaries(
    {"type": JSON | st.sampled_from(["text", "image_url", "input_audio", "file", "video_url"])},
    optional={"image_url": JSON, "input_audio": JSON, "file": JSON, "text": JSON, "video_url": JSON},
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.lists(PARTS | JSON, max_size=4))
def test_no_body_raises_anything_but_unreadable(body: dict[str, Any], parts: list[Any]) -> None:
    """Whatever types stand where, a request is understood or UnreadableRequest."""
    try:
        parse({"messages": [{"role": "user", "content": parts}]} | body)
    except UnreadableRequest:
        pass


def test_media_in_the_body_is_measured_and_the_rest_is_opaque() -> None:
    """Inline images, audio and files become media; an address or a file's id stands for anything."""
    image = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhQAHIAAAA", "detail": "low"}}
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    content = parse({"messages": [{"role": "user", "content": [image, audio, file]}]}).content
    assert content.media == (Media("image", 12, 320, 200, "low"), Media("audio", 6), Media("document", 6))
    assert content.texts == ("user", "a.pdf")
    assert not content.opaque
    for part in (
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "something_new"},
    ):
        assert parse({"messages": [{"role": "user", "content": [part]}]}).content.opaque
    assert parse({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}).content.opaque


def test_tools_are_counted_and_those_the_host_runs_take_turns() -> None:
    """A function's schema is input once; a tool of the host's own makes the model read again, and searches cost."""
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    content = parse({"tools": [function], "response_format": {"type": "json_object"}}).content
    assert content.tool_bytes > len(json.dumps(function))
    assert (content.server_turns, content.web_searches, content.opaque) == (0, 0, False)
    hosted = parse({"tools": [{"type": "openrouter:web_search"}]}, "openrouter").content
    assert hosted.server_turns == hosted.web_searches == DEFAULT_SERVER_TURNS
    assert hosted.opaque


@pytest.mark.parametrize(
    ("body", "provider", "searches"),
    [
        ({"web_search_options": {}}, "openai", 1),
        ({"model": "gpt-4o-search-preview", "n": 2}, "openai", 2),
        ({"model": "x/y:online"}, "openrouter", 3),
        ({"plugins": [{"id": "web"}]}, "openrouter", 3),
        ({"plugins": [{"id": "web", "max_results": 20}], "n": 2}, "openrouter", 20),
        ({"plugins": [{"id": "web", "max_uses": 5}]}, "openrouter", 5),
        ({"plugins": [{"id": "web", "enabled": False}]}, "openrouter", 0),
        ({"plugins": [{"id": "web"}], "model": "anthropic/claude-opus-4.5"}, "openrouter", 8),
        ({"plugins": [{"id": "web-fetch", "max_uses": 2}]}, "openrouter", 2),
        ({"search_parameters": {"mode": "auto"}}, "xai", 20),
        ({"search_parameters": {"mode": "on", "max_search_results": 3}}, "xai", 3),
        ({"search_parameters": {"mode": "off"}}, "xai", 0),
    ],
)
def test_searches_are_bounded(body: dict[str, Any], provider: str, searches: int) -> None:
    """Where a host searches the web for the model, each search that may be billed is foreseen."""
    content = parse(body, provider).content
    assert content.web_searches == searches
    assert content.opaque is (searches > 0)


@pytest.mark.parametrize(
    ("provider", "model", "body", "hidden"),
    [
        ("openai", "gpt-4o-mini", {}, 0),
        ("openai", "gpt-4.1", {}, 0),
        ("openai", "ft:gpt-3.5-turbo:me::id", {}, 0),
        ("openai", "o4-mini", {}, None),
        ("openai", "gpt-5.1", {}, None),
        ("openai", "gpt-5.1", {"reasoning_effort": "none"}, 0),
        ("openai", "gpt-5", {"reasoning_effort": "minimal"}, None),
        ("openai", "a-new-name", {}, None),
        ("openai", "gpt-4o-audio-preview", {"modalities": ["text", "audio"]}, None),
        ("openai", "gpt-4o", {"prediction": {"type": "content", "content": "abcd"}}, 4),
        ("deepseek", "deepseek-reasoner", {}, 0),
        ("groq", "openai/gpt-oss-120b", {}, 0),
        ("groq", "qwen/qwen3-32b", {"reasoning_format": "hidden"}, None),
        ("bedrock", "openai.gpt-5.5", {}, None),
        ("bedrock", "us.openai.gpt-oss-120b-1:0", {}, 0),
        ("bedrock", "qwen.qwen3-32b-v1:0", {}, 0),
        ("groq", "groq/compound", {}, None),
        ("xai", "grok-4", {}, None),
        ("xai", "grok-4-fast-non-reasoning", {}, 0),
        ("xai", "grok-3", {}, 0),
        ("google", "gemini-2.5-pro", {}, None),
        ("google", "gemini-2.0-flash", {}, 0),
        ("openrouter", "openai/o3", {}, None),
        ("openrouter", "openai/gpt-5:online", {}, None),
        ("openrouter", "openrouter/auto", {}, None),
        ("openrouter", "deepseek/deepseek-r1", {}, 0),
        ("openrouter", "deepseek/deepseek-r1", {"reasoning": {"exclude": True}}, None),
        ("openrouter", "anthropic/claude-opus-4.5", {"reasoning": {"effort": "high"}}, None),
        ("openrouter", "anthropic/claude-opus-4.5", {}, 0),
        ("local", "llama", {}, 0),
        ("gateway", "openai/gpt-5-mini", {}, None),
    ],
)
def test_hidden_output_is_foreseen(provider: str, model: str, body: dict[str, Any], hidden: int | None) -> None:
    """Reasoning that the stream does not show must be reserved whole; what it shows need not."""
    assert parse({"model": model, **body}, provider).hidden_output_tokens == hidden


# ── amending ──


def test_usage_is_asked_for_and_no_other_byte_changes() -> None:
    """The member comes to the front, the rest stays as the client wrote it, duplicates and odd numbers included."""
    body = b' {\n "model":"gpt-4o","stream" : true, "temperature":1.10,"x":1e400,"messages":[]}'
    amended = CHAT.amend(make_call(), body, None)
    assert amended == b' {"stream_options":{"include_usage":true},' + body[2:]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (None, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
    ],
)
def test_other_stream_options_are_kept(options: Any, wanted: dict[str, bool]) -> None:
    """Only include_usage changes where the client sent options of its own."""
    body = json.dumps({"a": "é", "stream_options": options, "b": [1, 2.50]}).encode()
    amended = CHAT.amend(make_call(), body, None)
    assert json.loads(amended) == {"a": "é", "stream_options": wanted, "b": [1, 2.5]}
    start = body.index(b'"stream_options": ') + len(b'"stream_options": ')
    assert amended.startswith(body[:start])
    assert amended.endswith(b', "b": [1, 2.5]}')


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (make_call(), b'{"stream_options":{"include_usage":true}}'),
        (make_call(streamed=False), b'{"stream":false}'),
        (make_call(editable=False), b"{}"),
        (make_call(provider="mistral"), b'{"stream":true}'),
    ],
)
def test_a_body_that_needs_nothing_stays_the_same(call: Any, body: bytes) -> None:
    """Asked already, not streamed, signed, or at a host that rejects the option: the very same bytes."""
    assert CHAT.amend(call, body, None) is body


@pytest.mark.parametrize(
    ("provider", "body", "limited"),
    [
        ("openai", {}, {"max_completion_tokens": 9}),
        ("groq", {}, {"max_completion_tokens": 9}),
        ("mistral", {}, {"max_tokens": 9}),
        ("local", {"max_tokens": None}, {"max_tokens": 9}),
        ("openai", {"max_tokens": 500}, {"max_tokens": 9}),
        ("local", {"max_completion_tokens": 500}, {"max_completion_tokens": 9}),
        ("openai", {"max_tokens": 7, "max_completion_tokens": 8}, {"max_tokens": 9, "max_completion_tokens": 9}),
    ],
)
def test_the_answer_is_limited_where_the_request_or_the_host_says(
    provider: str, body: dict[str, Any], limited: dict[str, int]
) -> None:
    """A stated limit is replaced in place, else the host's own name for it is added."""
    data = json.dumps({"model": "m", **body, "messages": []}).encode()
    amended = json.loads(CHAT.amend(make_call(provider=provider, streamed=False), data, 9))
    assert amended == {"model": "m", "messages": []} | limited


def test_a_limit_stated_twice_or_by_an_escape_is_replaced_everywhere() -> None:
    """Servers differ on which of two members counts, so none may keep the old limit."""
    body = b'{"max_tokens":1000,"m\\u0061x_tokens":2000,"model":"m"}'
    amended = CHAT.amend(make_call(streamed=False), body, 9)
    assert amended == b'{"max_tokens":9,"m\\u0061x_tokens":9,"model":"m"}'


@given(st.dictionaries(st.text(), JSON, min_size=1), st.booleans())
def test_amending_changes_only_what_it_names(body: dict[str, Any], spaced: bool) -> None:
    """For any body, what is read after amending is what was sent, plus the option."""
    data = json.dumps(body, separators=(", ", " : ") if spaced else (",", ":"), ensure_ascii=spaced)
    if any("\ud800" <= char <= "\udfff" for char in data):
        return
    amended = json.loads(CHAT.amend(make_call(), data.encode(), None))
    assert amended.pop("stream_options")["include_usage"] is True
    body.pop("stream_options", None)
    assert amended == body


# ── metering ──


def test_the_chunk_we_asked_for_is_taken_out() -> None:
    """The client that did not ask sees its stream without the extra chunk, and the usage is ours."""
    data = (FOLDER / "chat_stream_usage.sse").read_bytes()
    lines = data.split(b"\n\n")
    shown = b"\n\n".join(line for line in lines if b'"choices":[],' not in line)
    for chunks in ([data], byte_by_byte(data)):
        meter = CHAT.meter(make_call(), b'{"stream":true}', ResponseHead(200, SSE), one)
        assert feed_all(meter, chunks) == shown
        assert meter.reading.usage == Usage(1206, 9, cache_read_tokens=1024)


def test_a_chunk_the_client_asked_for_stays() -> None:
    """Nothing is taken out when the client asked, when the body is signed, or when the host reports unasked."""
    data = (FOLDER / "chat_stream_usage.sse").read_bytes()
    for call, body in (
        (make_call(), b'{"stream_options": {"include_usage": true}}'),
        (make_call(editable=False), b"{}"),
        (make_call(provider="openrouter"), b"{}"),
    ):
        assert feed_all(CHAT.meter(call, body, ResponseHead(200, SSE), one), [data]) == data


def test_groq_is_asked_and_its_own_usage_is_read_too() -> None:
    """`x_groq.usage` comes inside a chunk the client keeps; only the extra chunk is taken out."""
    call = make_call(provider="groq")
    assert b"include_usage" in CHAT.amend(call, b'{"stream":true}', None)
    own = b'data: {"choices":[{"delta":{}}],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":2}}}\n\n'
    extra = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    meter = CHAT.meter(call, b'{"stream":true}', ResponseHead(200, SSE), one)
    assert meter.feed(own + extra) == own
    assert (meter.reading.usage, meter.reading.final) == (Usage(3, 2), True)


def test_a_usage_before_the_output_is_not_the_last_word() -> None:
    """Output that comes after a usage is not covered by it, be it said to be the end or not."""
    head = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":0}}\n\n'
    text = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
    meter = CHAT.meter(make_call(), b'{"stream_options": {"include_usage": true}}', ResponseHead(200, SSE), one)
    feed_all(meter, [head, text, text, b"data: [DONE]\n\n"])
    assert (meter.reading.final, meter.reading.counted_output_tokens) == (False, 2)
    meter = CHAT.meter(make_call(), b'{"stream_options": {"include_usage": true}}', ResponseHead(200, SSE), one)
    feed_all(meter, [head, text, text, usage, b"data: [DONE]\n\n"])
    assert (meter.reading.final, meter.reading.usage) == (True, Usage(3, 2))


def test_a_usage_without_output_says_nothing() -> None:
    """What a host does not say of the output is not taken for 0."""
    reading = body_reading({"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 3}})
    assert (reading.usage, reading.final, reading.counted_output_tokens) == (None, False, 1)


def test_events_of_one_piece_stay_in_one_piece_and_none_waits() -> None:
    """Each feed gives every event that is whole by then, in one go."""
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), one)
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    assert meter.feed(event + event + event[:9]) == event + event
    assert meter.feed(event[9:]) == event


@pytest.mark.parametrize(
    ("content_type", "streamed_call", "reads_events"),
    [
        ("text/event-stream; charset=utf-8", False, True),
        ("application/json", True, False),
        ("application/problem+json", True, False),
        ("", True, True),
        ("", False, False),
    ],
)
def test_the_content_type_decides_how_an_answer_is_read(
    content_type: str, streamed_call: bool, reads_events: bool
) -> None:
    """A server may answer a stream request by one body and the other way round."""
    meter = CHAT.meter(make_call(streamed=streamed_call), b"{}", ResponseHead(200, content_type), one)
    assert isinstance(meter, ChatStreamMeter) is reads_events


def body_reading(body: bytes | dict[str, Any], provider: str = "openai") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    meter = CHAT.meter(make_call(provider=provider, streamed=False), b"{}", ResponseHead(200, "application/json"), one)
    assert feed_all(meter, [data]) == data
    return meter.reading


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"choices":', b"\xff", b"[" * 100_000])
def test_an_answer_that_is_not_understood_is_unreadable(body: bytes) -> None:
    """Such a call is settled at its bound, never below."""
    reading = body_reading(body)
    assert reading.unreadable
    assert reading.usage is None


@pytest.mark.parametrize("value", [-1, True, "12", 1.5, 10**12, [], {}])
@pytest.mark.parametrize("key", ["prompt_tokens", "completion_tokens"])
def test_a_total_that_is_no_count_is_not_believed(key: str, value: Any) -> None:
    """One bad total spoils the usage, in a body and in a stream."""
    usage = {"prompt_tokens": 5, "completion_tokens": 5} | {key: value}
    reading = body_reading({"choices": [], "usage": usage})
    assert reading.usage is None
    assert key in reading.unreadable
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), one)
    meter.feed(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
    assert meter.reading.usage is None
    assert meter.reading.unreadable
    assert not meter.reading.final


@pytest.mark.parametrize(
    ("usage", "believed"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 99}}, Usage(109, 5, cache_read_tokens=99)),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, Usage(10, 5)),
        ({"prompt_tokens_details": {"cached_tokens": "4"}}, Usage(10, 5)),
        ({"prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4}}, Usage(18, 5, 8, 4)),
        ({"prompt_tokens_details": None, "completion_tokens_details": []}, Usage(10, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": 7}}, Usage(10, 12, reasoning_tokens=7)),
        ({"total_tokens": 40}, Usage(10, 30)),
        ({"completion_tokens": None, "total_tokens": 13}, Usage(10, 3)),
        ({"completion_tokens": 0, "prompt_tokens": 0}, Usage(0, 0)),
    ],
)
def test_a_part_that_is_not_sane_never_makes_a_call_cheaper(usage: dict[str, Any], believed: Usage) -> None:
    """A part above its total stands beside it, what is no count is dropped, a larger total wins, 0 stays 0."""
    raw = {"prompt_tokens": 10, "completion_tokens": 5} | usage
    assert body_reading({"choices": [], "usage": raw}).usage == believed


@pytest.mark.parametrize(
    "details",
    [
        {"prompt_tokens_details": {"cache_write_tokens": 11}},
        {"prompt_tokens_details": {"cache_write_tokens": "4"}},
        {"prompt_tokens_details": {"audio_tokens": 11}},
        {"completion_tokens_details": {"audio_tokens": 6}},
    ],
)
def test_a_dearer_part_that_is_not_sane_spoils_the_usage(details: dict[str, Any]) -> None:
    """What costs more than the rest can't be dropped without falling below the bill."""
    reading = body_reading({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5} | details})
    assert reading.usage is None
    assert reading.unreadable


@given(JSON)
def test_no_usage_raises_or_is_accepted_unsound(raw: Any) -> None:
    """Whatever stands for a usage, there is a sound one, none, or the word that it was not understood."""
    reading = body_reading({"choices": [], "usage": raw})
    assert reading.usage is None or not reading.unreadable


@given(JSON)
def test_no_chunk_raises(payload: Any) -> None:
    """Any JSON may stand in an event; without choices it counts as output, from above."""
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), one)
    for value in (payload, {"choices": payload}, {"choices": [{"delta": payload}]}, {"x_groq": payload}):
        meter.feed(b"data: " + json.dumps(value).encode() + b"\n\n")
    meter.end()


def test_an_event_that_is_no_json_counts_as_output() -> None:
    """A host's own heartbeat does not end the stream, and costs too much rather than too little."""
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), len)
    assert meter.feed(b"data: heartbeat\n\n") == b"data: heartbeat\n\n"
    assert meter.reading.counted_output_tokens == 9
    assert not meter.reading.unreadable


def test_a_stream_in_which_nothing_was_understood_is_unreadable() -> None:
    """A JSON body under an event stream's type is not taken for an empty answer."""
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), one)
    assert feed_all(meter, [b'{"usage":{}}\n']) == b'{"usage":{}}\n'
    assert meter.reading.unreadable


def test_reasoning_given_twice_is_counted_once() -> None:
    """OpenRouter repeats its reasoning in reasoning_details."""
    delta = {"reasoning": "abc", "reasoning_details": [{"type": "reasoning.text", "text": "abc"}], "content": ""}
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), len)
    meter.feed(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
    assert meter.reading.counted_output_tokens == 3


def test_a_search_nobody_reports_is_billed_as_asked_for() -> None:
    """OpenAI's search models report no searches, so the request's own stand in."""
    call = parse({"web_search_options": {}, "stream": True})
    meter = CHAT.meter(call, b"{}", ResponseHead(200, SSE), one)
    meter.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n')
    assert meter.reading.usage == Usage(1, 1, web_search_requests=1)


@pytest.mark.parametrize("body", [b'{"error":{"message":"no"}}', b"<html>502</html>", b""])
def test_an_error_answer_only_passes(body: bytes) -> None:
    """A status of 400 or above is a failure without usage, whatever its body."""
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(429, "application/json"), one)
    assert feed_all(meter, [body]) == body
    assert meter.reading.failed
    assert meter.reading.usage is None
    assert not meter.reading.unreadable


def test_an_error_answer_that_reports_usage_is_billed() -> None:
    """Some hosts bill what they generated before they failed."""
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(500, "application/json"), one)
    feed_all(meter, [b'{"error":{},"usage":{"prompt_tokens":3,"completion_tokens":4}}'])
    assert (meter.reading.usage, meter.reading.final) == (Usage(3, 4), True)


# ── refusals and cuts ──


@pytest.mark.parametrize(("status", "error"), [(429, openai.RateLimitError), (400, openai.BadRequestError)])
def test_a_refusal_raises_the_sdks_own_error_after_one_request(status: int, error: type[Exception]) -> None:
    """Our message, type and code arrive, streamed or not, and the SDK does not retry."""
    response = CHAT.refusal(make_call(), REQUEST, SPENT, status)
    for stream in (False, True):
        answered = Answered(response)
        raised = answered.error_of(lambda client, stream=stream: ask(client, stream=stream))  # type: ignore[misc]
        assert isinstance(raised, error)
        assert SPENT.message in raised.message
        assert (raised.type, raised.code) == ("insufficient_quota", "llmcap_cap_spent")
        assert answered.requests == 1


def test_openrouters_error_code_is_a_number() -> None:
    """Its SDK parses the code as an integer, known from the call or from the host."""
    for call, host in ((make_call(provider="openrouter"), "x"), (None, "openrouter.ai")):
        body = json.loads(CHAT.refusal(call, Request("POST", host, "/"), SPENT, 402).body)
        assert body["error"]["code"] == 402
        assert body["error"]["message"] == SPENT.message


@pytest.mark.parametrize("length", [0, 1, 200, 700, 1200])
def test_a_cut_raises_the_sdks_own_error_wherever_the_stream_stood(length: int) -> None:
    """Even in the middle of an event, the next thing the SDK sees is our error."""
    data = (FOLDER / "chat_stream_no_usage.sse").read_bytes()
    meter = CHAT.meter(make_call(), b"{}", ResponseHead(200, SSE), one)
    shown = meter.feed(data[:length])
    answered = Answered(streamed(shown + CHAT.cut(make_call(), SPENT, meter)))
    raised = answered.error_of(lambda client: ask(client, stream=True))
    assert raised.message == SPENT.message
    assert answered.requests == 1


def test_half_a_json_body_gets_no_tail() -> None:
    """Nothing can be added to it that a client would read."""
    meter = CHAT.meter(make_call(streamed=False), b"{}", ResponseHead(200, "application/json"), one)
    assert CHAT.cut(make_call(), SPENT, meter) == b""
