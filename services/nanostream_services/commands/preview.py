"""``nanostream preview``: pictures of a session's sections, with the outlines that were found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanostream.errors import ConfigError, NanostreamError
from nanostream_services.commands.options import SessionFolder
from nanostream_services.commands.printing import FAILED, print_error, print_line

if TYPE_CHECKING:
    from nanostream.results.previews import Picture
    from nanostream.results.session import Session

__all__ = ["draw_one", "preview"]

#: Pictures on a contact sheet; more would be too small to be seen.
_ON_A_SHEET = 48


def preview(
    session: SessionFolder,
    sections: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION]...", help="Their names; without any, up to --most."),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where the micrographs are, if they are not where they were."
        ),
    ] = None,
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
    from nanostream.results.previews import contact_sheet
    from nanostream.results.session import Session

    opened = Session(session)
    names = _chosen(opened, sections, most)
    root = _root(opened, watch)
    folder = out or session / "previews"
    drawn: list[tuple[str, Picture]] = []
    for name, picture in _drawn(opened, names, root, numbers=numbers):
        if isinstance(picture, str):
            print_error(picture)
            continue
        print_line(str(_write(folder, _file_name(name), picture)))
        drawn.append((name, picture))
    if len(drawn) > 1:
        sheet = contact_sheet(drawn[:_ON_A_SHEET])
        print_line(str(_write(folder, "contact-sheet.png", sheet)))
        if len(drawn) > _ON_A_SHEET:
            print_line(f"the sheet has the first {_ON_A_SHEET} of {len(drawn)}")
    if len(drawn) < len(names):
        raise typer.Exit(FAILED)


def draw_one(session: Session) -> Path | None:
    """The picture of a session's last section, drawn; None if there is none to draw."""
    last = session.section_ids()[-1:]
    for name, picture in _drawn(session, last, _root(session, None), numbers=True):
        if not isinstance(picture, str):
            return _write(session.folder / "previews", _file_name(name), picture)
    return None


def _chosen(session: Session, sections: list[str] | None, most: int) -> list[str]:
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


def _root(session: Session, watch: Path | None) -> Path:
    """Folder of the micrographs: the given one, else that of the session."""
    from nanostream.config import load_config

    written = session.folder / "config.json"
    settled = load_config(written).watch.directory if written.is_file() else ""
    root = watch or (Path(settled) if settled else None)
    if root is None or not root.is_dir():
        said = f"{root} is no folder" if root else "the session does not say where they are"
        msg = f"micrographs: {said}; give the folder that was watched by --watch"
        raise ConfigError(msg)
    return root


def _drawn(
    session: Session, names: list[str], root: Path, *, numbers: bool
) -> Iterator[tuple[str, Picture | str]]:
    """Each section's picture, or the reason why there is none."""
    from nanostream.acquisition.frames import read_section
    from nanostream.records import SectionId
    from nanostream.results.previews import draw_overlay

    particles = session.particles
    stored = session.sections.set_index("section")
    for name in names:
        section = SectionId.parse(name)
        of_section = particles[particles["section"] == name]
        try:
            frame = read_section(root / section.path, section.z)
            if frame.pixels_crc32() != stored.pixels_crc32[name]:
                yield name, f"{name}: no picture: the file has changed since it was segmented"
                continue
            picture = draw_overlay(
                frame.pixels,
                session.labels(name),
                pixel_size_nm=_known(stored.pixel_size_nm[name]),
                first_row=frame.metadata.first_row,
                classes=dict(zip(of_section["label"], of_section["shape_class"], strict=True)),
                numbers=numbers,
            )
        except (NanostreamError, OSError, ValueError) as error:
            yield name, f"{name}: no picture: {error}"
            continue
        yield name, picture


def _known(pixel_size_nm: float | None) -> float | None:
    return pixel_size_nm if pixel_size_nm and pixel_size_nm > 0 else None  # NaN is not above 0


def _file_name(section: str) -> str:
    """Name of a section's picture: those of all folders lie beside each other, to be leafed."""
    return f"{section.replace('/', '_').replace('#', '.z')}.png"


def _write(folder: Path, name: str, picture: Picture) -> Path:
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    (folder / name).write_bytes(encoded.tobytes())
    return folder / name
