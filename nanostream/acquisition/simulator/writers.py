"""SerialEM and its Gatan plugin at work on the folder, write by write, for each kind of file.

Nothing is written here: the writers plan `Change` after `Change`, in the order of their sources
(KStoreMRC.cpp l.140-230 and l.435-530, KImageStore.cpp l.266-316, KStoreADOC.cpp ``WriteSection``,
SerialEMCCD's TemplatePlugIn.cpp l.4455-4738). `StackWriter` also does it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition import mrc
from nanostream.acquisition.autodoc import MONTHS
from nanostream.acquisition.simulator.changes import Change, CompleteSection, Disk
from nanostream.errors import MicrographError

__all__ = [
    "SECTION_KEYS",
    "Clock",
    "FrameStack",
    "Sidecar",
    "Stack",
    "StackWriter",
    "TiffImage",
    "date_text",
    "described",
    "section_text",
    "sidecar_top",
    "statistics_of",
    "titles",
]

Clock = Callable[[], datetime]

_MODES = {"uint8": 0, "int16": 1, "float32": 2, "uint16": 6}
_TILT, _PIECE, _STAGE, _MAGNIFICATION, _INTENSITY = 1, 2, 4, 8, 16

#: What SerialEM writes for a section, in its order, with the values of a plain HRTEM session;
#: a keyword of `Stack.save` replaces or adds a key.
SECTION_KEYS: dict[str, Any] = {
    "TiltAngle": 0.0,
    "PieceCoordinates": None,
    "StagePosition": (12.5, -3.25),
    "StageZ": -0.5,
    "Magnification": 500000,
    "Intensity": 0.42,
    "ExposureDose": 0,
    "PixelSpacing": None,
    "SpotSize": 3,
    "Defocus": -0.05,
    "ImageShift": (0, 0),
    "RotationAngle": 84.8,
    "ExposureTime": 0.4,
    "Binning": 1,
    "CameraIndex": 0,
    "DividedBy2": 0,
    "MagIndex": 30,
    "CountsPerElectron": 1,
    "MinMaxMean": None,
    "TargetDefocus": -0.05,
    "SubFramePath": None,
    "NumSubFrames": None,
    "FrameDosesAndNumber": None,
    "DateTime": None,
}


class Sidecar:
    """An mdoc or idoc: globals and titles, then a section for each image.

    Parameters
    ----------
    path : str
        POSIX path relative to the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.top = ""
        self.sections: list[str] = []

    def backup(self) -> Change:
        """Put an older one aside, when a new image file is opened."""
        return Change("mdoc backup", self.path, "rename", target=self.path + "~")

    def add(self, text: str, *completed: CompleteSection) -> Iterator[Change]:
        """Add a section: the first writes the file, a later one is appended (KImageStore.cpp)."""
        self.sections.append(text)
        if len(self.sections) == 1:
            yield from self.rewrite(*completed)
        else:
            yield Change("mdoc", self.path, "append", _encoded(text), completed=completed)

    def rewrite(self, *completed: CompleteSection) -> Iterator[Change]:
        """Write the whole file anew; for a moment it is empty (autodoc.c, ``AdocWrite``)."""
        yield Change("empty mdoc", self.path, "create")
        text = self.top + "".join(self.sections)
        yield Change("mdoc", self.path, "write", _encoded(text), completed=completed)
        yield Change("mdoc", self.path, "close")


