"""Realtime: what stands set aside, what is asked for, whose event is whose, what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.openai_realtime import REALTIME_SOCKET, RealtimeTalk
from llmcap_addon.wire.openai_realtime_replies import HEADROOM_MS
from llmcap_addon.wire.openai_realtime_session import Conversation
from llmcap_addon.wire.openai_realtime_transcripts import LEAD_MS
from llmcap_addon.wire.openai_realtime_usage import realtime_usage
from llmcap_addon.wire.seen import TOKENS_PER_ITEM
from llmcap_addon.wire.socket import Asks, Denied, Free, Stands, Told

REFUSED = Refusal("spent", 'LLMCap: refused, cap "daily" is spent', "daily", 1, 1, 0, None)
SERVER_VAD = {"type": "server_vad", "create_response": True, "interrupt_response": True}
NO_TURNS: dict[str, Any] = {"audio": {"input": {"turn_detection": None}}}


def _count(_: Call, text: str) -> int:
    return len(text)


def sound(length_ms: int, bytes_per_ms: int = 48) -> str:
    return base64.b64encode(bytes(length_ms * bytes_per_ms)).decode()


def session(turns: Any = SERVER_VAD, transcription: Any = None, kind: str = "audio/pcm", **more: Any) -> dict[str, Any]:
    heard = {"format": {"type": kind}, "turn_detection": turns, "transcription": transcription}
    made = {"format": {"type": kind}, "voice": "marin"}
    base: dict[str, Any] = {
        "type": "realtime",
        "model": "gpt-realtime",
        "max_output_tokens": "inf",
        "tools": [],
        "prompt": None,
    }
    return {**base, "audio": {"input": heard, "output": made}, **more}


class Connection:
    """One connection, both sides of which are the test."""

    def __init__(self, target: Target | None = None, created: dict[str, Any] | None = None, **query: str) -> None:
        request = Request("GET", "api.openai.com", "/v1/realtime", query or {"model": "gpt-realtime"})
        self.talk: RealtimeTalk = REALTIME_SOCKET.open(request, target or Target("openai"), "voice", _count)
        if created is not None:
            self.server("session.created", session=created)

    def client(self, kind: str, **event: Any) -> Free | Asks | Denied:
        data = json.dumps({"type": kind, **event}).encode()
        return self.talk.from_client(self.talk.read(data, is_text=True))

    def say(self, length_ms: int = 100) -> None:
        assert isinstance(self.client("input_audio_buffer.append", audio=sound(length_ms)), Free)

    def stand(self, limit: int = 4_096) -> list[Stands]:
        """Admit all that is to stand."""
        found = []
        while stands := self.talk.stand():
            found.append(stands)
            assert self.talk.admit(stands.number, limit, None) == b""
        return found

    def create(self, **response: Any) -> Asks:
        asked = self.client("response.create", response=response)
        assert isinstance(asked, Asks)
        self.talk.admit(asked.number, 4_096, None)
        return asked

    def server(self, kind: str, **fields: Any) -> tuple[Told, ...]:
        return self.talk.from_server(json.dumps({"type": kind, **fields}).encode(), is_text=True)

    def created(self, name: str = "resp_1", **fields: Any) -> Told:
        response = {"id": name, "conversation_id": "conv_1", "metadata": None, **fields}
        [told] = self.server("response.created", response=response)
        return told

    def done(self, name: str = "resp_1", inputs: int = 100, outputs: int = 20, **fields: Any) -> Told:
        usage = {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}
        [told] = self.server("response.done", response={"id": name, "status": "completed", "usage": usage, **fields})
        return told


def heard_ms(call: Call) -> int:
    return sum(part.size_bytes for part in call.content.media if part.kind == "audio") * 1000 // 750


# ── what stands ──


def test_before_any_sound_nothing_stands() -> None:
    """A client that only writes is asked for each response, not for what might come."""
    one = Connection(created=session())
    assert isinstance(
        one.client("conversation.item.create", item={"type": "function_call_output", "output": "x"}), Free
    )
    assert one.stand() == []


def test_from_the_first_sound_on_the_next_response_stands() -> None:
    """Bounded by all that was said with a minute to spare, the prompt and the session's own limit."""
    one = Connection(created=session(instructions="Be kind.", max_output_tokens=500))
    one.say(100)
    [stands] = one.stand()
    assert (stands.call.max_output_tokens, stands.call.editable, stands.billed_at_once) == (500, False, False)
    assert stands.call.content.texts == ("Be kind.",)
    assert 100 + HEADROOM_MS <= heard_ms(stands.call) <= 102 + HEADROOM_MS
    for _ in range(HEADROOM_MS // 1_000 + 1):
        one.say(1_000)
    [grown] = one.stand()
    assert grown.number == stands.number
    assert heard_ms(grown.call) > 2 * HEADROOM_MS


@pytest.mark.parametrize(
    ("turns", "stands"),
    [
        (None, False),
        ({"type": "server_vad", "create_response": False, "interrupt_response": False}, False),
        ({"type": "server_vad", "create_response": False}, True),
        ({"type": "semantic_vad"}, True),
    ],
)
def test_what_detects_turns_decides(turns: Any, stands: bool) -> None:
    """Only where the server will never begin a response nothing stands."""
    one = Connection(created=session(turns))
    one.say()
    assert bool(one.stand()) is stands


def test_beta_sessions_are_read_too() -> None:
    """Their settings stand at the top."""
    one = Connection(
        created={"model": "gpt-4o-realtime-preview", "turn_detection": None, "input_audio_format": "pcm16"}
    )
    one.say()
    assert one.stand() == []
    one.client("session.update", session={"turn_detection": {"type": "server_vad"}, "max_response_output_tokens": 9})
    assert len(one.stand()) == 1


def test_an_offered_change_makes_nothing_cheaper_before_the_server_agrees() -> None:
    """Turns off, a lower limit: they count from the server's word on; then what stood is given back."""
    one = Connection(created=session())
    one.say()
    [before] = one.stand()
    one.client("session.update", session={**NO_TURNS, "max_output_tokens": 10})
    assert [stands.call.max_output_tokens for stands in one.stand()] == []
    [released] = one.server("session.updated", session=session(None, max_output_tokens=10))
    assert (released.number, released.ended, released.unused != "") == (before.number, True, True)
    one.say()
    assert one.stand() == []


def test_an_offered_change_that_is_dearer_counts_at_once() -> None:
    """Turns on, no limit, one byte a sample."""
    one = Connection(created=session(None, max_output_tokens=10))
    one.client("session.update", session={"max_output_tokens": "inf", "audio": {"input": {
        "turn_detection": SERVER_VAD, "format": {"type": "audio/pcmu"}}}})  # fmt: skip
    one.say(100)
    [stands] = one.stand()
    assert stands.call.max_output_tokens is None
    assert heard_ms(stands.call) >= 600 + HEADROOM_MS


def test_an_idle_timeout_needs_no_sound() -> None:
    """The server may prompt the user before anything was said."""
    one = Connection(created=session({**SERVER_VAD, "idle_timeout_ms": 6_000}))
    one.client("session.update", session={"type": "realtime"})
    assert len(one.stand()) == 1


def test_each_response_is_renewed_and_the_next_reads_what_it_was_billed_for() -> None:
    """The usage of one bounds the next; what was said meanwhile comes on top."""
    one = Connection(created=session())
    one.say(3_000)
    [first] = one.stand()
    one.server("input_audio_buffer.speech_stopped", audio_end_ms=3_000)
    one.server("input_audio_buffer.committed", item_id="item_1")
    assert one.created().number == first.number
    one.say(500)
    assert one.stand() == []
    told = one.done(inputs=300, outputs=40)
    assert (told.number, told.ended, told.reading.final) == (first.number, True, True)
    [second] = one.stand()
    assert second.number != first.number
    assert second.call.content.known_tokens == 340 + TOKENS_PER_ITEM
    assert 500 + LEAD_MS + HEADROOM_MS <= heard_ms(second.call) <= 502 + LEAD_MS + HEADROOM_MS


def test_a_response_without_usage_counts_at_its_limit() -> None:
    """For the conversation that the next one reads."""
    one = Connection(created=session())
    one.say(1_000)
    one.stand(limit=777)
    one.created()
    one.server("response.output_audio.delta", response_id="resp_1", delta=sound(100))
    [told] = one.server("response.done", response={"id": "resp_1", "status": "failed", "usage": None})
    assert (told.ended, told.reading.final, told.reading.failed) == (True, False, True)
    assert (told.reading.counted_output_tokens, told.reading.counted_at_usage) == (2 + TOKENS_PER_ITEM, 0)
    [second] = one.stand()
    assert second.call.content.known_tokens == 777 + TOKENS_PER_ITEM
    assert heard_ms(second.call) >= 1_000 + HEADROOM_MS


def test_a_response_may_begin_before_it_stands() -> None:
    """The server was faster than the ledger: it is told under the number that stands next."""
    one = Connection(created=session())
    one.say()
    one.stand()
    one.created()
    one.done()
    early = one.created("resp_2")
    assert early.unasked is None
    stands = one.talk.stand()
    assert stands is not None
    assert stands.number == early.number
    one.talk.admit(stands.number, 4_096, None)
    assert one.stand() == []
    assert one.done("resp_2").number == early.number


def test_a_response_may_begin_while_what_stands_grows() -> None:
    """What is admitted then is nothing any more."""
    one = Connection(created=session())
    one.say()
    one.stand()
    one.client("conversation.item.create", item={"type": "function_call_output", "output": "x"})
    grown = one.talk.stand()
    assert grown is not None
    assert one.created().number == grown.number
    assert one.talk.admit(grown.number, 4_096, None) == b""
    assert one.stand() == []


@pytest.mark.parametrize(("model", "shown"), [("gpt-realtime-mini", True), ("gpt-realtime-2.1", False), ("x", False)])
def test_only_models_that_do_not_reason_show_all_that_they_bill(model: str, shown: bool) -> None:
    """What others thought unseen is posted from above when a response breaks off."""
    one = Connection(created=session(None, model=model), model=model)
    one.create()
    assert (one.created().reading.counted_at_usage == 0) is shown


def test_what_is_refused_to_stand_begins_nothing_any_more() -> None:
    """The client is told, sound is taken back, and a response all the same is one that nobody asked for."""
    one = Connection(created=session())
    one.say()
    stands = one.talk.stand()
    assert stands is not None
    event = json.loads(one.talk.refuse(stands.number, REFUSED, 400))
    assert (event["type"], event["error"]["code"], event["error"]["event_id"]) == ("error", "llmcap_cap_spent", None)
    assert json.loads(one.talk.quiet()) == {"type": "input_audio_buffer.clear"}
    told = one.created()
    assert told.unasked is not None
    assert told.unasked.content.media


def test_a_session_without_a_limit_is_limited_to_what_fits() -> None:
    """By an update in the client's name, which counts for all that comes; the client's own word takes it back."""
    one = Connection(created=session())
    one.say()
    stands = one.talk.stand()
    assert stands is not None
    assert stands.call.editable
    frame = json.loads(one.talk.admit(stands.number, 2_000, 2_000))
    assert frame == {"type": "session.update", "session": {"type": "realtime", "max_output_tokens": 2_000}}
    assert one.created("resp_0", max_output_tokens="inf").unasked is not None  # from before it was limited
    one.done("resp_0")
    one.server("session.updated", session=session(max_output_tokens=2_000))
    assert one.created(max_output_tokens=2_000).number == stands.number
    one.done()
    [following] = one.stand()
    assert (following.call.max_output_tokens, following.call.editable) == (2_000, False)
    one.client("session.update", session={"max_output_tokens": "inf"})
    assert [stands.call.max_output_tokens for stands in one.stand()] == [None]


def test_a_limit_of_ours_that_is_taken_back_before_it_is_in_force_is_set_aside() -> None:
    """The client's own word goes out behind ours: what stands grows to what the model may say."""
    one = Connection(created=session())
    one.say()
    stands = one.talk.stand()
    assert stands is not None
    one.talk.admit(stands.number, 2_000, 2_000)
    one.stand()
    one.client("session.update", session={"type": "realtime", "max_output_tokens": "inf"})
    assert [(grown.number, grown.call.max_output_tokens) for grown in one.stand()] == [(stands.number, None)]


def test_a_beta_session_is_limited_by_the_name_it_knows() -> None:
    """At most 4,096, which is what it takes."""
    one = Connection(created={"model": "gpt-realtime", "turn_detection": {"type": "server_vad"}})
    one.say()
    stands = one.talk.stand()
    assert stands is not None
    frame = json.loads(one.talk.admit(stands.number, 9_000, 9_000))
    assert frame == {"type": "session.update", "session": {"max_response_output_tokens": 4_096}}


def test_without_turns_a_response_that_nobody_asked_for_is_told() -> None:
    """Bounded by the conversation."""
    one = Connection(created=session(None))
    told = one.created()
    assert told.unasked is not None
    assert told.unasked.model == "gpt-realtime"


def test_tools_at_the_server_make_the_conversation_unknown() -> None:
    """What MCP servers answer is input that no frame of the client's shows."""
    one = Connection(created=session(None, tools=[{"type": "mcp", "server_label": "x"}]))
    one.say()
    [stands] = one.stand()
    assert stands.call.content.opaque


# ── what is asked for ──


def test_a_request_reads_the_conversation_or_its_own_input() -> None:
    """With instructions and a limit of its own; a reference stands for the conversation."""
    one = Connection(created=session(None, instructions="Be kind."))
    one.client("conversation.item.create", item={
        "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello there"}]})  # fmt: skip
    whole = one.create(instructions="Shout.", max_output_tokens=70)
    assert whole.call.content.texts == ("Be kind.", "Hello there", "Shout.")
    assert (whole.call.max_output_tokens, whole.call.editable, whole.call.hidden_output_tokens) == (70, True, None)
    own: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    assert one.create(conversation="none", input=own).call.content.texts == ("Hi",)
    assert one.create(input=[*own, {"type": "item_reference", "id": "x"}]).call.content.texts[-1] == "Hi"
    assert len(one.create(input=[*own, {"type": "item_reference", "id": "x"}]).call.content.texts) == 3


