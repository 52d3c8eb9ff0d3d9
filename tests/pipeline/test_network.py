"""Between the machines: a link that is cut, slow, and loses what it has taken."""

import contextlib
import json
import select
import socket
import subprocess
import sys
import threading
import time

import pytest

import nanostream as ns
from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from nanostream.errors import SessionError
from nanostream.transport.sockets import free_ports
from tests.pipeline.running import PATIENCE_S, nanostream

pytestmark = pytest.mark.timeout(180)

CUT_FOR_S = 6.0


class Link(threading.Thread):
    """A TCP link from a port of its own to another; what it holds when it is cut is lost."""

    def __init__(self, to_port):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to_port = to_port
        self.cut = threading.Event()
        self.over = threading.Event()
        self.bytes_lost = 0
        self.start()

    def run(self):
        pairs = {}
        while not self.over.is_set():
            if self.cut.is_set():
                self.drop(pairs)
            ready, _, _ = select.select([self.listener, *pairs], [], [], 0.05)
            for one in ready:
                if one is self.listener:
                    self.accept(pairs)
                elif one in pairs:
                    self.carry(one, pairs)
        self.drop(pairs)
        self.listener.close()

    def accept(self, pairs):
        near, _ = self.listener.accept()
        if self.cut.is_set():
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.to_port), 1.0)
        except OSError:
            near.close()
            return
        pairs[near], pairs[far] = far, near

    def carry(self, one, pairs):
        other = pairs[one]
        try:
            data = one.recv(65536)
            if self.cut.is_set():
                self.bytes_lost += len(data)
                return
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            pairs.pop(end, None)
            end.close()

    def drop(self, pairs):
        for end in list(pairs):
            with contextlib.suppress(OSError):
                end.setblocking(False)
                self.bytes_lost += len(end.recv(2**24))
            end.close()
        pairs.clear()


@pytest.fixture
def processes():
    """Start services, and end them whatever happens."""
    running = []

    def start(role, config):
        arguments = [sys.executable, "-m", "nanostream_services", role, "--config", str(config)]
        running.append(
            subprocess.Popen([*arguments, "--with-parent"], stdin=subprocess.PIPE, stderr=-3)
        )

    yield start
    for process in reversed(running):
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def stored(session):
    try:
        return len(ns.open_session(session).section_ids())
    except SessionError:
        return 0


def wait_for(sections, session):
    deadline_s = time.monotonic() + PATIENCE_S
    while stored(session) < sections:
        assert time.monotonic() < deadline_s, f"{stored(session)} of {sections} stored"
        time.sleep(0.05)


def test_a_link_that_is_cut_in_the_middle_loses_and_doubles_nothing(tmp_path, processes):
    frames, results, snapshots = free_ports(3)
    links = [Link(frames), Link(results)]
    common = {
        "watch": {"directory": "microscope", "poll_s": 0.2},
        "sink": {"session": "session"},
        "delivery": {"heartbeat_s": 0.5, "silent_s": 3.0, "resend_s": 2.0},
    }
    here = {"frames_port": frames, "results_port": results, "snapshots_port": snapshots}
    away = {"frames_port": links[0].port, "results_port": links[1].port}
    for name, network in (("here.json", here), ("away.json", here | away)):
        (tmp_path / name).write_text(json.dumps(common | {"network": network}))
    watch, session = tmp_path / "microscope", tmp_path / "session"
    watch.mkdir()
    for role, config in (("sink", "here"), ("agent", "here"), ("worker", "away")):
        processes(role, tmp_path / f"{config}.json")

    images = [pixels for pixels, _ in demo_movie(24, shape=(512, 512), seed=3)]
    options = {"interval_s": 0.25, "pixel_size_nm": DemoMicrograph.load().pixel_size_nm}
    play(images[:4], watch, name="before", **options)
    wait_for(4, session)
    writer = threading.Thread(
        target=play, args=(images[4:], watch), kwargs={"name": "during", **options}
    )
    writer.start()
    wait_for(7, session)
    for link in links:
        link.cut.set()
    time.sleep(CUT_FOR_S)
    at_the_cut = stored(session)
    assert at_the_cut < 24
    for link in links:
        link.cut.clear()
    writer.join()
    wait_for(24, session)
    for link in links:
        link.over.set()
    done = nanostream("verify", session, "--watch", watch, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["stored"], found["quarantined"]) == (0, 24, [])
