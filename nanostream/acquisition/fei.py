"""FEI's and Agard's MRC files: the pixel size in the extended header, and where the rows begin.

Those who write a pixel size there leave 1 Å in the header, and programs that bin the images 2 to 4;
a header that says anything else has been set since. The older records should have metres; UCSF's
have Å.

References
----------
IMOD, ``header.f90`` (Agard's and FEI's older records, binning), ``extraheader.c`` and
``mrc_format.txt`` (the order of rows); EPU manual and mrcfile's ``dtypes.py`` (FEI1 and FEI2).
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from nanostream.records import FirstRow

__all__ = ["FeiRecord", "fei_record", "first_row", "pixel_size_nm", "record_bytes"]

#: Bytes of one section's record by the name of the type, where the pixel size in m is in it, and
#: which bit of its mask says that it is given.
_BYTES = {"FEI1": 768, "FEI2": 888}
_MASK, _PIXEL, _PIXEL_BIT = 8, 156, 14
#: The axis of the rows where they begin at the top, by a convention that IMOD knows.
_ROWS_DOWN = -2
#: A record that says it is longer is damaged.
_LONGEST_BYTES = 2**20
#: In the older records of 4-byte numbers: the twelfth float.
_OLDER_PIXEL = 11
#: What an extended header may say (IMOD's limits), and what of it are Å in an older record.
_LEAST_NM, _LARGEST_NM = 0.005, 1e4
_LEAST_A, _LARGEST_A = 0.05, 1e5
_M_OF_A = 1e-10


class FeiRecord(NamedTuple):
    """A section's record: its length, where its pixel size is, and whether it is of FEI1 or 2."""

    bytes: int
    pixel_offset: int
    typed: bool


def fei_record(extended_type: str, integers: int, floats: int) -> FeiRecord | None:
    """The records of an extended header; None if it has none with a pixel size.

    Parameters
    ----------
    extended_type : str
        Of the header.
    integers, floats : int
        Numbers of 4 bytes in an older record, which has no type: the header's nint and nreal.
    """
    if extended_type in _BYTES:
        return FeiRecord(_BYTES[extended_type], _PIXEL, typed=True)
    if integers >= 0 and floats > _OLDER_PIXEL:
        return FeiRecord(4 * (integers + floats), 4 * (integers + _OLDER_PIXEL), typed=False)
    return None


def first_row(extended_type: str, axis_of_rows: int, *, by_imod: bool) -> FirstRow:
    """Where programs of the format show row 0: at the bottom, but for FEI's own files.

    Parameters
    ----------
    extended_type : str
        Of the header.
    axis_of_rows : int
        The header's mapr.
    by_imod : bool
        A program that writes as IMOD does has made it: it has turned the rows.
    """
    down = axis_of_rows == _ROWS_DOWN or (extended_type in _BYTES and not by_imod)
    return "top" if down else "bottom"


def record_bytes(first: bytes, record: FeiRecord, order: Literal["<", ">"]) -> int:
    """Length of each record, which the first one of FEI1 and FEI2 says: versions have added to it.

    Parameters
    ----------
    first : bytes
        The first record, as far as it is there.
    """
    if record.typed and len(first) >= struct.calcsize("i"):
        (length,) = struct.unpack_from(f"{order}i", first)
        if record.pixel_offset < length <= _LONGEST_BYTES:
            return int(length)
    return record.bytes


def pixel_size_nm(
    data: bytes, record: FeiRecord, order: Literal["<", ">"], stated_nm: float | None
) -> float | None:
    """The pixel size of a record, or the header's.

    Parameters
    ----------
    data : bytes
        The record, as far as it is there.
    order : str
        Byte order of the file.
    stated_nm : float or None
        Of the header.
    """
    possible = stated_nm is not None and 1 <= round(stated_nm * 10) <= 4
    binning = round(stated_nm * 10) if stated_nm is not None and possible else 1
    set_since = (
        stated_nm is not None
        and _LEAST_NM <= stated_nm <= _LARGEST_NM
        and not (possible and abs(stated_nm * 10 - binning) < 1e-6)
    )
    if set_since:
        return stated_nm
    nm = _metres(data, record, order) * 1e9 * binning
    return nm if _LEAST_NM <= nm <= _LARGEST_NM else stated_nm


def _metres(data: bytes, record: FeiRecord, order: Literal["<", ">"]) -> float:
    """The pixel size of a record in m; 0 if it has none."""
    try:
        if record.typed:
            (mask,) = struct.unpack_from(f"{order}I", data, _MASK)
            (metres,) = struct.unpack_from(f"{order}d", data, record.pixel_offset)
            return float(metres) if mask >> _PIXEL_BIT & 1 else 0.0
        (size,) = struct.unpack_from(f"{order}f", data, record.pixel_offset)
    except struct.error:  # the extended header ends before
        return 0.0
    return float(size) * (_M_OF_A if _LEAST_A < size < _LARGEST_A else 1.0)
