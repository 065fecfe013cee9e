"""Tests of Google generateContent: requests, answers, refusals and cuts, against the official SDK too."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_meter import IMAGE_TOKENS
from tests.wire.bodies import feed, feed_all_ways, recorded, split

SPENT = Refusal("spent", "LLMCap: the cap daily is spent ($10.00 of $10.00).", cap="daily")
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + b"\x08\x06\0\0\0"
HOST = "generativelanguage.googleapis.com"
SSE = "text/event-stream"
JSON = "application/json; charset=UTF-8"


def request(
    method: str = "generateContent", model: str = "models/gemini-2.5-flash", alt: str = "", **body: Any
) -> Request:
    """A request with these members over a minimal one."""
    full = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], **body}
    query = {"alt": alt} if alt else {}
    return Request("POST", HOST, f"/v1beta/{model}:{method}", query, body=json.dumps(full).encode())


def parse(method: str = "generateContent", model: str = "models/gemini-2.5-flash", **body: Any) -> Call:
    return GENERATE.parse(request(method, model, **body), Target("google"), "test")


def meter(content_type: str = SSE, status: int = 200, *, streamed: bool = True, **body: Any) -> Meter:
    call = parse("streamGenerateContent" if streamed else "generateContent", **body)
    return GENERATE.meter(call, b"", ResponseHead(status, content_type), len)


TEXT = Usage(input_tokens=8, output_tokens=11)
STREAMS = {
    "text": TEXT,
    "thinking": Usage(
        input_tokens=500,
        output_tokens=21 + 95,
        cache_read_tokens=400,
        reasoning_tokens=95,
        input_audio_tokens=200,
        cache_read_audio_tokens=150,
    ),
    "blocked": Usage(input_tokens=12),
    "late_usage": Usage(input_tokens=8, output_tokens=2),
}
BODIES = {
    "grounded": Usage(input_tokens=20 + 300, output_tokens=80, reasoning_tokens=50, web_search_requests=2),
    "grounded_2": Usage(input_tokens=20, output_tokens=30, web_search_requests=1),
    # The total is one above the sum of its parts, and the one is billed as output.
    "image": Usage(input_tokens=9, output_tokens=1301, output_image_tokens=1290),
}


class TestParse:
    def test_plain_request(self) -> None:
        """The model and the method come from the path, limits from generationConfig."""
        call = parse(
            "streamGenerateContent",
            systemInstruction={"parts": [{"text": "Be brief"}]},
            generationConfig={"maxOutputTokens": 50, "candidateCount": 2},
            serviceTier="FLEX",
        )
        assert call.dialect == "google.generate"
        assert (call.provider, call.host, call.model) == ("google", HOST, "gemini-2.5-flash")
        assert call.streamed
        assert (call.max_output_tokens, call.choices) == (50, 2)
        assert call.terms == Terms("flex")
        assert call.content.texts == ("Be brief", "hi")
        assert (call.content.messages, call.content.blocks) == (2, 2)
        assert not parse().streamed

    def test_snake_case(self) -> None:
        """Every field may go by its snake_case name."""
        data = base64.b64encode(PNG).decode()
        call = parse(
            contents=[
                {"parts": [{"inline_data": {"mime_type": "image/png", "data": data}}, {"file_data": {"a": "b"}}]}
            ],
            generation_config={
                "max_output_tokens": 50,
                "candidate_count": 2,
                "thinking_config": {"thinking_budget": 0},
                "media_resolution": "MEDIA_RESOLUTION_LOW",
            },
            tools=[{"google_search": {}}],
            service_tier="priority",
        )
        assert (call.max_output_tokens, call.choices, call.hidden_output_tokens) == (50, 2, 0)
        assert (call.content.media[0].width_px, call.content.media[0].detail) == (640, "low")
        assert call.content.opaque
        assert call.content.web_searches == DEFAULT_SERVER_TURNS
        assert call.terms == Terms("priority")

    @pytest.mark.parametrize(
        ("path", "model"),
        [
            ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro"),
            ("/v1/models/gemini-2.5-pro%3AgenerateContent", "gemini-2.5-pro"),
            ("/v1beta/tunedModels/mine-1:streamGenerateContent", "tunedModels/mine-1"),
            (
                "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-3-pro:generateContent",
                "gemini-3-pro",
            ),
            ("/v1/projects/p/locations/l/endpoints/123:generateContent", "endpoints/123"),
        ],
    )
    def test_paths(self, path: str, model: str) -> None:
        """Every form of path names its model."""
        call = GENERATE.parse(Request("POST", HOST, path, body=b'{"contents": []}'), Target("google"), "")
        assert call.model == model

    @pytest.mark.parametrize(
        "path", ["/v1/models/x:countTokens", "/v1/models/:generateContent", "/v1/files/x:generateContent", "/"]
    )
    def test_other_paths(self, path: str) -> None:
        """A path that names no model or another method is unreadable."""
        with pytest.raises(UnreadableRequest, match="path"):
            GENERATE.parse(Request("POST", HOST, path, body=b"{}"), Target("google"), "")

    @pytest.mark.parametrize(
        ("model", "config", "hidden"),
        [
            ("gemini-2.5-flash", {}, None),
            ("gemini-2.5-pro", {}, None),
            ("gemini-3-pro-preview", {}, None),
            ("gemini-flash-latest", {}, None),
            ("gemma-4-27b", {}, None),
            ("gemini-2.0-flash", {}, 0),
            ("gemini-1.5-pro", {}, 0),
            ("gemma-3-27b-it", {}, 0),
            ("gemini-2.0-flash-thinking-exp", {}, None),
            ("gemini-2.5-flash", {"thinkingConfig": {"thinkingBudget": 0}}, 0),
            ("gemini-2.5-pro", {"thinkingConfig": {"thinkingBudget": 0}}, None),
            ("gemini-2.5-flash", {"thinkingConfig": {"thinkingBudget": 128}}, None),
            ("gemini-2.5-flash", {"thinkingConfig": {"thinkingBudget": -1}}, None),
            ("gemini-2.5-flash", {"thinkingConfig": {"thinkingBudget": False}}, None),
            ("gemini-2.5-flash-lite", {}, 0),
            ("gemini-2.5-flash-lite", {"thinkingConfig": {"thinkingBudget": -1}}, None),
            ("gemini-2.0-flash", {"responseModalities": ["TEXT"]}, 0),
            ("gemini-2.0-flash", {"responseModalities": ["TEXT", "IMAGE"]}, None),
            ("gemini-2.0-flash-preview-image-generation", {}, None),
        ],
    )
    def test_hidden_output(self, model: str, config: dict[str, Any], hidden: int | None) -> None:
        """Thoughts are bounded by the answer's limit alone, unless the model is known not to think."""
        assert parse(model=f"models/{model}", generationConfig=config).hidden_output_tokens == hidden

    def test_parts(self) -> None:
        """Calls and their results count as text, their media as media, a signature as the thought it holds."""
        blob = {"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}}
        parts = [
            {"functionCall": {"name": "one", "args": {"two": "three"}}, "thoughtSignature": "four"},
            {"functionResponse": {"name": "one", "response": {"five": 6}, "parts": [blob]}},
            {"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}},
            {
                "inlineData": {"mimeType": "image/png", "data": "QUJD"},
                "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"},
            },
        ]
        call = parse(contents=[{"parts": parts}], generationConfig={"mediaResolution": "MEDIA_RESOLUTION_MEDIUM"})
        assert [(item.kind, item.detail) for item in call.content.media] == [
            ("audio", "medium"), ("document", "medium"), ("image", "high")
        ]  # fmt: skip
        joined = " ".join(call.content.texts)
        for word in ("one", "two", "three", "four", "five", "6"):
            assert word in joined
        assert "QUJD" not in joined
        assert not call.content.opaque

    @pytest.mark.parametrize(
        "body",
        [
            {"contents": [{"parts": [{"fileData": {"fileUri": "https://example.com/a.mp4"}}]}]},
            {"contents": [{"parts": [{"functionResponse": {"parts": [{"fileData": {"fileUri": "x"}}]}}]}]},
            {"cachedContent": "cachedContents/x"},
            {"generationConfig": {"continuationToken": "x"}},
        ],
    )
    def test_opaque_input(self, body: dict[str, Any]) -> None:
        """What the body does not show is marked."""
        assert parse(**body).content.opaque

    def test_tools(self) -> None:
        """Declared functions are text; tools that run at Google make further passes."""
        call = parse(tools=[{"functionDeclarations": [{"name": "f", "description": "does"}]}, {"computerUse": {}}])
        assert (call.content.provider_tools, call.content.server_turns, call.content.web_searches) == (1, 0, 0)
        assert call.content.tool_bytes > 40
        call = parse(tools=[{"codeExecution": {}}, {"unknownTool": {}}])
        assert (call.content.server_turns, call.content.web_searches) == (DEFAULT_SERVER_TURNS, 0)

    @pytest.mark.parametrize(
        ("body", "what"),
        [
            ({"generationConfig": {"maxOutputTokens": "5"}}, "maxOutputTokens"),
            ({"generationConfig": {"maxOutputTokens": -5}}, "maxOutputTokens"),
            ({"generationConfig": {"candidateCount": 1.5}}, "candidateCount"),
            ({"generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 500}}, "twice"),
            ({"generationConfig": {}, "generation_config": {}}, "twice"),
            ({"generationConfig": []}, "generationConfig"),
            ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png"}}]}]}, "inlineData"),
            ({"serviceTier": 3}, "serviceTier"),
        ],
    )
    def test_unreadable(self, body: dict[str, Any], what: str) -> None:
        """What would make the bound wrong is refused, by its name."""
        with pytest.raises(UnreadableRequest, match=what):
            parse(**body)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
    def test_broken_body(self, body: bytes) -> None:
        """A body that is no JSON object is unreadable, whatever it is."""
        with pytest.raises(UnreadableRequest):
            GENERATE.parse(Request("POST", HOST, "/v1/models/x:generateContent", body=body), Target("google"), "")


class TestAmend:
    def test_untouched(self) -> None:
        """Without a limit to set, the very same bytes go out."""
        body = b'{ "contents":[] }'
        assert GENERATE.amend(parse(), body, None) is body

    @pytest.mark.parametrize(
        ("body", "amended"),
        [
            ({}, {"generationConfig": {"maxOutputTokens": 7}}),
            ({"generationConfig": {"topK": 1}}, {"generationConfig": {"topK": 1, "maxOutputTokens": 7}}),
            ({"generation_config": {"max_output_tokens": 9}}, {"generation_config": {"max_output_tokens": 7}}),
            ({"generation_config": None}, {"generation_config": {"maxOutputTokens": 7}}),
        ],
    )
    def test_limit(self, body: dict[str, Any], amended: dict[str, Any]) -> None:
        """The limit is set under the names that the body uses."""
        changed = GENERATE.amend(parse(), json.dumps(body).encode(), 7)
        assert json.loads(changed) == amended


class TestStream:
    @pytest.mark.parametrize("name", STREAMS)
    def test_usage(self, name: str) -> None:
        """The recorded streams give the hand-worked usage, fed whole or byte by byte, and pass unchanged."""
        read = feed_all_ways(meter, recorded(f"google/{name}.sse")).reading
        assert read.usage == STREAMS[name]
        assert read.final
        assert not read.failed
        assert not read.unreadable

    @given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 3000), max_size=12))
    def test_split_anywhere(self, name: str, cuts: list[int]) -> None:
        """However a stream is split, it reads the same and passes unchanged."""
        body = recorded(f"google/{name}.sse")
        split_meter = meter()
        assert feed(split_meter, split(body, cuts)) == body
        assert split_meter.reading.usage == STREAMS[name]

    @pytest.mark.parametrize("name", [*STREAMS, "error"])
    def test_truncated_anywhere(self, name: str) -> None:
        """Truncated at any byte, a stream never raises, passes what came, and is final only between events."""
        body = recorded(f"google/{name}.sse")
        for size in range(len(body)):
            cut_meter = meter()
            assert feed(cut_meter, [body[:size]]) == body[:size]
            if cut_meter.reading.final and cut_meter.reading.usage != STREAMS[name]:
                assert body[:size].rstrip().endswith(b"}")
            assert not cut_meter.reading.unreadable

    def test_final_with_the_last_candidate(self) -> None:
        """With two candidates, the first one's end is not the end."""
        body = recorded("google/two_candidates.sse")
        live = meter(generationConfig={"candidateCount": 2})
        first = body.index(b"data:", 1)
        finals = []
        for part in (body[:first], body[first:]):
            live.feed(part)
            finals.append(live.reading.final)
        assert finals == [False, True]
        assert live.reading.usage == Usage(input_tokens=3, output_tokens=4)

    def test_usage_after_the_last_output(self) -> None:
        """A finish without usage is not the last word, and usage older than the last output never is."""
        body = recorded("google/late_usage.sse")
        live = meter()
        live.feed(body[: body.index(b"data:", 1)])
        assert not live.reading.final
        read = feed_all_ways(meter, recorded("google/no_usage.sse")).reading
        assert not read.final
        assert read.usage == Usage(input_tokens=8)
        assert read.counted_output_tokens == len("Hello") + len(" world")

    def test_end_without_a_finish_reason(self) -> None:
        """A stream that just ends has said its last word when its usage speaks of the output, else not."""
        events = recorded("google/text.sse").split(b"\r\n\r\n")
        for count, usage, final in (
            (1, Usage(input_tokens=8), False),
            (2, Usage(input_tokens=8, output_tokens=4), True),
        ):
            body = b"".join(event + b"\r\n\r\n" for event in events[:count])
            read = feed_all_ways(meter, body).reading
            assert (read.usage, read.final) == (usage, final)
            array = b"[" + b",".join(event.removeprefix(b"data: ") for event in events[:count])
            cut_short, whole = meter(JSON), meter(JSON)
            feed(cut_short, [array])
            assert not cut_short.reading.final
            feed(whole, [array + b"]"])
            assert whole.reading.final is final

    def test_terms_and_model(self) -> None:
        """The model goes without its collection, and the tier as the provider last spelled it."""
        assert feed_all_ways(meter, recorded("google/text.sse")).reading.model == "gemini-2.0-flash"
        assert feed_all_ways(meter, recorded("google/thinking.sse")).reading.terms == Terms("on_demand_priority")

    def test_output_is_counted(self) -> None:
        """Text, shown thoughts and calls are counted while they arrive; a signature is not."""
        read = feed_all_ways(meter, recorded("google/thinking.sse")).reading
        assert read.counted_output_tokens == len("Let me think") + len('{"name": "f", "args": {"a": 1}}')

    @pytest.mark.parametrize(("name", "content_type"), [("error.sse", SSE), ("error.array.json", JSON)])
    def test_error_in_the_stream(self, name: str, content_type: str) -> None:
        """The provider's own error ends the stream as failed, with the usage so far, not final."""
        read = feed_all_ways(lambda: meter(content_type), recorded(f"google/{name}")).reading
        assert read.failed
        assert not read.final
        assert read.usage == Usage(input_tokens=8)

    @pytest.mark.parametrize("bad", ["-1", "1.5", '"7"', "true", "1e400", "99999999999999999999", "{}", "[3]"])
    @pytest.mark.parametrize("key", ["candidatesTokenCount", "promptTokensDetails"])
    def test_usage_that_is_none(self, bad: str, key: str) -> None:
        """A number that is no count makes the call unreadable, even after a last word, and never raises."""
        if (key, bad) == ("promptTokensDetails", "{}"):
            return
        chunk = f'data: {{"usageMetadata": {{"{key}": {bad}}}}}\n\n'.encode()
        for chunks in ([chunk], [recorded("google/text.sse"), chunk]):
            read = meter()
            feed(read, chunks)
            assert read.reading.unreadable
            assert not read.reading.final

    @given(st.lists(st.binary(max_size=30), max_size=6), st.sampled_from([SSE, JSON]), st.booleans())
    def test_garbage(self, chunks: list[bytes], content_type: str, streamed: bool) -> None:
        """Random bytes pass and never raise."""
        assert feed(meter(content_type, streamed=streamed), chunks) == b"".join(chunks)

    @pytest.mark.parametrize(
        "value",
        [3, [], {"candidates": {}}, {"candidates": [3, {"content": []}, {"content": {"parts": {}}}]},
         {"candidates": [{"content": {"parts": [3, {"inlineData": 3, "text": 3}]}, "groundingMetadata": {"webSearchQueries": [3]}}]},
         {"usageMetadata": 3}, {"modelVersion": 3, "promptFeedback": []}, {"candidates": [{"finishReason": "STOP", "index": []}]}],
    )  # fmt: skip
    def test_strange_responses(self, value: object) -> None:
        """A response of a strange shape passes and never raises, in each form."""
        data = json.dumps(value).encode()
        for content_type, streamed, body in (
            (SSE, True, b"data: " + data + b"\n\n"),
            (JSON, True, b"[" + data + b"]"),
            (JSON, False, data),
        ):
            assert feed(meter(content_type, streamed=streamed), [body]) == body


