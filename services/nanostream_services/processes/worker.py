"""The GPU worker: frames in, segmentations out.

One thread computes, the loop talks. While one section is computed the next is already here and
the last is on its way to the sink, so the device does not wait. A result is kept until the sink
reports that it is committed; only then is the agent sent ``done``.

That thread also imports and loads what it computes with, which takes most of a start: meanwhile the
loop has found agent and sink, and one section is already here.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nanostream import failpoints
from nanostream.config import Config
from nanostream.errors import MessageError
from nanostream.records import Frame, Result, SectionId
from nanostream.segmentation.engines import choose_engine
from nanostream.segmentation.models import ModelCard, find_model
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, Waker, wait
from nanostream_services.processes.bench import Bench
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop
from nanostream_services.processes.unacknowledged import Unacknowledged

if TYPE_CHECKING:
    from nanostream.analysis import Analyzer

__all__ = ["Worker", "run_worker"]

logger = logging.getLogger(__name__)

#: A frame, or a short message from the sink.
_LARGEST_BYTES = m.MAX_SECTION_BYTES
#: A worker told to stop finishes what it has computed, if the sink answers within this time.
_LONGEST_GOODBYE_S = 15.0


def run_worker(config: Config, stop: Stop) -> None:
    """Segment what the agent sends until told to stop.

    Raises
    ------
    ModelError, ConfigError
        If the model or the device cannot be used.
    """
    wanted = config.worker
    choose_engine(wanted.engine, device=wanted.device, mixed=wanted.mixed)
    card, _ = find_model(wanted.model)

    def load() -> Analyzer:
        from nanostream.analysis import Analyzer

        return Analyzer(config.worker)

    worker = Worker(config, load, card)
    try:
        while not stop.is_set():
            worker.step()
        worker.finish()
    finally:
        worker.close()


class Worker:
    """Between agent, computing thread and sink.

    Parameters
    ----------
    config : Config
        Network and delivery.
    load : callable
        Gives the analyzer, in the computing thread.
    card : ModelCard
        Of its model.
    """

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
        self._unacknowledged = Unacknowledged(config.delivery.resend_s)
        self._acked: deque[SectionId] = deque(maxlen=256)
        self._link = 0
        self._received = 0
        self._instances: dict[str, str] = {}
        self._next_beat_s = 0.0
        self._reported: tuple[SectionId | None, bool] = (None, False)
        self._leaving = False
        self._bench = Bench(load, self._waker)

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
        self._send_results()
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
                if self._unacknowledged.acknowledge(section, time.monotonic()):
                    self._acked.append(section)
                    failpoints.point("worker.acked")
                    self._end(section, m.Done(section))
                    failpoints.point("worker.done")
            case m.Later(section):
                self._unacknowledged.refuse(section, time.monotonic())
            case m.Failed(section, reason):
                if self._unacknowledged.drop(section):
                    self._end(section, m.Failed(section, reason))
            case m.Pong(instance=instance, normalization_maximum=maximum, ready=known):
                self._bench.raise_maximum(maximum)
                if self._bench.loaded and not known:
                    self._sink.send(m.Ready("worker", self._bench.loaded_s))
                if self._note_instance("sink", instance):
                    self._unacknowledged.restart()
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
            self._unacknowledged.add(outcome)

    def _end(self, section: SectionId, message: m.Done | m.Failed) -> None:
        self._holding.pop(section, None)
        self._agent.send(message)

    def _send_results(self) -> None:
        now_s = time.monotonic()
        if self._sink.link != self._link:  # what was under way is lost
            self._link = self._sink.link
            self._unacknowledged.restart()
        for result in self._unacknowledged.due(now_s):
            if self._sink.send(result):
                self._unacknowledged.sent(result.section, now_s)
                failpoints.point("worker.sent")

    def _beat(self) -> None:
        computing = self._bench.computing
        if self._bench.hung(self._config.delivery.hung_s):
            # A thread cannot be stopped, a process can; the agent counts it as an attempt.
            what = f"{computing} has been computed" if computing else "the network has been loaded"
            logger.error("%s for too long; ending this worker", what)
            os._exit(3)
        loaded = self._bench.loaded
        if time.monotonic() < self._next_beat_s and self._reported == (computing, loaded):
            return
        self._next_beat_s = time.monotonic() + self._config.delivery.heartbeat_s
        self._reported = computing, loaded
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
            time_s=time.time(),
        )
        self._agent.send(beat)
        self._sink.send(beat)
