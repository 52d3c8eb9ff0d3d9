"""Cut the link between two machines for a minute, spoil its packets, and count what is lost.

::

    sudo python scripts/network.py                             (about four minutes)
    sudo python scripts/network.py --loss 0 --reorder 0 --duplicate 0 --delay 0 --cut 60
    sudo python scripts/network.py --cut 0

Two network namespaces stand for two machines: agent and sink on the one, worker and dashboard on
the other, each with keys of its own. Between their network cards runs a cable that this process
holds: it carries every packet, or loses it, delays it, lets it overtake others, delivers it twice
(what ``tc netem`` does, which not every kernel has), and carries none at all while the link is cut.
TCP, CURVE and ZeroMQ above it are the real ones. At the end the session is compared with the files:
exit code 0 only if every section is stored, once and whole.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from kill_matrix import print_waits, settled, verified

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play

ADDRESSES = {"camera-pc": "10.77.0.1", "gpu-box": "10.77.0.2"}
NANOSTREAM = [sys.executable, "-m", "nanostream_services"]
# linux/if_tun.h: a file that is a network card without Ethernet, packets without a prefix.
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
ROLES = {
    "sink": "camera-pc",
    "agent": "camera-pc",
    "worker": "gpu-box",
    "dashboard": "gpu-box",
}
Processes = dict[str, subprocess.Popen[bytes]]
LONGEST_PACKET_BYTES = 65536
#: What would wait longer for a slow cable is lost, as in a switch.
LONGEST_QUEUE_S = 0.5
#: After the last section was saved, with the link in order.
PATIENCE_S = 300.0


class Cable:
    """Carries packets from each of two network cards to the other, as badly as told.

    Parameters
    ----------
    cards : tuple of int
        Open files.
    options : Namespace
        ``loss``, ``reorder``, ``duplicate`` in percent of the packets, ``delay`` in ms,
        ``bandwidth`` in Mbit/s each way; what is reordered is not delayed.
    """

    def __init__(self, cards: tuple[int, int], options: argparse.Namespace) -> None:
        self._other = dict(zip(cards, reversed(cards), strict=True))
        self._options = options
        self._random = random.Random(options.seed)
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._busy_until_s = dict.fromkeys(cards, 0.0)
        self._over = threading.Event()
        self.cut = threading.Event()
        self.packets: Counter[str] = Counter()

    @contextlib.contextmanager
    def laid(self) -> Iterator[Cable]:
        """In place while the block runs."""
        thread = threading.Thread(target=self._carry, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _carry(self) -> None:
        while not self._over.is_set():
            due_s = self._under_way[0][0] - time.monotonic() if self._under_way else 1.0
            ready, _, _ = select.select(list(self._other), [], [], min(max(due_s, 0.0), 0.1))
            for card in ready:
                self._take(self._other[card], os.read(card, LONGEST_PACKET_BYTES))
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, _, card, packet = heapq.heappop(self._under_way)
                self._deliver(card, packet)

    def _take(self, card: int, packet: bytes) -> None:
        """Draw what becomes of a packet for a card."""
        due_s = max(time.monotonic(), self._busy_until_s[card])
        if self._chance(self._options.loss) or due_s - time.monotonic() > LONGEST_QUEUE_S:
            self.packets["lost"] += 1
            return
        if self._options.bandwidth:
            due_s += len(packet) * 8e-6 / self._options.bandwidth
            self._busy_until_s[card] = due_s
        if self._options.delay and self._chance(self._options.reorder):
            self.packets["overtaking"] += 1
        else:
            due_s += self._options.delay / 1000
        twice = self._chance(self._options.duplicate)
        self.packets["doubled"] += twice
        for _ in range(1 + twice):
            self.packets["under way"] += 1
            heapq.heappush(self._under_way, (due_s, self.packets["under way"], card, packet))

    def _deliver(self, card: int, packet: bytes) -> None:
        if self.cut.is_set():
            self.packets["lost in the cut"] += 1
            return
        with contextlib.suppress(BlockingIOError):  # the card's queue is full: lost too
            os.write(card, packet)
            self.packets["delivered"] += 1

    def _chance(self, percent: float) -> bool:
        return self._random.random() < percent / 100


def run_ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[dict[str, str], tuple[int, int]]]:
    """Two namespaces (by the names of the machines) and their network cards; gone afterwards."""
    namespaces = {machine: f"ns{os.getpid()}-{machine}" for machine in ADDRESSES}
    cards: list[int] = []
    try:
        for number, (machine, namespace) in enumerate(namespaces.items()):
            name = f"ns{os.getpid()}-{number}"
            card = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            cards.append(card)
            fcntl.ioctl(card, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
            run_ip("netns", "add", namespace)
            run_ip("link", "set", name, "netns", namespace)
            run_ip("-n", namespace, "addr", "add", f"{ADDRESSES[machine]}/24", "dev", name)
            run_ip("-n", namespace, "link", "set", name, "up")
            run_ip("-n", namespace, "link", "set", "lo", "up")
        yield namespaces, (cards[0], cards[1])
    finally:
        for card in cards:
            os.close(card)
        for namespace in namespaces.values():
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def needed() -> str:
    """Things that this machine lacks for the test; empty if none."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return "network namespaces: Linux, and the command ip (iproute2)"
    if os.geteuid() != 0:
        return "the rights to make network namespaces: start it as root (sudo)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun, for the cable between the namespaces"
    return ""


