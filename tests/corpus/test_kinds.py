"""Each value of a recorded call in turn is of another kind: nothing but "unreadable" ever comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Target
from tests.corpus.case import CASES, Case

OTHERS: tuple[Any, ...] = ({}, [], {"type": {}}, "x", 7, None)
MOST_PLACES = 60
"""Of one JSON document: past it a long list repeats itself."""


def changed(value: Any) -> Iterator[Any]:
    """Give a JSON value with each of its members, at any depth, replaced by something of another kind."""
    for place in list(_places(value))[:MOST_PLACES]:
        for other in OTHERS:
            yield _with(value, place, other)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*at, key)
        yield from _places(member, (*at, key))


def _with(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    if not place:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _with(value[place[0]], place[1:], other)
    return copy


def answers(data: bytes, suffix: str) -> Iterator[bytes]:
    """Give an answer with each member of its JSON changed, of a stream in one event at a time."""
    if suffix != "sse":
        yield from (json.dumps(one).encode() for one in changed(json.loads(data)))
        return
    lines = data.split(b"\n")
    seen: set[str] = set()
    for number, line in enumerate(lines):
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        shape = str(sorted(_places(event), key=str))
        if shape in seen:
            continue  # a second delta tells nothing new
        seen.add(shape)
        for one in changed(event):
            yield b"\n".join((*lines[:number], b"data: " + json.dumps(one).encode(), *lines[number + 1 :]))


READABLE = [case for case in CASES if case.raw["response"].endswith((".json", ".sse"))]


@pytest.mark.parametrize("case", READABLE, ids=lambda case: case.name)
def test_no_kind_of_value_in_an_answer_raises(case: Case) -> None:
    """Whatever stands where a word, a number, a list or an object should, the meter reads on or says what it can't."""
    for data in answers(case.data, case.raw["response"].rpartition(".")[2]):
        meter = case.meter(len)
        meter.feed(data)
        meter.end()


@pytest.mark.parametrize("case", [case for case in CASES if "request" in case.raw], ids=lambda case: case.name)
def test_no_kind_of_value_in_a_request_raises_anything_but_unreadable(case: Case) -> None:
    """A request that can't be bounded is refused with the reason, and never by an error of ours."""
    target = Target(case.route.provider, case.route.model, case.route.models, case.route.zone)
    for body in changed(json.loads(case.request.body)):
        try:
            case.dialect.parse(replace(case.request, body=json.dumps(body).encode()), target, "")
        except UnreadableRequest:
            continue
