"""The cap: what does not fit is not forwarded, from one client or a hundred, before and after a restart."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx2
import openai
import pytest
from google.genai import errors as google_errors

from llmcap_addon.budget.ledger import Row
from tests.e2e.calls import ALL, CHAT, CHAT_STREAM, GENERATE, MESSAGES, SDK_ERRORS, Kind, message_of
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import Proxy, poll
from tests.fakes.script import Hold, Script
from tests.fakes.sdks import SDKs
from tests.fakes.server import StandIn

NANOUSD_PER_USD = 1_000_000_000

CALLERS = 100
ROOM = 8

SPENT = "{caps: [{name: tiny, limit: 0.000001, per: day}]}"


def usd(amount_nanousd: int) -> str:
    """Write an amount as caps.yaml takes it."""
    return f"{amount_nanousd // NANOUSD_PER_USD}.{amount_nanousd % NANOUSD_PER_USD:09d}"


def count_requests(sdks: SDKs) -> list[httpx2.Request]:
    """From now on, gather the requests that the SDKs send."""
    requests: list[httpx2.Request] = []
    sdks.http.event_hooks = {"request": [requests.append]}
    return requests


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_spent_cap_refuses(start_proxy: StartProxy, stand_in: StandIn, http2: bool) -> None:
    """Each SDK raises its own error with our message after exactly one request, and nothing is forwarded."""
    proxy = start_proxy(SPENT)
    sdks = proxy.sdks(http2=http2)
    requests = count_requests(sdks)
    for number, kind in enumerate(ALL, start=1):
        with pytest.raises(SDK_ERRORS) as raised:
            kind(sdks)
        message = message_of(raised.value)
        assert message.startswith("LLMCap:"), kind
        assert "tiny" in message, kind
        assert len(requests) == number, f"{kind.name} tried again"
    assert stand_in.billable() == []
    rows = proxy.settled(len(ALL))
    assert {(row.state, row.cost, row.caps) for row in rows} == {("refused", 0, ("tiny",))}
    assert proxy.totals("tiny") == proxy.totals("nothing of this name")


def test_the_refusal_is_the_sdks_own_rate_limit(start_proxy: StartProxy) -> None:
    """Programs that handle a provider's rate limit handle ours: the exception has the same class."""
    sdks = start_proxy(SPENT).sdks()
    with pytest.raises(openai.RateLimitError):
        CHAT(sdks)
    with pytest.raises(anthropic.RateLimitError):
        MESSAGES(sdks)
    with pytest.raises(google_errors.ClientError) as raised:
        GENERATE(sdks)
    assert raised.value.code == 429


def test_a_cap_of_zero_spends_nothing(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """With a limit of 0 every billable call is refused, and what is free still passes."""
    proxy = start_proxy("{caps: [{name: none, limit: 0, per: ever}]}")
    sdks = proxy.sdks()
    for kind in ALL:
        with pytest.raises(SDK_ERRORS, match="LLMCap"):
            kind(sdks)
    assert stand_in.billable() == []
    assert [model.id for model in sdks.openai.models.list()]


def bound_of_a_call(proxy: Proxy, stand_in: StandIn, kind: Kind) -> int:
    """Find out what the proxy sets aside for a call: it stands in the row while the answer is held."""
    hold = Hold()
    stand_in.enqueue(Script(hold_head=hold))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kind, proxy.sdks())
        pending: list[Row] = []

        def is_pending() -> bool:
            pending[:] = [row for row in proxy.rows() if row.state == "pending"]
            return bool(pending)

        poll(is_pending, "a pending row")
        hold.release()
        running.result()
    return pending[0].reserved


