"""``nanostream preview``: pictures of a session's sections, with the outlines that were found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanostream.errors import ConfigError
from nanostream_services.commands.options import Micrographs, SessionFolder
from nanostream_services.commands.pictures import draw_sections, write_picture, write_png
from nanostream_services.commands.printing import FAILED, print_error, print_line

if TYPE_CHECKING:
    from nanostream.results.previews import Picture
    from nanostream.results.session import Session

__all__ = ["chosen_sections", "draw_one", "preview"]

#: Pictures on a contact sheet; more would be too small to be seen.
_ON_A_SHEET = 48


def preview(
    session: SessionFolder,
    sections: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION]...", help="Their names; without any, up to --most."),
    ] = None,
    watch: Micrographs = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the pictures; previews in the session."),
    ] = None,
    most: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most so many, evenly over the session.")
    ] = 24,
    numbers: Annotated[bool, typer.Option(help="Write the particles' labels.")] = True,
) -> None:
    """Draw sections with outlines, scale bar and labels as SerialEM shows them: PNG files, a sheet.

    The outlines' colours are those of the shape classes.
    """
    from nanostream.results.micrographs import micrographs_folder
    from nanostream.results.previews import contact_sheet
    from nanostream.results.session import Session

    opened = Session(session)
    names = chosen_sections(opened, sections, most)
    micrographs = micrographs_folder(session, watch)
    folder = out or session / "previews"
    drawn: list[tuple[str, Picture]] = []
    for name, picture in draw_sections(opened, names, micrographs, numbers=numbers):
        if isinstance(picture, str):
            print_error(picture)
            continue
        print_line(str(write_picture(folder, name, picture)))
        drawn.append((name, picture))
    if len(drawn) > 1:
        sheet = contact_sheet(drawn[:_ON_A_SHEET])
        print_line(str(write_png(folder / "contact-sheet.png", sheet)))
        if len(drawn) > _ON_A_SHEET:
            print_line(f"the sheet has the first {_ON_A_SHEET} of {len(drawn)}")
    if len(drawn) < len(names):
        raise typer.Exit(FAILED)


def draw_one(session: Session) -> Path | None:
    """The picture of a session's last section, drawn; None if there is none to draw."""
    from nanostream.results.micrographs import micrographs_folder

    last = session.section_ids()[-1:]
    micrographs = micrographs_folder(session.folder)
    for name, picture in draw_sections(session, last, micrographs, numbers=True):
        if not isinstance(picture, str):
            return write_picture(session.folder / "previews", name, picture)
    return None


def chosen_sections(session: Session, sections: list[str] | None, most: int) -> list[str]:
    """Names of the sections that were asked for, or so many evenly over the session.

    Raises
    ------
    ConfigError
        If one is not stored, or nothing is.
    """
    stored = session.section_ids()
    if not stored:
        msg = f"nothing is stored in {session.folder} yet"
        raise ConfigError(msg)
    if sections:
        if unknown := [name for name in sections if name not in stored]:
            msg = (
                f"{unknown[0]} is not stored in {session.folder}; there are {stored[0]} and others"
            )
            raise ConfigError(msg)
        return list(sections)
    count = min(most, len(stored))
    return [stored[k * len(stored) // count] for k in range(count)]
