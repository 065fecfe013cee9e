"""OpenRouter's additions to the shapes it borrows: other models, plugins, tools, pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import NO_USAGE, Terms, Usage
from llmcap_addon.wire.anthropic import AnthropicMessages
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_completions import COMPLETIONS
from llmcap_addon.wire.openai_responses import RESPONSES
from llmcap_addon.wire.searches import RESEARCH_SEARCHES
from tests.corpus.case import AT_MS

PRICES = Prices.load(now_ms=lambda: AT_MS)
CHEAP, DEAR = "openai/gpt-5-mini", "anthropic/claude-sonnet-4.5"


def parse(provider: str = "openrouter", **fields: Any) -> Call:
    """Parse a chat."""
    body = {"model": CHEAP, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return CHAT.parse(
        Request("POST", "openrouter.ai", "/api/v1/chat/completions", body=json.dumps(body).encode()),
        Target(provider),
        "",
    )


def bound(call: Call) -> int:
    """Give what is reserved."""
    quote = PRICES.quote(call)
    return quote.amount(quote.output_tokens)


def test_the_dearest_of_the_models_is_reserved_whatever_their_order() -> None:
    """One of them answers; which one only the answer says."""
    dear, both = bound(parse(model=DEAR)), bound(parse(models=[DEAR]))
    assert bound(parse()) < dear <= both == bound(parse(model=DEAR, models=[CHEAP]))
    assert bound(parse(models=[CHEAP])) == bound(parse())
    assert bound(parse(models=[DEAR, "nobody/knows-this"])) > both


def test_a_list_alone_names_the_models() -> None:
    """The first of a list is the model when none is named beside it."""
    call = parse(model=None, models=[DEAR, CHEAP, CHEAP])
    assert (call.model, call.instead) == (DEAR, (CHEAP,))


def test_the_model_that_answered_decides_and_without_a_name_the_dearest() -> None:
    """A fallback's own price is billed; an answer that names no model could be the dearest's."""
    call, used = parse(models=[DEAR]), Usage(input_tokens=1000, output_tokens=100)
    assert PRICES.cost(call, used, Terms(), CHEAP).amount == 1000 * 250 + 100 * 2_000
    assert PRICES.cost(call, used, Terms(), DEAR).amount == 1000 * 3_000 + 100 * 15_000
    assert PRICES.cost(call, used, Terms(), "").amount == 1000 * 3_000 + 100 * 15_000


def test_output_is_counted_for_the_coarsest_tokenizer_of_the_models() -> None:
    """What another model may have written is counted as its tokens."""
    PRICES.load_tokenizer()
    text = "The quick brown fox jumps over the lazy dog. " * 5
    alone, listed = PRICES.count_output(parse(), text), PRICES.count_output(parse(models=[DEAR]), text)
    assert listed > alone
    assert PRICES.quote(parse(models=[DEAR])).least_tokens(listed) <= alone


def test_any_router_may_choose_the_dearest_model() -> None:
    """A plugin that chooses the model is as dear as the dearest there is."""
    assert parse(plugins=[{"id": "auto-router"}]).instead == ("",)
    assert parse(plugins=[{"id": "auto-router", "enabled": False}]).instead == ()
    assert bound(parse(plugins=[{"id": "pareto-router"}])) > bound(parse(model=DEAR))
    assert parse(models=[DEAR]).hidden_output_tokens is None  # gpt-5-mini hides its reasoning, so one of them may


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"plugins": [{"id": "fusion"}]}, "fusion"),
        ({"plugins": [{"id": "something-new"}]}, "something-new"),
        ({"plugins": [{"id": "web", "x_search": {}}]}, "x_search"),
        ({"plugins": "web"}, "plugins"),
        ({"tools": [{"type": "openrouter:advisor"}]}, "advisor"),
        ({"tools": [{"type": "openrouter:image_generation"}]}, "image_generation"),
        ({"route": "fallback"}, "route"),
        ({"model": "openrouter/fusion"}, "fusion"),
        ({"models": [7]}, "models"),
        ({"models": ["m"] * 65}, "models"),
        ({"model": "", "models": []}, "model"),
        ({"models": ["a"], "target": "groq"}, "name one `model`"),
        ({"models": ["openrouter/fusion"]}, "fusion"),
        ({"preset": "mine"}, "preset"),
        ({"model": "@preset/mine"}, "@preset/"),
        ({"models": [CHEAP, "openai/gpt-5@preset/mine"]}, "@preset/"),
        ({"providerOptions": {"gateway": {"models": [CHEAP, DEAR]}}, "target": "vercel"}, "gateway.models"),
    ],
)
def test_what_nothing_bounds_is_refused(fields: dict[str, Any], what: str) -> None:
    """With a reason that names it."""
    provider = fields.pop("target", "openrouter")
    with pytest.raises(UnreadableRequest, match=what):
        parse(provider, **fields)


@pytest.mark.parametrize(
    ("plugins", "data", "pages"),
    [
        ([], "data:application/pdf;base64," + "A" * 4_000, 6),
        ([{"id": "file-parser", "pdf": {"engine": "mistral-ocr"}}], "A" * 4_000, 6),
        ([{"id": "file-parser", "pdf": {"engine": "cloudflare-ai"}}], "A" * 4_000, 0),
        ([{"id": "file-parser", "pdf": {"engine": "native"}}], "https://example.com/a.pdf", 0),
        ([], "https://example.com/a.pdf", 1000),
        ([], None, 1000),
        ([], "A" * 4_000_000, 1000),
    ],
)
def test_pages_that_may_be_read_by_ocr_are_bounded(plugins: list[Any], data: str | None, pages: int) -> None:
    """A document's pages by its size, or as many as OCR takes where it is not in the body."""
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": data}}
    call = parse(plugins=plugins, messages=[{"role": "user", "content": [part]}])
    assert call.unit_bound == Usage(pages=pages)
    assert parse("together", messages=[{"role": "user", "content": [part]}]).unit_bound == NO_USAGE


