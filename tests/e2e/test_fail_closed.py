"""When we fail: an exception in any of our hooks refuses or cuts, a lost store refuses, and nothing is forwarded."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.calls import CHAT, CHAT_STREAM, MESSAGES, SDK_ERRORS, Kind, message_of
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import Proxy
from tests.e2e.sabotage import FLAG_VARIABLE, VARIABLE
from tests.e2e.test_aborts import BROKEN
from tests.fakes.script import Hold, Script
from tests.fakes.server import StandIn

SABOTAGE = Path(__file__).with_name("sabotage.py")

BEFORE_SENDING = (
    # Each function that a request passes before it may leave.
    "llmcap_addon.proxy.translate:request_head",
    "llmcap_addon.wire.routes:classify",
    "llmcap_addon.wire.clients:client_name",
    "llmcap_addon.proxy.translate:read",
    "llmcap_addon.wire.openai_chat:OpenAIChat.parse",
    "llmcap_addon.pricing.prices:Prices.quote",
    "llmcap_addon.gate:Gate.admit",
    "llmcap_addon.budget.budget:Budget.reserve",
    "llmcap_addon.budget.budget:Budget.charges",
    "llmcap_addon.wire.openai_chat:OpenAIChat.amend",
    "llmcap_addon.proxy.hooks:Hooks._send",
    "llmcap_addon.proxy.cutting:is_cuttable",
    "llmcap_addon.proxy.cutting:watch",
    "llmcap_addon.proxy.cutting:make_cuttable",
    "llmcap_addon.proxy.hooks:Hooks._llm_host",
    "llmcap_addon.proxy.hooks:Hooks._is_llm_host",
    "llmcap_addon.proxy.hooks:Hooks.requestheaders",
    "llmcap_addon.proxy.hooks:Hooks._decide",
)

WHILE_STREAMING = (
    "llmcap_addon.proxy.translate:stream_through",
    "llmcap_addon.proxy.exchange:Exchange.begin",
    "llmcap_addon.proxy.exchange:Exchange._take",
    "llmcap_addon.proxy.exchange:Exchange._obey",
    "llmcap_addon.live:LiveCall.observe",
    "llmcap_addon.wire.openai_chat:ChatStreamMeter.on_event",
    "llmcap_addon.pricing.prices:Prices.count_output",
)

AT_THE_END = (
    "llmcap_addon.pricing.prices:Prices.cost",
    "llmcap_addon.live:LiveCall.line",
    "llmcap_addon.view.lines:flow_comment",
)

type StartSabotaged = Callable[[str, str], tuple[Proxy, Path]]

CAPS = "{caps: [{name: purse, limit: 10, per: ever}]}"


@pytest.fixture
def start_sabotaged(start_proxy: StartProxy, tmp_path: Path) -> StartSabotaged:
    """Start a proxy in which one function raises while a flag file exists."""

    def start(target: str, caps: str) -> tuple[Proxy, Path]:
        flag = tmp_path / "flag"
        proxy = start_proxy(
            caps,
            sound=False,
            scripts=[SABOTAGE],
            environment={VARIABLE: target, FLAG_VARIABLE: str(flag)},
        )
        return proxy, flag

    return start


@pytest.mark.parametrize("target", BEFORE_SENDING)
def test_a_failure_before_sending_forwards_nothing(
    start_sabotaged: StartSabotaged, stand_in: StandIn, target: str
) -> None:
    """Whatever raises before a request leaves, the client gets an error and the provider gets nothing."""
    proxy, flag = start_sabotaged(target, CAPS)
    flag.touch()
    for http2 in (False, True):
        for kind in (CHAT, CHAT_STREAM):
            with pytest.raises(BROKEN):
                kind(proxy.sdks(http2=http2, max_retries=0))
    assert stand_in.billable() == []
    flag.unlink()
    assert CHAT(proxy.sdks()) == " token" * 16  # it was a failure, not the end
    total = proxy.totals("purse")
    assert (total.pending, total.posted) == (0, stand_in.billed_nanousd())


@pytest.mark.parametrize("target", WHILE_STREAMING)
def test_a_failure_in_a_stream_cuts_it(start_sabotaged: StartSabotaged, stand_in: StandIn, target: str) -> None:
    """Whatever raises while a stream runs, the stream ends on both sides, and its cost is not lost."""
    proxy, flag = start_sabotaged(target, CAPS)
    stand_in.enqueue(Script(output_tokens=100_000, tokens_per_second=500))
    flag.touch()
    with pytest.raises(BROKEN):
        CHAT_STREAM(proxy.sdks(max_retries=0), max_tokens=16_000)
    [record] = stand_in.seen_billable()
    assert record.generated_tokens < 10_000
    [row] = proxy.settled(1)
    assert row.cost >= record.cost_nanousd
    flag.unlink()
    assert CHAT(proxy.sdks()) == " token" * 16


@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM], ids=lambda kind: kind.name)
@pytest.mark.parametrize("target", AT_THE_END)
def test_a_failure_at_the_end_loses_nothing(
    start_sabotaged: StartSabotaged, stand_in: StandIn, target: str, kind: Kind
) -> None:
    """Whatever raises when a call is settled, what it cost stays counted, posted or still reserved."""
    proxy, flag = start_sabotaged(target, CAPS)
    hold = Hold()
    stand_in.enqueue(Script(output_tokens=50, hold_stream=hold))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kind, proxy.sdks(max_retries=0))
        assert hold.reached.wait(20)
        flag.touch()
        hold.release()
        running.exception()
    stand_in.wait_idle()
    proxy.settled(1)
    total = proxy.totals("purse")
    assert total.posted + total.pending >= stand_in.billed_nanousd() > 0


def test_a_lost_store_refuses(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """While the ledger is locked by somebody else, calls are refused with a message that says so; then they pass."""
    proxy = start_proxy(CAPS)
    sdks = proxy.sdks(max_retries=0)
    CHAT(sdks)
    proxy.settled(1)
    blocker = sqlite3.connect(proxy.store_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for kind in (CHAT, MESSAGES):
        with pytest.raises(SDK_ERRORS) as raised:
            kind(sdks)
        message = message_of(raised.value)
        assert message.startswith("LLMCap:")
        assert "ledger" in message
    assert len(stand_in.billable()) == 1
    blocker.rollback()
    blocker.close()
    CHAT(sdks)
    assert len(stand_in.billable()) == 2


def test_a_store_that_is_lost_in_the_middle_keeps_the_money(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A call that ends while the ledger can't be written stays reserved, and is posted when it can."""
    proxy = start_proxy(CAPS)
    hold = Hold()
    stand_in.enqueue(Script(output_tokens=50, hold_stream=hold, hold_after_tokens=20))
    stream = CHAT_STREAM.stream(proxy.sdks(), max_tokens=100)
    first = next(stream)
    blocker = sqlite3.connect(proxy.store_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    hold.release()
    assert first + "".join(stream) == " token" * 50
    stand_in.wait_idle()
    total = proxy.totals("purse")
    assert total.posted + total.pending >= stand_in.billed_nanousd()
    blocker.rollback()
    blocker.close()
    [row] = proxy.settled(1)
    assert row.cost == stand_in.billed_nanousd()


def test_an_unusable_store_stops_the_start(stand_in: StandIn, tmp_path: Path) -> None:
    """With a ledger that is no ledger the proxy does not start, and says what is wrong."""
    proxy = Proxy(tmp_path, stand_in, CAPS)
    proxy.store_path.parent.mkdir(parents=True)
    proxy.store_path.write_bytes(os.urandom(10_000))
    with pytest.raises(RuntimeError):
        proxy.start()
    proxy.stop()
    assert "ledger" in proxy.log
    assert "Traceback" not in proxy.log
