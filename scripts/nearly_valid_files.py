"""Files that are nearly valid: those of the reader matrix, changed in a few places.

For fuzz_readers.py. Half of the EMD files are whole HDF5 with odd contents, since bytes changed at
random seldom open; of most TIFFs a number of the directory is another one.
"""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np

from nanostream.acquisition import frames
from nanostream.acquisition.mdoc import read_metadata
from nanostream.records import SectionId
from tests import tiff_files
from tests.micrograph_files import mrc_bytes, velox_card, write_berkeley, write_velox_sets
from tests.reader_matrix import FORMATS

_HEADINGS = {
    "tiff": "TIFF",
    "mrc": "MRC",
    "dm3": "DM3",
    "dm4": "DM4",
    "ser": "TIA .ser",
    "png": "PNG",
    "npy": "NPY",
}
TARGETS = (*_HEADINGS, "emd", "mdoc")

_NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    7,
    16,
    40,
    255,
    256,
    1023,
    1024,
    4096,
    65535,
    2**16,
    2**20,
    2**24,
)
_NUMBERS += (2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_LAYOUTS = ("<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d")

_MDOC = """PixelSpacing = 2.6
ImageFile = a.mrc
ImageSize = 17 21
DataMode = 1

[T = SerialEM: Digitized on a camera   23-Nov-26  09:36:56]

[ZValue = 0]
TiltAngle = 0.1
PieceCoordinates = 0 0 0
StagePosition = 12.5 -3.25
StageZ = 1e-3
MinMaxMean = 1 200 40
RefinedPixelSpacing = 2.55
ImageToStageMatrix = 1 0 0 1 0 0
DateTime = 23-Nov-26  09:36:56
NavigatorLabel = 8-A

[ZValue = 1]
TiltAngle = 3.1
DateTime = 23-Nov-26  09:37:56

[FrameSet = 0]
FrameTSStartEndFrames = 0 5

[Image = a.mrc]
PixelSpacing = 3
"""


_MDOC_OF_TIFF = """PixelSpacing = 2.6
ImageFile = a.tiff

[T = SerialEM: Digitized on a camera   23-Nov-26  09:36:56]

[ZValue = 0]
TiltAngle = 0.1
DateTime = 23-Nov-26  09:36:56

[ZValue = 1]
TiltAngle = 3.1
DateTime = 23-Nov-26  09:37:56
"""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Valid bytes, changed in one to eight places, mostly near the front."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        size = min(len(changed), chance.choice((64, 512, 2048, len(changed))))
        place = chance.randrange(size)
        match chance.randrange(7):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place] = chance.randrange(256)
            case 2:
                del changed[place:]
            case 3:
                changed[place : place + chance.choice((1, 4, 16))] = b""
            case 4:
                other = chance.randrange(len(changed))
                length = chance.choice((2, 4, 8, 64))
                changed[place : place + length] = changed[other : other + length]
            case _:
                _write_number(changed, place, chance)
    return bytes(changed)


def _write_number(data: bytearray, place: int, chance: random.Random) -> None:
    layout = chance.choice(_LAYOUTS)
    size = struct.calcsize(layout)
    if place + size > len(data):
        return
    number = chance.choice((*_NUMBERS, len(data), chance.randrange(2**32)))
    if layout[1] in "fd":
        value = chance.choice((np.nan, np.inf, -1.0, 0.0, 1e-30, 1e30, 5e-11))
        struct.pack_into(layout, data, place, np.float32(value))
    else:
        struct.pack_into(layout, data, place, number % 2 ** (8 * size))


