"""What `mitmdump -s llmcap_addon/addon.py` loads.

mitmproxy loads this file by its path and reloads it when it changes; a broken edit, or its removal, unloads what it
lists. So it lists nothing: it hands the real addon to mitmproxy's own manager, once, where it stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PARENT = str(Path(__file__).resolve().parent.parent)
if _PARENT not in sys.path:
    sys.path.insert(0, _PARENT)  # mitmproxy puts this file's folder on the path, not the one the package is in

from mitmproxy import ctx  # noqa: E402 (these four are found through the path above)
from mitmproxy.addonmanager import Loader  # noqa: E402
from mitmproxy.addons.save import Save  # noqa: E402

from llmcap_addon.proxy.hooks import Hooks  # noqa: E402


def load(_loader: Loader) -> None:
    """Put LLMCap in front of all traffic, unless it is there already."""
    addons = ctx.master.addons
    if addons.get(Hooks.name) is None:
        # Before whatever writes or shows a flow, so that it has its comment by then.
        kinds = [type(addon) for addon in addons.chain]
        addons.chain.insert(kinds.index(Save) if Save in kinds else len(kinds), addons.register(Hooks()))
