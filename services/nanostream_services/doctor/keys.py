"""The keys of this machine, and of those it must know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nanostream.config import Config
from nanostream.errors import NanostreamError
from nanostream.transport.keys import load_keys
from nanostream_services.doctor.findings import Finding, Role

__all__ = ["check_keys"]


def check_keys(config: Config, _: Role) -> Iterator[Finding]:
    """The keys of this machine, and of those it must know."""
    network = config.network
    if not network.keys:
        yield Finding("keys", "ok", "none are needed: every port is on loopback")
        return
    try:
        keys = load_keys(Path(network.keys))
        trusted = sorted(name for name in keys.trusted().values() if name != "own")
        for server in (network.frames_server, network.results_server):
            keys.of_server(server)
    except NanostreamError as error:
        yield Finding("keys", "problem", str(error))
        return
    if trusted:
        yield Finding("keys", "ok", f"{network.keys}: trusted are {', '.join(trusted)}")
    else:
        advice = f"nanostream keys allow {network.keys} THEIR_PUBLIC_KEY --name NAME"
        yield Finding("keys", "warning", f"{network.keys} trusts no other machine", advice)
