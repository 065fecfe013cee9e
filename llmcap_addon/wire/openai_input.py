"""The input of OpenAI's requests: messages and items with text, images, audio, files and references to stored things.

Part types: the `openai` SDK's `chat_completion_content_part_param`, `response_input_item_param`; those of compatible
hosts (`video_url`, `document_url`) beside them.
"""

from __future__ import annotations

from typing import TypeGuard

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.media import MediaKind, media_from_base64, media_from_data_url
from llmcap_addon.wire.text import ContentBuilder, JsonObject

_TEXT_PARTS = frozenset(
    {"text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text", "thinking", "tool_result"}
)
_URL_PARTS: dict[str, MediaKind] = {
    "image_url": "image",
    "input_image": "image",
    "computer_screenshot": "image",
    "video_url": "video",
    "input_video": "video",
    "document_url": "document",
    "audio_url": "audio",
}
_STORED_ITEMS = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_call",
        "image_generation_call",
        "reasoning",
        "program",
    }
)
"""Items that a client may send back by their id alone, for the server to fill in what it stored."""


def add_message(builder: ContentBuilder, message: object) -> None:
    """Add one chat message."""
    builder.messages += 1
    if not isinstance(message, dict):
        builder.add_json(message)
        return
    for key, value in message.items():
        if key == "content":
            add_content(builder, value)
        elif isinstance(value, str):
            builder.add_text(value)
        elif key == "audio" and value is not None:
            builder.opaque = True  # an earlier audio answer, by its id
        elif value is not None:
            builder.add_json({key: value})


def add_content(builder: ContentBuilder, content: object) -> None:
    """Add a message's content or a tool's output: a text, one part or a list of parts."""
    if content is None:
        return
    if isinstance(content, list):
        for part in content:
            add_part(builder, part)
    else:
        add_part(builder, content)


def add_part(builder: ContentBuilder, part: object) -> None:
    """Add one content part; a type we do not know may stand for anything, so it makes the input opaque."""
    builder.blocks += 1
    if isinstance(part, str):
        builder.add_text(part)
        return
    if not isinstance(part, dict):
        builder.add_json(part)
        return
    kind = _type_of(part)
    if kind in _TEXT_PARTS:
        _add_text_part(builder, part)
    elif kind in _URL_PARTS:
        _add_url_part(builder, part, _URL_PARTS[kind], kind)
    elif kind == "input_audio":
        source = part.get("input_audio")
        data = source.get("data") if isinstance(source, dict) else None
        _add_data(builder, data, "audio")
    elif kind in ("file", "input_file"):
        source = part.get("file")
        _add_file(builder, source if isinstance(source, dict) else part)
    else:
        builder.add_json(part)
        builder.opaque = True


def _add_text_part(builder: ContentBuilder, part: JsonObject) -> None:
    for key, value in part.items():
        if isinstance(value, str):
            builder.add_text(value)
        elif value is not None:
            builder.add_json({key: value})


def _add_url_part(builder: ContentBuilder, part: JsonObject, kind: MediaKind, name: str) -> None:
    source = part.get(name) if name.endswith("_url") else part.get(f"{kind}_url")
    detail = part.get("detail")
    if isinstance(source, dict):
        detail = source.get("detail", detail)
        source = source.get("url")
    media = None
    if isinstance(source, str):
        media = media_from_data_url(source, kind, detail if isinstance(detail, str) else "")
    if media is None:
        builder.opaque = True
    else:
        builder.add_media(media)


def _add_file(builder: ContentBuilder, source: JsonObject) -> None:
    name = source.get("filename")
    if isinstance(name, str):
        builder.add_text(name)
    _add_data(builder, source.get("file_data"), "document")


def _add_data(builder: ContentBuilder, data: object, kind: MediaKind) -> None:
    if not isinstance(data, str) or data[:5].lower() in ("http:", "https"):
        builder.opaque = True  # a file id or a URL instead
        return
    builder.add_media(media_from_data_url(data, kind) or media_from_base64(kind, data))


def add_texts(builder: ContentBuilder, given: object, key: str) -> None:
    """Add a text, a list of texts, a list of tokens, or a list of lists of tokens, each a message of its own.

    Raises UnreadableRequest, naming the `key`, for anything else.
    """
    if isinstance(given, str):
        builder.messages += 1
        builder.add_text(given)
        return
    if not isinstance(given, list):
        raise UnreadableRequest(f"{key} is neither a text nor a list")
    for item in [given] if _is_tokens(given) else given:
        builder.messages += 1
        if isinstance(item, str):
            builder.add_text(item)
        elif _is_tokens(item):
            builder.add_tokens(len(item))
        else:  # compatible hosts embed images and the like
            add_content(builder, item)


def _is_tokens(given: object) -> TypeGuard[list[int]]:
    return isinstance(given, list) and bool(given) and all(type(item) is int for item in given)


def add_item(builder: ContentBuilder, item: object, *, stored: bool) -> None:
    """Add one item of a Responses request; `stored` is False when the server keeps nothing that an id could name."""
    builder.messages += 1
    if not isinstance(item, dict):
        builder.add_json(item)
        return
    kind = _type_of(item) or ("message" if "role" in item else "item_reference")
    if kind == "item_reference":
        builder.opaque = True
        return
    if kind in _STORED_ITEMS and stored and not item.get("encrypted_content"):
        builder.opaque = True
    for key, value in item.items():
        if key in ("content", "output") and not (key == "output" and kind == "image_generation_call"):
            add_content(builder, value)
        elif key == "result" and kind == "image_generation_call" and isinstance(value, str):
            builder.add_media(media_from_base64("image", value))
        elif isinstance(value, str):
            builder.add_text(value)
        elif value is not None:
            builder.add_json({key: value})


def _type_of(node: JsonObject) -> str:
    kind = node.get("type")
    return kind if isinstance(kind, str) else ""