def with_another_tag(data: bytes, chance: random.Random) -> bytes:
    """A TIFF of which one number of its first directory is another: tag, type, count or value."""
    changed = bytearray(data)
    order = ">" if data[:2] == b"MM" else "<"
    big = data[2:4] in (b"+\0", b"\0+")
    word, counter, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    with contextlib.suppress(struct.error):
        (place,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{counter}", data, place)
        entry = place + struct.calcsize(counter) + size * chance.randrange(max(1, min(count, 99)))
        where, letter = chance.choice(
            ((0, "H"), (2, "H"), (4, word), (4 + struct.calcsize(word), word))
        )
        small = chance.randrange(20), chance.randrange(2**16)
        number = chance.choice((*_NUMBERS, *small, len(data)))
        struct.pack_into(
            f"{order}{letter}", changed, entry + where, number % 2 ** (8 * struct.calcsize(letter))
        )
    return bytes(changed)


class Target:
    """Files of one kind, and how one is read."""

    def __init__(self, name: str, folder: Path, chance: random.Random) -> None:
        self._name, self._folder, self._chance = name, folder, chance
        self.path = folder / f"a.{'mrc' if name == 'mdoc' else name}"
        if name == "tiff":  # so that its sections are ready while it is being written
            (folder / "a.tiff.mdoc").write_text(_MDOC_OF_TIFF)
        self._seeds = self._valid_files()
        (self.path if name != "mdoc" else folder / "a.mrc.mdoc").write_bytes(self._seeds[0])

    def _valid_files(self) -> list[bytes]:
        if self._name == "mdoc":
            self.path.write_bytes(mrc_bytes(np.zeros((2, 21, 17), np.int16)))
            return [_MDOC.encode(), _MDOC.replace("\n", "\r\n").encode("utf-16")]
        headings = ("EMD, openNCEM and HyperSpy", "EMD, Velox")
        wanted = headings if self._name == "emd" else (_HEADINGS[self._name],)
        cells: list[tiff_files.Kind] = []
        for column in FORMATS:
            cells += column.cells.values() if column.heading in wanted else ()
        cells += tiff_files.KINDS.values() if self._name == "tiff" else ()
        seeds = []
        for cell in cells:
            cell.write(self.path)
            seeds.append(self.path.read_bytes())
        return seeds

    def write(self) -> None:
        """The next file."""
        if self._name == "emd" and self._chance.random() < 0.5:
            self._write_emd()
            return
        data = self._chance.choice(self._seeds)
        if self._name == "tiff" and self._chance.random() < 0.7:
            data = with_another_tag(data, self._chance)
        if self._name != "tiff" or self._chance.random() < 0.6:
            data = mutated(data, self._chance)
        if self._name == "png" and self._chance.random() < 0.8:
            data = _with_checksums(data)
        path = self.path.with_name("a.mrc.mdoc") if self._name == "mdoc" else self.path
        path.write_bytes(data)

    def _write_emd(self) -> None:
        """HDF5 that is whole, with odd contents: bytes of HDF5 changed at random open seldom."""
        chance = self._chance
        shape = tuple(chance.choice((0, 1, 2, 9)) for _ in range(chance.randrange(1, 5)))
        data = np.zeros(shape, chance.choice(("u1", "i2", "f4", "f8", "c8", "S3", "?")))
        if chance.random() < 0.5:
            units = chance.choice(("[n_m]", "m", "[e_V]", "", "ü" * 300))
            names = [chance.choice(("x", "y", "R_x", "t", "", "Energy")) for _ in shape]
            write_berkeley(
                self.path, data, step=chance.choice((0.05, 0.0)), unit=units, names=names
            )
        else:
            card = mutated(velox_card("BM-Ceta", detector_type="ImagingDetector"), chance)
            labels = [chance.choice(("Fe-K", "HAADF", "CM", "ü" * 300)) for _ in range(2)]
            version = chance.choice((10, 11))
            write_velox_sets(
                self.path, [(data, card), (data, b"{}")], labels=labels, version=version
            )
        with h5py.File(self.path, "a") as file:
            _spoil(file, chance)

    def read(self) -> None:
        """Read it in every way."""
        if self._name == "mdoc":
            for z in (0, 1, 7):
                read_metadata(self.path, z, title="SerialEM: Digitized on a camera")
        else:
            count = frames.count_sections(self.path).sections
            for z in {0, count - 1}:
                frames.read_section(self.path, z)
            frames.remark_on(self.path)
        if self._name in ("tiff", "mrc", "mdoc"):
            frames.inspect(self.path)
            frames.read_frame(self.path, SectionId(self.path.name, 0), None)


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the right checksums whatever is in them."""
    changed, place = bytearray(data), 8
    while place + 12 <= len(changed):
        (length,) = struct.unpack_from(">I", changed, place)
        end = place + 8 + length
        if end + 4 > len(changed):
            break
        struct.pack_into(">I", changed, end, zlib.crc32(changed[place + 4 : end]))
        place = end + 4
    return bytes(changed)


def _spoil(file: h5py.File, chance: random.Random) -> None:
    """Delete an object, or put another in its place."""
    names: list[str] = []
    file.visit(names.append)
    name = chance.choice(names)
    if chance.random() < 0.5:
        del file[name]
    if chance.random() < 0.3 and name not in file:
        file[name] = chance.choice((1, "text", np.zeros(3), h5py.SoftLink("/"), np.array([b"x"])))
