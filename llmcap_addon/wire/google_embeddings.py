"""Google's embeddings: `:embedContent`, `:batchEmbedContents`, and on Vertex `:predict` of its text models.

Shapes as in the SDK's `EmbedContentResponse` and what it is made from (`models._EmbedContentResponse_from_vertex`).
Only input is billed.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from collections.abc import Callable

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.money import ceil_div
from llmcap_addon.usage import Usage
from llmcap_addon.wire.counts import json_object, reported_count, reported_part
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_request import items, model_and_method, named, read_message, refuse_field_masks
from llmcap_addon.wire.google_usage import UsageMaxima
from llmcap_addon.wire.meters import BodyMeter, FailedMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, load_json, mapping, parse_object

_BY_CHARACTER = re.compile(r"(?:^|/)(?:text-embedding-|text-multilingual-embedding-|textembedding-gecko)")
"""The models of before Gemini, whose price is one for characters: `metadata.billableCharacterCount`."""
CHARACTERS_PER_TOKEN = 4
"""What the price tables make of it: $0.000025 a thousand characters, $0.10 a million tokens.
https://cloud.google.com/vertex-ai/generative-ai/pricing"""


class GoogleEmbeddings:
    """The dialect of Google's embeddings."""

    name = "google.embeddings"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        model, method = model_and_method(request.path, tuple(_READERS))
        refuse_field_masks(request)
        body = named(load_json(request.body))
        content = ContentBuilder()
        texts = _READERS[method](body, content)
        if content.opaque:
            content.server_turns = max(0, texts - 1)  # each of them has a context window of its own
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=target.model_of(model),
            streamed=False,
            content=content.build(),
            has_output=False,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer."""
        return FailedMeter() if head.status >= 400 else EmbeddingsMeter(call)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body."""
        return GENERATE.refusal(call, request, refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """Nothing can end half a JSON body; the connection breaks off."""
        return b""


def _read_one(body: JsonObject, content: ContentBuilder) -> int:
    """Read one content to embed; gives how many there are."""
    if not isinstance(body.get("content"), dict):
        raise UnreadableRequest("content is not an object")
    content.messages += 1
    read_message(body["content"], content, "")
    if isinstance(body.get("title"), str):
        content.add_text(str(body["title"]))
    return 1


def _read_batch(body: JsonObject, content: ContentBuilder) -> int:
    requests = items(body, "requests")
    for one in requests:
        _read_one(named(mapping(one)), content)
    return len(requests)


def _read_instances(body: JsonObject, content: ContentBuilder) -> int:
    """Read the instances of a `:predict`: a text, or a content, with its title beside it."""
    instances = items(body, "instances")
    for one in instances:
        instance = named(mapping(one))
        if isinstance(instance.get("content"), str):
            instance["content"] = {"parts": [{"text": instance["content"]}]}
        _read_one(instance, content)
    return len(instances)


_READERS: dict[str, Callable[[JsonObject, ContentBuilder], int]] = {
    "embedContent": _read_one,
    "batchEmbedContents": _read_batch,
    "predict": _read_instances,
}


class EmbeddingsMeter(BodyMeter):
    """Reads a whole answer; without a word of usage its cost stays the request's bound."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def on_body(self, body: bytes) -> None:
        """Read the usage, wherever the endpoint tells it."""
        value = parse_object(body)
        if "error" in value:
            self.reading.failed = True
            return
        usage = self._usage(value)
        if usage is not None:
            self.reading.usage = usage
            self.reading.final = True

    def _usage(self, value: JsonObject) -> Usage | None:
        """Raises ValueError for what is no count."""
        if value.get("usageMetadata") is not None:
            said = json_object(value["usageMetadata"], "usageMetadata")
            if said.get("promptTokenCount") is None and said.get("totalTokenCount") is None:
                return None
            maxima = UsageMaxima(self._call)
            maxima.take({"promptTokenCount": said.get("totalTokenCount"), **said, "totalTokenCount": 0})
            return maxima.usage()
        counts = [_token_count(embedding) for embedding in _embeddings(value)]
        if not counts or None in counts:
            return None
        characters = reported_count(reported_part(value, "metadata"), "billableCharacterCount")
        by_character = ceil_div(characters, CHARACTERS_PER_TOKEN) if _BY_CHARACTER.search(self._call.model) else 0
        return Usage(input_tokens=max(by_character, sum(count or 0 for count in counts)))


def _embeddings(value: JsonObject) -> list[JsonObject]:
    """Give the embeddings of an answer, those in predictions too; raises ValueError for what is none."""
    key = "predictions" if "predictions" in value else "embeddings"
    found = [json_object(item, key) for item in items(value, key)]
    return [reported_part(item, "embeddings") for item in found] if key == "predictions" else found


def _token_count(embedding: JsonObject) -> int | None:
    """Read how many tokens one input had, where it says; the SDK types it as a float, so a whole one is a count too."""
    statistics = named(reported_part(embedding, "statistics"))
    count = statistics.get("tokenCount")
    if isinstance(count, float) and count.is_integer():
        statistics["tokenCount"] = int(count)
    return None if count is None else reported_count(statistics, "tokenCount")


EMBEDDINGS = GoogleEmbeddings()
