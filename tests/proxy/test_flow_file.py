"""Real mitmdump and mitmweb processes: what they write of a flow holds its cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

from tests.e2e.calls import CHAT, CHAT_STREAM, SDK_ERRORS
from tests.e2e.harness import Proxy
from tests.fakes.script import Script
from tests.fakes.server import StandIn

CAPS = "{wait: 0s, caps: [{name: fuse, limit: 0.02, per: day}]}"

type Tool = Literal["mitmdump", "mitmweb"]
COMMANDS: dict[Tool, Callable[[list[str]], list[str]]] = {
    "mitmdump": lambda command: command,
    "mitmweb": lambda command: [
        str(Path(sys.executable).with_name("mitmweb")),
        *["--no-web-open-browser", "--web-host", "127.0.0.1", "--web-port", "0"],
        *command[1:],
    ],
}


class Writing(Proxy):
    """A proxy that writes its flows to a file, as `-w` has it."""

    tool: Tool = "mitmdump"

    @property
    def flows_path(self) -> Path:
        return self.folder / "flows"

    def _command(self) -> list[str]:
        return [*COMMANDS[self.tool](super()._command()), "-w", str(self.flows_path)]

    def flows(self) -> list[HTTPFlow]:
        """Read the flows of calls back."""
        with self.flows_path.open("rb") as file:
            flows = [flow for flow in FlowReader(file).stream() if isinstance(flow, HTTPFlow)]
        return [flow for flow in flows if flow.request.method == "POST"]


@pytest.mark.parametrize("tool", COMMANDS)
def test_a_flow_is_written_with_its_comment(stand_in: StandIn, tmp_path: Path, tool: Tool) -> None:
    """Each call carries what it cost, in the file and so in every view; a refused one says so itself."""
    proxy = Writing(tmp_path, stand_in, CAPS)
    proxy.tool = tool
    with proxy:
        sdks = proxy.sdks(max_retries=0)
        stand_in.enqueue(Script(input_tokens=20, output_tokens=16))
        CHAT(sdks, 16)
        stand_in.enqueue(Script(input_tokens=20, output_tokens=8))
        CHAT_STREAM(sdks, 16)
        with pytest.raises(SDK_ERRORS):
            CHAT(sdks, 16_000)
        proxy.settled(3)
    comments = [flow.comment for flow in proxy.flows()]
    assert [comment.split(" ")[1:] for comment in comments[:2]] == [["gpt-4o", "20→16"], ["gpt-4o", "20→8"]]
    assert all(comment.startswith(("$", "<$")) for comment in comments[:2])
    assert comments[2:] == ["refused gpt-4o"]
    proxy.assert_sound()
