"""Common parts of all readers: an open file's sections, lengths, pixels of a frame."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.greys import are_equal
from nanostream.errors import MicrographError

__all__ = [
    "MOST_SECTION_BYTES",
    "WIRE_DTYPES",
    "ReadPixels",
    "Sections",
    "check_section_size",
    "is_energy",
    "left_out",
    "length_nm",
    "refusals",
    "wire_pixels",
]

logger = logging.getLogger(__name__)

#: Pixel types that a `Frame` may have.
WIRE_DTYPES = ("int8", "uint8", "int16", "uint16", "float16", "float32")

#: SerialEM counts the bytes of a section in an int (KStoreMRC.cpp l.456); no camera makes more.
MOST_SECTION_BYTES = 2**31 - 1

_NM = {"pm": 1e-3, "å": 0.1, "a": 0.1, "angstrom": 0.1, "nm": 1.0, "µm": 1e3, "um": 1e3}
_NM |= {"micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9, "cm": 1e7, "inch": 2.54e7}
_ENERGIES = ("ev", "kev", "mev")

#: Reads a section, counted from 0: pixels as stored, pixel size in nm.
ReadPixels = Callable[[int], tuple[NDArray[Any], float | None]]


@dataclass(frozen=True)
class Sections:
    """An open file: how many sections, and how to read one.

    Attributes
    ----------
    count : int
        Sections that the file has.
    read : callable
        Gives one.
    remark : str
        Which of several data sets these are, and what is left out; empty if nothing is.
    """

    count: int
    read: ReadPixels
    remark: str = ""


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turns an error of a parser into a MicrographError, except for OSError."""
    problem = None
    try:
        yield
    except (MicrographError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - ncempy's parsers raise whatever comes up
        logger.info("%s: %s: %s", path.name, type(error).__name__, error)
        problem = f"not a readable {path.suffix} file: cut off, damaged, or of another kind"
    if problem is not None:  # not from the error, see `nanostream.acquisition.formats.open_file`
        msg = f"{path.name}: {problem}"
        raise MicrographError(msg)


def wire_pixels(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Two-dimensional pixels of a type that a `Frame` may have, in native order.

    Three equal channels are grey values, as ImageJ and drawing programs save them; a fourth is
    opacity and says nothing of the specimen.

    Raises
    ------
    MicrographError
        The image is in colour, has another number of dimensions, or numbers that are not real or
        beyond float32.
    """
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        if not are_equal(pixels[..., :3]):
            msg = f"{name}: colour image {pixels.shape}; save it as grey values"
            raise MicrographError(msg)
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or 0 in pixels.shape:
        msg = f"{name}: data of shape {pixels.shape} where an image (rows, columns) is expected"
        raise MicrographError(msg)
    if pixels.dtype.kind not in "biuf":
        msg = f"{name}: pixels of type {pixels.dtype}; nanostream reads integers and real numbers"
        raise MicrographError(msg)
    if pixels.dtype.name in WIRE_DTYPES:
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    return _single_precision(pixels, name)


def _single_precision(pixels: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Other numbers as float32, which has the first 24 bits of each."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.ascontiguousarray(pixels, np.float32)
    if pixels.dtype.kind == "f":
        if np.isinf(single).any() and not np.isinf(pixels).any():
            msg = f"{name}: numbers up to {np.nanmax(np.abs(pixels)):g}, beyond float32; scale them"
            raise MicrographError(msg)
    elif pixels.dtype.kind in "iu" and (most := max(int(pixels.max()), -int(pixels.min()))) > 2**24:
        logger.info("%s: counts up to %d are rounded to 24 bits (float32)", name, most)
    return single


def check_section_size(shape: Sequence[int], item_bytes: int, name: str) -> None:
    """Refuse an image (rows, columns) that no camera makes, before there is memory for it.

    Raises
    ------
    MicrographError
        It has no pixels, or more bytes than `MOST_SECTION_BYTES`.
    """
    if not 0 < math.prod(shape) * item_bytes <= MOST_SECTION_BYTES:
        sizes = " x ".join(map(str, reversed(shape)))
        msg = f"{name}: images of {sizes} pixels, {item_bytes} bytes each; damaged?"
        raise MicrographError(msg)


def length_nm(size: object, unit: object) -> float | None:
    """A length with its unit in nm; None for no calibration or reciprocal space."""
    try:
        nm = abs(float(size)) * _NM[_plain(unit)]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return nm if 0 < nm < math.inf else None


def is_energy(unit: object) -> bool:
    """Whether a unit is one of energy: the axis of a spectrum."""
    return _plain(unit) in _ENERGIES


def left_out(taken: str, others: Sequence[str]) -> str:
    """A remark that names the data set that was taken and those that were not.

    Examples
    --------
    >>> left_out("BM-Ceta", ["DF4", "FFT of BM-Ceta"])
    'of 3 data sets BM-Ceta is taken; left out: DF4, FFT of BM-Ceta'
    >>> left_out("BM-Ceta", [])
    ''
    """
    if not others:
        return ""
    return f"of {len(others) + 1} data sets {taken} is taken; left out: {', '.join(others)}"


def _plain(unit: object) -> str:
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    # Berkeley EMD writes [n_m]; the micro sign and the Greek letter look the same.
    return text.strip("[] \0").replace("_", "").replace("μ", "µ").lower()
