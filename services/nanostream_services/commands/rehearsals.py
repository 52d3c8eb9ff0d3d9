"""Commands for the time before a session: demo, drill, doctor."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from nanostream.config import Config, Worker, load_config
from nanostream_services.commands.options import ConfigFile, Json, Plain
from nanostream_services.commands.preview import draw_one
from nanostream_services.commands.printing import (
    FAILED,
    INTERRUPTED,
    print_line,
    write_json,
)
from nanostream_services.commands.starting import check_worker, log_beside, new_folder
from nanostream_services.commands.summaries import exit_with, print_summary
from nanostream_services.commands.verify import verify
from nanostream_services.processes.lifecycle import stopping
from nanostream_services.quantities import counted

if TYPE_CHECKING:
    from nanostream_services.doctor import Finding

__all__ = ["demo", "doctor", "drill"]


class Part(StrEnum):
    """The processes that a machine is to run."""

    agent = "agent"
    worker = "worker"
    sink = "sink"
    all = "all"


def demo(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="New or empty folder; named by the time if not given."),
    ] = None,
    plain: Plain = False,
) -> None:
    """Play a simulated SerialEM session through the real pipeline."""
    from nanostream_services.demo import run_demo

    folder = new_folder(out, "demo")
    check_worker(Worker())
    log_beside(folder / "session")
    with stopping() as stop:
        result = run_demo(folder, stop, plain=plain)
    if result is None:
        raise typer.Exit(INTERRUPTED)
    print_summary(folder / "session")
    print_line(
        f"Dice coefficient with the simulated atoms: {result.dice:.3f}\n"
        f"Micrographs, as SerialEM would write them:  {folder / 'microscope'}\n"
        f"Masks and tables:                           {folder / 'session'}"
    )
    if picture := draw_one(result.session):
        print_line(f"The last one with its outlines:             {picture}")
    print_line(
        f"Next: nanostream preview {folder / 'session'}\n"
        f"      nanostream export {folder / 'session'} --format csv --out tables"
    )
    exit_with(folder / "session", expected=result.sections)


def drill(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="New or empty folder; named by the time if not given."),
    ] = None,
) -> None:
    """Let things go wrong in a simulated session, and see whether all is stored."""
    from nanostream_services.drill import SECTIONS, run_drill

    folder = new_folder(out, "drill")
    check_worker(Worker())
    log_beside(folder / "session")
    print_line(f"{SECTIONS} simulated sections; this takes about a minute")
    with stopping() as stop:
        finished = run_drill(folder, stop, report=print_line)
    if not finished:
        raise typer.Exit(INTERRUPTED)
    verify(folder / "session", folder / "microscope")


def doctor(
    config: ConfigFile = None,
    role: Annotated[Part, typer.Option(help="What this machine is to run.")] = Part.all,
    as_json: Json = False,
) -> None:
    """Check folders, disk, ports, keys, clocks, model and GPU, and send a section through."""
    from nanostream_services.doctor import examine

    settings = load_config(config) if config else Config()
    found: list[Finding] = []
    console = Console(highlight=False, quiet=as_json)
    logging.getLogger().addHandler(logging.NullHandler())  # a crash of a process is a finding
    with stopping() as stop, console.status("checking; the whole chain takes half a minute"):
        for finding in examine(settings, role.value, stop):
            found.append(finding)
            _print_finding(console, finding)
        if stop.is_set():
            raise typer.Exit(INTERRUPTED)
    if as_json:
        write_json(found)
    problems, warnings = (
        sum(finding.state == state for finding in found) for state in ("problem", "warning")
    )
    console.print(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    if problems:
        raise typer.Exit(FAILED)


def _print_finding(console: Console, finding: Finding) -> None:
    """A finding in a few lines of a narrow terminal, what to do indented below."""
    shown = Table.grid(Column(width=7), Column(width=15), Column(overflow="fold"), padding=(0, 1))
    colour = {"ok": "green", "warning": "yellow", "problem": "red"}.get(finding.state, "dim")
    shown.add_row(Text(finding.state, colour), finding.check, Text(finding.text))
    if finding.advice:
        shown.add_row("", "", Text(f"-> {finding.advice}", "bold"))
    console.print(shown)
