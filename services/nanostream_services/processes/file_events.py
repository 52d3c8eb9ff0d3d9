"""File events: what the operating system says has changed in the watched folder.

Only importer of watchdog. File events are hints to read a file at once; scans find what no event
came of (docs/decisions/0004).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from nanostream.acquisition.folder import WatchedFolder, lists
from nanostream.config import Watch
from nanostream.errors import reason_of
from nanostream.transport.sockets import Waker
from nanostream_services.processes.shares import share_type

__all__ = ["FileEvents", "Missed"]

_EVENTS = ("created", "modified", "moved", "closed")
#: Not that a file is opened or read: of each header that we read two more events would come.
_FILTER: list[type[FileSystemEvent]] = [
    events.DirCreatedEvent,
    events.DirMovedEvent,
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
]
#: With more folders than this file events cost more than scanning, and overflow.
_MOST_FOLDERS = 2000


class Missed:
    """Changes that a scan found before any file event told of them. Pure.

    An event that has not come `LATE_S` after it should have come was lost.
    """

    LATE_S = 1.0
    #: A file of which an event came no longer ago needs no other one; so many are remembered.
    TOLD_S, MOST_TOLD = 120.0, 1000

    def __init__(self) -> None:
        self._expected: dict[str, float] = {}
        self._told: OrderedDict[str, float] = OrderedDict()
        self._reported: set[str] = set()

    def listening(self) -> None:
        """Expect nothing: events are of what changes from now on."""
        self._expected.clear()

    def told(self, paths: Iterable[str], now_s: float) -> None:
        """Events came of these paths; that of an idoc is one of its images."""
        paths = set(paths)
        idocs = [path for path in paths if path.endswith(".idoc")]
        for path in list(self._expected):
            if path in paths or any(lists(idoc, path) for idoc in idocs):
                del self._expected[path]
        for path in paths:
            self._told[path] = now_s
            self._told.move_to_end(path)
        while len(self._told) > self.MOST_TOLD:
            self._told.popitem(last=False)

    def found_by_scan(self, path: str, now_s: float) -> None:
        """Expect an event of a file in which a scan has found sections."""
        # Some sections are only ready a while after the last change: frames, what was overwritten.
        if now_s - self._told.get(path, -math.inf) >= self.TOLD_S:
            self._expected.setdefault(path, now_s)

    def overdue(self, now_s: float) -> set[str]:
        """Files of which no event came in time, if one is among them for the first time."""
        late = {path for path, found_s in self._expected.items() if found_s < now_s - self.LATE_S}
        new = late - self._reported
        self._reported |= late
        return late if new else set()


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        stat = root.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


class FileEvents:
    """The operating system's events of changes below a folder, where they can be had.

    Parameters
    ----------
    folder : WatchedFolder
        Where to listen.
    watch : Watch
        ``file_events`` "on" listens on a network share as well, where only this machine's own
        changes are told of.
    report : callable
        Takes what the operator should read.
    clock : callable
        Monotonic time (s).
    share : callable
        Gives the type of the share a folder is on, or None.
    identity : callable
        Gives what tells a folder from a later one of its name, or None if it is not there.
    """

    def __init__(
        self,
        folder: WatchedFolder,
        watch: Watch,
        *,
        report: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[Path], str | None] = share_type,
        identity: Callable[[Path], tuple[int, int] | None] = _identity,
    ) -> None:
        self._folder, self._watch, self._report = folder, watch, report
        self._clock, self._share, self._identity = clock, share, identity
        self._waker = Waker()
        self.socket = self._waker.socket
        self._changes = _Changes(folder.root, self._waker)
        self._observer: BaseObserver | None = None
        self._root: tuple[int, int] | None = None
        self._reported: set[str] = set()
        self._since_s = 0.0
        self._missed = Missed()

    @property
    def listens(self) -> bool:
        """Whether events can come at all."""
        return self._observer is not None

    def listen(self) -> None:
        """Begin, or begin anew: events are of the folder that was there when this was called."""
        self._stop()
        self._since_s = self._clock()
        self._missed.listening()
        self._root = self._identity(self._folder.root)
        if self._watch.file_events == "off":
            return
        scanned = f"scanning every {self._watch.poll_s:g} s instead"
        try:
            if reason := self._why_not():
                self._report_once(f"{reason}: {scanned}")
                return
            observer = Observer()
            observer.schedule(
                self._changes,
                str(self._folder.root),
                recursive=self._watch.recursive,
                event_filter=_FILTER,
            )
            observer.start()
        except OSError as error:
            self._report_once(
                f"no file events of {self._folder.root} ({reason_of(error)}): {scanned}"
            )
            return
        self._observer = observer

    def take(self) -> set[str]:
        """Relative POSIX paths that have changed since the last call."""
        self._waker.clear()
        paths = self._changes.take()
        self._missed.told(paths, self._clock())
        return paths

    def check(self) -> None:
        """Listen anew if events have stopped coming."""
        if self._observer is None:
            return
        alive = all(emitter.is_alive() for emitter in self._observer.emitters)
        root = self._identity(self._folder.root)
        if root is not None and (not alive or root != self._root):
            self._report(f"{self._folder.root} was made anew; listening there again")
            self.listen()
        elif missed := self._missed.overdue(self._clock()):
            self._report(
                f"no file event came of {len(missed)} changed files, such as {min(missed)}; a scan "
                "found them (too many changes at once, or made on another machine)"
            )
            self.listen()

    def found_by_scan(self, path: str) -> None:
        """A scan has found sections in a file before any event of it was taken."""
        now_s = self._clock()
        # What changed just before we listened was not told of.
        if self._observer is not None and now_s - self._since_s > self._watch.poll_s:
            self._missed.found_by_scan(path, now_s)

    def close(self) -> None:
        """Stop listening."""
        self._stop()
        self._waker.close()

    def _why_not(self) -> str:
        root = self._folder.root
        kind = self._share(root) if self._watch.file_events == "auto" else None
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

    def _report_once(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._report(text)


class _Changes(FileSystemEventHandler):
    """Paths that have changed; filled by watchdog's thread."""

    def __init__(self, root: Path, waker: Waker) -> None:
        self._root = root.resolve()
        self._waker = waker
        self._lock = threading.Lock()
        self._paths: set[str] = set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Keep the paths; our own reading of a file is no news."""
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
            named = path.with_suffix("") if path.suffix.lower() == ".mdoc" else path
            if named.is_relative_to(self._root):
                relative.add(named.relative_to(self._root).as_posix())
        return relative
