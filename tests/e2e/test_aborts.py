"""Calls that do not end well: what the provider billed is in the ledger all the same, estimated from above."""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import Literal

import httpx2
import pytest

from llmcap_addon.budget.ledger import Row
from tests.e2e.calls import (
    ALL,
    CHAT,
    CHAT_STREAM,
    GENERATE,
    GENERATE_STREAM,
    RESPONSES,
    SDK_ERRORS,
    STREAMS,
    WHOLE,
    Kind,
)
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import Proxy
from tests.fakes.script import Hold, Record, Script
from tests.fakes.sdks import TIMEOUT_SECONDS, SDKs
from tests.fakes.server import StandIn

both_protocols = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])

BROKEN = (*SDK_ERRORS, httpx2.HTTPError, ValueError)
"""What an SDK may raise when an answer breaks off: its own error, its HTTP client's, or json's."""


class Aborts:
    """A client of its own for each test, because these tests leave by closing it."""

    def __init__(self, proxy: Proxy, stand_in: StandIn) -> None:
        self.proxy = proxy
        self.stand_in = stand_in
        self._seen = proxy.rows()

    def sdks(self, *, http2: bool = False, timeout_s: float = TIMEOUT_SECONDS) -> SDKs:
        return self.proxy.sdks(http2=http2, max_retries=0, timeout_s=timeout_s)

    def result(self) -> tuple[Row, Record]:
        """Give the one row and the one record, once both are final; the row is never below the truth."""
        [row] = self.proxy.settled(1, self._seen)
        [record] = self.stand_in.seen_billable()
        assert row.cost >= record.cost_nanousd > 0
        assert row.usage.output_tokens >= record.generated_tokens
        return row, record


@pytest.fixture
def aborts(audit_proxy: Proxy, stand_in: StandIn) -> Aborts:
    return Aborts(audit_proxy, stand_in)


@both_protocols
@pytest.mark.parametrize("kind", [kind for kind in STREAMS if kind != GENERATE_STREAM], ids=lambda kind: kind.name)
def test_a_client_that_leaves_is_charged(aborts: Aborts, kind: Kind, http2: bool) -> None:
    """A stream whose client goes away: the provider is stopped, the row is estimated and not below its count."""
    aborts.stand_in.enqueue(Script(output_tokens=100_000, tokens_per_second=300))
    sdks = aborts.sdks(http2=http2)
    list(islice(kind.stream(sdks, max_tokens=16_000), 40))
    sdks.close()
    row, record = aborts.result()
    assert record.aborted
    assert record.generated_tokens < 5_000
    assert "estimated" in row.marks
    assert row.state == "posted"
    assert row.cost < 20 * record.cost_nanousd + 10_000_000  # from above, but no nonsense
    assert row.note


@both_protocols
def test_a_client_that_leaves_a_stream_that_is_billed_all_the_same(aborts: Aborts, http2: bool) -> None:
    """Google does not stop when the client has gone: the answer is read to its end, and the bill is exact."""
    hold = Hold()
    aborts.stand_in.enqueue(Script(output_tokens=400, hold_stream=hold, hold_after_tokens=100))
    sdks = aborts.sdks(http2=http2)
    list(islice(GENERATE_STREAM.stream(sdks, max_tokens=16_000), 40))
    sdks.close()
    hold.release()
    row, record = aborts.result()
    assert record.complete
    assert record.generated_tokens == 400
    assert row.cost == record.cost_nanousd
    assert "estimated" not in row.marks


