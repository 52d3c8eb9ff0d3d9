"""What every process shares: how it is stopped and how its log looks."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from nanostream.transport import messages as m

__all__ = [
    "LONGEST_WAIT_S",
    "Outbox",
    "Stop",
    "importing",
    "printable",
    "start_log",
    "stopping",
]

#: A loop looks at its stop flag at least this often.
LONGEST_WAIT_S = 0.2


class Stop(threading.Event):
    """Set when the process is told to stop; ``insisted`` when it is told again."""

    def __init__(self) -> None:
        super().__init__()
        self.insisted = threading.Event()

    def tell(self) -> None:
        """Say once more that the process is to stop."""
        if self.is_set():
            self.insisted.set()
        self.set()


@contextmanager
def importing() -> Iterator[None]:
    """No search for garbage while modules are imported.

    They make hundreds of thousands of objects that all stay; to look through them again and again
    takes a quarter of TensorFlow's import (1.6 s with, 1.2 s without, 2026-11-25). Nor are they
    ever looked through later, which would be a pause of its own in the middle of the work.
    """
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.freeze()
            gc.enable()


@contextmanager
def stopping(*, with_parent: bool = False) -> Iterator[Stop]:
    """A flag that is set by Ctrl-C or SIGTERM; a third one ends the process the hard way.

    Parameters
    ----------
    with_parent : bool
        The process is also told by its standard input: a byte asks it to stop, the end of it
        insists. A supervisor holds the other end of that pipe, so its children stop with it, on
        every system, even if it was killed.
    """
    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.insisted.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.tell()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    before = {number: signal.signal(number, handle) for number in numbers}
    if with_parent:
        threading.Thread(target=_listen_to_input, args=(stop,), daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen_to_input(stop: Stop) -> None:
    # os.read, not sys.stdin: its lock would be held when the interpreter shuts down.
    try:
        while os.read(0, 1):
            stop.set()
    except OSError:
        pass
    stop.set()
    stop.insisted.set()


def printable(text: str) -> str:
    """Text for a terminal: what could steer it or turn the line around becomes an escape.

    Names of files and folders, and what comes from the network, can have such characters.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Formatter(logging.Formatter):
    """Only a traceback has further lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (its name in logging)
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


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

    def heard(self, number: int) -> None:
        """Forget what is kept."""
        while self._waiting and self._waiting[0][0] <= number:
            self._waiting.popleft()

    def message(self) -> m.Events | None:
        """The next of them, or None."""
        if not self._waiting:
            return None
        return m.Events(tuple(itertools.islice(self._waiting, m.MAX_EVENTS)))


def start_log(file: Path | None = None) -> None:
    """Send the log to a file, or to standard error; only the command line calls this."""
    handler = logging.FileHandler(file, encoding="utf-8") if file else _to_stderr()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # It logs every lost notice, several times a second on a large tree; our looks find the files.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)  # the same, of subfolders
    root.setLevel(logging.INFO)


def _to_stderr() -> logging.StreamHandler[TextIO]:
    """A way of its own to where standard error goes now.

    While TensorFlow is imported, standard error is led elsewhere, for all threads.
    """
    stream = sys.stderr
    if stream is sys.__stderr__ and stream is not None:
        with suppress(OSError, ValueError):  # closed, or no file
            own = os.dup(stream.fileno())
            stream = os.fdopen(own, "w", 1, encoding=stream.encoding, errors="backslashreplace")
    return logging.StreamHandler(stream)
