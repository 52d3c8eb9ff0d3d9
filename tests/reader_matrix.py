"""The reader matrix: what is read of which format, each cell by a generated file. No test.

`FORMATS` has the files of each format by "property: variety"; `page` makes the table of
docs/formats/reader-matrix.md of them. Write it anew with ``python -m tests.reader_matrix``.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from nanostream.records import FirstRow
from tests import tiff_files
from tests.micrograph_files import (
    DM_COLOUR,
    mrc_bytes,
    velox_card,
    write_berkeley,
    write_dm_images,
    write_hyperspy,
    write_png,
    write_ser,
    write_velox_sets,
)

Array = NDArray[Any]

_READ, _REFUSED, _IN_PART = "read", "**refused**", "whole sections read"
_NOT_APPLICABLE = "–"
_PROPERTIES = {
    "type": "Type and bit depth",
    "meaning": "Meaning of the values",
    "byte order": "Byte order",
    "compression": "Compression",
    "calibration": "Calibration",
    "orientation": "Orientation",
    "form": "Form",
    "damage": "Damage",
}

PAGE = Path(__file__).parents[1] / "docs" / "formats" / "reader-matrix.md"

RNG = np.random.default_rng(4)
SHAPE = (21, 17)
STACK = RNG.integers(0, 30_000, (3, *SHAPE)).astype(np.int16)
IMAGE = STACK[:1]
BYTES = RNG.integers(0, 256, SHAPE).astype(np.uint8)
NM = ["nm", "nm"]


@dataclass(frozen=True)
class Cell(tiff_files.Kind):
    """A file of any format and what is right of it.

    Attributes
    ----------
    cut_off : bool
        The file counts more sections than are read.
    first_row : str
        Where a display shows row 0.
    """

    cut_off: bool = False
    first_row: FirstRow = "top"


@dataclass(frozen=True)
class Format:
    """A column of the table: its heading, the ending of its files, and the files."""

    heading: str
    suffix: str
    cells: dict[str, Cell]


def _bytes(data: bytes, *sections: Array, **right: Any) -> Cell:
    return Cell(lambda path: path.write_bytes(data), sections, **right)


def _damages(data: bytes, says: str, *, tail: int = 40) -> dict[str, Cell]:
    """A file that is cut off, empty, or of other bytes."""
    other = RNG.integers(0, 256, 3000).astype(np.uint8).tobytes()
    return {
        "damage: empty file": _bytes(b"", says=says),
        "damage: other bytes": _bytes(other, says=says),
        "damage: cut off in the header": _bytes(data[:23], says=says),
        "damage: cut off in the pixels": _bytes(data[:-tail], says=says),
    }


def _written(write: Callable[[Path], object]) -> bytes:
    """The bytes of what a function writes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "a")
        return (Path(folder) / "a").read_bytes()


# --- MRC -----------------------------------------------------------------------------------------


def _mrc(stack: Array = STACK, nm: float | None = 0.05, says: str = "", **how: Any) -> Cell:
    sections = () if says else tuple(stack)
    return _bytes(
        mrc_bytes(stack, **how), *sections, pixel_size_nm=nm, says=says, first_row="bottom"
    )


def _agard(size_m: float) -> bytes:
    records = np.zeros((3, 32), "<f4")
    records[:, 11] = size_m
    return records.tobytes()


def _fei_mrc() -> Cell:
    data = bytearray(mrc_bytes(STACK))
    data[104:108] = b"FEI1"
    return _bytes(bytes(data), *STACK, pixel_size_nm=0.05, first_row="top")


