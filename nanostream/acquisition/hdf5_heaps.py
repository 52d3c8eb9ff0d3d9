"""Damage in an HDF5 file by which its library would search for ever: an object whose length is 0.

Texts of any length are kept in collections. The last object of one is its free space; where the
length of that is zero, as in the hole of a copy, HDF5 1.14.6 does not come to the end of it, and no
signal ends the search.

References
----------
HDF5 File Format Specification 3.0, III.E "Disk Format: Level 1E - Global Heap"; found by fuzzing.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["has_endless_heap"]

_MARK = b"GCOL\x01\0\0\0"
_LEAST_BYTES, _HEAD_BYTES = 4096, 16
_BLOCK_BYTES = 2**20
_OBJECT = struct.Struct("<HH4xQ")


def has_endless_heap(path: Path) -> bool:
    """Whether a collection of the file has an object whose length is 0.

    All of the file is read, once as long as it is the same; it is never mapped, which would keep
    others from shortening it, or end this process when they do.

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
    with path.open("rb") as file:
        return any(_is_endless(file, place, size) for place in _collections(file))


def _collections(file: BinaryIO) -> Iterator[int]:
    """Places at which a collection can begin."""
    start, tail = 0, b""
    while block := file.read(_BLOCK_BYTES):
        data = tail + block
        place = data.find(_MARK)
        while place >= 0:
            yield start - len(tail) + place
            place = data.find(_MARK, place + 1)
        start += len(block)
        tail = data[1 - len(_MARK) :]
        file.seek(start)  # whoever looked at a place has moved


def _is_endless(file: BinaryIO, start: int, file_bytes: int) -> bool:
    """Whether an object of the collection at a place has a length of 0."""
    file.seek(start + len(_MARK))
    head = file.read(8)
    size = int.from_bytes(head, "little")
    end = start + size
    if len(head) < 8 or size < _LEAST_BYTES or end > file_bytes:  # none, or HDF5 refuses it itself
        return False
    place = start + _HEAD_BYTES
    while place + _OBJECT.size <= end:
        file.seek(place)
        found = file.read(_OBJECT.size)
        if len(found) < _OBJECT.size:  # it has become shorter
            return False
        number, _, length = _OBJECT.unpack(found)
        # Of free space the length is that of its head as well; others are filled up to 8 bytes.
        step = length if number == 0 else (_OBJECT.size + (length + 7) // 8 * 8) % 2**64
        if not step:
            return True
        place += step
    return False
