"""The screen shows every fact, at any size, whatever the names in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from llmcap_addon.activity import Activity, CallLine
from llmcap_addon.budget.ledger import Balance, Charge
from llmcap_addon.money import nanousd
from llmcap_addon.view.console import ConsoleState, Notice, render, snapshot
from llmcap_addon.view.tables import bar, reached_in, state_word, state_words
from llmcap_addon.view.text import ASCII, UNICODE, Glyphs
from tests.view.scenes import BUSY, HOUR_MS, NOW_MS, balance, call
from tests.view.test_text import ODD


def screen(state: ConsoleState, width: int, height: int, glyphs: Glyphs = UNICODE) -> list[str]:
    """The screen's lines, checked to be as wide and at most as many as asked."""
    lines = render(state, width, height, glyphs).plain.split("\n")
    assert len(lines) <= height
    assert {cell_len(line) for line in lines} <= {width}
    return lines


def row(lines: list[str], start: str) -> str:
    """The one line that starts so, with single blanks."""
    found = [" ".join(line.split()) for line in lines if line.startswith(start)]
    assert len(found) == 1, lines
    return found[0]


def test_80_columns_and_24_rows_hold_every_fact() -> None:
    """Caps, rate, spend by model and client, calls and their states, the error and the log are all there."""
    lines = screen(BUSY, 80, 24)
    assert len(lines) == 24
    assert row(lines, "LLMCap") == "LLMCap 127.0.0.1:8080 12:03:41"
    assert row(lines, "burn") == "burn $2.67/h spent $4.21 this run 66 calls 1 refused 1 cut 2 estimated"
    assert row(lines, "! caps.yaml").startswith("! caps.yaml line 7: caps[1].limit: found 'ten'")
    assert row(lines, "daily") == "daily ████▒····· 42% $4.21 $0.31 $10.00 5h 0m in 2h 10m"
    assert row(lines, "fuse") == "fuse ██████████ 100% $2.00 – $2.00 19s spent"
    assert row(lines, "opus") == "opus ████████▒· 87% $2.61 $0.12 $3.00 9h 0m in 8m 45s"
    assert row(lines, "experiment").endswith("<1% $0.0042 – $20.00 never in 7h 29m")
    assert row(lines, "claude-opus") == "claude-opus-4-1-20250805 $2.61 12 claude-code $3.81 53"
    assert row(lines, "(3 others)") == "(3 others) $0.40 11 (2 others) $0.0814 4"
    assert row(lines, "12:02:54") == "12:02:54 gemini-cli gemini-2.5-pro 12,345 10,000 1,234 ~$0.0031 estimated"
    assert row(lines, "12:02:55").endswith("$1.20 est. price")
    assert row(lines, "12:02:56").endswith("failed")
    assert row(lines, "12:02:57").endswith("~$0.41 cut")
    assert row(lines, "12:02:58") == '12:02:58 runaw…-loop gpt-4o cap "fuse" of $2.00: $2.00 s… refused'
    assert row(lines, "12:02:59").endswith("waiting")
    assert row(lines, "12:03:00") == "12:03:00 claude-code claude-op…20250805 12,345 10,000 1,234 $0.0714 streaming"
    assert lines[-2].startswith("127.0.0.1:51234: POST https://api.anthropic.com")


def test_200_columns_stand_side_by_side_and_say_it_in_full() -> None:
    """Caps, models and clients share their rows; calls have full names, reserved money, all marks and the reason."""
    lines = screen(BUSY, 200, 40)
    heading = row(lines, "CAP ")
    assert "MODEL" in heading
    assert "CLIENT" in heading
    assert "claude-opus-4-1-20250805" in row(lines, "daily")
    assert "claude-code" in row(lines, "daily")
    assert row(lines, "12:02:53").endswith("done, shortened")
    assert row(lines, "12:02:55").endswith(
        "openai-python my-tuned-model 12,345 10,000 1,234 $1.20 – done, assumed price"
    )
    assert "cut, estimated LLMCap: stream cut, cap daily" in row(lines, "12:02:57")
    assert 'refused LLMCap: refused, cap "fuse" of $2.00: $2.00 spent' in row(lines, "12:02:58")
    assert row(lines, "12:03:00").endswith("$0.0714 $0.25 streaming")
    assert len([line for line in lines if line.startswith("12:0")]) == len(BUSY.lines) + 1


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """No character outside ASCII is drawn, not even from a name."""
    state = replace(BUSY, lines=(call(1, client="Füchse", model="模型"),))
    for width in (40, 80, 200):
        "\n".join(screen(state, width, 24, ASCII)).encode("ascii")
    assert "####+....." in row(screen(BUSY, 80, 24, ASCII), "daily")


