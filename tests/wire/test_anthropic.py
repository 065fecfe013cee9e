"""Tests of Anthropic Messages: requests, answers, refusals and cuts, against the official SDK too."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.anthropic import MAX_BLOCK_DEPTH, MESSAGES
from llmcap_addon.wire.anthropic_meter import TOOL_USE_TOKENS
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from tests.wire.bodies import feed, feed_all_ways, recorded, split

SPENT = Refusal("spent", "LLMCap: the cap daily is spent ($10.00 of $10.00).", cap="daily", resets_at_ms=0)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + b"\x08\x06\0\0\0"
HI = [{"role": "user", "content": "hi"}]


def request(**body: Any) -> Request:
    """A request with these members over a minimal one."""
    full = {"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": HI, **body}
    return Request("POST", "api.anthropic.com", "/v1/messages", body=json.dumps(full).encode())


def parse(**body: Any) -> Call:
    return MESSAGES.parse(request(**body), Target("anthropic"), "test")


def meter(content_type: str = "text/event-stream; charset=utf-8", status: int = 200, **body: Any) -> Meter:
    asked = request(**{"stream": "event-stream" in content_type, **body})
    return MESSAGES.meter(
        MESSAGES.parse(asked, Target("anthropic"), ""), asked.body, ResponseHead(status, content_type), len
    )


STREAMS = {
    "text": Usage(input_tokens=25, output_tokens=15),
    "thinking_tool": Usage(
        input_tokens=4 + 1000 + 5000,
        output_tokens=120,
        cache_read_tokens=5000,
        cache_write_tokens=1000,
        cache_write_1h_tokens=700,
        reasoning_tokens=60,
    ),
    "web_search": Usage(
        input_tokens=2060 + 400 + 30,
        output_tokens=88,
        cache_read_tokens=30,
        cache_write_tokens=400,
        cache_write_1h_tokens=60,
        web_search_requests=2,
    ),
}


class TestParse:
    def test_plain_request(self) -> None:
        """Model, limit, stream and terms are taken over; texts bound the input."""
        call = parse(system="Be brief", stream=True, service_tier="standard_only", speed="fast", inference_geo="us")
        assert call.dialect == "anthropic.messages"
        assert (call.provider, call.host, call.model) == ("anthropic", "api.anthropic.com", "claude-sonnet-4-6")
        assert call.streamed
        assert call.max_output_tokens == 100
        assert call.terms == Terms("standard_only", "fast", "us")
        assert call.content.texts == ("Be brief", "hi")
        assert (call.content.text_bytes, call.content.messages, call.content.blocks) == (10, 1, 2)
        assert not call.content.opaque
        assert call.client == "test"

    @pytest.mark.parametrize(
        ("model", "thinking", "hidden"),
        [
            ("claude-sonnet-4-6", None, 0),
            ("claude-opus-4-20250514", None, 0),
            ("claude-3-5-haiku-latest", None, 0),
            ("claude-opus-5", None, None),
            ("claude-sonnet-5-5", None, None),
            ("claude-mythos-preview", None, None),
            ("claude-opus-5", {"type": "disabled"}, 0),
            ("claude-sonnet-4-6", {"type": "adaptive"}, None),
            ("claude-sonnet-4-6", {"type": "enabled", "budget_tokens": 1024}, None),
            ("claude-sonnet-5-5", {"type": "between_tools"}, None),
        ],
    )
    def test_hidden_thinking(self, model: str, thinking: object, hidden: int | None) -> None:
        """Only max_tokens bounds thinking, and a model thinks by default from Claude 5 on."""
        assert parse(model=model, thinking=thinking).hidden_output_tokens == hidden

    def test_blocks(self) -> None:
        """Images and PDFs become media, nested results count, and an earlier thought counts with its signature."""
        data = base64.b64encode(PNG).decode()
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
        pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}}
        fetched = {
            "type": "web_fetch_tool_result",
            "tool_use_id": "a",
            "content": {"type": "web_fetch_result", "url": "https://example.com", "content": pdf},
        }
        call = parse(
            messages=[
                {"role": "user", "content": [image, {"type": "text", "text": "one"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "two", "signature": "three" * 100},
                        {"type": "tool_use", "id": "b", "name": "four", "input": {"five": "six"}},
                        fetched,
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "b", "content": [image]}]},
            ]
        )
        assert [item.kind for item in call.content.media] == ["image", "document", "image"]
        assert call.content.media[0] == Media("image", call.content.media[0].size_bytes, 640, 480)
        joined = " ".join(call.content.texts)
        for word in ("one", "two", "three" * 100, "four", "five", "six"):
            assert word in joined
        assert data not in joined
        assert not call.content.opaque

    @pytest.mark.parametrize(
        "body",
        [
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
            {
                "messages": [
                    {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "x"}}]}
                ]
            },
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "x"}]}]},
            {"container": "container_1"},
            {"thread": {"type": "continue", "previous_message_id": "msg_1"}},
            {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]},
        ],
    )
    def test_opaque_input(self, body: dict[str, Any]) -> None:
        """What the body does not show is marked."""
        assert parse(**body).content.opaque

    def test_tools(self) -> None:
        """A custom tool is text, a client tool the provider's text, a server tool further passes."""
        custom = {"name": "f", "description": "does", "input_schema": {"type": "object"}}
        call = parse(tools=[custom, {"type": "bash_20250124", "name": "bash"}])
        assert (call.content.provider_tools, call.content.server_turns) == (1, 0)
        assert call.content.tool_bytes >= len(json.dumps(custom))
        search = {"type": "web_search_20260318", "name": "web_search"}
        call = parse(tools=[{**search, "max_uses": 3}, {"type": "web_fetch_20260318", "name": "web_fetch"}])
        assert (call.content.server_turns, call.content.web_searches) == (3 + DEFAULT_SERVER_TURNS, 3)
        assert parse(tools=[search]).content.web_searches == DEFAULT_SERVER_TURNS
        assert parse(tools=[{"type": "computer_toolset_20260801"}]).content.provider_tools > 1
        edits = {"edits": [{"type": "compact_20260112"}]}
        assert parse(context_management=edits).content.server_turns == 1

    @pytest.mark.parametrize(
        ("body", "what"),
        [
            ({"model": None}, "model"),
            ({"model": 3}, "model"),
            ({"messages": "hi"}, "messages"),
            ({"messages": [{"role": "user", "content": 3}]}, "content"),
            ({"max_tokens": "100"}, "max_tokens"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"max_tokens": True}, "max_tokens"),
            ({"stream": "yes"}, "stream"),
            ({"tools": {}}, "tools"),
            ({"fallbacks": [{"max_tokens": 5}]}, "fallbacks"),
            ({"fallbacks": "none"}, "fallbacks"),
            ({"models": ["anthropic/claude-opus-5"]}, "models"),
            ({"tools": [{"type": "advisor_20260301", "name": "advisor"}]}, "advisor"),
        ],
    )
    def test_unreadable(self, body: dict[str, Any], what: str) -> None:
        """What would make the bound wrong is refused, by its name."""
        with pytest.raises(UnreadableRequest, match=what):
            parse(**body)

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b'{"model": NaN}', b"[" * 100_000])
    def test_broken_body(self, body: bytes) -> None:
        """A body that is no JSON object is unreadable, whatever it is."""
        with pytest.raises(UnreadableRequest):
            MESSAGES.parse(Request("POST", "api.anthropic.com", "/v1/messages", body=body), Target("anthropic"), "")

    def test_deep_nesting(self) -> None:
        """Blocks nested beyond any use are refused instead of overflowing the stack."""
        block: object = "x"
        for _ in range(MAX_BLOCK_DEPTH + 1):
            block = [{"type": "tool_result", "content": block}]
        with pytest.raises(UnreadableRequest, match="nested"):
            parse(messages=[{"role": "user", "content": block}])

    def test_missing_limit(self) -> None:
        """Without max_tokens the provider refuses; until it does, the answer is unbounded by the request."""
        assert parse(max_tokens=None).max_output_tokens is None
        assert parse(max_tokens=0).max_output_tokens == 0


