"""How the pixels of a TIFF page lie in its file: sizes, types and places, compared with the file.

What is refused here is refused before memory is taken for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.tiff_directories import Directory
from nanostream.errors import MicrographError, NotReadyError

__all__ = [
    "COMPRESSIONS",
    "FLOAT",
    "JPEG",
    "LZW",
    "SIGNED",
    "UNCOMPRESSED",
    "UNSIGNED",
    "ZSTD",
    "Layout",
    "layout_of",
]

UNCOMPRESSED, LZW, JPEG = 1, 5, 7
ZSTD = (34926, 50000)
#: What can be unpacked, by number, and its name.
COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32946: "deflate",
    32773: "PackBits",
    34925: "LZMA",
}
COMPRESSIONS |= dict.fromkeys(ZSTD, "ZSTD")
#: Names of others, for messages. Of fax what is damaged or lacking is filled up in silence.
_OTHERS = {
    2: "fax",
    3: "fax",
    4: "fax",
    6: "old JPEG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
}
_OTHERS |= {34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 65000: "EER", 65001: "EER"}

#: Sample formats; void is read as unsigned, as TIFF 6.0 says.
UNSIGNED, SIGNED, FLOAT, _VOID = 1, 2, 3, 4
#: Bits of a value in each of them.
_BITS = {UNSIGNED: (*range(1, 33), 64), SIGNED: (8, 16, 24, 32, 64), FLOAT: (16, 24, 32, 64)}
#: Those of which a predictor makes differences (libtiff's tif_predict.c).
_PREDICTED_BITS = (8, 16, 32, 64)

_WIDTH, _LENGTH, _BITS_PER_SAMPLE, _COMPRESSION = 256, 257, 258, 259
_PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP = 262, 266, 277, 278
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_LENGTH = 284, 317, 322, 323
_EXTRA, _FORMAT, _DEPTH = 338, 339, 32997
#: Tags with the places and the lengths of strips and of tiles.
_STRIPS, _TILES = (273, 279), (324, 325)

#: Those of a section, as for an MRC.
_MOST_SIDE_PX, _MOST_BYTES = 2**20, 2**31 - 1
#: Colour with opacity, and one more; no camera has more channels.
_MOST_SAMPLES = 5
#: A row each of the longest image, or small tiles of a large one.
_MOST_CHUNKS = 2**20
#: A tile may be larger than its image if that is small.
_TILE_PX = 2**22
#: Beyond every file, and two of them are no overflow.
_FAR = np.uint64(2**62)
#: A blank picture packs well; what unpacks to more bytes than this must not be packed more tightly
#: than deflate can, or it is there to fill the memory.
_ANY_RATIO_BYTES, _MOST_RATIO = 2**26, 1500


@dataclass(frozen=True)
class Layout:
    """Sizes, types and places of one page.

    Attributes
    ----------
    name : str
        Of the file, for messages.
    width, height, samples : int
        Pixels, and values of each.
    bits, sample_format : int
        Of a value; 1 unsigned, 2 signed, 3 real.
    photometric : int
        Meaning of the values.
    extra : tuple of int
        Kinds of the values beyond those of the colour; 1 and 2 are opacity.
    compression, predictor : int
        How they are packed.
    reversed_bits : bool
        The first pixel is in the least bit of a byte.
    planes : int
        1, or ``samples`` if each of them has strips of its own.
    chunk_shape : tuple of int
        Rows and columns of a strip or tile.
    tiled : bool
        Tiles, not strips.
    starts, lengths : (n,) int64
        Of strips or tiles in the file, in bytes.
    """

    name: str
    width: int
    height: int
    samples: int
    bits: int
    sample_format: int
    photometric: int
    extra: tuple[int, ...]
    compression: int
    predictor: int
    reversed_bits: bool
    planes: int
    chunk_shape: tuple[int, int]
    tiled: bool
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def chunk_word(self) -> str:
        """Name of a part, for messages."""
        return "tile" if self.tiled else "strip"

    @property
    def row_bytes(self) -> int:
        """One row of a strip or tile, unpacked."""
        return math.ceil(self.chunk_shape[1] * (self.samples // self.planes) * self.bits / 8)

    @property
    def needed(self) -> NDArray[np.int64]:
        """Bytes of each strip or tile, unpacked."""
        rows = np.full(len(self.starts), self.chunk_shape[0])
        if not self.tiled:  # the last one of a plane has what is left
            count = len(rows) // self.planes
            rows[count - 1 :: count] = self.height - (count - 1) * self.chunk_shape[0]
        return rows.astype(np.int64) * self.row_bytes

    @property
    def plane_bytes(self) -> int:
        """All of the page, unpacked."""
        return int(self.needed.sum())

    @property
    def contiguous(self) -> bool:
        """Uncompressed, and each strip begins where the one before ends."""
        follows = self.starts[1:] == self.starts[:-1] + self.needed[:-1]
        return self.compression == UNCOMPRESSED and not self.tiled and bool(follows.all())

    def moved(self, by: int) -> Layout:
        """A page of the same kind so many bytes further on."""
        return replace(self, starts=self.starts + by)


def layout_of(directory: Directory) -> Layout:
    """How the pixels of a page lie in its file.

    Raises
    ------
    NotReadyError
        Not all of the page is written.
    MicrographError
        It is damaged, too large, or of a kind that is not read.
    """
    name, number = directory.source.name, directory.whole_number
    width, height, samples, bits = _sizes(directory)
    planes = samples if number(_PLANAR, 1) == 2 else 1
    compression = number(_COMPRESSION, UNCOMPRESSED)
    if compression not in COMPRESSIONS:
        kind = _OTHERS.get(compression, f"number {compression}")
        _refuse(name, f"its compression ({kind}) is not read; save it uncompressed or as LZW")
    chunk_shape, tiled = _chunk_shape(directory, width, height)
    count = math.ceil(height / chunk_shape[0]) * math.ceil(width / chunk_shape[1]) * planes
    starts, lengths = _places(directory, count, tiled=tiled)
    if compression == UNCOMPRESSED and starts.size == 1 < count == planes:
        # ImageJ's 48-bit colour: a strip for all planes.
        each = math.ceil(width * bits / 8) * height
        starts, lengths = starts[0] + each * np.arange(planes), np.full(planes, each)
    unknown = compression == UNCOMPRESSED and not lengths.size  # an old program's
    if starts.size < count or (lengths.size < count and not unknown):
        found = f"{starts.size} places and {lengths.size} lengths of strips or tiles"
        _refuse(name, f"damaged: it has {found} where there should be {count}")
    layout = Layout(
        name=name,
        width=width,
        height=height,
        samples=samples,
        bits=bits,
        sample_format=_sample_format(directory, bits),
        photometric=number(_PHOTOMETRIC, 2 if samples >= 3 else 1),
        extra=tuple(directory.whole_numbers(_EXTRA, _MOST_SAMPLES).tolist()),
        compression=compression,
        predictor=number(_PREDICTOR, 1),
        reversed_bits=number(_FILL_ORDER, 1) == 2,
        planes=planes,
        chunk_shape=chunk_shape,
        tiled=tiled,
        starts=starts,
        lengths=lengths,
    )
    if layout.predictor != 1 and bits not in _PREDICTED_BITS:
        _refuse(name, f"differences of {bits} bits are not read; save it without a predictor")
    if compression == JPEG and bits not in (8, 12):
        _refuse(name, f"damaged: values of {bits} bits as JPEG")
    layout = _in_whole_words(layout)
    if compression == UNCOMPRESSED:
        needed = layout.needed
        layout = replace(layout, lengths=needed if unknown else np.minimum(lengths, needed))
    _compare(layout, directory.source.size)
    return layout


def _refuse(name: str, why: str) -> NoReturn:
    msg = f"{name}: {why}"
    raise MicrographError(msg)


def _sizes(directory: Directory) -> tuple[int, int, int, int]:
    """Width, height, values of a pixel and bits of a value."""
    name, number = directory.source.name, directory.whole_number
    width, height, samples = number(_WIDTH, 0), number(_LENGTH, 0), number(_SAMPLES, 1)
    if not (0 < width <= _MOST_SIDE_PX and 0 < height <= _MOST_SIDE_PX):
        _refuse(name, f"{width} x {height} pixels, which no micrograph has; it may be damaged")
    if not 0 < samples <= _MOST_SAMPLES:
        _refuse(name, f"{samples} values at each pixel; save its channels as pages")
    if number(_DEPTH, 1) != 1:
        _refuse(name, "a page with depth; save its slices as pages")
    every = set(directory.whole_numbers(_BITS_PER_SAMPLE, samples).tolist()) or {1}
    if 0 in every:
        raise directory.source.wrong("the list of bits of a value")
    if len(every) != 1:
        _refuse(name, f"values of {sorted(every)} bits in one pixel; save it as grey values")
    (bits,) = every
    if width * height * samples * bits / 8 > _MOST_BYTES:
        _refuse(name, f"{width} x {height} pixels of {samples * bits} bits, more than 2 GB")
    return width, height, samples, bits


def _sample_format(directory: Directory, bits: int) -> int:
    name = directory.source.name
    every = set(directory.whole_numbers(_FORMAT, _MOST_SAMPLES).tolist()) or {UNSIGNED}
    kind = every.pop()
    if every:
        _refuse(name, "whole and real numbers in one pixel; save it as grey values")
    kind = UNSIGNED if kind == _VOID else kind
    if bits not in _BITS.get(kind, ()):
        kinds = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "real", 5: "complex", 6: "complex"}
        word = kinds.get(kind, "unknown")
        _refuse(name, f"{word} numbers of {bits} bits, which nanostream does not read")
    return kind


def _chunk_shape(directory: Directory, width: int, height: int) -> tuple[tuple[int, int], bool]:
    """Rows and columns of a strip or tile, and whether it is a tile."""
    number = directory.whole_number
    if _TILE_WIDTH not in directory and _TILES[0] not in directory:
        rows = number(_ROWS_PER_STRIP, height)
        return (min(rows, height) if rows > 0 else height, width), False
    shape = number(_TILE_LENGTH, 0), number(_TILE_WIDTH, 0)
    if 0 in shape or shape[0] * shape[1] > max(_TILE_PX, 4 * width * height):
        _refuse(directory.source.name, f"tiles of {shape[1]} x {shape[0]} pixels; it is damaged")
    return shape, True


def _places(
    directory: Directory, count: int, *, tiled: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where strips or tiles are, and their lengths as far as those are given."""
    name, word = directory.source.name, "tiles" if tiled else "strips"
    if count > _MOST_CHUNKS:
        _refuse(name, f"{count} {word}; it is damaged")
    # Some programs give the places of tiles in the tags of strips.
    tags = _TILES if _TILES[0] in directory else _STRIPS
    if tags[0] not in directory:
        _refuse(name, f"a page without strips or tiles, where there should be {count}")
    starts, lengths = (directory.whole_numbers(tag, count) for tag in tags)
    starts, lengths = (np.minimum(values, _FAR) for values in (starts, lengths))
    return starts.astype(np.int64), lengths.astype(np.int64)


