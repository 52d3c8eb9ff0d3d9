"""The command line, assembled; `commands` has the commands.

Exit codes: 0 fine, 1 something was quarantined or failed, 2 wrong use, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nanostream_services.commands import (
    config,
    export,
    keys,
    models,
    processes,
    quarantine,
    rehearsals,
    run,
    segment,
    simulate,
    training,
)
from nanostream_services.commands.bench import bench
from nanostream_services.commands.evaluate import evaluate
from nanostream_services.commands.lattice import lattice
from nanostream_services.commands.metrics import metrics
from nanostream_services.commands.mistakes import without_usage
from nanostream_services.commands.preview import preview
from nanostream_services.commands.preview_separation import preview_separation
from nanostream_services.commands.repair import repair
from nanostream_services.commands.report import report
from nanostream_services.commands.simulate_training import simulate_training
from nanostream_services.commands.status import status
from nanostream_services.commands.verify import verify

__all__ = ["app"]

#: In the order of ``nanostream --help``: what is used at the microscope comes first.
_PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "At the microscope": {
        "run": run.run,
        "dashboard": processes.dashboard,
        "segment": segment.segment,
        "status": status,
        "preview": preview,
        "lattice": lattice,
        "report": report,
        "verify": verify,
        "repair": repair,
        "quarantine": quarantine.app,
        "export": export.export,
    },
    "Before a session": {
        "doctor": rehearsals.doctor,
        "config": config.app,
        "keys": keys.app,
        "demo": rehearsals.demo,
        "drill": rehearsals.drill,
        "bench": bench,
        "simulate": simulate.simulate,
    },
    "Models": {
        "models": models.app,
        "evaluate": evaluate,
        "preview-separation": preview_separation,
        "train": training.train,
        "simulate-training": simulate_training,
    },
    "One process each, for several machines": {
        "agent": processes.agent,
        "worker": processes.worker,
        "sink": processes.sink,
        "metrics": metrics,
    },
}


class _InOrder(TyperGroup):
    """Commands as the panels list them; typer would put groups behind commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in _PANELS.values() for name in commands]

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = False,
        **extra: Any,
    ) -> Any:
        """Run the command line; a mistake in it gives one sentence.

        Wildcards are not expanded for Windows: those of files are expanded where files are asked
        for, and a pattern of ``--stream`` is no list of files.
        """
        words = sys.argv[1:] if args is None else list(args)
        run = partial(
            super().main,
            words,
            prog_name,
            complete_var,
            standalone_mode=False,
            windows_expand_args=windows_expand_args,
            **extra,
        )
        return without_usage(run, words) if standalone_mode else run()


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # a paragraph of a docstring is one, whatever its lines
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in _PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from nanostream import __version__

        sys.stdout.write(f"nanostream {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Live segmentation of HRTEM micrographs beside SerialEM."""
