"""Cost of a watched folder with many files to the agent: start-up, scans, memory, idle time.

::

    python scripts/many_files.py --files 100000

Linux only: memory and processor time are those that /proc has of a real agent process. Exit code 0
only if the idle agent takes less than 2 % of a core.
"""

from __future__ import annotations

import argparse
import io
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nanostream.acquisition.folder import WatchedFolder
from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.readiness import Readiness
from nanostream.acquisition.scans import pause_s
from nanostream.acquisition.simulator import StackWriter
from nanostream.config import Watch
from nanostream.transport.sockets import free_ports

LARGEST_IDLE = 0.02
FOLDERS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--idle-s", type=float, default=150.0, help="longer than any pause")
    parser.add_argument("--start", default="all", help="[watch] start")
    parser.add_argument("--file-events", default="auto", help="[watch] file_events")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(0 if run(Path(temporary), options) else 1)


def run(folder: Path, options: argparse.Namespace) -> bool:
    watch = folder / "microscope"
    begun_s = time.monotonic()
    fill(watch, options.files)
    print(f"{options.files} files written in {time.monotonic() - begun_s:.0f} s", flush=True)
    table = Table(
        "what", "value", title=f"{options.files} files, file events {options.file_events}"
    )
    with agent(folder, options) as first:
        first.wait("SELECT count(*) FROM first_look", 1)
        table.add_row("first start: all scanned, headers read", f"{first.age_s():.1f} s")
        table.add_row("  memory, largest", " / ".join(first.memory()))
        first.wait("SELECT count(*) FROM files WHERE size IS NOT NULL", options.files)
        table.add_row("  all settled in the ledger", f"{first.age_s():.1f} s")
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as db:
        db.execute("UPDATE sections SET state = 'stored'")  # as after a session
    one_file(watch / "new.mrc")
    with agent(folder, options) as again:
        again.wait("SELECT count(*) FROM files WHERE path = 'new.mrc'", 1)
        table.add_row("start with the ledger: a new file found", f"{again.age_s():.1f} s")
        scan(watch, folder, table)
        time.sleep(10.0)
        idle, seconds = again.idle(options.idle_s)
        table.add_row("idle", f"{100 * idle:.2f} % of a core, over {seconds:.0f} s")
        table.add_row("  memory, largest", " / ".join(again.memory()))
    Console().print(table)
    print((folder / "agent.log").read_text())
    return idle < LARGEST_IDLE


def fill(folder: Path, count: int) -> None:
    """Stacks of one small section in many folders."""
    folder.mkdir()
    one_file(folder / "pattern.mrc")
    data = (folder / "pattern.mrc").read_bytes()
    (folder / "pattern.mrc").unlink()
    for number in range(count):
        place = folder / f"day{number % FOLDERS:03}"
        if number < FOLDERS:
            place.mkdir()
        with io.FileIO(place / f"{number:06}.mrc", "w") as file:
            file.write(data)


def one_file(path: Path) -> None:
    with StackWriter(path, mdoc=False) as stack:
        stack.append(np.ones((16, 16), np.int16))


def scan(watch: Path, folder: Path, table: Table) -> None:
    """Time the agent's scans, made here with its ledger."""
    settings = Watch()
    watched = WatchedFolder(watch, settings)
    with Ledger(folder / "ledger.db") as ledger:
        begun_s = time.monotonic()
        readiness = Readiness(ledger.known_files())
        table.add_row("reading the ledger", f"{time.monotonic() - begun_s:.2f} s")
    watched.files()  # patterns are matched once
    begun_s, begun_cpu_s = time.monotonic(), time.thread_time()
    listing = watched.files()
    due = readiness.to_inspect(listing, begun_s)
    wall_s, cpu_s = time.monotonic() - begun_s, time.thread_time() - begun_cpu_s
    table.add_row("scan of all files", f"{wall_s:.2f} s, {cpu_s:.2f} s of a core")
    table.add_row("  headers read", str(len(due)))
    table.add_row("  pause after it", f"{pause_s(cpu_s, wall_s, settings.poll_s):.0f} s")
    begun_s, begun_cpu_s = time.monotonic(), time.thread_time()
    newest = len(watched.newest_files())
    wall_s, cpu_s = time.monotonic() - begun_s, time.thread_time() - begun_cpu_s
    table.add_row("scan of the newest", f"{1000 * wall_s:.1f} ms, {newest} files")
    table.add_row("  pause after it", f"{pause_s(cpu_s, wall_s, settings.poll_s):.1f} s")


class Agent:
    """``nanostream agent`` and what /proc and its ledger say of it."""

    def __init__(self, process: subprocess.Popen[bytes], ledger: Path) -> None:
        self.process, self.ledger, self._begun_s = process, ledger, time.monotonic()

    def age_s(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._begun_s

    def wait(self, query: str, count: int) -> None:
        """Until the ledger has as many rows."""
        found = -1
        while found < count:
            if self.process.poll() is not None:
                log = self.ledger.with_name("agent.log").read_text()
                sys.exit(f"the agent ended with {self.process.returncode}: {log}")
            time.sleep(0.05)
            if self.ledger.exists():
                with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as db:
                    try:
                        (found,) = db.execute(query).fetchone()
                    except sqlite3.OperationalError:  # not made yet
                        continue

    def memory(self) -> list[str]:
        """Resident now and at most (MB)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return [f"{int(fields[name].split()[0]) / 1000:.0f} MB" for name in ("VmRSS", "VmHWM")]

    def idle(self, seconds: float) -> tuple[float, float]:
        """Share of a core that is taken while nothing happens."""
        begun_s, begun_cpu_s = time.monotonic(), self._cpu_s()
        time.sleep(seconds)
        passed_s = time.monotonic() - begun_s
        return (self._cpu_s() - begun_cpu_s) / passed_s, passed_s

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def agent(folder: Path, options: argparse.Namespace) -> Iterator[Agent]:
    frames, results, snapshots, queries = free_ports(4)
    config = folder / "agent.toml"
    config.write_text(
        f'[watch]\ndirectory = "microscope"\nledger = "ledger.db"\nstart = "{options.start}"\n'
        f'file_events = "{options.file_events}"\n[network]\nframes_port = {frames}\n'
        f"results_port = {results}\nsnapshots_port = {snapshots}\nqueries_port = {queries}\n"
    )
    command = [sys.executable, "-m", "nanostream_services", "agent", "--config", str(config)]
    with (folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield Agent(process, folder / "ledger.db")
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
