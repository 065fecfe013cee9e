"""Tests of Bedrock's Converse: requests, answers, refusals and cuts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.bedrock_converse import CONVERSE
from llmcap_addon.wire.bedrock_converse_meter import token_usage
from llmcap_addon.wire.clients import client_name, refusal_status
from llmcap_addon.wire.dialect import Meter, Refusal, RefusalKind, Request, ResponseHead, Target
from llmcap_addon.wire.eventstream import encode_frame
from tests.fakes import bedrock
from tests.wire.corpus import feed_all

SPENT = Refusal("spent", "LLMCap: the cap daily is spent ($10.00 of $10.00).", cap="daily", resets_at_ms=0)
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
STREAM = "application/vnd.amazon.eventstream"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + b"\x08\x06\0\0\0"
IMAGE = {"format": "png", "source": {"bytes": base64.b64encode(PNG).decode()}}
HI = [{"role": "user", "content": [{"text": "hi"}]}]


def request(path: str = "/model/m/converse", **body: Any) -> Request:
    full = {"messages": HI, **body}
    return Request("POST", bedrock.HOST, path, body=json.dumps(full).encode())


def parse(*, model: str = SONNET, path: str = "/model/m/converse", **body: Any) -> Call:
    return CONVERSE.parse(request(path, **body), Target("bedrock", model), "test")


def meter(content_type: str = STREAM, status: int = 200, **body: Any) -> Meter:
    path = "/model/m/converse-stream" if content_type == STREAM else "/model/m/converse"
    asked = request(path, **body)
    call = CONVERSE.parse(asked, Target("bedrock", SONNET), "test")
    return CONVERSE.meter(call, asked.body, ResponseHead(status, content_type), len)


def event(name: str, **value: Any) -> bytes:
    return bedrock.event(name, value)


METADATA = event("metadata", usage={"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}, metrics={"latencyMs": 1})


class TestParse:
    def test_plain_request(self) -> None:
        """Model, limit and terms are taken over; texts bound the input; all of the answer is billed, read or not."""
        call = parse(
            system=[{"text": "Be brief"}],
            inferenceConfig={"maxTokens": 100, "temperature": 0.5},
            serviceTier={"type": "flex"},
            performanceConfig={"latency": "optimized"},
        )
        assert (call.dialect, call.provider, call.host, call.model) == (
            "bedrock.converse",
            "bedrock",
            bedrock.HOST,
            SONNET,
        )
        assert not call.streamed
        assert parse(path="/model/a%2Fb/converse-stream/").streamed
        assert call.max_output_tokens == 100
        assert call.terms == Terms("flex", "optimized")
        assert call.content.texts == ("Be brief", "hi")
        assert (call.content.messages, call.content.blocks, call.content.opaque) == (1, 2, False)
        assert call.bills_after_disconnect
        assert call.cache_write == "none"
        assert parse().max_output_tokens is None

    def test_hosts_names_the_model(self) -> None:
        """A model that `hosts:` says stands behind an account's own profile is taken for it."""
        target = Target("bedrock", "application-inference-profile/AB12", {"application-inference-profile/ab12": SONNET})
        assert CONVERSE.parse(request(), target, "").model == SONNET

    def test_blocks(self) -> None:
        """Images and documents become media, nested results count, thoughts count with their signature."""
        call = parse(
            messages=[
                {"role": "user", "content": [{"image": IMAGE}, {"text": "one"}, {"cachePoint": {"type": "default"}}]},
                {"role": "user", "content": [{"document": {"format": "pdf", "name": "two", "source": {"bytes": "JVBERg=="}}}]},
                {"role": "user", "content": [{"document": {"name": "n", "source": {"text": "three"}}}]},
                {"role": "user", "content": [{"document": {"name": "n", "source": {"content": [{"text": "four"}]}}}]},
                {"role": "user", "content": [{"video": {"format": "mp4", "source": {"bytes": "AAAA"}}}]},
                {"role": "user", "content": [{"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}}]},
                {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "five", "signature": "six" * 50}}},
                        {"toolUse": {"toolUseId": "t", "name": "seven", "input": {"eight": "nine"}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"toolResult": {"toolUseId": "t", "content": [{"json": {"ten": 1}}, {"image": IMAGE}, {"text": "e"}]}},
                        {"guardContent": {"text": {"text": "eleven"}}},
                        {"searchResult": {"source": "s", "title": "t", "content": [{"text": "twelve"}]}},
                    ],
                },
            ],
            promptVariables={"x": {"text": "thirteen"}},
        )  # fmt: skip
        kinds = [item.kind for item in call.content.media]
        assert kinds == ["image", "document", "video", "audio", "image"]
        assert call.content.media[0] == Media("image", call.content.media[0].size_bytes, 640, 480)
        joined = " ".join(call.content.texts)
        words = "one two three four five seven eight nine ten eleven twelve thirteen".split()
        assert all(word in joined for word in [*words, "six" * 50])
        assert IMAGE["source"]["bytes"] not in joined  # type: ignore[index]
        assert not call.content.opaque
        assert call.cache_write == "short"

    @pytest.mark.parametrize(
        "body",
        [
            {"messages": [{"role": "user", "content": [{"image": {"source": {"s3Location": {"uri": "s3://b/k"}}}}]}]},
            {"messages": [{"role": "user", "content": [{"document": {"name": "n", "source": {}}}]}]},
            {"model": "prompt/PROMPT1234:1"},
            {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
            {"additionalModelRequestFields": {"tools": [{"type": "something_20270101"}]}},
        ],
    )
    def test_what_the_body_does_not_show(self, body: dict[str, Any]) -> None:
        """A place in S3, a stored prompt and tools that AWS runs bring input that only the window bounds."""
        assert parse(**body).content.opaque

    def test_tools(self) -> None:
        """A client's tools are text; searches and code that AWS runs are bounded; Anthropic's own tools are known."""
        spec = {"toolSpec": {"name": "f", "description": "finds", "inputSchema": {"json": {"type": "object"}}}}
        call = parse(
            toolConfig={"tools": [spec, {"cachePoint": {"type": "default", "ttl": "1h"}}], "toolChoice": {"any": {}}}
        )
        assert call.content.tool_bytes > 0
        assert (call.content.server_turns, call.content.web_searches, call.unit_bound) == (0, 0, Usage())
        assert call.cache_write == "long"
        call = parse(toolConfig={"tools": [{"systemTool": {"name": "nova_grounding"}}]})
        assert (call.content.server_turns, call.content.web_searches) == (DEFAULT_SERVER_TURNS, DEFAULT_SERVER_TURNS)
        call = parse(toolConfig={"tools": [{"systemTool": {"name": "nova_code_interpreter"}}]})
        assert call.unit_bound == Usage(code_sessions=DEFAULT_SERVER_TURNS)
        call = parse(additionalModelRequestFields={"tools": [{"type": "bash_20250124", "name": "bash"}]})
        assert (call.content.provider_tools, call.content.server_turns, call.content.opaque) == (1, 0, False)

    @pytest.mark.parametrize(
        ("model", "fields", "hidden"),
        [
            (SONNET, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, None),
            (SONNET, {"thinking": {"type": "disabled"}}, 0),
            (SONNET, {}, 0),
            ("us.anthropic.claude-opus-5-5", {}, None),
            ("us.amazon.nova-2-lite-v1:0", {}, 0),
            ("us.amazon.nova-2-lite-v1:0", {"reasoningConfig": {"type": "enabled"}}, None),
            ("us.meta.llama3-3-70b-instruct-v1:0", {}, 0),
            ("openai.gpt-oss-120b-1:0", {}, 0),
            ("openai.gpt-5.5", {}, None),
            ("application-inference-profile/ab12", {}, None),
        ],
    )
    def test_hidden_thinking(self, model: str, fields: dict[str, Any], hidden: int | None) -> None:
        """Whoever may think unseen is bounded by the limit only."""
        assert parse(model=model, additionalModelRequestFields=fields).hidden_output_tokens == hidden

    def test_a_limit_among_the_models_own_fields(self) -> None:
        """Which of two limits is obeyed is nowhere said, so the larger bounds; one among the fields alone does not."""
        own: dict[str, Any] = {"additionalModelRequestFields": {"max_tokens": 500}}
        assert parse(inferenceConfig={"maxTokens": 100}, **own).max_output_tokens == 500
        assert parse(**own).max_output_tokens is None

    @pytest.mark.parametrize(
        "body",
        [
            {"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}},
            {"additionalModelRequestFields": {"fallbacks": [{"model": "claude-opus-5"}]}},
            {"messages": "hi"},
            {"messages": [{"role": "user", "content": "hi"}]},
            {"inferenceConfig": {"maxTokens": "100"}},
            {"serviceTier": {"type": 1}},
        ],
    )
    def test_what_can_not_be_bounded_is_refused(self, body: dict[str, Any]) -> None:
        """Guardrails, other models and what is malformed are refused with a reason."""
        with pytest.raises(UnreadableRequest):
            parse(**body)

    @given(st.binary(max_size=100))
    def test_any_body(self, body: bytes) -> None:
        """No body raises anything but UnreadableRequest."""
        try:
            CONVERSE.parse(Request("POST", bedrock.HOST, "/model/m/converse", body=body), Target("bedrock", "m"), "")
        except UnreadableRequest:
            pass

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(("text", "image", "source", "bytes", "toolResult", "content", "guardContent", "x")),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=12,
        )
    )
    def test_any_blocks(self, blocks: object) -> None:
        """No content raises anything but UnreadableRequest."""
        try:
            parse(messages=[{"role": "user", "content": [blocks]}], system=blocks, toolConfig={"tools": [blocks]})
        except UnreadableRequest:
            pass

    def test_blocks_without_end(self) -> None:
        """Blocks inside each other, deeper than anything real, are refused with a reason."""
        block: dict[str, Any] = {"text": "x"}
        for _ in range(500):
            block = {"toolResult": {"toolUseId": "t", "content": [block]}}
        with pytest.raises(UnreadableRequest, match="inside each other"):
            parse(messages=[{"role": "user", "content": [block]}])


