"""Finding the ledger in Redis at a start: begun where there is none, brought to this schema where it is old."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from llmcap_addon.budget.stores import redis_scripts as scripts
from llmcap_addon.budget.stores.redis_errors import OPERATION_S, check_keeping
from llmcap_addon.budget.stores.redis_url import RedisPlace
from llmcap_addon.errors import StoreError

MIGRATED_ROWS = 5_000
"""Rows brought to the new schema in one script: about 0.1 s, far below what Redis allows a script."""
_HEALTH_S = 15
"""A connection that was idle for longer is tried with a PING before it is used."""


def find_ledger(client: redis.Redis, place: RedisPlace, meta: str) -> str:
    """Give the ledger's id. Raises StoreError, and RedisError or OSError when Redis fails."""
    check_keeping(_info(client), place)
    body = scripts.script("open").body
    found: Any = client.eval(body, 1, meta, token_hex(8), scripts.SCHEMA)
    ledger, schema, is_moving = found[0].decode(), found[1].decode(), found[2]
    if not ledger or not schema.isdecimal():
        raise StoreError(
            f"ledger {place}: keys of another program stand in its place; add ?prefix=another-name to store:"
        )
    if schema == scripts.OLD_SCHEMA or (schema == scripts.SCHEMA and is_moving):
        while client.eval(scripts.script("migrate").body, 1, meta, str(MIGRATED_ROWS)):
            pass
    elif schema != scripts.SCHEMA:
        raise newer(schema, place)
    return str(ledger)


def newer(schema: str, place: RedisPlace) -> StoreError:
    """Say that a ledger is of a schema that this version does not know."""
    return StoreError(
        f"ledger {place}: it was written by a newer LLMCap (schema {schema}, this one knows {scripts.SCHEMA});"
        " upgrade LLMCap, or add ?prefix=another-name to store:"
    )


def half_moved(place: RedisPlace) -> StoreError:
    """Say that a ledger was only begun to be brought to this version's schema."""
    return StoreError(
        f"ledger {place}: a newer LLMCap is bringing it to its schema, or was ended while it did; start LLMCap again"
    )


def connection_options(place: RedisPlace) -> dict[str, Any]:
    """A connection's settings. Nothing is tried twice: an extension whose answer was lost would count double."""
    options: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "db": place.database,
        "username": place.username,
        "password": place.password,
        "socket_timeout": OPERATION_S,
        "socket_connect_timeout": OPERATION_S,
        "socket_keepalive": True,
        "health_check_interval": _HEALTH_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if place.tls:
        options |= {"ssl": True, "ssl_ca_certs": str(place.ca) if place.ca else None}
    return options


def _info(client: redis.Redis) -> dict[str, object] | None:
    try:
        told: Any = client.info()
    except NoPermissionError:
        return None
    return dict(told)
