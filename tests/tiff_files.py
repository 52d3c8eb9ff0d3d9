"""A generated TIFF of every kind that people bring, and what is right of it. No test.

`KINDS` has one for each cell of the reader matrix, by "property: variety".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

Array = NDArray[Any]

RNG = np.random.default_rng(16)
#: Odd in both directions: rows of packed bits end within a byte, tiles are cut.
SHAPE = (41, 35)
COUNTS = RNG.poisson(40, SHAPE).astype(np.uint16)
BYTES = COUNTS.astype(np.uint8)
STACK: list[Array] = list(RNG.integers(0, 60_000, (3, *SHAPE)).astype(np.uint16))

#: Letters of `struct` by type number.
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 11: "f", 12: "d", 13: "I", 16: "Q"}
_FRACTION = 5

#: Type and values of a tag; bytes are a block with one pointer to it.
Tag = tuple[int, Sequence[Any] | bytes]


def tiff_bytes(
    tags: dict[int, Tag],
    chunks: Sequence[bytes],
    *,
    order: str = "<",
    big: bool = False,
    tiled: bool = False,
    behind: bytes = b"",
) -> bytes:
    """A TIFF of one page, written bit by bit.

    The directory is at the front, then its values, the strips or tiles, and what is ``behind``.
    """
    word, counter = ("Q", "Q") if big else ("I", "H")
    head = 16 if big else 8
    places, lengths = (324, 325) if tiled else (273, 279)
    long = 16 if big else 4
    tags = {lengths: (long, [len(c) for c in chunks]), places: (long, [0] * len(chunks))} | tags
    entry = struct.calcsize(f"={word}") * 2 + 4
    start = head + struct.calcsize(f"={counter}") + len(tags) * entry + struct.calcsize(f"={word}")
    values, fields = b"", {}
    at_places = start
    for tag, (kind, value) in sorted(tags.items()):
        data = value if isinstance(value, bytes) else _packed(order, kind, value)
        if tag == places:
            at_places = start + len(values)
        if isinstance(value, bytes) or len(data) > struct.calcsize(f"={word}"):
            values += bytes(len(values) % 2)
            at_places = start + len(values) if tag == places else at_places
            fields[tag] = struct.pack(f"{order}{word}", start + len(values))
            values += data
        else:
            fields[tag] = data.ljust(struct.calcsize(f"={word}"), b"\0")
    first = start + len(values)
    starts = [first + sum(map(len, chunks[:k])) for k in range(len(chunks))]
    packed = _packed(order, long, starts)
    if tags[places][1] != [0] * len(chunks):
        packed = b""  # as the caller says
    elif len(packed) > struct.calcsize(f"={word}"):
        k = at_places - start
        values = values[:k] + packed + values[k + len(packed) :]
    else:
        fields[places] = packed.ljust(struct.calcsize(f"={word}"), b"\0")
    mark = b"II" if order == "<" else b"MM"
    data = mark + struct.pack(f"{order}H", 43 if big else 42)
    data += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    data += struct.pack(f"{order}{counter}", len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        count = 1 if isinstance(value, bytes) else len(value)
        data += struct.pack(f"{order}HH{word}", tag, kind, count) + fields[tag]
    return data + bytes(struct.calcsize(f"={word}")) + values + b"".join(chunks) + behind


def _packed(order: str, kind: int, values: Sequence[Any]) -> bytes:
    if kind == _FRACTION:
        return b"".join(struct.pack(f"{order}II", *value) for value in values)
    return struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)


def page_tags(shape: tuple[int, int], bits: int, photometric: int = 1) -> dict[int, Tag]:
    """Tags that every page of grey values has."""
    rows, columns = shape
    return {
        256: (4, [columns]),
        257: (4, [rows]),
        258: (3, [bits]),
        259: (3, [1]),
        262: (3, [photometric]),
        277: (3, [1]),
        278: (4, [rows]),
    }


def packed_bits(values: Array, bits: int) -> bytes:
    """Rows of numbers of so many bits, each row ending with a byte."""
    each = (values[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    rows = each.reshape(len(values), -1).astype(np.uint8)
    return np.packbits(rows, axis=1).tobytes()


@dataclass(frozen=True)
class Kind:
    """A file of one kind.

    Attributes
    ----------
    write : callable
        Writes it.
    sections : sequence of arrays
        What is to be read; none if it is refused.
    pixel_size_nm : float or None
        None is not known.
    says : str
        Part of the message of one that is refused.
    """

    write: Callable[[Path], object]
    sections: Sequence[Array] = ()
    pixel_size_nm: float | None = None
    says: str = ""


def saved(*sections: Array, says: str = "", nm: float | None = None, **options: Any) -> Kind:
    """By tifffile, a page for each array; what is read are the same arrays."""
    options = {"photometric": "minisblack", "metadata": None} | options

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path, bigtiff=options.get("bigtiff", False)) as file:
            for pixels in sections:
                file.write(pixels, **{k: v for k, v in options.items() if k != "bigtiff"})

    return Kind(write, () if says else sections, nm, says)


def written(data: bytes, *sections: Array, says: str = "", nm: float | None = None) -> Kind:
    """These bytes."""
    return Kind(lambda path: path.write_bytes(data), sections, nm, says)


def as_read(kind: Kind, *sections: Array, nm: float | None = None) -> Kind:
    """A file of which other values are read than were saved."""
    return Kind(kind.write, sections, nm)


def _bits(bits: int, *, order: str = "<") -> Kind:
    values = (COUNTS % 2**bits).astype(np.uint8 if bits <= 8 else np.uint16)
    data = tiff_bytes(page_tags(SHAPE, bits), [packed_bits(values, bits)], order=order)
    return written(data, values)


_ORDERS: tuple[Literal["<"], Literal[">"]] = "<", ">"


def _triples(values: Array, order: Literal["<", ">"], *, compression: int = 1) -> Kind:
    """Numbers of 24 bits in the order of the file, as libtiff has them."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    if kind == 3:
        data = bytes(imagecodecs.float24_encode(values, byteorder=order))
    else:
        four = values.astype(f"{order}{values.dtype.kind}4").view("u1").reshape(-1, 4)
        data = (four[:, :3] if order == "<" else four[:, 1:]).tobytes()
    if compression != 1:
        data = bytes(imagecodecs.zlib_encode(data))
    tags = page_tags(SHAPE, 24) | {339: (3, [kind]), 259: (3, [compression])}
    return written(tiff_bytes(tags, [data], order=order), values.astype(np.float32))


