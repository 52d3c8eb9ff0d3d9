"""``nanostream metrics``: a running session's numbers for Prometheus, by HTTP on this machine."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from nanostream.errors import ConfigError
from nanostream_services.commands.options import SessionFolder
from nanostream_services.commands.printing import print_line
from nanostream_services.processes.lifecycle import LONGEST_WAIT_S, stopping

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from nanostream.records import Snapshot

__all__ = ["metrics"]

#: No exporter of Prometheus' list has it (2026-12).
_PORT = 9577


def metrics(
    session: SessionFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = _PORT,
) -> None:
    """Serve a running session's numbers to Prometheus, at http://127.0.0.1:PORT/metrics.

    It only listens to the session and can come and go.
    """
    if find_spec("prometheus_client") is None:
        msg = "metrics need prometheus-client: pip install '.[metrics]'"
        raise ConfigError(msg)
    from prometheus_client import CollectorRegistry, start_http_server

    from nanostream_services.commands.listener import Listener

    newest = _Newest()
    registry = CollectorRegistry()
    registry.register(newest)
    with stopping() as stop, Listener(session) as listener:
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
        except OSError as error:
            msg = f"port {port} cannot be used: {error.strerror}; give another by --port"
            raise ConfigError(msg) from error
        print_line(f"http://127.0.0.1:{server.server_port}/metrics")
        while not stop.is_set():
            if (found := listener.hear(LONGEST_WAIT_S)) is not None:
                newest.take(found)
        server.shutdown()
        server.server_close()
        thread.join()


class _Newest:
    """Keeps the newest snapshot, which the server's thread asks for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Snapshot | None, float] = (None, -math.inf)

    def take(self, found: Snapshot) -> None:
        """Keep one that has just been heard."""
        with self._lock:
            self._found = found, time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """Its metrics, as the registry asks for them."""
        from nanostream_services.metrics import families

        with self._lock:
            found, heard_s = self._found
        return families(found, time.monotonic() - heard_s)
