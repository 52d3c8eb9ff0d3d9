"""TIFF files page by page, without reading the others.

A TIFF is a chain of directories (TIFF 6.0; BigTIFF has 64-bit offsets), and OpenCV decodes from
memory: `read_page` copies what one directory names into a TIFF of its own. Every offset and length
is compared with the file's size first. The pixel size is that of ImageJ's unit, or of the
resolution in cm or inches.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.formats import Sections, length_nm, refusals
from nanostream.errors import MicrographError, NotReadyError

__all__ = [
    "MOST_PAGES",
    "SUFFIXES",
    "open_tiff",
    "page_offsets",
    "read_calibration",
    "read_page",
]

SUFFIXES = (".tif", ".tiff")
#: More pages than an exposure or a tilt series has; each costs two reads.
MOST_PAGES = 10_000
#: Bytes of one value by type number.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
_INTEGERS = {3: "H", 4: "I", 16: "Q"}
#: Tags with the places and the lengths of strips or tiles.
_CHUNKS = ((273, 279), (324, 325))
#: Pointers to further directories: thumbnails and camera data.
_DIRECTORIES = (330, 34665, 34853)
_LONG, _LONG8 = 4, 16


@dataclass(frozen=True)
class _Kind:
    """Byte order and field sizes of one file."""

    order: str
    word: str  # of an offset
    counter: str  # of the number of entries
    start: int  # where the first offset stands
    size: int  # of the file

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HH{self.word}{self.word_bytes}s")

    @property
    def word_bytes(self) -> int:
        return struct.calcsize(f"={self.word}")

    def number(self, data: bytes, letter: str) -> int:
        return int(struct.unpack(f"{self.order}{letter}", data)[0])


@contextlib.contextmanager
def open_tiff(path: Path) -> Iterator[Sections]:
    """The pages of a file.

    Raises
    ------
    NotReadyError
        The file, or a page that is read, ends early.
    MicrographError
        The file has more than `MOST_PAGES`, or a page that OpenCV does not read.
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb", buffering=0) as file, refusals(path):
        with _early_end(path):
            offsets = page_offsets(file)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            with _early_end(path):
                page = read_page(file, offsets[z])
                # ImageJ describes the first page only.
                tags = read_calibration(file, offsets[0]) | read_calibration(file, offsets[z])
            # From memory: OpenCV opens no names outside the ANSI code page on Windows.
            image = cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None:
                msg = f"{path.name}: a kind of TIFF that OpenCV does not read; save it uncompressed"
                raise MicrographError(msg)
            return np.asarray(image), _pixel_size_nm(tags)

        yield Sections(len(offsets), read)


