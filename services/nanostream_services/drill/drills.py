"""A short simulated session in which things go wrong, for the evening before beam time.

On this machine, with its disk, its load and its model: processes are killed and stopped, the
worker's connections are cut, files are torn, the disk is full for a while. At the end every section
must be stored once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nanostream.config import Config, Stream, override
from nanostream.errors import ConfigError
from nanostream.records import Snapshot
from nanostream.transport.sockets import free_network
from nanostream_services.drill.link import Link
from nanostream_services.processes.lifecycle import Stop
from nanostream_services.supervisor import run_session, write_config

__all__ = ["SECTIONS", "run_drill"]

SECTIONS = 60
_RATE_PER_S = 3.0
#: Short limits, so that the drill need not last: the rules are those of a session.
_DELIVERY = {"heartbeat_s": 0.5, "silent_s": 4.0, "resend_s": 3.0, "retry_s": 0.5}
_FULL_FOR_S = 5.0
#: Longer than ``silent_s``: the worker is given up, and comes back with what it has computed.
_CUT_FOR_S = _STOPPED_FOR_S = 6.0


def run_drill(folder: Path, stop: Stop, *, report: Callable[[str], None]) -> bool:
    """Play the drill; False if it was stopped.

    Parameters
    ----------
    folder : Path
        Gets ``microscope/`` and ``session/``.
    report : callable
        Called with what was done and what came of it.

    Raises
    ------
    ConfigError
        If the folder is in use, or a process does not start.
    """
    folder = folder.resolve()
    microscope = folder / "microscope"
    if microscope.exists():
        msg = f"{folder} has been used; give a new folder for the drill"
        raise ConfigError(msg)
    microscope.mkdir(parents=True)
    network = free_network()
    config = override(
        Config(streams=(Stream(pattern="*.mrc"),)),
        watch={"directory": str(microscope), "poll_s": 0.5},
        network=network,
        delivery=_DELIVERY,
        sink={"session": str(folder / "session")},
    )
    links = {port: Link(network[port]) for port in ("frames_port", "results_port")}
    through_links = folder / "worker.json"
    ports = {port: link.port for port, link in links.items()}
    write_config(override(config, network=ports), through_links)
    full = folder / "disk-is-full"
    os.environ["NANOSTREAM_DISK_FULL"] = str(full)
    arguments = ("simulate", microscope, "--sections", SECTIONS, "--rate", _RATE_PER_S)
    serialem = subprocess.Popen(
        [sys.executable, "-m", "nanostream_services", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    script = _Script(_faults(microscope, full, list(links.values())), report)
    try:
        run_session(config, stop, show=False, done=script.turn, worker=through_links)
    finally:
        for link in links.values():
            link.over.set()
        del os.environ["NANOSTREAM_DISK_FULL"]
        serialem.terminate()
        serialem.wait()
    return not stop.is_set()


Pids = Mapping[str, int]
Fault = tuple[str, Callable[[Pids], None], float, Callable[[Pids], None]]


def _nothing(_: Pids) -> None:
    """Nothing has to be undone."""


def _faults(microscope: Path, full: Path, links: Sequence[Link]) -> Iterator[Fault]:
    """The faults: name, how each begins, for how many seconds, and how it ends."""

    def send(role: str, number: int) -> Callable[[Pids], None]:
        return lambda pids: os.kill(pids[role], number)

    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    for role in ("worker", "agent", "sink"):
        yield f"the {role} is killed", send(role, kill), 0.0, _nothing

    def cut(_: Pids) -> None:
        for link in links:
            link.cut.set()

    def mend(_: Pids) -> None:
        for link in links:
            link.cut.clear()

    yield "the worker's connections are cut", cut, _CUT_FOR_S, mend

    def tear(_: Pids) -> None:
        (microscope / "torn.mrc").write_bytes(b"\0" * 700)
        (microscope / "notes.mrc").write_text("not a micrograph " * 100, encoding="utf-8")

    yield "two files are torn", tear, 0.0, _nothing
    yield "the disk is full", lambda _: full.touch(), _FULL_FOR_S, lambda _: full.unlink()
    if hasattr(signal, "SIGSTOP"):
        yield (
            "the worker cannot be reached",
            send("worker", signal.SIGSTOP),
            _STOPPED_FOR_S,
            send("worker", signal.SIGCONT),
        )


@dataclass
class _Script:
    """One fault after the other, each when the session works again after the last."""

    faults: Iterator[Fault]
    report: Callable[[str], None]
    undo: Callable[[Pids], None] = _nothing
    until_s: float = 0.0
    name: str = ""
    since_s: float = field(default=0.0)
    stored: int = 0
    over: bool = False

    def turn(self, snapshot: Snapshot, pids: Pids) -> bool:
        """Take one step; True when all is stored."""
        now_s = time.monotonic()
        if self.until_s and now_s >= self.until_s:
            self.undo(pids)
            self.until_s, self.stored = 0.0, snapshot.stored
        if self.until_s:
            return False
        # Three sections stored since the last fault: it is overcome.
        if snapshot.stored >= self.stored + 3 and len(pids) == 3 and not self.over:
            if self.name:
                self.report(f"{self.name}: stored again after {now_s - self.since_s:.1f} s")
            self._next(pids, now_s, snapshot.stored)
        return snapshot.stored + snapshot.failed >= SECTIONS and self.over

    def _next(self, pids: Pids, now_s: float, stored: int) -> None:
        fault = next(self.faults, None)
        if fault is None:
            self.over = True
            return
        self.name, do, seconds, self.undo = fault
        self.since_s, self.stored = now_s, stored
        self.until_s = now_s + seconds if seconds else 0.0
        do(pids)
