"""Chat completions, at OpenAI and at every host that speaks like it.

Shapes: the `openai` SDK's `completion_create_params`, `chat_completion` and `chat_completion_chunk`.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.usage import Reading
from llmcap_addon.wire.azure import error_meter, takes_stream_options
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_ask import CHAT_LIMITS, ask, must_ask
from llmcap_addon.wire.openai_common import (
    AUDIO_BYTES_PER_TOKEN,
    OpenAIErrors,
    cache_write,
    hides_reasoning,
    is_event_stream,
    list_of,
    output_strings,
)
from llmcap_addon.wire.openai_input import add_content, add_message
from llmcap_addon.wire.openai_usage import chat_usage, record_bad_usage, record_head, record_usage, shares_of
from llmcap_addon.wire.openrouter import PROVIDER as OPENROUTER
from llmcap_addon.wire.openrouter import UNTOLD, extras, is_billed_apart
from llmcap_addon.wire.searches import add_searches
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import (
    ContentBuilder,
    JsonObject,
    boolean,
    load_json,
    mapping,
    parse_object,
    positive_int,
    string,
)

_TELLS_SEARCHES = frozenset({"groq", "perplexity"})
MAX_TOOLS_RUN = 1000
"""Tools of one answer that are told apart; a hundred times what any may run."""
ANY_MODEL = "auto"
"""A model that the provider chooses."""
TOKENS_PER_PICTURE = 6_240
"""Of a picture in a chat's answer: the most that gpt-image-1 makes of one, Gemini's have at most 2,520.
https://platform.openai.com/docs/guides/image-generation#cost-and-latency"""
_CLIENT_TOOLS = frozenset({"function", "custom"})