class TestAmend:
    def test_untouched(self) -> None:
        """Without a limit to set, the very same bytes go out."""
        body = b'{ "model":"claude-opus-5" }'
        assert MESSAGES.amend(parse(), body, None) is body

    def test_limit(self) -> None:
        """The limit is set, and a thinking budget is kept below it."""
        body = request(thinking={"type": "enabled", "budget_tokens": 4000}, max_tokens=8000).body
        amended = json.loads(MESSAGES.amend(parse(), body, 2000))
        assert amended["max_tokens"] == 2000
        assert amended["thinking"] == {"type": "enabled", "budget_tokens": 1999}
        assert amended["messages"] == HI


class TestStream:
    @pytest.mark.parametrize("name", STREAMS)
    def test_usage(self, name: str) -> None:
        """The recorded streams give the hand-worked usage, fed whole or byte by byte, and pass unchanged."""
        read = feed_all_ways(meter, recorded(f"anthropic/{name}.sse")).reading
        assert read.usage == STREAMS[name]
        assert read.final
        assert not read.failed
        assert not read.unreadable

    @given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 5000), max_size=12))
    def test_split_anywhere(self, name: str, cuts: list[int]) -> None:
        """However a stream is split, it reads the same and passes unchanged."""
        body = recorded(f"anthropic/{name}.sse")
        split_meter = meter()
        assert feed(split_meter, split(body, cuts)) == body
        assert split_meter.reading.usage == STREAMS[name]

    @pytest.mark.parametrize("name", [*STREAMS, "error", "no_usage"])
    def test_truncated_anywhere(self, name: str) -> None:
        """Truncated at any byte, a stream never raises, passes what came, and is final only with its last word."""
        body = recorded(f"anthropic/{name}.sse")
        for size in range(len(body)):
            cut_meter = meter()
            assert feed(cut_meter, [body[:size]]) == body[:size]
            if cut_meter.reading.final:
                assert cut_meter.reading.usage == STREAMS[name]
            assert not cut_meter.reading.unreadable

    def test_terms_and_model(self) -> None:
        """Model and terms come from message_start and stay."""
        read = feed_all_ways(meter, recorded("anthropic/thinking_tool.sse")).reading
        assert read.model == "claude-opus-4-8"
        assert read.terms == Terms("priority", "fast", "us")

    def test_cache_growth_at_an_hour(self) -> None:
        """Cache writes that grew after the start are an hour's when the request asks for an hour anywhere."""
        system = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        read = feed_all_ways(lambda: meter(system=system), recorded("anthropic/web_search.sse")).reading
        assert read.usage is not None
        assert read.usage.cache_write_1h_tokens == 60 + 300

    def test_input_is_known_after_the_start(self) -> None:
        """After message_start the usage holds the input, not final; deltas are counted, signatures are not."""
        body = recorded("anthropic/thinking_tool.sse")
        early = meter()
        early.feed(body[: body.index(b"event: message_delta")])
        assert early.reading.usage is not None
        assert early.reading.usage.input_tokens == 6004
        assert not early.reading.final
        shown = len("Let me see") + TOOL_USE_TOKENS + len("get_weather") + len("{}") + len('{"city": "Wien"}')
        assert early.reading.counted_output_tokens == shown

    def test_passes_after_server_tools(self) -> None:
        """Until the totals come, each result of a server-side tool adds a pass over all input so far, from above."""
        body = recorded("anthropic/web_search.sse")
        early = meter()
        early.feed(body[: body.index(b"event: message_delta")])
        assert early.reading.usage is not None
        assert early.reading.usage.input_tokens > 2 * (50 + 100) + 400
        assert early.reading.usage.cache_write_tokens == 100
        assert not early.reading.final

    def test_search_results_are_no_output(self) -> None:
        """Neither a search's results nor cited text count as output."""
        read = feed_all_ways(meter, recorded("anthropic/web_search.sse")).reading
        assert read.counted_output_tokens < 120

    def test_error_in_the_stream(self) -> None:
        """The provider's own error ends the stream as failed, with the usage so far."""
        read = feed_all_ways(meter, recorded("anthropic/error.sse")).reading
        assert read.failed
        assert not read.final
        assert read.usage == Usage(input_tokens=25, output_tokens=1)
        assert read.counted_output_tokens == len("Hel")

    def test_no_usage_at_the_end(self) -> None:
        """A stream that never says its output is not final, and its deltas stay counted."""
        read = feed_all_ways(meter, recorded("anthropic/no_usage.sse")).reading
        assert not read.final
        assert read.counted_output_tokens == len("Hello")

    @pytest.mark.parametrize("bad", ["-1", "1.5", '"7"', "true", "1e400", "NaN", "99999999999999999999", "{}", "[]"])
    @pytest.mark.parametrize("key", ["output_tokens", "cache_creation_input_tokens", "server_tool_use"])
    def test_usage_that_is_none(self, bad: str, key: str) -> None:
        """A number that is no count makes the call unreadable, even after a last word, and never raises."""
        if (key, bad) == ("server_tool_use", "{}"):
            return
        body = recorded("anthropic/text.sse")
        line = f'event: message_delta\ndata: {{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"{key}":{bad}}}}}\n\n'
        for chunks in ([line.encode()], [body[: body.index(b"event: message_delta")], line.encode()]):
            read = meter()
            feed(read, chunks)
            assert read.reading.unreadable
            assert not read.reading.final

    @given(st.lists(st.binary(max_size=30), max_size=6))
    def test_garbage(self, chunks: list[bytes]) -> None:
        """Random bytes pass and never raise."""
        assert feed(meter(), chunks) == b"".join(chunks)

    @pytest.mark.parametrize(
        "data",
        [b"[DONE]", b"[1]", b"3", b'{"type":3}', b'{"type":"message_start","message":[]}', b'{"type":"message_delta"}',
         b'{"type":"content_block_delta","delta":"x"}', b'{"type":"content_block_start","content_block":3}',
         b'{"type":"message_start","message":{"usage":{"iterations":{}},"model":3}}', b'{"type":[]}'],
    )  # fmt: skip
    def test_strange_events(self, data: bytes) -> None:
        """An event of a strange shape passes and never raises."""
        body = b"data: " + data + b"\n\n"
        assert feed(meter(), [body]) == body


