"""Responses over HTTP. Shapes: the `openai` SDK's `types/responses` (create params, events, `response_usage`)."""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.openai_common import (
    ErrorMeter,
    OpenAIErrors,
    cache_write,
    edit_members,
    error_object,
    hides_reasoning,
    inside_event,
    is_event_stream,
    list_of,
)
from llmcap_addon.wire.openai_input import add_content, add_item
from llmcap_addon.wire.openai_responses_meter import ResponsesBodyMeter, ResponsesStreamMeter
from llmcap_addon.wire.openai_responses_reader import Remember, ResponsesReader
from llmcap_addon.wire.openrouter import extras
from llmcap_addon.wire.replies import event_bytes
from llmcap_addon.wire.searches import add_searches
from llmcap_addon.wire.seen import Seen
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import (
    ContentBuilder,
    JsonObject,
    boolean,
    load_json,
    mapping,
    positive_int,
    string,
)

_OWN_TOOLS = frozenset({"function", "custom", "namespace"})
"""Tools that the client runs, and whose description stands in the body."""
_KNOWN_TOOLS = frozenset({"local_shell", "apply_patch", "computer", "computer_use_preview"})
"""Tools that the client runs, but whose description is the provider's."""
_BILLED_APART = frozenset({"code_interpreter", "image_generation", "shell"})
"""Tools that OpenAI bills by container or at another model's price; nothing in a usage shows it."""


SEARCHES_PER_TURN = 4
"""One web search call may run several searches, each billed (an action's `queries`); nobody publishes how many. Users
report two to three on average (community.openai.com, topic 1236954)."""


