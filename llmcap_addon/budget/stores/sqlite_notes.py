"""The table `note`: what one process keeps for another that may need it later. Its caller begins and commits."""

from __future__ import annotations

import sqlite3

from llmcap_addon.budget.ledger import MAX_NOTES
from llmcap_addon.budget.stores.text import text

_SURPLUS = "SELECT key FROM note ORDER BY until_ms LIMIT max(0, (SELECT count(*) FROM note) - ?)"


class Notes:
    """All notes. Methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection.execute

    def remember(self, key: str, value: str, until_ms: int) -> None:
        """Write a note, or write it anew."""
        self._sql("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (text(key), text(value), until_ms))

    def recall(self, key: str, now_ms: int) -> str | None:
        """Read a note whose time has not passed."""
        found = self._sql("SELECT value FROM note WHERE key = ? AND until_ms > ?", (text(key), now_ms)).fetchone()
        return str(found[0]) if found is not None else None

    def drop(self, now_ms: int) -> None:
        """Forget those whose time has passed, and those that are too many."""
        self._sql("DELETE FROM note WHERE until_ms <= ?", (now_ms,))
        self._sql(f"DELETE FROM note WHERE key IN ({_SURPLUS})", (MAX_NOTES,))  # noqa: S608  # nothing but constants
