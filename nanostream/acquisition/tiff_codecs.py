"""The strips and tiles of a TIFF page unpacked: tifffile's codecs, each part compared.

Each must unpack to the bytes that it should have, neither less nor a part of a row more: LZW and
PackBits have no checksum, and decoders fill what is lacking with zeros.
"""

from __future__ import annotations

import functools
import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.tiff_directories import Source
from nanostream.acquisition.tiff_layout import COMPRESSIONS, LZW, ZSTD, Layout
from nanostream.errors import MicrographError, NotReadyError, printable

__all__ = ["CODEC_ERRORS", "chunks", "codecs", "damage", "small_tiff", "unpacked"]

logger = logging.getLogger(__name__)

#: What codecs raise for data that is not theirs; imagecodecs' errors are RuntimeErrors.
CODEC_ERRORS = (
    *(ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, RuntimeError),
    *(struct.error, EOFError),
)

#: A strip whose bytes end with so many zeros has not arrived: files are copied in larger blocks.
_HOLE_BYTES = 512
#: An LZW strip ends with a code of 9 to 12 bits that is not zero, and at most some padding.
_LZW_END_BYTES = 4
#: Threads help where each has this much to unpack, in strips of this size: of smaller ones most
#: of the time would be spent in waiting for Python's lock.
_GROUP_BYTES, _LARGE_BYTES = 2**20, 2**16
_MOST_THREADS = 4


def unpacked(source: Source, layout: Layout) -> NDArray[np.uint8]:
    """Bytes of a compressed page, strip after strip.

    Raises
    ------
    NotReadyError
        A strip has not arrived.
    MicrographError
        A strip is damaged, or its codec is not installed.
    """
    parts = chunks(source, layout)
    _check_ends(source, layout, parts)
    if layout.compression == LZW:
        data = _by_libtiff(parts, layout)
        if data is not None:
            return data
    return _one_by_one(source, parts, layout)


def _check_ends(source: Source, layout: Layout, parts: Sequence[memoryview]) -> None:
    """Refuse strips that end with zeros where a decoder without checksums takes those for pixels.

    LZW has a mark at its end. Zstandard stores what it cannot pack as it is, zeros too: only while
    the file may be arriving are they taken for what is to come.
    """
    hole_bytes = {LZW: _LZW_END_BYTES} | dict.fromkeys(ZSTD, 0 if source.at_rest else _HOLE_BYTES)
    if size := hole_bytes.get(layout.compression):
        for k, part in enumerate(parts):
            if not any(part[-size:]):
                raise damage(source, layout, k, part, "it has no end")


def _by_libtiff(parts: Sequence[memoryview], layout: Layout) -> NDArray[np.uint8] | None:
    """Bytes of LZW strips, in half the time; None if one is damaged: libtiff does not say which.

    To it the bytes of the page are a picture of 8 bits.
    """
    decode = getattr(codecs().imagecodecs, "tiff_decode", None)
    rows = layout.height * layout.planes
    irregular = layout.planes > 1 and layout.height % layout.chunk_shape[0]
    if decode is None or layout.tiled or layout.reversed_bits or irregular:
        return None
    lengths = [len(part) for part in parts]
    starts = (8 + np.cumsum([0, *lengths[:-1]])).tolist()
    tags = {256: [layout.row_bytes], 257: [rows], 258: [8], 259: [LZW], 262: [1], 273: starts}
    tags |= {277: [1], 278: [layout.chunk_shape[0]], 279: lengths}
    try:
        values = np.asarray(decode(small_tiff(tags, b"".join(parts), "<")))
    except (*CODEC_ERRORS, ImportError) as error:
        logger.debug("%s: %r", printable(layout.name), error)
        return None
    return values.reshape(-1) if values.shape == (rows, layout.row_bytes) else None


