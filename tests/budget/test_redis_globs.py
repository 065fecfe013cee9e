"""Globs match in Lua what they match in Python."""

from __future__ import annotations

import json
from importlib import resources

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcap_addon.budget.matching import literal, matches
from llmcap_addon.budget.stores.redis_globs import globs_for_lua
from llmcap_addon.budget.stores.redis_scripts import SCHEMA
from tests.budget.redis_server import RedisServer

CHARS = "ab-]![*?^\\é🙂."
BODY = (
    resources.files("llmcap_addon.budget.stores").joinpath("lua/ledger.lua").read_text("utf-8")
    + "\nreturn matches(cjson.decode(ask.globs), ask.labels) and 1 or 0"
)
GLOBS = st.lists(st.tuples(st.sampled_from(["model", "host"]), st.text(CHARS, max_size=8)), max_size=3)


def in_lua(client: redis.Redis, globs: str, labels: dict[str, str]) -> bool:
    client.hset("{globs}:meta", mapping={"id": "x", "schema": SCHEMA})
    return bool(client.eval(BODY, 1, "{globs}:meta", json.dumps({"ledger": "x", "globs": globs, "labels": labels})))


@given(pairs=GLOBS, model=st.text(CHARS, max_size=6), host=st.text("ab", max_size=2))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lua_matches_as_fnmatch_does(
    redis_server: RedisServer, pairs: list[tuple[str, str]], model: str, host: str
) -> None:
    """Stars, question marks, sets, ranges, negations and unclosed brackets: all that fnmatch knows, by characters."""
    match = tuple(pairs)
    labels = {"model": model, "host": host}
    with redis_server.client() as client:
        assert in_lua(client, globs_for_lua(match), labels) == matches(match, labels)


def test_literals_stay_text() -> None:
    """A value written as a glob needs no tokens, so the common case is one comparison."""
    assert json.loads(globs_for_lua((("model", literal("gpt-*[x]?")),))) == {
        "model": ["gpt-*[x]?"],
        "billing": ["api"],
    }
    assert json.loads(globs_for_lua((("model", "a*"), ("model", "b"), ("billing", "plan")))) == {
        "model": [[97, -2], "b"],
        "billing": ["plan"],
    }
