"""What a client says over Google's Live websocket: the session's setup, and how much each further message adds to it.

Shapes: the `google-genai` SDK's `LiveClientSetup`, `LiveClientContent`, `LiveClientRealtimeInput`,
`LiveClientToolResponse` and `LiveClientContextUpdate` (`genai/types.py`), under their camelCase or snake_case names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call, Content, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, Target
from llmcap_addon.wire.google_request import items, member, named, read_message
from llmcap_addon.wire.text import ContentBuilder, JsonObject, mapping, positive_int, string

WINDOW_TOKENS = 131_072
"""A session's context window, which ends it unless it is compressed.
https://firebase.google.com/docs/ai-logic/live-api/sessions; some price lists name a million for such models."""
OUTPUT_TOKENS = 65_536
"""The longest answer of any Live model (64K on Vertex, 8,192 or 64K at the Gemini API):
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini/2-5-flash-live-api"""
STEP_TOKENS = 4_096
"""A session that grows is reserved for in steps of this: about a minute of a microphone, as it is bounded below."""

PCM_BYTES_PER_SECOND = 16_000
"""The lowest rate of speech as it is sent here (16 bits at 8 kHz, one channel); 16 kHz is usual."""
AUDIO_TOKENS_PER_SECOND = 32
"""https://ai.google.dev/gemini-api/docs/tokens#audio; Live counts 25."""
TOKENS_AROUND = 1_024
"""What the service puts around a conversation: a "hello" was seen to be billed as 334 tokens
(https://github.com/googleapis/python-genai/issues/1917)."""
TOKENS_PER_MESSAGE, TOKENS_PER_BLOCK, TOKENS_WITH_TOOLS = 16, 64, 1_024
"""What wraps a message, a part, a set of tools; providers publish less of each."""

MAX_DIGITS = 19
"""Of an int64."""

_KNOWN = re.compile(r"(?:^|/)gemini-(?:live-)?[23]\b")
"""The generations whose limits are the documented ones above."""
_PCM = re.compile(r"audio/(?:pcm|l16)(?:;.*)?", re.IGNORECASE)
_RATE = re.compile(r"rate=(\d{1,7})")
_MODEL = re.compile(r"(?:.*/)?(?:models/|(?=(?:tunedModels|endpoints)/))([^/:]+(?:/[^/:]+)?)")
_SEARCH_TOOLS = frozenset(
    {"googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch"}
)
_CLIENT_TOOLS = frozenset({"functionDeclarations", "computerUse"})

_MEMBERS = frozenset({"clientContent", "realtimeInput", "toolResponse", "contextUpdate"})

_HEARD = (Media("audio", 0), Media("video", 0))
"""What a session's tokens may be: the dearest of these is the bound, for nobody can say which of them they will be."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a session is set up for."""

    call: Call
    """Of one turn, but for its input."""
    window: int | None
    """The most that its prompt can be, in tokens; None when only the price list knows."""
    tokens: int | None
    """What is in it from the beginning; None when that can't be told."""
    listens: bool
    """True when the service itself tells from sound and pictures when it is its turn to speak."""
    is_open: bool = False
    """True when tools that run at Google, or what nobody tells of a token's constraints, may put more into it."""
    takes_history: bool = False
    """True when the client's first content is a conversation that needs no answer (the SDK's `HistoryConfig`)."""

    def turn(self, tokens: int | None, generations: int) -> Call:
        """Give one turn as a call: with so many tokens in the session, in so many runs of the model."""
        if tokens is None or (self.window is not None and tokens > self.window):
            tokens = self.window
        content = replace(self.call.content, media=_HEARD)
        if tokens is None:
            content = replace(content, opaque=True)
        else:
            content = replace(content, known_tokens=tokens * generations)
        return replace(self.call, content=content, choices=self.call.choices * generations)


def read_setup(event: JsonObject, request: Request, target: Target, client: str, dialect: str) -> Setup:
    """Understand the first message of a session; raises UnreadableRequest."""
    if event.keys() - {"setup"}:
        raise UnreadableRequest("the setup does not stand alone in its message")
    setup = member(event, "setup")
    if setup.get("avatarConfig"):
        raise UnreadableRequest("it asks for an avatar's video, whose price is not known")
    config = member(setup, "generationConfig")
    # The model and the rest of what a token was made for (`LiveConnectConstraints`) go before what the setup says, and
    # they are not told: it is billed, at most, as the dearest.
    constrained = _is_constrained(request)
    model = "" if constrained else _model(target, string(setup, "model"))
    window = WINDOW_TOKENS if _KNOWN.search(model) else None
    if window is not None and _trigger(member(setup, "contextWindowCompression")) > window:
        window = None
    limit = None if constrained else positive_int(config, "maxOutputTokens")
    content = ContentBuilder()
    for message in items(setup, "systemInstruction"):
        content.messages += 1
        read_message(message, content, "")
    resumed = bool(member(setup, "sessionResumption").get("handle"))
    call = Call(
        dialect=dialect,
        provider=target.provider,
        host=request.host,
        model=model,
        streamed=True,
        content=Content(),
        max_output_tokens=limit or (OUTPUT_TOKENS if _KNOWN.search(model) else None),
        choices=positive_int(config, "candidateCount") or 1,
        hidden_output_tokens=None,
        cache_write="none",
        tells_images=True,
        client=client,
        editable=False,  # a limit stands in the setup, for all turns
    )
    detection = member(member(setup, "realtimeInputConfig"), "automaticActivityDetection")
    tools = setup.get("tools")
    plain = Setup(
        call,
        window,
        None if resumed else _size(content, TOKENS_AROUND + _tools_size(tools)),
        listens=constrained or detection.get("disabled") is not True,
        is_open=constrained,
        takes_history=member(setup, "historyConfig").get("initialHistoryInClientContent") is True and not constrained,
    )
    return with_tools(plain, [{name: {}} for name in ("googleSearch", "googleMaps")] if constrained else tools)


