"""From what is seen in the watched folder to sections for the workers: facts in, orders out. Pure.

``Intake.handle(event, now_s)`` takes what was seen and returns what to do; it knows no disk, clock
or socket. The orders are performed in turn, and what they bring is the next event::

    Tick ─────────▶ Scan ──Scanned──────▶ Inspect ──HeaderRead──▶ Remember, then the section is
    FilesChanged ─▶ List ──FilesListed──▶ Inspect ──HeaderRead──▶ Remember, then the section is

        held ──────▶ ReadSidecar ──SidecarRead──▶ Release     until its metadata is there, or late
        backlog ───NothingWaits─────────────────▶ Release     it was there at the first start
        passed over                                           it was, and is not wanted

Rules:

- File events are hints: what they name is inspected at once. Scans are the truth, since events get
  lost and network shares send none: all files are scanned every ``poll_s``, or more rarely where
  that costs much; those written last are scanned in between.
- In a turn (from one `Tick` to the next) headers and sidecars are read for `READ_S`, one of each at
  least; then workers and sink are heard again. A scan waits until all headers of the last one are
  read. What file events name comes first and is all read.
- A section is remembered before it is released, in the order of the orders: a kill between any two
  of them loses nothing, and what a ledger has kept (`known`, `unfinished`) is all that is needed to
  resume. What was not remembered is found again.
- The first scan of the first start is remembered as a whole when its last header is read: a kill in
  the middle of it has passed nothing over. File events wait until it has ended.
- A section waits ``mdoc_wait_s`` for its metadata if there is an mdoc beside its file, or if it is
  the first of a file and that of the last file had one; others go without at once.
- What nothing comes of (a file cut off, or that cannot be opened, or a TIFF that no sidecar lists)
  is reported after `PATIENCE_S`, once.
- While draining nothing new is inspected; what was found is released.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanostream.acquisition.folder import lists
from nanostream.acquisition.readiness import Contents, FileStat, KnownFile, Readiness
from nanostream.acquisition.scans import ScanSchedule, pause_s
from nanostream.config import Watch
from nanostream.records import SectionId

if TYPE_CHECKING:  # it imports OpenCV
    from nanostream.acquisition.frames import SidecarEntry

__all__ = [
    "METADATA_S",
    "PATIENCE_S",
    "READ_S",
    "Compare",
    "Compared",
    "DrainBegan",
    "EndFirstScan",
    "Event",
    "ExpectFileEvent",
    "FilesChanged",
    "FilesListed",
    "HeaderNotReady",
    "HeaderRead",
    "HeaderRefused",
    "HeaderUnreadable",
    "Inspect",
    "Intake",
    "List",
    "NothingWaits",
    "Order",
    "ReadSidecar",
    "Release",
    "Remember",
    "Report",
    "Resumed",
    "Scan",
    "Scanned",
    "SidecarRead",
    "Tick",
]

#: Headers and sidecars are read so long in one turn before workers and sink are heard again.
READ_S = 0.1
#: While a section waits for its metadata, its sidecar is read this often.
METADATA_S = 0.02
#: A copy or an upload may take a moment; what is cut off, held by another program or listed by no
#: sidecar for so long needs somebody's attention.
PATIENCE_S = 60.0
#: Sections of one file whose metadata is read in one go: some 0.1 ms each.
_MOST_AT_ONCE = 1000


# --- events: what was seen -----------------------------------------------------------------------


@dataclass(frozen=True)
class Resumed:
    """The process has started; the first event."""


@dataclass(frozen=True)
class Tick:
    """Time has passed, all orders until now were performed: a new turn."""


@dataclass(frozen=True)
class FilesChanged:
    """File events came of these paths."""

    paths: frozenset[str]


@dataclass(frozen=True)
class FilesListed:
    """State of files that were to be listed, as far as they are there and are watched."""

    listing: Mapping[str, FileStat]


@dataclass(frozen=True)
class Scanned:
    """State of all watched files, or of the newest, and what the scan took (s)."""

    listing: Mapping[str, FileStat]
    everything: bool
    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class HeaderRead:
    """The header of a file was read, with the state of the file at that moment."""

    path: str
    stat: FileStat
    contents: Contents
    finished: bool = False


@dataclass(frozen=True)
class HeaderNotReady:
    """A file has no whole header yet; ``listed`` as ordered.

    ``unlisted`` is a TIFF that no mdoc or idoc lists, and perhaps never will.
    """

    path: str
    listed: FileStat
    unlisted: bool = False


@dataclass(frozen=True)
class HeaderRefused:
    """A file is no micrograph."""

    path: str
    listed: FileStat
    reason: str


@dataclass(frozen=True)
class HeaderUnreadable:
    """A file cannot be opened or read now."""

    path: str
    reason: str


@dataclass(frozen=True)
class Compared:
    """Numbers of the sections whose pixels are not those that were read of them."""

    path: str
    changed: tuple[int, ...]


@dataclass(frozen=True)
class SidecarRead:
    """Entries of sections in their sidecar (None: not there yet), and whether there is an mdoc."""

    order: ReadSidecar
    entries: Mapping[SectionId, SidecarEntry | None]
    has_mdoc: bool


@dataclass(frozen=True)
class NothingWaits:
    """All that was released is with the workers, or has its end."""


@dataclass(frozen=True)
class DrainBegan:
    """The process was told to finish what was acquired and to take nothing new."""


# --- orders: what to do --------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """List all watched files, or the newest; answered by `Scanned`."""

    everything: bool


@dataclass(frozen=True)
class List:
    """List these files; answered by `FilesListed`."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Inspect:
    """Read the header of a file; answered by one of the ``Header`` events."""

    path: str
    listed: FileStat


