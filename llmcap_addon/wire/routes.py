"""Routes: which host is an LLM's, and which of its endpoints cost money.

A path on such a host that is not known to be free is never let through uncounted: it is metered or "unmetered", and
what happens to those is the user's choice. Endpoints as in the SDKs: `openai`, `anthropic` and `google-genai`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from llmcap_addon.wire.dialect import Request

type Api = Literal["openai", "anthropic", "google", "other"]
type RouteKind = Literal["metered", "free", "unmetered", "foreign"]

CHAT = "openai.chat"
RESPONSES = "openai.responses"
EMBEDDINGS = "openai.embeddings"
MESSAGES = "anthropic.messages"
GENERATE = "google.generate"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes."""

    kind: RouteKind
    dialect_name: str = ""
    """The dialect to meter or to refuse with; empty only for a foreign host."""
    provider: str = ""
    host: str = ""
    """Lower case, no port."""
    model: str = ""
    """What the URL or `hosts:` says, where the body does not name the model."""
    upgrade: bool = False
    """True for a websocket, which a client may give up for HTTP."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What a host speaks."""

    api: str
    provider: str
    metered: bool = True
    custom: bool = False
    """Named by the user: its paths may stand behind any prefix."""


_HOSTS: Mapping[str, _Place] = {
    "api.openai.com": _Place("openai", "openai"),
    "api.anthropic.com": _Place("anthropic", "anthropic"),
    "generativelanguage.googleapis.com": _Place("google", "google"),
    "generativelanguage.mtls.googleapis.com": _Place("google", "google"),
    "openrouter.ai": _Place("openai", "openrouter"),
    "api.groq.com": _Place("openai", "groq"),
    "api.deepseek.com": _Place("openai", "deepseek"),
    "api.mistral.ai": _Place("openai", "mistral"),
    "api.eu.mistral.ai": _Place("openai", "mistral"),
    "api.us.mistral.ai": _Place("openai", "mistral"),
    "codestral.mistral.ai": _Place("openai", "mistral"),
    "api.x.ai": _Place("openai", "xai"),
    "api.together.ai": _Place("openai", "together"),
    "api.together.xyz": _Place("openai", "together"),
    "api.fireworks.ai": _Place("openai", "fireworks"),
    "api.cerebras.ai": _Place("openai", "cerebras"),
    "api.perplexity.ai": _Place("openai", "perplexity", metered=False),
    "api.cohere.com": _Place("other", "cohere", metered=False),
    "api.cohere.ai": _Place("other", "cohere", metered=False),
    "claude.googleapis.com": _Place("anthropic", "google", metered=False),
}

_BEDROCK = r"bedrock-(?:agent-)?(?:runtime(?:-fips)?|mantle)\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"
_HOST_PATTERNS: tuple[tuple[re.Pattern[str], _Place], ...] = tuple(
    (re.compile(pattern), place)
    for pattern, place in (
        # Data residency: us., eu., ae., au., in., jp. and what comes.
        (r"[a-z0-9-]+\.api\.openai\.com", _Place("openai", "openai")),
        (r"[a-z0-9-]+\.api\.x\.ai", _Place("openai", "xai")),
        (r"[a-z0-9-]+\.openai\.azure\.com", _Place("openai", "azure", metered=False)),
        (r"[a-z0-9-]+\.services\.ai\.azure\.com", _Place("openai", "azure", metered=False)),
        (r"[a-z0-9-]+\.cognitiveservices\.azure\.com", _Place("openai", "azure", metered=False)),
        (_BEDROCK, _Place("other", "bedrock", metered=False)),
        (r"(?:[a-z0-9-]+-)?aiplatform(?:\.mtls)?\.googleapis\.com", _Place("google", "vertex", metered=False)),
        (r"aiplatform\.[a-z0-9-]+\.rep(?:\.mtls)?\.googleapis\.com", _Place("google", "vertex", metered=False)),
    )
)


