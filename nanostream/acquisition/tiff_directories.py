"""The directories of a TIFF file, and what their tags say.

A TIFF is a chain of directories, one for each page (TIFF 6.0; BigTIFF has 64-bit offsets). Own code
and not tifffile's: a file that is still arriving must be told from a damaged one, so every offset
and length is compared with the file's size before anything is read; only what is asked for is read;
and `page_offsets` resumes where it ended in a file that has grown, so that a section of a long
stack does not cost a walk over all of it.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections import OrderedDict
from dataclasses import dataclass
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import MicrographError, NotReadyError

__all__ = ["MOST_PAGES", "Directory", "Source", "page_offsets"]

#: More pages than an exposure or a tilt series has; each costs a read.
MOST_PAGES = 10_000
#: More tags than any program writes; 4096 is tifffile's limit as well.
_MOST_TAGS = 4096
#: A description, or a camera's account of itself, is shorter.
_MOST_TEXT_BYTES = 2**24
#: Enough for a directory of 80 tags in one read.
_BLOCK_BYTES = 1024
#: Files whose chains are remembered.
_MOST_CHAINS = 64

#: NumPy's type of one value by type number: those of whole numbers, and all others.
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4"}
_WHOLE |= {16: "u8", 17: "i8", 18: "u8"}
_TYPES = _WHOLE | {2: "u1", 5: "u4,u4", 7: "u1", 10: "i4,i4", 11: "f4", 12: "f8"}

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255
#: NewSubfileType of a thumbnail or pyramid level (1) and of a transparency mask (4).
_NO_PAGE = 1 | 4
#: SubfileType of a thumbnail or pyramid level.
_REDUCED = 2


@dataclass(frozen=True)
class Source:
    """An open TIFF: what byte order and field sizes it has.

    Attributes
    ----------
    file : FileIO
        Unbuffered.
    name : str
        For messages.
    size : int
        In bytes.
    order : str
        ``<`` or ``>``.
    big : bool
        BigTIFF.
    at_rest : bool
        Nobody writes the file any more: what is wrong in it is damage. Else it may have to come
        yet, also where the file has its full length: Explorer and robocopy set that first.
    """

    file: FileIO
    name: str
    size: int
    order: str
    big: bool
    at_rest: bool = False

    @classmethod
    def of(cls, file: FileIO, name: str, *, at_rest: bool = False) -> Source:
        """An open file by its first bytes.

        Raises
        ------
        NotReadyError
            They have not arrived.
        MicrographError
            They are not those of a TIFF.
        """
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        head = file.read(4)
        if len(head) < 4 or not any(head):
            msg = f"{name}: no complete TIFF (it has {size} bytes, and no signature yet)"
            raise NotReadyError(msg)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack(f"{order or '<'}H", head[2:])[0]
        if order is None or version not in (42, 43):
            msg = f"{name}: not a TIFF, whatever its ending says; it begins with {head!r}"
            raise MicrographError(msg)
        return cls(file, name, size, order, version == 43, at_rest)

    def wrong(self, what: str) -> MicrographError:
        """The error of something that is not as it should be: damage, or it has not arrived.

        Parameters
        ----------
        what : str
            As "strip 3 of 4".
        """
        if self.at_rest:
            return MicrographError(f"{self.name}: {what} is damaged")
        return NotReadyError(f"{self.name}: {what} has not arrived, or is damaged")

    @property
    def word(self) -> str:
        """Letter of an offset."""
        return "Q" if self.big else "I"

    @property
    def entry(self) -> struct.Struct:
        """One tag: number, type, count, value or where it is."""
        return struct.Struct(f"{self.order}HH{self.word}{struct.calcsize('=' + self.word)}s")

    def number(self, data: bytes, letter: str) -> int:
        """A whole number."""
        return int(struct.unpack(self.order + letter, data)[0])

    def at(self, offset: int, length: int) -> bytes:
        """Bytes of the file.

        Raises
        ------
        NotReadyError
            Not all of them are there.
        """
        data = bytearray(self._checked(offset, length))
        self.into(offset, memoryview(data))
        return bytes(data)

    def into(self, offset: int, view: memoryview) -> None:
        """Fill memory with bytes of the file; raises as `at`."""
        self._checked(offset, len(view))
        self.file.seek(offset)
        while view:
            count = self.file.readinto(view)
            if not count:
                msg = f"{self.name}: was cut while it was read"
                raise NotReadyError(msg)
            view = view[count:]

    def _checked(self, offset: int, length: int) -> int:
        if offset + length > self.size:
            msg = (
                f"{self.name}: no complete TIFF (bytes {offset} to {offset + length} of a file of "
                f"{self.size}); not all of it is written, or it was cut off"
            )
            raise NotReadyError(msg)
        return length


class Directory:
    """The tags of one page; values are read when they are asked for.

    Parameters
    ----------
    source : Source
        The file.
    offset : int
        From `page_offsets`.

    Raises
    ------
    NotReadyError
        Not all of it is written.
    MicrographError
        It has more tags than any program writes.
    """

    def __init__(self, source: Source, offset: int) -> None:
        self.source = source
        entries, _ = _read_entries(source, offset)
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        self._again: list[tuple[int, tuple[int, int, bytes]]] = []
        for tag, *entry in source.entry.iter_unpack(entries):
            # Of a tag that is there twice the first counts, as in libtiff.
            if self._entries.setdefault(tag, (*entry,)) != (*entry,):
                self._again.append((tag, (*entry,)))

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def count(self, tag: int) -> int:
        """How many values a tag has; 0 if it is not there."""
        return self._entries[tag][1] if tag in self._entries else 0

    def position(self, tag: int) -> int:
        """Where the value of a tag is, if it is not in the directory itself."""
        return self.source.number(self._entries[tag][2], self.source.word)

    def whole_numbers(self, tag: int, most: int) -> NDArray[np.uint64]:
        """Values of a tag of whole numbers, none if it is not there.

        Parameters
        ----------
        tag : int
            Its number.
        most : int
            What is beyond these is not read.

        Raises
        ------
        NotReadyError
            They have not arrived: they are beyond the end, or all zero in a file not at rest.
        MicrographError
            The tag has values of another type, or below zero.
        """
        if tag not in self:
            return np.empty(0, np.uint64)
        if self._entries[tag][0] not in _WHOLE:
            msg = f"{self.source.name}: damaged: tag {tag} is no whole number"
            raise MicrographError(msg)
        values = self._values(tag, most)
        if values.dtype.kind == "i" and values.min(initial=0) < 0:
            msg = f"{self.source.name}: damaged: tag {tag} is {values.min()}"
            raise MicrographError(msg)
        if values.size > 1 and not self.source.at_rest and not values.any():
            raise self.source.wrong(f"the list of {values.size} values of tag {tag}")
        return values.astype(np.uint64)

    def whole_number(self, tag: int, default: int) -> int:
        """First value of a tag; raises as `whole_numbers`."""
        values = self.whole_numbers(tag, 1)
        return int(values[0]) if values.size else default

    def number(self, tag: int) -> float | None:
        """First value of a tag of any numbers; None if there is none, or it is divided by 0."""
        values = self._values(tag, 1)
        if not values.size:
            return None
        if values.dtype.names:  # a fraction
            over, under = values[0].tolist()
            return over / under if under else None
        value = float(values[0])
        return value if math.isfinite(value) else None

    def data(self, tag: int) -> bytes:
        """Bytes of a tag, none if it is not there."""
        return self._values(tag, _MOST_TEXT_BYTES).tobytes()

    def text(self, tag: int) -> str:
        """Text of a tag up to its end: UTF-8, or as older programs write."""
        return _text(self.data(tag))

    def texts(self, tag: int) -> list[str]:
        """Texts of a tag that is there several times: tifffile adds its own description."""
        more = [entry for other, entry in self._again if other == tag]
        later = (self._of(tag, entry, _MOST_TEXT_BYTES).tobytes() for entry in more)
        return [self.text(tag), *map(_text, later)]

    def _values(self, tag: int, most: int) -> NDArray[Any]:
        return self._of(tag, self._entries.get(tag, (0, 0, b"")), most)

    def _of(self, tag: int, entry: tuple[int, int, bytes], most: int) -> NDArray[Any]:
        """Values of an entry of a tag."""
        type_, count, value = entry
        if type_ not in _TYPES:  # a reader passes over types that it does not know
            return np.empty(0, np.uint8)
        dtype = np.dtype(_TYPES[type_])
        dtype = dtype.newbyteorder("<" if self.source.order == "<" else ">")
        if count * dtype.itemsize > len(value):
            where = self.source.number(value, self.source.word)
            if not where:
                msg = f"{self.source.name}: the values of tag {tag} are not written yet"
                raise NotReadyError(msg)
            value = self.source.at(where, min(count, most) * dtype.itemsize)
        return np.frombuffer(value, dtype, min(count, most))


def _text(data: bytes) -> str:
    """Text up to its end."""
    data = data.split(b"\0", 1)[0]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@dataclass(frozen=True)
class _Chain:
    """Directories of a file as far as they were found.

    ``last`` are the entries of the last one: as long as they are the same, so are those before.
    """

    size: int
    offsets: tuple[int, ...]
    pages: tuple[bool, ...]
    last: bytes


#: By device and inode.
_chains: OrderedDict[tuple[int, int], _Chain] = OrderedDict()


def page_offsets(source: Source) -> list[int]:
    """Where the directory of each page is; thumbnails and pyramid levels are no pages.

    Raises
    ------
    NotReadyError
        The chain leads to what is not written yet.
    MicrographError
        More than `MOST_PAGES`.
    """
    status = os.fstat(source.file.fileno())
    key = status.st_dev, status.st_ino
    start = 16 if source.big else 8
    size = struct.calcsize(f"={source.word}")
    first = source.number(source.at(start - size, size), source.word)
    if not first:
        msg = f"{source.name}: no complete TIFF: its directory is not written yet"
        raise NotReadyError(msg)
    chain = _walk(source, first, _chains.get(key))
    if status.st_ino:
        _chains[key] = chain
        _chains.move_to_end(key)
        while len(_chains) > _MOST_CHAINS:
            _chains.popitem(last=False)
    found = [offset for offset, page in zip(chain.offsets, chain.pages, strict=True) if page]
    return found or list(chain.offsets)


def _walk(source: Source, first: int, known: _Chain | None) -> _Chain:
    """All directories, from the last of those that are known on."""
    offsets: dict[int, bool] = {}
    following, last = first, b""
    if known is not None and known.size <= source.size and known.offsets[0] == first:
        with contextlib.suppress(MicrographError):  # another file of this inode
            entries, after = _read_entries(source, known.offsets[-1])
            if entries == known.last:
                offsets = dict(zip(known.offsets, known.pages, strict=True))
                following, last = after, entries
    while following and following not in offsets:
        if len(offsets) == MOST_PAGES:
            msg = f"{source.name}: more than {MOST_PAGES} pages; save them in several files"
            raise MicrographError(msg)
        last, after = _read_entries(source, following)
        offsets[following] = _is_page(source, last)
        following = after
    return _Chain(source.size, tuple(offsets), tuple(offsets.values()), last)


def _is_page(source: Source, entries: bytes) -> bool:
    """Whether a directory is one of the images; what it is comes first, the tags are sorted."""
    size = source.entry.size
    for tag, _, _, value in source.entry.iter_unpack(entries[: 2 * size]):
        kind = source.number(value[:2], "H")
        if source.order == ">" and not kind:
            kind = source.number(value[2:4], "H")  # a long
        if tag == _NEW_SUBFILE_TYPE and kind & _NO_PAGE:
            return False
        if tag == _SUBFILE_TYPE and kind == _REDUCED:
            return False
    return True


def _read_entries(source: Source, offset: int) -> tuple[bytes, int]:
    """Tags of a directory as they are in the file, and where the next directory is."""
    letter = "Q" if source.big else "H"
    head, word = struct.calcsize(f"={letter}"), struct.calcsize(f"={source.word}")
    block = source.at(offset, max(head, min(_BLOCK_BYTES, source.size - offset)))
    count = source.number(block[:head], letter)
    if not count:  # every page has tags: a copy whose size was set first
        msg = f"{source.name}: no complete TIFF: the directory at byte {offset} is not written yet"
        raise NotReadyError(msg)
    length = count * source.entry.size
    if count > _MOST_TAGS and offset + length <= source.size:
        msg = f"{source.name}: damaged: a directory of {count} tags"
        raise MicrographError(msg)
    if head + length + word > len(block):
        block = source.at(offset, head + length + word)
    entries = block[head : head + length]
    if not any(entries[-source.entry.size :]):
        msg = f"{source.name}: no complete TIFF: the directory at byte {offset} is not all written"
        raise NotReadyError(msg)
    return entries, source.number(block[head + length : head + length + word], source.word)
