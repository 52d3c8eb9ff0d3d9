"""Common parts of all readers: an open file's sections, lengths, pixels of a frame."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.greys import are_equal
from nanostream.errors import MicrographError, printable

__all__ = [
    "MASK",
    "MOST_SECTION_BYTES",
    "POSSIBLE_NM",
    "WIRE_DTYPES",
    "ReadPixels",
    "Sections",
    "channels_of",
    "check_section_size",
    "installed_versions",
    "is_energy",
    "is_reciprocal",
    "left_out",
    "length_nm",
    "possible_nm",
    "refusals",
    "unclear",
    "wire_pixels",
]

logger = logging.getLogger(__name__)

#: Pixel types that a `Frame` may have.
WIRE_DTYPES = ("int8", "uint8", "int16", "uint16", "float16", "float32")

#: No microscope resolves less; and 72 dpi of a drawing program are 0.35 mm.
POSSIBLE_NM = (1e-4, 1e3)

#: SerialEM counts the bytes of a section in an int (KStoreMRC.cpp l.456); no camera makes more.
MOST_SECTION_BYTES = 2**31 - 1

#: Lengths in nm by their names in small letters: symbols, then words without the s of many.
_NM = {"pm": 1e-3, "å": 0.1, "a": 0.1, "ang": 0.1, "nm": 1.0, "µm": 1e3, "um": 1e3, "mm": 1e6}
_NM |= {"cm": 1e7, "m": 1e9, "in": 2.54e7, "inch": 2.54e7, "inche": 2.54e7}
_NM |= {"angstrom": 0.1, "ångström": 0.1, "ångstrom": 0.1, "micron": 1e3}
_PREFIXES = {"pico": 1e-3, "nano": 1.0, "micro": 1e3, "milli": 1e6, "centi": 1e7, "": 1e9}
_NM |= {f"{prefix}met{end}": nm for prefix, nm in _PREFIXES.items() for end in ("er", "re")}
_ENERGIES = ("ev", "kev", "mev")
#: "1/nm", "nm^-1", "1 / Å", and angles.
_RECIPROCAL = re.compile(r"1\s*/|-1$|⁻¹$|rad$")

_CHANNELS = (3, 4)
#: The reason that an image of true and false is refused.
MASK = "true and false are a mask, not a micrograph; give the image that it was made of"

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
        said = f"{path.name}: {type(error).__name__}: {error}"
        logger.info("%s", printable(said))
        problem = f"not a readable {path.suffix} file: cut off, damaged, or of another kind"
    if problem is not None:  # not from the error, see `nanostream.acquisition.formats.open_file`
        msg = f"{path.name}: {problem}"
        raise MicrographError(msg)


def channels_of(shape: Sequence[int]) -> int:
    """Channels of an array that is clearly one image of them; 0 of any other.

    The last of three axes has 3 or 4 values, and both others more than that: a stack of images
    that are 3 or 4 pixels wide does not exist, but a small array may be anything.

    Examples
    --------
    >>> channels_of((512, 512, 3)), channels_of((3, 512, 512)), channels_of((3, 4, 4))
    (3, 0, 0)
    """
    most = max(_CHANNELS)
    image = len(shape) == 3 and shape[-1] in _CHANNELS and min(shape[:2]) > most
    return shape[-1] if image else 0


def unclear(shape: Sequence[int]) -> str:
    """The reason that an array of three axes is neither channels nor sections; or empty.

    Examples
    --------
    >>> unclear((3, 4, 4))
    'shape (3, 4, 4) can be an image of 4 channels or 3 images; give one image of rows and columns'
    """
    if len(shape) != 3 or shape[-1] not in _CHANNELS or 0 in shape or channels_of(shape):
        return ""
    images = "1 image" if shape[0] == 1 else f"{shape[0]} images"
    either = f"an image of {shape[-1]} channels or {images}"
    return f"shape {tuple(shape)} can be {either}; give one image of rows and columns"


def wire_pixels(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """Two-dimensional pixels of a type that a `Frame` may have, in native order.

    Three equal channels are grey values, as ImageJ and drawing programs save them; a fourth is
    opacity and says nothing of the specimen.

    Raises
    ------
    MicrographError
        The image is in colour, has another number of dimensions, is a mask of true and false, or
        has numbers that are not real or beyond float32.
    """
    if pixels.dtype.kind == "b":
        msg = f"{name}: {MASK}"
        raise MicrographError(msg)
    if reason := unclear(pixels.shape):
        msg = f"{name}: {reason}"
        raise MicrographError(msg)
    if channels_of(pixels.shape):
        if not are_equal(pixels[..., :3]):
            msg = f"{name}: colour image {pixels.shape}; save it as grey values"
            raise MicrographError(msg)
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or 0 in pixels.shape:
        msg = f"{name}: data of shape {pixels.shape} where an image (rows, columns) is expected"
        raise MicrographError(msg)
    if pixels.dtype.kind not in "iuf":
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
        logger.info("%s: counts up to %d are rounded to 24 bits (float32)", printable(name), most)
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
    """A length with its unit in nm; None for no calibration or reciprocal space.

    Examples
    --------
    >>> [length_nm(2, unit) for unit in ("nm", "Nanometers", "micron", "µm", "Å", "px", "1/nm")]
    [2.0, 2.0, 2000.0, 2000.0, 0.2, None, None]
    """
    word = _plain(unit)
    try:
        # Of words only: ms is a time.
        of_unit = _NM[word.removesuffix("s") if len(word) > 4 else word]
        nm = abs(float(size)) * of_unit  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return nm if 0 < nm < math.inf else None


def possible_nm(pixel_size_nm: float | None) -> float | None:
    """A length that can be a pixel of an electron microscope's, else None."""
    low_nm, high_nm = POSSIBLE_NM
    possible = pixel_size_nm is not None and low_nm <= pixel_size_nm <= high_nm
    return pixel_size_nm if possible else None


@functools.cache
def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of those packages that are installed, by name, for the provenance of what they read.

    Examples
    --------
    >>> installed_versions("h5py", "no-such-package").keys()
    dict_keys(['h5py'])
    """
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def is_energy(unit: object) -> bool:
    """Whether a unit is one of energy: the axis of a spectrum."""
    return _plain(unit) in _ENERGIES


def is_reciprocal(unit: object) -> bool:
    """Whether a unit is one of reciprocal space: of a diffraction pattern or Fourier transform.

    Examples
    --------
    >>> [is_reciprocal(unit) for unit in ("1/nm", "[1_/_n_m]", "nm^-1", "mrad", "nm", "px", "")]
    [True, True, True, True, False, False, False]
    """
    return bool(_RECIPROCAL.search(_plain(unit)))


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
    # Berkeley EMD writes [n_m]; the micro sign and the Greek letter look the same, and so do the
    # three ways to write Å.
    text = unicodedata.normalize("NFC", text).strip("[] \0\t\r\n")
    return text.replace("_", "").replace("μ", "µ").lower()
