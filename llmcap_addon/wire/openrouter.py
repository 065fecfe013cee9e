"""OpenRouter: what its requests may ask for beyond the shapes it borrows: other models, plugins, tools of its own.

Shapes: `openrouter.components`' `ChatRequest`, its plugins and server tools. What a call was billed stands in its
answer's `usage.cost` (`billed`); here is what it may cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.money import ceil_div
from llmcap_addon.usage import NO_USAGE, Usage
from llmcap_addon.wire.dialect import Target
from llmcap_addon.wire.text import ContentBuilder, JsonObject, mapping, positive_int, string

PROVIDER = "openrouter"
ROUTERS = frozenset({PROVIDER, "vercel", "opencode"})
"""Who sells other makers' models in a shape of their own choice."""
UNTOLD = "the answer does not say what it cost, and more than tokens is billed"
"""Why an answer is posted at its bound."""
MAX_MODELS = 64
"""Names in a list of `models`; OpenRouter's own limit is lower and not published."""

_ROUTERS = frozenset({"auto-router", "auto-beta-router", "jev-router", "pareto-router"})
_FREE = frozenset({"moderation", "response-healing", "context-compression"})
_SANDBOXES = frozenset({"bash", "shell", "code_interpreter", "browser_use"})
_WITH_OTHER_MODELS = frozenset({"advisor", "fusion", "subagent", "image_generation"})
"""Its tools that ask further models, which nothing in the request bounds."""
_SEARCHES_ITSELF = ("anthropic/", "x-ai/", "~anthropic/", "~x-ai/")
"""Makers whose native search goes on as the model likes; others', and Exa's, runs once for each answer.
https://openrouter.ai/docs/guides/features/plugins/web-search"""
_RESULTS, _RESULTS_PER_SEARCH = 5, 2
"""`max_results` when unset, and how many of Exa's at $4 a thousand cost less than a search, which is $10 a thousand."""
_OCR_PAGES = 1000
"""What OCR takes of a document; https://docs.mistral.ai/capabilities/document_ai/basic_ocr."""
_BYTES_PER_PAGE = 512
"""A page's objects in a PDF don't fit in less; the fewer, the more pages."""
_FREE_PARSERS = frozenset({"native", "cloudflare-ai", "pdf-text"})


@dataclass(frozen=True, slots=True)
class Extras:
    """What a request may be billed for besides the model it names."""

    model: str
    instead: tuple[str, ...] = ()
    """As `Call.instead`."""
    apart: Usage = NO_USAGE
    """As `Call.unit_bound`."""
    draws: bool = False
    """True when the answer may hold pictures, whose bytes say too little about their tokens."""


def extras(builder: ContentBuilder, body: JsonObject, target: Target, choices: int | None = None) -> Extras:
    """Read what a request adds; raises UnreadableRequest for what nothing bounds.

    At any other provider nothing is added, and a list of models is refused. "Requests are priced using the model that
    was ultimately used": https://openrouter.ai/docs/guides/routing/model-fallbacks. `choices` are the answers made,
    where `n` does not say it.
    """
    named = target.model_of(string(body, "model"))
    if body.get("preset"):
        # What is stored under it at OpenRouter or Perplexity decides the model, its tools and its limits.
        raise UnreadableRequest("a `preset` may be billed at another model's price; name one `model`")
    if target.provider != PROVIDER:
        _refuse_others(body, named)
        return Extras(_checked(named))
    answers = choices or positive_int(body, "n") or 1
    listed = _names(body)
    model = _checked(named or (listed[0] if listed else ""))
    others = tuple(dict.fromkeys(name for name in listed if name != model))
    if body.get("route") is not None and not others:
        raise UnreadableRequest("`route` without `models` leaves the model to OpenRouter; name `models`")
    names = (model, *others)
    if any("/fusion" in name for name in names):
        raise UnreadableRequest("openrouter/fusion asks further models, which nothing in the request bounds")
    if any("@preset/" in name for name in names):
        # https://openrouter.ai/docs/guides/features/presets
        raise UnreadableRequest("a preset (@preset/…) may be billed at another model's price; name the model alone")
    sandboxes = _check_tools(body)
    routed = _add_plugins(builder, body, names, answers)
    if any(name.endswith(":online") for name in names):
        _add_web(builder, {}, names, answers)
    draws = "image" in _list(body, "modalities") or body.get("image_config") is not None
    return Extras(
        model,
        (*others, "") if routed else others,
        # A picture is billed by its tokens, at a price that the table has of few of these models: a whole one's is
        # reserved beside them.
        Usage(pages=_pages(body), code_sessions=sandboxes, output_images=answers * draws),
        draws,
    )


def is_billed_apart(call: Call) -> bool:
    """Tell whether more than tokens may be billed, which only OpenRouter's own word on the bill tells."""
    return call.provider == PROVIDER and call.unit_bound != NO_USAGE


