"""Google's Live sessions: what is set aside for which turn, and which message is about which."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.google_live import LIVE, NOT_JSON, POLICY
from llmcap_addon.wire.google_live_meter import read_usage
from llmcap_addon.wire.google_live_request import OUTPUT_TOKENS, STEP_TOKENS, WINDOW_TOKENS
from llmcap_addon.wire.routes import classify
from llmcap_addon.wire.socket import Asks, Denied, Free, Told

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
MODEL = "models/gemini-3.8-live"
REFUSED = Refusal("spent", 'LLMCap: refused, cap "daily" is spent', "daily", 1, 1, 0, None)
PRICES = Prices.load(now_ms=lambda: 1_795_435_200_000)
SOUND = base64.b64encode(bytes(3_200)).decode()
MIC = {"realtimeInput": {"audio": {"mimeType": "audio/pcm;rate=16000", "data": SOUND}}}
TEXT = {"clientContent": {"turns": [{"role": "user", "parts": [{"text": "hello"}]}], "turnComplete": True}}
SPOKEN = {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": SOUND}}]}}}
OVER = {"serverContent": {"turnComplete": True}}


def bill(prompt: int = 100, answer: int = 10, **fields: Any) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": prompt, "responseTokenCount": answer, **fields}}


class Connection:
    """One connection, both sides of which are the test."""

    def __init__(self, path: str = PATH, provider: str = "google") -> None:
        request = Request("GET", "generativelanguage.googleapis.com", path)
        self.talk = LIVE.open(request, Target(provider), "genai", lambda _, text: len(text))
        self.set_aside: dict[int, Call] = {}

    def client(self, event: dict[str, Any] | bytes, *, is_text: bool = True) -> Free | Asks | Denied:
        """Send a message; what it asks for, and what must stand beside it, is admitted."""
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        asked = self.talk.from_client(self.talk.read(data, is_text=is_text))
        self.stand()
        if isinstance(asked, Asks):
            self.set_aside[asked.number] = asked.call
            assert self.talk.admit(asked.number, 1_000, None) == data
        return asked

    def stand(self) -> None:
        while stands := self.talk.stand():
            self.set_aside[stands.number] = stands.call
            assert self.talk.admit(stands.number, 1_000, None) == b""

    def setup(self, model: str = MODEL, **fields: Any) -> Connection:
        assert self.client({"setup": {"model": model, **fields}}) == Free()
        return self

    def asks(self, event: dict[str, Any] = TEXT) -> Asks:
        asked = self.client(event)
        assert isinstance(asked, Asks)
        return asked

    def server(self, *events: dict[str, Any]) -> list[Told]:
        told: list[Told] = []
        for event in events:
            told += self.talk.from_server(json.dumps(event).encode(), is_text=False)
        return told


def input_bound(call: Call) -> int:
    return PRICES.quote(call).input_tokens


@pytest.mark.parametrize(
    ("host", "path", "kind"),
    [
        ("generativelanguage.googleapis.com", f"/{PATH}", "socket"),  # two slashes, as the SDK writes it
        ("generativelanguage.googleapis.com", f"{PATH.replace('v1beta', 'v1alpha')}Constrained", "socket"),
        ("generativelanguage.googleapis.com", PATH.replace("Content", "Music"), "socket"),
        ("aiplatform.googleapis.com", "//ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", "socket"),
        ("us-central1-aiplatform.googleapis.com", "/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent", "socket"),
        ("aiplatform.googleapis.com", PATH, "unmetered"),
        ("generativelanguage.googleapis.com", "/ws/google.ai.generativelanguage.v1beta.Other.BidiGenerateContent", "unmetered"),
    ],
)  # fmt: skip
def test_which_websockets_are_lives(host: str, path: str, kind: str) -> None:
    """Of both APIs, under each version and in each region; what is new stays unmetered."""
    route = classify(Request("GET", host, path, headers={"upgrade": "websocket"}), {})
    assert route.kind == kind
    assert (route.dialect_name == LIVE.name) is (kind == "socket")


# ── the setup ──


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("models/gemini-3.8-live", "google", "gemini-3.8-live"),
        ("gemini-3.8-live", "google", "gemini-3.8-live"),
        ("tunedModels/mine", "google", "tunedModels/mine"),
        ("projects/p/locations/l/publishers/google/models/gemini-live-2.5-flash", "vertex", "gemini-live-2.5-flash"),
        ("publishers/google/models/gemini-live-2.5-flash", "vertex", "gemini-live-2.5-flash"),
        ("projects/p/locations/l/endpoints/12", "vertex", "endpoints/12"),
    ],
)
def test_a_turn_is_a_call_to_the_model_of_the_setup(model: str, provider: str, name: str) -> None:
    """Under its bare name, never edited, its whole answer hidden until it is billed."""
    call = Connection(provider=provider).setup(model).asks().call
    assert (call.dialect, call.provider, call.model) == ("google.live", provider, name)
    assert (call.streamed, call.editable, call.hidden_output_tokens, call.client) == (True, False, None, "genai")


@pytest.mark.parametrize(
    "first",
    [
        TEXT,
        MIC,
        {},
        {"setup": {}},
        {"setup": {"model": 7}},
        {"setup": "x"},
        {"setup": {"model": MODEL, "avatarConfig": {"avatarName": "a"}}},
        {"setup": {"model": MODEL, "generationConfig": {"maxOutputTokens": "many"}}},
        {"setup": {"model": MODEL}, "clientContent": TEXT["clientContent"]},
        {"setup": {"model": MODEL, "generationConfig": {}, "generation_config": {}}},
    ],
)
def test_what_sets_no_session_up_ends_the_connection(first: dict[str, Any]) -> None:
    """Nothing is metered by guess; the reason is told with the close code."""
    denied = Connection().client(first)
    assert isinstance(denied, Denied)
    assert (denied.kind, denied.close_code) == ("unreadable", POLICY)


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"\xff", b'{"setup":{},"setup_":NaN}', b"[" * 100_000])
def test_what_is_no_json_ends_the_connection(frame: bytes) -> None:
    """Before the setup and after it."""
    for connection in (Connection(), Connection().setup()):
        denied = connection.client(frame)
        assert isinstance(denied, Denied)
        assert denied.close_code in (NOT_JSON, POLICY)


def test_a_second_setup_ends_the_connection() -> None:
    """It might name another model."""
    denied = Connection().setup().client({"setup": {"model": "models/gemini-2.5-pro"}})
    assert isinstance(denied, Denied)
    assert denied.close_code == POLICY


def test_json_in_binary_frames_is_the_same() -> None:
    """Either side may send it so."""
    connection = Connection()
    assert connection.client({"setup": {"model": MODEL}}, is_text=False) == Free()
    assert isinstance(connection.client(TEXT, is_text=False), Asks)


def test_music_and_field_masks_are_refused() -> None:
    """One is not counted by anybody here, the other takes out what is counted by."""
    music = PATH.replace("Content", "Music")
    for path, query in ((music, {}), (music.replace("M", "%4D"), {}), (PATH, {"$fields": "serverContent"})):
        with pytest.raises(UnreadableRequest):
            LIVE.open(Request("GET", "h", path, query), Target("google"), "", lambda _, text: len(text))


@pytest.mark.parametrize(
    ("path", "query", "headers"),
    [
        (f"{PATH}Constrained", {}, {}),
        (f"{PATH}Constrai%6Eed", {}, {}),
        (PATH, {"access_token": "auth_tokens/1"}, {}),
        (PATH, {}, {"authorization": "Token auth_tokens/1"}),
    ],
)
def test_the_model_of_an_ephemeral_token_is_not_told(path: str, query: dict[str, str], headers: dict[str, str]) -> None:
    """Its constraints go before the setup, so it is priced as the dearest, with a whole window."""
    connection = Connection()
    request = Request("GET", "generativelanguage.googleapis.com", path, query, headers)
    connection.talk = LIVE.open(request, Target("google"), "", lambda _, text: len(text))
    call = connection.setup(generationConfig={"maxOutputTokens": 5}).asks().call
    assert (call.model, call.max_output_tokens) == ("", None)
    assert call.content.opaque
    assert call.content.web_searches == call.unit_bound.maps_requests == DEFAULT_SERVER_TURNS
    assert PRICES.quote(call).assumed


# ── the bound ──


def test_a_turn_is_bounded_by_what_its_session_holds() -> None:
    """In steps; the answer by the setup's limit, else by the longest that any Live model gives."""
    call = Connection().setup().asks().call
    quote = PRICES.quote(call)
    assert STEP_TOKENS <= quote.input_tokens < 2 * STEP_TOKENS
    assert quote.output_tokens == OUTPUT_TOKENS
    limited = Connection().setup(generation_config={"max_output_tokens": 500}).asks().call
    assert PRICES.quote(limited).output_tokens == 500
    assert quote.amount(0) >= quote.input_tokens * 3_000  # as sound


