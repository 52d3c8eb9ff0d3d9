"""``nanostream status``: whether a session is well, in one line and as an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from nanostream.records import Severity, Snapshot
from nanostream_services.commands.options import Json, SessionFolder
from nanostream_services.commands.printing import print_line, write_json
from nanostream_services.panels.alarms import alarm_text
from nanostream_services.panels.log_lines import plain_line

__all__ = ["status"]

#: The sink publishes four times a second.
_LONGEST_S = 3.0

#: Exit codes; 2 is wrong use, as everywhere.
CODES = {None: 0, Severity.NOTICE: 0, Severity.WARNING: 1, Severity.PROBLEM: 3}
NOT_RUNNING = 4


def status(
    session: SessionFolder,
    acknowledge: Annotated[
        bool,
        typer.Option(
            help="Mark the alarms of now as seen: they no longer count, until one is worse."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether a running session is well: a line, and one for each alarm.

    Exit code 0: all is well; 1: a warning; 3: a problem; 4: it is not running.
    """
    from nanostream_services.alarms import worst

    found = _snapshot(session)
    if found is None:
        _print_ended(session, as_json=as_json)
        raise typer.Exit(NOT_RUNNING)
    if acknowledge:
        from nanostream.results.store import acknowledge as keep

        keep(session, [alarm.name for alarm in found.alarms])
    severity = worst(() if acknowledge else found.alarms)
    if as_json:
        write_json(_as_tree(found, severity))
    else:
        print_line(f"{severity or 'ok'}: {plain_line(found)}")
        for alarm in found.alarms:
            print_line(f"  {alarm.severity}: {alarm_text(alarm)}")
    raise typer.Exit(CODES[severity])


def _snapshot(session: Path) -> Snapshot | None:
    """The newest snapshot of the session's sink; None if no sink publishes one."""
    from nanostream_services.commands.listener import Listener

    if not (session / "config.json").is_file():  # of no `run`; the tables say what it is
        return None
    with Listener(session) as listener:
        return listener.hear(_LONGEST_S)


def _print_ended(session: Path, *, as_json: bool) -> None:
    from nanostream.results.session import Session

    opened = Session(session)
    stored, given_up = len(opened.sections), len(opened.quarantine)
    if as_json:
        write_json({"state": "not running", "stored": stored, "quarantined": given_up})
    else:
        print_line(f"not running: {stored} stored, {given_up} quarantined in {session}")


def _as_tree(found: Snapshot, severity: Severity | None) -> dict[str, Any]:
    """The answer for a program."""
    return {
        "state": str(severity or "ok"),
        "time_s": found.time_s,
        "seen": found.seen,
        "stored": found.stored,
        "in_work": found.in_work,
        "waiting": found.waiting,
        "quarantined": found.failed,
        "sections_per_minute": found.sections_per_minute,
        "latency_s": found.latency_s if found.latency_s >= 0 else None,
        "last_section": found.last_section,
        "processes": msgspec.to_builtins(found.health),
        "alarms": msgspec.to_builtins(found.alarms),
    }
