"""What chat completions, Responses and embeddings share: hidden reasoning, errors, edits of a body.

How they report usage stands in `openai_usage`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.dialect import Meter, Refusal, Request, Response, Target
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_usage import chat_usage, record_bad_usage, record_head, record_usage, responses_usage
from llmcap_addon.wire.replies import error_code, error_type, event_bytes, json_response
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_json, string

_LONG_CACHE = re.compile(rb'"ttl"\s*:\s*"(?:12h|1h)"')
"""OpenAI's, and Claude's in a chat (`cache_control`, which OpenRouter, Vercel and LiteLLM's proxies hand on)."""

AUDIO_BYTES_PER_TOKEN = 37
"""Output audio is some 20 tokens a second, and no codec in use needs less than 6 kbit (750 bytes) a second for it."""

_SKIPPED_KEYS = frozenset({"role", "id", "type", "obfuscation", "index", "format", "signature", "call_id", "item_id"})
"""Strings of a delta that the model did not write."""


# ── output ──


def output_strings(node: object) -> list[str]:
    """Give the strings the model wrote, at any depth of a delta or a message, without roles, ids and types."""
    found: list[str] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            twice = _said_twice(item) if "reasoning" in item else ()
            stack += [value for key, value in item.items() if key not in _SKIPPED_KEYS and key not in twice]
    return found


def _said_twice(item: dict[str, object]) -> tuple[str, ...]:
    """Name what repeats `reasoning`: OpenRouter gives it in `reasoning_details` too, some hosts by another name."""
    details = ("reasoning_details",) if isinstance(item["reasoning"], str) else ()
    return (*details, "reasoning_content") if item["reasoning"] == item.get("reasoning_content") else details


# ── hidden reasoning ──

_PLAIN_OPENAI = re.compile(r"gpt-3\.5|gpt-4|chatgpt-4o|davinci|babbage|gpt-oss")
"""OpenAI's families that do not reason (gpt-oss does, but in the open)."""
_REASONING = re.compile(
    r"(?!.*non-reasoning)(?:o\d|gpt-(?:[5-9]|\d\d)|gemini-(?:2\.5|[3-9])|grok-(?:[4-9]|\d\d|code|3-mini)|compound"
    r"|auto$|.*codex|.*deep-research|computer-use)"
)
"""Families on other hosts whose reasoning is not in the stream: OpenAI's, Google's and xAI's own models behind a
gateway, Groq's compound systems, Perplexity's research, and OpenRouter's choice among all."""
_MAKER = re.compile(r"^(?:[a-z-]+\.)+")
"""What stands before a name at Bedrock: "us.openai.gpt-5.5"."""


def never_reasons(model: str) -> bool:
    """Tell whether a name is one of OpenAI's plain models."""
    return _PLAIN_OPENAI.match(model.lower().removeprefix("ft:")) is not None


def cache_write(body: bytes) -> Literal["none", "short", "long"]:
    """Say for how long a cache write of the request may last; a search will do, a false alarm only reserves more.

    Models that bill cache writes do so unasked, at the price of the short one. `prompt_cache_options.ttl` in
    `completion_create_params` and `response_create_params`.
    """
    return "long" if _LONG_CACHE.search(body) else "short"


def hides_reasoning(provider: str, model: str, body: JsonObject) -> bool:
    """Tell whether the answer may bill output that it does not show.

    OpenAI shows no reasoning (at most a summary), so there every model that is not known to be plain counts as hiding
    it, unless the request turns it off by effort "none" ("minimal" still reasons). Compatible hosts serve open models,
    which stream their reasoning as `reasoning_content`, `reasoning` or text: there only known families hide it, or a
    request that leaves it out.
    """
    asked = mapping(body.get("reasoning"))
    if asked.get("exclude") is True or body.get("include_reasoning") is False:
        return True  # OpenRouter and Groq: reasons, but does not say so
    if body.get("reasoning_format") == "hidden":
        return True  # Groq
    name = model.lower().removeprefix("ft:").rpartition("/")[2].partition(":")[0]
    if provider == "bedrock":
        name = _MAKER.sub("", name)
    if "none" in (body.get("reasoning_effort"), asked.get("effort")):
        return False
    if provider in ("openai", "azure"):
        return _PLAIN_OPENAI.match(name) is None
    if provider == "openrouter" and "claude" in name and (asked or body.get("reasoning_effort")):
        return True  # Claude 4 and later show a summary of their thinking, and bill the whole
    return _REASONING.match(name) is not None


# ── requests ──


def model_name(body: JsonObject, target: Target) -> str:
    """Name the model; raises UnreadableRequest when neither URL nor body does."""
    model = target.model_of(string(body, "model"))
    if not model:
        raise UnreadableRequest("the body names no model, so its price is unknown")
    return model.removeprefix("models/")


def list_of(body: JsonObject, key: str) -> list[object]:
    """Read a list; empty when absent or null; raises UnreadableRequest otherwise."""
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableRequest(f"{key} is not a list")
    return value


def may_hold(body: bytes, key: str) -> bool:
    r"""Tell whether a body may have a member of this name, without parsing it; a `\u` escape could spell any name."""
    return key.encode() in body or b"\\u00" in body


def edit_members(body: bytes, changes: Mapping[str, object]) -> bytes:
    """Set members of a JSON object, and leave every other byte as it came.

    A member that is there gets its new value in place (each time it is there: servers differ on which one counts), a
    new one comes to the front. Raises ValueError when the body is no JSON object.
    """
    if not any(may_hold(body, key) for key in changes):
        members = "".join(f"{json.dumps(key)}:{_written(value)}," for key, value in changes.items())
        front = body.index(b"{") + 1
        return b"".join((body[:front], members.encode(), body[front:]))
    text = body.decode("utf-8")
    spans = _member_spans(text)
    edits: list[tuple[int, int, str]] = []
    front = text.index("{") + 1
    for key, value in changes.items():
        if key in spans:
            edits.extend((start, end, _written(value)) for start, end in spans[key])
        else:
            edits.append((front, front, f"{json.dumps(key)}:{_written(value)},"))
    for start, end, written in sorted(edits, reverse=True):
        text = text[:start] + written + text[end:]
    return text.encode("utf-8")


def _written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def _member_spans(text: str) -> dict[str, list[tuple[int, int]]]:
    """Find where the values of an object's members stand."""
    spans: dict[str, list[tuple[int, int]]] = {}
    position = _skip(text, text.index("{") + 1)
    while position < len(text) and text[position] != "}":
        key, position = _DECODER.raw_decode(text, position)
        start = _skip(text, _skip(text, position) + 1)
        _, end = _DECODER.raw_decode(text, start)
        spans.setdefault(str(key), []).append((start, end))
        position = _skip(text, end)
        if position < len(text) and text[position] == ",":
            position = _skip(text, position + 1)
    return spans


def _skip(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


# ── responses ──


def is_event_stream(content_type: str, *, streamed: bool) -> bool:
    """Tell how a body is to be read: by its content type, and where that says neither, by what was asked for."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return True
    if media_type == "application/json" or media_type.endswith("+json"):
        return False
    return streamed


class ErrorMeter(BodyMeter):
    """An answer of status 400 or above: it passes, and counts only if it reports a usage."""

    def __init__(self, provider: str) -> None:
        super().__init__()
        self.reading.failed = True
        self._provider = provider

    def on_body(self, body: bytes) -> None:
        """Look for a usage; anything else an error body may be is fine."""
        try:
            payload = mapping(parse_json(body))
        except ValueError:
            return
        try:
            raw = payload.get("usage")
            usage = (
                responses_usage(raw, 0, self._provider)
                if "input_tokens" in mapping(raw)
                else chat_usage(raw, self._provider, has_output=False)
            )
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            record_head(self.reading, payload)
            record_usage(self.reading, usage, final=True, billed=billed_amount(self._provider, raw))


def inside_event(meter: Meter) -> bool:
    """Tell whether the client may hold half an event."""
    return isinstance(meter, SseMeter) and meter.inside_event


def error_object(provider: str, refusal: Refusal, status: int) -> JsonObject:
    """Shape an error as the SDKs of OpenAI and compatible hosts parse it (`_make_status_error`: message, type, code).

    OpenRouter's code is the HTTP status as a number, and ours stands in its metadata.
    """
    if provider == "openrouter":
        return {"code": status, "message": refusal.message, "metadata": {"error_type": error_code(refusal.kind)}}
    return {
        "message": refusal.message,
        "type": error_type(refusal.kind),
        "param": None,
        "code": error_code(refusal.kind),
    }


class OpenAIErrors:
    """How a dialect of OpenAI's shape refuses and cuts."""

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal."""
        provider = call.provider if call else _provider_of(request)
        return json_response(refusal, status, {"error": error_object(provider, refusal, status)})

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream with an error that the SDK raises (`Stream.__stream__`: a chunk with a top-level error).

        Nothing can end half a body that is no stream of events: its connection breaks off.
        """
        if not isinstance(meter, SseMeter):
            return b""
        error: JsonObject = {"error": error_object(call.provider, refusal, 402)}
        return event_bytes(error, inside_event=inside_event(meter))


def _provider_of(request: Request) -> str:
    """Name the provider whose error shape differs, from the host, for a request that could not be read."""
    return "openrouter" if request.host == "openrouter.ai" or request.host.endswith(".openrouter.ai") else ""