def _in_words(bits: int) -> Kind:
    """Each value in 16 bits, and said to have fewer."""
    values = (STACK[0] % 2**bits).astype("<u2")
    return written(tiff_bytes(page_tags(SHAPE, bits), [values.tobytes()]), values)


def _white(values: Array, expected: Array) -> Kind:
    return as_read(saved(values, photometric="miniswhite"), expected)


def _palette(table: Array, says: str = "", *expected: Array) -> Kind:
    kind = saved(BYTES, photometric="palette", colormap=table)
    return Kind(kind.write, () if says else expected, None, says)


def _oriented(orientation: int) -> Kind:
    turned = {
        1: STACK[0],
        2: STACK[0][:, ::-1],
        3: STACK[0][::-1, ::-1],
        4: STACK[0][::-1],
        5: STACK[0].T,
        6: STACK[0].T[::-1],
        7: STACK[0].T[::-1, ::-1],
        8: STACK[0].T[:, ::-1],
    }[orientation]
    stored = np.ascontiguousarray(turned)
    return as_read(saved(stored, extratags=[(274, 3, 1, orientation, True)]), STACK[0])


def _stack_of_one_directory(description: bytes, *, order: str = ">", cut: int = 0) -> Kind:
    pixels = np.stack(STACK).astype(f"{order}u2").tobytes()
    plane = STACK[0].nbytes
    tags = page_tags(SHAPE, 16) | {270: (2, list(description + b"\0")), 282: (5, [(20, 1)])}
    data = tiff_bytes(tags, [pixels[:plane]], order=order, behind=pixels[plane:])
    return written(data[: len(data) - cut], *([] if cut else STACK), nm=0.05)


