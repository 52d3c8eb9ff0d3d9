"""The way from a file to a frame: which sections a file has, and each of them as a frame.

Live, ``nanostream segment``, notebooks, ``verify`` and ``doctor`` read through here, so that all of
them have the same pixels, pixel size and metadata of a section. Below is a reader for each kind of
file, `mrc`, `tiffs` and `formats`, and `mdoc` for what SerialEM writes beside it; what is
decided about a section is decided here, once:

A section is complete
    ===============  ==========================================  ==================================
    file             while it is being written                   at rest
    ===============  ==========================================  ==================================
    MRC stack        header and size say so                      header and size say so
    MRC frame stack  all are there, and the frame mdoc           header and size say so
    TIFF             its mdoc or idoc lists it: SerialEM writes  its page is there
                     that after the image is closed
    other formats    never: nothing tells                        it is there
    ===============  ==========================================  ==================================

A sidecar belongs to a file
    if its title, with SerialEM's time of "Open New", is that of the MRC header. One that an older
    file of the same name left lends neither pixel size nor metadata. A TIFF has no title of its
    own: it takes that of its mdoc, or the time in the idoc.

The pixel size
    is that of the first of these that says one: 1. the sidecar, RefinedPixelSpacing before the
    PixelSpacing of the section before that of the file; 2. the file itself ("header"); 3. who
    asks: ``--pixel-size`` ("user") before ``[watch] pixel_size_nm`` ("configuration"). What cannot
    be one, below 1e-4 nm or above 1000 nm, is not known. ``--force-pixel-size`` is asked first.

The piece of a montage
    is that of the sidecar, else of the extended header.

The first row
    is at the bottom of the display for an MRC but FEI's own, at the top for every other format.

Pixels
    that mdoc or header of SerialEM contradict are not all there, and refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
from msgspec.structs import replace
from numpy.typing import NDArray

from nanostream.acquisition import formats, mrc, tiffs
from nanostream.acquisition.mdoc import read_listing, read_mdoc, read_metadata
from nanostream.acquisition.readiness import Contents
from nanostream.acquisition.sections import installed_versions, possible_nm
from nanostream.errors import MicrographError, NotReadyError, UnlistedError
from nanostream.records import FirstRow, Frame, Metadata, SectionId

__all__ = [
    "SUFFIXES",
    "UNDATED",
    "SectionCount",
    "SidecarEntry",
    "changed_sections",
    "check_whole",
    "count_sections",
    "first_row_of",
    "frames_finished",
    "inspect",
    "is_listed",
    "is_tiff",
    "read_frame",
    "read_section",
    "remark_on",
    "section_of",
]

#: Endings of the files that can be read, in lower case.
SUFFIXES = (*mrc.MRC_SUFFIXES, *tiffs.SUFFIXES, *formats.SUFFIXES)

#: A section in its sidecar: pixel size in nm, and the rest.
SidecarEntry = tuple[float | None, Metadata]

#: What reads a format beside NumPy and OpenCV, which are named with every result.
_LIBRARIES: dict[str, tuple[str, ...]] = dict.fromkeys(tiffs.SUFFIXES, ("tifffile", "imagecodecs"))
_LIBRARIES |= {".dm3": ("ncempy",), ".dm4": ("ncempy",), ".emd": ("h5py",)}

#: Title of a TIFF whose sidecar has neither a title nor a time.
UNDATED = "TIFF"

#: MinMaxMean is written with %g, six digits.
_SIX_DIGITS = 1e-5


class SectionCount(NamedTuple):
    """Whole sections of a file at rest; ``cut_off`` if the file itself counts more."""

    sections: int
    cut_off: bool


@dataclass(frozen=True)
class _Pages:
    """`Contents` of a file without a header that is written again: its pages, and those listed."""

    title: str
    listed: int
    pages: int
    #: The last page ends with zeros: its pixels may have to come yet, as behind an MRC header that
    #: counts ahead.
    frames: bool = False

    @property
    def state(self) -> str:
        return f"{self.title} {self.listed}"

    @property
    def complete(self) -> int:
        return min(self.listed, self.pages)

    def complete_sections(self, file_size: int) -> int:
        return self.complete

    def lags(self, file_size: int) -> bool:
        return self.pages > self.listed

    def lacks(self, file_size: int) -> bool:
        return self.pages < self.listed


@dataclass(frozen=True)
class _Stored:
    """A section as its reader gives it."""

    contents: Contents
    pixels: NDArray[Any]
    pixel_size_nm: float | None


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF, by its name."""
    return path.suffix.lower() in tiffs.SUFFIXES


