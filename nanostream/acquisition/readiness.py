"""Which sections are complete: (listing, now) in, section ids out.

No clock, no disk. A look goes::

    for path in readiness.to_inspect(listing, now_s):
        try:
            header, stat = read_header(root / path)
        except NotReadyError:
            readiness.not_ready(path, stat)
        except MicrographError:
            readiness.refused(path, stat)
        else:
            sections += readiness.inspected(path, FileStat.of(stat), header)

The listing says *which* headers to read; only the header and the size taken with it say what is
complete. Times are differences between our own looks: the clock of the camera PC is never compared
with ours.

A file whose listing entry stays the same costs one dict look-up, once it is **settled**: its header
was read at least `SETTLE_S` after we first saw that entry, and told the whole story. Until then it
is read at every look, because a header can be rewritten without a trace in size and time: SerialEM
changes it after the pixels, and FAT counts time in 2 s. A header that lags behind the file (empty,
or the file is longer than it says) may be waiting for a save that comes in a second or tomorrow: it
is read at every look for `SETTLE_S`, then after each further tenth of the time it has waited, at
the latest every `RECHECK_S`; a change of size or time brings it back at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from nanostream.acquisition.mrc import MrcHeader
from nanostream.records import SectionId

__all__ = ["RECHECK_S", "SETTLE_S", "FileStat", "KnownFile", "Readiness"]

#: The coarsest modification time of a file system in use (FAT: 2 s).
SETTLE_S = 2.0
#: A minute's delay for a save that took hours to come is none; a thousand files left half
#: written then cost 17 header reads a second.
RECHECK_S = 60.0


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
    """What a ledger keeps of a file.

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
    """

    generation: int = 1
    published: int = 0
    stat: FileStat | None = None
    title: str = ""


@dataclass
class _Look:
    """What our looks at the listing, and the inspections they led to, say of a file."""

    stat: FileStat
    changed_s: float  # when we first saw this stat
    asked_s: float  # when we last asked for an inspection
    answered: bool = False
    lagging: bool = False
    inspected: FileStat | None = None

    @property
    def settled(self) -> bool:
        late = self.asked_s - self.changed_s >= SETTLE_S
        return late and self.answered and not self.lagging

    def due(self, now_s: float) -> bool:
        if self.settled:
            return False
        waited_s = self.asked_s - self.changed_s
        if not self.answered or waited_s < SETTLE_S:
            return True
        return now_s - self.asked_s >= min(waited_s / 10, RECHECK_S)


class Readiness:
    """Which headers to read and which sections are complete; outlives a look.

    Parameters
    ----------
    known : mapping of path to KnownFile
        What a ledger kept of earlier runs: those sections are not handed out again.
    """

    def __init__(self, known: Mapping[str, KnownFile] | None = None) -> None:
        self._files = dict(known or {})
        self._looks = {
            path: _Look(file.stat, -SETTLE_S, 0.0, answered=True, inspected=file.stat)
            for path, file in self._files.items()
            if file.stat is not None
        }

    def to_inspect(self, listing: Mapping[str, FileStat], now_s: float) -> list[str]:
        """Paths whose header must be read now, sorted by name.

        Parameters
        ----------
        listing : mapping of path to FileStat
            Every MRC file in the watched folder. A file that is missing is not forgotten: a mount
            may be away.
        now_s : float
            Monotonic time of the look.

        Returns
        -------
        list of str
            For each, call `inspected`, `not_ready` or `refused`; if none is called (the file
            could not be opened) it comes again at the next look.
        """
        due = []
        for path, stat in listing.items():
            look = self._looks.get(path)
            if look is None:
                look = self._looks[path] = _Look(stat, now_s, now_s)
            elif look.stat != stat:
                look.stat, look.changed_s = stat, now_s
            elif not look.due(now_s):
                continue
            look.asked_s, look.answered = now_s, False
            due.append(path)
        return sorted(due)

    def inspected(self, path: str, stat: FileStat, header: MrcHeader) -> list[SectionId]:
        """Sections that became complete, each once, by z.

        Parameters
        ----------
        path : str
            POSIX path relative to the watched folder, from `to_inspect`.
        stat : FileStat
            Taken with the header (`read_header`), not from the listing.
        header : MrcHeader
            As read.

        Returns
        -------
        list of SectionId
            With a new generation where the file name was used again: it has fewer sections than
            were handed out, or another title, or is another and smaller file.
        """
        file = self._files.get(path, KnownFile())
        before = self._looks[path].inspected
        title = header.title
        complete = header.complete_sections(stat.size)
        if file.published and (
            complete < file.published
            or (file.title and title != file.title)
            or (before is not None and _is_smaller_other(stat, before))
        ):
            file = KnownFile(file.generation + 1)
        self._files[path] = KnownFile(file.generation, complete, title=title)
        self._answer(path, stat, lagging=stat.size > header.data_end)
        return [SectionId(path, z, file.generation) for z in range(file.published, complete)]

    def not_ready(self, path: str, stat: FileStat) -> None:
        """The header is empty or torn: look again, see the module's text for when.

        A file that is shorter than before, or that has no title to tell it by, is a new one under
        the old name: its sections will be of a new generation.
        """
        file = self._files.get(path)
        before = self._looks[path].inspected
        shorter = before is not None and stat.size < before.size
        if file is not None and file.published and (shorter or not file.title):
            self._files[path] = KnownFile(file.generation + 1)
        self._answer(path, stat, lagging=True)

    def refused(self, path: str, stat: FileStat) -> None:
        """The file is no micrograph we read: not looked at again until it changes."""
        self._answer(path, stat, lagging=False)
        self._looks[path].changed_s = -math.inf

    def known_file(self, path: str) -> KnownFile:
        """What a ledger should keep of a file."""
        file, look = self._files.get(path, KnownFile()), self._looks.get(path)
        stat = look.stat if look and look.settled else None
        return KnownFile(file.generation, file.published, stat, file.title)

    def _answer(self, path: str, stat: FileStat, *, lagging: bool) -> None:
        look = self._looks[path]
        look.inspected, look.answered, look.lagging = stat, True, lagging


def _is_smaller_other(stat: FileStat, before: FileStat) -> bool:
    return 0 != stat.inode != before.inode != 0 and stat.size < before.size
