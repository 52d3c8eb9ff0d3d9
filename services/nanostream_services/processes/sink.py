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
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream import failpoints
from nanostream.config import Config
from nanostream.errors import ConfigError, MessageError, SessionError
from nanostream.records import Health, Labels, Result, Role, Snapshot, State
from nanostream.results.store import Store, diameters
from nanostream.transport import messages as m
from nanostream.transport.sockets import Publisher, Server, refusals, wait
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop, printable
from nanostream_services.processes.serialem import SerialEM

__all__ = ["run_sink"]

logger = logging.getLogger(__name__)

_SNAPSHOT_S = 0.25
#: Longer than this is not a latency but two clocks that disagree.
_LONGEST_LATENCY_S = 86400.0
_RATE_WINDOW_S = 60.0
#: The picture of the last mask: enough for half blocks on a large terminal.
_MASK_SIDE = 128
_HISTOGRAM_BINS = 48
#: A warning that comes after so many sections without one is a new one.
_QUIET_SECTIONS = 10


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
        sink = _Sink(config, store)
        logger.info("ready: %s sections in %s", store.counts()["sections"], store.folder)
        try:
            while not stop.is_set():
                sink.step(LONGEST_WAIT_S)
            sink.step(0.0)
        finally:
            sink.close()


@dataclass
class _Peer:
    role: Role
    seen_s: float = -math.inf
    state: State = State.READY
    detail: str = ""
    ready_s: float | None = None