def _swapped_strips() -> Kind:
    top, bottom = COUNTS[:20], COUNTS[20:40]
    tags = page_tags((40, SHAPE[1]), 16) | {278: (4, [20])}
    data = tiff_bytes(tags, [top.astype("<u2").tobytes(), bottom.astype("<u2").tobytes()])
    first = len(data) - top.nbytes - bottom.nbytes
    places = struct.pack("<II", first, first + top.nbytes)
    swapped = data.replace(places, places[4:] + places[:4])
    return written(swapped, np.concatenate([bottom, top]))


def _pyramid(*, by_sub_ifd: bool) -> Kind:
    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            tiles: dict[str, Any] = {
                "tile": (16, 16),
                "photometric": "minisblack",
                "metadata": None,
            }
            file.write(STACK[0], subifds=2 if by_sub_ifd else 0, **tiles)
            for step in (2, 4):
                file.write(STACK[0][::step, ::step], subfiletype=1, **tiles)

    return Kind(write, [STACK[0]])


def _thumbnail(number: int, value: int) -> Kind:
    """A small picture in the chain, before the image, by either tag."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            plain: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
            file.write(BYTES[:8, :8], subfiletype=1, **plain)
            file.write(COUNTS, **plain)
        tag = struct.pack("<HHII", 254, 4, 1, 1)
        changed = struct.pack("<HHII", number, 4, 1, value)
        path.write_bytes(path.read_bytes().replace(tag, changed, 1))

    return Kind(write, [COUNTS])


def _damaged(pixels: Array, compression: str, how: str) -> Kind:
    """Strip 1 of several: zeros where it should be, garbage, cut short, or not there at all."""
    strips = [pixels[row : row + 8] for row in range(0, len(pixels), 8)]
    encode, number = {
        "none": (lambda data: data, 1),
        "LZW": (imagecodecs.lzw_encode, 5),
        "deflate": (imagecodecs.zlib_encode, 8),
        "PackBits": (imagecodecs.packbits_encode, 32773),
        "ZSTD": (imagecodecs.zstd_encode, 50000),
        "LZMA": (imagecodecs.lzma_encode, 34925),
        "JPEG": (imagecodecs.jpeg8_encode, 7),
    }[compression]
    raw = compression == "JPEG"
    chunks = [bytes(encode(np.ascontiguousarray(s) if raw else s.tobytes())) for s in strips]
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = page_tags(pixels.shape, 8 * pixels.itemsize) | {259: (3, [number]), 278: (4, [8])}
    tags |= {339: (3, [kind])}
    if how == "zeros":
        chunks[1] = bytes(len(chunks[1]))
    elif how == "garbage":
        half = len(chunks[1]) // 2
        chunks[1] = chunks[1][:half] + bytes([255 - b for b in chunks[1][half:]])
    elif how == "short":
        chunks[1] = chunks[1][: len(chunks[1]) // 2]
    elif how == "lacking":
        chunks = chunks[:-1]
    elif how == "of length 0":
        lengths = [len(c) for c in chunks]
        tags[279] = (4, [0, *lengths[1:]])
    elif how == "at 0":
        tags[273] = (4, [0, *range(900, 900 + len(chunks) - 1)])
    return written(tiff_bytes(tags, chunks), says="strip" if how != "lacking" else "strips")


_ROUGH = RNG.integers(0, 2**16, (41, 64))
_DAMAGES = {
    f"damage: {compression} {pixels.dtype} {how}": _damaged(pixels, compression, how)
    for pixels in (_ROUGH.astype(np.uint8), _ROUGH.astype(np.uint16), _ROUGH.astype(np.float32))
    for compression in ("none", "LZW", "deflate", "PackBits", "ZSTD", "LZMA", "JPEG")
    for how in ("zeros", "garbage", "short", "lacking", "of length 0", "at 0")
    if not (compression == "none" and how in ("zeros", "garbage"))  # pixels like others
    if not (compression == "PackBits" and how == "garbage")  # the same
    if not (compression == "JPEG" and (pixels.itemsize > 1 or how == "garbage"))
    if not (compression == "ZSTD" and how == "garbage")  # its bytes as they are: no checksum
}

_RAMP = np.arange(256, dtype=np.uint16)
_OPAQUE = np.full_like(COUNTS, 65535)

_OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels
 ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="35" SizeY="41" SizeZ="3" SizeC="1"
 SizeT="1" {}><TiffData IFD="0" PlaneCount="3"/></Pixels></Image></OME>"""


