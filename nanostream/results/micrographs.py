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
    settled = load_config(written).watch.directory if written.is_file() else ""
    root = given or (Path(settled) if settled else None)
    if root is None or not root.is_dir():
        said = f"{root} is no folder" if root else "the session does not say where they are"
        msg = f"micrographs: {said}; give the folder that was watched by --watch"
        raise ConfigError(msg)
    return root


def read_micrograph(root: Path, origin: Origin) -> Frame:
    """The micrograph a section's mask was made from, with what was known of it then.

    Pixel size and metadata may be of a configuration, or of a sidecar that has changed since.

    Parameters
    ----------
    root : Path
        Of `micrographs_folder`.
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
    frame = read_section(root / section.path, section.z, section=section)
    if frame.pixels_crc32() != origin.pixels_crc32:
        msg = "the file has changed since it was segmented"
        raise SessionError(msg)
    if metadata.first_row is None:  # a session from before it was kept
        metadata = replace(metadata, first_row=frame.metadata.first_row)
    known = {"pixel_size_nm": stored.pixel_size_nm, "written_s": stored.written_s}
    return replace(frame, metadata=metadata, **known)
