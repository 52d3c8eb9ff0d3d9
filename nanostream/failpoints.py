"""Places where a test may kill the process, to prove that a kill there loses nothing.

Without ``NANOSTREAM_FAILPOINTS`` in the environment a point is an empty function. With a
probability (``0.01``) the process dies at each point it passes with that probability, with ``NAME``
or ``NAME:3`` at the first or third pass of that point: by SIGKILL, so nothing is cleaned up.
"""

from __future__ import annotations

import errno
import os
import random
import signal
from pathlib import Path

__all__ = ["disk_is_full", "point"]

_DISK_FULL = os.environ.get("NANOSTREAM_DISK_FULL", "")
_PLAN = os.environ.get("NANOSTREAM_FAILPOINTS", "")


def disk_is_full() -> None:
    """Fail as a full disk does, while the file that ``NANOSTREAM_DISK_FULL`` names exists."""
    if _DISK_FULL and Path(_DISK_FULL).exists():
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (drill)")


def _nothing(name: str) -> None:
    """Pass."""


def _maybe_die(name: str) -> None:
    """Die here by the plan."""
    global _passes
    planned, _, number = _PLAN.partition(":")
    if planned == name:
        _passes += 1
        die = _passes == int(number or 1)
    else:
        die = planned.replace(".", "", 1).isdigit() and random.random() < float(planned)
    if die:
        os.write(_STDERR, f"killed at {name}\n".encode())
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


_passes = 0
#: Where it was at the start: while TensorFlow is imported, standard error is led elsewhere.
_STDERR = os.dup(2) if _PLAN else 2
point = _maybe_die if _PLAN else _nothing