class ChatDialect(OpenAIErrors):
    """`POST …/chat/completions`."""

    name = "openai.chat"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        builder = ContentBuilder()
        added = extras(builder, body, target)
        model = added.model
        hidden = _hidden_tokens(target.provider, (model, *added.instead), body)
        choices = positive_int(body, "n") or 1
        stated = [limit for key in CHAT_LIMITS if (limit := positive_int(body, key)) is not None]
        for message in list_of(body, "messages"):
            add_message(builder, message)
        _add_tools(builder, body)
        add_searches(builder, body, target.provider, (model, *added.instead), choices)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=boolean(body, "stream"),
            content=builder.build(),
            max_output_tokens=max(stated, default=None),  # hosts differ on which of the two they obey
            choices=choices,
            hidden_output_tokens=None if added.draws else hidden,
            instead=added.instead,
            unit_bound=added.apart,
            cache_write=cache_write(request.body),
            terms=target.terms(string(body, "service_tier")),
            takes_stream_options=takes_stream_options(request, target, body),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Ask for the usage of a stream, and limit the answer; every other byte stays as it came."""
        return ask(call, body, max_output_tokens)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return error_meter(call, head)
        # OpenAI's usage has no field that would report a search, so all that could be are billed; Groq lists each tool,
        # and Perplexity says what the whole cost.
        searches = 0 if call.provider in _TELLS_SEARCHES else call.content.web_searches
        if is_event_stream(head.content_type, streamed=call.streamed):
            return ChatStreamMeter(call, count, searches, drops_usage=call.editable and must_ask(call, body))
        return ChatBodyMeter(call, count, searches)


CHAT = ChatDialect()


# ── requests ──


def _hidden_tokens(provider: str, models: Sequence[str], body: JsonObject) -> int | None:
    hides = any(hides_reasoning(provider, model or ANY_MODEL, body) for model in models)
    if hides or "audio" in list_of(body, "modalities") or body.get("audio"):
        return None  # audio is in the stream, but its bytes say too little about its tokens
    prediction = mapping(body.get("prediction")).get("content")
    if prediction is None:
        return 0
    # Rejected tokens of a prediction are billed as output and not shown.
    builder = ContentBuilder()
    add_content(builder, prediction)
    return builder.build().text_bytes


def _add_tools(builder: ContentBuilder, body: JsonObject) -> None:
    for tool in list_of(body, "tools"):
        builder.add_tools(tool)
        kind = mapping(tool).get("type", "function")
        if not isinstance(kind, str) or kind not in _CLIENT_TOOLS:
            # The host runs it (OpenRouter's, Groq's and xAI's own tools) and reads its results as further input.
            builder.provider_tools += 1
            builder.opaque = True
            builder.server_turns = max(builder.server_turns, DEFAULT_SERVER_TURNS)
            builder.web_searches = max(builder.web_searches, DEFAULT_SERVER_TURNS)
    for key in ("functions", "response_format", "tool_choice"):
        if body.get(key) is not None:
            builder.add_tools(body[key])
    prediction = mapping(body.get("prediction")).get("content")
    if prediction is not None:
        add_content(builder, prediction)


# ── responses ──


class _Counter:
    """Counts what the model wrote, each piece from above, and the tools that Groq says it ran.

    Those are billed by the use, at most $8 a thousand, so as searches they are counted from above; an answer that
    names none ran none (`ExecutedTool` in the `groq` SDK's `chat_completion_message`, "that were executed").
    """

    def __init__(self, count: CountTokens, provider: str) -> None:
        self._count = count
        self.lists_tools = provider == "groq"
        """True where an answer names the tools that ran, which its usage does not count."""
        self._ran: set[object] = set()

    @property
    def tools_run(self) -> int:
        """How many tools the answer so far says were run; a stream names one more than once."""
        return len(self._ran)

    def text(self, text: str) -> int:
        return max(1, self._count(text)) if text else 0

    def written(self, node: object) -> int:
        """Count a delta or a message."""
        if isinstance(node, dict) and isinstance(audio := node.get("audio"), dict):
            data = audio.get("data")
            size = len(data) * 3 // 4 if isinstance(data, str) else 0
            rest = {key: value for key, value in node.items() if key != "audio"}
            transcript = self.written(audio.get("transcript"))
            return max(transcript, -(-size // AUDIO_BYTES_PER_TOKEN)) + self.written(rest)
        if isinstance(node, dict) and isinstance(pictures := node.get("images"), list):
            rest = {key: value for key, value in node.items() if key != "images"}
            return TOKENS_PER_PICTURE * len(pictures) + self.written(rest)  # OpenRouter's: data: URLs
        return sum(self.text(text) for text in output_strings(node))

    def choice(self, choice: object) -> int:
        """Count one choice of a chunk or a completion."""
        parts = mapping(choice)
        for key in ("delta", "message", "text"):
            if parts.get(key) is not None:
                return self.written(self._without_tools(parts[key]))
        return 0

    def _without_tools(self, node: object) -> object:
        """Take note of the tools that ran; what they found is no output of the model's."""
        if not self.lists_tools or not isinstance(node, dict) or not isinstance(node.get("executed_tools"), list):
            return node
        for place, tool in enumerate(node["executed_tools"]):
            index = mapping(tool).get("index")
            if len(self._ran) < MAX_TOOLS_RUN:
                self._ran.add(index if type(index) is int else f"at {place}")
        return {key: value for key, value in node.items() if key != "executed_tools"}


class ChatStreamMeter(SseMeter):
    """Reads chunks; with `drops_usage` it takes out the extra chunk that we asked for."""

    def __init__(self, call: Call, count: CountTokens, searches: int = 0, *, drops_usage: bool) -> None:
        super().__init__()
        self._provider = call.provider
        self._apart = is_billed_apart(call)
        self._choices = call.choices
        self._counter = _Counter(count, call.provider)
        self._searches = searches
        self._drops_usage = drops_usage
        self._understood = False
        self._unsaid = False
        """True while there is output that no usage has been said with or after."""

    def on_event(self, event: Event) -> bool:
        """Read one chunk."""
        if event.data.strip() == b"[DONE]":
            self._understood = True
            if self.reading.usage is not None and not self._unsaid:
                self.reading.final = True
            return True
        payload = parse_object(event.data)
        self._understood = True
        record_head(self.reading, payload)
        if payload.get("error") or mapping(payload.get("x_groq")).get("error"):
            self.reading.failed = True
        listed = payload.get("choices")
        choices: list[object] = listed if isinstance(listed, list) else []
        written = sum(self._counter.choice(choice) for choice in choices)
        if not isinstance(listed, list) and not payload.get("error"):
            written = self._counter.written(payload)
        if written:
            self.reading.counted_output_tokens += written
            self._unsaid = True
            self.reading.final = False  # a usage that came before was not the last word
        self.reading.counted_web_search_requests = self._counter.tools_run
        groq = mapping(payload.get("x_groq"))
        raw = payload.get("usage") or groq.get("usage")
        if raw is not None:
            breakdown = groq.get("usage_breakdown") or payload.get("usage_breakdown")
            self._take_usage(raw, breakdown, ends=self._ends(payload, choices))
        return not (self._drops_usage and isinstance(raw, dict) and listed == [] and not payload.get("error"))

    def on_half_event(self, event: Event) -> None:
        """Count a chunk that broke off as if all of it were output."""
        self._understood = True
        self.reading.counted_output_tokens += self._counter.text(event.data.decode("utf-8", "replace"))

    def on_garbled_event(self, event: Event) -> None:
        """Count an event that is no chunk as if all of it were output: some hosts send heartbeats of their own."""
        self.reading.counted_output_tokens += self._counter.text(event.data.decode("utf-8", "replace"))

    def end(self) -> bytes:
        """Take the end; a body in which nothing was understood is no stream of chunks."""
        rest = super().end()
        if not self._understood:
            self.mark_unreadable("the stream holds no chunk of a chat completion")
        return rest

    def _ends(self, payload: JsonObject, choices: list[object]) -> bool:
        """Tell whether a usage is the last: some hosts send one with every chunk, growing."""
        if not choices or payload.get("x_groq") is not None:
            return True
        return self._choices == 1 and any(mapping(choice).get("finish_reason") for choice in choices)

    def _take_usage(self, raw: object, breakdown: object, *, ends: bool) -> None:
        if take_chat_usage(self.reading, raw, breakdown, self._provider, self._searches, final=ends, apart=self._apart):
            self._unsaid = False


class ChatBodyMeter(BodyMeter):
    """Reads a whole completion."""

    def __init__(self, call: Call, count: CountTokens, searches: int = 0) -> None:
        super().__init__()
        self._provider = call.provider
        self._apart = is_billed_apart(call)
        self._counter = _Counter(count, call.provider)
        self._searches = searches

    def on_body(self, body: bytes) -> None:
        """Read the completion; DeepSeek's keep-alive blank lines before it are JSON's own white space."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        self.reading.failed = bool(payload.get("error"))
        choices = payload.get("choices")
        if self._counter.lists_tools:
            self._count(choices)
        raw = payload.get("usage")
        said = take_chat_usage(
            self.reading, raw, payload.get("usage_breakdown"), self._provider, self._searches, final=True,
            apart=self._apart,
        )  # fmt: skip
        if not self.reading.final:
            self._count(choices)
        if not said and not self.reading.unreadable and not isinstance(choices, list) and not self.reading.failed:
            self.mark_unreadable("the answer holds neither usage nor choices")

    def _count(self, choices: object) -> None:
        """Count what no usage tells; a long answer takes milliseconds, in which no other stream goes on."""
        if isinstance(choices, list):
            self.reading.counted_output_tokens = sum(self._counter.choice(choice) for choice in choices)
        self.reading.counted_web_search_requests = self._counter.tools_run


def take_chat_usage(
    reading: Reading,
    raw: object,
    breakdown: object,
    provider: str,
    searches: int,
    *,
    final: bool,
    apart: bool = False,
) -> bool:
    """Read a usage into a reading; True when it said something.

    With `apart`, more than tokens is billed, which only the provider's own word on the bill tells.
    """
    try:
        usage = chat_usage(raw, provider, max(searches, reading.counted_web_search_requests))
        if usage is None:
            return False
        usage, shares = shares_of(breakdown, usage, provider)
    except ValueError as error:
        record_bad_usage(reading, error)
        return False
    billed = billed_amount(provider, raw)
    if billed is None and provider == OPENROUTER and (apart or usage.output_image_tokens):
        record_bad_usage(reading, ValueError(UNTOLD))
        return False
    record_usage(reading, usage, final=final, billed=billed, shares=shares)
    return True
