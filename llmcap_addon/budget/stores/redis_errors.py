"""What can be wrong with a Redis, put in words: every failure of it is a StoreError that says what to do."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping

from redis.exceptions import AuthenticationError, RedisError

from llmcap_addon.budget.stores.redis_url import RedisPlace
from llmcap_addon.budget.stores.text import GOES_ON
from llmcap_addon.errors import StoreError

OPERATION_S = 2.0
"""How long one operation may take, waiting for a connection and connecting included; it takes under a millisecond.
As long as SQLite waits for a lock."""

_ADVICE = {
    "OOM": f"its memory is full (maxmemory); give it more, {GOES_ON}",
    "READONLY": "it is a read-only replica; name the primary in store:",
    "LOADING": f"it is reading its data after a start; wait for that, {GOES_ON}",
    "BUSY": f"it is busy with a script that runs for long; wait for that, {GOES_ON}",
    "MISCONF": f"it can't save to its disk; see to that disk, {GOES_ON}",
    "MASTERDOWN": "it is a replica without its primary; name the primary in store:",
    "NOREPLICAS": f"it has too few replicas (min-replicas-to-write); bring them back, {GOES_ON}",
    "CLUSTERDOWN": f"its cluster is down; bring it back, {GOES_ON}",
    "MOVED": "this node of the cluster does not hold the ledger's keys; name the one that does in store:",
    "LOST": "keys of it are missing, evicted or deleted, and with them what was spent; restore it from a backup, or"
    " begin a new one: add ?prefix=another-name to store:",
    "WRONGTYPE": "keys of another program stand in the ledger's place; add ?prefix=another-name to store:",
    "NOPERM": "its user may not do this; see README for the rights a user needs",
    "NOAUTH": "it wants a password; write it in store: (redis://USER:PASSWORD@HOST)",
    "WRONGPASS": "it does not know this user and password; correct them in store:",
    "UNKNOWN": "it is too old or knows no scripts; Redis 6.2 or newer is needed",
}
_CODES = re.compile(
    r"\b(OOM|READONLY|LOADING|BUSY|MISCONF|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|MOVED|WRONGTYPE|NOPERM|LOST)\b"
)
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
_SCRIPT = re.compile(
    r"\s*script: [0-9a-f]{40}, on @?user_script:\d+\.?|Error running script \(call to f_[0-9a-f]{40}\): |"
    r"@?user_script: ?\d+: ?"
)
"""Where in which script it was: different for each operation, so that one trouble would be told as several."""
_MAX_CAUSE_CHARS = 200
_KEEPS_ALL = "noeviction"

log = logging.getLogger("llmcap")


def explain(error: Exception, place: RedisPlace) -> StoreError:
    """Say of a failure which Redis it concerns, what the cause is and what to do."""
    cause = _SCRIPT.sub("", (str(error) or type(error).__name__).splitlines()[0])[:_MAX_CAUSE_CHARS]
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
        return f"it can't be reached; see that Redis runs there, {GOES_ON} ({cause})"
    return cause


def evicts(policy: str, place: RedisPlace) -> StoreError:
    """Say that a Redis throws keys away, and what to do."""
    return StoreError(
        f"ledger {place}: it evicts keys when it is full (maxmemory-policy {policy}), and with them what was spent;"
        f" CONFIG SET maxmemory-policy {_KEEPS_ALL}"
    )


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
        raise evicts(policy, place)
    if not info.get("aof_enabled", 1):
        log.warning("llmcap: ledger %s: it keeps no append-only file: a restart may forget what was spent", place)
