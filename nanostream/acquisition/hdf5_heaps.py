"""Damage in an HDF5 file by which its library would search for ever: an object without a length.

Texts of any length are kept in collections. The last object of one is its free space; where the
length of that is zero, as in the hole of a copy, HDF5 1.14.6 does not come to the end of it, and no
signal ends the search.

References
----------
HDF5 File Format Specification 3.0, III.E "Disk Format: Level 1E - Global Heap"; found by fuzzing.
"""

from __future__ import annotations

import functools
import mmap
import struct
from pathlib import Path

__all__ = ["has_endless_heap"]

_MARK = b"GCOL\x01\0\0\0"
_LEAST_BYTES, _HEAD_BYTES = 4096, 16
_OBJECT = struct.Struct("<HH4xQ")


def has_endless_heap(path: Path) -> bool:
    """Whether a collection of the file has an object of no length.

    All of the file is searched, once as long as it is the same.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    """
    status = path.stat()
    return _searched(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _searched(path: Path, size: int, _: int) -> bool:
    if size < _LEAST_BYTES:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(_MARK)
        while place >= 0:
            if _is_endless(data, place):
                return True
            place = data.find(_MARK, place + 1)
    return False


def _is_endless(data: mmap.mmap, start: int) -> bool:
    """Whether an object of the collection at a place has no length."""
    if start + _HEAD_BYTES > len(data):
        return False
    (size,) = struct.unpack_from("<Q", data, start + 8)
    end = start + size
    if size < _LEAST_BYTES or end > len(data):  # none, or HDF5 says so itself
        return False
    place = start + _HEAD_BYTES
    while place + _OBJECT.size <= end:
        number, _, length = _OBJECT.unpack_from(data, place)
        # Of free space the length is that of its head as well; others are filled up to 8 bytes.
        step = length if number == 0 else (_OBJECT.size + (length + 7) // 8 * 8) % 2**64
        if not step:
            return True
        place += step
    return False
