"""What Bedrock may bill for a request is never above its bound, whatever the answer and its cache."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.bedrock_converse import CONVERSE
from llmcap_addon.wire.bedrock_invoke import INVOKE
from llmcap_addon.wire.dialect import Request, Target
from tests.corpus.case import PRICES
from tests.fakes import bedrock
from tests.fakes.answer import strings_in

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"

texts = st.lists(st.text(max_size=40), max_size=4)
limits = st.none() | st.integers(1, 5000)
tiers = st.sampled_from(("", "default", "priority", "flex", "reserved"))
caches = st.sampled_from(("", "5m", "1h"))


def point(ttl: str) -> list[dict[str, Any]]:
    return [{"cachePoint": {"type": "default", "ttl": ttl}}] if ttl else []


def billed(inputs: int, cached: float, ttl: str, output: int) -> list[Usage]:
    """Every way in which the cache may have split so much input."""
    part = int(inputs * cached)
    ways = [Usage(inputs, output), Usage(inputs, output, cache_read_tokens=part)]
    if ttl:
        ways.append(Usage(inputs, output, 0, part, part if ttl == "1h" else 0))
    return ways


@given(st.sampled_from((CLAUDE, NOVA)), texts, texts, limits, tiers, tiers, caches, st.floats(0, 1))
def test_converse(
    model: str, system: list[str], said: list[str], limit: int | None, asked: str, applied: str, ttl: str, cached: float
) -> None:
    """A token a byte, all of the answer, any split by the cache, and the tier asked for or the standard one."""
    body: dict[str, Any] = {
        "system": [{"text": text} for text in system],
        "messages": [{"role": "user", "content": [{"text": text}, *point(ttl)]} for text in said],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]},
    }
    if limit is not None:
        body["inferenceConfig"] = {"maxTokens": limit}
    if asked:
        body["serviceTier"] = {"type": asked}
    request = Request("POST", bedrock.HOST, "/model/m/converse", body=json.dumps(body).encode())
    call = CONVERSE.parse(request, Target("bedrock", model), "")
    quote = PRICES.quote(call)
    inputs = sum(len(text.encode()) for text in strings_in([system, said])) + 200
    terms = Terms(applied if applied in (asked, "default") else "")
    for usage in billed(inputs, cached, ttl, quote.output_tokens):
        assert PRICES.cost(call, usage, terms).amount <= quote.amount(quote.output_tokens)
    assert limit is None or quote.output_tokens == limit


@given(texts, st.integers(1, 5000), st.sampled_from(("", "optimized")), caches, st.floats(0, 1))
def test_invoke(said: list[str], limit: int, latency: str, ttl: str, cached: float) -> None:
    """The same for Claude in its own shape, with the latency asked for in a header."""
    control = {"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {}
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": limit,
        "messages": [{"role": "user", "content": [{"type": "text", "text": text, **control}]} for text in said],
    }
    headers = {"x-amzn-bedrock-performanceconfig-latency": latency} if latency else {}
    request = Request("POST", bedrock.HOST, "/model/m/invoke", {}, headers, json.dumps(body).encode())
    call = INVOKE.parse(request, Target("bedrock", CLAUDE), "")
    quote = PRICES.quote(call)
    for usage in billed(sum(len(text.encode()) for text in said), cached, ttl, limit):
        assert PRICES.cost(call, usage, Terms("", latency)).amount <= quote.amount(quote.output_tokens)
