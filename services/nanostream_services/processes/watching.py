"""The watched folder: what is in it, and what the operating system says has changed there."""

from __future__ import annotations

import ctypes
import heapq
import logging
import math
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from nanostream.acquisition.readiness import SETTLE_S, FileStat
from nanostream.config import Watch, matches
from nanostream.records import SectionId
from nanostream.transport.sockets import Waker

__all__ = [
    "Hints",
    "Notices",
    "WatchedFolder",
    "file_system_type",
    "is_network",
    "lists",
    "pause_s",
    "share_type",
]

logger = logging.getLogger(__name__)

#: What SerialEM moved out of its way: an older file, and a tilt series while its sections are
#: copied by angle into a new file of its name (MultiTSTasks.cpp ``SetupBidirFileCopy``).
_MOVED_ASIDE = ("*~", "*-unsorted.*")

_EVENTS = ("created", "modified", "moved", "closed")
#: With more folders than this the system's notices cost more than looking, and overflow.
_MOST_FOLDERS = 2000
#: The files that were written last are looked at every ``poll_s``, however many others there are.
_NEWEST_FILES = 200
#: Looking at all files may take 0.5 % of a core, and a fifth of the time where a share answers
#: slowly; so may looking at the newest ...
_REST_CPU = 200
_REST_WALL = 4
#: ... unless a change that nothing tells of would be found later than this.
_LONGEST_PAUSE_S = 120.0
#: A notice that has not come by then after what it should have told of was lost.
_LOST_AFTER_S = 1.0
#: A file whose notice came no longer ago needs no other one; so many are remembered.
_TOLD_S, _MOST_TOLD = 120.0, 1000

#: File systems on which another machine's changes come without a notice. Of FUSE only fuseblk
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


def share_type(root: Path) -> str | None:
    """What kind of network share a folder is on; None if on a disk of this machine."""
    if sys.platform == "win32":
        anchor = root.resolve().anchor  # of a mapped drive the server's name
        remote = 4  # DRIVE_REMOTE, winbase.h
        far = anchor.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(anchor) == remote
        return "SMB" if far else None
    try:
        mounts = _mounts()
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("mounts cannot be listed: %s", error)
        return None
    kind = file_system_type(mounts, str(root.resolve()))
    return kind if is_network(kind) else None


def _mounts() -> str:
    if sys.platform == "darwin":
        return subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=True).stdout
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


def pause_s(cpu_s: float, wall_s: float, poll_s: float) -> float:
    """Time from the end of a look to the next one.

    Parameters
    ----------
    cpu_s, wall_s : float
        What the look took.

    Examples
    --------
    >>> pause_s(0.001, 0.2, 1.0), pause_s(0.2, 0.2, 1.0), pause_s(0.1, 25.0, 1.0)
    (1.0, 40.0, 100.0)
    """
    return max(poll_s, min(max(_REST_CPU * cpu_s, _REST_WALL * wall_s), _LONGEST_PAUSE_S))


