"""Images of TIA series (.ser), one at a time.

Own code and not ncempy's: that parses the .emi file beside a series too, and refuses the pixels if
it cannot; and every offset and size is compared with the file's size here.

References
----------
openNCEM, ``ncempy/io/ser.py``; Boothroyd, "TIA (Emispec) file format" (the format is FEI's own).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.sections import Sections, check_section_size, length_nm
from nanostream.errors import MicrographError

__all__ = ["open_ser"]

#: Byte order "II", the format's number, its version (with offsets of 4 or 8 bytes from 0x0220 on),
#: what an element is, what its tag is, elements in all and those that are there.
_HEADER = struct.Struct("<3H4i")
_ORDER, _SERIES, _LONG_OFFSETS = 0x4949, 0x0197, 0x0220
_SPECTRA, _IMAGES = 0x4120, 0x4122
#: Of an image: offset, pixel size (m, or 1/m of diffraction) and origin of x and y, type, columns
#: and rows.
_ELEMENT = struct.Struct("<ddiddihii")
_TYPES = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8"}
_TYPES |= {9: "<c8", 10: "<c16"}


@contextlib.contextmanager
def open_ser(path: Path) -> Iterator[Sections]:
    """The images of a series, whose rows begin at the bottom in the file, turned upright.

    Raises
    ------
    MicrographError
        No series of images, or one that ends before its pixels do.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file:
        offsets = _offsets(file, path.name)
        if not offsets:
            msg = f"{path.name}: not a micrograph (a series without an image)"
            raise MicrographError(msg)
        yield Sections(len(offsets), lambda z: _read(file, offsets[z], path.name))


def _offsets(file: FileIO, name: str) -> list[int]:
    """Where each image begins."""
    order, series, version, kind, _, _, count = _HEADER.unpack(_at(file, 0, _HEADER.size, name))
    if (order, series) != (_ORDER, _SERIES):
        msg = f"{name}: not a readable .ser file (it does not begin as a series of TIA)"
        raise MicrographError(msg)
    if kind != _IMAGES:
        what = "a series of spectra" if kind == _SPECTRA else f"a series of type {kind:#x}"
        msg = f"{name}: not a micrograph ({what}; images are expected)"
        raise MicrographError(msg)
    if not count:
        return []
    word = "q" if version >= _LONG_OFFSETS else "i"
    size = struct.calcsize(f"<{word}")
    (table,) = struct.unpack(f"<{word}", _at(file, _HEADER.size, size, name))
    return list(struct.unpack(f"<{count}{word}", _at(file, table, count * size, name)))


def _read(file: FileIO, offset: int, name: str) -> tuple[NDArray[Any], float | None]:
    _, pixel, _, _, _, _, kind, columns, rows = _ELEMENT.unpack(
        _at(file, offset, _ELEMENT.size, name)
    )
    if kind not in _TYPES:
        msg = f"{name}: pixels of TIA's type {kind}; it has 1 to 10"
        raise MicrographError(msg)
    dtype = np.dtype(_TYPES[kind])
    check_section_size((rows, columns), dtype.itemsize, name)
    data = _at(file, offset + _ELEMENT.size, rows * columns * dtype.itemsize, name)
    pixels = np.frombuffer(data, dtype).reshape(rows, columns)[::-1]
    # The number of diffraction is in 1/m: as a length larger than any pixel's.
    return pixels, length_nm(pixel, "m")


def _at(file: FileIO, offset: int, length: int, name: str) -> bytes:
    """So many bytes of the file; MicrographError if they are not there."""
    end = os.fstat(file.fileno()).st_size
    data = b""
    if offset >= 0 and 0 <= length <= end - offset:
        file.seek(offset)
        data = file.read(length)
    if len(data) < max(length, 1):
        msg = f"{name}: not a readable .ser file; bytes {offset} to {offset + length} of {end}"
        raise MicrographError(msg)
    return data
