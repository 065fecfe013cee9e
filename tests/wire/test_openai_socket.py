"""Responses over a websocket: whose frame is whose, what is asked for, refused, cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.openai_responses import ResponsesDialect
from llmcap_addon.wire.openai_socket import ResponsesSocket, ResponsesSocketTalk
from llmcap_addon.wire.seen import TOKENS_PER_ITEM
from llmcap_addon.wire.socket import Asks, Denied, Free, Told

REFUSED = Refusal("spent", 'LLMCap: refused, cap "daily" is spent', "daily", 1, 1, 0, None)


def frame(**event: Any) -> bytes:
    return json.dumps(event).encode()


class Connection:
    """One connection, both sides of which are the test."""

    def __init__(self, responses: ResponsesDialect | None = None) -> None:
        request = Request("GET", "api.openai.com", "/v1/responses", headers={"upgrade": "websocket"})
        dialect = ResponsesSocket(responses or ResponsesDialect())
        self.talk: ResponsesSocketTalk = dialect.open(request, Target("openai"), "codex", lambda _, text: len(text))

    def client(self, **event: Any) -> Free | Asks | Denied:
        return self.talk.from_client(self.talk.read(frame(**event), is_text=True))

    def create(self, **fields: Any) -> int:
        """Ask for a response that is admitted; gives its number."""
        asked = self.client(type="response.create", **{"model": "gpt-5.5", "input": "hi", **fields})
        assert isinstance(asked, Asks)
        self.talk.admit(asked.number, 1_000, None)
        return asked.number

    def server(self, kind: str, response: dict[str, Any] | None = None, **fields: Any) -> tuple[Told, ...]:
        event: dict[str, Any] = {"type": kind, **fields}
        if response is not None:
            event["response"] = response
        return self.talk.from_server(frame(**event), is_text=True)

    def begun(self, name: str, **fields: Any) -> int:
        [told] = self.server("response.created", {"id": name, "model": "gpt-5.5"}, **fields)
        assert not told.ended
        return told.number


def done(name: str, inputs: int = 10, outputs: int = 5, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}
    return {"id": name, "model": "gpt-5.5", "output": [{}], "usage": usage, **fields}


# ── what is asked for ──


def test_a_create_is_a_streamed_call_with_the_bounds_of_the_same_request_over_http() -> None:
    """The envelope's own members add nothing."""
    asked = Connection().client(
        type="response.create", model="gpt-5.5", input="hi", max_output_tokens=77, stream_id="a"
    )
    assert isinstance(asked, Asks)
    call = asked.call
    assert (call.dialect, call.provider, call.host, call.model) == (
        "openai.responses.socket",
        "openai",
        "api.openai.com",
        "gpt-5.5",
    )
    assert (call.streamed, call.max_output_tokens, call.client, call.content.text_bytes) == (True, 77, "codex", 2)


@pytest.mark.parametrize("fields", [{"generate": False}, {"generate": True, "prompt_cache_options": {"prewarm": True}}])
def test_a_prewarm_has_no_output(fields: dict[str, Any]) -> None:
    """Only its input is reserved; `prewarm` overrides `generate`."""
    asked = Connection().client(type="response.create", model="gpt-5.5", input="hi", **fields)
    assert isinstance(asked, Asks)
    assert not asked.call.has_output


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.create"},
        {"type": "response.create", "model": "gpt-5.5", "background": True},
        {"type": "response.create", "model": "gpt-5.5", "max_output_tokens": "many"},
        {"type": "response.create", "model": "gpt-5.5", "generate": "no"},
        {"type": "response.create", "model": "gpt-5.5", "previous_response_id": 7},
        {"type": "response.create", "model": "gpt-5.5", "stream_id": "no blanks"},
        {"type": "response.create", "model": "gpt-5.5", "stream_id": 7},
        {"type": "response.steer", "previous_response_id": ["x"]},
    ],
)
def test_what_cannot_be_bounded_is_denied(event: dict[str, Any]) -> None:
    """With the reason, and the connection goes on."""
    denied = Connection().client(**event)
    assert isinstance(denied, Denied)
    assert (denied.kind, denied.close_code) == ("unreadable", 0)
    assert "can't be understood" in denied.reason


