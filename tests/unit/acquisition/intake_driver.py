"""Performs the orders of an `Intake`, one at a time, with a folder and a memory of the test."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from nanostream.acquisition import answers
from nanostream.acquisition import orders as o
from nanostream.acquisition.folder import WatchedFolder
from nanostream.acquisition.intake import Intake
from nanostream.acquisition.readiness import FileStat, KnownFile
from nanostream.config import Watch
from nanostream.records import Metadata, SectionId

Kind = TypeVar("Kind")
HEADER_BYTES, SECTION_BYTES = 1024, 100
DESCRIBED = (0.05, Metadata(magnification=20_000))


@dataclass(frozen=True)
class FakeContents:
    """Header, size and times of a file of a `FakeFolder`."""

    title: str
    counted: int
    saves: int = 0
    frames: bool = False

    @property
    def state(self) -> str:
        return f"{self.title} {self.counted} {self.saves}"

    def complete_sections(self, file_size: int) -> int:
        return min(self.counted, (file_size - HEADER_BYTES) // SECTION_BYTES)

    def lags(self, file_size: int) -> bool:
        return file_size > HEADER_BYTES + self.counted * SECTION_BYTES

    def lacks(self, file_size: int) -> bool:
        return file_size < HEADER_BYTES + self.counted * SECTION_BYTES


@dataclass
class FakeFile:
    """A file of a `FakeFolder`: saves of each section, and what its header and mdoc count."""

    title: str
    inode: int
    saves: list[int] = field(default_factory=list)
    counted: int = 0
    headers: int = 0
    described: int | None = None
    mtime_ns: int = 0

    @property
    def stat(self) -> FileStat:
        size = HEADER_BYTES + len(self.saves) * SECTION_BYTES
        return FileStat(size, self.mtime_ns, self.inode)

    @property
    def contents(self) -> FakeContents:
        return FakeContents(self.title, self.counted, self.headers)


class FakeFolder:
    """A watched folder in memory."""

    def __init__(self) -> None:
        self.files: dict[str, FakeFile] = {}
        self.instead: dict[str, o.Event] = {}  # what comes of reading a header
        self.scan_cost_s = (0.0, 0.0)
        self._inodes = 0
        self.clock_ns = 10**18

    def save(self, path: str, sections: int = 1, *, mdoc: bool = False) -> None:
        """Save sections to a file, with the header; made if it is not there."""
        if path not in self.files:
            self.create(path)
        for _ in range(sections):
            self.write_pixels(path)
            self.write_header(path)
            if mdoc:
                self.write_mdoc(path)

    def create(self, path: str) -> None:
        """Open a new file, perhaps under the name of an older one."""
        self._inodes += 1
        self.files[path] = FakeFile(f"SerialEM: {self._inodes}", self._inodes)
        self._touch(path)

    def write_pixels(self, path: str, z: int | None = None) -> None:
        """Append the pixels of a section, or overwrite those of one."""
        file = self.files[path]
        if z is None:
            file.saves.append(0)
        else:
            file.saves[z] += 1
        self._touch(path)

    def write_header(self, path: str) -> None:
        """Count what is there."""
        file = self.files[path]
        file.counted = len(file.saves)
        file.headers += 1
        self._touch(path)

    def write_mdoc(self, path: str) -> None:
        """Describe all sections that are counted."""
        self.files[path].described = self.files[path].counted

    def pixels(self, section: SectionId) -> int:
        """A stand-in for the fingerprint of a section's pixels as they are now."""
        file = self.files[section.path]
        return hash((file.title, section.z, file.saves[section.z])) % 2**32

    def listing(self, paths: Iterable[str] | None = None) -> dict[str, FileStat]:
        wanted = self.files if paths is None else paths
        return {path: self.files[path].stat for path in wanted if path in self.files}

    def scan(self, everything: bool) -> o.Scanned:
        return o.Scanned(self.listing(), everything, *self.scan_cost_s)

    def inspect(self, order: o.Inspect) -> o.Event:
        if event := self.instead.get(order.path):
            changes: dict[str, Any] = {"listed": order.listed} if hasattr(event, "listed") else {}
            return replace(event, **changes)
        if order.path not in self.files:
            return o.HeaderUnreadable(order.path, "No such file or directory")
        file = self.files[order.path]
        if not file.counted:
            return o.HeaderNotReady(order.path, order.listed)
        return o.HeaderRead(order.path, file.stat, file.contents)

    def compare(self, order: o.Compare, fingerprints: dict[int, int]) -> o.Compared | None:
        path, file = order.path, self.files.get(order.path)
        if file is None or len(file.saves) < order.file.published:
            return None
        known = {z: p for z, p in fingerprints.items() if z < len(file.saves)}
        changed = [z for z, p in known.items() if self.pixels(SectionId(path, z)) != p]
        return o.Compared(path, tuple(changed))

    def read_sidecar(self, order: o.ReadSidecar) -> o.SidecarRead:
        file = self.files.get(order.path)
        described = None if file is None else file.described
        ours = file is not None and file.title == order.title
        entries = {
            s: DESCRIBED if ours and s.z < (described or 0) else None for s in order.sections
        }
        return o.SidecarRead(order, entries, has_mdoc=described is not None)

    def _touch(self, path: str) -> None:
        self.clock_ns += 1_000_000
        self.files[path].mtime_ns = self.clock_ns