def exchange_keys(folder: Path) -> dict[str, Path]:
    """A key folder for each machine, made and exchanged as a user does it."""
    keys = {machine: folder / machine / "keys" for machine in ADDRESSES}
    commands: list[list[str | Path]] = [["create", own] for own in keys.values()]
    for machine, own in keys.items():
        for other, public in keys.items():
            if other != machine:
                commands.append(["allow", own, public / "own.public", "--name", other])
    for command in commands:
        subprocess.run([*NANOSTREAM, "keys", *command], check=True, stdout=subprocess.DEVNULL)
    return keys


def write_configs(folder: Path) -> dict[str, Path]:
    """One file for each machine, with the time limits that a session has by default."""
    server = ADDRESSES["camera-pc"]
    hosts = dict.fromkeys(("frames_host", "results_host", "snapshots_host"), server)
    configs = {}
    for machine, keys in exchange_keys(folder).items():
        network: dict[str, object] = {**hosts, "keys": str(keys)}
        if machine != "camera-pc":
            network |= {"frames_server": "camera-pc", "results_server": "camera-pc"}
        configs[machine] = folder / machine / "config.json"
        configs[machine].write_text(
            json.dumps(
                {
                    "watch": {"directory": str(folder / "microscope"), "poll_s": 0.5},
                    "sink": {"session": str(folder / "session")},
                    "network": network,
                }
            )
        )
    return configs


@contextlib.contextmanager
def running(folder: Path, namespaces: dict[str, str]) -> Iterator[Processes]:
    """Sink and agent on one machine, worker and dashboard on the other; ended in any case."""
    configs = write_configs(folder)
    processes: Processes = {}
    try:
        for role, machine in ROLES.items():
            command = [*NANOSTREAM, role, "--config", str(configs[machine]), "--with-parent"]
            if role == "dashboard":
                command.append("--plain")
            with (folder / f"{role}.log").open("wb") as log:
                processes[role] = subprocess.Popen(
                    ["ip", "netns", "exec", namespaces[machine], *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                )
        yield processes
    finally:
        for process in reversed(processes.values()):
            try:
                process.communicate(timeout=30)  # the end of its input tells it to stop
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(folder: Path, options: argparse.Namespace) -> bool:
    watch, session = folder / "microscope", folder / "session"
    watch.mkdir(parents=True)
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
    with (
        two_machines() as (namespaces, cards),
        Cable(cards, options).laid() as cable,
        running(folder, namespaces) as processes,
    ):
        wait_until(lambda: "is here" in (folder / "agent.log").read_text("utf-8"), processes)
        writer.start()
        wait_until(lambda: settled(session) >= 3, processes)
        if options.cut:
            cut_link(cable, session, options.cut, processes)
        wait_until(lambda: not writer.is_alive(), processes)
        wait_until(lambda: settled(session) >= options.sections, processes)
        time.sleep(3.0)  # the last snapshots
    shown = (folder / "dashboard.log").read_text("utf-8").strip().splitlines()
    print(f"the dashboard's last line: {shown[-1] if shown else 'none'}")
    print(f"packets: {', '.join(f'{number} {what}' for what, number in cable.packets.items())}")
    print_waits(session)
    found = verified(watch, session)
    return bool(found["complete"]) and found["stored"] == found["acquired"]


def cut_link(cable: Cable, session: Path, seconds: float, processes: Processes) -> None:
    before, start_s = settled(session), time.monotonic()
    cable.cut.set()
    time.sleep(seconds)
    after, end_s = settled(session), time.monotonic()
    cable.cut.clear()
    print(f"link cut for {end_s - start_s:.1f} s: {before} sections stored before, {after} after")
    wait_until(lambda: settled(session) > after, processes)
    print(f"next section stored {time.monotonic() - end_s:.1f} s after the link was back")


def wait_until(condition: Callable[[], bool], processes: Processes) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline_s:
        for role, process in processes.items():
            if process.poll() is not None:
                sys.exit(f"the {role} ended with {process.returncode}; see its log")
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=int, default=120)
    parser.add_argument("--rate", type=float, default=1.0, help="sections a second")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--cut", type=float, default=60.0, help="seconds; 0: not at all")
    parser.add_argument("--loss", type=float, default=5.0, help="percent of the packets")
    parser.add_argument("--reorder", type=float, default=25.0, help="percent of the packets")
    parser.add_argument("--duplicate", type=float, default=1.0, help="percent of the packets")
    parser.add_argument("--delay", type=float, default=20.0, help="ms")
    parser.add_argument("--bandwidth", type=float, default=0.0, help="Mbit/s; 0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one if not given")
    options = parser.parse_args()
    if lacking := needed():
        print(f"this needs {lacking}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the namespaces go in any case
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(0 if run(options.folder or Path(temporary), options) else 1)


if __name__ == "__main__":
    main()
