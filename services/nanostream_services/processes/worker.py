"""The GPU worker: frames in, segmentations out.

One thread computes, the loop talks. While one section is computed the next is already here and
the last is on its way to the sink, so the device does not wait. A result is kept until the sink
says that it is committed; only then does the agent hear "done".

That thread also imports and loads what it computes with, which takes most of a start: meanwhile the
loop has found agent and sink, and one section is already here.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanostream import failpoints
from nanostream.config import Config
from nanostream.errors import MessageError
from nanostream.records import Frame, Result, SectionId
from nanostream.segmentation.models import ModelCard, check_tensorflow, find_model
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Waker, wait
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop, importing

if TYPE_CHECKING:
    from nanostream.analysis import Analyzer

__all__ = ["run_worker"]

logger = logging.getLogger(__name__)

#: A frame, or a word from the sink.
_LARGEST_BYTES = m.MAX_SECTION_BYTES
#: A worker told to stop finishes what it has computed, if the sink answers within this time.
_LONGEST_GOODBYE_S = 15.0
#: Of the pauses between tries to send a result: so many times the first.
_LONGEST_PAUSE = 8
#: A section that takes so many times longer than the slowest of the last ones, and so long, hangs.
_LIMIT_FACTOR, _SHORTEST_LIMIT_S = 20.0, 30.0
#: The loop turns several times a second; after such a pause the whole process had been stopped.
_STOPPED_S = 5.0


def run_worker(config: Config, stop: Stop) -> None:
    """Segment what the agent sends until told to stop.

    Raises
    ------
    ModelError, ConfigError
        If the model or the device cannot be used.
    """
    check_tensorflow()
    card, _ = find_model(config.worker.model)

    def load() -> Analyzer:
        from nanostream.analysis import Analyzer

        return Analyzer(config.worker)

    worker = _Worker(config, load, card)
    try:
        while not stop.is_set():
            worker.step()
        worker.finish()
    finally:
        worker.close()


@dataclass
class _Unacked:
    result: Result
    first_s: float = 0.0
    sent_s: float = -math.inf
    times: int = 0
    refused: bool = False

    def due(self, now_s: float, resend_s: float, slowest_s: float) -> bool:
        """Whether to send it again.

        What the sink could not store is tried every ``resend_s``. What has no answer is still under
        way, unless something has gone wrong that nobody has seen: then the pauses grow with what
        the slowest answer took and with each try, so that a slow line is not filled.
        """
        if not self.refused:
            resend_s = max(resend_s, 4 * slowest_s) * min(1 << self.times >> 1, _LONGEST_PAUSE)
        return now_s - self.sent_s > resend_s

    def sent(self, now_s: float) -> None:
        """Take note that it was sent."""
        self.first_s = self.first_s if self.times else now_s
        self.sent_s, self.times = now_s, self.times + 1


class _Worker:
    def __init__(self, config: Config, load: Callable[[], Analyzer], card: ModelCard) -> None:
        self._config, self._card = config, card
        # In containers every worker may have the same process id.
        unique = f"{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._name = f"worker-{platform.node()[:32]}-{unique}".encode("ascii", "replace")
        network = config.network
        name = self._name.decode()
        self._agent = Client(network, "frames", name=name, largest_bytes=_LARGEST_BYTES)
        self._sink = Client(network, "results", name=name, largest_bytes=_LARGEST_BYTES)
        self._waker = Waker()
        self._holding: dict[SectionId, None] = {}
        self._unacked: dict[SectionId, _Unacked] = {}
        self._acked: deque[SectionId] = deque(maxlen=256)
        #: What the last answers took, where the sink could store at once.
        self._ack_s: deque[float] = deque(maxlen=20)
        self._link = 0
        self._received = 0
        self._instances: dict[str, str] = {}
        self._next_beat_s = 0.0
        self._told: tuple[SectionId | None, bool] = (None, False)
        self._leaving = False
        self._bench = _Bench(load, self._waker)

    def step(self) -> None:
        """One turn of the loop."""
        wait_s = min(self._next_beat_s - time.monotonic(), LONGEST_WAIT_S)
        wait([self._agent, self._sink, self._waker], wait_s)
        self._waker.clear()
        if self._bench.broken is not None:
            self._agent.send(m.Goodbye())  # what came already goes back at once
            raise self._bench.broken
        for message in self._agent.receive():
            self._hear_agent(message)
        for message in self._sink.receive():
            self._hear_sink(message)
        for section, outcome in self._bench.finished():
            self._take(section, outcome)
        self._send_again()
        self._beat()

    def finish(self) -> None:
        """Finish what is computed or being computed; the rest goes back to the agent."""
        self._leaving = True
        for section in self._bench.drop_waiting():
            self._holding.pop(section, None)
        self._agent.send(m.Goodbye(tuple(self._holding)))
        deadline_s = time.monotonic() + _LONGEST_GOODBYE_S
        while self._holding and time.monotonic() < deadline_s:
            self.step()
        self._agent.send(m.Goodbye())

    def close(self) -> None:
        """Let go of everything."""
        self._bench.close()
        self._waker.close()
        self._agent.close(linger_s=0.5)
        self._sink.close(linger_s=0.5)

    def _hear_agent(self, message: m.Message | MessageError) -> None:
        match message:
            case Frame(section=section, number=number):
                self._received = max(self._received, number)
                if section in self._acked:
                    self._agent.send(m.Done(section))  # the first one was lost
                elif section not in self._holding and not self._leaving:
                    self._holding[section] = None
                    failpoints.point("worker.received")
                    self._bench.add(message)
            case m.Pong():
                self._note_instance("agent", message.instance)
            case _:
                logger.warning("from the agent: %s", message)

    def _hear_sink(self, message: m.Message | MessageError) -> None:
        match message:
            case m.Ack(section):
                if (unacked := self._unacked.pop(section, None)) is not None:
                    if not unacked.refused:
                        self._ack_s.append(time.monotonic() - unacked.first_s)
                    self._acked.append(section)
                    failpoints.point("worker.acked")
                    self._end(section, m.Done(section))
                    failpoints.point("worker.done")
            case m.Later(section):
                if (unacked := self._unacked.get(section)) is not None:
                    unacked.refused, unacked.sent_s = True, time.monotonic()
            case m.Failed(section, reason):
                if self._unacked.pop(section, None) is not None:
                    self._end(section, m.Failed(section, reason))
            case m.Pong(instance=instance, normalization_maximum=maximum, ready=known):
                self._bench.raise_maximum(maximum)
                if self._bench.loaded and not known:
                    self._sink.send(m.Ready("worker", self._bench.loaded_s))
                if self._note_instance("sink", instance):
                    self._send_all_again()
            case _:
                logger.warning("from the sink: %s", message)

    def _note_instance(self, peer: str, instance: str) -> bool:
        """Whether the peer is another process than before; it then hears at once what we hold."""
        known = self._instances.get(peer)
        self._instances[peer] = instance
        if known == instance:
            return False
        self._next_beat_s = 0.0
        if known is None:
            return False
        logger.info("the %s was restarted", peer)
        return True

    def _take(self, section: SectionId, outcome: Result | str) -> None:
        if isinstance(outcome, str):
            self._end(section, m.Failed(section, outcome))
        else:
            failpoints.point("worker.computed")
            self._unacked[section] = _Unacked(outcome)

    def _end(self, section: SectionId, word: m.Done | m.Failed) -> None:
        self._holding.pop(section, None)
        self._agent.send(word)

    def _send_again(self) -> None:
        now_s = time.monotonic()
        if self._sink.link != self._link:  # what was under way is lost
            self._link = self._sink.link
            self._send_all_again()
        resend_s, slowest_s = self._config.delivery.resend_s, max(self._ack_s, default=0.0)
        for unacked in self._unacked.values():
            if unacked.due(now_s, resend_s, slowest_s) and self._sink.send(unacked.result):
                unacked.sent(now_s)
                failpoints.point("worker.sent")

    def _send_all_again(self) -> None:
        for section, unacked in self._unacked.items():
            self._unacked[section] = _Unacked(unacked.result)

    def _beat(self) -> None:
        computing = self._bench.computing
        if self._bench.hung(self._config.delivery.hung_s):
            # A thread cannot be stopped, a process can; the agent counts it as an attempt.
            what = f"{computing} has been computed" if computing else "the network has been loaded"
            logger.error("%s for too long; ending this worker", what)
            os._exit(3)
        loaded = self._bench.loaded
        if time.monotonic() < self._next_beat_s and self._told == (computing, loaded):
            return
        self._next_beat_s = time.monotonic() + self._config.delivery.heartbeat_s
        self._told = computing, loaded
        # No credit before the sink has answered: it knows the maximum that the session was scaled
        # by so far, and without it results have nowhere to go. While the network is loaded one
        # section may come.
        slots = self._config.delivery.slots if loaded else 1
        beat = m.Beat(
            slots=slots if "sink" in self._instances and not self._leaving else 0,
            holding=tuple(self._holding),
            computing=computing,
            detail=f"model {self._card.name}",
            received=self._received,
            link=self._agent.link,
            model=f"{self._card.name} {self._card.weights_sha256}",
            loading=not loaded,
            agent=self._instances.get("agent", ""),
        )
        self._agent.send(beat)
        self._sink.send(beat)


class _Bench:
    """The computing thread.

    Attributes
    ----------
    computing : SectionId or None
        What it is at.
    loaded : bool
        Whether it has what it computes with; ``loaded_s`` is the POSIX time since when.
    broken : Exception or None
        Why it never will.
    """

    def __init__(self, load: Callable[[], Analyzer], waker: Waker) -> None:
        self._load, self._waker = load, waker
        self._analyzer: Analyzer | None = None
        self._maximum: float | None = None
        self.loaded = False
        self.loaded_s = math.nan
        self.broken: Exception | None = None
        self._todo: queue.Queue[Frame | None] = queue.Queue()
        self._done: queue.Queue[tuple[SectionId, Result | str]] = queue.Queue()
        self.computing: SectionId | None = None
        self._since_s = time.monotonic()
        self._asked_s = math.inf
        self._pixels = 0
        self._s_per_px: deque[float] = deque(maxlen=100)
        self._thread = threading.Thread(target=self._work, name="analysis", daemon=True)
        self._thread.start()

    def raise_maximum(self, maximum: float | None) -> None:
        """Take over what the session has been scaled by, now or as soon as there is a network."""
        # The thread sets these two the other way round: one of both sees the other's.
        self._maximum = maximum if maximum is not None else self._maximum
        if self._analyzer is not None:
            self._analyzer.raise_maximum(maximum)

    def add(self, frame: Frame) -> None:
        """Put a frame in line."""
        self._todo.put(frame)

    def finished(self) -> list[tuple[SectionId, Result | str]]:
        """Results, or reasons why there is none, since the last call."""
        taken = []
        while not self._done.empty():
            taken.append(self._done.get())
        return taken

    def drop_waiting(self) -> list[SectionId]:
        """Take back what is still in line."""
        dropped = []
        with contextlib.suppress(queue.Empty):
            while (frame := self._todo.get_nowait()) is not None:
                dropped.append(frame.section)
        return dropped

    def hung(self, longest_s: float) -> bool:
        """Whether one section has been computed for far longer than those before it.

        Until some have been, and at the most, ``longest_s`` is the limit; also for the loading, if
        a section waits for it.
        """
        now_s = time.monotonic()
        if now_s - self._asked_s > _STOPPED_S:  # this process did not run
            self._since_s += now_s - self._asked_s
        self._asked_s = now_s
        if not self.loaded:
            return not self._todo.empty() and now_s - self._since_s > longest_s
        if self.computing is None:
            return False
        if measured := list(self._s_per_px):
            usual_s = max(measured) * self._pixels
            longest_s = min(longest_s, max(_SHORTEST_LIMIT_S, _LIMIT_FACTOR * usual_s))
        return now_s - self._since_s > longest_s

    def close(self) -> None:
        """End the thread after what it is computing."""
        self.drop_waiting()
        self._todo.put(None)
        self._thread.join()

    def _work(self) -> None:
        started_s = time.monotonic()
        with importing():
            try:
                analyzer = self._load()
            except Exception as error:  # noqa: BLE001 (the loop raises it)
                self.broken = error
                self._waker.wake()
                return
            try:
                analyzer.warm_up()  # compiled before the first section
            except Exception:  # every section will say why
                logger.exception("the network cannot be tried out")
        logger.info("ready: model loaded in %.1f s", time.monotonic() - started_s)
        self._analyzer = analyzer
        analyzer.raise_maximum(self._maximum)
        self.loaded_s = time.time()
        self.loaded = True
        self._waker.wake()
        while (frame := self._todo.get()) is not None:
            self._since_s, self._pixels = time.monotonic(), frame.pixels.size
            self.computing = frame.section
            self._waker.wake()
            failpoints.point("worker.computing")
            try:
                self._pixels = analyzer.work_px(frame)
                outcome: Result | str = _result(frame, analyzer)
                self._s_per_px.append((time.monotonic() - self._since_s) / self._pixels)
            except Exception as error:
                # One bad section must not end the worker; the agent decides what becomes of it.
                logger.exception("%s cannot be segmented", frame.section)
                outcome = f"cannot be segmented: {type(error).__name__}: {error}"
            self._done.put((frame.section, outcome))
            self.computing = None
            self._waker.wake()


def _result(frame: Frame, analyzer: Analyzer) -> Result:
    from nanostream.analysis import versions  # imported by now, if the analyzer is a real one

    return Result.of(frame, analyzer(frame), versions=versions())