class WatchedFolder:
    """Files below a folder that the patterns take.

    What was decided about a name is remembered, and said once: a look at 100,000 files is one stat
    each and nothing else.

    Parameters
    ----------
    say : callable
        Takes what the operator should read.
    """

    def __init__(
        self, root: Path, watch: Watch, *, say: Callable[[str], object] = logger.warning
    ) -> None:
        self.root = root
        self._watch = watch
        self._tell = say
        self._decided: dict[str, bool] = {}
        self._said: set[str] = set()
        #: Modification time of each and when we first saw it.
        self._folders: dict[str, tuple[int | None, float]] = {}
        self._newest: list[str] = []

    def files(self) -> dict[str, FileStat]:
        """Size, time and inode of each, by POSIX path."""
        found: dict[str, FileStat] = {}
        before, self._folders = self._folders, {}
        self._list([""], found, before)
        self._newest = heapq.nlargest(_NEWEST_FILES, found, key=lambda path: found[path].mtime_ns)
        return found

    def newest_files(self) -> dict[str, FileStat]:
        """The same of those that were written last, and of all in folders that have changed.

        Finds what SerialEM saves, without a look at each old file: a new name changes its
        folder's time, and an open stack was among the last to be written.
        """
        found: dict[str, FileStat] = {}
        now_s = time.monotonic()
        changed = []
        for prefix, (known_ns, seen_s) in self._folders.items():
            mtime_ns = _mtime_ns(self.root / prefix)
            # The clock of a file system is coarse: a name may have come after the last listing.
            if mtime_ns is not None and (mtime_ns != known_ns or now_s - seen_s < SETTLE_S):
                changed.append(prefix)
        self._list(changed, found, self._folders)
        for path in self._newest:
            if path not in found:
                self._look_at(path, found)
        self._newest += found.keys() - self._newest
        return found

    def count_folders(self, enough: int) -> int:
        """The folder and those below it; counting stops after ``enough``."""
        if not self._watch.recursive:
            return 1
        count = 0
        for _ in os.walk(self.root):
            count += 1
            if count > enough:
                break
        return count

    def wants(self, relative: str) -> bool:
        """Whether a file is to be watched, by its POSIX path."""
        decided = self._decided.get(relative)
        if decided is None:
            decided = self._decided[relative] = self._decide(relative)
        return decided

    def is_empty(self) -> bool:
        """Whether there is nothing in it, as where a share is not mounted."""
        try:
            return not any(self.root.iterdir())
        except OSError:
            return True

    def _list(
        self,
        prefixes: list[str],
        found: dict[str, FileStat],
        before: dict[str, tuple[int | None, float]],
    ) -> None:
        """Look at all files of folders, and of those below them that are not known yet."""
        now_s = time.monotonic() if before else -math.inf
        while prefixes:
            prefix = prefixes.pop()
            folder = self.root / prefix
            mtime_ns = _mtime_ns(folder)
            known = before.get(prefix)
            same = known is not None and known[0] == mtime_ns
            self._folders[prefix] = known if known and same else (mtime_ns, now_s)
            try:
                with os.scandir(folder) as entries:
                    listed = list(entries)
            except OSError as error:
                self._say(f"folder {folder} cannot be listed: {error}")
                continue
            for entry in listed:
                relative = prefix + entry.name
                try:
                    is_folder = entry.is_dir(follow_symlinks=False)
                except OSError as error:
                    logger.debug("%s cannot be looked at: %s", relative, error)
                    continue
                if not is_folder:
                    self._look_at(relative, found)
                elif self._watch.recursive and f"{relative}/" not in self._folders:
                    prefixes.append(f"{relative}/")

    def look_at(self, relative: str) -> FileStat | None:
        """State of a file that is to be watched; None of others and of what is no file."""
        if not self.wants(relative):
            return None
        try:
            # Not entry.stat(): on Windows it has the size of before SerialEM's writing.
            status = os.stat(f"{self.root}/{relative}")  # noqa: PTH116
        except OSError as error:  # gone meanwhile, or a link to nowhere
            logger.debug("%s cannot be looked at: %s", relative, error)
            return None
        # To open a pipe would hold us up for good.
        return FileStat.of(status) if stat.S_ISREG(status.st_mode) else None

    def _look_at(self, relative: str, found: dict[str, FileStat]) -> None:
        status = self.look_at(relative)
        if status is not None:
            found[relative] = status

    def _decide(self, relative: str) -> bool:
        if matches(relative, _MOVED_ASIDE) or not matches(relative, self._watch.include):
            return False
        if matches(relative, self._watch.exclude):
            return False
        if "/" in relative and not self._watch.recursive:
            return False
        try:
            SectionId(relative, 0)
        except ValueError as error:
            self._say(f"not watched: {error}; rename the file")
            return False
        return True

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._tell(text)


def _mtime_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def lists(idoc: str, path: str) -> bool:
    """Whether a file is one of the series of an idoc, by their names.

    Examples
    --------
    >>> lists("day1/gold.idoc", "day1/gold0003.tif"), lists("gold.idoc", "gold.tif")
    (True, False)
    """
    root = idoc.removesuffix(".idoc")
    return root != idoc and re.fullmatch(re.escape(root) + r"\d{4,}\.tif", path) is not None


