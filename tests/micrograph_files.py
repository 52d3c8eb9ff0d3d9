"""Smallest files of the formats of other programs, byte by byte. No test."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Gatan's number of a type of pixels, and that of its array.
DM_TYPES = {"int16": (1, 2), "int32": (7, 3), "float32": (2, 6), "uint8": (6, 8), "uint16": (10, 4)}
DM_TYPES |= {"float64": (12, 7), "int8": (9, 9), "uint32": (11, 5), "complex64": (3, 7)}
DM_COLOUR = (23, 5)


def write_dm(path: Path, stack: Array, *, version: int, scale: float, unit: str) -> None:
    """Smallest DM3 or DM4 file: one object, no thumbnail (format: ncempy's dm.py)."""
    units = [unit, unit, "s", ""][: stack.ndim]
    write_dm_images(path, [(stack, units, {})], version=version, scale=scale)


def write_dm_images(
    path: Path,
    images: Sequence[tuple[Array, list[str], dict[str, Any]]],
    *,
    version: int,
    scale: float,
    thumbnail: int | None = None,
) -> None:
    """DM3 or DM4 file of several images: data, units (columns first) and further names."""
    writer = _Dm(version)
    listed = [writer.image(data, units, scale, **more) for data, units, more in images]
    tags = [writer.group("ImageList", *listed)]
    if thumbnail is not None:
        index = writer.data("ImageIndex", [5], struct.pack("<I", thumbnail))
        tags.append(writer.group("Thumbnails", writer.group("", index)))
    body = b"\0\0" + writer.number(len(tags)) + b"".join(tags)
    head = struct.pack(">i", version) + writer.number(len(body)) + struct.pack(">i", 1)
    path.write_bytes(head + body)


class _Dm:
    """Tags of a DM3 or DM4 file."""

    def __init__(self, version: int) -> None:
        self._version = version

    def number(self, value: int) -> bytes:
        return struct.pack(">q" if self._version == 4 else ">i", value)

    def tag(self, kind: int, name: str, body: bytes) -> bytes:
        head = struct.pack(">bh", kind, len(name)) + name.encode()
        return head + (self.number(len(body)) if self._version == 4 else b"") + body

    def group(self, name: str, *tags: bytes) -> bytes:
        return self.tag(20, name, b"\0\0" + self.number(len(tags)) + b"".join(tags))

    def data(self, name: str, info: list[int], payload: bytes) -> bytes:
        body = b"%%%%" + self.number(len(info)) + b"".join(map(self.number, info)) + payload
        return self.tag(21, name, body)

    def text(self, name: str, text: str) -> bytes:
        return self.data(name, [20, 4, len(text)], text.encode("utf-16-le"))

    def dimension(self, scale: float, unit: str) -> bytes:
        return self.group(
            "",
            self.data("Origin", [6], struct.pack("<f", 0)),
            self.data("Scale", [6], struct.pack("<f", scale)),
            self.text("Units", unit),
        )

    def image(
        self,
        stack: Array,
        units: list[str],
        scale: float,
        *,
        name: str = "",
        form: str = "",
        kind: tuple[int, int] | None = None,
    ) -> bytes:
        axes = [self.dimension(1 if n > 1 else scale, unit) for n, unit in enumerate(units)]
        code, array_type = kind or DM_TYPES[stack.dtype.name]
        image = self.group(
            "ImageData",
            self.group("Calibrations", self.group("Dimension", *axes)),
            self.data("Data", [20, array_type, stack.size], stack.tobytes()),
            self.data("DataType", [5], struct.pack("<I", code)),
            self.group(
                "Dimensions",
                *(self.data("", [5], struct.pack("<I", n)) for n in stack.shape[::-1]),
            ),
        )
        tags = [image]
        if form:
            meta = self.group("Meta Data", self.text("Format", form))
            tags.append(self.group("ImageTags", meta))
        if name:
            tags.append(self.text("Name", name))
        return self.group("", *tags)


#: TIA's number of a type of pixels.
SER_TYPES = {"u1": 1, "u2": 2, "u4": 3, "i1": 4, "i2": 5, "i4": 6, "f4": 7, "f8": 8}
_SER_COMPLEX = {"c8": 9, "c16": 10}


def write_ser(path: Path, stack: Array, *, pixel_m: float, version: int = 0x0210) -> None:
    """TIA series; rows from the bottom up. Offsets have 8 bytes from version 0x0220 on."""
    word = "q" if version >= 0x0220 else "i"
    kind = (SER_TYPES | _SER_COMPLEX)[stack.dtype.str[1:]]
    count = len(stack)
    dimension = struct.pack("<iddiii", count, 0, 1, 0, 0, 0)
    size = 3 * 2 + 4 * 4 + struct.calcsize(f"<{word}") + 4 + len(dimension)
    header = struct.pack("<3H4i", 0x4949, 0x0197, version, 0x4122, 0x4152, count, count)
    header += struct.pack(f"<{word}i", size, 1) + dimension
    elements = [
        struct.pack("<ddi", 0, pixel_m, 0) * 2
        + struct.pack("<hii", kind, *image.shape[::-1])
        + image[::-1].tobytes()
        for image in stack
    ]
    first = size + 2 * count * struct.calcsize(f"<{word}")
    offsets = [first + sum(map(len, elements[:i])) for i in range(count)]
    tables = struct.pack(f"<{2 * count}{word}", *offsets, *offsets)
    path.write_bytes(header + tables + b"".join(elements))


def write_berkeley(
    path: Path,
    data: Array,
    *,
    step: float | list[float],
    unit: str,
    names: Sequence[str] | None = None,
    root: str = "data/image",
) -> None:
    """EMD file of openNCEM: an axis for each dimension, with name, unit and step."""
    steps = step if isinstance(step, list) else [step] * data.ndim
    with h5py.File(path, "w") as file:
        group = file.create_group(root)
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for i, length in enumerate(data.shape, 1):
            axis = group.create_dataset(f"dim{i}", data=np.arange(max(length, 2)) * steps[i - 1])
            axis.attrs["units"] = unit
            axis.attrs["name"] = names[i - 1] if names else ""


def write_hyperspy(
    path: Path, data: Array, *, step: float, unit: str, names: Sequence[str]
) -> None:
    """EMD file of HyperSpy: all axes in reverse, each with its first two values."""
    write_berkeley(
        path, data.T, step=step, unit=unit, names=names[::-1], root="signals/__unnamed__"
    )
    with h5py.File(path, "a") as file:
        file["signals"].attrs["emd_group_type"] = 1


def velox_card(
    detector: str,
    *,
    unit: str | None = "m",
    size: float = 5e-11,
    detector_type: str | None = None,
) -> bytes:
    """Metadata of an image of Velox."""
    card: dict[str, Any] = {"BinaryResult": {"Detector": detector}, "Stage": {}, "Scan": {}}
    card["Acquisition"] = {"AcquisitionStartDatetime": {"DateTime": "1500000000"}}
    if unit:
        card["BinaryResult"] |= {
            "PixelUnitX": unit,
            "PixelUnitY": unit,
            "PixelSize": {"width": str(size), "height": str(size)},
        }
    if detector_type:
        named = {"DetectorName": detector, "DetectorType": detector_type}
        card["Detectors"] = {"Detector-0": named}
    return json.dumps(card).encode()


def write_velox_sets(
    path: Path, sets: Sequence[tuple[Array, bytes]], *, labels: Sequence[str] = (), version: int = 7
) -> None:
    """EMD file of Velox: images (rows, columns, frames) and their metadata, by random ids.

    Each can have a label that it is shown with.
    """
    keys = ("0a", "7b", "a1", "f0")
    with h5py.File(path, "w") as file:
        file.create_group("Data/Image")
        for key, label in zip(keys, labels, strict=False):
            _write_velox_label(file, key, label, version)
        for key, (data, card) in zip(keys, sets, strict=False):
            text = np.zeros(len(card) + 10, np.uint8)
            text[: len(card)] = np.frombuffer(card, np.uint8)
            file[f"Data/Image/{key}/Data"] = data
            file[f"Data/Image/{key}/Metadata"] = text[:, None]


def _write_velox_label(file: h5py.File, key: str, label: str, version: int) -> None:
    data = {"dataPath": f"/Data/Image/{key}"}
    records: dict[str, dict[str, Any]]
    if version < 11:
        records = {
            f"Presentation/Displays/ImageDisplay/d{key}": {"display": {"label": label}} | data
        }
    else:
        reference = f"/SharedProperties/ImageSeriesDataReference/r{key}"
        records = {f"Displays/ImageDisplay/d{key}": {"id": label, "data": reference}}
        records[reference] = data
    for place, record in records.items():
        text = [json.dumps(record).replace("/", "\\/")]
        file.create_dataset(place, data=text, dtype=h5py.string_dtype())


def write_velox(path: Path, stack: Array, *, pixel_m: float) -> None:
    """EMD file of Velox with the frames of one camera."""
    write_velox_sets(path, [(np.moveaxis(stack, 0, -1), velox_card("BM-Ceta", size=pixel_m))])


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(
    path: Path,
    samples: Array,
    *,
    bits: int,
    kind: int,
    palette: Any = None,
    extra: bytes = b"",
    filters: int = 0,
) -> None:
    """PNG of one piece: samples (H, W) or (H, W, C), packed into so many bits each."""
    height, width = samples.shape[:2]
    if bits == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        each = (samples[..., None] >> np.arange(bits)[::-1]) & 1
        rows = np.packbits(each.astype(np.uint8).reshape(height, -1), axis=1)
    pixels = b"".join(bytes([filters]) + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    colours = b"" if palette is None else png_chunk(b"PLTE", np.asarray(palette, "u1").tobytes())
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + colours
        + extra
        + png_chunk(b"IDAT", zlib.compress(pixels))
        + png_chunk(b"IEND", b"")
    )


#: MRC's number of a type of pixels.
MRC_MODES = {"u1": 0, "i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
_IMOD = 1146047817


def mrc_bytes(
    stack: Array,
    *,
    order: Literal["<", ">"] = "<",
    mode: int | None = None,
    pixel_a: float = 0.5,
    extended: bytes = b"",
    counted: int | None = None,
    numbers: tuple[int, int] = (0, 0),
    map: bytes = b"MAP ",
    stamp: bytes | None = None,
    label: bytes = b"another program",
) -> bytes:
    """An MRC file of sections (N, H, W), written field by field and not by the reader's table."""
    count, rows, columns = stack.shape
    kind = stack.dtype.str[1:]
    head = bytearray(1024)
    struct.pack_into(f"{order}4i", head, 0, columns, rows, count, mode or MRC_MODES.get(kind, 0))
    struct.pack_into(f"{order}3i", head, 28, columns, rows, count)
    struct.pack_into(f"{order}3f", head, 40, *(pixel_a * n for n in (columns, rows, count)))
    struct.pack_into(f"{order}3f3i", head, 52, 90, 90, 90, 1, 2, 3)
    struct.pack_into(f"{order}3f", head, 76, stack.min().real, stack.max().real, stack.mean().real)
    struct.pack_into(f"{order}i", head, 92, len(extended) if counted is None else counted)
    struct.pack_into(f"{order}2h", head, 128, *numbers)
    if kind in ("u1", "i1"):
        struct.pack_into(f"{order}2i", head, 152, _IMOD, int(kind == "i1"))
    head[208:212] = map
    head[212:216] = stamp or (b"DD\0\0" if order == "<" else b"\x11\x11\0\0")
    struct.pack_into(f"{order}i", head, 220, bool(label))
    head[224 : 224 + len(label)] = label
    return bytes(head) + extended + stack.astype(stack.dtype.newbyteorder(order)).tobytes()
