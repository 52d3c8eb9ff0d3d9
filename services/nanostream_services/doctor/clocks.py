"""The clocks of camera PC, file server and this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nanostream.acquisition.folder import WatchedFolder
from nanostream.config import Config
from nanostream.errors import MicrographError
from nanostream_services.doctor.findings import Finding, Role
from nanostream_services.doctor.watched import look_into, newest

__all__ = ["check_clock", "clock_finding"]

#: An image is saved some seconds after it was exposed, behind a queue of others.
_CLOCKS_APART_S = 120.0


def check_clock(config: Config, _: Role) -> Iterator[Finding]:
    """The clocks of camera PC, file server and this machine, as far as the newest file tells."""
    root = Path(config.watch.directory)
    if not config.watch.directory or not root.is_dir():
        return
    files = WatchedFolder(root, config.watch).files()
    if not files:
        return
    path, stat = newest(files)
    try:
        acquired = look_into(root / path)[2]
    except (MicrographError, OSError):  # a finding of the watched folder already
        acquired = None
    yield clock_finding(path, stat.mtime_ns / 1e9, acquired, now_s=time.time())


def clock_finding(path: str, saved_s: float, acquired: str | None, *, now_s: float) -> Finding:
    """The clocks, as far as one file tells.

    Parameters
    ----------
    path : str
        Of the file, to be named.
    saved_s : float
        Its modification time, by the clock of the machine that has the disk.
    acquired : str or None
        ``DateTime`` of its last section: local time of the camera PC, without a zone.
    now_s : float
        POSIX time of this machine.
    """
    advice = (
        "set the clocks by NTP; nothing is lost by it, but the delay that the dashboard shows is "
        "wrong"
    )
    if saved_s > now_s + 2.0:
        text = f"{path} was saved {saved_s - now_s:.0f} s from now, by this machine's clock"
        return Finding("clock", "warning", text, advice)
    age = f"{path} was saved {_duration(now_s - saved_s)} ago"
    if acquired is None:
        return Finding("clock", "ok", f"{age}; no mdoc says when it was acquired")
    # As local times: a year that the system's clock cannot have has no timestamp.
    apart = datetime.fromisoformat(acquired) - datetime.fromtimestamp(saved_s)
    apart_s = apart.total_seconds()
    if abs(apart_s) > _CLOCKS_APART_S:
        word = "after" if apart_s > 0 else "before"
        text = f"{path} was acquired {_duration(abs(apart_s))} {word} it was saved, by its mdoc"
        also = "if the file is a copy, or was kept open, this means nothing; else "
        return Finding("clock", "warning", text, also + advice)
    return Finding("clock", "ok", f"{age}; its mdoc agrees within {abs(apart_s):.0f} s")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
