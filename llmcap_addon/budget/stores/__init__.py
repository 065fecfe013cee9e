"""Stores: where the ledger lives, by the URL that `store:` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from platformdirs import user_state_path

from llmcap_addon.budget.ledger import Store
from llmcap_addon.errors import ConfigError

DEFAULT_URL = "sqlite"
"""The ledger in the user's state folder."""
ALLOWED_URLS = "sqlite, sqlite:///absolute/path"

_SQLITE = "sqlite://"


def store_path(url: str) -> Path:
    """Give the file that a store's URL means. Raises ConfigError for anything but `ALLOWED_URLS`."""
    if url == DEFAULT_URL:
        return user_state_path("llmcap") / "ledger.sqlite"
    if url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError(f'found "{url.partition(":")[0]}://…", which is not in this version; allowed: {ALLOWED_URLS}')
    path = Path(url.removeprefix(_SQLITE))
    if not url.startswith(_SQLITE) or not path.is_absolute() or not path.name or url.endswith("/"):
        raise ConfigError(f'found "{url}"; allowed: {ALLOWED_URLS}')
    return path


def open_store(url: str, clock: Callable[[], int], owner: str = "") -> Store:
    """Open the ledger, made if need be, and expire what dead processes hold in it.

    `clock` gives Unix time in milliseconds; `owner` names this process among those that share the ledger (letters,
    digits and "-", never used before; random when empty). Blocks for milliseconds. Raises ConfigError for a URL that is
    not allowed, StoreError when it can't be opened.
    """
    path = store_path(url)
    from llmcap_addon.budget.stores.sqlite import SqliteStore

    return SqliteStore(path, owner or uuid4().hex, clock, own_folder=url == DEFAULT_URL)
