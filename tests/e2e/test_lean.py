"""`llmcap proxy`, our own lean start: the same bill, the same refusal, the same cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal

import pytest

from tests.e2e.calls import ALL, CHAT, CHAT_STREAM, SDK_ERRORS, Kind, message_of
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import ROOT, Proxy
from tests.fakes.script import Script
from tests.fakes.server import StandIn

CAPS = '{wait: 0s, caps: [{name: fuse, limit: 0.012, per: day, match: {model: "gpt-4o"}}, {name: all, limit: 9, per: day}]}'


def cheap(kind: Kind) -> str:
    return kind.model.replace("gpt-4o", "gpt-4o-mini")


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_the_lean_proxy_bills_cuts_and_refuses(start_proxy: StartProxy, stand_in: StandIn, http2: bool) -> None:
    """All dialects are billed to the nano-dollar, a stream is cut, the next call is refused."""
    proxy = start_proxy(CAPS, flavor="lean")
    sdks = proxy.sdks(http2=http2)
    for kind in ALL:
        kind(sdks, model=cheap(kind))
    rows = proxy.settled(len(ALL))
    assert [row.cost for row in rows] == [record.cost_nanousd for record in stand_in.seen_billable()]
    stand_in.enqueue(Script(output_tokens=100_000, tokens_per_second=500))
    for kind in (CHAT_STREAM, CHAT):
        with pytest.raises(SDK_ERRORS) as raised:
            kind(sdks, 16_000)
        assert message_of(raised.value).startswith("LLMCap:")
        assert "fuse" in message_of(raised.value)
    assert len(stand_in.seen_billable()) == len(ALL) + 1
    proxy.settled(len(ALL) + 2)
    assert proxy.totals("fuse").posted <= 12_000_000


def report(proxy: Proxy, *options: str) -> str:
    """Run `llmcap report` on a proxy's ledger, as a user would, also while the proxy runs."""
    command = [sys.executable, "-m", "llmcap_addon", "report", "--config", str(proxy.config_path)]
    done = subprocess.run(
        [*command, "--store", proxy.store_url, *options],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HOME": str(proxy.home)},
    )
    return done.stdout


def test_the_report_agrees_with_the_bill(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """`llmcap report --json` tells, while the proxy runs, what the stand-ins billed."""
    proxy = start_proxy(CAPS)
    sdks = proxy.sdks()
    for kind in ALL:
        kind(sdks, model=cheap(kind))
    with pytest.raises(SDK_ERRORS):
        CHAT(sdks, 16_000)
    proxy.settled(len(ALL) + 1)
    told = json.loads(report(proxy, "--json"))
    truth = Decimal(stand_in.billed_nanousd()) / 10**9
    assert Decimal(told["posted_usd"]) == truth
    assert Decimal(told["pending_usd"]) == 0
    assert (told["calls"], told["refused"], told["cut"]) == (len(ALL), 1, 0)
    caps = {cap["name"]: cap for cap in told["caps"]}
    assert Decimal(caps["all"]["posted"]) == truth
    assert Decimal(caps["fuse"]["posted"]) == 0
    assert "gpt-4o-mini" in report(proxy, "--by", "model")
