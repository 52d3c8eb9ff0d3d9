"""Kill one worker over and over, stop the other now and then, and see how long sections wait.

::

    python scripts/two_workers.py --sections 300 --rate 1.5

Agent, sink and two workers run on this machine, with the time limits that a session has by default.
When both workers are ready a stand-in for SerialEM begins to save sections at a steady rate. Worker
1 dies by SIGKILL some seconds after each start, at work or while it still loads the network, and is
started again; worker 2 is stopped (SIGSTOP) for a while, again and again, and is then sometimes
missed, sometimes not. At the end the session is compared with the files: exit code 0 only if every
section is stored, once and whole.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from kill_matrix import Process, prepare, print_waits, settled, verified

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from nanostream.config import load_config
from nanostream.transport.sockets import Subscriber

#: Loading the network takes 5 to 10 s of it.
LIVES_FOR_S = (6.0, 30.0)
RUNS_FOR_S = (5.0, 15.0)
#: A worker is given up after 15 s of silence.
STOPPED_FOR_S = (5.0, 25.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1.5, help="sections a second")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one if not given")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(0 if run(options.folder or Path(temporary), options) else 1)


def run(folder: Path, options: argparse.Namespace) -> bool:
    watch, session, config = prepare(folder, delivery={})
    names = {"sink": "sink", "agent": "agent", "worker-1": "worker", "worker-2": "worker"}
    processes = {name: Process(name, config, folder / f"{name}.log") for name in names}
    killed, stopped = processes["worker-1"], processes["worker-2"]
    images = demo_movie(options.sections, shape=(options.side, options.side), seed=options.seed)
    writer = threading.Thread(
        target=play,
        args=((pixels for pixels, _ in images), watch),
        kwargs={
            "interval_s": 1 / options.rate,
            "pixel_size_nm": DemoMicrograph.load().pixel_size_nm,
        },
        daemon=True,
    )
    news = Subscriber(load_config(config).network)
    stops, stands, turn_at_s = 0, False, float("inf")
    while settled(session) < options.sections or writer.is_alive():
        for process in processes.values():
            process.keep_up(0.0, 0.0)
        now_s = time.monotonic()
        if writer.ident is None:
            snapshot = news.receive()
            workers = [one for one in snapshot.health if one.role == "worker"] if snapshot else []
            if len(workers) == 2 and all(one.ready_s is not None for one in workers):
                writer.start()
                turn_at_s = now_s
        elif killed.dies_at_s == float("inf"):  # just started
            killed.dies_at_s = now_s + random.uniform(*LIVES_FOR_S)
        if now_s > turn_at_s:
            stands = not stands
            stops += stands
            stopped.send(signal.SIGSTOP if stands else signal.SIGCONT)
            turn_at_s = now_s + random.uniform(*(STOPPED_FOR_S if stands else RUNS_FOR_S))
        time.sleep(0.1)
    news.close()
    stopped.send(signal.SIGCONT)
    for process in reversed(processes.values()):
        process.stop()
    print(f"worker 1 killed {killed.kills.total()} times, worker 2 stopped {stops} times")
    print_waits(session)
    found = verified(watch, session)
    return bool(found["complete"]) and found["stored"] == found["acquired"]


if __name__ == "__main__":
    main()