class DiskFolder:
    """A watched folder on disk, read by the functions that the agent uses."""

    def __init__(
        self, root: Path, watch: Watch, *, report: Callable[[str], object] = print, **reading: Any
    ):
        self.root, self.reading = root, reading
        self.folder = WatchedFolder(root, watch, report=report, clock=lambda: 0.0)

    def scan(self, everything: bool) -> o.Scanned:
        files = self.folder.files() if everything else self.folder.newest_files()
        return o.Scanned(files, everything)

    def listing(self, paths: tuple[str, ...]) -> dict[str, FileStat]:
        return self.folder.files_of(paths)

    def inspect(self, order: o.Inspect) -> o.Event:
        return answers.inspect(self.root, order, **self.reading)

    def compare(self, order: o.Compare, fingerprints: dict[int, int]) -> o.Compared | None:
        return answers.compare(self.root, order, fingerprints)

    def read_sidecar(self, order: o.ReadSidecar) -> o.SidecarRead:
        return answers.read_sidecar(self.root, order)


class Memory:
    """A ledger in memory; it outlives an intake."""

    def __init__(self) -> None:
        self.files: dict[str, KnownFile] = {}
        self.sections: dict[SectionId, str] = {}
        self.prints: dict[SectionId, int] = {}
        self.first_scan_ended = False

    def known_files(self) -> dict[str, KnownFile]:
        return dict(self.files)

    def unfinished(self) -> list[SectionId]:
        return [section for section, state in self.sections.items() if state == "found"]

    def found(self, path: str, file: KnownFile, sections: tuple[SectionId, ...]) -> None:
        assert not self.sections.keys() & set(sections), "found twice"
        self.files[path] = file
        self.sections |= dict.fromkeys(sections, "found")

    def end_first_scan(self, passed_over: Mapping[str, KnownFile]) -> None:
        self.files |= passed_over
        self.first_scan_ended = True

    def read(self, section: SectionId, fingerprint: int) -> None:
        self.prints.setdefault(section, fingerprint)

    def fingerprints(self, path: str, file: KnownFile) -> dict[int, int]:
        return {
            section.z: value
            for section, value in self.prints.items()
            if section.path == path and section.generation == file.generation_of(section.z)
        }

    def stored(self, section: SectionId) -> None:
        self.sections[section] = "stored"

    def quarantined(self, section: SectionId, reason: str, attempts: int) -> None:
        self.sections[section] = "quarantined"


