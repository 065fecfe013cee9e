"""Providers' habits that no request or response tells."""

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.plans import with_plan

BILL_AFTER_DISCONNECT = frozenset(
    (
        "google", "vertex", "bedrock", "groq", "mistral", "perplexity", "minimax", "huggingface", "sambanova",
        "dashscope", "nebius", "openrouter", "opencode", "vercel",
    )
)  # fmt: skip
"""Who goes on generating, and bills the whole answer, when the client has left.

Google says so of its own APIs (https://googleapis.github.io/js-genai/, `abortSignal`: the request is not cancelled in
the service, usage is charged). Of the others OpenRouter says it (https://openrouter.ai/docs/api-reference/streaming,
"stream cancellation"), and a router (OpenRouter, OpenCode, Vercel) is as its upstream, which a request does not tell.
"""


GUARDED = "it applies a guardrail, which is billed apart, by text units, and is not metered yet"
_GUARDRAIL_HEADER = "x-amzn-bedrock-guardrailidentifier"
"""On InvokeModel, and on what Bedrock serves in OpenAI's shape."""


def with_habits(call: Call, request: Request) -> Call:
    """Add to a call what its provider is known to do, how it is paid, and that a signed body goes out as it came.

    Raises UnreadableRequest for what the provider bills apart and nobody here counts.
    """
    if call.provider == "bedrock" and request.headers.get(_GUARDRAIL_HEADER):
        raise UnreadableRequest(GUARDED)
    call = with_plan(call, request)
    if call.provider in BILL_AFTER_DISCONNECT and call.has_output and not call.bills_after_disconnect:
        call = replace(call, bills_after_disconnect=True)
    if call.provider == "vertex" and "/publishers/mistralai/" in request.path:
        # Mistral tells a stream's usage unasked and refuses fields it does not know (its SDK's gcp client).
        call = replace(call, takes_stream_options=False)
    if call.editable and is_signed(request):
        call = replace(call, editable=False)
    return call


def is_signed(request: Request) -> bool:
    """Tell whether AWS's signature stands in the request's header or URL: it holds for this very body.

    "AWS4-HMAC-SHA256" and "AWS4-ECDSA-P256-SHA256" of Signature Version 4, in botocore's `auth`; API keys of Bedrock
    are bearer tokens, which sign nothing.
    """
    scheme = request.headers.get("authorization", "").lstrip().lower()
    return scheme.startswith("aws4-") or any(key.lower() == "x-amz-signature" for key in request.query)
