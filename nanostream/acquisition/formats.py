"""Micrographs in the formats of offline work: how many sections, and each as pixels.

=====================  ======================  ====================================================
file                   read by                 pixel size from
=====================  ======================  ====================================================
.dm3 .dm4              ncempy                  calibration of the image
.ser                   ncempy                  calibration of the section
.emd                   ncempy                  Berkeley: last axis; Velox: metadata
.png                   `pngs`                  none
.npy                   NumPy                   none
=====================  ======================  ====================================================

Three-dimensional data are sections along their first axis (Velox: along the last). `frames` makes
frames of them, and reads MRC and TIFF.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.errors import MicrographError

__all__ = [
    "SUFFIXES",
    "WIRE_DTYPES",
    "ReadPixels",
    "Sections",
    "is_grey",
    "length_nm",
    "open_file",
    "refusals",
    "wire_pixels",
]

#: Pixel types that a `Frame` may have.
WIRE_DTYPES = ("int8", "uint8", "int16", "uint16", "float16", "float32")

_NM = {"pm": 1e-3, "å": 0.1, "a": 0.1, "angstrom": 0.1, "nm": 1.0, "µm": 1e3, "um": 1e3}
_NM |= {"micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9, "cm": 1e7, "inch": 2.54e7}

#: Reads a section, counted from 0: pixels as stored, pixel size in nm.
ReadPixels = Callable[[int], tuple[NDArray[Any], float | None]]


@dataclass(frozen=True)
class Sections:
    """An open file: how many sections, and how to read one."""

    count: int
    read: ReadPixels


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Sections]:
    """The sections of a file, by its ending.

    Raises
    ------
    MicrographError
        Whatever its reader raises becomes one.
    KeyError
        The ending is none of `SUFFIXES`.
    """
    opener = _OPENERS[path.suffix.lower()]
    problem = None
    with _silence():
        try:
            with refusals(path), opener(path) as sections:
                yield sections
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
    # Raised here and not from the error: its traceback would keep ncempy's half-made object alive,
    # whose __del__ then complains on the operator's screen.
    if problem is not None:
        msg = f"{path.name}: {problem}"
        raise MicrographError(msg)


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turns an error of a parser into a MicrographError, except for OSError."""
    problem = None
    try:
        yield
    except (MicrographError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - ncempy's parsers raise whatever comes up
        problem = f"not a readable {path.suffix} file ({type(error).__name__}: {error})"
    if problem is not None:  # not from the error, see `open_file`
        msg = f"{path.name}: {problem}"
        raise MicrographError(msg)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what ncempy prints about a file; the exception says it too."""
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
        yield


def wire_pixels(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Two-dimensional pixels of a type that a `Frame` may have, in native order.

    Three equal channels are grey values, as ImageJ and drawing programs save them; a fourth is
    opacity and says nothing of the specimen.

    Raises
    ------
    MicrographError
        The image is in colour, has another number of dimensions or numbers that are not real.
    """
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        if not is_grey(pixels):
            msg = f"{name}: colour image {pixels.shape}; save it as grey values"
            raise MicrographError(msg)
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or 0 in pixels.shape:
        msg = f"{name}: data of shape {pixels.shape} where an image (rows, columns) is expected"
        raise MicrographError(msg)
    if pixels.dtype.kind not in "biuf":
        msg = f"{name}: pixels of type {pixels.dtype}; nanostream reads integers and real numbers"
        raise MicrographError(msg)
    known = pixels.dtype.name in WIRE_DTYPES
    dtype = pixels.dtype.newbyteorder("=") if known else np.dtype(np.float32)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which the model rejects
        return np.ascontiguousarray(pixels, dtype)


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether the first three channels (H, W, C) are equal everywhere."""
    return all(bool((pixels[..., 0] == pixels[..., other]).all()) for other in (1, 2))


def length_nm(size: object, unit: object) -> float | None:
    """A length with its unit in nm; None for no calibration or reciprocal space."""
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    # Berkeley EMD writes [n_m]; the micro sign and the Greek letter look the same.
    text = text.strip("[] \0").replace("_", "").replace("μ", "µ").lower()
    try:
        nm = abs(float(size)) * _NM[text]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return nm if 0 < nm < math.inf else None


@contextlib.contextmanager
def _open_dm(path: Path) -> Iterator[Sections]:
    from ncempy.io import dm

    with dm.fileDM(path, on_memory=False) as file:
        # The first of several objects is the thumbnail; getSlice skips it.
        index = 0 if file.numObjects == 1 else 1
        if file.dataShape[index] not in (2, 3):
            msg = f"{path.name}: {file.dataShape[index]}-D data; an image or a stack is expected"
            raise MicrographError(msg)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            image = file.getSlice(0, z)
            return image["data"], length_nm(image["pixelSize"][-1], image["pixelUnit"][-1])

        yield Sections(int(file.zSize[index]), read)


@contextlib.contextmanager
def _open_ser(path: Path) -> Iterator[Sections]:
    from ncempy.io import ser

    with ser.fileSER(path) as file:
        if file.head["DataTypeID"] != 0x4122:
            msg = f"{path.name}: a series of spectra; images are expected"
            raise MicrographError(msg)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            pixels, card = file.getDataset(z)
            return pixels, length_nm(card["Calibration"][0]["CalibrationDelta"], "m")

        yield Sections(int(file.head["ValidNumberElements"]), read)


@contextlib.contextmanager
def _open_emd(path: Path) -> Iterator[Sections]:
    from ncempy.io import emd

    try:
        file = emd.fileEMD(path)
    except emd.NoEmdDataSets:
        with _open_velox(path) as sections:
            yield sections
        return
    with file:
        group = file.list_emds[0]
        shape = group["data"].shape

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            pixels = group["data"][()] if len(shape) == 2 else group["data"][z]
            axis, _, unit = file.get_emddims(group)[-1]
            return pixels, length_nm(axis[1] - axis[0] if len(axis) > 1 else None, unit)

        yield Sections(1 if len(shape) == 2 else shape[0], read)


@contextlib.contextmanager
def _open_velox(path: Path) -> Iterator[Sections]:
    from ncempy.io import emdVelox

    with emdVelox.fileEMDVelox(path) as file:
        group = file.list_data[0]

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            card = file.parseMetaData(group)
            return group["Data"][:, :, z], length_nm(card["pixelSize"][0], card["pixelUnit"][0])

        yield Sections(group["Data"].shape[2], read)


@contextlib.contextmanager
def _open_png(path: Path) -> Iterator[Sections]:
    from nanostream.acquisition.pngs import read_png

    image = read_png(path.read_bytes(), path.name).pixels
    yield Sections(1, lambda _: (image, None))


@contextlib.contextmanager
def _open_npy(path: Path) -> Iterator[Sections]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)  # says what is wrong; np.load would suspect a pickle
    # Mapped, so that one section of a long movie costs one section.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    stack = array.ndim == 3 and array.shape[-1] not in (3, 4)
    yield Sections(
        array.shape[0] if stack else 1, lambda z: (np.array(array[z] if stack else array), None)
    )


_OPENERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Sections]]] = {
    ".dm3": _open_dm,
    ".dm4": _open_dm,
    ".ser": _open_ser,
    ".emd": _open_emd,
    ".png": _open_png,
    ".npy": _open_npy,
}

#: Endings that are read here, in lower case.
SUFFIXES = tuple(_OPENERS)