def test_the_bound_grows_with_the_session() -> None:
    """By what the client adds, from above, and again from what the bill says it holds; up to the window."""
    connection = Connection().setup()
    long = {"clientContent": {"turns": [{"parts": [{"text": "x" * 9_000}]}], "turnComplete": True}}
    first = connection.asks(long)
    assert input_bound(first.call) >= 9_000
    connection.server(SPOKEN, {**OVER, **bill(40_000, 2_000)})
    assert 42_000 <= input_bound(connection.asks().call) <= 42_000 + 9_000 + 2 * STEP_TOKENS
    connection.server(SPOKEN, {**OVER, **bill(131_000, 2_000)})
    assert input_bound(connection.asks().call) == WINDOW_TOKENS


@pytest.mark.parametrize(
    "event",
    [
        {"realtimeInput": {"video": {"mimeType": "image/jpeg", "data": SOUND}}},
        {"realtimeInput": {"audio": {"mimeType": "audio/opus", "data": SOUND}}},
        {"realtimeInput": {"audio": {"mimeType": "audio/pcm;rate=400", "data": SOUND}}},
        {"realtimeInput": {"mediaChunks": [{"mimeType": "image/png", "data": SOUND}]}},
        {"clientContent": {"turns": [{"parts": [{"fileData": {"fileUri": "gs://x"}}]}]}},
        {"toolResponse": {"functionResponses": [{"id": "1", "response": {}, "parts": [{"inlineData": {}}]}]}},
    ],
)
def test_what_has_no_known_size_makes_it_the_whole_window(event: dict[str, Any]) -> None:
    """Pictures, files, odd sound; until a bill tells what the session holds."""
    connection = Connection().setup()
    connection.client(event)
    assert input_bound(connection.asks().call) == WINDOW_TOKENS


