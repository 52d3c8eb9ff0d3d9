"""MRC headers, judged by all that speaks for and against them.

What the bytes of a header mean depends on their order, and nobody writes all marks right: the mode,
the sizes, the axes, the machine stamp and the length of the file are weighed together
(`parse_header`). A header may also be half written, or count an extended header that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nanostream.acquisition.fei import FeiRecord, fei_record, first_row
from nanostream.acquisition.sections import MOST_SECTION_BYTES
from nanostream.errors import MicrographError, NotReadyError
from nanostream.records import FirstRow

__all__ = [
    "EXTENDED_BYTES",
    "HEADER_BYTES",
    "HEADER_DTYPE",
    "IMOD_STAMP",
    "MrcHeader",
    "parse_header",
]

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

#: Byte order of a file.
Order = Literal["<", ">"]

_TYPES = {0: "u1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED = {
    3: "complex integers",
    4: "complex numbers, a Fourier transform",
    16: "colour",
    101: "4-bit packed frames",
}

_MAX_SECTIONS = 10**9 - 1  # the largest index that SectionId names
#: SerialEM's extended header has at most 20 bytes a section, FEI's 1 MiB a file; more is damage.
_MAX_EXTENDED_BYTES = 2**28


#: Columns and rows of an image at most, where the other byte order makes sense as well.
_MAX_SIDE = 2**20
#: The stamp's first byte by order; SerialEM betas before 2018 and some converters wrote bad ones.
_STAMPS: dict[int, Order] = {0x44: "<", 0x11: ">"}
#: Made once: to turn a type with some forty fields takes longer than all the rest of a header.
_DTYPES: dict[Order, np.dtype[Any]] = {"<": HEADER_DTYPE, ">": HEADER_DTYPE.newbyteorder(">")}
_NAMES = HEADER_DTYPE.names or ()
#: What `_evidence` gives at most.
_ALL_EVIDENCE = (True, 10)

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
    record_bytes, piece_offset : int
        Length of a section's record of the extended header, and where the coordinates of a
        montage piece are in it; -1 for nowhere.
    fei : FeiRecord or None
        How the records are made if they are FEI's or Agard's, with the pixel size.
    first_row : str
        Where row 0 is shown, "bottom" or "top".
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
    order: Order = "<"
    record_bytes: int = 0
    piece_offset: int = -1
    fei: FeiRecord | None = None
    first_row: FirstRow = "bottom"

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


def parse_header(
    data: bytes, *, name: str, file_bytes: int | None = None, at_rest: bool = False
) -> MrcHeader:
    """Header from the first 1024 bytes of a file.

    Parameters
    ----------
    data : bytes
        At least 1024 bytes; more are ignored.
    name : str
        For messages.
    file_bytes : int or None
        Size of the file, if it is known: the sizes of a right header agree with it.
    at_rest : bool
        Nobody writes the file any more: a header without map string, stamp and labels is taken as
        it is, if it describes a file of exactly this size.

    Returns
    -------
    MrcHeader

    Raises
    ------
    NotReadyError
        Fewer bytes, or no section yet: SerialEM writes nx = ny = nz = mode = 0 at "Open New". Of a
        file that is not at rest also where the extended header is not there.
    MicrographError
        The header cannot be right, or the pixels are of a kind that is not a micrograph, or the
        extended header that it counts is not there.

    References
    ----------
    IMOD, ``mrc_format.txt`` and ``readBytesSigned`` in ``b3dutil.c``; SerialEM, ``KStoreMRC.cpp``.
    """
    if len(data) < HEADER_BYTES:
        msg = f"{name}: {len(data)} bytes, an MRC header has {HEADER_BYTES}; not written yet?"
        raise NotReadyError(msg)
    order, raw = _in_byte_order(data[:HEADER_BYTES], file_bytes)
    bare = _check_begun(raw, name, at_rest=at_rest)
    dtype = _pixel_dtype(raw, order, name)
    _check_sizes(raw, dtype, name)
    header = _header(raw, dtype, order)
    if bare and header.data_end != file_bytes:
        msg = (
            f"{name}: its header is half written, or another program's and the file of "
            f"{file_bytes} bytes is not whole ({header.data_end} are described)"
        )
        raise NotReadyError(msg)
    _check_extended(header, name, file_bytes, at_rest=at_rest)
    return header


def _header(raw: Mapping[str, Any], dtype: np.dtype[Any], order: Order) -> MrcHeader:
    """A header whose sizes have been checked."""
    fei, record_bytes, piece_offset = _records(raw)
    return MrcHeader(
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
        record_bytes=record_bytes,
        piece_offset=piece_offset,
        fei=fei,
        first_row=first_row(
            _extended_type(raw), int(raw["axes"][1]), by_imod=raw["imod_stamp"] == IMOD_STAMP
        ),
    )


def _check_extended(header: MrcHeader, name: str, file_bytes: int | None, *, at_rest: bool) -> None:
    """Refuse a file that has its pixels where an extended header should be."""
    absent = file_bytes == HEADER_BYTES + header.nz * header.section_bytes
    if not (header.extended_bytes and absent):
        return
    msg = (
        f"{name}: its header counts an extended header of {header.extended_bytes} bytes, and the "
        "file has none: it is as long as its pixels alone"
    )
    raise (MicrographError if at_rest else NotReadyError)(msg)


def _check_begun(raw: Mapping[str, Any], name: str, *, at_rest: bool) -> bool:
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


def _pixel_dtype(raw: Mapping[str, Any], order: Order, name: str) -> np.dtype[Any]:
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


def _check_sizes(raw: Mapping[str, Any], dtype: np.dtype[Any], name: str) -> None:
    nx, ny, nz, extended = (int(raw[key]) for key in ("nx", "ny", "nz", "next"))
    if not (nx > 0 and ny > 0 and 0 < nz <= _MAX_SECTIONS) or (
        nx * ny * dtype.itemsize > MOST_SECTION_BYTES
    ):
        msg = (
            f"{name}: the header says {nx} x {ny} pixels, {nz} sections in mode {raw['mode']}; "
            "damaged, or not an MRC file"
        )
        raise MicrographError(msg)
    if not 0 <= extended <= _MAX_EXTENDED_BYTES:
        msg = f"{name}: extended header of {extended} bytes; damaged, or not an MRC file"
        raise MicrographError(msg)


def _pixel_size_nm(raw: Mapping[str, Any]) -> float | None:
    """Of the columns, which run along x unless the axes say that they are another."""
    axes = [abs(axis) for axis in raw["axes"].tolist()]
    name = "xyz"[axes[0] - 1] if sorted(axes) == [1, 2, 3] else "x"
    intervals, length = int(raw[f"m{name}"]), float(raw[f"{name}len"])
    return length / intervals / 10 if intervals > 0 and 0 < length < np.inf else None


def _labels(raw: Mapping[str, Any]) -> tuple[str, ...]:
    # Old betas wrote a wrong count of labels (ccpem/mrcfile issue 4).
    count = min(max(int(raw["nlabl"]), 0), 10)
    return tuple(
        # Some writers leave what was there before behind the end of a C string.
        bytes(label).partition(b"\0")[0].decode("latin-1").rstrip()
        for label in raw["labels"][:count]
    )


def _extended_type(raw: Mapping[str, Any]) -> str:
    return bytes(raw["exttyp"]).decode("latin-1").strip("\0 ")


def _records(raw: Mapping[str, Any]) -> tuple[FeiRecord | None, int, int]:
    """FEI's records, or the length of SerialEM's and where the piece of a montage is in them.

    nint and nreal are SerialEM's only if the bytes agree with the flags, and else the numbers of
    integers and floats of Agard's and FEI's older records (both are IMOD's tests).
    """
    nint, nreal = int(raw["nint"]), int(raw["nreal"])
    by_serialem = nint > 0 and nint == sum(n for bit, n in EXTENDED_BYTES.items() if nreal & bit)
    fei = fei_record(_extended_type(raw), 0 if by_serialem else nint, 0 if by_serialem else nreal)
    if fei is not None:
        return fei, fei.bytes, -1
    if not by_serialem:
        return None, 0, -1
    # Only the tilt angle comes before the piece (EMimageExtra.cpp l.74-93).
    return None, nint, EXTENDED_BYTES[1] * (nreal & 1) if nreal & _MONTAGE else -1


def _in_byte_order(data: bytes, file_bytes: int | None) -> tuple[Order, Mapping[str, Any]]:
    """The header in the order for which more speaks; little-endian if that is the same."""
    stamped = _STAMPS.get(data[212])
    found: dict[Order, tuple[tuple[bool, int], Mapping[str, Any]]] = {}
    orders: tuple[Order, ...] = (">", "<") if stamped == ">" else ("<", ">")
    for order in orders:
        raw = _fields(data, order)
        found[order] = _evidence(raw, file_bytes, stamped=order == stamped), raw
        if found[order][0] == _ALL_EVIDENCE:  # of nearly every file: nothing speaks for the other
            return order, raw
    little, big = found["<"], found[">"]
    return ("<", little[1]) if little[0] >= big[0] else (">", big[1])


def _fields(data: bytes, order: Order) -> Mapping[str, Any]:
    """The fields by their names, as Python's own values: each is asked for several times."""
    values: tuple[Any, ...] = np.frombuffer(data, _DTYPES[order])[0].item()
    return dict(zip(_NAMES, values, strict=True))


def _evidence(raw: Mapping[str, Any], file_bytes: int | None, *, stamped: bool) -> tuple[bool, int]:
    """Evidence for a byte order: that the numbers are possible, and how many marks agree.

    The mode and the sizes tell most files. Of 8 bits and with sides of 256 and more both orders
    make sense: then the length of the file counts most, the axes after it, the stamp least.
    """
    nx, ny, nz, mode, extended = (int(raw[key]) for key in ("nx", "ny", "nz", "mode", "next"))
    known = mode in _TYPES or mode in _REFUSED
    possible = known and 0 <= nx < _MAX_SIDE and 0 <= ny < _MAX_SIDE and 0 <= nz <= _MAX_SECTIONS
    section = nx * ny * np.dtype(_TYPES.get(mode, "u1")).itemsize
    possible &= section <= MOST_SECTION_BYTES and 0 <= extended <= _MAX_EXTENDED_BYTES
    end = HEADER_BYTES + extended + nz * section
    whole = file_bytes is not None and end == file_bytes
    fits = file_bytes is not None and end <= file_bytes
    axes = sorted(map(abs, raw["axes"].tolist())) == [1, 2, 3]
    return possible, 4 * whole + 3 * axes + 2 * fits + stamped


def _half_written(raw: Mapping[str, Any]) -> bool:
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
