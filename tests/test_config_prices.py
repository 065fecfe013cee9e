"""Tests of the key `prices:` of caps.yaml."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from llmcap_addon.config import parse_config
from llmcap_addon.errors import ConfigError
from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.overrides import OwnRows, PriceOverride, own_card
from llmcap_addon.pricing.rates import FEES, PIECES, TOKENS, Row

MILLION = "from 0 to 1,000,000, written out, like 5 or 0.25 (no exponent, at most 9 decimals)"
TOKENS_WORDS = f"dollars per million tokens {MILLION}"


def read(price: str) -> PriceOverride:
    """The price of one model of one host, as it stands behind `m:`."""
    return parse_config(f"caps: []\nprices:\n  x.example:\n    m: {price}\n", Path("caps.yaml")).prices["x.example"][
        "m"
    ]


def complaint(price: str) -> str:
    """What is wrong with a price; each line without the path that all of them have."""
    with pytest.raises(ConfigError) as caught:
        read(price)
    return str(caught.value).replace('prices["x.example"].m', "m")


def row(**amounts: str) -> Row:
    return {name: Decimal(amount) for name, amount in amounts.items()}


def flat(**amounts: str) -> OwnRows:
    return OwnRows(row(**amounts), {}, {})


@pytest.mark.parametrize("field", [*(name for name in TOKENS if name != "video_input"), *FEES, *PIECES])
def test_each_field_of_the_table_can_be_stated(field: str) -> None:
    """Under the same name, as the same amount."""
    amounts = {"input": "1", "output": "2"} | {field: "0.000015"}
    text = ", ".join(f"{name}: {amount}" for name, amount in amounts.items())
    assert read(f"{{{text}}}") == PriceOverride(((date.min, own_card(flat(**amounts))),))


def test_everything_at_once() -> None:
    """Tiers, steps, places, hours and days, each with what it states."""
    found = read(
        """
      - {input: 4, output: 8}
      - from: 2026-12-01
        input: 5
        output: 10
        cached_input: 0.5
        web_search: 10
        tiers: {batch: {input: 2.5, output: 5}, priority: {input: 10, output: 20}}
        above: {272_000: {input: 10, output: 15, tiers: {batch: {input: 5}}}}
        geography: {us: 1.1, EU: 1.2}
        off_peak:
          - {utc: "16:30-00:30", weekdays: [1, 2, 3, 4, 5], input: 3}
          - {utc: ["00:00-01:00", "04:00-24:00"], output: 6}
