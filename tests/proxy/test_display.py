"""What a person sees is kept in step, and mitmproxy's own output out of its way."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from mitmproxy.addons import dumper, termlog
from mitmproxy.test import taddons

from llmcap_addon import config as configs
from llmcap_addon.activity import CallLine
from llmcap_addon.proxy.display import Display
from llmcap_addon.proxy.service import Service, Settings
from llmcap_addon.view.console import ConsoleState, Notice
from llmcap_addon.view.screen import LiveConsole

LINE = CallLine(
    id="1",
    at_ms=1_763_900_000_000,
    client="codex",
    host="api.openai.com",
    provider="openai",
    model="gpt-4o",
    state="running",
    input_tokens=1_234,
    output_tokens=567,
    cost=12_300_000,
)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Start a service without a file."""
    settings = Settings(config_value=configs.builtin(), store=f"sqlite://{tmp_path}/ledger.sqlite")
    service = await Service.start(settings)
    yield service
    await service.close()


async def test_without_a_terminal_each_call_is_one_line(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """A line comes when a call has ended, however often it was told of before."""
    caplog.set_level(logging.INFO, "llmcap")
    display = Display(service)
    display.start("127.0.0.1:8080")
    for state in ("waiting", "running", "streaming", "streaming", "done"):
        service.activity.update(replace(LINE, state=state))
    service.activity.update(replace(LINE, id="2", state="refused", message="LLMCap: 100% of it is spent"))
    service.activity.update(replace(LINE, id="3", state="cut"))
    await display.stop()
    assert len(caplog.messages) == 3
    done, refused, cut = caplog.messages
    for word in ("codex", "gpt-4o", "1,234→567", "$0.0123", "done"):
        assert word in done
    assert refused.endswith("LLMCap: 100% of it is spent")
    assert cut.endswith("cut")


async def test_a_view_that_is_off_says_nothing(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """`llmcap_view: off` leaves the log to mitmproxy."""
    caplog.set_level(logging.INFO, "llmcap")
    service.settings = replace(service.settings, view="off")
    display = Display(service)
    display.start("127.0.0.1:8080")
    service.activity.update(replace(LINE, state="done"))
    await display.stop()
    assert caplog.messages == []


async def test_what_stands_beside_is_shown_once_and_where_it_listens_may_change(service: Service) -> None:
    """Several workers tell the same; how many of them listen is looked at with each drawing."""
    shared = Notice("the ledger is locked", "error")
    service.bulletin.trouble(shared.text)
    listening = iter(("1 of 2 workers", "2 workers"))
    drawn: list[ConsoleState] = []
    display = Display(service, lambda: (shared, Notice("of a worker")))

    class Screen(LiveConsole):
        def refresh(self, state: ConsoleState) -> None:
            drawn.append(state)

    for _ in range(2):
        await display._draw(Screen(io.StringIO()), lambda: next(listening))
    await display.stop()
    assert [state.listening for state in drawn] == ["1 of 2 workers", "2 workers"]
    assert [notice.text for notice in drawn[0].notices] == [shared.text, "of a worker"]


class Terminal(io.StringIO):
    """A terminal that shows Unicode, and tells when the console has shown the call."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.drawn = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, text: str) -> int:
        if LINE.model in text:
            self._loop.call_soon_threadsafe(self.drawn.set)
        return super().write(text)

    def isatty(self) -> bool:
        return True


async def test_on_a_terminal_the_console_takes_mitmproxys_lines_and_gives_them_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What mitmproxy prints goes through the console while it stands, and to its own files afterwards."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    printed = io.StringIO()
    log, dump = termlog.TermLog(printed), dumper.Dumper(printed)
    log.logger.file = printed
    with taddons.context(log, dump):
        display = Display(service)
        display.start("127.0.0.1:8080")
        assert log.logger.file is not printed
        assert dump.outfp is not printed
        service.activity.update(LINE)
        await asyncio.wait_for(terminal.drawn.wait(), 10)
        await display.stop()
        assert log.logger.file is printed
        assert dump.outfp is printed
        log.uninstall()
    assert "127.0.0.1:8080" in terminal.getvalue()
    assert "daily" in terminal.getvalue()
