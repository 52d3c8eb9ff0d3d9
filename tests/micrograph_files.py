"""Smallest files of the formats of other programs, byte by byte. No test."""

from __future__ import annotations

import json
import struct
import zlib

import h5py
import numpy as np


def write_dm(path, stack, *, version, scale, unit):
    """Smallest DM3 or DM4 file: one object, no thumbnail (format: ncempy's dm.py)."""
    size = ">q" if version == 4 else ">i"

    def number(value):
        return struct.pack(size, value)

    def tag(kind, name, body):
        head = struct.pack(">bh", kind, len(name)) + name.encode()
        return head + (number(len(body)) if version == 4 else b"") + body

    def group(name, *tags):
        return tag(20, name, b"\0\0" + number(len(tags)) + b"".join(tags))

    def data(name, info, payload):
        body = b"%%%%" + number(len(info)) + b"".join(map(number, info)) + payload
        return tag(21, name, body)

    def dimension(value, text):
        units = text.encode("utf-16-le")
        return group(
            "",
            data("Origin", [6], struct.pack("<f", 0)),
            data("Scale", [6], struct.pack("<f", value)),
            data("Units", [20, 4, len(text)], units),
        )

    axes = [dimension(scale, unit), dimension(scale, unit)]
    if stack.ndim == 3:
        axes.append(dimension(1, "s"))
    code, array_type = {"int16": (1, 2), "int32": (7, 3), "float32": (2, 6)}[stack.dtype.name]
    image = group(
        "ImageData",
        group("Calibrations", group("Dimension", *axes)),
        data("Data", [20, array_type, stack.size], stack.tobytes()),
        data("DataType", [5], struct.pack("<I", code)),
        group("Dimensions", *(data("", [5], struct.pack("<I", n)) for n in stack.shape[::-1])),
    )
    root = group("ImageList", group("", image))
    body = b"\0\0" + number(1) + root
    path.write_bytes(struct.pack(">i", version) + number(len(body)) + struct.pack(">i", 1) + body)


def write_ser(path, stack, *, pixel_m, data_type):
    """TIA series, version 0x0210; rows from the bottom up."""
    header = struct.pack("<3h6i", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, *[len(stack)] * 2, 0, 1)
    header += struct.pack("<iddiii", len(stack), 0, 1, 0, 0, 0)
    header = header[:22] + struct.pack("<i", len(header)) + header[26:]
    offset = len(header) + 8 * len(stack)
    elements = [
        struct.pack("<ddi", 0, pixel_m, 0) * 2
        + struct.pack("<hii", data_type, *image.shape[::-1])
        + image[::-1].tobytes()
        for image in stack
    ]
    offsets = [offset + sum(map(len, elements[:i])) for i in range(len(elements))]
    tables = struct.pack(f"<{2 * len(stack)}i", *offsets, *offsets)
    path.write_bytes(header + tables + b"".join(elements))


def write_berkeley(path, stack, *, step, unit):
    with h5py.File(path, "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = stack
        for i, length in enumerate(stack.shape, 1):
            group[f"dim{i}"] = np.arange(length) * step
            group[f"dim{i}"].attrs["units"] = unit


def write_velox(path, stack, *, pixel_m):
    card = {
        "BinaryResult": {
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "PixelSize": {"width": str(pixel_m), "height": str(pixel_m)},
            "Detector": "BM-Ceta",
        },
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1500000000"}},
        "Stage": {},
        "Scan": {},
    }
    text = np.frombuffer(json.dumps(card).encode(), np.uint8)
    with h5py.File(path, "w") as file:
        file["Data/Image/0a/Data"] = np.moveaxis(stack, 0, -1)
        file["Data/Image/0a/Metadata"] = text[:, None]


def png_chunk(kind, body):
    """One chunk of a PNG with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path, samples, *, bits, kind, palette=None, extra=b"", filters=0):
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