def _mrc_cells() -> dict[str, Cell]:
    whole = mrc_bytes(STACK)
    byte = STACK[:, :, :16].astype(np.uint8)
    cut = Cell(
        lambda path: path.write_bytes(whole[:-40]),
        tuple(STACK[:2]),
        0.05,
        "",
        True,
        first_row="bottom",
    )
    wide = np.zeros((1, 512, 256), np.uint8)
    types = ("int8", "uint8", "int16", "uint16", "float16", "float32")
    return {
        **{f"type: {name}": _mrc((STACK % 100).astype(name)) for name in types},
        "type: complex": _mrc(STACK.astype(np.complex64), mode=4, says="Fourier transform"),
        "type: 4 bit": _mrc(byte, mode=101, says="4-bit packed frames"),
        "meaning: colour": _mrc(STACK, mode=16, says="colour"),
        "byte order: big-endian": _mrc(STACK.astype(np.float32), order=">"),
        "byte order: 8 bits, wrong stamp": _mrc(wide, stamp=b"\x11\x11\0\0"),
        "byte order: 8 bits, no stamp": _mrc(wide, stamp=bytes(4)),
        "byte order: big-endian, wrong stamp": _mrc(order=">", stamp=b"DD\0\0"),
        "calibration: in the file": _mrc(),
        "calibration: none": _mrc(pixel_a=0, nm=None),
        "calibration: no possible pixel size": _mrc(pixel_a=1e-5, nm=None),
        "calibration: not finite": _mrc(pixel_a=np.nan, nm=None),
        "calibration: FEI's records": _mrc(
            pixel_a=1, extended=_agard(2.04e-10), numbers=(0, 32), nm=0.204
        ),
        "orientation: first row at the bottom": _mrc(),
        "orientation: first row at the top": _fei_mrc(),
        "form: one image": _mrc(IMAGE),
        "form: stack": _mrc(),
        "form: extended header": _mrc(extended=bytes(4096)),
        "form: bare header": _mrc(map=bytes(4), stamp=bytes(4), label=b""),
        "damage: extended header absent": _mrc(counted=4096, says="counts an extended header"),
        "damage: more than is counted": _bytes(
            whole + bytes(99), *STACK, pixel_size_nm=0.05, first_row="bottom"
        ),
        **_damages(whole, "a.mrc"),
        "damage: cut off in the pixels": cut,
    }


# --- DigitalMicrograph ---------------------------------------------------------------------------

#: Pixels, units (columns first) and further names.
_DmImage = tuple[Array, list[str], dict[str, Any]]


def _dm(
    version: int,
    *images: tuple[Array, list[str], dict[str, Any]],
    scale: float = 0.05,
    **right: Any,
) -> Cell:
    return Cell(
        lambda path: write_dm_images(path, list(images), version=version, scale=scale), **right
    )


def _dm_image(version: int, pixels: Array = IMAGE[0], unit: str = "nm", **right: Any) -> Cell:
    sections = [] if right.get("says") else [right.pop("expected", pixels)]
    right.setdefault("pixel_size_nm", None if right.get("says") else 0.05)
    return _dm(version, (pixels, [unit, unit], {}), sections=sections, **right)


def _dm_cells(version: int) -> dict[str, Cell]:
    stack = (STACK, [*NM, "s"], {})
    thumbnail = (np.zeros((4, 4), np.uint32), ["", ""], {"kind": DM_COLOUR})
    good: dict[str, Any] = {"sections": IMAGE, "pixel_size_nm": 0.05}
    data = _written(lambda path: write_dm_images(path, [stack], version=version, scale=0.05))
    big = bytearray(data)
    big[4 * version - 4 : 4 * version] = bytes(4)
    kept = ("int8", "uint8", "int16", "uint16", "float32")
    floats = ("int32", "uint32", "float64")
    spectrum = "a spectrum or spectrum image"
    return {
        **{f"type: {name}": _dm_image(version, (IMAGE[0] % 100).astype(name)) for name in kept},
        **{
            f"type: {name}": _dm_image(
                version, IMAGE[0].astype(name), expected=IMAGE[0].astype(np.float32)
            )
            for name in floats
        },
        "type: complex": _dm_image(version, IMAGE[0].astype(np.complex64), says="Gatan's type 3"),
        "meaning: colour": _dm(version, thumbnail, says="in colour"),
        "byte order: big-endian": _bytes(bytes(big), says="not a readable"),
        "calibration: in the file": _dm_image(version),
        "calibration: µm": _dm_image(version, unit="µm", scale=5e-5),
        "calibration: Å": _dm_image(version, unit="Å", scale=0.5),
        "calibration: none": _dm_image(version, unit="", pixel_size_nm=None),
        "calibration: reciprocal": _dm_image(version, unit="1/nm", pixel_size_nm=None),
        "calibration: no possible pixel size": _dm_image(
            version, unit="m", scale=1.0, pixel_size_nm=None
        ),
        "orientation: first row at the top": _dm_image(version),
        "form: one image": _dm_image(version),
        "form: stack": _dm(version, stack, sections=STACK, pixel_size_nm=0.05),
        "form: thumbnail": _dm(version, thumbnail, (IMAGE[0], NM, {}), **good),
        "form: several images": _dm(version, (IMAGE[0], NM, {}), (IMAGE[0] + 1, NM, {}), **good),
        "form: spectrum beside an image": _dm(
            version, (np.zeros((5, *SHAPE), "f4"), [*NM, "eV"], {}), (IMAGE[0], NM, {}), **good
        ),
        "form: spectrum": _dm(version, (np.zeros(50, "f4"), ["eV"], {}), says=spectrum),
        "form: spectrum image": _dm(
            version, (np.zeros((5, *SHAPE), "f4"), [*NM, "eV"], {}), says=spectrum
        ),
        "form: four dimensions": _dm(
            version, (np.zeros((2, 2, 5, 7), "i2"), [*NM, "", ""], {}), says="4-D data"
        ),
        **_damages(data, "a.dm", tail=STACK.nbytes),
    }


