"""PNG files at full depth: grey values, colours, or the indices of a palette.

OpenCV decodes; before that every byte is accounted for: chunks and their checksums, the size, and
that the compressed pixels are there to the last one. So nothing damaged is decoded in part, no
library complains on the operator's screen, and a header that promises more than the file can hold
costs no memory.

References
----------
PNG specification, third edition (W3C, 2025): chunks, colour types and filters.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.errors import MicrographError

__all__ = ["Png", "read_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
#: Samples of a pixel by colour type, and the depths that it may have.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
#: Paeth's; each row begins with the number of its filter.
_LAST_FILTER = 4
#: Deflate makes at most 1032 bytes of one (zlib's technical details).
_MOST_FROM_A_BYTE = 1032
#: As in an MRC: larger images are no camera's.
_MOST_BYTES = 2**31 - 1
#: Columns and rows of the seven passes of an interlaced image: first and step of each.
_PASSES = (
    *((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4)),
    *((0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)),
)
#: Decompressed in pieces of so many bytes, only to be counted.
_PIECE = 2**20


@dataclass(frozen=True)
class Png:
    """A decoded image.

    Attributes
    ----------
    pixels : (H, W) or (H, W, 3) or (H, W, 4) uint8 or uint16
        Blue, green, red and opacity where there are several. Grey values of fewer than 8 bits are
        stretched to 8.
    palette : (N, 3) uint8 or None
        Red, green and blue of the indices that the pixels are.
    """

    pixels: NDArray[Any]
    palette: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    kind: int
    interlaced: bool

    def bytes_of(self, width: int, height: int) -> int:
        """Bytes of an image before compression: each row has its filter."""
        bits = width * self.depth * _SAMPLES[self.kind]
        return height * (1 + (bits + 7) // 8) if width and height else 0

    @property
    def size(self) -> int:
        """Bytes of all pixels before compression."""
        if not self.interlaced:
            return self.bytes_of(self.width, self.height)
        return sum(
            self.bytes_of(len(range(x, self.width, dx)), len(range(y, self.height, dy)))
            for x, dx, y, dy in _PASSES
        )


def read_png(data: bytes, name: str, *, palette: Literal["drawn", "index"] = "drawn") -> Png:
    """The image of a PNG file.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        For messages.
    palette : str
        "drawn" gives the colours of a palette, "index" the indices with their palette.

    Raises
    ------
    MicrographError
        The file is damaged, cut off or no PNG.
    """
    try:
        header, pixels, colours = _parts(data)
        _check_pixels(header, pixels)
    except (ValueError, struct.error, zlib.error) as error:
        msg = f"{name}: not a readable PNG file ({error}); save it again"
        raise MicrographError(msg) from error
    by_index = header.kind == _PALETTE and palette == "index"
    image = _decoded(header, pixels, b"" if by_index else colours, name)
    if not by_index:
        return Png(image)
    # A grey image of few bits is stretched to 8.
    indices = image // (255 // (2**header.depth - 1)) if header.depth < 8 else image
    return Png(indices, np.frombuffer(colours, np.uint8).reshape(-1, 3))


def _parts(data: bytes) -> tuple[_Header, bytes, bytes]:
    """Header, compressed pixels and palette; ValueError if they are not all there."""
    if not data.startswith(_SIGNATURE):
        msg = "no PNG signature"
        raise ValueError(msg)
    header, pixels, colours = None, bytearray(), b""
    for kind, body in _chunks(data):
        if header is None:
            header = _header(kind, body)
        elif kind == b"IDAT":
            pixels += body
        elif kind == b"PLTE":
            colours = body
        elif kind == b"IEND":
            break
    else:
        msg = "it ends early"
        raise ValueError(msg)
    if header is None or not pixels:
        msg = "it has no pixels"
        raise ValueError(msg)
    if header.kind == _PALETTE and (not colours or len(colours) % 3 or len(colours) > 768):
        msg = f"a palette of {len(colours)} bytes"
        raise ValueError(msg)
    return header, bytes(pixels), colours


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        # Of what may be left out a wrong one is no matter.
        if kind[:1].isupper() and zlib.crc32(kind + body) != checksum:
            msg = f"wrong checksum at byte {place}"
            raise ValueError(msg)
        yield kind, body
        place += 12 + length


def _header(kind: bytes, body: bytes) -> _Header:
    if kind != b"IHDR":
        msg = "it does not begin with its header"
        raise ValueError(msg)
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(colours, ()) or not (width and height) or interlaced > 1:
        msg = f"{width} x {height} pixels of {depth} bits, colour type {colours}"
        raise ValueError(msg)
    return _Header(width, height, depth, colours, bool(interlaced))


def _check_pixels(header: _Header, pixels: bytes) -> None:
    """Count what the compressed pixels become; ValueError unless it is the whole image."""
    if header.size > min(_MOST_FROM_A_BYTE * len(pixels), _MOST_BYTES):
        msg = f"{header.width} x {header.height} pixels in {len(pixels)} bytes"
        raise ValueError(msg)
    stream, count = zlib.decompressobj(), 0
    row_bytes = header.bytes_of(header.width, 1)
    while count <= header.size and (piece := stream.decompress(pixels, _PIECE)):
        filters = piece[-count % row_bytes :: row_bytes]
        if not header.interlaced and filters and max(filters) > _LAST_FILTER:
            msg = f"filter {max(filters)}"
            raise ValueError(msg)
        count, pixels = count + len(piece), stream.unconsumed_tail
    if count != header.size:
        msg = f"{count} of {header.size} bytes of pixels"
        raise ValueError(msg)
    if not stream.eof:
        msg = "its compressed pixels have no end"
        raise ValueError(msg)


def _decoded(header: _Header, pixels: bytes, colours: bytes, name: str) -> NDArray[Any]:
    """The image by OpenCV, from a file of nothing but what it needs.

    Without its palette an image of indices is one of grey values.
    """
    kind = header.kind if colours or header.kind != _PALETTE else _GREY
    head = struct.pack(
        ">IIBBBBB", header.width, header.height, header.depth, kind, 0, 0, header.interlaced
    )
    parts = [(b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")]
    if kind == _PALETTE:
        parts.insert(1, (b"PLTE", colours))
    file = _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in parts
    )
    image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        msg = f"{name}: a kind of PNG that OpenCV does not read; save it again"
        raise MicrographError(msg)
    return np.asarray(image)
