"""MRC headers and one section at a time, safe while SerialEM still writes.

A file is opened, read and closed at once: on Windows any handle or memory map we kept would stop
SerialEM from renaming, re-creating or truncating it. Nothing is opened for writing.

SerialEM writes the pixels of a section first and the header after them, so on a local disk the
header never counts a section whose bytes are not there (KStoreMRC.cpp ``WriteSection``). Own code
instead of a library: ncempy takes SerialEM's extended header for FEI's and returns a wrong pixel
size from 12 sections on, and mrcfile reads SerialEM's unsigned bytes as signed.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import MicrographError, NotReadyError

__all__ = [
    "EXTENDED_BYTES",
    "HEADER_BYTES",
    "HEADER_DTYPE",
    "IMOD_STAMP",
    "MRC_SUFFIXES",
    "MrcHeader",
    "changed_sections",
    "fingerprint",
    "parse_header",
    "read_header",
    "read_piece",
    "read_pixel_size_nm",
    "read_section",
]

#: SerialEM saves .mrc, .st and .map (SerialEMDoc.cpp); .mrcs are frame stacks; IMOD writes .ali,
#: .rec, .preali and .join from them.
MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".map", ".rec", ".ali", ".preali", ".join")

HEADER_BYTES = 1024

#: MRC2014 with the fields IMOD and SerialEM add (KStoreMRC.h; IMOD's mrc_format.txt).
HEADER_DTYPE = np.dtype(
    [
        ("nx", "<i4"),
        ("ny", "<i4"),
        ("nz", "<i4"),
        ("mode", "<i4"),
        ("start", "<i4", 3),
        ("mx", "<i4"),
        ("my", "<i4"),
        ("mz", "<i4"),
        ("xlen", "<f4"),  # of the whole file, Å
        ("ylen", "<f4"),
        ("zlen", "<f4"),
        ("angles", "<f4", 3),
        ("axes", "<i4", 3),
        ("minimum", "<f4"),
        ("maximum", "<f4"),
        ("mean", "<f4"),
        ("ispg", "<i4"),
        ("next", "<i4"),
        ("extra1", "V8"),
        ("exttyp", "S4"),
        ("nversion", "<i4"),
        ("extra2", "V16"),
        ("nint", "<i2"),  # bytes of extended header per section
        ("nreal", "<i2"),  # flags: what they hold
        ("extra3", "V20"),
        ("imod_stamp", "<i4"),
        ("imod_flags", "<i4"),
        ("extra4", "V36"),
        ("origin", "<f4", 3),
        ("map", "S4"),
        ("stamp", "V4"),
        ("rms", "<f4"),
        ("nlabl", "<i4"),
        ("labels", "S80", 10),
    ]
)

#: Bytes of one section's extended header by flag: tilt, montage piece, stage, magnification,
#: intensity, dose (EMimageExtra.cpp l.20-22).
EXTENDED_BYTES = {1: 2, 2: 6, 4: 4, 8: 2, 16: 2, 32: 4}
_MONTAGE = 2
#: Bytes of one section's record in FEI's extended headers (EPU manual; also mrcfile's dtypes),
#: where the pixel size in m is in it, and which bit of its mask says that it is given.
_FEI_BYTES = {"FEI1": 768, "FEI2": 888}
_FEI_MASK, _FEI_PIXEL, _FEI_PIXEL_BIT = 8, 156, 14
#: In Agard's and FEI's older records of 4-byte numbers: the twelfth float.
_AGARD_PIXEL = 11

#: "IMOD": the file's writer sets the flags of the next field (mrc_format.txt).
IMOD_STAMP = 1146047817
_SIGNED_BYTES = 1
_PACKED_4_BITS = 16

_TYPES = {0: "u1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED = {
    3: "complex integers",
    4: "complex numbers, a Fourier transform",
    16: "colour",
    101: "4-bit packed frames",
}

#: SerialEM counts the bytes of a section in an int (KStoreMRC.cpp l.456).
_MAX_SECTION_BYTES = 2**31 - 1
_MAX_SECTIONS = 10**9 - 1  # the largest index that SectionId names
#: SerialEM's extended header has at most 20 bytes a section, FEI's 1 MiB a file; more is damage.
_MAX_EXTENDED_BYTES = 2**28


#: What an extended header may say (IMOD's limits), and what of it are Å in an older record.
_LEAST_PIXEL_NM, _LARGEST_PIXEL_NM = 0.005, 1e4
_LEAST_AGARD_A, _LARGEST_AGARD_A = 0.05, 1e5

#: Rows of a section that make its fingerprint. Two exposures differ in any one row of noise; more
#: rows would cost more reads of a share, the first and the last tell a half written section.
_FINGERPRINT_ROWS = 8

#: IMOD's programs end their labels with the time (``NEWSTACK: Images copied   22-Feb-18  09:36``).
_IMOD_LABEL = re.compile(r"[A-Z][A-Z0-9_]+: .*\d\d-[A-Za-z]{3}-\d\d +\d\d:\d\d:\d\d$")


@dataclass(frozen=True)
class MrcHeader:
    """The contents of an MRC header; sizes have been checked.

    Attributes
    ----------
    nx, ny, nz : int
        Columns, rows and sections, each at least 1.
    mode : int
        0, 1, 2, 6 or 12.
    dtype : numpy.dtype
        Of the stored pixels, with their byte order.
    extended_bytes : int
        Length of the extended header.
    extended_type : str
        ``"SERI"`` for SerialEM, else what the file says, or empty.
    pixel_size_nm : float or None
        None if the header gives none. SerialEM's value includes binning and refinement.
    minimum, maximum, mean : float
        Of all pixels, as SerialEM updates them with each save.
    labels : tuple of str
        Without trailing blanks. The first of a SerialEM file has the time of "Open New".
    order : str
        ``"<"`` or ``">"``: byte order of the file.
    record_bytes, piece_offset, pixel_offset : int
        Length of a section's record of the extended header, and where the coordinates of a
        montage piece and the pixel size are in it; -1 for nowhere.
    """

    nx: int
    ny: int
    nz: int
    mode: int
    dtype: np.dtype[Any]
    extended_bytes: int
    extended_type: str
    pixel_size_nm: float | None
    minimum: float
    maximum: float
    mean: float
    labels: tuple[str, ...]
    order: Literal["<", ">"] = "<"
    record_bytes: int = 0
    piece_offset: int = -1
    pixel_offset: int = -1

    @property
    def section_bytes(self) -> int:
        """Bytes of one section."""
        return self.nx * self.ny * self.dtype.itemsize

    @property
    def data_offset(self) -> int:
        """Where section 0 begins."""
        return HEADER_BYTES + self.extended_bytes

    @property
    def title(self) -> str:
        """First label; SerialEM's has the time of "Open New"."""
        return self.labels[0] if self.labels else ""

    @property
    def data_end(self) -> int:
        """Size of the file when it holds all sections of this header and no more."""
        return self.data_offset + self.nz * self.section_bytes

    @property
    def montage(self) -> bool:
        """The sections are pieces of a montage."""
        return self.piece_offset >= 0

    @property
    def frames(self) -> bool:
        """Written by Gatan's plugin (SerialEMCCD, TemplatePlugIn.cpp l.4455-4738).

        It counts all the frames it expects from the first one on, and corrects that at the end.
        """
        return self.title.startswith("SerialEMCCD:")

    @property
    def by_serialem(self) -> bool:
        """SerialEM wrote it, and no program of IMOD has changed it since."""
        return self.title.startswith("SerialEM:") and not any(map(_IMOD_LABEL.match, self.labels))

    @property
    def state(self) -> str:
        """Number of sections and running values, which SerialEM renews with each save."""
        return f"{self.nz} {self.minimum:.9g} {self.maximum:.9g} {self.mean:.9g}"

    def complete_sections(self, file_size: int) -> int:
        """Sections that the header counts and whose bytes lie within `file_size`."""
        return max(0, min(self.nz, (file_size - self.data_offset) // self.section_bytes))

    def lags(self, file_size: int) -> bool:
        """Whether the file is longer than the header says."""
        return file_size > self.data_end

    def lacks(self, file_size: int) -> bool:
        """Whether the file is shorter than the header says."""
        return file_size < self.data_end


def parse_header(data: bytes, *, name: str, rest_bytes: int | None = None) -> MrcHeader:
    """Header from the first 1024 bytes of a file.

    Parameters
    ----------
    data : bytes
        At least 1024 bytes; more are ignored.
    name : str
        For messages.
    rest_bytes : int or None
        Size of a file that nobody writes any more. A header without map string, stamp and labels
        may then be taken as it is, if it describes a file of exactly this size.

    Returns
    -------
    MrcHeader

    Raises
    ------
    NotReadyError
        Fewer bytes, or no section yet: SerialEM writes nx = ny = nz = mode = 0 at "Open New".
    MicrographError
        The header cannot be right, or the pixels are of a kind that is not a micrograph.

    References
    ----------
    IMOD, ``mrc_format.txt`` and ``readBytesSigned`` in ``b3dutil.c``; SerialEM, ``KStoreMRC.cpp``.
    """
    if len(data) < HEADER_BYTES:
        msg = f"{name}: {len(data)} bytes, an MRC header has {HEADER_BYTES}; not written yet?"
        raise NotReadyError(msg)
    order, raw = _in_byte_order(data[:HEADER_BYTES])
    bare = _check_begun(raw, name, at_rest=rest_bytes is not None)
    dtype = _pixel_dtype(raw, order, name)
    _check_sizes(raw, dtype, name)
    record = _section_record(raw)
    header = MrcHeader(
        nx=int(raw["nx"]),
        ny=int(raw["ny"]),
        nz=int(raw["nz"]),
        mode=int(raw["mode"]),
        dtype=dtype,
        extended_bytes=int(raw["next"]),
        extended_type=_extended_type(raw),
        pixel_size_nm=_pixel_size_nm(raw),
        minimum=float(raw["minimum"]),
        maximum=float(raw["maximum"]),
        mean=float(raw["mean"]),
        labels=_labels(raw),
        order=order,
        record_bytes=record.bytes,
        piece_offset=record.piece_offset,
        pixel_offset=record.pixel_offset,
    )
    if bare and header.data_end != rest_bytes:
        msg = (
            f"{name}: its header is half written, or another program's and the file of "
            f"{rest_bytes} bytes is not whole ({header.data_end} are described)"
        )
        raise NotReadyError(msg)
    return header


class _Record(NamedTuple):
    """A section's record of the extended header: its length, and what is where in it."""

    bytes: int = 0
    piece_offset: int = -1
    pixel_offset: int = -1


def _check_begun(raw: np.void, name: str, *, at_rest: bool) -> bool:
    """Whether the header has sizes only; an error if that may change."""
    sizes = [int(raw[key]) for key in ("nx", "ny", "nz")]
    if min(sizes) == 0 and int(raw["mode"]) >= 0:
        shown = " x ".join(map(str, sizes))
        msg = f"{name}: no section saved yet (the header says {shown})"
        raise NotReadyError(msg)
    half_written = _half_written(raw)
    if half_written and not at_rest:
        msg = f"{name}: its header is half written; try again"
        raise NotReadyError(msg)
    return half_written


def _pixel_dtype(raw: np.void, order: Literal["<", ">"], name: str) -> np.dtype[Any]:
    mode = int(raw["mode"])
    if mode not in _TYPES:
        reason = _REFUSED.get(mode, "not known; is this an MRC file?")
        msg = f"{name}: MRC mode {mode} ({reason}); nanostream reads modes {sorted(_TYPES)}"
        raise MicrographError(msg)
    flags = int(raw["imod_flags"]) if raw["imod_stamp"] == IMOD_STAMP else None
    if mode == 0 and flags is not None and flags & _PACKED_4_BITS:
        msg = f"{name}: 4-bit packed frames (IMOD flag {_PACKED_4_BITS}); unpack with newstack"
        raise MicrographError(msg)
    signed = mode == 0 and _signed_bytes(flags, float(raw["minimum"]), float(raw["maximum"]))
    return np.dtype("i1" if signed else _TYPES[mode]).newbyteorder(order)


def _check_sizes(raw: np.void, dtype: np.dtype[Any], name: str) -> None:
    nx, ny, nz, extended = (int(raw[key]) for key in ("nx", "ny", "nz", "next"))
    if not (nx > 0 and ny > 0 and 0 < nz <= _MAX_SECTIONS) or (
        nx * ny * dtype.itemsize > _MAX_SECTION_BYTES
    ):
        msg = (
            f"{name}: the header says {nx} x {ny} pixels, {nz} sections in mode {raw['mode']}; "
            "damaged, or not an MRC file"
        )
        raise MicrographError(msg)
    if not 0 <= extended <= _MAX_EXTENDED_BYTES:
        msg = f"{name}: extended header of {extended} bytes; damaged, or not an MRC file"
        raise MicrographError(msg)


def _pixel_size_nm(raw: np.void) -> float | None:
    mx, xlen = int(raw["mx"]), float(raw["xlen"])
    return xlen / mx / 10 if mx > 0 and 0 < xlen < np.inf else None


def _labels(raw: np.void) -> tuple[str, ...]:
    # Old betas wrote a wrong count of labels (ccpem/mrcfile issue 4).
    count = min(max(int(raw["nlabl"]), 0), 10)
    return tuple(
        # Some writers leave what was there before behind the end of a C string.
        bytes(label).partition(b"\0")[0].decode("latin-1").rstrip()
        for label in raw["labels"][:count]
    )


def _extended_type(raw: np.void) -> str:
    return bytes(raw["exttyp"]).decode("latin-1").strip("\0 ")


def _section_record(raw: np.void) -> _Record:
    if (size := _FEI_BYTES.get(_extended_type(raw))) is not None:
        return _Record(size, pixel_offset=_FEI_PIXEL)
    # nint and nreal are SerialEM's only if the bytes agree with the flags, and else the numbers of
    # integers and floats of Agard's and FEI's older records (both are IMOD's tests).
    nint, nreal = int(raw["nint"]), int(raw["nreal"])
    if nint > 0 and nint == sum(n for bit, n in EXTENDED_BYTES.items() if nreal & bit):
        # Only the tilt angle comes before the piece (EMimageExtra.cpp l.74-93).
        return _Record(nint, EXTENDED_BYTES[1] * (nreal & 1) if nreal & _MONTAGE else -1)
    if nint >= 0 and nreal > _AGARD_PIXEL:
        return _Record(4 * (nint + nreal), pixel_offset=4 * (nint + _AGARD_PIXEL))
    return _Record()


def _in_byte_order(data: bytes) -> tuple[Literal["<", ">"], np.void]:
    """The header in the order of its machine stamp, or in the one in which its sizes make sense.

    SerialEM betas before 2018 and some converters wrote bad stamps.
    """
    little: np.void = np.frombuffer(data, HEADER_DTYPE)[0]
    big: np.void = np.frombuffer(data, HEADER_DTYPE.newbyteorder(">"))[0]
    orders: list[tuple[Literal["<", ">"], np.void]] = [("<", little), (">", big)]
    if data[212] == 0x11:
        orders.reverse()
    for order, raw in orders:
        if 0 <= raw["mode"] <= 101 and 0 <= raw["nx"] < 2**20 and 0 <= raw["ny"] < 2**20:
            return order, raw
    return orders[0]


def _half_written(raw: np.void) -> bool:
    """Whether a first header is there in part only: sizes, and not what SerialEM writes with them.

    Its "Open New" leaves "SERI" and "MAP ", and the first save adds mx and the labels; the plugin
    for Gatan cameras writes all at once over zeros.
    """
    first_label = bytes(raw["labels"][0]).strip(b"\0 ")
    if bytes(raw["exttyp"]) == b"SERI":
        return not first_label or int(raw["mx"]) == 0
    stamps = bytes(raw["map"]) + bytes(raw["stamp"])
    return not first_label and not stamps.strip(b"\0")


def _signed_bytes(flags: int | None, minimum: float, maximum: float) -> bool:
    """Whether mode 0 means int8, as IMOD decides it (b3dutil.c, ``readBytesSigned``).

    SerialEM has the stamp and a clear flag: unsigned. Without a stamp the range of values decides.
    """
    if flags is not None:
        return bool(flags & _SIGNED_BYTES)
    return minimum < 0 and (maximum < 128 or -minimum > maximum - 128)


def read_header(path: Path, *, at_rest: bool = False) -> tuple[MrcHeader, os.stat_result]:
    """Header of a file and the file's state that goes with it.

    Parameters
    ----------
    path : Path
        The file; it is closed again on return.
    at_rest : bool
        Nobody writes it any more, see `parse_header`.

    Returns
    -------
    header : MrcHeader
    stat : os.stat_result
        Taken while the header was as returned.

    Raises
    ------
    NotReadyError, MicrographError
        As `parse_header`; also NotReadyError while the header is being rewritten.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        return _stable_header(file, path.name, at_rest=at_rest)


def _stable_header(file: FileIO, name: str, *, at_rest: bool) -> tuple[MrcHeader, os.stat_result]:
    # SerialEM rewrites the header in one call, which is not atomic for a reader: the stat is taken
    # between two reads that must agree.
    data = file.read(HEADER_BYTES)
    for _ in range(3):
        stat = os.fstat(file.fileno())
        file.seek(0)
        before, data = data, file.read(HEADER_BYTES)
        if data == before:
            size = stat.st_size if at_rest else None
            return parse_header(data, name=name, rest_bytes=size), stat
    msg = f"{name}: its header is being rewritten; try again"
    raise NotReadyError(msg)


def read_section(path: Path, z: int, *, at_rest: bool = False) -> tuple[MrcHeader, NDArray[Any]]:
    """Pixels of one section.

    Parameters
    ----------
    path : Path
        The file; it is closed again on return.
    z : int
        0-based index.
    at_rest : bool
        As `read_header`.

    Returns
    -------
    header : MrcHeader
    pixels : (ny, nx) int8, uint8, int16, float32, uint16 or float16
        In file order and native byte order, in memory of their own.

    Raises
    ------
    NotReadyError
        Section `z` is not complete in the file, or is being overwritten.
    MicrographError
        As `parse_header`, or `z` is negative.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        header, stat = _stable_header(file, path.name, at_rest=at_rest)
        complete = header.complete_sections(stat.st_size)
        if z < 0:
            msg = f"{path.name}: section {z} asked for; the first is 0"
            raise MicrographError(msg)
        if z >= complete:
            msg = f"{path.name}: section {z} asked for, {complete} are complete"
            raise NotReadyError(msg)
        pixels = np.empty((header.ny, header.nx), header.dtype)
        view = pixels.data.cast("B")
        file.seek(header.data_offset + z * header.section_bytes)
        while view:
            count = file.readinto(view)
            if not count:
                msg = f"{path.name}: section {z} ends early; the file was cut while it was read"
                raise NotReadyError(msg)
            view = view[count:]
        pixels = pixels.astype(header.dtype.newbyteorder("="), copy=False)
        if _fingerprint_on_disk(file, header, z) != fingerprint(pixels):
            msg = f"{path.name}: section {z} was written while it was read; try again"
            raise NotReadyError(msg)
    return header, pixels


def fingerprint(pixels: NDArray[Any]) -> int:
    """Checksum of a few rows of a section: cheap to take again from the file.

    Parameters
    ----------
    pixels : (ny, nx)
        In native byte order.
    """
    checksum = 0
    for row in _fingerprint_rows(len(pixels)):
        checksum = zlib.crc32(np.ascontiguousarray(pixels[row]).data, checksum)
    return checksum


def changed_sections(path: Path, header: MrcHeader, fingerprints: Mapping[int, int]) -> list[int]:
    """Sections whose pixels in the file are not those that were read of them.

    Parameters
    ----------
    header : MrcHeader
        Of the file now.
    fingerprints : mapping of z to int
        From `fingerprint` of what was read; sections of which nothing is known are left out.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        return [
            z
            for z, known in sorted(fingerprints.items())
            if z < header.nz and _fingerprint_on_disk(file, header, z) != known
        ]


def read_piece(path: Path, header: MrcHeader, z: int) -> tuple[int, int, int] | None:
    """Coordinates of a montage piece from the extended header: x and y in px, montage section.

    Returns
    -------
    tuple or None
        None if the file is no montage, or its extended header ends before. All zero where
        SerialEM has not written them yet, a moment after the section is complete.

    References
    ----------
    SerialEM, ``EMimageExtra.cpp`` l.74-93.
    """
    data = _read_record(path, header, z)
    if not header.montage or len(data) < header.piece_offset + 6:
        return None
    x, y, piece_z = struct.unpack_from("<HHh", data, header.piece_offset)
    return x, y, piece_z


def read_pixel_size_nm(path: Path, header: MrcHeader, z: int) -> float | None:
    """Pixel size of a section: the header's, or that of FEI's or Agard's extended header.

    Notes
    -----
    Those who write it there leave 1 Å in the header, and programs that bin the images 2 to 4. A
    header that says anything else has been set since. The older records should have metres; UCSF's
    have Å.

    References
    ----------
    IMOD, ``header.f90`` (Agard's and FEI's older records, binning) and ``extraheader.c``.
    """
    stated = header.pixel_size_nm
    binning = 1 if stated is None else round(stated * 10)
    unset = stated is None or (1 <= binning <= 4 and abs(stated * 10 - binning) < 1e-6)
    if header.pixel_offset < 0 or not unset:
        return stated
    metres = _read_pixel_size_m(_read_record(path, header, z), header)
    nm = metres * 1e9 * binning
    return nm if _LEAST_PIXEL_NM <= nm <= _LARGEST_PIXEL_NM else stated


def _read_pixel_size_m(record: bytes, header: MrcHeader) -> float:
    """Pixel size of a record; 0 if it has none."""
    order, offset = header.order, header.pixel_offset
    try:
        if header.extended_type in _FEI_BYTES:
            (mask,) = struct.unpack_from(f"{order}I", record, _FEI_MASK)
            (metres,) = struct.unpack_from(f"{order}d", record, offset)
            return float(metres) if mask >> _FEI_PIXEL_BIT & 1 else 0.0
        (size,) = struct.unpack_from(f"{order}f", record, offset)
    except struct.error:  # the extended header ends before
        return 0.0
    return float(size) * (1e-10 if _LEAST_AGARD_A < size < _LARGEST_AGARD_A else 1.0)


def _read_record(path: Path, header: MrcHeader, z: int) -> bytes:
    """Record of a section in the extended header, as far as it is there."""
    start = z * header.record_bytes
    length = min(header.record_bytes, header.extended_bytes - start)
    if length <= 0:
        return b""
    with path.open("rb", buffering=0) as file:
        file.seek(HEADER_BYTES + start)
        return file.read(length)


def _fingerprint_rows(count: int) -> list[int]:
    last = count - 1
    return sorted({round(last * i / (_FINGERPRINT_ROWS - 1)) for i in range(_FINGERPRINT_ROWS)})


def _fingerprint_on_disk(file: FileIO, header: MrcHeader, z: int) -> int:
    checksum = 0
    row_bytes = header.nx * header.dtype.itemsize
    for row in _fingerprint_rows(header.ny):
        file.seek(header.data_offset + z * header.section_bytes + row * row_bytes)
        data = file.read(row_bytes)  # less where the file was cut meanwhile: differs as well
        values = np.frombuffer(data, header.dtype, len(data) // header.dtype.itemsize)
        checksum = zlib.crc32(values.astype(header.dtype.newbyteorder("=")).data, checksum)
    return checksum
