"""Fuzzing of the readers of micrographs by mutation of valid files: no atheris, any system.

::

    python scripts/fuzz_readers.py mrc --seconds 200
    python scripts/fuzz_readers.py mdoc --seconds 200 --seed 2

Begins with the files of the reader matrix (tests/reader_matrix.py), changes each in a few places
and reads it as ``nanostream segment`` does, at rest and as a file that is being written. An
exception that is no MicrographError, a line on the screen, more than `HANG_S` for one file, or more
than `MOST_BYTES` of memory is a finding: the file is kept, and the exit code is 1. Ends with the
number of executions, what came of them and the peak of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from nanostream.acquisition import frames
from nanostream.acquisition.mdoc import read_metadata
from nanostream.errors import MicrographError
from tests.micrograph_files import mrc_bytes, velox_card, write_berkeley, write_velox_sets
from tests.reader_matrix import FORMATS

HANG_S = 5.0
#: Address space of the process: a read that wants more is refused by the system.
MOST_BYTES = 4 * 2**30

_HEADINGS = {
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


class _HangError(BaseException):
    """A file has taken longer than `HANG_S`; no OSError, which the readers take for the file's."""


class _Target:
    """Files of one kind, and how one is read."""

    def __init__(self, name: str, folder: Path, chance: random.Random) -> None:
        self._name, self._folder, self._chance = name, folder, chance
        self.path = folder / f"a.{'mrc' if name == 'mdoc' else name}"
        self._seeds = self._valid_files()
        (self.path if name != "mdoc" else folder / "a.mrc.mdoc").write_bytes(self._seeds[0])

    def _valid_files(self) -> list[bytes]:
        if self._name == "mdoc":
            self.path.write_bytes(mrc_bytes(np.zeros((2, 21, 17), np.int16)))
            return [_MDOC.encode(), _MDOC.replace("\n", "\r\n").encode("utf-16")]
        headings = ("EMD, openNCEM and HyperSpy", "EMD, Velox")
        wanted = headings if self._name == "emd" else (_HEADINGS[self._name],)
        seeds = []
        for column in FORMATS:
            for cell in column.cells.values() if column.heading in wanted else ():
                cell.write(self.path)
                seeds.append(self.path.read_bytes())
        return seeds

    def write(self) -> None:
        """The next file."""
        if self._name == "emd" and self._chance.random() < 0.5:
            self._write_emd()
            return
        data = mutated(self._chance.choice(self._seeds), self._chance)
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
            write_velox_sets(self.path, [(data, card), (data, b"{}")])
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
        if self._name in ("mrc", "mdoc"):
            frames.inspect(self.path)
            frames.read_section(self.path, 0)


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


def run(target: _Target, seconds: float, keep: Path) -> tuple[Counter[str], int]:
    """What came of the files until the time is over or Ctrl-C, and how many findings are kept."""
    end_s = time.monotonic() + seconds

    def hang(*_: object) -> None:
        raise _HangError

    def stop(*_: object) -> None:
        nonlocal end_s
        end_s = 0.0

    target.read()  # what is imported with the first file takes seconds on a busy machine
    signal.signal(signal.SIGALRM, hang)
    signal.signal(signal.SIGINT, stop)
    outcomes: Counter[str] = Counter()
    seen: set[str] = set()
    while time.monotonic() < end_s:
        target.write()
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        try:
            with _quiet():
                target.read()
            outcomes["read"] += 1
        except MicrographError as error:
            outcomes[type(error).__name__] += 1
        except (Exception, _HangError) as error:  # noqa: BLE001 - that is what is looked for
            outcomes[f"finding: {type(error).__name__}"] += 1
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            if where not in seen:
                seen.add(where)
                _keep(target.path, keep / f"finding-{len(seen)}", error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return outcomes, len(seen)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Raises where a library has written to the screen meanwhile."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            if size := noise.seek(0, os.SEEK_END):
                noise.seek(0)
                msg = f"{size} bytes on the screen: {noise.read(200)!r}"
                raise ValueError(msg)


def _keep(path: Path, folder: Path, error: BaseException) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob("a.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    traceback.print_exception(error)
    sys.stdout.write(f"kept in {folder}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzzed")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        target = _Target(options.target, Path(folder), random.Random(options.seed))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes, findings = run(target, options.seconds, options.keep / options.target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
    sys.stdout.write(
        f"{options.target}: {sum(outcomes.values())} executions ({counts}); {findings} findings; "
        f"peak memory {peak // 1024} MiB, {(peak - before) // 1024} MiB of it while reading\n"
    )
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