def is_listed(path: Path) -> bool:
    """Whether an mdoc or idoc lists a TIFF, in an entry that may lack its end."""
    listing = read_listing(path, at_rest=True)
    return listing is not None and listing[0].section(0, path.name) is not None


def first_row_of(path: str | Path) -> FirstRow:
    """Where SerialEM's display, or a program of the format, shows row 0 of a file's sections.

    An MRC has its origin at the lower left (MRC2014; SerialEM's KImageStore.cpp,
    ``convertForWriting``), all others begin with the line at the top, SerialEM's TIFFs included
    (KStoreIMOD.cpp). An MRC of FEI's begins at the top as well, which only its header says: what is
    read of a file has ``metadata.first_row``.
    """
    return "bottom" if _kind(Path(path)) == "mrc" else "top"


def inspect(path: Path, *, at_rest: bool = False) -> tuple[Contents, os.stat_result]:
    """The contents of a file as it describes them, and its state at that moment.

    Parameters
    ----------
    at_rest : bool
        Nobody writes the file any more: see the module's table.

    Raises
    ------
    NotReadyError, MicrographError
        As `mrc.read_header`; NotReadyError also for a TIFF that is not all there, UnlistedError
        for one that no mdoc or idoc lists (unless at rest), and MicrographError for a format that
        is read at rest only.
    OSError
        The file cannot be opened or read.
    """
    if _kind(path) == "mrc":
        return mrc.read_header(path, at_rest=at_rest)
    # Before it is read: a file that changes meanwhile has another state, and is inspected again.
    status = path.stat()
    with _opened(path, at_rest=at_rest) as (contents, file):
        if contents.complete and isinstance(file, tiffs.Pages) and not at_rest:
            there = file.has_arrived(contents.complete - 1)
            contents = dataclasses.replace(contents, frames=not there)
        return contents, status


def check_whole(path: Path) -> None:
    """Raise a MicrographError if a TIFF at rest ends before the pixels of its last page do."""
    with _opened(path, at_rest=True) as (contents, file):
        if isinstance(file, tiffs.Pages):
            file.has_arrived(contents.pages - 1)


def count_sections(path: Path) -> SectionCount:
    """Whole sections of a file at rest.

    Raises
    ------
    MicrographError
        The file is absent, damaged or of another format.
    """
    with _reading(path):
        contents, status = inspect(path, at_rest=True)
    size = status.st_size
    return SectionCount(contents.complete_sections(size), contents.lacks(size))


def remark_on(path: Path) -> str:
    """Which of several data sets of a file are its sections, and what is left out; or empty.

    Raises
    ------
    MicrographError
        As `count_sections`.
    """
    if _kind(path) != "other":
        return ""
    with formats.open_file(path) as file:
        return file.remark


def frames_finished(path: Path) -> bool:
    """Whether the mdoc of a frame stack is there, which Gatan's plugin writes last.

    Of a TIFF it lists the pages, and may have been copied before them.
    """
    mdoc = None if is_tiff(path) else read_mdoc(path, 0)
    return mdoc is not None and bool(mdoc.frame_sets)


def changed_sections(path: Path, contents: Contents, fingerprints: Mapping[int, int]) -> list[int]:
    """Sections whose pixels are not those that were read of them; see `mrc.changed_sections`."""
    if isinstance(contents, mrc.MrcHeader):
        return mrc.changed_sections(path, contents, fingerprints)
    return [z for z, known in fingerprints.items() if _fingerprint(path, z) != known]


def read_frame(
    path: Path,
    section: SectionId,
    sidecar: SidecarEntry | None,
    *,
    pixel_size_nm: float | None = None,
    at_rest: bool = False,
) -> Frame:
    """One complete section of a file that may still be written, with all that is known of it.

    Parameters
    ----------
    path : Path
        The file of the section.
    section : SectionId
        Its name, and which section of the file.
    sidecar : tuple or None
        From `nanostream.acquisition.mdoc.read_metadata`.
    pixel_size_nm : float or None
        From the configuration, for files that say none.
    at_rest : bool
        The file was found lying still: see `inspect`.

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
        As `inspect`; MicrographError also for pixels that are not a micrograph.
    """
    stored = _read(path, section.z, at_rest=at_rest)
    return _frame(path, section, stored, sidecar, (pixel_size_nm, "configuration"))