class _Sink:
    def __init__(self, config: Config, store: Store) -> None:
        self._config, self._store = config, store
        network = config.network
        self._server = Server(network, "results", largest_bytes=m.MAX_SECTION_BYTES)
        self._publisher = Publisher(network)
        self._serialem = SerialEM(store.folder, config)
        counts = store.counts()
        self._stored, self._particles = counts["sections"], counts["particles"]
        self._failed, self._tracks = counts["quarantine"], counts["tracks"]
        self._maximum = store.normalization_maximum()
        self._models = store.models()
        self._sizes = _Sizes()
        self._rest = _Rest(store, tracks=bool(config.streams))
        self._report = m.Report(0, 0, 0)
        self._events = 0
        self._peers: dict[str, _Peer] = {}
        self._ready_s = time.time()
        self._last: Result | None = None
        self._mask = (b"", (0, 0))
        self._latency_s = math.nan
        self._warned = _Warned()
        self._recent_s: deque[float] = deque(maxlen=10_000)
        self._messages: deque[str] = deque(maxlen=8)
        self._next_snapshot_s = 0.0
        self._trouble = ""

    def step(self, longest_s: float) -> None:
        """One turn of the loop."""
        wait(
            [self._server, self._serialem.desk],
            min(longest_s, self._next_snapshot_s - time.monotonic()),
        )
        for peer, message in self._server.receive():
            self._hear(peer, message)
        for text in refusals():
            self._hear("outside", MessageError(text))
        self._tell_serialem()
        for px, nm in self._rest.ready():
            self._sizes.add(px, nm)
        if time.monotonic() >= self._next_snapshot_s:
            self._next_snapshot_s = time.monotonic() + _SNAPSHOT_S
            self._publisher.send(self._snapshot())

    def close(self) -> None:
        """Say the last word to the dashboard and let go."""
        self._publisher.send(self._snapshot())
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
            if str(error) != self._trouble:
                self._say(str(error))
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _handle(self, peer: str, message: m.Message | MessageError) -> None:
        match message:
            case Result():
                self._commit(peer, message)
            case m.Quarantine():
                self._quarantine(peer, message)
            case m.Retried(section):
                if section in self._store.retries():
                    self._store.retried(section)
                    self._note(f"{section} is tried again")
                self._failed = self._store.counts()["quarantine"]
            case m.Beat():
                busy = State.COMPUTING if message.computing else State.READY
                state = State.LOADING if message.loading else busy
                self._greet(peer, "worker", state, message.detail)
                self._pong(peer)
            case m.Report():
                self._report = message
                self._greet(peer, "agent", State.WATCHING)
                self._pong(peer)
            case m.Ready(role, since_s):
                logger.info("the %s %s is ready", role, peer)
                if peer in self._peers:
                    self._peers[peer].ready_s = since_s
            case m.Events(events):
                for number, text in events:
                    text = printable(text)
                    self._store.event(peer, number, text)
                    if text not in self._messages:
                        self._messages.append(text)
                self._pong(peer, heard=max(number for number, _ in events) if events else 0)
            case MessageError():
                self._note(f"refused from {peer}: {message}")
            case _:
                self._note(f"refused from {peer}: {type(message).__name__} is not for the sink")

    def _commit(self, peer: str, result: Result) -> None:
        start = time.perf_counter()
        failpoints.point("sink.received")
        try:
            new = self._store.commit(result)
        except MessageError as error:
            self._server.send(peer, m.Failed(result.section, str(error)))
            return
        failpoints.point("sink.committed")
        self._server.send(peer, m.Ack(result.section))
        failpoints.point("sink.acked")
        if new:
            logger.info("%s stored in %.3f s", result.section, time.perf_counter() - start)
            self._count(result)
            self._serialem.ended(result.section)
            self._tell_serialem()

    def _tell_serialem(self) -> None:
        for text in self._serialem.step():
            with contextlib.suppress(SessionError):  # it has been said, if not kept
                self._note(text)

    def _quarantine(self, peer: str, notice: m.Quarantine) -> None:
        self._store.quarantine(
            notice.section, notice.reason, attempts=notice.attempts, stream=notice.stream
        )
        self._failed = self._store.counts()["quarantine"]
        self._server.send(peer, m.Ack(notice.section))
        self._serialem.ended(notice.section)

    def _count(self, result: Result) -> None:
        now_s = time.time()
        self._stored += 1
        if self._failed:  # it may have been in quarantine
            self._failed = self._store.counts()["quarantine"]
        self._particles += result.summary.count
        if result.stream:
            self._tracks = self._store.counts()["tracks"]
        if result.model_sha256 not in self._models:
            if self._models:  # whoever compares sections must know
                said = (
                    f"{result.section} is the first section of this session by the model "
                    f"{result.model} {result.model_sha256[:8]}; those before are by another"
                )
                with contextlib.suppress(SessionError):  # its rows say so, too
                    self._note(said)
            self._models.add(result.model_sha256)
        if result.normalization_maximum is not None:
            self._maximum = max(result.normalization_maximum, self._maximum or 0.0)
        self._recent_s.append(now_s)
        self._last = result
        upside_down = result.metadata.first_row == "top"
        self._mask = _small_mask(result.labels[::-1] if upside_down else result.labels)
        whole = result.particles[~result.particles["touches_edge"]]
        self._sizes.add(whole["diameter_px"], whole["diameter_nm"])
        if text := self._warned.hear(str(result.section), result.warning):
            with contextlib.suppress(SessionError):  # it has been said, if not kept
                self._note(text)
        waited_s = now_s - (result.written_s or math.nan)
        self._latency_s = waited_s if 0 <= waited_s < _LONGEST_LATENCY_S else math.nan

    def _snapshot(self) -> Snapshot:
        now_s, last = time.time(), self._last
        recent = [t for t in self._recent_s if now_s - t < _RATE_WINDOW_S]
        span_s = max(now_s - recent[0], 1.0) if len(recent) > 1 else _RATE_WINDOW_S
        edges, counts, unit = self._sizes.histogram()
        mask, shape = self._mask
        # The agent's counts are up to half a second old; a section stored since is not open.
        seen = max(self._report.seen, self._stored + self._failed)
        waiting = min(self._report.waiting, seen - self._stored - self._failed)
        return Snapshot(
            session=self._config.sink.session,
            time_s=now_s,
            seen=seen,
            waiting=waiting,
            in_work=min(self._report.in_work, seen - self._stored - self._failed - waiting),
            longest_wait_s=self._report.longest_wait_s if waiting else 0.0,
            stored=self._stored,
            failed=self._failed,
            sections_per_minute=60.0 * max(0, len(recent) - 1) / span_s,
            latency_s=self._latency_s,
            last_section=str(last.section) if last else "",
            last_summary=last.summary if last else None,
            last_timings_s=last.timings_s if last else {},
            last_warning=last.warning if last else "",
            warned=self._warned.total,
            mask=mask,
            mask_shape=shape,
            diameter_edges=edges,
            diameter_counts=counts,
            diameter_unit=unit,
            particles_total=self._particles,
            tracks_total=self._tracks,
            health=self._health(),
            messages=tuple(self._messages),
        )

    def _health(self) -> tuple[Health, ...]:
        now_s = time.monotonic()
        silent_s = self._config.delivery.silent_s
        for name, peer in list(self._peers.items()):
            if now_s - peer.seen_s > 4 * silent_s:  # a restarted worker has another name
                del self._peers[name]
        others = tuple(
            Health(
                name="agent" if peer.role == "agent" else name,
                role=peer.role,
                state=peer.state if now_s - peer.seen_s < silent_s else State.SILENT,
                age_s=now_s - peer.seen_s,
                detail=peer.detail,
                ready_s=peer.ready_s,
            )
            for name, peer in sorted(self._peers.items())
        )
        return (*others, Health("sink", "sink", State.STORING, 0.0, ready_s=self._ready_s))

    def _greet(self, name: str, role: Role, state: State, detail: str = "") -> None:
        """Note a sign of life; of agents there is one, the last."""
        peer = self._peers.get(name)
        if peer is None:
            if role == "agent":
                self._peers = {n: p for n, p in self._peers.items() if p.role != "agent"}
            peer = self._peers[name] = _Peer(role)
        peer.seen_s, peer.state, peer.detail = time.monotonic(), state, detail

    def _pong(self, name: str, *, heard: int = 0) -> None:
        peer = self._peers.get(name)
        self._server.send(
            name,
            m.Pong(
                self._server.instance,
                self._maximum,
                heard,
                self._store.retries(),
                ready=peer is not None and peer.ready_s is not None,
            ),
        )

    def _note(self, text: str) -> None:
        """Say something to the operator and keep it."""
        self._say(text)
        self._events += 1
        self._store.event(f"sink-{self._server.instance[:8]}", self._events, self._messages[-1])

    def _say(self, text: str) -> None:
        logger.warning("%s", text)
        self._messages.append(f"{time.strftime('%H:%M:%S')} {printable(text)}")


