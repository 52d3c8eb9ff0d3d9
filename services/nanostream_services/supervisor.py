"""The supervisor: starts agent, worker, sink and dashboard of a session, restarts the crashed.

Each is a process of its own. A process that crashes is restarted after a pause that doubles each
time, for as long as the session runs; only one that has never been ready, because it refuses its
configuration or cannot start, ends the session, with the last line of its log as the message. A
dashboard that leaves is not missed. The children hold the other end of a pipe from this process, so
none outlives it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from nanostream.config import Config, Network, override
from nanostream.errors import ConfigError, SessionError
from nanostream.records import Role, Snapshot
from nanostream.results.folders import check_folder, lock
from nanostream.transport.messages import MAX_TEXT, Crashed, Pong
from nanostream.transport.sockets import Client, Subscriber, check_free, free_network, wait
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop
from nanostream_services.processes.outbox import Outbox

__all__ = ["WRONG_USE", "Crash", "run_session", "write_config"]

logger = logging.getLogger(__name__)

Done = Callable[[Snapshot, Mapping[str, int]], bool]

#: Exit code of a process that refuses its configuration or arguments.
WRONG_USE = 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
#: After so long without a crash the pauses begin anew.
_STEADY_S = 60.0
#: A process that never was ready is restarted so often.
_MOST_CRASHES = 5
_LONGEST_STOP_S = 30.0


class Crash(NamedTuple):
    """A process that ended by itself and is restarted after a pause.

    Attributes
    ----------
    role : str
        Its part in the session.
    code : int
        Its exit code.
    reason : str
        For a person; empty if the process gave none.
    pause_s : float
        Time until it is started again.
    process_id : int
        It had.
    """

    role: str
    code: int
    reason: str
    pause_s: float
    process_id: int = 0

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"the {self.role} ended with code {self.code}{why}; restart in {self.pause_s:g} s"


@dataclass
class _Child:
    role: str
    arguments: Sequence[str]
    log: Path
    shows: bool = False
    #: It has reported itself ready, so its configuration is good; it is restarted for ever.
    proven: bool = False
    left: bool = False
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    crashes: int = 0
    start_at_s: float = field(default=0.0)

    def start(self) -> None:
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows only
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nanostream_services", *self.arguments],
                stdin=subprocess.PIPE,
                stdout=None if self.shows else log,
                stderr=log,
                # Ctrl-C is for the supervisor; it stops the others in order.
                start_new_session=sys.platform != "win32",
                creationflags=flags,
            )
        self.started_s = time.monotonic()

    def tell(self) -> None:
        """Ask to stop when all that was acquired has its end."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):  # it has just crashed
                self.process.stdin.write(b".")
                self.process.stdin.flush()

    def stop(self) -> None:
        """Ask to stop by the end of its input, insist after a while."""
        process = self.process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(_LONGEST_STOP_S)
        except subprocess.TimeoutExpired:
            logger.warning("%s did not stop within %.0f s; killed", self.role, _LONGEST_STOP_S)
            process.kill()
            process.wait()


def run_session(
    config: Config,
    stop: Stop,
    *,
    plain: bool = False,
    show: bool = True,
    done: Done | None = None,
    worker: Path | None = None,
) -> list[Crash]:
    """Crashes of a session, which runs until told to stop, or until ``done`` says so.

    Parameters
    ----------
    config : Config
        With folder to watch and session folder.
    stop : Stop
        Set by Ctrl-C; a second one while a session is drained leaves what is left.
    plain : bool
        Lines instead of the dashboard.
    show : bool
        Whether there is a dashboard at all.
    done : callable, optional
        Asked with each snapshot, and the process id of each role that runs, whether the session
        has come to its end.
    worker : Path, optional
        A configuration of its own for the worker, if it goes another way than the others.

    Returns
    -------
    list of Crash
        Processes that ended by themselves and were restarted, in order.

    Raises
    ------
    ConfigError
        If a port is taken, or a process refuses to start; then the message is its own.
    SessionError
        If the session is in use by another nanostream, or its folder cannot be used.
    """
    session = Path(config.sink.session)
    check_folder(session)
    with ExitStack() as held:
        held.enter_context(closing(lock(session / "run.lock")))
        config, moved = _on_free_ports(config, held)
        (session / "logs").mkdir(parents=True, exist_ok=True)
        written = session / "config.json"
        write_config(config, written)
        # In this order they are started: the worker takes longest until it is ready.
        configs = {"worker": worker or written, "sink": written, "agent": written}
        if show:
            configs["dashboard"] = written
        supervisor = _Supervisor(config, _children(session, configs, plain=plain))
        supervisor.report(moved)
        supervisor.run(stop, done)
        return supervisor.crashes


def _on_free_ports(config: Config, held: ExitStack) -> tuple[Config, str]:
    """The configuration on ports that are free, and what to report if they are not the usual ones.

    The usual ones go to one session of a user at a time: two that start together would both find
    them free, seconds before their processes take them.

    Raises
    ------
    ConfigError
        If ports that somebody has chosen are taken.
    """
    try:
        check_free(config.network)
        if config.network == Network():
            held.enter_context(closing(lock(_usual_ports())))
    except (ConfigError, SessionError):
        if config.network != Network():
            raise
        network = free_network()
        queries = network["queries_port"]
        return override(config, network=network), (
            "the usual ports are taken, perhaps by another session: this one has others, from "
            f"{min(network.values())} to {max(network.values())}; scripts in SerialEM need "
            f"port {queries}"
        )
    return config, ""