def read_section(
    path: Path,
    z: int = 0,
    *,
    section: SectionId | None = None,
    pixel_size_nm: float | None = None,
    given_by: Literal["user", "configuration"] = "user",
    overrule: bool = False,
) -> Frame:
    """One section of a file at rest, with its sidecar: the frame that `read_frame` made live.

    Parameters
    ----------
    path : Path
        Of any format in `SUFFIXES`.
    z : int
        0-based section.
    section : SectionId or None
        Name of the frame; by default the file's name and `z`.
    pixel_size_nm, given_by
        For files that say none, and who says so.
    overrule : bool
        The file is wrong: the given pixel size counts whatever the file says.

    Returns
    -------
    Frame
        Pixels as stored where the type is one of `formats.WIRE_DTYPES`; other integers, and
        floats of 64 bits, become float32. Rows in the order of the file, except .ser, which ncempy
        turns upright.

    Raises
    ------
    NotReadyError
        As `read_frame`.
    MicrographError
        The file is absent, damaged, of another format or in colour, or has no such section.
    """
    with _reading(path):
        stored = _read(path, z, at_rest=True)
        written_s = path.stat().st_mtime
        section = section or section_of(path.name, z)
        sidecar = read_metadata(path, z, title=stored.contents.title, at_rest=True)
        given = (pixel_size_nm, given_by)
        frame = _frame(path, section, stored, sidecar, given, overrule=overrule)
    return replace(frame, written_s=written_s)


def _kind(path: Path) -> Literal["mrc", "tiff", "other"]:
    """The reader of a file, by its name; what is watched under any other name is an MRC."""
    suffix = path.suffix.lower()
    if suffix in tiffs.SUFFIXES:
        return "tiff"
    return "other" if suffix in formats.SUFFIXES else "mrc"


