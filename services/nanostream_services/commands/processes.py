"""Commands that are one process of the pipeline each: agent, worker, sink, dashboard.

``nanostream worker --config F`` itself does not come here: `processes.roles` starts it at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanostream_services.commands.options import ConfigFile, Plain
from nanostream_services.processes.roles import Order, serve

__all__ = ["agent", "dashboard", "sink", "worker"]

WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]


def agent(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Watch a folder and hand out complete sections."""
    serve(Order("agent", config, with_parent))


def worker(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Segment what the agent hands out."""
    serve(Order("worker", config, with_parent))


def sink(config: ConfigFile = None, with_parent: WithParent = False) -> None:
    """Keep results and tell the dashboard."""
    serve(Order("sink", config, with_parent))


def dashboard(
    session: Annotated[
        Path | None, typer.Argument(metavar="[SESSION]", help="Session folder, or --config.")
    ] = None,
    config: ConfigFile = None,
    plain: Plain = False,
    with_parent: WithParent = False,
) -> None:
    """Show a running session; it can be closed and opened again, here and elsewhere."""
    if session is not None and config is None:
        from nanostream_services.commands.listener import settings_file

        config = settings_file(session)
    serve(Order("dashboard", config, with_parent, plain))
