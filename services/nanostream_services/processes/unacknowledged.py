"""Results that the sink has not acknowledged, and when each is sent again. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from nanostream.records import Result, SectionId

__all__ = ["Unacknowledged"]

#: Of the pauses between tries to send a result: so many times the first.
_LONGEST_PAUSE = 8


@dataclass
class _Sent:
    result: Result
    first_s: float = 0.0
    sent_s: float = -math.inf
    times: int = 0
    refused: bool = False


class Unacknowledged:
    """Results on their way to the sink.

    What the sink could not store is tried every ``resend_s``. What has no answer is still under
    way, unless something has gone wrong that nobody has seen: then the pauses grow with what the
    slowest answer took and with each try, so that a slow line is not filled.

    Parameters
    ----------
    resend_s : float
        Shortest time until a result is sent again.
    """

    def __init__(self, resend_s: float) -> None:
        self._resend_s = resend_s
        self._results: dict[SectionId, _Sent] = {}
        #: What the last answers took, where the sink could store at once.
        self._answers_s: deque[float] = deque(maxlen=20)

    def add(self, result: Result) -> None:
        """Put a result in, to be sent at once."""
        self._results[result.section] = _Sent(result)

    def due(self, now_s: float) -> Iterator[Result]:
        """Results to be sent now."""
        patience_s = max(self._resend_s, 4 * max(self._answers_s, default=0.0))
        for sent in self._results.values():
            pauses = min(1 << sent.times >> 1, _LONGEST_PAUSE)
            pause_s = self._resend_s if sent.refused else patience_s * pauses
            if now_s - sent.sent_s > pause_s:
                yield sent.result

    def sent(self, section: SectionId, now_s: float) -> None:
        """Note that it was sent."""
        sent = self._results[section]
        sent.first_s = sent.first_s if sent.times else now_s
        sent.sent_s, sent.times = now_s, sent.times + 1

    def acknowledge(self, section: SectionId, now_s: float) -> bool:
        """Note that it is committed; False if it was not waited for."""
        sent = self._results.pop(section, None)
        if sent is not None and not sent.refused:
            self._answers_s.append(now_s - sent.first_s)
        return sent is not None

    def refuse(self, section: SectionId, now_s: float) -> None:
        """Note that the sink could not store it now."""
        if (sent := self._results.get(section)) is not None:
            sent.refused, sent.sent_s = True, now_s

    def drop(self, section: SectionId) -> bool:
        """Give it up: the sink can never store it; False if it was not waited for."""
        return self._results.pop(section, None) is not None

    def restart(self) -> None:
        """Forget what was sent: the connection or the sink is another one."""
        self._results = {name: _Sent(sent.result) for name, sent in self._results.items()}
