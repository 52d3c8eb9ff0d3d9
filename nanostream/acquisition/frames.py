"""What SerialEM writes, whatever the format: what a file says of itself, sections as frames.

===============  =============================================  =================================
file             a section is complete                          of an older file of its name by
===============  =============================================  =================================
MRC stack        header and size say so                         title of the header
MRC frame stack  all are there, and the frame mdoc              title of the header
TIFF             its mdoc or idoc lists it: SerialEM writes     title of the mdoc, or the time in
                 that after the image is closed                 the idoc
===============  =============================================  =================================
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream.acquisition import mrc, tiffs
from nanostream.acquisition.formats import first_row_of, read_micrograph
from nanostream.acquisition.mdoc import read_mdoc
from nanostream.acquisition.readiness import Contents
from nanostream.errors import MicrographError, NotReadyError
from nanostream.records import Frame, Metadata, SectionId

__all__ = ["Told", "changed_sections", "frames_finished", "inspect", "is_tiff", "read_frame"]

#: What a sidecar says of a section: pixel size in nm, and the rest.
Told = tuple[float | None, Metadata]

#: MinMaxMean is written with %g, six digits.
_SIX_DIGITS = 1e-5


@dataclass(frozen=True)
class _TiffContents:
    """A TIFF file as its sidecar describes it."""

    title: str
    listed: int
    pages: int

    frames = False

    @property
    def state(self) -> str:
        return f"{self.title} {self.listed}"

    def complete_sections(self, file_size: int) -> int:
        return min(self.listed, self.pages)

    def lags(self, file_size: int) -> bool:
        return self.pages > self.listed

    def lacks(self, file_size: int) -> bool:
        return self.pages < self.listed


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF, by its name."""
    return path.suffix.lower() in (".tif", ".tiff")


def inspect(path: Path) -> tuple[Contents, os.stat_result]:
    """What a file says of its sections, and its state at that moment.

    Raises
    ------
    NotReadyError, MicrographError
        As `mrc.read_header`; NotReadyError also for a TIFF that no mdoc or idoc lists, and
        MicrographError for one with more than `tiffs.MOST_PAGES`.
    OSError
        The file cannot be opened or read.
    """
    return _inspect_tiff(path) if is_tiff(path) else mrc.read_header(path)


def frames_finished(path: Path) -> bool:
    """Whether the mdoc of a frame stack is there, which Gatan's plugin writes last."""
    mdoc = read_mdoc(path, 0)
    return mdoc is not None and bool(mdoc.frame_sets)


def changed_sections(path: Path, contents: Contents, fingerprints: Mapping[int, int]) -> list[int]:
    """Sections whose pixels are not those that were read of them; see `mrc.changed_sections`."""
    if isinstance(contents, mrc.MrcHeader):
        return mrc.changed_sections(path, contents, fingerprints)
    return [z for z, known in fingerprints.items() if _tiff_fingerprint(path, z) != known]


def read_frame(
    path: Path, section: SectionId, told: Told | None, *, pixel_size_nm: float | None = None
) -> Frame:
    """One complete section with all that is known of it.

    Parameters
    ----------
    path : Path
        The file of the section.
    section : SectionId
        Its name, and which section of the file.
    told : tuple or None
        From `read_metadata`.
    pixel_size_nm : float or None
        From the configuration, for files that say none.

    Returns
    -------
    Frame
        ``metadata.file_title`` is the title of the file that was read.

    Raises
    ------
    NotReadyError
        The section is not complete, or its pixels are not those that its mdoc or the header
        describe: it is being overwritten, or a share shows the file before its data.
    MicrographError, OSError
        As `mrc.read_section` and `read_micrograph`.
    """
    size_nm, metadata = told or (None, Metadata())
    contents: Contents
    if is_tiff(path):
        contents, status = _inspect_tiff(path)
        if section.z >= contents.complete_sections(status.st_size):
            msg = f"{path.name}: section {section.z} is not listed by its mdoc or idoc"
            raise NotReadyError(msg)
        frame = read_micrograph(path, section.z, section=section)
        pixels, in_file_nm = frame.pixels, frame.pixel_size_nm
    else:
        contents, pixels = mrc.read_section(path, section.z)
        in_file_nm = contents.pixel_size_nm
        metadata = _with_piece(metadata, path, contents, section.z)
        if contradiction := _contradiction(pixels, contents, metadata):
            msg = f"{path.name}: section {section.z} {contradiction}; not all of it may be there"
            raise NotReadyError(msg)
    sources = (
        (size_nm, metadata.pixel_size_source),
        (in_file_nm, "header"),
        (pixel_size_nm, "configuration"),
    )
    chosen_nm, source = next(((nm, source) for nm, source in sources if nm), (None, None))
    metadata = replace(
        metadata,
        pixel_size_source=source,
        file_title=contents.title or None,
        first_row=first_row_of(path),
    )
    return Frame(section, pixels, chosen_nm, metadata)


