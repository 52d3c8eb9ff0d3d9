"""How long after SerialEM's header write the agent has published the section.

::

    python scripts/latency.py --sections 1000 --side 4096

A stand-in for SerialEM saves int16 sections one after the other, each as soon as the one before has
arrived and a random pause is over; the agent is a process of its own, this one plays the worker.
Measured is the time from the write of the header that counts a section to the end of its sending,
less the time the agent needed to read the pixels. Exit code 0 only if the 95th percentile is below
50 ms with file events and below 1.5 s with a scan every second.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Config, Network, load_config
from nanostream.records import Frame
from nanostream.transport import messages as m
from nanostream.transport.sockets import Client, free_ports, wait
from nanostream_services.processes.agent import run_agent
from nanostream_services.processes.lifecycle import stopping

SECTIONS_PER_STACK = 20
PATIENCE_S = 60.0
LIMIT_S = {"on": 0.050, "off": 1.5}


@dataclass(frozen=True)
class Case:
    """One session."""

    file_events: str
    mdoc: bool
    sections: int
    side: int
    pause_s: float
    poll_s: float = 1.0

    @property
    def name(self) -> str:
        """As a line of text."""
        how = "file events" if self.file_events == "on" else f"a scan every {self.poll_s:g} s"
        return f"{how}, {'with' if self.mdoc else 'no'} mdoc"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=int, default=1000)
    parser.add_argument("--polled", type=int, default=200, help="sections without file events")
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--pause-s", type=float, default=0.05, help="between saves, on average")
    parser.add_argument("--mdoc", choices=("both", "with", "without"), default="both")
    parser.add_argument("--folder", type=Path, help="on the disk to be watched")
    parser.add_argument("--agent", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agent:
        serve(options.agent)
        return
    # Without file events saves come at any time between two scans.
    kinds = [("on", options.sections, options.pause_s), ("off", options.polled, 0.5)]
    cases = [
        Case(file_events, mdoc, sections, options.side, pause_s)
        for file_events, sections, pause_s in kinds
        for mdoc in ((True, False) if options.mdoc == "both" else (options.mdoc == "with",))
        if sections
    ]
    table = Table("ms after the header, less reading", "sections", "p50", "p95", "p99", "largest")
    good = True
    for case in cases:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            late_s, read_s = measure(Path(temporary), case)
        figures = [f"{1000 * q:.1f}" for q in np.quantile(late_s, (0.5, 0.95, 0.99, 1.0))]
        table.add_row(case.name, str(len(late_s)), *figures)
        good &= bool(np.quantile(late_s, 0.95) < LIMIT_S[case.file_events])
        read = ", ".join(f"{1000 * q:.1f}" for q in np.quantile(read_s, (0.5, 0.95)))
        print(f"{case.name}: done; reading p50, p95: {read} ms", flush=True)
    Console().print(table)
    sys.exit(0 if good else 1)


def measure(folder: Path, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Time from header to publication less the reading, and the reading (s), of each section."""
    (folder / "microscope").mkdir()
    with agent(folder, case) as (process, network):
        worker = Client(network, "frames", name="worker-1", largest_bytes=m.MAX_SECTION_BYTES)
        scribe = Scribe(folder / "microscope", case)
        try:
            read_s = receive(worker, scribe, case.sections, process)
        finally:
            scribe.stop()
            worker.close()
    sent_s = published(folder / "agent.log")
    late_s = [sent_s[name] - scribe.header_s[name] - read_s[name] for name in read_s]
    return np.array(late_s), np.array(list(read_s.values()))


def receive(
    worker: Client, scribe: Scribe, sections: int, process: subprocess.Popen[bytes]
) -> dict[str, float]:
    """Take every section as a worker would; seconds that its reading took."""
    read_s: dict[str, float] = {}
    next_beat_s, number, heard_s = 0.0, 0, time.monotonic()
    while len(read_s) < sections:
        now_s = time.monotonic()
        if process.poll() is not None or now_s - heard_s > PATIENCE_S:
            sys.exit(f"no section came for {now_s - heard_s:.0f} s; agent: {process.poll()}")
        if now_s >= next_beat_s:
            worker.send(m.Beat(slots=3, received=number))
            next_beat_s = now_s + 1.0
        wait([worker], 0.2)
        for message in worker.receive():
            if isinstance(message, Frame):
                number, heard_s = message.number, now_s
                read_s[str(message.section)] = message.timings_s["read_s"]
                worker.send(m.Done(message.section))
                scribe.resume()
            elif isinstance(message, m.Pong):
                scribe.start()
    return read_s


class Scribe:
    """Saves sections in a thread of its own, and records when each header was written."""

    def __init__(self, folder: Path, case: Case) -> None:
        self._folder, self._case = folder, case
        self.header_s: dict[str, float] = {}
        self._arrived, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._save)

    def start(self) -> None:
        """Begin, once somebody listens."""
        if self._thread.ident is None:
            self._thread.start()

    def resume(self) -> None:
        """The last section has arrived."""
        self._arrived.set()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._arrived.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _save(self) -> None:
        case = self._case
        side = (case.side, case.side)
        pixels = np.random.default_rng(1).integers(0, 4000, side, dtype=np.int16)
        for first in range(0, case.sections, SECTIONS_PER_STACK):
            path = self._folder / f"stack{first // SECTIONS_PER_STACK:04}.mrc"
            with StackWriter(path, mdoc=case.mdoc) as stack:
                for z in range(min(SECTIONS_PER_STACK, case.sections - first)):
                    time.sleep(random.uniform(0, 2 * case.pause_s))
                    for step in stack.append_steps(pixels):
                        if step == "header":
                            self.header_s[f"{path.name}#{z}"] = time.time()
                    self._arrived.wait()
                    self._arrived.clear()
                    if self._stop.is_set():
                        return
            path.unlink()  # a thousand sections are 32 GiB


@contextmanager
def agent(folder: Path, case: Case) -> Iterator[tuple[subprocess.Popen[bytes], Network]]:
    """An agent as a process of its own, with a log of when it sent what."""
    frames, results = free_ports(2)
    file = folder / "agent.toml"
    file.write_text(
        f'[watch]\ndirectory = "microscope"\nledger = "ledger.db"\n'
        f'file_events = "{case.file_events}"\n'
        f"poll_s = {case.poll_s}\n[network]\nframes_port = {frames}\nresults_port = {results}\n"
    )
    command = [sys.executable, str(Path(__file__)), "--agent", str(file)]
    process = subprocess.Popen(command)
    try:
        yield process, load_config(file).network
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def serve(file: Path) -> None:
    """Be the agent."""
    handler = logging.FileHandler(file.with_name("agent.log"))
    handler.setFormatter(logging.Formatter("%(created).6f %(message)s"))
    logger = logging.getLogger("nanostream_services.processes.agent")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    config: Config = load_config(file)
    with stopping() as stop:
        run_agent(config, stop)


def published(log: Path) -> dict[str, float]:
    """POSIX time at which each section was first sent (s)."""
    sent: dict[str, float] = {}
    for line in log.read_text().splitlines():
        when_s, _, text = line.partition(" ")
        section, sent_to, _ = text.partition(" sent to ")
        if sent_to:
            sent.setdefault(section, float(when_s))
    return sent


if __name__ == "__main__":
    main()
