"""Searches of the web that a model, or a member of the request that is no tool, brings about by itself."""

from __future__ import annotations

from collections.abc import Sequence

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.wire.text import ContentBuilder, JsonObject, mapping, positive_int

_XAI_SOURCES = 20
"""Of `search_parameters.max_search_results` when unset: the highest default that clients of xAI document (@ai-sdk/xai;
@langchain/xai says 15)."""
COMPOUND_TOOL_CALLS = 10
"""What Groq's compound systems may do for one request. https://console.groq.com/docs/compound/systems"""
RESEARCH_SEARCHES = 100
"""Of one answer of Perplexity's deep research, which tells how many it ran, but takes no limit; its document's example
ran 18. https://docs.perplexity.ai/getting-started/models/models/sonar-deep-research"""
_PERPLEXITYS = "perplexity/"
"""How routers (OpenRouter, Vercel) name Perplexity's models, which search there too, at the same fee."""


def add_searches(
    builder: ContentBuilder, body: JsonObject, provider: str, models: Sequence[str], choices: int = 1
) -> None:
    """Add what any of the models that may answer searches for each of so many answers."""
    names = [name.lower() for name in models]
    if body.get("web_search_options") is not None or any(
        "-search-" in name or name.endswith(":online") for name in names
    ):
        # OpenAI's search models and OpenRouter's `:online` search for every answer, at a fee for each.
        builder.opaque = True
        builder.server_turns = max(builder.server_turns, 1)
        builder.web_searches = max(builder.web_searches, choices)
    search = mapping(body.get("search_parameters"))
    if search and search.get("mode") != "off":  # xAI
        builder.opaque = True
        builder.server_turns = max(builder.server_turns, 1)
        builder.web_searches += positive_int(search, "max_search_results") or _XAI_SOURCES
    _add_perplexitys(builder, [name for name in names if provider == "perplexity" or _is_perplexitys(name)], choices)
    if any("compound" in name for name in names):  # Groq's systems bring their own tools
        builder.opaque = True
        builder.server_turns = max(builder.server_turns, COMPOUND_TOOL_CALLS)
        builder.web_searches = max(builder.web_searches, COMPOUND_TOOL_CALLS)


def _add_perplexitys(builder: ContentBuilder, names: Sequence[str], choices: int) -> None:
    """Each answer has a fee, which counts as a search; research is billed by the search, and by what it has read."""
    if names:
        builder.web_searches = max(builder.web_searches, choices)
    if any("deep-research" in name for name in names):
        builder.opaque = True
        builder.server_turns = max(builder.server_turns, DEFAULT_SERVER_TURNS)
        builder.web_searches = max(builder.web_searches, RESEARCH_SEARCHES * choices)


def untold_searches(call: Call) -> int:
    """Give the searches that count as run although nothing in an answer would show them: Perplexity's at a router."""
    untold = call.provider != "perplexity" and any(map(_is_perplexitys, (call.model, *call.instead)))
    return call.content.web_searches if untold else 0


def _is_perplexitys(name: str) -> bool:
    return name.lower().startswith(_PERPLEXITYS)