def written(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def test_what_is_added_behind_a_request_is_left_for_the_next() -> None:
    """The server says that it begins later than the client has said more; sound that no item holds is left too."""
    one = Connection(created=session(None))
    one.client("conversation.item.create", item=written("first"))
    one.say(1_000)
    one.client("input_audio_buffer.commit")
    one.say(2_000)
    assert one.create().call.content.texts == ("first",)
    one.client("conversation.item.create", item=written("second"))
    one.created()
    one.done(inputs=50, outputs=5)
    call = one.create().call
    content = call.content
    assert (content.texts, content.known_tokens) == (("second",), 55 + TOKENS_PER_ITEM)
    assert 2_000 <= heard_ms(call) <= 2_002


def test_what_the_server_may_not_have_had_is_left_for_the_next_turn() -> None:
    """Where it begins by itself: what is written after it heard speech begin, and sound from where that ended on."""
    one = Connection(created=session())
    one.client("conversation.item.create", item=written("first"))
    one.say(5_000)
    one.stand()
    one.server("input_audio_buffer.speech_started", audio_start_ms=500)
    one.client("conversation.item.create", item=written("second"))
    one.server("input_audio_buffer.speech_stopped", audio_end_ms=4_000)
    one.server("input_audio_buffer.committed", item_id="item_1")
    one.client("conversation.item.create", item=written("third"))
    one.stand()
    one.created()
    one.done(inputs=50, outputs=5)
    [stands] = one.stand()
    assert stands.call.content.texts == ("second", "third")
    assert 1_000 + LEAD_MS + HEADROOM_MS <= heard_ms(stands.call) <= 1_002 + LEAD_MS + HEADROOM_MS


@given(st.lists(st.sampled_from(["item", "sound", "ask", "begin", "heard", "end"]), max_size=120))
def test_a_conversation_never_forgets_what_no_response_has_read(steps: list[str]) -> None:
    """However many are asked for and begin: what came behind a request is there until one that was asked for later."""
    conversation = Conversation()
    asked: list[tuple[int, int]] = []
    said = ended = running = 0
    for step in steps:
        if step == "item":
            said += 1
            conversation.add(Content(texts=(str(said),), messages=1))
        elif step == "sound":
            conversation.add(Content(), 10)
        elif step == "ask":
            asked.append((conversation.mark(5), said))
        elif step == "heard":
            asked.append((conversation.mark(0, asked[-1][0] if asked else 0), asked[-1][1] if asked else 0))
        elif step == "begin" and asked:
            mark, running = asked.pop(0)
            conversation.begin(mark)
        elif step == "end" and running:
            conversation.end(Usage(input_tokens=1), 0)
            ended = max(ended, running)
        assert {str(one) for one in range(ended + 1, said + 1)} <= set(conversation.content().texts)


def test_pictures_sound_and_unknown_parts_are_bounded() -> None:
    """A picture by its size and by tiles, sound by its length; what is not understood may be anything."""
    one = Connection(created=session(None))
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    content = [image, {"type": "input_audio", "audio": sound(2_000)}]
    one.client("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    call = one.create().call
    assert [part.kind for part in call.content.media] == ["image", "audio"]
    assert (heard_ms(call) >= 2_000, call.content.known_tokens > 1_400, call.content.opaque) == (True, True, False)
    one.client("conversation.item.create", item={"type": "message", "content": [{"type": "video", "x": 1}]})
    assert one.create().call.content.opaque
    stored = Connection(created=session(None, prompt={"id": "pmpt_1"}))
    assert stored.create().call.content.opaque


def test_a_shortened_request_says_so_in_its_frame() -> None:
    """Where it can be stated: at most 4,096; the event gets a name by which an error can name it."""
    one = Connection(created=session(None))
    asked = one.client("response.create", response={"instructions": "x"})
    assert isinstance(asked, Asks)
    sent = json.loads(one.talk.admit(asked.number, 9_000, 9_000))
    assert sent["response"] == {"instructions": "x", "max_output_tokens": 4_096}
    assert sent["event_id"]
    plain = one.client("response.create", event_id="mine")
    assert isinstance(plain, Asks)
    assert json.loads(one.talk.admit(plain.number, 9_000, None)) == {"type": "response.create", "event_id": "mine"}


def test_an_error_that_names_a_request_releases_it() -> None:
    """By the client's id, or the one that we gave it; an error about something else releases nothing."""
    one = Connection(created=session(None))
    asked = one.client("response.create")
    assert isinstance(asked, Asks)
    sent = json.loads(one.talk.admit(asked.number, 100, None))
    assert one.server("error", error={"message": "odd", "event_id": None}) == ()
    [told] = one.server("error", error={"message": "busy", "event_id": sent["event_id"]})
    assert (told.number, told.ended, told.unused) == (asked.number, True, "the server refused to begin it")


def test_responses_at_once_are_told_apart() -> None:
    """By what marks them: metadata, whether they are added to the conversation, their limit."""
    one = Connection(created=session())
    one.say()
    [stands] = one.stand()
    apart = one.create(conversation="none", metadata={"topic": "a"})
    short = one.create(max_output_tokens=10)
    assert one.created("resp_a", conversation_id=None, metadata={"topic": "a"}).number == apart.number
    assert one.created("resp_v", max_output_tokens="inf").number == stands.number
    assert one.created("resp_s", max_output_tokens=10).number == short.number
    [told] = one.server("response.output_text.delta", response_id="resp_a", delta="four")
    assert (told.number, told.reading.counted_output_tokens) == (apart.number, 4)
    assert one.done("resp_a").number == apart.number
    assert one.server("response.output_text.delta", response_id="resp_a", delta="late") == ()


# ── transcripts ──


def test_a_transcript_stands_apart_and_is_its_own_models_work() -> None:
    """It begins when sound is committed and ends with a usage of its own; the next one stands for what is left."""
    one = Connection(created=session(None, {"model": "gpt-4o-transcribe"}))
    one.say(3_000)
    [stands] = one.stand()
    assert (stands.call.model, stands.call.dialect) == ("gpt-4o-transcribe", "openai.realtime.transcription")
    assert (stands.call.unit_bound, stands.billed_at_once) == (Usage(), False)
    one.client("input_audio_buffer.commit")
    [begun] = one.server("input_audio_buffer.committed", item_id="item_1")
    assert (begun.number, begun.ended, begun.unasked) == (stands.number, False, None)
    assert one.stand() == []
    one.server("conversation.item.input_audio_transcription.delta", item_id="item_1", delta="hey")
    usage = {"type": "tokens", "input_tokens": 30, "output_tokens": 5, "total_tokens": 35}
    usage_told = {**usage, "input_token_details": {"audio_tokens": 30}}
    kind = "conversation.item.input_audio_transcription.completed"
    [told] = one.server(kind, item_id="item_1", transcript="hey", usage=usage_told)
    assert (told.number, told.ended, told.reading.counted_output_tokens) == (stands.number, True, 3)
    assert told.reading.usage == Usage(input_tokens=30, output_tokens=5, input_audio_tokens=30)
    assert one.server(kind, item_id="item_1", usage=usage_told) == ()
    one.say(100)
    [following] = one.stand()
    assert 100 <= heard_ms(following.call) - HEADROOM_MS <= 102


def test_a_failed_transcript_ends_without_a_usage() -> None:
    """So it is posted from above."""
    one = Connection(created=session(None, {"model": "whisper-1"}))
    one.say(3_000)
    [stands] = one.stand()
    assert stands.call.unit_bound.input_audio_ms >= 3_000 + HEADROOM_MS
    one.server("input_audio_buffer.committed", item_id="item_1")
    kind = "conversation.item.input_audio_transcription.failed"
    [told] = one.server(kind, item_id="item_1", error={"message": "no"})
    assert (told.ended, told.reading.final, told.reading.failed) == (True, False, True)


def test_what_a_model_writes_while_it_listens_is_billed_from_the_first_sound_on() -> None:
    """Whether anything is committed or not."""
    one = Connection(created=session(None, {"model": "gpt-live-transcribe"}))
    one.say()
    [stands] = one.stand()
    assert stands.billed_at_once


def test_a_session_that_only_transcribes_answers_nothing() -> None:
    """Whatever detects turns; and a response can't be asked for."""
    one = Connection(intent="transcription")
    one.server(
        "session.created", session={"type": "transcription", "audio": {"input": {
            "turn_detection": SERVER_VAD, "transcription": {"model": "whisper-1"}}}},
    )  # fmt: skip
    one.say()
    assert [stands.call.model for stands in one.stand()] == ["whisper-1"]
    assert isinstance(one.client("response.create"), Denied)


@pytest.mark.parametrize("kind", [{"type": "transcription"}, {"object": "realtime.transcription_session"}])
def test_a_session_only_transcribes_once_the_server_says_so(kind: dict[str, Any]) -> None:
    """A client that says so, whether the server takes it or not, still has a response set aside before its sound."""
    one = Connection(created=session())
    assert isinstance(one.client("session.update", session=kind), Free)
    one.say()
    assert [stands.call.model for stands in one.stand()] == ["gpt-realtime"]
    one.server("session.updated", session=kind)
    assert isinstance(one.client("response.create"), Denied)
    one.client("session.update", session=kind)
    one.client("session.update", session={"type": "realtime"})
    one.server("session.updated", session=kind)  # in answer to the one before
    assert isinstance(one.client("response.create"), Asks)


def test_what_is_taken_back_before_it_is_admitted_is_given_back() -> None:
    """The client turns the detection off while the ledger is asked."""
    one = Connection(created=session())
    one.say()
    stands = one.talk.stand()
    assert stands is not None
    [told] = one.server("session.updated", session=session(None))
    assert (told.number, told.ended, bool(told.unused)) == (stands.number, True, True)
    assert one.talk.admit(stands.number, 4_096, None) == b""
    assert one.stand() == []


def test_a_transcript_that_nobody_expects_is_told() -> None:
    """After a refusal nothing may begin."""
    one = Connection(created=session(None, {"model": "whisper-1"}))
    one.say()
    stands = one.talk.stand()
    assert stands is not None
    one.talk.refuse(stands.number, REFUSED, 400)
    [told] = one.server("input_audio_buffer.committed", item_id="item_1")
    assert told.unasked is not None
    assert told.unasked.model == "whisper-1"


# ── what is not metered ──


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"model": "gpt-realtime-translate"}, "by the time"),
        ({"model": "gpt-live-1"}, "by the time"),
        ({"call_id": "rtc_1"}, "WebRTC or SIP"),
    ],
)
def test_what_can_not_be_bounded_is_not_opened(query: dict[str, str], why: str) -> None:
    """Sessions billed by their length, and calls that run elsewhere."""
    with pytest.raises(UnreadableRequest, match=why):
        REALTIME_SOCKET.open(Request("GET", "api.openai.com", "/v1/realtime", query), Target("openai"), "", _count)