class _Rest:
    """What a start does not wait for, done beside the work.

    The histogram of a million particles that were stored before takes a second, the libraries that
    link tracks half of one.
    """

    def __init__(self, store: Store, *, tracks: bool) -> None:
        self._folder, self._last, self._tracks = store.folder, store.last_particle(), tracks
        self._ready: queue.SimpleQueue[tuple[NDArray[np.float64], NDArray[np.float64]]]
        self._ready = queue.SimpleQueue()
        self._over = threading.Event()
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


class _Warned:
    """Which words the operator gets of sections with a warning: one when they begin, then counts.

    A warning begins if the ten sections before it had none. While it lasts, the 10th, 100th, 1000th
    section is said, so that neither a sample that the network does not know nor one at the limit
    fills the screen.
    """

    def __init__(self) -> None:
        self.total = 0
        self._run, self._quiet = 0, 0

    def hear(self, section: str, warning: str) -> str:
        """What to say of the next section; "" if nothing."""
        if not warning:
            self._quiet += 1
            return ""
        if self._quiet >= _QUIET_SECTIONS:
            self._run = 0
        self.total, self._run, self._quiet = self.total + 1, self._run + 1, 0
        if self._run == 1:
            return f"{section}: {warning}"
        if str(self._run).rstrip("0") == "1":
            return f"{self._run} sections with a warning, the last {section}: {warning}"
        return ""


class _Sizes:
    """Running histogram of diameters, fine enough to be shown with any width of bars."""

    def __init__(self) -> None:
        self._step = {"px": 0.5, "nm": 0.05}
        self._fine = {unit: np.zeros(4096, np.int64) for unit in self._step}

    def add(self, px: NDArray[np.float64], nm: NDArray[np.float64]) -> None:
        """Count some whole particles."""
        for unit, values in (("px", px), ("nm", nm)):
            bins = values[np.isfinite(values)] / self._step[unit]
            fine = self._fine[unit]
            fine += np.bincount(np.clip(bins, 0, 4095).astype(np.int64), minlength=4096)

    def histogram(self) -> tuple[tuple[float, ...], tuple[int, ...], str]:
        """Edges, counts and unit; nm as soon as any particle has a size in nm."""
        unit = "nm" if self._fine["nm"].any() else "px"
        fine = self._fine[unit]
        filled = np.flatnonzero(fine)
        if filled.size == 0:
            return (), (), unit
        last = int(filled[-1]) + 1
        width = -(-last // _HISTOGRAM_BINS)
        starts = np.arange(0, last, width)
        counts = np.add.reduceat(fine, starts)
        edges = np.append(starts, starts[-1] + width) * self._step[unit]
        return tuple(edges.tolist()), tuple(counts.tolist()), unit


def _small_mask(labels: Labels) -> tuple[bytes, tuple[int, int]]:
    """The mask as a small picture, one byte (0 or 1) a point; a small particle still shows."""
    height, width = labels.shape
    scale = _MASK_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    covered = cv2.resize((labels > 0).astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    return (covered > 40).astype(np.uint8).tobytes(), (size[1], size[0])
