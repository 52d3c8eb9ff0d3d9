"""Network shares: what kind of file system a folder is on, by the mount tables."""

from __future__ import annotations

import ctypes
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["file_system_type", "is_network", "mounts", "share_type"]

logger = logging.getLogger(__name__)

#: File systems on which another machine's changes come without a file event. Of FUSE only fuseblk
#: (NTFS and the like on a local disk) is none: sshfs, rclone and most others are remote.
_NETWORK = re.compile(
    r"9p|acfs|afpfs|afs|beegfs|ceph|cifs|coda|davfs|drvfs|fakeowner|fuse\..*|gfs2|glusterfs|gpfs"
    r"|lustre|ncpfs|nfs4?|ocfs2|orangefs|prl_fs|smb[23]|smbfs|vboxsf|virtiofs|vmhgfs|webdav"
)


def is_network(kind: str) -> bool:
    """Whether a file system of this type is a network share, or one of a virtual machine's host."""
    return _NETWORK.fullmatch(kind) is not None


def file_system_type(mounts: str, path: str) -> str:
    """Type of the file system a path is on; empty if the table does not say.

    Parameters
    ----------
    mounts : str
        Linux's ``/proc/self/mountinfo``, or what ``mount`` prints on macOS.
    path : str
        Absolute, without links.

    References
    ----------
    proc_pid_mountinfo(5): blanks and backslashes of a mount point are octal.

    Examples
    --------
    >>> file_system_type("29 1 8:2 / / rw - ext4 /dev/sda2 rw", "/data")
    'ext4'
    """
    best, found = "", ""
    for line in mounts.splitlines():
        if linux := re.match(r"\d+ \d+ \S+ \S+ (\S+) .*? - (\S+)", line):
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), linux[1])
            kind = linux[2]
        elif macos := re.match(r".*? on (/.*) \(([^,)]+)", line):
            point, kind = macos.groups()
        else:
            continue
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two at one place the later one is on top
            best, found = point, kind
    return found


def mounts() -> str:
    """Mount table of this machine, as `file_system_type` takes it.

    Raises
    ------
    OSError, subprocess.SubprocessError
        It cannot be had.
    """
    if sys.platform == "darwin":
        return subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=True).stdout
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


def share_type(root: Path, mounts: Callable[[], str] = mounts) -> str | None:
    """Type of the network share a folder is on; None if it is on a disk of this machine.

    Parameters
    ----------
    root : Path
        The folder.
    mounts : callable
        Gives the mount table; Windows is asked instead.
    """
    if sys.platform == "win32":
        anchor = root.resolve().anchor  # of a mapped drive the server's name
        remote = 4  # DRIVE_REMOTE, winbase.h
        far = anchor.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(anchor) == remote
        return "SMB" if far else None
    try:
        table = mounts()
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("mounts cannot be listed: %s", error)
        return None
    kind = file_system_type(table, str(root.resolve()))
    return kind if is_network(kind) else None