def with_tools(setup: Setup, tools: object) -> Setup:
    """Let a session use these tools too: those that run at Google may be billed by the piece."""
    names = _server_tools(tools)
    call, bound = setup.call, setup.call.unit_bound
    content = call.content
    if names & _SEARCH_TOOLS:
        content = replace(content, web_searches=DEFAULT_SERVER_TURNS)
    bound = Usage(
        maps_requests=DEFAULT_SERVER_TURNS if "googleMaps" in names else bound.maps_requests,
        file_search_requests=DEFAULT_SERVER_TURNS
        if "retrieval" in names and call.provider == "vertex"
        else bound.file_search_requests,
    )
    return replace(setup, call=replace(call, content=content, unit_bound=bound), is_open=setup.is_open or bool(names))


def updated_tools(event: JsonObject) -> object:
    """Give the tools that a message puts in the place of those before it; None for any other message."""
    tools = member(event, "contextUpdate").get("tools")
    return named(tools).get("tools", tools) if isinstance(tools, dict) else tools


def size_of(event: JsonObject) -> int | None:
    """Bound the tokens that a message adds to its session; None when it can't be told.

    Text is its bytes, sound its length. Pictures, documents, and results of tools that run at Google are not bounded
    here: of them a session's window is the bound. Raises UnreadableRequest.
    """
    content = ContentBuilder()
    tokens = 0
    for message in items(member(event, "clientContent"), "turns"):
        content.messages += 1
        read_message(message, content, "")
    spoken = member(event, "realtimeInput")
    for key in ("audio", "video", "mediaChunks"):
        for blob in items(spoken, key):
            heard = _heard(named(mapping(blob)))
            if heard is None:
                return None
            tokens += heard
    if isinstance(spoken.get("text"), str):
        content.messages += 1
        content.add_text(str(spoken["text"]))
    for response in items(member(event, "toolResponse"), "functionResponses"):
        if mapping(response).get("parts"):
            return None
        content.messages += 1
        content.add_json(response)
    update = member(event, "contextUpdate")
    for message in items(update, "systemInstruction"):
        read_message(message, content, "")
    for key, value in event.items():
        if key not in _MEMBERS:
            content.add_json(value)
    return _size(content, tokens + _tools_size(updated_tools(event)))


def asks(event: JsonObject) -> bool:
    """Tell whether a message makes the service answer for certain."""
    if event.get("toolResponse") is not None:
        return True
    spoken = member(event, "realtimeInput")
    if spoken.get("text") or spoken.get("activityEnd") is not None:
        return True
    return member(event, "clientContent").get("turnComplete") not in (None, False)


def is_heard(event: JsonObject) -> bool:
    """Tell whether a message holds what a service that listens may answer by itself."""
    return bool(member(event, "realtimeInput").keys() - {"text", "activityStart", "activityEnd"})


def _trigger(compression: JsonObject) -> int:
    """Read from how many tokens on a session is compressed; 0 when unsaid. It is an int64, which JSON may quote."""
    told = compression.get("triggerTokens")
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) <= MAX_DIGITS:
        return int(told)
    return positive_int(compression, "triggerTokens", 0) or 0


def _is_constrained(request: Request) -> bool:
    """Tell whether a session is opened with an ephemeral token (the SDK's `Tokens`, named "auth_tokens/…")."""
    keys = (request.query.get(name, "") for name in ("access_token", "key", "$access_token"))
    headers = (request.headers.get(name, "") for name in ("authorization", "x-goog-api-key"))
    return "Constrained" in unquote(request.path) or any("auth_tokens/" in unquote(key) for key in (*keys, *headers))


def _model(target: Target, told: str) -> str:
    found = _MODEL.fullmatch(told)
    model = target.model_of(found[1] if found else told)
    if not model:
        raise UnreadableRequest("its setup names no model")
    return model


def _server_tools(tools: object) -> frozenset[str]:
    names = (name for item in items({"tools": tools}, "tools") for name in named(mapping(item)))
    return frozenset(names) - _CLIENT_TOOLS


def _tools_size(tools: object) -> int:
    """Bound what descriptions of the client's own tools add: rendered anew they are at most a quarter longer."""
    content = ContentBuilder()
    return -(-content.add_text(json.dumps(tools, ensure_ascii=False)) * 5 // 4) + TOKENS_WITH_TOOLS if tools else 0


def _size(content: ContentBuilder, further: int) -> int | None:
    """Add up what was read; None where some of it is no text."""
    built = content.build()
    if built.opaque or built.media:
        return None
    return built.text_bytes + TOKENS_PER_MESSAGE * built.messages + TOKENS_PER_BLOCK * built.blocks + further


def _heard(blob: JsonObject) -> int | None:
    """Bound a piece of sound; None for anything else."""
    kind, data = blob.get("mimeType"), blob.get("data")
    if not isinstance(kind, str) or not isinstance(data, str) or not _PCM.fullmatch(kind):
        return None
    rate = _RATE.search(kind)
    if rate is not None and int(rate[1]) * 2 < PCM_BYTES_PER_SECOND:
        return None
    # 32 tokens in 16,000 bytes, of which four characters of base64 hold three.
    return len(data) * 3 * AUDIO_TOKENS_PER_SECOND // (4 * PCM_BYTES_PER_SECOND) + 1