@pytest.mark.parametrize(
    ("setup", "searches", "maps"),
    [
        ({"tools": [{"googleSearch": {}}]}, DEFAULT_SERVER_TURNS, 0),
        ({"tools": [{"google_search": {}}, {"googleMaps": {}}]}, DEFAULT_SERVER_TURNS, DEFAULT_SERVER_TURNS),
        ({"tools": {"codeExecution": {}}}, 0, 0),
        ({"sessionResumption": {"handle": "h"}}, 0, 0),
    ],
)
def test_what_google_may_put_into_a_session_is_bounded_by_the_window(
    setup: dict[str, Any], searches: int, maps: int
) -> None:
    """Tools that run there, with their fees, and a session that is resumed."""
    call = Connection().setup(**setup).asks().call
    assert input_bound(call) == WINDOW_TOKENS
    assert (call.content.web_searches, call.unit_bound.maps_requests) == (searches, maps)


def test_tools_may_come_later() -> None:
    """An update of the context brings fees too."""
    connection = Connection().setup(tools=[{"functionDeclarations": [{"name": "f"}]}])
    assert input_bound(connection.asks().call) < WINDOW_TOKENS
    assert connection.client({"contextUpdate": {"tools": {"tools": [{"googleSearch": {}}]}}}) == Free()
    assert connection.asks().call.content.web_searches == DEFAULT_SERVER_TURNS


