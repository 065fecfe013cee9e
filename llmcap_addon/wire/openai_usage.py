"""Usage as chat completions, Responses and embeddings report it, at OpenAI and at every host that speaks like it.

Field names and their meaning: the `openai` SDK's types (`types/completion_usage.py`,
`types/responses/response_usage.py`) and, for compatible hosts, their own SDKs and documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Reading, Share, Terms, Usage
from llmcap_addon.wire.text import MAX_COUNT, JsonObject, mapping

MAX_NAME_CHARS = 200
"""A model's or a tier's name in a response; longer is no name."""


def chat_usage(raw: object, provider: str, searches: int = 0, *, has_output: bool = True) -> Usage | None:
    """Read the usage of a chat completion or an embedding; None when it says nothing; ValueError when it is not sane.

    With `has_output`, one that is silent about the output says nothing either: unknown is never 0.

    The rule is money from above. The totals, and the parts that are dearer than the rest (cache writes, audio, images,
    searches), must be sane, or the whole is not believed. A part that only makes it cheaper (cache reads) is ignored
    when it is not sane. `searches` are assumed when none are reported.
    """
    if not isinstance(raw, dict) or not any(value is not None for value in raw.values()):
        return None
    if has_output and raw.get("completion_tokens") is None and raw.get("total_tokens") is None:
        return None
    details = mapping(raw.get("prompt_tokens_details") or raw.get("prompt_token_details"))
    output_details = mapping(raw.get("completion_tokens_details"))
    total = _lenient(raw.get("total_tokens"))
    # Voyage's embeddings tell the total only.
    input_tokens = total if not has_output and total and len(raw) == 1 else _required(raw, "prompt_tokens")
    completion = _count(raw, "completion_tokens")
    output_tokens = completion if completion is not None else max(0, total - input_tokens)
    reasoning = _lenient(output_details.get("reasoning_tokens"))
    if provider == "perplexity":
        # Perplexity bills both apart from the totals (its SDK's UsageInfo); citations are read, so they are input.
        reasoning = _count(raw, "reasoning_tokens") or 0
        input_tokens += _count(raw, "citation_tokens") or 0
        output_tokens += reasoning
    else:
        if provider == "xai" and total != input_tokens + output_tokens:
            output_tokens += reasoning  # xAI's completion_tokens leave it out on chat; its total shows whether
        # Whatever a total holds beyond both parts was generated too: Google's compatible endpoint leaves thoughts out
        # of completion_tokens.
        output_tokens = max(output_tokens, total - input_tokens)
    cached = details.get("cached_tokens")
    if cached is None:
        cached = raw.get("prompt_cache_hit_tokens")  # DeepSeek
    return _usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached=cached,
        cache_write=_count(details, "cache_write_tokens") or 0,
        reasoning=reasoning,
        input_audio=_count(details, "audio_tokens") or 0,
        output_audio=_count(output_details, "audio_tokens") or 0,
        output_image=_count(output_details, "image_tokens") or 0,
        searches=_searches(raw, provider, searches),
        file_searches=_xai_tools(raw)[1] if provider == "xai" else 0,
    )


def responses_usage(raw: object, searches: int, provider: str = "") -> Usage | None:
    """Read the usage of a Response; None when it says nothing; ValueError when it is not sane (see `chat_usage`)."""
    if not isinstance(raw, dict) or not any(value is not None for value in raw.values()):
        return None
    details = mapping(raw.get("input_tokens_details"))
    input_tokens = _required(raw, "input_tokens")
    output_tokens = max(_required(raw, "output_tokens"), _lenient(raw.get("total_tokens")) - input_tokens)
    return _usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached=details.get("cached_tokens"),
        cache_write=_count(details, "cache_write_tokens") or 0,
        cache_write_long=_count(mapping(details.get("cache_write_tokens_details")), "ttl_12h_tokens") or 0,
        reasoning=_lenient(mapping(raw.get("output_tokens_details")).get("reasoning_tokens")),
        searches=_searches(raw, provider, searches),
        file_searches=_xai_tools(raw)[1] if provider == "xai" else 0,
    )


def shares_of(breakdown: object, whole: Usage, provider: str) -> tuple[Usage, tuple[Share, ...]]:
    """Split a usage by the models that Groq's compound systems called, each billed at its own price.

    Gives the sum and its shares; the usage as it is and none where there is no breakdown. What the whole holds beyond
    the breakdown stays a share of the system's own; searches stand in the first. ValueError when it is not sane.
    `UsageBreakdown` in the `groq` SDK's `chat_completion`; https://console.groq.com/docs/compound
    """
    listed = mapping(breakdown).get("models")
    if not isinstance(listed, list) or not listed:
        return whole, ()
    shares: list[Share] = []
    total = Usage()
    for item in listed:
        part = chat_usage(mapping(item).get("usage"), provider, has_output=False)
        model = mapping(item).get("model")
        if part is None or not isinstance(model, str) or not 0 < len(model) <= MAX_NAME_CHARS:
            raise ValueError("the usage's breakdown names no model or no usage")
        shares.append(Share(part, model))
        total = total.plus(part)
    beyond = Usage(
        input_tokens=max(0, whole.input_tokens - total.input_tokens),
        output_tokens=max(0, whole.output_tokens - total.output_tokens),
    )
    if beyond != Usage():
        shares.append(Share(beyond))
    searches = Usage(web_search_requests=whole.web_search_requests)
    shares[0] = replace(shares[0], usage=shares[0].usage.plus(searches))
    return total.plus(beyond).plus(searches), tuple(shares)


def _usage(
    *,
    input_tokens: int,
    output_tokens: int,
    cached: object,
    cache_write: int,
    reasoning: int,
    searches: int,
    file_searches: int,
    cache_write_long: int = 0,
    input_audio: int = 0,
    output_audio: int = 0,
    output_image: int = 0,
) -> Usage:
    if reasoning > output_tokens:
        output_tokens += reasoning  # it can't be a part of the total, so it stands beside it
    cache_read = _lenient(cached)
    if cache_read > input_tokens - cache_write:
        input_tokens += cache_read  # as above
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=cache_write_long,
        reasoning_tokens=reasoning,
        input_audio_tokens=input_audio,
        output_audio_tokens=output_audio,
        output_image_tokens=output_image,
        web_search_requests=searches,
        file_search_requests=file_searches,
    )


def _searches(raw: JsonObject, provider: str, assumed: int) -> int:
    """Count the searches, and other hosted tools billed by the use, that a usage reports; else those assumed."""
    reported: int | None
    if provider == "openrouter":
        # Its SDK's `ServerToolUseDetails`; its image endpoint has the shorter name.
        used = mapping(raw.get("server_tool_use_details") or raw.get("server_tool_use"))
        reported = _count(used, "web_search_requests")
    elif provider == "perplexity":
        reported = _count(raw, "num_search_queries")
    elif provider == "xai":
        sources = _count(raw, "num_sources_used")
        told = sources is not None or raw.get("num_server_side_tools_used") is not None
        reported = max(sources or 0, _xai_tools(raw)[0]) if told else None
    else:
        reported = _count(mapping(raw.get("server_tool_use")), "web_search_requests")
    return assumed if reported is None else reported


_XAI_CHEAP_TOOLS = ("web", "x_search", "code")


def _xai_tools(raw: JsonObject) -> tuple[int, int]:
    """Count xAI's tool calls at the price of a search of the web, and at the dearer one of attachments.

    `num_server_side_tools_used` and the number of each; https://docs.x.ai/developers/pricing. What is not told apart,
    or not known, is taken as dear.
    """
    tools = mapping(raw.get("server_side_tool_usage_details"))
    cheap = sum(_count(tools, name) or 0 for name in tools if name.startswith(_XAI_CHEAP_TOOLS))
    dear = sum(_count(tools, name) or 0 for name in tools if not name.startswith(_XAI_CHEAP_TOOLS))
    return cheap, max(dear, (_count(raw, "num_server_side_tools_used") or 0) - cheap)


def _count(raw: Mapping[str, object], key: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"the usage's {key} is no token count")
    return value


def _required(raw: Mapping[str, object], key: str) -> int:
    value = _count(raw, key)
    if value is None:
        raise ValueError(f"the usage lacks {key}")
    return value


def _lenient(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        return 0
    return value


def record_usage(
    reading: Reading, usage: Usage, *, final: bool, billed: Nanousd | None = None, shares: tuple[Share, ...] = ()
) -> None:
    """Take what the provider said last; its last word makes up for anything that could not be read before it."""
    reading.usage = usage
    reading.billed = billed
    reading.shares = shares
    if final:
        reading.final = True
        reading.unreadable = ""


def record_bad_usage(reading: Reading, error: ValueError) -> None:
    """Take note of a usage that is not sane: none is believed any more."""
    reading.usage = None
    reading.billed = None
    reading.shares = ()
    reading.final = False
    reading.unreadable = str(error)


def record_head(reading: Reading, payload: JsonObject) -> None:
    """Take the model and the service tier that the response names, Mistral's in the usage (its SDK's `UsageInfo`)."""
    model = payload.get("model")
    if isinstance(model, str) and 0 < len(model) <= MAX_NAME_CHARS:
        reading.model = model.removeprefix("models/")
    tier = payload.get("service_tier") or mapping(payload.get("usage")).get("service_tier")
    if isinstance(tier, str) and 0 < len(tier) <= MAX_NAME_CHARS and tier.lower() != reading.terms.service_tier:
        reading.terms = Terms(service_tier=tier.lower())