class TestArray:
    def test_usage(self) -> None:
        """The streamed array reads as the event stream does."""
        read = feed_all_ways(lambda: meter(JSON), recorded("google/text.array.json")).reading
        assert read.usage == TEXT
        assert read.final
        assert read.model == "gemini-2.0-flash"

    def test_truncated_anywhere(self) -> None:
        """Truncated at any byte, it passes what came and is final only with its last element."""
        body = recorded("google/text.array.json")
        last = body.rindex(b"}")
        for size in range(len(body)):
            read = meter(JSON)
            assert feed(read, [body[:size]]) == body[:size]
            assert read.reading.final == (size > last)
            assert not read.reading.unreadable

    def test_cut_anywhere(self) -> None:
        """Cut at any byte before its end, the array closes as valid JSON whose last element is our error."""
        body = recorded("google/text.array.json")
        for size in range(len(body)):
            live = meter(JSON)
            tail = (live.feed(body[:size]), GENERATE.cut(parse(), SPENT, live))
            elements = json.loads(b"".join(tail))
            assert elements[-1]["error"]["message"] == SPENT.message
            assert elements[:-1] == json.loads(body)[: len(elements) - 1]
        live = meter(JSON)
        live.feed(body)
        assert GENERATE.cut(parse(), SPENT, live) == b""

    def test_not_an_array(self) -> None:
        """A body that is neither array nor object passes and is unreadable."""
        read = feed_all_ways(lambda: meter(JSON), b"<html>").reading
        assert read.unreadable
        assert feed_all_ways(lambda: meter(JSON), recorded("google/error.json")).reading.failed


