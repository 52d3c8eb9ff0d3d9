"""Work in several processes that end with the one which started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

__all__ = ["StopFlag", "in_processes"]

_Result = TypeVar("_Result")

_STOP_CHECKED_S = 0.2


class StopFlag(Protocol):
    """Flag that says that the work is to stop; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is to stop."""
        ...


def in_processes(
    function: Callable[..., _Result],
    arguments: Sequence[tuple[Any, ...]],
    *,
    jobs: int,
    stop: StopFlag | None = None,
) -> Generator[_Result]:
    """Results of a function, as they are finished, each call in one of several processes.

    Parameters
    ----------
    function
        Of a module, so that a process can import it.
    arguments
        Of each call.
    jobs
        Processes at most.
    stop
        Checked five times a second. Calls that are running then are given up.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        If a process was ended from outside.

    Notes
    -----
    Processes are begun afresh (TensorFlow does not live through a fork), leave Ctrl-C to the
    parent, and are ended when the iterator is closed.
    """
    if not arguments:
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(
        min(jobs, len(arguments)), mp_context=context, initializer=_prepare_process
    ) as pool:
        waiting = set()
        try:
            with _interrupts_held():
                waiting = {pool.submit(function, *values) for values in arguments}
            while waiting and not (stop and stop.is_set()):
                done, waiting = wait(waiting, timeout=_STOP_CHECKED_S, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:  # stopped, failed, or nobody asks for more
            if waiting:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()


def _prepare_process() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits while processes start: they inherit that it is blocked.

    A terminal sends it to all of them, and one that is still importing would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
