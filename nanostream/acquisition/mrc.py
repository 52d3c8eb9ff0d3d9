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
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition import fei
from nanostream.acquisition.mrc_headers import (
    EXTENDED_BYTES,
    HEADER_BYTES,
    HEADER_DTYPE,
    IMOD_STAMP,
    MrcHeader,
    parse_header,
)
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

#: Rows of a section that make its fingerprint. Two exposures differ in any one row of noise; more
#: rows would cost more reads of a share, the first and the last tell a half written section.
_FINGERPRINT_ROWS = 8


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
            size = stat.st_size
            return parse_header(data, name=name, file_bytes=size, at_rest=at_rest), stat
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
            msg = f"{path.name}: there is no section {z}; the first is 0"
            raise MicrographError(msg)
        if z >= complete:
            has = "1 complete section" if complete == 1 else f"{complete} complete sections"
            msg = f"{path.name}: section {z} is not there yet; the file has {has}, counted from 0"
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
    """Pixel size of a section: the header's, or that of FEI's or Agard's extended header."""
    if header.fei is None:
        return header.pixel_size_nm
    kind = header.fei
    length = fei.record_bytes(_read_record(path, header, 0), kind, header.order)
    record = _read_record(path, replace(header, record_bytes=length), z)
    return fei.pixel_size_nm(record, kind, header.order, header.pixel_size_nm)


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
