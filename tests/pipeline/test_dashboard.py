"""The dashboard in a real terminal and through a real pipe, fed by a real publisher."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from nanostream.records import Health, Snapshot, Summary
from nanostream.transport.sockets import Publisher, free_ports

TIMEOUT_S = 30.0
DASHBOARD = """
import sys
from nanostream.config import Config, Network
from nanostream_services.dashboard import run_dashboard
from nanostream_services.loop import stopping
with stopping() as stop:
    run_dashboard(
        Config(network=Network(snapshots_port=int(sys.argv[1]))), stop, plain="plain" in sys.argv
    )
print("left in peace")
"""
SNAPSHOT = Snapshot(
    session="gold_on_carbon",
    time_s=1.8e9,
    seen=12,
    stored=11,
    waiting=1,
    last_section="gold.mrc#3",
    last_summary=Summary(37, 5, 0.123, 84.2, 81.0, 4.21, 4.05),
    mask=b"\x01" * 4096,
    mask_shape=(64, 64),
    diameter_edges=(0.0, 1.0, 2.0),
    diameter_counts=(3, 4),
    health=(Health("worker-1", "ok", 0.1),),
    messages=("session opened",),
)


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


class Terminal:
    """A tmux server of its own with one 80x24 window."""

    def __init__(self, *, width: int = 80, height: int = 24) -> None:
        self._server = f"nanostream-test-{uuid.uuid4().hex}"
        self._tmux("-u", "new-session", "-d", "-x", str(width), "-y", str(height), "sh")
        self._tmux("set-option", "-g", "status", "off")

    def _tmux(self, *words: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self._server, "-f", "/dev/null", *words],
            check=True,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ).stdout

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def interrupt(self) -> None:
        self._tmux("send-keys", "C-c")

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def lines(self) -> list[str]:
        return self._tmux("capture-pane", "-p").split("\n")[:-1]

    def text(self) -> str:
        return "\n".join(self.lines())

    def flag(self, name: str) -> bool:
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip() == "1"

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: the dashboard is not tried in a real terminal")
    with closing(Terminal()) as terminal:
        yield terminal


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "dashboard.py"
    path.write_text(DASHBOARD, encoding="utf-8")
    return path


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONIOENCODING": "utf-8",
    }


def until(seen: Callable[[], bool], publish: Callable[[], None] = lambda: None) -> None:
    """Publish again and again, as the sink does, until it is seen."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not seen():
        assert time.monotonic() < deadline_s, "not seen in time"
        publish()
        time.sleep(0.1)


@pytest.mark.timeout(180)
def test_a_terminal_session_from_waiting_to_restored(
    terminal: Terminal, script: Path, port: int
) -> None:
    terminal.type(f"export PYTHONPATH='{environment()['PYTHONPATH']}'; echo before")
    terminal.type(f"{sys.executable} {script} {port}")
    until(lambda: f"waiting for the sink at 127.0.0.1:{port}" in terminal.text())
    assert terminal.flag("alternate_on")

    with closing(Publisher("127.0.0.1", port)) as sink:
        until(lambda: "37 particles" in terminal.text(), lambda: sink.send(SNAPSHOT))
        lines = terminal.lines()
        assert "gold_on_carbon" in lines[0]
        assert lines[0].rstrip().endswith("live")
        assert lines[-1].startswith("╰")
        assert lines[-1].endswith("╯")
        assert "█" * 10 in terminal.text()

        terminal.resize(120, 40)
        until(lambda: terminal.lines()[-1].endswith("╯"), lambda: sink.send(SNAPSHOT))
        assert len(terminal.lines()[-1]) == 120

    until(lambda: "no news for" in terminal.text())
    with closing(Publisher("127.0.0.1", port)) as sink:
        back = replace(SNAPSHOT, stored=12, waiting=0)
        until(lambda: "live" in terminal.lines()[0], lambda: sink.send(back))

    terminal.interrupt()
    until(lambda: "left in peace" in terminal.text())
    assert "before" in terminal.text()
    assert "╰" not in terminal.text()
    assert not terminal.flag("alternate_on")
    assert terminal.flag("cursor_flag")


def plain_dashboard(script: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
    )


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or words not in lines[-1]:
        line = process.stdout.readline()
        assert line, f"ended before {words!r}: {lines}"
        lines.append(line.rstrip("\n"))
    return lines


def test_without_a_terminal_there_are_log_lines(script: Path, port: int) -> None:
    with plain_dashboard(script, port) as process:
        try:
            read_until(process, f"waiting for the sink at 127.0.0.1:{port}")
            with closing(Publisher("127.0.0.1", port)) as sink:
                for k in range(20):  # until the subscription has arrived
                    time.sleep(0.1)
                    sink.send(SNAPSHOT)
                    last_is_sure = replace(SNAPSHOT, stored=12, last_section=f"µ {k} é 漢.mrc#4")
                sink.send(last_is_sure)
                lines = read_until(process, "漢.mrc#4")
                process.send_signal(signal.SIGTERM)
                output, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert output == "left in peace\n"
    assert errors == ""
    assert [line for line in lines if "session opened" in line] == [lines[0]]
    assert len([line for line in lines if "gold.mrc#3" in line]) == 1
    assert "37 particles  mean 4.21 nm" in lines[-1]
    assert not any("\x1b" in line for line in lines)


def test_a_reader_that_leaves_ends_the_dashboard_without_noise(script: Path, port: int) -> None:
    with plain_dashboard(script, port) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            read_until(process, "waiting")
            process.stdout.close()
            with closing(Publisher("127.0.0.1", port)) as sink:
                until(lambda: process.poll() is not None, lambda: sink.send(SNAPSHOT))
            errors = process.stderr.read()
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
