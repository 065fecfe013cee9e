"""Family: whose model a name is, and how its tokenizer compares with o200k_base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from llmcap_addon.pricing.names import maker_of

_VENDORS = ("openai", "anthropic", "google")
"""Makers whose rules for pictures and documents are known."""
_O200K = ("gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-6", "gpt-oss", "codex", "o1", "o3", "o4")
"""https://github.com/openai/tiktoken/blob/main/tiktoken/model.py; newer ones there are said to keep it."""
_CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?![\d])")


@dataclass(frozen=True, slots=True)
class Factor:
    """How many tokens a model may make of what o200k makes `denominator` of."""

    numerator: int
    denominator: int
    is_own: bool = False
    """True when o200k is the model's own tokenizer."""

    def size(self) -> float:
        """Give what it multiplies by, to compare factors."""
        return self.numerator / self.denominator

    def times(self, count: int) -> int:
        """Multiply, rounding up."""
        return -(-count * self.numerator // self.denominator)


OPENAI = Factor(11, 10, is_own=True)
CL100K = Factor(2, 1)
LLAMA_3 = Factor(5, 4)
CLAUDE = Factor(2, 1)
CLAUDE_4_7 = Factor(3, 1)
UNKNOWN = Factor(4, 1)


def vendor(provider: str, model: str) -> tuple[str, str]:
    """Give the maker of a model and its bare name: a router's "anthropic/claude-…" is Anthropic's, and so is Bedrock's
    "us.anthropic.claude-…"; where the maker is none whose rules are known, the provider and the name."""
    maker, bare = maker_of(provider, model)
    return (maker, bare) if maker in _VENDORS else (provider, model.lower().removeprefix("~"))


def claude_version(model: str) -> tuple[int, int] | None:
    """Read the version in a Claude model's name: claude-3-5-haiku → (3, 5), claude-opus-4@20250514 → (4, 0)."""
    if "claude-instant" in model or "claude-v" in model:  # Bedrock's anthropic.claude-v2:1
        return (2, 0)
    found = _CLAUDE_VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else None


def is_before_claude_4_7(model: str) -> bool:
    """True for Claude models with the older, coarser tokenizer and the smaller images; False for unknown ones."""
    version = claude_version(model)
    return version is not None and version < (4, 7)


@lru_cache(maxsize=1024)  # asked for each piece of a stream
def factor(provider: str, model: str) -> Factor:
    """Give the factor on o200k's count, from above for text as people and programs write it; heuristic, no bound.

    OpenAI's newer models use o200k itself; the tenth on top covers what the chat format adds. Measured over prose,
    code, Han, base64 and emoji, Llama 3's and DeepSeek's tokenizers stay within 1.25 times; Claude's before 4.7 within
    twice, from 4.7 on within three times ("aaaa…" is the worst). Gemini's and Mistral's reach four times on runs of one
    letter, and whatever is unknown is taken to be like them.
    """
    maker, bare = vendor(provider, model)
    if bare.removeprefix("ft:").startswith(_O200K):
        return OPENAI
    if maker == "openai":
        return CL100K if bare.startswith(("gpt-4", "gpt-3.5", "text-embedding-")) else UNKNOWN
    if "claude" in bare:
        return CLAUDE if is_before_claude_4_7(bare) else CLAUDE_4_7
    if "llama-3" in bare or "llama3" in bare or "deepseek" in bare:
        return LLAMA_3
    return UNKNOWN
