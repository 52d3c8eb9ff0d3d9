"""``nanostream export``: a session's tables, masks and tracks for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nanostream_services.commands.options import SessionFolder
from nanostream_services.commands.printing import print_error
from nanostream_services.commands.progress import shown_progress

__all__ = ["export"]


def export(
    session: SessionFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")],
    format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="csv, parquet (tables), nav (points for the Navigator), png, tiff, roi, coco "
            "(masks), trackmate, napari, geff (tracks).",
        ),
    ] = "csv",
    navigator: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For nav: SerialEM's own Navigator file, with its maps."),
    ] = None,
) -> None:
    """Write a session's tables, masks or tracks for other programs, or points for SerialEM.

    tiff and roi are for ImageJ, coco for training and scoring of networks.
    """
    from nanostream.results.exports import export as write
    from nanostream.results.session import Session

    opened = Session(session)
    if not opened.section_ids():
        print_error(f"nothing is stored in {session} yet")
    notes: list[str] = []
    with shown_progress() as progress:
        written = write(
            opened, format, out, navigator=navigator, progress=progress, note=notes.append
        )
    for path in written:
        sys.stdout.write(f"{path}\n")
    for note in notes:
        print_error(note)