@pytest.mark.parametrize("kind", ["response.inject", "session.update", None, 7, "distinctive prompt"])
def test_an_unknown_event_is_denied_as_unmetered(kind: object) -> None:
    """It may make the provider begin something; what is no name is not repeated."""
    denied = Connection().client(type=kind)
    assert isinstance(denied, Denied)
    assert denied.kind == "unmetered"
    assert "distinctive" not in denied.reason


def test_codex_may_say_that_it_has_processed_a_response() -> None:
    """That begins nothing; with anything more in it nobody knows."""
    connection = Connection()
    assert isinstance(connection.client(type="response.processed", response_id="resp_1"), Free)
    assert isinstance(connection.client(type="response.processed", response_id="resp_1", input="hi"), Denied)


def test_what_is_no_json_text_ends_the_connection() -> None:
    """With the code that RFC 6455 has for it."""
    talk = Connection().talk
    for data, is_text, code in ((b"{", True, 1007), (b"[]", True, 1007), (b"{}", False, 1003), (b"\xff", True, 1007)):
        denied = talk.from_client(talk.read(data, is_text=is_text))
        assert isinstance(denied, Denied)
        assert denied.close_code == code


def test_an_admitted_frame_goes_out_as_it_came_or_with_a_lower_limit() -> None:
    """Every byte but the limit's stays."""
    connection = Connection()
    data = b'{ "type":"response.create", "model":"gpt-5.5","max_output_tokens":  9000, "input":"hi" }'
    for limit, expected in ((None, data), (500, data.replace(b"9000", b"500"))):
        asked = connection.talk.from_client(connection.talk.read(data, is_text=True))
        assert isinstance(asked, Asks)
        assert connection.talk.admit(asked.number, 9_000, limit) == expected


def test_a_refused_create_gets_an_error_event_on_its_lane() -> None:
    """`ResponseWsError`: a status, the error, the lane."""
    connection = Connection()
    asked = connection.client(type="response.create", model="gpt-5.5", stream_id="lane-1")
    assert isinstance(asked, Asks)
    event = json.loads(connection.talk.refuse(asked.number, REFUSED, 400))
    assert (event["type"], event["status"], event["stream_id"]) == ("error", 400, "lane-1")
    assert event["error"]["message"] == REFUSED.message
    assert event["error"]["code"] == "llmcap_cap_spent"


def test_a_conversation_goes_on_at_the_length_that_was_billed() -> None:
    """What a response on this connection was billed for bounds the request that continues it."""
    connection = Connection()
    connection.create()
    connection.begun("resp_1")
    connection.server("response.completed", done("resp_1", 900, 100))
    asked = connection.client(type="response.create", model="gpt-5.5", input="go on", previous_response_id="resp_1")
    assert isinstance(asked, Asks)
    assert (asked.call.content.opaque, asked.call.content.known_tokens) == (False, 1_000 + 2 * TOKENS_PER_ITEM)


# ── whose frame it is ──


def test_a_response_is_metered_from_its_first_event_to_its_last() -> None:
    """Deltas are counted, the last event has the usage."""
    connection = Connection()
    number = connection.create()
    assert connection.begun("resp_1") == number
    [told] = connection.server("response.output_text.delta", delta="four", output_index=0)
    assert (told.number, told.ended, told.reading.counted_output_tokens) == (number, False, 4)
    [told] = connection.server("response.completed", done("resp_1", 12, 3))
    assert told.ended
    assert told.reading.final
    assert told.reading.usage == Usage(input_tokens=12, output_tokens=3)
    assert connection.server("response.completed", done("resp_1", 12, 3)) == ()  # a repetition is not one more


def test_lanes_do_not_mix() -> None:
    """Each lane's frames are its own response's, first in first out on a lane."""
    connection = Connection()
    first, second, third = (connection.create(stream_id=lane) for lane in ("a", "b", "a"))
    assert connection.begun("resp_b", stream_id="b") == second
    assert connection.begun("resp_a", stream_id="a") == first
    [told] = connection.server("response.output_text.delta", delta="x", stream_id="b")
    assert told.number == second
    [told] = connection.server("response.completed", done("resp_a"), stream_id="a")
    assert (told.number, told.ended) == (first, True)
    assert connection.begun("resp_a2", stream_id="a") == third