def section_of(name: str, z: int) -> SectionId:
    """The section of a file by the name of the file, or its path below a folder.

    Raises
    ------
    MicrographError
        No section can have such a name.
    """
    try:
        return SectionId(name, z)
    except ValueError as error:
        reason = str(error).rpartition(": ")[2]
        msg = f"{name}: {reason}, so no section can be named by it; rename or copy the file"
        raise MicrographError(msg) from None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Refuses other formats; an error of the system becomes a MicrographError."""
    if path.suffix.lower() not in SUFFIXES:
        msg = f"{path.name}: not a micrograph format; nanostream reads {' '.join(SUFFIXES)}"
        raise MicrographError(msg)
    try:
        yield
    except OSError as error:
        msg = f"{path.name}: cannot be read ({error.strerror or error})"
        raise MicrographError(msg) from error


@contextlib.contextmanager
def _opened(path: Path, *, at_rest: bool) -> Iterator[tuple[_Pages, formats.Sections]]:
    """A file that is no MRC: its contents, and its reader."""
    if is_tiff(path):
        title, listed = _listing(path, at_rest=at_rest)
        with tiffs.open_tiff(path, at_rest=at_rest) as file:
            listed = file.count if listed is None else listed
            listed = max(listed, file.count) if at_rest else listed
            yield _Pages(title, listed, file.count), file
    elif at_rest:
        with formats.open_file(path) as file:
            yield _Pages("", file.count, file.count), file
    else:
        msg = (
            f"{path.name}: nothing tells when a {path.suffix} file is complete, so that it cannot "
            "be watched; nanostream segment reads it"
        )
        raise MicrographError(msg)


def _listing(path: Path, *, at_rest: bool) -> tuple[str, int | None]:
    """Title of a TIFF by its sidecar, and how many of its pages that lists; None: all of them."""
    listing = read_listing(path, at_rest=at_rest)
    first = None if listing is None else listing[0].section(0, path.name)
    if listing is None or first is None:
        if at_rest:
            return "", None
        msg = f"{path.name}: no mdoc or idoc of SerialEM lists it"
        raise UnlistedError(msg)
    mdoc, count = listing
    # The time is to tell it from others of its name.
    if mdoc.images and "DateTime" not in first and not at_rest:
        msg = f"{path.name}: its entry in the idoc is not complete"
        raise NotReadyError(msg)
    # Each image of an idoc has its own time; its titles are those of the series.
    title = "" if mdoc.images else next(iter(mdoc.titles), "")
    title = title.strip() or first.get("DateTime", UNDATED)
    return title, None if mdoc.frame_sets else max(1, count)


def _read(path: Path, z: int, *, at_rest: bool) -> _Stored:
    if _kind(path) == "mrc":
        header, pixels = mrc.read_section(path, z, at_rest=at_rest)
        return _Stored(header, pixels, mrc.read_pixel_size_nm(path, header, z))
    with _opened(path, at_rest=at_rest) as (contents, file):
        if z >= contents.complete and not at_rest:
            msg = f"{path.name}: section {z} is not listed by its mdoc or idoc"
            raise NotReadyError(msg)
        if not 0 <= z < contents.pages:
            has = "1 section" if contents.pages == 1 else f"{contents.pages} sections"
            msg = f"{path.name}: there is no section {z}; the file has {has}, counted from 0"
            raise MicrographError(msg)
        pixels, pixel_size_nm = file.read(z)
        return _Stored(contents, formats.wire_pixels(pixels, path.name), pixel_size_nm)


def _fingerprint(path: Path, z: int) -> int | None:
    try:
        return mrc.fingerprint(_read(path, z, at_rest=True).pixels)
    except MicrographError:  # being rewritten
        return None


def _frame(
    path: Path,
    section: SectionId,
    stored: _Stored,
    sidecar: SidecarEntry | None,
    given: tuple[float | None, str],
    *,
    overrule: bool = False,
) -> Frame:
    """A section as it was read, put together with what describes it."""
    sidecar_nm, metadata = sidecar or (None, Metadata())
    header, pixels = stored.contents, stored.pixels
    if isinstance(header, mrc.MrcHeader):
        metadata = _with_piece(metadata, path, header, section.z)
        contradiction = _contradiction(pixels, header, metadata)
    else:
        contradiction = _row_of_zeros(pixels, metadata)
    if contradiction:
        msg = f"{path.name}: section {section.z} {contradiction}; not all of it may be there"
        raise NotReadyError(msg)
    sizes = (
        given if overrule else (None, None),
        (possible_nm(sidecar_nm), metadata.pixel_size_source),
        (possible_nm(stored.pixel_size_nm), "header"),
        given,
    )
    pixel_size_nm, source = next((size for size in sizes if size[0] is not None), (None, None))
    metadata = replace(
        metadata,
        pixel_size_source=source,
        file_title=stored.contents.title or None,
        first_row=header.first_row if isinstance(header, mrc.MrcHeader) else first_row_of(path),
    )
    return Frame(
        section,
        pixels,
        pixel_size_nm=pixel_size_nm,
        metadata=metadata,
        versions=dict(installed_versions(*_LIBRARIES.get(path.suffix.lower(), ()))),
    )


def _with_piece(metadata: Metadata, path: Path, header: mrc.MrcHeader, z: int) -> Metadata:
    piece = None if metadata.piece_z is not None else mrc.read_piece(path, header, z)
    if piece is None:
        return metadata
    x, y, montage = piece
    return replace(metadata, piece_x_px=x, piece_y_px=y, piece_z=montage)


def _row_of_zeros(pixels: NDArray[Any], metadata: Metadata) -> str | None:
    """A row that has not arrived: it is zero, and the sidecar says that no pixel is.

    Bytes may be scaled from what the sidecar describes, so that their zeros tell nothing.
    """
    if metadata.min_max_mean is None or metadata.min_max_mean[0] <= 0 or pixels.itemsize == 1:
        return None
    empty = ~pixels.any(axis=1)
    if not empty.any():
        return None
    minimum = metadata.min_max_mean[0]
    return f"has zeros only in row {empty.argmax()}, and a minimum of {minimum:g} in its mdoc"


def _contradiction(pixels: NDArray[Any], header: mrc.MrcHeader, metadata: Metadata) -> str | None:
    """A statement of mdoc or header that cannot be true of these pixels, if they can be relied on.

    SerialEM computes both from the pixels as it writes them (KImageStore.cpp,
    ``CheckNewSectionManageMMM``); a program of IMOD may have changed the file since. An mdoc
    with values outside the header's range describes something else: the image before it was
    truncated or scaled to this file's mode.
    """
    if not header.by_serialem:
        return None
    minimum, maximum = cv2.minMaxLoc(pixels)[:2]
    described = metadata.min_max_mean
    if described and header.minimum <= described[0] <= described[1] <= header.maximum:
        pairs = tuple(zip((minimum, maximum, cv2.mean(pixels)[0]), described, strict=True))
        # SerialEM sums rows of floats in single precision.
        least = 1e-3 * (described[1] - described[0]) if pixels.dtype.kind == "f" else _SIX_DIGITS
        if any(abs(a - b) > max(_SIX_DIGITS * abs(b), least) for a, b in pairs):
            numbers = ", ".join(f"{a:g} ({b:g})" for a, b in pairs)
            return f"has minimum, maximum and mean (in its mdoc) {numbers}"
    elif minimum == 0 < header.minimum:
        return f"has zeros, and the header a minimum of {header.minimum:g}"
    return None
