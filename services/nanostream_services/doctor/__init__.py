"""Checks before a session: each finding says what was found and what to do.

A check is a function of the configuration. None writes into the watched folder, and what one
writes elsewhere it takes away again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nanostream.config import Config
from nanostream_services.doctor.chain import check_chain
from nanostream_services.doctor.clocks import check_clock, clock_finding
from nanostream_services.doctor.findings import Finding, Role, State
from nanostream_services.doctor.folders import (
    check_feedback,
    check_session,
    disk_finding,
    session_finding,
)
from nanostream_services.doctor.keys import check_keys
from nanostream_services.doctor.models import check_device, check_model, tell_device
from nanostream_services.doctor.ports import check_ports
from nanostream_services.doctor.watched import check_watched, share_finding
from nanostream_services.processes.lifecycle import Stop

__all__ = [
    "CHECKS",
    "Finding",
    "Role",
    "State",
    "check_chain",
    "check_clock",
    "check_device",
    "check_feedback",
    "check_keys",
    "check_model",
    "check_ports",
    "check_session",
    "check_watched",
    "clock_finding",
    "disk_finding",
    "examine",
    "session_finding",
    "share_finding",
    "tell_device",
]

Check = Callable[[Config, Role], Iterator[Finding]]
CHECKS: tuple[tuple[tuple[Role, ...], Check], ...] = (
    (("all", "agent"), check_watched),
    (("all", "agent"), check_clock),
    (("all", "sink"), check_session),
    (("all", "sink"), check_feedback),
    (("all", "agent", "worker", "sink"), check_keys),
    (("all", "agent", "worker", "sink"), check_ports),
    (("all", "worker"), check_model),
    (("all", "worker"), check_device),
)


def examine(config: Config, role: Role, stop: Stop) -> Iterator[Finding]:
    """All findings for the part that this machine is to play, as they come."""
    for roles, check in CHECKS:
        if role in roles and not stop.is_set():
            yield from check(config, role)
    if not stop.is_set():
        yield from check_chain(config, role, stop)