# --- TIA -----------------------------------------------------------------------------------------


def _ser(stack: Array = STACK, pixel_m: float = 5e-11, **right: Any) -> Cell:
    version = right.pop("version", 0x0210)
    expected = right.pop("expected", stack)
    right.setdefault("pixel_size_nm", None if right.get("says") else 0.05)
    right.setdefault("sections", () if right.get("says") else tuple(expected))
    return Cell(lambda path: write_ser(path, stack, pixel_m=pixel_m, version=version), **right)


def _ser_cells() -> dict[str, Cell]:
    data = _written(lambda path: write_ser(path, STACK, pixel_m=5e-11))
    spectra, big = bytearray(data), bytearray(data)
    struct.pack_into("<i", spectra, 6, 0x4120)
    struct.pack_into("<H", big, 0, 0x4D4D)
    kept = ("int8", "uint8", "int16", "uint16", "float32")
    single = STACK.astype(np.float32)
    return {
        **{f"type: {name}": _ser((STACK % 100).astype(name)) for name in kept},
        **{
            f"type: {name}": _ser(STACK.astype(name), expected=single)
            for name in ("int32", "uint32", "float64")
        },
        "type: complex": _ser(STACK.astype(np.complex64), says="complex"),
        "byte order: big-endian": _bytes(bytes(big), says="not a readable .ser"),
        "calibration: in the file": _ser(),
        "calibration: none": _ser(pixel_m=0.0, pixel_size_nm=None),
        "calibration: not finite": _ser(pixel_m=np.nan, pixel_size_nm=None),
        "calibration: reciprocal": _ser(pixel_m=1.3e7, pixel_size_nm=None),
        "calibration: no possible pixel size": _ser(pixel_m=1.0, pixel_size_nm=None),
        "orientation: first row at the top": _ser(),
        "form: one image": _ser(IMAGE),
        "form: stack": _ser(),
        "form: offsets of 8 bytes": _ser(version=0x0220),
        "form: without an image": _ser(STACK[:0], says="without an image"),
        "form: spectrum": _bytes(bytes(spectra), says="a series of spectra"),
        **_damages(data, "not a readable .ser"),
        # Its last image is the third; the others are read.
        "damage: cut off in the pixels": Cell(
            lambda path: path.write_bytes(data[: len(data) - STACK[0].nbytes * 3]),
            says="not a readable .ser",
        ),
    }


# --- EMD -----------------------------------------------------------------------------------------


def _berkeley(data: Array = STACK, unit: str = "[n_m]", step: Any = 0.05, **right: Any) -> Cell:
    names = right.pop("names", None)
    expected = right.pop("expected", data)
    right.setdefault("pixel_size_nm", None if right.get("says") else 0.05)
    right.setdefault("sections", () if right.get("says") else tuple(expected))
    return Cell(lambda path: write_berkeley(path, data, step=step, unit=unit, names=names), **right)


def _stored(data: Array = STACK, **how: Any) -> Cell:
    """A data set that HDF5 stores in some way."""

    def write(path: Path) -> None:
        write_berkeley(path, data, step=0.05, unit="[n_m]")
        with h5py.File(path, "a") as file:
            del file["data/image/data"]
            file.create_dataset("data/image/data", data=data, **how)

    return Cell(write, tuple(data), 0.05)


def _never_written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (100, 512, 512), np.uint16, chunks=(1, 512, 512))


