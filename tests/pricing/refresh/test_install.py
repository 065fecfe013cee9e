from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import table_file
from llmcap_addon.pricing.newer import choose, previous_of
from llmcap_addon.pricing.refresh.install import install, undo
from tests.pricing.refresh.sources import entry


def table(made: str, price: str = "1") -> bytes:
    providers = {"openai": {"models": {"m": entry(price)}, "rules": []}}
    return table_file.encode({"format": 1, "header": {"made": made}, "providers": providers})


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    path = tmp_path / "shipped.gz"
    path.write_bytes(table("2026-11-23"))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "prices.json.gz"


def test_the_table_before_is_kept_and_comes_back(place: Path) -> None:
    """Of three updates the last two are there; undo goes back one, then to the shipped table, then no further."""
    for made in ("2026-12-01", "2026-12-02", "2026-12-03"):
        install(table(made), place)
    assert place.read_bytes() == table("2026-12-03")
    assert previous_of(place).read_bytes() == table("2026-12-02")
    assert undo(place)
    assert place.read_bytes() == table("2026-12-02")
    assert undo(place)
    assert not place.exists()
    assert not undo(place)


def test_no_part_of_a_table_is_left_when_writing_fails(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or no right to write: the old table stays in force, and no scraps lie about."""
    install(table("2026-12-01"), place)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PriceError, match="No space left"):
        install(table("2026-12-02"), place)
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert place.read_bytes() == table("2026-12-01")


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """With the path and the system's word."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PriceError, match="can't be written"):
        install(b"", tmp_path / "file" / "prices.json.gz")


@pytest.mark.parametrize(("made", "used"), [("2026-11-22", False), ("2026-11-23", True), ("2026-11-24", True)])
def test_the_newer_table_is_used(shipped: Path, place: Path, made: str, used: bool) -> None:
    """A fetched table older than the shipped one, after an upgrade, is passed over in silence."""
    install(table(made, "7"), place)
    found = choose(shipped, place)
    assert (found.path == place) is used
    assert found.table.header["made"] == (made if used else "2026-11-23")
    assert found.warning == ""


@pytest.mark.parametrize("data", [b"", b"junk", table("2027-01-01")[:-9], b"\x1f\x8b" + bytes(50)])
def test_a_damaged_table_is_passed_over_with_a_warning(shipped: Path, place: Path, data: bytes) -> None:
    """The shipped prices are used, and the message says why and what to do."""
    place.parent.mkdir()
    place.write_bytes(data)
    found = choose(shipped, place)
    assert found.path == shipped
    assert str(place) in found.warning
    assert "the shipped prices of 2026-11-23 are used" in found.warning
    assert "llmcap prices update" in found.warning
    assert "reinstall" not in found.warning


def test_without_a_fetched_table_the_shipped_one_is_used(shipped: Path, place: Path) -> None:
    """Nothing is said about it, and no folder is made."""
    found = choose(shipped, place)
    assert (found.path, found.warning) == (shipped, "")
    assert not place.parent.exists()


def test_a_shipped_table_that_is_gone_is_an_error(tmp_path: Path, place: Path) -> None:
    """There is nothing to fall back to."""
    install(table("2027-01-01"), place)
    with pytest.raises(PriceError, match="reinstall"):
        choose(tmp_path / "nothing.gz", place)
