"""What can be wrong with a Redis, put in words: every failure of it is a StoreError that says what to do."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping

from redis.exceptions import AuthenticationError, RedisError

from llmcap_addon.budget.stores.redis_url import RedisPlace
from llmcap_addon.errors import StoreError

OPERATION_S = 2.0
"""How long one operation may take, waiting for a connection and connecting included; it takes under a millisecond.
As long as SQLite waits for a lock."""

_ADVICE = {
    "OOM": "its memory is full (maxmemory); give it more, the ledger goes on by itself",
    "READONLY": "it is a read-only replica; name the primary in store:",
    "LOADING": "it is reading its data after a start; the ledger goes on by itself",
    "BUSY": "it is busy with a script that runs for long; the ledger goes on by itself",
    "MISCONF": "it can't save to its disk; see to that disk, the ledger goes on by itself",
    "MASTERDOWN": "it is a replica without its primary; name the primary in store:",
    "NOREPLICAS": "it has too few replicas (min-replicas-to-write); the ledger goes on by itself when they are back",
    "CLUSTERDOWN": "its cluster is down; the ledger goes on by itself",
    "MOVED": "this node of the cluster does not hold the ledger's keys; name the one that does in store:",
    "WRONGTYPE": "keys of another program stand in the ledger's place; add ?prefix=another-name to store:",
    "NOPERM": "its user may not do this; see README for the rights a user needs",
    "NOAUTH": "it wants a password; write it in store: (redis://USER:PASSWORD@HOST)",
    "WRONGPASS": "it does not know this user and password; correct them in store:",
    "UNKNOWN": "it is too old or knows no scripts; Redis 6.2 or newer is needed",
}
_CODES = re.compile(r"\b(OOM|READONLY|LOADING|BUSY|MISCONF|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|MOVED|WRONGTYPE|NOPERM)\b")
_AUTHENTICATION = re.compile(r"\b(?:NOAUTH|WRONGPASS)\b|invalid (?:username|password)|auth\w+ required", re.IGNORECASE)
_CODE_OF = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "MovedError": "MOVED",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
}
"""redis-py takes these words out of the message and names a class after them."""
_MAX_CAUSE_CHARS = 200
_KEEPS_ALL = "noeviction"

log = logging.getLogger("llmcap")


def explain(error: Exception, place: RedisPlace) -> StoreError:
    """Say of a failure which Redis it concerns, what the cause is and what to do."""
    cause = (str(error) or type(error).__name__).splitlines()[0][:_MAX_CAUSE_CHARS]
    return StoreError(f"ledger {place}: {_advice(error, cause)}")


def _advice(error: Exception, cause: str) -> str:
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return f"no answer within {OPERATION_S:g} s; see that Redis runs and is not overloaded"
    if isinstance(error, AuthenticationError) or _AUTHENTICATION.search(cause):
        code = "NOAUTH" if "required" in cause or "NOAUTH" in cause else "WRONGPASS"
        return f"{_ADVICE[code]} ({cause})"
    if found := _CODES.search(str(error)):
        return f"{_ADVICE[found[1]]} ({cause})"
    if code_of := _CODE_OF.get(type(error).__name__):
        return f"{_ADVICE[code_of]} ({cause})"
    if "unknown command" in cause.lower():
        return f"{_ADVICE['UNKNOWN']} ({cause})"
    if isinstance(error, ssl.SSLError) or "certificate" in cause.lower() or "ssl" in cause.lower():
        return f"TLS failed; see that it is rediss:// and that ca= names the certificate's authority ({cause})"
    if isinstance(error, (RedisError, OSError)):
        return f"it can't be reached; see that Redis runs there, the ledger goes on by itself ({cause})"
    return cause


def check_keeping(info: Mapping[str, object] | None, place: RedisPlace) -> None:
    """Refuse a Redis that throws keys away when it is full, and say once if it forgets all at a restart.

    `info` is what INFO says; None when it may not be asked.
    """
    if info is None:
        log.warning(
            "llmcap: ledger %s: its user may not ask INFO, so nobody knows whether Redis evicts keys when it is full;"
            " see that maxmemory-policy is noeviction",
            place,
        )
        return
    policy = str(info.get("maxmemory_policy", _KEEPS_ALL))
    if policy != _KEEPS_ALL and info.get("maxmemory"):
        raise StoreError(
            f"ledger {place}: it evicts keys when it is full (maxmemory-policy {policy}), and with them what was spent;"
            f" CONFIG SET maxmemory-policy {_KEEPS_ALL}"
        )
    if not info.get("aof_enabled", 1):
        log.warning("llmcap: ledger %s: it keeps no append-only file: a restart may forget what was spent", place)
