"""The life of a process: its imports, and how it is told to stop."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["LONGEST_WAIT_S", "Stop", "importing", "stopping"]

#: A loop checks its stop flag at least this often.
LONGEST_WAIT_S = 0.2


class Stop(threading.Event):
    """A flag, set when the process is told to stop; ``insisted`` when it is told again."""

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