@pytest.mark.parametrize(("trigger", "opaque"), [(900_000, True), ("900000", True), ("100000", False), (0, False)])
def test_a_window_that_is_compressed_late_is_the_models_own(trigger: object, opaque: bool) -> None:
    """What is compressed only beyond the documented window is not bounded by that; an int64 may stand in quotes."""
    compression = {"triggerTokens": trigger, "slidingWindow": {}}
    call = Connection().setup(contextWindowCompression=compression, sessionResumption={"handle": "h"})
    assert call.asks().call.content.opaque is opaque


# ── turns ──


def test_text_asks_and_an_unfinished_text_does_not() -> None:
    """`turnComplete: false` waits for more; an initial history needs no answer at all."""
    connection = Connection().setup()
    unfinished = {"clientContent": {**TEXT["clientContent"], "turnComplete": False}}
    assert connection.client(unfinished) == Free()
    assert connection.talk.stand() is None
    connection.asks({"realtimeInput": {"text": "hi"}})
    history = Connection().setup(historyConfig={"initialHistoryInClientContent": True})
    assert history.client(TEXT) == Free()
    history.asks()


def test_with_sound_the_next_turn_always_stands_set_aside() -> None:
    """From the first of it on: the service begins when it hears that it is its turn."""
    connection = Connection().setup()
    assert connection.set_aside == {}
    assert connection.client(MIC) == Free()
    [first] = connection.set_aside
    assert connection.client(MIC) == Free()
    assert [*connection.set_aside] == [first]
    [told] = connection.server(SPOKEN)
    assert (told.number, told.ended) == (first, False)
    connection.stand()
    assert len(connection.set_aside) == 2
    [told] = connection.server({**OVER, **bill()})
    assert (told.number, told.ended, told.reading.final) == (first, True, True)


def test_where_the_client_says_when_speech_ends_only_that_asks() -> None:
    """Without detection of its own the service begins nothing by itself."""
    connection = Connection().setup(realtimeInputConfig={"automaticActivityDetection": {"disabled": True}})
    assert connection.client({"realtimeInput": {"activityStart": {}}}) == Free()
    assert connection.client(MIC) == Free()
    assert connection.set_aside == {}
    connection.asks({"realtimeInput": {"activityEnd": {}}})


def test_a_service_that_goes_on_by_itself_finds_the_next_turn_set_aside() -> None:
    """It says so with the end of a turn."""
    connection = Connection().setup()
    connection.asks()
    connection.server(SPOKEN, {"serverContent": {"turnComplete": True, "interactionStatus": "IN_PROGRESS"}, **bill()})
    connection.stand()
    assert len(connection.set_aside) == 2


@pytest.mark.parametrize(
    "events",
    [
        [SPOKEN, {**OVER, **bill()}],
        [SPOKEN, OVER, bill()],
        [SPOKEN, bill(), OVER],
        [SPOKEN, {"serverContent": {"generationComplete": True}}, {"sessionResumptionUpdate": {}, **bill()}, OVER],
        [SPOKEN, {"serverContent": {"interrupted": True}}, {**OVER, **bill()}],
        [bill()],
    ],
)
def test_a_turn_ends_once_it_is_over_and_billed(events: list[dict[str, Any]]) -> None:
    """In whatever order both are said; what comes after it is about nothing."""
    connection = Connection().setup()
    asked = connection.asks()
    told = connection.server(*events, {"serverContent": {"outputTranscription": {"text": "late"}}}, OVER)
    assert [one.number for one in told if one.ended] == [asked.number]
    assert told[-1].ended
    assert told[-1].reading.final
    assert told[-1].reading.usage is not None
    assert told[-1].reading.usage.input_tokens == 100