def test_nothing_yet() -> None:
    """Before the first call the screen says what it waits for; without caps it says that it only counts."""
    lines = screen(ConsoleState(now_ms=NOW_MS, listening="127.0.0.1:8080"), 80, 24)
    text = "\n".join(lines)
    assert "no caps: spend is only counted" in text
    assert "waiting for the first call" in text
    assert "burn $0.00/h  spent $0.00 this run  0 calls" in text


def test_more_caps_than_rows_shows_those_nearest_to_their_limit() -> None:
    """What is about to trip is never hidden behind what is not."""
    caps = tuple(balance(f"cap{number}", "10", f"{number % 10}") for number in range(40))
    lines = screen(replace(BUSY, balances=caps, notices=()), 80, 24)
    shown = [line.split()[0] for line in lines if line.startswith("cap")]
    assert len(shown) >= 5
    assert sorted(name[-1] for name in shown) == sorted("9999888877776666"[: len(shown)])
    assert any(f"{40 - len(shown)} more, less used" in line for line in lines)


def test_errors_come_first_and_notices_are_bounded() -> None:
    """However many notices there are, errors are seen and the caps stay on screen."""
    notices = (*(Notice(f"hint {number}") for number in range(9)), Notice("the ledger can't be reached", "error"))
    lines = screen(replace(BUSY, notices=notices), 80, 24)
    assert lines[2].startswith("! the ledger can't be reached")
    assert sum("hint" in line for line in lines) == 2
    assert row(lines, "daily")


def test_error_stands_out_in_red() -> None:
    """An unreachable store is red; a cap's style follows how much is spent."""
    drawn = render(replace(BUSY, notices=(Notice("store unreachable", "error"),)), 80, 24)
    start = drawn.plain.index("! store unreachable")
    assert any(span.style == "bold red" and span.start <= start < span.end for span in drawn.spans)


@pytest.mark.parametrize(
    ("posted", "pending", "burn", "words"),
    [
        ("4", "0", "3", "in 2h 0m"),
        ("4", "0", "1", "resets first"),
        ("4", "0", "0", ""),
        ("10", "0", "3", "spent"),
        ("11", "0", "3", "spent"),
        ("4", "6", "3", "all reserved"),
    ],
)
def test_when_a_cap_is_reached(posted: str, pending: str, burn: str, words: str) -> None:
    """A cap that is reached already, or resets before, gets no time."""
    assert reached_in(balance("daily", "10", posted, pending), nanousd(burn), NOW_MS)[0] == words


def test_cap_of_zero_is_spent() -> None:
    """A limit of nothing is a full bar, not a division by zero."""
    assert bar(balance("none", "0", "0"), 10, UNICODE).plain == "█" * 10


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 60))
def test_bar_is_exact_at_its_ends(limit: int, posted: int, pending: int, width: int) -> None:
    """A bar is full only when nothing is left, and never hides a cent that is spent or reserved beside free room."""
    value = Balance(Charge("c", "c", "", "ever", 0, None, limit), posted, pending)
    text = bar(value, width, UNICODE).plain
    assert cell_len(text) == width
    cells = text.rstrip("0123456789%< ")
    assert (UNICODE.free in cells) == (posted + pending < limit)
    if len(cells) >= 3 and posted:
        assert UNICODE.spent in cells


def test_states_and_marks_in_words() -> None:
    """Each state and mark has its word, in narrow and in wide tables."""
    marked: tuple[list[str], ...] = ([], ["estimated"], ["assumed"], ["overrun", "unreserved"], ["failed"])
    assert [state_word(call(1, marks=frozenset(marks))) for marks in marked] == [
        "done",
        "estimated",
        "est. price",
        "unreserved",
        "failed",
    ]
    assert state_words(call(1, state="cut", marks=frozenset({"cut", "estimated", "assumed"}))) == (
        "cut, assumed price, estimated"
    )