def _one_by_one(source: Source, parts: Sequence[memoryview], layout: Layout) -> NDArray[np.uint8]:
    needed = layout.needed
    data = np.empty(int(needed.sum()), np.uint8)
    view = data.data
    places = np.concatenate(([0], np.cumsum(needed))).tolist()
    decompress = _decompressor(layout)
    row_bytes = layout.row_bytes

    def unpack(numbers: Iterable[int]) -> None:
        for k in numbers:
            expected = places[k + 1] - places[k]
            try:
                # A part of a row more would be damage, whole rows are padding.
                found = decompress(parts[k], expected + row_bytes + 1)
            except CODEC_ERRORS as error:
                raise damage(source, layout, k, parts[k], repr(error)) from error
            excess = len(found) - expected
            if excess < 0 or excess % row_bytes:
                raise damage(source, layout, k, parts[k], f"{len(found)} bytes for {expected}")
            view[places[k] : places[k + 1]] = found[:expected] if excess else found

    count = len(parts)
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(data) // _GROUP_BYTES, count)
    if threads < 2 or len(data) < _LARGE_BYTES * count:
        unpack(range(count))
    else:
        bounds = [count * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(unpack, map(range, bounds[:-1], bounds[1:])):
                pass
    return data


def chunks(source: Source, layout: Layout) -> Sequence[memoryview]:
    """Packed bytes of each strip or tile, with one read where they lie close together."""
    starts, lengths = layout.starts.tolist(), layout.lengths.tolist()
    first, end = min(starts), int((layout.starts + layout.lengths).max())
    if end - first <= 1.1 * sum(lengths) + 4096:
        view = memoryview(source.at(first, end - first))
        return [view[s - first : s - first + n] for s, n in zip(starts, lengths, strict=True)]
    return [memoryview(source.at(s, n)) for s, n in zip(starts, lengths, strict=True)]


def _decompressor(layout: Layout) -> Callable[[memoryview, int], bytes]:
    tifffile = codecs()
    try:
        codec = tifffile.TIFF.DECOMPRESSORS[layout.compression]
    except KeyError as error:
        kind = COMPRESSIONS[layout.compression]
        msg = (
            f"{layout.name}: unpacking {kind} needs imagecodecs, which is not installed or cannot "
            "be loaded: pip install imagecodecs"
        )
        raise MicrographError(msg) from error
    if not layout.reversed_bits:
        return lambda data, most: codec(data, out=most)
    return lambda data, most: codec(tifffile.imagecodecs.bitorder_decode(bytes(data)), out=most)


def small_tiff(tags: Mapping[int, Sequence[int]], data: bytes, order: str) -> bytes:
    """A TIFF file of one directory, all its values whole numbers, with data at byte 8."""
    values, entries = bytes(len(data) % 2), b""
    for tag, numbers in sorted(tags.items()):
        if not len(numbers):
            continue
        value = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            where = 8 + len(data) + len(values)
            values += value
            value = struct.pack(f"{order}I", where)
        entries += struct.pack(f"{order}HHI4s", tag, 4, len(numbers), value)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, 8 + len(data) + len(values))
    count = struct.pack(f"{order}H", len(entries) // 12)
    return b"".join((head, data, values, count, entries, bytes(4)))


def damage(source: Source, layout: Layout, k: int, chunk: memoryview, why: str) -> MicrographError:
    """That a strip or tile cannot be unpacked; it may not have arrived if it ends with zeros."""
    kind = COMPRESSIONS[layout.compression]
    part = f"{layout.chunk_word} {k} of {len(layout.starts)} ({kind})"
    logger.debug("%s: %s: %s", printable(layout.name), part, why)
    least = _LZW_END_BYTES if layout.compression == LZW else _HOLE_BYTES
    if not any(chunk[-least:]):
        return NotReadyError(f"{layout.name}: {part} has not arrived, or is damaged")
    return source.wrong(part)


@functools.cache
def codecs() -> Any:
    """tifffile, with imagecodecs: loaded by the first page that needs them."""
    import tifffile.tifffile

    logging.getLogger("tifffile").addFilter(_only_for_developers)
    return tifffile.tifffile


def _only_for_developers(record: logging.LogRecord) -> bool:
    """Whether a line of tifffile's may be logged: what matters is said by an error."""
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return logger.isEnabledFor(logging.DEBUG)