def test_each_bill_of_a_turn_is_a_row_of_its_own() -> None:
    """What is answered behind a bill is billed by the next, and stands set aside, if late."""
    connection = Connection().setup()
    first = connection.asks()
    [*_, told] = connection.server(SPOKEN, bill(100, 1))
    assert (told.number, told.ended, told.reading.final) == (first.number, False, True)
    before, after = connection.server(SPOKEN)
    assert (before.number, before.ended, before.reading.final) == (first.number, True, True)
    assert (after.ended, after.reading.final) == (False, False)
    connection.stand()
    assert after.number in connection.set_aside
    told = connection.server({**OVER, **bill(200, 2)})[-1]
    assert (told.number, told.ended, told.reading.final) == (after.number, True, True)
    assert told.reading.usage is not None
    assert told.reading.usage.input_tokens == 200


def test_bills_with_nothing_between_them_are_added() -> None:
    """Each in a step of prices of its own, the fees of searches once."""
    connection = Connection().setup(tools=[{"googleSearch": {}}])
    connection.asks()
    found = {"serverContent": {"groundingMetadata": {"webSearchQueries": ["a", "b"]}}}
    [*_, told] = connection.server(SPOKEN, bill(100, 1))
    assert not told.reading.final  # its searches may still be told
    told = connection.server(found, bill(200, 2), OVER)[-1]
    usage = told.reading.usage
    assert usage is not None
    assert (told.ended, told.reading.final) == (True, True)
    assert (usage.input_tokens, usage.output_tokens, usage.web_search_requests) == (300, 3, 2)
    assert [share.usage.input_tokens for share in told.reading.shares] == [100, 200]


def test_a_turn_that_was_never_billed_ends_when_the_next_begins() -> None:
    """It is an estimate, and what the session holds is not known until a bill tells."""
    connection = Connection().setup()
    first, second = connection.asks(), connection.asks()
    told = connection.server(SPOKEN, {"serverContent": {"interrupted": True}}, OVER, SPOKEN)
    assert [(one.number, one.ended, one.reading.final) for one in told[-2:]] == [
        (first.number, True, False),
        (second.number, False, False),
    ]
    assert input_bound(connection.asks().call) == WINDOW_TOKENS
    connection.server({**OVER, **bill(50, 5)})
    assert input_bound(connection.asks().call) < WINDOW_TOKENS


def test_each_run_for_a_function_is_billed_or_set_aside() -> None:
    """With a bill the call of a function ends the turn; without one, its result makes the turn dearer."""
    call = {"toolCall": {"functionCalls": [{"id": "1", "name": "f", "args": {}}]}}
    result = {"toolResponse": {"functionResponses": [{"id": "1", "name": "f", "response": {"ok": True}}]}}
    connection = Connection().setup()
    first = connection.asks()
    assert connection.server({**call, **bill()})[-1].ended
    second = connection.asks(result)
    assert connection.server(SPOKEN, {**OVER, **bill()})[-1].number == second.number
    connection = Connection().setup()
    first = connection.asks()
    before = PRICES.quote(connection.set_aside[first.number])
    assert not connection.server(call)[-1].ended
    assert connection.client(result) == Free()
    grown = PRICES.quote(connection.set_aside[first.number])
    assert grown.output_tokens == 2 * before.output_tokens
    assert grown.input_tokens > before.input_tokens
    told = connection.server(SPOKEN, {**OVER, **bill()})
    assert [one.number for one in told if one.ended] == [first.number]


@pytest.mark.parametrize(
    "said",
    [{}, {"totalTokenCount": 0}, {"totalTokenCount": 20}, {"responseTokenCount": 9}, {"promptTokenCount": 100}],
)
def test_a_usage_that_leaves_something_out_is_no_bill(said: dict[str, Any]) -> None:
    """Neither what was read nor what was seen to be answered is free; what the session holds is not known then."""
    connection = Connection().setup()
    asked = connection.asks()
    [told] = connection.server({**SPOKEN, "usageMetadata": said})
    assert (told.number, told.ended, told.reading.final, told.reading.usage) == (asked.number, False, False, None)
    assert input_bound(connection.asks().call) == WINDOW_TOKENS
    told = connection.server(OVER, SPOKEN)[1]
    assert (told.number, told.ended, told.reading.final, told.reading.usage) == (asked.number, True, False, None)
    [told] = connection.server({**OVER, **bill()})
    assert (told.ended, told.reading.final) == (True, True)