_OF_FAMILIES = (
    "eu.api.openai.com",
    "eu.api.x.ai",
    "my.openai.azure.com",
    "my.services.ai.azure.com",
    "my.cognitiveservices.azure.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "us-central1-aiplatform.googleapis.com",
)


def is_llm_host(host: str, hosts: Mapping[str, tuple[str, str]]) -> bool:
    """Tell whether a host is an LLM's; `hosts` are the user's own: name → (api, provider)."""
    return _place(normal_host(host), hosts) is not None


def known_hosts(hosts: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Name the LLM hosts, the user's own too; of a family, one."""
    return (*_HOSTS, *_OF_FAMILIES, *hosts)


def classify(request: Request, hosts: Mapping[str, tuple[str, str]]) -> Route:
    """Say what a request is; never raises.

    Reading and deleting are free at every provider. A websocket is not: a whole conversation may run over it.
    """
    host = normal_host(request.host)
    place = _place(host, hosts)
    if place is None:
        return Route("foreign", host=host)
    path = _normal_path(request.path)
    dialect_name = _refusing_dialect(place, path or "")
    if _is_upgrade(request):
        return Route("unmetered", dialect_name, place.provider, host, upgrade=True)
    method = request.method.upper()
    overridden = "x-http-method-override" in request.headers  # Google's hosts obey it
    if method in ("GET", "HEAD", "OPTIONS", "DELETE") and not overridden:
        return Route("free", dialect_name, place.provider, host)
    kind: RouteKind = "unmetered"
    if path is not None and not request.headers.get("content-type", "").lower().startswith("application/grpc"):
        found = _billed_dialect(place, path) if place.metered and method == "POST" else ""
        if found:
            kind, dialect_name = "metered", found
        elif _is_free(place, host, path):
            kind = "free"
    return Route(kind, dialect_name, place.provider, host)


def normal_host(host: str) -> str:
    """Write a host as we compare it: lower case, without the root's dot."""
    return host.strip().lower().removesuffix(".")


def _place(host: str, hosts: Mapping[str, tuple[str, str]]) -> _Place | None:
    if host in hosts:
        api, provider = hosts[host]
        return _Place(api, provider, custom=True)
    if host in _HOSTS:
        return _HOSTS[host]
    for pattern, place in _HOST_PATTERNS:
        if pattern.fullmatch(host):
            return place
    return None


def _is_upgrade(request: Request) -> bool:
    # Over h2 a websocket begins with CONNECT (RFC 8441), which has no other use inside a connection to an API.
    return "websocket" in request.headers.get("upgrade", "").lower() or request.method.upper() == "CONNECT"


_ODD = re.compile(r"[%\\\x00-\x1f\x7f]|(?:^|/)\.{1,2}(?:/|$)")


def _normal_path(path: str) -> str | None:
    """Decode a path once and join its slashes; None for one that a server might read as another path."""
    decoded = unquote(path, errors="replace")
    if _ODD.search(decoded):
        return None
    joined = re.sub("/+", "/", decoded)
    return joined.rstrip("/") if len(joined) > 1 else joined


# ── what is billed ──

_OPENAI_BILLED = {"/chat/completions": CHAT, "/responses": RESPONSES, "/embeddings": EMBEDDINGS}
_PREFIX = re.compile(r"(?:/(?:api|openai|anthropic|inference|beta|alpha|v\d+(?:beta|alpha)?\d*))*")
"""What stands before an endpoint: /v1, Groq's /openai/v1, OpenRouter's /api/v1, DeepSeek's /beta and /anthropic/v1,
Fireworks' /inference/v1, Google's /v1beta/openai."""
_GOOGLE_METHOD = re.compile(r"(?:.*/)?(?P<kind>models)/[^/:]+:(?P<method>[A-Za-z]+)")
_GOOGLE_FREE = re.compile(r".*:(?:countTokens|computeTokens)|.*/count-tokens:rawPredict")


def _endpoint(place: _Place, path: str) -> str:
    """Give the path behind its prefix ("/chat/completions"); behind any prefix on a host that the user named."""
    if place.custom:
        for known in (*_OPENAI_BILLED, "/messages", "/messages/count_tokens"):
            if path.endswith(known):
                return known
    match = _PREFIX.match(path)
    return path[match.end() :] if match else path


def _billed_dialect(place: _Place, path: str) -> str:
    """Name the dialect of a metered endpoint; empty for any other."""
    endpoint = _endpoint(place, path)
    if place.api == "google":
        if "/openai/" in path:
            return _OPENAI_BILLED.get(endpoint, "")
        match = _GOOGLE_METHOD.fullmatch(path)
        return GENERATE if match and match["method"] in ("generateContent", "streamGenerateContent") else ""
    if place.api == "anthropic":
        return MESSAGES if endpoint == "/messages" else ""
    if endpoint == "/messages" and place.provider != "openai":
        return MESSAGES  # DeepSeek, Fireworks and OpenRouter speak Anthropic's dialect too
    return _OPENAI_BILLED.get(endpoint, "")


# ── what is free ──

_OPENAI_FREE = re.compile(
    r"/files(?:/.*)?|/uploads(?:/.*)?|/responses/input_tokens|/responses/[^/]+/cancel|/chat/completions/[^/]+"
    r"|/conversations(?:/.*)?|/batches/[^/]+/cancel|/fine_tuning/jobs/[^/]+/(?:cancel|pause)|/organization/.*"
    r"|/webhook_endpoints(?:/.*)?|/realtime/(?:client_secrets|sessions|transcription_sessions)|/moderations"
)
"""At OpenAI itself. The realtime ones only mint keys; what these open is a websocket or /realtime/calls."""
_COMPATIBLE_FREE = re.compile(
    r"/files(?:/.*)?|/messages/count_tokens|/responses/input_tokens|/keys(?:/.*)?|/auth/keys.*"
)
_ANTHROPIC_FREE = re.compile(
    r"/api/.*"  # what Claude Code sends beside its messages: /api/oauth, /api/event_logging, /api/claude_cli_feedback …
    r"|/v1/(?:messages/count_tokens|messages/batches/[^/]+/cancel|(?:files|skills|oauth|vaults|memory_stores|webhooks)"
    r"(?:/.*)?|organizations/.*)"
)
_GOOGLE_FILES = re.compile(r"(?:/upload)?/v\d+(?:beta|alpha)?\d*/(?:files(?:[/:].*)?|auth_tokens|openai/files)")
_AZURE_LLM = re.compile(r"/(?:openai|anthropic|models|providers|api)(?:/.*)?", re.IGNORECASE)


def _is_free(place: _Place, host: str, path: str) -> bool:
    """Tell whether a request that may change things at a provider costs nothing there."""
    endpoint = _endpoint(place, path)
    if place.api == "google":
        return bool(_GOOGLE_FREE.fullmatch(path) or _GOOGLE_FILES.fullmatch(path))
    if place.api == "anthropic":
        if place.custom:
            return endpoint == "/messages/count_tokens"
        return bool(_ANTHROPIC_FREE.fullmatch(path))
    if place.provider == "openai":
        return bool(_OPENAI_FREE.fullmatch(endpoint))
    if place.provider == "openrouter" and not (path == "/api" or path.startswith("/api/")):
        return True  # the web site, which shares the API's host
    if host.endswith(".cognitiveservices.azure.com"):
        return not _AZURE_LLM.fullmatch(path)  # speech, vision, translation: no LLM
    return place.api == "openai" and place.metered and bool(_COMPATIBLE_FREE.fullmatch(endpoint))


def _refusing_dialect(place: _Place, path: str) -> str:
    """Name the dialect whose error shape the client of this path understands."""
    if place.api == "anthropic" or "/anthropic/" in path or path.endswith("/messages"):
        return MESSAGES
    if place.api == "google" and "/openai/" not in path:
        return GENERATE
    if "/responses" in path:
        return RESPONSES
    return EMBEDDINGS if path.endswith("/embeddings") else CHAT
