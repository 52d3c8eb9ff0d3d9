"""Pictures of a session's sections, from micrographs that may have been moved or changed since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanostream.errors import NanostreamError

if TYPE_CHECKING:
    from nanostream.results.previews import Picture
    from nanostream.results.session import Session

__all__ = ["draw_sections"]


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
            yield name, f"{name}: no picture: {error}"
            continue
        yield name, picture