class TestBody:
    @pytest.mark.parametrize("name", BODIES)
    def test_usage(self, name: str) -> None:
        """Whole responses give the hand-worked usage."""
        read = feed_all_ways(lambda: meter(JSON, streamed=False), recorded(f"google/{name}.json")).reading
        assert read.usage == BODIES[name]
        assert read.final

    def test_image_is_counted(self) -> None:
        """A generated image counts at the largest one's tokens until its usage is said."""
        read = feed_all_ways(lambda: meter(JSON, streamed=False), recorded("google/image.json")).reading
        assert read.counted_output_tokens == len("Here") + IMAGE_TOKENS

    def test_error_with_a_good_status(self) -> None:
        """An error body with status 200 is a failure and no unreadable answer."""
        read = feed_all_ways(lambda: meter(JSON, streamed=False), recorded("google/error.json")).reading
        assert read.failed
        assert not read.unreadable

    def test_truncated_anywhere(self) -> None:
        """A truncated response is unreadable and never raises."""
        body = recorded("google/image.json")
        for size in range(len(body)):
            read = meter(JSON, streamed=False)
            assert feed(read, [body[:size]]) == body[:size]
            assert read.reading.unreadable
            assert not read.reading.final

    @pytest.mark.parametrize("status", [400, 429, 503])
    def test_failed_status(self, status: int) -> None:
        """An error status passes, whatever the body is, and is marked failed."""
        read = meter("text/html", status)
        assert feed(read, [b"<html>", b"\xff"]) == b"<html>\xff"
        assert read.reading.failed
        assert not read.reading.unreadable


