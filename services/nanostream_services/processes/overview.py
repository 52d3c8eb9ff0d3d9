"""Overview of a session for whoever watches it: counts, rates, sizes, processes.

Pure: the sink feeds it with results and messages, and asks it for a `Snapshot`. Clocks are passed
in, in POSIX time (``time_s``) where they are shown and monotonic (``now_s``) where they are
compared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.records import Health, Labels, Result, Role, Snapshot, State
from nanostream.transport.messages import Beat, Report

__all__ = ["Overview", "Peers", "Sizes", "Warnings", "small_mask"]

#: Longer than this is not a latency but two clocks that disagree.
_LONGEST_LATENCY_S = 86400.0
_RATE_WINDOW_S = 60.0
#: The picture of the last mask: enough for half blocks on a large terminal.
_MASK_SIDE = 128
_HISTOGRAM_BINS = 48
#: A warning that comes after so many sections without one is a new one.
_QUIET_SECTIONS = 10


class Overview:
    """All that a snapshot shows, except what happened.

    Parameters
    ----------
    session : str
        Folder of the session.
    counts : mapping
        Of what is stored already: ``sections``, ``particles``, ``quarantine``, ``tracks``.
    peers : Peers
        The processes.

    Attributes
    ----------
    failed, tracks : int
        Quarantined sections, and identities in movies, as the store counts them.
    sizes : Sizes
        Of the particles.
    """

    def __init__(self, session: str, counts: Mapping[str, int], peers: Peers) -> None:
        self._session, self._peers = session, peers
        self._stored, self._particles = counts["sections"], counts["particles"]
        self.failed, self.tracks = counts["quarantine"], counts["tracks"]
        self.sizes = Sizes()
        self._report = Report(0, 0, 0, unsettled=1)  # until the agent has told
        self._last: Result | None = None
        self._mask = (b"", (0, 0))
        self._latency_s = math.nan
        self._warnings = Warnings()
        self._recent_s: deque[float] = deque(maxlen=10_000)

    def report(self, report: Report) -> None:
        """Take over the agent's counts."""
        self._report = report

    def add(self, result: Result, time_s: float) -> str:
        """Count a result that has just been stored; what to report of its warning, or ""."""
        self._stored += 1
        self._particles += result.summary.count
        self._recent_s.append(time_s)
        self._last = result
        upside_down = result.metadata.first_row == "top"
        self._mask = small_mask(result.labels[::-1] if upside_down else result.labels)
        whole = result.particles[~result.particles["touches_edge"]]
        self.sizes.add(whole["diameter_px"], whole["diameter_nm"])
        waited_s = time_s - (result.written_s or math.nan)
        self._latency_s = waited_s if 0 <= waited_s < _LONGEST_LATENCY_S else math.nan
        return self._warnings.hear(str(result.section), result.warning)

    def snapshot(self, *, time_s: float, now_s: float) -> Snapshot:
        """Counts, rates, sizes and processes at one moment."""
        last = self._last
        edges, counts, unit = self.sizes.histogram()
        mask, shape = self._mask
        # The agent's counts are up to half a second old; a section stored since is not open.
        ended = self._stored + self.failed
        seen = max(self._report.seen, ended)
        waiting = min(self._report.waiting, seen - ended)
        return Snapshot(
            session=self._session,
            time_s=time_s,
            seen=seen,
            waiting=waiting,
            in_work=min(self._report.in_work, seen - ended - waiting),
            longest_wait_s=self._report.longest_wait_s if waiting else 0.0,
            unsettled=self._report.unsettled,
            stored=self._stored,
            failed=self.failed,
            sections_per_minute=self._rate(time_s),
            latency_s=self._latency_s,
            last_section=str(last.section) if last else "",
            last_summary=last.summary if last else None,
            last_timings_s=last.timings_s if last else {},
            last_warning=last.warning if last else "",
            warned=self._warnings.total,
            mask=mask,
            mask_shape=shape,
            diameter_edges=edges,
            diameter_counts=counts,
            diameter_unit=unit,
            particles_total=self._particles,
            tracks_total=self.tracks,
            health=self._peers.health(now_s),
        )

    def _rate(self, time_s: float) -> float:
        """Sections stored per minute, lately."""
        recent = [t for t in self._recent_s if time_s - t < _RATE_WINDOW_S]
        span_s = max(time_s - recent[0], 1.0) if len(recent) > 1 else _RATE_WINDOW_S
        return 60.0 * max(0, len(recent) - 1) / span_s


