"""The watch agent: notices complete sections and hands them to workers. Never writes there.

Notices of the operating system are hints to look at a file at once; a full look at the folder
every ``poll_s`` is the truth, since notices get lost and network shares send none.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Container
from pathlib import Path

import msgspec

from nanostream import failpoints
from nanostream.acquisition import frames
from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.mdoc import has_mdoc, read_metadata, read_metadata_of
from nanostream.acquisition.mrc import fingerprint
from nanostream.acquisition.readiness import (
    Contents,
    FileStat,
    KnownFile,
    Readiness,
    is_same_title,
)
from nanostream.config import Config, tracker_of
from nanostream.errors import (
    ConfigError,
    MessageError,
    MicrographError,
    NotReadyError,
    SessionError,
)
from nanostream.records import Metadata, SectionId, TrackerSettings
from nanostream.transport import dispatch as d
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Server, refusals, wait
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Outbox, Stop
from nanostream_services.processes.watching import Notices, WatchedFolder, lists, pause_s

__all__ = ["run_agent"]

logger = logging.getLogger(__name__)

#: While a section waits for its metadata, look for it this often.
_METADATA_LOOK_S = 0.02
_WRITTEN_ANEW = "the file, or this section of it, was written anew before it was read"
#: A worker sends words only.
_LARGEST_FROM_WORKER_BYTES = 2**20
#: Headers and mdocs are read so long in one go before workers and sink are heard again.
_READ_S = 0.1
#: A share may show a file's size long before its data; after so long they are not expected to come.
_NOT_READY_S = 60.0
#: SerialEM holds a file for a moment; what cannot be opened for so long needs somebody's help.
_UNREADABLE_S = 60.0


def run_agent(config: Config, stop: Stop) -> None:
    """Watch a folder until told to stop.

    Raises
    ------
    ConfigError
        If the folder to watch does not exist, or a port cannot be bound.
    SessionError
        If the ledger cannot be used.
    """
    root = Path(config.watch.directory)
    if not config.watch.directory or not root.is_dir():
        msg = f"[watch] directory: {str(root)!r} is not a folder; give the one SerialEM saves into"
        raise ConfigError(msg)
    if not (config.watch.ledger or config.sink.session):
        msg = "[watch] ledger: give a file for the agent's memory, or a [sink] session folder"
        raise ConfigError(msg)
    ledger = Path(config.watch.ledger or Path(config.sink.session) / "ledger.db")
    with Ledger(ledger) as memory:
        agent = _Agent(config, root, memory)
        drains = config.delivery.at_stop == "drain"
        end = stop.insisted if drains else stop
        memory.when_stuck(lambda error: agent.hold(error) and not end.is_set())
        logger.info("ready: %s sections of %s known", memory.seen, root)
        try:
            while not stop.is_set():
                agent.step()
            if drains:
                agent.drain(stop)
        finally:
            agent.close()


class _Agent:
    def __init__(self, config: Config, root: Path, ledger: Ledger) -> None:
        self._config, self._root, self._ledger = config, root.resolve(), ledger
        self._folder = WatchedFolder(self._root, config.watch, say=self._note)
        self._away = False
        self._mdocs_are_written = True
        self._readiness = Readiness(ledger.known_files())
        self._held: OrderedDict[SectionId, float] = OrderedDict()
        self._written_s: dict[SectionId, float] = {}
        self._metadata: dict[SectionId, tuple[float | None, Metadata] | None] = {}
        self._to_report: dict[SectionId, m.Quarantine] = {}
        self._events = Outbox()
        self._first_look = True
        first_start = not ledger.first_look_ended
        self._setting_apart = first_start and config.watch.start != "all"
        self._draining = False
        self._passed_over: dict[str, KnownFile] = {}
        self._backlog: list[SectionId] = []
        self._due: OrderedDict[str, FileStat] = OrderedDict()
        #: TIFFs that no mdoc or idoc lists.
        self._unlisted: dict[str, float] = {}
        self._said_unlisted = 0
        #: Of files that lack sections that they count: size, and since when; inf if that is said.
        self._cut_off: dict[str, tuple[int, float]] = {}
        #: Since when a file cannot be opened; inf if that is said.
        self._unreadable: dict[str, float] = {}
        #: Why the ledger cannot be written.
        self._stuck = ""
        self._next_scan_s = self._next_newest_s = self._next_report_s = 0.0
        self._said_pause_s = 2 * config.watch.poll_s
        network = config.network
        self._server = Server(network, "frames", largest_bytes=_LARGEST_FROM_WORKER_BYTES)
        # Microseconds since 1970: higher than any number before the restart.
        self._dispatch = d.Dispatch(
            config.delivery, last_number=time.time_ns() // 1000, instance=self._server.instance
        )
        self._sink = Client(
            network,
            "results",
            name=f"agent-{self._server.instance[:8]}",
            largest_bytes=_LARGEST_FROM_WORKER_BYTES,
        )
        self._notices = Notices(self._folder, config.watch, say=self._note)
        self._notices.listen()
        again = ledger.unfinished()
        if again:
            self._note(f"{len(again)} sections of an earlier run go on")
        if config.watch.start == "newest-first":
            self._backlog = again
        else:
            for section in again:
                self._decide(d.SectionFound(section))
        for section, reason, attempts in ledger.given_up():
            self._to_report[section] = m.Quarantine(section, reason, attempts, self._movie(section))
        self._ready = m.Ready("agent", time.time())

    def step(self) -> None:
        """One turn of the loop: wait for something, then handle all of it."""
        now_s = time.monotonic()
        until_s = min(self._next_scan_s, self._next_newest_s, self._next_report_s) - now_s
        longest_s = _METADATA_LOOK_S if self._held else LONGEST_WAIT_S
        wait(
            [self._server, self._sink, self._notices],
            0.0 if self._due else min(until_s, longest_s),
        )
        for worker, message in self._server.receive():
            self._hear(worker, message)
        self._retry(self._hear_sink())
        for text in refusals():
            self._note(f"refused {text}")
        # Only now, when every sign of life has been read: a look at a slow share may have taken
        # long, and that is not the workers' silence.
        self._decide(d.Tick())
        self._look()
        self._release()
        self._take_up()
        self._report()
        if self._stuck:
            self._stuck = ""
            self._note("the ledger can be written again; going on")

    def hold(self, error: SessionError) -> bool:
        """Wait a moment, in the middle of what was to be remembered, and say why; True.

        Nothing is handed out meanwhile: what no ledger knows could be lost. What workers say waits.
        """
        if str(error) != self._stuck:
            self._stuck = str(error)
            self._note(f"{error}; nothing is handed out until then")
        wait([self._sink], LONGEST_WAIT_S)
        self._hear_sink()
        self._report()
        time.sleep(LONGEST_WAIT_S)
        return True

    def drain(self, stop: Stop) -> None:
        """Take nothing new and finish what was acquired, unless somebody insists."""
        self._draining = True
        if self._open:
            self._note(
                f"told to stop: {self._open} sections are finished first; tell again to leave them"
            )
        while self._open and not stop.insisted.is_set():
            self.step()

    @property
    def _open(self) -> int:
        """Sections that were found and have no end."""
        waiting = len(self._held) + len(self._backlog) + self._dispatch.waiting
        return waiting + self._dispatch.in_work

    def close(self) -> None:
        """Tell the sink the last counts and let go of everything."""
        self._next_report_s = 0.0
        self._report()
        self._notices.close()
        self._sink.close(linger_s=1.0)
        self._server.close()

    def _hear(self, worker: str, message: m.Message | MessageError) -> None:
        match message:
            case m.Beat() | m.Done() | m.Failed() | m.Goodbye():
                self._decide(d.FromWorker(worker, message))
                if isinstance(message, m.Beat):
                    self._server.send(worker, m.Pong(self._server.instance))
            case MessageError():
                self._note(f"refused from {worker}: {message}")
            case _:
                self._note(f"refused from {worker}: {type(message).__name__} is not for the agent")

    def _hear_sink(self) -> tuple[SectionId, ...]:
        """Note what the sink has kept; the sections that it wants tried again."""
        again: tuple[SectionId, ...] = ()
        for answer in self._sink.receive():
            match answer:
                case m.Ack(section):
                    self._to_report.pop(section, None)
                case m.Pong():
                    again = answer.retry
                    self._events.heard(answer.heard)
                    if not answer.ready:
                        self._sink.send(self._ready)
        return again

    def _retry(self, sections: tuple[SectionId, ...]) -> None:
        for section in sections:
            self._to_report.pop(section, None)
            if self._ledger.retry(section):
                if self._folder.look_at(section.path) is None:
                    self._note(f"{section} is tried again, but {self._lost(section)}")
                self._decide(d.SectionFound(section))
            self._sink.send(m.Retried(section))

    def _is_away(self) -> bool:
        """Whether the folder is gone: a share that is not mounted is absent, or suddenly empty."""
        try:
            there = self._root.is_dir()
        except OSError:  # of a share that has no answer
            return True
        return not there or (self._ledger.seen > 0 and self._folder.is_empty())

    def _note_away(self, away: bool) -> None:
        if away == self._away:
            return
        self._away = away
        self._note(f"{self._root} {'cannot be reached; waiting for it' if away else 'is back'}")
        if not away:  # the system's notices were for the folder that was there before
            self._notices.listen()
        self._decide(d.FilesAway(away))

    def _look(self) -> None:
        """Read the headers that are due: of what changed at once, of a look's as there is time."""
        if not self._setting_apart:  # else what changes during the first look is news after it
            self._look_at_noticed(self._notices.take(), time.monotonic())
        if not self._due:
            self._list(time.monotonic())
        end_s = time.monotonic() + _READ_S
        while self._due:
            path, listed = self._due.popitem(last=False)
            seen = self._ledger.seen
            self._inspect(path, listed)
            if self._ledger.seen > seen and not self._first_look:
                self._notices.found_by_look(path)
            if time.monotonic() > end_s:
                break
        if self._first_look and not (self._due or self._draining):
            self._end_first_look()

    def _look_at_noticed(self, paths: set[str], now_s: float) -> None:
        idocs = [path for path in paths if path.endswith(".idoc")]
        series = {p for p in self._unlisted if any(lists(idoc, p) for idoc in idocs)}
        listing = {path: stat for path in paths | series if (stat := self._folder.look_at(path))}
        due = self._readiness.to_inspect(listing, now_s)
        # What its sidecar did not list has not changed itself.
        for path in sorted({*due, *(self._unlisted & listing.keys())}):
            self._due.pop(path, None)  # its entry there is older
            self._inspect(path, listing[path])

    def _list(self, now_s: float) -> None:
        """Look at all files, or at the newest, if it is time to."""
        if now_s < min(self._next_scan_s, self._next_newest_s):
            return
        cpu_s = time.thread_time()
        all_files = now_s >= self._next_scan_s
        if all_files:
            self._note_away(self._is_away())
            self._notices.check()
        listing = self._folder.files() if all_files else self._folder.newest_files()
        due = self._readiness.to_inspect(listing, now_s)
        if self._setting_apart:
            due.sort(key=lambda path: listing[path].mtime_ns)
        self._due.update((path, listing[path]) for path in due)
        poll_s = self._config.watch.poll_s
        end_s = time.monotonic()
        rest_s = pause_s(time.thread_time() - cpu_s, end_s - now_s, poll_s)
        if self._first_look:  # it took longer than others will; and all that it found must settle
            rest_s = poll_s
        self._next_newest_s = end_s + (poll_s if all_files else rest_s)
        if all_files:
            self._next_scan_s = end_s + rest_s
            self._note_pause(len(listing), rest_s)
            self._note_unlisted(end_s)
            self._note_cut_off(listing, end_s)

    def _note_unlisted(self, now_s: float) -> None:
        """Name foreign TIFF files, once until there are twice as many."""
        foreign = [path for path, s in self._unlisted.items() if now_s - s > _UNREADABLE_S]
        if len(foreign) > 2 * self._said_unlisted:
            self._said_unlisted = len(foreign)
            self._note(
                f"TIFF files that no mdoc or idoc of SerialEM lists are left alone ({len(foreign)},"
                f" such as {foreign[0]})"
            )

    def _note_cut_off(self, listing: Container[str], now_s: float) -> None:
        for path, (size, since_s) in list(self._cut_off.items()):
            if path not in listing:
                del self._cut_off[path]
            elif now_s - since_s > _UNREADABLE_S:
                self._cut_off[path] = (size, math.inf)
                self._note(
                    f"{path} is cut off, or still being copied: its header counts more sections "
                    "than are there; the rest is segmented when it comes"
                )

    def _note_pause(self, files: int, pause_s: float) -> None:
        if pause_s > 2 * self._said_pause_s:
            self._said_pause_s = pause_s
            self._note(
                f"{files} files: all are looked at every {pause_s:.0f} s, those written last and "
                f"what is new every {self._config.watch.poll_s:g} s"
            )

    def _end_first_look(self) -> None:
        self._first_look = self._setting_apart = False
        if not self._ledger.first_look_ended:
            self._ledger.end_first_look(self._passed_over)
        if self._passed_over:
            sections = sum(file.published for file in self._passed_over.values())
            self._note(
                f"{sections} sections in {len(self._passed_over)} files were there before and are "
                "left alone ([watch] start = only-new)"
            )
            self._passed_over.clear()
        if self._backlog:
            self._note(f"{len(self._backlog)} sections were there before and go after what is new")

    def _take_up(self) -> None:
        """Let sections that were there before go, the newest first, while nothing new waits."""
        while self._backlog and not (self._held or self._dispatch.waiting):
            self._decide(d.SectionFound(self._backlog.pop()))

    def _inspect(self, path: str, listed: FileStat) -> None:
        if self._draining:
            return
        unlisted_s = self._unlisted.pop(path, time.monotonic())
        cut_off = self._cut_off.pop(path, None)
        try:
            contents, status = frames.inspect(self._root / path)
        except OSError as error:
            self._note_unreadable(path, error)
            return
        except MicrographError as error:
            self._unreadable.pop(path, None)
            if not isinstance(error, NotReadyError):
                self._readiness.refused(path, listed)
                self._note(f"not a micrograph: {error}")
                return
            # A TIFF that SerialEM did not write is listed nowhere and will never be.
            tiff = frames.is_tiff(Path(path))
            self._readiness.not_ready(path, listed, patient=not tiff)
            if tiff:
                self._unlisted[path] = unlisted_s
            return
        self._unreadable.pop(path, None)
        if contents.lacks(status.st_size):
            still = cut_off is not None and cut_off[0] == status.st_size
            self._cut_off[path] = (
                cut_off if cut_off and still else (status.st_size, time.monotonic())
            )
        finished = contents.frames and frames.frames_finished(self._root / path)
        sections = self._readiness.inspected(path, FileStat.of(status), contents, finished=finished)
        sections += self._overwritten(path, contents)
        known = self._readiness.known_file(path)
        if self._setting_apart and self._config.watch.start == "only-new":
            self._passed_over[path] = known
            return
        if sections:
            failpoints.point("agent.found")
        if sections or known.stat is not None:  # settled: not to be inspected after a restart
            self._ledger.found(path, known, sections)
        if sections:
            failpoints.point("agent.remembered")
        if self._setting_apart and self._config.watch.start == "newest-first":
            self._backlog += sections
            return
        wait_s = self._config.watch.mdoc_wait_s
        described = bool(sections) and has_mdoc(self._root / path)
        for section in sections:
            # What was there before says nothing of how quick we are.
            if not self._first_look:
                self._written_s[section] = status.st_mtime
            # No mdoc beside the first section of the last file: SerialEM was not told to write any.
            first = section.z == 0 and self._mdocs_are_written
            self._held[section] = time.monotonic() + (wait_s if first or described else 0.0)

    def _note_unreadable(self, path: str, error: OSError) -> None:
        logger.debug("%s cannot be read now: %s", path, error)
        now_s = time.monotonic()
        if now_s - self._unreadable.setdefault(path, now_s) > _UNREADABLE_S:
            self._unreadable[path] = math.inf
            self._note(
                f"{path} cannot be read for a minute ({error.strerror or error}); see to its "
                "rights, or who holds it"
            )

    def _overwritten(self, path: str, contents: Contents) -> list[SectionId]:
        """Sections of a file that are not what was read of them any more."""
        if not self._readiness.in_doubt(path):
            return []
        known = self._readiness.known_file(path)
        fingerprints = self._ledger.fingerprints(path, known)
        try:
            changed = frames.changed_sections(self._root / path, contents, fingerprints)
        except OSError as error:
            logger.debug("%s cannot be compared now: %s", path, error)
            return []
        return self._readiness.compared(path, changed)

    def _release(self) -> None:
        """Let sections go whose metadata is there, or has been waited for long enough."""
        now_s = time.monotonic()
        files: dict[tuple[str, bool], list[SectionId]] = {}
        for section, deadline_s in self._held.items():
            files.setdefault((section.path, now_s >= deadline_s), []).append(section)
        for (path, late), sections in files.items():
            title = self._readiness.known_file(path).title
            numbers = (section.z for section in sections)
            told = read_metadata_of(self._root / path, numbers, title=title, dated=not late)
            for section, metadata in zip(sections, told, strict=True):
                if metadata is None and not late:
                    self._held.move_to_end(section)  # if there is no time for all, others first
                else:
                    if section.z == 0:
                        self._mdocs_are_written = metadata is not None
                    del self._held[section]
                    self._metadata[section] = metadata
                    self._decide(d.SectionFound(section))
                if time.monotonic() > now_s + _READ_S:
                    return

    def _decide(self, event: d.Event) -> None:
        events = deque([event])
        while events:
            for action in self._dispatch.handle(events.popleft(), time.monotonic()):
                follow_up = self._perform(action)
                if follow_up is not None:
                    events.append(follow_up)

    def _perform(self, action: d.Action) -> d.Event | None:
        match action:
            case d.Send():
                return self._send(action)
            case d.Store(section):
                failpoints.point("agent.done")
                self._ledger.stored(section)
                self._forget(section)
                failpoints.point("agent.stored")
            case d.Quarantine(section, reason, attempts):
                self._ledger.quarantined(section, reason, attempts)
                self._to_report[section] = m.Quarantine(
                    section, reason, attempts, self._movie(section)
                )
                self._next_report_s = 0.0
                self._forget(section)
                self._note(f"{section} is quarantined: {reason}")
            case d.Note(text):
                self._note(text)
        return None

    def _send(self, order: d.Send) -> d.Event | None:
        worker, section = order.worker, order.section
        path = self._root / section.path
        start_s = time.perf_counter()
        known = self._readiness.known_file(section.path)
        if known.generation_of(section.z) != section.generation:
            return d.SectionFailed(section, _WRITTEN_ANEW, final=True)
        if section not in self._metadata:
            self._metadata[section] = read_metadata(path, section.z, title=known.title)
        try:
            frame = frames.read_frame(
                path,
                section,
                self._metadata[section],
                pixel_size_nm=self._config.watch.pixel_size_nm,
            )
        except (MicrographError, OSError) as error:
            if self._is_away():
                self._note_away(True)
                return d.FilesAway(True, section)
            del self._metadata[section]  # what was read of a file that is being rewritten
            if isinstance(error, NotReadyError) and order.waited_s < _NOT_READY_S:
                logger.debug("%s is not there yet: %s", section, error)
                return d.SectionNotReady(section)
            return d.SectionFailed(section, self._why_not(section, error))
        # The title has SerialEM's time of "Open New": pixels of a newer file of the same name must
        # not pass for this section's.
        if not is_same_title(known.title, frame.metadata.file_title or ""):
            return d.SectionFailed(section, _WRITTEN_ANEW, final=True)
        frame = msgspec.structs.replace(
            frame,
            stream=self._movie(section),
            written_s=self._written_s.get(section),
            timings_s={"wait_s": order.waited_s, "read_s": time.perf_counter() - start_s},
            number=order.number,
        )
        self._ledger.read(section, fingerprint(frame.pixels))
        failpoints.point("agent.read")
        try:
            if not self._server.send(worker, frame):
                return d.WorkerLost(worker)
        except MessageError as error:  # no worker would take it
            return d.SectionFailed(section, str(error), final=True)
        logger.debug("%s sent to %s", section, worker)
        failpoints.point("agent.sent")
        return None

    def _why_not(self, section: SectionId, error: Exception) -> str:
        """Why a section cannot be read, and where it went."""
        lost = isinstance(error, FileNotFoundError)
        return f"cannot be read: {self._lost(section) if lost else error}"

    def _lost(self, section: SectionId) -> str:
        """What became of a section whose file is not there."""
        other = self._readiness.renamed_to(section.path)
        if other is None:
            return f"{section.path} was deleted or renamed before it was read"
        return (
            f"{section.path} was renamed before it was read; it is found again as "
            f"{SectionId(other, section.z, self._readiness.known_file(other).generation)}"
        )

    def _movie(self, section: SectionId) -> TrackerSettings | None:
        # What was overwritten has no neighbours: the others have another generation.
        known = self._readiness.known_file(section.path)
        overwritten = (section.z, section.generation) in known.overwritten
        return None if overwritten else tracker_of(section.path, self._config.streams)

    def _forget(self, section: SectionId) -> None:
        self._written_s.pop(section, None)
        self._metadata.pop(section, None)

    def _report(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_report_s:
            return
        self._next_report_s = now_s + self._config.delivery.heartbeat_s / 2
        for notice in self._to_report.values():
            self._sink.send(notice)
        self._sink.send(
            m.Report(
                seen=self._ledger.seen,
                waiting=self._dispatch.waiting + len(self._held) + len(self._backlog),
                in_work=self._dispatch.in_work,
                longest_wait_s=self._dispatch.longest_wait_s(now_s),
            )
        )
        if events := self._events.message():
            self._sink.send(events)

    def _note(self, text: str) -> None:
        logger.info("%s", text)
        self._events.add(text)
