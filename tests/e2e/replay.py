"""Test-only mitmproxy addon: sends the last call again, as `r` does in mitmproxy and in mitmweb."""

from __future__ import annotations

from mitmproxy import ctx, http

PATH = "/v1/replay"


class Replay:
    """Replays when one path of any host that is decrypted is asked for."""

    def __init__(self) -> None:
        self._last: http.HTTPFlow | None = None

    def request(self, flow: http.HTTPFlow) -> None:
        """Replay, or remember what to replay."""
        if flow.request.path != PATH:
            self._last = flow
            return
        flow.response = http.Response.make(200)
        ctx.master.commands.call("replay.client", [self._last])


addons = [Replay()]
