"""Tests of Bedrock's InvokeModel: each maker's request and answer, in AWS's frames and headers."""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import NO_TERMS, Terms, Usage
from llmcap_addon.wire.bedrock_invoke import INVOKE
from llmcap_addon.wire.bedrock_invoke_meter import METRICS
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from tests.fakes import bedrock
from tests.wire.corpus import feed_all

SPENT = Refusal("spent", "LLMCap: the cap daily is spent ($10.00 of $10.00).", cap="daily")
STREAM = "application/vnd.amazon.eventstream"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
CLAUDE_BODY = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
NOVA_BODY = {"schemaVersion": "messages-v1", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}


def request(body: dict[str, Any], path: str = "/model/m/invoke", **headers: str) -> Request:
    return Request("POST", bedrock.HOST, path, {}, headers, json.dumps(body).encode())


def parse(model: str, body: dict[str, Any], path: str = "/model/m/invoke", **headers: str) -> Call:
    return INVOKE.parse(request(body, path, **headers), Target("bedrock", model), "test")


def meter(model: str, body: dict[str, Any], content_type: str = STREAM, **headers: str) -> Meter:
    asked = request(body, "/model/m/invoke-with-response-stream" if content_type == STREAM else "/model/m/invoke")
    call = INVOKE.parse(asked, Target("bedrock", model), "test")
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return INVOKE.meter(call, asked.body, ResponseHead(200, content_type, told), len)