def _inspect_tiff(path: Path) -> tuple[_TiffContents, os.stat_result]:
    mdoc = read_mdoc(path)
    first = None if mdoc is None else mdoc.section(0, path.name)
    if mdoc is None or first is None:
        msg = f"{path.name}: no mdoc or idoc of SerialEM lists it"
        raise NotReadyError(msg)
    with path.open("rb", buffering=0) as file:
        try:
            pages = len(tiffs.page_offsets(file))
        except ValueError as error:
            msg = f"{path.name}: no complete TIFF ({error})"
            raise NotReadyError(msg) from error
        status = os.fstat(file.fileno())
    if mdoc.images and "DateTime" not in first:  # which is to tell it from others of its name
        msg = f"{path.name}: its entry in the idoc is not complete"
        raise NotReadyError(msg)
    listed = pages if mdoc.frame_sets else max(1, _from_zero(mdoc.sections))
    # Each image of an idoc has its own time; its titles are those of the series.
    title = "" if mdoc.images else next(iter(mdoc.titles), "")
    title = title.strip() or first.get("DateTime", "TIFF")
    return _TiffContents(title, listed, pages), status


def _from_zero(numbers: Container[int]) -> int:
    """How many numbers there are without a gap: 0, 1, 2, ..."""
    return next(n for n in itertools.count() if n not in numbers)


def _tiff_fingerprint(path: Path, z: int) -> int | None:
    try:
        return mrc.fingerprint(read_micrograph(path, z).pixels)
    except MicrographError:  # being rewritten
        return None


def _with_piece(metadata: Metadata, path: Path, header: mrc.MrcHeader, z: int) -> Metadata:
    piece = None if metadata.piece_z is not None else mrc.read_piece(path, header, z)
    if piece is None:
        return metadata
    x, y, montage = piece
    return replace(metadata, piece_x_px=x, piece_y_px=y, piece_z=montage)


def _contradiction(pixels: NDArray[Any], header: mrc.MrcHeader, metadata: Metadata) -> str | None:
    """What mdoc or header say that cannot be true of these pixels, if they can be relied on.

    SerialEM computes both from the pixels as it writes them (KImageStore.cpp,
    ``CheckNewSectionManageMMM``); a program of IMOD may have changed the file since. An mdoc
    with values outside the header's range describes something else: the image before it was
    truncated or scaled to this file's mode.
    """
    if not header.by_serialem:
        return None
    minimum, maximum = cv2.minMaxLoc(pixels)[:2]
    if (told := metadata.min_max_mean) and header.minimum <= told[0] <= told[1] <= header.maximum:
        found = (minimum, maximum, cv2.mean(pixels)[0])
        # SerialEM sums rows of floats in single precision.
        least = 1e-3 * (told[1] - told[0]) if pixels.dtype.kind == "f" else _SIX_DIGITS
        if any(
            abs(a - b) > max(_SIX_DIGITS * abs(b), least) for a, b in zip(found, told, strict=True)
        ):
            numbers = ", ".join(f"{a:g} ({b:g})" for a, b in zip(found, told, strict=True))
            return f"has minimum, maximum and mean (in its mdoc) {numbers}"
    elif minimum == 0 < header.minimum:
        return f"has zeros, and the header a minimum of {header.minimum:g}"
    return None
