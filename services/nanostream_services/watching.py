"""The watched folder: what is in it, and what the operating system says has changed there."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler

from nanostream.acquisition.readiness import FileStat
from nanostream.config import Watch, matches
from nanostream.records import SectionId
from nanostream.transport.sockets import Waker

__all__ = ["Hints", "WatchedFolder"]

logger = logging.getLogger(__name__)

_EVENTS = ("created", "modified", "moved", "closed")


class WatchedFolder:
    """Files below a folder that the patterns take.

    What was decided about a name is remembered, and said once: a look at 100,000 files is one stat
    each and nothing else.
    """

    def __init__(self, root: Path, watch: Watch) -> None:
        self.root = root
        self._watch = watch
        self._decided: dict[str, bool] = {}
        self._said: set[str] = set()

    def files(self) -> dict[str, FileStat]:
        """Size, time and inode of each, by POSIX path."""
        found: dict[str, FileStat] = {}
        folders = [("", self.root)]
        while folders:
            prefix, folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = list(entries)
            except OSError as error:
                self._say(f"folder {folder} cannot be listed: {error}")
                continue
            for entry in listed:
                relative = prefix + entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((f"{relative}/", Path(entry.path)))
                    elif self.wants(relative):
                        # Not entry.stat(): on Windows it has the size of before SerialEM's writing.
                        found[relative] = FileStat.of(os.stat(entry.path))  # noqa: PTH116
                except OSError as error:  # gone meanwhile, or a link to nowhere
                    logger.debug("%s cannot be looked at: %s", relative, error)
        return found

    def count_folders(self, enough: int) -> int:
        """Folders below this one; counting stops after ``enough``."""
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

    def _decide(self, relative: str) -> bool:
        if relative.endswith("~") or not matches(relative, self._watch.include):
            return False
        if matches(relative, self._watch.exclude):
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
            logger.warning("%s", text)


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
