"""The watch agent: notices complete sections and hands them to workers. Never writes there.

Notices of the operating system are hints to look at a file at once; a full look at the folder
every ``poll_s`` is the truth, since notices get lost and network shares send none.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from pathlib import Path

from msgspec.structs import replace
from watchdog.observers import Observer

from nanostream import faults
from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.mdoc import read_metadata
from nanostream.acquisition.mrc import read_header, read_section
from nanostream.acquisition.readiness import FileStat, Readiness
from nanostream.config import Config
from nanostream.errors import ConfigError, MessageError, MicrographError, NotReadyError
from nanostream.records import Frame, Metadata, SectionId
from nanostream.results.store import is_stream
from nanostream.transport import dispatch as d
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Server, Waker, refusals, wait
from nanostream_services.loop import LONGEST_WAIT_S, Stop, Words
from nanostream_services.watching import Hints, WatchedFolder

__all__ = ["run_agent"]

logger = logging.getLogger(__name__)

#: While a section waits for its metadata, look for it this often.
_METADATA_LOOK_S = 0.02
#: A worker sends words only.
_LARGEST_FROM_WORKER_BYTES = 2**20
#: With more folders than this the system's notices cost more than looking, and overflow.
_MOST_FOLDERS = 2000


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
        try:
            while not stop.is_set():
                agent.step()
        finally:
            agent.close()


class _Agent:
    def __init__(self, config: Config, root: Path, ledger: Ledger) -> None:
        self._config, self._root, self._ledger = config, root.resolve(), ledger
        self._folder = WatchedFolder(self._root, config.watch)
        self._away = False
        self._mdocs_are_written = True
        self._readiness = Readiness(ledger.known_files())
        self._dispatch = d.Dispatch(config.delivery)
        self._held: dict[SectionId, float] = {}
        self._written_s: dict[SectionId, float] = {}
        self._metadata: dict[SectionId, tuple[float | None, Metadata] | None] = {}
        self._to_report: dict[SectionId, m.Quarantine] = {}
        self._words = Words()
        self._first_look = True
        self._next_scan_s = self._next_report_s = 0.0
        network = config.network
        self._server = Server(network, "frames", largest_bytes=_LARGEST_FROM_WORKER_BYTES)
        self._sink = Client(
            network,
            "results",
            name=f"agent-{self._server.instance[:8]}",
            largest_bytes=_LARGEST_FROM_WORKER_BYTES,
        )
        self._waker = Waker()
        self._hints = Hints(self._root, self._waker)
        self._observer = self._observe()
        again = ledger.unfinished()
        if again:
            self._note(f"{len(again)} sections of an earlier run go on")
        for section in again:
            self._decide(d.SectionFound(section))
        for section, reason, attempts in ledger.given_up():
            self._to_report[section] = m.Quarantine(section, reason, attempts, self._movie(section))

    def step(self) -> None:
        """One turn of the loop: wait for something, then handle all of it."""
        now_s = time.monotonic()
        until_s = min(self._next_scan_s, self._next_report_s) - now_s
        longest_s = _METADATA_LOOK_S if self._held else LONGEST_WAIT_S
        wait([self._server, self._sink, self._waker], min(until_s, longest_s))
        self._waker.clear()
        for worker, message in self._server.receive():
            self._hear(worker, message)
        for answer in self._sink.receive():
            match answer:
                case m.Ack(section):
                    self._to_report.pop(section, None)
                case m.Pong():
                    self._retry(answer.retry)
                    self._words.heard(answer.heard)
        for text in refusals():
            self._note(f"refused {text}")
        # Only now, when every sign of life has been read: a look at a slow share may have taken
        # long, and that is not the workers' silence.
        self._decide(d.Tick())
        self._look()
        self._release()
        self._report()

    def close(self) -> None:
        """Tell the sink the last counts and let go of everything."""
        self._next_report_s = 0.0
        self._report()
        self._stop_observing()
        self._waker.close()
        self._sink.close(linger_s=1.0)
        self._server.close()

    def _observe(self) -> Observer | None:  # type: ignore[valid-type]
        observer = Observer()
        folders = self._folder.count_folders(_MOST_FOLDERS)
        if folders > _MOST_FOLDERS:
            self._note(
                f"{self._root} has more than {_MOST_FOLDERS} folders: looking every "
                f"{self._config.watch.poll_s} s instead of listening; give a smaller folder"
            )
            return None
        try:
            observer.schedule(self._hints, str(self._root), recursive=True)
            observer.start()
        except OSError as error:
            self._note(
                f"no notices for {self._root} ({error}); "
                f"looking every {self._config.watch.poll_s} s instead"
            )
            return None
        return observer

    def _stop_observing(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def _hear(self, worker: str, message: m.Message | MessageError) -> None:
        match message:
            case m.Beat(slots, holding, computing, detail):
                self._decide(d.WorkerBeat(worker, slots, holding, computing, detail))
                self._server.send(worker, m.Pong(self._server.instance))
            case m.Done(section):
                self._decide(d.SectionDone(section))
            case m.Failed(section, reason):
                self._decide(d.SectionFailed(section, reason, worker=worker))
            case m.Goodbye(finishing):
                self._decide(d.WorkerGone(worker, finishing))
            case MessageError():
                self._note(f"refused from {worker}: {message}")
            case _:
                self._note(f"refused from {worker}: {type(message).__name__} is not for the agent")

    def _retry(self, sections: tuple[SectionId, ...]) -> None:
        for section in sections:
            self._to_report.pop(section, None)
            if self._ledger.retry(section):
                self._decide(d.SectionFound(section))
            self._sink.send(m.Retried(section))

    def _is_away(self) -> bool:
        """Whether the folder is gone: a share that is not mounted is absent, or suddenly empty."""
        return not self._root.is_dir() or (self._ledger.seen > 0 and self._folder.is_empty())

    def _note_away(self, away: bool) -> None:
        if away == self._away:
            return
        self._away = away
        self._note(f"{self._root} {'cannot be reached; waiting for it' if away else 'is back'}")
        if not away:  # the system's notices were for the folder that was there before
            self._stop_observing()
            self._observer = self._observe()
        self._decide(d.FilesAway(away))

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_scan_s:
            self._hints.take()
            self._note_away(self._is_away())
            listing = self._folder.files()
            self._next_scan_s = time.monotonic() + self._config.watch.poll_s
        else:
            listing = {}
            for path in self._hints.take():
                if self._folder.wants(path):
                    try:
                        listing[path] = FileStat.of((self._root / path).stat())
                    except OSError:
                        continue
        for path in self._readiness.to_inspect(listing, now_s):
            self._inspect(path, listing[path])
        self._first_look = False

    def _inspect(self, path: str, listed: FileStat) -> None:
        try:
            header, status = read_header(self._root / path)
        except NotReadyError:
            self._readiness.not_ready(path, listed)
            return
        except MicrographError as error:
            self._readiness.refused(path, listed)
            self._note(f"not a micrograph: {error}")
            return
        except OSError as error:
            logger.debug("%s cannot be read now: %s", path, error)
            return
        sections = self._readiness.inspected(path, FileStat.of(status), header)
        known = self._readiness.known_file(path)
        if sections:
            faults.point("agent.found")
        if sections or known.stat is not None:  # settled: not to be inspected after a restart
            self._ledger.found(path, known, sections)
        if sections:
            faults.point("agent.remembered")
        wait_s = self._config.watch.mdoc_wait_s
        for section in sections:
            # What was there before says nothing of how quick we are.
            if not self._first_look:
                self._written_s[section] = status.st_mtime
            # No mdoc beside the first section of the last file: SerialEM was not told to write any.
            first = section.z == 0 and self._mdocs_are_written
            expected = first or (self._root / f"{path}.mdoc").exists()
            self._held[section] = time.monotonic() + (wait_s if expected else 0.0)

    def _release(self) -> None:
        """Let sections go whose metadata is there, or has been waited for long enough."""
        for section, deadline_s in list(self._held.items()):
            metadata = read_metadata(self._root / section.path, section.z)
            if metadata is not None or time.monotonic() >= deadline_s:
                if section.z == 0:
                    self._mdocs_are_written = metadata is not None
                del self._held[section]
                self._metadata[section] = metadata
                self._decide(d.SectionFound(section))

    def _decide(self, event: d.Event) -> None:
        events = deque([event])
        while events:
            for action in self._dispatch.handle(events.popleft(), time.monotonic()):
                follow_up = self._perform(action)
                if follow_up is not None:
                    events.append(follow_up)

    def _perform(self, action: d.Action) -> d.Event | None:
        match action:
            case d.Send(worker, section):
                return self._send(worker, section)
            case d.Store(section):
                faults.point("agent.done")
                self._ledger.stored(section)
                self._forget(section)
                faults.point("agent.stored")
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

    def _send(self, worker: str, section: SectionId) -> d.Event | None:
        path = self._root / section.path
        start_s = time.perf_counter()
        try:
            header, pixels = read_section(path, section.z)
        except (MicrographError, OSError) as error:
            if self._is_away():
                self._note_away(True)
                return d.FilesAway(True, section)
            return d.SectionFailed(section, f"cannot be read: {error}")
        known = self._readiness.known_file(section.path)
        # The title has SerialEM's time of "Open New": pixels of a newer file of the same name must
        # not pass for this section's.
        if known.generation != section.generation or known.title != header.title:
            reason = "the file was written anew before this section was read"
            return d.SectionFailed(section, reason, final=True)
        if section not in self._metadata:
            self._metadata[section] = read_metadata(path, section.z)
        pixel_size_nm, metadata = self._metadata[section] or (None, Metadata())
        if pixel_size_nm is None:
            pixel_size_nm = header.pixel_size_nm
            metadata = replace(metadata, pixel_size_source="header" if pixel_size_nm else None)
        metadata = replace(metadata, file_title=header.title or None)
        frame = Frame(
            section=section,
            pixels=pixels,
            pixel_size_nm=pixel_size_nm,
            metadata=metadata,
            stream=self._movie(section),
            written_s=self._written_s.get(section),
            timings_s={"read_s": time.perf_counter() - start_s},
        )
        faults.point("agent.read")
        if not self._server.send(worker, frame):
            return d.WorkerGone(worker, reason="cannot be reached")
        faults.point("agent.sent")
        logger.debug("%s sent to %s", section, worker)
        return None

    def _movie(self, section: SectionId) -> bool:
        return is_stream(section.path, self._config.streams)

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
                waiting=self._dispatch.waiting + len(self._held),
                in_work=self._dispatch.in_work,
            )
        )
        if words := self._words.message():
            self._sink.send(words)

    def _note(self, text: str) -> None:
        logger.info("%s", text)
        self._words.add(text)
