"""Pictures of a session's sections, from micrographs that may have been moved or changed since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanostream.errors import ConfigError, NanostreamError

if TYPE_CHECKING:
    from nanostream.results.previews import Picture
    from nanostream.results.session import Session

__all__ = ["draw_sections", "micrograph_folder"]


def micrograph_folder(session: Session, watch: Path | None) -> Path:
    """Folder of the micrographs: the given one, else that of the session.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    from nanostream.config import load_config

    written = session.folder / "config.json"
    settled = load_config(written).watch.directory if written.is_file() else ""
    root = watch or (Path(settled) if settled else None)
    if root is None or not root.is_dir():
        said = f"{root} is no folder" if root else "the session does not say where they are"
        msg = f"micrographs: {said}; give the folder that was watched by --watch"
        raise ConfigError(msg)
    return root


def draw_sections(
    session: Session, names: Sequence[str], root: Path, *, numbers: bool, side_px: int = 1024
) -> Iterator[tuple[str, Picture | str]]:
    """Each section's name and picture, or the reason why there is none.

    Parameters
    ----------
    root : Path
        Of `micrograph_folder`.
    numbers, side_px
        As `nanostream.results.previews.draw_overlay` has them.
    """
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
                side_px=side_px,
            )
        except (NanostreamError, OSError, ValueError) as error:
            yield name, f"{name}: no picture: {error}"
            continue
        yield name, picture


def _known(pixel_size_nm: float | None) -> float | None:
    return pixel_size_nm if pixel_size_nm and pixel_size_nm > 0 else None  # NaN is not above 0
