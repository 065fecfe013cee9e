"""Plans: traffic under a subscription, whose cost in tokens is notional: the user pays by the month.

Recognised by where it goes and by what it authenticates with, of which nothing is kept. Whenever it is not sure, a call
counts as paid by the token, so that a cap is never too lenient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.hosts import CHATGPT_HOST, CODE_ASSIST_HOST, COPILOT, place_of

API, PLAN = "api", "plan"
"""Values of `Call.billing`."""

_ANTHROPIC_HOST = "api.anthropic.com"
_OAUTH = "bearer sk-ant-oat"
"""How the token of a Claude subscription begins; a key of the API is "sk-ant-api…", in x-api-key."""
_CLAUDE_CODE = ("claude-cli", "claude-code")
"""In its user agent. Other programs that use a subscription's token are billed as extra usage, in dollars.
https://support.claude.com, "Using Claude Code with your Pro or Max plan"."""
_OVERAGE = "anthropic-ratelimit-unified-overage-in-use"
"""Tells in an answer to a subscription that it is billed beyond it, in dollars."""


def with_plan(call: Call, request: Request) -> Call:
    """Say of a call how it is paid."""
    known = place_of(request.host, {})  # a host of the user's own is no plan, whatever provider it is said to be
    if (known is not None and known.provider == COPILOT) or request.host in (CHATGPT_HOST, CODE_ASSIST_HOST):
        # ChatGPT's backend refuses a body with members that Codex does not send, such as a limit of the answer.
        return replace(call, billing=PLAN, editable=call.editable and request.host != CHATGPT_HOST)
    return replace(call, billing=PLAN) if _is_claude_code(request) else call


def billing_told(host: str, headers: Mapping[str, str]) -> str:
    """Read from an answer's head how the call is paid; empty where it does not say."""
    told = headers.get(_OVERAGE, "").strip().lower() if host == _ANTHROPIC_HOST else ""
    return {"true": API, "false": PLAN}.get(told, "")


def _is_claude_code(request: Request) -> bool:
    headers = request.headers
    token = " ".join(headers.get("authorization", "").split()).lower()
    program = headers.get("user-agent", "").lower()
    return (
        request.host == _ANTHROPIC_HOST
        and token.startswith(_OAUTH)
        and "x-api-key" not in headers
        and program.startswith(_CLAUDE_CODE)
    )
