"""The dashboard in a real terminal and through a real pipe, fed by a real publisher."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest
from msgspec.structs import replace

from nanostream.config import Network
from nanostream.records import Health, Snapshot, State, Summary
from nanostream.transport.sockets import Publisher, free_ports
from tests import waiting
from tests.waiting import PATIENCE_S, pause

DASHBOARD = """
import sys
from nanostream.config import Config, Network
from nanostream_services.processes.dashboard import run_dashboard
from nanostream_services.processes.lifecycle import stopping
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
    health=(Health("worker-1", "worker", State.READY, 0.1),),
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
            timeout=PATIENCE_S,
            # pytest-xdist sets COLUMNS and LINES, which would outlast a resize.
            env={k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
            | {"LC_ALL": "C.UTF-8"},
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


class Window(Protocol):
    """The command that shows a dashboard."""

    def text(self) -> str: ...


def until(
    seen: Callable[[], bool], window: Window, publish: Callable[[], None] = lambda: None
) -> None:
    """Publish again and again, as the sink does, until it is seen."""

    def turn() -> None:
        publish()
        pause()

    waiting.until(seen, "what the dashboard shows", turn=turn, seen=window.text)


def test_a_terminal_session_from_waiting_to_restored(
    terminal: Terminal, script: Path, port: int
) -> None:
    terminal.type(f"export PYTHONPATH='{environment()['PYTHONPATH']}'; echo before")
    terminal.type(f"{sys.executable} {script} {port}")
    until(lambda: f"waiting for the sink at 127.0.0.1:{port}" in terminal.text(), terminal)
    assert terminal.flag("alternate_on")

    with closing(Publisher(Network(snapshots_port=port))) as sink:
        shown: list[str] = []

        def live() -> bool:
            shown[:] = terminal.lines()
            whole = shown[0].rstrip().endswith("live") and shown[-1].startswith("╰")
            return "37 particles" in "\n".join(shown) and whole

        until(live, terminal, lambda: sink.send(SNAPSHOT))
        assert "gold_on_carbon" in shown[0]
        assert shown[-1].endswith("╯")
        assert "█" * 10 in "\n".join(shown)

        terminal.resize(120, 40)
        # Drawn anew in its new width.
        until(
            lambda: (line := terminal.lines()[-1]).endswith("╯") and len(line) == 120,
            terminal,
            lambda: sink.send(SNAPSHOT),
        )

    until(lambda: "no news for" in terminal.text(), terminal)
    with closing(Publisher(Network(snapshots_port=port))) as sink:
        back = replace(SNAPSHOT, stored=12, waiting=0)
        until(lambda: "live" in terminal.lines()[0], terminal, lambda: sink.send(back))

    terminal.interrupt()
    until(lambda: "left in peace" in terminal.text(), terminal)
    assert "before" in terminal.text()
    assert "╰" not in terminal.text()
    assert not terminal.flag("alternate_on")
    assert terminal.flag("cursor_flag")


class PlainDashboard:
    """A dashboard that writes into a pipe, and the lines that came out of it."""

    def __init__(self, script: Path, port: int) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def read(self) -> None:
        """Collect lines from now on."""
        self._reader.start()

    def text(self) -> str:
        return "\n".join(self.lines)

    def says(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def ended(self) -> tuple[int, str]:
        """Exit code and standard error, once it has ended."""
        code = self.process.wait(PATIENCE_S)
        if self._reader.ident is not None:
            self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()

    def close(self) -> None:
        self.process.kill()
        if self._reader.ident is not None:
            self._reader.join(PATIENCE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def test_without_a_terminal_there_are_log_lines(script: Path, port: int) -> None:
    with (
        closing(PlainDashboard(script, port)) as dashboard,
        closing(Publisher(Network(snapshots_port=port))) as sink,
    ):
        dashboard.read()
        until(
            lambda: dashboard.says("gold.mrc#3  37 particles"),
            dashboard,
            lambda: sink.send(SNAPSHOT),
        )
        fourth = replace(SNAPSHOT, stored=12, last_section="µ é 漢.mrc#4")
        until(lambda: dashboard.says("漢.mrc#4"), dashboard, lambda: sink.send(fourth))
        dashboard.process.send_signal(signal.SIGTERM)
        assert dashboard.ended() == (0, "")
    counts = [
        sum(words in line for line in dashboard.lines)
        for words in ("session opened", "gold.mrc#3", "漢.mrc#4")
    ]
    assert counts == [1, 1, 1]
    assert dashboard.lines[-1] == "left in peace"
    assert not dashboard.says("\x1b")


def test_a_reader_that_leaves_ends_the_dashboard_without_noise(script: Path, port: int) -> None:
    with closing(PlainDashboard(script, port)) as dashboard:
        stdout = dashboard.process.stdout
        assert stdout is not None
        assert f"waiting for the sink at 127.0.0.1:{port}" in stdout.readline()
        stdout.close()
        with closing(Publisher(Network(snapshots_port=port))) as sink:
            until(
                lambda: dashboard.process.poll() is not None,
                dashboard,
                lambda: sink.send(SNAPSHOT),
            )
        code, errors = dashboard.ended()
        assert code == 0
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors
