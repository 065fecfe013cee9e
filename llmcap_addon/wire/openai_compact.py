"""What is billed like a response and is none: compaction of a conversation, and decisions.

Shapes: the `openai` SDK's `response_compact_params`, `compacted_response`, `decision_create_params` and `decision`.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.azure import error_meter
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_common import OpenAIErrors, cache_write, list_of, model_name
from llmcap_addon.wire.openai_input import add_content, add_item
from llmcap_addon.wire.openai_responses import RESPONSES
from llmcap_addon.wire.openai_responses_meter import ResponsesBodyMeter
from llmcap_addon.wire.openai_usage import record_bad_usage, record_head, record_usage, responses_usage
from llmcap_addon.wire.text import ContentBuilder, load_json, parse_object

MAX_QUESTIONS = 400
"""`questions` in `decision_create_params`."""


class CompactDialect(OpenAIErrors):
    """`POST …/responses/compact`: a response's input and usage; never streamed, without a limit of its own."""

    name = "openai.compact"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        call = RESPONSES.call_of(load_json(request.body), request, target, client)
        return replace(call, dialect=self.name, streamed=False, max_output_tokens=None, editable=False)

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: no member limits the answer."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response, which names neither model nor tier."""
        return error_meter(call, head) if head.status >= 400 else ResponsesBodyMeter(count, call.provider)


COMPACT = CompactDialect()


class DecisionsDialect(OpenAIErrors):
    """`POST …/decisions`: questions about an input, of which only what is read is billed."""

    name = "openai.decisions"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        questions = list_of(body, "questions")
        if len(questions) > MAX_QUESTIONS:
            raise UnreadableRequest(f"questions are {len(questions)}, more than {MAX_QUESTIONS}")
        builder = ContentBuilder()
        given = body.get("input")
        if isinstance(given, list):
            for item in given:
                add_item(builder, item, stored=True)
        else:
            builder.messages += 1
            add_content(builder, given)
        for question in questions:
            builder.add_json(question)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=False,
            content=_asked(builder.build(), len(questions)),
            has_output=False,
            cache_write=cache_write(request.body),
            terms=target.terms(),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit, and the usage is always reported."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return error_meter(call, head) if head.status >= 400 else DecisionMeter()


DECISIONS = DecisionsDialect()


def _asked(content: Content, questions: int) -> Content:
    """Bound an input that is evaluated for every question; whether each reading is billed is not said, so all are."""
    further = max(0, questions - 1)
    if content.opaque or content.media:
        return replace(content, opaque=True, server_turns=further)
    return replace(content, known_tokens=content.text_bytes * further)


class DecisionMeter(BodyMeter):
    """Reads a whole decision. Output tokens are reported and cost nothing (https://openai.com/api/pricing)."""

    def on_body(self, body: bytes) -> None:
        """Read the usage."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        self.reading.failed = bool(payload.get("error"))
        try:
            usage = responses_usage(payload.get("usage"), 0)
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            record_usage(self.reading, replace(usage, output_tokens=0, reasoning_tokens=0), final=True)
        elif not self.reading.failed:
            self.mark_unreadable("the answer reports no usage")