def _described(text: str, nm: float | None, *, encoding: str = "utf-8", **options: Any) -> Kind:
    return saved(COUNTS, description=text.encode(encoding), nm=nm, **options)


def _tagged(nm: float | None, *tags: tuple[int, int, int, Any], **options: Any) -> Kind:
    return saved(COUNTS, extratags=[(*tag, True) for tag in tags], nm=nm, **options)


def _block(tag: int, data: bytes, nm: float | None) -> Kind:
    tags = page_tags(SHAPE, 16) | {tag: (4, data)}
    return written(tiff_bytes(tags, [COUNTS.astype("<u2").tobytes()]), COUNTS, nm=nm)


def _sis(exponent: int, size: float) -> Kind:
    """Olympus SIS: a head, its entries, and what they point to; places are in the file."""
    at = 8 + 2 + 12 * (len(page_tags(SHAPE, 16)) + 3) + 4  # the block is the first value
    head = struct.pack("<4s6x5h6x32sh", b"SIS0", 1, 2, 3, 4, 126, b"gold", 1)
    entry = struct.pack("<hhI", 1, 1, at + 68)
    data = struct.pack("<10xhdd8xd", exponent, size, size, 1e5)
    return _block(33560, head + entry + data, size * 10**exponent * 1e9)


def _tvips(version: int, nm: float | None) -> Kind:
    data = bytearray(4096)
    struct.pack_into("<i", data, 0, version)
    struct.pack_into("<f", data, 244 + 2724, 0.25)
    return _block(37706, bytes(data), nm)


def _zeiss(width: int) -> bytes:
    """Numbers without a name, of which the fourth is the size of a pixel of 1024, and names."""
    numbers = [0, 0, 0, 5e-10 * width / 1024, 0, 7]
    text = "".join(f"{number:.9g}\r\n" for number in numbers)
    return (text + "DP_MODE\r\nMode = Normal\r\nAP_MAG\r\nMag = 100 KX\r\n").encode("latin-1")


_ZEISS_NAMES = b"0\r\n0\r\n0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 0.25 \xb5m\r\n"
_FEI = (
    b"[User]\r\nUser=x\r\n[Scan]\r\nHorFieldsize=1e-6\r\nPixelWidth=2.5e-10\r\n[Stage]\r\nx=1\r\n"
)
_JEOL = "<TemReporter><Eos><EosMode>eosTEM</EosMode></Eos><ImageFormingSystem><ModeString>{}\
</ModeString><SelectorValue>50000</SelectorValue></ImageFormingSystem></TemReporter>"


def _ascii(tag: int, text: bytes) -> tuple[int, int, int, Any]:
    return (tag, 2, len(text) + 1, text + b"\0")


def _codec(number: int, pixels: Array = COUNTS) -> Kind:
    tags = page_tags(SHAPE, 8 * pixels.itemsize) | {259: (3, [number])}
    return written(tiff_bytes(tags, [pixels.tobytes()]), says="its compression")