class TestBody:
    def test_message(self) -> None:
        """A whole message gives the hand-worked usage, model and terms."""
        read = feed_all_ways(lambda: meter("application/json"), recorded("anthropic/message.json")).reading
        assert read.usage == Usage(
            input_tokens=2095 + 200 + 1000, output_tokens=503, cache_read_tokens=1000, cache_write_tokens=200
        )
        assert read.final
        assert read.model == "claude-haiku-4-5-20251001"
        assert read.terms == Terms("standard", "", "not_available")

    def test_compaction(self) -> None:
        """A compaction's tokens stand in no top-level number; the sum of the passes is what is billed."""
        read = feed_all_ways(
            lambda: meter("application/json", model="claude-opus-5"), recorded("anthropic/compaction.json")
        ).reading
        assert read.usage == Usage(
            input_tokens=(1500 + 60 + 50) + 20 + (100 + 100 + 200),
            output_tokens=400 + 30 + 40,
            cache_read_tokens=400,
            cache_write_tokens=20,
        )
        assert read.final

    def test_second_model(self) -> None:
        """Usage billed on another model is not priced as this one's."""
        read = feed_all_ways(
            lambda: meter("application/json", model="claude-fable-5"), recorded("anthropic/second_model.json")
        ).reading
        assert "second model" in read.unreadable
        assert not read.final

    def test_error_with_a_good_status(self) -> None:
        """An error body on a stream request, with status 200, is a failure and no unreadable answer."""
        body = recorded("anthropic/error.json")
        read = feed_all_ways(lambda: meter("application/json", stream=True), body).reading
        assert read.failed
        assert not read.unreadable

    def test_truncated_anywhere(self) -> None:
        """A truncated message is unreadable and never raises."""
        body = recorded("anthropic/message.json")
        for size in range(len(body)):
            read = meter("application/json")
            assert feed(read, [body[:size]]) == body[:size]
            assert read.reading.unreadable

    @pytest.mark.parametrize("status", [400, 429, 500, 529])
    def test_failed_status(self, status: int) -> None:
        """An error status passes, whatever the body is, and is marked failed."""
        read = meter("text/html", status)
        assert feed(read, [b"<html>", b"\xff"]) == b"<html>\xff"
        assert read.reading.failed
        assert not read.reading.unreadable


