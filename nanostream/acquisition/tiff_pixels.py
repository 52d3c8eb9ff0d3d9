"""The values of a TIFF page, unpacked by tifffile's codecs from strips that are compared here.

Each strip or tile must unpack to the bytes that it should have, neither less nor a part of a row
more: LZW and PackBits have no checksum, and libtiff fills what is lacking with zeros.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.tiff_directories import Directory, Source
from nanostream.acquisition.tiff_layout import (
    COMPRESSIONS,
    JPEG,
    SIGNED,
    UNCOMPRESSED,
    UNSIGNED,
    Layout,
)
from nanostream.errors import MicrographError, NotReadyError

__all__ = ["has_arrived", "read_samples"]

logger = logging.getLogger(__name__)

_JPEG_TABLES, _SUBSAMPLING = 347, 530
_YCBCR = 6
#: A strip whose bytes end with so many zeros has not arrived: files are copied in larger blocks.
_HOLE_BYTES = 512
#: Zeros in a row that no JPEG has but of a picture that is blank.
_JPEG_HOLE_BYTES = 1024
#: So much of a page must not be zero at its end: a block of a copy, less of a small page.
_TAIL_BYTES, _TAIL_PART, _LEAST_TAIL_BYTES = 4096, 64, 16
#: Threads help where each of them has this much to unpack.
_GROUP_BYTES = 2**20
_MOST_THREADS = 4

#: What codecs raise for data that is not theirs; imagecodecs' errors are RuntimeErrors.
_CODEC_ERRORS = (
    *(ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, RuntimeError),
    *(struct.error, EOFError),
)


def read_samples(source: Source, directory: Directory, layout: Layout) -> NDArray[Any]:
    """Values of a page as they are stored.

    Returns
    -------
    (height, width, samples)
        In native byte order; of fewer bits than a type of NumPy has, in the next larger one.

    Raises
    ------
    NotReadyError
        A strip has not arrived.
    MicrographError
        A strip is damaged, or of a kind that is not read.
    """
    if layout.compression == JPEG:
        values = _of_pictures(source, directory, layout)
    else:
        values = _of_numbers(source, layout)
    if layout.tiled:
        values = _joined(values, layout)
    shape = layout.planes, layout.height, layout.width, layout.samples // layout.planes
    values = values.reshape(shape)
    return values[0] if layout.planes == 1 else np.moveaxis(values[..., 0], 0, -1)


def has_arrived(source: Source, layout: Layout) -> bool:
    """Whether the last bytes of a page are there: not all zero, as in a copy under way."""
    last = int(np.argmax(layout.starts + layout.lengths))
    start, length = int(layout.starts[last]), int(layout.lengths[last])
    if layout.compression == UNCOMPRESSED:
        length = int(layout.needed[last])
    size = min(length, _TAIL_BYTES, max(length // _TAIL_PART, _LEAST_TAIL_BYTES))
    return any(source.at(start + length - size, size))


# --- strips and tiles of numbers


def _of_numbers(source: Source, layout: Layout) -> NDArray[Any]:
    """Values in the order of strips or tiles, (rows, columns, values of a pixel)."""
    packed = layout.compression != UNCOMPRESSED
    data = _unpacked(source, layout) if packed else _stored(source, layout)
    if layout.reversed_bits and not packed:
        data = _codecs().imagecodecs.bitorder_decode(data)
    shape = -1, layout.chunk_shape[1], layout.samples // layout.planes
    try:
        return _unpredicted(_values(data, layout, source.order).reshape(shape), layout)
    except _CODEC_ERRORS as error:
        logger.debug("%s: %r", layout.name, error)
        msg = f"{layout.name}: damaged: its values of {layout.bits} bits cannot be unpacked"
        raise MicrographError(msg) from error


def _stored(source: Source, layout: Layout) -> NDArray[np.uint8]:
    """All of an uncompressed page, with one read where strips follow one another."""
    needed, starts = layout.needed, layout.starts
    data = np.empty(int(needed.sum()), np.uint8)
    view = data.data
    breaks = np.flatnonzero(starts[1:] != starts[:-1] + needed[:-1]) + 1
    places = np.concatenate(([0], np.cumsum(needed)))
    for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(starts)], strict=True):
        source.into(int(starts[begin]), view[int(places[begin]) : int(places[end])])
    return data


def _unpacked(source: Source, layout: Layout) -> NDArray[np.uint8]:
    """All of a compressed page, strip after strip."""
    chunks = _chunks(source, layout)
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
                found = decompress(chunks[k], expected + row_bytes + 1)
            except _CODEC_ERRORS as error:
                raise _damage(layout, k, chunks[k], repr(error)) from error
            excess = len(found) - expected
            if excess < 0 or excess % row_bytes:
                raise _damage(layout, k, chunks[k], f"{len(found)} bytes for {expected}")
            view[places[k] : places[k + 1]] = found[:expected] if excess else found

    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(data) // _GROUP_BYTES, len(chunks))
    if threads < 2:
        unpack(range(len(chunks)))
    else:
        bounds = [len(chunks) * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(unpack, map(range, bounds[:-1], bounds[1:])):
                pass
    return data


def _chunks(source: Source, layout: Layout) -> Sequence[memoryview]:
    """Packed bytes of each strip or tile, with one read where they lie close together."""
    starts, lengths = layout.starts.tolist(), layout.lengths.tolist()
    first, end = min(starts), int((layout.starts + layout.lengths).max())
    if end - first <= 1.1 * sum(lengths) + 4096:
        view = memoryview(source.at(first, end - first))
        return [view[s - first : s - first + n] for s, n in zip(starts, lengths, strict=True)]
    return [memoryview(source.at(s, n)) for s, n in zip(starts, lengths, strict=True)]


def _decompressor(layout: Layout) -> Callable[[memoryview, int], bytes]:
    tifffile = _codecs()
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


def _values(data: NDArray[np.uint8], layout: Layout, order: str) -> NDArray[Any]:
    """Numbers of the page's bits from its bytes."""
    bits = layout.bits
    letter = {UNSIGNED: "u", SIGNED: "i"}.get(layout.sample_format, "f")
    if letter == "f" and bits == 24:
        byteorder = {"<": "little", ">": "big"}[order]
        return np.asarray(_codecs().imagecodecs.float24_decode(data.tobytes(), byteorder=byteorder))
    if bits in (8, 16, 32, 64):
        # What has a floating-point predictor is in an order of its own.
        order = "=" if layout.predictor == 3 else order
        values = data.view(np.dtype(f"{order}{letter}{bits // 8}"))
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    run = layout.chunk_shape[1] * (layout.samples // layout.planes)
    if bits == 1:
        return np.unpackbits(data.reshape(-1, layout.row_bytes), axis=1, count=run)
    # Packed numbers are in the order of their bits, whatever that of the file.
    decode = _codecs().imagecodecs.packints_decode
    return np.asarray(decode(data.tobytes(), np.dtype(f"u{size}"), bits, runlen=run))


def _unpredicted(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if layout.predictor == 1:
        return values
    unpredict = _codecs().TIFF.UNPREDICTORS[layout.predictor]
    return np.asarray(unpredict(values, axis=-2, out=values if layout.predictor == 2 else None))


# --- strips and tiles that are pictures of their own


def _of_pictures(source: Source, directory: Directory, layout: Layout) -> NDArray[Any]:
    """Values in the order of strips or tiles, each of them a JPEG."""
    page = _page(source, directory, layout)
    tables = directory.data(_JPEG_TABLES) or None
    parts = []
    rows = layout.needed // layout.row_bytes
    for k, chunk in enumerate(_chunks(source, layout)):
        _check_picture(layout, k, chunk)
        try:
            values, _, shape = page.decode(bytes(chunk), k, jpegtables=tables)
        except _CODEC_ERRORS as error:
            raise _damage(layout, k, chunk, repr(error)) from error
        if values is None or values.shape[3] != layout.samples // layout.planes:
            raise _damage(layout, k, chunk, f"another size than {shape}")
        found, lacking = values[0], np.subtract((rows[k], layout.chunk_shape[1]), values.shape[1:3])
        if layout.tiled and lacking.min() >= 0:  # a tile may end with the image
            found = np.pad(found, ((0, lacking[0]), (0, lacking[1]), (0, 0)))
        elif lacking.any():
            raise _damage(layout, k, chunk, f"another size than {shape}")
        parts.append(found)
    return np.concatenate(parts)


def _check_picture(layout: Layout, k: int, chunk: memoryview) -> None:
    """Refuse a JPEG that decoders fill up in silence, or that is larger than its strip."""
    data = bytes(chunk)
    if b"\xff\xd9" not in data[-4:] or bytes(_JPEG_HOLE_BYTES) in data:
        raise _damage(layout, k, chunk, "an end or a part of it is missing")
    from tifffile.tifffile import jpeg_shape

    try:
        _, height, width, samples = jpeg_shape(data)
    except _CODEC_ERRORS as error:
        raise _damage(layout, k, chunk, repr(error)) from error
    most = layout.chunk_shape
    if height > most[0] or width > most[1] or samples > layout.samples:
        raise _damage(layout, k, chunk, f"a picture of {width} x {height}")


def _page(source: Source, directory: Directory, layout: Layout) -> Any:
    """A page of tifffile's of this kind, from a directory that has nothing else in it.

    Of the file itself tifffile would read all tags of all pages, and what it takes them for.
    """
    count, order = len(layout.starts), source.order
    head = source.at(int(layout.starts[0]), min(16, int(layout.lengths[0])))
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [layout.width]),
        257: ("I", [layout.height]),
        258: ("H", [layout.bits] * layout.samples),
        259: ("H", [layout.compression]),
        262: ("H", [layout.photometric]),
        266: ("H", [2 if layout.reversed_bits else 1]),
        277: ("H", [layout.samples]),
        284: ("H", [2 if layout.planes > 1 else 1]),
        339: ("H", [layout.sample_format] * layout.samples),
        **({338: ("H", layout.extra)} if layout.extra else {}),
    }
    if layout.photometric == _YCBCR and _SUBSAMPLING in directory:
        tags[_SUBSAMPLING] = ("H", directory.whole_numbers(_SUBSAMPLING, 2).tolist())
    if layout.tiled:
        tags |= {322: ("I", [layout.chunk_shape[1]]), 323: ("I", [layout.chunk_shape[0]])}
    else:
        tags[278] = ("I", [layout.chunk_shape[0]])
    places, lengths = (324, 325) if layout.tiled else (273, 279)
    tags |= {places: ("I", [8] * count), lengths: ("I", [len(head)] * count)}
    tags = {tag: value for tag, value in sorted(tags.items()) if len(value[1])}
    return _codecs().TiffFile(io.BytesIO(_tiff(tags, head, order))).pages[0]


