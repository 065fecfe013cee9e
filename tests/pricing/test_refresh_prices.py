from __future__ import annotations

import datetime as dt
import importlib.machinery
import importlib.util
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "refresh_prices"
TODAY = dt.date(2026, 11, 23)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("refresh_prices", str(SCRIPT))
    spec = importlib.util.spec_from_loader("refresh_prices", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


def entry(price: str, since: str = "", seen: str = "2026-01-01", **more: Any) -> dict[str, Any]:
    card = {"from": since, "seen": seen, "by": ["litellm"], "rows": {"standard": {"input": price}}}
    return {"kind": "chat", "prices": [card], **more}


def test_it_says_how_it_is_used() -> None:
    """`--help` works and names the options."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--wheels" in done.stdout


def test_a_changed_price_is_appended_with_its_date(script: ModuleType) -> None:
    """The old price stays before it; an unchanged one stays as it was seen; a vanished model keeps its last."""
    old = {"changed": entry("1"), "same": entry("2"), "gone": entry("3")}
    new = {"changed": entry("9", seen="2026-11-23"), "same": entry("2", seen="2026-11-23"), "fresh": entry("4")}
    kept = script.with_history(old, new, "2026-11-23")
    assert [(card["from"], card["rows"]["standard"]["input"]) for card in kept["changed"]["prices"]] == [
        ("", "1"), ("2026-11-23", "9"),
    ]  # fmt: skip
    assert kept["same"]["prices"] == old["same"]["prices"]
    assert kept["gone"] == old["gone"]
    assert kept["fresh"]["prices"][0]["from"] == ""


def test_a_second_run_on_the_same_day_changes_nothing(script: ModuleType) -> None:
    """What a run wrote today, the next run of today writes again."""
    new = {"changed": entry("9", seen="2026-11-23")}
    once = script.with_history({"changed": entry("1")}, new, "2026-11-23")
    assert script.with_history(once, new, "2026-11-23") == once


def test_the_higher_of_two_sources_is_kept(script: ModuleType) -> None:
    """Field by field, tier by tier, at every length of prompt."""
    one = {0: {"standard": {"input": Decimal(1), "output": Decimal(9)}}}
    two = {0: {"standard": {"input": Decimal(2), "output": Decimal(8)}, "flex": {"input": Decimal(1)}},
           200_000: {"standard": {"input": Decimal(4)}}}  # fmt: skip
    assert script.merged([one, two]) == {
        0: {"standard": {"input": Decimal(2), "output": Decimal(9)}, "flex": {"input": Decimal(1)}},
        200_000: {"standard": {"input": Decimal(4), "output": Decimal(9)}},
    }


def test_field_names_carry_length_and_tier(script: ModuleType) -> None:
    """Suffixes of litellm's fields are taken apart, and a float is taken for the digits it is written with."""
    levels = script.litellm_levels(
        {
            "input_cost_per_token": 7.5e-08,
            "input_cost_per_token_above_272k_tokens_flex": 2e-06,
            "cache_creation_input_token_cost_above_12hr_above_272k_tokens_priority": 4e-05,
            "input_cost_per_token_decisions": 9.0,
            "supports_vision": True,
            "search_context_cost_per_query": {"low": 0.01, "high": 0.05},
        },
        "openai",
    )
    assert levels == {
        0: {"standard": {"input": Decimal("0.075"), "web_search": Decimal(50)}},
        272_000: {"flex": {"input": Decimal(2)}, "priority": {"cache_write_1h": Decimal(40)}},
    }


def test_dated_and_hourly_prices_are_read(script: ModuleType) -> None:
    """Of a day's hours the dearest; a price to come not before its day."""
    source = """
providers: list[Provider] = [Provider(id='p', models=[ModelInfo(id='m', match=ClauseEquals(equals='m'), prices=[
    ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('1'))),
    ConditionalPrice(constraint=TimeOfDateConstraint(start_time=datetime.time(1, 0), end_time=datetime.time(4, 0)),
        prices=ModelPrice(input_mtok=Decimal('2'))),
    ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2027, 1, 1)),
        prices=ModelPrice(input_mtok=TieredPrices(base=Decimal('5'), tiers=[Tier(start=9, price=Decimal('7'))])))])])]
"""
    (model,) = script.read_genai(source)["p"]
    assert script.genai_levels(model, TODAY) == {0: {"standard": {"input": Decimal(2)}}}
    assert script.genai_levels(model, dt.date(2027, 1, 1)) == {
        0: {"standard": {"input": Decimal(5)}},
        9: {"standard": {"input": Decimal(7)}},
    }


def test_no_code_of_a_package_is_run(script: ModuleType) -> None:
    """Anything but literals and constructors in the data stops the script."""
    with pytest.raises(SystemExit, match="changed its form"):
        script.read_genai("providers: list = [f'{1}']")


def test_the_same_data_gives_the_same_file(script: ModuleType, tmp_path: Path) -> None:
    """Models that share an entry are written once, in one order, and gzip adds neither name nor time."""
    shared = entry("1")
    folded = script.folded({"model-b": dict(shared), "model": dict(shared), "other": entry("2")})
    assert folded == {"model": shared, "model-b": "model", "other": entry("2")}
    assert script.unfolded(folded) == {"model": shared, "model-b": shared, "other": entry("2")}
    script.write_gzip(tmp_path / "a.gz", b"data")
    script.write_gzip(tmp_path / "b.gz", b"data")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
