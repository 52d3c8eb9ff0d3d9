"""The results sink: commits masks and tables, then acknowledges, then tells the dashboard."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream import failpoints
from nanostream.config import Config
from nanostream.errors import ConfigError, MessageError, SessionError, printable
from nanostream.records import Alarm, Result, Snapshot, Statistics
from nanostream.results.store import Store, diameters
from nanostream.transport import messages as m
from nanostream.transport.sockets import Publisher, Server, refusals, wait
from nanostream_services.alarms import Alarms, conditions
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop
from nanostream_services.processes.notifier import Notifier
from nanostream_services.processes.observer import Observer
from nanostream_services.processes.overview import Overview, Peers
from nanostream_services.processes.serialem import SerialEM

if TYPE_CHECKING:
    from nanostream.results.census import Census

__all__ = ["Sink", "run_sink"]

logger = logging.getLogger(__name__)

_SNAPSHOT_S = 0.25
#: Time between two updates of the census.
_CENSUS_S = 1.0
#: Of an alarm that comes or goes: see `Alarms`.
_PATIENCE_S = 2.0
#: A database that could not be written blocks for a moment: not with every snapshot.
_KEEP_AGAIN_S = 10.0


def run_sink(config: Config, stop: Stop) -> None:
    """Keep results until told to stop.

    Raises
    ------
    ConfigError
        If no session folder is given or a port cannot be bound.
    SessionError
        If the session folder cannot be used.
    """
    if not config.sink.session:
        msg = "[sink] session: give the folder for the results"
        raise ConfigError(msg)
    with Store(Path(config.sink.session), config) as store:
        sink = Sink(config, store)
        logger.info("ready: %s sections in %s", store.counts()["sections"], store.folder)
        try:
            while not stop.is_set():
                sink.step(LONGEST_WAIT_S)
            sink.step(0.0)
        finally:
            sink.close()


class Sink:
    """Between workers, agent and the store.

    Parameters
    ----------
    config : Config
        Network, feedback, delivery and the session's folder.
    store : Store
        Open.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        network = config.network
        self._server = Server(network, "results", largest_bytes=m.MAX_SECTION_BYTES)
        self._publisher = Publisher(network)
        self._serialem = SerialEM(store.folder, config)
        self._maximum = store.normalization_maximum()
        self._models = store.models()
        self._peers = Peers(silent_s=config.delivery.silent_s, ready_s=time.time())
        self._overview = Overview(config.sink.session, store.counts(), self._peers)
        self._observer = Observer(store.folder, config)
        self._alarms = Alarms(patience_s=_PATIENCE_S)
        self._notifier = Notifier(config.notify, session=config.sink.session)
        self._unkept: deque[Alarm] = deque(maxlen=1000)
        self._next_keep_s = 0.0
        self._masks_fail = False
        self._rest = _Rest(store, tracks=bool(config.streams))
        self._events = 0
        self._messages: deque[str] = deque(maxlen=8)
        self._next_snapshot_s = 0.0

    def step(self, longest_s: float) -> None:
        """One turn of the loop."""
        wait(
            [self._server, self._serialem.desk],
            min(longest_s, self._next_snapshot_s - time.monotonic()),
        )
        for peer, message in self._server.receive():
            self._hear(peer, message)
            if time.monotonic() >= self._next_snapshot_s:
                break  # a database that is locked takes seconds for each: the alarm comes first
        for text in refusals():
            self._hear("outside", MessageError(text))
        self._tell_serialem()
        for px, nm in self._rest.ready():
            self._overview.sizes.add(px, nm)
        if time.monotonic() >= self._next_snapshot_s:
            self._next_snapshot_s = time.monotonic() + _SNAPSHOT_S
            now = self.snapshot()
            self._raise_alarms(now)
            self._publisher.send(replace(now, alarms=self._alarms.now))

    def snapshot(self) -> Snapshot:
        """The session now, with the alarms that were computed last."""
        now = self._overview.snapshot(time_s=time.time(), now_s=time.monotonic())
        return replace(
            now,
            population=self._rest.population,
            alarms=self._alarms.now,
            messages=tuple(self._messages),
        )

    def _raise_alarms(self, now: Snapshot) -> None:
        """Compute the alarms; show, keep and send out what has changed."""
        facts = self._observer.facts(now, time.monotonic())
        raised, cleared, replaced = self._alarms.update(conditions(facts), facts.time_s)
        for alarm in raised:
            logger.warning("%s: %s: %s; %s", alarm.severity, alarm.name, alarm.text, alarm.advice)
        for alarm in cleared:
            logger.warning("over: %s", alarm.name)
        self._unkept += raised
        self._unkept += (replace(one, cleared_s=facts.time_s) for one in (*cleared, *replaced))
        self._notifier.step(self._alarms.now, time.monotonic())
        self._keep_alarms(time.monotonic())
        if self._alarms.now:
            self._alarms.acknowledge(self._store.acknowledged())

    def _note_written(self) -> None:
        """Something could be written: a row is no proof that there is room for a mask."""
        if not self._masks_fail:
            self._observer.storing = ""

    def _keep_alarms(self, now_s: float) -> None:
        """Keep what has changed; a full disk or a locked database is tried again later."""
        if now_s < self._next_keep_s:
            return
        try:
            while self._unkept:
                self._store.alarm(self._unkept[0])
                self._unkept.popleft()
                self._note_written()
        except SessionError:
            self._next_keep_s = now_s + _KEEP_AGAIN_S

    def close(self) -> None:
        """Publish the last snapshot and let go."""
        self._publisher.send(self.snapshot())
        self._unkept += (replace(alarm, cleared_s=time.time()) for alarm in self._alarms.now)
        self._keep_alarms(math.inf)
        self._publisher.close()
        self._serialem.close()
        self._server.close()
        self._rest.close()

    def _hear(self, peer: str, message: m.Message | MessageError) -> None:
        try:
            self._handle(peer, message)
        except SessionError as error:
            # Disk full, folder read-only, database locked: no acknowledgement, so whoever sent
            # the message keeps it and sends it again.
            if isinstance(message, Result):
                self._server.send(peer, m.Later(message.section))
            self._observer.storing = str(error)
            self._masks_fail |= isinstance(message, Result)
        else:
            if isinstance(message, m.Quarantine | m.Events):
                self._note_written()

    def _handle(self, peer: str, message: m.Message | MessageError) -> None:
        match message:
            case Result():
                self._commit(peer, message)
            case m.Quarantine():
                self._quarantine(peer, message)
            case m.Retried(section):
                if section in self._store.retries():
                    self._store.retried(section)
                    self._report(f"{section} is tried again")
                self._overview.failed = self._store.counts()["quarantine"]
            case m.Beat() | m.Report():
                self._peers.hear(peer, message, time.monotonic())
                self._observer.hear(peer, message, time.time())
                if isinstance(message, m.Report):
                    self._overview.report(message)
                self._pong(peer)
            case m.Crashed(role, process_id, reason):
                self._peers.crashed(role, process_id, reason, time.monotonic())
            case m.Ready(role, since_s):
                logger.info("the %s %s is ready", role, peer)
                self._peers.set_ready(peer, since_s)
            case m.Events(events):
                self._keep_events(peer, events)
            case MessageError():
                self._report(f"refused from {peer}: {message}")
            case _:
                self._report(f"refused from {peer}: {type(message).__name__} is not for the sink")

    def _commit(self, peer: str, result: Result) -> None:
        start_s = time.perf_counter()
        failpoints.point("sink.received")
        try:
            new = self._store.commit(result)
        except MessageError as error:
            self._server.send(peer, m.Failed(result.section, str(error)))
            return
        failpoints.point("sink.committed")
        if new:
            self._masks_fail = False
            self._note_written()
        self._server.send(peer, m.Ack(result.section))
        failpoints.point("sink.acked")
        if new:
            logger.info("%s stored in %.3f s", result.section, time.perf_counter() - start_s)
            self._count(result)
            self._serialem.ended(result.section)
            self._tell_serialem()

    def _count(self, result: Result) -> None:
        if self._overview.failed:  # it may have been in quarantine
            self._overview.failed = self._store.counts()["quarantine"]
        if result.stream:
            self._overview.tracks = self._store.counts()["tracks"]
        if result.normalization_maximum is not None:
            self._maximum = max(result.normalization_maximum, self._maximum or 0.0)
        self._observer.add(result)
        self._rest.news.set()
        self._compare_models(result)
        self._try_to_report(self._overview.add(result, time.time()))

    def _compare_models(self, result: Result) -> None:
        """Report the first section by another model: whoever compares sections must know."""
        if result.model_sha256 not in self._models:
            if self._models:
                self._try_to_report(
                    f"{result.section} is the first section of this session by the model "
                    f"{result.model} {result.model_sha256[:8]}; those before are by another"
                )
            self._models.add(result.model_sha256)

    def _quarantine(self, peer: str, message: m.Quarantine) -> None:
        self._store.quarantine(
            message.section, message.reason, attempts=message.attempts, stream=message.stream
        )
        self._overview.failed = self._store.counts()["quarantine"]
        self._rest.news.set()  # sections after it may have been linked
        self._server.send(peer, m.Ack(message.section))
        self._serialem.ended(message.section)

    def _tell_serialem(self) -> None:
        for text in self._serialem.step():
            self._try_to_report(text)

    def _keep_events(self, peer: str, events: tuple[tuple[int, str], ...]) -> None:
        for number, sent in events:
            text = printable(sent)
            self._store.event(peer, number, text)
            if text not in self._messages:
                self._messages.append(text)
        self._pong(peer, kept=max((number for number, _ in events), default=0))

    def _pong(self, peer: str, *, kept: int = 0) -> None:
        ready = self._peers.is_ready(peer)
        retry = self._store.retries()
        pong = m.Pong(self._server.instance, self._maximum, kept, retry, ready=ready)
        self._server.send(peer, pong)

    def _try_to_report(self, text: str) -> None:
        """Report to the operator; if it cannot be kept, it has been shown all the same."""
        if text:
            with contextlib.suppress(SessionError):
                self._report(text)

    def _report(self, text: str) -> None:
        """Show the operator an event and keep it."""
        self._show(text)
        self._events += 1
        self._store.event(f"sink-{self._server.instance[:8]}", self._events, self._messages[-1])

    def _show(self, text: str) -> None:
        logger.warning("%s", text)
        self._messages.append(f"{time.strftime('%H:%M:%S')} {printable(text)}")