def _in_whole_words(layout: Layout) -> Layout:
    """That of 10, 12 or 14 bits, where the strips show that each value has 16."""
    if not (8 < layout.bits < 16) or layout.compression != UNCOMPRESSED or not layout.lengths.size:
        return layout
    wide = replace(layout, bits=16)
    return wide if (layout.lengths >= wide.needed).all() else layout


def _compare(layout: Layout, size: int) -> None:
    """Raise if strips or tiles are not all there, or cannot have the pixels."""
    word, name, needed = layout.chunk_word, layout.name, layout.needed
    absent = np.flatnonzero((layout.starts == 0) | (layout.lengths == 0))
    if absent.size:
        of = f"{word} {absent[0]} of {len(needed)}"
        msg = f"{name}: {of} is missing; not all of it is written, or it is damaged"
        raise NotReadyError(msg)
    beyond = np.flatnonzero(layout.starts + layout.lengths > size)
    if beyond.size:
        of = f"{word} {beyond[0]} of {len(needed)}"
        msg = f"{name}: {of} ends beyond the file ({size} bytes); not all is written, or it was cut"
        raise NotReadyError(msg)
    order = np.argsort(layout.starts)
    ends = layout.starts[order] + layout.lengths[order]
    if (ends[:-1] > layout.starts[order][1:]).any():
        _refuse(name, f"damaged: its {word}s overlap")
    packed = int(layout.lengths.sum())
    unpacked = int(needed.sum())
    if layout.compression == UNCOMPRESSED:
        short = np.flatnonzero(layout.lengths < needed)
        if short.size:
            k = int(short[0])
            has = f"{layout.lengths[k]} bytes where {needed[k]} are needed"
            _refuse(name, f"damaged: {word} {k} of {len(needed)} has {has}")
    elif unpacked > _MOST_BYTES or unpacked > max(_ANY_RATIO_BYTES, _MOST_RATIO * packed):
        _refuse(name, f"damaged: {packed} bytes that would unpack to {unpacked}")
