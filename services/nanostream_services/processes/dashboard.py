"""The dashboard process: hears the sink's snapshots and shows the newest.

It asks nothing of the pipeline and can come and go: on a terminal it draws the panels, elsewhere it
writes log lines.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from datetime import datetime, timedelta
from datetime import time as time_of_day

from msgspec.structs import replace
from rich.console import Console
from rich.live import Live

from nanostream.config import Config
from nanostream.errors import MessageError
from nanostream.records import Snapshot
from nanostream.transport.sockets import Subscriber, wait
from nanostream_services.panels.layout import screen, waiting_screen
from nanostream_services.panels.log_lines import Log
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, Stop

__all__ = ["run_dashboard"]

logger = logging.getLogger(__name__)

#: Time between two pictures: soon enough for the eye. With a section
#: every two seconds that costs 1 to 3 % of a core (80x24 to 200x60, 2026-11).
_REFRESH_S = 0.25


def run_dashboard(config: Config, stop: Stop, *, plain: bool) -> None:
    """Show a session until ``stop`` is set.

    Returns earlier if its reader is gone (a closed pipe, a lost terminal): the session does not
    need the dashboard, so that is no error.

    Parameters
    ----------
    config : Config
        ``[network]`` says where the sink publishes.
    stop : Stop
        Ends it.
    plain : bool
        Log lines even on a terminal.

    Raises
    ------
    ConfigError
        If the host is not this machine.
    """
    network = config.network
    address = f"{network.snapshots_host or network.host}:{network.snapshots_port}"
    subscriber = Subscriber(network)
    try:
        console = Console()
        if plain or not _can_draw(console):
            _write_lines(subscriber, stop, address)
        else:
            _draw(console, subscriber, stop, address)
    except OSError as error:
        logger.warning("dashboard: nobody reads it any more (%s)", error.strerror)
        _forget_output()
    finally:
        subscriber.close()


def _can_draw(console: Console) -> bool:
    """A terminal that moves its cursor and knows the half blocks."""
    utf = console.encoding.lower().replace("-", "") == "utf8"
    return console.is_terminal and not console.is_dumb_terminal and utf


def _draw(console: Console, subscriber: Subscriber, stop: Stop, address: str) -> None:
    newest: Snapshot | None = None
    heard_s = started_s = time.monotonic()
    note = ""
    drawn: object = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        # stop.wait() is not used: a signal's handler that sets the flag while this thread holds
        # the flag's own lock would wait for itself.
        while not stop.is_set():
            now_s = time.monotonic()
            try:
                if (news := subscriber.receive()) is not None:
                    newest, heard_s, note = news, now_s, ""
            except MessageError as error:
                note = str(error)
            age_s = now_s - heard_s
            width, height = console.size
            appearance = (_visible(newest), int(age_s), width, height, note)
            if appearance != drawn:
                drawn = appearance
                if newest is None:
                    live.update(
                        waiting_screen(
                            address, waited_s=now_s - started_s, height=height, note=note
                        ),
                        refresh=True,
                    )
                else:
                    live.update(
                        screen(newest, age_s=age_s, width=width, height=height, note=note),
                        refresh=True,
                    )
            time.sleep(_REFRESH_S)


def _visible(snapshot: Snapshot | None) -> Snapshot | None:
    """The snapshot without what is too fine to be seen, so that equal pictures are drawn once."""
    if snapshot is None:
        return None
    return replace(
        snapshot,
        time_s=float(int(snapshot.time_s)),
        health=tuple(
            replace(process, age_s=float(int(process.age_s))) for process in snapshot.health
        ),
    )


def _write_lines(subscriber: Subscriber, stop: Stop, address: str) -> None:
    log = Log(address)
    complained = ""
    while True:
        # Looked at before the socket is: what was published before the stop is still written.
        last_round = stop.is_set()
        wait([subscriber], LONGEST_WAIT_S)
        try:
            lines = log.lines(subscriber.receive(), now_s=time.monotonic())
        except MessageError as error:
            lines = [] if str(error) == complained else [str(error)]
            complained = str(error)
        for line in lines:
            _write(f"{_dated(line, datetime.now())}\n")
        if last_round:
            return


def _dated(line: str, now: datetime) -> str:
    """A line with date and time; what happened has a time of its own.

    Examples
    --------
    >>> _dated("23:59:10 worker gpu is here", datetime(2026, 11, 27, 0, 0, 5))
    '2026-11-26 23:59:10 worker gpu is here'
    """
    if not re.match(r"([01]\d|2[0-3])(:[0-5]\d){2} ", line, re.ASCII):
        return f"{now:%Y-%m-%d %H:%M:%S} {line}"
    then = datetime.combine(now.date(), time_of_day.fromisoformat(line[:8]))
    # Clocks differ a little, days do not.
    day = then - timedelta(days=1) if then - now > timedelta(hours=12) else then
    return f"{day:%Y-%m-%d} {line}"


def _write(line: str) -> None:
    # A pipe on Windows may be cp1252: a file name it cannot spell must not end the log.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _forget_output() -> None:
    """Point standard output elsewhere, or the interpreter complains about it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