class _Rest:
    """Work that neither a start nor a commit waits for, done beside the loop.

    The histogram of a million particles that were stored before takes a second, the libraries that
    link tracks half of one. Then the census is kept up to date.

    Attributes
    ----------
    population : Statistics or None
        Of the census; None until there was one.
    news : Event
        Set when something was stored: an idle session is not read again.
    """

    population: Statistics | None = None

    def __init__(self, store: Store, *, tracks: bool) -> None:
        self._folder, self._last, self._tracks = store.folder, store.last_particle(), tracks
        self._ready: queue.SimpleQueue[tuple[NDArray[np.float64], NDArray[np.float64]]]
        self._ready = queue.SimpleQueue()
        self._over, self.news = threading.Event(), threading.Event()
        if self._last:
            self.news.set()
        self._thread = threading.Thread(target=self._read, name="rest", daemon=True)
        self._thread.start()

    def ready(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Diameters in px and nm that have been read since the last call."""
        while not self._ready.empty():
            yield self._ready.get()

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        if self._tracks:
            import nanostream.particles.tracks  # noqa: F401
        try:
            for some in diameters(self._folder, self._last):
                self._ready.put(some)
                if self._over.is_set():
                    return
        except sqlite3.Error as error:
            logger.warning("sizes of earlier sections are not in the histogram: %s", error)
        self._take_census()

    def _take_census(self) -> None:
        census: Census | None = None
        failing = False
        while not self._over.wait(_CENSUS_S):
            if not self.news.is_set():
                continue
            self.news.clear()
            # SciPy takes half a second, which a start does not have.
            from nanostream.results.census import Census

            census = census or Census(self._folder)
            try:
                for _ in census.update():
                    if self._over.is_set():
                        return
            except sqlite3.Error as error:
                if not failing:
                    logger.warning("the population is not up to date: %s; tried again", error)
                failing = True
                self.news.set()
            else:
                failing = False
                self.population = census.statistics
