"""The values of a TIFF page, from strips or tiles as `tiff_codecs` unpacks them."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.tiff_codecs import (
    CODEC_ERRORS,
    chunks,
    codecs,
    damage,
    small_tiff,
    unpacked,
)
from nanostream.acquisition.tiff_directories import Directory, Source
from nanostream.acquisition.tiff_layout import (
    FLOAT,
    JPEG,
    SIGNED,
    UNCOMPRESSED,
    UNSIGNED,
    Layout,
)
from nanostream.errors import MicrographError, printable

__all__ = ["has_arrived", "read_samples"]

logger = logging.getLogger(__name__)

_JPEG_TABLES, _SUBSAMPLING = 347, 530
_YCBCR = 6
_OF_REALS = 3  # predictors: 1 is none, 2 the difference from the pixel before
#: Zeros in a row that no JPEG has but of a picture that is blank.
_JPEG_HOLE_BYTES = 1024
#: So much of a page must not be zero at its end: a block of a copy, less of a small page.
_TAIL_BYTES, _TAIL_PART, _LEAST_TAIL_BYTES = 4096, 64, 16


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
    data = unpacked(source, layout) if packed else _stored(source, layout)
    if layout.reversed_bits and not packed:
        data = codecs().imagecodecs.bitorder_decode(data)
    shape = -1, layout.chunk_shape[1], layout.samples // layout.planes
    try:
        return _unpredicted(_values(data, layout, source.order).reshape(shape), layout)
    except CODEC_ERRORS as error:
        logger.debug("%s: %r", printable(layout.name), error)
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


def _values(data: NDArray[np.uint8], layout: Layout, order: str) -> NDArray[Any]:
    """Numbers of the page's bits from its bytes."""
    bits = layout.bits
    letter = {UNSIGNED: "u", SIGNED: "i"}.get(layout.sample_format, "f")
    if letter == "f" and bits == 24:
        return np.asarray(codecs().imagecodecs.float24_decode(data.tobytes(), byteorder=order))
    if bits == 24:
        return _of_three_bytes(data, order, letter)
    if bits in (8, 16, 32, 64):
        # What has a floating-point predictor is in an order of its own.
        order = "=" if layout.predictor == _OF_REALS else order
        values = data.view(np.dtype(f"{order}{letter}{bits // 8}"))
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    run = layout.chunk_shape[1] * (layout.samples // layout.planes)
    if bits == 1:
        return np.unpackbits(data.reshape(-1, layout.row_bytes), axis=1, count=run)
    # Packed numbers are in the order of their bits, whatever that of the file.
    decode = codecs().imagecodecs.packints_decode
    return np.asarray(decode(data.tobytes(), np.dtype(f"u{size}"), bits, runlen=run))


def _of_three_bytes(data: NDArray[np.uint8], order: str, letter: str) -> NDArray[Any]:
    """Whole numbers of 24 bits, in the order of the file as libtiff has it (tif_swab.c)."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    # As the upper three bytes of four, so that a shift down keeps the sign.
    first = 1 if order == "<" else 0
    wide[:, first : first + 3] = data.reshape(-1, 3)
    values = wide.view(f"{order}{letter}4")[:, 0]
    return values.astype(values.dtype.newbyteorder("=")) >> 8


def _unpredicted(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if layout.predictor == 1:
        return values
    if layout.predictor == _OF_REALS and layout.sample_format != FLOAT:
        msg = "the predictor of real numbers for whole numbers"
        raise ValueError(msg)
    unpredict = codecs().TIFF.UNPREDICTORS[layout.predictor]
    return np.asarray(unpredict(values, axis=-2, out=values if layout.predictor == 2 else None))


# --- strips and tiles that are pictures of their own


def _of_pictures(source: Source, directory: Directory, layout: Layout) -> NDArray[Any]:
    """Values in the order of strips or tiles, each of them a JPEG."""
    page = _page(source, directory, layout)
    tables = directory.data(_JPEG_TABLES) or None
    parts = []
    rows = layout.needed // layout.row_bytes
    for k, chunk in enumerate(chunks(source, layout)):
        _check_picture(source, layout, k, chunk)
        try:
            values, _, shape = page.decode(bytes(chunk), k, jpegtables=tables)
        except CODEC_ERRORS as error:
            raise damage(source, layout, k, chunk, repr(error)) from error
        if values is None or values.shape[3] != layout.samples // layout.planes:
            raise damage(source, layout, k, chunk, f"another size than {shape}")
        found, lacking = values[0], np.subtract((rows[k], layout.chunk_shape[1]), values.shape[1:3])
        if layout.tiled and lacking.min() >= 0:  # a tile may end with the image
            found = np.pad(found, ((0, lacking[0]), (0, lacking[1]), (0, 0)))
        elif lacking.any():
            raise damage(source, layout, k, chunk, f"another size than {shape}")
        parts.append(found)
    return np.concatenate(parts)


def _check_picture(source: Source, layout: Layout, k: int, chunk: memoryview) -> None:
    """Refuse a JPEG that decoders fill up in silence, or that is larger than its strip."""
    data = bytes(chunk)
    if b"\xff\xd9" not in data[-4:] or bytes(_JPEG_HOLE_BYTES) in data:
        raise damage(source, layout, k, chunk, "an end or a part of it is missing")
    from tifffile.tifffile import jpeg_shape

    try:
        _, height, width, samples = jpeg_shape(data)
    except CODEC_ERRORS as error:
        raise damage(source, layout, k, chunk, repr(error)) from error
    most = layout.chunk_shape
    if height > most[0] or width > most[1] or samples > layout.samples:
        raise damage(source, layout, k, chunk, f"a picture of {width} x {height}")


def _page(source: Source, directory: Directory, layout: Layout) -> Any:
    """A page of tifffile's of this kind, from a directory that has nothing else in it.

    Of the file itself tifffile would read all tags of all pages, and what it takes them for.
    """
    count = len(layout.starts)
    head = source.at(int(layout.starts[0]), min(16, int(layout.lengths[0])))
    places, lengths = (324, 325) if layout.tiled else (273, 279)
    shape = (323, 322) if layout.tiled else (278,)
    tags: dict[int, Sequence[int]] = {
        256: [layout.width],
        257: [layout.height],
        258: [layout.bits] * layout.samples,
        259: [layout.compression],
        262: [layout.photometric],
        266: [2 if layout.reversed_bits else 1],
        277: [layout.samples],
        284: [2 if layout.planes > 1 else 1],
        338: layout.extra,
        339: [layout.sample_format] * layout.samples,
        places: [8] * count,
        lengths: [len(head)] * count,
    }
    tags |= {tag: [side] for tag, side in zip(shape, layout.chunk_shape, strict=False)}
    if layout.photometric == _YCBCR:
        tags[_SUBSAMPLING] = directory.whole_numbers(_SUBSAMPLING, 2).tolist()
    try:
        return codecs().TiffFile(io.BytesIO(small_tiff(tags, head, source.order))).pages[0]
    except CODEC_ERRORS as error:
        logger.debug("%s: %r", printable(layout.name), error)
        raise source.wrong("the head of its JPEG") from error


# --- both


def _joined(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Tiles side by side: (planes, height, width, values of a pixel)."""
    (length, width), samples = layout.chunk_shape, layout.samples // layout.planes
    down, across = math.ceil(layout.height / length), math.ceil(layout.width / width)
    grid = values.reshape(layout.planes, down, across, length, width, samples)
    image = grid.swapaxes(2, 3).reshape(layout.planes, down * length, across * width, samples)
    return image[:, : layout.height, : layout.width]
