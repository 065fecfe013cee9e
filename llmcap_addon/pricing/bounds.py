"""Bounds: the most tokens a call can be billed for, before it is made."""

from __future__ import annotations

from dataclasses import dataclass

from llmcap_addon.call import Call, Content
from llmcap_addon.pricing.family import factor
from llmcap_addon.pricing.media import media_tokens
from llmcap_addon.pricing.quote import Rung
from llmcap_addon.pricing.tokens import Tokenizer

TOKENS_PER_MESSAGE = 16
"""Roles and separators; OpenAI publishes 3 or 4 a message, the rest is reserve."""
TOKENS_PER_BLOCK = 64
"""What wraps a content block, a tool call or a tool's result."""
TOKENS_PER_CALL = 512
"""What a provider puts around any prompt."""
TOKENS_PER_OPENAI_CALL = 64
"""The same at OpenAI itself, which bills 3 tokens around a chat's messages, where nothing else is asked for.
https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb"""
TOKENS_WITH_TOOLS = 1024
"""The system prompt that tools bring along; Anthropic's largest published one is 804 tokens."""
TOKENS_PER_PROVIDER_TOOL = 2048
"""A tool that the provider defines itself; Anthropic's largest published one (computer use) is about 1,240 tokens."""

TOKENS_PER_RESULT = 20_000
"""What one result of a server-side tool adds to the input: several pages of the web."""

DEFAULT_CONTEXT_TOKENS = 1_048_576
"""For a model whose context window nobody tells: the largest that is common."""
DEFAULT_OUTPUT_TOKENS = 131_072
"""For a model of which neither answer limit nor context window is known: 128 Ki, what most large models stop at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model takes and gives at most; None where no source tells."""

    context_tokens: int | None = None
    max_output_tokens: int | None = None


UNKNOWN_LIMITS = Limits()


def input_bound(call: Call, limits: Limits, rung: Rung, tokenizer: Tokenizer) -> int:
    """Give the most input tokens that can be billed.

    What the body does not show (file ids, stored conversations) is bounded only by the context window, once for each
    pass over the input. Server-side tools make the model pass over it again, each time with one more result. Everything
    else: a byte-level tokenizer makes at most one token of a byte, and on the rung "counted" no more than our count
    times the family's factor; then what wraps the text, and media. A provider refuses or truncates above the context
    window, so that is a bound too, but not for embeddings, where each of many inputs has a window of its own.
    """
    content = call.content
    if content.opaque:
        return (limits.context_tokens or DEFAULT_CONTEXT_TOKENS) * (1 + content.server_turns)
    text = content.text_bytes
    if rung == "counted":
        count = sum(map(tokenizer.count, content.texts))
        text = min(text, factor(call.provider, call.model).times(count))
    bound = text + content.known_tokens + _around(call) + _overhead(content)
    bound += sum(media_tokens(call.provider, call.model, part) for part in content.media)
    if content.server_turns:
        turns = content.server_turns
        bound = bound * (1 + turns) + TOKENS_PER_RESULT * (turns * (turns + 1) // 2)
        return min(bound, (limits.context_tokens or DEFAULT_CONTEXT_TOKENS) * (1 + turns))
    if call.has_output and limits.context_tokens:
        return min(bound, limits.context_tokens)
    return bound


def _around(call: Call) -> int:
    # A search model's instructions are not known.
    plain = (
        call.provider == "openai" and factor(call.provider, call.model).is_own and "search" not in call.model.lower()
    )
    return TOKENS_PER_OPENAI_CALL if plain else TOKENS_PER_CALL


def _overhead(content: Content) -> int:
    tokens = TOKENS_PER_MESSAGE * content.messages + TOKENS_PER_BLOCK * content.blocks
    if content.tool_bytes or content.provider_tools:
        tokens += TOKENS_WITH_TOOLS + TOKENS_PER_PROVIDER_TOOL * content.provider_tools
        tokens += -(-content.tool_bytes // 4)  # rendered anew, at most a quarter longer than its JSON
    return tokens


def output_bound(call: Call, limits: Limits) -> int:
    """Give the most output tokens that can be billed, all choices together; 0 for a call without output.

    The request's own limit, or the model's when that is lower; without either the context window, without that
    `DEFAULT_OUTPUT_TOKENS`.
    """
    if not call.has_output:
        return 0
    most = limits.max_output_tokens
    stated = call.max_output_tokens
    if stated is not None:
        each = stated if most is None else min(stated, most)
    else:
        each = most or limits.context_tokens or DEFAULT_OUTPUT_TOKENS
    return each * max(1, call.choices)
