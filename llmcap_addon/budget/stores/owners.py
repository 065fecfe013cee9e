"""Owners: which processes that hold reservations are alive, seen at once by a lock that dies with its process.

Each open store holds an flock on a file of its own beside the ledger. Nothing but the end of its process (or `close`)
releases it, not even a laptop's sleep, during which leases run out. Where there is no flock (Windows, some network
folders) the lease alone decides.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llmcap_addon.errors import StoreError

if sys.platform != "win32":
    import fcntl


class Owner:
    """One open store, as other processes see it."""

    def __init__(self, ledger: Path, name: str) -> None:
        self.name = name
        self._ledger = ledger
        self._descriptor: int | None = None

    def lock(self) -> None:
        """Show that this process lives. Raises StoreError when the name is taken, OSError when no file can be made."""
        if sys.platform == "win32":
            return
        file = self._file(self.name)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreError(f"ledger {self._ledger}: the owner's name {self.name} is in use") from error
        except OSError:  # this folder knows no locks; without the file others go by the lease
            os.close(descriptor)
            file.unlink(missing_ok=True)
        else:
            self._descriptor = descriptor

    def release(self) -> None:
        """Take the lock and its file away."""
        if self._descriptor is not None:
            self._file(self.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def is_dead(self, other: str, lease_is_over: bool) -> bool:
        """Whether another owner is gone; its lock's file is then gone too.

        Only to be asked inside a write transaction, so that no two ask at the same time.
        """
        if sys.platform == "win32":
            return lease_is_over
        file = self._file(other)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return lease_is_over
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)
        except BlockingIOError:
            return False
        except OSError:
            return lease_is_over
        finally:
            os.close(descriptor)
        return True

    def _file(self, owner: str) -> Path:
        return self._ledger.with_name(f"{self._ledger.name}-owner-{owner}")