class TestAmend:
    def test_limit(self) -> None:
        """A key's request is limited in place, with the thinking kept below; a signed one goes out as it came."""
        asked = request(
            inferenceConfig={"temperature": 0.5},
            additionalModelRequestFields={"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 4096}},
        )
        call = CONVERSE.parse(asked, Target("bedrock", SONNET), "")
        amended = json.loads(CONVERSE.amend(call, asked.body, 2000))
        assert amended == json.loads(asked.body) | {
            "inferenceConfig": {"temperature": 0.5, "maxTokens": 2000},
            "additionalModelRequestFields": {"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 1999}},
        }
        assert CONVERSE.amend(call, asked.body, None) is asked.body
        assert json.loads(CONVERSE.amend(call, b"{}", 2000)) == {"inferenceConfig": {"maxTokens": 2000}}


class TestUsage:
    @pytest.mark.parametrize(
        ("raw", "long_cache", "usage"),
        [
            ({"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}, True, Usage(5, 7)),
            ({"inputTokens": 5, "outputTokens": 7, "totalTokens": 20}, False, Usage(5, 15)),
            (
                {"inputTokens": 2, "outputTokens": 7, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 20},
                False,
                Usage(32, 7, 10, 20),
            ),
            (
                {"inputTokens": 2, "outputTokens": 7, "cacheReadInputTokens": None, "cacheWriteInputTokens": 20},
                True,
                Usage(22, 7, 0, 20, 20),
            ),
            (
                {
                    "inputTokens": 2,
                    "outputTokens": 7,
                    "cacheWriteInputTokens": 5,
                    "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 6}],
                },
                False,
                Usage(12, 7, 0, 10, 4),
            ),
        ],
    )
    def test_parts(self, raw: dict[str, Any], long_cache: bool, usage: Usage) -> None:
        """Parts beside each other are summed, contradictions resolved from above, open lifetimes as asked for."""
        assert token_usage(raw, long_cache=long_cache) == usage

    @pytest.mark.parametrize("count", [-1, "7", 1.5, True, 10**12])
    @pytest.mark.parametrize("key", ["inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens"])
    @pytest.mark.parametrize("streamed", [True, False])
    def test_no_count(self, key: str, count: object, streamed: bool) -> None:
        """A count that is none is no usage: the call can't be counted."""
        usage = {"inputTokens": 5, "outputTokens": 7, key: count}
        if streamed:
            found = meter()
            feed_all(found, [event("metadata", usage=usage)])
        else:
            found = meter("application/json")
            feed_all(found, [json.dumps({"output": {}, "usage": usage}).encode()])
        assert not found.reading.final
        assert found.reading.usage is None
        assert found.reading.unreadable


class TestMeter:
    def test_metadata_is_the_last_word(self) -> None:
        """`messageStop` is not the end: usage comes behind it, and only then is the reading final."""
        found = meter()
        before = event("messageStart", role="assistant") + event("messageStop", stopReason="end_turn")
        said = []
        for data in (before, METADATA):
            assert found.feed(data) == data
            said.append(found.reading.final)
        assert said == [False, True]
        assert found.reading.usage == Usage(5, 7)
        assert found.end() == b""

    def test_searches_and_code(self) -> None:
        """Each search and code run of AWS's own is counted, and billed with the usage."""
        found = meter()
        for name, kind in (
            ("nova_grounding", "server_tool_use"),
            ("nova_code_interpreter", "server_tool_use"),
            ("f", None),
        ):
            tool = {"toolUseId": "t", "name": name} | ({"type": kind} if kind else {})
            found.feed(event("contentBlockStart", contentBlockIndex=0, start={"toolUse": tool}))
        found.feed(event("contentBlockDelta", delta={"toolResult": [{"text": "a result is no output"}]}))
        found.feed(event("contentBlockDelta", delta={"citation": {"title": "a title is none either"}}))
        assert found.reading.counted_web_search_requests == 1
        assert 100 < found.reading.counted_output_tokens < 200
        found.feed(METADATA)
        assert found.reading.usage == Usage(5, 7, web_search_requests=1, code_sessions=1)

    @pytest.mark.parametrize("name", ["throttlingException", "modelStreamErrorException", "somethingNew"])
    def test_an_exception_ends_a_stream(self, name: str) -> None:
        """What AWS ends a stream with is a failure, and no last word on usage."""
        found = meter()
        data = event("contentBlockDelta", delta={"text": "abc"}) + bedrock.exception(name, "Slow down.")
        assert feed_all(found, [data]) == data
        assert found.reading.failed
        assert not found.reading.final
        assert found.reading.counted_output_tokens == 3

    def test_errors_pass(self) -> None:
        """An error's body passes, and bills nothing."""
        found = meter("application/json", status=400)
        assert feed_all(found, [b'{"message":"no"}']) == b'{"message":"no"}'
        assert found.reading.failed

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[]", b'{"usage":{}}', b"not json", b'{"usage":{"inputTokens":NaN}}']
    )
    def test_bad_bodies(self, body: bytes) -> None:
        """An answer without a usage that can be read can't be counted."""
        found = meter("application/json")
        assert feed_all(found, [body]) == body
        assert not found.reading.final
        assert found.reading.unreadable

    @given(st.dictionaries(st.sampled_from(("usage", "delta", "start", "trace", "serviceTier")), st.from_type(object) | st.lists(st.integers()), max_size=3), st.sampled_from(("metadata", "contentBlockStart", "contentBlockDelta", "chunk", "")))  # fmt: skip
    def test_any_event(self, value: dict[str, object], name: str) -> None:
        """No event raises anything, and all pass."""
        try:
            payload = json.dumps(value).encode()
        except (TypeError, ValueError):
            payload = repr(value).encode()
        found = meter()
        frame = encode_frame({":message-type": "event", ":event-type": name}, payload)
        assert feed_all(found, [frame]) == frame


class TestReplies:
    @pytest.mark.parametrize(
        ("kind", "status", "error"),
        [
            ("spent", 400, "ServiceQuotaExceededException"),
            ("reserved", 400, "ServiceQuotaExceededException"),
            ("unreadable", 400, "ValidationException"),
            ("store", 400, "ValidationException"),
        ],
    )
    def test_refusal(self, kind: RefusalKind, status: int, error: str) -> None:
        """A refusal is an error of AWS's, with a status and a type that its SDKs do not repeat."""
        client = client_name({"user-agent": "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.13"})
        assert client == "boto3"
        assert refusal_status("bedrock.converse", client, kind, None) == status
        response = CONVERSE.refusal(None, request(), Refusal(kind, SPENT.message), status)
        headers = dict(response.headers)
        assert headers["x-amzn-errortype"] == error
        assert json.loads(response.body) == {"message": SPENT.message}

    @pytest.mark.parametrize(
        ("status", "error"),
        [(403, "AccessDeniedException"), (429, "ThrottlingException"), (500, "InternalServerException")],
    )
    def test_a_status_of_the_users(self, status: int, error: str) -> None:
        """With `refuse_with:` the type is the one that AWS gives this status."""
        assert refusal_status("bedrock.invoke", "boto3", "spent", status) == status
        assert dict(CONVERSE.refusal(None, request(), SPENT, status).headers)["x-amzn-errortype"] == error

    def test_cut(self) -> None:
        """A cut is an exception of both streams' unions, which botocore reads behind the frames before it."""
        found = meter()
        call = parse(path="/model/m/converse-stream")
        shown = found.feed(METADATA + METADATA[:30])
        assert shown == METADATA
        buffer = EventStreamBuffer()
        buffer.add_data(shown + CONVERSE.cut(call, SPENT, found))
        _, cut = list(buffer)
        told = cut.to_response_dict()
        assert told["status_code"] == 400
        assert told["headers"][":exception-type"] == "validationException"
        assert json.loads(told["body"]) == {"message": SPENT.message}

    def test_nothing_to_cut(self) -> None:
        """Behind bytes that are no frame, and in a whole answer, nothing we write would be read."""
        broken = meter()
        broken.feed(b"no frame at all")
        assert CONVERSE.cut(parse(), SPENT, broken) == b""
        assert CONVERSE.cut(parse(), SPENT, meter("application/json")) == b""
