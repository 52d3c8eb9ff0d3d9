"""Micrographs of a session's sections, found again where they were or where they are now."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from nanostream.acquisition.frames import read_section
from nanostream.config import load_config
from nanostream.errors import ConfigError, SessionError
from nanostream.records import Frame
from nanostream.results.origins import Origin

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
    watched = load_config(written).watch.directory if written.is_file() else ""
    folder = given or (Path(watched) if watched else None)
    if folder is None or not folder.is_dir():
        what = f"{folder} is no folder" if folder else f"{session} does not say where they are"
        msg = (
            f"micrographs: {what}; give the folder of the micrographs (--watch FOLDER, or "
            "micrographs= in Python)"
        )
        raise ConfigError(msg)
    return folder


def read_micrograph(micrographs: Path, origin: Origin) -> Frame:
    """The micrograph a section's mask was made from, with what was known of it then.

    Pixel size and metadata may be of a configuration, or of a sidecar that has changed since.

    Parameters
    ----------
    micrographs : Path
        Their folder, of `micrographs_folder`.
    origin : Origin
        Of `nanostream.results.origins.origin_of`.

    Raises
    ------
    SessionError
        If the file has other pixels by now.
    MicrographError, OSError
        If it cannot be read.
    """
    stored = origin.measured
    section, metadata = stored.section, stored.metadata
    file = micrographs / section.path
    frame = read_section(file, section.z, section=section)
    if frame.pixels_crc32() != origin.pixels_crc32:
        msg = (
            f"{file} has changed since section {section} was segmented; give the folder with the "
            "file as it was, or segment it anew into another session"
        )
        raise SessionError(msg)
    if metadata.first_row is None:  # a session from before it was kept
        metadata = replace(metadata, first_row=frame.metadata.first_row)
    known = {"pixel_size_nm": stored.pixel_size_nm, "written_s": stored.written_s}
    return replace(frame, metadata=metadata, **known)