def chunk(value: object) -> bytes:
    return bedrock.event("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode()})


def metrics(inputs: int, outputs: int, **further: int) -> dict[str, Any]:
    return {METRICS: {"inputTokenCount": inputs, "outputTokenCount": outputs, **further}}


class TestParse:
    @pytest.mark.parametrize(
        ("model", "body", "limit"),
        [
            (CLAUDE, CLAUDE_BODY, 100),
            ("amazon.nova-pro-v1:0", {**NOVA_BODY, "inferenceConfig": {"maxTokens": 101}}, 101),
            ("eu.amazon.nova-2-lite-v1:0", {**NOVA_BODY, "inferenceConfig": {"max_new_tokens": 102}}, 102),
            ("amazon.titan-text-express-v1", {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 103}}, 103),
            (LLAMA, {"prompt": "hi", "max_gen_len": 104}, 104),
            ("mistral.mistral-7b-instruct-v0:2", {"prompt": "hi", "max_tokens": 105}, 105),
            ("mistral.pixtral-large-2502-v1:0", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 106}, 106),
            ("us.deepseek.r1-v1:0", {"prompt": "hi", "max_tokens": 107}, 107),
            ("cohere.command-r-plus-v1:0", {"message": "hi", "max_tokens": 108}, 108),
            ("ai21.jamba-1-5-large-v1:0", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 109}, 109),
            ("openai.gpt-oss-20b-1:0", {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 110}, 110),
            ("qwen.qwen3-32b-v1:0", {"messages": [{"role": "user", "content": "hi"}]}, None),
        ],
    )  # fmt: skip
    def test_each_maker(self, model: str, body: dict[str, Any], limit: int | None) -> None:
        """Of each maker the text and the limit are found; the path says whether it streams; a limit can be set."""
        call = parse(model, body)
        assert (call.dialect, call.provider, call.model, call.host) == (
            "bedrock.invoke",
            "bedrock",
            model,
            bedrock.HOST,
        )
        assert call.max_output_tokens == limit
        assert "hi" in " ".join(call.content.texts)
        assert not call.content.opaque
        assert not call.streamed
        assert call.bills_after_disconnect
        assert parse(model, body, "/model/m/invoke-with-response-stream").streamed
        amended = INVOKE.amend(call, json.dumps(body).encode(), 77)
        assert parse(model, json.loads(amended)).max_output_tokens == 77
        assert "model" not in json.loads(amended)

    @pytest.mark.parametrize("model", ["amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"])
    def test_embeddings(self, model: str) -> None:
        """Embeddings have input only."""
        call = parse(model, {"inputText": "hi", "texts": ["hi"]})
        assert not call.has_output
        assert not call.bills_after_disconnect

    def test_terms(self) -> None:
        """Tier and latency are asked for in headers."""
        headers = {"x-amzn-bedrock-service-tier": "Priority", "x-amzn-bedrock-performanceconfig-latency": "optimized"}
        asked = Request("POST", bedrock.HOST, "/model/m/invoke", {}, headers, json.dumps(CLAUDE_BODY).encode())
        assert INVOKE.parse(asked, Target("bedrock", CLAUDE), "").terms == Terms("priority", "optimized")
        assert parse(CLAUDE, CLAUDE_BODY).terms == NO_TERMS

    def test_choices_and_pictures(self) -> None:
        """Several generations are bounded, and a picture beside a prompt is one."""
        call = parse("cohere.command-text-v14", {"prompt": "hi", "num_generations": 3})
        assert call.choices == 3
        call = parse(LLAMA, {"prompt": "hi", "images": [base64.b64encode(bytes(3000)).decode()]})
        assert [part.kind for part in call.content.media] == ["image"]
        assert call.content.text_bytes < 100

    def test_an_accounts_own_profile(self) -> None:
        """Behind an id that says nothing the body's marks tell Claude and Nova; others must be named."""
        mine = "application-inference-profile/ab12"
        assert parse(mine, CLAUDE_BODY).max_output_tokens == 100
        assert "hi" in parse(mine, NOVA_BODY).content.texts
        with pytest.raises(UnreadableRequest, match="hosts:"):
            parse(mine, {"prompt": "hi"})
        found = meter(mine, CLAUDE_BODY)
        found.feed(
            chunk({"type": "message_start", "message": {"model": "claude-sonnet-4-5", "usage": {"input_tokens": 9}}})
        )
        assert found.reading.usage == Usage(9, 0)
        assert found.reading.model == ""

    @pytest.mark.parametrize(
        "model",
        [
            "amazon.nova-reel-v1:0", "amazon.nova-sonic-v1:0", "amazon.nova-2-multimodal-embeddings-v1:0",
            "amazon.titan-embed-image-v1", "cohere.embed-v4:0", "twelvelabs.pegasus-1-2-v1:0",
            "mistral.voxtral-mini-3b-2507", "somebody.new-v1:0", "new",
        ],
    )  # fmt: skip
    def test_unknown_or_billed_otherwise(self, model: str) -> None:
        """What is not billed by text tokens, or not known, is refused, whatever its body holds."""
        with pytest.raises(UnreadableRequest, match="not known"):
            parse(model, {"prompt": "hi", "messages": [], "texts": ["hi"]})

    @pytest.mark.parametrize(
        ("model", "body", "units"),
        [
            ("amazon.nova-canvas-v1:0", {"imageGenerationConfig": {"numberOfImages": 5}}, Usage(output_images=5)),
            ("amazon.titan-image-generator-v2:0", {"taskType": "TEXT_IMAGE"}, Usage(output_images=1)),
            ("us.stability.stable-image-inpaint-v1:0", {"prompt": "hi"}, Usage(output_images=1)),
            ("cohere.rerank-v3-5:0", {"query": "hi", "documents": ["a"] * 101}, Usage(search_units=2)),
            ("amazon.rerank-v1:0", {"query": "hi", "documents": [{"text": "a" * 900}] * 51}, Usage(search_units=2)),
        ],
    )
    def test_what_is_billed_by_the_piece(self, model: str, body: dict[str, Any], units: Usage) -> None:
        """Pictures by how many are asked for, a ranking by its queries of a hundred documents."""
        call = parse(model, body)
        assert (call.unit_bound, call.has_output, call.bills_after_disconnect) == (units, False, True)

    def test_more_pictures_than_anybody_makes(self) -> None:
        """A number that no model takes is refused."""
        with pytest.raises(UnreadableRequest, match="17"):
            parse("amazon.nova-canvas-v1:0", {"imageGenerationConfig": {"numberOfImages": 17}})

    @pytest.mark.parametrize(
        ("model", "body"),
        [
            ("anthropic.claude-v2:1", {"prompt": "\n\nHuman: hi", "max_tokens_to_sample": 10}),
            (CLAUDE, {**CLAUDE_BODY, "max_tokens": "100"}),
            (LLAMA, {"prompt": "hi", "max_gen_len": -1}),
            ("cohere.embed-english-v3", {"images": ["data:image/png;base64,AA=="]}),
        ],
    )
    def test_unreadable(self, model: str, body: dict[str, Any]) -> None:
        """What has no bound, or is malformed, is refused."""
        with pytest.raises(UnreadableRequest):
            parse(model, body)

    @given(
        st.sampled_from((CLAUDE, "amazon.nova-pro-v1:0", "amazon.titan-text-lite-v1", LLAMA, "mistral.x", "ai21.jamba-x")),
        st.dictionaries(
            st.sampled_from(("messages", "prompt", "inputText", "images", "max_tokens", "inferenceConfig", "n", "system")),
            st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=3) | st.none(), max_size=2),
            max_size=4,
        ),
    )  # fmt: skip
    def test_any_body(self, model: str, body: dict[str, Any]) -> None:
        """No body raises anything but UnreadableRequest."""
        try:
            parse(model, body)
        except UnreadableRequest:
            pass