@pytest.mark.parametrize("query", [{"fields": "candidates"}, {"$fields": "usageMetadata/promptTokenCount"}])
def test_a_field_mask_is_refused(query: dict[str, str]) -> None:
    """What takes the usage or the text out of the answer would leave it uncounted; a mask of everything does not."""
    head = request()
    with pytest.raises(UnreadableRequest, match="field mask"):
        GENERATE.parse(replace(head, query=query), Target("google"), "curl")
    with pytest.raises(UnreadableRequest, match="field mask"):
        GENERATE.parse(replace(head, headers={"x-goog-fieldmask": "candidates"}), Target("google"), "curl")
    GENERATE.parse(replace(head, query={"fields": "*"}), Target("google"), "curl")


def test_a_whole_answers_usage_that_is_silent_about_its_output_is_not_believed() -> None:
    """Output that is seen is not taken for 0 tokens because the usage leaves them out."""
    part = b'{"candidates":[{"content":{"parts":[{"text":"Hello"}]}}],"usageMetadata":{"promptTokenCount":8}}'
    read = meter(JSON, streamed=False)
    feed(read, [part])
    assert not read.reading.final
    assert read.reading.counted_output_tokens > 0


def sdk(handler: Any) -> genai.Client:
    """The official client, its requests answered by `handler`."""
    http = httpx2.Client(transport=httpx2.MockTransport(handler))
    return genai.Client(api_key="test", http_options=types.HttpOptions(httpx_client=http))


