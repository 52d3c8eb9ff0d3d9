"""Remarks on a file, for whoever reads a section of it: three things are no errors.

Of several data sets one is read; a sidecar that is there may give nothing for the section, or a
pixel size that can be none.
"""

from __future__ import annotations

from pathlib import Path

from nanostream.acquisition.frames import remark_on
from nanostream.acquisition.mdoc import read_entries
from nanostream.acquisition.sidecars import find_sidecar, passed_over
from nanostream.errors import printable
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
    of_sidecar = (_silent_sidecar(path, frame.metadata), _odd_entry(path, frame))
    remarks += [f"{frame.section}: {remark}" for remark in of_sidecar if remark]
    return [printable(remark) for remark in remarks]


def _odd_entry(path: Path, frame: Frame) -> str:
    """A remark on the entry of a section in its sidecar."""
    if frame.metadata.pixel_size_source == "mdoc refined":  # which counts first
        return ""
    title = frame.metadata.file_title or ""
    return next(read_entries(path, [frame.section.z], title=title, at_rest=True)).remark


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
        return passed_over(path)
    return f"{sidecar.name} gives nothing for it: an older file's, or damaged"
