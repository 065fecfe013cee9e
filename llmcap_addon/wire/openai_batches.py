"""Batches in OpenAI's shape: `POST /batches` runs the requests of a file that was uploaded before.

Shapes: the `openai` SDK's `batch_create_params` and `batch`, the `groq` SDK's of the same names; each line of the file
is {"custom_id", "method", "url", "body"} (https://platform.openai.com/docs/guides/batch).
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import json
from collections.abc import Sequence

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.batches import MAX_ID_CHARS, JobMeter, batch_terms
from llmcap_addon.wire.dialect import CountTokens, Dialect, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.endpoints import metered
from llmcap_addon.wire.hosts import Place
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_common import OpenAIErrors
from llmcap_addon.wire.openai_completions import COMPLETIONS
from llmcap_addon.wire.openai_embeddings import EMBEDDINGS
from llmcap_addon.wire.openai_responses import RESPONSES
from llmcap_addon.wire.text import JsonObject, load_json, string

_DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS)}
"""Of a batch's requests: those whose answers tell all that is billed."""
_TELLS_SEARCHES = ("groq", "openrouter")


class BatchesDialect(OpenAIErrors):
    """`POST …/batches`."""

    name = "openai.batches"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest. Which model it is, and what it may cost, the file says."""
        body = load_json(request.body)
        if body.get("input_blob"):
            raise UnreadableRequest("what the requests of `input_blob` may cost is not known; upload them as a file")
        file = string(body, "input_file_id")
        if not 0 < len(file) <= MAX_ID_CHARS:
            raise UnreadableRequest("input_file_id names no file")
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model="",
            streamed=False,
            content=Content(),
            terms=batch_terms(target),
            stored=file,
            bills_after_disconnect=True,
            begins_job=True,
            editable=False,
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: what is to be answered stands in the file."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for the answer, which names the batch."""
        return FailedMeter() if head.status >= 400 else JobMeter()


BATCHES = BatchesDialect()


def request_call(
    url: str, body: JsonObject, host: str, target: Target, client: str, further: Sequence[Dialect] = ()
) -> Call:
    """Understand one request of a batch as the endpoint that it is for does; raises UnreadableRequest.

    `further` are dialects that a provider's batches take beside OpenAI's.
    """
    found = metered(Place("openai", target.provider), url)
    dialects = {**_DIALECTS, **{dialect.name: dialect for dialect in further}}
    dialect = dialects.get(found[0]) if found is not None else None
    if dialect is None:
        raise UnreadableRequest(f"requests to {url[:MAX_ID_CHARS]!r} are not metered in a batch yet")
    if body.get("background"):
        raise UnreadableRequest("`background` can't be in a batch")
    headers = {"content-type": "application/json"}
    call = dialect.parse(Request("POST", host, url, {}, headers, json.dumps(body).encode()), target, client)
    if dialect is CHAT and target.provider not in _TELLS_SEARCHES and call.content.web_searches:
        # Its usage has no field for them (`completion_usage`), and the request will be forgotten.
        raise UnreadableRequest("searches of chat completions can't be told from a batch's results; use responses")
    return call