def _usual_ports() -> Path:
    """File that is locked by the session which has the usual ports; one for each user.

    In the folder for temporary files: on this machine's own disk, unlike many a home.
    """
    user = os.getuid() if sys.platform != "win32" else ""  # Windows has a folder for each
    return Path(tempfile.gettempdir()) / f"nanostream-{user}.lock"


def write_config(config: Config, file: Path) -> None:
    """Write a configuration as a process is given it (JSON)."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))


def _children(session: Path, configs: Mapping[str, Path], *, plain: bool) -> list[_Child]:
    return [
        _Child(
            role,
            (
                *(role, "--config", str(config), "--with-parent"),
                *(["--plain"] if plain and role == "dashboard" else []),
            ),
            session / "logs" / f"{role}.log",
            shows=role == "dashboard",
        )
        for role, config in configs.items()
    ]


class _Supervisor:
    def __init__(self, config: Config, children: Sequence[_Child]) -> None:
        self._session, self._at_stop = config.sink.session, config.delivery.at_stop
        self._children = children
        self._news = Subscriber(config.network)
        name = f"run-{os.getpid()}-{time.time_ns()}"
        self._sink = Client(config.network, "results", name=name, largest_bytes=2**20)
        self._events = Outbox()
        self._next_report_s = 0.0
        self.crashes: list[Crash] = []

    def report(self, text: str) -> None:
        """Report an event to the operator."""
        if text:
            logger.warning("%s", text)
            self._events.add(text)

    def run(self, stop: Stop, done: Done | None) -> None:
        try:
            while not stop.is_set():
                self._turn(self._children)
                snapshot = self._news.receive()
                if snapshot is None or snapshot.session != self._session:
                    continue
                for child in self._children:
                    child.proven |= child.role in snapshot.ready
                if done is not None and done(snapshot, _running(self._children)):
                    break
            else:
                if self._at_stop == "drain":
                    self._drain(stop)
        finally:
            self._news.close()
            self._sink.close()
            for role in ("worker", "agent", "sink", "dashboard"):
                for child in self._children:
                    if child.role == role:
                        child.stop()

    def _turn(self, children: Sequence[_Child]) -> None:
        for child in children:
            if crash := _keep_up(child):
                self.report(str(crash))
                self._tell(crash)
                self.crashes.append(crash)
        wait([self._news, self._sink], LONGEST_WAIT_S)
        self._report()

    def _drain(self, stop: Stop) -> None:
        """Let the agent finish what was acquired, the others working, unless somebody insists."""
        agent = next(child for child in self._children if child.role == "agent")
        told = None
        while not stop.insisted.is_set():
            process = agent.process
            if process is not None and process.poll() == 0:
                return
            if process is not told:  # also one that had to be restarted
                agent.tell()
                told = process
            self._turn(self._children)
            self._news.receive()

    def _tell(self, crash: Crash) -> None:
        """Tell the sink at once, which would miss the process only when it has been silent long."""
        if crash.role in ("agent", "worker"):
            role = cast("Role", crash.role)
            why = f"{crash.reason or f'exit code {crash.code}'}; restart in {crash.pause_s:g} s"
            self._sink.send(Crashed(role, crash.process_id, why[:MAX_TEXT]))

    def _report(self) -> None:
        """Report crashes to the sink, again until it has kept them."""
        for answer in self._sink.receive():
            if isinstance(answer, Pong):
                self._events.kept(answer.kept)
        message = self._events.message()
        if message is not None and time.monotonic() >= self._next_report_s:
            self._next_report_s = time.monotonic() + 1.0
            self._sink.send(message)


def _running(children: Sequence[_Child]) -> dict[str, int]:
    """Process ids of the pipeline's processes that run now, by role."""
    return {
        child.role: child.process.pid
        for child in children
        if not child.shows and child.process is not None and child.process.poll() is None
    }


def _keep_up(child: _Child) -> Crash | None:
    """Crash of a process, if it has just ended; one that is not running is started when due.

    Raises
    ------
    ConfigError
        If it never was ready and will not be.
    """
    now_s = time.monotonic()
    if child.left:
        return None
    if child.process is None:
        if now_s >= child.start_at_s:
            child.start()
        return None
    code = child.process.poll()
    if code is None:
        return None
    if child.shows and code == 0:  # its reader has gone
        child.left = True
        return None
    child.crashes = 1 if now_s - child.started_s > _STEADY_S else child.crashes + 1
    hopeless = code == WRONG_USE or child.crashes > _MOST_CRASHES
    if hopeless and not child.proven and not child.shows:
        raise ConfigError(_last_line(child))
    pause_s = min(_FIRST_PAUSE_S * 2 ** (child.crashes - 1), _LONGEST_PAUSE_S)
    if child.process.stdin is not None:
        child.process.stdin.close()
    process_id = child.process.pid
    child.process, child.start_at_s = None, now_s + pause_s
    # This code comes with a message: the disk is full, the folder is away.
    reason = _last_line(child) if code == WRONG_USE else ""
    return Crash(child.role, code, reason, pause_s, process_id)


def _last_line(child: _Child) -> str:
    """Message with which a process ended, from its log."""
    lines = child.log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("nanostream: ") if lines else f"the {child.role} does not start"
