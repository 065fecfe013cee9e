"""Tests of the incremental splitter of a top-level JSON array."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire import jsonarray
from llmcap_addon.wire.jsonarray import ArraySplitter

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(['"', "\\", '\\"', "]", "}{", "é漢🎈"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
elements = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=5)


def feed(chunks: Iterable[bytes]) -> tuple[ArraySplitter, bytes, list[Any]]:
    """Feed chunks to a new splitter; gives it, all bytes passed on and the parsed elements."""
    splitter = ArraySplitter()
    passed = b""
    found: list[Any] = []
    for chunk in chunks:
        out, whole = splitter.feed(chunk)
        passed += out
        found += [json.loads(element) for element in whole]
    return splitter, passed + splitter.end(), found


@given(elements, st.booleans(), st.booleans(), st.lists(st.integers(0, 400), max_size=8))
def test_any_array_split_anywhere(items: list[Any], ascii_only: bool, pretty: bool, cuts: list[int]) -> None:
    """Elements and passed bytes are the same wherever the body is split, also inside characters and escapes."""
    body = json.dumps(items, ensure_ascii=ascii_only, indent=2 if pretty else None).encode()
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    splitter, passed, found = feed(body[a:b] for a, b in itertools.pairwise(edges))
    assert passed == body
    assert found == items
    assert splitter.closed
    assert not splitter.fault


@given(elements)
def test_byte_by_byte_passes_whole_elements_only(items: list[Any]) -> None:
    """Byte by byte, what has been passed on at any time closes to valid JSON with a bracket."""
    body = json.dumps(items, indent=1).encode()
    splitter = ArraySplitter()
    passed = b""
    for at in range(len(body)):
        passed += splitter.feed(body[at : at + 1])[0]
        if splitter.begun and not splitter.closed:
            assert isinstance(json.loads(passed + b"]"), list)
    assert passed == body


@given(elements, st.integers(0, 400))
def test_truncated_anywhere(items: list[Any], size: int) -> None:
    """A truncated body passes on every byte, gives only whole elements and has a fault unless it is complete."""
    body = json.dumps(items).encode()
    part = body[: size % (len(body) + 1)]
    splitter, passed, found = feed([part])
    assert passed == part
    assert found == items[: len(found)]
    assert bool(splitter.fault) == (part != body)


def test_bare_object_is_the_one_element() -> None:
    """An error body that is not wrapped in an array is read as one element."""
    splitter, passed, found = feed([b'\n{"error": {"co', b'de": 500, "a": [1]}}\n'])
    assert found == [{"error": {"code": 500, "a": [1]}}]
    assert passed.endswith(b"}}\n")
    assert splitter.closed
    assert not splitter.fault


@pytest.mark.parametrize(
    "body",
    [b"null", b'"text"', b"[1, 2]", b'["a"]', b"[{}] x", b"{} {}", b"<html>", b"\xff\xfe[", b"[{}, null]", b"]"],
)
def test_not_an_array_of_objects(body: bytes) -> None:
    """Anything else sets a fault and still passes every byte, in one piece or byte by byte."""
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))]):
        splitter, passed, _ = feed(chunks)
        assert splitter.fault
        assert passed == body


@given(st.binary(max_size=60), st.integers(0, 60))
def test_garbage_never_raises(body: bytes, cut: int) -> None:
    """Random bytes pass unchanged and never raise; whether an element is JSON shows when it is read."""
    splitter = ArraySplitter()
    passed = b"".join(splitter.feed(chunk)[0] for chunk in (body[:cut], body[cut:]))
    assert passed + splitter.end() == body


def test_element_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """An element above the bound stops the reading, and its bytes pass on instead of piling up."""
    monkeypatch.setattr(jsonarray, "MAX_ELEMENT_BYTES", 20)
    splitter = ArraySplitter()
    assert splitter.feed(b'[{"a": 1}, ')[1] == [b'{"a": 1}']
    passed, found = splitter.feed(b'{"b": "' + b"x" * 30)
    assert "longer than 20 bytes" in splitter.fault
    assert passed.endswith(b"xxx")
    assert found == []
    assert splitter.feed(b'"}]') == (b'"}]', [])