def test_a_new_response_on_a_lane_ends_the_one_before() -> None:
    """Its last event got lost; what was counted of it is what there is."""
    connection = Connection()
    first, second = connection.create(), connection.create()
    connection.begun("resp_1")
    old, new = connection.server("response.created", {"id": "resp_2"})
    assert (old.number, old.ended, old.reading.final) == (first, True, False)
    assert (new.number, new.ended) == (second, False)


def test_a_response_that_nothing_asked_for_is_told_with_a_call_of_its_own() -> None:
    """Bounded by the conversation that it continues, if that is known, else by the window."""
    connection = Connection()
    connection.create()
    connection.begun("resp_1")
    connection.server("response.completed", done("resp_1", 900, 100))
    [told] = connection.server(
        "response.created", {"id": "resp_2", "model": "gpt-5.5", "previous_response_id": "resp_1"}
    )
    assert told.unasked is not None
    assert told.unasked.content.known_tokens == 1_000 + 2 * TOKENS_PER_ITEM
    [told] = Connection().server("response.output_text.delta", delta="x")
    assert told.unasked is not None
    assert told.unasked.content.opaque
    cut = json.loads(connection.talk.cut(2, REFUSED))
    assert (cut["type"], cut["response"]["id"]) == ("response.failed", "resp_2")


@pytest.mark.parametrize("kind", ["codex.rate_limits", "response.inject.created", "response.whatever", "", "error"])
def test_frames_about_no_response_pass(kind: str) -> None:
    """Nothing is begun by them."""
    assert Connection().server(kind) == ()


def test_what_cannot_be_read_counts_as_output_of_all_that_run() -> None:
    """From above: it may be anybody's."""
    connection = Connection()
    connection.create(stream_id="a")
    connection.create(stream_id="b")
    connection.begun("resp_a", stream_id="a")
    connection.begun("resp_b", stream_id="b")
    tolds = connection.talk.from_server(b"\x00" * 7, is_text=False)
    assert [told.reading.counted_output_tokens for told in tolds] == [7, 7]
    assert len(connection.talk.from_server(b"{oops", is_text=True)) == 2


# ── errors ──


def test_a_request_that_the_server_rejects_is_not_billed() -> None:
    """Its status says so; the next on the lane goes on."""
    connection = Connection()
    first, second = connection.create(), connection.create()
    [told] = connection.server("error", status=400, error={"message": "no"})
    assert (told.number, told.ended, told.status) == (first, True, 400)
    assert connection.begun("resp_2") == second


def test_a_rejection_while_another_response_runs_is_the_newest_requests() -> None:
    """Those before it were taken; the one that runs goes on."""
    connection = Connection()
    running, _, newest = connection.create(), connection.create(), connection.create()
    connection.begun("resp_1")
    [told] = connection.server("error", status=429, error={"message": "no"})
    assert (told.number, told.status) == (newest, 429)
    [told] = connection.server("response.output_text.delta", delta="x")
    assert told.number == running


def test_an_error_of_the_response_that_runs_ends_it_at_what_was_counted() -> None:
    """It was begun, so it is never void."""
    connection = Connection()
    number = connection.create()
    connection.begun("resp_1")
    connection.server("response.output_text.delta", delta="four")
    [told] = connection.server("error", status=500, error={"message": "broken"})
    assert (told.number, told.ended, told.status) == (number, True, 200)
    assert (told.reading.failed, told.reading.final, told.reading.counted_output_tokens) == (True, False, 4)


# ── steering ──


def steered(connection: Connection) -> Asks:
    connection.create(max_output_tokens=500)
    connection.begun("resp_1")
    asked = connection.client(type="response.steer", previous_response_id="resp_1", input="shorter")
    assert isinstance(asked, Asks)
    return asked


def test_steering_asks_for_a_response_with_the_settings_of_the_one_it_continues() -> None:
    """Its input is the other's, all that one may answer, and what is new; it can't be given a limit of its own."""
    call = steered(Connection()).call
    assert (call.model, call.max_output_tokens, call.editable) == ("gpt-5.5", 500, False)
    assert call.content.text_bytes == len("hi") + len("shorter")
    assert call.content.known_tokens >= 1_000