@dataclass(frozen=True)
class Compare:
    """Compare the sections of a file with what was read of them.

    Answered by `Compared`, or by nothing if the file cannot be read now.
    """

    path: str
    file: KnownFile
    contents: Contents


@dataclass(frozen=True)
class ReadSidecar:
    """Read the metadata of sections of one file; answered by `SidecarRead`.

    ``late``: they have waited long enough, and a section that may still be being written counts.
    """

    path: str
    title: str
    sections: tuple[SectionId, ...]
    late: bool


@dataclass(frozen=True)
class Remember:
    """Keep what is known of a file and the sections it brought, for good; all or nothing."""

    path: str
    file: KnownFile
    sections: tuple[SectionId, ...] = ()


@dataclass(frozen=True)
class EndFirstScan:
    """Keep what was there at the first start and is not wanted, for good; all or nothing."""

    passed_over: Mapping[str, KnownFile]


@dataclass(frozen=True)
class Release:
    """Let a section go to the workers.

    ``described``: its sidecar was read, and ``sidecar`` is its entry there, if any; otherwise the
    sidecar is still to be read. ``written_s`` is the POSIX time of its file if it was not there
    before the start.
    """

    section: SectionId
    sidecar: SidecarEntry | None = None
    described: bool = False
    written_s: float | None = None


@dataclass(frozen=True)
class ExpectFileEvent:
    """A scan has found sections in a file: an event of it should have come, or comes now."""

    path: str


@dataclass(frozen=True)
class Report:
    """Tell the operator."""

    text: str


Event = (
    Resumed
    | Tick
    | FilesChanged
    | FilesListed
    | Scanned
    | HeaderRead
    | HeaderNotReady
    | HeaderRefused
    | HeaderUnreadable
    | Compared
    | SidecarRead
    | NothingWaits
    | DrainBegan
)
Order = (
    Scan
    | List
    | Inspect
    | Compare
    | ReadSidecar
    | Remember
    | EndFirstScan
    | Release
    | ExpectFileEvent
    | Report
)


# --- parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wait:
    """Of a section that is held: until when, whether an mdoc is to be expected, its file's time."""

    until_s: float
    expects_mdoc: bool
    written_s: float | None