def test_pictures_are_reserved_whole_and_counted_by_the_piece() -> None:
    """Their bytes say too little about their tokens."""
    call = parse(modalities=["image", "text"], n=2)
    assert (call.unit_bound, call.hidden_output_tokens) == (Usage(output_images=2), None)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    meter = CHAT.meter(call, b"{}", ResponseHead(200, "text/event-stream"), len)
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi", "images": [picture]}}]}
    meter.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    assert meter.reading.counted_output_tokens == 6_240 + 2


@pytest.mark.parametrize("cost", [None, 0.01])
def test_what_is_billed_apart_is_settled_by_the_providers_word_only(cost: float | None) -> None:
    """Without it the whole bound is posted: tokens are not all that was billed."""
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "cost": cost, "is_byok": False}
    answer = {"model": CHEAP, "choices": [{"message": {"content": "Hi"}}], "usage": usage}
    meter = CHAT.meter(parse(modalities=["image"]), b"{}", ResponseHead(200, "application/json"), len)
    meter.feed(json.dumps(answer).encode())
    meter.end()
    assert (meter.reading.billed, bool(meter.reading.unreadable)) == ((10_000_000, False) if cost else (None, True))


def test_anthropics_shape_takes_models_too() -> None:
    """`models` in a request to /messages."""
    body = {"model": DEAR, "models": [CHEAP], "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    request = Request("POST", "openrouter.ai", "/api/v1/messages", body=json.dumps(body).encode())
    call = AnthropicMessages().parse(request, Target("openrouter"), "")
    assert (call.model, call.instead, call.hidden_output_tokens) == (DEAR, (CHEAP,), None)


def complete(provider: str = "openrouter", **fields: Any) -> Call:
    """Parse a legacy completion."""
    body = {"model": CHEAP, "max_tokens": 100, "prompt": "Hi", **fields}
    return COMPLETIONS.parse(
        Request("POST", "openrouter.ai", "/api/v1/completions", body=json.dumps(body).encode()), Target(provider), ""
    )


def respond(provider: str = "openrouter", **fields: Any) -> Call:
    """Parse a Responses request."""
    body = {"model": CHEAP, "max_output_tokens": 100, "input": "Hi", **fields}
    return RESPONSES.parse(
        Request("POST", "openrouter.ai", "/api/v1/responses", body=json.dumps(body).encode()), Target(provider), ""
    )


def message(provider: str = "openrouter", **fields: Any) -> Call:
    """Parse a Messages request."""
    body = {"model": CHEAP, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return AnthropicMessages().parse(
        Request("POST", "openrouter.ai", "/api/v1/messages", body=json.dumps(body).encode()), Target(provider), ""
    )


SHAPES = [parse, complete, respond, message]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fallback_is_looked_at_as_the_first_model_is(shape: Callable[..., Call]) -> None:
    """What it searches for, and what nothing bounds of it, in every shape that OpenRouter takes."""
    online = f"{CHEAP}:online"
    assert shape(models=[online]).content.web_searches == shape(model=online).content.web_searches > 0
    assert shape(models=["openai/gpt-4o-search-preview"]).content.web_searches == 1
    web = [{"id": "web", "max_results": 1}]
    assert shape(plugins=web).content.web_searches == 1
    assert shape(models=[DEAR], plugins=web).content.web_searches == DEFAULT_SERVER_TURNS
    assert shape(models=[DEAR]).instead == (DEAR,)
    for refused in ({"models": ["openrouter/fusion"]}, {"preset": "mine"}, {"model": "@preset/mine"}):
        with pytest.raises(UnreadableRequest):
            shape(**refused)
    with pytest.raises(UnreadableRequest, match="`models`"):
        shape("vercel", models=[DEAR])
    with pytest.raises(UnreadableRequest, match="gateway"):
        shape("vercel", providerOptions={"gateway": {"models": [DEAR]}})
    assert shape("vercel", providerOptions={"gateway": {"models": [CHEAP], "order": ["azure"]}}).instead == ()


@pytest.mark.parametrize("shape", SHAPES)
def test_perplexitys_models_search_at_routers_too(shape: Callable[..., Call]) -> None:
    """At a fee for each answer, and research as often as at Perplexity itself, fallbacks as well."""
    for provider in ("openrouter", "vercel"):
        assert shape(provider, model="perplexity/sonar-pro").content.web_searches == 1
        research = shape(provider, model="perplexity/sonar-deep-research").content
        assert (research.web_searches, research.opaque) == (RESEARCH_SEARCHES, True)
        assert shape(provider).content.web_searches == 0
    assert shape(models=["perplexity/sonar-deep-research"]).content.web_searches == RESEARCH_SEARCHES


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cache_for_an_hour_is_as_dear_as_it_gets(shape: Callable[..., Call]) -> None:
    """Claude's lifetimes in any shape."""
    kept = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert shape(metadata=kept).cache_write == "long"


def test_a_completion_may_be_anothers_too() -> None:
    """Its fallbacks are reserved with what they may hide, and each of its prompts searches."""
    both = complete(models=[DEAR], prompt=["a", "b"], plugins=[{"id": "web", "max_uses": 1, "max_results": 1}])
    assert (both.hidden_output_tokens, both.content.web_searches) == (None, 2)
    assert bound(complete(models=[DEAR])) == bound(complete(model=DEAR, models=[CHEAP])) > bound(complete())


TOLD = {"input_tokens": 10, "output_tokens": 5}
DRAWN = [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "https://example.com"}}]}]
READ = [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com"}]}]


@pytest.mark.parametrize("cost", [None, 2.5])
def test_more_than_tokens_is_posted_as_told_or_else_at_its_bound_in_every_shape(cost: float | None) -> None:
    """A whole answer that keeps silent on its cost is not believed to be of tokens alone."""
    usage = TOLD if cost is None else {**TOLD, "cost": cost, "is_byok": False}
    said: Any = {"type": "message", "model": DEAR, "content": [], "usage": usage, "stop_reason": "end_turn"}
    response: Any = {
        "id": "r",
        "object": "response",
        "model": DEAR,
        "output": [],
        "usage": usage,
        "status": "completed",
    }
    for call, dialect, answer in (
        (message(messages=DRAWN), AnthropicMessages(), said),
        (respond(input=READ), RESPONSES, response),
    ):
        assert call.unit_bound.pages == 1000
        meter = dialect.meter(call, b"{}", ResponseHead(200, "application/json"), len)
        meter.feed(json.dumps(answer).encode())
        meter.end()
        assert meter.reading.final == (cost is not None)
        assert bool(meter.reading.unreadable) == (cost is None)
        assert meter.reading.billed == (None if cost is None else 2_500_000_000)