KINDS: dict[str, Kind] = {
    # --- bit depth and type
    "type: bilevel": _bits(1),
    **{f"type: {bits} bit": _bits(bits) for bits in (2, 4, 10, 12, 14)},
    **{f"type: {bits} bit in 16": _in_words(bits) for bits in (10, 12, 14)},
    "type: 12 bit big endian": _bits(12, order=">"),
    "type: uint8": saved(BYTES),
    "type: int8": saved(BYTES.astype(np.int8) - 40),
    "type: uint16": saved(STACK[0]),
    "type: int16": saved((STACK[0] - 30_000).astype(np.int16)),
    "type: uint32": as_read(saved(STACK[0].astype(np.uint32)), STACK[0].astype(np.float32)),
    "type: int32": as_read(
        saved(STACK[0].astype(np.int32) - 30_000), STACK[0].astype(np.float32) - 30_000
    ),
    **{
        f"type: {name}24{', deflate' if compression > 1 else ''}{' big endian' * (order == '>')}": (
            _triples(values, order, compression=compression)
        )
        for name, values in (
            ("uint", STACK[0].astype(np.uint32) * 250),
            ("int", (STACK[0].astype(np.int32) - 30_000) * 250),
            ("float", COUNTS.astype(np.float32) / 8 - 3),
        )
        for order in _ORDERS
        for compression in (1, 8)
    },
    "type: uint24 with a predictor": written(
        tiff_bytes(page_tags(SHAPE, 24) | {317: (3, [2]), 259: (3, [8])}, [bytes(40)]),
        says="differences of 24 bits",
    ),
    "type: float16": saved(COUNTS.astype(np.float16) / 8),
    "type: float32": saved(STACK[0].astype(np.float32) / 7),
    "type: float64": as_read(saved(STACK[0] / 7), (STACK[0] / 7).astype(np.float32)),
    "type: void": written(
        tiff_bytes(page_tags(SHAPE, 16) | {339: (3, [4])}, [COUNTS.astype("<u2").tobytes()]), COUNTS
    ),
    "type: complex": saved(COUNTS.astype(np.complex64), says="complex numbers"),
    # --- meaning of the values
    "meaning: white is zero, bilevel": written(
        tiff_bytes(page_tags(SHAPE, 1, 0), [packed_bits(COUNTS % 2, 1)]),
        (1 - COUNTS % 2).astype(np.uint8),
    ),
    "meaning: white is zero, 12 bit": written(
        tiff_bytes(page_tags(SHAPE, 12, 0), [packed_bits(COUNTS, 12)]), 4095 - COUNTS
    ),
    "meaning: white is zero, uint8": _white(BYTES, 255 - BYTES),
    "meaning: white is zero, uint16": _white(STACK[0], 65535 - STACK[0]),
    "meaning: white is zero, int16": _white(COUNTS.astype(np.int16), ~COUNTS.astype(np.int16)),
    "meaning: white is zero, float32": _white(
        COUNTS.astype(np.float32), -COUNTS.astype(np.float32)
    ),
    "meaning: grey palette": _palette(np.stack([_RAMP * 257] * 3), "", BYTES),
    "meaning: grey palette, shifted": _palette(np.stack([_RAMP * 256] * 3), "", BYTES),
    "meaning: grey palette of 8 bit": _palette(np.stack([_RAMP] * 3), "", BYTES),
    "meaning: grey palette, inverted": _palette(np.stack([_RAMP[::-1] * 257] * 3), "", 255 - BYTES),
    "meaning: grey palette of 16 bit": _palette(
        np.stack([_RAMP * 100] * 3), "", COUNTS * np.uint16(100)
    ),
    "meaning: colour palette": _palette(
        np.stack([_RAMP * 257, _RAMP[::-1] * 257, _RAMP]), "its palette has colours"
    ),
    "meaning: grey and opacity, uint8": as_read(
        saved(np.stack([BYTES, np.full_like(BYTES, 255)], -1), extrasamples=["unassalpha"]), BYTES
    ),
    "meaning: grey and opacity, uint16": as_read(
        saved(np.stack([STACK[0], _OPAQUE], -1), extrasamples=["unassalpha"]), STACK[0]
    ),
    "meaning: grey and opacity in parts": as_read(
        saved(np.stack([STACK[0], STACK[1]], -1), extrasamples=["unassalpha"]), STACK[0]
    ),
    "meaning: grey that is multiplied with its opacity": saved(
        np.stack([STACK[0], STACK[1]], -1), extrasamples=["assocalpha"], says="partly transparent"
    ),
    "meaning: three equal channels, uint8": as_read(
        saved(np.stack([BYTES] * 3, -1), photometric="rgb"), BYTES
    ),
    "meaning: three equal channels, uint16": as_read(
        saved(np.stack([COUNTS] * 3, -1), photometric="rgb"), COUNTS
    ),
    "meaning: three equal channels and opacity": as_read(
        saved(
            np.stack([COUNTS] * 3 + [_OPAQUE], -1), photometric="rgb", extrasamples=["unassalpha"]
        ),
        COUNTS,
    ),
    "meaning: three equal planes in ImageJ's one strip": written(
        tiff_bytes(
            page_tags(SHAPE, 16, 2)
            | {258: (3, [16] * 3), 277: (3, [3]), 284: (3, [2])}
            | {270: (2, list(b"ImageJ=1.54f\nimages=3\nchannels=3\n\0"))},
            [COUNTS.astype(">u2").tobytes() * 3],
            order=">",
        ),
        COUNTS,
    ),
    "meaning: three equal planes": as_read(
        saved(np.stack([COUNTS] * 3), photometric="rgb", planarconfig="separate"), COUNTS
    ),
    "meaning: colour": saved(
        np.stack([BYTES, BYTES, 255 - BYTES], -1), photometric="rgb", says="colour image"
    ),
    "meaning: CMYK": saved(
        np.stack([BYTES] * 4, -1), photometric="separated", says="colour image (CMYK)"
    ),
    "meaning: two channels": saved(
        np.stack([STACK[0], STACK[1]], -1), planarconfig="contig", says="a second image"
    ),
    # --- compression
    **{
        f"compression: {name} {pixels.dtype}": saved(
            pixels, compression=compression, predictor=predictor, rowsperstrip=8
        )
        for pixels in (BYTES, STACK[0], STACK[0].astype(np.float32))
        for name, compression, predictor in (
            ("LZW", "lzw", False),
            ("LZW with predictor", "lzw", True),
            ("deflate", "zlib", False),
            ("deflate with predictor", "zlib", True),
            ("PackBits", "packbits", False),
            ("ZSTD", "zstd", True),
            ("LZMA", "lzma", True),
        )
    },
    "compression: LZW int16": saved(
        COUNTS.astype(np.int16) - 40, compression="lzw", predictor=True
    ),
    "compression: LZW float16": saved(COUNTS.astype(np.float16), compression="lzw"),
    "compression: LZW 12 bit": written(
        tiff_bytes(
            page_tags(SHAPE, 12) | {259: (3, [5])},
            [bytes(imagecodecs.lzw_encode(packed_bits(COUNTS, 12)))],
        ),
        COUNTS,
    ),
    "compression: LZW bilevel": written(
        tiff_bytes(
            page_tags(SHAPE, 1) | {259: (3, [5])},
            [bytes(imagecodecs.lzw_encode(packed_bits(COUNTS % 2, 1)))],
        ),
        (COUNTS % 2).astype(np.uint8),
    ),
    "compression: LZW big endian": Kind(
        lambda path: tifffile.imwrite(
            path, STACK[0], byteorder=">", compression="lzw", predictor=True, metadata=None
        ),
        [STACK[0]],
    ),
    "compression: JPEG": saved(
        np.full(SHAPE, 77, np.uint8), compression="jpeg", compressionargs={"level": 95}
    ),
    "compression: JPEG of equal channels": as_read(
        saved(
            np.full((*SHAPE, 3), 77, np.uint8),
            photometric="rgb",
            compression="jpeg",
            compressionargs={"level": 95},
        ),
        np.full(SHAPE, 77, np.uint8),
    ),
    "compression: JPEG in tiles": saved(
        np.full((32, 48), 77, np.uint8), compression="jpeg", tile=(16, 16)
    ),
    "compression: fax": _codec(4),
    "compression: reversed bits": written(
        tiff_bytes(
            page_tags(SHAPE, 1) | {266: (3, [2])},
            [bytes(imagecodecs.bitorder_encode(packed_bits(COUNTS % 2, 1)))],
        ),
        (COUNTS % 2).astype(np.uint8),
    ),
    "compression: unknown, uint8": _codec(50002, BYTES),
    "compression: unknown, uint16": _codec(50002),
    "compression: JPEG 2000": _codec(33003),
    "compression: without a name": _codec(12345),
    # --- how the pages lie
    "form: pages": saved(*STACK),
    "form: BigTIFF": saved(*STACK, bigtiff=True),
    "form: big endian": Kind(
        lambda path: tifffile.imwrite(
            path, np.stack(STACK), byteorder=">", photometric="minisblack"
        ),
        STACK,
    ),
    "form: BigTIFF big endian": Kind(
        lambda path: tifffile.imwrite(
            path, np.stack(STACK), byteorder=">", bigtiff=True, photometric="minisblack"
        ),
        STACK,
    ),
    "form: tiles": saved(STACK[0], tile=(16, 32)),
    "form: tiles, LZW": saved(STACK[0], tile=(16, 32), compression="lzw", predictor=True),
    "form: tiles of planes": as_read(
        saved(np.stack([COUNTS] * 3), photometric="rgb", planarconfig="separate", tile=(16, 16)),
        COUNTS,
    ),
    "form: strips": saved(STACK[0], rowsperstrip=8),
    "form: strips in another order": _swapped_strips(),
    "form: no lengths of strips": written(
        tiff_bytes(
            {k: v for k, v in page_tags(SHAPE, 16).items() if k != 278},
            [COUNTS.tobytes()],
        ).replace(struct.pack("<HHI", 279, 4, 1), struct.pack("<HHI", 280, 4, 1)),
        COUNTS,
    ),
    "form: length of a strip beyond the file": written(
        tiff_bytes(page_tags(SHAPE, 16) | {279: (4, [10 * COUNTS.nbytes])}, [COUNTS.tobytes()]),
        COUNTS,
    ),
    "form: pyramid in the chain": _pyramid(by_sub_ifd=False),
    "form: pyramid of sub-directories": _pyramid(by_sub_ifd=True),
    "form: thumbnail": _thumbnail(254, 1),
    "form: thumbnail by the old tag": _thumbnail(255, 2),
    "form: transparency mask": _thumbnail(254, 4),
    "form: OME": Kind(
        lambda path: tifffile.imwrite(path, np.stack(STACK), ome=True, photometric="minisblack"),
        STACK,
    ),
    "form: ImageJ": Kind(lambda path: tifffile.imwrite(path, np.stack(STACK), imagej=True), STACK),
    "form: ImageJ above 4 GB": _stack_of_one_directory(b"ImageJ=1.54f\nimages=3\nunit=nm\n"),
    "form: ImageJ above 4 GB, cut off": Kind(
        _stack_of_one_directory(b"ImageJ=1.54f\nimages=3\nunit=nm\n", cut=10).write,
        says="2 of its 3 pictures are there",
    ),
    "form: ImageJ's description of a stack with one page": as_read(
        _described("ImageJ=1.54f\nimages=3\nunit=nm\n", None, resolution=(20, 20)),
        COUNTS,
        nm=0.05,
    ),
    "form: tifffile's one directory": as_read(
        _stack_of_one_directory(
            json.dumps({"shape": [3, *SHAPE], "truncated": True}).encode(), order="<"
        ),
        *STACK,
    ),
    "form: depth": Kind(
        lambda path: tifffile.imwrite(
            path, np.stack([COUNTS] * 16), volumetric=True, tile=(16, 16, 16), metadata=None
        ),
        says="depth",
    ),
    **{f"orientation: {n}": _oriented(n) for n in range(1, 9)},
    # --- pixel size
    "size: in cm": saved(COUNTS, resolution=(2e8, 2e8), resolutionunit="CENTIMETER", nm=0.05),
    "size: in inches": saved(COUNTS, resolution=(1e8, 1e8), resolutionunit="INCH", nm=0.254),
    "size: of a screen": saved(COUNTS, resolution=(72, 72), resolutionunit="INCH"),
    "size: no unit": saved(COUNTS, resolution=(20, 20), resolutionunit="NONE"),
    "size: no resolution": written(
        tiff_bytes(page_tags(SHAPE, 16) | {282: (5, [(0, 0)])}, [COUNTS.astype("<u2").tobytes()]),
        COUNTS,
    ),
    **{
        f"size: ImageJ {unit}": _described(
            f"ImageJ=1.54f\nunit={unit}\n", nm, resolution=(20, 20), encoding=encoding
        )
        for unit, encoding, nm in (
            ("nm", "ascii", 0.05),
            ("micron", "ascii", 50),
            ("\\u00B5m", "ascii", 50),
            ("µm", "latin-1", 50),
            ("µm", "utf-8", 50),
            ("\\u00C5", "ascii", 0.005),
            ("\\u212B", "ascii", 0.005),
            ("A\\u030A", "ascii", 0.005),
            ("pixel", "ascii", None),
            ("pixels", "ascii", None),
            ("ms", "ascii", None),
            *((unit, "ascii", 0.05) for unit in ("NM", "nanometer", "Nanometers", "nanometres")),
            *((unit, "ascii", 50) for unit in ("um", "UM", "Microns", "micrometer", "Micrometers")),
            *((unit, "ascii", 0.005) for unit in ("angstrom", "Angstroms", "A")),
            ("ångström", "utf-8", 0.005),
        )
    },
    "size: DigitalMicrograph": _tagged(
        0.05,
        *(_ascii(65003, b"nm"), _ascii(65004, b"nm"), (65009, 12, 1, 0.05), (65010, 12, 1, 0.05)),
        (50838, 4, 1, 12),
        resolution=(72, 72),
    ),
    "size: DigitalMicrograph µm": _tagged(
        50, _ascii(65003, "µm".encode("latin-1")), (65009, 11, 1, 0.05)
    ),
    "size: DigitalMicrograph in reciprocal space": _tagged(
        None,
        *(_ascii(65003, b"1/nm"), (65009, 12, 1, 0.05)),
        resolution=(2e8, 2e8),
        resolutionunit="CENTIMETER",
    ),
    "size: Olympus SIS": _sis(-9, 0.5),
    "size: Olympus SIS of the TEM": _sis(-6, 2e-4),
    **{
        f"size: FEI {tag}": _tagged(0.25, _ascii(tag, _FEI), resolution=(72, 72))
        for tag in (34680, 34682)
    },
    "size: FEI by the width of the field": _tagged(
        0.5,
        _ascii(34682, b"[IRBeam]\r\nHFW=5.12e-7\r\n[Image]\r\nResolutionX=1024\r\n"),
        resolution=(72, 72),
    ),
    "size: FEI of the Titan": _tagged(
        0.02,
        _ascii(34682, b""),
        _ascii(34683, b"<Metadata><PixelSize><X unit='m'>2e-11</X><Y>2e-11</Y></PixelSize>"),
        resolution=(72, 72),
    ),
    "size: FEI without a scan": _tagged(
        None, _ascii(34682, b"[User]\r\nUser=x\r\n"), resolution=(72, 72)
    ),
    "size: Zeiss": _tagged(0.5, _ascii(34118, _zeiss(SHAPE[1]))),
    "size: Zeiss by name": _tagged(250, _ascii(34118, _ZEISS_NAMES)),
    "size: TVIPS": _tvips(2, 0.25),
    "size: TVIPS, first version": _tvips(1, None),
    "size: JEOL": _described(
        _JEOL.format("MAG"),
        0.2,
        resolution=(1000, 1000),
        resolutionunit="CENTIMETER",
        extratags=[(271, 2, 9, b"JEOL Ltd.", True)],
    ),
    "size: JEOL diffraction": _described(
        _JEOL.format("DIFF"),
        None,
        resolution=(1000, 1000),
        resolutionunit="CENTIMETER",
        extratags=[(271, 2, 9, b"JEOL Ltd.", True)],
    ),
    "size: AMT": _described(
        "AMT Camera System\n11/18/09\n14:12\n8000\nXpixCal=65.569\nYpixCal=65.569\nUnit=micron\n##",
        1e3 / 65.569,
        resolution=(72, 72),
    ),
    "size: AMT in one line": _described(
        "JEM-1400 ResolutionUnit=mmXpixCal=2520.415000YpixCal=2520.4Unit=umImaging", 1 / 2.520415
    ),
    "size: AMT, not calibrated": _described(
        "AMT Camera System\nXpixCal=0\nUnit=nm\n", None, resolution=(2e8, 2e8), resolutionunit=3
    ),
    "size: OME": _described(
        _OME.format('PhysicalSizeX="0.5" PhysicalSizeXUnit="Å"'), 0.05, resolution=(72, 72)
    ),
    "size: OME in its own unit": _described(_OME.format('PhysicalSizeX="0.0005"'), 0.5),
    "size: OME without": _described(_OME.format(""), None, resolution=(72, 72)),
    "size: OME, damaged": _described(_OME.format("")[:-20], None),
    **_DAMAGES,
}