def test_a_usage_that_says_nothing_begins_no_turn() -> None:
    """Between two turns it is about none."""
    connection = Connection().setup()
    connection.asks()
    connection.server(SPOKEN, {**OVER, **bill()})
    assert connection.server({"usageMetadata": {}}) == []


def test_a_usage_without_output_is_a_bill_where_nothing_was_answered() -> None:
    """Zeros are left out: an answer that was interrupted before its first word."""
    connection = Connection().setup()
    connection.asks()
    told = connection.server({"serverContent": {"interrupted": True}, "usageMetadata": {"promptTokenCount": 100}})[-1]
    assert (told.ended, told.reading.final) == (True, True)


def test_what_one_answer_makes_needless_is_given_back() -> None:
    """Two texts that are answered at once; when more was said since, it is kept."""
    connection = Connection().setup()
    first, second = connection.asks(), connection.asks()
    told = connection.server(SPOKEN, {**OVER, **bill()})
    assert [(one.number, bool(one.unused)) for one in told if one.ended] == [
        (first.number, False),
        (second.number, True),
    ]
    connection = Connection().setup()
    first, second = connection.asks(), connection.asks()
    connection.server(SPOKEN)
    third = connection.asks()
    assert [one.number for one in connection.server({**OVER, **bill()}) if one.ended] == [first.number]
    assert connection.server(SPOKEN)[-1].number == second.number
    assert third.number not in {first.number, second.number}


def test_a_service_faster_than_the_ledger_is_set_aside_late() -> None:
    """What nobody asked for is given by `stand` under the number it was told by, even when it is over already."""
    connection = Connection().setup()
    connection.asks()
    connection.server(SPOKEN, {**OVER, **bill()})
    told = connection.server(SPOKEN, {**OVER, **bill(300)}, bill(7))
    numbers = [one.number for one in told if one.ended]
    assert len(set(numbers)) == 2
    connection.stand()
    assert set(numbers) < set(connection.set_aside)
    assert all(one.unasked is None for one in told)


def test_what_is_refused_is_not_asked_for_again() -> None:
    """Each of two turns that the service was faster with; both say what bounds them."""
    connection = Connection().setup()
    connection.asks()
    connection.server(SPOKEN, {**OVER, **bill()})
    told = connection.server(SPOKEN, {**OVER, **bill(300)}, bill(7))
    assert all(one.call is not None and input_bound(one.call) for one in told)
    for number in [one.number for one in told if one.ended]:
        stands = connection.talk.stand()
        assert stands is not None
        assert stands.number == number
        connection.talk.refuse(number, REFUSED, 400)
    assert connection.talk.stand() is None


def test_what_cannot_be_read_is_never_below_its_bound() -> None:
    """A bill may have stood in it."""
    connection = Connection().setup()
    asked = connection.asks()
    [told] = connection.talk.from_server(b"\x00\x01", is_text=False)
    assert (told.number, told.ended) == (asked.number, False)
    assert told.reading.unreadable
    odd = Connection().setup()
    odd.asks()
    told = odd.server(SPOKEN, {**OVER, **bill(-1)})[-1]
    assert told.reading.unreadable
    assert not told.reading.final


def test_there_is_no_message_for_a_refusal() -> None:
    """The connection's end tells it."""
    connection = Connection().setup()
    data = json.dumps(TEXT).encode()
    asked = connection.talk.from_client(connection.talk.read(data, is_text=True))
    assert isinstance(asked, Asks)
    assert connection.talk.refuse(asked.number, REFUSED, 400) == connection.talk.quiet() == b""
    assert connection.talk.cut(asked.number, REFUSED) == b""
    assert connection.talk.stand() is None


