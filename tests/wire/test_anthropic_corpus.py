"""Answers of Anthropic's, priced to the nano-dollar: passes, fallbacks, advisors, refusals, speeds, places, batches."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from llmcap_addon.call import Alternative
from llmcap_addon.usage import Share, Terms, Usage
from llmcap_addon.wire.anthropic import MESSAGES
from llmcap_addon.wire.anthropic_shares import UsageLedger
from llmcap_addon.wire.dialect import Meter, Request, ResponseHead, Target
from tests.corpus.case import PRICES, Case, of
from tests.wire.corpus import feed_all

CASES = of("anthropic")
BY_NAME = {case.raw["response"]: case for case in CASES}


def asked(**body: Any) -> Request:
    full = {"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], **body}
    return Request("POST", "api.anthropic.com", "/v1/messages", body=json.dumps(full).encode())


def meter(request: Request) -> Meter:
    call = MESSAGES.parse(request, Target("anthropic"), "")
    return MESSAGES.meter(call, request.body, ResponseHead(200, "application/json"), len)


class TestAlternatives:
    def test_fallbacks(self) -> None:
        """Each model named is one pass (and one more for each tool's), with its own limit and speed where it has one."""
        tools = [{"type": "web_fetch_20260318", "name": "web_fetch", "max_uses": 2}]
        entries = [{"model": "claude-opus-4-8"}, {"model": "claude-opus-5", "max_tokens": 50, "speed": "standard"}]
        call = MESSAGES.parse(asked(fallbacks=entries, tools=tools, speed="fast"), Target("anthropic"), "")
        assert call.alternatives == (
            Alternative("claude-opus-4-8", 3, 100, "fast"),
            Alternative("claude-opus-5", 3, 50, "standard"),
        )
        assert call.hidden_output_tokens is None

    def test_default_fallbacks(self) -> None:
        """Models of the provider's own choice are bounded by the dearest it has, as often as a request could name."""
        [alternative] = MESSAGES.parse(asked(fallbacks="default"), Target("anthropic"), "").alternatives
        assert alternative == Alternative("", 3, 100)

    def test_advisor(self) -> None:
        """An advisor may be asked as often as the tool says, and writes as much as the tool says, not the request."""
        tool = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}
        [alternative] = MESSAGES.parse(asked(tools=[tool]), Target("anthropic"), "").alternatives
        assert (alternative.model, alternative.passes, alternative.max_output_tokens) == ("claude-opus-4-8", 8, None)
        limited = {**tool, "max_uses": 2, "max_tokens": 2048, "caching": {"type": "ephemeral", "ttl": "1h"}}
        call = MESSAGES.parse(asked(tools=[limited]), Target("anthropic"), "")
        assert call.alternatives == (Alternative("claude-opus-4-8", 2, 2048),)
        assert call.cache_write == "long"

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_what_they_cost_is_below_the_bound(self, case: Case) -> None:
        """What was billed is below what was reserved for a prompt as long as the one that was billed."""
        body = json.loads(case.request.body)
        body["messages"][0]["content"] = "word " * 12_000
        body["system"] = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        call = MESSAGES.parse(asked(**body), Target("anthropic"), "")
        quote = PRICES.quote(call)
        assert quote.amount(quote.output_tokens) > case.raw["cost"]


class TestContainers:
    CODE: ClassVar = {"type": "code_execution_20250825", "name": "code_execution"}

    @pytest.mark.parametrize(
        ("body", "containers"),
        [
            ({"tools": [CODE]}, 1),
            ({"tools": [CODE], "container": {"skills": []}}, 1),
            ({"tools": [CODE], "container": "container_1"}, 0),
            ({"tools": [CODE], "container": {"id": "container_1"}}, 0),
            ({"tools": [CODE, {"type": "web_search_20260209", "name": "web_search"}]}, 0),
            ({"tools": [CODE, {"type": "web_search_20250305", "name": "web_search"}]}, 1),
            ({}, 0),
        ],
    )
    def test_bound(self, body: dict[str, Any], containers: int) -> None:
        """A request may begin one container, unless it goes on in another or its web tools make running code free."""
        assert MESSAGES.parse(asked(**body), Target("anthropic"), "").unit_bound == Usage(code_sessions=containers)

    def test_what_did_not_run(self) -> None:
        """A container that was not to be had costs nothing."""
        data = BY_NAME["code.sse"].data.replace(
            b'"type": "code_execution_result"', b'"type": "code_execution_tool_result_error"'
        )
        told = BY_NAME["code.sse"].meter()
        feed_all(told, [data])
        assert told.reading.usage == Usage(input_tokens=2_000, output_tokens=60)


