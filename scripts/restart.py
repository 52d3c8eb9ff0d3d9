"""How soon a session with many stored sections is at work again after everything was stopped.

::

    python scripts/restart.py --sections 10000

Small sections go through the pipeline until all are stored, then everything is stopped as by Ctrl-C
and started again as an operator does it, with ``nanostream run``. At the moment of the start a
stand-in for SerialEM saves one more section. Measured are, from that moment: when each process is
ready, as it reports to the sink, and when the new section is committed to the session's database,
which counts most: an operator waits for nothing else. The first start is not counted (the files may
have to come from the disk). The processor time of all processes from start to end says what others
on the machine cannot change. Exit code 0 only if the median of the new section's time is below 3 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from kill_matrix import prepare, save, small_section
from rich.console import Console
from rich.table import Table

from nanostream.acquisition.simulator import StackWriter
from nanostream.config import load_config
from nanostream.results.folders import DATABASE
from nanostream.transport.sockets import Subscriber, wait

LIMIT_S = 3.0
ROLES = ("agent", "sink", "worker")
#: No restart that works takes so long.
PATIENCE_S = 120.0
STORED = "a new section is stored"
STOPPED, PROCESSOR = "(stopped again, in)", "(processor time of all)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=int, default=10_000)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="kept, and used again if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        sys.exit(0 if run(folder, options) else 1)


def run(folder: Path, options: argparse.Namespace) -> bool:
    session = folder / "session"
    if not session.exists():
        fill(folder, options.sections)
    times: dict[str, list[float]] = {}
    for number in range(options.restarts + 1):
        measured = restart(folder)
        if number:
            for what, seconds in measured.items():
                times.setdefault(what, []).append(seconds)
    table = Table(
        "s after the start",
        "median",
        "each",
        title=f"{stored(session)} sections stored, load {os.getloadavg()[0]:.1f}",
    )
    for what, each in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        shown = ", ".join(f"{seconds:.2f}" for seconds in each)
        table.add_row(what, f"{statistics.median(each):.2f}", shown)
    Console().print(table)
    return statistics.median(times[STORED]) < LIMIT_S


def fill(folder: Path, sections: int) -> None:
    """Let the pipeline store small sections, movies and stacks, with and without an mdoc."""
    watch, session, config = prepare(folder, delivery={})
    done = [0]
    threading.Thread(target=save, args=(watch, sections, done, 1), daemon=True).start()
    begun_s = time.monotonic()
    process = start(watch, session, config)
    while done[0] < sections:
        time.sleep(1.0)
        if process.poll() is not None:
            sys.exit(f"the session ended with {process.returncode}; see {session}/logs")
        done[0] = stored(session)
    stop(process)
    print(f"{sections} sections stored in {time.monotonic() - begun_s:.0f} s", flush=True)


def restart(folder: Path) -> dict[str, float]:
    """Start everything, with one new section, and stop it: seconds until what was there."""
    watch, session = folder / "microscope", folder / "session"
    name = f"new_{time.time_ns()}.mrc"
    pixels = small_section(np.random.default_rng())
    start_s, spent_s = time.time(), processor_s()
    process = start(watch, session, folder / "config.json")
    with StackWriter(watch / name, pixel_size_nm=0.05) as stack:
        stack.append(pixels)
    times: dict[str, float] = {}
    news = Subscriber(load_config(folder / "config.json").network)
    while len(times) <= len(ROLES):
        if process.poll() is not None or time.time() - start_s > PATIENCE_S:
            stop(process)
            sys.exit(f"{name} was not stored, or not all are ready; see {session}/logs")
        if STORED not in times:
            if stored(session, f"{name}#0"):
                times[STORED] = time.time() - start_s
            time.sleep(0.01)
            continue  # snapshots can be read when nothing is measured any more
        wait([news], 0.05)
        if (snapshot := news.receive()) is not None:
            for known in snapshot.health:
                if known.ready_s is not None and known.ready_s >= start_s:
                    times[f"{known.role} ready"] = known.ready_s - start_s
    news.close()
    stop_s = time.time()
    stop(process)
    return times | {STOPPED: time.time() - stop_s, PROCESSOR: processor_s() - spent_s}


def start(watch: Path, session: Path, config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nanostream_services", "run", str(watch), "--plain"]
    command += ["--out", str(session), "--config", str(config)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(60)


def processor_s() -> float:
    """Of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def stored(session: Path, section: str = "%") -> int:
    """Committed sections of a name."""
    try:
        address = f"file:{session / DATABASE}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as db:
            query = "SELECT count(*) FROM sections WHERE section = ?1 OR ?1 = '%'"
            return int(db.execute(query, (section,)).fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


if __name__ == "__main__":
    main()
