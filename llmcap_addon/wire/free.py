"""What is free: requests that change things at a provider and cost nothing there.

Paths as in the providers' SDKs. What is neither here nor among the endpoints is "unmetered".
"""

from __future__ import annotations

import re

from llmcap_addon.wire.endpoints import behind_prefix
from llmcap_addon.wire.hosts import Place

_GOOGLE_FREE = re.compile(
    r".*:(?:countTokens|computeTokens|fetchPredictOperation)|.*/count-tokens:rawPredict|.*/interactions/[^/]+/cancel"
    r"|.*/batches/[^/:]+:cancel"
)
_OPENAI_FREE = re.compile(
    r"/files(?:/.*)?|/uploads(?:/.*)?|/responses/input_tokens|/responses/[^/]+/cancel|/chat/completions/[^/]+"
    r"|/conversations(?:/.*)?|/batches/[^/]+/cancel|/fine_tuning/jobs/[^/]+/(?:cancel|pause)|/organization/.*"
    r"|/webhook_endpoints(?:/.*)?|/realtime/(?:(?:translations/)?client_secrets|sessions|transcription_sessions)|/moderations"
)
"""At OpenAI itself. The realtime ones only mint keys; what these open is a websocket or /realtime/calls."""
_COMPATIBLE_FREE = re.compile(
    # (Z.ai bills by the page for what stands under /files/parser and /files/ocr)
    r"/files(?:/(?!(?:parser|ocr)(?:/|$)).*)?|/messages/count_tokens|/responses/input_tokens|/keys(?:/.*)?"
    r"|/auth/keys.*"
)
_ANTHROPIC_FREE = re.compile(
    r"/api/.*"  # what Claude Code sends beside its messages: /api/oauth, /api/event_logging, /api/claude_cli_feedback …
    r"|/v1/(?:messages/count_tokens|messages/batches/[^/]+/cancel|(?:files|skills|oauth|vaults|memory_stores|webhooks)"
    r"(?:/.*)?|organizations/.*)|/v1/projects/.+/invoke/v1/messages/count_tokens"
)
_GOOGLE_FILES = re.compile(r"(?:/upload)?/v\d+(?:beta|alpha)?\d*/(?:files(?:[/:].*)?|auth_tokens|openai/files)")
_SITES = {"openrouter": "/api/", "opencode": "/zen/"}
"""Provider → where its API begins on a host that is its web site too."""
_GENERATES = re.compile("generate|predict|complete", re.IGNORECASE)
_COPILOT_BILLED = re.compile("completions|responses|messages|embeddings|chat|agents|images|audio|realtime|generate")
_COHERE_FREE = re.compile(r"/v\d+/(?:tokenize|detokenize|check-api-key|connectors(?:/.*)?|embed-jobs/[^/]+/cancel)")
_BEDROCK_FREE = re.compile(
    r".*/model/.+/count-tokens|.*/messages/count_tokens|.*/responses/(?:input_tokens|[^/]+/cancel)"
)
_AZURE_NO_LLM = re.compile(
    r"/(?:speech|speechtotext|texttospeech|tts|cognitiveservices|vision|computervision|face|language|text|translator"
    r"|translate|detect|formrecognizer|documentintelligence|documentmodels|contentsafety|contentmoderator|customvision"
    r"|personalizer|anomalydetector|luis|qnamaker|sts|avatar|customvoice)(?:[/.].*)?",
    re.IGNORECASE,
)
"""Azure's other services, which share a host name with its models."""


def is_free(place: Place, host: str, path: str) -> bool:
    """Tell whether a request that may change things at a provider costs nothing there."""
    endpoint = behind_prefix(place, path)
    if place.api == "google":
        return bool(_GOOGLE_FREE.fullmatch(path) or _GOOGLE_FILES.fullmatch(path))
    if place.api == "anthropic":
        if place.custom:
            return endpoint == "/messages/count_tokens"
        return bool(_ANTHROPIC_FREE.fullmatch(path))
    if place.api == "bedrock":
        return bool(_BEDROCK_FREE.fullmatch(path))
    if place.provider == "openai":
        return bool(_OPENAI_FREE.fullmatch(endpoint))
    site = _SITES.get(place.provider, "")
    if site and not place.custom and not f"{path}/".lower().startswith(site):
        return True  # the web site, which shares the API's host
    if place.api == "cohere":
        return bool(_COHERE_FREE.fullmatch(path))
    if place.api == "code-assist":
        return not _GENERATES.search(path)  # signing in, quotas, countTokens, settings
    if place.provider == "github-copilot" and not place.custom:
        return not _COPILOT_BILLED.search(path)  # sessions, models, telemetry, tools of its own
    if host.endswith(".cognitiveservices.azure.com"):
        return bool(_AZURE_NO_LLM.fullmatch(path))
    if place.provider == "azure" and _OPENAI_FREE.fullmatch(endpoint):
        return True
    return place.api == "openai" and place.metered and bool(_COMPATIBLE_FREE.fullmatch(endpoint))