def test_a_secret_may_have_set_another_model() -> None:
    """The server names it; one that is billed by time ends the connection, a snapshot is the model asked for."""
    snapshot = Connection(created=session(None, model="gpt-realtime-2025-08-28"))
    assert snapshot.create().call.model == "gpt-realtime"
    whole = Connection(created=session(None, model="gpt-4o-realtime-preview"))
    assert whole.create().call.model == "gpt-4o-realtime-preview"
    timed = Connection(created=session(None, model="gpt-live-1"))
    denied = timed.client("response.create")
    assert isinstance(denied, Denied)
    assert denied.close_code == 1008


def test_at_azure_the_deployment_stands_in_the_query() -> None:
    """`hosts:` says what is behind it; else the model is unknown until the server names it."""
    target = Target("azure", models={"my-voice": "gpt-realtime"})
    one = Connection(target, created=session(None, model="something"), deployment="My-Voice")
    assert one.create().call.model == "gpt-realtime"
    own = Connection(Target("azure", "my-voice"), created=session(None), deployment="x")
    assert own.create().call.model == "my-voice"


@pytest.mark.parametrize(
    ("frame", "kind", "close_code"),
    [
        (b'{"type":"session.surprise"}', "unmetered", 0),
        (b'{"type":7}', "unmetered", 0),
        (b'{"type":{}}', "unmetered", 0),
        (b'{"type":"session.update","session":{"type":"translation"}}', "unmetered", 0),
        (b"[]", "unreadable", 1007),
        (b"{", "unreadable", 1007),
    ],
)
def test_what_is_not_understood_does_not_go_on(frame: bytes, kind: str, close_code: int) -> None:
    """It is answered by an error event."""
    talk = Connection(created=session()).talk
    denied = talk.from_client(talk.read(frame, is_text=True))
    assert isinstance(denied, Denied)
    assert (denied.kind, denied.close_code) == (kind, close_code)
    assert json.loads(talk.refuse(denied.number, REFUSED, 400))["type"] == "error"
    binary = talk.from_client(talk.read(b"x", is_text=False))
    assert isinstance(binary, Denied)
    assert binary.close_code == 1003


