from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import table_file
from llmcap_addon.pricing.table import SHIPPED

TABLE: dict[str, Any] = {
    "format": 1,
    "header": {"made": "2026-11-23"},
    "providers": {"a": {"models": {"m": "é\n"}, "rules": []}, "b": {"models": {}, "rules": []}},
}


def test_a_table_is_read_as_it_was_written() -> None:
    """Every provider comes back, also those with line ends in their texts; the same table gives the same bytes."""
    data = table_file.encode(TABLE)
    read = table_file.decode(data)
    assert read["header"] == TABLE["header"]
    assert {name: dict(told) for name, told in read["providers"].items()} == TABLE["providers"]
    assert table_file.encode(read) == data
    assert data[4:8] == bytes(4)


def test_only_what_is_asked_for_is_parsed() -> None:
    """A provider whose line is no JSON is told when it is asked for, and disturbs no other."""
    text = b'{"format":1,"header":{"made":"x"},"providers":["good","bad"]}\n{"models":{}}\n{broken'
    providers = table_file.decode(gzip.compress(text))["providers"]
    assert providers["good"] == {"models": {}}
    assert list(providers) == ["good", "bad"]
    assert "bad" in providers
    assert len(providers) == 2
    with pytest.raises(PriceError, match="part for bad"):
        providers["bad"]
    with pytest.raises(KeyError):
        providers["nobody"]


def test_a_table_that_is_cut_short_is_never_taken_for_a_whole_one() -> None:
    """At any length but the last."""
    data = table_file.encode(TABLE)
    for length in range(len(data)):
        with pytest.raises(PriceError):
            table_file.decode(data[:length])


@given(st.integers(min_value=10), st.integers(min_value=1, max_value=255))
def test_a_flipped_byte_is_noticed(place: int, flip: int) -> None:
    """The checksum is looked at."""
    data = bytearray(table_file.encode(TABLE))
    data[10 + place % (len(data) - 10)] ^= flip
    with pytest.raises(PriceError):
        table_file.decode(bytes(data))


@pytest.mark.parametrize("head", [{}, {"format": 2}, [], 3, {"format": 1, "header": {}, "providers": ["a"]}])
def test_another_form_is_refused(head: Any) -> None:
    """With one exception, which tells the format where there is one."""
    with pytest.raises(PriceError):
        table_file.decode(gzip.compress(json.dumps(head).encode()))


def test_what_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is not unpacked beyond its bound."""
    monkeypatch.setattr(table_file, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(PriceError, match="cut short"):
        table_file.decode(gzip.compress(bytes(10_000)))


def test_the_shipped_table_is_small() -> None:
    """It is read at every start."""
    data = SHIPPED.read_bytes()
    assert len(data) < 150_000
    assert len(gzip.decompress(data)) < 2_000_000
