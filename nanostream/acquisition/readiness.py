"""Which sections are complete: (listing, now) in, section ids out.

No clock, no disk. After each scan::

    for path in readiness.to_inspect(listing, now_s):
        try:
            contents, stat = frames.inspect(root / path)
        except NotReadyError:
            readiness.not_ready(path, stat)
        except MicrographError:
            readiness.refused(path, stat)
        else:
            sections += readiness.inspected(path, FileStat.of(stat), contents)
            if readiness.in_doubt(path):
                prints = ledger.fingerprints(path, file)
                changed = frames.changed_sections(root / path, contents, prints)
                sections += readiness.compared(path, changed)

The listing says *which* headers to read; only the header and the size taken with it say what is
complete. Times are differences between our own scans: the clock of the camera PC is never compared
with ours.

A file whose listing entry stays the same costs one dict look-up, once it is **settled**: its header
was read at least `SETTLE_S` after we first saw that entry, and was complete. Until then it is read
after every scan, because a header can be rewritten without a trace in size and time: SerialEM
changes it after the pixels, and FAT counts time in 2 s. A header that lags behind the file (empty,
or the file is longer than it says) may be waiting for a save that comes in a second or tomorrow: it
is read after every scan for `SETTLE_S`, then after each further tenth of the time it has waited, at
the latest every `RECHECK_S`; a change of size or time brings it back at once.

A section overwritten in place leaves number and size as they were. So a file that changed after
sections of it were handed out is **in doubt**: once it has been still, its sections are compared
with what was read of them, and those that differ are handed out again with a new generation
(docs/decisions/0005).
"""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from nanostream.records import SectionId

__all__ = [
    "FRAMES_S",
    "RECHECK_S",
    "SETTLE_S",
    "Contents",
    "FileStat",
    "KnownFile",
    "Readiness",
    "is_same_title",
]

#: The coarsest modification time of a file system in use (FAT: 2 s).
SETTLE_S = 2.0
#: A minute's delay for a save that took hours to come is none; a thousand files left half
#: written then cost 17 header reads a second.
RECHECK_S = 60.0
#: A frame stack whose mdoc does not come is taken for finished when nothing was written to it for
#: so long; DigitalMicrograph may process between two frames.
FRAMES_S = 30.0
#: Comparing a section costs a few reads (0.2 ms from a local disk, 10 ms from a busy share): a
#: file must have been still for 20 ms a section before it is compared, so that a long movie is
#: compared in its pauses and not after each save.
_STILL_S_PER_SECTION = 0.02


class Contents(Protocol):
    """A file by its own account: an MRC header, or the sidecar of a TIFF."""

    @property
    def title(self) -> str:
        """Tells the file from an older one of the same name; empty if nothing does."""

    @property
    def state(self) -> str:
        """Differs after each save, also after one that overwrites."""

    @property
    def frames(self) -> bool:
        """Written by Gatan's plugin, whose count runs ahead of the data."""

    def complete_sections(self, file_size: int) -> int:
        """Sections that are counted and whose bytes lie within `file_size`."""

    def lags(self, file_size: int) -> bool:
        """Whether there is more in the file than is counted: a save is under way."""

    def lacks(self, file_size: int) -> bool:
        """Whether sections are counted whose bytes are not there."""