class Driver:
    """An intake whose orders are performed in turn; `kill` may come between any two.

    After each event what must always hold is checked.
    """

    def __init__(
        self,
        folder: FakeFolder | DiskFolder,
        memory: Memory | None = None,
        *,
        now_s: float = 1000.0,
        read_s: float = 0.0,
        **watch: Any,
    ) -> None:
        self.folder, self.memory, self.now_s = folder, memory or Memory(), now_s
        self.read_s = read_s  # what the reading of a header or sidecar takes
        self.watch = Watch(**watch)
        self.reports: list[str] = []
        self.performed: list[o.Order] = []
        self.all_released: list[SectionId] = []
        self.start()

    def start(self) -> None:
        """Start with what the memory has kept."""
        self.intake = Intake(
            self.watch,
            known=self.memory.known_files(),
            unfinished=self.memory.unfinished(),
            first_start=not self.memory.first_scan_ended,
        )
        self.orders: deque[o.Order] = deque()
        self.released: dict[SectionId, o.Release] = {}
        self.draining = False
        self.feed(o.Resumed())

    kill = start

    def feed(self, event: o.Event) -> None:
        self.draining |= isinstance(event, o.DrainBegan)
        orders = self.intake.handle(event, self.now_s)
        assert not (self.draining and any(isinstance(order, o.Inspect) for order in orders))
        self.orders += orders
        self.check()

    def perform(self) -> None:
        """Perform the next order, and hand back what comes of it."""
        order = self.orders.popleft()
        self.performed.append(order)
        if isinstance(order, (o.Inspect, o.ReadSidecar)):
            self.now_s += self.read_s
        answer: o.Event | None = None
        match order:
            case o.Scan(everything):
                answer = self.folder.scan(everything)
            case o.List(paths):
                answer = o.FilesListed(self.folder.listing(paths))
            case o.Inspect():
                answer = self.folder.inspect(order)
            case o.Compare(path, file):
                answer = self.folder.compare(order, self.memory.fingerprints(path, file))
            case o.ReadSidecar():
                answer = self.folder.read_sidecar(order)
            case o.Remember(path, file, sections):
                self.memory.found(path, file, sections)
            case o.EndFirstScan(passed_over):
                self.memory.end_first_scan(passed_over)
            case o.Release(section):
                assert section not in self.released, "released twice"
                assert section in self.memory.unfinished(), "not remembered"
                self.released[section] = order
                self.all_released.append(section)
            case o.Report(text):
                self.reports.append(text)
        if answer is not None:
            self.feed(answer)

    def run(self) -> None:
        """Perform all orders."""
        while self.orders:
            self.perform()

    def turn(self, *changed: str, idle: bool = True) -> list[str]:
        """One turn, as the agent has it; names of the sections that it released.

        Parameters
        ----------
        *changed : str
            Paths that file events name.
        idle : bool
            Workers take all at once, so that what was there before goes as well.
        """
        before = len(self.all_released)
        if changed:
            self.feed(o.FilesChanged(frozenset(changed)))
            self.run()
        self.feed(o.Tick())
        self.run()
        while idle:
            self.feed(o.NothingWaits())
            idle = bool(self.orders)
            self.run()
        return [str(section) for section in self.all_released[before:]]

    def turns(self, seconds: float, *, every_s: float = 1.0) -> list[str]:
        """Turns for some time; names of the sections that they released."""
        end_s, released = self.now_s + seconds, []
        while self.now_s < end_s:
            self.now_s += every_s
            released += self.turn()
        return released

    def done(self, section: SectionId) -> None:
        """The sink has committed a section."""
        del self.released[section]
        self.memory.stored(section)

    def all_of(self, kind: type[Kind]) -> list[Kind]:
        """Orders of a kind that were performed."""
        return [order for order in self.performed if isinstance(order, kind)]

    def inspected(self) -> list[str]:
        return [order.path for order in self.all_of(o.Inspect)]

    def reported(self, text: str) -> int:
        """How many reports have this in them."""
        return sum(text in report for report in self.reports)

    def check(self) -> None:
        """Check all that must hold after each event."""
        intake = self.intake
        held, backlog = set(intake._held), Counter(intake._backlog)
        ordered = {order.section for order in self.orders if isinstance(order, o.Release)}
        assert not backlog or max(backlog.values()) == 1
        places = [held, set(backlog), ordered, set(self.released)]
        assert len(set().union(*places)) == sum(map(len, places)), "in two places"
        if not self.orders:  # each section without an end is in one place
            assert set(self.memory.unfinished()) == set().union(*places), "lost"
        assert intake.waiting == len(held) + len(intake._backlog)
