"""The ports: free where this machine binds, answering where it connects."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator

from nanostream.config import Config, Network, is_loopback
from nanostream.errors import NanostreamError
from nanostream.records import Snapshot
from nanostream.transport.sockets import PortName, Subscriber, handshake, wait
from nanostream_services.doctor.findings import Finding, Role

__all__ = ["check_ports"]

_ANSWER_S = 1.5

_BINDS: dict[Role, tuple[PortName, ...]] = {
    "agent": ("frames",),
    "worker": (),
    "sink": ("results", "snapshots", "queries"),
    "all": ("frames", "results", "snapshots", "queries"),
}
_CONNECTS: dict[Role, tuple[PortName, ...]] = {
    "agent": ("results",),
    "worker": ("frames", "results"),
    "sink": (),
    "all": (),
}


def check_ports(config: Config, role: Role) -> Iterator[Finding]:
    """The ports: free where this machine binds, answering where it connects."""
    network = config.network
    taken = []
    for port in _BINDS[role]:
        host, number = _address(network, port)
        try:
            with socket.create_server((host, number)):
                yield Finding(f"{port} port", "ok", f"{number} on {host} is free")
        except OSError as error:
            taken.append((port, host, number, error))
    running = _running(network) if taken else None
    for port, host, number, why in taken:
        yield _of_taken(config, port, f"{number} on {host}", why, running)
    for port in _CONNECTS[role]:
        yield _of_answer(network, port)


def _of_taken(
    config: Config, port: str, where: str, error: OSError, running: Snapshot | None
) -> Finding:
    if error.errno == errno.EADDRNOTAVAIL:
        text = f"{where}: that is no address of this machine"
        advice = f"correct [network] {port}_host, or give this machine's part with --role"
        return Finding(f"{port} port", "problem", text, advice)
    if running is None:
        advice = f"stop the program that uses it, or choose another [network] {port}_port"
        return Finding(f"{port} port", "problem", f"{where}: {error.strerror}", advice)
    text = f"{where} is used by the running session {running.session}"
    if config.sink.session in ("", running.session):
        return Finding(f"{port} port", "ok", text)
    advice = "stop it first, or give this one other ports"
    return Finding(f"{port} port", "problem", text, advice)


def _of_answer(network: Network, port: PortName) -> Finding:
    host, number = _address(network, port)
    process = "agent" if port == "frames" else "sink"
    try:
        trouble = handshake(network, port, timeout_s=_ANSWER_S)
    except NanostreamError as error:
        return Finding(f"{port} port", "problem", str(error))
    if not trouble:
        return Finding(f"{port} port", "ok", f"the {process} at {host}:{number} answers")
    if trouble == "nothing answers":
        advice = f"start the {process} there"
        if not is_loopback(host):
            advice += f", and let {number}/tcp through its firewall"
        return Finding(f"{port} port", "warning", f"{host}:{number}: nothing answers", advice)
    advice = f"exchange keys again (nanostream keys allow); [network] {port}_server names it"
    return Finding(f"{port} port", "problem", f"{host}:{number}: {trouble}", advice)


def _address(network: Network, port: str) -> tuple[str, int]:
    host = getattr(network, f"{port}_host") or network.host
    return host, getattr(network, f"{port}_port")


def _running(network: Network) -> Snapshot | None:
    """The newest snapshot of a session that runs here; None if there is none."""
    try:
        news = Subscriber(network)
    except NanostreamError:  # the keys have a finding of their own
        return None
    try:
        deadline_s = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline_s:
            wait([news], deadline_s - time.monotonic())
            if (snapshot := news.receive()) is not None:
                return snapshot
    finally:
        news.close()
    return None