@dataclass(frozen=True)
class FileStat:
    """Size in bytes, modification time and inode of a file; inode 0 is not known.

    On Windows take it from ``os.stat``, not from ``os.scandir``: a directory entry keeps the old
    size while SerialEM holds the file open, and has no inode.
    """

    size: int
    mtime_ns: int
    inode: int = 0

    @classmethod
    def of(cls, stat: os.stat_result) -> FileStat:
        """From what ``os.stat`` gave."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


@dataclass(frozen=True)
class KnownFile:
    """A file as a ledger keeps it.

    Attributes
    ----------
    generation : int
        1 for the first file of that name.
    published : int
        Sections handed out in this generation: 0 to published - 1.
    stat : FileStat or None
        The listing entry, if it has settled; None asks for a new inspection.
    title : str
        First label of the header, with SerialEM's time of "Open New"; empty if not known.
    overwritten : tuple of (z, generation)
        Sections that were overwritten since, with their own generation.
    state : str
        Of the contents at the last inspection.
    """

    generation: int = 1
    published: int = 0
    stat: FileStat | None = None
    title: str = ""
    overwritten: tuple[tuple[int, int], ...] = ()
    state: str = ""

    def generation_of(self, z: int) -> int:
        """Generation of the section that is in the file now."""
        return dict(self.overwritten).get(z, self.generation)

    def next_file(self) -> KnownFile:
        """A new file of this name: nothing is known of it but its generation."""
        return KnownFile(max(self.generation, *(g for _, g in self.overwritten), 0) + 1)


def is_same_title(before: str, now: str) -> bool:
    """Whether titles can be of one file: the earlier one may have been read half written."""
    return now.startswith(before)


@dataclass(slots=True)
class _Entry:
    """State of a file by our scans and the inspections that they led to."""

    stat: FileStat
    changed_s: float  # when we first saw this stat
    asked_s: float  # when we last asked for an inspection
    answered: bool = False
    lagging: bool = False
    inspected: FileStat | None = None
    in_doubt: bool = False  # changed since its sections were read or compared
    rewritten: bool = False  # its header was, without a new section
    patient: bool = True
    at_rest: bool = False  # found settled: nothing to ask but whether the listing has changed

    @property
    def still_s(self) -> float:
        return self.asked_s - self.changed_s

    @property
    def settled(self) -> bool:
        told = self.answered and not (self.lagging or self.in_doubt)
        return told and self.still_s >= SETTLE_S

    @property
    def may_change(self) -> bool:
        return not self.settled and (self.in_doubt or self.still_s <= RECHECK_S)

    def due(self, now_s: float) -> bool:
        if self.settled:
            self.at_rest = True
            return False
        if not self.answered or self.still_s < SETTLE_S:
            return True
        pause_s = min(self.still_s / 10, RECHECK_S) if self.patient else self.still_s
        return now_s - self.asked_s >= pause_s


class Readiness:
    """Which headers to read and which sections are complete; outlives a scan.

    Parameters
    ----------
    known : mapping of path to KnownFile
        What a ledger kept of earlier runs: those sections are not handed out again.
    """

    def __init__(self, known: Mapping[str, KnownFile] | None = None) -> None:
        self._files = dict(known or {})
        #: Files that were not settled when they were last listed.
        self._moving: set[str] = set()
        self._entries = {
            path: _Entry(file.stat, -SETTLE_S, 0.0, answered=True, inspected=file.stat)
            for path, file in self._files.items()
            if file.stat is not None
        }

    def to_inspect(self, listing: Mapping[str, FileStat], now_s: float) -> list[str]:
        """Paths whose header must be read now, sorted by name.

        Parameters
        ----------
        listing : mapping of path to FileStat
            Every MRC and TIFF file in the watched folder. A file that is missing is not
            forgotten: a mount may be away.
        now_s : float
            Monotonic time of the scan.

        Returns
        -------
        list of str
            For each, call `inspected`, `not_ready` or `refused`; if none is called (the file
            could not be opened) it comes again at the next scan.
        """
        due = []
        for path, stat in listing.items():
            entry = self._entries.get(path)
            if entry is None:
                entry = self._entries[path] = _Entry(stat, now_s, now_s)
            elif entry.stat != stat:
                entry.stat, entry.changed_s, entry.at_rest = stat, now_s, False
            elif entry.at_rest or not entry.due(now_s):
                if entry.at_rest:
                    self._moving.discard(path)
                continue
            self._moving.add(path)
            entry.asked_s, entry.answered = now_s, False
            due.append(path)
        return sorted(due)

    def inspected(
        self, path: str, stat: FileStat, contents: Contents, *, finished: bool = False
    ) -> list[SectionId]:
        """Sections that became complete, each once, by z.

        Parameters
        ----------
        path : str
            POSIX path relative to the watched folder, from `to_inspect`.
        stat : FileStat
            Taken with the contents (`frames.inspect`), not from the listing.
        contents : Contents
            As read.
        finished : bool
            The mdoc that Gatan's plugin writes after the last frame is there.

        Returns
        -------
        list of SectionId
            With a new generation where the file name was used again: it has fewer sections than
            were handed out, or another title, or is another and smaller file.
        """
        file, entry = self._files.get(path, KnownFile()), self._entries[path]
        before, title = entry.inspected, contents.title
        whole = contents.complete_sections(stat.size)
        if file.published and (
            whole < file.published
            or not is_same_title(file.title, title)
            or (before is not None and _is_smaller_other(stat, before))
        ):
            file = file.next_file()
        rewritten = file.state not in ("", contents.state)
        if rewritten:  # perhaps without a trace in size and time
            entry.changed_s = entry.asked_s
        entry.in_doubt = bool(file.published) and (entry.in_doubt or rewritten or before != stat)
        entry.rewritten = entry.in_doubt and (
            entry.rewritten or (rewritten and whole == file.published)
        )
        awaited = contents.frames and not (
            entry.still_s >= FRAMES_S or (finished and not contents.lacks(stat.size))
        )
        complete = file.published if awaited else whole
        self._files[path] = replace(
            file, published=complete, stat=None, title=title, state=contents.state
        )
        self._answer(path, stat, lagging=awaited or contents.lags(stat.size))
        return [SectionId(path, z, file.generation) for z in range(file.published, complete)]

    def unsettled(self) -> int:
        """Number of files that may still bring or change a section.

        They have just changed, are half written, are to be compared or could not be read. What has
        been so for `RECHECK_S` without a change is not expected to come any more.
        """
        return sum(self._entries[path].may_change for path in self._moving)

    def retain(self, listing: Container[str]) -> None:
        """Count only files that are there among those that may change."""
        self._moving = {path for path in self._moving if path in listing}

    def lies_still(self, path: str) -> bool:
        """Whether a file that was not ready has not changed for `RECHECK_S`, at its inspection."""
        entry = self._entries[path]
        return entry.lagging and entry.still_s >= RECHECK_S

    def in_doubt(self, path: str) -> bool:
        """Whether to compare the sections of a file, just inspected, with what was read of them."""
        entry = self._entries[path]
        still_s = max(SETTLE_S, self._files[path].published * _STILL_S_PER_SECTION)
        return entry.in_doubt and entry.still_s >= still_s

    def compared(self, path: str, changed: Iterable[int]) -> list[SectionId]:
        """Sections that were overwritten, each once, with their new generation.

        Parameters
        ----------
        path : str
            For which `in_doubt` holds.
        changed : iterable of int
            Sections that differ from what was read of them. If SerialEM has not rewritten the
            header it is still writing their pixels: they are read again, and taken as they
            are after `RECHECK_S` of stillness.
        """
        file, entry = self._files[path], self._entries[path]
        changed = sorted(changed)
        if changed and not entry.rewritten and entry.still_s < RECHECK_S:
            return []
        entry.in_doubt = entry.rewritten = False
        new = {z: file.generation_of(z) + 1 for z in changed}
        overwritten = tuple(sorted((dict(file.overwritten) | new).items()))
        self._files[path] = replace(file, overwritten=overwritten)
        return [SectionId(path, z, generation) for z, generation in new.items()]

    def not_ready(self, path: str, stat: FileStat, *, patient: bool = True) -> None:
        """The header is empty or torn: read it again, see the module's text for when.

        A file that is shorter than before, or that has no title to tell it by, is a new one under
        the old name: its sections will be of a new generation.

        Parameters
        ----------
        patient : bool
            If not, the file is probably none of ours, and is read when it has waited twice as
            long: 17 times in a day.
        """
        file, entry = self._files.get(path), self._entries[path]
        before = entry.inspected
        shorter = before is not None and stat.size < before.size
        if file is not None and file.published and (shorter or not file.title):
            self._files[path] = file.next_file()
        self._answer(path, stat, lagging=True, patient=patient)

    def refused(self, path: str, stat: FileStat) -> None:
        """The file is not a micrograph that can be read: not read again until it changes."""
        self._answer(path, stat, lagging=False)
        self._entries[path].changed_s = -math.inf

    def known_file(self, path: str) -> KnownFile:
        """A file as a ledger should keep it."""
        file, entry = self._files.get(path, KnownFile()), self._entries.get(path)
        stat = entry.stat if entry and entry.settled else None
        return file if file.stat == stat else replace(file, stat=stat)

    def renamed_to(self, path: str) -> str | None:
        """Another name under which we have seen the same file (inode and title), if any."""
        file, entry = self._files.get(path), self._entries.get(path)
        if file is None or entry is None or not (entry.stat.inode and file.title):
            return None
        return next(
            (
                other
                for other, seen in self._entries.items()
                if seen.stat.inode == entry.stat.inode
                and other != path
                and other in self._files
                and self._files[other].title == file.title
            ),
            None,
        )

    def _answer(self, path: str, stat: FileStat, *, lagging: bool, patient: bool = True) -> None:
        entry = self._entries[path]
        entry.inspected, entry.answered = stat, True
        entry.lagging, entry.patient = lagging, patient


def _is_smaller_other(stat: FileStat, before: FileStat) -> bool:
    return 0 != stat.inode != before.inode != 0 and stat.size < before.size
