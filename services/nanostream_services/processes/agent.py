"""The watch agent: finds complete sections and sends them to workers. Never writes in the folder.

`Intake` decides what becomes of files, `Dispatch` who gets which section; this process performs
their orders between the disk, the ledger and the sockets.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from nanostream import failpoints
from nanostream.acquisition import answers, frames
from nanostream.acquisition import orders as o
from nanostream.acquisition.folder import WatchedFolder
from nanostream.acquisition.intake import Intake
from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.mrc import fingerprint
from nanostream.acquisition.readiness import Contents
from nanostream.config import Config, tracker_of
from nanostream.errors import (
    ConfigError,
    MessageError,
    MicrographError,
    NotReadyError,
    OverwrittenError,
    SessionError,
)
from nanostream.records import SectionId, TrackerSettings
from nanostream.transport import dispatch as d
from nanostream.transport import messages as m
from nanostream.transport.sockets import Server, refusals, wait
from nanostream_services.processes.file_events import FileEvents
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop
from nanostream_services.processes.sink_link import SinkLink

__all__ = ["Agent", "run_agent"]

logger = logging.getLogger(__name__)

#: A worker sends short messages only.
_LARGEST_FROM_WORKER_BYTES = 2**20
#: A share may show a file's size long before its data; after so long they are not expected to come.
_NOT_READY_S = 60.0


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
        agent = Agent(config, root, memory)
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


class Agent:
    """Between the disk, the ledger, the workers and the sink.

    Parameters
    ----------
    config : Config
        ``watch``, ``network``, ``delivery`` and ``streams``.
    root : Path
        The watched folder.
    ledger : Ledger
        What earlier agents found in it.
    clock : callable
        Monotonic time (s).
    read_header : callable
        `frames.inspect`, or a test's stand-in.
    """

    def __init__(
        self,
        config: Config,
        root: Path,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.monotonic,
        read_header: Callable[[Path], tuple[Contents, os.stat_result]] = frames.inspect,
    ) -> None:
        self._config, self._root, self._ledger = config, root.resolve(), ledger
        self._clock, self._read_header = clock, read_header
        self._intake = Intake(
            config.watch,
            known=ledger.known_files(),
            unfinished=ledger.unfinished(),
            first_start=not ledger.first_scan_ended,
        )
        self._released: dict[SectionId, o.Release] = {}
        self._away = False
        #: Why the ledger cannot be written.
        self._stuck = ""
        self._server = Server(config.network, "frames", largest_bytes=_LARGEST_FROM_WORKER_BYTES)
        # Microseconds since 1970: higher than any number before the restart.
        self._dispatch = d.Dispatch(
            config.delivery, last_number=time.time_ns() // 1000, instance=self._server.instance
        )
        self._sink = SinkLink(config, self._server.instance)
        self._folder = WatchedFolder(self._root, config.watch, report=self._report, clock=clock)
        self._file_events = FileEvents(self._folder, config.watch, report=self._report, clock=clock)
        self._file_events.listen()
        for section, reason, attempts in ledger.given_up():
            self._sink.quarantined(section, reason, attempts, self._tracker(section))
        self._take_in(o.Resumed())

    @property
    def open(self) -> int:
        """Sections that were found and have no end."""
        return self._intake.waiting + self._dispatch.waiting + self._dispatch.in_work

    @property
    def _trouble(self) -> str:
        """Why nothing can be found or remembered now."""
        return self._stuck or (f"{self._root} cannot be reached" if self._away else "")

    def step(self) -> None:
        """One turn of the loop: wait for something, then handle all of it."""
        now_s = self._clock()
        sleep_s = min(self._intake.sleep_s(now_s), self._sink.due_s - now_s, LONGEST_WAIT_S)
        wait([self._server, self._sink, self._file_events], sleep_s)
        for worker, message in self._server.receive():
            self._hear(worker, message)
        self._retry(self._sink.hear())
        for text in refusals():
            self._report(f"refused {text}")
        # Only now, when every sign of life has been read: a scan of a slow share may have taken
        # long, and that is not the workers' silence.
        self._decide(d.Tick())
        if changed := self._file_events.take():
            self._take_in(o.FilesChanged(frozenset(changed)))
        self._take_in(o.Tick())
        while not self._dispatch.waiting and self._take_in(o.NothingWaits()):
            pass
        self._report_progress()
        if self._stuck:
            self._stuck = ""
            self._report("the ledger can be written again")

    def hold(self, error: SessionError) -> bool:
        """Wait a moment, in the middle of what was to be remembered, and report why; True.

        Nothing is handed out meanwhile: what no ledger knows could be lost. Workers' messages wait.
        """
        if str(error) != self._stuck:
            self._stuck = str(error)
            self._report(f"{error}; nothing is handed out until then")
        wait([self._sink], LONGEST_WAIT_S)
        self._sink.hear()
        self._report_progress()
        time.sleep(LONGEST_WAIT_S)
        return True

    def drain(self, stop: Stop) -> None:
        """Take nothing new and finish what was acquired, unless somebody insists."""
        self._take_in(o.DrainBegan())
        if self.open:
            are = "1 section is" if self.open == 1 else f"{self.open} sections are"
            self._report(f"told to stop: {are} finished first; tell again to leave the rest")
        while self.open and not stop.insisted.is_set():
            self.step()

    def close(self) -> None:
        """Tell the sink the last counts and let go of everything."""
        self._sink.due_s = 0.0
        self._report_progress()
        self._file_events.close()
        self._sink.close()
        self._server.close()

    # --- from files to sections

    def _take_in(self, event: o.Event) -> bool:
        """Perform all that follows from an event; False if nothing does."""
        orders = deque(self._intake.handle(event, self._clock()))
        some = bool(orders)
        while orders:
            seen = self._perform(orders.popleft())
            if seen is not None:
                orders += self._intake.handle(seen, self._clock())
        return some

    def _perform(self, order: o.Order) -> o.Event | None:
        """Perform an order; the event that answers it, if any."""
        match order:
            case o.Scan(everything):
                return self._scan(everything=everything)
            case o.List(paths):
                return o.FilesListed(self._folder.files_of(paths))
            case o.Inspect():
                return answers.inspect(self._root, order, self._read_header)
            case o.Compare(path, file):  # it has changed, and lies still again
                for section in (unread := self._ledger.unread_end(path, file)):
                    self._report(f"{section} is tried again: its file has changed")
                self._retry(tuple(unread))
                known = self._ledger.fingerprints(path, file)
                return answers.compare(self._root, order, known)
            case o.ReadSidecar():
                return answers.read_sidecar(self._root, order)
            case o.Remember(path, file, sections):
                if sections:
                    failpoints.point("agent.found")
                self._ledger.found(path, file, sections)
                if sections:
                    failpoints.point("agent.remembered")
            case o.EndFirstScan(passed_over):
                self._ledger.end_first_scan(passed_over)
            case o.Release(section):
                self._released[section] = order
                self._decide(d.SectionFound(section))
            case o.ExpectFileEvent(path):
                self._file_events.found_by_scan(path)
            case o.Report(text):
                self._report(text)
        return None

    def _scan(self, *, everything: bool) -> o.Scanned:
        start_s, start_cpu_s = self._clock(), time.thread_time()
        if everything:
            self._note_away(self._is_away())
            self._file_events.check()
        listing = self._folder.files() if everything else self._folder.newest_files()
        wall_s, cpu_s = self._clock() - start_s, time.thread_time() - start_cpu_s
        unwatched = bool(self._folder.unwatched)
        return o.Scanned(listing, everything, wall_s, cpu_s, unwatched)

    def _is_away(self) -> bool:
        """Whether the folder is gone: a share that is not mounted is absent, or suddenly empty."""
        return not self._folder.is_there(expected=self._ledger.seen > 0)

    def _note_away(self, away: bool) -> None:
        if away == self._away:
            return
        self._away = away
        self._report(f"{self._root} {'cannot be reached; waiting for it' if away else 'is back'}")
        if not away:  # the system's events were of the folder that was there before
            self._file_events.listen()
        self._decide(d.FilesAway(away))

    # --- from sections to workers

    def _hear(self, worker: str, message: m.Message | MessageError) -> None:
        match message:
            case m.Beat() | m.Done() | m.Failed() | m.Goodbye():
                self._decide(d.FromWorker(worker, message))
                if isinstance(message, m.Beat):
                    self._server.send(worker, m.Pong(self._server.instance))
            case MessageError():
                self._report(f"refused from {worker}: {message}")
            case _:
                self._report(
                    f"refused from {worker}: {type(message).__name__} is not for the agent"
                )

    def _retry(self, sections: tuple[SectionId, ...]) -> None:
        """Take sections out of quarantine."""
        for section in sections:
            # First, so that the sink hears of it where the section is given up anew at once.
            self._sink.retried(section)
            if self._ledger.retry(section):
                if self._folder.file(section.path) is None:
                    self._report(f"{section} is tried again, but {self._intake.why_lost(section)}")
                self._decide(d.SectionFound(section))

    def _decide(self, event: d.Event) -> None:
        events = deque([event])
        while events:
            for action in self._dispatch.handle(events.popleft(), self._clock()):
                follow_up = self._act(action)
                if follow_up is not None:
                    events.append(follow_up)

    def _act(self, action: d.Action) -> d.Event | None:
        match action:
            case d.Send():
                return self._send(action)
            case d.Store(section):
                failpoints.point("agent.done")
                self._ledger.stored(section)
                self._released.pop(section, None)
                failpoints.point("agent.stored")
            case d.Quarantine(section, reason, attempts):
                self._ledger.quarantined(section, reason, attempts)
                self._released.pop(section, None)
                self._sink.quarantined(section, reason, attempts, self._tracker(section))
                self._report(f"{section} is quarantined: {reason}")
            case d.Note(text):
                self._report(text)
        return None

    def _send(self, order: d.Send) -> d.Event | None:
        section, start_s = order.section, time.perf_counter()
        release = self._released.get(section, o.Release(section))
        known = self._intake.known_file(section.path)
        try:
            frame = answers.read_frame(
                self._root, release, known, pixel_size_nm=self._config.watch.pixel_size_nm
            )
        except (MicrographError, OSError) as error:
            # Of a file that is being rewritten the metadata is read again.
            self._released[section] = o.Release(section, written_s=release.written_s)
            return self._not_read(order, error)
        frame = msgspec.structs.replace(
            frame,
            stream=self._tracker(section),
            timings_s={"wait_s": order.waited_s, "read_s": time.perf_counter() - start_s},
            number=order.number,
        )
        self._ledger.read(section, fingerprint(frame.pixels))
        failpoints.point("agent.read")
        try:
            if not self._server.send(order.worker, frame):
                return d.WorkerLost(order.worker)
        except MessageError as error:  # no worker would take it
            return d.SectionFailed(section, str(error), final=True)
        logger.debug("%s sent to %s", section, order.worker)
        failpoints.point("agent.sent")
        return None

    def _not_read(self, order: d.Send, error: Exception) -> d.Event:
        """Event of a section whose pixels cannot be read, by whose fault it is."""
        section = order.section
        if isinstance(error, OverwrittenError):
            return d.SectionFailed(section, str(error), final=True)
        if self._is_away():
            self._note_away(True)
            return d.FilesAway(True, section)
        if isinstance(error, NotReadyError) and order.waited_s < _NOT_READY_S:
            logger.debug("%s is not there yet: %s", section, error)
            return d.SectionNotReady(section)
        lost = isinstance(error, FileNotFoundError)
        reason = self._intake.why_lost(section) if lost else error
        return d.SectionFailed(section, f"cannot be read: {reason}")

    def _tracker(self, section: SectionId) -> TrackerSettings | None:
        # What was overwritten has no neighbours: the others have another generation.
        known = self._intake.known_file(section.path)
        overwritten = (section.z, section.generation) in known.overwritten
        return None if overwritten else tracker_of(section.path, self._config.streams)

    # --- to the operator

    def _report(self, text: str) -> None:
        logger.info("%s", text)
        self._sink.events.add(text)

    def _report_progress(self) -> None:
        now_s = self._clock()
        self._sink.report(
            m.Report(
                seen=self._ledger.seen,
                waiting=self._intake.waiting + self._dispatch.waiting,
                in_work=self._dispatch.in_work,
                longest_wait_s=self._dispatch.longest_wait_s(now_s),
                unsettled=self._intake.unsettled + self._away,
                trouble=self._trouble[: m.MAX_TEXT],
                away=self._away and not self._stuck,
                time_s=time.time(),
            ),
            now_s,
        )
