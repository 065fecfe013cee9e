"""Alternatives: what further models that a request allows may read and write, as calls of their own."""

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import Alternative, Call
from llmcap_addon.pricing.bounds import DEFAULT_CONTEXT_TOKENS, TOKENS_PER_RESULT, Limits
from llmcap_addon.usage import NO_USAGE


def alternative_call(call: Call, alternative: Alternative) -> Call:
    """Give one pass of a further model as a call that can be quoted; its model is empty where the provider chooses."""
    return replace(
        call,
        model=alternative.model,
        max_output_tokens=alternative.max_output_tokens,
        terms=replace(call.terms, speed=alternative.speed),
        content=replace(call.content, server_turns=0, web_searches=0),
        unit_bound=NO_USAGE,
        alternatives=(),
    )


def alternative_input(call: Call, read_tokens: int, written_tokens: int, limits: Limits) -> int:
    """Bound what one pass of a further model reads: the prompt (`read_tokens`), what every model before it wrote (each
    at most `written_tokens`), and the results of tools; its context window ends it."""
    results = TOKENS_PER_RESULT * call.content.server_turns
    before = written_tokens * len(call.alternatives)
    return min(read_tokens + before + results, limits.context_tokens or DEFAULT_CONTEXT_TOKENS)
