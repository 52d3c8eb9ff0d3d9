"""A real session in its own processes, to watch and to kill. A test factory, not a test."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import nanostream as ns
from nanostream.config import load_config
from nanostream.records import Role
from nanostream.results.folders import DATABASE
from nanostream.results.session import Session
from nanostream.transport.sockets import Subscriber, free_network
from tests.waiting import LONGEST_S, pause, until


def nanostream(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "nanostream_services", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )


class RunningSession:
    """``nanostream run`` on free ports; `stop` is Ctrl-C."""

    def __init__(self, folder: Path, *options: object, config: str = "") -> None:
        self.watch, self.out = folder / "microscope", folder / "session"
        self.watch.mkdir(parents=True, exist_ok=True)
        ports = "".join(f"{key} = {port}\n" for key, port in free_network().items())
        file = folder / "test.toml"
        file.write_text(f"[network]\n{ports}{config}")
        arguments = ["run", self.watch, "--out", self.out, "--config", file, "--plain", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nanostream_services", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> RunningSession:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def session(self) -> Session:
        return ns.open_session(self.out)

    def quarantined(self) -> int:
        return self._rows(DATABASE, "quarantine")

    def stored(self) -> int:
        return self._rows(DATABASE, "sections")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it while the session stores, gives up or logs anything."""

        def turn() -> None:
            assert self.process.poll() is None, f"the session ended: {self.logs()}"
            pause()

        until(condition, what, turn=turn, seen=self.progress)

    def progress(self) -> str:
        """Counts of stored, quarantined and found sections, and the logs until now."""
        counts = f"stored {self.stored()}, quarantined {self.quarantined()}, found {self.found()}"
        return f"{counts}\n{self.logs()}"

    def wait_for_ready(self, role: Role, count: int = 1) -> None:
        """Wait until so many processes of a role have reported themselves ready."""
        self.wait_until((self.out / "config.json").exists, "the configuration")
        with closing(Subscriber(load_config(self.out / "config.json").network)) as news:

            def ready() -> bool:
                snapshot = news.receive()
                health = snapshot.health if snapshot is not None else ()
                found = [one for one in health if one.role == role and one.ready_s is not None]
                return len(found) >= count

            self.wait_until(ready, f"{count} {role} to be ready")

    def wait_for_stored(self, sections: int) -> None:
        self.wait_until(lambda: self.stored() >= sections, f"{sections} stored sections")

    def pid(self, role: str) -> int | None:
        """Process id of a child, by its command line."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except (OSError, IndexError):
                    continue
                if role.encode() in line and parent == self.process.pid:
                    return int(entry.name)
        return None

    def kill(self, role: str) -> None:
        """``kill -9`` of a process of the session."""
        self._send(role, signal.SIGKILL)

    @contextmanager
    def standing_still(self, role: str) -> Iterator[None]:
        """A time in which a process gets no processor time."""
        self._send(role, signal.SIGSTOP)
        try:
            yield
        finally:
            self._send(role, signal.SIGCONT)

    def before_work(self) -> AbstractContextManager[None]:
        """A time in which the agent watches and no worker gets a section: the sink stands still.

        To be entered at once: it stops the sink while that starts.
        """
        return self.standing_still("sink")

    def _send(self, role: str, number: int) -> None:
        self.wait_until(lambda: self.pid(role) is not None, f"a {role}")
        pid = self.pid(role)
        assert pid is not None
        os.kill(pid, number)

    def found(self) -> int:
        """Sections that the agent has found and that have no end."""
        return self._rows("ledger.db", "sections WHERE state = 'found'")

    def _rows(self, database: str, of: str) -> int:
        """Number of rows, asked for again and again: `Session` would make tables of them."""
        try:
            with closing(sqlite3.connect(f"file:{self.out / database}?mode=ro", uri=True)) as db:
                return int(db.execute(f"SELECT count(*) FROM {of}").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Wait for the end, and the exit code."""
        self.output, _ = self.process.communicate(timeout=LONGEST_S)
        return self.process.returncode

    def logs(self) -> str:
        texts = [
            f"--- {path.name}\n{path.read_text()[-2000:]}"
            for path in sorted((self.out / "logs").glob("*.log"))
        ]
        return "\n".join(texts)
