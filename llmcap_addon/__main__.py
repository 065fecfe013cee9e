"""`python -m llmcap_addon` is `llmcap`."""

from __future__ import annotations

from llmcap_addon.cli import main

main()
