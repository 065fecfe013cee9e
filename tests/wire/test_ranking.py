"""Rankings and searches billed by tokens or by the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import NO_USAGE, Usage
from llmcap_addon.wire.dialect import Dialect, Meter, Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.ranking import RANKING

RERANK, SEARCH, BEDROCK = RANKING
ARN = "arn:aws:bedrock:us-west-2::foundation-model/amazon.rerank-v1:0"
MODEL = {"bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": ARN}}}


def parse(dialect: Dialect, provider: str, body: object) -> Call:
    """Parse a request."""
    return dialect.parse(
        Request("POST", "host.example", "/rerank", body=json.dumps(body).encode()), Target(provider), ""
    )


def read(dialect: Dialect, call: Call, answer: object, status: int = 200) -> Meter:
    """Read an answer."""
    meter = dialect.meter(call, b"", ResponseHead(status, "application/json"), len)
    meter.feed(json.dumps(answer).encode())
    meter.end()
    return meter


def ranked(provider: str = "voyage", **fields: Any) -> Call:
    """Parse a ranking."""
    return parse(RERANK, provider, {"model": "m", "query": "red", "documents": ["a fox", {"text": "a frog"}], **fields})


def test_each_document_is_read_with_the_query() -> None:
    """So the query counts as often; search units only where a router's seller may bill them."""
    call = ranked()
    assert call.content.text_bytes == 2 * len("red") + len("a fox") + len('{"text": "a frog"}')
    assert (call.unit_bound, call.has_output) == (NO_USAGE, False)
    assert ranked("openrouter").unit_bound == Usage(search_units=1)
    assert RERANK.amend(call, b"{}", 5) == b"{}"


@pytest.mark.parametrize("documents", ["a", [{"text": "a", "image": "data:image/png;base64,AAAA"}]])
def test_documents_that_are_no_texts_are_refused(documents: object) -> None:
    """Pictures cost what nobody tells."""
    with pytest.raises(UnreadableRequest):
        ranked(documents=documents)


@pytest.mark.parametrize(
    ("provider", "usage", "tokens", "billed"),
    [
        ("voyage", {"total_tokens": 26}, 26, None),
        ("together", {"prompt_tokens": 31, "completion_tokens": 0, "total_tokens": 31}, 31, None),
        ("openrouter", {"search_units": 1, "cost": 0.001}, 0, 1_000_000),
        ("openrouter", {"total_tokens": 9}, None, None),
        ("voyage", {"total_tokens": -1}, None, None),
        ("voyage", {"total_tokens": 2.5}, None, None),
        ("fireworks", None, None, None),
    ],
)
def test_usage_is_read(provider: str, usage: object, tokens: int | None, billed: int | None) -> None:
    """Tokens, or what a router billed; without a word the bound is posted."""
    reading = read(RERANK, ranked(provider), {"results": [], "usage": usage}).reading
    assert reading.final is (tokens is not None)
    assert bool(reading.unreadable) is (tokens is None)
    assert reading.billed == billed
    if reading.usage is not None:
        assert reading.usage.input_tokens == tokens


@pytest.mark.parametrize(
    ("fields", "units"),
    [({}, 1), ({"search_type": "web"}, 1), ({"search_type": "fast"}, 1), ({"search_type": "people"}, 2),
     ({"search_type": 7}, 2), ({"query": ["a", "b", "c"]}, 1)],
)  # fmt: skip
def test_a_search_is_billed_by_the_request(fields: dict[str, Any], units: int) -> None:
    """However much it asks; what it costs is known before, and posted once it has results."""
    call = parse(SEARCH, "perplexity", {"query": "red", **fields})
    assert (call.model, call.unit_bound) == ("search", Usage(search_units=units))
    assert read(SEARCH, call, {"results": []}).reading.usage == Usage(search_units=units)
    assert read(SEARCH, call, {"answer": 1}).reading.unreadable
    assert read(SEARCH, call, {"error": "no"}, 401).reading.failed
    assert SEARCH.amend(call, b"{}", 5) == b"{}"


def bedrock(documents: int = 2, size: int = 5, queries: int = 1, kind: str = "INLINE") -> Call:
    """Parse a request to Bedrock."""
    source = {"type": kind, "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "a" * size}}}
    query = {"type": "TEXT", "textQuery": {"text": "red"}}
    body = {"queries": [query] * queries, "sources": [source] * documents, "rerankingConfiguration": MODEL}
    return parse(BEDROCK, "bedrock", body)


@pytest.mark.parametrize(
    ("call", "units"),
    [
        (bedrock(), 1),
        (bedrock(documents=90), 1),
        (bedrock(documents=101), 2),
        (bedrock(documents=90, size=900), 2),
        (bedrock(documents=10, size=100_000), 21),
        (bedrock(queries=3), 3),
        (bedrock(documents=0), 1),
    ],
)
def test_bedrocks_queries_are_counted_from_above(call: Call, units: int) -> None:
    """A hundred documents are one, longer ones several; only where it surely is one the answer settles it."""
    assert (call.model, call.unit_bound) == ("amazon.rerank-v1:0", Usage(search_units=units))
    reading = read(BEDROCK, call, {"results": []}).reading
    assert reading.final is (units == 1)
    assert bool(reading.unreadable) is (units > 1)


def test_bedrock_refuses_as_aws_does() -> None:
    """What stands elsewhere can't be counted, and no model has no price."""
    with pytest.raises(UnreadableRequest, match="INLINE"):
        bedrock(kind="S3")
    with pytest.raises(UnreadableRequest, match="modelArn"):
        parse(BEDROCK, "bedrock", {"queries": [], "sources": []})
    call, refusal = bedrock(), Refusal("spent", "LLMCap: spent")
    asked = Request("POST", "host.example", "/rerank")
    assert json.loads(BEDROCK.refusal(call, asked, refusal, 400).body)["message"] == "LLMCap: spent"
    meter = read(BEDROCK, call, {"message": "no"}, 400)
    assert meter.reading.failed
    assert (BEDROCK.cut(call, refusal, meter), BEDROCK.amend(call, b"{}", 1)) == (b"", b"{}")
