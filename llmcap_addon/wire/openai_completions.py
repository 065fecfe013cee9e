"""Legacy completions, and Mistral's fill-in-the-middle, which is one with a chat's answer.

Shapes: the `openai` SDK's `completion_create_params` and `completion`; the `mistralai` SDK's `FIMCompletionRequest`.
"""

from __future__ import annotations

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.azure import error_meter, takes_stream_options
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.openai_ask import COMPLETION_LIMITS, ask, must_ask
from llmcap_addon.wire.openai_chat import ANY_MODEL, ChatBodyMeter, ChatStreamMeter
from llmcap_addon.wire.openai_common import OpenAIErrors, cache_write, hides_reasoning, is_event_stream
from llmcap_addon.wire.openai_input import add_texts
from llmcap_addon.wire.openrouter import extras
from llmcap_addon.wire.searches import add_searches
from llmcap_addon.wire.text import ContentBuilder, JsonObject, boolean, load_json, positive_int, string

DEFAULT_TOKENS = 16
"""`max_tokens` when unset, at OpenAI and Azure; others generate up to the model's own limit.
https://platform.openai.com/docs/api-reference/completions/create#completions-create-max_tokens"""
_HAVE_DEFAULT = frozenset({"openai", "azure"})


class CompletionsDialect(OpenAIErrors):
    """`POST …/completions` and `…/fim/completions`."""

    name = "openai.completions"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest.

        Each prompt of a list is answered `n` times; with `best_of` more answers are made, and billed, than are shown.
        """
        body = load_json(request.body)
        builder = ContentBuilder()
        prompts = _add_prompts(builder, body)
        builder.add_text(string(body, "suffix"))
        shown = positive_int(body, "n") or 1
        made = max(shown, positive_int(body, "best_of") or 1)
        added = extras(builder, body, target, prompts * made)
        models = (added.model, *added.instead)
        add_searches(builder, body, target.provider, models, prompts * made)
        limit = positive_int(body, "max_tokens", minimum=0)
        if limit is None and target.provider in _HAVE_DEFAULT:
            limit = DEFAULT_TOKENS
        hides = made > shown or added.draws
        hides = hides or any(hides_reasoning(target.provider, model or ANY_MODEL, body) for model in models)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=added.model,
            streamed=boolean(body, "stream"),
            content=builder.build(),
            max_output_tokens=limit,
            choices=prompts * made,
            hidden_output_tokens=None if hides or added.instead else 0,
            instead=added.instead,
            unit_bound=added.apart,
            cache_write=cache_write(request.body),
            terms=target.terms(string(body, "service_tier")),
            takes_stream_options=takes_stream_options(request, target, body),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Ask for the usage of a stream, and limit the answer; every other byte stays as it came."""
        return ask(call, body, max_output_tokens, COMPLETION_LIMITS)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return error_meter(call, head)
        if is_event_stream(head.content_type, streamed=call.streamed):
            drops = call.editable and must_ask(call, body)
            return ChatStreamMeter(call, count, call.content.web_searches, drops_usage=drops)
        return ChatBodyMeter(call, count, call.content.web_searches)


COMPLETIONS = CompletionsDialect()


def _add_prompts(builder: ContentBuilder, body: JsonObject) -> int:
    """Add the prompts, and say how many there are; none at all is the beginning of a new document."""
    given = body.get("prompt")
    if given is None:
        return 1
    if isinstance(given, list) and any(not isinstance(item, str | list | int) for item in given):
        raise UnreadableRequest("prompt is neither a text nor a list of texts or tokens")
    before = builder.messages
    add_texts(builder, given, "prompt")
    return max(1, builder.messages - before)
