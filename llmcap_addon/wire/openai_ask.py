"""What we write into a request for a completion: that a stream reports its usage, and a limit on the answer.

Names as in the `openai` SDK's `completion_create_params`; which host takes which of them, from their own documents.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmcap_addon.call import Call
from llmcap_addon.wire.openai_common import edit_members, may_hold, never_reasons
from llmcap_addon.wire.text import JsonObject, mapping, parse_json

_REPORTS_UNASKED = frozenset({"mistral", "openrouter", "perplexity"})
"""Hosts whose streams end with a usage anyway. Mistral even answers 422 to `stream_options`
(openai/openai-agents-python issue 442), and the others' chunks must reach the client as they came. Groq is asked: its
`x_groq.usage` is read where it comes, but is not known to come always."""
_LIMITS_BY_COMPLETION = frozenset({"openai", "groq", "cerebras", "xai"})
"""Hosts that prefer `max_completion_tokens`; OpenAI's o-series refuses `max_tokens`, Mistral refuses the new name."""
CHAT_LIMITS = ("max_completion_tokens", "max_tokens")
COMPLETION_LIMITS = ("max_tokens",)


def ask(call: Call, body: bytes, max_output_tokens: int | None, limits: Sequence[str] = CHAT_LIMITS) -> bytes:
    """Ask for the usage of a stream, and limit the answer; every other byte stays as it came.

    `limits` are the members that the endpoint limits an answer by.
    """
    if not call.editable:
        return body
    changes: dict[str, object] = {}
    if must_ask(call, body):
        changes["stream_options"] = {**_stream_options(body), "include_usage": True}
    if max_output_tokens is not None:
        for key in _limit_keys(call, body, limits):
            changes[key] = max_output_tokens
    return edit_members(body, changes) if changes else body


def must_ask(call: Call, body: bytes) -> bool:
    """Tell whether we ask for the usage ourselves, and so take it out of what the client sees."""
    if not call.streamed or not call.takes_stream_options or call.provider in _REPORTS_UNASKED:
        return False
    return _stream_options(body).get("include_usage") is not True


def _stream_options(body: bytes) -> JsonObject:
    if not may_hold(body, "stream_options"):
        return {}
    return mapping(mapping(parse_json(body)).get("stream_options"))


def _limit_keys(call: Call, body: bytes, limits: Sequence[str]) -> list[str]:
    """Name the members that limit the answer: those the request has, else the one the host prefers."""
    stated: list[str] = []
    if any(may_hold(body, key) for key in limits):
        value = mapping(parse_json(body))
        stated = [key for key in limits if value.get(key) is not None]
    return stated or [limits[0] if _prefers_new(call) else limits[-1]]


def _prefers_new(call: Call) -> bool:
    if call.provider == "azure":
        # As old as its knowledge of `stream_options`; and of the models, those that reason refuse the old name.
        return call.takes_stream_options and not never_reasons(call.model)
    return call.provider in _LIMITS_BY_COMPLETION
