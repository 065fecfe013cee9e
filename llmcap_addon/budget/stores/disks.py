"""Disks: which file systems take a few pages without waiting for a network or another program."""

from __future__ import annotations

import sys
from pathlib import Path

_OWN = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""Of this machine, in its kernel: what is written goes into its memory first."""
_MOUNTS = Path("/proc/self/mountinfo")


def is_own(folder: Path) -> bool:
    """Whether a folder is on a disk of this machine; False where that can't be told."""
    if sys.platform != "linux":
        return False
    try:
        return kind_of(folder.resolve(), _MOUNTS.read_text("utf-8", "replace")) in _OWN
    except OSError:
        return False


def kind_of(folder: Path, mounts: str) -> str:
    """Find a folder's file system in what proc_pid_mountinfo(5) describes; empty when it is not there."""
    found, longest = "", -1
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))  # a blank is \040
        # The last of several at one point is on top.
        if folder.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = rest.split(" ")[0], len(point.parts)
    return found
