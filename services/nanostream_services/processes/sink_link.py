"""The agent's way to the sink: what it reports is sent until the sink has it."""

from __future__ import annotations

import time

from nanostream.config import Config
from nanostream.records import SectionId, TrackerSettings
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client
from nanostream_services.processes.outbox import Outbox

__all__ = ["SinkLink"]

#: The sink sends short messages only.
_LARGEST_BYTES = 2**20


class SinkLink:
    """Messages to the sink until it has them, and its answers.

    Parameters
    ----------
    config : Config
        ``network``, and ``delivery`` for how often a report is due.
    agent : str
        Instance of the agent, of which it takes its name.

    Attributes
    ----------
    events : Outbox
        What the operator should read.
    due_s : float
        Monotonic time of the next report.
    """

    def __init__(self, config: Config, agent: str) -> None:
        self._every_s = config.delivery.heartbeat_s / 2
        name = f"agent-{agent[:8]}"
        self._client = Client(config.network, "results", name=name, largest_bytes=_LARGEST_BYTES)
        self.socket = self._client.socket
        self.events = Outbox()
        self.due_s = 0.0
        self._ready = m.Ready("agent", time.time())
        self._unheard: dict[SectionId, m.Quarantine] = {}

    def hear(self) -> tuple[SectionId, ...]:
        """Sections that the sink wants tried again; what it has kept is sent no more."""
        again: tuple[SectionId, ...] = ()
        for answer in self._client.receive():
            match answer:
                case m.Ack(section):
                    self._unheard.pop(section, None)
                case m.Pong():
                    again = answer.retry
                    self.events.kept(answer.kept)
                    if not answer.ready:
                        self._client.send(self._ready)
        return again

    def quarantined(
        self, section: SectionId, reason: str, attempts: int, stream: TrackerSettings | None
    ) -> None:
        """Report a section that was given up: with the next turn, and until it is acknowledged."""
        self._unheard[section] = m.Quarantine(section, reason, attempts, stream)
        self.due_s = 0.0

    def retried(self, section: SectionId) -> None:
        """Acknowledge that a section is tried again."""
        self._unheard.pop(section, None)
        self._client.send(m.Retried(section))

    def report(self, counts: m.Report, now_s: float) -> None:
        """Send all that was not heard, if it is time to."""
        if now_s < self.due_s:
            return
        self.due_s = now_s + self._every_s
        for quarantine in self._unheard.values():
            self._client.send(quarantine)
        self._client.send(counts)
        if events := self.events.message():
            self._client.send(events)

    def close(self) -> None:
        """Close; what was sent last gets a moment to leave."""
        self._client.close(linger_s=1.0)
