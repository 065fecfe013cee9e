"""Providers' habits that no request or response tells."""

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import Call

BILL_AFTER_DISCONNECT = frozenset({"google", "vertex", "bedrock", "groq", "mistral", "openrouter", "perplexity"})
"""Who goes on generating, and bills the whole answer, when the client has left.

Google says so of its own APIs (https://googleapis.github.io/js-genai/, `abortSignal`: the request is not cancelled in
the service, usage is charged). Of the others OpenRouter says it (https://openrouter.ai/docs/api-reference/streaming,
"stream cancellation"), and OpenRouter itself is as its upstream, which a request does not tell.
"""


def with_habits(call: Call) -> Call:
    """Add to a call what its provider is known to do."""
    if call.provider in BILL_AFTER_DISCONNECT and call.has_output and not call.bills_after_disconnect:
        return replace(call, bills_after_disconnect=True)
    return call