class Hints(FileSystemEventHandler):
    """Paths that the operating system says have changed; filled by watchdog's thread."""

    def __init__(self, root: Path, waker: Waker) -> None:
        self._root = root.resolve()
        self._waker = waker
        self._lock = threading.Lock()
        self._paths: set[str] = set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take a note; our own reading of a file is no news."""
        if event.is_directory or event.event_type not in _EVENTS:
            return
        with self._lock:
            for path in (event.src_path, event.dest_path):
                if path:
                    self._paths.add(os.fsdecode(path))
        self._waker.wake()

    def take(self) -> set[str]:
        """Relative POSIX paths since the last call."""
        with self._lock:
            paths, self._paths = self._paths, set()
        relative = set()
        for path in map(Path, paths):
            # The mdoc of a stack is news of the stack: its section may wait for it.
            named = path.with_suffix("") if path.suffix == ".mdoc" else path
            if named.is_relative_to(self._root):
                relative.add(named.relative_to(self._root).as_posix())
        return relative


class Notices:
    """The operating system's notices of changes below a folder, where they can be had.

    Parameters
    ----------
    folder : WatchedFolder
        Where to listen.
    watch : Watch
        ``notices`` "on" listens on a network share as well, where only this machine's own changes
        are told of.
    say : callable
        Takes what the operator should read.
    """

    def __init__(
        self, folder: WatchedFolder, watch: Watch, *, say: Callable[[str], object]
    ) -> None:
        self._folder, self._watch, self._tell = folder, watch, say
        self._waker = Waker()
        self.socket = self._waker.socket
        self._hints = Hints(folder.root, self._waker)
        self._observer: BaseObserver | None = None
        self._root: tuple[int, int] | None = None
        self._said: set[str] = set()
        self._since_s = 0.0
        self._expected: dict[str, float] = {}
        self._told: OrderedDict[str, float] = OrderedDict()
        self._lost: set[str] = set()

    def listen(self) -> None:
        """Begin, or begin anew: notices are of the folder that was there when this was called."""
        self._stop()
        self._since_s = time.monotonic()
        self._expected.clear()
        self._root = _identity(self._folder.root)
        if self._watch.notices == "off":
            return
        try:
            if reason := self._why_not():
                self._say(f"{reason}: looking every {self._watch.poll_s:g} s instead of listening")
                return
            observer = Observer()
            observer.schedule(self._hints, str(self._folder.root), recursive=self._watch.recursive)
            observer.start()
        except OSError as error:
            self._say(
                f"no notices for {self._folder.root} ({error}); "
                f"looking every {self._watch.poll_s:g} s instead"
            )
            return
        self._observer = observer

    def take(self) -> set[str]:
        """Relative POSIX paths that have changed since the last call."""
        self._waker.clear()
        paths = self._hints.take()
        idocs = [path for path in paths if path.endswith(".idoc")]
        for path in list(self._expected):
            if path in paths or any(lists(idoc, path) for idoc in idocs):
                del self._expected[path]
        for path in paths:
            self._told[path] = time.monotonic()
            self._told.move_to_end(path)
        while len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)
        return paths

    def check(self) -> None:
        """See whether notices still come, and listen anew if not."""
        if self._observer is None:
            return
        alive = all(emitter.is_alive() for emitter in self._observer.emitters)
        root = _identity(self._folder.root)
        if root is not None and (not alive or root != self._root):
            self._tell(f"{self._folder.root} was made anew; listening there again")
            self.listen()
            return
        overdue_s = time.monotonic() - _LOST_AFTER_S
        lost = {path for path, found_s in self._expected.items() if found_s < overdue_s}
        if lost - self._lost:
            self._tell(
                f"no notice came of {len(lost)} changed files, such as {min(lost)}: looking found "
                "them (too many changes at once, or made on another machine)"
            )
            self.listen()
        self._lost |= lost

    def found_by_look(self, path: str) -> None:
        """A look has found sections in a file before any notice of it was taken."""
        now_s = time.monotonic()
        # Some sections are only ready a while after the last change: frames, what was overwritten.
        if now_s - self._told.get(path, -math.inf) < _TOLD_S:
            return
        # What changed just before we listened was not told of.
        if self._observer is not None and now_s - self._since_s > self._watch.poll_s:
            self._expected.setdefault(path, now_s)

    def close(self) -> None:
        """Stop listening."""
        self._stop()
        self._waker.close()

    def _why_not(self) -> str:
        root = self._folder.root
        kind = share_type(root) if self._watch.notices == "auto" else None
        if kind is not None:
            return f"{root} is a network share ({kind})"
        if self._folder.count_folders(_MOST_FOLDERS) > _MOST_FOLDERS:
            return f"{root} has more than {_MOST_FOLDERS} folders; give a smaller one"
        return ""

    def _stop(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._tell(text)


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        stat = root.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
