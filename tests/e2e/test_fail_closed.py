"""When we fail: an exception in any of our hooks refuses or cuts, a lost store refuses, and nothing is forwarded."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmcap_addon.budget.ledger import Row
from tests.e2e.calls import CHAT, CHAT_STREAM, MESSAGES, SDK_ERRORS, Kind, message_of
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import Proxy
from tests.e2e.sabotage import TARGETS_VARIABLE, VARIABLE
from tests.e2e.test_aborts import BROKEN
from tests.fakes.script import Hold, Script
from tests.fakes.server import StandIn

SABOTAGE = Path(__file__).with_name("sabotage.py")

BEFORE_SENDING = (
    # Each function that a request passes before it may leave.
    "llmcap_addon.proxy.translate:request_head",
    "llmcap_addon.wire.routes:classify",
    "llmcap_addon.proxy.service:Service.client_of",
    "llmcap_addon.proxy.translate:read",
    "llmcap_addon.wire.openai_chat:ChatDialect.parse",
    "llmcap_addon.pricing.prices:Prices.quote",
    "llmcap_addon.gate.gate:Gate.admit",
    "llmcap_addon.budget.budget:Budget.reserve",
    "llmcap_addon.budget.budget:Budget.charges",
    "llmcap_addon.wire.openai_chat:ChatDialect.amend",
    "llmcap_addon.proxy.hooks:Hooks._send",
    "llmcap_addon.proxy.cutting:is_cuttable",
    "llmcap_addon.proxy.cutting:watch",
    "llmcap_addon.proxy.cutting:make_cuttable",
    "llmcap_addon.proxy.hooks:Hooks._llm_host",
    "llmcap_addon.proxy.hooks:Hooks._is_llm_host",
    "llmcap_addon.proxy.hooks:Hooks._decide",
)

WHILE_STREAMING = (
    "llmcap_addon.proxy.translate:stream_through",
    "llmcap_addon.proxy.exchange:Exchange.begin",
    "llmcap_addon.proxy.exchange:Exchange._take",
    "llmcap_addon.proxy.valve:Valve.let_through",
    "llmcap_addon.gate.live:LiveCall.observe",
    "llmcap_addon.wire.openai_chat:ChatStreamMeter.on_event",
    "llmcap_addon.pricing.prices:Prices.count_output",
)

AT_THE_END = (
    "llmcap_addon.pricing.prices:Prices.cost",
    "llmcap_addon.proxy.hooks:flow_comment",
    "llmcap_addon.gate.live:LiveCall.line",
)

CAPS = "{caps: [{name: purse, limit: 10, per: ever}]}"


class Sabotaged:
    """A proxy in which any one function can be made to raise."""

    def __init__(self, proxy: Proxy, orders: Path, stand_in: StandIn) -> None:
        self.proxy = proxy
        self.stand_in = stand_in
        self._orders = orders
        self._before = proxy.totals("purse").posted
        self._seen = proxy.rows()

    def breaks(self, target: str) -> None:
        """From now on, this function raises."""
        self._orders.write_text(target)

    def works(self) -> None:
        """From now on, nothing raises; a call must pass: it was a failure, not the end."""
        self._orders.unlink(missing_ok=True)
        assert CHAT(self.proxy.sdks()) == " token" * 16

    def new_rows(self) -> list[Row]:
        """Wait until nothing is pending, and give this test's rows."""
        return self.proxy.quiet(self._seen)

    def assert_books(self) -> None:
        """Nothing of this test is pending, and what was posted is not below the truth."""
        rows = self.new_rows()
        total = self.proxy.totals("purse")
        assert total.posted - self._before == sum(row.cost for row in rows) >= self.stand_in.billed_nanousd() > 0


@pytest.fixture(scope="module")
def sabotaged_proxy(stand_ins: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Path]]:
    """Start one proxy for all targets; its log may hold what we raise in it, so it is not held to be sound."""
    folder = tmp_path_factory.mktemp("sabotage")
    orders = folder / "orders"
    targets = " ".join((*BEFORE_SENDING, *WHILE_STREAMING, *AT_THE_END))
    environment = {VARIABLE: str(orders), TARGETS_VARIABLE: targets}
    with Proxy(folder, stand_ins, CAPS, scripts=[SABOTAGE], environment=environment) as proxy:
        yield proxy, orders


@pytest.fixture
def sabotaged(sabotaged_proxy: tuple[Proxy, Path], stand_in: StandIn) -> Iterator[Sabotaged]:
    proxy, orders = sabotaged_proxy
    yield Sabotaged(proxy, orders, stand_in)
    orders.unlink(missing_ok=True)


@pytest.mark.parametrize("target", BEFORE_SENDING)
def test_a_failure_before_sending_forwards_nothing(sabotaged: Sabotaged, target: str) -> None:
    """Whatever raises before a request leaves, the client gets an error and the provider gets nothing."""
    sabotaged.breaks(target)
    for http2 in (False, True):
        for kind in (CHAT, CHAT_STREAM):
            with pytest.raises(BROKEN):
                kind(sabotaged.proxy.sdks(http2=http2, max_retries=0))
    assert sabotaged.stand_in.billable() == []
    sabotaged.works()
    sabotaged.assert_books()


@pytest.mark.parametrize("target", WHILE_STREAMING)
def test_a_failure_in_a_stream_cuts_it(sabotaged: Sabotaged, target: str) -> None:
    """Whatever raises while a stream runs, the stream ends on both sides, and its cost is not lost."""
    sabotaged.stand_in.enqueue(Script(output_tokens=100_000, tokens_per_second=500))
    sabotaged.breaks(target)
    with pytest.raises(BROKEN):
        CHAT_STREAM(sabotaged.proxy.sdks(max_retries=0), max_tokens=16_000)
    [record] = sabotaged.stand_in.seen_billable()
    assert record.generated_tokens < 10_000
    sabotaged.works()
    sabotaged.assert_books()


@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM], ids=lambda kind: kind.name)
@pytest.mark.parametrize("target", AT_THE_END)
def test_a_failure_at_the_end_loses_nothing(sabotaged: Sabotaged, target: str, kind: Kind) -> None:
    """Whatever raises when a call is settled, its cost is posted."""
    hold = Hold()
    sabotaged.stand_in.enqueue(Script(output_tokens=50, hold_stream=hold))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kind, sabotaged.proxy.sdks(max_retries=0))
        assert hold.reached.wait(20)
        sabotaged.breaks(target)
        hold.release()
        running.exception()
    sabotaged.stand_in.wait_idle()
    sabotaged.assert_books()


def test_a_lost_store_refuses(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """While the ledger is locked by somebody else, calls are refused with a message that says so; then they pass."""
    proxy = start_proxy(CAPS)
    sdks = proxy.sdks(max_retries=0)
    CHAT(sdks)
    proxy.settled(1)
    blocker = sqlite3.connect(proxy.store_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(SDK_ERRORS) as raised:
        MESSAGES(sdks)
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