class TestClaude:
    START: ClassVar[dict[str, Any]] = {
        "type": "message_start",
        "message": {"model": "claude-x", "content": [], "usage": {"input_tokens": 20, "output_tokens": 1}},
    }
    DELTA: ClassVar[dict[str, Any]] = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 33},
    }

    @pytest.mark.parametrize(
        ("last", "usage"),
        [
            ({}, Usage(20, 33)),
            (metrics(20, 33), Usage(20, 33)),
            (metrics(99, 99), Usage(20, 33)),
            (metrics(20, 33, cacheReadInputTokenCount=7, cacheWriteInputTokenCount=8), Usage(35, 33, 7, 8)),
            (
                {"usage": {"cache_read_input_tokens": 7, "cache_creation_input_tokens": 8}, **metrics(20, 33)},
                Usage(35, 33, 7, 8),
            ),
        ],
    )
    def test_the_caches_parts_may_come_last(self, last: dict[str, Any], usage: Usage) -> None:
        """What Anthropic's own usage says stays; what it leaves out is taken from the last event and its metrics."""
        found = meter(CLAUDE, CLAUDE_BODY, x_amzn_bedrock_service_tier="flex")
        body = chunk(self.START) + chunk(self.DELTA) + chunk({"type": "message_stop", **last})
        assert feed_all(found, [body]) == body
        assert found.reading.final
        assert found.reading.usage == usage
        assert (found.reading.model, found.reading.terms) == ("", Terms("flex"))

    def test_metrics_alone(self) -> None:
        """Where Anthropic's events say no usage, AWS's metrics do."""
        found = meter(CLAUDE, CLAUDE_BODY)
        found.feed(chunk({"type": "message_start", "message": {"content": []}}))
        found.feed(chunk({"type": "message_stop", **metrics(20, 33)}))
        assert found.reading.final
        assert found.reading.usage == Usage(20, 33)

    def test_a_refusal_is_billed(self) -> None:
        """What Anthropic does not bill at its own API, AWS is taken to bill."""
        refused = {"stop_reason": "refusal", "stop_details": {"category": "cyber"}}
        found = meter(CLAUDE, CLAUDE_BODY)
        found.feed(chunk(self.START) + chunk({**self.DELTA, "delta": refused}) + chunk({"type": "message_stop"}))
        assert (found.reading.final, found.reading.billed, found.reading.usage) == (True, None, Usage(20, 33))
        whole = {"type": "message", "content": [], "usage": {"input_tokens": 2, "output_tokens": 1}, **refused}
        found = meter(CLAUDE, CLAUDE_BODY, "application/json")
        feed_all(found, [json.dumps(whole).encode()])
        assert (found.reading.final, found.reading.billed) == (True, None)

    def test_whole(self) -> None:
        """A whole message's model and terms are Bedrock's to say."""
        found = meter(CLAUDE, CLAUDE_BODY, "application/json", x_amzn_bedrock_service_tier="priority")
        message = {
            "type": "message",
            "model": "claude-x",
            "content": [],
            "usage": {"input_tokens": 2, "output_tokens": 3},
        }
        feed_all(found, [json.dumps(message).encode()])
        assert found.reading.final
        assert (found.reading.usage, found.reading.model, found.reading.terms) == (Usage(2, 3), "", Terms("priority"))


