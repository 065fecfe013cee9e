"""A change of caps.yaml while the proxy runs: a good one holds at once, a broken one changes nothing."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from tests.e2e.calls import CHAT
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import Proxy
from tests.fakes.server import StandIn

NOTHING = "{wait: 0s, caps: [{name: purse, limit: 0, per: day}]}"
PLENTY = "{wait: 0s, caps: [{name: purse, limit: 10, per: day}]}"

BROKEN = {
    "no YAML": "caps: [{name: purse, limit: 10",
    "unknown key": "{caps: [{name: purse, limit: 10, per: day, colour: red}]}",
    "bad amount": "{caps: [{name: purse, limit: lots, per: day}]}",
    "bad period": "{caps: [{name: purse, limit: 10, per: fortnight}]}",
    "no mapping": "[]",
    "not UTF-8": "caps: \ud800",
}


def test_a_raised_limit_holds_at_once(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A limit that is raised while the proxy runs lets the next call pass; one that is lowered refuses it."""
    proxy = start_proxy(NOTHING)
    sdks = proxy.sdks()
    with pytest.raises(openai.RateLimitError, match="purse"):
        CHAT(sdks)
    change(proxy, PLENTY)
    CHAT(sdks)
    change(proxy, NOTHING)
    with pytest.raises(openai.RateLimitError, match="purse"):
        CHAT(sdks)
    assert len(stand_in.billable()) == 1
    assert proxy.totals("purse").posted == stand_in.billed_nanousd()


def change(proxy: Proxy, caps: str) -> None:
    """Edit the file, and wait for the line that says the new caps are in force."""
    before = len(proxy.log)
    proxy.write_caps(caps)
    proxy.wait_log(lambda log: "new caps are in force" in log[before:], "the new caps")


def test_a_broken_edit_changes_nothing(start_proxy: StartProxy) -> None:
    """An edit that can't be used keeps the old caps, and a log line says why; the next good edit is taken."""
    proxy = start_proxy(NOTHING)
    sdks = proxy.sdks()
    for name, text in BROKEN.items():
        before = len(proxy.log)
        proxy.config_path.write_bytes(text.encode("utf-8", "surrogatepass"))
        proxy.wait_log(lambda log, before=before: "old caps stay in force" in log[before:], name)  # type: ignore[misc]
        with pytest.raises(openai.RateLimitError, match="purse"):
            CHAT(sdks)
    change(proxy, PLENTY)
    CHAT(sdks)


def test_a_missing_file_keeps_the_caps(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """Deleting caps.yaml lifts no cap."""
    proxy = start_proxy(NOTHING)
    proxy.config_path.unlink()
    proxy.wait_log(lambda log: "old caps stay in force" in log, "a line about it")
    with pytest.raises(openai.RateLimitError, match="purse"):
        CHAT(proxy.sdks())
    assert stand_in.billable() == []


def test_a_new_cap_counts_what_was_spent(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A cap that is added while the proxy runs counts what its period has already cost."""
    proxy = start_proxy("caps: []")
    sdks = proxy.sdks()
    CHAT(sdks)
    proxy.settled(1)
    change(proxy, "{wait: 0s, caps: [{name: late, limit: 5, per: day}]}")
    CHAT(sdks)
    proxy.settled(2)
    assert proxy.totals("late").posted == stand_in.billed_nanousd()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_stops_the_start(stand_in: StandIn, tmp_path: Path, name: str) -> None:
    """With a caps.yaml that can't be used the proxy does not start, and says what is wrong."""
    proxy = Proxy(tmp_path, stand_in, PLENTY)
    proxy.config_path.write_bytes(BROKEN[name].encode("utf-8", "surrogatepass"))
    with pytest.raises(RuntimeError):
        proxy.start()
    proxy.stop()
    assert "caps.yaml" in proxy.log
    assert "Traceback" not in proxy.log
