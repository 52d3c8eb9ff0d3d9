"""Micrographs in the formats of offline work: how many sections, and each as pixels.

=====================  ======================  ====================================================
file                   read by                 pixel size from
=====================  ======================  ====================================================
.dm3 .dm4              `dm` (ncempy's tags)    calibration of the image
.ser                   `ser`                   calibration of the section
.emd                   `emd` (h5py)            Berkeley: axis of the columns; Velox: metadata
.png                   `pngs` (OpenCV)         none
.npy                   NumPy                   none
=====================  ======================  ====================================================

Three-dimensional data are sections along their first axis (Velox: along the last). Row 0 of all of
them is at the top of a display; those of .ser, which begin at the bottom, are turned. `frames`
makes frames of them, and reads MRC and TIFF.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nanostream.acquisition.dm import open_dm
from nanostream.acquisition.sections import (
    WIRE_DTYPES,
    ReadPixels,
    Sections,
    channels_of,
    length_nm,
    refusals,
    unclear,
    wire_pixels,
)
from nanostream.acquisition.ser import open_ser
from nanostream.errors import MicrographError

__all__ = [
    "SUFFIXES",
    "WIRE_DTYPES",
    "ReadPixels",
    "Sections",
    "length_nm",
    "open_file",
    "refusals",
    "wire_pixels",
]


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
            problem = f"cannot be read ({error.strerror})"
            if not error.strerror:  # of a library, about what is in the file
                problem = f"not a readable {path.suffix} file"
    # Raised here and not from the error: its traceback would keep ncempy's half-made object alive,
    # whose __del__ then complains on the operator's screen.
    if problem is not None:
        msg = f"{path.name}: {problem}"
        raise MicrographError(msg)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what ncempy prints about a file; the exception says it too."""
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
        yield


@contextlib.contextmanager
def _open_emd(path: Path) -> Iterator[Sections]:
    from nanostream.acquisition.emd import open_emd  # HDF5 only for who has such a file

    with open_emd(path) as sections:
        yield sections


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
    if array.ndim > 2 and array.shape[-1] == 1:  # channels of TensorFlow's arrays
        array = array[..., 0]
    stack = array.ndim == 3 and not channels_of(array.shape) and not unclear(array.shape)
    yield Sections(
        array.shape[0] if stack else 1, lambda z: (np.array(array[z] if stack else array), None)
    )


_OPENERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Sections]]] = {
    ".dm3": open_dm,
    ".dm4": open_dm,
    ".ser": open_ser,
    ".emd": _open_emd,
    ".png": _open_png,
    ".npy": _open_npy,
}

#: Endings that are read here, in lower case.
SUFFIXES = tuple(_OPENERS)
