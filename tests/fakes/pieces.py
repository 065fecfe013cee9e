"""Stand-ins for what is billed by the piece: pictures, pages, searches, and texts to rank.

Shapes: `google.genai`'s `GenerateImagesResponse`, `mistralai`'s `OCRResponse`, `openai`'s `ImagesResponse` as xAI gives
it, `perplexity`'s `SearchCreateResponse`, Voyage's rerank. A piece is one of `Record.input_tokens`, at its own price.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes import directory, google, openai
from tests.fakes.answer import Answer, unstreamed
from tests.fakes.prices import PRICES, Price
from tests.fakes.script import Record

XAI_HOST, VOYAGE_HOST = "api.x.ai", "api.voyageai.com"
HOSTS = (XAI_HOST, VOYAGE_HOST)
PIXEL = "iVBORw0KGgo="

PRICES |= {
    "imagen-3.0-generate-001": Price(input=40_000_000_000, cache_read=0, output=0),  # $0.04 a picture
    "grok-imagine-image": Price(input=21_000_000_000, cache_read=0, output=0),  # dearer than listed
    "mistral-ocr-4": Price(input=4_000_000_000, cache_read=0, output=0),  # $0.004 a page
    "search": Price(input=5_000_000_000, cache_read=0, output=0),  # $0.005 a request
    "rerank-2": Price(input=50_000, cache_read=0, output=0),
}


def find(record: Record) -> directory.Endpoint | None:
    """Say which endpoint a request is for."""
    if record.method != "POST":
        return None
    if record.path.endswith(":predict") and record.host == directory.GOOGLE_HOST:
        model: Callable[[Record, Any], str] = lambda asked, _: asked.path.rpartition("/")[2].partition(":")[0]  # noqa: E731
        return directory.Endpoint("predict", imagen, model=model, error=google.error)
    answer = _ANSWERS.get((record.host, record.path))
    if answer is None:
        return None
    searches = record.path == "/search"
    named: Callable[[Record, Any], str] = lambda _, body: "search" if searches else str(body["model"])  # noqa: E731
    return directory.Endpoint(record.path.rpartition("/")[2], answer, model=named, error=openai.error)


def imagen(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `:predict` with as many pictures as were asked for."""
    record.input_tokens = body["parameters"].get("sampleCount", 4)
    picture = {"mimeType": "image/png", "bytesBase64Encoded": PIXEL}
    return unstreamed({"predictions": [picture] * record.input_tokens})


def pictures(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `/images/generations` as xAI does, with what it cost."""
    record.input_tokens = body.get("n") or 1
    data = [{"b64_json": PIXEL, "mime_type": "image/jpeg"}] * record.input_tokens
    return unstreamed({"data": data, "usage": {"cost_in_usd_ticks": record.cost_nanousd * 10}})


def ocr(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `/v1/ocr`: a document has three pages here."""
    record.input_tokens = len(body["pages"]) if body.get("pages") else 3
    size = {"dpi": 200, "height": 2200, "width": 1700}
    pages = [
        {"index": index, "markdown": "# Foxes", "images": [], "dimensions": size}
        for index in range(record.input_tokens)
    ]
    told = {"pages_processed": record.input_tokens, "doc_size_bytes": 1800}
    return unstreamed({"pages": pages, "model": record.model, "document_annotation": None, "usage_info": told})


def search(record: Record, body: dict[str, Any]) -> Answer:
    """Answer Perplexity's `/search`."""
    record.input_tokens = 1
    result = {"title": "Foxes", "url": "https://example.com", "snippet": "Red.", "date": None, "last_updated": None}
    return unstreamed({"id": "s", "results": [result], "server_time": None})


def rerank(record: Record, body: dict[str, Any]) -> Answer:
    """Answer Voyage's `/v1/rerank`: five tokens for each document."""
    record.input_tokens = 5 * len(body["documents"])
    data = [{"index": index, "relevance_score": 0.5} for index in range(len(body["documents"]))]
    usage = {"total_tokens": record.input_tokens}
    return unstreamed({"object": "list", "data": data, "model": record.model, "usage": usage})


_ANSWERS: dict[tuple[str, str], Callable[[Record, Any], Answer]] = {
    (XAI_HOST, "/v1/images/generations"): pictures,
    (VOYAGE_HOST, "/v1/rerank"): rerank,
    ("api.mistral.ai", "/v1/ocr"): ocr,
    ("api.perplexity.ai", "/search"): search,
}

directory.FINDERS.insert(0, find)  # before those who take a path at any host, whoever was imported first
