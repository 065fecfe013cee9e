"""Files and folders that only their owner may read, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keep_folder(folder: Path) -> None:
    """Make a folder of our own, 0700, with its parents; one that is there already is closed to others.

    Only for folders that hold nothing but our files. Raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=_FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        _close_to_others(folder)
    else:
        folder.chmod(_FOLDER_MODE)  # a umask may have taken even the owner's rights


def keep_file(file: Path) -> None:
    """Make an empty file, 0600, or close one that is there already to others. Raises OSError."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    except FileExistsError:
        _close_to_others(file)
    else:
        os.close(descriptor)
        file.chmod(_FILE_MODE)


def _close_to_others(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        path.chmod(mode & ~_OTHERS)
