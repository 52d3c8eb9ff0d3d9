"""Answers of the disk to the orders of `intake.Intake`: headers, sidecars and frames.

The agent and the tests that play it run these functions.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from nanostream.acquisition import frames
from nanostream.acquisition import orders as o
from nanostream.acquisition.mdoc import Entry, read_entries, read_metadata
from nanostream.acquisition.readiness import Contents, FileStat, KnownFile, is_same_title
from nanostream.acquisition.sidecars import find_sidecar, passed_over
from nanostream.errors import (
    MicrographError,
    NotReadyError,
    OverwrittenError,
    UnlistedError,
    printable,
)
from nanostream.records import Frame, SectionId

__all__ = ["compare", "inspect", "read_frame", "read_sidecar"]

logger = logging.getLogger(__name__)


def inspect(
    root: Path,
    order: o.Inspect,
    read: Callable[[Path], tuple[Contents, os.stat_result]] = frames.inspect,
) -> o.HeaderRead | o.HeaderNotReady | o.HeaderRefused | o.HeaderUnreadable:
    """The header of a file in the watched folder, or why there is none.

    Parameters
    ----------
    root : Path
        The watched folder.
    order : Inspect
        Which file.
    read : callable
        `frames.inspect`, or a test's stand-in.
    """
    path = root / order.path
    try:
        at_rest = order.at_rest and not frames.is_tiff(path)
        contents, status = frames.inspect(path, at_rest=True) if at_rest else read(path)
        finished = contents.frames and frames.frames_finished(path)
    except OSError as error:
        logger.debug("%s cannot be read now: %s", printable(order.path), printable(str(error)))
        return o.HeaderUnreadable(order.path, error.strerror or str(error))
    except NotReadyError as error:
        # Foreign TIFFs lie still as well: it is their sidecar that is waited for.
        if order.at_rest and frames.is_tiff(path) and frames.is_listed(path):
            return _listed_at_rest(path, order)
        # A TIFF that SerialEM did not write is listed nowhere and will never be.
        unlisted = isinstance(error, UnlistedError)
        return o.HeaderNotReady(order.path, order.listed, unlisted=unlisted)
    except MicrographError as error:
        return o.HeaderRefused(order.path, order.listed, str(error))
    return o.HeaderRead(order.path, FileStat.of(status), contents, finished)


def _listed_at_rest(path: Path, order: o.Inspect) -> o.HeaderRead | o.HeaderRefused:
    """A TIFF of which nothing will come any more: its sections, or why it is refused.

    A copy that resumes changes the file, and it is inspected again.
    """
    try:
        contents, status = frames.inspect(path, at_rest=True)
        frames.check_whole(path)
    except (MicrographError, OSError) as error:
        return o.HeaderRefused(order.path, order.listed, str(error))
    return o.HeaderRead(order.path, FileStat.of(status), contents)


def compare(root: Path, order: o.Compare, fingerprints: Mapping[int, int]) -> o.Compared | None:
    """Sections of a file whose pixels are not those that were read; None if it cannot be read now.

    Parameters
    ----------
    root : Path
        The watched folder.
    order : Compare
        Which file, and its header.
    fingerprints : mapping of int to int
        Of what was read, by section; from `Ledger.fingerprints`.
    """
    try:
        changed = frames.changed_sections(root / order.path, order.contents, fingerprints)
    except OSError as error:
        logger.debug("%s cannot be compared now: %s", printable(order.path), printable(str(error)))
        return None
    return o.Compared(order.path, tuple(changed))


def read_sidecar(root: Path, order: o.ReadSidecar) -> o.SidecarRead:
    """Metadata of sections of one file; its mdoc or idoc is read once.

    Parameters
    ----------
    root : Path
        The watched folder.
    order : ReadSidecar
        Which sections.
    """
    path = root / order.path
    if find_sidecar(path) is None:
        none = dict.fromkeys(order.sections)
        remarks = dict.fromkeys(order.sections, why) if (why := passed_over(path)) else {}
        return o.SidecarRead(order, none, has_mdoc=False, remarks=remarks)

    def read(sections: Collection[SectionId], *, at_rest: bool) -> dict[SectionId, Entry]:
        numbers, late = (section.z for section in sections), order.late
        found = read_entries(path, numbers, title=order.title, dated=not late, at_rest=at_rest)
        return dict(zip(sections, found, strict=True))

    entries = read(order.sections, at_rest=order.at_rest)
    lacking = [section for section, entry in entries.items() if entry.found is None]
    parts = read(lacking, at_rest=True) if order.late and not order.at_rest else {}
    return o.SidecarRead(
        order,
        {section: entry.found for section, entry in entries.items()},
        has_mdoc=True,
        begun=frozenset(section for section, part in parts.items() if part.found is not None),
        remarks={section: entry.remark for section, entry in entries.items() if entry.remark},
    )


def read_frame(
    root: Path, release: o.Release, file: KnownFile, *, pixel_size_nm: float | None = None
) -> Frame:
    """A released section as a frame, if it is still the one that was found.

    Parameters
    ----------
    root : Path
        The watched folder.
    release : Release
        The section, and its entry in the sidecar.
    file : KnownFile
        What is known of its file now.
    pixel_size_nm : float or None
        From the configuration, for files that say none.

    Raises
    ------
    OverwrittenError
        The file, or this section of it, was written anew.
    NotReadyError, MicrographError, OSError
        As `frames.read_frame`.
    """
    section, path = release.section, root / release.section.path
    sidecar = release.sidecar
    if not release.described:
        sidecar = read_metadata(path, section.z, title=file.title)
    if file.generation_of(section.z) == section.generation:
        # A file without a title may have been found by its length alone, once it lay still.
        at_rest = file.title in ("", frames.UNDATED)
        frame = frames.read_frame(
            path, section, sidecar, pixel_size_nm=pixel_size_nm, at_rest=at_rest
        )
        # The title has SerialEM's time of "Open New": pixels of a newer file of the same name must
        # not pass for this section's.
        if is_same_title(file.title, frame.metadata.file_title or ""):
            return msgspec.structs.replace(frame, written_s=release.written_s)
    msg = f"{path.name}: section {section.z} was written anew before it was read"
    raise OverwrittenError(msg)
