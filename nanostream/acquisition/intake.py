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
  is reported after `overdue.PATIENCE_S`, once.
- While draining nothing new is inspected; what was found is released.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from nanostream.acquisition import orders as o
from nanostream.acquisition.folder import lists
from nanostream.acquisition.held import HeldSections
from nanostream.acquisition.overdue import OverdueFiles
from nanostream.acquisition.readiness import FileStat, KnownFile, Readiness
from nanostream.acquisition.scans import ScanSchedule, pause_s
from nanostream.config import Watch
from nanostream.records import SectionId

__all__ = ["METADATA_S", "READ_S", "Intake"]

#: Headers and sidecars are read so long in one turn before workers and sink are heard again.
READ_S = 0.1
#: While a section waits for its metadata, its sidecar is read this often.
METADATA_S = 0.02


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
        self._held = HeldSections(watch.mdoc_wait_s, lambda path: self.known_file(path).title)
        self._backlog: list[SectionId] = []
        self._passed_over: dict[str, KnownFile] = {}
        self._changed: set[str] = set()
        self._overdue = OverdueFiles()
        #: Of the files at the last scan, and whether there was one that was not passed over.
        self._unsettled, self._began = 0, bool(known)
        self._old: frozenset[str] = frozenset()

    @property
    def waiting(self) -> int:
        """Sections that were found and not yet released."""
        return len(self._held) + len(self._backlog)

    @property
    def unsettled(self) -> int:
        """Files that may still bring or change a section; at least 1 before there is any file."""
        to_come = self._first_scan or not self._began
        return self._unsettled + self._overdue.hoped_for + len(self._due) + to_come

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

    def handle(self, event: o.Event, now_s: float) -> list[o.Order]:
        """Orders that follow from an event, at monotonic time ``now_s`` (s), to perform in turn."""
        match event:
            case o.Resumed():
                return self._resume()
            case o.Tick():
                return self._turn(now_s)
            case o.FilesChanged(paths):
                return self._changed_files(paths)
            case o.FilesListed(listing):
                return self._inspect_now(listing, now_s)
            case o.Scanned():
                return self._scanned(event, now_s)
            case o.Compared(path, changed):
                return self._compared(path, changed, now_s)
            case o.SidecarRead():
                return self._held.described(event) + self._next_sidecar(now_s)
            case o.NothingWaits():
                return self._next_of_backlog()
            case o.DrainBegan():
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

    def _resume(self) -> list[o.Order]:
        """Release what was remembered: at once, or after what is new."""
        again, self._unfinished = self._unfinished, []
        if not again:
            return []
        report = o.Report(f"resuming {_count(len(again), 'section')} of an earlier run")
        if self._watch.start == "newest-first":
            self._backlog = again
            return [report]
        return [report, *map(o.Release, again)]

    def _turn(self, now_s: float) -> list[o.Order]:
        self._turn_ends_s = now_s + READ_S
        self._inspecting = None
        self._held.begin_turn(now_s)
        orders: list[o.Order] = []
        if not self._due and now_s >= self._schedule.next_s:
            orders.append(o.Scan(everything=now_s >= self._schedule.all_s))
        return orders + self._next_inspection(now_s) + self._next_sidecar(now_s)

    def _next_inspection(self, now_s: float) -> list[o.Order]:
        """Order the next header that is due to be read, if none is being read and there is time."""
        if self._inspecting is not None or not self._due or now_s > self._turn_ends_s:
            return []
        path, listed = self._due.popitem(last=False)
        self._inspecting = path
        return [o.Inspect(path, listed, self._readiness.lies_still(path))]

    def _next_sidecar(self, now_s: float) -> list[o.Order]:
        """Order the next sidecar of held sections to be read, by the same rule."""
        return [] if now_s > self._turn_ends_s else self._held.next_sidecar()

    # --- files

    def _changed_files(self, paths: frozenset[str]) -> list[o.Order]:
        if self._setting_apart:  # what changes during the first scan is news after it
            self._changed |= paths
            return []
        idocs = [path for path in paths if path.lower().endswith(".idoc")]
        series = {
            path for path in self._overdue.unlisted if any(lists(idoc, path) for idoc in idocs)
        }
        return [o.List(tuple(sorted(paths | series)))]

    def _inspect_now(self, listing: Mapping[str, FileStat], now_s: float) -> list[o.Order]:
        if self._draining:
            return []
        self._turn_ends_s = max(self._turn_ends_s, now_s + READ_S)
        due = set(self._readiness.to_inspect(listing, now_s))
        # What its sidecar did not list has not changed itself.
        due.update(path for path in listing if path in self._overdue.unlisted)
        for path in due:
            self._due.pop(path, None)  # its entry there is older
        self._unsettled += len(due)
        still = self._readiness.lies_still
        return [o.Inspect(path, listing[path], still(path)) for path in sorted(due)]

    def _scanned(self, scan: o.Scanned, now_s: float) -> list[o.Order]:
        self._began |= scan.unwatched  # somebody has begun, if not as we can read it
        orders = self._plan_scans(scan, now_s)
        if not self._draining:
            due = self._readiness.to_inspect(scan.listing, now_s)
            if self._setting_apart:
                due.sort(key=lambda path: scan.listing[path].mtime_ns)
            self._due.update((path, scan.listing[path]) for path in due)
        if scan.everything:
            self._all_listed = True
            orders += self._overdue.scanned(scan.listing, now_s)
            self._readiness.retain(scan.listing)
        self._unsettled = self._readiness.unsettled()
        return orders + self._next_inspection(now_s) + self._end_first_scan()

    def _plan_scans(self, scan: o.Scanned, now_s: float) -> list[o.Order]:
        # The first one takes longer than others will; and all that it finds must settle.
        cost = (0.0, 0.0) if self._first_scan else (scan.cpu_s, scan.wall_s)
        pause = pause_s(*cost, self._watch.poll_s)
        if not scan.everything:
            self._schedule.scanned_newest(pause, now_s)
            return []
        report = self._schedule.scanned_all(len(scan.listing), pause, now_s)
        return [o.Report(report)] if report else []

    def _inspected(self, event: o.HeaderAnswer, now_s: float, *, by_scan: bool) -> list[o.Order]:
        orders = self._overdue.inspected(event, now_s)
        passing_over = self._setting_apart and self._watch.start == "only-new"
        self._began |= not passing_over and event.path not in self._old
        match event:
            case o.HeaderRead():
                orders += self._header_read(event, now_s, by_scan=by_scan)
            case o.HeaderNotReady(path, listed, unlisted):
                self._readiness.not_ready(path, listed, patient=not unlisted)
            case o.HeaderRefused(path, listed, reason):
                self._readiness.refused(path, listed)
                orders.append(o.Report(f"not a micrograph: {reason}"))
        return orders

    def _header_read(self, event: o.HeaderRead, now_s: float, *, by_scan: bool) -> list[o.Order]:
        path, contents = event.path, event.contents
        sections = self._readiness.inspected(path, event.stat, contents, finished=event.finished)
        written_s = event.stat.mtime_ns / 1e9
        orders = self._found(path, sections, now_s, by_scan=by_scan, written_s=written_s)
        if self._readiness.in_doubt(path):
            self._comparing[path] = by_scan, written_s
            orders.append(o.Compare(path, self.known_file(path), contents))
        return orders

    def _compared(self, path: str, changed: tuple[int, ...], now_s: float) -> list[o.Order]:
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
    ) -> list[o.Order]:
        """Remember sections, and hold them or set them apart."""
        known = self.known_file(path)
        if self._setting_apart and self._watch.start == "only-new":
            self._passed_over[path] = known
            return []
        self._began |= bool(sections)
        # What is settled is not to be inspected after a restart.
        orders: list[o.Order] = []
        if sections or known.stat is not None:
            orders.append(o.Remember(path, known, tuple(sections)))
        if self._setting_apart:  # newest-first
            self._backlog += sections
            return orders
        if sections and by_scan and not self._first_scan:
            orders.append(o.ExpectFileEvent(path))
        # Of what was there before it would not be the agent's delay.
        self._held.hold(sections, now_s, written_s=None if self._first_scan else written_s)
        return orders + self._next_sidecar(now_s)

    def _next_of_backlog(self) -> list[o.Order]:
        """Release the newest section that was there before, while nothing new waits."""
        return [o.Release(self._backlog.pop())] if self._backlog and not self._held else []

    # --- the first scan

    @property
    def _setting_apart(self) -> bool:
        return self._first_scan and self._first_start and self._watch.start != "all"

    def _end_first_scan(self) -> list[o.Order]:
        """Remember what was there, once the last header of the first scan is read."""
        unread = self._due or self._inspecting is not None
        if not (self._first_scan and self._all_listed) or unread or self._draining:
            return []
        orders: list[o.Order] = []
        if self._first_start:
            orders.append(o.EndFirstScan(dict(self._passed_over)))
        changed, setting_apart = frozenset(self._changed), self._setting_apart
        self._first_scan = False
        if self._passed_over:
            sections = sum(file.published for file in self._passed_over.values())
            orders.append(
                o.Report(
                    f"{_count(sections, 'section')} in {_count(len(self._passed_over), 'file')} "
                    "were there before and are left alone ([watch] start = only-new)"
                )
            )
            self._old = frozenset(self._passed_over)
            self._passed_over.clear()
        if self._backlog:
            waiting = _count(len(self._backlog), "section")
            orders.append(
                o.Report(
                    f"{waiting} from before this start: taken while no new section waits, the "
                    "newest first ([watch] start = newest-first)"
                )
            )
        if setting_apart and changed:
            self._changed.clear()
            orders += self._changed_files(changed)
        return orders


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
