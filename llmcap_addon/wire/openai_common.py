"""What chat completions, Responses and embeddings share: usage, hidden reasoning, errors, edits of a body.

Field names and their meaning: the `openai` SDK's types (`types/completion_usage.py`,
`types/responses/response_usage.py`) and, for compatible hosts, their own SDKs and documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.dialect import Meter, Refusal, Request, Response
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.replies import error_code, error_type, json_response
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import MAX_COUNT, JsonObject, mapping, parse_json, string

_LONG_CACHE = re.compile(rb'"ttl"\s*:\s*"12h"')

MAX_NAME_CHARS = 200
"""A model's or a tier's name in a response; longer is no name."""

AUDIO_BYTES_PER_TOKEN = 37
"""Output audio is some 20 tokens a second, and no codec in use needs less than 6 kbit (750 bytes) a second for it."""

_SKIPPED_KEYS = frozenset({"role", "id", "type", "obfuscation", "index", "format", "signature", "call_id", "item_id"})
"""Strings of a delta that the model did not write."""


# ── usage ──


def chat_usage(raw: object, provider: str, searches: int = 0, *, has_output: bool = True) -> Usage | None:
    """Read the usage of a chat completion or an embedding; None when it says nothing; ValueError when it is not sane.

    With `has_output`, one that is silent about the output says nothing either: unknown is never 0.

    The rule is money from above. The totals, and the parts that are dearer than the rest (cache writes, audio, images,
    searches), must be sane, or the whole is not believed. A part that only makes it cheaper (cache reads) is ignored
    when it is not sane. `searches` are assumed when none are reported.
    """
    if not isinstance(raw, dict) or not any(value is not None for value in raw.values()):
        return None
    if has_output and raw.get("completion_tokens") is None and raw.get("total_tokens") is None:
        return None
    details = mapping(raw.get("prompt_tokens_details") or raw.get("prompt_token_details"))
    output_details = mapping(raw.get("completion_tokens_details"))
    input_tokens = _required(raw, "prompt_tokens")
    total = _lenient(raw.get("total_tokens"))
    completion = _count(raw, "completion_tokens")
    output_tokens = completion if completion is not None else max(0, total - input_tokens)
    reasoning = _lenient(output_details.get("reasoning_tokens"))
    if provider == "perplexity":
        # Perplexity bills both apart from the totals (its SDK's UsageInfo); citations are read, so they are input.
        reasoning = _count(raw, "reasoning_tokens") or 0
        input_tokens += _count(raw, "citation_tokens") or 0
        output_tokens += reasoning
    else:
        if provider == "xai" and total != input_tokens + output_tokens:
            output_tokens += reasoning  # xAI's completion_tokens leave it out on chat; its total shows whether
        # Whatever a total holds beyond both parts was generated too: Google's compatible endpoint leaves thoughts out
        # of completion_tokens.
        output_tokens = max(output_tokens, total - input_tokens)
    cached = details.get("cached_tokens")
    if cached is None:
        cached = raw.get("prompt_cache_hit_tokens")  # DeepSeek
    return _usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached=cached,
        cache_write=_count(details, "cache_write_tokens") or 0,
        reasoning=reasoning,
        input_audio=_count(details, "audio_tokens") or 0,
        output_audio=_count(output_details, "audio_tokens") or 0,
        output_image=_count(output_details, "image_tokens") or 0,
        searches=max(_searches(raw, provider), searches),
    )


def responses_usage(raw: object, searches: int) -> Usage | None:
    """Read the usage of a Response; None when it says nothing; ValueError when it is not sane (see `chat_usage`)."""
    if not isinstance(raw, dict) or not any(value is not None for value in raw.values()):
        return None
    details = mapping(raw.get("input_tokens_details"))
    input_tokens = _required(raw, "input_tokens")
    output_tokens = max(_required(raw, "output_tokens"), _lenient(raw.get("total_tokens")) - input_tokens)
    return _usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached=details.get("cached_tokens"),
        cache_write=_count(details, "cache_write_tokens") or 0,
        cache_write_long=_count(mapping(details.get("cache_write_tokens_details")), "ttl_12h_tokens") or 0,
        reasoning=_lenient(mapping(raw.get("output_tokens_details")).get("reasoning_tokens")),
        searches=searches,
    )


def _usage(
    *,
    input_tokens: int,
    output_tokens: int,
    cached: object,
    cache_write: int,
    reasoning: int,
    searches: int,
    cache_write_long: int = 0,
    input_audio: int = 0,
    output_audio: int = 0,
    output_image: int = 0,
) -> Usage:
    if reasoning > output_tokens:
        output_tokens += reasoning  # it can't be a part of the total, so it stands beside it
    cache_read = _lenient(cached)
    if cache_read > input_tokens - cache_write:
        cache_read = 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=cache_write_long,
        reasoning_tokens=reasoning,
        input_audio_tokens=input_audio,
        output_audio_tokens=output_audio,
        output_image_tokens=output_image,
        web_search_requests=searches,
    )


def _searches(raw: JsonObject, provider: str) -> int:
    found = _count(mapping(raw.get("server_tool_use")), "web_search_requests") or 0  # OpenRouter
    if provider == "perplexity":
        return _count(raw, "num_search_queries") or 0
    if provider == "xai":
        return max(_count(raw, "num_sources_used") or 0, _count(raw, "num_server_side_tools_used") or 0)
    return found


def _count(raw: Mapping[str, object], key: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"the usage's {key} is no token count")
    return value


def _required(raw: Mapping[str, object], key: str) -> int:
    value = _count(raw, key)
    if value is None:
        raise ValueError(f"the usage lacks {key}")
    return value


def _lenient(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        return 0
    return value


def record_usage(reading: Reading, usage: Usage, *, final: bool) -> None:
    """Take what the provider said last; its last word makes up for anything that could not be read before it."""
    reading.usage = usage
    if final:
        reading.final = True
        reading.unreadable = ""


def record_bad_usage(reading: Reading, error: ValueError) -> None:
    """Take note of a usage that is not sane: none is believed any more."""
    reading.usage = None
    reading.final = False
    reading.unreadable = str(error)


def record_head(reading: Reading, payload: JsonObject) -> None:
    """Take the model and the service tier that the response names."""
    model = payload.get("model")
    if isinstance(model, str) and 0 < len(model) <= MAX_NAME_CHARS:
        reading.model = model.removeprefix("models/")
    tier = payload.get("service_tier")
    if isinstance(tier, str) and 0 < len(tier) <= MAX_NAME_CHARS and tier.lower() != reading.terms.service_tier:
        reading.terms = Terms(service_tier=tier.lower())


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
            # OpenRouter gives the same reasoning again in `reasoning_details`; some hosts under both other names.
            twice = {"reasoning_details"} if isinstance(item.get("reasoning"), str) else set()
            if "reasoning" in item and item.get("reasoning") == item.get("reasoning_content"):
                twice.add("reasoning_content")
            stack.extend(value for key, value in item.items() if key not in _SKIPPED_KEYS and key not in twice)
    return found


# ── hidden reasoning ──

_PLAIN_OPENAI = re.compile(r"gpt-3\.5|gpt-4|chatgpt-4o|davinci|babbage|gpt-oss")
"""OpenAI's families that do not reason (gpt-oss does, but in the open)."""
_REASONING = re.compile(
    r"(?!.*non-reasoning)(?:o\d|gpt-(?:[5-9]|\d\d)|gemini-(?:2\.5|[3-9])|grok-(?:[4-9]|\d\d|code|3-mini)|compound"
    r"|auto$|.*codex|.*deep-research|computer-use)"
)
"""Families on other hosts whose reasoning is not in the stream: OpenAI's, Google's and xAI's own models behind a
gateway, Groq's compound systems, Perplexity's research, and OpenRouter's choice among all."""


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
    if "none" in (body.get("reasoning_effort"), asked.get("effort")):
        return False
    if provider == "openai":
        return _PLAIN_OPENAI.match(name) is None
    if provider == "openrouter" and "claude" in name and (asked or body.get("reasoning_effort")):
        return True  # Claude 4 and later show a summary of their thinking, and bill the whole
    return _REASONING.match(name) is not None


# ── requests ──


def model_name(body: JsonObject) -> str:
    """Read the model; raises UnreadableRequest when the body names none."""
    model = string(body, "model")
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
                responses_usage(raw, 0)
                if "input_tokens" in mapping(raw)
                else chat_usage(raw, self._provider, has_output=False)
            )
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            record_head(self.reading, payload)
            record_usage(self.reading, usage, final=True)


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


def refusal_response(provider: str, refusal: Refusal, status: int) -> Response:
    """Complete a refusal."""
    return json_response(refusal, status, {"error": error_object(provider, refusal, status)})


def provider_of(request: Request) -> str:
    """Name the provider whose error shape differs, from the host, for a request that could not be read."""
    return "openrouter" if request.host == "openrouter.ai" or request.host.endswith(".openrouter.ai") else ""
