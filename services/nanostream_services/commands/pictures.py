"""Pictures of a session's sections, from micrographs that may have been moved or changed since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanostream.errors import NanostreamError, reason_of
from nanostream.records import SectionId

if TYPE_CHECKING:
    from nanostream.results.previews import Picture
    from nanostream.results.session import Session

__all__ = ["draw_sections", "write_picture", "write_png"]


def draw_sections(
    session: Session, names: Sequence[str], micrographs: Path, *, numbers: bool, side_px: int = 1024
) -> Iterator[tuple[str, Picture | str]]:
    """Each section's name and picture, or the reason why there is none.

    Parameters
    ----------
    micrographs : Path
        Their folder, of `nanostream.results.micrographs.micrographs_folder`.
    numbers, side_px
        As `nanostream.results.previews.draw_overlay` has them.
    """
    from nanostream.results.micrographs import read_micrograph
    from nanostream.results.origins import origin_of
    from nanostream.results.previews import draw_overlay

    particles = session.particles
    for name in names:
        of_section = particles[particles["section"] == name]
        try:
            frame = read_micrograph(micrographs, origin_of(session.folder, name))
            picture = draw_overlay(
                frame.pixels,
                session.labels(name),
                pixel_size_nm=frame.pixel_size_nm,
                first_row=frame.metadata.first_row,
                classes=dict(zip(of_section["label"], of_section["shape_class"], strict=True)),
                numbers=numbers,
                side_px=side_px,
            )
        except (NanostreamError, OSError, ValueError) as error:
            yield name, f"{name}: no picture: {reason_of(error)}"
            continue
        yield name, picture


def write_picture(folder: Path, section: str, picture: Picture, *, kind: str = "") -> Path:
    """The file of a section's picture, below the folders that its micrograph is in.

    So no two sections have one file, and masks that are exported as pictures lie alike:
    ``day1/gold.mrc.z3.png`` is of ``day1/gold.mrc#3``, and ``day1/gold.mrc.z3.spectrum.png`` if the
    kind is "spectrum".
    """
    name = SectionId.parse(section)
    return write_png(folder / f"{name.file}.z{name.z}{kind and f'.{kind}'}.png", picture)


def write_png(path: Path, picture: Picture) -> Path:
    """The path of a picture, written to it with the folders that it needs."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    # Not imwrite, which opens no names outside the ANSI code page on Windows.
    path.write_bytes(encoded.tobytes())
    return path
