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
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

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
    "parse_header",
    "read_header",
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


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC header says; sizes have been checked.

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
    montage : bool
        The sections are pieces of a montage.
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
    montage: bool

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

    def complete_sections(self, file_size: int) -> int:
        """Sections that the header counts and whose bytes lie within `file_size`."""
        return max(0, min(self.nz, (file_size - self.data_offset) // self.section_bytes))


def parse_header(data: bytes, *, name: str) -> MrcHeader:
    """Header from the first 1024 bytes of a file.

    Parameters
    ----------
    data : bytes
        At least 1024 bytes; more are ignored.
    name : str
        For messages.

    Returns
    -------
    MrcHeader

    Raises
    ------
    NotReadyError
        Fewer bytes, or no section yet: SerialEM writes nx = ny = nz = mode = 0 at "Open New".
    MicrographError
        The header cannot be right, or the pixels are of a kind that is no micrograph.

    References
    ----------
    IMOD, ``mrc_format.txt`` and ``readBytesSigned`` in ``b3dutil.c``; SerialEM, ``KStoreMRC.cpp``.
    """
    if len(data) < HEADER_BYTES:
        msg = f"{name}: {len(data)} bytes, an MRC header has {HEADER_BYTES}; not written yet?"
        raise NotReadyError(msg)
    order, raw = _in_byte_order(data[:HEADER_BYTES])
    nx, ny, nz, mode = (int(raw[key]) for key in ("nx", "ny", "nz", "mode"))
    if min(nx, ny, nz) == 0 <= max(nx, ny, nz) and min(nx, ny, nz, mode) >= 0:
        msg = f"{name}: no section saved yet (the header says {nx} x {ny} x {nz})"
        raise NotReadyError(msg)
    if mode not in _TYPES:
        reason = _REFUSED.get(mode, "not known; is this an MRC file?")
        msg = f"{name}: MRC mode {mode} ({reason}); nanostream reads modes {sorted(_TYPES)}"
        raise MicrographError(msg)
    flags = int(raw["imod_flags"]) if raw["imod_stamp"] == IMOD_STAMP else None
    if mode == 0 and flags is not None and flags & _PACKED_4_BITS:
        msg = f"{name}: 4-bit packed frames (IMOD flag {_PACKED_4_BITS}); unpack with newstack"
        raise MicrographError(msg)
    minimum, maximum = float(raw["minimum"]), float(raw["maximum"])
    signed = mode == 0 and _signed_bytes(flags, minimum, maximum)
    dtype = np.dtype("i1" if signed else _TYPES[mode]).newbyteorder(order)
    if not (nx > 0 and ny > 0 and 0 < nz <= _MAX_SECTIONS) or (
        nx * ny * dtype.itemsize > _MAX_SECTION_BYTES
    ):
        msg = (
            f"{name}: the header says {nx} x {ny} pixels, {nz} sections in mode {mode}; "
            "damaged, or not an MRC file"
        )
        raise MicrographError(msg)
    extended = int(raw["next"])
    if not 0 <= extended <= _MAX_EXTENDED_BYTES:
        msg = f"{name}: extended header of {extended} bytes; damaged, or not an MRC file"
        raise MicrographError(msg)
    mx, xlen = int(raw["mx"]), float(raw["xlen"])
    # nint and nreal also serve other writers: they are SerialEM's only if the bytes agree with
    # the flags (IMOD's test).
    nint, nreal = int(raw["nint"]), int(raw["nreal"])
    serialem = nint > 0 and nint == sum(n for bit, n in EXTENDED_BYTES.items() if nreal & bit)
    # Old betas wrote a wrong count of labels (ccpem/mrcfile issue 4).
    count = min(max(int(raw["nlabl"]), 0), 10)
    return MrcHeader(
        nx=nx,
        ny=ny,
        nz=nz,
        mode=mode,
        dtype=dtype,
        extended_bytes=extended,
        extended_type=bytes(raw["exttyp"]).decode("latin-1").strip("\0 "),
        pixel_size_nm=xlen / mx / 10 if mx > 0 and 0 < xlen < np.inf else None,
        minimum=minimum,
        maximum=maximum,
        mean=float(raw["mean"]),
        labels=tuple(
            bytes(label).decode("latin-1").rstrip("\0 ") for label in raw["labels"][:count]
        ),
        montage=bool(serialem and nreal & _MONTAGE),
    )


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


def _signed_bytes(flags: int | None, minimum: float, maximum: float) -> bool:
    """Whether mode 0 means int8, as IMOD decides it (b3dutil.c, ``readBytesSigned``).

    SerialEM has the stamp and a clear flag: unsigned. Without a stamp the range of values decides.
    """
    if flags is not None:
        return bool(flags & _SIGNED_BYTES)
    return minimum < 0 and (maximum < 128 or -minimum > maximum - 128)


def read_header(path: Path) -> tuple[MrcHeader, os.stat_result]:
    """Header of a file and the file's state that goes with it.

    Parameters
    ----------
    path : Path
        The file; it is closed again on return.

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
        return _stable_header(file, path.name)


def _stable_header(file: FileIO, name: str) -> tuple[MrcHeader, os.stat_result]:
    # SerialEM rewrites the header in one call, which is not atomic for a reader: the stat is taken
    # between two reads that must agree.
    data = file.read(HEADER_BYTES)
    for _ in range(3):
        stat = os.fstat(file.fileno())
        file.seek(0)
        before, data = data, file.read(HEADER_BYTES)
        if data == before:
            return parse_header(data, name=name), stat
    msg = f"{name}: its header is being rewritten; look again"
    raise NotReadyError(msg)


def read_section(path: Path, z: int) -> tuple[MrcHeader, NDArray[Any]]:
    """Pixels of one section.

    Parameters
    ----------
    path : Path
        The file; it is closed again on return.
    z : int
        0-based index.

    Returns
    -------
    header : MrcHeader
    pixels : (ny, nx) int8, uint8, int16, float32, uint16 or float16
        In file order and native byte order, in memory of their own.

    Raises
    ------
    NotReadyError
        Section `z` is not complete in the file.
    MicrographError
        As `parse_header`, or `z` is negative.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        header, stat = _stable_header(file, path.name)
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
    return header, pixels.astype(header.dtype.newbyteorder("="), copy=False)
