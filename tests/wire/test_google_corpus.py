"""Answers of Google's, priced to the nano-dollar: modalities, maps and files, tiers, embeddings, and Vertex."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_embeddings import EMBEDDINGS
from llmcap_addon.wire.providers import with_habits
from tests.corpus.case import PRICES, of
from tests.wire.corpus import feed_all

CASES = [*of("google"), *of("vertex")]
HOST = "generativelanguage.googleapis.com"
MODEL = "/v1beta/models/gemini-2.5-flash"
HI = {"contents": [{"parts": [{"text": "hi"}]}]}


def generate(provider: str = "google", **body: Any) -> Call:
    request = Request("POST", HOST, f"{MODEL}:generateContent", body=json.dumps(HI | body).encode())
    return GENERATE.parse(request, Target(provider), "")


def read(call: Call, *chunks: dict[str, Any]) -> Meter:
    meter = GENERATE.meter(call, b"", ResponseHead(200, "text/event-stream"), len)
    feed_all(meter, [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks])
    return meter


class TestUsage:
    def test_audio_that_nobody_counts_apart(self) -> None:
        """A prompt with audio whose breakdown is missing is billed as audio, which is dearer."""
        audio: dict[str, Any] = {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}}]}]}
        said = {"usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 1}}
        assert read(generate(**audio), said).reading.usage == Usage(100, 1, input_audio_tokens=100)
        assert read(generate(), said).reading.usage == Usage(100, 1)

    @given(st.dictionaries(st.sampled_from(["TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT", "?"]), st.integers(0, 900)))
    def test_breakdowns_never_contradict_the_total(self, told: dict[str, int]) -> None:
        """Whatever a breakdown says, parts stay within their whole."""
        details = [{"modality": name, "tokenCount": tokens} for name, tokens in told.items()]
        usage = {"promptTokenCount": 500, "cachedContentTokenCount": 300, "candidatesTokenCount": 100}
        keys = ("promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails")
        meter = read(generate(), {"usageMetadata": usage | dict.fromkeys(keys, details)})
        assert meter.reading.unreadable == ""
        assert meter.reading.usage is not None
        assert meter.reading.usage.input_tokens == 500


class TestGrounding:
    def test_bounds(self) -> None:
        """Maps are bounded by the piece, searches in one's own data on Vertex only."""
        tools: list[dict[str, Any]] = [{"googleMaps": {}}, {"retrieval": {}}, {"google_search": {}}]
        call = generate(tools=tools)
        assert call.unit_bound == Usage(maps_requests=DEFAULT_SERVER_TURNS)
        assert call.content.web_searches == DEFAULT_SERVER_TURNS
        assert generate("vertex", tools=tools).unit_bound.file_search_requests == DEFAULT_SERVER_TURNS

    def test_queries_of_maps_alone(self) -> None:
        """Where only maps were at hand, queries are maps', on Gemini 3 each."""
        grounding = {"webSearchQueries": ["a", "b"], "groundingChunks": [{"maps": {"uri": "x"}}]}
        answer = {
            "candidates": [{"groundingMetadata": grounding, "finishReason": "STOP"}],
            "modelVersion": "gemini-3.1-pro-preview",
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 5},
        }
        usage = read(generate(tools=[{"googleMaps": {}}]), answer).reading.usage
        assert usage == Usage(5, 5, maps_requests=2)

    def test_searches_in_ones_own_data(self) -> None:
        """Vertex bills the searches that its retrieval tools tell of, the Gemini API does not."""
        grounding = {"retrievalQueries": ["a", "b"], "groundingChunks": [{"retrievedContext": {"uri": "gs://b/a"}}]}
        answer = {
            "candidates": [{"groundingMetadata": grounding, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 5},
        }
        tools = [{"retrieval": {"vertexAiSearch": {"datastore": "d"}}}]
        assert read(generate("vertex", tools=tools), answer).reading.usage == Usage(5, 5, file_search_requests=2)
        assert read(generate(tools=tools), answer).reading.usage == Usage(5, 5)

    def test_what_is_grounded_costs_no_more_than_its_bound(self) -> None:
        """The fees of a grounded answer are within what was reserved."""
        call = generate(tools=[{"googleMaps": {}}])
        quote = PRICES.quote(call)
        assert quote.amount(quote.output_tokens) >= 25_000_000


def embed(method: str, body: dict[str, Any], model: str = "gemini-embedding-2") -> Call:
    request = Request("POST", HOST, f"/v1beta/models/{model}:{method}", body=json.dumps(body).encode())
    return EMBEDDINGS.parse(request, Target("google"), "test")


TEXT = {"parts": [{"text": "some text"}]}


class TestEmbeddings:
    def test_requests(self) -> None:
        """Each way to ask gives its texts; there is no output."""
        one = embed("embedContent", {"content": TEXT, "title": "Title", "task_type": "RETRIEVAL_DOCUMENT"})
        assert (one.dialect, one.model, one.has_output) == ("google.embeddings", "gemini-embedding-2", False)
        assert one.content.texts == ("some text", "Title")
        batch = embed("batchEmbedContents", {"requests": [{"content": TEXT}, {"content": TEXT}]})
        assert batch.content.texts == ("some text", "some text")
        predict = embed("predict", {"instances": [{"content": "one"}, {"content": TEXT}]}, "text-embedding-005")
        assert predict.content.texts == ("one", "some text")

    def test_files_have_a_window_each(self) -> None:
        """Input that is not in the body is bounded by one context window for each content."""
        file = {"content": {"parts": [{"fileData": {"fileUri": "gs://a/b.mp4"}}]}}
        batch = embed("batchEmbedContents", {"requests": [file, file, file]})
        assert PRICES.quote(batch).input_tokens == 3 * PRICES.quote(embed("embedContent", file)).input_tokens

    @pytest.mark.parametrize(
        ("method", "body"),
        [("embedContent", {}), ("embedContent", {"content": "x"}), ("batchEmbedContents", {"requests": [3]})],
    )
    def test_unreadable(self, method: str, body: dict[str, Any]) -> None:
        """A request without a content is refused."""
        with pytest.raises(UnreadableRequest, match="content"):
            embed(method, body)

    def test_an_answer_without_usage(self) -> None:
        """Where the answer tells no usage there is none: the row stays at its bound."""
        meter = EMBEDDINGS.meter(embed("embedContent", {"content": TEXT}), b"", ResponseHead(200), len)
        feed_all(meter, [b'{"embedding": {"values": [0.5]}}'])
        assert meter.reading.usage is None
        assert not meter.reading.final

    @pytest.mark.parametrize("count", ['"5"', "-1", "1.5", "true", "null"])
    def test_counts_that_are_none(self, count: str) -> None:
        """A token count that is none is not believed, and raises nothing."""
        meter = EMBEDDINGS.meter(
            embed("predict", {"instances": [{"content": "a"}]}, "gemini-embedding-001"), b"", ResponseHead(200), len
        )
        body = '{"predictions": [{"embeddings": {"statistics": {"token_count": COUNT}}}]}'
        feed_all(meter, [body.replace("COUNT", count).encode()])
        assert meter.reading.usage is None
        assert not meter.reading.final

    def test_counts_beside_each_embedding(self) -> None:
        """Vertex may tell the tokens of each embedding instead of all together; if of some only, nothing is known."""
        call = embed("batchEmbedContents", {"requests": [{"content": TEXT}, {"content": TEXT}]})
        told = [{"values": [0.5], "statistics": {"tokenCount": 3.0}}, {"statistics": {"token_count": 4}}]
        meters = [EMBEDDINGS.meter(call, b"", ResponseHead(200), len) for _ in range(2)]
        feed_all(meters[0], [json.dumps({"embeddings": told}).encode()])
        feed_all(meters[1], [json.dumps({"embeddings": [*told, {"values": [0.5]}]}).encode()])
        assert meters[0].reading.usage == Usage(7)
        assert meters[1].reading.usage is None

    def test_refusal(self) -> None:
        """A refusal has Google's shape."""
        refusal = Refusal("spent", "LLMCap: spent.")
        request = Request("POST", HOST, "/v1beta/models/g:embedContent")
        body = json.loads(EMBEDDINGS.refusal(None, request, refusal, 429).body)
        assert body["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert EMBEDDINGS.meter(embed("embedContent", {"content": TEXT}), b"", ResponseHead(429), len).reading.failed


def test_mistral_on_vertex_is_not_asked_for_usage() -> None:
    """Mistral refuses fields it does not know, so its streams on Vertex go out as they came."""
    [case] = [case for case in CASES if case.raw["response"] == "mistral.json"]
    call = with_habits(case.call, case.request)
    assert not call.takes_stream_options
    body = b'{"model":"mistral-medium-3","stream":true,"messages":[]}'
    assert case.dialect.amend(call, body, None) is body