class TestOthers:
    def test_a_usage_before_output_is_not_the_last_word(self) -> None:
        """Only a usage with nothing behind it is final."""
        body = {"messages": [{"role": "user", "content": "hi"}]}
        found = meter("qwen.qwen3-32b-v1:0", body)
        said = []
        for value in (
            {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
            {"choices": [{"delta": {"content": "b"}}]},
            {"choices": [{"delta": {}}], METRICS: {"inputTokenCount": 5, "outputTokenCount": 2}},
        ):
            found.feed(chunk(value))
            said.append(found.reading.final)
        assert said == [True, False, True]

    def test_titan_text(self) -> None:
        """Titan counts in names of its own, whole and streamed."""
        body = {"inputText": "hi"}
        found = meter("amazon.titan-text-lite-v1", body, "application/json")
        results = [{"tokenCount": 4, "outputText": "ab"}, {"tokenCount": 5, "outputText": "c"}]
        feed_all(found, [json.dumps({"inputTextTokenCount": 3, "results": results}).encode()])
        assert found.reading.usage == Usage(3, 9)
        assert found.reading.counted_output_tokens == 3
        found = meter("amazon.titan-text-lite-v1", body)
        found.feed(
            chunk({"outputText": "abc", "inputTextTokenCount": 3, "totalOutputTextTokenCount": 9, **metrics(3, 9)})
        )
        assert (found.reading.usage, found.reading.final) == (Usage(3, 9), True)

    @pytest.mark.parametrize(
        ("headers", "usage"),
        [
            ({"x_amzn_bedrock_input_token_count": "5", "x_amzn_bedrock_output_token_count": "6"}, Usage(5, 6)),
            ({"x_amzn_bedrock_input_token_count": "5"}, None),
            ({"x_amzn_bedrock_input_token_count": "-5", "x_amzn_bedrock_output_token_count": "6"}, None),
            ({"x_amzn_bedrock_input_token_count": "5" * 40, "x_amzn_bedrock_output_token_count": "6"}, None),
            ({"x_amzn_bedrock_input_token_count": "٥", "x_amzn_bedrock_output_token_count": "6"}, None),
            ({}, None),
        ],
    )
    def test_headers(self, headers: dict[str, str], usage: Usage | None) -> None:
        """Where a maker says nothing AWS's headers do; without them the answer can't be counted."""
        found = meter("cohere.command-r-v1:0", {"message": "hi"}, "application/json", **headers)
        feed_all(found, [b'{"text": "hello", "finish_reason": "COMPLETE"}'])
        assert found.reading.usage == usage
        assert bool(found.reading.unreadable) is (usage is None)

    def test_an_embedding_without_a_count(self) -> None:
        """Cohere's embeddings tell their input in a header only."""
        found = meter(
            "cohere.embed-english-v3", {"texts": ["hi"]}, "application/json", x_amzn_bedrock_input_token_count="5"
        )
        feed_all(found, [b'{"embeddings": [[0.1]], "texts": ["hi"]}'])
        assert (found.reading.usage, found.reading.final) == (Usage(5), True)
        assert found.reading.counted_output_tokens == 2

    @pytest.mark.parametrize(
        "payload",
        [b"{}", b'{"bytes": 1}', b'{"bytes": "%%"}', b'{"bytes": "bm90IGpzb24="}', b"not json", b'{"bytes": "W10="}'],
    )
    @pytest.mark.parametrize("model", [LLAMA, CLAUDE])
    def test_bad_chunks(self, model: str, payload: bytes) -> None:
        """A chunk that can't be read passes, and the stream can't be counted."""
        found = meter(model, {**CLAUDE_BODY, "prompt": "hi"})
        headers = {":message-type": "event", ":event-type": "chunk"}
        frame = bedrock.frame(headers, payload)
        assert feed_all(found, [frame]) == frame
        assert found.reading.unreadable

    @pytest.mark.parametrize("count", [-1, "7", 1.5, True, 10**12])
    def test_no_count(self, count: object) -> None:
        """A count that is none is no usage."""
        found = meter(LLAMA, {"prompt": "hi"})
        found.feed(chunk({"generation": "x", "prompt_token_count": count, **metrics(1, 1)}))
        assert not found.reading.final
        assert found.reading.unreadable
        found = meter(LLAMA, {"prompt": "hi"}, "application/json")
        feed_all(
            found, [json.dumps({"generation": "x", "prompt_token_count": 1, "generation_token_count": count}).encode()]
        )
        assert not found.reading.final
        assert found.reading.unreadable

    @pytest.mark.parametrize("model", [LLAMA, CLAUDE])
    def test_exception_and_cut(self, model: str) -> None:
        """AWS's exception is a failure; ours stands behind whole frames."""
        found = meter(model, {**CLAUDE_BODY, "prompt": "hi"})
        data = bedrock.exception("modelTimeoutException", "Too slow.")
        assert found.feed(data) == data
        assert found.reading.failed
        assert not found.reading.final
        cut = INVOKE.cut(parse(CLAUDE, CLAUDE_BODY), SPENT, found)
        assert cut == bedrock.exception("validationException", SPENT.message)
        refusal = INVOKE.refusal(None, request({}), SPENT, 400)
        assert dict(refusal.headers)["x-amzn-errortype"] == "ServiceQuotaExceededException"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ("usage", "choices", "results", METRICS, "type", "metadata", "inputTokens", "delta")
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        st.sampled_from((LLAMA, CLAUDE, "qwen.x")),
    )
    def test_any_chunk(self, value: object, model: str) -> None:
        """No chunk raises anything, and all pass."""
        body = {**CLAUDE_BODY, "prompt": "hi"}
        found = meter(model, body)
        assert feed_all(found, [chunk(value)]) == chunk(value)
        whole = json.dumps(value).encode()
        assert feed_all(meter(model, body, "application/json"), [whole]) == whole

    def test_a_usage_that_comes_before_the_output_is_not_the_last_word(self) -> None:
        """What AWS counts at the end comes before a maker's usage that more output followed."""
        read = meter("openai.gpt-oss-120b-1:0", {"messages": [], "max_tokens": 9_000})
        early = {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        read.feed(chunk(early))
        read.feed(chunk({"choices": [{"delta": {"content": "and more"}}]}))
        read.feed(chunk({"choices": [{"delta": {}}], **metrics(5, 4_000)}))
        read.end()
        assert read.reading.usage == Usage(5, 4_000)
