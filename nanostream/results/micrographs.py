"""Micrographs of a session's sections, found again where they were or where they are now."""

from __future__ import annotations

from pathlib import Path

from nanostream.acquisition.frames import read_section
from nanostream.config import load_config
from nanostream.errors import ConfigError, SessionError
from nanostream.records import Frame, SectionId

__all__ = ["micrographs_folder", "read_micrograph"]


def micrographs_folder(session: Path, given: Path | None = None) -> Path:
    """Folder of a session's micrographs: the given one, else the one that was watched.

    Parameters
    ----------
    session : Path
        Session folder.
    given : Path, optional

    Raises
    ------
    ConfigError
        If there is no such folder, or the session does not name one.
    """
    written = session / "config.json"
    settled = load_config(written).watch.directory if written.is_file() else ""
    root = given or (Path(settled) if settled else None)
    if root is None or not root.is_dir():
        said = f"{root} is no folder" if root else "the session does not say where they are"
        msg = f"micrographs: {said}; give the folder that was watched by --watch"
        raise ConfigError(msg)
    return root


def read_micrograph(root: Path, section: str, *, pixels_crc32: int) -> Frame:
    """The micrograph a section's mask was made from.

    Parameters
    ----------
    root : Path
        Of `micrographs_folder`.
    section : str
        Name of the section.
    pixels_crc32 : int
        As the session's table of sections has it.

    Raises
    ------
    SessionError
        If the file has other pixels by now.
    MicrographError, OSError
        If it cannot be read.
    """
    name = SectionId.parse(section)
    frame = read_section(root / name.path, name.z)
    if frame.pixels_crc32() != pixels_crc32:
        msg = "the file has changed since it was segmented"
        raise SessionError(msg)
    return frame
