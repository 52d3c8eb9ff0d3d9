"""Events that a process has for the operator, on their way to the sink."""

from __future__ import annotations

import itertools
import time
from collections import deque

from nanostream.errors import printable
from nanostream.transport import messages as m

__all__ = ["Outbox"]


class Outbox:
    """Events of a process that the operator should read, until the sink has kept them."""

    #: Events that may wait for the sink; a folder of 10,000 foreign files has no more.
    MOST = 10_000

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, str]] = deque(maxlen=self.MOST)
        self._last = 0

    def add(self, text: str) -> None:
        """Put an event in, with the time of day."""
        self._last += 1
        self._waiting.append((self._last, f"{time.strftime('%H:%M:%S')} {printable(text)}"))

    def kept(self, number: int) -> None:
        """Forget what is kept."""
        while self._waiting and self._waiting[0][0] <= number:
            self._waiting.popleft()

    def message(self) -> m.Events | None:
        """The next of them, or None."""
        if not self._waiting:
            return None
        return m.Events(tuple(itertools.islice(self._waiting, m.MAX_EVENTS)))
