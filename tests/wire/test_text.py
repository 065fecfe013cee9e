from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.text import (
    ContentBuilder,
    boolean,
    load_json,
    parse_json,
    positive_int,
    string,
    strings,
    token_bound,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b'{"a":', "not valid JSON"),
        (b"\xff{}", "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[1]", "a list, not a JSON object"),
        (b'"text"', "a string, not a JSON object"),
        (b"null", "null, not a JSON object"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_unreadable_and_the_message_says_why(body: bytes, says: str) -> None:
    """Malformed, badly encoded, non-object and monstrous bodies end in UnreadableRequest, with no prompt in it."""
    with pytest.raises(UnreadableRequest, match=says):
        load_json(body)


@given(st.binary(max_size=200))
def test_parsing_any_bytes_raises_only_value_errors(data: bytes) -> None:
    """No bytes raise anything but ValueError."""
    try:
        parse_json(data)
    except ValueError:
        pass


@pytest.mark.parametrize("value", ["100", 1.5, 1e2, True, False, 0, -1, [], {}, 10**10])
def test_a_limit_that_is_no_whole_number_is_unreadable(value: object) -> None:
    """No bound may rest on what one server reads as 100 and another ignores."""
    with pytest.raises(UnreadableRequest, match="max_tokens"):
        positive_int({"max_tokens": value}, "max_tokens")


def test_fields_are_read_or_absent() -> None:
    """Absent and null are the same; a minimum of 0 admits 0."""
    assert positive_int({"n": 3}, "n") == 3
    assert positive_int({"n": None}, "n") is positive_int({}, "n") is None
    assert positive_int({"n": 0}, "n", minimum=0) == 0
    assert boolean({"stream": True}, "stream")
    assert not boolean({"stream": None}, "stream")
    assert string({}, "model") == ""


@pytest.mark.parametrize(("read", "value"), [(boolean, 1), (boolean, "true"), (string, 3), (string, ["a"])])
def test_a_field_of_the_wrong_type_is_unreadable(read: object, value: object) -> None:
    """A truthy "false" must not be guessed at."""
    assert callable(read)
    with pytest.raises(UnreadableRequest, match="key is"):
        read({"key": value}, "key")


@pytest.mark.parametrize(
    ("text", "bound"), [("abc", 3), ("é", 2), ("\ufdfa", 33), ("½", 5), ("\ud800", 3), ("漢", 3), ("", 0), ("👋", 4)]
)
def test_a_texts_bound_is_its_longer_form(text: str, bound: int) -> None:
    """UTF-8, or NFKC where that is longer, and lone surrogates count."""
    assert token_bound(text) == bound


@given(st.text())
def test_a_texts_bound_is_below_neither_form(text: str) -> None:
    """The bound holds for tokenizers that normalise and for those that don't."""
    assert token_bound(text) >= len(text.encode())
    assert token_bound(text) >= len(unicodedata.normalize("NFKC", text).encode())


@given(JSON)
def test_a_json_values_bound_holds_all_its_strings(value: object) -> None:
    """Whatever is added as JSON counts at least every string in it, and no string crashes it."""
    builder = ContentBuilder()
    builder.add_json(value)
    content = builder.build()
    assert content.text_bytes >= sum(token_bound(text) for text in strings(value))
    for text in content.texts:
        text.encode("utf-8")


def test_content_is_collected() -> None:
    """Texts, tools, token numbers and media land where the bound looks for them."""
    builder = ContentBuilder()
    builder.add_text("hello")
    builder.add_tools({"name": "f"})
    builder.add_tokens(7)
    builder.add_media(Media("image", 10))
    builder.messages, builder.blocks = 2, 3
    content = builder.build()
    assert content.texts == ("hello", '{"name": "f"}', "\x01" * 7)
    assert (content.text_bytes, content.tool_bytes) == (5 + 13 + 7, 13)
    assert (content.messages, content.blocks, content.media) == (2, 3, (Media("image", 10),))
