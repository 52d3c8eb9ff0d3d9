"""Many small sections through the pipeline: memory, open files and time per section must stay flat.

::

    python scripts/soak.py --sections 20000

Prints a row per tenth of the way, verifies, starts everything anew and says when each process was
ready again. Exit code 0 only if all is stored, and memory grew by less than a tenth and open files
not at all between the first quarter and the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from kill_matrix import Process, prepare, save, settled
from rich.console import Console
from rich.table import Table

from nanostream.config import load_config
from nanostream.transport.sockets import Subscriber, wait

NAMES = ("agent", "sink", "worker-1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(0 if run(Path(temporary), options) else 1)


def run(folder: Path, options: argparse.Namespace) -> bool:
    watch, session, config = prepare(folder)
    processes = [Process(name, config, folder / f"{name}.log") for name in NAMES]
    stored = [0]
    arguments = (watch, options.sections, stored, options.seed)
    threading.Thread(target=save, args=arguments, daemon=True).start()
    rows: list[list[float]] = []
    table = Table("sections", "ms a section", *(f"{n}: MB, open files" for n in NAMES))
    step, last_s, last = options.sections // 10, time.monotonic(), 0
    while stored[0] < options.sections:
        for process in processes:
            process.keep_up(0.0, 0.0)
        time.sleep(1.0)
        stored[0] = settled(session)
        if stored[0] >= (len(rows) + 1) * step:
            now_s = time.monotonic()
            row = [1000 * (now_s - last_s) / (stored[0] - last)]
            row += [figure for process in processes for figure in usage(process)]
            rows.append(row)
            shown = [
                f"{mb:.0f}, {files:.0f}" for mb, files in zip(row[1::2], row[2::2], strict=True)
            ]
            table.add_row(str(stored[0]), f"{row[0]:.1f}", *shown)
            last_s, last = now_s, stored[0]
            print(f"{stored[0]} sections", flush=True)
    stop(processes)
    Console().print(table)
    print("ready after a restart of everything:", restarted(processes, config, options.sections))
    stop(processes)
    begin, end = rows[2], rows[-1]
    flat = all(end[k] <= 1.1 * begin[k] for k in range(1, len(end), 2))
    flat &= all(end[k] <= begin[k] for k in range(2, len(end), 2))
    verify = [sys.executable, "-m", "nanostream_services", "verify", str(session)]
    verify += ["--watch", str(watch)]
    return subprocess.run(verify, check=False).returncode == 0 and flat


def stop(processes: list[Process]) -> None:
    for name in ("worker-1", "agent", "sink"):
        next(process for process in processes if process.name == name).stop()


def restarted(processes: list[Process], config: Path, sections: int) -> str:
    """Seconds until the sink tells of all that is stored and has heard of agent and worker."""
    news, start_s = Subscriber(load_config(config).network), time.monotonic()
    for process in processes:
        process.process = None
        process.keep_up(0.0, 0.0)
    ready: dict[str, float] = {}
    while len(ready) < len(processes):
        wait([news], 1.0)
        snapshot = news.receive()
        if snapshot is not None and snapshot.stored == sections:
            for role in snapshot.ready:
                ready.setdefault(role, time.monotonic() - start_s)
    news.close()
    return ", ".join(f"{role} {seconds:.1f} s" for role, seconds in ready.items())


def usage(process: Process) -> tuple[float, int]:
    """Resident memory (MB) and open files of a process."""
    assert process.process is not None
    folder = Path("/proc") / str(process.process.pid)
    pages = int((folder / "statm").read_text().split()[1])
    return pages * 4096 / 1e6, len(list((folder / "fd").iterdir()))


if __name__ == "__main__":
    main()