def _refuse_others(body: JsonObject, named: str) -> None:
    """Refuse models that may answer in place of the one named; Vercel's answers don't say for sure which one did.

    https://vercel.com/docs/ai-gateway/models-and-providers/model-fallbacks
    """
    gateway = mapping(mapping(body.get("providerOptions")).get("gateway"))
    for where, listed in (("models", _list(body, "models")), ("providerOptions.gateway.models", gateway.get("models"))):
        if isinstance(listed, list) and any(name != named for name in listed):
            raise UnreadableRequest(f"`{where}` may be billed at any of their prices; name one `model`")


def _checked(model: str) -> str:
    if not model:
        raise UnreadableRequest("the body names no model, so its price is unknown")
    return model.removeprefix("models/")


def _names(body: JsonObject) -> tuple[str, ...]:
    given = _list(body, "models")
    if len(given) > MAX_MODELS:
        raise UnreadableRequest(f"models holds more than {MAX_MODELS} names")
    names = [name for name in given if isinstance(name, str) and name]
    if len(names) != len(given):
        raise UnreadableRequest("models is no list of names")
    return tuple(names)


def _check_tools(body: JsonObject) -> int:
    """Give how many sandboxes the tools may open."""
    sandboxes = 0
    for tool in _list(body, "tools"):
        kind = mapping(tool).get("type")
        name = kind.removeprefix("openrouter:") if isinstance(kind, str) and kind.startswith("openrouter:") else ""
        if name in _WITH_OTHER_MODELS:
            raise UnreadableRequest(f"the tool openrouter:{name} asks further models, which nothing bounds")
        sandboxes += name in _SANDBOXES
    return sandboxes


def _add_plugins(builder: ContentBuilder, body: JsonObject, names: Sequence[str], answers: int) -> bool:
    """Add what plugins read and search; True when one of them chooses the model."""
    routed = False
    for plugin in _list(body, "plugins"):
        told = mapping(plugin)
        name = string(told, "id")
        if told.get("enabled") is False or name in _FREE:
            continue
        if name == "web":
            _add_web(builder, told, names, answers)
        elif name == "web-fetch":
            # At most as dear as a search, and each page is read.
            turns = positive_int(told, "max_uses") or DEFAULT_SERVER_TURNS
            builder.opaque = True
            builder.server_turns = max(builder.server_turns, turns)
            builder.web_searches += turns
        elif name in _ROUTERS:
            routed = True
        elif name != "file-parser":
            raise UnreadableRequest(f"the plugin {name!r} may make further calls, which nothing bounds; leave it out")
    return routed


def _add_web(builder: ContentBuilder, plugin: JsonObject, names: Sequence[str], choices: int) -> None:
    if plugin.get("x_search") is not None:
        raise UnreadableRequest("x_search is billed by the post it finds, which nothing bounds; leave it out")
    native = plugin.get("engine") in (None, "native")
    turns = positive_int(plugin, "max_uses") or 1
    if native and plugin.get("max_uses") is None and any(name.startswith(_SEARCHES_ITSELF) for name in names):
        turns = DEFAULT_SERVER_TURNS
    results = positive_int(plugin, "max_results") or _RESULTS
    builder.opaque = True
    builder.server_turns = max(builder.server_turns, turns)
    builder.web_searches += choices * max(turns, ceil_div(results, _RESULTS_PER_SEARCH))


def _pages(body: JsonObject) -> int:
    """Bound the pages that OCR may be billed for: of each document, unless a parser is named that costs nothing.

    $2 a thousand, and the default for models that take no files of themselves:
    https://openrouter.ai/docs/guides/overview/multimodal/pdfs
    """
    engine: object = None
    for plugin in _list(body, "plugins"):
        if mapping(plugin).get("id") == "file-parser":
            engine = mapping(mapping(plugin).get("pdf")).get("engine")
    if isinstance(engine, str) and engine in _FREE_PARSERS:
        return 0
    return sum(
        min(_OCR_PAGES, len(data) * 3 // 4 // _BYTES_PER_PAGE + 1) if data and data[:4] != "http" else _OCR_PAGES
        for data in _documents((body.get("messages"), body.get("input")))
    )


def _documents(roots: tuple[object, ...]) -> Iterator[str]:
    """Yield where each document is: its data, a URL, or nothing that can be read."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            if node.get("type") in ("file", "input_file", "document"):
                inner = mapping(node.get("file") or node.get("source")) or node
                data = inner.get("file_data") or inner.get("data")
                yield data if isinstance(data, str) else ""
            elif "content" in node or "output" in node:
                stack.extend((node.get("content"), node.get("output")))


def _list(body: JsonObject, key: str) -> list[object]:
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableRequest(f"{key} is not a list")
    return value