class TestOthersUntold:
    @pytest.mark.parametrize("name", ["fallback_mid.sse", "advisor.sse"])
    def test_a_stream_that_ends_after_a_handover(self, name: str) -> None:
        """Once a further model has worked, a stream without its end says no usage, so that the bound is posted."""
        case = BY_NAME[name]
        early = case.meter()
        early.feed(case.data[: case.data.index(b"event: message_delta")])
        assert early.reading.usage is None
        assert not early.reading.final

    def test_before_a_handover(self) -> None:
        """Until a further model works, the usage so far is the model's own."""
        case = BY_NAME["advisor.sse"]
        early = case.meter()
        early.feed(case.data[: case.data.index(b'"server_tool_use"')])
        assert early.reading.usage == Usage(input_tokens=412, output_tokens=1)

    def test_no_passes_told(self) -> None:
        """Totals alone don't say what the model that declined is billed: the call is posted at its bound."""
        message = json.loads(BY_NAME["fallback_bio.json"].data)
        del message["usage"]["iterations"]
        told = meter(asked(fallbacks=[{"model": "claude-opus-4-8"}]))
        feed_all(told, [json.dumps(message).encode()])
        assert "each model" in told.reading.unreadable
        assert not told.reading.final

    def test_a_nameless_pass_beside_a_fallback(self) -> None:
        """A compaction beside a fallback may be either model's, so it is not believed to be the cheaper one's."""
        message = json.loads(BY_NAME["fallback_bio.json"].data)
        message["usage"]["iterations"].insert(0, {"type": "compaction", "input_tokens": 9, "output_tokens": 1})
        told = meter(asked(fallbacks=[{"model": "claude-opus-4-8"}]))
        feed_all(told, [json.dumps(message).encode()])
        assert "which model" in told.reading.unreadable

    def test_a_clients_own_tool(self) -> None:
        """A tool of the client's that is called advisor is no further model."""
        message = json.loads(BY_NAME["one_pass.json"].data)
        message["content"] = [{"type": "tool_use", "id": "a", "name": "advisor", "input": {}}]
        told = meter(asked())
        feed_all(told, [json.dumps(message).encode()])
        assert told.reading.final


class TestLedger:
    def test_totals_beyond_the_passes(self) -> None:
        """What the totals hold beyond the passes is billed too, as the model that answered."""
        ledger = UsageLedger("claude-opus-5", long_cache=False)
        ledger.served_model = "claude-opus-5"
        ledger.take({"input_tokens": 100, "output_tokens": 9, "cache_read_input_tokens": 7, "iterations": [
            {"type": "message", "input_tokens": 60, "output_tokens": 9, "cache_read_input_tokens": 7}
        ]})  # fmt: skip
        assert ledger.usage() == Usage(input_tokens=107, output_tokens=9, cache_read_tokens=7)
        assert ledger.shares(Terms(), "") == (
            Share(Usage(input_tokens=67, output_tokens=9, cache_read_tokens=7)),
            Share(Usage(input_tokens=40)),
        )

    def test_a_declined_pass_ran_at_the_speed_asked_for(self) -> None:
        """Where the answer ran at standard speed, the model that declined may not have."""
        ledger = UsageLedger("claude-opus-5", long_cache=False)
        ledger.served_model = "claude-opus-4-8"
        ledger.take({"input_tokens": 1, "output_tokens": 1, "iterations": [
            {"type": "message", "model": "claude-opus-5", "input_tokens": 5, "output_tokens": 5},
            {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 1, "output_tokens": 1},
        ]})  # fmt: skip
        shares = ledger.shares(Terms(speed="standard"), "fast")
        assert [(share.model, share.terms.speed) for share in shares] == [
            ("claude-opus-5", "fast"),
            ("claude-opus-4-8", ""),
        ]

    @pytest.mark.parametrize("bad", [3, "x", {"input_tokens": -1}, {"output_tokens": "many"}])
    def test_a_pass_that_is_none(self, bad: object) -> None:
        """A pass that is no object, or a count that is none, makes the usage invalid."""
        with pytest.raises(ValueError, match=r"no object|no token count"):
            UsageLedger("claude-opus-5", long_cache=False).take({"iterations": [bad]})
