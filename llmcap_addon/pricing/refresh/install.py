"""Install: the user's newer table in the state folder, put there whole or not at all, with the one before kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.newer import previous_of


def install(data: bytes, path: Path) -> None:
    """Put a table's bytes in place; the table that was there becomes the previous one. Raises PriceError.

    A crash at any moment leaves the old table or the new one, never a part.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        fresh = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.chmod(0o644)  # prices are no secret; mkstemp makes files for their owner alone
            if path.exists():
                kept = previous_of(path)
                with contextlib.suppress(FileNotFoundError):
                    kept.unlink()
                os.link(path, kept)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise PriceError(f"{path}: the new price table can't be written ({error.strerror or error})") from error


def undo(path: Path) -> bool:
    """Put the previous table back, or go back to the shipped one when there is none; False when nothing was in place.

    Raises PriceError when that is impossible.
    """
    try:
        if previous_of(path).exists():
            previous_of(path).replace(path)
            return True
        path.unlink()
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise PriceError(f"{path}: the previous price table can't be put back ({error.strerror or error})") from error
