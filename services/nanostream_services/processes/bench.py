"""The computing thread of a worker: frames in, results out, beside the loop that talks.

It also imports and loads what it computes with, which takes most of a start.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nanostream import failpoints
from nanostream.records import Frame, Result, SectionId
from nanostream.transport.sockets import Waker
from nanostream_services.processes.lifecycle import importing

if TYPE_CHECKING:
    from nanostream.analysis import Analyzer

__all__ = ["Bench"]

logger = logging.getLogger(__name__)

#: A section that takes so many times longer than the slowest of the last ones, and so long, hangs.
_LIMIT_FACTOR, _SHORTEST_LIMIT_S = 20.0, 30.0
#: The loop turns several times a second; after such a pause the whole process had been stopped.
_STOPPED_S = 5.0


class Bench:
    """A thread that computes one section after the other.

    Parameters
    ----------
    load : callable
        Gives the analyzer.
    waker : Waker
        Wakes the loop when there is something to take.
    clock : callable
        Monotonic time (s).

    Attributes
    ----------
    computing : SectionId or None
        What it is at.
    loaded : bool
        Whether it has what it computes with; ``loaded_s`` is the POSIX time since when.
    broken : Exception or None
        Why it never will.
    """

    def __init__(
        self,
        load: Callable[[], Analyzer],
        waker: Waker,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._waker, self._clock = load, waker, clock
        self._analyzer: Analyzer | None = None
        self._maximum: float | None = None
        self.loaded = False
        self.loaded_s = math.nan
        self.broken: Exception | None = None
        self._todo: queue.Queue[Frame | None] = queue.Queue()
        self._done: queue.Queue[tuple[SectionId, Result | str]] = queue.Queue()
        self.computing: SectionId | None = None
        self._since_s = self._clock()
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
        now_s = self._clock()
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
        analyzer = self._start()
        if analyzer is None:
            return
        while (frame := self._todo.get()) is not None:
            self._since_s, self._pixels = self._clock(), frame.pixels.size
            self.computing = frame.section
            self._waker.wake()
            failpoints.point("worker.computing")
            self._done.put((frame.section, self._compute(frame, analyzer)))
            self.computing = None
            self._waker.wake()

    def _start(self) -> Analyzer | None:
        """Load what it computes with; None, with the loop woken, if that fails."""
        started_s = self._clock()
        with importing():
            try:
                analyzer = self._load()
            except Exception as error:  # noqa: BLE001 (the loop raises it)
                self.broken = error
                self._waker.wake()
                return None
            try:
                analyzer.warm_up()  # compiled before the first section
            except Exception:  # every section will say why
                logger.exception("the network cannot be tried out")
        logger.info(
            "ready: model loaded in %.1f s, computed by %s on %s",
            self._clock() - started_s,
            analyzer.engine.name,
            analyzer.engine.device,
        )
        self._analyzer = analyzer
        analyzer.raise_maximum(self._maximum)
        self.loaded_s = time.time()
        self.loaded = True
        self._waker.wake()
        return analyzer

    def _compute(self, frame: Frame, analyzer: Analyzer) -> Result | str:
        try:
            self._pixels = analyzer.work_px(frame)
            result = _result(frame, analyzer)
        except Exception as error:
            # One bad section must not end the worker; the agent decides what becomes of it.
            logger.exception("%s cannot be segmented", frame.section)
            return f"cannot be segmented: {type(error).__name__}: {error}"
        self._s_per_px.append((self._clock() - self._since_s) / self._pixels)
        return result


def _result(frame: Frame, analyzer: Analyzer) -> Result:
    return Result.of(frame, analyzer(frame), versions=analyzer.versions)