def _tiff(tags: dict[int, tuple[str, Sequence[int]]], data: bytes, order: str) -> bytes:
    """A TIFF file of one directory, with data at byte 8."""
    body = data + bytes(len(data) % 2)
    entries = b""
    for tag, (letter, values) in tags.items():
        value = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(value) > 4:
            where = 8 + len(body)
            body += value + bytes(len(value) % 2)
            value = struct.pack(f"{order}I", where)
        kind = {"H": 3, "I": 4}[letter]
        entries += struct.pack(f"{order}HHI4s", tag, kind, len(values), value)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


# --- both


def _joined(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Tiles side by side: (planes, height, width, values of a pixel)."""
    (length, width), samples = layout.chunk_shape, layout.samples // layout.planes
    down, across = math.ceil(layout.height / length), math.ceil(layout.width / width)
    grid = values.reshape(layout.planes, down, across, length, width, samples)
    image = grid.swapaxes(2, 3).reshape(layout.planes, down * length, across * width, samples)
    return image[:, : layout.height, : layout.width]


def _damage(layout: Layout, k: int, chunk: memoryview, why: str) -> MicrographError:
    """That a strip or tile cannot be unpacked; it may not have arrived if it ends with zeros."""
    part = f"{layout.chunk_word} {k} of {len(layout.starts)}"
    kind = COMPRESSIONS[layout.compression]
    logger.debug("%s: %s: %s", layout.name, part, why)
    if not any(chunk[-_HOLE_BYTES:]):
        return NotReadyError(f"{layout.name}: {part} ({kind}) has not arrived, or is damaged")
    return MicrographError(f"{layout.name}: {part} ({kind}) is damaged; its pixels are lost")


@functools.cache
def _codecs() -> Any:
    """tifffile, with imagecodecs: loaded by the first page that needs them."""
    import tifffile.tifffile

    logging.getLogger("tifffile").addFilter(_only_for_developers)
    return tifffile.tifffile


def _only_for_developers(record: logging.LogRecord) -> bool:
    """Whether a line of tifffile's may be logged: what matters is said by an error."""
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return logger.isEnabledFor(logging.DEBUG)