def answer(content: bytes, status: int = 200, content_type: str = SSE, headers: Any = ()) -> Any:
    return lambda _: httpx2.Response(status, headers=[*headers] or {"content-type": content_type}, content=content)


class TestSdk:
    @pytest.mark.parametrize(
        ("status", "name"),
        [
            (429, "RESOURCE_EXHAUSTED"),
            (400, "INVALID_ARGUMENT"),
            (403, "PERMISSION_DENIED"),
            (402, "FAILED_PRECONDITION"),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True])
    def test_refusal(self, status: int, name: str, streamed: bool) -> None:
        """The SDK raises its own error with our message after exactly one request, streamed or not."""
        seen: list[int] = []

        def handler(asked: httpx2.Request) -> httpx2.Response:
            seen.append(1)
            wire = Request("POST", HOST, asked.url.path, dict(asked.url.params), body=asked.read())
            response = GENERATE.refusal(GENERATE.parse(wire, Target("google"), ""), wire, SPENT, status)
            return httpx2.Response(response.status, headers=list(response.headers), content=response.body)

        models = sdk(handler).models
        ask: Any = models.generate_content_stream if streamed else models.generate_content
        with pytest.raises(errors.ClientError, match="LLMCap: the cap daily is spent") as raised:
            list(ask(model="gemini-2.5-flash", contents="hi"))
        assert len(seen) == 1
        assert (raised.value.code, raised.value.status) == (status, name)

    def test_refusal_of_an_array_stream(self) -> None:
        """Without alt=sse the client waits for an array, so the error stands in one, which the SDK takes too."""
        response = GENERATE.refusal(None, request("streamGenerateContent"), SPENT, 429)
        assert json.loads(response.body)[0]["error"]["message"] == SPENT.message
        with pytest.raises(errors.ClientError, match="LLMCap") as raised:
            sdk(answer(response.body, 429, JSON)).models.generate_content(model="gemini-2.5-flash", contents="hi")
        assert raised.value.status == "RESOURCE_EXHAUSTED"
        assert isinstance(json.loads(GENERATE.refusal(None, request(alt="sse"), SPENT, 429).body), dict)

    @pytest.mark.parametrize("size", [0, 1, 100, 300, 500, 650])
    def test_cut(self, size: int) -> None:
        """Cut anywhere, the SDK has read the whole events so far and then raises with our message."""
        live = meter()
        shown = live.feed(recorded("google/text.sse")[:size])
        content = shown + GENERATE.cut(parse("streamGenerateContent"), SPENT, live)
        seen: list[object] = []
        with pytest.raises(errors.ClientError, match="LLMCap: the cap daily is spent"):
            seen.extend(sdk(answer(content)).models.generate_content_stream(model="gemini-2.5-flash", contents="hi"))
        assert len(seen) == shown.count(b"data: ")

    @pytest.mark.parametrize("name", STREAMS)
    def test_the_sdk_reads_the_recorded_streams(self, name: str) -> None:
        """The recorded streams are what the SDK takes for responses, with the prompt's tokens we read."""
        client = sdk(answer(recorded(f"google/{name}.sse")))
        *_, last = client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi")
        assert last.usage_metadata is not None
        assert last.usage_metadata.prompt_token_count == STREAMS[name].input_tokens

    def test_cut_of_an_unstreamed_answer(self) -> None:
        """Nothing is appended to half a JSON body."""
        assert GENERATE.cut(parse(), SPENT, meter(JSON, streamed=False)) == b""
