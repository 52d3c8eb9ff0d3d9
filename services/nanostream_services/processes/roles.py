"""The roles of a process: each loads what it needs and no more.

After a crash, or when a session is started again, sections wait until agent, worker and sink work.
None of them needs the command line's other commands, so ``nanostream worker --config F`` (as the
supervisor, systemd and the Windows task call it) goes past them; everything else is `cli`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, get_args

from nanostream_services.processes.lifecycle import importing, stopping
from nanostream_services.processes.logs import start_log

__all__ = ["Order", "serve"]

Role = Literal["agent", "worker", "sink", "dashboard"]
ROLES: tuple[Role, ...] = get_args(Role)


class Order(NamedTuple):
    """A process that is to run, and how."""

    role: Role
    config: Path | None = None
    with_parent: bool = False
    plain: bool = False

    @classmethod
    def of(cls, arguments: list[str]) -> Order | None:
        """The process that the arguments order; None if they are for `cli`.

        Examples
        --------
        >>> Order.of(["agent", "--with-parent"])
        Order(role='agent', config=None, with_parent=True, plain=False)
        >>> Order.of(["agent", "--help"]), Order.of(["agent", "--plain"]), Order.of(["run"])
        (None, None, None)
        """
        name, *left = arguments or [""]
        role = next((role for role in ROLES if role == name), None)
        if role is None:
            return None
        order = cls(role)
        while left:
            match left:
                case ["--config", file, *left]:
                    order = order._replace(config=Path(file))
                case ["--with-parent", *left]:
                    order = order._replace(with_parent=True)
                case ["--plain", *left] if role == "dashboard":
                    order = order._replace(plain=True)
                case _:
                    return None
        return order


def serve(order: Order) -> None:
    """Be one process of the pipeline until told to stop."""
    start_log()
    with stopping(with_parent=order.with_parent) as stop:
        with importing():
            from nanostream.config import Config, load_config

            config = load_config(order.config) if order.config else Config()
            match order.role:
                case "agent":
                    from nanostream_services.processes.agent import run_agent as run
                case "worker":
                    from nanostream_services.processes.worker import run_worker as run
                case "sink":
                    from nanostream_services.processes.sink import run_sink as run
                case "dashboard":
                    from nanostream_services.processes.dashboard import run_dashboard
        if order.role == "dashboard":
            run_dashboard(config, stop, plain=order.plain)
        else:
            run(config, stop)