# ── usage ──


def test_what_the_details_leave_out_is_taken_for_sound() -> None:
    """Thoughts stand beside the answer; where numbers contradict each other the dearer reading holds."""
    usage = read_usage(
        {
            "promptTokenCount": 522,
            "responseTokenCount": 42,
            "thoughtsTokenCount": 136,
            "totalTokenCount": 564,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 471}],
        }
    )
    assert (usage.input_audio_tokens, usage.output_tokens, usage.output_audio_tokens) == (51, 178, 42)
    assert usage.reasoning_tokens == 136
    above = read_usage({"promptTokenCount": 10, "responseTokenCount": 1, "totalTokenCount": 20})
    assert (above.output_tokens, above.output_audio_tokens) == (10, 10)
    both = read_usage(
        {
            "promptTokenCount": 10,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 10},
                {"modality": "IMAGE", "tokenCount": 8},
                {"modality": "AUDIO", "tokenCount": 6},
            ],
        }
    )
    assert (both.input_audio_tokens, both.input_image_tokens) == (6, 4)


COUNTS = st.integers(0, 10_000) | st.none()
DETAILS = st.lists(
    st.fixed_dictionaries(
        {"modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO", "X"]), "tokenCount": COUNTS}
    ),
    max_size=4,
)
KEYS = ("prompt", "cachedContent", "toolUsePrompt", "response", "candidates", "thoughts", "total")
DETAIL_KEYS = ("prompt", "cache", "toolUsePrompt", "response", "candidates")


@given(
    counts=st.fixed_dictionaries({f"{key}TokenCount": COUNTS for key in KEYS}),
    details=st.fixed_dictionaries({f"{key}TokensDetails": DETAILS for key in DETAIL_KEYS}),
)
@settings(max_examples=200, deadline=None)
def test_any_counts_make_a_usage_of_at_least_as_much(counts: dict[str, Any], details: dict[str, Any]) -> None:
    """No combination contradicts what a usage must hold, and none loses a token."""
    usage = read_usage({**counts, **details})
    told = {key: counts[f"{key}TokenCount"] or 0 for key in KEYS}
    assert usage.input_tokens >= told["prompt"] + told["toolUsePrompt"]
    assert usage.output_tokens >= told["response"] + told["thoughts"]
    assert usage.input_tokens + usage.output_tokens >= told["total"]


SAID: list[dict[str, Any]] = [TEXT, MIC, {"toolResponse": {}}, {"setup": {"model": MODEL}}, {"x": 1}]
ANSWERED: list[dict[str, Any]] = [
    SPOKEN,
    OVER,
    bill(),
    {**OVER, **bill()},
    {"toolCall": {"functionCalls": []}},
    {"toolCall": {"functionCalls": [{"id": "1"}]}},
    {"serverContent": {"interrupted": True}},
    {"serverContent": 7, "usageMetadata": "x"},
]
EVENTS = st.sampled_from([*((True, event) for event in SAID), *((False, event) for event in ANSWERED)])


@given(events=st.lists(EVENTS, max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_is_said_every_bill_is_in_a_turn_that_was_set_aside(events: list[tuple[bool, dict[str, Any]]]) -> None:
    """No number ends twice, all that is told of was set aside, and the sums of the turns are those of the bills."""
    connection = Connection().setup()
    billed = 0
    readings, ended = {}, []
    for from_client, event in events:
        if from_client:
            connection.client(event)
            continue
        if isinstance(usage := event.get("usageMetadata"), dict):
            billed += usage["promptTokenCount"]
        for told in connection.server(event):
            assert told.unasked is None
            readings[told.number] = told.reading
            ended += [told.number] if told.ended else []
        connection.stand()
    assert len(ended) == len(set(ended))
    assert set(readings) <= set(connection.set_aside)
    inputs = sum(reading.usage.input_tokens for reading in readings.values() if reading.usage)
    assert inputs == billed