def test_a_deferred_call_shows_what_it_holds() -> None:
    """Its cost is not known yet: no number stands there, what is reserved does, in a wide table."""
    deferred = replace(call(1, cost="0", state="deferred"), reserved=nanousd("0.25"))
    lines = screen(replace(BUSY, lines=(deferred,)), 200, 40)
    assert row(lines, "12:02:42").endswith("– $0.25 deferred")
    assert row(screen(replace(BUSY, lines=(deferred,)), 100, 40), "12:02:42").endswith("– deferred")


def test_snapshot_takes_each_caps_own_rate() -> None:
    """A cap on one model is reached at the pace of that model's calls only."""
    activity = Activity(lambda: NOW_MS)
    activity.update(call(1, model="gpt-4o", cost="1"))
    activity.update(call(2, model="claude-opus-4-1", cost="2"))
    opus = balance("opus", "10", "2")
    opus = replace(opus, charge=replace(opus.charge, match=(("model", "o3"), ("model", "claude-opus-*"), ("run", "7"))))
    state = snapshot(activity, [opus, balance("daily", "10", "3")], NOW_MS + HOUR_MS, "127.0.0.1:1")
    assert state.burns == (0, 0)
    state = snapshot(activity, [opus, balance("daily", "10", "3")], NOW_MS, "127.0.0.1:1")
    assert state.burns == (nanousd("720"), nanousd("1080"))
    assert state.burn == nanousd("1080")
    assert state.models == (("claude-opus-4-1", nanousd("2"), 1), ("gpt-4o", nanousd("1"), 1))
    assert [line.id for line in state.lines] == ["call-1", "call-2"]


AMOUNTS = st.integers(0, 10**18)
LINES = st.builds(
    CallLine,
    id=st.uuids().map(str),
    at_ms=st.integers(0, 10**15),
    client=ODD,
    host=ODD,
    provider=ODD,
    model=ODD,
    state=st.sampled_from(["waiting", "running", "streaming", "done", "refused", "cut"]),
    input_tokens=AMOUNTS,
    cache_read_tokens=AMOUNTS,
    output_tokens=AMOUNTS,
    cost=AMOUNTS,
    reserved=AMOUNTS,
    marks=st.frozensets(st.sampled_from(["estimated", "assumed", "cut", "failed", "overrun", "shortened"])),
    message=ODD,
)
BALANCES = st.builds(
    Balance,
    charge=st.builds(
        Charge,
        cap=ODD,
        key=st.just("k"),
        scope=ODD,
        period=st.just("ever"),
        starts_at_ms=st.just(0),
        resets_at_ms=st.none() | st.integers(0, 10**15),
        limit=AMOUNTS,
    ),
    posted=AMOUNTS,
    pending=AMOUNTS,
)
SPENDS = st.lists(st.tuples(ODD, AMOUNTS, st.integers(0, 10**9)), max_size=8).map(tuple)
STATES = st.builds(
    ConsoleState,
    now_ms=st.integers(0, 10**15),
    listening=ODD,
    balances=st.lists(BALANCES, max_size=6).map(tuple),
    burn=AMOUNTS,
    lines=st.lists(LINES, max_size=6).map(tuple),
    models=SPENDS,
    clients=SPENDS,
    notices=st.lists(st.builds(Notice, ODD, st.sampled_from(["error", "warning", "info"])), max_size=5).map(tuple),
    logs=st.lists(ODD, max_size=6).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(STATES, st.integers(1, 230), st.integers(1, 60), st.sampled_from([UNICODE, ASCII]))
def test_any_state_fits_any_terminal(state: ConsoleState, width: int, height: int, glyphs: Glyphs) -> None:
    """Odd names, huge numbers and tiny screens never wrap, scroll or crash."""
    text = "\n".join(screen(state, width, height, glyphs))
    assert "\x1b" not in text
    if glyphs.ascii_only:
        text.encode("ascii")


@pytest.mark.parametrize("width", [30, 60, 79, 80, 100, 139, 140, 200, 300])
@pytest.mark.parametrize("height", [1, 3, 6, 10, 16, 24, 50, 100])
def test_screen_is_used_to_its_last_row(width: int, height: int) -> None:
    """The log stands at the bottom, wherever that is, and no row is lost when there are calls to show."""
    lines = screen(BUSY, width, height)
    assert len(lines) == height