"""
    )
    rows = OwnRows(
        row(input="5", output="10", cached_input="0.5", web_search="10"),
        {"batch": row(input="2.5", output="5"), "priority": row(input="10", output="20")},
        {272_000: OwnRows(row(input="10", output="15"), {"batch": row(input="5")}, {})},
    )
    later = own_card(
        rows,
        {"us": Decimal("1.1"), "eu": Decimal("1.2")},
        [
            (Hours.parse("16:30-00:30", [1, 2, 3, 4, 5]), flat(input="3")),
            (Hours.parse("00:00-01:00"), flat(output="6")),
            (Hours.parse("04:00-24:00"), flat(output="6")),
        ],
    )
    assert found == PriceOverride(
        ((date.min, own_card(flat(input="4", output="8"))), (date(2026, 12, 1), later))
    )  # fmt: skip


def test_days_need_no_order() -> None:
    """The last that is not in the future counts, whatever the order in the file."""
    found = read("[{from: 2027-01-01, input: 2, output: 2}, {from: 2026-12-01, input: 1, output: 1}]")
    assert [day for day, _ in found.cards] == [date(2026, 12, 1), date(2027, 1, 1)]


def test_a_price_by_the_piece_needs_no_tokens() -> None:
    """A transcription is billed by the second, and by nothing else."""
    assert read("{per_second_in: 0.0001}") == PriceOverride(((date.min, own_card(flat(per_second_in="0.0001"))),))


WINDOW = 'hours in UTC, like "16:30-00:30" ("24:00" is a day\'s end)'
WEEKDAYS = "a list of weekdays from 1 (Monday) to 7 (Sunday), like [1, 2, 3, 4, 5]"
STEP = "a number of tokens from 1 to 1,000,000,000, like 272000"
BASE = "input: 1, output: 2"


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ("{}", f"caps.yaml:4: m.input: found nothing; allowed: {TOKENS_WORDS}\ncaps.yaml:4: m.output: found nothing; a"),
        ("{input: 1, per_page: 1}", f"caps.yaml:4: m.output: found nothing; allowed: {TOKENS_WORDS}"),
        (f"{{{BASE}, audio: 3}}", 'm.audio: found the key "audio"; allowed: input, cached_input,'),
        (f"{{{BASE}, audio_inptu: 3}}", '(did you mean "audio_input"?)'),
        (f"{{{BASE}, reasoning: -1}}", f'caps.yaml:4: m.reasoning: found "-1"; allowed: {TOKENS_WORDS}'),
        (f"{{{BASE}, web_search: ten}}", f'm.web_search: found "ten"; allowed: dollars per thousand {MILLION}'),
        (f"{{{BASE}, per_character: 1.5e-5}}", f'm.per_character: found "1.5e-5"; allowed: dollars for one {MILLION}'),
        (f"{{{BASE}, per_image: [1]}}", f"m.per_image: found a list; allowed: dollars for one {MILLION}"),
        (f"{{{BASE}, tiers: [batch]}}", "m.tiers: found a list; allowed: a mapping of annotated, batch, fast,"),
        (f"{{{BASE}, tiers: {{btach: {{input: 1}}}}}}", '(did you mean "batch"?)'),
        (f"{{{BASE}, tiers: {{batch: 1}}}}", 'm.tiers.batch: found "1"; allowed: a mapping of input,'),
        (f"{{{BASE}, tiers: {{batch: {{}}}}}}", f"m.tiers.batch.input: found nothing; allowed: {TOKENS_WORDS}"),
        (f"{{{BASE}, tiers: {{batch: {{input: x}}}}}}", f'm.tiers.batch.input: found "x"; allowed: {TOKENS_WORDS}'),
        (f"{{{BASE}, above: 272000}}", 'm.above: found "272000"; allowed: a mapping of prompt lengths, like {272000:'),
        (f"{{{BASE}, above: {{0: {{input: 2}}}}}}", f'm.above["0"]: found the key "0"; allowed: {STEP}'),
        (f"{{{BASE}, above: {{272k: {{input: 2}}}}}}", f'm.above["272k"]: found the key "272k"; allowed: {STEP}'),
        (f"{{{BASE}, above: {{9: {{}}}}}}", f'm.above["9"].input: found nothing; allowed: {TOKENS_WORDS}'),
        (f"{{{BASE}, above: {{9: {{input: 1, above: {{}}}}}}}}", 'm.above["9"].above: found the key "above"; allowed:'),
        (f"{{{BASE}, geography: us}}", 'm.geography: found "us"; allowed: a mapping of places, like {us: 1.1}'),
        (f"{{{BASE}, geography: {{us: 110}}}}", 'm.geography.us: found "110"; allowed: a factor from 0 to 100,'),
        (f"{{{BASE}, from: soon}}", 'm.from: found "soon"; allowed: a day like 2026-12-01'),
        (f"{{{BASE}, from: 2026-02-30}}", 'm.from: found "2026-02-30"; allowed: a day like 2026-12-01'),
        ("[]", "m: found an empty list; allowed: prices, like [{input: 3, output: 12}, {from: 2026-12-01,"),
        (f"[{{{BASE}}}, {{{BASE}}}]", "m[1].from: found no day again; allowed: a day that no other price of the model has"),
        (f"[{{from: 2026-12-01, {BASE}}}, {{from: 2026-12-01, {BASE}}}]", 'm[1].from: found "2026-12-01" again; allowed:'),
        (f"[{{{BASE}}}, 5]", 'm[1]: found "5"; allowed: a mapping of input,'),
        (f"{{{BASE}, off_peak: {{utc: x}}}}", 'm.off_peak: found a mapping; allowed: a list of hours, like [{utc: "16:30'),
        (f"{{{BASE}, off_peak: [{{input: 1}}]}}", f"m.off_peak[0].utc: found nothing; allowed: {WINDOW}"),
        (f"{{{BASE}, off_peak: [{{utc: 16:30-00:30}}]}}", f"m.off_peak[0].input: found nothing; allowed: {TOKENS_WORDS}"),
        (f"{{{BASE}, off_peak: [{{utc: 4pm, input: 1}}]}}", f'm.off_peak[0].utc: found "4pm"; allowed: {WINDOW}'),
        (f"{{{BASE}, off_peak: [{{utc: [], input: 1}}]}}", f"m.off_peak[0].utc: found an empty list; allowed: {WINDOW}"),
        (f"{{{BASE}, off_peak: [{{utc: 01:00-01:00, input: 1}}]}}", f'found "01:00-01:00"; allowed: {WINDOW}'),
        (f"{{{BASE}, off_peak: [{{utc: 01:00-02:00, input: 1, weekdays: [0]}}]}}", f'weekdays[0]: found "0"; allowed: {WEEKDAYS}'),
        (f"{{{BASE}, off_peak: [{{utc: 01:00-02:00, input: 1, weekdays: 5}}]}}", f'weekdays: found "5"; allowed: {WEEKDAYS}'),
        (f"{{{BASE}, off_peak: [{{utc: 01:00-02:00, input: 1, weekdays: []}}]}}", f"weekdays: found an empty list; allowed: {WEEKDAYS}"),
    ],
)  # fmt: skip
def test_errors_say_where_what_and_what_instead(price: str, message: str) -> None:
    """Each wrong key or value is told with its path, what was found and what is allowed; nothing is taken for 0."""
    told = complaint(price)
    assert message in told
    assert all(line.startswith("caps.yaml:4: m") for line in told.splitlines())


def test_all_that_is_wrong_is_told_at_once() -> None:
    """One reading is enough to mend a price."""
    told = complaint("{input: x, tiers: {batch: {output: y}}, above: {z: {input: 1}}, geography: {us: u}, from: f}")
    assert [line.split(": ")[1] for line in told.splitlines()] == [
        "m.output", "m.input", "m.tiers.batch.output", "m.above.z", "m.geography.us", "m.from"
    ]  # fmt: skip
