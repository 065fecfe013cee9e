"""Names: what a model is called in the price table, when a cloud or a router calls it by a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAKERS = (
    ("anthropic", ("claude",)),
    ("openai", ("gpt-", "chatgpt-", "o1", "o3", "o4", "codex-", "text-embedding-3", "whisper-1", "tts-1", "dall-e")),
    ("google", ("gemini", "gemma", "learnlm", "imagen", "veo")),
    ("xai", ("grok",)),
    ("mistral", ("mistral", "ministral", "magistral", "codestral", "devstral", "pixtral", "voxtral", "open-mi")),
    ("deepseek", ("deepseek",)),
    ("cohere", ("command", "embed-", "rerank-", "c4ai")),
)
_MAKER_NAMES = {"mistralai": "mistral", "x-ai": "xai", "deepseek-ai": "deepseek"} | {
    name: name for name in ("anthropic", "openai", "google", "xai", "mistral", "deepseek", "cohere")
}

REGION_PREFIXES = ("us", "eu", "apac", "jp", "au", "ca", "us-gov", "global")
"""Of Bedrock's inference profiles.
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html"""
_PROFILE = re.compile(rf"({'|'.join(REGION_PREFIXES)})\.(?=[a-z0-9-]+\.)")
_BEDROCK_MODEL = re.compile(r"([a-z0-9]+)\.(.+?)(?:-v\d+(?::\d+)?(?::\d+k)?|-\d+:\d+|:\d+)?")
_BEDROCK_REGION = re.compile(r"bedrock-[a-z-]+\.([a-z]{2}[a-z0-9-]*-\d)\.")
_AT_DATE = re.compile(r"@(20\d{6}|\d{3}|default|latest)$")
_DATE = re.compile(r"-20\d{6}$")


def maker_of(provider: str, model: str) -> tuple[str, str]:
    """Give the maker of a model and its bare name, as far as the name tells; else the provider and the name.

    "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5@20250929" and "anthropic/claude-sonnet-4-5" are
    all Anthropic's.
    """
    name = model.lower().removeprefix("~").removeprefix("models/")
    if name.startswith("arn:"):
        name = name.rpartition("/")[2]
    name = _AT_DATE.sub(lambda found: f"-{found[1]}" if found[1].startswith("20") else "", name)
    if provider in _MAKER_NAMES.values():
        return provider, name
    if provider in ("bedrock", "aws"):
        name = _PROFILE.sub("", name, count=1)
        found = _BEDROCK_MODEL.fullmatch(name)
        if found:
            # In "anthropic.claude-v2:1" the version is the model's, in all others the end is Bedrock's.
            bare = name.removeprefix("anthropic.") if found[2] == "claude" else found[2]
            return _MAKER_NAMES.get(found[1], found[1]), bare
    maker, slash, bare = name.rpartition("/")
    maker = maker.rpartition("/")[2]
    if slash and maker in _MAKER_NAMES:
        return _MAKER_NAMES[maker], bare
    if not slash and provider in CLOUDS:
        for known, starts in _MAKERS:
            if name.startswith(starts):
                return known, name
    return provider, name


CLOUDS = frozenset({"azure", "azure_ai", "vertex", "bedrock", "github-copilot"})
"""Providers that sell other makers' models under these makers' names."""


def spellings_at_maker(name: str) -> Iterator[str]:
    """Yield how a maker's own list may write a name that a cloud uses."""
    yield name
    yield name.replace(".", "-")
    if _DATE.search(name):
        yield _DATE.sub("", name)


def azure_homes(host: str) -> tuple[str, str]:
    """Give Azure's two lists, the one of a host's kind first: Foundry's or Azure OpenAI's."""
    return ("azure_ai", "azure") if host.endswith(".services.ai.azure.com") else ("azure", "azure_ai")


def vertex_names(model: str) -> Iterator[str]:
    """Yield how the table may write a model of Vertex: with or without its maker, its date with "@" or "-"."""
    bare = model.rpartition("/")[2]
    dashed = _AT_DATE.sub(lambda found: f"-{found[1]}", bare)
    yield from dict.fromkeys((model, bare, dashed, _AT_DATE.sub("", bare), _DATE.sub("", dashed)))


def bedrock_profile(model: str) -> tuple[str, str]:
    """Split a model id of Bedrock into its profile's region ("" without) and the model's own id; ARNs by their end."""
    if model.startswith("arn:"):
        model = model.rpartition("/")[2]
    found = _PROFILE.match(model)
    return (found[1], model[found.end() :]) if found else ("", model)


def bedrock_region(host: str) -> str:
    """Give the AWS region in a host's name; "" when there is none."""
    found = _BEDROCK_REGION.match(host)
    return found[1] if found else ""