def test_a_refused_request_is_named_by_its_own_id() -> None:
    """A cut response is told by an error too; there is no other event for it."""
    one = Connection(created=session(None))
    asked = one.client("response.create", event_id="mine")
    assert isinstance(asked, Asks)
    event = json.loads(one.talk.refuse(asked.number, REFUSED, 400))
    assert event["error"] == {
        "type": "insufficient_quota",
        "code": "llmcap_cap_spent",
        "message": REFUSED.message,
        "param": None,
        "event_id": "mine",
    }
    assert json.loads(one.talk.cut(3, REFUSED))["error"]["message"] == REFUSED.message


def test_what_can_not_be_read_makes_all_that_runs_unreadable() -> None:
    """So that it is posted as reserved."""
    one = Connection(created=session())
    one.say()
    [stands] = one.stand()
    one.created()
    [told] = one.talk.from_server(b"\xff", is_text=False)
    assert (told.number, told.reading.unreadable != "") == (stands.number, True)


# ── usage ──


def test_what_a_usage_does_not_tell_apart_is_the_dearest() -> None:
    """Input and output as sound, cached input as text; totals that are larger than their parts count."""
    bare = realtime_usage({"input_tokens": 100, "output_tokens": 20, "total_tokens": 125})
    assert bare == Usage(input_tokens=100, output_tokens=25, input_audio_tokens=100, output_audio_tokens=25)
    details = {"text_tokens": 60, "cached_tokens": 50}
    told = realtime_usage({"input_tokens": 100, "output_tokens": 20, "input_token_details": details})
    assert told is not None
    assert (told.input_audio_tokens, told.cache_read_tokens, told.cache_read_audio_tokens) == (40, 50, 0)
    assert realtime_usage(None) is realtime_usage({"input_tokens": None}) is None