@contextlib.contextmanager
def _early_end(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        msg = f"{path.name}: no complete TIFF ({error})"
        raise NotReadyError(msg) from error


def page_offsets(file: FileIO) -> list[int]:
    """Where the directory of each page is.

    Raises
    ------
    ValueError
        No TIFF, or it ends early: not all of it is written.
    MicrographError
        More than `MOST_PAGES`.
    """
    kind = _kind(file)
    offset = kind.number(_at(file, kind.size, kind.start, kind.word_bytes), kind.word)
    offsets: dict[int, None] = {}
    while offset and offset not in offsets:
        if len(offsets) == MOST_PAGES:
            msg = f"{file.name}: more than {MOST_PAGES} pages; save them in several files"
            raise MicrographError(msg)
        count = _count(file, kind, offset)
        if not count:  # every page has entries: a copy whose size was set first
            msg = f"a directory without entries at byte {offset}; not all is written"
            raise ValueError(msg)
        offsets[offset] = None
        end = offset + struct.calcsize(f"={kind.counter}") + count * kind.entry.size
        offset = kind.number(_at(file, kind.size, end, kind.word_bytes), kind.word)
    return list(offsets)


def read_page(file: FileIO, offset: int) -> bytes:
    """One page as a TIFF file of its own.

    Parameters
    ----------
    offset : int
        From `page_offsets`.

    Raises
    ------
    ValueError
        A value lies beyond the end of the file, or there are no pixels.
    """
    kind = _kind(file)
    head = 2 * kind.word_bytes if kind.word == "I" else 16
    tags = _tags(file, kind, offset)
    places = next((pair for pair in _CHUNKS if set(pair) <= tags.keys()), None)
    if places is None:
        msg = "a page without strips or tiles"
        raise ValueError(msg)
    starts, lengths = (_integers(kind, *tags[tag]) for tag in places)
    if sum(lengths) > kind.size:  # they overlap
        msg = f"strips or tiles of {sum(lengths)} bytes in a file of {kind.size}"
        raise ValueError(msg)
    body, moved = bytearray(), []
    for start, length in zip(starts, lengths, strict=True):
        moved.append(head + len(body))
        body += _at(file, kind.size, start, length)
    long, letter = (_LONG, "I") if kind.word == "I" else (_LONG8, "Q")
    packed = struct.pack(f"{kind.order}{len(moved)}{letter}", *moved)
    tags[places[0]] = (long, len(moved), packed)
    directory = struct.pack(f"{kind.order}{kind.counter}", len(tags))
    for tag, (type_, count, value) in sorted(tags.items()):
        if len(value) > kind.word_bytes:
            body += bytes(len(body) % 2)
            where = struct.pack(f"{kind.order}{kind.word}", head + len(body))
            body += value
            value = where
        directory += kind.entry.pack(tag, type_, count, value)
    body += bytes(len(body) % 2)
    first = struct.pack(f"{kind.order}{kind.word}", head + len(body))
    end = bytes(kind.word_bytes)
    return _at(file, kind.size, 0, kind.start) + first + bytes(body) + directory + end


def read_calibration(file: FileIO, offset: int) -> dict[int, Any]:
    """ImageDescription (270), XResolution (282) and ResolutionUnit (296) of a page, if given.

    Parameters
    ----------
    offset : int
        From `page_offsets`.

    Raises
    ------
    ValueError
        A value lies beyond the end of the file.
    """
    kind = _kind(file)
    found: dict[int, Any] = {}
    for tag, (type_, _, value) in _tags(file, kind, offset).items():
        if tag == 270:
            found[tag] = value
        elif tag == 282 and len(value) == 8:
            found[tag] = struct.unpack(f"{kind.order}II", value)
        elif tag == 296 and type_ == 3:
            found[tag] = kind.number(value[:2], "H")
    return found


def _pixel_size_nm(tags: Mapping[int, Any]) -> float | None:
    pixels, per = tags.get(282, (0, 1))
    if not pixels:
        return None
    # ImageJ gives pixels per its own unit and says so in the description.
    unit = re.search(rb"^unit=(\S+)", tags.get(270, b""), re.MULTILINE)
    text = unit[1].decode("latin-1") if unit else {2: "inch", 3: "cm"}.get(tags.get(296, 2), "")
    return length_nm(per / pixels, text.replace("\\u00B5", "µ").replace("\\u00C5", "å"))


def _kind(file: FileIO) -> _Kind:
    file_size = os.fstat(file.fileno()).st_size
    data = _at(file, file_size, 0, 4)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    version = struct.unpack(f"{order}H", data[2:])[0] if order else 0
    if order is None or version not in (42, 43):
        msg = "no TIFF signature"
        raise ValueError(msg)
    if version == 42:
        return _Kind(order, "I", "H", 4, file_size)
    return _Kind(order, "Q", "Q", 8, file_size)


def _count(file: FileIO, kind: _Kind, offset: int) -> int:
    size = struct.calcsize(f"={kind.counter}")
    return kind.number(_at(file, kind.size, offset, size), kind.counter)


def _tags(file: FileIO, kind: _Kind, offset: int) -> dict[int, tuple[int, int, bytes]]:
    """Type, count and bytes of the value of each tag."""
    start = offset + struct.calcsize(f"={kind.counter}")
    entries = _at(file, kind.size, start, _count(file, kind, offset) * kind.entry.size)
    tags = {}
    total = 0
    for tag, type_, count, value in kind.entry.iter_unpack(entries):
        length = count * _TYPE_BYTES.get(type_, 0)
        if tag in _DIRECTORIES or not length:
            continue
        if length > kind.word_bytes:
            total += length
            if total > kind.size:  # they overlap
                msg = f"tags of more than {total} bytes in a file of {kind.size}"
                raise ValueError(msg)
            value = _at(file, kind.size, kind.number(value, kind.word), length)
        tags[tag] = (type_, count, value[:length])
    return tags


def _integers(kind: _Kind, type_: int, count: int, value: bytes) -> tuple[Any, ...]:
    return struct.unpack(f"{kind.order}{count}{_INTEGERS[type_]}", value)


def _at(file: FileIO, size: int, offset: int, length: int) -> bytes:
    if offset + length > size:
        msg = f"bytes {offset} to {offset + length} of a file of {size}; not all is written"
        raise ValueError(msg)
    file.seek(offset)
    parts = []
    while length and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    if length:
        msg = "the file was cut while it was read"
        raise ValueError(msg)
    return b"".join(parts)