def test_the_successor_of_steering_is_the_response_that_continues() -> None:
    """And not a request that waits on the lane."""
    connection = Connection()
    asked = steered(connection)
    connection.talk.admit(asked.number, 500, None)
    queued = connection.create()
    assert connection.server("response.steer.accepted", steer={"previous_response_id": "resp_1"}) == ()
    connection.server("response.incomplete", done("resp_1"))
    [told] = connection.server("response.created", {"id": "resp_2", "previous_response_id": "resp_1"})
    assert told.number == asked.number
    connection.server("response.completed", done("resp_2"))
    assert connection.begun("resp_3") == queued


@pytest.mark.parametrize("kind", ["response.steer.failed", "response.steer.pending"])
def test_steering_that_leads_to_no_response_is_released(kind: str) -> None:
    """When it waits for the next request instead, that one's input can't be known."""
    connection = Connection()
    asked = steered(connection)
    connection.talk.admit(asked.number, 500, None)
    [told] = connection.server(kind, steer={"previous_response_id": "resp_1", "id": "steer_1"})
    assert (told.number, told.ended) == (asked.number, True)
    assert told.unused
    connection.server("response.completed", done("resp_1"))
    further = connection.client(type="response.create", model="gpt-5.5", previous_response_id="resp_1")
    assert isinstance(further, Asks)
    assert further.call.content.opaque is (kind == "response.steer.pending")


def test_steering_what_is_steered_already_is_denied_in_its_own_shape() -> None:
    """With its input, so that the client can send it again (`ResponseSteerFailedEvent`)."""
    connection = Connection()
    asked = steered(connection)
    connection.talk.admit(asked.number, 500, None)
    denied = connection.client(type="response.steer", previous_response_id="resp_1", input="even shorter")
    assert isinstance(denied, Denied)
    event = json.loads(connection.talk.refuse(denied.number, REFUSED, 400))
    assert event["type"] == "response.steer.failed"
    assert event["steer"] == {"previous_response_id": "resp_1", "input": "even shorter"}
    assert event["error"]["type"] == "invalid_request_error"


def test_steering_what_does_not_run_is_the_servers_affair() -> None:
    """It answers that the response is not active."""
    assert isinstance(Connection().client(type="response.steer", previous_response_id="resp_9", input="x"), Free)


# ── anything ──

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(
    "response.create response.steer response.created response.completed response.failed response.output_text.delta "
    "response.output_item.done response.steer.failed response.steer.pending error codex.x".split()
)
NAMES = st.sampled_from(["", "resp_1", "resp_2", "a"])
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "stream_id": NAMES | JSON,
        "previous_response_id": NAMES | JSON,
        "status": st.sampled_from([200, 400, 500]) | JSON,
        "model": st.just("gpt-5.5") | JSON,
        "input": JSON,
        "delta": JSON,
        "item": JSON,
        "steer": st.fixed_dictionaries({"previous_response_id": NAMES}) | JSON,
        "response": st.fixed_dictionaries({"id": NAMES | JSON, "usage": JSON, "output": JSON}) | JSON,
    },
)


@given(st.lists(st.tuples(st.booleans(), EVENTS), max_size=25))
@settings(max_examples=150, deadline=None)
def test_nothing_that_either_side_sends_raises_and_every_request_ends_at_most_once(
    events: list[tuple[bool, dict[str, Any]]],
) -> None:
    """Whatever comes, in whatever order: each number that was asked for is told to be over once at most."""
    connection = Connection()
    known: set[int] = set()
    over: set[int] = set()
    for from_client, event in events:
        data = json.dumps(event).encode()
        if from_client:
            asked = connection.talk.from_client(connection.talk.read(data, is_text=True))
            if isinstance(asked, Asks):
                connection.talk.admit(asked.number, 100, None)
                known.add(asked.number)
            elif isinstance(asked, Denied):
                assert json.loads(connection.talk.refuse(asked.number, REFUSED, 400))
            continue
        for told in connection.talk.from_server(data, is_text=True):
            known |= {told.number} if told.unasked else set()
            assert told.number in known - over
            over |= {told.number} if told.ended else set()