class _Since:
    """Since when something has been so with a file, and whether that was reported."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, float]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._since

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def seen(self, path: str, now_s: float, how: object = None) -> None:
        """It is so, or still so; if ``how`` is another, since now."""
        if path not in self._since or self._since[path][0] != how:
            self._since[path] = how, now_s

    def over(self, path: str) -> None:
        """It is so no more."""
        self._since.pop(path, None)

    def long(self, now_s: float) -> list[str]:
        """Those with which it has been so for `PATIENCE_S`."""
        return [path for path, (_, since_s) in self._since.items() if now_s - since_s > PATIENCE_S]

    def reported(self, path: str) -> None:
        """It was reported: not again while it is so."""
        self._since[path] = self._since[path][0], math.inf


# --- the state machine ---------------------------------------------------------------------------


class Intake:
    """State of what was found in the watched folder; see the module's docstring.

    Parameters
    ----------
    watch : Watch
        ``poll_s``, ``mdoc_wait_s`` and ``start``.
    known : mapping of path to KnownFile
        What a ledger kept of the files: their published sections are not found again.
    unfinished : iterable of SectionId
        Sections that it kept and that have no end, in the order they were found.
    first_start : bool
        No first scan has ended yet: ``start`` says what becomes of what is there.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        known: Mapping[str, KnownFile] | None = None,
        unfinished: Iterable[SectionId] = (),
        first_start: bool = True,
    ) -> None:
        self._watch = watch
        self._readiness = Readiness(known)
        self._unfinished = list(unfinished)
        self._first_start = first_start
        self._first_scan, self._all_listed = True, False
        self._draining = False
        self._schedule = ScanSchedule(watch.poll_s)
        self._turn_ends_s = 0.0
        #: Headers to read as a scan has listed their files, and the one that is being read.
        self._due: OrderedDict[str, FileStat] = OrderedDict()
        self._inspecting: str | None = None
        #: Files that are being compared: of their overwritten sections, by a scan and written when.
        self._comparing: dict[str, tuple[bool, float]] = {}
        self._held: OrderedDict[SectionId, _Wait] = OrderedDict()
        #: Held sections whose sidecar is still to be read in this turn.
        self._undescribed: deque[ReadSidecar] = deque()
        self._describing = False
        #: Whether the first section of the last file had an mdoc: SerialEM is told to write them.
        self._expects_mdocs = True
        self._backlog: list[SectionId] = []
        self._passed_over: dict[str, KnownFile] = {}
        self._changed: set[str] = set()
        #: TIFFs that no mdoc or idoc lists, and how many were reported.
        self._unlisted = _Since()
        self._unlisted_reported = 0
        #: Files that lack sections that they count, by their size.
        self._cut_off = _Since()
        self._unreadable = _Since()

    @property
    def waiting(self) -> int:
        """Sections that were found and not yet released."""
        return len(self._held) + len(self._backlog)

    def sleep_s(self, now_s: float) -> float:
        """How long nothing is to be done unless something happens (s); at most 0 if at once."""
        if self._due:
            return 0.0
        until_s = self._schedule.next_s - now_s
        return min(until_s, METADATA_S) if self._held else until_s

    def known_file(self, path: str) -> KnownFile:
        """A file as it is known."""
        return self._readiness.known_file(path)

    def why_lost(self, section: SectionId) -> str:
        """Reason why the file of a section is not there, as far as it is known."""
        other = self._readiness.renamed_to(section.path)
        if other is None:
            return f"{section.path} was deleted or renamed before it was read"
        return (
            f"{section.path} was renamed before it was read; it is found again as "
            f"{SectionId(other, section.z, self.known_file(other).generation)}"
        )

    def handle(self, event: Event, now_s: float) -> list[Order]:
        """Orders that follow from an event, at monotonic time ``now_s`` (s), to perform in turn."""
        match event:
            case Resumed():
                return self._resume()
            case Tick():
                return self._turn(now_s)
            case FilesChanged(paths):
                return self._changed_files(paths)
            case FilesListed(listing):
                return self._inspect_now(listing, now_s)
            case Scanned():
                return self._scanned(event, now_s)
            case Compared(path, changed):
                return self._compared(path, changed, now_s)
            case SidecarRead():
                return self._described(event, now_s)
            case NothingWaits():
                return self._next_of_backlog()
            case DrainBegan():
                self._draining = True
                self._due.clear()
                return []
        # What is left are the answers to `Inspect`.
        by_scan = event.path == self._inspecting
        if by_scan:
            self._inspecting = None
        orders = self._inspected(event, now_s, by_scan=by_scan)
        return orders + self._next_inspection(now_s) + self._end_first_scan()

    # --- turns

    def _resume(self) -> list[Order]:
        """Release what was remembered: at once, or after what is new."""
        again, self._unfinished = self._unfinished, []
        if not again:
            return []
        report = Report(f"resuming {_count(len(again), 'section')} of an earlier run")
        if self._watch.start == "newest-first":
            self._backlog = again
            return [report]
        return [report, *map(Release, again)]

    def _turn(self, now_s: float) -> list[Order]:
        self._turn_ends_s = now_s + READ_S
        self._inspecting, self._describing = None, False
        self._undescribed.clear()
        self._undescribed.extend(self._sidecars(self._held.items(), now_s))
        orders: list[Order] = []
        if not self._due and now_s >= self._schedule.next_s:
            orders.append(Scan(everything=now_s >= self._schedule.all_s))
        return orders + self._next_inspection(now_s) + self._next_sidecar(now_s)

    def _next_inspection(self, now_s: float) -> list[Order]:
        """Order the next header that is due to be read, if none is being read and there is time."""
        if self._inspecting is not None or not self._due or now_s > self._turn_ends_s:
            return []
        path, listed = self._due.popitem(last=False)
        self._inspecting = path
        return [Inspect(path, listed)]

    def _next_sidecar(self, now_s: float) -> list[Order]:
        """Order the next sidecar of held sections to be read, by the same rule."""
        if self._describing or not self._undescribed or now_s > self._turn_ends_s:
            return []
        self._describing = True
        return [self._undescribed.popleft()]

    def _sidecars(
        self, held: Iterable[tuple[SectionId, _Wait]], now_s: float
    ) -> Iterator[ReadSidecar]:
        """Orders to read the sidecar of each file of held sections, once for many of them."""
        groups: dict[tuple[str, bool], list[SectionId]] = {}
        for section, wait in held:
            groups.setdefault((section.path, now_s >= wait.until_s), []).append(section)
        for (path, late), sections in groups.items():
            title = self.known_file(path).title
            for start in range(0, len(sections), _MOST_AT_ONCE):
                some = tuple(sections[start : start + _MOST_AT_ONCE])
                yield ReadSidecar(path, title, some, late)

    # --- files

    def _changed_files(self, paths: frozenset[str]) -> list[Order]:
        if self._setting_apart:  # what changes during the first scan is news after it
            self._changed |= paths
            return []
        idocs = [path for path in paths if path.endswith(".idoc")]
        series = {path for path in self._unlisted if any(lists(idoc, path) for idoc in idocs)}
        return [List(tuple(sorted(paths | series)))]

    def _inspect_now(self, listing: Mapping[str, FileStat], now_s: float) -> list[Order]:
        if self._draining:
            return []
        self._turn_ends_s = max(self._turn_ends_s, now_s + READ_S)
        due = set(self._readiness.to_inspect(listing, now_s))
        # What its sidecar did not list has not changed itself.
        due.update(path for path in listing if path in self._unlisted)
        for path in due:
            self._due.pop(path, None)  # its entry there is older
        return [Inspect(path, listing[path]) for path in sorted(due)]

    def _scanned(self, scan: Scanned, now_s: float) -> list[Order]:
        orders = self._plan_scans(scan, now_s)
        if not self._draining:
            due = self._readiness.to_inspect(scan.listing, now_s)
            if self._setting_apart:
                due.sort(key=lambda path: scan.listing[path].mtime_ns)
            self._due.update((path, scan.listing[path]) for path in due)
        if scan.everything:
            self._all_listed = True
            orders += self._impatient(scan.listing, now_s)
        return orders + self._next_inspection(now_s) + self._end_first_scan()

    def _plan_scans(self, scan: Scanned, now_s: float) -> list[Order]:
        # The first one takes longer than others will; and all that it finds must settle.
        cost = (0.0, 0.0) if self._first_scan else (scan.cpu_s, scan.wall_s)
        pause = pause_s(*cost, self._watch.poll_s)
        if not scan.everything:
            self._schedule.scanned_newest(pause, now_s)
            return []
        report = self._schedule.scanned_all(len(scan.listing), pause, now_s)
        return [Report(report)] if report else []

    def _impatient(self, listing: Mapping[str, FileStat], now_s: float) -> list[Order]:
        """Report foreign TIFFs (again when there are twice as many) and files that are cut off."""
        orders: list[Order] = []
        foreign = self._unlisted.long(now_s)
        if len(foreign) > 2 * self._unlisted_reported:
            self._unlisted_reported = len(foreign)
            orders.append(
                Report(
                    f"TIFF files that no mdoc or idoc of SerialEM lists are left alone "
                    f"({len(foreign)}, such as {foreign[0]})"
                )
            )
        for path in list(self._cut_off):
            if path not in listing:
                self._cut_off.over(path)
        for path in self._cut_off.long(now_s):
            self._cut_off.reported(path)
            orders.append(
                Report(
                    f"{path} is cut off, or still being copied: its header counts more sections "
                    "than are there; the rest is segmented when it comes"
                )
            )
        return orders

    def _inspected(
        self,
        event: HeaderRead | HeaderNotReady | HeaderRefused | HeaderUnreadable,
        now_s: float,
        *,
        by_scan: bool,
    ) -> list[Order]:
        path = event.path
        if not isinstance(event, HeaderUnreadable):
            self._unreadable.over(path)
        if not isinstance(event, HeaderRead):
            self._cut_off.over(path)
        if not (isinstance(event, HeaderNotReady) and event.unlisted):
            self._unlisted.over(path)
        match event:
            case HeaderRead():
                return self._header_read(event, now_s, by_scan=by_scan)
            case HeaderNotReady(_, listed, unlisted):
                self._readiness.not_ready(path, listed, patient=not unlisted)
                if unlisted:
                    self._unlisted.seen(path, now_s)
            case HeaderRefused(_, listed, reason):
                self._readiness.refused(path, listed)
                return [Report(f"not a micrograph: {reason}")]
            case HeaderUnreadable(_, reason):
                self._unreadable.seen(path, now_s)
                if path in self._unreadable.long(now_s):
                    self._unreadable.reported(path)
                    return [
                        Report(
                            f"{path} cannot be read for a minute ({reason}); see to its rights, or "
                            "who holds it"
                        )
                    ]
        return []

    def _header_read(self, event: HeaderRead, now_s: float, *, by_scan: bool) -> list[Order]:
        path, contents, size = event.path, event.contents, event.stat.size
        if contents.lacks(size):
            self._cut_off.seen(path, now_s, size)
        else:
            self._cut_off.over(path)
        sections = self._readiness.inspected(path, event.stat, contents, finished=event.finished)
        written_s = event.stat.mtime_ns / 1e9
        orders = self._found(path, sections, now_s, by_scan=by_scan, written_s=written_s)
        if self._readiness.in_doubt(path):
            self._comparing[path] = by_scan, written_s
            orders.append(Compare(path, self.known_file(path), contents))
        return orders

    def _compared(self, path: str, changed: tuple[int, ...], now_s: float) -> list[Order]:
        """Find sections that were overwritten once more."""
        by_scan, written_s = self._comparing.pop(path)
        sections = self._readiness.compared(path, changed)
        return self._found(path, sections, now_s, by_scan=by_scan, written_s=written_s)

    # --- sections

    def _found(
        self,
        path: str,
        sections: list[SectionId],
        now_s: float,
        *,
        by_scan: bool,
        written_s: float,
    ) -> list[Order]:
        """Remember sections, and hold them or set them apart."""
        known = self.known_file(path)
        if self._setting_apart and self._watch.start == "only-new":
            self._passed_over[path] = known
            return []
        # What is settled is not to be inspected after a restart.
        orders: list[Order] = []
        if sections or known.stat is not None:
            orders.append(Remember(path, known, tuple(sections)))
        if self._setting_apart:  # newest-first
            self._backlog += sections
            return orders
        if sections and by_scan and not self._first_scan:
            orders.append(ExpectFileEvent(path))
        new = {
            section: _Wait(
                until_s=now_s + self._watch.mdoc_wait_s,
                # No mdoc beside the first section of the last file: SerialEM writes none.
                expects_mdoc=section.z == 0 and self._expects_mdocs,
                # Of what was there before it would not be the agent's delay.
                written_s=None if self._first_scan else written_s,
            )
            for section in sections
        }
        self._held |= new
        self._undescribed.extendleft(reversed(list(self._sidecars(new.items(), now_s))))
        return orders + self._next_sidecar(now_s)

    def _described(self, event: SidecarRead, now_s: float) -> list[Order]:
        """Release sections whose metadata is there, is late, or is not to be expected."""
        self._describing = False
        orders: list[Order] = []
        for section, entry in event.entries.items():
            wait = self._held[section]
            expected = wait.expects_mdoc or event.has_mdoc
            if entry is None and expected and not event.order.late:
                self._held.move_to_end(section)  # if there is no time for all, others first
                continue
            del self._held[section]
            if section.z == 0:
                self._expects_mdocs = entry is not None
            orders.append(Release(section, entry, described=True, written_s=wait.written_s))
        return orders + self._next_sidecar(now_s)

    def _next_of_backlog(self) -> list[Order]:
        """Release the newest section that was there before, while nothing new waits."""
        return [Release(self._backlog.pop())] if self._backlog and not self._held else []

    # --- the first scan

    @property
    def _setting_apart(self) -> bool:
        return self._first_scan and self._first_start and self._watch.start != "all"

    def _end_first_scan(self) -> list[Order]:
        """Remember what was there, once the last header of the first scan is read."""
        unread = self._due or self._inspecting is not None
        if not (self._first_scan and self._all_listed) or unread or self._draining:
            return []
        orders: list[Order] = []
        if self._first_start:
            orders.append(EndFirstScan(dict(self._passed_over)))
        changed, setting_apart = frozenset(self._changed), self._setting_apart
        self._first_scan = False
        if self._passed_over:
            sections = sum(file.published for file in self._passed_over.values())
            orders.append(
                Report(
                    f"{_count(sections, 'section')} in {_count(len(self._passed_over), 'file')} "
                    "were there before and are left alone ([watch] start = only-new)"
                )
            )
            self._passed_over.clear()
        if self._backlog:
            waiting = _count(len(self._backlog), "section")
            orders.append(Report(f"{waiting} of before this start wait until nothing new does"))
        if setting_apart and changed:
            self._changed.clear()
            orders += self._changed_files(changed)
        return orders


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
