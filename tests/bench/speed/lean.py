"""mitmproxy's Master with nothing but what proxying takes: what is left of a request's cost without LLMCap.

`python -m tests.bench.speed.lean PORT FOLDER` serves until it is ended, with its authority in FOLDER.
"""

from __future__ import annotations

import asyncio
import sys

from mitmproxy import options
from mitmproxy.addons import core, disable_h2c, next_layer, proxyauth, proxyserver, tlsconfig
from mitmproxy.master import Master


async def serve(port: int, folder: str) -> None:
    """Serve for ever."""
    master = Master(options.Options())
    master.addons.add(
        core.Core(),
        disable_h2c.DisableH2C(),
        proxyauth.ProxyAuth(),
        proxyserver.Proxyserver(),
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
    )
    master.options.update(confdir=folder, listen_host="127.0.0.1", listen_port=port)
    await master.run()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