class Stack:
    """An MRC stack as SerialEM writes it, with its mdoc.

    Parameters
    ----------
    path : str
        POSIX path relative to the folder.
    pixel_size_nm : float or None
        None: not calibrated.
    mdoc : bool
        Also write ``<name>.mdoc``.
    flags : int
        Contents of the extended header: 1 tilt, 2 montage piece, 4 stage, 8 magnification,
        16 intensity. SerialEM's default is 17.
    max_sections : int
        For which the extended header has room; SerialEM's default is 360, which makes 2048 bytes.
    generation : int
        Of the file of that name, from 1.
    clock : callable
        Gives the local time.

    Raises
    ------
    ValueError
        Other flags.
    """

    def __init__(
        self,
        path: str,
        *,
        pixel_size_nm: float | None = None,
        mdoc: bool = True,
        flags: int = _TILT | _INTENSITY,
        max_sections: int = 360,
        generation: int = 1,
        clock: Clock = datetime.now,
    ) -> None:
        if flags & ~(_TILT | _PIECE | _STAGE | _MAGNIFICATION | _INTENSITY):
            msg = f"extended header flags {flags}: only 1, 2, 4, 8 and 16 are simulated"
            raise ValueError(msg)
        self.path = path
        self.sidecar = Sidecar(path + ".mdoc") if mdoc else None
        self._pixel_size_nm = pixel_size_nm
        self._clock = clock
        self._opened = datetime.min
        self._generations: list[int] = []
        self._first_generation = generation
        self._statistics: list[tuple[float, float, float]] = []
        self._written, self._mean_sum = 0, 0.0
        self._header = header = _empty_header()
        header["exttyp"], header["nreal"] = b"SERI", flags
        header["nint"] = sum(n for bit, n in mrc.EXTENDED_BYTES.items() if flags & bit)
        # KStoreMRC rounds up to whole KiB.
        header["next"] = -(-int(header["nint"][0]) * max_sections // 1024) * 1024

    @property
    def sections(self) -> int:
        """Sections that the header counts."""
        return int(self._header["nz"][0])

    def open(self) -> Iterator[Change]:
        """The changes of "Open New": an empty header and an empty extended header."""
        self._opened = self._clock()
        yield Change("create", self.path, "create")
        yield Change("empty header", self.path, "write", self._header.tobytes())
        extended = bytes(int(self._header["next"][0]))
        yield Change("empty extended header", self.path, "write", extended, mrc.HEADER_BYTES)
        if self.sidecar is not None:
            yield self.sidecar.backup()

    def save(
        self, pixels: NDArray[Any], *, z: int | None = None, **metadata: Any
    ) -> Iterator[Change]:
        """Save one section.

        Parameters
        ----------
        pixels : (H, W) uint8, int16, uint16 or float32
            The first section decides shape and type of all.
        z : int or None
            Section to overwrite in place; None appends.
        **metadata
            mdoc keys by SerialEM's names: ``TiltAngle=10.0``, ``StagePosition=(1.5, -2.0)``.

        Raises
        ------
        MicrographError
            Pixels that SerialEM would not write, or unlike the first section's, or no room left.
        """
        header = self._header[0]
        new = z is None
        z = self.sections if z is None else z
        self._check(pixels, new=new)
        keys = SECTION_KEYS | metadata
        section = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        offset = mrc.HEADER_BYTES + int(header["next"]) + z * section.nbytes
        yield Change("pixels", self.path, "write", section.data.cast("B"), offset)

        self._count(z, pixels, keys)
        completed = (self.path, z, self._generations[z])
        whole = self._header.tobytes()
        yield Change("header", self.path, "write", whole, completed=(completed,))

        record = _extended_record(int(header["nreal"]), keys)
        offset = mrc.HEADER_BYTES + z * int(header["nint"])
        yield Change("extended header", self.path, "write", record, offset)

        if self.sidecar is not None:
            when, numbers = self._clock(), self._statistics[z]
            text = section_text("ZValue", z, described(keys, numbers, self._pixel_size_nm, when))
            if z == 0:
                first = {"ImageFile": self.path.rsplit("/", 1)[-1]}
                montage = bool(header["nreal"] & _PIECE)
                self.sidecar.top = sidecar_top(
                    first, pixels, self._pixel_size_nm, self._opened, keys=keys, montage=montage
                )
            if new:
                yield from self.sidecar.add(text)
            else:
                self.sidecar.sections[z] = text
                yield from self.sidecar.rewrite()

    def close(self) -> Iterator[Change]:
        """Close it."""
        yield Change("close", self.path, "close")

    def _check(self, pixels: NDArray[Any], *, new: bool) -> None:
        header = self._header[0]
        _check_pixels(pixels, self.path)
        expected = (int(header["ny"]), int(header["nx"]), int(header["mode"]))
        if self.sections and (*pixels.shape, _MODES[pixels.dtype.name]) != expected:
            msg = (
                f"{self.path}: a section of {pixels.shape} {pixels.dtype} does not fit the "
                f"stack of {expected[:2]} in mode {expected[2]}; start another file"
            )
            raise MicrographError(msg)
        # SerialEM's save error 3.
        room = int(header["next"]) // max(int(header["nint"]), 1)
        if new and header["nint"] and self.sections >= room:
            msg = f"{self.path}: the extended header has room for {room} sections"
            raise MicrographError(msg)

    def _count(self, z: int, pixels: NDArray[Any], keys: Mapping[str, Any]) -> None:
        """Bring the header in memory up to date (KImageStore.cpp l.189-262)."""
        header = self._header[0]
        numbers = statistics_of(pixels)
        if not self._statistics:
            _set_shape(header, pixels, self._pixel_size_nm)
            _set_labels(header, titles(keys, self._opened))
        overwritten = z < self.sections
        if overwritten:
            self._generations[z] += 1
            self._statistics[z] = numbers
        else:
            self._generations.append(self._first_generation)
            self._statistics.append(numbers)
            _set_depth(header, z + 1, self._pixel_size_nm)
        if overwritten and self.sidecar is not None:  # the mdoc has the numbers of the others
            lows, highs, means = zip(*self._statistics, strict=True)
            header["minimum"], header["maximum"] = min(lows), max(highs)
            self._written, self._mean_sum = len(means), sum(means)
        else:
            header["minimum"] = min(header["minimum"], numbers[0]) if self._written else numbers[0]
            header["maximum"] = max(header["maximum"], numbers[1]) if self._written else numbers[1]
            self._written, self._mean_sum = self._written + 1, self._mean_sum + numbers[2]
        header["mean"] = self._mean_sum / self._written


class StackOptions(TypedDict, total=False):
    """The keywords of `Stack`."""

    pixel_size_nm: float | None
    mdoc: bool
    flags: int
    max_sections: int
    generation: int
    clock: Clock


class StackWriter:
    """A `Stack` that is also written; use it in a ``with`` statement.

    Parameters
    ----------
    path : Path
        Written in place; an existing file is emptied and its mdoc renamed to ``.mdoc~``.
    **options
        As for `Stack`.
    """

    def __init__(self, path: Path, **options: Unpack[StackOptions]) -> None:
        self.path = path
        self._disk = Disk(path.parent)
        self._stack = Stack(path.name, **options)

    @property
    def sections(self) -> int:
        """Sections that the header on disk counts."""
        return self._stack.sections

    def __enter__(self) -> Self:
        for _ in self.open_steps():
            pass
        return self

    def __exit__(self, *exception: object) -> None:
        self._disk.__exit__()

    def open_steps(self) -> Iterator[str]:
        """Write what "Open New" writes, one write per step; yields the step's name after it."""
        yield from self._done(self._stack.open())

    def append(self, pixels: NDArray[Any], **metadata: Any) -> int:
        """Save one section; see `Stack.save`. Returns its index."""
        for _ in self.append_steps(pixels, **metadata):
            pass
        return self.sections - 1

    def append_steps(self, pixels: NDArray[Any], **metadata: Any) -> Iterator[str]:
        """Save one section, one write per step; yields the step's name after it."""
        yield from self._done(self._stack.save(pixels, **metadata))

    def _done(self, changes: Iterator[Change]) -> Iterator[str]:
        return (change.name for change in changes if self._disk.perform(change))


class FrameStack:
    """The frames of one exposure as SerialEM's plugin in DigitalMicrograph writes them.

    The header is written after the first frame, counts the frames that are expected, and is
    written again at the end with those that came. The frame mdoc follows, once and complete: the
    sign that all is there.

    Parameters
    ----------
    path : str
        POSIX path relative to the folder.
    expected : int
        Frames that the exposure should give.
    pixel_size_nm, mdoc, clock
        As for `Stack`.
    """

    def __init__(
        self, path: str, *, expected: int, pixel_size_nm: float | None, mdoc: bool, clock: Clock
    ) -> None:
        self.path = path
        self.frames = 0
        self._sidecar = Sidecar(path + ".mdoc") if mdoc else None
        self._expected = expected
        self._pixel_size_nm = pixel_size_nm
        self._clock = clock
        self._header = _empty_header()

    def save(self, pixels: NDArray[Any]) -> Iterator[Change]:
        """Save one frame; the first one opens the file."""
        _check_pixels(pixels, self.path)
        frame = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        if self.frames == 0:
            yield Change("create", self.path, "create")
        offset = mrc.HEADER_BYTES + self.frames * frame.nbytes
        yield Change("frame", self.path, "write", frame.data.cast("B"), offset)
        if self.frames == 0:
            header = self._header[0]
            _set_shape(header, pixels, self._pixel_size_nm)
            _set_labels(header, ["SerialEMCCD: Frames . ., scaled by 1.00  r/f 0"])
            yield self._counted(self._expected)
        self.frames += 1

    def close(self) -> Iterator[Change]:
        """End the exposure."""
        completed = tuple((self.path, z, 1) for z in range(self.frames))
        yield self._counted(self.frames, *(() if self._sidecar else completed))
        yield Change("close", self.path, "close")
        if self._sidecar is not None:
            when = self._clock()
            keys = SECTION_KEYS | {
                "PixelSpacing": _angstrom(self._pixel_size_nm) or None,
                "SubFramePath": "X:\\frames\\" + self.path.replace("/", "\\"),
                "NumSubFrames": self.frames,
                "FrameDosesAndNumber": (0, self.frames),
                "DateTime": date_text(when),
            }
            self._sidecar.top = _lines({"T": titles(keys, when)[0], "Voltage": 300})
            yield from self._sidecar.add(section_text("FrameSet", 0, keys), *completed)

    def _counted(self, nz: int, *completed: CompleteSection) -> Change:
        header = self._header[0]
        _set_depth(header, nz, self._pixel_size_nm)
        data = self._header.tobytes()
        return Change("header", self.path, "write", data, completed=completed)


class TiffImage:
    """One image as a TIFF file: header, pixels, directory, and the pointer to the directory last.

    Parameters
    ----------
    path : str
        POSIX path relative to the folder.
    pixels : (H, W) uint8, int16, uint16 or float32

    Raises
    ------
    MicrographError
        Other pixels.

    Notes
    -----
    OpenCV makes the bytes; their order is libtiff's, which SerialEM writes with as well.
    """

    def __init__(self, path: str, pixels: NDArray[Any]) -> None:
        import cv2

        _check_pixels(pixels, path)
        uncompressed = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
        # SerialEM writes TIFF top line first, MRC bottom line first; here both are file order.
        self._data = cv2.imencode(".tif", pixels, uncompressed)[1].tobytes()
        self.path = path

    def save(self, *completed: CompleteSection) -> Iterator[Change]:
        """Write and close the file."""
        data = memoryview(self._data)
        (directory,) = struct.unpack_from("<I", data, 4)
        yield Change("create", self.path, "create")
        yield Change("TIFF header", self.path, "write", bytes(data[:4]) + bytes(4))
        yield Change("pixels", self.path, "write", data[8:directory], 8)
        yield Change("directory", self.path, "write", data[directory:], directory)
        yield Change("TIFF pointer", self.path, "write", data[4:8], 4, completed=completed)
        yield Change("close", self.path, "close")


def section_text(kind: str, name: object, keys: Mapping[str, Any]) -> str:
    """``[kind = name]`` after a blank line, and its keys; what is None is left out."""
    return f"\n[{kind} = {name}]\n{_lines(keys)}"


def described(
    keys: Mapping[str, Any],
    numbers: tuple[float, float, float],
    pixel_size_nm: float | None,
    when: datetime,
) -> dict[str, Any]:
    """Keys of a section with what follows from its pixels: minimum, maximum and mean."""
    return {
        **keys,
        "PixelSpacing": keys["PixelSpacing"] or _angstrom(pixel_size_nm) or None,
        "MinMaxMean": numbers,
        "DateTime": keys["DateTime"] or date_text(when),
    }


def sidecar_top(
    first: Mapping[str, object],
    pixels: NDArray[Any],
    pixel_size_nm: float | None,
    opened: datetime,
    *,
    keys: Mapping[str, Any] = SECTION_KEYS,
    montage: bool = False,
) -> str:
    """Globals and titles (KImageStore.cpp, ``InitializeAdocGlobalItems``).

    `first` is ``ImageFile`` of an mdoc, or ``ImageSeries``, which an idoc begins with.
    """
    height, width = pixels.shape
    spacing = {"PixelSpacing": _angstrom(pixel_size_nm) or None}
    known = {"Voltage": 300, "Version": "SerialEM Version 4.2.0"}
    size = {"ImageSize": (width, height), "Montage": 1 if montage else None}
    parts = [first, spacing, known] if "ImageSeries" in first else [spacing, known, first]
    lines = "".join(map(_lines, [*parts, size, {"DataMode": _MODES[pixels.dtype.name]}]))
    return lines + "".join(f"\n[T = {title}]\n" for title in titles(keys, opened))


def statistics_of(pixels: NDArray[Any]) -> tuple[float, float, float]:
    """Minimum, maximum and mean."""
    return float(pixels.min()), float(pixels.max()), float(pixels.mean())


def titles(keys: Mapping[str, Any], opened: datetime) -> list[str]:
    """SerialEM's two labels (SerialEMDoc l.1605-1609, EMbufferManager l.360-367)."""
    return [
        f"SerialEM: {'nanostream simulator':<45} {date_text(opened, '%y')}    ",
        f"    Tilt axis angle = {keys['RotationAngle'] - 90:.1f}, binning = {keys['Binning']}  "
        f"spot = {keys['SpotSize']}  camera = {keys['CameraIndex']}",
    ]


def date_text(when: datetime, year: str = "%Y") -> str:
    """``22-Feb-2018  09:36:56``: English months whatever the locale."""
    return when.strftime(f"%d-{MONTHS[when.month - 1]}-{year}  %H:%M:%S")


def _angstrom(length_nm: float | None) -> float:
    return (length_nm or 0.0) * 10


def _lines(keys: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_text(value)}\n" for key, value in keys.items() if value is not None)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return str(value)


def _encoded(text: str) -> bytes:
    # Text mode on Windows: CRLF in the ANSI code page.
    return text.replace("\n", "\r\n").encode("cp1252", "replace")


def _empty_header() -> NDArray[Any]:
    header = np.zeros(1, mrc.HEADER_DTYPE)
    header["angles"], header["axes"], header["map"], header["rms"] = 90, (1, 2, 3), b"MAP ", -1
    header["stamp"] = np.void(b"\x44\x44\0\0")
    header["imod_stamp"] = mrc.IMOD_STAMP
    return header


def _set_shape(header: np.void, pixels: NDArray[Any], pixel_size_nm: float | None) -> None:
    dx = _angstrom(pixel_size_nm)
    header["ny"], header["nx"] = header["my"], header["mx"] = pixels.shape
    header["mode"] = _MODES[pixels.dtype.name]
    header["nversion"] = 0 if header["mode"] == 0 else 20140
    header["xlen"], header["ylen"] = header["nx"] * dx, header["ny"] * dx


def _set_depth(header: np.void, nz: int, pixel_size_nm: float | None) -> None:
    header["nz"] = header["mz"] = nz
    header["zlen"] = nz * _angstrom(pixel_size_nm)


def _set_labels(header: np.void, labels: list[str]) -> None:
    header["nlabl"] = len(labels)
    header["labels"][:] = b" " * 80
    for i, label in enumerate(labels):
        header["labels"][i] = label.ljust(80)[:80].encode("cp1252", "replace")


def _check_pixels(pixels: NDArray[Any], path: str) -> None:
    if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype.name not in _MODES:
        msg = (
            f"{path}: SerialEM writes 2-D {', '.join(_MODES)}, "
            f"not {pixels.dtype} of shape {pixels.shape}"
        )
        raise MicrographError(msg)


def _extended_record(flags: int, keys: Mapping[str, Any]) -> bytes:
    """One section's record, 16 bits a value, in the flags' order (EMimageExtra.cpp l.74-93)."""
    x, y = keys["StagePosition"]
    values: dict[int, tuple[str, tuple[float, ...]]] = {
        _TILT: ("h", (keys["TiltAngle"] * 100,)),
        _PIECE: ("HHh", keys["PieceCoordinates"] or (0, 0, 0)),
        _STAGE: ("2h", (x * 25, y * 25)),
        _MAGNIFICATION: ("h", (keys["Magnification"] / 100,)),
        _INTENSITY: ("h", (keys["Intensity"] * 25000,)),
    }
    wanted = [group for bit, group in values.items() if flags & bit]
    numbers = [round(value) for _, group in wanted for value in group]
    return struct.pack("<" + "".join(code for code, _ in wanted), *numbers)
