"""Images and stacks of DigitalMicrograph (.dm3, .dm4), by the tags that ncempy reads.

A file has a list of images. One is the thumbnail; of the others the first that is an image or a
stack is taken. Spectra and spectrum images are not micrographs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.sections import (
    Sections,
    check_section_size,
    is_energy,
    left_out,
    length_nm,
)
from nanostream.errors import MicrographError

__all__ = ["open_dm"]

_IMAGE = re.compile(r"\.ImageList\.(\d+)\.ImageData\.DataType")
_THUMBNAIL = re.compile(r"\.Thumbnails\.\d+\.ImageIndex")
#: By Gatan's number. 23 is packed colour: of a thumbnail, or of a picture.
_TYPES = {1: "<i2", 2: "<f4", 3: "<c8", 6: "u1", 7: "<i4", 9: "i1", 10: "<u2", 11: "<u4"}
_TYPES |= {12: "<f8", 13: "<c16", 14: "u1"}
_COLOUR = 23


@dataclass(frozen=True)
class _Image:
    """An image of the list, as its tags describe it; columns first."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int
    scales: tuple[object, ...]
    units: tuple[str, ...]
    form: str

    @property
    def refusal(self) -> str:
        """The reason that it is not a micrograph; empty if it is one."""
        if self.kind == _COLOUR:
            return "in colour"
        if any(map(is_energy, self.units)) or self.form.startswith("Spectrum"):
            return "a spectrum or spectrum image"
        if len(self.shape) not in (2, 3):
            return f"{len(self.shape)}-D data; an image or a stack is expected"
        if self.kind not in _TYPES or "c" in _TYPES[self.kind]:
            return f"pixels of Gatan's type {self.kind}; integers and real numbers are read"
        return "" if min(self.shape) > 0 else f"of shape {self.shape}"


@contextlib.contextmanager
def open_dm(path: Path) -> Iterator[Sections]:
    """The sections of a file, which is open meanwhile.

    Raises
    ------
    MicrographError
        No image in it is a micrograph, or it ends before the pixels do.
    OSError
        The file cannot be opened or read, or is no file of DigitalMicrograph.
    """
    with _parser()(path, on_memory=False) as file:
        images = list(_images(file.allTags))
        taken = next((image for image in images if not image.refusal), None)
        if taken is None:
            reasons = "; ".join(image.refusal for image in images) or "no image"
            msg = f"{path.name}: not a micrograph ({reasons})"
            raise MicrographError(msg)
        others = [f"{i.name} ({i.refusal or 'another image'})" for i in images if i is not taken]
        dtype = np.dtype(_TYPES[taken.kind])
        count = taken.shape[2] if len(taken.shape) == 3 else 1
        columns, rows = taken.shape[:2]
        check_section_size((rows, columns), dtype.itemsize, path.name)
        section_bytes = rows * columns * dtype.itemsize
        if taken.offset + count * section_bytes > path.stat().st_size:
            msg = f"{path.name}: cut off; {count} x {section_bytes} bytes of pixels are not there"
            raise MicrographError(msg)

        def read(z: int) -> tuple[NDArray[Any], float | None]:
            file.fid.seek(taken.offset + z * section_bytes)
            pixels = np.fromfile(file.fid, dtype, rows * columns).reshape(rows, columns)
            size_nm = length_nm(*pair) if (pair := _first(taken)) else None
            return pixels, size_nm

        yield Sections(count, read, left_out(taken.name, others))


@functools.cache
def _parser() -> Any:
    """The parser of ncempy, which asks for no more bytes than the file has left."""
    from ncempy.io import dm

    class Bounded(dm.fileDM):  # type: ignore[misc]
        """Lengths in a damaged file are up to 2**64; NumPy reserves them before it reads."""

        def fromfile(self, file: BufferedReader, *, dtype: Any, count: int) -> NDArray[Any]:
            left = os.fstat(file.fileno()).st_size - file.tell()
            if int(count) * np.dtype(dtype).itemsize > left:
                msg = f"{count} x {dtype} at byte {file.tell()}, {left} are left"
                raise EOFError(msg)
            return np.fromfile(file, dtype, int(count))

    return Bounded


def _first(image: _Image) -> tuple[object, str] | None:
    """Scale and unit along a row, if the image is calibrated."""
    return (image.scales[0], image.units[0]) if image.scales and image.units else None


def _images(tags: Mapping[str, Any]) -> Iterator[_Image]:
    """Images that are no thumbnails, in the order of the file."""
    thumbnails = {int(tags[key]) + 1 for key in tags if _THUMBNAIL.fullmatch(key)}
    numbers = [int(match[1]) for key in tags if (match := _IMAGE.fullmatch(key))]
    # Older files have no list of thumbnails, but their first image is one.
    if len(numbers) > 1 and tags[f".ImageList.{numbers[0]}.ImageData.DataType"] == _COLOUR:
        thumbnails.add(numbers[0])
    for number in numbers:
        if number not in thumbnails or len(numbers) == 1:
            yield _image(tags, f".ImageList.{number}", number)


def _image(tags: Mapping[str, Any], root: str, number: int) -> _Image:
    data, form = f"{root}.ImageData", tags.get(f"{root}.ImageTags.Meta Data.Format", "")
    axes = range(1, 6)
    shape = [tags.get(f"{data}.Dimensions.{axis}") for axis in axes]
    axis = f"{data}.Calibrations.Dimension."
    return _Image(
        name=str(tags.get(f"{root}.Name") or f"image {number}"),
        kind=int(tags[f"{data}.DataType"]),
        shape=tuple(int(length) for length in shape if length is not None),
        offset=int(tags[f"{data}.Data.arrayOffset"]),
        scales=tuple(tags.get(f"{axis}{n}.Scale") for n in axes),
        units=tuple(str(tags.get(f"{axis}{n}.Units", "")) for n in axes),
        form=str(form),
    )
