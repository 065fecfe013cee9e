"""Google's requests: proto JSON, whose fields go by their camelCase or their snake_case names, and the prompt in it.

https://protobuf.dev/programming-guides/json/, and the SDK's `Content` and `Part`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.media import kind_of, media_from_base64
from llmcap_addon.wire.text import ContentBuilder, JsonObject, mapping


def model_and_method(path: str, methods: tuple[str, ...]) -> tuple[str, str]:
    """Split …/models/NAME:METHOD; tuned models and endpoints keep their collection in the name."""
    resource, _, method = unquote(path).rpartition(":")
    if method not in methods:
        raise UnreadableRequest(f"the path does not end in {', '.join(f':{name}' for name in methods)}")
    collection, _, name = resource.rpartition("/")
    collection = collection.rpartition("/")[2]
    if not name or collection not in ("models", "tunedModels", "endpoints"):
        raise UnreadableRequest("the path names no model")
    return (name if collection == "models" else f"{collection}/{name}"), method


def refuse_field_masks(request: Request) -> None:
    """Refuse what takes fields out of the answer: its text and usage may be among them.

    https://cloud.google.com/apis/docs/system-parameters
    """
    masks = (request.query.get("fields"), request.query.get("$fields"), request.headers.get("x-goog-fieldmask"))
    if any(mask not in (None, "", "*") for mask in masks):
        raise UnreadableRequest("a field mask takes out of the answer what it is counted by; leave it out")


def named(value: JsonObject) -> JsonObject:
    """Give an object's fields by their camelCase names; raises UnreadableRequest when a field is there twice."""
    fields: JsonObject = {}
    for key, item in value.items():
        name = re.sub(r"(?<=[a-z0-9])_([a-z0-9])", lambda found: found[1].upper(), key)
        if name in fields:
            raise UnreadableRequest(f"{name} is given twice")
        fields[name] = item
    return fields


def member(body: JsonObject, key: str) -> JsonObject:
    """Give an object inside another by its fields' names; empty when absent; raises UnreadableRequest otherwise."""
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise UnreadableRequest(f"{key} is not an object")
    return named(mapping(value))


def items(body: JsonObject, key: str) -> list[object]:
    """Give a repeated field; a single message in place of a list is taken as one."""
    value = body.get(key)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def read_input(body: JsonObject, config: JsonObject, content: ContentBuilder) -> None:
    """Read the prompt of a generateContent, and what of it is not in the body."""
    detail = resolution(config.get("mediaResolution"))
    for message in [*items(body, "systemInstruction"), *items(body, "contents")]:
        content.messages += 1
        read_message(message, content, detail)
    if body.get("cachedContent"):
        content.opaque = True
    if config.get("continuationToken"):
        content.opaque = True


def read_message(message: object, content: ContentBuilder, detail: str) -> None:
    """Read one content; `detail` is the resolution that its media have unless a part says another."""
    if not isinstance(message, dict):
        content.add_json(message)
        return
    for part in items(message, "parts"):
        content.blocks += 1
        _read_part(part, content, detail)


def _read_part(value: object, content: ContentBuilder, detail: str) -> None:
    """Read one part; what is neither text nor data counts as JSON. A thought's signature holds the thought."""
    if not isinstance(value, dict):
        content.add_json(value)
        return
    part = named(value)
    detail = resolution(mapping(part.get("mediaResolution")).get("level")) or detail
    blob = member(part, "inlineData")
    data = blob.get("data")
    if isinstance(data, str):
        mime_type = blob.get("mimeType")
        content.add_media(media_from_base64(kind_of(str(mime_type)), data, detail))
    elif blob:
        raise UnreadableRequest("inlineData has no data")
    if part.get("fileData"):
        content.opaque = True
    function = member(part, "functionResponse")
    for inner in items(function, "parts"):
        content.blocks += 1
        _read_leaf(inner, content, detail)
    function.pop("parts", None)
    rest = {
        key: item for key, item in part.items() if key not in ("inlineData", "fileData", "functionResponse", "text")
    }
    if isinstance(part.get("text"), str):
        content.add_text(str(part["text"]))
    for other in (function, rest):
        if other:
            content.add_json(other)


def _read_leaf(value: object, content: ContentBuilder, detail: str) -> None:
    """Read a part of a function's response, which can hold no further functions."""
    part = named(mapping(value))
    part.pop("functionResponse", None)
    _read_part(part, content, detail)


def resolution(value: object) -> str:
    """MEDIA_RESOLUTION_HIGH → "high"; empty when unset."""
    level = str(value).lower().removeprefix("media_resolution_") if isinstance(value, str) else ""
    return "" if level == "unspecified" else level
