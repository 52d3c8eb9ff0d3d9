"""The watched folder: which files in it are watched, and what a scan lists of them.

Of what could hold a micrograph and is not watched (a name that no section can have, a link to a
folder, a folder that cannot be listed, an ending that the patterns do not take) there is a list
with reasons; the first of each kind is reported.

A scan of all files costs one ``stat`` each; `WatchedFolder.newest_files` scans what was written
last, and finds new names by the times of their folders.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nanostream.acquisition.mrc import MRC_SUFFIXES
from nanostream.acquisition.readiness import SETTLE_S, FileStat
from nanostream.config import Watch, matches
from nanostream.errors import printable
from nanostream.records import SectionId

__all__ = ["NEWEST_FILES", "Disk", "WatchedFolder", "lists", "shown"]

logger = logging.getLogger(__name__)

#: What SerialEM moved out of its way: an older file, and a tilt series while its sections are
#: copied by angle into a new file of its name (MultiTSTasks.cpp ``SetupBidirFileCopy``).
_MOVED_ASIDE = ("*~", "*-unsorted.*")
#: Letters of a path in a message; the end of a longer one.
_LONGEST_SHOWN = 100
#: Endings of micrographs; the default patterns take those that SerialEM writes.
_MICROGRAPHS = (*MRC_SUFFIXES, ".tif", ".tiff", ".dm3", ".dm4", ".ser", ".emd")
#: The files that were written last are scanned every ``poll_s``, however many others there are.
NEWEST_FILES = 200


class Disk(Protocol):
    """The functions of the module ``os`` that a scan needs."""

    def stat(self, path: str) -> os.stat_result:
        """Size, times and inode of a file."""

    def scandir(self, path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """Entries of a folder."""


class WatchedFolder:
    """Files below a folder that the patterns take.

    What was decided about a name is remembered, and reported once: a scan of 100,000 files is one
    stat each and nothing else.

    Parameters
    ----------
    root : Path
        The folder.
    watch : Watch
        Patterns, and whether subfolders are watched.
    report : callable
        Takes what the operator should read.
    disk : Disk
        The module ``os``, or a test's stand-in.
    clock : callable
        Monotonic time (s).
    """

    def __init__(
        self,
        root: Path,
        watch: Watch,
        *,
        report: Callable[[str], object] = logger.warning,
        disk: Disk = os,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._watch, self._disk, self._clock = watch, disk, clock
        self._take_report = report
        self._decided: dict[str, bool] = {}
        self._reported: set[str] = set()
        #: What may hold micrographs and is not watched: POSIX path and reason.
        self.unwatched: dict[str, str] = {}
        #: Modification time of each and when we first saw it.
        self._folders: dict[str, tuple[int | None, float]] = {}
        self._newest: list[str] = []

    def files(self) -> dict[str, FileStat]:
        """Size, time and inode of each, by POSIX path."""
        found: dict[str, FileStat] = {}
        before, self._folders = self._folders, {}
        self._scan([""], found, before)
        self._newest = heapq.nlargest(NEWEST_FILES, found, key=lambda path: found[path].mtime_ns)
        return found

    def newest_files(self) -> dict[str, FileStat]:
        """The same of those that were written last, and of all in folders that have changed.

        Finds what SerialEM saves, without a ``stat`` of each old file: a new name changes its
        folder's time, and an open stack was among the last to be written.
        """
        found: dict[str, FileStat] = {}
        now_s = self._clock()
        changed = []
        for prefix, (known_ns, seen_s) in self._folders.items():
            mtime_ns = self._mtime_ns(prefix)
            # The clock of a file system is coarse: a name may have come after the last listing.
            if mtime_ns is not None and (mtime_ns != known_ns or now_s - seen_s < SETTLE_S):
                changed.append(prefix)
        self._scan(changed, found, self._folders)
        found |= self.files_of(path for path in self._newest if path not in found)
        self._newest += found.keys() - self._newest
        return found

    def files_of(self, paths: Iterator[str] | tuple[str, ...]) -> dict[str, FileStat]:
        """The same of some files, as far as they are there and are to be watched."""
        return {path: status for path in paths if (status := self.file(path)) is not None}

    def file(self, relative: str) -> FileStat | None:
        """State of a file that is to be watched; None of others and of what is no file."""
        if not self.wants(relative):
            return None
        try:
            # Not entry.stat(): on Windows it has the size of before SerialEM's writing.
            status = self._disk.stat(f"{self.root}/{relative}")
        except OSError as error:  # gone meanwhile, or a link to nowhere
            logger.debug("%s has no state: %s", printable(relative), printable(str(error)))
            return None
        # To open a pipe would hold us up for good.
        return FileStat.of(status) if stat.S_ISREG(status.st_mode) else None

    def count_folders(self, enough: int) -> int:
        """Number of folders, this one and those below it; counting stops after ``enough``."""
        if not self._watch.recursive:
            return 1
        count = 0
        for _ in os.walk(self.root):
            count += 1
            if count > enough:
                break
        return count

    def wants(self, relative: str) -> bool:
        """Whether a file is to be watched, by its POSIX path; decided once for each."""
        decided = self._decided.get(relative)
        if decided is None:
            decided = self._decided[relative] = self.decide(relative)
        return decided

    def decide(self, relative: str) -> bool:
        """Whether a file is to be watched, by the patterns and by what a section may be called."""
        if matches(relative, _MOVED_ASIDE) or matches(relative, self._watch.exclude):
            return False
        if "/" in relative and not self._watch.recursive:
            return False
        if not matches(relative, self._watch.include):
            self._note_ending(relative)
            return False
        try:
            SectionId(relative, 0)
        except ValueError as error:
            reason = str(error).rpartition(": ")[2]
            self._leave(relative, f"{reason}; rename it", f"not watched: {error}; rename the file")
            return False
        return True

    def _note_ending(self, relative: str) -> None:
        """Leave a file that the patterns do not take, if it is a micrograph by its name."""
        ending = Path(relative).suffix.lower()
        if ending in _MICROGRAPHS:
            taken = ", ".join(self._watch.include)
            self._leave(
                relative,
                "[watch] include does not take its name",
                f"not watched: {ending} files that [watch] include ({taken}) does not take",
            )

    def _leave_link(self, relative: str) -> None:
        if not matches(relative, self._watch.exclude):
            reason = "a link to a folder; watch that folder itself"
            self._leave(relative, reason, f"not watched: {shown(relative)} is {reason}")

    def _leave(self, relative: str, reason: str, report: str) -> None:
        """Keep what is not watched, and why."""
        self.unwatched[relative] = reason
        self._report(report)

    def is_there(self, *, expected: bool) -> bool:
        """Whether the folder can be reached.

        Parameters
        ----------
        expected : bool
            There were files: a share that is not mounted leaves an empty folder.
        """
        try:
            return self.root.is_dir() and (not expected or any(self.root.iterdir()))
        except OSError:  # of a share that has no answer
            return False

    def _scan(
        self,
        prefixes: list[str],
        found: dict[str, FileStat],
        before: dict[str, tuple[int | None, float]],
    ) -> None:
        """List all files of folders, and of those below them that are not known yet."""
        now_s = self._clock() if before else -math.inf
        while prefixes:
            prefix = prefixes.pop()
            mtime_ns = self._mtime_ns(prefix)
            known = before.get(prefix)
            same = known is not None and known[0] == mtime_ns
            self._folders[prefix] = known if known and same else (mtime_ns, now_s)
            folder = self.root / prefix
            try:
                with self._disk.scandir(str(folder)) as entries:
                    listed = list(entries)
            except OSError as error:
                reason = f"cannot be listed ({error.strerror or error})"
                self._leave(prefix, reason, f"folder {shown(str(folder))} {reason}")
                continue
            self.unwatched.pop(prefix, None)
            for entry in listed:
                relative = prefix + entry.name
                try:
                    is_folder = entry.is_dir(follow_symlinks=False)
                except OSError as error:
                    logger.debug("%s has no state: %s", printable(relative), printable(str(error)))
                    continue
                if is_folder:
                    if self._watch.recursive and f"{relative}/" not in self._folders:
                        prefixes.append(f"{relative}/")
                elif self._watch.recursive and _links_to_folder(entry):
                    self._leave_link(relative)
                elif (status := self.file(relative)) is not None:
                    found[relative] = status

    def _mtime_ns(self, prefix: str) -> int | None:
        try:
            return self._disk.stat(f"{self.root}/{prefix}").st_mtime_ns
        except OSError:
            return None

    def _report(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._take_report(text)


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a link to itself
        return False


def shown(path: str) -> str:
    """A path as it can be shown: with escapes where it has letters that no screen has."""
    path = path if len(path) <= _LONGEST_SHOWN else f"...{path[-_LONGEST_SHOWN:]}"
    return path if path.isprintable() else repr(path)


def lists(idoc: str, path: str) -> bool:
    """Whether a file is one of the series of an idoc, by their names.

    Examples
    --------
    >>> lists("day1/gold.idoc", "day1/gold0003.tif"), lists("gold.idoc", "gold.tif")
    (True, False)
    """
    root = re.escape(idoc[: -len(".idoc")])
    named = re.fullmatch(root + r"\d{4,}\.tif", path, re.IGNORECASE)
    return idoc.lower().endswith(".idoc") and named is not None