class ResponsesDialect(OpenAIErrors):
    """`POST …/responses`."""

    name = "openai.responses"

    def __init__(self, seen: Seen | None = None) -> None:
        self._seen = seen or Seen()

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        call = self.call_of(body, request, target, client)
        # It goes on at the provider whatever becomes of the connection (platform.openai.com/docs/guides/background). A
        # discount for a late `background_options.completion_window` has no published price: none is counted.
        return replace(call, bills_after_disconnect=True, begins_job=True) if boolean(body, "background") else call

    def call_of(self, body: JsonObject, request: Request, target: Target, client: str) -> Call:
        """Understand a request whose JSON has been read; raises UnreadableRequest."""
        builder = ContentBuilder()
        added = extras(builder, body, target)
        model = added.model
        _add_input(builder, body)
        self._add_previous(builder, body.get("previous_response_id"), request.host, model)
        _add_tools(builder, body, target.provider)
        add_searches(builder, body, target.provider, (model, *added.instead))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=boolean(body, "stream"),
            content=builder.build(),
            max_output_tokens=positive_int(body, "max_output_tokens"),
            hidden_output_tokens=None if added.instead else _hidden_tokens(target.provider, model, body),
            instead=added.instead,
            unit_bound=added.apart,
            cache_write=cache_write(request.body),
            terms=target.terms(string(body, "service_tier")),
            client=client,
        )

    def _add_previous(self, builder: ContentBuilder, response_id: object, host: str, model: str) -> None:
        if response_id is None:
            return
        known = self._seen.tokens(host, response_id, model)
        if known is None:
            builder.opaque = True
        else:
            builder.known_tokens += known

    def remembers(self, call: Call) -> Remember:
        """Make what notes how long the conversation is that ends with a response to this call."""

        def remember(response: JsonObject, usage: Usage | None) -> None:
            if usage is None:
                self._seen.expect(call.host, response.get("id"), call.model)
            else:
                self._note(call.host, call.model, response, usage)

        return remember

    def remembers_job(self, host: str) -> Remember:
        """Make what notes the same of a response that began behind an earlier answer."""

        def remember(response: JsonObject, usage: Usage | None) -> None:
            model = self._seen.model(host, response.get("id"))
            if usage is not None and model:
                self._note(host, model, response, usage)

        return remember

    def _note(self, host: str, model: str, response: JsonObject, usage: Usage) -> None:
        output = response.get("output")
        items = len(output) if isinstance(output, list) else 0
        # Without any input billed its length is not told (a prewarm need not be billed).
        tokens = usage.input_tokens + usage.output_tokens if usage.input_tokens else 0
        self._seen.note(host, response.get("id"), model, tokens, items)

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer; a stream's last event reports its usage unasked."""
        if max_output_tokens is None or not call.editable:
            return body
        return edit_members(body, {"max_output_tokens": max_output_tokens})

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return ErrorMeter(call.provider)
        if is_event_stream(head.content_type, streamed=call.streamed):
            return ResponsesStreamMeter(count, call.provider, self.remembers(call), call)
        return ResponsesBodyMeter(count, call.provider, self.remembers(call), call)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream with `response.failed`, which Codex stops at when the code is "invalid_prompt".

        The SDKs raise on its top-level error (`Stream.__stream__`), with our message.
        """
        if not isinstance(meter, SseMeter):
            return b""
        known = meter.read if isinstance(meter, ResponsesStreamMeter) else None
        event = failed_event(call, refusal, meter.reading, known)
        return event_bytes(event, "response.failed", inside_event=inside_event(meter))


RESPONSES = ResponsesDialect()


def failed_event(call: Call, refusal: Refusal, reading: Reading, read: ResponsesReader | None) -> JsonObject:
    """Make the event that ends a response in failure (`ResponseFailedEvent`); `read` is what its events have told."""
    response: JsonObject = {
        "id": read.response_id if read else "",
        "object": "response",
        "created_at": read.created_at if read else 0,
        "status": "failed",
        "error": {"code": "invalid_prompt", "message": refusal.message},
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": reading.model or call.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    return {
        "type": "response.failed",
        "sequence_number": read.sequence_number + 1 if read else 0,
        "response": response,
        "error": error_object(call.provider, refusal, 402),
    }


def _add_input(builder: ContentBuilder, body: JsonObject) -> None:
    stored = body.get("store") is not False
    for key in ("instructions", "input"):
        given = body.get(key)
        if isinstance(given, list):
            for item in given:
                add_item(builder, item, stored=stored)
        elif given is not None:
            builder.messages += 1
            add_content(builder, given)
    if any(body.get(key) is not None for key in ("conversation", "prompt")):
        builder.opaque = True
    if mapping(body.get("text")).get("format") is not None:
        builder.add_tools(mapping(body["text"])["format"])
    if list_of(body, "context_management"):
        builder.server_turns += 1  # compaction is a pass of its own over the input


def _add_tools(builder: ContentBuilder, body: JsonObject, provider: str) -> None:
    limit = positive_int(body, "max_tool_calls", minimum=0)
    if provider == "perplexity" and limit is None:
        limit = positive_int(body, "max_steps")
    turns = DEFAULT_SERVER_TURNS if limit is None else limit
    given = body.get("input")
    tools = list_of(body, "tools")
    for item in given if isinstance(given, list) else []:
        if mapping(item).get("type") == "additional_tools":
            tools = tools + list_of(mapping(item), "tools")  # their text is added with the item
    for tool in list_of(body, "tools"):
        builder.add_tools(tool)
    runs_here = False
    searches = builder.web_searches  # what else the request searches for
    for tool in tools:
        name = mapping(tool).get("type", "function")
        kind = name if isinstance(name, str) else ""
        if kind in _OWN_TOOLS or (kind == "tool_search" and mapping(tool).get("execution") == "client"):
            continue
        builder.provider_tools += 1
        if kind in _KNOWN_TOOLS or _is_local_shell(kind, tool):
            continue
        if provider == "openai" and kind in _BILLED_APART:
            raise UnreadableRequest(
                f"the hosted tool {kind!r} is billed apart from the tokens and is not metered yet; leave it out"
            )
        # The provider runs it and reads its results as further input. Its searches are billed one by one; a file
        # search costs less than a web search, as do other hosts' tools, so counting them all as searches is from above.
        runs_here = True
        if kind not in ("mcp", "tool_search", "programmatic_tool_calling"):
            builder.web_searches = searches + turns * SEARCHES_PER_TURN
    if runs_here:
        builder.opaque = True
        builder.server_turns += turns


def _is_local_shell(kind: str, tool: object) -> bool:
    return kind == "shell" and mapping(mapping(tool).get("environment")).get("type") == "local"


def _hidden_tokens(provider: str, model: str, body: JsonObject) -> int | None:
    hidden = hides_reasoning(provider, model, body) or bool(list_of(body, "context_management"))
    return None if hidden else 0