@pytest.mark.parametrize(
    "raw",
    [
        {"input_tokens": 5},
        {"input_tokens": -5, "output_tokens": 1},
        {"input_tokens": 5, "output_tokens": True},
        {"input_tokens": 5, "output_tokens": 1, "input_token_details": {"audio_tokens": 9}},
        {"input_tokens": 5, "output_tokens": 1, "input_token_details": []},
    ],
)
def test_a_usage_that_is_not_sane_is_not_believed(raw: Any) -> None:
    """The response is then unreadable, and posted from above."""
    with pytest.raises(ValueError, match=r"."):
        realtime_usage(raw)
    one = Connection(created=session(None))
    one.create()
    one.created()
    [told] = one.server("response.done", response={"id": "resp_1", "usage": raw})
    assert told.ended
    assert not told.reading.final


EVENTS = st.sampled_from(
    "session.created session.updated response.created response.done response.output_audio.delta error "
    "input_audio_buffer.committed input_audio_buffer.speech_stopped conversation.item.create response.create "
    "input_audio_buffer.append input_audio_buffer.commit session.update "
    "conversation.item.input_audio_transcription.completed conversation.item.input_audio_transcription.delta".split()
)
KEYS = st.sampled_from(
    "id type session response audio input output item content usage model turn_detection transcription format tools "
    "metadata conversation max_output_tokens delta response_id item_id event_id error input_tokens output_tokens "
    "input_token_details cached_tokens text image_url audio_end_ms instructions prompt".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), EVENTS, st.dictionaries(KEYS, JSON, max_size=5)), max_size=12))
def test_no_frame_raises(frames: list[tuple[bool, str, dict[str, Any]]]) -> None:
    """Whatever either side sends, every frame is passed, asked for or refused, and every number is known."""
    one = Connection(created=session(transcription={"model": "whisper-1"}))
    for from_client, kind, fields in frames:
        if not from_client:
            one.server(kind, **{key: value for key, value in fields.items() if key != "type"})
            one.stand()
            continue
        asked = one.client(kind, **{key: value for key, value in fields.items() if key != "type"})
        one.stand()
        if isinstance(asked, Asks):
            json.loads(one.talk.admit(asked.number, 100, 100))
        elif isinstance(asked, Denied):
            json.loads(one.talk.refuse(asked.number, REFUSED, 400))
