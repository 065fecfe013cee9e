"""What refusals and cuts of all dialects share: headers that are safe and say why, and the names of the errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote

from llmcap_addon.wire.dialect import Refusal, RefusalKind, Response

MAX_HEADER_CHARS = 256
"""A header of ours: a cap's name may be long, and clients bound what they read."""

_ERROR_TYPES: dict[RefusalKind, str] = {
    "spent": "insufficient_quota",
    "reserved": "insufficient_quota",
    "unmetered": "invalid_request_error",
    "unreadable": "invalid_request_error",
    "unpriced": "invalid_request_error",
    "store": "api_error",
    "internal": "api_error",
}

_ERROR_CODES: dict[RefusalKind, str] = {
    "spent": "llmcap_cap_spent",
    "reserved": "llmcap_cap_reserved",
    "unmetered": "llmcap_unmetered",
    "unreadable": "llmcap_unreadable",
    "unpriced": "llmcap_unpriced",
    "store": "llmcap_store",
    "internal": "llmcap_internal",
}


def error_type(kind: RefusalKind) -> str:
    """Name a refusal by OpenAI's error types, which compatible hosts and clients share."""
    return _ERROR_TYPES[kind]


def error_code(kind: RefusalKind) -> str:
    """Name a refusal by our own code, the same in every dialect; spent and reserved are told apart."""
    return _ERROR_CODES[kind]


def resets_at(refusal: Refusal) -> str:
    """Write when the cap resets in ISO 8601, UTC; empty when it never does."""
    if refusal.resets_at_ms is None:
        return ""
    try:
        moment = datetime.fromtimestamp(refusal.resets_at_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def reply_headers(refusal: Refusal, content_type: str = "application/json") -> tuple[tuple[str, str], ...]:
    """Give a refusal's headers: never a retry-after, which SDKs sleep through in silence.

    `x-should-retry: false` stops the SDKs of OpenAI, Anthropic and their kin after one request (their
    `_should_retry`).
    """
    headers = [
        ("content-type", content_type),
        ("x-should-retry", "false"),
        ("x-llmcap-code", error_code(refusal.kind)),
    ]
    if refusal.cap:
        headers.append(("x-llmcap-cap", _header_value(refusal.cap)))
    moment = resets_at(refusal)
    if moment:
        headers.append(("x-llmcap-resets-at", moment))
    return tuple(headers)


def json_response(refusal: Refusal, status: int, body: object) -> Response:
    """Complete a refusal whose body is JSON."""
    payload = encode_json(body)
    return Response(status, (*reply_headers(refusal), ("content-length", str(len(payload)))), payload)


def encode_json(value: object) -> bytes:
    """Write JSON on one line, as an event's data needs it; lone surrogates in a message can't break it."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def event_bytes(value: object, name: str = "", *, inside_event: bool = False) -> bytes:
    """Write one server-sent event; `inside_event` first ends the half event that the client holds."""
    start = b"\n\n" if inside_event else b""
    line = f"event: {name}\n".encode() if name else b""
    return start + line + b"data: " + encode_json(value) + b"\n\n"


def _header_value(text: str) -> str:
    """Keep visible ASCII and percent-encode the rest: a header may hold neither line ends nor most of Unicode."""
    return quote(text.encode("utf-8", "replace"), safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")[:MAX_HEADER_CHARS].strip()
