"""A SerialEM stand-in: writes MRC stacks and mdoc files byte for byte in SerialEM's order.

The order is what the watch agent relies on, so every step is a write of its own (KStoreMRC.cpp
l.140-230 and l.435-530): "Open New" writes an empty header and an empty extended header; each save
then writes the pixels of the section in one call, the header that counts it, its record in the
extended header and, last, its mdoc section. The file stays open, has its final name from the start
and is never renamed.
"""

from __future__ import annotations

import itertools
import json
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition import mrc
from nanostream.acquisition.mdoc import MONTHS
from nanostream.acquisition.micrographs import count_sections, read_micrograph
from nanostream.errors import MicrographError

__all__ = ["DemoMicrograph", "StackWriter", "demo_movie", "load_images", "play"]

_MODES = {"uint8": 0, "int16": 1, "float32": 2, "uint16": 6}

#: What SerialEM writes for a section, in its order, with the values of a plain HRTEM session;
#: a keyword of `StackWriter.append` replaces or adds a key.
_SECTION_KEYS: dict[str, Any] = {
    "TiltAngle": 0.0,
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
    "DateTime": None,
}


class StackWriter:
    """An MRC stack as SerialEM writes it; use it in a ``with`` statement.

    Parameters
    ----------
    path : Path
        Written in place; an existing file is emptied and its mdoc renamed to ``.mdoc~``.
    pixel_size_nm : float or None
        None: not calibrated.
    mdoc : bool
        Also write ``<name>.mdoc``.
    flags : int
        Contents of the extended header: 1 tilt, 4 stage, 8 magnification, 16 intensity.
        SerialEM's default is 17.
    max_sections : int
        For which the extended header has room; SerialEM's default is 360, which makes 2048 bytes.
    clock : callable
        Gives the local time.

    Raises
    ------
    ValueError
        Other flags.
    """

    def __init__(
        self,
        path: Path,
        *,
        pixel_size_nm: float | None = None,
        mdoc: bool = True,
        flags: int = 17,
        max_sections: int = 360,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        if flags & ~(1 | 4 | 8 | 16):
            msg = f"extended header flags {flags}: only 1, 4, 8 and 16 are simulated"
            raise ValueError(msg)
        self.path = path
        self.pixel_size_nm = pixel_size_nm
        self._mdoc_path = path.with_name(path.name + ".mdoc") if mdoc else None
        self._clock = clock
        self._max_sections = max_sections
        self._header = header = np.zeros(1, mrc.HEADER_DTYPE)
        header["angles"], header["axes"], header["map"], header["rms"] = 90, (1, 2, 3), b"MAP ", -1
        header["stamp"] = np.void(b"\x44\x44\0\0")
        header["exttyp"], header["nreal"] = b"SERI", flags
        header["nint"] = sum(n for bit, n in mrc.EXTENDED_BYTES.items() if flags & bit)
        # KStoreMRC rounds up to whole KiB.
        header["next"] = -(-int(header["nint"][0]) * max_sections // 1024) * 1024
        header["imod_stamp"] = mrc.IMOD_STAMP

    @property
    def sections(self) -> int:
        """Sections that the header on disk counts."""
        return int(self._header["nz"][0])

    def __enter__(self) -> Self:
        for _ in self.open_steps():
            pass
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def open_steps(self) -> Iterator[str]:
        """Write what "Open New" writes, one write per step; yields the step's name after it."""
        self._opened = self._clock()
        self._file = self.path.open("wb", buffering=0)
        yield "create"
        self._file.write(self._header.tobytes())
        yield "empty header"
        self._file.write(bytes(int(self._header["next"][0])))
        yield "empty extended header"
        if self._mdoc_path is not None and self._mdoc_path.exists():
            self._mdoc_path.replace(self._mdoc_path.with_name(self._mdoc_path.name + "~"))
            yield "mdoc backup"

    def append(self, pixels: NDArray[Any], **metadata: Any) -> int:
        """Save one section; see `append_steps`. Returns its index."""
        for _ in self.append_steps(pixels, **metadata):
            pass
        return self.sections - 1

    def append_steps(self, pixels: NDArray[Any], **metadata: Any) -> Iterator[str]:
        """Save one section, one write per step; yields the step's name after it.

        Parameters
        ----------
        pixels : (H, W) uint8, int16, uint16 or float32
            The first section decides shape and type of all.
        **metadata
            mdoc keys by SerialEM's names: ``TiltAngle=10.0``, ``StagePosition=(1.5, -2.0)``.

        Raises
        ------
        MicrographError
            Pixels that SerialEM would not write, or unlike the first section's, or no room left.
        """
        header = self._header[0]
        self._check(pixels)
        z = self.sections
        tag = int(header["nint"])
        dx = (self.pixel_size_nm or 0.0) * 10
        keys = _SECTION_KEYS | metadata
        section = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        self._write_at(
            mrc.HEADER_BYTES + int(header["next"]) + z * section.nbytes, section.data.cast("B")
        )
        yield "pixels"

        low, high, mean = float(section.min()), float(section.max()), float(section.mean())
        if z == 0:
            header["ny"], header["nx"] = header["my"], header["mx"] = pixels.shape
            header["mode"] = _MODES[pixels.dtype.name]
            header["nversion"] = 0 if header["mode"] == 0 else 20140
            header["xlen"], header["ylen"] = header["nx"] * dx, header["ny"] * dx
            header["minimum"], header["maximum"], header["mean"] = low, high, mean
            header["nlabl"] = 2
            header["labels"][:] = b" " * 80
            for i, title in enumerate(self._titles(keys)):
                header["labels"][i] = title.ljust(80)[:80].encode("cp1252", "replace")
        header["nz"] = header["mz"] = z + 1
        header["zlen"] = (z + 1) * dx
        header["minimum"] = min(header["minimum"], low)
        header["maximum"] = max(header["maximum"], high)
        header["mean"] += (mean - header["mean"]) / (z + 1)
        self._write_at(0, self._header.tobytes())
        yield "header"

        self._write_at(mrc.HEADER_BYTES + z * tag, _extended_record(int(header["nreal"]), keys))
        yield "extended header"

        if self._mdoc_path is not None:
            keys |= {
                "PixelSpacing": keys["PixelSpacing"] or dx or None,
                "MinMaxMean": (low, high, mean),
                "DateTime": metadata.get("DateTime", _date(self._clock(), "%Y")),
            }
            text = "".join(
                f"{key} = {_text(value)}\n" for key, value in keys.items() if value is not None
            )
            text = f"\n[ZValue = {z}]\n{text}"
            if z == 0:
                text = self._mdoc_globals(keys, dx) + text
            # Text mode on Windows: CRLF in the ANSI code page; the first section writes the file.
            with self._mdoc_path.open("ab" if z else "wb", buffering=0) as file:
                file.write(text.replace("\n", "\r\n").encode("cp1252", "replace"))
            yield "mdoc"
        self._file.flush()

    def _check(self, pixels: NDArray[Any]) -> None:
        header = self._header[0]
        if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype.name not in _MODES:
            msg = (
                f"{self.path.name}: SerialEM writes 2-D {', '.join(_MODES)}, "
                f"not {pixels.dtype} of shape {pixels.shape}"
            )
            raise MicrographError(msg)
        expected = (int(header["ny"]), int(header["nx"]), int(header["mode"]))
        if self.sections and (*pixels.shape, _MODES[pixels.dtype.name]) != expected:
            msg = (
                f"{self.path.name}: a section of {pixels.shape} {pixels.dtype} does not fit the "
                f"stack of {expected[:2]} in mode {expected[2]}; start another file"
            )
            raise MicrographError(msg)
        # SerialEM's save error 3.
        room = int(header["next"]) // max(int(header["nint"]), 1)
        if header["nint"] and self.sections >= room:
            msg = f"{self.path.name}: the extended header has room for {room} sections"
            raise MicrographError(msg)

    def _titles(self, keys: dict[str, Any]) -> tuple[str, str]:
        return (
            f"SerialEM: {'nanostream simulator':<45} {_date(self._opened, '%y')}    ",
            f"    Tilt axis angle = {keys['RotationAngle'] - 90:.1f}, binning = {keys['Binning']}  "
            f"spot = {keys['SpotSize']}  camera = {keys['CameraIndex']}",
        )

    def _mdoc_globals(self, keys: dict[str, Any], dx: float) -> str:
        header = self._header[0]
        spacing = f"PixelSpacing = {dx:g}\n" if dx else ""
        titles = "".join(f"\n[T = {title}]\n" for title in self._titles(keys))
        return (
            f"{spacing}Voltage = 300\nVersion = SerialEM Version 4.2.0\n"
            f"ImageFile = {self.path.name}\nImageSize = {header['nx']} {header['ny']}\n"
            f"DataMode = {header['mode']}\n{titles}"
        )

    def _write_at(self, offset: int, data: bytes | memoryview) -> None:
        self._file.seek(offset)
        while data:
            data = data[self._file.write(data) :]


def _extended_record(flags: int, keys: dict[str, Any]) -> bytes:
    """One section's record, int16 in the order of the flags (EMimageExtra.cpp l.74-93)."""
    x, y = keys["StagePosition"]
    values = {
        1: [keys["TiltAngle"] * 100],
        4: [x * 25, y * 25],
        8: [keys["Magnification"] / 100],
        16: [keys["Intensity"] * 25000],
    }
    numbers = [round(v) for bit, group in values.items() if flags & bit for v in group]
    return struct.pack(f"<{len(numbers)}h", *numbers)


def _date(when: datetime, year: str) -> str:
    """``22-Feb-18  09:36:56``: English months whatever the locale."""
    return when.strftime(f"%d-{MONTHS[when.month - 1]}-{year}  %H:%M:%S")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return str(value)


def load_images(paths: Iterable[Path], *, count: int | None = None) -> Iterator[NDArray[Any]]:
    """Sections of micrograph files, from the start again until there are `count`.

    Parameters
    ----------
    paths : iterable of Path
        Any format of `nanostream.acquisition.micrographs`; every section of each.
    count : int or None
        None: each section once.

    Yields
    ------
    (H, W) array

    Raises
    ------
    MicrographError
        A file cannot be read, or there is no file.
    """
    sections = [(path, z) for path in paths for z in range(count_sections(path))]
    if not sections:
        msg = "no images to play; give PNG, TIFF, NPY or MRC files"
        raise MicrographError(msg)
    chosen = sections if count is None else itertools.islice(itertools.cycle(sections), count)
    for path, z in chosen:
        yield read_micrograph(path, z).pixels


def play(
    images: Iterable[NDArray[Any]],
    dest: Path,
    *,
    kind: Literal["stack", "single"] = "stack",
    interval_s: float,
    name: str = "session",
    pixel_size_nm: float | None = None,
    mdoc: bool = True,
    sleep: Callable[[float], object] = time.sleep,
    now: Callable[[], float] = time.monotonic,
    clock: Callable[[], datetime] = datetime.now,
) -> list[Path]:
    """Write images as a SerialEM session would, at a steady rate.

    Parameters
    ----------
    images : iterable of (H, W) arrays
        uint8, int16, uint16 or float32.
    dest : Path
        The watched folder; made if absent.
    kind : {"stack", "single"}
        One growing ``<name>.mrc``, or ``<name>_0001.mrc``, ... each closed after its image.
    interval_s : float
        From the start of one save to the next; a save that takes longer delays the next.
    name : str
        Of the files.
    pixel_size_nm : float or None
        Of the images.
    mdoc : bool
        Write mdoc files.
    sleep, now, clock : callable
        Time, passed in for tests.

    Returns
    -------
    list of Path
        The MRC files written.
    """
    dest.mkdir(parents=True, exist_ok=True)
    paced = _paced(images, interval_s=interval_s, sleep=sleep, now=now)

    def stack(path: Path, sections: Iterable[NDArray[Any]], max_sections: int) -> Path:
        with StackWriter(
            path, pixel_size_nm=pixel_size_nm, mdoc=mdoc, max_sections=max_sections, clock=clock
        ) as writer:
            for pixels in sections:
                writer.append(pixels)
        return path

    if kind == "single":
        return [
            stack(dest / f"{name}_{i:04}.mrc", [pixels], 360) for i, pixels in enumerate(paced, 1)
        ]
    # A user who records a movie raises FileOptionsMaxSections; 4 bytes a section cost nothing.
    return [stack(dest / f"{name}.mrc", paced, 100_000)]


def _paced(
    images: Iterable[NDArray[Any]],
    *,
    interval_s: float,
    sleep: Callable[[float], object],
    now: Callable[[], float],
) -> Iterator[NDArray[Any]]:
    due = now()
    for pixels in images:
        if (wait := due - now()) > 0:
            sleep(wait)
        due = max(due, now()) + interval_s
        yield pixels


@dataclass(frozen=True, eq=False)
class DemoMicrograph:
    """A simulated micrograph that comes with the package.

    Attributes
    ----------
    name : str
        ``"gold"``, ``"cdse"`` or ``"gold-and-cdse"``.
    expected_counts : (1024, 1024) uint16
        Electrons per pixel without noise.
    labels : (1024, 1024) int32
        The particles that are really there, numbered from 1; 0 is the support film.
    pixel_size_nm : float
    """

    name: str
    expected_counts: NDArray[np.uint16]
    labels: NDArray[np.int32]
    pixel_size_nm: float

    @classmethod
    def load(cls, name: str = "gold") -> DemoMicrograph:
        """By name; MicrographError if the package has none of that name."""
        folder = resources.files("nanostream.acquisition") / "demo"
        cards = json.loads((folder / "demo.json").read_text(encoding="utf-8"))["micrographs"]
        card = next((card for card in cards if card["name"] == name), None)
        if card is None:
            msg = f"no demo micrograph {name!r}; there are {', '.join(c['name'] for c in cards)}"
            raise MicrographError(msg)
        counts, labels = (
            np.asarray(
                cv2.imdecode(
                    np.frombuffer((folder / card[key]).read_bytes(), np.uint8),
                    cv2.IMREAD_UNCHANGED,
                )
            )
            for key in ("expected_counts", "labels")
        )
        return cls(name, counts.astype(np.uint16), labels.astype(np.int32), card["pixel_size_nm"])


def demo_movie(
    count: int, *, shape: tuple[int, int] = (768, 768), seed: int, name: str = "gold"
) -> Iterator[tuple[NDArray[np.int16], NDArray[np.int32]]]:
    """An in-situ movie with its truth: particles stay, the sample drifts, the noise is new.

    Parameters
    ----------
    count : int
        Sections.
    shape : (height, width)
        Of the window that drifts over a demo micrograph, in px; at most 1024 x 1024.
    seed : int
        Of drift and noise; the same seed gives the same movie.
    name : str
        Of the micrograph; its pixel size is ``DemoMicrograph.load(name).pixel_size_nm``.

    Yields
    ------
    pixels : shape, int16
        Electron counts with Poisson noise.
    labels : shape, int32
        True particles; a particle keeps its number through the movie.

    Raises
    ------
    MicrographError
        No such micrograph, or the window does not fit.

    Notes
    -----
    Drift is a slow random walk of the velocity, at most 2 px a section in y and in x, reflected
    where the micrograph ends; one section in 40 jumps by up to 20 px, as a stage does.
    """
    micrograph = DemoMicrograph.load(name)
    room = np.subtract(micrograph.labels.shape, shape)
    if min(shape) < 1 or room.min() < 0:
        msg = f"demo window of {shape} px: the micrograph has {micrograph.labels.shape}"
        raise MicrographError(msg)
    rng = np.random.default_rng(seed)
    corner, velocity = room / 2, rng.uniform(-1, 1, 2)
    for _ in range(count):
        top, left = np.rint(corner).astype(int)
        window = np.s_[top : top + shape[0], left : left + shape[1]]
        noisy = rng.poisson(micrograph.expected_counts[window])
        yield np.minimum(noisy, 32767).astype(np.int16), micrograph.labels[window].copy()
        velocity = np.clip(velocity + rng.normal(0, 0.3, 2), -2, 2)
        jump = rng.uniform(-20, 20, 2) if rng.random() < 1 / 40 else 0
        corner = corner + velocity + jump
        outside = (corner < 0) | (corner > room)
        velocity[outside] *= -1
        corner = np.clip(corner, 0, room)
