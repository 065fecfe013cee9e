"""A Realtime session as it stands: its settings, and the conversation that its next response is billed for.

Settings are offered by the client (`session.update`) and put in force by the server (`session.created`,
`session.updated`); while both may count, the dearer does. Shapes: the `openai` SDK's
`types/realtime/realtime_session_create_request.py`, `realtime_transcription_session_create_request.py` and
`types/beta/realtime/session.py` (turn_detection, input_audio_transcription and the formats at the top).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from llmcap_addon.call import Content, Media
from llmcap_addon.usage import Usage
from llmcap_addon.wire.media import media_from_data_url
from llmcap_addon.wire.openai_realtime_usage import G711_BYTES_PER_MS, PCM_BYTES_PER_MS, sound_ms
from llmcap_addon.wire.replies import encode_json
from llmcap_addon.wire.seen import TOKENS_PER_ITEM
from llmcap_addon.wire.sound import SLOWEST_BYTES_PER_SECOND
from llmcap_addon.wire.text import ContentBuilder, JsonObject, mapping

MAX_KEPT_BYTES = 4 << 20
"""Of texts that no response has read yet: several times what the longest context window holds."""
MAX_MEDIA = 1_000
"""Pictures that no response has read yet."""
MAX_PARTS = 32
"""Of what no response has read yet, by where those end that were asked for; no more are ever asked for at once."""
MAX_MS = 24 * 3_600_000
"""A session lives for an hour."""
TILED_IMAGE_TOKENS = 85 + 8 * 170
"""Of a picture where it is counted in tiles, as GPT-4o does; nobody says by which rule these models count.
https://platform.openai.com/docs/guides/images-vision#calculating-costs"""
_ABSENT = object()
_TEXT_PARTS = frozenset({"input_text", "text", "output_text"})
_SOUND_PARTS = frozenset({"input_audio", "audio", "output_audio"})
_FUNCTION_ITEMS = frozenset({"function_call", "function_call_output", "mcp_approval_response"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a session's settings moves money."""

    responds: bool = True
    """True when the server may begin a response by itself, once it has heard something."""
    prompts: bool = False
    """True when it may do so without having heard anything (`idle_timeout_ms`)."""
    runs_tools: bool = False
    """True when tools run at the server (MCP), whose results no frame of the client's shows."""
    transcribes: bool = False
    transcriber: str = ""
    """The model that writes down what the client says."""
    transcriber_bytes: int = 0
    """Of what it is told beside the sound: a prompt, keywords."""
    max_output_tokens: int | None = None
    """None when only the model's own limit bounds a response."""
    bytes_per_ms: int = G711_BYTES_PER_MS
    """Of the sound that the client sends."""
    made_bytes_per_ms: int = G711_BYTES_PER_MS


class Session:
    """The settings of one connection."""

    def __init__(self, *, only_transcribes: bool) -> None:
        self.model = ""
        """As the server names it."""
        self.only_transcribes = only_transcribes
        self.is_beta = False
        self.settings = Settings(transcribes=only_transcribes)
        self._offered = 0
        """Updates that the server has not answered yet."""

    def offer(self, session: JsonObject) -> None:
        """Take in what the client is about to ask for; until the server says so nothing becomes cheaper by it."""
        self._offered += 1
        self._note_type(session, in_force=False)
        self.settings = _dearer(self.settings, _changed(self.settings, session))

    def take(self, session: JsonObject, *, answers: bool) -> None:
        """Take in what the server says is in force; `answers` when that is its answer to an update."""
        self._offered = max(0, self._offered - answers)
        self._note_type(session, in_force=not self._offered)
        self.is_beta = "audio" not in session
        model = session.get("model")
        self.model = model if isinstance(model, str) else self.model
        stated = _changed(_IN_FORCE, session)
        self.settings = _dearer(self.settings, stated) if self._offered else stated

    def limited_to(self, max_output_tokens: int) -> JsonObject:
        """Give the change that limits its responses."""
        if self.is_beta:
            return {"max_response_output_tokens": max_output_tokens}
        return {"type": "realtime", "max_output_tokens": max_output_tokens}

    def _note_type(self, session: JsonObject, *, in_force: bool) -> None:
        """Take in what kind of session it is: one that may not respond is only what the server says is one."""
        if session.get("type") == "realtime":
            self.only_transcribes = False
        elif session.get("type") == "transcription" or session.get("object") == "realtime.transcription_session":
            self.only_transcribes = self.only_transcribes or in_force


_IN_FORCE = Settings(responds=False, bytes_per_ms=PCM_BYTES_PER_MS, made_bytes_per_ms=PCM_BYTES_PER_MS)
"""What a setting is that the server's word leaves out."""


def _changed(before: Settings, session: JsonObject) -> Settings:
    """Give the settings with those that an object of a session states."""
    sound = mapping(session.get("audio"))
    heard, made = mapping(sound.get("input")), mapping(sound.get("output"))
    after = before
    turns = heard.get("turn_detection", session.get("turn_detection", _ABSENT))
    if turns is not _ABSENT:
        after = replace(after, responds=_responds(turns), prompts=bool(mapping(turns).get("idle_timeout_ms")))
    transcription = heard.get("transcription", session.get("input_audio_transcription", _ABSENT))
    if transcription is not _ABSENT:
        model = mapping(transcription).get("model")
        after = replace(
            after,
            transcribes=transcription is not None,
            transcriber=model if isinstance(model, str) else "",
            transcriber_bytes=len(encode_json(transcription)),
        )
    most = session.get("max_output_tokens", session.get("max_response_output_tokens", _ABSENT))
    if most is not _ABSENT:
        after = replace(after, max_output_tokens=limit_of(most))
    if "tools" in session:
        after = replace(after, runs_tools=has_mcp(session["tools"]))
    kind = heard.get("format", session.get("input_audio_format", _ABSENT))
    if kind is not _ABSENT:
        after = replace(after, bytes_per_ms=_bytes_per_ms(kind))
    kind = made.get("format", session.get("output_audio_format", _ABSENT))
    return after if kind is _ABSENT else replace(after, made_bytes_per_ms=_bytes_per_ms(kind))


def _dearer(one: Settings, two: Settings) -> Settings:
    """Give what bounds either."""
    limits = (one.max_output_tokens, two.max_output_tokens)
    return Settings(
        responds=one.responds or two.responds,
        prompts=one.prompts or two.prompts,
        runs_tools=one.runs_tools or two.runs_tools,
        transcribes=one.transcribes or two.transcribes,
        transcriber=two.transcriber if two.transcribes else one.transcriber,
        transcriber_bytes=max(one.transcriber_bytes, two.transcriber_bytes),
        max_output_tokens=None if None in limits else max(limit or 0 for limit in limits),
        bytes_per_ms=min(one.bytes_per_ms, two.bytes_per_ms),
        made_bytes_per_ms=min(one.made_bytes_per_ms, two.made_bytes_per_ms),
    )


def limit_of(stated: object) -> int | None:
    """Read a limit on a response: a number, or "inf" for the model's own."""
    return stated if type(stated) is int and stated > 0 else None


def has_mcp(tools: object) -> bool:
    """Tell whether some tools run at the server, which reads their lists and results, and goes on by itself."""
    return isinstance(tools, list) and any(mapping(tool).get("type", "function") != "function" for tool in tools)


def _responds(turns: object) -> bool:
    """Tell whether turns are detected and answered.

    "If both `create_response` and `interrupt_response` are set to `false`, the model will never respond automatically"
    (`types/realtime/realtime_audio_input_turn_detection.py`).
    """
    if turns is None:
        return False
    told = mapping(turns)
    return not (told.get("create_response") is False and told.get("interrupt_response") is False)


def _bytes_per_ms(kind: object) -> int:
    name = mapping(kind).get("type") if isinstance(kind, dict) else kind
    return PCM_BYTES_PER_MS if name in ("audio/pcm", "pcm16", None) else G711_BYTES_PER_MS


# ── the conversation ──


@dataclass(frozen=True, slots=True)
class _Part:
    """Input that no response has been billed for yet."""

    content: Content = field(default_factory=Content)
    sound_ms: int = 0

    def plus(self, content: Content, sound_ms: int) -> _Part:
        joined = self.content.plus(content)
        if joined.text_bytes > MAX_KEPT_BYTES or len(joined.media) > MAX_MEDIA:
            joined = Content(opaque=True)
        return _Part(joined, min(MAX_MS, self.sound_ms + sound_ms))


class Conversation:
    """What the next response reads, from above: what the last one was billed for, and all that has come since."""

    def __init__(self) -> None:
        self.revision = 0
        """Grows when more than sound has changed."""
        self._known_tokens = 0
        self._read = _Part()
        """Read by a response that runs."""
        self._first = 0
        self._new = deque([_Part()])
        """What came after that, divided where responses were asked for; the number of the first of them is `_first`."""

    @property
    def sound_ms(self) -> int:
        """The sound in it that no response has been billed for."""
        return self._read.sound_ms + sum(part.sound_ms for part in self._new)

    def add(self, content: Content, sound_ms: int = 0) -> None:
        """Put something at its end."""
        self._new[-1] = self._new[-1].plus(content, sound_ms)
        if content != Content():
            self.revision += 1

    def mark(self, later_ms: int = 0, since: int | None = None) -> int:
        """Give where it ends now, but for so much of its sound and, if given, what is no sound from a mark on."""
        end = _Part()
        for at in range(len(self._new) - 1, -1, -1):
            part = self._new[at]
            is_later = since is not None and self._first + at >= since
            later = _Part(part.content if is_later else Content(), min(part.sound_ms, later_ms - end.sound_ms))
            end = later.plus(end.content, end.sound_ms)
            self._new[at] = _Part(Content() if is_later else part.content, part.sound_ms - later.sound_ms)
        self._new.append(end)
        if len(self._new) > MAX_PARTS:  # the first mark counts no more: what it ended is taken for later
            first = self._new.popleft()
            self._new[0] = self._new[0].plus(first.content, first.sound_ms)
            self._first += 1
        return self._first + len(self._new) - 1

    def begin(self, mark: int) -> None:
        """Note that a response begins, which reads all up to a mark; what came later may be left for the next."""
        while self._first < mark:
            part = self._new.popleft()
            self._read = self._read.plus(part.content, part.sound_ms)
            self._first += 1

    def end(self, usage: Usage | None, output_limit: int) -> None:
        """Note that a response has ended: its output is read by the next."""
        if usage is not None and usage.input_tokens:
            self._known_tokens = usage.input_tokens + usage.output_tokens + TOKENS_PER_ITEM
            self._read = _Part()
        else:
            self.append(usage.output_tokens if usage is not None else output_limit)
        self.revision += 1

    def append(self, tokens: int) -> None:
        """Put the output of a response at its end that did not read it."""
        self._known_tokens += tokens + TOKENS_PER_ITEM
        self.revision += 1

    def content(self, further_ms: int = 0) -> Content:
        """Give all of it, with so much further sound."""
        joined = self._read.content
        for part in self._new:
            joined = joined.plus(part.content)
        return joined.plus(Content(known_tokens=self._known_tokens, media=sound(self.sound_ms + further_ms)))


def sound(length_ms: int) -> tuple[Media, ...]:
    """Describe sound as a recording at the slowest bit rate there is, by which its tokens are bounded."""
    return (Media("audio", -(-length_ms * SLOWEST_BYTES_PER_SECOND // 1000)),) if length_ms else ()


def prompt_content(session: JsonObject) -> Content:
    """Read what a session or a response tells the model beside the conversation."""
    builder = ContentBuilder()
    instructions, tools = session.get("instructions"), session.get("tools")
    if isinstance(instructions, str):
        builder.add_text(instructions)
    if isinstance(tools, list) and tools:
        builder.add_tools(tools)
        builder.opaque = has_mcp(tools)
    if session.get("prompt") is not None:
        builder.opaque = True  # stored at OpenAI
    return builder.build()


def item_content(item: JsonObject, bytes_per_ms: int) -> tuple[Content, int]:
    """Read an item of a conversation; gives what it holds beside sound, and the sound in milliseconds."""
    builder = ContentBuilder()
    builder.messages = 1
    length_ms = 0
    kind = str(item.get("type"))
    parts = item.get("content")
    if kind == "message" and isinstance(parts, list):
        for part in parts:
            length_ms += _add_part(builder, mapping(part), bytes_per_ms)
    else:
        builder.add_json(item)
        builder.opaque = kind not in _FUNCTION_ITEMS
    return builder.build(), length_ms


def _add_part(builder: ContentBuilder, part: JsonObject, bytes_per_ms: int) -> int:
    builder.blocks += 1
    kind = str(part.get("type"))
    if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        builder.add_text(str(part["text"]))
        return 0
    if kind in _SOUND_PARTS and isinstance(part.get("audio"), str):
        return sound_ms(part["audio"], bytes_per_ms)
    url, detail = part.get("image_url"), part.get("detail")
    media = (
        media_from_data_url(url, "image", detail if isinstance(detail, str) else "") if isinstance(url, str) else None
    )
    if kind == "input_image" and media is not None:
        builder.add_media(media)
        builder.known_tokens += TILED_IMAGE_TOKENS
    else:
        builder.add_json(part)
        builder.opaque = True
    return 0
