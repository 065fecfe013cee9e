"""Stores: where the ledger lives, by the URL that `store:` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from platformdirs import user_state_path

from llmcap_addon.budget.ledger import Store
from llmcap_addon.budget.stores.redis_url import FORMS, is_redis, read_redis_url
from llmcap_addon.budget.stores.text import at_the_start
from llmcap_addon.errors import ConfigError, StoreError

DEFAULT_URL = "sqlite"
"""The ledger in the user's state folder."""
ALLOWED_URLS = "sqlite, sqlite:///absolute/path, redis://HOST:PORT/DB, rediss://HOST:PORT/DB"

_SQLITE = "sqlite://"


def fault_of(url: str) -> tuple[str, str] | None:
    """What is wrong with a store's URL: what was found (no password is in it) and what is allowed. Opens nothing."""
    if is_redis(url):
        try:
            read_redis_url(url)
        except ValueError as error:
            return str(error), FORMS
        return None
    path = Path(url.removeprefix(_SQLITE))
    is_file = url.startswith(_SQLITE) and path.is_absolute() and path.name and not url.endswith("/")
    return None if is_file or url == DEFAULT_URL else (f'"{url}"', ALLOWED_URLS)


def open_store(url: str, clock: Callable[[], int], owner: str = "") -> Store:
    """Open the ledger, made if need be, and expire what dead processes hold in it.

    `clock` gives Unix time in milliseconds; `owner` names this process among those that share the ledger (letters,
    digits and "-", never used before; random when empty). Blocks for milliseconds, for a Redis far away up to seconds.
    Raises ConfigError for a URL that is not allowed, StoreError when it can't be opened.
    """
    if fault := fault_of(url):
        raise ConfigError(f"store: found {fault[0]}; allowed: {fault[1]}")
    try:
        if is_redis(url):
            return _open_redis(url, clock, owner or uuid4().hex)
        from llmcap_addon.budget.stores.sqlite import SqliteStore

        return SqliteStore(store_path(url), owner or uuid4().hex, clock, own_folder=url == DEFAULT_URL)
    except StoreError as error:
        raise at_the_start(error) from error


def store_path(url: str) -> Path:
    """Give the file that a URL of SQLite means."""
    return user_state_path("llmcap") / "ledger.sqlite" if url == DEFAULT_URL else Path(url.removeprefix(_SQLITE))


def state_file(url: str) -> Path:
    """Give the file that a ledger's other files stand beside: its own, or for a Redis the one it would have here."""
    return store_path(DEFAULT_URL if is_redis(url) else url)


def _open_redis(url: str, clock: Callable[[], int], owner: str) -> Store:
    place = read_redis_url(url)
    try:
        from llmcap_addon.budget.stores.redis import RedisStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise ConfigError(f"{place} takes a package more: pip install 'llmcap-addon[redis]'") from error
    return RedisStore(place, owner, clock)
