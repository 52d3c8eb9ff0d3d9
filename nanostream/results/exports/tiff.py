"""Masks of a session as stacks of labels for ImageJ, Fiji and what else reads TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nanostream.results.exports.movies import stacks
from nanostream.results.exports.targets import Target
from nanostream.results.label_stacks import LabelStack
from nanostream.results.session import Session

__all__ = ["write_stacks"]

#: A TIFF counts bytes in 32 bits. Of a larger one ImageJ takes the first directory and reads on;
#: some room is left for the directory and the names of the sections.
_MOST_BYTES = 2**32 - 2**26

#: ImageJ has no integers beyond; 32-bit floats are whole numbers up to 16,777,216.
_MOST_UINT16 = 65535


def write_stacks(session: Session, target: Target) -> list[Path]:
    """Files that were written: a hyperstack of ImageJ per file of the session.

    ``day1/gold.mrc_labels.tif`` is of ``day1/gold.mrc``: a plane per section in its place and order
    of rows, frames (t) of a movie and slices (z) of another stack; the pixel size is in nm. A pixel
    has the label of its particle, in a movie the number of its track, and 0 where there is none.
    One section is in memory at a time.
    """
    found = stacks(session)
    total = sum(len(stack) for stack in found)
    done = 0
    written = []
    for stack in found:
        name = f"{stack.file}_labels.tif"
        with target.whole(name) as path:
            _write(path, stack, _told(stack, target, done, total))
        done += len(stack)
        written.append(target.path(name))
        if missing := len(stack) - len(stack.stored):
            target.note(f"{name}: {missing} of {len(stack)} planes are empty: no result is stored")
    return written


def _told(
    stack: LabelStack, target: Target, done: int, total: int
) -> Iterator[NDArray[np.generic]]:
    kind = np.uint16 if stack.highest <= _MOST_UINT16 else np.float32
    for number, plane in enumerate(stack, done):
        target.progress(number, total, stack.file)
        yield plane.astype(kind)


def _write(path: Path, stack: LabelStack, planes: Iterator[NDArray[np.generic]]) -> None:
    kind = np.dtype(np.uint16 if stack.highest <= _MOST_UINT16 else np.float32)
    metadata: dict[str, Any] = {
        "axes": "TYX" if stack.is_movie else "ZYX",
        "min": 0.0,
        "max": float(max(stack.highest, 1)),
        "Labels": [section or "" for section in stack.sections],
    }
    resolution = None
    if stack.pixel_size_nm is not None:
        metadata["unit"] = "nm"
        resolution = (1 / stack.pixel_size_nm, 1 / stack.pixel_size_nm)
    size = kind.itemsize * stack.shape[0] * stack.shape[1] * stack.shape[2]
    with tifffile.TiffWriter(path, imagej=True) as file:
        file.write(
            planes,
            shape=stack.shape,
            dtype=kind,
            photometric="minisblack",
            resolution=resolution,
            metadata=metadata,
            truncate=size > _MOST_BYTES,
        )
