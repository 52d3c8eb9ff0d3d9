"""Remarks on a file, for whoever reads a section of it: two things are no errors.

Of several data sets one is read, and a sidecar that is there may give nothing for the section.
"""

from __future__ import annotations

import os
from pathlib import Path

from nanostream.acquisition.frames import remark_on
from nanostream.acquisition.mdoc import find_sidecar
from nanostream.records import Frame, Metadata

__all__ = ["remarks_on"]


def remarks_on(path: Path, frame: Frame) -> list[str]:
    """Remarks on a section that was read at rest, each with its name; of a file with the first.

    Raises
    ------
    MicrographError
        As `nanostream.acquisition.frames.remark_on`.
    """
    remarks = []
    if frame.section.z == 0 and (others := remark_on(path)):
        remarks.append(f"{frame.section.path}: {others}")
    if silent := _silent_sidecar(path, frame.metadata):
        remarks.append(f"{frame.section}: {silent}")
    return remarks


def _silent_sidecar(path: Path, found: Metadata) -> str:
    """A remark on a sidecar that is there and gives nothing for a section."""
    of_file = Metadata(
        pixel_size_source=found.pixel_size_source,
        file_title=found.file_title,
        first_row=found.first_row,
        piece_x_px=found.piece_x_px,
        piece_y_px=found.piece_y_px,
        piece_z=found.piece_z,
    )
    if found != of_file or found.pixel_size_source in ("mdoc", "mdoc refined"):
        return ""
    sidecar = find_sidecar(path)
    if sidecar is None:
        named = path.with_name(f"{path.name}.mdoc")
        is_folder = os.path.isdir(named)  # noqa: PTH112 - False, and no error, for too long a name
        return f"{named.name} gives nothing for it: it is a folder" if is_folder else ""
    return f"{sidecar.name} gives nothing for it: an older file's, or damaged"