def sdk(handler: Any, retries: int = 2) -> anthropic.Anthropic:
    """The official client, its requests answered by `handler`."""
    http = httpx2.Client(transport=httpx2.MockTransport(handler))
    return anthropic.Anthropic(api_key="test", http_client=http, max_retries=retries)


class TestSdk:
    @pytest.mark.parametrize(
        ("status", "error", "kind"),
        [
            (429, anthropic.RateLimitError, "rate_limit_error"),
            (400, anthropic.BadRequestError, "invalid_request_error"),
            (402, anthropic.APIStatusError, "billing_error"),
            (403, anthropic.PermissionDeniedError, "permission_error"),
            (500, anthropic.InternalServerError, "api_error"),
        ],
    )
    def test_refusal(self, status: int, error: type[Exception], kind: str) -> None:
        """The SDK raises its own error with our message after exactly one request."""
        response = MESSAGES.refusal(parse(), request(), SPENT, status)
        seen: list[int] = []

        def answer(_: httpx2.Request) -> httpx2.Response:
            seen.append(1)
            return httpx2.Response(response.status, headers=list(response.headers), content=response.body)

        with pytest.raises(error, match="LLMCap: the cap daily is spent") as raised:
            sdk(answer).messages.create(
                model="claude-opus-5", max_tokens=5, messages=[{"role": "user", "content": "x"}]
            )
        assert len(seen) == 1
        body: Any = raised.value.body  # type: ignore[attr-defined]
        assert body["error"]["type"] == kind

    @pytest.mark.parametrize("size", [0, 1, 150, 500, 700, 900])
    def test_cut(self, size: int) -> None:
        """Cut anywhere, the SDK has read the whole events so far and then raises with our message."""
        body = recorded("anthropic/text.sse")
        live = meter()
        shown = live.feed(body[:size])
        content = shown + MESSAGES.cut(parse(stream=True), SPENT, live)
        client = sdk(lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content))
        events = client.messages.create(
            model="claude-opus-5", max_tokens=5, messages=[{"role": "user", "content": "x"}], stream=True
        )
        seen: list[object] = []
        with pytest.raises(anthropic.APIStatusError, match="LLMCap: the cap daily is spent"):
            seen.extend(events)
        assert len(seen) == shown.count(b"\ndata: ")

    @pytest.mark.parametrize("name", STREAMS)
    def test_the_sdk_reads_the_recorded_streams(self, name: str) -> None:
        """The recorded streams are what the SDK takes for a message, with the output we read."""
        body = recorded(f"anthropic/{name}.sse")
        client = sdk(lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body))
        with client.messages.stream(
            model="claude-opus-5", max_tokens=5, messages=[{"role": "user", "content": "x"}]
        ) as stream:
            message = stream.get_final_message()
        assert message.usage.output_tokens == STREAMS[name].output_tokens

    def test_cut_of_an_unstreamed_answer(self) -> None:
        """Nothing is appended to half a JSON body."""
        assert MESSAGES.cut(parse(), SPENT, meter("application/json")) == b""