def _berkeley_cells() -> dict[str, Cell]:
    data = _written(lambda path: write_berkeley(path, STACK, step=0.05, unit="[n_m]"))
    kept = ("int8", "uint8", "int16", "uint16", "float16", "float32")
    single = STACK.astype(np.float32)
    hyperspy: dict[str, Any] = {"step": 0.05, "unit": "[n_m]", "names": ("t", "y", "x")}
    return {
        **{f"type: {name}": _berkeley((STACK % 100).astype(name)) for name in kept},
        **{
            f"type: {name}": _berkeley(STACK.astype(name), expected=single)
            for name in ("int32", "uint32", "float64")
        },
        "type: complex": _berkeley(STACK.astype(np.complex64), says="of type complex64"),
        "type: bool": _berkeley(STACK > 9, says="true and false"),
        "byte order: big-endian": _berkeley(STACK.astype(">i2")),
        "compression: none": _berkeley(),
        "compression: deflate": _stored(compression="gzip", shuffle=True),
        "compression: LZF": _stored(compression="lzf"),
        "calibration: in the file": _berkeley(),
        "calibration: µm": _berkeley(step=5e-5, unit="[µ_m]"),
        "calibration: Å": _berkeley(step=0.5, unit="Å"),
        "calibration: none": _berkeley(unit="", pixel_size_nm=None),
        "calibration: reciprocal": _berkeley(unit="[1_/_n_m]", pixel_size_nm=None),
        "orientation: first row at the top": _berkeley(),
        "orientation: axes x, y": _berkeley(STACK.T, names=("x", "y", "t"), expected=STACK),
        "orientation: HyperSpy's axes": Cell(
            lambda path: write_hyperspy(path, STACK, **hyperspy), tuple(STACK), 0.05
        ),
        "form: one image": _berkeley(IMAGE[0], expected=IMAGE),
        "form: stack": _berkeley(),
        "form: spectrum": _berkeley(np.zeros(50), unit="[e_V]", says="a spectrum"),
        "form: spectrum image": _berkeley(STACK, unit="[e_V]", says="a spectrum"),
        "form: four dimensions": _berkeley(STACK[None], says="4-D data"),
        "damage: never written": Cell(_never_written, says="0 are stored"),
        **_damages(data, "not a readable .emd", tail=STACK.nbytes // 2),
    }


def _velox(*sets: tuple[Array, bytes], labels: Sequence[str] = (), **right: Any) -> Cell:
    return Cell(lambda path: write_velox_sets(path, list(sets), labels=labels), **right)


def _velox_image(
    stack: Array = STACK, detector: str = "BM-Ceta", **card: Any
) -> tuple[Array, bytes]:
    return np.moveaxis(stack, 0, -1), velox_card(detector, **card)


def _velox_cells() -> dict[str, Cell]:
    fft = np.zeros((21, 9, 1), [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])
    fourier = fft, velox_card("BM-Ceta", unit="1/m", size=1e8)
    elements = _velox_image(STACK.astype(np.float32), "SuperXG2")
    good: dict[str, Any] = {"sections": STACK, "pixel_size_nm": 0.05}
    data = _written(lambda path: write_velox_sets(path, [_velox_image()]))
    kept = ("uint8", "int16", "uint16", "float32")
    named = {name: (STACK % 100).astype(name) for name in kept}
    return {
        **{
            f"type: {name}": _velox(_velox_image(pixels), sections=pixels, pixel_size_nm=0.05)
            for name, pixels in named.items()
        },
        "type: complex": _velox(fourier, says="a Fourier transform"),
        "calibration: in the file": _velox(_velox_image(), **good),
        "calibration: none": _velox(_velox_image(unit=None), sections=STACK),
        "calibration: reciprocal": _velox(_velox_image(unit="1/m"), says="in units of 1/m"),
        "orientation: first row at the top": _velox(_velox_image(), **good),
        "form: one image": _velox(_velox_image(IMAGE), sections=IMAGE, pixel_size_nm=0.05),
        "form: stack": _velox(_velox_image(), **good),
        "form: several images": _velox(_velox_image(STACK // 2, "DF4"), _velox_image(), **good),
        "form: spectrum beside an image": _velox(elements, fourier, _velox_image(), **good),
        "form: element map beside an image": _velox(
            *(_velox_image(STACK // 3, "HAADF"), _velox_image(detector="HAADF")),
            labels=("Fe-K", "HAADF"),
            **good,
        ),
        "form: element map": _velox(
            _velox_image(detector="HAADF"), labels=("Au",), says="an element map"
        ),
        "form: spectrum image": _velox(elements, says="a map of a spectrometer"),
        **_damages(data, "not a readable .emd", tail=STACK.nbytes // 2),
    }


# --- PNG -----------------------------------------------------------------------------------------


def _png(samples: Array, expected: Array | None = None, **how: Any) -> Cell:
    says = how.pop("says", "")
    sections = () if says else [samples if expected is None else expected]
    return Cell(lambda path: write_png(path, samples, **how), sections, says=says)


def _png_grey(bits: int) -> Cell:
    wide = IMAGE[0].astype(np.uint16)
    values = BYTES & np.uint8(2**bits - 1) if bits <= 8 else wide
    stretched = values if bits > 8 else values * (255 // (2**bits - 1))
    return _png(values, stretched, bits=bits, kind=0)


def _png_cells() -> dict[str, Cell]:
    wide = IMAGE[0].astype(np.uint16)
    channels = np.repeat(BYTES[..., None], 3, axis=-1)
    colour = channels + np.arange(3, dtype=np.uint8)
    opaque = np.full_like(wide, 65535)
    ramp = np.repeat(np.arange(256), 3)
    data = _written(lambda path: write_png(path, BYTES, bits=8, kind=0))
    half = len(data) // 2
    flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    filters = cv2.imencode(".png", BYTES, [cv2.IMWRITE_PNG_FILTER, 0xF8])[1].tobytes()
    return {
        "type: bilevel": _png_grey(1),
        **{f"type: {bits} bit": _png_grey(bits) for bits in (2, 4)},
        "type: uint8": _png_grey(8),
        "type: uint16": _png_grey(16),
        "byte order: big-endian": _png_grey(16),
        "compression: deflate": _bytes(filters, BYTES),
        "calibration: none": _png_grey(8),
        "orientation: first row at the top": _png_grey(8),
        "meaning: grey palette": _png(BYTES, bits=8, kind=3, palette=ramp),
        "meaning: colour palette": _png(
            BYTES, bits=8, kind=3, palette=np.arange(768) % 256, says="colour image"
        ),
        "meaning: grey and opacity": _png(np.stack([wide, opaque], -1), wide, bits=16, kind=4),
        "meaning: three equal channels": _png(channels, BYTES, bits=8, kind=2),
        "meaning: three equal channels and opacity": _png(
            np.concatenate([channels, channels[..., :1]], -1), BYTES, bits=8, kind=6
        ),
        "meaning: colour": _png(colour, bits=8, kind=2, says="colour image"),
        "form: one image": _png_grey(8),
        "damage: a flipped bit": _bytes(flipped, says="wrong checksum"),
        "damage: unknown filter": _png(BYTES, bits=8, kind=0, filters=9, says="filter 9"),
        **_damages(data, "not a readable PNG"),
    }


# --- NumPy ---------------------------------------------------------------------------------------


def _npy(array: Array, *expected: Array, says: str = "") -> Cell:
    sections = () if says else expected or tuple(array)
    return Cell(lambda path: np.save(path, array), sections, says=says)


def _npy_cells() -> dict[str, Cell]:
    buffer = io.BytesIO()
    np.save(buffer, STACK)
    kept = ("int8", "uint8", "int16", "uint16", "float16", "float32")
    floats = ("int32", "uint32", "int64", "float64")
    channels = np.repeat(BYTES[..., None], 3, axis=-1)
    return {
        **{f"type: {name}": _npy((STACK % 100).astype(name)) for name in kept},
        **{
            f"type: {name}": _npy(STACK.astype(name), *STACK.astype(name).astype(np.float32))
            for name in floats
        },
        "type: complex": _npy(STACK.astype(np.complex64), says="complex64"),
        "type: bool": _npy(STACK > 9, says="true and false"),
        "type: objects": _npy(np.array([{}]), says="not a readable"),
        "byte order: big-endian": _npy(STACK.astype(">i2")),
        "calibration: none": _npy(STACK),
        "orientation: first row at the top": _npy(STACK),
        "orientation: Fortran's order": _npy(np.asfortranarray(STACK)),
        "meaning: three equal channels": _npy(channels, BYTES),
        "meaning: colour": _npy(channels + np.arange(3, dtype="u1"), says="colour image"),
        "form: image of channels or stack": _npy(
            np.zeros((3, 4, 4), "i2"), says="an image of 4 channels or 3 images"
        ),
        "form: one image": _npy(STACK[0], STACK[0]),
        "form: stack": _npy(STACK),
        "form: spectrum": _npy(np.arange(5), says="shape"),
        "form: four dimensions": _npy(np.zeros((2, 2, 2, 2)), says="shape"),
        **_damages(buffer.getvalue(), "not a readable .npy"),
    }


# --- TIFF ----------------------------------------------------------------------------------------

#: Names of the files of `tiff_files` in the table; several files can be one row.
_BY = r"calibration: of \1"
_TIFF_ROWS = (
    (
        r"type: 12 bit big endian|form: big endian|form: BigTIFF big endian",
        "byte order: big-endian",
    ),
    (r"(type: (u?int|float)24)(, deflate)?( big endian)?", r"\1"),
    (r"(compression: .*) (u?int|float)\d+$", r"\1"),
    (r"compression: LZW (12 bit|bilevel|big endian)", "compression: LZW"),
    (r"compression: (deflate|LZW)( with predictor)?,?", r"compression: \1\2"),
    (r"compression: unknown,", "compression: unknown"),
    (r"(meaning: .*), (u?int|float)\d+$", r"\1"),
    (r"form: pages", "form: stack"),
    (r"size: none|size: no resolution|size: no unit", "calibration: none"),
    (r"size: in cm|size: in inches", "calibration: in the file"),
    (r"size: of a screen", "calibration: no possible pixel size"),
    (
        r"size: (ImageJ|DigitalMicrograph|Olympus SIS|FEI|TVIPS|OME|Zeiss|JEOL|AMT).*",
        r"calibration: \1's",
    ),
    (r"orientation: 1", "orientation: first row at the top"),
    (r"orientation: \d", "orientation: by its tag, seven others"),
    (r"damage: \S+ \S+ (.*)", r"damage: a strip \1"),
)


def _tiff_row(name: str) -> str:
    for pattern, row in _TIFF_ROWS:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, row, name)
    return name


def _tiff_cells() -> dict[str, Cell]:
    """Cells of TIFF for the cases that `tiff_files` lacks, being no matter of TIFF."""
    pages = tiff_files.KINDS["form: pages"]
    image = tiff_files.KINDS["type: uint16"]
    whole = _written(pages.write)
    return {
        "form: one image": Cell(image.write, image.sections),
        "compression: none": Cell(image.write, image.sections),
        "damage: more than is counted": _bytes(whole + bytes(99), *pages.sections),
        **_damages(_written(image.write), "a.tif"),
    }


def _tiff_outcomes() -> dict[str, set[str]]:
    """Outcome of each row by the files of `tiff_files`, which tests/unit/acquisition reads."""
    found: dict[str, set[str]] = {}
    for name, kind in tiff_files.KINDS.items():
        found.setdefault(_tiff_row(name), set()).add(_REFUSED if kind.says else _READ)
    return found


FORMATS = (
    Format("TIFF", ".tif", _tiff_cells()),
    Format("MRC", ".mrc", _mrc_cells()),
    Format("DM3", ".dm3", _dm_cells(3)),
    Format("DM4", ".dm4", _dm_cells(4)),
    Format("TIA .ser", ".ser", _ser_cells()),
    Format("EMD, openNCEM and HyperSpy", ".emd", _berkeley_cells()),
    Format("EMD, Velox", ".emd", _velox_cells()),
    Format("PNG", ".png", _png_cells()),
    Format("NPY", ".npy", _npy_cells()),
)


def _outcome(cell: Cell) -> str:
    if not len(cell.sections):
        return _REFUSED
    return _IN_PART if cell.cut_off else _READ


def page() -> str:
    """The page of the documentation."""
    columns = {
        column.heading: {name: {_outcome(cell)} for name, cell in column.cells.items()}
        for column in FORMATS
    }
    columns["TIFF"] = _tiff_outcomes() | columns["TIFF"]
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    parts = [_HEAD]
    for prefix, title in _PROPERTIES.items():
        rows = [name for name in names if name.startswith(f"{prefix}: ")]
        parts.append(f"\n## {title}\n")
        parts.append(f"| | {' | '.join(columns)} |")
        parts.append(f"|---|{'---|' * len(columns)}")
        for name in rows:
            cells = [
                " or ".join(sorted(column.get(name, {_NOT_APPLICABLE})))
                for column in columns.values()
            ]
            parts.append(f"| {name.removeprefix(f'{prefix}: ')} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


_HEAD = """# Reader matrix

What is read of the formats that people bring. Each cell is generated files that the tests read: *read* gives
the right pixels, number of sections and pixel size, **refused** a message that says why; "–" is what the
format does not have, or no program writes. A calibration that is none, reciprocal or cannot be the pixel of
an electron microscope (below 1e-4 nm, above 1000 nm) is read as "not known".

This page is written by `python -m tests.reader_matrix`; a test compares them."""  # noqa: E501


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
