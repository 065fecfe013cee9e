"""Stand-in for Vertex AI: Gemini, Claude (`:rawPredict`), embeddings, and its OpenAI-compatible chat.

Paths as in `google-genai` (`vertexai=True`) and `AnthropicVertex`; answers are those of each maker's own stand-in.
A host of one region bills a tenth more for what has a regional price, under the model's name and "@regional".
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.fakes import anthropic, directory, google, openai
from tests.fakes.answer import Answer, bill_input, strings_in, unstreamed
from tests.fakes.script import Record

GLOBAL_HOST = "aiplatform.googleapis.com"
REGION = "us-east5"
REGIONAL_HOST = f"{REGION}-aiplatform.googleapis.com"
HOSTS = (GLOBAL_HOST, REGIONAL_HOST)

_PATH = re.compile(r"/v1(?:beta1)?/(?:projects/.+/)?publishers/(\w+)/models/([^/:]+):(\w+)")
_REGIONAL_PRICES = re.compile(r"claude-|gemini-3")


def find(record: Record) -> directory.Endpoint | None:
    """Say what a request to Vertex is for."""
    path = unquote(record.path)
    if record.host == directory.GOOGLE_HOST and path.endswith(":batchEmbedContents"):
        model = path.rpartition("/")[2].partition(":")[0]
        return directory.Endpoint("embeddings", _batch, model=lambda *_: model, error=google.error)
    if record.host not in HOSTS or record.method != "POST":
        return None
    if path.endswith("/endpoints/openapi/chat/completions"):
        return directory.Endpoint("chat", openai.chat, model=lambda _, body: _billed(record, body["model"]))
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    publisher, model, method = found.groups()
    if model == "count-tokens":
        return directory.Endpoint("anthropic_count", lambda of, _: anthropic.count_tokens(of), billable=False)
    kind, answer, error = _ANSWERS[publisher, method]
    return directory.Endpoint(
        kind,
        answer,
        model=lambda *_: _billed(record, model),
        streamed=lambda *_: method.startswith("stream"),
        error=error,
    )


def _billed(record: Record, model: str) -> str:
    """Name the model as prices.py lists it."""
    bare = model.rpartition("/")[2].partition("@")[0]
    regional = record.host == REGIONAL_HOST and _REGIONAL_PRICES.match(bare)
    return f"{bare}@regional" if regional else bare


def _stream_generate(record: Record, body: Any) -> Answer:
    return google.generate(record, body, "sse" if parse_qs(record.query).get("alt") == ["sse"] else "array")


def _predict(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `:predict` of an embedding model (`EmbedContentResponse` before the SDK moves it about)."""
    texts = [list(strings_in(instance["content"])) for instance in body["instances"]]
    bill_input(record, [text for instance in texts for text in instance], len(texts))
    shares = [record.input_tokens // len(texts)] * len(texts)
    shares[0] += record.input_tokens - sum(shares)
    predictions = [
        {"embeddings": {"values": [0.25, 0.5], "statistics": {"token_count": share, "truncated": False}}}
        for share in shares
    ]
    return unstreamed({"predictions": predictions, "metadata": {"billableCharacterCount": 7}})


def _batch(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `:batchEmbedContents`, at the Gemini API too."""
    requests = body["requests"]
    bill_input(record, strings_in([request["content"] for request in requests]), len(requests))
    usage = {"promptTokenCount": record.input_tokens, "totalTokenCount": record.input_tokens}
    return unstreamed({"embeddings": [{"values": [0.25, 0.5]} for _ in requests], "usageMetadata": usage})


_ANSWERS = {
    ("anthropic", "rawPredict"): ("messages", anthropic.messages, anthropic.error),
    ("anthropic", "streamRawPredict"): ("messages", anthropic.messages, anthropic.error),
    ("google", "generateContent"): (
        "generate",
        lambda record, body: google.generate(record, body, "whole"),
        google.error,
    ),
    ("google", "streamGenerateContent"): ("stream_generate", _stream_generate, google.error),
    ("google", "batchEmbedContents"): ("embeddings", _batch, google.error),
    ("google", "predict"): ("embeddings", _predict, google.error),
}

directory.FINDERS.append(find)
