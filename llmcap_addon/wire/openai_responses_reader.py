"""Understanding the events of one Response, whatever brings them: an event stream, or a websocket's frames.

Shapes: the `openai` SDK's `types/responses` (`response_stream_event`, `responses_server_event`).
"""

from __future__ import annotations

from collections.abc import Callable

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.openai_common import AUDIO_BYTES_PER_TOKEN, output_strings
from llmcap_addon.wire.openai_usage import MAX_NAME_CHARS, record_bad_usage, record_head, record_usage, responses_usage
from llmcap_addon.wire.openrouter import UNTOLD, is_billed_apart
from llmcap_addon.wire.searches import untold_searches
from llmcap_addon.wire.text import MAX_COUNT, JsonObject, mapping

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
MAX_ITEMS = 10_000
"""Output items whose deltas are kept apart; no answer has nearly as many."""


type Remember = Callable[[JsonObject, Usage | None], None]
"""Takes a response that has ended, and the usage it reported; None for one that goes on behind this answer."""


class ResponsesReader:
    """Reads the events of one response by their type; the last one holds the whole response with its usage."""

    def __init__(
        self,
        reading: Reading,
        count: CountTokens,
        provider: str = "",
        remember: Remember | None = None,
        call: Call | None = None,
    ) -> None:
        self.reading = reading
        self.response_id = ""
        self.created_at = 0
        self.sequence_number = -1
        """Of the last event; −1 before the first."""
        self._provider = provider
        self._call = call
        self._count = count
        self._remember_end = remember
        self._streamed_items: set[object] = set()
        self._searches = 0

    def take(self, kind: str, payload: JsonObject) -> None:
        """Read one event."""
        number = payload.get("sequence_number")
        if type(number) is int and 0 <= number <= MAX_COUNT:
            self.sequence_number = number
        response = payload.get("response")
        if isinstance(response, dict):
            self._take_head(response)
        if kind in ENDS:
            self._take_end(kind, mapping(response))
        elif kind == "error" or payload.get("error"):
            self.reading.failed = True
        elif kind.endswith(".delta"):
            self._remember(payload)
            self.reading.counted_output_tokens += self._written(kind, payload.get("delta"))
        elif kind == "response.output_item.added":
            self.reading.counted_output_tokens += self.text(mapping(payload.get("item")).get("name"))
        elif kind == "response.output_item.done":
            self._take_item(payload)

    def text(self, text: object) -> int:
        """Count a text, from above."""
        return max(1, self._count(text)) if isinstance(text, str) and text else 0

    def take_unread(self, data: bytes) -> None:
        """Count what can't be read as if all of it were output."""
        self.reading.counted_output_tokens += self.text(data.decode("utf-8", "replace"))

    def _take_item(self, payload: JsonObject) -> None:
        item = payload.get("item")
        if not self._was_streamed(payload):
            self.reading.counted_output_tokens += count_item(item, self.text)
        self._searches += searches_among([item])
        self.reading.counted_web_search_requests = self._searches

    def _take_head(self, response: JsonObject) -> None:
        record_head(self.reading, response)
        if response.get("background") is True:
            self._take_job(job_of(response))
        name = response.get("id")
        if isinstance(name, str) and len(name) <= MAX_NAME_CHARS:
            self.response_id = name
        created_at = response.get("created_at")
        if isinstance(created_at, int | float) and not isinstance(created_at, bool) and 0 <= created_at < 1 << 53:
            self.created_at = int(created_at)

    def _take_job(self, job: str) -> None:
        if job and not self.reading.job and self._remember_end is not None:
            self._remember_end({"id": job}, None)
        self.reading.job = job

    def _take_end(self, kind: str, response: JsonObject) -> None:
        if kind == "response.failed":
            self.reading.failed = True
        take_response_usage(self.reading, response, self._searches, self._provider, self._remember_end, self._call)

    def _written(self, kind: str, delta: object) -> int:
        if kind == "response.audio.delta" and isinstance(delta, str):
            return -(-(len(delta) * 3 // 4) // AUDIO_BYTES_PER_TOKEN)
        return sum(self.text(text) for text in output_strings(delta))

    def _remember(self, payload: JsonObject) -> None:
        place = payload.get("output_index")
        if type(place) is int and len(self._streamed_items) < MAX_ITEMS:
            self._streamed_items.add(place)

    def _was_streamed(self, payload: JsonObject) -> bool:
        place = payload.get("output_index")
        return type(place) is int and place in self._streamed_items


_RUNS = frozenset({"queued", "in_progress"})


def job_of(response: JsonObject) -> str:
    """Name a response that goes on without its client, or whose bill is not told yet; empty for any other.

    `status`, `background` and `usage` of the SDK's `Response`. A usage told while it runs is not the whole, and
    some hosts leave `background` out.
    """
    runs, behind = str(response.get("status")) in _RUNS, response.get("background") is True
    name, untold = response.get("id"), response.get("usage") is None
    if not runs and not (behind and untold):
        return ""
    return name if isinstance(name, str) and len(name) <= MAX_NAME_CHARS else ""


def count_item(item: object, count: Callable[[object], int]) -> int:
    """Count an output item that was not streamed; encrypted reasoning is no text, and its tokens are hidden anyway."""
    shown = {key: value for key, value in mapping(item).items() if key not in ("encrypted_content", "result", "status")}
    return sum(count(text) for text in output_strings(shown))


def take_response_usage(
    reading: Reading,
    response: JsonObject,
    counted_searches: int,
    provider: str = "",
    remember: Remember | None = None,
    call: Call | None = None,
) -> None:
    """Read a whole response's usage, with the searches it reports, or else those among its items or events.

    Where the request is at hand, what it brings about and no answer shows counts as well.
    """
    reported = mapping(mapping(response.get("tool_usage")).get("web_search")).get("num_requests")
    searches = max(counted_searches, searches_among(response.get("output")))
    if type(reported) is int and 0 <= reported <= MAX_COUNT:
        searches = reported + file_searches_among(response.get("output"))
    if call is not None:
        searches = max(searches, untold_searches(call))
    reading.counted_web_search_requests = searches
    try:
        usage = responses_usage(response.get("usage"), searches, provider)
    except ValueError as error:
        record_bad_usage(reading, error)
        return
    if usage is not None:
        billed = billed_amount(provider, response.get("usage"))
        if billed is None and call is not None and is_billed_apart(call):
            record_bad_usage(reading, ValueError(UNTOLD))
            return
        record_usage(reading, usage, final=True, billed=billed)
        if remember is not None:
            remember(response, usage)


def searches_among(output: object) -> int:
    """Count the searches among output items: each query of a web search is one, opening or searching a page is none."""
    found = file_searches_among(output)
    for item in output if isinstance(output, list) else []:
        action = mapping(mapping(item).get("action"))
        if mapping(item).get("type") == "web_search_call" and action.get("type", "search") == "search":
            queries = action.get("queries")
            found += max(1, len(queries)) if isinstance(queries, list) else 1
    return found


def file_searches_among(output: object) -> int:
    """Count the file searches among output items; they cost less than a web search, and are counted as one."""
    items = output if isinstance(output, list) else []
    return sum(mapping(item).get("type") == "file_search_call" for item in items)