def test_a_hundred_calls_at_once_on_a_cap_for_eight(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """Of 100 calls at once, exactly the eight whose bounds fit are forwarded; the others are refused at once."""
    bound = bound_of_a_call(start_proxy("caps: []"), stand_in, CHAT)
    stand_in.reset()
    proxy = start_proxy(f"{{wait: 0s, shorten: never, caps: [{{name: eight, limit: {usd(bound * ROOM)}, per: ever}}]}}")
    sdks = proxy.sdks()
    hold = Hold()
    stand_in.default = Script(hold_head=hold)
    together = threading.Barrier(CALLERS)
    refusals: list[str] = []
    enough = threading.Event()

    def call() -> bool:
        together.wait()
        try:
            CHAT(sdks)
        except openai.APIStatusError as error:
            refusals.append(message_of(error))
            if len(refusals) == CALLERS - ROOM:
                enough.set()
            return False
        return True

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(call) for _ in range(CALLERS)]
        enough.wait(60)
        forwarded = len(stand_in.billable())
        in_flight = proxy.totals("eight")
        hold.release()
        answered = sum(one.result() for one in calls)
    assert (forwarded, answered, len(refusals)) == (ROOM, ROOM, CALLERS - ROOM)
    assert (in_flight.posted, in_flight.pending) == (0, bound * ROOM)
    assert all("reserved by calls in flight" in message for message in refusals)
    rows = proxy.settled(CALLERS)
    assert sorted({row.state for row in rows}) == ["posted", "refused"]
    after = proxy.totals("eight")
    assert (after.pending, after.posted) == (0, stand_in.billed_nanousd())
    assert after.posted <= bound * ROOM