@dataclass
class _Peer:
    role: Role
    seen_s: float
    state: State
    detail: str = ""
    ready_s: float | None = None


class Peers:
    """Processes that the sink hears of, and itself.

    Parameters
    ----------
    silent_s : float
        A process that was not heard for so long is silent; a worker is forgotten after four times
        that.
    ready_s : float
        POSIX time since which the sink itself is ready.
    """

    def __init__(self, *, silent_s: float, ready_s: float) -> None:
        self._silent_s = silent_s
        self._sink = Health("sink", "sink", State.STORING, 0.0, ready_s=ready_s)
        self._peers: dict[str, _Peer] = {}

    def hear(self, name: str, sign: Beat | Report, now_s: float) -> None:
        """Note a sign of life: a worker's or the agent's."""
        if isinstance(sign, Beat):
            busy = State.COMPUTING if sign.computing else State.READY
            self._greet(name, "worker", State.LOADING if sign.loading else busy, now_s, sign.detail)
        else:
            self._greet(name, "agent", State.WATCHING, now_s)

    def set_ready(self, name: str, since_s: float) -> None:
        """Note that a process has reported itself ready; a stranger will report it again."""
        if name in self._peers:
            role = self._peers[name].role
            self._peers = {
                n: p
                for n, p in self._peers.items()
                if n == name or p.role != role or p.state != State.CRASHED
            }
            self._peers[name].ready_s = since_s

    def crashed(self, role: Role, process_id: int, reason: str, now_s: float) -> None:
        """Note that a process ended by itself, as the supervisor saw."""
        for name, peer in self._peers.items():
            # A worker has its process id in its name; there is one agent.
            if peer.role == role and (role == "agent" or f"-{process_id}-" in name):
                peer.state, peer.detail, peer.seen_s = State.CRASHED, reason, now_s

    def is_ready(self, name: str) -> bool:
        """Whether the process has reported itself ready."""
        peer = self._peers.get(name)
        return peer is not None and peer.ready_s is not None

    def health(self, now_s: float) -> tuple[Health, ...]:
        """State of each at monotonic time ``now_s``."""
        for name, peer in list(self._peers.items()):
            # A restarted worker has another name; of an agent that is gone nobody takes the place.
            if peer.role == "worker" and now_s - peer.seen_s > 4 * self._silent_s:
                del self._peers[name]
        others = (
            Health(
                name="agent" if peer.role == "agent" else name,
                role=peer.role,
                state=self._state(peer, now_s),
                age_s=now_s - peer.seen_s,
                detail=peer.detail,
                ready_s=peer.ready_s,
            )
            for name, peer in sorted(self._peers.items())
        )
        return (*others, self._sink)

    def _state(self, peer: _Peer, now_s: float) -> State:
        heard = now_s - peer.seen_s < self._silent_s or peer.state == State.CRASHED
        return peer.state if heard else State.SILENT

    def _greet(self, name: str, role: Role, state: State, now_s: float, detail: str = "") -> None:
        peer = self._peers.get(name)
        if peer is None:
            if role == "agent":  # there is one, the last
                self._peers = {n: p for n, p in self._peers.items() if p.role != "agent"}
            peer = self._peers[name] = _Peer(role, now_s, state)
        peer.seen_s, peer.state, peer.detail = now_s, state, detail


class Warnings:
    """Events of sections with a warning: one when they begin, then counts.

    A warning begins if the ten sections before it had none. While it lasts, the 10th, 100th, 1000th
    section is reported, so that neither a sample that the network does not know nor one at the
    limit fills the screen.
    """

    def __init__(self) -> None:
        self.total = 0
        self._run, self._quiet = 0, 0

    def hear(self, section: str, warning: str) -> str:
        """Text to report of the next section; "" if there is none."""
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


class Sizes:
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


def small_mask(labels: Labels) -> tuple[bytes, tuple[int, int]]:
    """The mask as a small picture, one byte (0 or 1) a point; a small particle still shows."""
    height, width = labels.shape
    scale = _MASK_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    covered = cv2.resize((labels > 0).astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    return (covered > 40).astype(np.uint8).tobytes(), (size[1], size[0])
