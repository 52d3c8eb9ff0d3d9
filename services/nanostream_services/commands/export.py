"""``nanostream export``: a session's tables for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nanostream_services.commands.options import SessionFolder
from nanostream_services.commands.printing import print_error

__all__ = ["export"]


def export(
    session: SessionFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")],
    format: Annotated[
        str,
        typer.Option(metavar="csv|nav|png", help="Tables, points for the Navigator, or masks."),
    ] = "csv",
    navigator: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For nav: SerialEM's own Navigator file, with its maps."),
    ] = None,
) -> None:
    """Write a session's tables or masks for other programs, or points for SerialEM's Navigator."""
    from nanostream.results.exports import export as write
    from nanostream.results.session import Session

    opened = Session(session)
    if not opened.section_ids():
        print_error(f"nothing is stored in {session} yet")
    for path in write(opened, format, out, navigator=navigator):
        sys.stdout.write(f"{path}\n")
