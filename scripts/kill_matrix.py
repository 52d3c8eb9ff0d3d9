"""Kill every process at every edge of its work, over and over, and count what is lost.

::

    python scripts/kill_matrix.py --sections 10000 --kills 500

Agent, sink and two workers run on this machine while a stand-in for SerialEM saves small sections.
Each process dies by SIGKILL at a random failpoint (see nanostream/failpoints.py) or at a random
time, and is started again. At the end nobody is killed any more, everything is settled, and the
session is compared with the files: lost, doubled and torn must be 0. Exit code 0 only if so, and if
as many were killed as wanted: a fast machine may have stored all sections before.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import nanostream as ns
from nanostream.acquisition.simulator import StackWriter
from nanostream.errors import SessionError
from nanostream.transport.sockets import free_network

ROLES = {"agent": "agent", "sink": "sink", "worker-1": "worker", "worker-2": "worker"}
SECTIONS_PER_STACK = 250
BACKLOG = 150
#: Short time limits, so that many kills take little time.
QUICK_DELIVERY = {"heartbeat_s": 0.5, "silent_s": 3.0, "resend_s": 2.0, "retry_s": 0.2}


class Process:
    """One of the four; restarted as soon as it has crashed."""

    def __init__(self, name: str, config: Path, log: Path) -> None:
        self.name, self.config, self.log = name, config, log
        self.kills: collections.Counter[str] = collections.Counter()
        self.process: subprocess.Popen[bytes] | None = None
        self.dies_at_s = float("inf")

    def keep_up(self, probability: float, random_time_s: float) -> None:
        """Count the crash, start again, and kill at the time that was drawn."""
        if self.process is not None and self.process.poll() is None:
            if time.monotonic() > self.dies_at_s:
                self.send(signal.SIGKILL)
                self.process.wait()
                self.kills["at a random time"] += 1
                self.process = None
            else:
                return
        elif self.process is not None:
            if self.process.returncode != -signal.SIGKILL:
                sys.exit(f"{self.name} ended with {self.process.returncode}; see {self.log}")
            self.kills[re.findall(r"killed at (\S+)", self.log.read_text())[-1]] += 1
        environment = dict(os.environ)
        self.dies_at_s = float("inf")
        if probability:
            environment["NANOSTREAM_FAILPOINTS"] = str(probability)
            if random.random() < 0.15:
                self.dies_at_s = time.monotonic() + random.uniform(0.5, random_time_s)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "nanostream_services", ROLES[self.name]),
                    *("--config", str(self.config), "--with-parent"),
                ],
                stdin=subprocess.PIPE,
                stderr=log,
                env=environment,
            )

    def send(self, number: int) -> None:
        """Send a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def stop(self) -> None:
        """Let it end by itself."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait(60)


def save(folder: Path, sections: int, stored: list[int], seed: int) -> None:
    """Growing stacks of small noisy sections with a dark disc or two, a bounded backlog ahead."""
    rng = np.random.default_rng(seed)
    written = 0
    for number in itertools.count():
        if written >= sections:
            return
        # Every other stack is a movie, so that tracks are killed in the middle too.
        name = f"{'movie' if number % 2 else 'stack'}_{number:04}.mrc"
        with StackWriter(folder / name, pixel_size_nm=0.05, mdoc=number % 3 == 0) as stack:
            for _ in range(min(SECTIONS_PER_STACK, sections - written)):
                while written - stored[0] > BACKLOG:
                    time.sleep(0.05)
                stack.append(small_section(rng))
                written += 1


def small_section(rng: np.random.Generator) -> np.ndarray:
    """A noisy micrograph of 96 x 96 px with a dark disc or two."""
    rows, columns = np.mgrid[:96, :96]
    pixels: np.ndarray = rng.poisson(200.0, rows.shape)
    for y, x in rng.uniform(15, 80, (2, 2)):
        pixels[(rows - y) ** 2 + (columns - x) ** 2 < 100] //= 2
    return pixels.astype(np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--probability", type=float, default=0.004, help="at each fault point")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one if not given")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        sys.exit(0 if run(folder, options) else 1)


def run(folder: Path, options: argparse.Namespace) -> bool:
    start_s = time.monotonic()
    watch, session, config = prepare(folder)
    processes = [Process(name, config, folder / f"{name}.log") for name in ROLES]
    stored = [0]
    writer = threading.Thread(
        target=save, args=(watch, options.sections, stored, options.seed), daemon=True
    )
    writer.start()
    console = Console()
    with Progress(console=console) as bar:
        done = bar.add_task("sections stored or quarantined", total=options.sections)
        killed = bar.add_task("kills", total=options.kills)
        while True:
            kills = sum(process.kills.total() for process in processes)
            finished = kills >= options.kills
            for process in processes:
                process.keep_up(0.0 if finished else options.probability, 20.0)
            stored[0] = settled(session)
            bar.update(done, completed=stored[0])
            bar.update(killed, completed=kills)
            if stored[0] >= options.sections and not writer.is_alive():
                break
            time.sleep(0.2)
        for name in ("worker-1", "worker-2", "agent", "sink"):
            next(process for process in processes if process.name == name).stop()
    whole = report(console, processes, watch, session, time.monotonic() - start_s)
    if kills < options.kills:
        console.print(
            f"fewer than {options.kills}: give more --sections or a greater --probability"
        )
    return whole and kills >= options.kills


def prepare(
    folder: Path, delivery: Mapping[str, float] = QUICK_DELIVERY
) -> tuple[Path, Path, Path]:
    """Watched folder, session folder and configuration, with free ports."""
    watch, session = folder / "microscope", folder / "session"
    watch.mkdir(parents=True)
    config = folder / "config.json"
    config.write_text(
        json.dumps(
            {
                "watch": {"directory": "microscope", "poll_s": 0.5, "mdoc_wait_s": 0.2},
                "network": free_network(),
                "delivery": delivery,
                "sink": {"session": "session"},
                "streams": [{"pattern": "movie_*"}],
            }
        )
    )
    return watch, session, config


def settled(session: Path) -> int:
    """Sections with an end, by now."""
    try:
        opened = ns.open_session(session)
    except SessionError:
        return 0
    return len(opened.section_ids()) + len(opened.quarantine)


def report(
    console: Console, processes: list[Process], watch: Path, session: Path, seconds: float
) -> bool:
    kills: collections.Counter[str] = collections.Counter()
    table = Table("killed at", "times", title=f"{seconds:.0f} s")
    for process in processes:
        for where, times in process.kills.items():
            place = where if "." in where else f"{ROLES[process.name]} {where}"
            kills[place] += times
    for place, times in sorted(kills.items()):
        table.add_row(place, str(times))
    console.print(table)
    console.print(f"{kills.total()} kills")
    found = verified(watch, session)
    whole = found["stored"] + len(found["quarantined"]) == found["acquired"]
    return bool(found["complete"]) and whole


def verified(watch: Path, session: Path) -> dict[str, Any]:
    """Findings of ``nanostream verify``, after printing it in one line."""
    command = [sys.executable, "-m", "nanostream_services", "verify", str(session)]
    command += ["--watch", str(watch), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    lost, doubled, torn = (len(found[name]) for name in ("missing", "doubled", "damaged"))
    print(
        f"{found['acquired']} sections acquired, {found['stored']} stored, "
        f"{len(found['quarantined'])} quarantined: lost {lost}, doubled {doubled}, torn {torn}"
    )
    return found


def print_waits(session: Path) -> None:
    """How long sections waited from the microscope's write to the commit."""
    sections = ns.open_session(session).sections
    waits_s = (sections["stored_s"] - sections["written_s"]).dropna()
    print(
        f"from acquisition to commit: median {waits_s.median():.1f} s, "
        f"longest {waits_s.max():.1f} s"
    )


if __name__ == "__main__":
    main()