def test_calls_wait_for_each_others_reservations(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """With waiting, calls whose bounds do not fit at once go out one after another, and nothing goes over."""
    bound = bound_of_a_call(start_proxy("caps: []"), stand_in, CHAT)
    stand_in.reset()
    limit = bound * 3
    proxy = start_proxy(f"{{wait: 20s, shorten: never, caps: [{{name: narrow, limit: {usd(limit)}, per: ever}}]}}")
    sdks = proxy.sdks()
    answered, refused = 0, 0
    with ThreadPoolExecutor(24) as pool:
        for one in [pool.submit(CHAT, sdks) for _ in range(24)]:
            try:
                one.result()
                answered += 1
            except openai.APIStatusError:
                refused += 1
    assert answered > 3  # more than fit at once
    rows = proxy.settled(24)
    after = proxy.totals("narrow")
    assert (after.pending, after.posted) == (0, stand_in.billed_nanousd())
    assert after.posted <= limit
    assert sum(row.cost for row in rows) == after.posted
    assert len(stand_in.billable()) == answered


def test_a_cap_is_used_to_its_end(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """Streams one after another use a cap up, the last one is cut; then nothing more is forwarded."""
    proxy = start_proxy("{wait: 0s, caps: [{name: purse, limit: 0.02, per: day}]}")
    sdks = proxy.sdks()
    stand_in.default = Script(output_tokens=200)
    answered: list[str] = []

    def fill() -> None:
        while len(answered) < 50:
            answered.append(CHAT_STREAM(sdks))

    with pytest.raises(SDK_ERRORS, match="purse"):
        fill()
    with pytest.raises(SDK_ERRORS, match="purse"):
        CHAT_STREAM(sdks)
    forwarded = stand_in.seen_billable()
    rows = [row for row in proxy.quiet() if row.state == "posted"]
    for row, record in zip(rows, forwarded, strict=True):
        assert row.cost == record.cost_nanousd or ("cut" in row.marks and row.cost > record.cost_nanousd)
    total = proxy.totals("purse")
    assert total.pending == 0
    assert total.posted == sum(row.cost for row in rows) <= 20_000_000
    assert total.posted > 12_000_000  # most of it was usable


def test_all_caps_must_admit(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A call counts against every cap it matches, and the one that is spent refuses by its name."""
    proxy = start_proxy(
        """
        wait: 0s
        caps:
          - {name: daily, limit: 10, per: day}
          - {name: mini-only, limit: 0, per: ever, match: {model: "gpt-4o-mini*"}}
          - {name: anthropic-only, limit: 0.0001, per: hour, match: {provider: anthropic}}
          - {name: google-host, limit: 0, per: ever, match: {host: "generativelanguage.*"}}
        """
    )
    sdks = proxy.sdks()
    CHAT(sdks)
    with pytest.raises(openai.RateLimitError, match="mini-only"):
        CHAT(sdks, model="gpt-4o-mini")
    with pytest.raises(anthropic.RateLimitError, match="anthropic-only"):
        MESSAGES(sdks)
    with pytest.raises(google_errors.ClientError, match="google-host"):
        GENERATE(sdks)
    rows = proxy.settled(4)
    assert [(row.state, row.caps) for row in rows] == [
        ("posted", ("daily",)),
        ("refused", ("mini-only",)),
        ("refused", ("anthropic-only",)),
        ("refused", ("google-host",)),
    ]
    assert len(stand_in.billable()) == 1


def test_an_unlimited_answer_is_shortened(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A call that set no limit goes out with one that fits the cap, until too little is left."""
    proxy = start_proxy("{wait: 0s, caps: [{name: small, limit: 0.05, per: day}]}")
    sdks = proxy.sdks()
    stand_in.default = Script(output_tokens=100_000)
    texts: list[str] = []

    def use_up() -> None:
        while len(texts) < 20:
            texts.append(CHAT(sdks, max_tokens=None))

    with pytest.raises(openai.RateLimitError, match="small"):
        use_up()
    assert texts
    for text, record in zip(texts, stand_in.seen_billable(), strict=True):
        limits = [record.json().get(name) for name in ("max_completion_tokens", "max_tokens")]
        [limit] = [value for value in limits if value is not None]
        assert 1_024 <= limit == record.generated_tokens == len(text) // len(" token")
    rows = [row for row in proxy.quiet() if row.state == "posted"]
    assert all("shortened" in row.marks for row in rows)
    assert sum(row.cost for row in rows) == stand_in.billed_nanousd() <= 50_000_000


@pytest.mark.parametrize("kind", [GENERATE, MESSAGES], ids=lambda kind: kind.name)
def test_other_dialects_are_shortened_too(start_proxy: StartProxy, stand_in: StandIn, kind: Kind) -> None:
    """With `shorten: always` a stated limit is lowered as well, in each dialect's own field."""
    proxy = start_proxy("{wait: 0s, shorten: always, caps: [{name: small, limit: 0.05, per: day}]}")
    stand_in.default = Script(output_tokens=100_000)
    kind(proxy.sdks(), max_tokens=60_000)
    [record] = stand_in.billable()
    assert 1_024 <= record.generated_tokens < 60_000
    [row] = proxy.settled(1)
    assert "shortened" in row.marks
    assert row.cost == record.cost_nanousd <= 50_000_000


def test_a_stated_limit_is_respected(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """With `shorten: auto` a call that states a limit that does not fit is refused, not changed."""
    proxy = start_proxy("{wait: 0s, caps: [{name: small, limit: 0.05, per: day}]}")
    with pytest.raises(openai.RateLimitError, match="small"):
        CHAT(proxy.sdks(), max_tokens=16_000)
    assert stand_in.billable() == []


def test_no_caps_only_audit(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """`caps: []` refuses nothing and counts everything, at any size."""
    proxy = start_proxy("caps: []")
    stand_in.default = Script(output_tokens=100_000, tokens_per_event=1_000)
    for kind in (CHAT, MESSAGES):
        kind(proxy.sdks(), max_tokens=60_000)
    rows = proxy.settled(2)
    assert sum(row.cost for row in rows) == stand_in.billed_nanousd() > 10**9


def test_unknown_prices_can_be_refused(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """With `unknown_price: refuse` the message gives the lines to add, and with them the call is billed by them."""
    proxy = start_proxy("{unknown_price: refuse, caps: []}")
    sdks = proxy.sdks()
    with pytest.raises(SDK_ERRORS) as raised:
        CHAT(sdks, model="my-tuned-model")
    message = message_of(raised.value)
    assert message.startswith("LLMCap:")
    assert "my-tuned-model" in message
    assert "prices:" in message
    assert stand_in.billable() == []
    priced = start_proxy(
        """
        unknown_price: refuse
        prices: {api.openai.com: {"my-*": {input: 3, cached_input: 0.75, cache_write: 3.5, output: 12}}}
        caps: []
        """
    )
    stand_in.enqueue(Script(input_tokens=1_000, cached_tokens=400, output_tokens=100))
    CHAT(priced.sdks(), model="my-tuned-model")
    [row] = priced.settled(1)
    assert row.cost == 600 * 3_000 + 400 * 750 + 100 * 12_000
    assert row.marks == frozenset()


def test_a_host_of_ones_own_is_capped(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A host named under `hosts:` is decrypted, billed by its own prices, and capped."""
    proxy = start_proxy(
        """
        wait: 0s
        hosts: {llm.example.net: {api: openai}}
        prices: {llm.example.net: {"*": {input: 1, output: 2}}}
        caps: [{name: own, limit: 0.01, per: day, match: {host: llm.example.net}}]
        """
    )
    http = proxy.client()
    client = openai.OpenAI(api_key="key", base_url="https://llm.example.net/v1", http_client=http)
    for streamed in (False, True):
        answer = client.chat.completions.create(
            model="llama", max_tokens=50, messages=[{"role": "user", "content": "Hi"}], stream=streamed
        )
        if streamed:
            list(answer)
    rows = proxy.settled(2)
    for row, record in zip(rows, stand_in.billable(), strict=True):
        assert row.cost == record.input_tokens * 1_000 + record.generated_tokens * 2_000
        assert row.caps == ("own",)
    http.close()


def test_the_spend_is_still_there_after_a_restart(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """After SIGTERM and a new start, the cap stands where it stood."""
    proxy = start_proxy("{wait: 0s, shorten: never, caps: [{name: purse, limit: 0.013, per: ever}]}")
    stand_in.default = Script(output_tokens=500)
    CHAT(proxy.sdks(), max_tokens=500)
    before = proxy.settled(1)
    proxy.stop()
    proxy.start()
    assert proxy.rows() == tuple(before)
    assert proxy.totals("purse").posted == stand_in.billed_nanousd() == before[0].cost
    with pytest.raises(openai.RateLimitError, match="purse"):
        CHAT(proxy.sdks(), max_tokens=500)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_killed_proxy_forgets_nothing(start_proxy: StartProxy, stand_in: StandIn, streamed: bool) -> None:
    """After `kill -9` in the middle of a call, the restarted ledger is not below what the provider billed."""
    proxy = start_proxy("{caps: [{name: purse, limit: 10, per: ever}]}")
    hold = Hold()
    stand_in.enqueue(Script(output_tokens=400, hold_stream=hold, hold_after_tokens=300))
    sdks = proxy.sdks(max_retries=0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(CHAT_STREAM if streamed else CHAT, sdks, 1_000)
        assert hold.reached.wait(20)
        proxy.kill()
        assert isinstance(running.exception(), (openai.APIConnectionError, httpx2.TransportError))
    hold.release()
    stand_in.wait_idle()
    truth = stand_in.billed_nanousd()
    assert stand_in.billable()[0].generated_tokens >= 300
    proxy.start()
    held = proxy.totals("purse")
    assert held.posted + held.pending >= truth
    poll(lambda: proxy.rows()[0].state != "pending", "the dead process's reservation to expire", timeout_s=60)
    [row] = proxy.rows()
    assert row.cost >= truth
    assert "expired" in row.marks
    assert proxy.totals("purse").posted == row.cost
    CHAT(proxy.sdks())