def test_a_proxy_that_ends_waits_for_what_is_billed_all_the_same(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A tool that ends, and its proxy with it, while an answer of Google's still runs: the bill is exact."""
    proxy = start_proxy("{caps: [{name: purse, limit: 10, per: ever}]}")
    stand_in.enqueue(Script(output_tokens=400, tokens_per_second=200))
    sdks = proxy.sdks()
    list(islice(GENERATE_STREAM.stream(sdks, max_tokens=16_000), 40))
    sdks.close()
    proxy.stop()
    [row] = proxy.rows()
    [record] = stand_in.seen_billable()
    assert record.generated_tokens == 400
    assert (row.state, row.cost) == ("posted", record.cost_nanousd)
    assert "billed to their end" in proxy.log


@both_protocols
def test_a_client_that_leaves_an_answer_that_is_billed_all_the_same(aborts: Aborts, http2: bool) -> None:
    """The same with an answer that comes in one piece, whose head is still awaited."""
    hold = Hold()
    aborts.stand_in.enqueue(Script(output_tokens=150, hold_head=hold))
    sdks = aborts.sdks(http2=http2, timeout_s=1)
    with pytest.raises(BROKEN):
        GENERATE(sdks, max_tokens=200)
    sdks.close()
    hold.release()
    row, record = aborts.result()
    assert row.cost == record.cost_nanousd
    assert "estimated" not in row.marks


@both_protocols
@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind != GENERATE], ids=lambda kind: kind.name)
def test_a_client_that_leaves_an_unstreamed_call_is_charged(aborts: Aborts, kind: Kind, http2: bool) -> None:
    """A client that gives up on an unstreamed answer is charged the bound: nobody saw how far it had come."""
    hold = Hold()
    aborts.stand_in.enqueue(Script(output_tokens=150, hold_stream=hold, hold_after_tokens=120))
    sdks = aborts.sdks(http2=http2, timeout_s=1)
    with pytest.raises(BROKEN):
        kind(sdks, max_tokens=200)
    sdks.close()
    row, record = aborts.result()
    hold.release()
    assert record.generated_tokens == 120
    assert "estimated" in row.marks


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
def test_a_provider_that_dies_is_paid(aborts: Aborts, kind: Kind, ending: Literal["close", "reset"]) -> None:
    """A stream that its provider breaks off is charged for what came, and the client learns of the break."""
    aborts.stand_in.enqueue(Script(output_tokens=500, ending=ending, ending_after_tokens=60))
    with pytest.raises(BROKEN):
        kind(aborts.sdks(), max_tokens=1_000)
    row, record = aborts.result()
    assert record.generated_tokens == 60
    assert "estimated" in row.marks


@both_protocols
@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
def test_a_truncated_stream_is_counted(aborts: Aborts, kind: Kind, http2: bool) -> None:
    """A stream that ends without its last events is charged for what came, and passed on as it came."""
    aborts.stand_in.enqueue(Script(output_tokens=500, ending="truncated", ending_after_tokens=60))
    assert kind(aborts.sdks(http2=http2), max_tokens=1_000) == " token" * 60
    row, _ = aborts.result()
    assert "estimated" in row.marks or kind.name == "generate-stream"  # Gemini's last chunk had the usage so far


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_an_answer_without_usage_is_counted(aborts: Aborts, kind: Kind) -> None:
    """A whole answer that reports no usage is counted from above, and marked."""
    aborts.stand_in.enqueue(Script(output_tokens=90, report_usage=False))
    with contextlib.suppress(*BROKEN, AssertionError):  # some SDKs' strict types demand usage
        kind(aborts.sdks(), max_tokens=1_000)
    row, _ = aborts.result()
    assert "estimated" in row.marks


@pytest.mark.parametrize("kind", [CHAT, RESPONSES], ids=lambda kind: kind.name)
def test_a_connection_that_breaks_within_a_body_is_charged(aborts: Aborts, kind: Kind) -> None:
    """An unstreamed answer of which half arrives was billed whole."""
    aborts.stand_in.enqueue(Script(output_tokens=150, ending="close"))
    with pytest.raises(BROKEN):
        kind(aborts.sdks(), max_tokens=200)
    row, _ = aborts.result()
    assert "estimated" in row.marks


def test_a_provider_that_goes_on_is_paid_for_what_was_seen(aborts: Aborts) -> None:
    """The limit of the promise, told in the README: tokens that nobody saw can't be counted, those seen are."""
    aborts.stand_in.enqueue(Script(output_tokens=300, tokens_per_second=1_000, generate_after_disconnect=True))
    sdks = aborts.sdks()
    seen = len("".join(islice(CHAT_STREAM.stream(sdks, max_tokens=1_000), 50))) // len(" token")
    sdks.close()
    [row] = aborts.proxy.settled(1, aborts._seen)
    aborts.stand_in.wait_idle()
    assert row.usage.output_tokens >= seen
    assert "estimated" in row.marks
